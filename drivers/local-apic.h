/* SPDX-License-Identifier: MIT */
/*
 * The local APIC of the CPU that runs this: the little that Umbra needs to start CPUs and to interrupt them
 * by NMI. The APIC is the guest's, in whatever mode the guest or firmware put it; what is sent here changes
 * nothing that the guest keeps in it. Sources: SDM vol. 3A 11.4, 11.6, 11.12; APM vol. 2 16.
 */
#ifndef UMBRA_DRIVERS_LOCAL_APIC_H
#define UMBRA_DRIVERS_LOCAL_APIC_H

#include "arch/types.h"

/* Interrupt command register, low half: delivery mode, level, shorthand. */
enum {
    APIC_SEND_NMI = 0x4400,
    APIC_SEND_INIT = 0x4500,
    APIC_SEND_STARTUP = 0x4600, /* | page number below 1 MByte */
    APIC_TO_OTHERS = 0xc0000,   /* all CPUs but this one; the destination is ignored */
    APIC_DELIVERY_MODE = 0x700,
    APIC_ASSERT = 0x4000,
    APIC_LEVEL_TRIGGER = 0x8000,
    APIC_DELIVERY_INIT = 0x500,
    APIC_DELIVERY_STARTUP = 0x600,
};

/* Offsets of the interrupt command register in the page of xAPIC mode. */
enum { APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310 };

/* Where this CPU's registers are in xAPIC mode: a page, host-physical. */
hpa_t local_apic_page(void);

/*
 * In xAPIC mode these use percpu.local_apic, which maps local_apic_page() uncached; without such a mapping
 * (NULL) local_apic_reset() does nothing, and the others may not be called.
 */
u32 local_apic_id(void);
/* Sends an interprocessor interrupt to the CPU with that APIC ID, and returns when it is on its way. */
void local_apic_send(u32 destination, u32 command);
/*
 * From now on a start-up IPI that the guest has left in a CPU's ICR is sent again after whatever Umbra sends,
 * so that local_apic_command() still finds it: for all CPUs, where a start-up IPI does nothing by itself
 * (AMD: svm/startup.h).
 */
void local_apic_keep_startup(void);
/* What was last written to this CPU's ICR; the destination is in the upper half, as in x2APIC mode. */
u64 local_apic_command(void);
/* Makes it one that reaches nobody. */
void local_apic_forget_command(void);
/* A register of the page, in xAPIC mode. */
u32 local_apic_read(unsigned offset);
void local_apic_write(unsigned offset, u32 value);
bool local_apic_is_x2apic(void);

/*
 * Pure: is the CPU with that APIC ID, which has had an INIT and nothing since, a destination of the command?
 * `self`: it sent the command. In xAPIC mode its logical ID is 0 then, which only a broadcast reaches.
 */
bool apic_command_reaches(u64 command, bool x2apic, u32 apic_id, bool self);

/*
 * What INIT does to it, in VMX operation left undone by the CPU (SDM vol. 3A 11.4.7.3, vol. 3C 26.2):
 * software disabled, everything masked, nothing in service; mode and ID stay.
 */
void local_apic_reset(void);

#endif
