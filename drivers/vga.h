/* SPDX-License-Identifier: MIT */
/*
 * Umbra's lines on a VGA text screen, for whoever sits before the machine without a serial cable: until the
 * guest starts, and again for a fatal report.
 */
#ifndef UMBRA_DRIVERS_VGA_H
#define UMBRA_DRIVERS_VGA_H

#include "arch/types.h"

/* `buffer` is the mapped text buffer of `columns` x `rows` cells; it becomes a log output and is cleared. */
void vga_init(volatile u16 *buffer, unsigned columns, unsigned rows);

#endif
