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
};

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
 * What INIT does to it, in VMX operation left undone by the CPU (SDM vol. 3A 11.4.7.3, vol. 3C 26.2):
 * software disabled, everything masked, nothing in service; mode and ID stay.
 */
void local_apic_reset(void);

#endif
