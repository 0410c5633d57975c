#include "hw/bus.h"
#include "hw/machine_clock.h"

#include <glib.h>

#include <array>

using namespace ashlar;

namespace {

constexpr uint64_t kBase = 0x80000000, kBytes = 1 << 20;

std::unique_ptr<GuestRam> make_ram() {
    auto ram = GuestRam::create(kBase, kBytes);
    g_assert_true(ram.has_value());
    return std::move(*ram);
}

// Remembers what it was asked for.
struct Recorder : MmioDevice {
    uint64_t offset = 0, value = 0;
    unsigned size = 0;
    uint64_t read(uint64_t o, unsigned s) override {
        offset = o, size = s;
        return 0x1234;
    }
    void write(uint64_t o, unsigned s, uint64_t v) override { offset = o, size = s, value = v; }
};

void test_ram_is_bounded_for_any_numbers() {
    auto ram = make_ram();
    g_assert_true(ram->at(kBase, kBytes) == ram->all().data());
    g_assert_true(ram->at(kBase + kBytes - 1, 1) == ram->all().data() + kBytes - 1);
    g_assert_null(ram->at(kBase, kBytes + 1));
    g_assert_null(ram->at(kBase + kBytes - 1, 2));
    g_assert_null(ram->at(kBase - 1, 1));
    g_assert_null(ram->at(kBase + kBytes, 0));
    g_assert_null(ram->at(kBase + 8, UINT64_MAX));
    g_assert_null(ram->at(UINT64_MAX, 2));
    g_assert_null(ram->at(0, UINT64_MAX));
}

void test_ram_can_be_cleared() {
    auto ram = make_ram();
    ram->all()[5000] = 7;
    ram->clear();
    g_assert_cmpuint(ram->all()[5000], ==, 0);
}

void test_memory_is_little_endian() {
    auto ram = make_ram();
    Bus bus(*ram);
    g_assert_true(bus.write(kBase + 8, 4, 0x11223344));
    uint64_t value = UINT64_MAX;
    g_assert_true(bus.read(kBase + 8, 1, value));
    g_assert_cmphex(value, ==, 0x44);
    g_assert_true(bus.read(kBase + 8, 8, value));
    g_assert_cmphex(value, ==, 0x11223344);
}

void test_a_device_is_asked_for_its_range_and_sizes_only() {
    auto ram = make_ram();
    Bus bus(*ram);
    Recorder device;
    bus.map("device", 0x1000, 0x100, device, {.min = 4, .max = 4});
    uint64_t value;
    g_assert_true(bus.read(0x10fc, 4, value));
    g_assert_cmphex(value, ==, 0x1234);
    g_assert_cmphex(device.offset, ==, 0xfc);
    g_assert_true(bus.write(0x1004, 4, 99));
    g_assert_cmpuint(device.value, ==, 99);
    g_assert_false(bus.read(0x1000, 8, value));
    g_assert_false(bus.write(0x1000, 1, 0));
    g_assert_false(bus.read(0x1100, 4, value));
    g_assert_false(bus.read(0xffc, 4, value));
    g_assert_null(bus.memory(0x1000, 4));
}

void test_rom_is_read_and_fetched_but_not_written() {
    auto ram = make_ram();
    Bus bus(*ram);
    const std::array<uint8_t, 8> rom{1, 2, 3, 4, 5, 6, 7, 8};
    bus.map_rom("rom", 0x1000, rom);
    uint64_t value;
    g_assert_true(bus.read(0x1004, 4, value));
    g_assert_cmphex(value, ==, 0x08070605);
    g_assert_false(bus.write(0x1000, 4, 0));
    g_assert_true(bus.memory(0x1002, 6) == rom.data() + 2);
    g_assert_null(bus.memory(0x1002, 7));
}

void test_the_clock_stands_while_stopped() {
    MachineClock clock;
    g_assert_cmpuint(clock.now(), ==, 0);
    clock.go_on();
    while (clock.now() == 0)
        g_thread_yield();
    clock.stop();
    const uint64_t then = clock.now();
    g_usleep(1000);
    g_assert_cmpuint(clock.now(), ==, then);
    clock.go_on();
    g_assert_cmpuint(clock.now(), >=, then);
    g_assert_cmpuint(clock.now(), <, then + 3600 * MachineClock::kHertz);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hw-bus/ram-is-bounded-for-any-numbers", test_ram_is_bounded_for_any_numbers);
    g_test_add_func("/hw-bus/ram-can-be-cleared", test_ram_can_be_cleared);
    g_test_add_func("/hw-bus/memory-is-little-endian", test_memory_is_little_endian);
    g_test_add_func("/hw-bus/a-device-is-asked-for-its-range-and-sizes-only",
                    test_a_device_is_asked_for_its_range_and_sizes_only);
    g_test_add_func("/hw-bus/rom-is-read-and-fetched-but-not-written", test_rom_is_read_and_fetched_but_not_written);
    g_test_add_func("/hw-bus/the-clock-stands-while-stopped", test_the_clock_stands_while_stopped);
    return g_test_run();
}
