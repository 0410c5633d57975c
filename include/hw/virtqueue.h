// Virtqueue: the device's side of a split virtqueue (virtio 1.2, 2.7) in the guest's memory.
//
// Used by one thread at a time; VirtioDevice sees to that. Nothing that the driver writes there is believed: what does
// not follow the rules makes the queue Broken, which it stays until it is set up anew. What is read from a descriptor
// is read once.
#pragma once

#include "hw/guest_ram.h"

#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ashlar {

// Where the driver has put it. All zero: it does not use the queue.
struct VirtqueueLayout {
    uint32_t size = 0;  // in descriptors
    uint64_t descriptors = 0;
    uint64_t available = 0;  // what the driver writes
    uint64_t used = 0;       // what the device writes
};

// A request: a chain of descriptors. The memory is the guest's own.
struct VirtqueueChain {
    uint16_t head = 0;
    std::vector<iovec> readable;  // by the device
    std::vector<iovec> writable;
    uint64_t readable_bytes = 0;
    uint64_t writable_bytes = 0;

    void clear();  // keeps the memory of short vectors
};

class Virtqueue {
public:
    // Of descriptors in a chain, and in an indirect table; and of a queue.
    static constexpr unsigned kMaxChain = 1024;
    static constexpr unsigned kMaxSize = 1024;

    struct Features {
        bool event_index = false;
        bool indirect = false;
    };
    enum class Taken : uint8_t { Chain, Nothing, Broken };

    // False: the layout breaks the rules, see error().
    [[nodiscard]] bool set_up(const GuestRam& ram, const VirtqueueLayout& layout, Features features);
    void drop();  // the driver does not use it any more
    bool is_set_up() const { return ram_; }

    // The next chain that the driver has made available.
    Taken take(VirtqueueChain& chain);
    // A chain that was taken has been dealt with; `written` bytes were written to its writable part, from its start.
    // The driver sees it after publish().
    void give_back(uint16_t head, uint32_t written);
    // True: the driver wants an interrupt for what it sees now.
    [[nodiscard]] bool publish();

    // Whether the driver should notify when it makes chains available. False: it has done so meanwhile; look again.
    [[nodiscard]] bool enable_notifications();
    void disable_notifications();

    unsigned taken() const { return taken_; }  // and not given back
    unsigned size() const { return size_; }
    const std::string& error() const { return error_; }  // why it is broken

private:
    struct Descriptor;
    struct Table;

    Taken break_it(std::string why);
    Taken walk(VirtqueueChain& chain);
    bool add(const Descriptor& descriptor, VirtqueueChain& chain, unsigned& count);

    const GuestRam* ram_ = nullptr;
    uint32_t size_ = 0;
    Features features_;
    const uint8_t* descriptors_ = nullptr;
    uint16_t* available_ = nullptr;  // flags, index, ring[size], used_event
    uint8_t* used_ = nullptr;        // flags, index, ring[size] of {id, length}, avail_event
    uint16_t next_available_ = 0;    // the next one to be taken
    uint16_t seen_available_ = 0;    // the driver's index as read last
    uint16_t next_used_ = 0;         // given back until here
    uint16_t published_ = 0;
    unsigned taken_ = 0;
    std::string error_;
};

}  // namespace ashlar
