#include "hw/uart.h"

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

enum Register : uint64_t {
    kData,
    kInterruptEnable,
    kInterruptId,
    kLineControl,
    kModemControl,
    kLineStatus,
    kModemStatus,
    kScratch
};

enum InterruptEnableBit : uint8_t { kOnReceived = 1, kOnTransmitted = 2, kOnLineStatus = 4, kOnModemStatus = 8 };
enum Interrupt : uint8_t {
    kModem = 0x00,
    kNone = 0x01,
    kTransmitted = 0x02,
    kReceived = 0x04,
    kLine = 0x06,
    kTimeout = 0x0c,
    kFifosEnabled = 0xc0,
};
enum FifoControlBit : uint8_t { kEnable = 1, kClearReceiver = 2, kClearTransmitter = 4, kKept = 0xc9 };
enum LineControlBit : uint8_t { kDivisorAccess = 0x80 };
enum ModemControlBit : uint8_t { kDtr = 1, kRts = 2, kOut1 = 4, kOut2 = 8, kLoopback = 0x10 };
enum LineStatusBit : uint8_t { kDataReady = 1, kOverrun = 2, kHoldingEmpty = 0x20, kShiftEmpty = 0x40 };
enum ModemStatusBit : uint8_t { kTrailingRing = 4, kCts = 0x10, kDsr = 0x20, kRing = 0x40, kDcd = 0x80 };

constexpr size_t kTrigger[] = {1, 4, 8, 14};

}  // namespace

uint8_t Uart::Fifo::pop() {
    const uint8_t byte = bytes[0];
    drop(1);
    return byte;
}

void Uart::Fifo::drop(size_t count) {
    used -= count;
    memmove(bytes.data(), bytes.data() + count, used);
}

Uart::Uart(CharPort& port, InterruptLine line) : port_(port), line_(line) {
    reset();
    port_.attach_device(this);
}

void Uart::reset() {
    std::lock_guard guard(lock_);
    received_.used = transmitted_.used = 0;
    interrupt_enable_ = fifo_control_ = line_control_ = scratch_ = modem_changes_ = 0;
    modem_control_ = kOut2;
    modem_lines_ = kDcd | kDsr | kCts;
    divisor_ = 12;
    overrun_ = transmitter_empty_ = false;
    update_line();
}

uint64_t Uart::read(uint64_t offset, unsigned) {
    std::lock_guard guard(lock_);
    const uint8_t value = read_register(offset);
    update_line();
    return value;
}

void Uart::write(uint64_t offset, unsigned, uint64_t value) {
    std::lock_guard guard(lock_);
    write_register(offset, static_cast<uint8_t>(value));
    update_line();
}

void Uart::port_changed() {
    std::lock_guard guard(lock_);
    pump();
    update_line();
}

uint8_t Uart::read_register(uint64_t offset) {
    switch (offset) {
        case kData:
            if (line_control_ & kDivisorAccess)
                return static_cast<uint8_t>(divisor_);
            if (received_.used == 0)
                return 0;
            {
                const uint8_t byte = received_.pop();
                pump();
                return byte;
            }
        case kInterruptEnable:
            return line_control_ & kDivisorAccess ? divisor_ >> 8 : interrupt_enable_;
        case kInterruptId: {
            const uint8_t id = interrupt();
            if (id == kTransmitted)
                transmitter_empty_ = false;
            return id | (fifo_control_ & kEnable ? kFifosEnabled : 0);
        }
        case kLineControl:
            return line_control_;
        case kModemControl:
            return modem_control_;
        case kLineStatus: {
            uint8_t status = received_.used ? kDataReady : 0;
            if (transmitted_.used == 0)
                status |= kHoldingEmpty | kShiftEmpty;
            if (overrun_)
                status |= kOverrun;
            overrun_ = false;
            return status;
        }
        case kModemStatus: {
            const uint8_t status = modem_status();
            modem_changes_ = 0;
            return status;
        }
        case kScratch:
            return scratch_;
    }
    return 0;
}

