// HumanMonitor: a few commands for a person at the terminal. Main context; the backend outlives it.
#pragma once

#include "hw/character.h"
#include "util/task_scope.h"

#include <string>

namespace ashlar {

class Daemon;

class HumanMonitor : private CharacterDevice {
public:
    HumanMonitor(Daemon& daemon, CharacterBackend& backend);
    ~HumanMonitor() override;

    // No more commands; the one that it is busy with ends.
    [[nodiscard]] Task<void> co_close();

private:
    size_t room() override { return busy_ ? 0 : 1; }
    void receive(std::span<const uint8_t> bytes) override;
    void ready_to_send() override;
    void opened() override;
    void focused() override;
    void print(std::string_view text);
    void prompt();
    Task<void> co_execute(std::string line);

    Daemon& daemon_;
    CharacterBackend& backend_;
    std::string line_, output_;
    bool greeted_ = false;
    bool busy_ = false;  // with a command
    TaskScope scope_;
};

}  // namespace ashlar
