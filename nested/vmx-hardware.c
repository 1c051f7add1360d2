/* SPDX-License-Identifier: MIT */
/* Reads what this CPU has, for nested/vmx-capability.c, which is pure. */
#include "arch/cpu.h"
#include "mm/tdp.h"
#include "nested/vmx-capability.h"
#include "vcpu/vcpu.h"
#include "vmx/capability.h"

/* CPUID leaves and bits, SDM vol. 2A */
#define LEAF_STRUCTURED  0x7u
#define LEAF_PMU         0xau
#define EBX_RTM          BIT(11)
#define ECX_SHADOW_STACK BIT(7)
#define ECX_LA57         BIT(16)
#define EDX_IBT          BIT(20)
#define EAX_LAM          BIT(26) /* subleaf 1 */

/* Bits of IA32_DEBUGCTL, SDM vol. 4 table 2-2; all above are reserved. */
enum { DEBUGCTL_BITS = 16 };

/* IA32_PERF_GLOBAL_CTRL, SDM vol. 3B 20.2.2: general counters from bit 0, fixed ones from bit 32. */
static u64 perf_global_valid(void)
{
    struct cpuid_regs pmu = cpuid(LEAF_PMU, 0);
    u64 general = BIT(pmu.eax >> 8 & 0x1f) - 1;
    u64 fixed = BIT(pmu.edx & 0x1f) - 1;

    return general | fixed << 32;
}

/*
 * No CPUID bit tells of all bits of IA32_DEBUGCTL, and an entry refuses what WRMSR refuses: so they are
 * tried, one at a time, which traces no branch (that takes TR and BTS).
 */
static u64 debugctl_valid(void)
{
    u64 before = 0, valid = 0;

    if (!rdmsr_safe(MSR_IA32_DEBUGCTL, &before))
        return 0;
    for (unsigned i = 0; i < DEBUGCTL_BITS; i++) {
        if (wrmsr_safe(MSR_IA32_DEBUGCTL, BIT(i)))
            valid |= BIT(i);
    }
    (void)wrmsr_safe(MSR_IA32_DEBUGCTL, before);
    return valid;
}

static void read_features(struct vmx_hardware *hardware)
{
    struct cpuid_regs features = cpuid(LEAF_STRUCTURED, 0);

    if (cpuid(0, 0).eax < LEAF_STRUCTURED)
        return;
    hardware->la57 = (features.ecx & ECX_LA57) != 0;
    hardware->rtm = (features.ebx & EBX_RTM) != 0;
    hardware->cet_shadow_stack = (features.ecx & ECX_SHADOW_STACK) != 0;
    hardware->cet_ibt = (features.edx & EDX_IBT) != 0;
    hardware->lam = features.eax >= 1 && (cpuid(LEAF_STRUCTURED, 1).eax & EAX_LAM) != 0;
}

void vmx_hardware_read(struct vmx_hardware *hardware)
{
    *hardware = (struct vmx_hardware){0};
    /* Those that a control says not to exist stay 0. */
    for (unsigned i = 0; i < VMX_MSRS; i++)
        (void)rdmsr_safe(MSR_IA32_VMX_BASIC + i, &hardware->msr[i]);
    hardware->maxphyaddr = machine.tdp.config.maxphyaddr;
    hardware->perf_global_ctrl = vmx_capability.controls.feature[FEATURE_PERF_GLOBAL_CTRL];
    if (hardware->perf_global_ctrl)
        hardware->perf_global_valid = perf_global_valid();
    hardware->debugctl_valid = debugctl_valid();
    read_features(hardware);
}
