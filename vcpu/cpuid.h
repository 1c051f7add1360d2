/* SPDX-License-Identifier: MIT */
/*
 * What CPUID says to the guest: the CPU's own answer, less what Umbra keeps to itself or cannot share safely,
 * and with the two bits that mirror the guest's CR4 rather than Umbra's. Pure.
 */
#ifndef UMBRA_VCPU_CPUID_H
#define UMBRA_VCPU_CPUID_H

#include "arch/cpu.h"

/* Leaves below 64 of the basic and of the extended range whose answer to a guest differs from the CPU's own.
 */
#define CPUID_BASIC_CORRECTED                                                                                \
    (BIT(0x1) | BIT(0x6) | BIT(0x7) | BIT(0xd) | BIT(0x12) | BIT(0x14) | BIT(0x1b) | BIT(0x23))
#define CPUID_EXTENDED_FIRST     0x80000000u
#define CPUID_EXTENDED_CORRECTED (BIT(0x1) | BIT(0x8) | BIT(0xa) | BIT(0x1c) | BIT(0x1f))

static inline bool cpuid_is_corrected(u32 leaf)
{
    u32 extended = leaf - CPUID_EXTENDED_FIRST;

    if (leaf < 64)
        return (CPUID_BASIC_CORRECTED >> leaf & 1) != 0;
    return extended < 64 && (CPUID_EXTENDED_CORRECTED >> extended & 1) != 0;
}

/* Corrects `regs`, the CPU's answer to that leaf (EAX) and subleaf (ECX), for a guest with that CR4. */
void cpuid_correct(u32 leaf, u32 subleaf, u64 guest_cr4, struct cpuid_regs *regs);

#endif
