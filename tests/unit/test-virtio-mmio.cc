#include "tests/unit/virtio_driver.h"
#include "util/io_thread.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

#include <numeric>
#include <thread>

using namespace ashlar;

namespace {

using R = VirtioDriver;

// A device that keeps what it takes until it is told to give it back, and whose configuration is a counter.
class KeepingDevice : public VirtioDevice {
public:
    KeepingDevice(const GuestRam& ram, AioContext& context, bool keeps = true)
        : VirtioDevice("test", 42, ram, context, 3, 16), keeps_(keeps) {}

    uint64_t features() const override { return 0x5 | kVirtioIndirect | kVirtioEventIndex; }
    void read_config(uint64_t offset, std::span<uint8_t> bytes) const override {
        for (uint8_t& byte : bytes)
            byte = offset < 8 ? static_cast<uint8_t>(config >> (8 * offset)) : 0, ++offset;
    }
    void write_config(uint64_t offset, std::span<const uint8_t> bytes) override {
        for (uint8_t byte : bytes)
            if (offset < 8) {
                config = (config & ~(uint64_t{0xff} << (8 * offset))) | uint64_t{byte} << (8 * offset);
                ++offset;
            }
    }
    void negotiated(uint64_t f) override { agreed = f; }

    size_t kept() {
        std::lock_guard guard(lock_);
        return kept_.size();
    }
    // In the context.
    void finish_all() { settle_soon(); }
    void change(uint64_t value) {
        transport().change_config([&] { config = value; });
    }
    void look(unsigned queue) { look_again(queue); }

    uint64_t config = 0, agreed = 0;
    std::atomic<unsigned> taken_chains{0}, starts{0}, forgotten{0};

private:
    struct Kept {
        unsigned queue;
        uint16_t head;
    };

    bool handle_queue(unsigned index) override {
        while (take(index, chain_)) {
            ++taken_chains;
            begin_request();
            kept_.push_back({index, chain_.head});
        }
        if (!keeps_ && !kept_.empty())
            settle_soon();
        return true;
    }
    void started() override { ++starts; }
    void forget() override { ++forgotten; }
    void settle() override {
        for (const Kept& kept : kept_) {
            end_request();
            if (!is_resetting())
                give_back(kept.queue, kept.head, 1);
        }
        kept_.clear();
        if (!is_resetting())
            for (unsigned i = 0; i < queue_count(); ++i)
                if (queue(i).is_set_up())
                    publish(i);
    }

    const bool keeps_;
    VirtqueueChain chain_;
    std::vector<Kept> kept_;
};

struct Fixture {
    std::unique_ptr<AioContext> context;
    std::unique_ptr<GuestRam> ram = make_guest_ram();
    LineProbe line;
    std::unique_ptr<KeepingDevice> device;
    std::unique_ptr<VirtioMmio> mmio;
    std::unique_ptr<VirtioDriver> driver;

    explicit Fixture(bool legacy = false, AioContext* other = nullptr, bool keeps = true) {
        context = std::move(*AioContext::create());
        device = std::make_unique<KeepingDevice>(*ram, other ? *other : *context, keeps);
        mmio = std::make_unique<VirtioMmio>(device.get(), InterruptLine(line, 7), legacy);
        driver = std::make_unique<VirtioDriver>(*ram, *mmio);
    }
    ~Fixture() { sync_wait(*context, device->co_close()); }

