/* SPDX-License-Identifier: MIT */
/*
 * The VMCB's registers as the vendor-neutral rooms want to see them.
 */
#include "mm/guest-paging.h"
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

/* Umbra's own tables were made for the same CPU. */
static struct paging_role guest_role(const struct vmcb_save *save)
{
    const struct paging_cpu cpu = {
        .maxphyaddr = machine.tdp.config.maxphyaddr,
        .page_1g = machine.tdp.config.page_1g,
        .amd = true,
    };

    return paging_role_guest(&cpu, save->cr0, save->cr4, save->efer);
}

/* PDPTEs of PAE are read at each walk (APM vol. 2 15.25.10), so the context names none. */
struct linear_context svm_linear_context(struct svm_vcpu *svm)
{
    const struct vmcb_save *save = &svm->vmcb->save;
    struct paging_role role = guest_role(save);

    /* Zeroed, as it starts, it is right for paging off. */
    if (!role_equal(svm->paging.role, role))
        paging_init(&svm->paging, role);
    return (struct linear_context){
        .paging = &svm->paging,
        .root = save->cr3,
        .host = svm->vcpu->l2_running ? svm->host : NULL,
        .host_root = svm->host_root,
        .memory = &guest_paging_memory,
        .cr0 = save->cr0,
        .cr4 = save->cr4,
        .efer = save->efer,
        .rflags = save->rflags,
        .cpl = save->cpl,
        .code_64 = svm_decode_mode(svm) == DECODE_MODE_64,
    };
}

/* CS.L counts only while EFER.LMA is 1 (APM vol. 2 4.8). */
enum decode_mode svm_decode_mode(const struct svm_vcpu *svm)
{
    const struct vmcb_save *save = &svm->vmcb->save;

    if ((save->efer & EFER_LMA) != 0 && (save->cs.attributes & SEGMENT_L) != 0)
        return DECODE_MODE_64;
    return (save->cs.attributes & SEGMENT_DB) != 0 ? DECODE_MODE_32 : DECODE_MODE_16;
}

u64 svm_linear_rip(const struct svm_vcpu *svm)
{
    const struct vmcb_save *save = &svm->vmcb->save;

    if (svm_decode_mode(svm) == DECODE_MODE_64)
        return save->rip;
    return (save->cs.base + save->rip) & BITS(31, 0);
}
