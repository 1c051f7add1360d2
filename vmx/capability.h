/* SPDX-License-Identifier: MIT */
/*
 * What this CPU's VMX can do and what Umbra makes of it: read once at boot, constant afterwards.
 */
#ifndef UMBRA_VMX_CAPABILITY_H
#define UMBRA_VMX_CAPABILITY_H

#include "arch/types.h"
#include "arch/x86.h"
#include "mm/tdp.h"
#include "vmx/controls.h"

/* IA32_VMX_BASIC, SDM vol. 3D A.1 */
#define VMX_BASIC_REVISION      BITS(30, 0)
#define VMX_BASIC_REGION_SHIFT  32u
#define VMX_BASIC_WRITE_BACK    (6ull << 50)
#define VMX_BASIC_INS_OUTS      BIT(54) /* instruction information of INS and OUTS */
#define VMX_BASIC_TRUE_CONTROLS BIT(55)
#define VMX_BASIC_ANY_ERROR_CODE                                                                             \
    BIT(56) /* injected hardware exceptions may come with or without an error code */

/* IA32_VMX_MISC, SDM vol. 3D A.6 */
#define VMX_MISC_TIMER_RATE        BITS(4, 0)
#define VMX_MISC_STORES_LMA        BIT(5) /* an exit stores EFER.LMA into "IA-32e mode guest" */
#define VMX_MISC_ACTIVITY_HLT      BIT(6)
#define VMX_MISC_ACTIVITY_SHUTDOWN BIT(7)
#define VMX_MISC_ACTIVITY_SIPI     BIT(8)
#define VMX_MISC_CR3_TARGETS_SHIFT 16u
#define VMX_MISC_VMWRITE_ANY       BIT(29) /* VMWRITE can write read-only data fields */
#define VMX_MISC_INJECT_LENGTH_0   BIT(30)

/* IA32_VMX_EPT_VPID_CAP, SDM vol. 3D A.10 */
#define EPT_EXECUTE_ONLY            BIT(0)
#define EPT_WALK_4                  BIT(6)
#define EPT_WRITE_BACK              BIT(14)
#define EPT_PAGE_2M                 BIT(16)
#define EPT_PAGE_1G                 BIT(17)
#define EPT_INVEPT                  BIT(20)
#define EPT_ACCESSED_DIRTY          BIT(21)
#define EPT_ADVANCED_INFORMATION    BIT(22) /* an exit qualification tells user from supervisor pages */
#define EPT_INVEPT_SINGLE_CONTEXT   BIT(25)
#define EPT_INVEPT_ALL_CONTEXTS     BIT(26)
#define VPID_INVVPID                BIT(32)
#define VPID_INVVPID_SINGLE_CONTEXT BIT(41)
#define VPID_INVVPID_ALL_CONTEXTS   BIT(42)

/*
 * CR4 bits that the guest changes without an exit. It may not set any other one: VMXE and SMXE belong to
 * hidden features, and what this version does not know may need VMCS state that it does not switch. The CPU
 * itself refuses those of the list that it does not have.
 */
#define CR4_LASS    BIT(27)
#define CR4_LAM_SUP BIT(28)
#define CR4_GUEST_OWNED                                                                                      \
    (BITS(11, 0) | CR4_LA57 | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_KL | CR4_SMEP | CR4_SMAP |        \
     CR4_PKE | CR4_CET | CR4_PKS | CR4_UINTR | CR4_LASS | CR4_LAM_SUP)

struct vmx_capability {
    u32 revision; /* VMCS revision identifier */
    struct vmx_controls controls;
    u64 ept_vpid; /* IA32_VMX_EPT_VPID_CAP */
    /* Bits that CR0 and CR4 must have, and may have, in VMX operation outside an unrestricted guest. */
    u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    /* What an unrestricted guest's real CR0 must have in addition to what the guest sees: NE, on all known
     * CPUs. */
    u64 cr0_forced;
};

extern struct vmx_capability vmx_capability;

/*
 * Fills vmx_capability and *config from CPUID and the capability MSRs. NULL, or one sentence that says what
 * is missing and what to do. Changes no state of the CPU.
 */
const char *vmx_probe(struct tdp_config *config);
/* For vendor.match. One CPU at a time. */
const char *vmx_match(void);

#endif
