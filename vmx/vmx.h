/* SPDX-License-Identifier: MIT */
/*
 * What the files of vmx/ know of each other: the VMX half of a virtual CPU and one group of functions per
 * file. All of it runs on the CPU that the vcpu belongs to, with the vcpu's VMCS current.
 */
#ifndef UMBRA_VMX_VMX_H
#define UMBRA_VMX_VMX_H

#include "vcpu/vcpu.h"
#include "arch/print.h"
#include "vmx/capability.h"
#include "vmx/instructions.h"
#include "vmx/vmcs.h"

struct vmx_vcpu {
    hpa_t vmxon_region, vmcs, msr_bitmap; /* a frame each */
    u64 ept_pointer;
    u16 vpid; /* 0: not in use */
    /*
     * Of the hardware's current VMCS: the primary processor-based controls without those that follow
     * nmi_pending, and which these are: NMI-window exiting, or whatever leads to L1 while L2 runs.
     */
    u32 primary, nmi_controls;
    u64 host_rsp;
    bool vmcs_current; /* VMREAD works */
    /*
     * The guest is in VMX root operation: it may not clear some bits of CR0 and CR4, and INIT waits (SDM vol.
     * 3C 24.8). vmx_set_root_operation() changes it.
     */
    bool root_operation, init_pending;
    u64 sipi_exit; /* which exit, as accounting.exits counts, was the last start-up IPI; 0: none */
};

static inline struct vmx_vcpu *vmx_of(const struct vcpu *vcpu)
{
    return vcpu->vendor;
}

/* --- setup.c --- */

const char *vmx_enable(struct vcpu *vcpu);
/* A frame for a VMCS, with its revision identifier. False if the frame pool is empty. */
bool vmx_alloc_region(hpa_t *region);
/* The host-state area of the hardware's current VMCS, but for RIP and RSP. */
void vmx_write_host_state(void);
const char *vmx_prepare(struct vcpu *vcpu, const struct start_state *start);
_Noreturn void vmx_run(struct vcpu *vcpu);

/* --- guest-state.c --- */

/*
 * Puts the vcpu into the state that INIT leaves, changed by *start; DR7 and the debug controls are reset, the
 * guest's MSRs other than EFER stay. Also used at boot, where setup.c has set those before.
 */
void vmx_guest_state_reset(struct vcpu *vcpu, const struct start_state *start);

/* CR0 as the guest sees it. */
u64 vmx_guest_cr0(void);
/*
 * CR4 as the guest sees it: of the bits that it does not own it never has any, and its shadow of them stays
 * 0, but VMXE while it is shown VMX.
 */
static inline u64 vmx_guest_cr4(void)
{
    u64 owned = vmread(VMCS_GUEST_CR4) & CR4_GUEST_OWNED;
    return machine.nested ? owned | (vmread(VMCS_CR4_SHADOW) & CR4_VMXE) : owned;
}

/* What the vendor-neutral handlers need; also fills gpr[GPR_RSP]. */
void vmx_exit_context(struct vcpu *vcpu, struct exit_context *context);

/* CS.L in IA-32e mode. */
bool vmx_code64(void);

/* --- control-registers.c --- */

/* Control-register accesses (exit reason 28). */
enum exit_action vmx_control_register_exit(struct vcpu *vcpu, u64 qualification);
/*
 * What the guest then sees in CR0 or CR4, checked by the caller; bits that Umbra keeps stay in the real
 * registers. CD and NW of the CPU, EFER and the TLB are the caller's business. After a checked access to the
 * VMCS.
 */
static inline void vmx_set_guest_cr0(u64 cr0)
{
    vmwrite_unchecked(VMCS_GUEST_CR0, cr0 | vmx_capability.cr0_forced);
    vmwrite_unchecked(VMCS_CR0_SHADOW, cr0);
}

static inline void vmx_set_guest_cr4(u64 cr4)
{
    vmwrite_unchecked(VMCS_GUEST_CR4, (cr4 & CR4_GUEST_OWNED) | vmx_capability.cr4_fixed0);
    vmwrite_unchecked(VMCS_CR4_SHADOW, cr4);
}

/* The bits of CR0 whose changes exit, after a change of v->root_operation. */
void vmx_write_cr0_mask(const struct vcpu *vcpu);

/*
 * Loads the PDPTEs that the guest's CR3 in the current VMCS names into that VMCS. False where the CPU raises
 * #GP(0) or fails an entry, and nothing is changed then.
 */
bool vmx_load_pdptes(void);

/* --- tlb.c --- */

