/* SPDX-License-Identifier: MIT */
/*
 * What the files of nested VMX know of each other: the VMX operation of L1 on one vcpu, and the cut between
 * the instructions (vmx-instructions.c, vmx-check.c: what may fail before anything changes) and the
 * transitions (vmx-enter.c and following: vmcs02, the switch to L2, and all exits from it).
 */
#ifndef UMBRA_NESTED_VMX_NESTED_H
#define UMBRA_NESTED_VMX_NESTED_H

#include "mm/guest-mem.h"
#include "mm/paging.h"
#include "nested/shadow.h"
#include "nested/vmcs12.h"
#include "nested/vmx-operand.h"
#include "vcpu/nested.h"
#include "vcpu/vcpu.h"

/* The current-VMCS pointer and the VMCS link pointer while there is none (SDM vol. 3C 25.1). */
#define NO_VMCS (~0ull)

/* vmx-shadowing.c */
struct vmcs_shadowing {
    hpa_t vmcs, vmread_bitmap, vmwrite_bitmap; /* a frame each */
    bool available;                            /* the CPU has it, and the option is on */
    bool active;                               /* L1 has a current VMCS */
    u32 stale;                                 /* a bit per field that the shadow VMCS has not as vmcs12 */
};

struct vmcs02_state; /* the transitions' own: the cache of vmcs02s and what L2 runs on */

/*
 * L1's VMX operation. Allocated at boot. Only its CPU uses it. Not to be confused:
 * "current" is L1's word, the current VMCS of the hardware is vmcs01 or a vmcs02.
 */
struct nested_vmx {
    /*
     * The current vmcs12, valid only if current != NO_VMCS: the authoritative copy; what is in L1's memory
     * meanwhile is stale and never read; but see `unsaved`. It was checked for nothing but its revision: each
     * field may have any value that fits its width. Written back by VMCLEAR, by VMPTRLD of another region and
     * by VMXOFF. The transitions change guest state, read-only data, launch_state and the valid bit of
     * entry_interruption in it, and nothing else.
     */
    struct vmcs12 vmcs12;
    u64 current; /* guest-physical address of the current VMCS's region in L1's memory, or NO_VMCS */

    bool vmx_operation; /* between VMXON and VMXOFF */
    bool plain;        /* there is a current VMCS, and L1 is in IA-32e mode: it cannot leave that meanwhile */
    u64 vmxon_pointer; /* guest-physical, valid with vmx_operation */

    /*
     * Which groups (enum vmcs12_group) L1 may have changed since the transitions last took them over:
     * instructions set bits (all at VMPTRLD), an entry that succeeded clears them. Fields that the
     * transitions themselves write are not marked. What they have taken over had passed the checks, so a
     * group that is not dirty need not be checked again.
     */
    u32 dirty;
    /*
     * L2 has run since, and what is in the groups VMCS12_LAZY, but for members that every exit saves, is in
     * vmcs02 and not here: nested_vmx_save_state() before any access. None of those groups is dirty then.
     */
    bool unsaved;

    u64 ept_pointer; /* that has passed vmx_check_eptp() for INVEPT, or 0, which does not */
    u32 invepts;     /* that L1 has executed, on this CPU; wraps around */

    /* vmx-operand.c: the paging of L1 or L2, for operands in its memory; made anew when the role changes. */
    struct paging_cpu operand_cpu;
    struct paging operand_paging;
    u64 operand_registers[3]; /* CR0, CR4 and EFER that it was made for */
    u64 operand_pdptes[VMCS_PDPTES];
    struct vmx_operand_path operand_path[VMX_OPERAND_PATHS];

    struct vmcs_shadowing shadowing;
    struct vmcs02_state *vmcs02;
};

static inline struct nested_vmx *nested_vmx_of(const struct vcpu *vcpu)
{
    return vcpu->nested;
}

/* --- vmx-start.c --- */

/*
 * Allocates and initializes vcpu->nested and, through nested_vmx_transitions_init(), what the transitions
 * need; registers the hooks. False if the frame pool is empty. Called once per vcpu at boot, if
 * machine.nested on a VMX CPU, after vendor->prepare().
 */
bool nested_vmx_init(struct vcpu *vcpu);

/* --- vmx-instructions.c --- */

/* Hook instruction: any VMX instruction of L1, VMCALL included if it is none of Umbra's. */
enum exit_action nested_vmx_instruction(struct vcpu *vcpu, u32 reason);

/*
 * VMREAD or VMWRITE of L2, vmcs02 being the hardware's current VMCS: is it an exit to L1; and if it is not,
 * the instruction itself, on the shadow VMCS that L1 has linked (SDM vol. 3C 25.10, vol. 3D ch. 31). Faults
 * of L2, of either stage, go where L1 has them go. The action is L2's, or L1's if it came to an exit.
 */
bool l1_intercepts_field(const struct vcpu *vcpu, const struct vmcs12 *vmcs12, bool write);
enum exit_action l2_field_access(struct vcpu *vcpu, bool write);

/* Hooks vmread, vmwrite, vmresume, invept: the same for these. */
enum exit_action nested_vmx_vmread(struct vcpu *vcpu);
enum exit_action nested_vmx_vmwrite(struct vcpu *vcpu);
enum exit_action nested_vmx_vmresume(struct vcpu *vcpu);
enum exit_action nested_vmx_invept(struct vcpu *vcpu);

