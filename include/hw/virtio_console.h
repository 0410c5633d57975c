// VirtioConsole: a console of one port (virtio 1.2, 5.3) in front of a CharacterBackend. Its context is the main one.
#pragma once

#include "hw/character.h"
#include "hw/virtio_device.h"

namespace ashlar {

class VirtioConsole final : public VirtioDevice, private CharacterDevice {
public:
    VirtioConsole(const GuestRam& ram, AioContext& main_context);
    // Before it is started, once; `backend` outlives it. Without one nothing comes, and what is sent is dropped.
    void attach(CharacterBackend& backend);

    [[nodiscard]] Task<void> co_close() override;

    uint64_t features() const override;
    void read_config(uint64_t offset, std::span<uint8_t> bytes) const override;

private:
    enum Queue : unsigned { kReceive, kTransmit };

    bool handle_queue(unsigned index) override;
    void forget() override;
    void send();

    size_t room() override;
    void receive(std::span<const uint8_t> bytes) override;
    void ready_to_send() override;

    CharacterBackend* backend_ = nullptr;
    VirtqueueChain to_guest_, from_guest_;
    bool filling_ = false;  // to_guest_ has been taken
    bool sending_ = false;  // from_guest_ has been taken, and `sent_` bytes of it have been sent
    bool blocked_ = false;  // the backend takes no more now
    bool starved_ = false;  // the backend was told that there is no room
    uint64_t sent_ = 0;
};

}  // namespace ashlar