    void turn() {
        while (context->poll(false)) {
        }
    }
    template <class Condition>
    void wait(Condition condition) {
        while (!condition()) {
            context->poll(false);
            g_thread_yield();
        }
    }
    DriverQueue& begin() {
        g_assert_true(driver->negotiate());
        DriverQueue& queue = driver->add_queue(0);
        driver->ready();
        turn();
        return queue;
    }
    DriverQueue& begin_with_a_request() {
        DriverQueue& queue = begin();
        queue.add({{kGuestData, 16}});
        driver->kick(0);
        turn();
        return queue;
    }
};

void test_an_empty_slot_has_device_id_0() {
    VirtioMmio empty(nullptr, {}, false);
    g_assert_cmphex(empty.read(0, 4), ==, 0x74726976);
    g_assert_cmpuint(empty.read(4, 4), ==, 2);
    g_assert_cmpuint(empty.read(8, 4), ==, 0);
    g_assert_cmphex(empty.read(0xc, 4), ==, 0x554d4551);
    for (uint64_t offset = 0x10; offset < VirtioMmio::kBytes; offset += 4) {
        empty.write(offset, 4, UINT32_MAX);
        g_assert_cmphex(empty.read(offset, 4), ==, 0);
    }
    VirtioMmio legacy(nullptr, {}, true);
    g_assert_cmpuint(legacy.read(4, 4), ==, 1);
}

void test_features_are_negotiated() {
    Fixture f;
    g_assert_cmpuint(f.driver->get(R::kDeviceId), ==, 42);
    g_assert_cmphex(f.driver->offered(), ==, 0x5 | kVirtioIndirect | kVirtioEventIndex | kVirtioVersion1);
    f.driver->set(R::kDeviceFeaturesSelect, 2);
    g_assert_cmphex(f.driver->get(R::kDeviceFeatures), ==, 0);
    g_assert_true(f.driver->negotiate(kVirtioIndirect));
    g_assert_cmphex(f.device->agreed, ==, 0x5 | kVirtioEventIndex | kVirtioVersion1);
    // They are settled then.
    f.driver->set(R::kDriverFeaturesSelect, 0);
    f.driver->set(R::kDriverFeatures, 0);
    g_assert_cmphex(f.device->agreed, ==, 0x5 | kVirtioEventIndex | kVirtioVersion1);
}

void test_features_that_are_not_offered_are_refused() {
    Fixture f;
    g_assert_false(f.driver->negotiate(kVirtioVersion1));
    f.driver->set(R::kStatus, 0);
    f.driver->set(R::kDriverFeaturesSelect, 1);
    f.driver->set(R::kDriverFeatures, 1);
    f.driver->set(R::kDriverFeaturesSelect, 0);
    f.driver->set(R::kDriverFeatures, 2);
    f.driver->set(R::kStatus, 0xb);
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0x3);
    f.driver->ready();
    f.turn();
    g_assert_cmpuint(f.device->starts, ==, 0);
}

void test_a_request_is_taken_and_answered_with_an_interrupt() {
    for (bool legacy : {false, true}) {
        Fixture f(legacy);
        DriverQueue& queue = f.begin();
        queue.add({{kGuestData, 16}, {kGuestData, 1, true}});
        queue.add({{kGuestData, 16}, {kGuestData, 1, true}});
        f.driver->kick(0);
        f.turn();
        g_assert_cmpuint(f.device->kept(), ==, 2);
        g_assert_false(f.line.level);
        f.device->finish_all();
        f.turn();
        g_assert_true(f.line.level);
        g_assert_cmpuint(f.line.raised, ==, 1);
        g_assert_cmpuint(f.driver->acknowledge(), ==, 1);
        g_assert_false(f.line.level);
        g_assert_true(queue.take_used() && queue.take_used() && !queue.take_used());
    }
}

void test_the_version_1_has_its_own_registers() {
    Fixture f(true);
    g_assert_cmpuint(f.driver->get(R::kVersion), ==, 1);
    g_assert_cmphex(f.driver->offered() >> 32, ==, 0);
    f.begin();
    f.driver->set(R::kQueueSelect, 0);
    g_assert_cmpuint(f.driver->get(R::kQueuePage), ==, VirtioDriver::queue_base(0) / kGuestPage);
    g_assert_cmpuint(f.driver->get(R::kQueueReady), ==, 0);
    g_assert_cmpuint(f.driver->get(R::kQueueSizeMax), ==, 16);
    f.driver->set(R::kQueueSelect, 3);
    g_assert_cmpuint(f.driver->get(R::kQueueSizeMax), ==, 0);
    f.driver->set(R::kStatus, 0);
    f.driver->set(R::kQueueSelect, 0);
    g_assert_cmpuint(f.driver->get(R::kQueuePage), ==, 0);
}

void test_nothing_is_taken_before_the_driver_is_ready() {
    Fixture f;
    g_assert_true(f.driver->negotiate());
    DriverQueue& queue = f.driver->add_queue(1);
    queue.add({{kGuestData, 16}});
    f.driver->set(R::kNotify, 1);
    f.driver->set(R::kNotify, 99);
    f.turn();
    g_assert_cmpuint(f.device->kept(), ==, 0);
    // What was made available before is taken then, without another notification.
    f.driver->ready();
    f.turn();
    g_assert_cmpuint(f.device->kept(), ==, 1);
    f.device->finish_all();
}

