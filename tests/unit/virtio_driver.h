// Plays the driver in the guest: DriverQueue is its side of a virtqueue, VirtioDriver what it does with the registers.
#pragma once

#include "hw/virtio_mmio.h"

#include <glib.h>

#include <atomic>
#include <map>
#include <optional>
#include <vector>

namespace ashlar {

constexpr uint64_t kGuestBase = 0x80000000, kGuestBytes = 8 << 20;
constexpr uint64_t kGuestData = kGuestBase + (1 << 20);  // what tests use as they like
constexpr uint32_t kGuestPage = 4096;

inline std::unique_ptr<GuestRam> make_guest_ram() {
    auto ram = GuestRam::create(kGuestBase, kGuestBytes);
    g_assert_true(ram.has_value());
    return std::move(*ram);
}

// An interrupt line, whose level and edges are counted.
struct LineProbe : InterruptSink {
    std::atomic<bool> level{false};
    std::atomic<unsigned> raised{0};
    void set_level(unsigned, bool on) override {
        if (!level.exchange(on) && on)
            ++raised;
    }
};

// A part of a request.
struct Piece {
    uint64_t address;
    uint32_t bytes;
    bool write = false;  // by the device
};

class DriverQueue {
public:
    enum : uint16_t { kNext = 1, kWrite = 2, kIndirect = 4 };

    DriverQueue(GuestRam& ram, uint64_t base, uint16_t size, bool event_index)
        : ram_(ram), base_(base), size_(size), event_index_(event_index) {
        for (uint16_t i = size; i-- > 0;)
            free_.push_back(i);
    }

    uint16_t size() const { return size_; }
    VirtqueueLayout layout() const {
        const uint64_t available = base_ + uint64_t{16} * size_;
        const uint64_t end = available + 6 + uint64_t{2} * size_;
        return {size_, base_, available, (end + kGuestPage - 1) / kGuestPage * kGuestPage};
    }

    void write_descriptor(uint64_t table, unsigned index, uint64_t address, uint32_t bytes, uint16_t flags,
                          uint16_t next) {
        uint8_t* to = ram_.at(table + uint64_t{16} * index, 16);
        memcpy(to, &address, 8), memcpy(to + 8, &bytes, 4), memcpy(to + 12, &flags, 2), memcpy(to + 14, &next, 2);
    }
    void write_descriptor(unsigned index, uint64_t address, uint32_t bytes, uint16_t flags, uint16_t next) {
        write_descriptor(base_, index, address, bytes, flags, next);
    }

    bool has_room(size_t pieces) const { return free_.size() >= pieces; }

    // Makes a chain available; the head.
    uint16_t add(const std::vector<Piece>& pieces) {
        std::vector<uint16_t> mine;
        for (size_t i = 0; i < pieces.size(); ++i) {
            g_assert_false(free_.empty());
            mine.push_back(free_.back());
            free_.pop_back();
        }
        for (size_t i = 0; i < pieces.size(); ++i) {
            const bool last = i + 1 == pieces.size();
            write_descriptor(mine[i], pieces[i].address, pieces[i].bytes,
                             static_cast<uint16_t>((pieces[i].write ? kWrite : 0) | (last ? 0 : kNext)),
                             last ? 0 : mine[i + 1]);
        }
        const uint16_t head = mine[0];
        in_use_[head] = std::move(mine);
        make_available(head);
        return head;
    }
    // By a table at `table`.
    uint16_t add_indirect(const std::vector<Piece>& pieces, uint64_t table) {
        for (size_t i = 0; i < pieces.size(); ++i) {
            const bool last = i + 1 == pieces.size();
            write_descriptor(table, static_cast<unsigned>(i), pieces[i].address, pieces[i].bytes,
                             static_cast<uint16_t>((pieces[i].write ? kWrite : 0) | (last ? 0 : kNext)),
                             static_cast<uint16_t>(i + 1));
        }
        const uint16_t head = free_.back();
        free_.pop_back();
        write_descriptor(head, table, static_cast<uint32_t>(16 * pieces.size()), kIndirect, 0);
        in_use_[head] = {head};
        make_available(head);
        return head;
    }
    void make_available(uint16_t head) {
        const VirtqueueLayout at = layout();
        memcpy(ram_.at(at.available + 4 + 2 * (next_available_ % size_), 2), &head, 2);
        set_available_index(++next_available_);
    }
    void set_available_index(uint16_t index) { word(layout().available + 2).store(index, std::memory_order_release); }
    void set_available_flags(uint16_t flags) { word(layout().available).store(flags); }
    void set_used_event(uint16_t index) { word(layout().available + 4 + 2 * size_).store(index); }
    uint16_t used_flags() { return word(layout().used).load(); }
    uint16_t available_event() { return word(layout().used + 4 + 8 * size_).load(); }
    uint16_t used_index() { return word(layout().used + 2).load(std::memory_order_acquire); }

    // Whether the device wants to be told of what was made available since the last call.
    bool wants_notification() {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        const uint16_t before = std::exchange(told_, next_available_);
        if (!event_index_)
            return !(used_flags() & 1);
        const uint16_t event = available_event();
        return static_cast<uint16_t>(next_available_ - event - 1) < static_cast<uint16_t>(next_available_ - before);
    }

