/* SPDX-License-Identifier: MIT */
/*
 * The instruction that caused an exit: how long it is, where the CPU does not say (no NRIP save), and whether
 * it is the one that the exit names.
 */
#ifndef UMBRA_SVM_INSTRUCTION_H
#define UMBRA_SVM_INSTRUCTION_H

#include "svm/capability.h"
#include "svm/svm.h"

enum svm_instruction {
    SVM_INSTRUCTION_CPUID,
    SVM_INSTRUCTION_RDMSR,
    SVM_INSTRUCTION_WRMSR,
    SVM_INSTRUCTION_INVD,
    SVM_INSTRUCTION_XSETBV,
    SVM_INSTRUCTION_VMMCALL,
    SVM_INSTRUCTION_VMRUN,
    SVM_INSTRUCTION_VMLOAD,
    SVM_INSTRUCTION_VMSAVE,
    SVM_INSTRUCTION_STGI,
    SVM_INSTRUCTION_CLGI,
    SVM_INSTRUCTION_INVLPGA,
    SVM_INSTRUCTIONS,
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

/* The instructions of two bytes as a load of two bytes sees them; 0 for a longer one. */
static const u16 svm_instruction_word[SVM_INSTRUCTIONS] = {
    [SVM_INSTRUCTION_CPUID] = 0xa20f, [SVM_INSTRUCTION_RDMSR] = 0x320f, [SVM_INSTRUCTION_WRMSR] = 0x300f,
    [SVM_INSTRUCTION_INVD] = 0x080f,  [SVM_INSTRUCTION_XSETBV] = 0,     [SVM_INSTRUCTION_VMMCALL] = 0,
};

/*
 * Is it the two bytes of last time, by the same address in the same address space and mode? The bytes
 * themselves are read anew, since the guest may have changed them. That it has mapped another page there,
 * under the same CR3, is not noticed, as it is not by a TLB: it would matter only if that page held the same
 * instruction with prefixes at the same place, because it is the exit that says which instruction it was.
 */
static inline bool svm_is_last_instruction(const struct svm_vcpu *svm, enum svm_instruction which)
{
    const struct svm_last_instruction *last = &svm->last;
    const struct vmcb_save *save = &svm->vmcb->save;

    return svm_instruction_word[which] != 0 && last->rip == save->rip && last->cr3 == save->cr3 &&
           last->cs_attributes == save->cs.attributes && last->efer == save->efer &&
           __atomic_load_n(last->bytes, __ATOMIC_RELAXED) == svm_instruction_word[which];
}

/* As svm_find_next_rip(), by decoding. */
bool svm_decode_next_rip(struct svm_vcpu *svm, enum svm_instruction which);

/*
 * Sets svm->next_rip to the end of the instruction at RIP, in the way of this CPU. False if RIP holds another
 * instruction by now: the guest changed it since, so it has to be executed anew.
 */
static inline bool svm_find_next_rip(struct svm_vcpu *svm, enum svm_instruction which)
{
    if (svm_features.nrip_save) {
        svm->next_rip = svm->vmcb->control.n_rip;
        return true;
    }
    if (svm_is_last_instruction(svm, which)) {
        svm->next_rip = svm->vmcb->save.rip + sizeof(u16);
        return true;
    }
    return svm_decode_next_rip(svm, which);
}

/* Fetches and decodes at the guest's RIP. False if memory there cannot be read or is no instruction. */
bool svm_fetch_instruction(struct svm_vcpu *svm, struct instruction *decoded);

#endif
