// Uart: an NS16550A: one byte-wide register at each of eight offsets, FIFOs of 16 characters, one interrupt.
//
// Characters are there at once and leave at once, so the interrupt that says that some have waited for a while below
// the FIFO's trigger level comes without delay; the speed that the guest sets is kept and has no meaning. When the host
// does not take output, the transmitter stays full, and input waits in the CharPort while the receiver is: nothing is
// lost. The harts' thread reads and writes the registers; the port tells from any thread. Specification: National
// Semiconductor PC16550D data sheet.
#pragma once

#include "hw/char_port.h"
#include "hw/interrupt.h"
#include "hw/mmio_device.h"

#include <array>
#include <cstdint>
#include <mutex>

namespace ashlar {

class Uart : public MmioDevice, public CharPort::Listener {
public:
    static constexpr uint64_t kBytes = 8;

    Uart(CharPort& port, InterruptLine line);

    void reset();
    uint64_t read(uint64_t offset, unsigned size) override;
    void write(uint64_t offset, unsigned size, uint64_t value) override;
    void port_changed() override;

private:
    static constexpr size_t kFifo = 16;

    struct Fifo {
        std::array<uint8_t, kFifo> bytes;
        size_t used = 0;
        void push(uint8_t byte) { bytes[used++] = byte; }
        uint8_t pop();
        void drop(size_t count);
    };

    // All with lock_ held.
    uint8_t read_register(uint64_t offset);
    void write_register(uint64_t offset, uint8_t value);
    void transmit(uint8_t byte);
    void set_fifo_control(uint8_t value);
    void pump();  // what can move between the FIFOs and the port moves
    size_t receive_capacity() const { return fifo_control_ & 1 ? kFifo : 1; }
    uint8_t interrupt() const;  // as in the interrupt identification register
    uint8_t modem_status();
    void update_modem();
    void update_line() { line_.set(!(interrupt() & 1)); }

    CharPort& port_;
    const InterruptLine line_;
    std::mutex lock_;
    Fifo received_, transmitted_;
    uint8_t interrupt_enable_, fifo_control_, line_control_, modem_control_, scratch_;
    uint8_t modem_changes_;  // since it was read: the low half of the modem status
    uint8_t modem_lines_;    // the high half as it was last
    uint16_t divisor_;
    bool overrun_;            // in loopback only
    bool transmitter_empty_;  // an interrupt to say so is due
};

}  // namespace ashlar
