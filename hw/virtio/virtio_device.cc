#include "hw/virtio_device.h"

#include "util/log.h"

#include <cassert>

namespace ashlar {

VirtioDevice::VirtioDevice(std::string name, uint32_t id, const GuestRam& ram, AioContext& context, unsigned queues,
                           unsigned queue_size)
    : name_(std::move(name)), id_(id), ram_(ram), context_(context), queue_size_(queue_size), queues_(queues) {
    assert(queues > 0 && queues <= kMaxQueues && queue_size <= Virtqueue::kMaxSize);
    work_.device = settle_.device = this;
    work_.run = [](Runnable& self) { static_cast<Work&>(self).device->work(); };
    settle_.run = [](Runnable& self) {
        VirtioDevice& device = *static_cast<Work&>(self).device;
        std::lock_guard guard(device.lock_);
        device.settling_ = false;
        device.settle();
        device.interrupt_if_wanted();
        device.read_mail();
    };
}

VirtioDevice::~VirtioDevice() {
    assert(in_flight_ == 0 && pending_ == 0 && !settling_);
}

void VirtioDevice::write_config(uint64_t, std::span<const uint8_t>) {}

void VirtioDevice::negotiated(uint64_t) {}

// --- the harts' thread ---

void VirtioDevice::post(uint64_t bits) {
    if (pending_.fetch_or(bits, std::memory_order_acq_rel) == 0)
        context_.schedule(work_);
}

void VirtioDevice::notify(unsigned queue) {
    if (queue < queues_.size())
        post(uint64_t{1} << queue);
}

void VirtioDevice::start(VirtioSetup setup) {
    {
        std::lock_guard guard(mail_.lock);
        mail_.setup = std::move(setup);
    }
    post(kControl);
}

bool VirtioDevice::reset() {
    // What is asked for here comes before any start() that follows, and undoes the one before.
    {
        std::lock_guard guard(mail_.lock);
        mail_.setup.reset();
        mail_.reset = true;
    }
    if (std::unique_lock guard(lock_, std::try_to_lock); guard && in_flight_ == 0) {
        std::lock_guard mail(mail_.lock);
        if (mail_.reset) {
            mail_.reset = false;
            do_reset();
            return true;
        }
        return false;  // the device's thread has been quicker
    }
    post(kControl);
    return false;
}

// --- the device's context ---

void VirtioDevice::work() {
    constexpr unsigned kRounds = 4;  // then others have their turn
    {
        std::lock_guard guard(lock_);
        for (unsigned round = 0; round < kRounds; ++round) {
            const uint64_t bits = pending_.exchange(kBusy, std::memory_order_acq_rel);
            read_mail();
            handle(bits & ~(kBusy | kControl));
            interrupt_if_wanted();
            uint64_t expected = kBusy;
            if (pending_.compare_exchange_strong(expected, 0, std::memory_order_acq_rel))
                return;
        }
    }
    context_.schedule(work_);
}

// What has been asked for, as far as it can be done now. Called whenever something has changed.
void VirtioDevice::read_mail() {
    if (in_flight_ == 0)
        quiet_.pulse();
    std::unique_lock mail(mail_.lock);
    const bool stop = mail_.stop;
    if (mail_.reset) {
        resetting_ = true;
        if (in_flight_ > 0)
            return;
        mail_.reset = false;
        do_reset();
        mail.unlock();
        transport_->reset_done();
        mail.lock();
    }
    std::optional<VirtioSetup> setup;
    if (!mail_.reset)
        setup.swap(mail_.setup);
    const bool again = stopped_ && !stop;
    stopped_ = stop;
    mail.unlock();
    if (setup)
        do_start(std::move(*setup));
    else if (again && started_) {
        retry();
        handle(~uint64_t{0});
    }
}

void VirtioDevice::do_reset() {
    for (Virtqueue& queue : queues_)
        queue.drop();
    started_ = broken_ = resetting_ = interrupt_wanted_ = false;
    accepted_ = 0;
    forget();
}

void VirtioDevice::do_start(VirtioSetup setup) {
    accepted_ = setup.features;
    started_ = true;
    const Virtqueue::Features features{.event_index = (accepted_ & kVirtioEventIndex) != 0,
                                       .indirect = (accepted_ & kVirtioIndirect) != 0};
    for (size_t i = 0; i < queues_.size() && i < setup.queues.size(); ++i)
        if (setup.queues[i].size != 0 && !queues_[i].set_up(ram_, setup.queues[i], features)) {
            broken(fmt::format("queue {}: {}", i, queues_[i].error()));
            return;
        }
    started();
    handle(~uint64_t{0});
}

void VirtioDevice::handle(uint64_t bits) {
    if (!may_begin() || broken_)
        return;
    for (unsigned i = 0; i < queues_.size(); ++i)
        if (bits & (uint64_t{1} << i) && queues_[i].is_set_up()) {
            queues_[i].disable_notifications();
            burst_ = 0;
            if (handle_queue(i) && !queues_[i].enable_notifications())
                look_again(i);
        }
}

bool VirtioDevice::take(unsigned index, VirtqueueChain& chain) {
    if (!may_begin() || broken_)
        return false;
    // A driver on another processor may go on for ever, but others want their turn.
    if (burst_++ == queue_size_) {
        look_again(index);
        return false;
    }
    switch (queues_[index].take(chain)) {
        case Virtqueue::Taken::Chain:
            return true;
        case Virtqueue::Taken::Nothing:
            return false;
        case Virtqueue::Taken::Broken:
            broken(fmt::format("queue {}: {}", index, queues_[index].error()));
            return false;
    }
    return false;
}

void VirtioDevice::publish(unsigned index) {
    if (!broken_ && queues_[index].publish())
        interrupt_wanted_ = true;
}

void VirtioDevice::interrupt_if_wanted() {
    if (std::exchange(interrupt_wanted_, false))
        transport_->interrupt();
}

void VirtioDevice::broken(std::string_view why) {
    if (std::exchange(broken_, true))
        return;
    log(LogItem::GuestErrors, "{}: {}; the device needs a reset", name_, why);
    transport_->needs_reset();
}

void VirtioDevice::settle_soon() {
    if (!std::exchange(settling_, true))
        context_.schedule(settle_);
}

// --- the main context ---

Task<void> VirtioDevice::co_stop() {
    AioContext& home = *AioContext::current();
    {
        std::lock_guard mail(mail_.lock);
        mail_.stop = true;
    }
    co_await switch_to(context_);
    for (;;) {
        {
            std::lock_guard guard(lock_);
            stopped_ = true;
            if (in_flight_ == 0)
                break;
        }
        co_await quiet_.wait();
    }
    co_await switch_to(home);
}

void VirtioDevice::go_on() {
    {
        std::lock_guard mail(mail_.lock);
        mail_.stop = false;
    }
    post(kControl);
}

Task<void> VirtioDevice::co_wait_reset() {
    AioContext& home = *AioContext::current();
    co_await switch_to(context_);
    for (;;) {
        {
            std::lock_guard guard(lock_);
            std::lock_guard mail(mail_.lock);
            if (!mail_.reset)
                break;
        }
        co_await quiet_.wait();
    }
    co_await switch_to(home);
}

Task<void> VirtioDevice::co_close() {
    AioContext& home = *AioContext::current();
    co_await co_stop();
    (void)reset();
    co_await co_wait_reset();
    co_await switch_to(context_);
    while (pending_ != 0 || settling_)
        co_await co_yield_now();
    co_await switch_to(home);
}

}  // namespace ashlar
