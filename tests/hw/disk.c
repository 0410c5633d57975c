// What a guest does with its disks: the first sector of the first one says what. The host looks at the result.
#include "virtio.h"

enum mode { kCheck = 1, kLoad = 2, kMeasure = 3, kCompute = 4 };

// In sector 0.
struct task {
    uint32_t magic;  // "task"
    uint32_t mode;
    uint32_t passes;    // kLoad; kMeasure: requests; kCompute: pieces of work
    uint32_t depth;     // requests at a time, at most kMaxDepth
    uint32_t sectors;   // of a request
    uint32_t writes;    // kMeasure: not reads
    uint64_t unwanted;  // features
};
enum { kTaskMagic = 0x6b736174 };

enum { kIn = 0, kOut = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kWriteZeroes = 13 };
enum { kBlkFlush = 1 << 9, kBlkDiscard = 1 << 13, kBlkWriteZeroes = 1 << 14 };
enum { kMaxDepth = 64, kMaxBytes = 64 << 10 };

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

static _Alignas(4096) struct rings rings;
static _Alignas(4096) uint8_t buffers[kMaxDepth][kMaxBytes];
static struct header headers[kMaxDepth];
static volatile uint8_t statuses[kMaxDepth];
static _Alignas(16) struct descriptor tables[kMaxDepth][3];

static struct virtio disk;
static volatile unsigned ticks;
static uint64_t tick_length;
static void (*when_interrupted)(void);
static volatile bool key_pressed;

static void on_interrupt(unsigned cause) {
    if (cause == 7) {
        ++ticks;
        set_timer(now() + tick_length);
    } else if (cause == 11) {
        const uint32_t source = plic_claim();
        if (source == disk.source)
            virtio_interrupt(&disk);
        else if (source == kUartSource)
            key_pressed |= uart_take();
        else
            fail("an interrupt of source ", source);
        if (when_interrupted)
            when_interrupted();
        plic_complete(source);
    } else {
        fail("an interrupt of cause ", cause);
    }
}

static void wait_for_key(void) {
    while (!key_pressed)
        wait_for_interrupt();
    key_pressed = false;
}

// Begins request `n`, which has descriptors 3n to 3n + 2, or descriptor n and a table of its own.
static uint16_t head_of(unsigned n, bool indirect) {
    return (uint16_t)(indirect ? n : 3 * n);
}
static unsigned request_of(uint32_t head, bool indirect) {
    return indirect ? head : head / 3;
}
static void begin(unsigned n, uint32_t type, uint64_t sector, uint32_t bytes, bool indirect) {
    headers[n] = (struct header){type, 0, sector};
    statuses[n] = 0xff;
    struct descriptor* chain = indirect ? tables[n] : &rings.descriptors[3 * n];
    const uint16_t head = head_of(n, indirect), first = indirect ? 0 : head;
    const bool to_guest = type == kIn || type == kGetId;
    chain[0] = (struct descriptor){(uint64_t)&headers[n], sizeof headers[n], kNext, first + 1};
    if (bytes)
        chain[1] = (struct descriptor){(uint64_t)buffers[n], bytes, kNext | (to_guest ? kWrite : 0), first + 2};
    else
        chain[0].next = first + 2;
    chain[2] = (struct descriptor){(uint64_t)&statuses[n], 1, kWrite, 0};
    if (indirect)
        rings.descriptors[head] = (struct descriptor){(uint64_t)tables[n], sizeof tables[n], kIndirect, 0};
    virtio_make_available(&disk, head);
}

// Makes request 0 and waits for it; its status.
static uint8_t make(uint32_t type, uint64_t sector, uint32_t bytes) {
    const uint16_t before = disk.made;
    begin(0, type, sector, bytes, false);
    virtio_notify(&disk, 0, before);
    virtio_wait(&disk);
    if (virtio_take_used(&disk, 0) != 0)
        fail("another request was answered", 0);
    return statuses[0];
}
static void must(uint8_t status, uint8_t expected, const char* what) {
    if (status != expected)
        fail(what, status);
    put(what);
    put("ok\n");
}

// What sector `sector` has after pass `pass`.
static void fill(uint8_t* to, uint64_t sector, uint32_t pass) {
    uint64_t* words = (uint64_t*)to;
    for (unsigned i = 0; i < 64; ++i)
        words[i] = (sector * 64 + i) * 0x9e3779b97f4a7c15u + pass;
}
static bool is_filled(const uint8_t* from, uint64_t sector, uint32_t pass) {
    const uint64_t* words = (const uint64_t*)from;
    for (unsigned i = 0; i < 64; ++i)
        if (words[i] != (sector * 64 + i) * 0x9e3779b97f4a7c15u + pass)
            return false;
    return true;
}

static void start_timer(uint64_t length) {
    tick_length = length;
    set_timer(now() + length);
    csr_set(mie, kMieTimer);
}