    struct Used {
        uint32_t head, bytes;
    };
    bool has_used() { return used_index() != next_used_; }
    std::optional<Used> take_used() {
        if (!has_used())
            return {};
        Used used;
        memcpy(&used, ram_.at(layout().used + 4 + 8 * (next_used_ % size_), 8), 8);
        ++next_used_;
        auto mine = in_use_.find(static_cast<uint16_t>(used.head));
        g_assert_true(mine != in_use_.end());  // given back once
        for (uint16_t index : mine->second)
            free_.push_back(index);
        in_use_.erase(mine);
        if (event_index_)
            set_used_event(next_used_);
        return used;
    }

private:
    std::atomic_ref<uint16_t> word(uint64_t address) const {
        return std::atomic_ref(*reinterpret_cast<uint16_t*>(ram_.at(address, 2)));
    }

    GuestRam& ram_;
    const uint64_t base_;
    const uint16_t size_;
    const bool event_index_;
    std::vector<uint16_t> free_;
    std::map<uint16_t, std::vector<uint16_t>> in_use_;
    uint16_t next_available_ = 0, next_used_ = 0, told_ = 0;
};

class VirtioDriver {
public:
    enum Register : uint64_t {
        kMagic = 0x00,
        kVersion = 0x04,
        kDeviceId = 0x08,
        kVendor = 0x0c,
        kDeviceFeatures = 0x10,
        kDeviceFeaturesSelect = 0x14,
        kDriverFeatures = 0x20,
        kDriverFeaturesSelect = 0x24,
        kPageSize = 0x28,
        kQueueSelect = 0x30,
        kQueueSizeMax = 0x34,
        kQueueSize = 0x38,
        kQueueAlign = 0x3c,
        kQueuePage = 0x40,
        kQueueReady = 0x44,
        kNotify = 0x50,
        kInterruptStatus = 0x60,
        kInterruptAck = 0x64,
        kStatus = 0x70,
        kGeneration = 0xfc,
        kConfig = 0x100,
    };
    enum Status : uint32_t { kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64 };

    VirtioDriver(GuestRam& ram, MmioDevice& registers) : ram_(ram), registers_(registers) {}

    uint32_t get(uint64_t offset, unsigned size = 4) { return static_cast<uint32_t>(registers_.read(offset, size)); }
    void set(uint64_t offset, uint32_t value, unsigned size = 4) { registers_.write(offset, size, value); }
    bool is_legacy() { return get(kVersion) == 1; }

    uint64_t offered() {
        set(kDeviceFeaturesSelect, 0);
        uint64_t features = get(kDeviceFeatures);
        set(kDeviceFeaturesSelect, 1);
        return features | uint64_t{get(kDeviceFeatures)} << 32;
    }
    // All of what is offered but `unwanted`; true if the device agrees.
    bool negotiate(uint64_t unwanted = 0) {
        set(kStatus, kAcknowledge);
        set(kStatus, kAcknowledge | kDriver);
        features = offered() & ~unwanted;
        set(kDriverFeaturesSelect, 0);
        set(kDriverFeatures, static_cast<uint32_t>(features));
        set(kDriverFeaturesSelect, 1);
        set(kDriverFeatures, static_cast<uint32_t>(features >> 32));
        if (is_legacy())
            return true;
        set(kStatus, kAcknowledge | kDriver | kFeaturesOk);
        return get(kStatus) & kFeaturesOk;
    }
    void place(unsigned index, const VirtqueueLayout& layout) {
        set(kQueueSelect, index);
        set(kQueueSize, layout.size);
        if (is_legacy()) {
            set(kPageSize, kGuestPage);
            set(kQueueAlign, kGuestPage);
            set(kQueuePage, static_cast<uint32_t>(layout.descriptors / kGuestPage));
            return;
        }
        const uint64_t addresses[] = {layout.descriptors, layout.available, layout.used};
        for (unsigned i = 0; i < 3; ++i) {
            set(0x80 + 0x10 * i, static_cast<uint32_t>(addresses[i]));
            set(0x84 + 0x10 * i, static_cast<uint32_t>(addresses[i] >> 32));
        }
        set(kQueueReady, 1);
    }
    DriverQueue& add_queue(unsigned index, uint16_t size = 16) {
        const bool event_index = features & kVirtioEventIndex;
        queues.erase(index);
        memset(ram_.at(queue_base(index), 1 << 16), 0, 1 << 16);
        auto [at, added] = queues.try_emplace(index, ram_, queue_base(index), size, event_index);
        place(index, at->second.layout());
        return at->second;
    }
    static uint64_t queue_base(unsigned index) { return kGuestBase + index * (uint64_t{1} << 16); }
    void ready() { set(kStatus, get(kStatus) | kDriverOk); }
    void kick(unsigned index) {
        if (queues.at(index).wants_notification())
            set(kNotify, index);
    }
    // What an interrupt handler does first.
    uint32_t acknowledge() {
        const uint32_t status = get(kInterruptStatus);
        set(kInterruptAck, status);
        return status;
    }

    uint64_t features = 0;
    std::map<unsigned, DriverQueue> queues;

private:
    GuestRam& ram_;
    MmioDevice& registers_;
};

}  // namespace ashlar
