// Says on the UART what it is told, in capital letters, until it is told q.
#include "virt.h"

static void on_interrupt(unsigned cause) {
    fail("an interrupt of cause ", cause);
}

static void guest_main(void) {
    put("ready\n");
    for (;;) {
        while (!(*(volatile uint8_t*)(kUart + 5) & 1)) {
        }
        const char c = (char)*(volatile uint8_t*)kUart;
        if (c == 'q')
            return;
        put_char(c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
    }
}
