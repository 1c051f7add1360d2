/* SPDX-License-Identifier: MIT */
/*
 * The serial port (16550A) that a Linux in L2 sees: it can only send. What is sent is printed line by line,
 * with `l2: ` in front.
 */
#ifndef KVM_CLIENT_SERIAL_H
#define KVM_CLIENT_SERIAL_H

#include "arch/types.h"

enum { SERIAL_PORT = 0x3f8, SERIAL_IRQ = 4 };

struct serial {
    const char *marker; /* a line that is waited for */
    u64 marked;         /* the time stamp when it came; 0 before */
    char text[160];
    u32 length;
    u32 line; /* level of the interrupt line, as last told to KVM */
    u8 interrupt_enable, line_control, modem_control, fifo_control, scratch, divisor[2];
    bool empty_pending; /* "transmitter empty" has yet to be seen */
};

void serial_write(struct serial *serial, unsigned reg, u8 value);
u8 serial_read(struct serial *serial, unsigned reg);
/* Level of the interrupt line. */
u32 serial_requests(const struct serial *serial);
/* Prints what is left of a line. */
void serial_flush(struct serial *serial);

#endif
