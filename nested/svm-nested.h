/* SPDX-License-Identifier: MIT */
/*
 * What the files of nested SVM know of each other: SVM as L1 uses it on one vcpu. L1's own state is in vmcb01
 * all the time, which so plays the host state save area, too: VM_HSAVE_PA is only remembered.
 */
#ifndef UMBRA_NESTED_SVM_NESTED_H
#define UMBRA_NESTED_SVM_NESTED_H

#include "mm/paging-role.h"
#include "nested/shadow.h"
#include "nested/svm-check.h"
#include "nested/svm-merge.h"
#include "svm/svm.h"
#include "vcpu/nested.h"

/* What an injected event was when L2 was entered with it: an exit that interrupts its delivery names it
 * again. */
struct svm_injected {
    u64 event; /* EVENTINJ; 0 if there was none */
    u64 next_rip, rip;
};

/* A permission map of L1's that was looked up: its page-aligned address, and where it is. */
struct svm_map {
    u64 base;         /* SVM_SLOT_FREE: none was */
    const u64 *words; /* NULL: not all of it is L1's RAM */
};

/*
 * A page of L1's that it uses as a VMCB (vmcb12), and what became of it. While L1 calls fields clean, what
 * was copied at an earlier VMRUN is used on (15.15), so that a VMRUN costs what L1 has changed.
 */
struct svm_slot {
    u64 address;         /* of vmcb12, guest-physical; SVM_SLOT_FREE */
    struct vmcb *vmcb12; /* in L1's RAM: may change at any time */
    struct vmcb *vmcb02; /* what the CPU runs */
    hpa_t vmcb02_address;
    bool loaded;        /* control and vmcb02 hold what vmcb12 held after the last exit */
    const u64 *msr_map; /* in L1's RAM, valid if L1 intercepts MSRs; NULL: it is no RAM, and intercepts all */
    struct {
        u64 cr0, cr4, efer, pat;
    } host;                      /* L1's registers that `role` and vmcb02 depend on */
    struct paging_role role;     /* of L1's nested paging, if it is on */
    struct vmcb_control control; /* the copy that was checked */
    struct svm_map io_map, looked_up_msr_map;
};
#define SVM_SLOT_FREE (~0ull)

enum { SVM_SLOT_SETS = 4, SVM_SLOT_WAYS = 2, SVM_SLOTS = SVM_SLOT_SETS * SVM_SLOT_WAYS };

struct nested_svm {
    struct svm_slot slots[SVM_SLOTS];
    struct svm_slot *slot;  /* of the L2 that runs, or ran last */
    struct svm_slot *other; /* found last by nested_svm_slot() */

    u64 hsave_pa;
    struct svm_check_facts facts; /* all but host_paging is constant */
    struct paging_cpu cpu;        /* L1's CPU, for the role of its nested paging */
    u64 v_intr_for_l2;            /* svm_v_intr_for_l2() */
    u64 lbr_control_for_l2;       /* svm_lbr_control_for_l2() */

    u32 own_intercepts[VMCB_INTERCEPT_WORDS]; /* Umbra's, of what L2 does */
    struct svm_msr_merge msr_merge;
    hpa_t msr_map02;
    hpa_t all_ones; /* three pages: a permission map that intercepts everything */

    struct svm_injected injected;
    struct {
        u64 v_intr, tpr;
        bool smi;
    } gif;           /* svm-gif.c: vmcb02's V_INTR and CR8 when L2 cleared it; an SMI has come since then */
    bool interrupts; /* RFLAGS.IF at VMRUN: with V_INTR_MASKING L1's, else no matter */

    /* svm-translation.c */
    struct shadow *shadow;
    struct shadow_cpu shadow_cpu;
    const struct svm_slot *acquired; /* whose tables and ASID the shadow was asked for last; NULL: others */
    u32 handle;                      /* of the shadow's root, valid with L1's nested paging */
    u32 first_asid;
    bool one_asid;   /* the CPU has too few: one for every L2, flushed at each change of user */
    u32 last_tag;    /* with one_asid: whose translations the ASID may hold */
    u32 direct_asid; /* without L1's nested paging: the ASID that L1 gave last */
    bool direct_flush;
};

