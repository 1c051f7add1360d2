/* SPDX-License-Identifier: MIT */
/*
 * What the transitions know of each other: the cache of vmcs02s, the state of an L2 that runs, and one group
 * of functions per file. "Current" here is the hardware's current VMCS.
 */
#ifndef UMBRA_NESTED_VMX_VMCS02_H
#define UMBRA_NESTED_VMX_VMCS02_H

#include "nested/vmx-merge.h"
#include "nested/vmx-nested.h"
#include "vmx/vmx.h"

enum { VMCS02_CACHE = 8, FIRST_L2_VPID = 0x100, L2_VPIDS = SHADOW_TAGS + 1 };

/* Registers that entry and exit controls switch, keep or save as L1 likes: their bits in a plan. */
enum { SWITCHED_EFER, SWITCHED_PAT, SWITCHED_DEBUGCTL, SWITCHED_DR7, SWITCHED_REGISTERS = 11 };

struct switch_plan {
    u16 loaded, carried; /* at an entry: from vmcs12, from L1 */
    u16 renewed;         /* loaded, but not saved: vmcs02 does not keep the value */
    u16 saved;           /* at an exit, when L1 asks */
    u16 saved_at_once;   /* since the next entry overwrites it in vmcs02 */
    u16 host, kept;      /* of L1 after an exit: from the host-state area, from L2 */
    bool pdptes;         /* L1 uses EPT, so they are in the VMCS */
};

/*
 * The controls that other checks, the plan and the shadow depend on. What else changes among the controls, as
 * an interrupt window does at many entries, concerns nothing but the controls.
 */
struct control_modes {
    u64 ept_pointer;
    u32 pin, secondary, exit, entry, vpid;
};

/* The VMCS that the hardware runs L2 on, for one VMCS region of L1's. */
struct vmcs02 {
    u64 region; /* of L1, or NO_VMCS */
    hpa_t vmcs, msr_bitmap;
    struct vmx_msr_merge msr_merge;
    bool launched;
    u64 used; /* for LRU */
    u32 controls[CONTROL_WORDS];
    /* Of the controls that L2 ran with last; the key, the plan, and the rights follow from them. */
    struct control_modes modes;
    struct switch_plan plan;
    u64 host_rights[VMCS_GS + 1]; /* access rights of L1's ES to GS after an exit */
    const u64 *l1_msr_bitmap;     /* NULL: L1 intercepts all MSRs */
    struct shadow_key key;        /* of the shadow, if L1 uses EPT */
    u64 ept_pointer;              /* as written; 0: none yet */
    u16 vpid;
    u32 invepts; /* nested_vmx.invepts, as of the last flush for the APIC-access page */
};

struct vmcs02_state {
    struct vmcs02 cache[VMCS02_CACHE];
    struct vmcs02 *active; /* of the current vmcs12, or NULL */
    u64 clock;
    /*
     * Two pages that stand for what L1 names but does not own: one reads as ones and is only ever read, the
     * other takes what hardware writes.
     */
    hpa_t ones, sink;
    struct shadow_cpu shadow_cpu;
    struct shadow_use use; /* the shadow that L2 runs on, if L1 uses EPT */
    /* Which of the cache that is; NULL: none, or its key or its L1 VPID have changed since. */
    const struct vmcs02 *acquired_for;
    /* Of L2s without L1's EPT, which share a VPID: its translations are stale; who used it last. */
    bool unshadowed_flush;
    const struct vmcs02 *unshadowed_user;
    u32 unshadowed_vpid;
    u32 primary01;    /* vmx_vcpu.primary of vmcs01 while L2 runs */
    bool stepping;    /* MTF is Umbra's own */
    bool nmi_blocked; /* NMIs to L1 are blocked while L2 runs: NMI exiting without virtual NMIs only */
};

static inline struct vmcs02_state *vmcs02_state_of(const struct vcpu *vcpu)
{
    return nested_vmx_of(vcpu)->vmcs02;
}

static inline bool l1_uses_ept(const struct vmcs12 *vmcs12)
{
    return (vmcs12_secondary(vmcs12) & SECONDARY_EPT) != 0;
}

static inline u32 l1_vpid(const struct vmcs12 *vmcs12)
{
    return (vmcs12_secondary(vmcs12) & SECONDARY_VPID) != 0 ? vmcs12->vpid : 0;
}

/* --- vmx-vmcs02.c --- */

/* Has vmcs12 the modes with which its vmcs02 ran last? */
bool vmcs02_modes_same(const struct vmcs02 *vmcs02, const struct vmcs12 *vmcs12);

/*
 * Makes `active` the current VMCS and brings it up to date with vmcs12, but for EPT and event injection,
 * which the caller adds. vmcs01 is current before.
 */
