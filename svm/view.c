/* SPDX-License-Identifier: MIT */
/*
 * The VMCB's registers as the vendor-neutral rooms want to see them.
 */
#include "svm/efer.h"
#include "svm/svm.h"

struct exit_context svm_context(const struct svm_vcpu *svm)
{
    const struct vmcb_save *save = &svm->vmcb->save;

    return (struct exit_context){
        .rip = save->rip,
        .rflags = save->rflags,
        .cr0 = save->cr0,
        .cr4 = save->cr4,
        .efer = svm_efer_visible(save->efer),
        .cpl = save->cpl,
        .code64 = (save->efer & EFER_LMA) != 0 && (save->cs.attributes & SEGMENT_L) != 0,
    };
}

struct guest_paging svm_paging(const struct svm_vcpu *svm)
{
    const struct vmcb_save *save = &svm->vmcb->save;

    return (struct guest_paging){
        .cr0 = save->cr0,
        .cr3 = save->cr3,
        .cr4 = save->cr4,
        .efer = save->efer,
        .cs_base = save->cs.base,
        .cs_long = (save->cs.attributes & SEGMENT_L) != 0,
        .cs_32_bit = (save->cs.attributes & SEGMENT_DB) != 0,
    };
}