void test_configuration_is_read_by_bytes_and_words() {
    Fixture f;
    f.device->config = 0x8877665544332211;
    g_assert_cmphex(f.driver->get(R::kConfig), ==, 0x44332211);
    g_assert_cmphex(f.driver->get(R::kConfig + 4), ==, 0x88776655);
    g_assert_cmphex(f.driver->get(R::kConfig + 2, 2), ==, 0x4433);
    g_assert_cmphex(f.driver->get(R::kConfig + 7, 1), ==, 0x88);
    g_assert_cmphex(f.mmio->read(R::kConfig, 8), ==, 0x8877665544332211);
    f.driver->set(R::kConfig + 1, 0xab, 1);
    g_assert_cmphex(f.device->config, ==, 0x887766554433ab11);
    f.mmio->write(R::kConfig, 8, 5);
    g_assert_cmphex(f.device->config, ==, 5);
    g_assert_cmphex(f.driver->get(VirtioMmio::kBytes - 4), ==, 0);
}

void test_registers_are_words() {
    Fixture f;
    g_assert_cmphex(f.driver->get(R::kMagic, 1), ==, 0);
    f.driver->set(R::kStatus, 1, 1);
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0);
    // No shared memory.
    g_assert_cmphex(f.driver->get(0xb0), ==, UINT32_MAX);
}

void test_a_change_of_the_configuration_interrupts() {
    Fixture f;
    const uint32_t before = f.driver->get(R::kGeneration);
    f.device->change(7);  // nobody is there to be told
    g_assert_false(f.line.level);
    g_assert_cmpuint(f.driver->get(R::kGeneration), !=, before);
    f.begin();
    f.device->change(8);
    g_assert_true(f.line.level);
    g_assert_cmpuint(f.driver->acknowledge(), ==, 2);
    g_assert_false(f.line.level);
}

void test_a_broken_driver_has_to_reset() {
    for (bool legacy : {false, true}) {
        Fixture f(legacy);
        DriverQueue& queue = f.begin_with_a_request();
        queue.set_available_index(12345);
        f.driver->set(R::kNotify, 0);
        f.turn();
        g_assert_cmphex(f.driver->get(R::kStatus) & R::kNeedsReset, ==, legacy ? 0 : 64);
        g_assert_true(f.line.level == !legacy);
        g_assert_cmpuint(f.driver->acknowledge(), ==, legacy ? 0 : 2);
        // What was under way is not shown any more.
        f.device->finish_all();
        f.turn();
        g_assert_false(queue.has_used());
        g_assert_false(f.line.level);
        // After a reset all is well.
        f.driver->set(R::kStatus, 0);
        g_assert_cmphex(f.driver->get(R::kStatus), ==, 0);
        DriverQueue& anew = f.begin();
        anew.add({{kGuestData, 16}});
        f.driver->kick(0);
        f.turn();
        f.device->finish_all();
        f.turn();
        g_assert_true(anew.has_used());
    }
}

void test_a_bad_layout_needs_a_reset() {
    Fixture f;
    g_assert_true(f.driver->negotiate());
    f.driver->place(2, {16, 0x1000, 0x2000, 0x3000});
    f.driver->ready();
    f.turn();
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0xf | R::kNeedsReset);
    // Larger than offered.
    f.driver->set(R::kStatus, 0);
    g_assert_true(f.driver->negotiate());
    f.driver->place(0, {32, kGuestBase, kGuestBase + 0x1000, kGuestBase + 0x2000});
    f.driver->ready();
    f.turn();
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0xf | R::kNeedsReset);
}

void test_an_idle_device_is_reset_at_once() {
    Fixture f;
    DriverQueue& queue = f.begin_with_a_request();
    f.device->finish_all();
    f.turn();
    g_assert_true(f.line.level);
    f.driver->set(R::kStatus, 0);
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0);
    g_assert_cmphex(f.driver->get(R::kInterruptStatus), ==, 0);
    g_assert_false(f.line.level);
    g_assert_cmpuint(f.device->forgotten, ==, 1);
    f.driver->set(R::kNotify, 0);
    f.turn();
    g_assert_cmpuint(f.device->kept(), ==, 0);
}

