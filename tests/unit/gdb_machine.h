// GdbMachine: a small machine with a GdbServer in front of it, whose other end is the test.
#pragma once

#include "hw/hart.h"
#include "hw/machine.h"
#include "monitor/machine_control.h"
#include "tools/machine/gdb_server.h"
#include "util/sync_wait.h"

#include <cassert>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace ashlar {

inline constexpr uint64_t kGdbRam = 0x80000000, kGdbRamBytes = 4 << 20;

class GdbMachine : public MachineControl, private Machine::Listener, private CharacterBackend {
public:
    explicit GdbMachine(unsigned harts = 1, AioContext::EngineKind engine = AioContext::EngineKind::Auto)
        : context(std::move(AioContext::create(engine).value())),
          machine(std::move(
              Machine::create(*context, {.ram_bytes = kGdbRamBytes, .harts = harts, .bios = "none"}, *this).value())) {
        if (!machine->start())
            abort();
        connect_gdb();
    }
    ~GdbMachine() override {
        settle();
        closed = true;
        sync_wait(*context, machine->co_close());
        close_gdb();
    }

    void connect_gdb() {
        server = std::unique_ptr<GdbServer>(new GdbServer(*machine, *this, *this, [this] { killed = true; }));
    }
    void close_gdb() {
        settle();
        sync_wait(*context, scope.join());
        sync_wait(*context, server->co_close());
        server.reset();
    }

    void put(uint64_t address, std::initializer_list<uint32_t> words) {
        for (uint32_t word : words) {
            memcpy(machine->ram().at(address, 4), &word, 4);
            address += 4;
        }
    }

    // The bytes of gdb, as they are.
    void feed(std::string_view bytes) {
        for (char byte : bytes) {
            while (!device->room())
                context->poll(true);
            device->receive({reinterpret_cast<const uint8_t*>(&byte), 1});
        }
    }
    // Until the packets that were fed are done with; the machine may run then.
    void settle() {
        while (!device->room())
            context->poll(true);
    }
    // What it sends next, without the framing and after acknowledgements.
    std::string receive() {
        GdbPacketParser parser;
        for (;;) {
            for (size_t i = 0; i < output.size(); ++i)
                if (parser.take(static_cast<uint8_t>(output[i])) == GdbPacketParser::Event::Packet) {
                    output.erase(0, i + 1);
                    return parser.packet();
                }
            parser = {};
            context->poll(true);
        }
    }
    void send(std::string_view packet) { feed(gdb_frame(packet)); }
    std::string ask(std::string_view packet) {
        send(packet);
        return receive();
    }
    // A packet without a reply of its own.
    void go(std::string_view packet) {
        send(packet);
        settle();
    }

    std::unique_ptr<AioContext> context;
    std::unique_ptr<Machine> machine;
    std::unique_ptr<GdbServer> server;
    CharacterDevice* device = nullptr;
    std::string output;
    bool takes_output = true, killed = false, refuses = false, closed = false;
    RunState state = RunState::Prelaunch;
    TaskScope scope;

    // --- MachineControl
    RunState run_state() const override { return state; }
    Task<Result<void>> co_stop() override { return co_stop_because({}); }
    Task<Result<void>> co_cont() override {
        if (refuses)
            co_return fail("it does not want to");
        state = RunState::Running;
        co_await machine->co_go_on();
        co_return Result<void>();
    }

private:
    Task<Result<void>> co_stop_because(std::optional<unsigned> hart) {
        state = hart ? RunState::Debug : RunState::Paused;
        co_await machine->co_stop();
        server->stopped(hart);
        co_return Result<void>();
    }
    Task<void> co_debug(unsigned hart) { (void)co_await co_stop_because(hart); }

    Task<Result<void>> co_reset() override { co_return fail("not here"); }
    void power_down() override {}
    std::vector<Cpu> cpus() const override { return {}; }
    std::vector<Disk> disks() const override { return {}; }
    Task<Result<void>> co_add_device(JsonBox) override { co_return fail("not here"); }
    Task<Result<void>> co_remove_device(std::string) override { co_return fail("not here"); }
    Result<std::vector<Property>> device_properties(std::string_view) const override { return fail("not here"); }
    std::vector<std::string> device_types() const override { return {}; }

    // --- Machine::Listener
    void guest_finished(int) override {}
    void guest_asked_for_reset() override {}
    void debugger_wanted(unsigned hart) override {
        if (!closed)
            scope.spawn(co_debug(hart));
    }

    // --- CharacterBackend
    void connect(CharacterDevice* to) override { device = to; }
    size_t write(std::span<const uint8_t> bytes) override {
        if (!takes_output)
            return 0;
        output.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return bytes.size();
    }
    void ready_to_receive() override {}
};

}  // namespace ashlar
