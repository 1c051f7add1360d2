/* SPDX-License-Identifier: MIT */
/*
 * Group fatal: Umbra dies on one CPU while all others send tildes, with and without exits in between, so that
 * each of them that is not stopped shows in the serial line after Umbra's report has begun.
 */
#include "tests/guest/guest.h"

enum { COM1 = 0x3f8, COM1_STATUS = COM1 + 5, STATUS_TRANSMIT_EMPTY = 0x20, MOMENT = 20000 };

static void send_tildes(unsigned cpu)
{
    for (;;) {
        if (cpu % 2 == 0)
            (void)cpuid(0, 0);
        if ((in8(COM1_STATUS) & STATUS_TRANSMIT_EMPTY) != 0)
            out8(COM1, '~');
    }
}

void group_fatal(void)
{
    check("fatal.other_cpus", smp_start() != 0);
    print("guest: a fatal report follows\n");
    if (!smp_call(send_tildes))
        give_up("all CPUs can be called");
    for (unsigned i = 0; i < MOMENT; i++)
        __asm__ volatile("pause");
    (void)hypercall(HYPERCALL_TEST_FATAL, 0, 0, 0);
}
