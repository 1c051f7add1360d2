/* SPDX-License-Identifier: MIT */
#include "drivers/serial.h"

#include "arch/cpu.h"
#include "arch/print.h"

/* Registers of the 16550 relative to its base port. */
enum {
    UART_DATA = 0,
    UART_INTERRUPT_ENABLE = 1,
    UART_FIFO_CONTROL = 2,
    UART_LINE_CONTROL = 3,
    UART_MODEM_CONTROL = 4,
    UART_LINE_STATUS = 5,
};

enum {
    LINE_8N1 = 0x03,
    LINE_DIVISOR_ACCESS = 0x80,
    FIFO_ENABLE_AND_CLEAR = 0x07,
    MODEM_DTR_RTS = 0x03,
    STATUS_TRANSMIT_EMPTY = 0x20,
};

static u16 serial_port;

static void serial_put(char c)
{
    /* A port without a UART reads as ones and so is never waited for; a stuck one costs a bounded time per
     * character. */
    for (unsigned spin = 0; spin < 100000; spin++) {
        if ((inb((u16)(serial_port + UART_LINE_STATUS)) & STATUS_TRANSMIT_EMPTY) != 0)
            break;
        cpu_relax();
    }
    outb((u16)(serial_port + UART_DATA), (u8)c);
}

static void serial_write(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n')
            serial_put('\r');
        serial_put(text[i]);
    }
}

void serial_init(u16 port, u32 baud)
{
    u32 divisor = baud == 0 ? 1 : SERIAL_BAUD_MAX / baud;

    serial_off();
    serial_port = port;
    outb((u16)(port + UART_INTERRUPT_ENABLE), 0);
    outb((u16)(port + UART_LINE_CONTROL), LINE_DIVISOR_ACCESS | LINE_8N1);
    outb((u16)(port + UART_DATA), (u8)divisor);
    outb((u16)(port + UART_INTERRUPT_ENABLE), (u8)(divisor >> 8));
    outb((u16)(port + UART_LINE_CONTROL), LINE_8N1);
    outb((u16)(port + UART_FIFO_CONTROL), FIFO_ENABLE_AND_CLEAR);
    outb((u16)(port + UART_MODEM_CONTROL), MODEM_DTR_RTS);
    log_add_sink(serial_write, true);
}

void serial_off(void)
{
    log_remove_sink(serial_write);
}
