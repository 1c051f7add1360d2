/* SPDX-License-Identifier: MIT */
/*
 * vmcs12's wishes and Umbra's needs in one. L1 owns the machine's interrupts, devices and time as on a bare
 * CPU, so nearly all of its controls go to the hardware as they are; second-level translation, MSRs and NMIs
 * are the exceptions.
 */
#include "nested/vmx-merge.h"

#include "arch/string.h"
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

enum { WORD_BITS = 64, RANGE_MSRS = 0x2000, NO_BIT = ~0u };
#define HIGH_RANGE 0xc0000000u

/* Read low, read high, write low, write high; NO_BIT: an MSR outside of both ranges. */
static u32 bit_of(u32 msr, bool write)
{
    u32 range = msr >= HIGH_RANGE ? HIGH_RANGE : 0;
    u32 bit = msr - range;

    if (bit >= RANGE_MSRS)
        return NO_BIT;
    return bit + (range != 0 ? (u32)RANGE_MSRS : 0) + (write ? 2 * (u32)RANGE_MSRS : 0);
}

void vmx_msr_forget(struct vmx_msr_merge *merge)
{
    memset(merge->merged, 0xff, MSR_BITMAP_WORDS * sizeof(u64));
    merge->count = 0;
}

bool vmx_msr_learn(struct vmx_msr_merge *merge, const u64 *l1, u32 msr, bool write)
{
    u32 bit = bit_of(msr, write);

    if (l1 == NULL || bit == NO_BIT || (merge->own[bit / WORD_BITS] >> bit % WORD_BITS & 1) != 0)
        return false;
    /* Were the word in use already, there had been no exit, or the entry was before L1 changed its mind. */
    if (merge->count == VMX_MSR_WORDS)
        vmx_msr_forget(merge);
    merge->word[merge->count++] = (u16)(bit / WORD_BITS);
    vmx_msr_merge(merge, l1);
    return true;
}

bool vmx_msr_intercepted(const u8 *bitmap, u32 msr, bool write)
{
    u32 bit = bit_of(msr, write);

    return bit == NO_BIT || (bitmap[bit / 8] >> bit % 8 & 1) != 0;
}
