#include "block/accounting.h"
#include "hw/virtio_blk.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/virtio_driver.h"
#include "util/io_thread.h"

#include <numeric>

using namespace ashlar;

namespace {

using R = VirtioDriver;

enum Type : uint32_t { kIn = 0, kOut = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kWriteZeroes = 13 };
enum Status : uint8_t { kOk = 0, kIoErr = 1, kUnsupp = 2, kNotWritten = 0xff };
constexpr uint64_t kBlkSizeMax = 1 << 1, kBlkRo = 1 << 5, kBlkFlush = 1 << 9, kBlkConfigWce = 1 << 11, kBlkMq = 1 << 12,
                   kBlkDiscard = 1 << 13, kBlkWriteZeroes = 1 << 14;
constexpr uint64_t kSlot = 64 << 10;  // of guest memory for one request: header, status, ranges, data

// A disk on the driver "mock", and what the guest does with it.
struct Disk : BlockFixture {
    struct Error {
        bool is_write;
        GuestIoError::Action action;
        int error;
    };

    std::unique_ptr<GuestRam> ram = make_guest_ram();
    LineProbe line;
    BlockDriverState* node;
    MockDriver* mock;
    std::unique_ptr<VirtioBlk> blk;
    std::unique_ptr<VirtioMmio> mmio;
    std::unique_ptr<VirtioDriver> driver;
    std::mutex errors_lock;
    std::vector<Error> errors;

    explicit Disk(VirtioBlkOptions options = {}, AioContext* other = nullptr, bool legacy = false,
                  std::string_view image = "{'driver':'mock','node-name':'disk','size':1048576}") {
        node = &add(image);
        mock = &MockDriver::of(*node);
        options.drive = "disk";
        blk = check(run(
            VirtioBlk::co_create(*graph, options, *ram, other ? *other : *context, [this](const GuestIoError& error) {
                std::lock_guard guard(errors_lock);
                errors.push_back({error.is_write, error.action, error.error});
            })));
        mmio = std::make_unique<VirtioMmio>(blk.get(), InterruptLine(line, 1), legacy);
        driver = std::make_unique<VirtioDriver>(*ram, *mmio);
    }
    ~Disk() {
        sync_wait(*context, blk->co_close());
        mmio.reset();
        blk.reset();
    }

    void begin(uint64_t unwanted = 0, unsigned queues = 1) {
        g_assert_true(driver->negotiate(unwanted));
        for (unsigned i = 0; i < queues; ++i)
            driver->add_queue(i, 64);
        driver->ready();
    }

    static uint64_t slot(unsigned n) { return kGuestData + n * kSlot; }
    uint8_t* data(unsigned n = 0) { return ram->at(slot(n) + 4096, 1); }
    uint8_t& status(unsigned n = 0) { return *ram->at(slot(n) + 16, 1); }

    // A request whose data, `bytes` of them, are in slot `n`.
    std::vector<Piece> request(unsigned n, uint32_t type, uint64_t sector, uint32_t bytes) {
        uint8_t* header = ram->at(slot(n), 16);
        memset(header, 0, 16);
        memcpy(header, &type, 4);
        memcpy(header + 8, &sector, 8);
        status(n) = kNotWritten;
        std::vector<Piece> pieces{{slot(n), 16}};
        const bool to_guest = type == kIn || type == kGetId;
        if (bytes)
            pieces.push_back({slot(n) + 4096, bytes, to_guest});
        pieces.push_back({slot(n) + 16, 1, true});
        return pieces;
    }
    void wait_used(unsigned queue = 0) {
        while (!driver->queues.at(queue).has_used()) {
            context->poll(false);
            g_thread_yield();
        }
    }
    // Makes one and waits for it; its status.
    uint8_t make(uint32_t type, uint64_t sector, uint32_t bytes) { return make(request(0, type, sector, bytes)); }
    uint8_t make(const std::vector<Piece>& pieces) {
        driver->queues.at(0).add(pieces);
        driver->kick(0);
        wait_used();
        last_used = *driver->queues.at(0).take_used();
        driver->acknowledge();
        return status();
    }
    uint8_t ranges(uint32_t type, const std::vector<std::array<uint64_t, 3>>& list) {
        uint8_t* to = data();
        for (auto [sector, sectors, flags] : list) {
            const uint32_t half[] = {static_cast<uint32_t>(sectors), static_cast<uint32_t>(flags)};
            memcpy(to, &sector, 8);
            memcpy(to + 8, half, 8);
            to += 16;
        }
        return make(type, 0, static_cast<uint32_t>(16 * list.size()));
    }
    BlockAccounting::Counts counts(BlockAccounting::Type type) { return blk->backend().accounting().counts(type); }

