#include "hw/virtio_console.h"
#include "hw/virtio_rng.h"
#include "tests/unit/assert_text.h"
#include "tests/unit/virtio_driver.h"
#include "util/sync_wait.h"

#include <algorithm>
#include <set>
#include <string>

using namespace ashlar;

namespace {

using R = VirtioDriver;

// A terminal that shows so many bytes at a time, and whose user types.
struct Terminal : CharacterBackend {
    CharacterDevice* device = nullptr;
    std::string shown, typed;
    size_t limit = SIZE_MAX;
    bool wanted = false;  // the device has room again

    void connect(CharacterDevice* d) override { device = d; }
    size_t write(std::span<const uint8_t> bytes) override {
        const size_t taken = std::min(bytes.size(), limit);
        limit -= taken;
        shown.append(reinterpret_cast<const char*>(bytes.data()), taken);
        return taken;
    }
    void ready_to_receive() override { wanted = true; }
    void type() {
        while (!typed.empty()) {
            const size_t n = std::min(device->room(), typed.size());
            if (n == 0)
                return;
            device->receive({reinterpret_cast<const uint8_t*>(typed.data()), n});
            typed.erase(0, n);
        }
    }
};

template <class Device>
struct Fixture {
    std::unique_ptr<AioContext> context = std::move(*AioContext::create());
    std::unique_ptr<GuestRam> ram = make_guest_ram();
    Terminal terminal;
    LineProbe line;
    std::unique_ptr<Device> device;
    std::unique_ptr<VirtioMmio> mmio;
    std::unique_ptr<VirtioDriver> driver;

    Fixture() {
        device = std::make_unique<Device>(*ram, *context);
        if constexpr (std::is_same_v<Device, VirtioConsole>)
            device->attach(terminal);
        mmio = std::make_unique<VirtioMmio>(device.get(), InterruptLine(line, 7), false);
        driver = std::make_unique<VirtioDriver>(*ram, *mmio);
    }
    ~Fixture() { sync_wait(*context, device->co_close()); }

