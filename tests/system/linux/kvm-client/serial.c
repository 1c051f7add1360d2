/* SPDX-License-Identifier: MIT */
/*
 * The 16550A for a Linux in L2: registers as in the PC16550D data sheet; sending takes no time, nothing is
 * received.
 */
#include "tests/system/linux/kvm-client/serial.h"

#include <stdio.h>
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

enum {
    DATA,
    INTERRUPT_ENABLE,
    IDENTIFICATION,
    LINE_CONTROL,
    MODEM_CONTROL,
    LINE_STATUS,
    MODEM_STATUS,
    SCRATCH
};
enum { ENABLE_EMPTY = 2, DIVISOR_ACCESS = 0x80, LOOP = 0x10, TRANSMITTER_EMPTY = 0x60, CONNECTED = 0xb0 };
enum { NO_INTERRUPT = 1, EMPTY_INTERRUPT = 2, FIFO_ON = 0xc0 };

void serial_flush(struct serial *serial)
{
    if (serial->length == 0)
        return;
    serial->text[serial->length] = '\0';
    printf("l2: %s\n", serial->text);
    if (strstr(serial->text, serial->marker))
        serial->marked = time_stamp();
    serial->length = 0;
}

static void send(struct serial *serial, u8 byte)
{
    if (serial->modem_control & LOOP || byte == '\r')
        return;
    if (byte != '\n')
        serial->text[serial->length++] = (char)byte;
    if (byte == '\n' || serial->length == sizeof(serial->text) - 1)
        serial_flush(serial);
}

void serial_write(struct serial *serial, unsigned reg, u8 value)
{
    bool divisor = serial->line_control & DIVISOR_ACCESS;
    switch (reg) {
    case DATA:
        if (divisor) {
            serial->divisor[0] = value;
        } else {
            send(serial, value);
            serial->empty_pending = true;
        }
        break;
    case INTERRUPT_ENABLE:
        if (divisor) {
            serial->divisor[1] = value;
        } else {
            serial->empty_pending |= (value & ~serial->interrupt_enable & ENABLE_EMPTY) != 0;
            serial->interrupt_enable = value & 0xf;
        }
        break;
    case IDENTIFICATION:
        serial->fifo_control = value;
        break;
    case LINE_CONTROL:
        serial->line_control = value;
        break;
    case MODEM_CONTROL:
        serial->modem_control = value & 0x1f;
        break;
    case SCRATCH:
        serial->scratch = value;
        break;
    }
}

static u8 identification(struct serial *serial)
{
    u8 fifo = serial->fifo_control & 1 ? FIFO_ON : 0;
    if (!serial_requests(serial))
        return fifo | NO_INTERRUPT;
    serial->empty_pending = false;
    return fifo | EMPTY_INTERRUPT;
}

/* In loop-back the outputs of modem control come back as inputs. */
static u8 modem_status(const struct serial *serial)
{
    u8 control = serial->modem_control;
    if (!(control & LOOP))
        return CONNECTED;
    return (u8)((control & 1) << 5 | (control & 2) << 3 | (control & 4) << 4 | (control & 8) << 4);
}

u8 serial_read(struct serial *serial, unsigned reg)
{
    bool divisor = serial->line_control & DIVISOR_ACCESS;
    switch (reg) {
    case DATA:
        return divisor ? serial->divisor[0] : 0;
    case INTERRUPT_ENABLE:
        return divisor ? serial->divisor[1] : serial->interrupt_enable;
    case IDENTIFICATION:
        return identification(serial);
    case LINE_CONTROL:
        return serial->line_control;
    case MODEM_CONTROL:
        return serial->modem_control;
    case LINE_STATUS:
        return TRANSMITTER_EMPTY;
    case MODEM_STATUS:
        return modem_status(serial);
    default:
        return serial->scratch;
    }
}

u32 serial_requests(const struct serial *serial)
{
    return serial->empty_pending && serial->interrupt_enable & ENABLE_EMPTY;
}
