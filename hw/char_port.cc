#include "hw/char_port.h"

#include <algorithm>

namespace ashlar {

template <size_t kSize>
size_t CharPort::Ring<kSize>::put(std::span<const uint8_t> bytes) {
    const size_t count = std::min(bytes.size(), kSize - used_);
    for (size_t i = 0; i < count; ++i)
        bytes_[(first_ + used_ + i) % kSize] = bytes[i];
    used_ += count;
    return count;
}

template <size_t kSize>
size_t CharPort::Ring<kSize>::take(std::span<uint8_t> bytes) {
    const size_t count = std::min(bytes.size(), used_);
    for (size_t i = 0; i < count; ++i)
        bytes[i] = bytes_[(first_ + i) % kSize];
    first_ = (first_ + count) % kSize;
    used_ -= count;
    return count;
}

template <size_t kSize>
size_t CharPort::put(Ring<kSize>& ring, std::span<const uint8_t> bytes, Listener* reader) {
    size_t count;
    bool news;
    {
        std::lock_guard guard(lock_);
        const bool was_empty = ring.empty();
        count = ring.put(bytes);
        ring.wanted |= count < bytes.size();
        news = was_empty && count > 0;
    }
    if (news && reader)
        reader->port_changed();
    return count;
}

template <size_t kSize>
size_t CharPort::take(Ring<kSize>& ring, std::span<uint8_t> bytes, Listener* writer) {
    size_t count;
    bool news;
    {
        std::lock_guard guard(lock_);
        count = ring.take(bytes);
        news = count > 0 && ring.wanted;
        if (news)
            ring.wanted = false;
    }
    if (news && writer)
        writer->port_changed();
    return count;
}

size_t CharPort::receive(std::span<uint8_t> bytes) {
    return take(input_, bytes, host_);
}

size_t CharPort::send(std::span<const uint8_t> bytes) {
    return put(output_, bytes, host_);
}

size_t CharPort::input_room() {
    std::lock_guard guard(lock_);
    input_.wanted |= input_.room() == 0;
    return input_.room();
}

size_t CharPort::put_input(std::span<const uint8_t> bytes) {
    return put(input_, bytes, device_);
}

size_t CharPort::take_output(std::span<uint8_t> bytes) {
    return take(output_, bytes, device_);
}

}  // namespace ashlar
