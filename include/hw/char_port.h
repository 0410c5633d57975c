// CharPort: what is between a device in the harts' thread and the main context that CharacterDevice (hw/character.h) is
// for: a bounded queue of bytes in each direction.
//
// The device's side belongs to one device, whose calls may come from any thread, the host's side to one object of the
// main thread. Neither side waits: what does not fit stays with who has it, and each side is told when the other one
// has made a difference. Nothing is lost while nobody is attached to the other side. Listeners are attached by the main
// thread before the machine runs, outlive the port's use, and are called without a lock of the port held, by the thread
// that made the difference: they may use the port.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

namespace ashlar {

class CharPort {
public:
    static constexpr size_t kInput = 256, kOutput = 4096;

    class Listener {
    public:
        virtual ~Listener() = default;
        // To the device: there is input where there was none, or room for output that had found none. To the host:
        // there is output where there was none, or room for input that had found none.
        virtual void port_changed() = 0;
    };

    CharPort() = default;
    CharPort(const CharPort&) = delete;

    // The device's side.
    void attach_device(Listener* device) { device_ = device; }
    size_t receive(std::span<uint8_t> bytes);     // takes input: how many
    size_t send(std::span<const uint8_t> bytes);  // how many found room

    // The host's side.
    void attach_host(Listener* host) { host_ = host; }
    size_t input_room();
    size_t put_input(std::span<const uint8_t> bytes);  // how many found room
    size_t take_output(std::span<uint8_t> bytes);      // how many

private:
    template <size_t kSize>
    class Ring {
    public:
        size_t put(std::span<const uint8_t> bytes);
        size_t take(std::span<uint8_t> bytes);
        bool empty() const { return used_ == 0; }
        size_t room() const { return kSize - used_; }

        bool wanted = false;  // the room has not been enough
    private:
        std::array<uint8_t, kSize> bytes_;
        size_t first_ = 0, used_ = 0;
    };

    template <size_t kSize>
    size_t put(Ring<kSize>& ring, std::span<const uint8_t> bytes, Listener* reader);
    template <size_t kSize>
    size_t take(Ring<kSize>& ring, std::span<uint8_t> bytes, Listener* writer);

    std::mutex lock_;
    Ring<kInput> input_;
    Ring<kOutput> output_;
    Listener* device_ = nullptr;
    Listener* host_ = nullptr;
};

}  // namespace ashlar
