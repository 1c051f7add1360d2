/* SPDX-License-Identifier: MIT */
/*
 * The serial console: a 16550 UART that is written by polling. The guest may own and re-program the same
 * UART, so every line sets nothing and waits only a bounded time.
 */
#ifndef UMBRA_DRIVERS_SERIAL_H
#define UMBRA_DRIVERS_SERIAL_H

#include "arch/types.h"

enum { SERIAL_COM1 = 0x3f8, SERIAL_COM2 = 0x2f8, SERIAL_BAUD_MAX = 115200 };

/* Programs 8 data bits, no parity, one stop bit at `baud` (divides 115,200) and makes it a log output in
 * place of an earlier port. */
void serial_init(u16 port, u32 baud);

/* No serial output from now on. */
void serial_off(void);

#endif
