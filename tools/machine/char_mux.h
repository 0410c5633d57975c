// CharMux: one terminal for the guest's serial port and the monitor, as QEMU's: Ctrl-a c changes between them, Ctrl-a x
// ends the program, Ctrl-a h helps, Ctrl-a Ctrl-a is Ctrl-a. The output of both is shown. Main context; the backend
// outlives it.
#pragma once

#include "hw/character.h"

#include <functional>
#include <string>
#include <string_view>

namespace ashlar {

class CharMux : private CharacterDevice {
public:
    CharMux(CharacterBackend& backend, std::function<void()> quit);
    ~CharMux() override;

    CharacterBackend& serial() { return serial_; }
    CharacterBackend& monitor() { return monitor_; }

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
    void escape(uint8_t byte);
    void deliver(uint8_t byte);
    void pump();
    void room_again();
    void show(std::string_view text);

    CharacterBackend& backend_;
    const std::function<void()> quit_;
    Port serial_{*this}, monitor_{*this};
    Port* focus_ = &serial_;
    std::string waiting_;   // typed, and not taken by who is in focus
    bool escaped_ = false;  // the last character was Ctrl-a
};

}  // namespace ashlar
