#include "hw/virtio_console.h"

#include "block/io_vector.h"

#include <algorithm>

namespace ashlar {

VirtioConsole::VirtioConsole(const GuestRam& ram, AioContext& main_context)
    : VirtioDevice("virtio-console", 3, ram, main_context, 2, 128) {}

void VirtioConsole::attach(CharacterBackend& backend) {
    backend_ = &backend;
    backend_->connect(this);
}

Task<void> VirtioConsole::co_close() {
    if (backend_)
        backend_->connect(nullptr);
    co_await VirtioDevice::co_close();
}

uint64_t VirtioConsole::features() const {
    return kVirtioIndirect | kVirtioEventIndex;
}

// Neither size nor several ports nor emergency writes are offered: no field is valid.
void VirtioConsole::read_config(uint64_t, std::span<uint8_t> bytes) const {
    std::ranges::fill(bytes, uint8_t{0});
}

bool VirtioConsole::handle_queue(unsigned index) {
    if (index == kTransmit) {
        send();
        return !blocked_;
    }
    // As long as there is room, or nothing to be received, nobody waits for more of it.
    if (std::exchange(starved_, false) && backend_)
        backend_->ready_to_receive();
    return false;
}

void VirtioConsole::forget() {
    filling_ = sending_ = blocked_ = false;
    to_guest_.clear();
    from_guest_.clear();
}

// --- from the guest ---

void VirtioConsole::send() {
    while (!blocked_ && (sending_ || take(kTransmit, from_guest_))) {
        if (!std::exchange(sending_, true))
            sent_ = 0;
        uint64_t before = 0;
        for (const iovec& element : from_guest_.readable) {
            const uint64_t skip = std::min<uint64_t>(sent_ - before, element.iov_len);
            before += element.iov_len;
            if (skip == element.iov_len)
                continue;
            const std::span bytes(static_cast<const uint8_t*>(element.iov_base) + skip, element.iov_len - skip);
            const size_t written = backend_ ? backend_->write(bytes) : bytes.size();
            sent_ += written;
            blocked_ = written < bytes.size();
            if (blocked_)
                break;
        }
        if (!blocked_) {
            sending_ = false;
            give_back(kTransmit, from_guest_.head, 0);
        }
    }
    publish(kTransmit);
}

void VirtioConsole::ready_to_send() {
    {
        std::lock_guard guard(lock_);
        blocked_ = false;
    }
    look_again(kTransmit);
}

// --- to the guest ---

size_t VirtioConsole::room() {
    std::lock_guard guard(lock_);
    while (!filling_) {
        if (take(kReceive, to_guest_)) {
            if (to_guest_.writable.empty())
                broken("a buffer for what is received that cannot be written");
            else
                filling_ = true;
        } else {
            starved_ = true;
            // Now the driver is to say so when there is more.
            if (may_begin() && !queue(kReceive).enable_notifications())
                look_again(kReceive);
            return 0;
        }
    }
    return to_guest_.writable_bytes;
}

void VirtioConsole::receive(std::span<const uint8_t> bytes) {
    std::lock_guard guard(lock_);
    if (!filling_ || bytes.empty())
        return;  // the driver has gone since room()
    filling_ = false;
    iov_copy_in({to_guest_.writable.data(), static_cast<unsigned>(to_guest_.writable.size())}, 0, bytes.data(),
                static_cast<int64_t>(bytes.size()));
    give_back(kReceive, to_guest_.head, static_cast<uint32_t>(bytes.size()));
    publish(kReceive);
    settle_soon();
}

}  // namespace ashlar
