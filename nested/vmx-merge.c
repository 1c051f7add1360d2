/* SPDX-License-Identifier: MIT */
/*
 * vmcs12's wishes and Umbra's needs in one. L1 owns the machine's interrupts, devices and time as on a bare
 * CPU, so nearly all of its controls go to the hardware as they are; second-level translation, MSRs and NMIs
 * are the exceptions.
 */
#include "nested/vmx-merge.h"

#include "vmx/capability.h"

/* NMI exiting and virtual NMIs are always on: an NMI that comes while Umbra runs has to be able to wait. */
#define PIN_OF_L1 (PIN_EXTERNAL_INTERRUPT_EXITING | PIN_PREEMPTION_TIMER | PIN_POSTED_INTERRUPTS)

#define PRIMARY_OF_L1                                                                                        \
    (PRIMARY_INTERRUPT_WINDOW | PRIMARY_TSC_OFFSETTING | PRIMARY_HLT_EXITING | PRIMARY_INVLPG_EXITING |      \
     PRIMARY_MWAIT_EXITING | PRIMARY_RDPMC_EXITING | PRIMARY_RDTSC_EXITING | PRIMARY_CR3_LOAD_EXITING |      \
     PRIMARY_CR3_STORE_EXITING | PRIMARY_CR8_LOAD_EXITING | PRIMARY_CR8_STORE_EXITING | PRIMARY_TPR_SHADOW | \
     PRIMARY_NMI_WINDOW | PRIMARY_MOV_DR_EXITING | PRIMARY_IO_EXITING | PRIMARY_IO_BITMAPS |                 \
     PRIMARY_MONITOR_TRAP_FLAG | PRIMARY_MONITOR_EXITING | PRIMARY_PAUSE_EXITING)

/*
 * VM functions are turned on with no function allowed, so that VMFUNC exits and Umbra switches the shadow.
 * Not here: EPT, VPID and MBEC, which are Umbra's; PML and EPT-violation #VE, which its shadow tables stand
 * for; VMCS shadowing, which concerns L2's own VMREAD only.
 */
#define SECONDARY_OF_L1                                                                                      \
    (SECONDARY_APIC_ACCESSES | SECONDARY_DESCRIPTOR_TABLE_EXITING | SECONDARY_RDTSCP |                       \
     SECONDARY_X2APIC_MODE | SECONDARY_WBINVD_EXITING | SECONDARY_UNRESTRICTED_GUEST |                       \
     SECONDARY_APIC_REGISTERS | SECONDARY_VIRTUAL_INTERRUPTS | SECONDARY_PAUSE_LOOP_EXITING |                \
     SECONDARY_RDRAND_EXITING | SECONDARY_INVPCID | SECONDARY_VM_FUNCTIONS | SECONDARY_ENCLS_EXITING |       \
     SECONDARY_RDSEED_EXITING | SECONDARY_XSAVES | SECONDARY_TSC_SCALING | SECONDARY_USER_WAIT_PAUSE)
#define SECONDARY_OF_UMBRA (SECONDARY_EPT | SECONDARY_VPID | SECONDARY_MBEC | SECONDARY_CONCEAL_VMX_FROM_PT)

/* What L1 may set in CR4: its own bits, and VMXE, which VMX operation requires of L2's CR4, too. */
#define CR4_OF_L1 (CR4_GUEST_OWNED | CR4_VMXE)

void vmx_merge_controls(const struct vmcs12 *vmcs12, const u32 own[CONTROL_WORDS], u32 merged[CONTROL_WORDS])
{
    u64 exit = own[CONTROL_EXIT] | (vmcs12->exit_controls & EXIT_ACKNOWLEDGE_INTERRUPT);

    /* An exit that Umbra handles itself must not wind L1's timer up again. */
    if ((vmcs12->pin_controls & PIN_PREEMPTION_TIMER) != 0)
        exit |= EXIT_SAVE_PREEMPTION_TIMER;
    merged[CONTROL_PIN] = own[CONTROL_PIN] | (u32)(vmcs12->pin_controls & PIN_OF_L1);
    merged[CONTROL_PRIMARY] = own[CONTROL_PRIMARY] | (u32)(vmcs12->primary_controls & PRIMARY_OF_L1);
    merged[CONTROL_SECONDARY] = (u32)(own[CONTROL_SECONDARY] & SECONDARY_OF_UMBRA) |
                                (u32)(vmcs12_secondary(vmcs12) & SECONDARY_OF_L1);
    merged[CONTROL_EXIT] = (u32)exit;
    merged[CONTROL_ENTRY] =
        (u32)(own[CONTROL_ENTRY] & ~ENTRY_IA32E_GUEST) | (u32)(vmcs12->entry_controls & ENTRY_IA32E_GUEST);
}

