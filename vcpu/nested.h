/* SPDX-License-Identifier: MIT */
/*
 * How the rooms below nested/ reach it: functions that nested/ registers once at boot, if the guest is shown
 * virtualization at all (machine.nested). Without it the pointer stays NULL and nobody uses it.
 */
#ifndef UMBRA_VCPU_NESTED_H
#define UMBRA_VCPU_NESTED_H

#include "arch/cpu.h"
#include "vcpu/vcpu.h"

enum { NESTED_SVM_L1_EXITS = 6 };

struct nested_hooks {
    /* L1 executed a virtualization instruction; `reason` is the vendor's exit reason (VMX: basic). */
    enum exit_action (*instruction)(struct vcpu *vcpu, u32 reason);
    /* VMX: those among them that every hypervisor executes by the million. */
    enum exit_action (*vmread)(struct vcpu *vcpu);
    enum exit_action (*vmwrite)(struct vcpu *vcpu);
    enum exit_action (*vmresume)(struct vcpu *vcpu);
    enum exit_action (*invept)(struct vcpu *vcpu);
    /*
     * The guest that L1 runs has exited; `reason` is the vendor's, entry-failure bit included. Afterwards the
     * VMCS or VMCB that is to be entered next, be it L1's or L2's, is the current one, and the action is for
     * that guest.
     */
    enum exit_action (*l2_exit)(struct vcpu *vcpu, u32 reason);
    /*
     * SVM: those two for the ways that L1 and L2 take all the time; of L1 VMEXIT_VMRUN and the codes that
     * follow it. They do all that is to be done at an exit, and may leave it to svm_exit_general() or
     * svm_l2_exit_ends(). For L1 no step of Umbra's or the like is going on.
     */
    void (*const *svm_l1_exit)(struct vcpu *vcpu); /* NESTED_SVM_L1_EXITS of them */
    void (*svm_l2_exit)(struct vcpu *vcpu, u32 index);
    /*
     * VMX: an entry to L2 failed early with this VM-instruction error, so that no exit happened: L1 is told,
     * its VMCS is the current one, and the action is for L1.
     */
    enum exit_action (*l2_entry_failed)(struct vcpu *vcpu, u32 error);
    /* MSRs that belong to virtualization. False: #GP(0). */
    bool (*msr_read)(struct vcpu *vcpu, u32 msr, u64 *value);
    bool (*msr_write)(struct vcpu *vcpu, u32 msr, u64 value);
    /* machine.tdp has changed, and will be flushed: what was made from it for this CPU's and other CPUs' L2s
     * is not to be found any more. The lock of vcpu/shootdown.h is held. */
    void (*own_map_changed)(struct vcpu *vcpu);
    /* After all other corrections: shows L1 the features that `regs` had lost. */
    void (*cpuid)(u32 leaf, u32 subleaf, struct cpuid_regs *regs);
};

extern const struct nested_hooks *nested_hooks;

#endif
