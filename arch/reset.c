/* SPDX-License-Identifier: MIT */
/*
 * Machine reset by what every PC has. It uses no table of the firmware, since it runs after the guest did
 * what it liked with them.
 */
#include "arch/reset.h"

#include "arch/cpu.h"

/* Reset control register of Intel's and AMD's south bridges. */
#define RESET_CONTROL_PORT   0xcf9
#define RESET_CONTROL_SYSTEM 0x02 /* a hard reset, not an INIT, at the next write with bit 2 */
#define RESET_CONTROL_CPU    0x04

/* The keyboard controller: command FEH pulses its output line 0, the CPU's reset. */
#define KEYBOARD_PORT        0x64
#define KEYBOARD_INPUT_FULL  0x02
#define KEYBOARD_PULSE_RESET 0xfe
#define KEYBOARD_POLLS       100000

static void reset_by_keyboard_controller(void)
{
    for (unsigned i = 0; i < KEYBOARD_POLLS && (inb(KEYBOARD_PORT) & KEYBOARD_INPUT_FULL) != 0; i++)
        cpu_relax();
    outb(KEYBOARD_PORT, KEYBOARD_PULSE_RESET);
}

/* Gives a reset that was asked for the time to arrive: port 80H is slow and harmless. */
static void settle(void)
{
    for (unsigned i = 0; i < KEYBOARD_POLLS; i++)
        (void)inb(0x80);
}

void machine_reset(void)
{
    static const struct descriptor_pointer no_interrupts;

    outb(RESET_CONTROL_PORT, RESET_CONTROL_SYSTEM);
    outb(RESET_CONTROL_PORT, RESET_CONTROL_SYSTEM | RESET_CONTROL_CPU);
    settle();
    reset_by_keyboard_controller();
    settle();
    __asm__ volatile("lidt %0; int3" : : "m"(no_interrupts));
    cpu_stop();
}
