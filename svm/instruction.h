/* SPDX-License-Identifier: MIT */
/*
 * The instruction that caused an exit: how long it is, where the CPU does not say (no NRIP save), and whether
 * it is the one that the exit names.
 */
#ifndef UMBRA_SVM_INSTRUCTION_H
#define UMBRA_SVM_INSTRUCTION_H

#include "arch/x86.h"
#include "svm/capability.h"
#include "svm/svm.h"

/* Pure: is this, with whatever prefixes, that instruction? */
bool svm_instruction_is(const struct instruction *decoded, enum svm_instruction which);

/*
 * Pure: VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT or INVLPGA, which are #UD on a CPU without SVM. (VMMCALL is
 * not among them: it has no check that comes before its intercept.)
 */
bool svm_instruction_needs_svm(const struct instruction *decoded);

/* Pure: MOV to CR3 or CR4. */
bool svm_instruction_moves_to_paging_cr(const struct instruction *decoded);

/* The instructions without prefixes as a load of their one to three bytes sees them: APM vol. 3 appendix A.
 */
static const u32 svm_instruction_bytes[SVM_INSTRUCTIONS] = {
    [SVM_INSTRUCTION_CPUID] = 0xa20f,     [SVM_INSTRUCTION_RDMSR] = 0x320f,
    [SVM_INSTRUCTION_WRMSR] = 0x300f,     [SVM_INSTRUCTION_INVD] = 0x080f,
    [SVM_INSTRUCTION_XSETBV] = 0xd1010f,  [SVM_INSTRUCTION_VMMCALL] = 0xd9010f,
    [SVM_INSTRUCTION_HLT] = 0xf4,         [SVM_INSTRUCTION_VMRUN] = 0xd8010f,
    [SVM_INSTRUCTION_VMLOAD] = 0xda010f,  [SVM_INSTRUCTION_VMSAVE] = 0xdb010f,
    [SVM_INSTRUCTION_STGI] = 0xdc010f,    [SVM_INSTRUCTION_CLGI] = 0xdd010f,
    [SVM_INSTRUCTION_INVLPGA] = 0xdf010f,
};

static inline unsigned svm_instruction_length(enum svm_instruction which)
{
    u32 bytes = svm_instruction_bytes[which];

    return bytes > 0xffff ? 3 : bytes > 0xff ? 2 : 1;
}

static inline bool svm_takes_address(enum svm_instruction which)
{
    return which >= SVM_INSTRUCTION_VMRUN;
}

static inline bool svm_code_is_64bit(const struct vmcb_save *save)
{
    return (save->efer & EFER_LMA) != 0 && (save->cs.attributes & SEGMENT_L) != 0;
}

/*
 * Is it a plain instruction that has been seen before, by the same address in the same address space? The
 * bytes themselves are read anew, since the guest may have changed them. That it has mapped another page
 * there, under the same CR3, is not noticed, as it is not by a TLB: it would matter only if that page held
 * the same instruction with prefixes at the same place, because it is the exit that says which instruction it
 * was.
 */
static inline bool svm_is_known_site(const struct svm_vcpu *svm, enum svm_instruction which)
{
    const struct vmcb_save *save = &svm->vmcb->save;
    const struct svm_site *site = svm->site[which];
    struct __attribute__((packed)) unaligned {
        volatile u32 value;
    };

    if (!svm_code_is_64bit(save))
        return false;
    if (site->rip != save->rip || site->cr3 != save->cr3) {
        site++;
        if (site->rip != save->rip || site->cr3 != save->cr3)
            return false;
    }
    u32 bytes = ((const struct unaligned *)site->bytes)->value;
    return (bytes & (svm_instruction_length(which) == 3 ? 0xffffff : 0xffff)) == svm_instruction_bytes[which];
}

/* As svm_find_next_rip(), by decoding. */
bool svm_decode_next_rip(struct svm_vcpu *svm, enum svm_instruction which);

/* Is it L1's instruction without prefixes, in 64-bit code, as far as can be told quickly? */
static inline bool svm_l1_is_at_plain(const struct svm_vcpu *svm, enum svm_instruction which)
{
    const struct vmcb *vmcb = svm->vmcb;

    if (svm_features.nrip_save)
        return vmcb->control.n_rip == vmcb->save.rip + svm_instruction_length(which) &&
               svm_code_is_64bit(&vmcb->save);
    return svm_is_known_site(svm, which);
}

/*
 * Sets svm->next_rip to the end of the instruction at RIP, in the way of this CPU, and svm->address_mask.
 * False if RIP holds another instruction by now: the guest changed it since, so it has to be executed anew.
 */
static inline bool svm_find_next_rip(struct svm_vcpu *svm, enum svm_instruction which)
{
    const struct vmcb *vmcb = svm->vmcb;

    if (svm_features.nrip_save && !svm_takes_address(which)) {
        svm->next_rip = vmcb->control.n_rip;
        return true;
    }
    if (svm->vcpu->l2_running || !svm_l1_is_at_plain(svm, which))
        return svm_decode_next_rip(svm, which);
    svm->next_rip = vmcb->save.rip + svm_instruction_length(which);
    svm->address_mask = ~0ull;
    return true;
}

/* Pure: the value that the instruction stores in its 4-byte memory operand; false if it does anything else.
 */
bool svm_instruction_stores(const struct instruction *decoded, const u64 gpr[GPR_COUNT], u32 *value);

/* The instruction at RIP, of that length in bytes, ends at svm->next_rip. */
void svm_set_next_rip(struct svm_vcpu *svm, u64 length);

/* Fetches and decodes at the guest's RIP. False if memory there cannot be read or is no instruction. */
bool svm_fetch_instruction(struct svm_vcpu *svm, struct instruction *decoded);

#endif
