/* SPDX-License-Identifier: MIT */
/* Random numbers for the hostile groups, and the MSRs that they may not touch. */
#include "tests/guest/hostile.h"

#include "arch/msr.h"

static u64 state = 1;

void hostile_seed(u64 seed)
{
    /* Neighbouring seeds have to be unlike each other from the first number on. */
    state = (seed + 1) * 0x9e3779b97f4a7c15;
    state = (state ^ state >> 29) | 1;
}

/* xorshift64*: any generator will do that gives the same numbers everywhere. */
u64 hostile_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1d;
}

unsigned hostile_below(unsigned limit)
{
    return (unsigned)((hostile_random() >> 32) * limit >> 32);
}

bool hostile_chance(unsigned percent)
{
    return hostile_below(100) < percent;
}

u64 hostile_odd_value(void)
{
    switch (hostile_below(6)) {
    case 0:
        return 0;
    case 1:
        return ~0ull;
    case 2:
        return 1ull << hostile_below(64);
    case 3:
        return ~(1ull << hostile_below(64));
    case 4:
        return hostile_random() & 0xffffffff;
    default:
        return hostile_random();
    }
}

bool hostile_deadly_msr(u32 msr)
{
    if (msr >= 0x800 && msr <= 0x8ff) /* x2APIC: INIT to itself */
        return true;
    if (msr >= 0x200 && msr <= 0x2ff) /* MTRRs and PAT: uncached memory makes an emulator crawl at best */
        return true;
    switch (msr) {
    case 0x1b:  /* the APIC goes elsewhere */
    case 0x79:  /* microcode update from a random address */
    case 0x1a0: /* IA32_MISC_ENABLE: XD disabled */
    case 0x1d9: /* IA32_DEBUGCTL: branch stepping */
    case 0x6a0: /* CET */
    case 0x6a2:
    case MSR_EFER:
    case 0xc0010010: /* SYSCFG */
    case 0xc001001a: /* TOP_MEM */
    case 0xc001001d:
    case 0xc0010111: /* SMBASE */
    case 0xc0010112:
    case 0xc0010113:
    case 0xc0010114: /* VM_CR: R_INIT and A20M */
        return true;
    default:
        return false;
    }
}

u32 hostile_msr(void)
{
    static const u32 msrs[] = {MSR_IA32_TSC,
                               MSR_IA32_TSC_ADJUST,
                               MSR_IA32_SPEC_CTRL,
                               MSR_IA32_PRED_CMD,
                               MSR_IA32_SYSENTER_CS,
                               MSR_IA32_SYSENTER_ESP,
                               MSR_IA32_SYSENTER_EIP,
                               MSR_IA32_XSS,
                               MSR_STAR,
                               MSR_LSTAR,
                               MSR_CSTAR,
                               MSR_FMASK,
                               MSR_FS_BASE,
                               MSR_GS_BASE,
                               MSR_KERNEL_GS_BASE,
                               MSR_TSC_AUX,
                               MSR_IA32_VMX_BASIC,
                               MSR_IA32_FEATURE_CONTROL,
                               0x8b,
                               0x17a,
                               0x186,
                               0x400,
                               0x2000,
                               0xc0002000,
                               0x40000000,
                               MSR_VM_HSAVE_PA};

    return msrs[hostile_below(ARRAY_SIZE(msrs))];
}