    void begin(unsigned queues, uint64_t unwanted = 0) {
        g_assert_true(driver->negotiate(unwanted));
        for (unsigned i = 0; i < queues; ++i)
            driver->add_queue(i);
        driver->ready();
        turn();
    }
    void turn() {
        while (context->poll(false)) {
        }
    }
    DriverQueue& queue(unsigned i) { return driver->queues.at(i); }
    std::string text(uint64_t address, size_t bytes) {
        return std::string(reinterpret_cast<const char*>(ram->at(address, bytes)), bytes);
    }
    void put(uint64_t address, std::string_view text) { memcpy(ram->at(address, 1), text.data(), text.size()); }
};

void test_what_the_guest_writes_is_shown() {
    Fixture<VirtioConsole> f;
    g_assert_cmpuint(f.driver->get(R::kDeviceId), ==, 3);
    f.begin(2);
    f.put(kGuestData, "hello, world\n");
    f.queue(1).add({{kGuestData, 5}, {kGuestData + 5, 8}});
    f.driver->kick(1);
    f.turn();
    assert_text(f.terminal.shown, "hello, world\n");
    g_assert_true(f.line.level && f.queue(1).take_used());
}

void test_a_slow_terminal_makes_the_guest_wait() {
    Fixture<VirtioConsole> f;
    f.begin(2);
    f.put(kGuestData, "hello, world\n");
    f.terminal.limit = 7;
    f.queue(1).add({{kGuestData, 5}, {kGuestData + 5, 8}});
    f.queue(1).add({{kGuestData, 1}});
    f.driver->kick(1);
    f.turn();
    assert_text(f.terminal.shown, "hello, ");
    g_assert_false(f.queue(1).has_used());
    f.terminal.limit = SIZE_MAX;
    f.terminal.device->ready_to_send();
    f.turn();
    assert_text(f.terminal.shown, "hello, world\nh");
    g_assert_true(f.queue(1).take_used() && f.queue(1).take_used());
}

void test_what_is_typed_reaches_the_guest() {
    for (uint64_t unwanted : {uint64_t{0}, uint64_t{kVirtioEventIndex}}) {
        Fixture<VirtioConsole> f;
        f.terminal.typed = "before";
        f.terminal.type();
        f.begin(2, unwanted);
        g_assert_true(f.terminal.wanted);
        f.terminal.type();  // in vain
        assert_text(f.terminal.typed, "before");
        f.terminal.wanted = false;
        f.queue(0).add({{kGuestData, 4, true}});
        f.driver->kick(0);
        f.turn();
        g_assert_true(f.terminal.wanted);
        f.terminal.type();
        f.turn();
        assert_text(f.terminal.typed, "re");
        g_assert_true(f.line.level);
        g_assert_cmpuint(f.queue(0).take_used()->bytes, ==, 4);
        assert_text(f.text(kGuestData, 4), "befo");
        f.driver->acknowledge();
        f.terminal.wanted = false;
        f.queue(0).add({{kGuestData, 1, true}, {kGuestData + 100, 100, true}});
        f.queue(0).add({{kGuestData + 200, 100, true}});
        f.driver->kick(0);
        f.turn();
        g_assert_true(f.terminal.wanted);
        f.terminal.type();
        f.terminal.typed = "more";
        f.terminal.type();
        f.turn();
        g_assert_cmpuint(f.queue(0).take_used()->bytes, ==, 2);
        assert_text(f.text(kGuestData, 1) + f.text(kGuestData + 100, 1), "re");
        g_assert_cmpuint(f.queue(0).take_used()->bytes, ==, 4);
        assert_text(f.text(kGuestData + 200, 4), "more");
    }
}

void test_a_reset_forgets_what_was_not_sent() {
    Fixture<VirtioConsole> f;
    f.begin(2);
    f.put(kGuestData, "abcdef");
    f.terminal.limit = 3;
    f.queue(1).add({{kGuestData, 6}});
    f.queue(0).add({{kGuestData, 4, true}});
    f.driver->kick(1);
    f.driver->kick(0);
    f.turn();
    g_assert_cmpuint(f.terminal.device->room(), ==, 4);
    f.driver->set(R::kStatus, 0);
    g_assert_cmpuint(f.driver->get(R::kStatus), ==, 0);
    g_assert_cmpuint(f.terminal.device->room(), ==, 0);
    f.terminal.limit = SIZE_MAX;
    f.terminal.device->ready_to_send();
    f.turn();
    assert_text(f.terminal.shown, "abc");
    f.begin(2);
    f.queue(1).add({{kGuestData, 6}});
    f.driver->kick(1);
    f.turn();
    assert_text(f.terminal.shown, "abcabcdef");
}

void test_a_buffer_that_cannot_be_filled_needs_a_reset() {
    Fixture<VirtioConsole> f;
    f.begin(2);
    f.queue(0).add({{kGuestData, 4}});
    f.driver->kick(0);
    f.turn();
    g_assert_cmpuint(f.terminal.device->room(), ==, 0);
    g_assert_true(f.driver->get(R::kStatus) & R::kNeedsReset);
}

void test_entropy_is_given() {
    Fixture<VirtioRng> f;
    g_assert_cmpuint(f.driver->get(R::kDeviceId), ==, 4);
    f.begin(1);
    std::set<std::string> seen;
    for (unsigned i = 0; i < 8; ++i) {
        f.queue(0).add({{kGuestData + 64 * i, 40, true}, {kGuestData + 64 * i + 40, 24, true}});
        f.driver->kick(0);
        f.turn();
        g_assert_cmpuint(f.queue(0).take_used()->bytes, ==, 64);
        seen.insert(f.text(kGuestData + 64 * i, 64));
    }
    g_assert_cmpuint(seen.size(), ==, 8);
    f.queue(0).add({{kGuestData, 1 << 20, true}});
    f.driver->kick(0);
    f.turn();
    const uint32_t given = f.queue(0).take_used()->bytes;
    g_assert_cmpuint(given, >, 0);
    g_assert_cmpuint(given, <=, 1 << 20);
    f.queue(0).add({{kGuestData, 8}});
    f.driver->kick(0);
    f.turn();
    g_assert_true(f.driver->get(R::kStatus) & R::kNeedsReset);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/virtio-console/what-the-guest-writes-is-shown", test_what_the_guest_writes_is_shown);
    g_test_add_func("/virtio-console/a-slow-terminal-makes-the-guest-wait", test_a_slow_terminal_makes_the_guest_wait);
    g_test_add_func("/virtio-console/what-is-typed-reaches-the-guest", test_what_is_typed_reaches_the_guest);
    g_test_add_func("/virtio-console/a-reset-forgets-what-was-not-sent", test_a_reset_forgets_what_was_not_sent);
    g_test_add_func("/virtio-console/a-buffer-that-cannot-be-filled-needs-a-reset",
                    test_a_buffer_that_cannot_be_filled_needs_a_reset);
    g_test_add_func("/virtio-rng/entropy-is-given", test_entropy_is_given);
    return g_test_run();
}
