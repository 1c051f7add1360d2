/* SPDX-License-Identifier: MIT */
/*
 * What CPUID says to the guest: the CPU's own answer, less what Umbra keeps to itself or cannot share safely,
 * and with the two bits that mirror the guest's CR4 rather than Umbra's. Pure.
 */
#ifndef UMBRA_VCPU_CPUID_H
#define UMBRA_VCPU_CPUID_H

#include "arch/cpu.h"

/* Corrects `regs`, the CPU's answer to that leaf (EAX) and subleaf (ECX), for a guest with that CR4. */
void cpuid_correct(u32 leaf, u32 subleaf, u64 guest_cr4, struct cpuid_regs *regs);

#endif
