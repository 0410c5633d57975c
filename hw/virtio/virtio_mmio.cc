#include "hw/virtio_mmio.h"

#include "util/byte_order.h"
#include "util/log.h"

#include <utility>

namespace ashlar {

namespace {

enum Register : uint64_t {
    kMagicValue = 0x000,
    kVersion = 0x004,
    kDeviceId = 0x008,
    kVendorId = 0x00c,
    kDeviceFeatures = 0x010,
    kDeviceFeaturesSelect = 0x014,
    kDriverFeatures = 0x020,
    kDriverFeaturesSelect = 0x024,
    kGuestPageSize = 0x028,  // legacy
    kQueueSelect = 0x030,
    kQueueSizeMax = 0x034,
    kQueueSize = 0x038,
    kQueueAlign = 0x03c,  // legacy
    kQueuePage = 0x040,   // legacy
    kQueueReady = 0x044,
    kQueueNotify = 0x050,
    kInterruptStatus = 0x060,
    kInterruptAck = 0x064,
    kStatus = 0x070,
    kQueueDescriptorsLow = 0x080,
    kQueueDescriptorsHigh = 0x084,
    kQueueDriverLow = 0x090,
    kQueueDriverHigh = 0x094,
    kQueueDeviceLow = 0x0a0,
    kQueueDeviceHigh = 0x0a4,
    kSharedMemoryLengthLow = 0x0b0,
    kSharedMemoryBaseHigh = 0x0bc,
    kConfigGeneration = 0x0fc,
    kConfig = 0x100,
};

constexpr uint32_t kMagic = 0x74726976;   // "virt"
constexpr uint32_t kVendor = 0x554d4551;  // what drivers for this board look for

enum Status : uint32_t {
    kFeaturesOk = 8,
    kDriverOk = 4,
    kDriver = 2,
    kNeedsReset = 64,
};
enum Interrupt : uint32_t { kUsedRing = 1, kConfigChange = 2 };

void set_low(uint64_t& address, uint32_t value) {
    address = (address & ~uint64_t{UINT32_MAX}) | value;
}
void set_high(uint64_t& address, uint32_t value) {
    address = (address & UINT32_MAX) | (uint64_t{value} << 32);
}

}  // namespace

VirtioMmio::VirtioMmio(VirtioDevice* device, InterruptLine line, bool legacy)
    : device_(device), line_(line), legacy_(legacy), queues_(device ? device->queue_count() : 0) {
    if (device_)
        device_->connect(*this);
}

// --- access ---

uint64_t VirtioMmio::read(uint64_t offset, unsigned size) {
    if (size == 8)
        return read(offset, 4) | read(offset + 4, 4) << 32;
    std::lock_guard guard(lock_);
    if (offset < kConfig)
        return size == 4 ? read_register(offset) : 0;
    if (!device_)
        return 0;
    std::array<uint8_t, 4> bytes{};
    device_->read_config(offset - kConfig, {bytes.data(), size});
    return load_le<uint32_t>(bytes.data());
}

void VirtioMmio::write(uint64_t offset, unsigned size, uint64_t value) {
    if (size == 8) {
        write(offset, 4, static_cast<uint32_t>(value));
        write(offset + 4, 4, value >> 32);
        return;
    }
    if (!device_)
        return;
    if (offset >= kConfig) {
        std::array<uint8_t, 8> bytes;
        store_le<uint64_t>(bytes.data(), value);
        std::lock_guard guard(lock_);
        device_->write_config(offset - kConfig, {bytes.data(), size});
    } else if (size != 4) {
        log(LogItem::GuestErrors, "{}: a write of {} bytes to register {:#x}", device_->name(), size, offset);
    } else if (offset == kQueueNotify) {
        // No lock: the device looks for itself whether it has been started.
        device_->notify(static_cast<uint32_t>(value));
    } else if (offset == kStatus) {
        write_status(static_cast<uint32_t>(value));
    } else {
        std::lock_guard guard(lock_);
        write_register(offset, static_cast<uint32_t>(value));
    }
}

uint32_t VirtioMmio::read_register(uint64_t offset) {
    switch (offset) {
        case kMagicValue:
            return kMagic;
        case kVersion:
            return legacy_ ? 1 : 2;
        case kVendorId:
            return kVendor;
    }
    if (!device_)
        return 0;
    const Queue* queue = queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
    switch (offset) {
        case kDeviceId:
            return device_->id();
        case kDeviceFeatures:
            return device_features_select_ < 2 ? static_cast<uint32_t>(offered() >> (32 * device_features_select_)) : 0;
        case kQueueSizeMax:
            return queue ? device_->queue_size() : 0;
        case kQueueReady:
            return !legacy_ && queue && queue->ready;
        case kQueuePage:
            return legacy_ && queue ? queue->page : 0;
        case kInterruptStatus:
            return interrupt_status_;
        case kStatus:
            return status_ | (resetting_ ? kNeedsReset : 0);
        case kConfigGeneration:
            return legacy_ ? 0 : generation_;
    }
    // No shared memory: regions of length -1.
    return !legacy_ && offset >= kSharedMemoryLengthLow && offset <= kSharedMemoryBaseHigh ? UINT32_MAX : 0;
}

void VirtioMmio::write_register(uint64_t offset, uint32_t value) {
    switch (offset) {
        case kDeviceFeaturesSelect:
            device_features_select_ = value;
            break;
        case kDriverFeatures:
            write_features(value);
            break;
        case kDriverFeaturesSelect:
            driver_features_select_ = value;
            break;
        case kGuestPageSize:
            page_size_ = value;
            break;
        case kQueueSelect:
            queue_select_ = value;
            break;
        case kInterruptAck:
            interrupt_status_ &= ~value;
            if (interrupt_status_ == 0)
                line_.set(false);
            break;
        default:
            write_queue(offset, value);
    }
}

void VirtioMmio::write_queue(uint64_t offset, uint32_t value) {
    if (queue_select_ >= queues_.size())
        return;
    Queue& queue = queues_[queue_select_];
    if (legacy_) {
        if (offset == kQueueSize)
            queue.layout.size = value;
        else if (offset == kQueueAlign)
            queue_align_ = value;
        else if (offset == kQueuePage)
            place_legacy_queue(value);
        return;
    }
    if (offset == kQueueReady) {
        queue.ready = value & 1;
        return;
    }
    if (queue.ready)
        return;
    VirtqueueLayout& layout = queue.layout;
    switch (offset) {
        case kQueueSize:
            layout.size = value;
            break;
        case kQueueDescriptorsLow:
            set_low(layout.descriptors, value);
            break;
        case kQueueDescriptorsHigh:
            set_high(layout.descriptors, value);
            break;
        case kQueueDriverLow:
            set_low(layout.available, value);
            break;
        case kQueueDriverHigh:
            set_high(layout.available, value);
            break;
        case kQueueDeviceLow:
            set_low(layout.used, value);
            break;
        case kQueueDeviceHigh:
            set_high(layout.used, value);
            break;
    }
}

// 2.7.2: the parts of the queue follow one another, the used ring at the next multiple of the alignment.
void VirtioMmio::place_legacy_queue(uint32_t page) {
    Queue& queue = queues_[queue_select_];
    VirtqueueLayout& layout = queue.layout;
    queue.page = page;
    queue.ready = page != 0;
    layout.descriptors = uint64_t{page} * page_size_;
    layout.available = layout.descriptors + uint64_t{16} * layout.size;
    const uint64_t end = layout.available + 6 + uint64_t{2} * layout.size;
    const uint64_t align = queue_align_ ? queue_align_ : 1;
    layout.used = (end + align - 1) / align * align;
}

// --- negotiation and status ---

uint64_t VirtioMmio::offered() const {
    return legacy_ ? device_->features() & UINT32_MAX : device_->features() | kVirtioVersion1;
}

void VirtioMmio::write_features(uint32_t value) {
    if (status_ & (kFeaturesOk | kDriverOk) || driver_features_select_ > 1)
        return;
    if (driver_features_select_ == 0)
        set_low(driver_features_, value);
    else
        set_high(driver_features_, value);
    if (legacy_)
        driver_features_ &= offered();
}

VirtioSetup VirtioMmio::setup() const {
    VirtioSetup setup{.features = driver_features_, .queues = {}};
    for (const Queue& queue : queues_)
        setup.queues.push_back(queue.ready ? queue.layout : VirtqueueLayout{});
    for (VirtqueueLayout& layout : setup.queues)
        if (layout.size > device_->queue_size())
            layout.size = UINT32_MAX;  // which is an error there
    return setup;
}

void VirtioMmio::write_status(uint32_t value) {
    std::unique_lock guard(lock_);
    if (value == 0) {
        clear();
        if (!std::exchange(started_, false) && !resetting_)
            return;
        resetting_ = true;
        guard.unlock();
        const bool done = device_->reset();
        guard.lock();
        if (done)
            resetting_ = false;
        return;
    }
    const uint32_t added = value & ~status_ & ~kNeedsReset & 0xff;
    status_ |= added;
    if (!legacy_ && added & kFeaturesOk) {
        if (driver_features_ & ~offered() || !(driver_features_ & kVirtioVersion1))
            status_ &= ~kFeaturesOk;
        else
            device_->negotiated(driver_features_);
    }
    if (!(added & kDriverOk) || started_ || (!legacy_ && !(status_ & kFeaturesOk)))
        return;
    started_ = true;
    if (legacy_)
        device_->negotiated(driver_features_);
    VirtioSetup what = setup();
    guard.unlock();
    device_->start(std::move(what));
}

void VirtioMmio::clear() {
    status_ = 0;
    device_features_select_ = driver_features_select_ = 0;
    driver_features_ = 0;
    queue_select_ = 0;
    queue_align_ = 0;  // a driver tells its page size once, before it resets the device
    interrupt_status_ = 0;
    line_.set(false);
    for (Queue& queue : queues_)
        queue = {};
    device_->negotiated(0);
}

Task<void> VirtioMmio::co_reset() {
    if (!device_)
        co_return;
    write_status(0);
    page_size_ = 0;
    co_await device_->co_wait_reset();
}

// --- from the device ---

void VirtioMmio::set_interrupt(uint32_t bits) {
    // The line follows under the lock: an acknowledgement that comes in between does not leave it set for nothing.
    if ((interrupt_status_ & bits) == bits)
        return;
    interrupt_status_ |= bits;
    line_.set(true);
}

void VirtioMmio::interrupt() {
    std::lock_guard guard(lock_);
    if (started_)
        set_interrupt(kUsedRing);
}

void VirtioMmio::config_changed() {
    std::lock_guard guard(lock_);
    ++generation_;
    if (started_)
        set_interrupt(kConfigChange);
}

void VirtioMmio::change_config(const std::function<void()>& change) {
    {
        std::lock_guard guard(lock_);
        change();
    }
    config_changed();
}

void VirtioMmio::needs_reset() {
    std::lock_guard guard(lock_);
    if (legacy_ || !started_)
        return;
    status_ |= kNeedsReset;
    set_interrupt(kConfigChange);
}

void VirtioMmio::reset_done() {
    std::lock_guard guard(lock_);
    resetting_ = false;
}

}  // namespace ashlar
