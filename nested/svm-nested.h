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
    u64 next_rip;
};

struct nested_svm {
    /* The copy that was made at VMRUN and is used until the exit; valid while L2 runs. Only what VMRUN reads.
     */
    struct vmcb vmcb12;
    u64 vmcb12_address; /* guest-physical */
    struct vmcb *vmcb02;
    hpa_t vmcb02_address;

    u64 hsave_pa;
    struct svm_check_facts facts; /* all but host_paging is constant */
    struct paging_cpu cpu;        /* L1's CPU, for the role of its nested paging */

    struct svm_msr_merge msr_merge;
    const u64 *l1_msr_map; /* in L1's memory, valid while L2 runs and VMEXIT_MSR is intercepted by L1 */
    u64 *msr_map02;
    hpa_t msr_map02_address;
    hpa_t all_ones; /* three pages: a permission map that intercepts everything */

    struct svm_injected injected;
    bool interrupts; /* RFLAGS.IF at VMRUN: with V_INTR_MASKING L1's, else no matter */

    /* svm-translation.c */
    struct shadow *shadow;
    struct shadow_cpu shadow_cpu;
    struct shadow_use use; /* valid with L1's nested paging */
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
    return (nested->vmcb12.control.nested_control & NP_ENABLE) != 0;
}

/* svm-start.c: memory, capabilities, hooks. False if the frame pool is empty. Once per vcpu, if
 * machine.nested. */
bool nested_svm_init(struct vcpu *vcpu);

/* svm-instructions.c; hook instruction */
enum exit_action nested_svm_instruction(struct vcpu *vcpu, u32 code);

/* svm-entry.c: VMRUN of a vmcb12 in L1's RAM, after the checks of the instruction itself. L1's RIP is past
 * it. */
void nested_svm_enter(struct vcpu *vcpu, u64 vmcb12_address);

/* svm-exit.c; hook l2_exit */
enum exit_action nested_svm_l2_exit(struct vcpu *vcpu, u32 index);
/* L1 sees a VMEXIT of L2 with this code and EXITINFO; vmcb02 holds L2's state. L1 is the one to go on. */
void nested_svm_reflect(struct vcpu *vcpu, u64 code, u64 info_1, u64 info_2);
/* VMRUN refused vmcb12: VMEXIT_INVALID, and nothing of the state save area changes. */
void nested_svm_refuse(struct vcpu *vcpu);

/* svm-translation.c: nested paging, ASIDs and TLB flushes. */
bool nested_svm_translation_init(struct vcpu *vcpu);
/* Before each entry of L2: nCR3, ASID and TLB_CONTROL of vmcb02. */
void nested_svm_translate(struct vcpu *vcpu);
/* vmcb12's TLB_CONTROL at VMRUN. */
void nested_svm_obey_tlb_control(struct nested_svm *nested);
/* INVLPGA by L1 with an ASID of L2's. */
void nested_svm_invalidate_linear(struct nested_svm *nested, u32 asid);
/* VMEXIT_NPF while L2 runs. */
enum exit_action nested_svm_npf(struct vcpu *vcpu);

#endif
