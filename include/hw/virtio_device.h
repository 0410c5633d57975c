// VirtioDevice: a virtio device behind its transport: what a disk, a console and a source of entropy have in common.
//
// Its queues are worked on in the AioContext that it is given, the main one or an IOThread's. The harts' thread, which
// accesses the transport's registers, hands over by a word of bits and one wake-up, and never waits: see notify(),
// start() and reset(). What a kind of device implements is called in the device's context with its lock held, except
// where it says otherwise; so it does not suspend there and makes requests that call back.
//
// Made by the main thread; destroyed after co_close(). A driver that breaks the rules has the device marked as needing
// a reset.
#pragma once

#include "hw/virtqueue.h"
#include "util/aio_context.h"
#include "util/co_event.h"
#include "util/task.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

// Bits that are not of one kind of device (virtio 1.2, 6).
enum VirtioFeature : uint64_t {
    kVirtioIndirect = uint64_t{1} << 28,
    kVirtioEventIndex = uint64_t{1} << 29,
    kVirtioVersion1 = uint64_t{1} << 32,
};

// The way back to the driver, and to the registers. Any thread; never waits.
class VirtioTransport {
public:
    virtual ~VirtioTransport() = default;
    virtual void interrupt() = 0;       // the used rings
    virtual void config_changed() = 0;  // of device-specific configuration
    virtual void needs_reset() = 0;
    virtual void reset_done() = 0;  // one that reset() has not done
    // Calls what changes the configuration so that no driver sees half of it, then config_changed().
    virtual void change_config(const std::function<void()>& change) = 0;
};

// What a driver has negotiated.
struct VirtioSetup {
    uint64_t features = 0;
    std::vector<VirtqueueLayout> queues;
};

class VirtioDevice {
public:
    // `queues` of `queue_size` descriptors at most.
    VirtioDevice(std::string name, uint32_t id, const GuestRam& ram, AioContext& context, unsigned queues,
                 unsigned queue_size);
    virtual ~VirtioDevice();
    VirtioDevice(const VirtioDevice&) = delete;

    // --- for the transport: any thread, before and while it runs ---
    uint32_t id() const { return id_; }
    const std::string& name() const { return name_; }
    unsigned queue_count() const { return static_cast<unsigned>(queues_.size()); }
    unsigned queue_size() const { return queue_size_; }
    void connect(VirtioTransport& transport) { transport_ = &transport; }

    virtual uint64_t features() const = 0;  // that it offers, kVirtioVersion1 aside
    // Device-specific configuration, under the transport's lock. Reads beyond its end are zero.
    virtual void read_config(uint64_t offset, std::span<uint8_t> bytes) const = 0;
    virtual void write_config(uint64_t offset, std::span<const uint8_t> bytes);
    // The driver has accepted these; 0: it is gone, or has not got so far yet. Under the transport's lock.
    virtual void negotiated(uint64_t features);

    // --- for the transport: the harts' thread ---
    void start(VirtioSetup setup);  // not started, or reset() has been called since
    void notify(unsigned queue);
    // True: it is done, and the device is idle. False: it has requests under way; VirtioTransport::reset_done() comes
    // when they have ended.
    [[nodiscard]] bool reset();

    // --- for the machine: the main context ---
    // On return no request is under way and none is begun until go_on(): the guest's memory stands still. What has
    // failed and is to be tried again is kept meanwhile.
    [[nodiscard]] Task<void> co_stop();
    void go_on();
    // On return a reset that had to wait is done.
    [[nodiscard]] Task<void> co_wait_reset();
    // For good; the harts have ended.
    [[nodiscard]] virtual Task<void> co_close();

    AioContext& context() const { return context_; }

protected:
    // --- what a kind of device does ---
    // Something may be available. True: it wants to hear of what else comes.
    virtual bool handle_queue(unsigned index) = 0;
    virtual void started() {}
    virtual void retry() {}   // after go_on(): requests that have been kept
    virtual void settle() {}  // what completed in this turn is to be given back
    // The driver is gone. No request is under way. Any thread, with the lock held.
    virtual void forget() {}

    // --- what it has for that, with the lock held ---
    Virtqueue& queue(unsigned index) { return queues_[index]; }
    uint64_t accepted() const { return accepted_; }
    bool is_started() const { return started_; }
    bool may_begin() const { return started_ && !stopped_ && !resetting_; }
    bool is_resetting() const { return resetting_; }
    // A request is under way: between these the device is not quiet.
    void begin_request() { ++in_flight_; }
    void end_request() { --in_flight_; }
    // Takes the next chain; false: nothing is there, or nothing may be begun, or the driver has broken the queue.
    [[nodiscard]] bool take(unsigned index, VirtqueueChain& chain);
    // Chains have been given back: shows them to the driver. One interrupt for all calls of a turn.
    void publish(unsigned index);
    void give_back(unsigned index, uint16_t head, uint32_t written) { queues_[index].give_back(head, written); }
    void broken(std::string_view why);  // by the driver
    // Has settle() called once, soon. Own thread; the lock need not be held.
    void settle_soon();
    // Has handle_queue() called. Any thread; the lock need not be held.
    void look_again(unsigned index) { post(uint64_t{1} << index); }
    VirtioTransport& transport() const { return *transport_; }

    // Held by whoever works on the device; only for computation, never across I/O.
    std::mutex lock_;

private:
    static constexpr uint64_t kBusy = uint64_t{1} << 63;     // the device's thread is at work, or will be
    static constexpr uint64_t kControl = uint64_t{1} << 62;  // something is in mail_
    static constexpr unsigned kMaxQueues = 62;

    void post(uint64_t bits);
    void work();
    void read_mail();
    void do_reset();
    void do_start(VirtioSetup setup);
    void handle(uint64_t queues);
    void interrupt_if_wanted();

    const std::string name_;
    const uint32_t id_;
    const GuestRam& ram_;
    AioContext& context_;
    const unsigned queue_size_;
    VirtioTransport* transport_ = nullptr;

    // Under lock_.
    std::vector<Virtqueue> queues_;
    uint64_t accepted_ = 0;
    bool started_ = false;
    bool broken_ = false;
    bool stopped_ = false;
    bool resetting_ = false;
    bool interrupt_wanted_ = false;
    unsigned in_flight_ = 0;
    unsigned burst_ = 0;  // what has been taken since it began to look at a queue

    // The context's.
    CoEvent quiet_;  // pulsed when nothing is in flight
    bool settling_ = false;

    struct Work : Runnable {
        VirtioDevice* device = nullptr;
    } work_, settle_;
    alignas(64) std::atomic<uint64_t> pending_{0};  // a bit for each queue to be looked at, kControl, kBusy

    struct Mail {
        std::mutex lock;
        bool reset = false;
        std::optional<VirtioSetup> setup;
        bool stop = false;
        bool retry = false;
    } mail_;
};

}  // namespace ashlar