void test_a_reset_waits_for_requests() {
    Fixture f;
    DriverQueue& queue = f.begin_with_a_request();
    f.driver->set(R::kStatus, 0);
    f.turn();
    g_assert_cmphex(f.driver->get(R::kStatus), !=, 0);
    g_assert_cmpuint(f.device->forgotten, ==, 0);
    queue.add({{kGuestData, 16}});
    f.driver->set(R::kNotify, 0);
    f.turn();
    g_assert_cmpuint(f.device->kept(), ==, 1);  // nothing is begun any more
    f.device->finish_all();
    f.turn();
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0);
    g_assert_false(queue.has_used());
    g_assert_false(f.line.level);
    g_assert_cmpuint(f.device->forgotten, ==, 1);
}

void test_a_driver_that_does_not_wait_for_the_reset_gets_its_device() {
    Fixture f;
    DriverQueue& queue = f.begin_with_a_request();
    f.driver->set(R::kStatus, 0);
    // As drivers do: what is read is what is written again, with a bit more.
    f.driver->set(R::kStatus, f.driver->get(R::kStatus) | R::kAcknowledge);
    g_assert_true(f.driver->negotiate());
    DriverQueue& anew = f.driver->add_queue(0);
    f.driver->ready();
    anew.add({{kGuestData, 16}});
    f.driver->kick(0);
    f.turn();
    g_assert_cmpuint(f.device->starts, ==, 1);
    f.device->finish_all();
    f.turn();
    g_assert_cmpuint(f.device->starts, ==, 2);
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0xf);
    g_assert_false(anew.has_used());
    g_assert_cmpuint(f.device->kept(), ==, 1);
    f.device->finish_all();
    f.turn();
    g_assert_true(anew.has_used());
}

void test_the_machine_resets_it() {
    Fixture f;
    DriverQueue& queue = f.begin_with_a_request();
    TaskScope scope;
    scope.spawn(f.mmio->co_reset());
    f.turn();
    g_assert_cmpuint(scope.running(), ==, 1);
    f.device->finish_all();
    sync_wait(*f.context, scope.join());
    g_assert_cmphex(f.driver->get(R::kStatus), ==, 0);
    g_assert_cmpuint(f.device->forgotten, ==, 1);
}

void test_a_stopped_device_begins_nothing() {
    Fixture f;
    DriverQueue& queue = f.begin_with_a_request();
    TaskScope scope;
    scope.spawn(f.device->co_stop());
    f.turn();
    g_assert_cmpuint(scope.running(), ==, 1);  // it waits for what is under way
    f.device->finish_all();
    sync_wait(*f.context, scope.join());
    g_assert_true(queue.take_used().has_value());
    queue.add({{kGuestData, 16}});
    f.driver->set(R::kNotify, 0);
    f.turn();
    g_assert_cmpuint(f.device->kept(), ==, 0);
    f.device->go_on();
    f.turn();
    g_assert_cmpuint(f.device->kept(), ==, 1);
    f.device->finish_all();
    f.turn();
}

void test_a_machine_that_stops_again_at_once_stays_stopped() {
    Fixture f;
    DriverQueue& queue = f.begin();
    sync_wait(*f.context, f.device->co_stop());
    queue.add({{kGuestData, 16}});
    f.device->go_on();
    TaskScope scope;
    scope.spawn(f.device->co_stop());
    f.device->finish_all();
    f.turn();
    f.device->finish_all();
    sync_wait(*f.context, scope.join());
    const unsigned taken = f.device->taken_chains;
    queue.add({{kGuestData, 16}});
    f.driver->set(R::kNotify, 0);
    f.turn();
    g_assert_cmpuint(f.device->taken_chains, ==, taken);
}

// Requests from this thread, work in an IOThread, resets, stops and broken queues in between.
void test_two_threads() {
    auto iothread = std::move(*IOThread::create("io"));
    const unsigned rounds = 40;
    {
        Fixture f(false, &iothread->context(), false);
        GRand* random = g_rand_new_with_seed(g_test_rand_int());
        for (unsigned round = 0; round < rounds; ++round) {
            g_assert_true(f.driver->negotiate(round & 1 ? kVirtioEventIndex : 0));
            DriverQueue& queue = f.driver->add_queue(0);
            f.driver->ready();
            const int requests = g_rand_int_range(random, 0, 100);
            int made = 0, answered = 0;
            while (answered < requests) {
                while (made < requests && queue.has_room(2) && g_rand_int_range(random, 0, 4)) {
                    queue.add({{kGuestData, 16}, {kGuestData + 64, 1, true}});
                    ++made;
                    f.driver->kick(0);
                }
                if (g_rand_int_range(random, 0, 50) == 0) {
                    sync_wait(*f.context, f.device->co_stop());
                    g_assert_cmpuint(f.device->kept(), ==, 0);
                    f.device->go_on();
                }
                f.driver->acknowledge();
                while (queue.take_used())
                    ++answered;
                if (made == answered || !queue.has_room(2))
                    g_thread_yield();
            }
            if (round % 5 == 0) {
                queue.add({{kGuestData, 16}});
                f.driver->kick(0);
            } else if (round % 7 == 0) {
                queue.set_available_index(40000);
                f.driver->set(R::kNotify, 0);
            }
            f.driver->set(R::kStatus, 0);
            f.wait([&] { return f.driver->get(R::kStatus) == 0; });
            // One that was begun before the reset may still have told.
            f.driver->acknowledge();
        }
        g_assert_cmpuint(f.device->starts, >, 0);  // a reset may come before the device has looked
        g_rand_free(random);
    }
}