static void check(const struct task* task, uint64_t capacity) {
    put_line("capacity ", capacity);
    must(make(kGetId, 0, 20), 0, "serial ");
    buffers[0][20] = 0;
    put((const char*)buffers[0]);
    put_char('\n');
    for (unsigned i = 0; i < 8; ++i)
        fill(buffers[0] + 512 * i, 8 + i, 1);
    must(make(kOut, 8, 4096), 0, "write ");
    memset(buffers[0], 0, 4096);
    must(make(kIn, 8, 4096), 0, "read ");
    for (unsigned i = 0; i < 8; ++i)
        if (!is_filled(buffers[0] + 512 * i, 8 + i, 1))
            fail("what was read is not what was written in sector ", 8 + i);
    must(make(kFlush, 0, 0), 0, "flush ");
    must(make(kIn, capacity, 512), 1, "read behind the end ");
    must(make(kOut, capacity - 1, 1024), 1, "write across the end ");
    must(make(99, 0, 512), 2, "unknown request ");
    if (disk.features & kBlkWriteZeroes) {
        const struct {
            uint64_t sector;
            uint32_t sectors, flags;
        } range = {10, 2, 0};
        memcpy(buffers[0], &range, sizeof range);
        must(make(kWriteZeroes, 0, sizeof range), 0, "write zeroes ");
        must(make(kIn, 8, 4096), 0, "read ");
        for (unsigned i = 0; i < 512 * 8; ++i)
            if (buffers[0][i] && i / 512 >= 2 && i / 512 < 4)
                fail("not zeroed: byte ", i);
        if (!is_filled(buffers[0], 8, 1) || !is_filled(buffers[0] + 2048, 12, 1))
            fail("zeroed too much", 0);
    }
    virtio_wait_for_interrupt(&disk);
    put("interrupts were raised\n");

    // The timer goes on while requests are made.
    start_timer(kTicksPerSecond / 500);
    while (ticks < 5)
        if (make(kIn, 0, 512) != 0)
            fail("a read beside the timer: status ", statuses[0]);
    csr_clear(mie, kMieTimer);
    put("timer ok\n");

    // A queue that a driver has broken. Version 1 has no word for it.
    if (get(&disk, kVersion) == 2) {
        const unsigned before = disk.config_interrupts;
        disk.made += 1000;
        *(volatile uint16_t*)&rings.available.index = disk.made;
        fence();
        set(&disk, kQueueNotify, 0);
        while (disk.config_interrupts == before)
            wait_for_interrupt();
        if (!(get(&disk, kStatus) & kNeedsReset))
            fail("the broken device has status ", get(&disk, kStatus));
        put("needs reset ok\n");
    }
    virtio_begin(&disk, &rings, 0, task->unwanted);
    must(make(kIn, 8, 512), 0, "read after a reset ");
}

// Passes over all of the disk but its first 64 KiB, `depth` requests at a time; what is read before it is written anew
// must be what the pass before has written.
static void load(const struct task* task, uint64_t capacity) {
    const uint32_t sectors = task->sectors;
    const bool indirect = disk.features & kFeatureIndirect;
    start_timer(kTicksPerSecond / 100);
    uint64_t requests = 0;
    for (uint32_t pass = 1; pass <= task->passes; ++pass) {
        uint64_t next = 128;
        unsigned under_way = 0;
        uint64_t sector_of[kMaxDepth];
        bool reading[kMaxDepth], busy[kMaxDepth];
        memset(busy, 0, sizeof busy);
        do {
            const uint16_t before = disk.made;
            for (unsigned n = 0; n < task->depth; ++n)
                if (!busy[n] && next + sectors <= capacity) {
                    sector_of[n] = next;
                    next += sectors;
                    busy[n] = true;
                    reading[n] = pass > 1;
                    if (!reading[n])
                        for (uint32_t i = 0; i < sectors; ++i)
                            fill(buffers[n] + 512 * i, sector_of[n] + i, pass);
                    begin(n, reading[n] ? kIn : kOut, sector_of[n], 512 * sectors, indirect);
                    ++under_way;
                }
            virtio_notify(&disk, 0, before);
            virtio_wait(&disk);
            while (virtio_has_used(&disk)) {
                const unsigned n = request_of(virtio_take_used(&disk, 0), indirect);
                if (n >= task->depth || !busy[n] || statuses[n] != 0)
                    fail("a request has status ", statuses[n]);
                ++requests;
                if (reading[n]) {
                    for (uint32_t i = 0; i < sectors; ++i)
                        if (!is_filled(buffers[n] + 512 * i, sector_of[n] + i, pass - 1))
                            fail("wrong data in sector ", sector_of[n] + i);
                    for (uint32_t i = 0; i < sectors; ++i)
                        fill(buffers[n] + 512 * i, sector_of[n] + i, pass);
                    reading[n] = false;
                    const uint16_t made = disk.made;
                    begin(n, kOut, sector_of[n], 512 * sectors, indirect);
                    virtio_notify(&disk, 0, made);
                } else {
                    busy[n] = false;
                    --under_way;
                }
            }
        } while (under_way > 0 || next + sectors <= capacity);
        must(make(kFlush, 0, 0), 0, "flush ");
        put_line("pass ", pass);
    }
    put_line("requests ", requests);
}

