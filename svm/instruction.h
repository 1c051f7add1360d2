/* SPDX-License-Identifier: MIT */
/*
 * The instruction that caused an exit: how long it is, where the CPU does not say (no NRIP save), and whether
 * it is the one that the exit names.
 */
#ifndef UMBRA_SVM_INSTRUCTION_H
#define UMBRA_SVM_INSTRUCTION_H

#include "svm/svm.h"

enum svm_instruction {
    SVM_INSTRUCTION_CPUID,
    SVM_INSTRUCTION_RDMSR,
    SVM_INSTRUCTION_WRMSR,
    SVM_INSTRUCTION_INVD,
    SVM_INSTRUCTION_XSETBV,
    SVM_INSTRUCTION_VMMCALL,
};

/* Pure: is this, with whatever prefixes, that instruction? */
bool svm_instruction_is(const struct instruction *decoded, enum svm_instruction which);

/*
 * Pure: VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT or INVLPGA, which are #UD on a CPU without SVM. (VMMCALL is
 * not among them: it has no check that comes before its intercept.)
 */
bool svm_instruction_needs_svm(const struct instruction *decoded);

/* Pure: MOV to CR3 or CR4. */
bool svm_instruction_moves_to_paging_cr(const struct instruction *decoded);

/*
 * Sets svm->next_rip to the end of the instruction at RIP, in the way of this CPU. False if RIP holds another
 * instruction by now: the guest changed it since, so it has to be executed anew.
 */
bool svm_find_next_rip(struct svm_vcpu *svm, enum svm_instruction which);

/* Fetches and decodes at the guest's RIP. False if memory there cannot be read or is no instruction. */
bool svm_fetch_instruction(struct svm_vcpu *svm, struct instruction *decoded);

#endif
