// GdbServer: gdb's remote protocol in front of the machine: `target remote`, registers, memory, breakpoints,
// watchpoints, steps. The harts are gdb's threads.
//
// Main context; the backend and the machine outlive it. The machine is stopped when gdb speaks to it first.
// Specification: "Debugging with GDB", appendix E; org.gnu.gdb.riscv.
#pragma once

#include "hw/character.h"
#include "hw/hart.h"
#include "tools/machine/gdb_packets.h"
#include "util/task_scope.h"

#include <functional>
#include <set>
#include <vector>

namespace ashlar {

class Machine;
class MachineControl;

class GdbServer : private CharacterDevice {
public:
    // `kill`: what gdb's kill does.
    GdbServer(Machine& machine, MachineControl& control, CharacterBackend& backend, std::function<void()> kill);
    ~GdbServer() override;

    // The machine has stopped, whoever wanted it: for the debugger, because of `hart`, if there is one.
    void stopped(std::optional<unsigned> hart);
    // It will not go on any more.
    void exited(int status);
    [[nodiscard]] Task<void> co_close();

private:
    static constexpr size_t kMaxMemory = GdbPacketParser::kMaxPacket / 2 - 8;  // at a time
    static constexpr size_t kMaxBreakpoints = 1024, kMaxWatchpoints = 64;

    // Who does not read answers is not listened to.
    size_t room() override { return busy_ || !output_.empty() ? 0 : 1; }
    void receive(std::span<const uint8_t> bytes) override;
    void ready_to_send() override;

    Task<void> co_handle(std::string packet);
    Task<void> co_interrupt();
    Task<void> co_resume(char how, std::string_view rest);
    Task<void> co_multi(std::string_view rest);
    Task<void> co_go_on(std::vector<HartPlan> plan);
    Task<void> co_detach();
    Task<void> co_leave();
    std::string query(std::string_view packet);
    std::string read_registers();
    std::string write_registers(std::string_view text);
    std::string read_register(std::string_view text);
    std::string write_register(std::string_view text);
    std::string read_memory(std::string_view text);
    std::string write_memory(std::string_view text, bool in_hex);
    std::string change_breakpoint(std::string_view text, bool set);
    std::string change_watchpoint(Hart::Watched watched, bool set);
    std::string choose_thread(std::string_view text);
    std::string stop_reply(unsigned signal) const;
    void remove_breakpoints();
    void finished();
    void reply(std::string_view payload);
    void flush();

    Machine& machine_;
    MachineControl& control_;
    CharacterBackend& backend_;
    const std::function<void()> kill_;
    GdbPacketParser parser_;
    std::string output_, last_;
    unsigned hart_ = 0;     // that registers and memory are of
    unsigned stepped_ = 0;  // that a step is of
    bool busy_ = false;     // with a packet
    bool awaited_ = false;  // gdb waits for the machine to stop
    // What happens when gdb has acknowledged the answer.
    enum class Then : uint8_t { Nothing, GoOn, End } then_ = Then::Nothing;
    std::set<uint64_t> breakpoints_;
    std::vector<Hart::Watched> watchpoints_;
    TaskScope scope_;
};

}  // namespace ashlar