/* Forgets all that this CPU may have cached before Umbra started. */
void vmx_flush_all(void);
/* For vendor.flush. */
void vmx_flush_guests(struct vcpu *vcpu);
/* Drops all translations of that EPT pointer, or of that VPID (0: nothing to do). */
void vmx_flush_ept_pointer(u64 ept_pointer);
void vmx_flush_vpid(u16 vpid);
/* Drops the guest's linear and combined mappings, as a change of CR0.PG does on a CPU. */
void vmx_flush_linear(struct vcpu *vcpu);

/* --- event.c --- */

/* A fault at the guest's current instruction. */
void vmx_inject_exception(enum exception_vector vector, bool has_error_code, u32 error_code);
/* Redoes the delivery of an event that this exit interrupted; returns false if there was none. */
bool vmx_resume_delivery(void);
/* The instruction at `rip`, after which `next` follows, is done: also ends an interrupt shadow, and honours
 * RF and TF. */
void vmx_skip_special_instruction(u64 next, u64 rip);
/* An NMI exit, and the exit of an NMI window. */
void vmx_nmi_exit(struct vcpu *vcpu);
void vmx_nmi_window_exit(struct vcpu *vcpu);
/* Injects the NMI that waits, or leaves it to v->nmi_controls if the guest cannot take it yet. */
void vmx_deliver_nmi(struct vcpu *vcpu);
/* For percpu.nmi_hook. */
void vmx_nmi_hook(struct vcpu *vcpu);
/*
 * Makes another VMCS the hardware's current one. `primary` and `nmi_controls` are as in struct vmx_vcpu; the
 * VMCS's control is written, whatever it was.
 */
void vmx_switch_vmcs(struct vcpu *vcpu, hpa_t vmcs, u32 primary, u32 nmi_controls);
/*
 * Makes a VMCS that no entry uses, or none before vmx_switch_vmcs(), current for a moment: any field of it
 * but the primary controls may be read and written, which the NMI hook may write meanwhile. The way back to
 * the vcpu's own VMCS, if it was current before.
 */
static inline void vmx_visit_vmcs(hpa_t vmcs)
{
    ASSERT(vmptrld(vmcs), "a VMCS that Umbra has set up itself can be made current");
}
void vmx_return_to_vmcs01(struct vcpu *vcpu);
/* Turns the exit after the next instruction on or off. */
void vmx_set_single_step(struct vcpu *vcpu, bool on);

/* --- dump.c --- */

void vmx_dump(struct vcpu *vcpu);
/* The manual's text for a VM-instruction error number. */
const char *vmx_instruction_error_name(u64 error);

/* --- entry.S and exit.c --- */

/*
 * The guest begins or ends VMX operation. True if an INIT that was blocked meanwhile has been taken at its
 * end: the guest is at its reset vector, or waits for a SIPI.
 */
bool vmx_set_root_operation(struct vcpu *vcpu, bool on);

/* The manual's name of a basic exit reason. */
const char *vmx_reason_name(u32 reason);

/* Host RIP of the VMCS: a VM exit arrives here, with host RSP pointing to the address of the vcpu. */
void vmx_exit_entry(void);
/* The same for a vmcs02. */
void vmx_l2_exit_entry(void);
/* First entry through a VMCS; `host_rsp` is its host RSP, v->host_rsp. */
_Noreturn void vmx_launch(struct vcpu *vcpu, u64 host_rsp);
/* Called by the stub at each exit; when it returns, the stub resumes the guest of the current VMCS. */
void vmx_exit(struct vcpu *vcpu);
void vmx_l2_exit(struct vcpu *vcpu);
/*
 * Called by the stub if VMLAUNCH or VMRESUME fell through; `valid` tells VMfailValid from VMfailInvalid.
 * Returns if it was an entry to L2: then the stub resumes L1.
 */
void vmx_entry_failed(struct vcpu *vcpu, bool valid);
/* Exit reason 48, if the current VMCS runs on machine.tdp. */
enum exit_action vmx_violation_exit(struct vcpu *vcpu);
/*
 * The same where that is known: an EPT violation with that qualification, of L1 or of L2, whose access (enum
 * tdp_access) to that address of L1's machine.tdp does not allow.
 */
enum exit_action vmx_denied_by_own_map(struct vcpu *vcpu, gpa_t address, unsigned access, u64 qualification);
/* After an exit with that qualification, for which the instruction or the delivery of an event is redone. */
void vmx_restore_events(u64 qualification);
/* What is left to do for the guest of the current VMCS before it is entered; `rip` is that of the exit. */
void vmx_finish_exit(struct vcpu *vcpu, enum exit_action action, u64 rip);

#endif
