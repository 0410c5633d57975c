// A driver for virtio-mmio of both versions, in as few lines as will do: one queue of a device, by interrupts.
#pragma once

#include "virt.h"

enum {
    kMagic = 0x00,
    kVersion = 0x04,
    kDeviceId = 0x08,
    kDeviceFeatures = 0x10,
    kDeviceFeaturesSelect = 0x14,
    kDriverFeatures = 0x20,
    kDriverFeaturesSelect = 0x24,
    kGuestPageSize = 0x28,
    kQueueSelect = 0x30,
    kQueueSizeMax = 0x34,
    kQueueSize = 0x38,
    kQueueAlign = 0x3c,
    kQueuePage = 0x40,
    kQueueReady = 0x44,
    kQueueNotify = 0x50,
    kInterruptStatus = 0x60,
    kInterruptAck = 0x64,
    kStatus = 0x70,
    kQueueAddresses = 0x80,
    kConfig = 0x100,
};
enum { kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64 };
enum { kNext = 1, kWrite = 2, kIndirect = 4 };
#define kFeatureIndirect (1ull << 28)
#define kFeatureEventIndex (1ull << 29)
#define kFeatureVersion1 (1ull << 32)

enum { kRing = 64 };  // descriptors of a queue

struct descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
};
// As version 1 wants it: the used ring at the next page.
struct rings {
    struct descriptor descriptors[kRing];
    struct {
        uint16_t flags, index, ring[kRing], used_event;
    } available;
    _Alignas(4096) struct {
        uint16_t flags, index;
        struct {
            uint32_t id, bytes;
        } ring[kRing];
        uint16_t available_event;
    } used;
};

struct virtio {
    uint64_t base;
    unsigned source;  // of interrupts
    uint64_t features;
    struct rings* rings;
    uint16_t seen;  // of the used ring
    uint16_t made;  // available
    volatile unsigned interrupts, config_interrupts;
};

static uint32_t get(const struct virtio* device, unsigned offset) {
    return read32(device->base + offset);
}
static void set(const struct virtio* device, unsigned offset, uint32_t value) {
    write32(device->base + offset, value);
}

// The device with this ID in the highest slot; false: there is none.
static bool virtio_find(struct virtio* device, uint32_t id) {
    for (unsigned slot = kVirtioSlots; slot-- > 0;) {
        device->base = kVirtio + 0x1000 * slot;
        device->source = 1 + slot;
        if (get(device, kMagic) != 0x74726976)
            fail("no magic value in slot ", slot);
        if (get(device, kDeviceId) == id)
            return true;
    }
    return false;
}

static void virtio_begin(struct virtio* device, struct rings* rings, unsigned queue, uint64_t unwanted) {
    const bool legacy = get(device, kVersion) == 1;
    set(device, kStatus, 0);
    while (get(device, kStatus) != 0) {
    }
    set(device, kStatus, kAcknowledge);
    set(device, kStatus, kAcknowledge | kDriver);
    set(device, kDeviceFeaturesSelect, 0);
    device->features = get(device, kDeviceFeatures);
    if (!legacy) {
        set(device, kDeviceFeaturesSelect, 1);
        device->features |= (uint64_t)get(device, kDeviceFeatures) << 32;
    }
    device->features &= ~unwanted;
    set(device, kDriverFeaturesSelect, 0);
    set(device, kDriverFeatures, (uint32_t)device->features);
    if (!legacy) {
        set(device, kDriverFeaturesSelect, 1);
        set(device, kDriverFeatures, (uint32_t)(device->features >> 32));
        set(device, kStatus, kAcknowledge | kDriver | kFeaturesOk);
        if (!(get(device, kStatus) & kFeaturesOk))
            fail("the features are refused, status ", get(device, kStatus));
    }

    memset(rings, 0, sizeof *rings);
    device->rings = rings;
    device->seen = device->made = 0;
    set(device, kQueueSelect, queue);
    if (get(device, kQueueSizeMax) < kRing)
        fail("the queue is too small: ", get(device, kQueueSizeMax));
    set(device, kQueueSize, kRing);
    if (legacy) {
        set(device, kGuestPageSize, 4096);
        set(device, kQueueAlign, 4096);
        set(device, kQueuePage, (uint32_t)((uint64_t)rings >> 12));
    } else {
        const uint64_t parts[] = {(uint64_t)rings->descriptors, (uint64_t)&rings->available, (uint64_t)&rings->used};
        for (unsigned i = 0; i < 3; ++i) {
            set(device, kQueueAddresses + 16 * i, (uint32_t)parts[i]);
            set(device, kQueueAddresses + 16 * i + 4, (uint32_t)(parts[i] >> 32));
        }
        set(device, kQueueReady, 1);
    }
    plic_enable(device->source);
    set(device, kStatus, get(device, kStatus) | kDriverOk);
}

static void virtio_make_available(struct virtio* device, uint16_t head) {
    device->rings->available.ring[device->made % kRing] = head;
    fence();
    *(volatile uint16_t*)&device->rings->available.index = ++device->made;
}

// Tells the device, if it wants to hear of it, what was made available after `before` was.
static void virtio_notify(struct virtio* device, unsigned queue, uint16_t before) {
    fence();
    if (device->features & kFeatureEventIndex) {
        const uint16_t event = *(volatile uint16_t*)&device->rings->used.available_event;
        if ((uint16_t)(device->made - event - 1) < (uint16_t)(device->made - before))
            set(device, kQueueNotify, queue);
    } else if (!(*(volatile uint16_t*)&device->rings->used.flags & 1)) {
        set(device, kQueueNotify, queue);
    }
}

static bool virtio_has_used(const struct virtio* device) {
    const bool some = *(volatile uint16_t*)&device->rings->used.index != device->seen;
    fence();
    return some;
}

// The head of the next chain that has been used; the device is to interrupt for the one behind it.
static uint32_t virtio_take_used(struct virtio* device, uint32_t* bytes) {
    const uint16_t at = device->seen++ % kRing;
    if (bytes)
        *bytes = device->rings->used.ring[at].bytes;
    const uint32_t head = device->rings->used.ring[at].id;
    *(volatile uint16_t*)&device->rings->available.used_event = device->seen;
    fence();
    return head;
}

// Sleeps until there is something; interrupts are off but in wfi.
static void virtio_wait(const struct virtio* device) {
    while (!virtio_has_used(device))
        wait_for_interrupt();
}

// Sleeps until it has interrupted since `interrupts` was 0: as it does for what is used, but maybe after that was seen.
static inline void virtio_wait_for_interrupt(const struct virtio* device) {
    while (device->interrupts == 0)
        wait_for_interrupt();
}

// Of on_interrupt().
static void virtio_interrupt(struct virtio* device) {
    const uint32_t status = get(device, kInterruptStatus);
    set(device, kInterruptAck, status);
    device->interrupts += status & 1;
    device->config_interrupts += status >> 1 & 1;
}
