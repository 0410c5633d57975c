#include "tools/machine/human_monitor.h"

#include "monitor/daemon.h"
#include "monitor/version.h"

namespace ashlar {

namespace {

constexpr std::string_view kHelp =
    "cont           let the machine go on\n"
    "help           this list\n"
    "info status    whether the machine runs\n"
    "quit           end the program\n"
    "stop           stop the machine\n"
    "system_reset   reset the machine\n";

constexpr size_t kMaxLine = 1024;

}  // namespace

HumanMonitor::HumanMonitor(Daemon& daemon, CharacterBackend& backend) : daemon_(daemon), backend_(backend) {
    backend_.connect(this);
}

HumanMonitor::~HumanMonitor() {
    backend_.connect(nullptr);
}

Task<void> HumanMonitor::co_close() {
    backend_.connect(nullptr);
    co_await scope_.join();
}

void HumanMonitor::receive(std::span<const uint8_t> bytes) {
    for (uint8_t byte : bytes) {
        switch (byte) {
            case '\r':
            case '\n':
                print("\n");
                busy_ = true;
                scope_.spawn(co_execute(std::exchange(line_, {})));
                break;
            case '\b':
            case 0x7f:
                if (!line_.empty()) {
                    line_.pop_back();
                    print("\b \b");
                }
                break;
            default:
                if (byte >= ' ' && line_.size() < kMaxLine) {
                    line_ += static_cast<char>(byte);
                    print(std::string_view(line_).substr(line_.size() - 1));
                }
        }
    }
}

void HumanMonitor::ready_to_send() {
    print({});
}

void HumanMonitor::opened() {
    greeted_ = false;
    line_.clear();
    output_.clear();
    prompt();
}

void HumanMonitor::focused() {
    prompt();
}

// What the backend does not take now is kept for later.
void HumanMonitor::print(std::string_view text) {
    for (char c : text) {
        if (c == '\n')
            output_ += '\r';
        output_ += c;
    }
    output_.erase(0, backend_.write({reinterpret_cast<const uint8_t*>(output_.data()), output_.size()}));
}

void HumanMonitor::prompt() {
    if (!std::exchange(greeted_, true))
        print(fmt::format("{}'help' lists the commands.\n", version_text("Ashlar emulator")));
    print(fmt::format("(ashlar) {}", line_));
}

Task<void> HumanMonitor::co_execute(std::string line) {
    MachineControl& machine = daemon_.machine();
    Result<void> result;
    if (line == "help" || line == "?")
        print(kHelp);
    else if (line == "info status")
        print(fmt::format("VM status: {}{}\n", machine.run_state() == RunState::Running ? "running" : "paused",
                          machine.run_state() == RunState::Prelaunch ? " (prelaunch)" : ""));
    else if (line == "quit" || line == "q")
        daemon_.request_shutdown(ShutdownCause::HostUi);
    else if (line == "stop" || line == "s")
        result = co_await machine.co_stop();
    else if (line == "cont" || line == "c")
        result = co_await machine.co_cont();
    else if (line == "system_reset")
        result = co_await machine.co_reset();
    else if (line == "system_powerdown")
        machine.power_down();
    else if (!line.empty())
        print(fmt::format("unknown command: '{}'\n", line));
    if (!result)
        print(fmt::format("Error: {}\n", result.error().message));
    prompt();
    busy_ = false;
    backend_.ready_to_receive();
}

}  // namespace ashlar
