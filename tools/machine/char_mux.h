// CharMux: one terminal for several devices, the guest's serial port and the monitor above all, as QEMU's: Ctrl-a c
// changes between them, Ctrl-a x ends the program, Ctrl-a h helps, Ctrl-a Ctrl-a is Ctrl-a. The output of all is shown.
// Main context; the backend outlives it.
#pragma once

#include "hw/character.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

class CharMux : private CharacterDevice {
public:
    CharMux(CharacterBackend& backend, std::function<void()> quit);
    ~CharMux() override;

    // For one more device, as long as the mux lives. At first what is typed is for the last that is no monitor.
    CharacterBackend& add(bool is_monitor);

private:
    static constexpr size_t kWaiting = 256;

    class Port : public CharacterBackend {
    public:
        explicit Port(CharMux& mux) : mux_(mux) {}
        void connect(CharacterDevice* d) override { device = d; }
        size_t write(std::span<const uint8_t> bytes) override { return mux_.backend_.write(bytes); }
        void ready_to_receive() override { mux_.room_again(); }

        CharacterDevice* device = nullptr;

    private:
        CharMux& mux_;
    };

    size_t room() override;
    void receive(std::span<const uint8_t> bytes) override;
    void ready_to_send() override;
    void opened() override;
    void escape(uint8_t byte);
    void deliver(uint8_t byte);
    void pump();
    void room_again();
    void show(std::string_view text);
    CharacterDevice* in_focus() const { return ports_.empty() ? nullptr : ports_[focus_]->device; }

    CharacterBackend& backend_;
    const std::function<void()> quit_;
    std::vector<std::unique_ptr<Port>> ports_;
    size_t focus_ = 0;
    std::string waiting_;   // typed, and not taken by who is in focus
    bool escaped_ = false;  // the last character was Ctrl-a
};

}  // namespace ashlar
