/* SPDX-License-Identifier: MIT */
/*
 * VMRUN: vmcb12 is copied once, checked on the copy, and made into vmcb02. Source: APM vol. 2 15.5.
 */
#include "arch/msr.h"
#include "arch/string.h"
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"

/* What VMRUN reads: the rest of the page belongs to VMLOAD, or to nobody. */
enum { CONTROL_BYTES = offsetof(struct vmcb_control, reserved_0e0) };

static void copy_in(struct vmcb *copy, const struct vmcb *from)
{
    struct vmcb_save *save = &copy->save;

    memcpy(&copy->control, &from->control, CONTROL_BYTES);
    memcpy(&save->es, &from->save.es, 4 * sizeof(save->es));
    save->gdtr = from->save.gdtr;
    save->idtr = from->save.idtr;
    save->cpl = from->save.cpl;
    save->efer = from->save.efer;
    memcpy(&save->cr4, &from->save.cr4,
           offsetof(struct vmcb_save, reserved_180) - offsetof(struct vmcb_save, cr4));
    memcpy(&save->rsp, &from->save.rsp, offsetof(struct vmcb_save, star) - offsetof(struct vmcb_save, rsp));
    save->cr2 = from->save.cr2;
    save->g_pat = from->save.g_pat;
}

/* The same fields, from Umbra's copy into vmcb02. */
static void load_state(struct vmcb_save *to, const struct vmcb_save *from)
{
    memcpy(&to->es, &from->es, 4 * sizeof(to->es));
    to->gdtr = from->gdtr;
    to->idtr = from->idtr;
    to->cpl = from->cpl;
    to->efer = from->efer;
    memcpy(&to->cr4, &from->cr4, offsetof(struct vmcb_save, reserved_180) - offsetof(struct vmcb_save, cr4));
    memcpy(&to->rsp, &from->rsp, offsetof(struct vmcb_save, star) - offsetof(struct vmcb_save, rsp));
    to->cr2 = from->cr2;
}

/* Without nested paging of L1's, and without LBR virtualization, L2 shares these with L1. */
static void load_shared(const struct nested_svm *nested, struct vmcb_save *to, const struct vmcb_save *l1)
{
    to->g_pat = nested_svm_has_np(nested) ? nested->vmcb12.save.g_pat : l1->g_pat;
    if (svm_features.lbr_virtualization)
        memcpy(&to->dbgctl, &l1->dbgctl,
               offsetof(struct vmcb_save, reserved_298) - offsetof(struct vmcb_save, dbgctl));
}

/* A permission map in L1's RAM can be used as it is; one that is elsewhere reads as ones. */
static const void *l1_map(u64 base, unsigned pages)
{
    base = align_down(base, PAGE_SIZE);
    for (unsigned i = 0; i < pages; i++) {
        if (guest_view(gpa(base + i * PAGE_SIZE), PAGE_SIZE) == NULL)
            return NULL;
    }
    return guest_view(gpa(base), PAGE_SIZE);
}

static void load_permission_maps(struct svm_vcpu *svm, struct nested_svm *nested)
{
    const struct vmcb_control *control12 = &nested->vmcb12.control;
    struct vmcb_control *control = &nested->vmcb02->control;

    /* Umbra intercepts no port: the map is L1's alone, and the CPU reads it where it is. */
    control->iopm_base_pa = nested->all_ones.raw;
    if (svm_intercepts_code(control12, VMEXIT_IOIO) && l1_map(control12->iopm_base_pa, 3) != NULL)
        control->iopm_base_pa = align_down(control12->iopm_base_pa, PAGE_SIZE);

    control->msrpm_base_pa = svm->vmcb01->control.msrpm_base_pa;
    nested->l1_msr_map = NULL;
    if (!svm_intercepts_code(control12, VMEXIT_MSR))
        return;
    control->msrpm_base_pa = nested->all_ones.raw;
    nested->l1_msr_map = l1_map(control12->msrpm_base_pa, 2);
    if (nested->l1_msr_map == NULL)
        return;
    svm_msr_merge(&nested->msr_merge, nested->l1_msr_map, nested->msr_map02);
    control->msrpm_base_pa = nested->msr_map02_address.raw;
}

#define V_INTR_FOR_L2                                                                                        \
    (V_TPR | V_IRQ | V_GIF | V_INTR_PRIO | V_IGN_TPR | V_INTR_MASKING | V_GIF_ENABLE | V_INTR_VECTOR)

static void load_control(struct svm_vcpu *svm, struct nested_svm *nested)
{
    const struct vmcb_control *control12 = &nested->vmcb12.control, *control01 = &svm->vmcb01->control;
    struct vmcb_control *control = &nested->vmcb02->control;

    svm_merge_intercepts(control12, control->intercept);
    control->pause_filter_threshold = control12->pause_filter_threshold;
    control->pause_filter_count = control12->pause_filter_count;
    load_permission_maps(svm, nested);
    control->tsc_offset = control01->tsc_offset + control12->tsc_offset;
    control->tlb_control = TLB_CONTROL_NOTHING;
    control->v_intr = control12->v_intr & V_INTR_FOR_L2;
    control->interrupt_state = control12->interrupt_state & (INTERRUPT_SHADOW | GUEST_INTERRUPT_MASK);
    control->exit_int_info = 0;
    control->nested_control = NP_ENABLE | (machine.mode_based_execute ? GMET_ENABLE : 0);
    control->event_inj = (control12->event_inj & EVENT_VALID) != 0 ? control12->event_inj : 0;
    control->lbr_control = control01->lbr_control;
    control->n_rip = control12->n_rip;
    control->clean = 0;
    nested->injected = (struct svm_injected){control->event_inj, control12->n_rip};
}

void nested_svm_enter(struct vcpu *vcpu, u64 vmcb12_address)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    struct vmcb *vmcb01 = svm->vmcb01;

    nested->vmcb12_address = vmcb12_address;
    copy_in(&nested->vmcb12, guest_view(gpa(vmcb12_address), PAGE_SIZE));
    vmcb01->save.rax = vcpu->gpr[GPR_RAX];
    nested->facts.host_paging = (vmcb01->save.cr0 & CR0_PG) != 0;
    if (svm_check_vmcb(&nested->vmcb12, &nested->facts) != SVM_CHECK_PASSED) {
        nested_svm_refuse(vcpu);
        return;
    }

    load_control(svm, nested);
    load_state(&nested->vmcb02->save, &nested->vmcb12.save);
    load_shared(nested, &nested->vmcb02->save, &vmcb01->save);
    nested->interrupts =
        (nested->vmcb12.control.v_intr & V_INTR_MASKING) != 0 && (vmcb01->save.rflags & RFLAGS_IF) != 0;
    svm_set_gif(svm, true);
    nested_svm_obey_tlb_control(nested);
    nested_svm_translate(vcpu);
    vcpu->gpr[GPR_RAX] = nested->vmcb12.save.rax;
    svm_switch_to_l2(svm, nested->vmcb02, nested->vmcb02_address, nested->interrupts);
}