static inline struct nested_svm *nested_svm_of(const struct vcpu *vcpu)
{
    return vcpu->nested;
}

static inline bool nested_svm_has_np(const struct nested_svm *nested)
{
    return (nested->slot->control.nested_control & NP_ENABLE) != 0;
}

/* svm-start.c: memory, capabilities, hooks. False if the frame pool is empty. Once per vcpu, if
 * machine.nested. */
bool nested_svm_init(struct vcpu *vcpu);

/* svm-msr.c; hooks msr_read and msr_write */
bool nested_svm_read_msr(struct vcpu *vcpu, u32 msr, u64 *value);
bool nested_svm_write_msr(struct vcpu *vcpu, u32 msr, u64 value);

/* svm-instructions.c; hooks svm_l1_exit and instruction */
extern void (*const nested_svm_l1_exits[NESTED_SVM_L1_EXITS])(struct vcpu *vcpu);
enum exit_action nested_svm_instruction(struct vcpu *vcpu, u32 code);

/* svm-slot.c: that of the VMCB at this address. NULL if no page of L1's RAM begins there. */
struct svm_slot *nested_svm_slot(struct nested_svm *nested, u64 address);
/* L1 has switched SVM off and on, or was reset: no field of its VMCBs is clean. */
void nested_svm_forget(struct svm_vcpu *svm);

/* svm-entry.c: VMRUN, after the checks of the instruction itself. L1's RIP is past it. RAX of who runs next
 * is in its VMCB only. */
void nested_svm_enter(struct vcpu *vcpu, struct svm_slot *slot);

/* svm-exit.c; hook svm_l2_exit */
void nested_svm_l2_exit(struct vcpu *vcpu, u32 index);
/* L1 sees a VMEXIT of L2 with this code and EXITINFO; vmcb02 holds L2's state. L1 is the one to go on. */
void nested_svm_reflect(struct vcpu *vcpu, u64 code, u64 info_1, u64 info_2);
/* VMRUN sets L1's GIF, for which an NMI or INIT has waited: L2 gets it, or L1 at once if it asked for that
 * exit. False: L2 does not run. */
bool nested_svm_take_held(struct vcpu *vcpu);
/* VMRUN refused vmcb12: VMEXIT_INVALID, and nothing of the state save area changes. */
void nested_svm_refuse(struct vcpu *vcpu);

/* svm-gif.c: CLGI by L2; and STGI, or an exit to L1. vmcb02 is the current VMCB. */
void nested_svm_clear_l2_gif(struct svm_vcpu *svm);
void nested_svm_set_l2_gif(struct svm_vcpu *svm);

/* svm-translation.c: nested paging, ASIDs and TLB flushes. */
bool nested_svm_translation_init(struct vcpu *vcpu);
/* See vcpu/nested.h. */
void nested_svm_own_map_changed(struct vcpu *vcpu);
/* Before each entry of L2: nCR3, ASID and TLB_CONTROL of vmcb02. */
void nested_svm_translate(struct vcpu *vcpu);
/* vmcb12's TLB_CONTROL at VMRUN, if it is not 0, as far as it is about L2s. */
void nested_svm_obey_tlb_control(struct nested_svm *nested, u8 tlb_control);
/* INVLPGA by L1 with an ASID of L2's. */
void nested_svm_invalidate_linear(struct nested_svm *nested, u32 asid);
/*
 * VMEXIT_NPF while L2 runs: is it an ordinary one, and filled? Then L2 goes on at once, without
 * nested_svm_translate(). Else nothing has happened.
 */
bool nested_svm_npf_filled(struct nested_svm *nested);
/* VMEXIT_NPF while L2 runs. */
enum exit_action nested_svm_npf(struct vcpu *vcpu);

#endif