u64 vmx_merge_cr4_mask(const struct vmcs12 *vmcs12)
{
    return vmcs12->cr4_mask | ~CR4_OF_L1;
}

u64 vmx_merge_cr4_shadow(const struct vmcs12 *vmcs12)
{
    return vmcs12->cr4_shadow & (vmcs12->cr4_mask | CR4_OF_L1);
}

/* --- MSR bitmaps --- */

enum {
    WORD_BITS = 64,
    RANGE_MSRS = 0x2000,
    RANGE_WORDS = RANGE_MSRS / WORD_BITS, /* read low, read high, write low, write high */
    WRITE_WORDS = 2 * RANGE_WORDS,
};
#define HIGH_RANGE 0xc0000000u

#define LOW(msr)   ((msr) / WORD_BITS)
#define HIGH(msr)  (RANGE_WORDS + ((msr)-HIGH_RANGE) / WORD_BITS)

/*
 * The words for reads; those for writes follow at a distance. Each stands for 64 MSRs. A list that the
 * compiler sees whole: every entry into L2 goes through it.
 */
#define FOR_EACH_HOT_WORD(DO)                                                                                \
    DO(LOW(0x10))        /* TSC, APIC_BASE, TSC_ADJUST */                                                    \
    DO(LOW(0x48))        /* SPEC_CTRL, PRED_CMD */                                                           \
    DO(LOW(0xe7))        /* PMCs, MPERF, APERF */                                                            \
    DO(LOW(0x174))       /* SYSENTER */                                                                      \
    DO(LOW(0x1d9))       /* XFD, DEBUGCTL */                                                                 \
    DO(LOW(0x277))       /* PAT */                                                                           \
    DO(LOW(0x38f))       /* PERF_GLOBAL_CTRL */                                                              \
    DO(LOW(0x6a0))       /* CET */                                                                           \
    DO(LOW(0x6e0))       /* TSC_DEADLINE, PKRS */                                                            \
    DO(LOW(0x800))       /* x2APIC */                                                                        \
    DO(LOW(0xd90))       /* BNDCFGS, XSS */                                                                  \
    DO(LOW(0x14ce))      /* LBR_CTL */                                                                       \
    DO(HIGH(0xc0000080)) /* EFER, STAR, LSTAR, CSTAR, FMASK */                                               \
    DO(HIGH(0xc0000100)) /* FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX */

#define INTERCEPT(word) merged[word] = merged[(word) + WRITE_WORDS] = ~0ull;
#define MERGE(word)                                                                                          \
    merged[word] = l1[word] | own[word];                                                                     \
    merged[(word) + WRITE_WORDS] = l1[(word) + WRITE_WORDS] | own[(word) + WRITE_WORDS];

void vmx_merge_msr_bitmap(const u64 *l1, const u64 *own, u64 *merged)
{
    if (l1 == NULL) {
        FOR_EACH_HOT_WORD(INTERCEPT)
        return;
    }
    FOR_EACH_HOT_WORD(MERGE)
}

bool vmx_msr_intercepted(const u8 *bitmap, u32 msr, bool write)
{
    u32 range = msr >= HIGH_RANGE ? HIGH_RANGE : 0;
    u32 bit = msr - range;

    if (bit >= RANGE_MSRS)
        return true;
    bit += (range != 0 ? (u32)RANGE_MSRS : 0) + (write ? 2 * (u32)RANGE_MSRS : 0);
    return (bitmap[bit / 8] >> bit % 8 & 1) != 0;
}
