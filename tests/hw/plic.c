// What the interrupt controller says of two sources whose levels the program sets: the UART's (10) and the RTC's (11).
#include "virt.h"

static void on_interrupt(unsigned cause) {
    fail("an interrupt that is not enabled: ", cause);
}

enum { kRtc = 0x101000, kRtcSource = 11 };
enum { kMachine = 0, kSupervisor = 1 };

static void set_uart(bool level) {
    *(volatile uint8_t*)(kUart + 1) = level ? 2 : 0;  // the transmitter is empty
}
static void set_rtc(bool level) {
    write32(kRtc + 0x10, 1);
    if (level) {
        write32(kRtc + 0x0c, 0);
        write32(kRtc + 0x08, 1);  // an alarm in the past
    } else {
        write32(kRtc + 0x1c, 0);
    }
}

static uint32_t pending(void) {
    return read32(kPlic + 0x1000);
}
static void priority(unsigned source, uint32_t value) {
    write32(kPlic + 4 * source, value);
}
static void enable(unsigned context, uint32_t sources) {
    write32(kPlic + 0x2000 + 0x80 * context, sources);
}
static void threshold(unsigned context, uint32_t value) {
    write32(kPlic + 0x200000 + 0x1000 * context, value);
}
static uint32_t claim(unsigned context) {
    return read32(kPlic + 0x200004 + 0x1000 * context);
}
static void complete(unsigned context, uint32_t source) {
    write32(kPlic + 0x200004 + 0x1000 * context, source);
}
// MEIP and SEIP.
static uint32_t lines(void) {
    return csr_read(mip) & 0xa00;
}

// What is noted is printed in the end: printing changes the UART's level.
static struct {
    const char* what;
    uint64_t value;
} notes[100];
static unsigned noted;

static void note(const char* what, uint64_t value) {
    notes[noted].what = what;
    notes[noted++].value = value;
}

static void guest_main(void) {
    const uint32_t uart = 1u << kUartSource, rtc = 1u << kRtcSource;
    wait_for_sending();
    note("pending ", pending());
    priority(kUartSource, 3);
    priority(kRtcSource, 5);
    set_uart(true);
    note("pending while nobody is interested ", pending());
    note("lines ", lines());
    note("claim ", claim(kMachine));
    enable(kMachine, uart | rtc);
    note("lines of M ", lines());
    enable(kSupervisor, uart);
    note("lines of M and S ", lines());
    note("claim by S ", claim(kSupervisor));
    note("pending ", pending());
    note("lines ", lines());
    note("claim by M ", claim(kMachine));
    set_rtc(true);
    note("lines with another one ", lines());
    threshold(kMachine, 5);
    note("lines below the threshold ", lines());
    note("claim below the threshold ", claim(kMachine));
    complete(kMachine, kRtcSource);
    note("pending again, as its level is high ", pending());
    threshold(kMachine, 4);
    note("lines ", lines());
    enable(kSupervisor, 0);
    complete(kSupervisor, kUartSource);
    note("completed by who has not enabled it ", pending());
    complete(kMachine, kUartSource);
    note("completed by another one ", pending());
    threshold(kMachine, 0);
    note("claim, by priority ", claim(kMachine));
    note("claim ", claim(kMachine));
    note("claim ", claim(kMachine));
    set_rtc(false);
    complete(kMachine, kRtcSource);
    note("completed with the level low ", pending());
    complete(kMachine, kUartSource);
    priority(kRtcSource, 3);
    set_rtc(true);
    note("of equals the lower number ", claim(kMachine));
    note("then the other one ", claim(kMachine));
    set_rtc(false);
    set_rtc(true);
    note("not before the completion ", pending());
    complete(kMachine, 0);
    complete(kMachine, 97);
    complete(kMachine, 1u << 31);
    note("completions of none ", pending());
    complete(kMachine, kRtcSource);
    note("claim ", claim(kMachine));
    priority(kRtcSource, 0);
    complete(kMachine, kRtcSource);
    note("of no priority, pending ", pending());
    note("lines ", lines());
    priority(kRtcSource, 0xffffffff);
    note("the greatest priority ", read32(kPlic + 4 * kRtcSource));
    note("the greatest threshold ", (threshold(kMachine, 0xffffffff), read32(kPlic + 0x200000)));
    threshold(kMachine, 0);
    note("source 0 ", (priority(0, 7), enable(kMachine, ~0u), read32(kPlic)));
    enable(kMachine, uart | rtc);
    write32(kPlic + 0x1000, 0);
    note("pending is not written ", pending());
    set_rtc(false);
    set_uart(false);
    for (unsigned i = 0; i < noted; ++i)
        put_line(notes[i].what, notes[i].value);
    // What was requested stays so, though its level is low.
    put_line("a request that nobody needs any more ", pending() == rtc);
    put("done\n");
}
