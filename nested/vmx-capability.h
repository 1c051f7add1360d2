/* SPDX-License-Identifier: MIT */
/*
 * What L1 is told of its VMX: the capability MSRs, computed as hardware AND implemented, and what follows
 * from them for checks. Constant after boot. Pure but for the one function that reads the hardware's MSRs.
 */
#ifndef UMBRA_NESTED_VMX_CAPABILITY_H
#define UMBRA_NESTED_VMX_CAPABILITY_H

#include "arch/msr.h"
#include "arch/types.h"
#include "vmx/capability.h"
#include "vmx/controls.h"

enum { VMX_MSRS = MSR_IA32_VMX_EXIT_CTLS2 - MSR_IA32_VMX_BASIC + 1 };

/* IA32_VMX_EPT_VPID_CAP, SDM vol. 3D A.10, as far as vmx/capability.h does not name it */
#define EPT_WALK_5                     BIT(7)
#define EPT_UNCACHEABLE                BIT(8)
#define EPT_SUPERVISOR_SHADOW_STACK    BIT(23)
#define VPID_INVVPID_ADDRESS           BIT(40)
#define VPID_INVVPID_RETAINING_GLOBALS BIT(43)

/* IA32_VMX_VMFUNC */
#define VMFUNC_EPTP_SWITCHING BIT(0)

/* What the capabilities of L1 are computed from. */
struct vmx_hardware {
    u64 msr[VMX_MSRS];     /* 0 where the CPU has none */
    bool perf_global_ctrl; /* the MSR exists and Umbra switches it */
    u64 perf_global_valid; /* its writable bits, CPUID.0AH */
    u64 debugctl_valid;    /* those of IA32_DEBUGCTL */
    unsigned maxphyaddr;
    bool la57, lam, rtm, cet_shadow_stack, cet_ibt;
};

/* A field of vmcs12: nested/vmx-fields.h. */
struct vmcs12_field {
    u16 offset; /* in struct vmcs12 */
    u8 bytes;   /* 2, 4 or 8; 0: there is no such field */
    u8 group;   /* enum vmcs12_group */
    u8 word;    /* enum control_word of the control that the field belongs to; CONTROL_WORDS: none */
    u8 control; /* bit number of that control: without it the field does not exist */
    bool read_only;
    u8 unused_bits; /* of the 8 bytes from the offset on; only in a capability */
};

enum { NESTED_VMX_FIELDS = 2048 };

struct nested_vmx_capability {
    u64 msr[VMX_MSRS]; /* index: number - MSR_IA32_VMX_BASIC */
    unsigned maxphyaddr;
    /* Bits that may be set: of MSRs that the VMCS has fields of, and of CR3. */
    u64 debugctl_valid, efer_valid, perf_global_valid, s_cet_valid, cr3_valid;
    bool la57, rtm;
    struct vmcs12_field fields[NESTED_VMX_FIELDS]; /* of L1's VMCS, by VMCS_FIELD_NUMBER */
};

/* Where the bits of a word are that L1 gets through: "allowed" as a TRUE capability MSR has it. */
u64 nested_vmx_allowed(const struct nested_vmx_capability *capability, enum control_word word);

/* Is the 1-setting of that control offered? */
static inline bool nested_vmx_offers(const struct nested_vmx_capability *capability, enum control_word word,
                                     u64 control)
{
    return ((nested_vmx_allowed(capability, word) >> 32) & control) != 0;
}

static inline u64 nested_vmx_msr(const struct nested_vmx_capability *capability, u32 msr)
{
    return capability->msr[msr - MSR_IA32_VMX_BASIC];
}

/*
 * Does L1 have that capability MSR? Those that depend on a control do not exist without it (SDM vol. 3D
 * A.3.3, A.10, A.11), and reading them is #GP(0).
 */
bool nested_vmx_msr_exists(const struct nested_vmx_capability *capability, u32 msr);

/* One control that is offered where the hardware has it. */
struct nested_control_row {
    u32 bit;
    u8 word; /* enum control_word */
};

/* The table of implemented controls; what it does not name is not offered. */
extern const struct nested_control_row nested_control_rows[];
extern const size_t nested_control_count;

void nested_vmx_capability_compute(const struct vmx_hardware *hardware,
                                   struct nested_vmx_capability *capability);

/* Reads this CPU's MSRs and CPUID. Only on a CPU with VMX. */
void vmx_hardware_read(struct vmx_hardware *hardware);

/* This machine's: computed once at boot. */
extern struct nested_vmx_capability nested_vmx_capability;

#endif
