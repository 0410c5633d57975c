// VirtioRng: a source of entropy (virtio 1.2, 5.4): the host's getrandom().
#pragma once

#include "hw/virtio_device.h"

namespace ashlar {

class VirtioRng final : public VirtioDevice {
public:
    VirtioRng(const GuestRam& ram, AioContext& context);

    uint64_t features() const override { return kVirtioIndirect | kVirtioEventIndex; }
    void read_config(uint64_t offset, std::span<uint8_t> bytes) const override;

private:
    bool handle_queue(unsigned index) override;

    VirtqueueChain chain_;
};

}  // namespace ashlar
