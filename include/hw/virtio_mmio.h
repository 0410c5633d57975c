// VirtioMmio: the registers of one virtio-mmio slot (virtio 1.2, 4.2), of version 2, or of version 1 (4.2.4, "legacy").
//
// Registers are the harts' thread's; interrupts and changes of the configuration come from any thread. A short lock
// guards them. A slot without a device has device ID 0.
//
// While a reset waits for requests that are under way, the status reads as DEVICE_NEEDS_RESET, which is not zero, so
// that a driver that waits for zero goes on waiting. What one that does not wait writes meanwhile counts: the device
// starts anew once it is quiet.
#pragma once

#include "hw/interrupt.h"
#include "hw/mmio_device.h"
#include "hw/virtio_device.h"

#include <array>

namespace ashlar {

class VirtioMmio final : public MmioDevice, private VirtioTransport {
public:
    static constexpr uint64_t kBytes = 0x200;  // of registers

    // `device`: null if the slot is empty; otherwise it outlives this and has no other transport.
    VirtioMmio(VirtioDevice* device, InterruptLine line, bool legacy);

    uint64_t read(uint64_t offset, unsigned size) override;
    void write(uint64_t offset, unsigned size, uint64_t value) override;

    // The machine's reset, in the main context while the harts stand still. On return all is as it was at first.
    [[nodiscard]] Task<void> co_reset();

    VirtioDevice* device() const { return device_; }

private:
    struct Queue {
        bool ready = false;
        VirtqueueLayout layout;
        uint32_t page = 0;  // legacy
    };

    uint32_t read_register(uint64_t offset);
    void write_register(uint64_t offset, uint32_t value);
    void write_queue(uint64_t offset, uint32_t value);
    void place_legacy_queue(uint32_t page);
    void write_features(uint32_t value);
    void write_status(uint32_t value);
    uint64_t offered() const;
    VirtioSetup setup() const;
    void clear();
    void set_interrupt(uint32_t bits);

    void interrupt() override;
    void config_changed() override;
    void needs_reset() override;
    void reset_done() override;
    void change_config(const std::function<void()>& change) override;

    VirtioDevice* const device_;
    const InterruptLine line_;
    const bool legacy_;

    std::mutex lock_;
    uint32_t status_ = 0;
    bool resetting_ = false;
    bool started_ = false;
    uint32_t device_features_select_ = 0, driver_features_select_ = 0;
    uint64_t driver_features_ = 0;
    uint32_t queue_select_ = 0;
    uint32_t page_size_ = 0;    // legacy
    uint32_t queue_align_ = 0;  // legacy
    uint32_t interrupt_status_ = 0;
    uint32_t generation_ = 0;
    std::vector<Queue> queues_;
};

}  // namespace ashlar