    DriverQueue::Used last_used{};
};

void test_data_are_written_and_read_back() {
    for (bool legacy : {false, true}) {
        Disk d({}, nullptr, legacy);
        d.begin();
        for (unsigned i = 0; i < 4096; ++i)
            d.data()[i] = static_cast<uint8_t>(i * 7);
        g_assert_cmpuint(d.make(kOut, 8, 4096), ==, kOk);
        g_assert_cmpuint(d.last_used.bytes, ==, 1);
        g_assert_cmpint(memcmp(d.mock->snapshot().data() + 4096, d.data(), 4096), ==, 0);
        memset(d.data(), 0, 4096);
        g_assert_cmpuint(d.make(kIn, 8, 4096), ==, kOk);
        g_assert_cmpuint(d.last_used.bytes, ==, 4097);
        for (unsigned i = 0; i < 4096; ++i)
            g_assert_cmpuint(d.data()[i], ==, static_cast<uint8_t>(i * 7));
        using Type = BlockAccounting::Type;
        g_assert_cmpuint(d.counts(Type::Read).operations, ==, 1);
        g_assert_cmpuint(d.counts(Type::Read).bytes, ==, 4096);
        g_assert_cmpuint(d.counts(Type::Write).bytes, ==, 4096);
    }
}

// The header, the data and the status may be in any descriptors, as long as they are in order.
void test_any_layout_will_do() {
    Disk d;
    d.begin();
    for (unsigned i = 0; i < 1024; ++i)
        d.data()[i] = static_cast<uint8_t>(i * 5);
    (void)d.request(0, kOut, 2, 1024);
    memmove(d.data() - 16, d.ram->at(Disk::slot(0), 16), 16);  // the header in front of the data
    const uint64_t at = Disk::slot(0) + 4096 - 16;
    g_assert_cmpuint(d.make({{at, 5}, {at + 5, 100}, {at + 105, 935}, {Disk::slot(0) + 16, 1, true}}), ==, kOk);
    g_assert_cmpint(memcmp(d.mock->snapshot().data() + 1024, d.data(), 1024), ==, 0);
    // A status behind the data in one descriptor.
    (void)d.request(0, kIn, 2, 1024);
    memset(d.data(), 0, 1025);
    d.data()[1024] = kNotWritten;
    d.make({{Disk::slot(0), 16}, {Disk::slot(0) + 4096, 1025, true}});
    g_assert_cmpuint(d.data()[1024], ==, kOk);
    g_assert_cmpuint(d.data()[1023], ==, static_cast<uint8_t>(1023 * 5));
}

void test_requests_out_of_the_disk_fail() {
    Disk d;
    d.begin();
    const uint64_t end = (1 << 20) / 512;
    for (uint32_t type : {uint32_t{kIn}, uint32_t{kOut}}) {
        g_assert_cmpuint(d.make(type, end - 1, 512), ==, kOk);
        g_assert_cmpuint(d.make(type, end, 512), ==, kIoErr);
        g_assert_cmpuint(d.make(type, end - 1, 1024), ==, kIoErr);
        g_assert_cmpuint(d.make(type, UINT64_MAX, 512), ==, kIoErr);
        g_assert_cmpuint(d.make(type, UINT64_MAX / 512, 1024), ==, kIoErr);
        g_assert_cmpuint(d.make(type, 0, 511), ==, kIoErr);
        g_assert_cmpuint(d.make(type, end, 0), ==, kOk);
    }
    g_assert_cmpuint(d.counts(BlockAccounting::Type::Read).invalid, ==, 5);
    g_assert_cmpuint(d.counts(BlockAccounting::Type::Write).invalid, ==, 5);
    g_assert_cmpuint(d.errors.size(), ==, 0);
    g_assert_cmpuint(d.make(77, 0, 0), ==, kUnsupp);
    g_assert_cmpuint(d.make(2, 0, 512), ==, kUnsupp);
}

void test_the_configuration_says_what_the_disk_is() {
    Disk d({.num_queues = 4,
            .queue_size = 64,
            .logical_block_size = Size{4096},
            .physical_block_size = Size{16384},
            .min_io_size = Size{8192},
            .opt_io_size = Size{65536}});
    d.begin(0, 4);
    auto config = [&](uint64_t offset, unsigned size = 4) { return d.driver->get(R::kConfig + offset, size); };
    g_assert_cmpuint(config(0), ==, 2048);
    g_assert_cmpuint(config(4), ==, 0);
    g_assert_cmpuint(config(12), ==, 62);
    g_assert_cmpuint(config(20), ==, 4096);
    g_assert_cmpuint(config(24, 1), ==, 2);
    g_assert_cmpuint(config(26, 2), ==, 2);
    g_assert_cmpuint(config(28), ==, 16);
    g_assert_cmpuint(config(32, 1), ==, 1);
    g_assert_cmpuint(config(34, 2), ==, 4);
    g_assert_cmpuint(config(40), >, 1);
    g_assert_cmpuint(config(44), ==, 8);
    g_assert_cmpuint(config(56, 1), ==, 1);
    g_assert_cmphex(d.driver->features & (kBlkMq | kBlkDiscard | kBlkWriteZeroes | kBlkFlush | kBlkSizeMax | kBlkRo),
                    ==, kBlkMq | kBlkDiscard | kBlkWriteZeroes | kBlkFlush | kBlkSizeMax);
    g_assert_cmpuint(d.make(kOut, 1, 4096), ==, kIoErr);
    g_assert_cmpuint(d.make(kOut, 8, 4096), ==, kOk);
    g_assert_cmpuint(d.make(kIn, 0, 512), ==, kIoErr);
}

void test_the_serial_is_padded() {
    Disk d({.serial = "ashlar-0001"});
    d.begin();
    memset(d.data(), 'x', 20);
    g_assert_cmpuint(d.make(kGetId, 0, 20), ==, kOk);
    g_assert_cmpint(memcmp(d.data(), "ashlar-0001\0\0\0\0\0\0\0\0", 20), ==, 0);
    memset(d.data(), 'x', 20);
    g_assert_cmpuint(d.make(kGetId, 0, 4), ==, kOk);
    g_assert_cmpint(memcmp(d.data(), "ashlxxxx", 8), ==, 0);
}

void test_ranges_are_zeroed_and_discarded() {
    Disk d({}, nullptr, false, "{'driver':'mock','node-name':'disk','size':1048576,'zeroes':true,'discard':'unmap'}");
    d.begin();
    memset(d.data(), 'x', 8192);
    g_assert_cmpuint(d.make(kOut, 0, 8192), ==, kOk);
    g_assert_cmpuint(d.ranges(kWriteZeroes, {{1, 2, 0}, {5, 1, 1}, {8, 4, 0}}), ==, kOk);
    const auto now = d.mock->snapshot();
    for (unsigned sector = 0; sector < 16; ++sector) {
        const bool zero = sector == 1 || sector == 2 || sector == 5 || (sector >= 8 && sector < 12);
        g_assert_cmpuint(static_cast<uint8_t>(now[sector * 512]), ==, zero ? 0 : 'x');
    }
    g_assert_cmpuint(d.mock->unmaps, ==, 1);
    g_assert_cmpuint(d.ranges(kDiscard, {{0, 4, 0}, {100, 8, 0}}), ==, kOk);
    g_assert_cmpuint(d.mock->discards, ==, 2);
    // A discard has no flags, and nobody has other ones.
    g_assert_cmpuint(d.ranges(kDiscard, {{0, 4, 1}}), ==, kUnsupp);
    g_assert_cmpuint(d.ranges(kWriteZeroes, {{0, 4, 2}}), ==, kUnsupp);
    g_assert_cmpuint(d.ranges(kWriteZeroes, {{2047, 2, 0}}), ==, kIoErr);
    g_assert_cmpuint(d.ranges(kDiscard, {{UINT64_MAX, 2, 0}}), ==, kIoErr);
    g_assert_cmpuint(d.ranges(kDiscard, {{UINT64_MAX / 512 + 1, 2, 0}}), ==, kIoErr);
    g_assert_cmpuint(d.ranges(kDiscard, {33, {0, 1, 0}}), ==, kIoErr);
    g_assert_cmpuint(d.make(kDiscard, 0, 0), ==, kIoErr);
    g_assert_cmpuint(d.make(kDiscard, 0, 17), ==, kIoErr);
    g_assert_cmpuint(d.mock->discards, ==, 2);
}

void test_what_is_not_offered_is_unsupported() {
    Disk d({.config_wce = false, .discard = false, .write_zeroes = false});
    d.begin();
    g_assert_cmphex(d.driver->features & (kBlkDiscard | kBlkWriteZeroes | kBlkConfigWce), ==, 0);
    g_assert_cmpuint(d.ranges(kDiscard, {{0, 4, 0}}), ==, kUnsupp);
    g_assert_cmpuint(d.ranges(kWriteZeroes, {{0, 4, 0}}), ==, kUnsupp);
    d.driver->set(R::kConfig + 32, 0, 1);
    g_assert_cmpuint(d.driver->get(R::kConfig + 32, 1), ==, 1);
}

void test_the_write_cache_is_the_drivers_to_choose() {
    Disk d({}, nullptr, false, "{'driver':'mock','node-name':'disk','size':1048576,'fua':true}");
    d.begin();
    g_assert_cmpuint(d.make(kOut, 0, 512), ==, kOk);
    g_assert_cmpuint(d.mock->fua_writes, ==, 0);
    const unsigned flushes = d.mock->flushes;
    g_assert_cmpuint(d.make(kFlush, 0, 0), ==, kOk);
    g_assert_cmpuint(d.mock->flushes, ==, flushes + 1);
    d.driver->set(R::kConfig + 32, 0, 1);
    g_assert_cmpuint(d.driver->get(R::kConfig + 32, 1), ==, 0);
    g_assert_cmpuint(d.make(kOut, 0, 512), ==, kOk);
    g_assert_cmpuint(d.mock->fua_writes, ==, 1);
    // It is the machine's again after a reset; a driver that cannot flush gets none.
    d.driver->set(R::kStatus, 0);
    g_assert_true(d.blk->backend().write_cache());
    d.begin(kBlkFlush | kBlkConfigWce);
    g_assert_false(d.blk->backend().write_cache());
    g_assert_cmpuint(d.make(kOut, 0, 512), ==, kOk);
    g_assert_cmpuint(d.mock->fua_writes, ==, 2);
}

void test_a_read_only_drive_is_a_read_only_disk() {
    Disk d({}, nullptr, false, "{'driver':'mock','node-name':'disk','size':1048576,'read-only':true}");
    d.begin();
    g_assert_cmphex(d.driver->features & kBlkRo, ==, kBlkRo);
    g_assert_cmpuint(d.make(kIn, 0, 512), ==, kOk);
    g_assert_cmpuint(d.make(kOut, 0, 512), ==, kIoErr);
    g_assert_cmpuint(d.ranges(kDiscard, {{0, 4, 0}}), ==, kIoErr);
    g_assert_cmpuint(d.mock->writes, ==, 0);
}

void test_others_may_read_but_not_write() {
    Disk d;
    auto reader = d.attach(*d.node, BlockFixture::kReadOnly);
    auto writer = std::make_unique<BlockBackend>(*d.graph, "", BlockFixture::kReadWrite);
    g_assert_false(d.run(writer->co_attach(*d.node)).has_value());
    d.detach(reader);
}

void test_a_drive_is_of_one_device() {
    BlockFixture f;
    auto ram = make_guest_ram();
    BlockDriverState& node = f.add("{'driver':'mock','node-name':'node','size':1048576}");
    BlockBackend* drive = f.check(f.graph->add_backend("drive", {BlockPerm::None, BlockPerm::All}));
    f.check(f.run(drive->co_attach(node)));
    auto make = [&](std::string name) {
        VirtioBlkOptions options;
        options.drive = std::move(name);
        return f.run(VirtioBlk::co_create(*f.graph, options, *ram, *f.context, {}));
    };
    auto first = make("drive");
    g_assert_true(first.has_value());
    auto second = make("drive");
    assert_text(second.error().message, "Drive 'drive' is already in use by another device");
    g_assert_false(make("node").has_value());  // both would write
    g_assert_false(make("nothing").has_value());
    f.run((*first)->co_close());
    first->reset();
    auto third = make("node");
    g_assert_true(third.has_value());
    f.run((*third)->co_close());
}

void test_errors_are_reported() {
    Disk d;
    d.begin();
    d.mock->fail_with = -EIO;
    g_assert_cmpuint(d.make(kIn, 0, 512), ==, kIoErr);
    g_assert_cmpuint(d.make(kOut, 0, 512), ==, kIoErr);
    g_assert_cmpuint(d.errors.size(), ==, 2);
    g_assert_false(d.errors[0].is_write);
    g_assert_true(d.errors[1].is_write && d.errors[1].action == GuestIoError::Action::Report);
    g_assert_cmpuint(d.counts(BlockAccounting::Type::Read).failed, ==, 1);
    g_assert_false(d.driver->get(R::kStatus) & R::kNeedsReset);
}

void test_errors_are_ignored_if_wanted() {
    Disk d({.rerror = OnIoError::Ignore, .werror = OnIoError::Ignore});
    d.begin();
    d.mock->fail_with = -EIO;
    g_assert_cmpuint(d.make(kIn, 0, 512), ==, kOk);
    g_assert_cmpuint(d.make(kOut, 0, 512), ==, kOk);
    g_assert_true(d.errors.at(1).action == GuestIoError::Action::Ignore);
}

void test_what_runs_out_of_space_is_made_again() {
    Disk d;
    d.begin();
    DriverQueue& queue = d.driver->queues.at(0);
    memset(d.data(0), 'a', 512);
    memset(d.data(1), 'b', 512);
    d.mock->fail_with = -ENOSPC;
    queue.add(d.request(0, kOut, 0, 512));
    queue.add(d.request(1, kOut, 1, 512));
    d.driver->kick(0);
    while (d.errors.size() < 2)
        d.context->poll(true);
    g_assert_true(d.errors[0].action == GuestIoError::Action::Stop);
    d.run(d.blk->co_stop());
    g_assert_false(queue.has_used());
    g_assert_cmpuint(d.status(0), ==, kNotWritten);
    // Still no space.
    d.blk->go_on();
    while (d.errors.size() < 4)
        d.context->poll(true);
    d.run(d.blk->co_stop());
    d.mock->fail_with = 0;
    d.blk->go_on();
    d.wait_used();
    while (queue.used_index() != 2)
        d.context->poll(true);
    g_assert_cmpuint(d.status(0), ==, kOk);
    g_assert_cmpuint(d.status(1), ==, kOk);
    g_assert_cmpuint(static_cast<uint8_t>(d.mock->snapshot()[512]), ==, 'b');
}

void test_a_reset_forgets_what_was_kept() {
    Disk d({.rerror = OnIoError::Stop});
    d.begin();
    d.mock->fail_with = -EIO;
    d.driver->queues.at(0).add(d.request(0, kIn, 0, 512));
    d.driver->kick(0);
    while (d.errors.empty())
        d.context->poll(true);
    d.run(d.blk->co_stop());
    d.driver->set(R::kStatus, 0);
    g_assert_cmpuint(d.driver->get(R::kStatus), ==, 0);
    const unsigned reads = d.mock->reads;
    d.mock->fail_with = 0;
    d.blk->go_on();
    while (d.context->poll(false)) {
    }
    g_assert_cmpuint(d.mock->reads, ==, reads);
    d.begin();
    g_assert_cmpuint(d.make(kIn, 0, 512), ==, kOk);
}

void test_a_request_without_header_or_status_needs_a_reset() {
    for (bool header : {false, true}) {
        Disk d;
        d.begin();
        if (header)
            d.driver->queues.at(0).add({{kGuestData, 16}});
        else
            d.driver->queues.at(0).add({{kGuestData, 15}, {kGuestData, 1, true}});
        d.driver->kick(0);
        while (!(d.driver->get(R::kStatus) & R::kNeedsReset))
            d.context->poll(true);
        g_assert_cmpuint(d.driver->acknowledge(), ==, 2);
        d.driver->set(R::kStatus, 0);
        d.begin();
        g_assert_cmpuint(d.make(kIn, 0, 512), ==, kOk);
    }
}

void test_a_new_size_is_announced() {
    Disk d;
    d.begin();
    const uint32_t generation = d.driver->get(R::kGeneration);
    BlockBackend resizer(*d.graph, "", {BlockPerm::Resize, BlockPerm::All});
    d.check(d.run(resizer.co_attach(*d.node)));
    d.check(d.run(resizer.co_truncate(3 << 20, true, PreallocMode::Off)));
    while (!d.line.level)
        d.context->poll(true);
    g_assert_cmpuint(d.driver->acknowledge(), ==, 2);
    g_assert_cmpuint(d.driver->get(R::kConfig), ==, 3 * 2048);
    g_assert_cmpuint(d.driver->get(R::kGeneration), !=, generation);
    g_assert_cmpuint(d.make(kOut, 3 * 2048 - 1, 512), ==, kOk);
    d.check(d.run(resizer.co_detach()));
}

void test_many_requests_need_one_interrupt() {
    Disk d;
    d.begin();
    DriverQueue& queue = d.driver->queues.at(0);
    for (unsigned i = 0; i < 20; ++i)
        queue.add(d.request(i, kIn, i, 512));
    d.driver->kick(0);
    while (queue.used_index() != 20)
        d.context->poll(true);
    g_assert_cmpuint(d.line.raised, ==, 1);
}

void test_options_are_checked() {
    Disk d;
    auto refused = [&](VirtioBlkOptions options, std::string_view why) {
        options.drive = "disk";
        auto made = d.run(VirtioBlk::co_create(*d.graph, options, *d.ram, *d.context, {}));
        g_assert_false(made.has_value());
        if (made.error().message.find(why) == std::string::npos)
            g_error("'%s'", made.error().message.c_str());
    };
    refused({.num_queues = 0}, "num-queues");
    refused({.queue_size = 48}, "queue-size");
    refused({.queue_size = 2048}, "queue-size");
    refused({.serial = "012345678901234567890"}, "serial");
    refused({.logical_block_size = Size{1000}}, "logical_block_size");
    refused({.logical_block_size = Size{4096}, .physical_block_size = Size{512}}, "physical_block_size");
    refused({.min_io_size = Size{100}}, "min_io_size");
    refused({.rerror = OnIoError::Enospc}, "rerror");
}

// Many requests on four queues from an IOThread, over a disk that answers in any order, while the machine stops and
// goes on and the driver begins anew; every sector belongs to one slot at a time, so that a model says what is read.
void test_a_random_load() {
    auto iothread = std::move(*IOThread::create("io"));
    constexpr unsigned kSlots = 60, kSectorsPerSlot = 16;
    {
        Disk d({.num_queues = 4, .queue_size = 64}, &iothread->context(), false,
               "{'driver':'mock','node-name':'disk','size':1048576,'yields':3}");
        GRand* random = g_rand_new_with_seed(g_test_rand_int());
        auto below = [&](int n) { return static_cast<uint32_t>(g_rand_int_range(random, 0, n)); };
        std::vector<uint8_t> model(1 << 20);
        struct Pending {
            bool busy = false, read = false;
            uint64_t sector = 0;
            uint32_t bytes = 0;
        };
        std::array<Pending, kSlots> pending;
        for (unsigned round = 0; round < 4; ++round) {
            d.begin(round & 1 ? kVirtioEventIndex : 0, 4);
            std::array<std::map<uint32_t, unsigned>, 4> slot_of;  // of a head
            unsigned in_flight = 0, made = 0;
            const unsigned total = 600;
            while (made < total || in_flight > 0) {
                const unsigned n = below(kSlots);
                Pending& p = pending[n];
                const unsigned q = n % 4;
                DriverQueue& queue = d.driver->queues.at(q);
                if (made < total && !p.busy && queue.has_room(3)) {
                    p = {.busy = true,
                         .read = below(2) == 0,
                         .sector = n * kSectorsPerSlot + below(kSectorsPerSlot / 2),
                         .bytes = (1 + below(kSectorsPerSlot / 2)) * 512};
                    if (!p.read) {
                        for (uint32_t i = 0; i < p.bytes; ++i)
                            d.data(n)[i] = model[p.sector * 512 + i] = static_cast<uint8_t>(below(256));
                    }
                    auto pieces = d.request(n, p.read ? kIn : kOut, p.sector, p.bytes);
                    const uint16_t head =
                        below(2) ? queue.add(pieces) : queue.add_indirect(pieces, Disk::slot(n) + 1024);
                    slot_of[q][head] = n;
                    ++made;
                    ++in_flight;
                    d.driver->kick(q);
                } else if (below(200) == 0) {
                    d.run(d.blk->co_stop());
                    g_assert_cmpuint(d.mock->inside, ==, 0);
                    d.blk->go_on();
                } else {
                    d.driver->acknowledge();
                    for (unsigned i = 0; i < 4; ++i)
                        while (auto used = d.driver->queues.at(i).take_used()) {
                            const unsigned slot = slot_of[i].at(used->head);
                            Pending& done = pending[slot];
                            g_assert_cmpuint(d.status(slot), ==, kOk);
                            if (done.read)
                                g_assert_cmpint(memcmp(d.data(slot), model.data() + done.sector * 512, done.bytes), ==,
                                                0);
                            done.busy = false;
                            --in_flight;
                        }
                }
            }
            d.driver->set(R::kStatus, 0);
            while (d.driver->get(R::kStatus) != 0)
                g_thread_yield();
        }
        g_assert_cmpint(memcmp(d.mock->snapshot().data(), model.data(), model.size()), ==, 0);
        g_rand_free(random);
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/virtio-blk/data-are-written-and-read-back", test_data_are_written_and_read_back);
    g_test_add_func("/virtio-blk/any-layout-will-do", test_any_layout_will_do);
    g_test_add_func("/virtio-blk/requests-out-of-the-disk-fail", test_requests_out_of_the_disk_fail);
    g_test_add_func("/virtio-blk/the-configuration-says-what-the-disk-is",
                    test_the_configuration_says_what_the_disk_is);
    g_test_add_func("/virtio-blk/the-serial-is-padded", test_the_serial_is_padded);
    g_test_add_func("/virtio-blk/ranges-are-zeroed-and-discarded", test_ranges_are_zeroed_and_discarded);
    g_test_add_func("/virtio-blk/what-is-not-offered-is-unsupported", test_what_is_not_offered_is_unsupported);
    g_test_add_func("/virtio-blk/the-write-cache-is-the-drivers-to-choose",
                    test_the_write_cache_is_the_drivers_to_choose);
    g_test_add_func("/virtio-blk/a-read-only-drive-is-a-read-only-disk", test_a_read_only_drive_is_a_read_only_disk);
    g_test_add_func("/virtio-blk/others-may-read-but-not-write", test_others_may_read_but_not_write);
    g_test_add_func("/virtio-blk/a-drive-is-of-one-device", test_a_drive_is_of_one_device);
    g_test_add_func("/virtio-blk/errors-are-reported", test_errors_are_reported);
    g_test_add_func("/virtio-blk/errors-are-ignored-if-wanted", test_errors_are_ignored_if_wanted);
    g_test_add_func("/virtio-blk/what-runs-out-of-space-is-made-again", test_what_runs_out_of_space_is_made_again);
    g_test_add_func("/virtio-blk/a-reset-forgets-what-was-kept", test_a_reset_forgets_what_was_kept);
    g_test_add_func("/virtio-blk/a-request-without-header-or-status-needs-a-reset",
                    test_a_request_without_header_or_status_needs_a_reset);
    g_test_add_func("/virtio-blk/a-new-size-is-announced", test_a_new_size_is_announced);
    g_test_add_func("/virtio-blk/many-requests-need-one-interrupt", test_many_requests_need_one_interrupt);
    g_test_add_func("/virtio-blk/options-are-checked", test_options_are_checked);
    g_test_add_func("/virtio-blk/a-random-load", test_a_random_load);
    return g_test_run();
}