void test_an_interrupt_is_not_lost_when_it_is_acknowledged_meanwhile() {
    auto iothread = std::move(*IOThread::create("io"));
    Fixture f(false, &iothread->context(), false);
    g_assert_true(f.driver->negotiate(kVirtioEventIndex));
    DriverQueue& queue = f.driver->add_queue(0);
    f.driver->ready();
    // A handler acknowledges first and then looks at the ring: as long as the line is low, nothing is there to be seen
    // that was not announced.
    for (unsigned i = 0; i < 300; ++i) {
        if (queue.has_room(1)) {
            queue.add({{kGuestData, 16}});
            f.driver->kick(0);
        }
        f.wait([&] { return f.line.level.load(); });
        g_assert_cmpuint(f.driver->acknowledge(), ==, 1);
        while (queue.take_used()) {
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/virtio-mmio/an-empty-slot-has-device-id-0", test_an_empty_slot_has_device_id_0);
    g_test_add_func("/virtio-mmio/features-are-negotiated", test_features_are_negotiated);
    g_test_add_func("/virtio-mmio/features-that-are-not-offered-are-refused",
                    test_features_that_are_not_offered_are_refused);
    g_test_add_func("/virtio-mmio/a-request-is-taken-and-answered-with-an-interrupt",
                    test_a_request_is_taken_and_answered_with_an_interrupt);
    g_test_add_func("/virtio-mmio/the-version-1-has-its-own-registers", test_the_version_1_has_its_own_registers);
    g_test_add_func("/virtio-mmio/nothing-is-taken-before-the-driver-is-ready",
                    test_nothing_is_taken_before_the_driver_is_ready);
    g_test_add_func("/virtio-mmio/configuration-is-read-by-bytes-and-words",
                    test_configuration_is_read_by_bytes_and_words);
    g_test_add_func("/virtio-mmio/registers-are-words", test_registers_are_words);
    g_test_add_func("/virtio-mmio/a-change-of-the-configuration-interrupts",
                    test_a_change_of_the_configuration_interrupts);
    g_test_add_func("/virtio-mmio/a-broken-driver-has-to-reset", test_a_broken_driver_has_to_reset);
    g_test_add_func("/virtio-mmio/a-bad-layout-needs-a-reset", test_a_bad_layout_needs_a_reset);
    g_test_add_func("/virtio-mmio/an-idle-device-is-reset-at-once", test_an_idle_device_is_reset_at_once);
    g_test_add_func("/virtio-mmio/a-reset-waits-for-requests", test_a_reset_waits_for_requests);
    g_test_add_func("/virtio-mmio/a-driver-that-does-not-wait-for-the-reset-gets-its-device",
                    test_a_driver_that_does_not_wait_for_the_reset_gets_its_device);
    g_test_add_func("/virtio-mmio/the-machine-resets-it", test_the_machine_resets_it);
    g_test_add_func("/virtio-mmio/a-stopped-device-begins-nothing", test_a_stopped_device_begins_nothing);
    g_test_add_func("/virtio-mmio/a-machine-that-stops-again-at-once-stays-stopped",
                    test_a_machine_that_stops_again_at_once_stays_stopped);
    g_test_add_func("/virtio-mmio/two-threads", test_two_threads);
    g_test_add_func("/virtio-mmio/an-interrupt-is-not-lost-when-it-is-acknowledged-meanwhile",
                    test_an_interrupt_is_not_lost_when_it_is_acknowledged_meanwhile);
    return g_test_run();
}