void vmcs02_load(struct vcpu *vcpu, struct nested_vmx *nested);

/* --- vmx-state.c: L2's registers; "vmcs12 has" means that its member is valid, "unsaved" struct nested_vmx's
 * --- */

/* Values of registers on their way from L1 to L2 or back, by their numbers. */
struct carried_registers {
    u64 value[SWITCHED_REGISTERS];
};

/* What vmcs12's controls do to the registers that they switch. */
struct switch_plan l2_switch_plan(const struct vmcs12 *vmcs12);
/* At an entry, with vmcs01 current: reads what L2 gets of L1's registers. */
void l2_state_carry(const struct switch_plan *plan, struct carried_registers *carried);
/* With vmcs02 current, if nested_vmx.dirty has VMCS12_CONTROLS: from now on vmcs02 follows that plan. */
void l2_state_change_plan(struct nested_vmx *nested, const struct switch_plan *plan);
/* Then: writes what vmcs02 has not, by nested_vmx.dirty. */
void l2_state_load(struct nested_vmx *nested, const struct carried_registers *carried);
/*
 * At an exit, with vmcs02 current: what an exit tells L1 as the hardware reports it; and L2's state, of which
 * a part stays unsaved. Both return the shadowed fields that have changed, as vmcs_shadowing.stale has them.
 */
u32 l2_information_save(struct vmcs12 *vmcs12);
u32 l2_state_save(struct nested_vmx *nested, struct carried_registers *kept);
/* With vmcs02 current: vmcs12 gets what is unsaved. */
void l2_state_read(struct nested_vmx *nested);
/* With vmcs01 current: L1's registers after an exit. */
void l1_switched_registers_load(const struct vmcs12 *vmcs12, const struct switch_plan *plan,
                                const struct carried_registers *kept);

/* --- vmx-ept.c --- */

/* EPT pointer, VPID and the flushes owed, for the current vmcs02: before each entry. */
void l2_acquire_tables(struct vcpu *vcpu, struct nested_vmx *nested);
/* What L1's EPT pointer and controls ask of a shadow. */
struct shadow_key l2_shadow_key(const struct vmcs12 *vmcs12);
/*
 * An EPT violation of L2: is it an ordinary one, and filled? Then L2 goes on at once, without
 * l2_acquire_tables(). Else nothing has happened.
 */
bool l2_second_level_filled(struct nested_vmx *nested);
/* An EPT violation or misconfiguration of L2. */
enum exit_action l2_second_level_exit(struct vcpu *vcpu, u32 reason);
enum exit_action l2_vmfunc_exit(struct vcpu *vcpu);
/* L1's tables as the second stage of L2's accesses, with their EPT pointer; NULL if L1 uses none. */
const struct paging *l2_second_stage(const struct vcpu *vcpu, u64 *ept_pointer);
/* Does L1 keep a log of the pages that L2 dirties? */
bool l2_writes_log(const struct vcpu *vcpu);
/*
 * An access that Umbra makes for L2, asked of L1's tables as the hardware would: their flags are set, the log
 * is written. `linear` is the linear address that is being translated. False: L1 has the exit or exception,
 * and *action is what is left to do.
 */
bool l2_second_level_allows(struct vcpu *vcpu, const struct shadow_access *access, u64 linear,
                            enum exit_action *action);

/* --- vmx-msr.c --- */

/* MSR lists of a VMCS, SDM vol. 3C 25.7.2 and 25.8.2. */
enum { MSR_LIST_DONE = 0 };
/*
 * Loads the list at guest-physical `list` of L1 into what runs on the current VMCS; MSRs that the VMCS holds
 * go to its guest-state area. MSR_LIST_DONE, or the number of the entry that failed, counted from 1.
 */
u32 msr_list_load(struct vcpu *vcpu, u64 list, u32 count);
/* The other direction. */
u32 msr_list_store(struct vcpu *vcpu, u64 list, u32 count);
/* Is RDMSR or WRMSR of gpr[RCX] intercepted by L1? */
bool l1_intercepts_msr(const struct vcpu *vcpu, const struct vmcs12 *vmcs12, bool write);

/* --- vmx-event.c --- */

static inline bool l1_exits_by_nmi(const struct vmcs12 *vmcs12)
{
    return (vmcs12->pin_controls & PIN_NMI_EXITING) != 0;
}

static inline bool l1_has_virtual_nmis(const struct vmcs12 *vmcs12)
{
    return (vmcs12->pin_controls & PIN_VIRTUAL_NMIS) != 0;
}

/* L1 has NMI exiting only: blocking by NMI in vmcs12 and in vmcs02 are not the same. */
static inline bool l2_interruptibility_differs(const struct vmcs12 *vmcs12)
{
    return (vmcs12->pin_controls & (PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)) == PIN_NMI_EXITING;
}

