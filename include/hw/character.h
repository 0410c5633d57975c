// CharacterDevice and CharacterBackend: the two ends of a line of bytes, a device of the machine (UART, virtio-console)
// and what is outside (a terminal, a file, a socket), with back-pressure in both directions.
//
// All of it is the main context's, and nothing waits. A device whose registers are accessed by the harts' thread keeps
// a FIFO of its own between the two and comes here by a bottom half. One device at a time is connected to a backend;
// both outlive the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ashlar {

// Called by the backend, never from within a call of the device's.
class CharacterDevice {
public:
    virtual ~CharacterDevice() = default;
    // How many bytes it takes now. What it does not take stays in the backend, which asks again when the device has
    // called ready_to_receive().
    virtual size_t room() = 0;
    virtual void receive(std::span<const uint8_t> bytes) = 0;  // at most room() of them
    // A write() that took less than all may be repeated.
    virtual void ready_to_send() = 0;
    // Somebody has come to the other end.
    virtual void opened() {}
    // Of several devices at one backend, this is the one that the other end is with now.
    virtual void focused() {}
};

// Called by the device, also from within its receive() and ready_to_send().
class CharacterBackend {
public:
    virtual ~CharacterBackend() = default;
    virtual void connect(CharacterDevice* device) = 0;  // null: nobody is there any more
    // Takes as many as it has room for and returns how many; after less than all, ready_to_send() will come. A backend
    // whose other end is gone takes everything.
    virtual size_t write(std::span<const uint8_t> bytes) = 0;
    virtual void ready_to_receive() = 0;  // the device has room again
};

}  // namespace ashlar
