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
#define ECX_BUS_LOCK     BIT(24)
#define EDX_IBT          BIT(20)
#define EAX_LAM          BIT(26) /* subleaf 1 */

/* IA32_PERF_GLOBAL_CTRL, SDM vol. 3B 20.2.2: general counters from bit 0, fixed ones from bit 32. */
static u64 perf_global_valid(void)
{
    struct cpuid_regs pmu = cpuid(LEAF_PMU, 0);
    u64 general = BIT(pmu.eax >> 8 & 0x1f) - 1;
    u64 fixed = BIT(pmu.edx & 0x1f) - 1;

    return general | fixed << 32;
}

static void read_features(struct vmx_hardware *hardware)
{
    struct cpuid_regs features = cpuid(LEAF_STRUCTURED, 0);

    if (cpuid(0, 0).eax < LEAF_STRUCTURED)
        return;
    hardware->la57 = (features.ecx & ECX_LA57) != 0;
    hardware->bus_lock = (features.ecx & ECX_BUS_LOCK) != 0;
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
    read_features(hardware);
}
