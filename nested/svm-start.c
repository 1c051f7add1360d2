/* SPDX-License-Identifier: MIT */
/* Nested SVM at boot: memory, capabilities, hooks; and the small hook for CPUID. */
#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/string.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "nested/svm-capability.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"
#include "svm/nmi.h"

#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_SVM               0x8000000au
#define CPUID_EXT_ECX_SVM       BIT(2)

enum { ALL_ONES_PAGES = 3, MSR_MAP_PAGES = 2 };

/* Bits of CR4 that no CPU with SVM defines; of the others the CPU itself knows which it has. */
#define CR4_DEFINED (BITS(12, 0) | BITS(18, 16) | BITS(24, 20))

static void show_svm(u32 leaf, u32 subleaf, struct cpuid_regs *regs)
{
    (void)subleaf;
    if (leaf == CPUID_EXTENDED_FEATURES)
        regs->ecx |= (u32)CPUID_EXT_ECX_SVM;
    else if (leaf == CPUID_SVM)
        *regs = svm_capability_leaf(cpuid(CPUID_SVM, 0), machine.mode_based_execute);
}

static const struct nested_hooks hooks = {
    .instruction = nested_svm_instruction,
    .svm_l1_exit = nested_svm_l1_exits,
    .svm_l2_exit = nested_svm_l2_exit,
    .msr_read = nested_svm_read_msr,
    .msr_write = nested_svm_write_msr,
    .own_map_changed = nested_svm_own_map_changed,
    .cpuid = show_svm,
};

static bool allocate(struct vcpu *vcpu)
{
    const size_t frames = (sizeof(struct nested_svm) + PAGE_MASK) / PAGE_SIZE;
    struct nested_svm *nested;
    hpa_t memory;

    if (!frame_alloc_contiguous(frames, &memory))
        return false;
    vcpu->nested = nested = phys_to_virt(memory);
    if (!frame_alloc_contiguous(ALL_ONES_PAGES, &nested->all_ones) ||
        !frame_alloc_contiguous(MSR_MAP_PAGES, &nested->msr_map02))
        return false;
    for (unsigned i = 0; i < SVM_SLOTS; i++) {
        struct svm_slot *slot = &nested->slots[i];
        if (!frame_alloc(&slot->vmcb02_address))
            return false;
        slot->vmcb02 = phys_to_virt(slot->vmcb02_address);
        slot->address = slot->io_map.base = slot->looked_up_msr_map.base = SVM_SLOT_FREE;
    }
    nested->slot = nested->other = &nested->slots[0];
    memset(phys_to_virt(nested->all_ones), 0xff, ALL_ONES_PAGES * PAGE_SIZE);
    memset(phys_to_virt(nested->msr_map02), 0xff, MSR_MAP_PAGES * PAGE_SIZE);
    return true;
}

bool nested_svm_init(struct vcpu *vcpu)
{
    const struct svm_vcpu *svm = svm_of(vcpu);

    if (!allocate(vcpu))
        return false;
    struct nested_svm *nested = nested_svm_of(vcpu);
    svm_own_intercepts(nested->own_intercepts);
    if (svm_nmi_intercepted())
        nested->own_intercepts[VMEXIT_NMI / 32] |= 1u << VMEXIT_NMI % 32;
    nested->msr_merge.own = phys_to_virt(hpa(svm->vmcb->control.msrpm_base_pa));
    nested->msr_merge.merged = phys_to_virt(nested->msr_map02);
    nested->cpu = (struct paging_cpu){
        .maxphyaddr = machine.tdp.config.maxphyaddr,
        .page_1g = machine.tdp.config.page_1g,
        .amd = true,
    };
    nested->facts = (struct svm_check_facts){
        .physical_limit = BIT(machine.tdp.config.maxphyaddr),
        .efer_valid = svm->efer_writable | EFER_LMA | EFER_SVME,
        .cr4_valid = CR4_DEFINED,
        .virtual_nmi = svm_features.virtual_nmi,
    };
    nested->v_intr_for_l2 = svm_v_intr_for_l2(svm_features.virtual_gif, svm_features.virtual_nmi);
    nested->lbr_control_for_l2 =
        svm_lbr_control_for_l2(svm_features.lbr_virtualization, svm_features.virtual_vmload);
    nested_hooks = &hooks;
    return nested_svm_translation_init(vcpu);
}
