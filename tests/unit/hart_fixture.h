// HartFixture: a hart with RAM at 0x80000000 and nothing else, and its program.
#pragma once

#include "hw/guest_ram.h"
#include "hw/hart.h"
#include "tests/unit/riscv_asm.h"

#include <glib.h>

#include <cstring>
#include <initializer_list>
#include <string>

namespace ashlar {

inline constexpr uint64_t kRamBase = 0x80000000, kRamBytes = 16 << 20;
// Where start() has M-mode's traps go: an instruction that jumps to itself.
inline constexpr uint64_t kTrapHandler = kRamBase + 0x8000;

struct HartFixture {
    explicit HartFixture(const HartFeatures& features = {}) : hart(bus, clock, 0, features) { clock.go_on(); }

    void put(uint64_t address, std::initializer_list<uint32_t> words) {
        for (uint32_t word : words) {
            put32(address, word);
            address += 4;
        }
    }
    void put16(uint64_t address, uint16_t value) { memcpy(ram->at(address, 2), &value, 2); }
    void put32(uint64_t address, uint32_t value) { memcpy(ram->at(address, 4), &value, 4); }
    void put64(uint64_t address, uint64_t value) { memcpy(ram->at(address, 8), &value, 8); }
    uint64_t get64(uint64_t address) const {
        uint64_t value;
        memcpy(&value, ram->at(address, 8), 8);
        return value;
    }

    // At the start of RAM, in M-mode, with a handler for traps.
    void start(std::initializer_list<uint32_t> program) {
        put(kRamBase, program);
        put(kTrapHandler, {riscv::jal(riscv::zero, 0)});
        hart.reset(kRamBase);
        set_csr(0x305, kTrapHandler);
    }
    void step(unsigned count = 1) {
        for (unsigned i = 0; i < count; ++i)
            g_assert_true(hart.run(1) == Hart::Stop::Budget);
    }

    // To a privilege (0: user, 1: supervisor, 3: machine), by way of MRET.
    void enter(uint64_t privilege, uint64_t address) {
        g_assert_true(hart.write_register(4161, 3));
        put(kTrapHandler + 16, {riscv::mret});
        set_pc(kTrapHandler + 16);
        set_csr(0x300, (csr(0x300) & ~(3ull << 11)) | privilege << 11);
        set_csr(0x341, address);
        step();
        g_assert_cmphex(pc(), ==, address);
    }
    // Everything is allowed to S- and U-mode.
    void open_pmp() {
        set_csr(0x3b0, ~0ull);
        set_csr(0x3a0, 0x1f);
    }

    uint64_t x(unsigned number) const { return get(number); }
    void set_x(unsigned number, uint64_t value) { g_assert_true(hart.write_register(number, value)); }
    uint64_t pc() const { return get(32); }
    void set_pc(uint64_t value) { g_assert_true(hart.write_register(32, value)); }
    uint64_t f(unsigned number) const { return get(33 + number); }
    void set_f(unsigned number, uint64_t value) { g_assert_true(hart.write_register(33 + number, value)); }
    uint64_t csr(unsigned number) const { return get(65 + number); }
    void set_csr(unsigned number, uint64_t value) { g_assert_true(hart.write_register(65 + number, value)); }
    uint64_t get(unsigned number) const {
        uint64_t value;
        g_assert_true(hart.read_register(number, value));
        return value;
    }

    // It has trapped into M-mode, for this.
    void assert_trap(uint64_t cause, uint64_t epc, uint64_t tval) const {
        g_assert_cmphex(pc(), ==, kTrapHandler);
        g_assert_cmphex(csr(0x342), ==, cause);
        g_assert_cmphex(csr(0x341), ==, epc);
        g_assert_cmphex(csr(0x343), ==, tval);
    }

    std::unique_ptr<GuestRam> ram = std::move(GuestRam::create(kRamBase, kRamBytes).value());
    Bus bus{*ram};
    MachineClock clock;
    Hart hart;
};

}  // namespace ashlar