static inline bool l1_injects_nmi(const struct vmcs12 *vmcs12)
{
    const u64 mask = INTERRUPTION_VALID | INTERRUPTION_TYPE;
    return (vmcs12->entry_interruption & mask) == (INTERRUPTION_VALID | INTERRUPTION_NMI);
}

/* Notes the NMI blocking that L1 gives L2, by its field or by an NMI; before the other functions, at each
 * entry. */
static inline void l2_take_nmi_blocking(struct vmcs02_state *state, const struct vmcs12 *vmcs12)
{
    state->nmi_blocked = l2_interruptibility_differs(vmcs12) &&
                         ((vmcs12->guest_interruptibility & BLOCKING_BY_NMI) != 0 || l1_injects_nmi(vmcs12));
}

/* The primary controls through which an NMI that came while Umbra ran makes itself heard in L2. */
static inline u32 l2_nmi_controls(const struct vmcs02_state *state, const struct vmcs12 *vmcs12)
{
    if (!l1_exits_by_nmi(vmcs12))
        return (u32)PRIMARY_NMI_WINDOW;
    return state->nmi_blocked ? 0 : (u32)PRIMARY_MONITOR_TRAP_FLAG;
}

/* Interruptibility state of vmcs02 at an entry, and that of vmcs12 after an exit. */
u32 l2_interruptibility(const struct vmcs12 *vmcs12);
static inline u32 l2_saved_interruptibility(const struct vmcs02_state *state, const struct vmcs12 *vmcs12,
                                            u64 hardware)
{
    if (l2_interruptibility_differs(vmcs12))
        return (u32)((hardware & ~BLOCKING_BY_NMI) | (state->nmi_blocked ? BLOCKING_BY_NMI : 0));
    return (u32)hardware;
}

/* NMI blocking of L1 after an exit (SDM vol. 3C 28.5.5); vmcs12 holds what the exit saved. */
static inline u64 l1_nmi_blocking_after_exit(const struct vmcs12 *vmcs12, bool nmi_exit)
{
    if (nmi_exit)
        return BLOCKING_BY_NMI;
    return l1_has_virtual_nmis(vmcs12) ? 0 : vmcs12->guest_interruptibility & BLOCKING_BY_NMI;
}

/*
 * L1 enters L2 (vmcs02 is ready) while an NMI waits: does nothing hold it back and nothing come before it?
 * Then it exits before L2 does anything, which MTF could not do for an L2 in HLT.
 */
bool l2_nmi_is_first(const struct vcpu *vcpu);
/*
 * Whether an NMI that waits comes before L2's next instruction, by these fields of a VMCS: MOV SS holds it
 * back, and what comes first are debug traps (not breakpoints that DR7 does not enable), the timer, and
 * NMI-window exits (SDM vol. 3C 26.2, 27.7.3, 27.7.4, 27.7.6).
 */
bool l2_nmi_is_next(const struct vmcs12 *vmcs12, u64 interruptibility, u64 pending_debug, u64 timer);
/* MTF for a step of Umbra's own in L2. */
void l2_set_step(struct vcpu *vcpu, bool on);
/* A fault that Umbra raises in L2: injected, or L1's exit if its exception bitmap says so. */
enum exit_action l2_exception(struct vcpu *vcpu, enum exception_vector vector, bool has_error_code,
                              u32 error_code);
/* The same of a page fault at `address`, which the page-fault error-code mask and match decide about, too. */
enum exit_action l2_page_fault(struct vcpu *vcpu, u32 error_code, u64 address);

/* --- vmx-exit.c --- */

/* vmcs01 is the current VMCS again, and the next entry is L1's. */
void l2_leave_vmcs02(struct vcpu *vcpu);

/* What an exit tells L1: the information fields of SDM vol. 3C 25.9. */
struct l2_exit_information {
    u32 reason, interruption, error_code, vectoring, vectoring_error_code;
    u32 instruction_length, instruction_information;
    u64 qualification, guest_linear_address, guest_physical_address;
};

/* As the hardware reports it in the current vmcs02; for exits that L1 gets otherwise. */
void l2_exit_information_read(struct l2_exit_information *information);
/* After a change of the host-state area or of the exit controls. */
void l1_take_host_segments(struct vmcs02 *vmcs02, const struct vmcs12 *vmcs12);
/* Leaves L2: vmcs12 is filled in, L1's state loaded. vmcs02 is current before, vmcs01 after. EXIT_RESUME. */
enum exit_action l2_reflect(struct vcpu *vcpu, const struct l2_exit_information *information);
/* The same for an NMI, which does not wait any more. */
enum exit_action l2_nmi_exit(struct vcpu *vcpu);
/* The same for an INIT. */
enum exit_action l2_init_exit(struct vcpu *vcpu);

#endif