// Random reads or writes, between two keys; how long they took.
static void measure(const struct task* task, uint64_t capacity) {
    const bool indirect = disk.features & kFeatureIndirect;
    const uint64_t slots = capacity / task->sectors;
    uint64_t random = 88172645463325252u;
    uint32_t begun = 0, done = 0;
    uart_enable();
    put("ready\n");
    wait_for_key();
    const uint64_t start = now(), cycles = csr_read(minstret);
    bool busy[kMaxDepth];
    memset(busy, 0, sizeof busy);
    while (done < task->passes) {
        const uint16_t before = disk.made;
        for (unsigned n = 0; n < task->depth; ++n)
            if (!busy[n] && begun < task->passes) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                begin(n, task->writes ? kOut : kIn, random % slots * task->sectors, 512 * task->sectors, indirect);
                busy[n] = true;
                ++begun;
            }
        if (before != disk.made)
            virtio_notify(&disk, 0, before);
        virtio_wait(&disk);
        while (virtio_has_used(&disk)) {
            const unsigned n = request_of(virtio_take_used(&disk, 0), indirect);
            if (statuses[n] != 0)
                fail("a request has status ", statuses[n]);
            busy[n] = false;
            ++done;
        }
    }
    const uint64_t end = now();
    put_line("ticks ", end - start);
    put_line("instructions ", csr_read(minstret) - cycles);
    put_line("interrupts ", disk.interrupts);
    put("measured\n");
    wait_for_key();
}

// Computes, and never waits; from the interrupts as many random reads are made as the disk takes.
static struct {
    const struct task* task;
    uint64_t random, slots, requests;
} background;

static void read_again(unsigned n) {
    background.random = background.random * 6364136223846793005u + 1442695040888963407u;
    begin(n, kIn, (background.random >> 20) % background.slots * background.task->sectors,
          512 * background.task->sectors, disk.features & kFeatureIndirect);
}

static void read_all_again(void) {
    const uint16_t before = disk.made;
    while (virtio_has_used(&disk)) {
        const unsigned n = request_of(virtio_take_used(&disk, 0), disk.features & kFeatureIndirect);
        if (statuses[n] != 0)
            fail("a read has status ", statuses[n]);
        ++background.requests;
        read_again(n);
    }
    if (before != disk.made)
        virtio_notify(&disk, 0, before);
}

static void compute(const struct task* task, uint64_t capacity) {
    background.task = task;
    background.random = 1;
    background.slots = capacity / task->sectors;
    const uint64_t start = now(), count = csr_read(minstret);
    if (task->depth) {
        when_interrupted = read_all_again;
        const uint16_t before = disk.made;
        for (unsigned n = 0; n < task->depth; ++n)
            read_again(n);
        virtio_notify(&disk, 0, before);
    }
    csr_set(mstatus, kMstatusMie);
    uint64_t x = 88172645463325252u;
    for (uint32_t pass = 0; pass < task->passes; ++pass)
        for (unsigned i = 0; i < 1000000; ++i)
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    csr_clear(mstatus, kMstatusMie);
    put_line("ticks ", now() - start);
    put_line("instructions ", csr_read(minstret) - count);
    put_line("requests ", background.requests);
    put_line("result ", x);
}

static void guest_main(void) {
    if (!virtio_find(&disk, 2))
        fail("there is no disk", 0);
    csr_set(mie, kMieExternal);
    put_line("version ", get(&disk, kVersion));
    put_line("slot ", disk.source - 1);
    virtio_begin(&disk, &rings, 0, 0);
    const uint64_t capacity = read32(disk.base + kConfig) | (uint64_t)read32(disk.base + kConfig + 4) << 32;
    if (make(kIn, 0, 512) != 0)
        fail("reading sector 0: status ", statuses[0]);
    struct task task;
    memcpy(&task, buffers[0], sizeof task);
    if (task.magic != kTaskMagic || task.depth > kMaxDepth || task.sectors * 512 > kMaxBytes)
        fail("no task in sector 0", 0);
    virtio_begin(&disk, &rings, 0, task.unwanted);
    if (head_of(task.depth, disk.features & kFeatureIndirect) > kRing)
        fail("without indirect descriptors not so many at a time: ", task.depth);
    disk.interrupts = 0;
    if (task.mode == kCheck)
        check(&task, capacity);
    else if (task.mode == kLoad)
        load(&task, capacity);
    else if (task.mode == kMeasure)
        measure(&task, capacity);
    else if (task.mode == kCompute)
        compute(&task, capacity);
    else
        fail("no such task: ", task.mode);
    put("done\n");
}