/* VM-instruction errors, SDM vol. 3D 31.4. */
enum vmx_instruction_error {
    VMX_ERROR_VMCALL_IN_ROOT = 1,
    VMX_ERROR_VMCLEAR_ADDRESS = 2,
    VMX_ERROR_VMCLEAR_VMXON_POINTER = 3,
    VMX_ERROR_VMLAUNCH_NOT_CLEAR = 4,
    VMX_ERROR_VMRESUME_NOT_LAUNCHED = 5,
    VMX_ERROR_VMRESUME_AFTER_VMXOFF = 6,
    VMX_ERROR_ENTRY_CONTROLS = 7,
    VMX_ERROR_ENTRY_HOST_STATE = 8,
    VMX_ERROR_VMPTRLD_ADDRESS = 9,
    VMX_ERROR_VMPTRLD_VMXON_POINTER = 10,
    VMX_ERROR_VMPTRLD_REVISION = 11,
    VMX_ERROR_UNSUPPORTED_FIELD = 12,
    VMX_ERROR_READ_ONLY_FIELD = 13,
    VMX_ERROR_VMXON_IN_ROOT = 15,
    VMX_ERROR_ENTRY_MOV_SS = 26,
    VMX_ERROR_INVALIDATION_OPERAND = 28,
};

/*
 * How a VMX instruction of L1 fails (SDM vol. 3D 31.2): sets the flags in vmcs01, which must be the current
 * VMCS of the hardware, and the VM-instruction error field of vmcs12. nested_vmx_fail() is VMfailInvalid
 * without a current VMCS, else VMfailValid. The action is EXIT_SKIP.
 */
enum exit_action nested_vmx_fail_invalid(void);
enum exit_action nested_vmx_fail(struct vcpu *vcpu, enum vmx_instruction_error error);

/* --- vmx-launch.c --- */

/* VMLAUNCH (`launch`) or VMRESUME of L1, in VMX operation and at CPL 0. */
enum exit_action nested_vmx_launch(struct vcpu *vcpu, bool launch);

/* --- vmx-enter.c and following: the transitions --- */

/* Allocates nested_vmx.vmcs02. False if the frame pool is empty. */
bool nested_vmx_transitions_init(struct vcpu *vcpu);

/*
 * VMLAUNCH (`launch`) or VMRESUME of nested->vmcs12, of which all checks on controls, host state and guest
 * state (SDM vol. 3C 27.2, 27.3.1) have passed and whose launch state fits. What is left is the loading: MSRs
 * (27.4, entry failure 34), guest state, event injection. vmcs01 is the hardware's current VMCS on entry. On
 * success: L2 is ready to be entered (vcpu->l2_running, vmcs02 current in hardware), launch_state is
 * VMCS12_LAUNCHED, dirty is 0; result EXIT_RESUME. A failure of the loading is an entry-failure exit to L1:
 * result EXIT_RESUME, too.
 */
enum exit_action nested_vmx_enter(struct vcpu *vcpu, bool launch);

/*
 * An entry that fails after the checks on controls and host state (SDM vol. 3C 27.8): basic reason 33, 34 or
 * 41 with its qualification. Sets exit_reason (with bit 31) and exit_qualification of vmcs12, loads L1's
 * state from the host-state area and the exit MSR-load area; nothing else of vmcs12 changes. L2 did not run:
 * vmcs01 is current before and after. EXIT_RESUME.
 */
enum exit_action nested_vmx_entry_failure(struct vcpu *vcpu, u32 basic_reason, u64 qualification);

/*
 * The region at `region` (guest-physical, 4-KByte aligned) is no longer L1's VMCS as it was: VMCLEAR, or
 * VMXOFF (NO_VMCS: all regions). Cached vmcs02s made from it are forgotten. Called after write-back.
 */
void nested_vmx_forget_vmcs02(struct vcpu *vcpu, u64 region);

/* The current vmcs12 has just been exchanged (VMPTRLD): dirty is VMCS12_ALL. Chooses or evicts a vmcs02. */
void nested_vmx_select_vmcs02(struct vcpu *vcpu);

/* --- vmx-state.c --- */

/* vmcs12 gets all of L2's state, if some is still in vmcs02. vmcs01 is the hardware's current VMCS. */
void nested_vmx_save_state(struct vcpu *vcpu);

/* --- vmx-ept.c --- */

/* See vcpu/nested.h. */
void nested_vmx_own_map_changed(struct vcpu *vcpu);
/* Of the machine, made by the first nested_vmx_transitions_init(). */
struct shadow *nested_vmx_shadow(void);
struct shadow_cpu *nested_vmx_shadow_cpu(const struct vcpu *vcpu);
/* This CPU, or its hardware, will write there: shadow_will_write(). */
void nested_vmx_will_write(gpa_t address, u64 bytes);
/* The one way of Umbra's to write L1's memory while it runs: guest_write() after that. */
enum guest_mem_status nested_vmx_write(gpa_t address, const void *src, size_t bytes);
/* L1's INVVPID, whatever L2 runs on: a VPID of L1, or SHADOW_ALL_TAGS. */
void nested_vmx_invalidate_linear(struct vcpu *vcpu, u32 l1_vpid);

/* Hooks l2_exit and l2_entry_failed. */
enum exit_action nested_vmx_l2_exit(struct vcpu *vcpu, u32 reason);
enum exit_action nested_vmx_l2_entry_failed(struct vcpu *vcpu, u32 error);

#endif