void Uart::write_register(uint64_t offset, uint8_t value) {
    switch (offset) {
        case kData:
            if (line_control_ & kDivisorAccess)
                divisor_ = (divisor_ & 0xff00) | value;
            else
                transmit(value);
            break;
        case kInterruptEnable:
            if (line_control_ & kDivisorAccess) {
                divisor_ = static_cast<uint16_t>((divisor_ & 0xff) | value << 8);
                break;
            }
            // Asked to say when the transmitter is empty, it does if it is so already.
            if (value & ~interrupt_enable_ & kOnTransmitted && transmitted_.used == 0)
                transmitter_empty_ = true;
            interrupt_enable_ = value & 0x0f;
            break;
        case kInterruptId:
            set_fifo_control(value);
            break;
        case kLineControl:
            line_control_ = value;
            break;
        case kModemControl:
            modem_control_ = value & 0x1f;
            update_modem();
            break;
        case kScratch:
            scratch_ = value;
            break;
    }
}

void Uart::transmit(uint8_t byte) {
    transmitter_empty_ = false;
    if (modem_control_ & kLoopback) {
        if (received_.used < receive_capacity())
            received_.push(byte);
        else
            overrun_ = true;
        transmitter_empty_ = true;
        return;
    }
    // A guest that does not look whether there is room overwrites what was last.
    if (transmitted_.used == (fifo_control_ & kEnable ? kFifo : 1))
        --transmitted_.used;
    transmitted_.push(byte);
    pump();
}

void Uart::set_fifo_control(uint8_t value) {
    const bool changes = (value ^ fifo_control_) & kEnable;
    if (changes || (value & kEnable && value & kClearReceiver))
        received_.used = 0;
    if (changes || (value & kEnable && value & kClearTransmitter)) {
        transmitted_.used = 0;
        transmitter_empty_ = true;
    }
    fifo_control_ = value & kEnable ? value & kKept : 0;
    pump();
}

void Uart::pump() {
    if (transmitted_.used) {
        transmitted_.drop(port_.send({transmitted_.bytes.data(), transmitted_.used}));
        transmitter_empty_ |= transmitted_.used == 0;
    }
    if (!(modem_control_ & kLoopback) && received_.used < receive_capacity())
        received_.used += port_.receive({received_.bytes.data() + received_.used, receive_capacity() - received_.used});
}

uint8_t Uart::interrupt() const {
    if (interrupt_enable_ & kOnLineStatus && overrun_)
        return kLine;
    if (interrupt_enable_ & kOnReceived && received_.used)
        return received_.used >= (fifo_control_ & kEnable ? kTrigger[fifo_control_ >> 6] : 1) ? kReceived : kTimeout;
    if (interrupt_enable_ & kOnTransmitted && transmitter_empty_)
        return kTransmitted;
    if (interrupt_enable_ & kOnModemStatus && modem_changes_)
        return kModem;
    return kNone;
}

uint8_t Uart::modem_status() {
    return modem_lines_ | modem_changes_;
}

void Uart::update_modem() {
    uint8_t lines = kDcd | kDsr | kCts;
    if (modem_control_ & kLoopback) {
        lines = 0;
        lines |= modem_control_ & kRts ? kCts : 0;
        lines |= modem_control_ & kDtr ? kDsr : 0;
        lines |= modem_control_ & kOut1 ? kRing : 0;
        lines |= modem_control_ & kOut2 ? kDcd : 0;
    }
    const uint8_t changed = lines ^ modem_lines_;
    // Of the ring indicator only its end counts.
    modem_changes_ |= (changed & (kCts | kDsr | kDcd)) >> 4;
    if (changed & kRing && !(lines & kRing))
        modem_changes_ |= kTrailingRing;
    modem_lines_ = lines;
    pump();
}

}  // namespace ashlar
