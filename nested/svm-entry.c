/* SPDX-License-Identifier: MIT */
/*
 * VMRUN: what L1 does not call clean is copied from vmcb12 once, checked on the copy, and made into vmcb02.
 * No field of vmcb12 is read twice. Source: APM vol. 2 15.5, 15.15.
 */
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"
#include "svm/nmi.h"

/*
 * A permission map in L1's RAM can be used as it is; one that is elsewhere reads as ones (NULL). What is L1's
 * RAM does not change.
 */
static const u64 *look_up(struct svm_map *map, u64 base, unsigned pages)
{
    base = align_down(base, PAGE_SIZE);
    if (map->base == base)
        return map->words;
    map->base = base;
    map->words = guest_page(gpa(base));
    for (unsigned i = 1; i < pages; i++) {
        if (guest_page(gpa(base + i * PAGE_SIZE)) == NULL)
            map->words = NULL;
    }
    return map->words;
}

static void load_permission_maps(const struct svm_vcpu *svm, const struct nested_svm *nested,
                                 struct svm_slot *slot)
{
    const struct vmcb_control *control12 = &slot->control;
    struct vmcb_control *control = &slot->vmcb02->control;

    /* Umbra intercepts no port: the map is L1's alone, and the CPU reads it where it is. */
    control->iopm_base_pa = nested->all_ones.raw;
    if (svm_intercepts_code(control12, VMEXIT_IOIO) &&
        look_up(&slot->io_map, control12->iopm_base_pa, 3) != NULL)
        control->iopm_base_pa = slot->io_map.base;

    slot->msr_map = NULL;
    control->msrpm_base_pa = svm->vmcb01->control.msrpm_base_pa;
    if (!svm_intercepts_code(control12, VMEXIT_MSR))
        return;
    slot->msr_map = look_up(&slot->looked_up_msr_map, control12->msrpm_base_pa, 2);
    control->msrpm_base_pa = slot->msr_map != NULL ? nested->msr_map02.raw : nested->all_ones.raw;
}

/* --- copying --- */

static void copy_control(struct vmcb_control *to, const struct vmcb_control *from, u32 groups)
{
    if ((groups & CLEAN_INTERCEPTS) != 0) {
        for (unsigned i = 0; i < VMCB_INTERCEPT_WORDS; i++)
            to->intercept[i] = from->intercept[i];
        to->tsc_offset = from->tsc_offset;
        to->pause_filter_threshold = from->pause_filter_threshold;
        to->pause_filter_count = from->pause_filter_count;
    }
    if ((groups & CLEAN_MAPS) != 0) {
        to->iopm_base_pa = from->iopm_base_pa;
        to->msrpm_base_pa = from->msrpm_base_pa;
    }
    if ((groups & CLEAN_ASID) != 0)
        to->asid = from->asid;
    if ((groups & CLEAN_NP) != 0)
        to->n_cr3 = from->n_cr3;
}

static void copy_save(struct vmcb_save *to, const struct vmcb_save *from, u32 groups)
{
    if ((groups & CLEAN_SEGMENTS) != 0) {
        to->es = from->es;
        to->cs = from->cs;
        to->ss = from->ss;
        to->ds = from->ds;
        to->cpl = from->cpl;
    }
    if ((groups & CLEAN_DT) != 0) {
        to->gdtr = from->gdtr;
        to->idtr = from->idtr;
    }
    if ((groups & CLEAN_CRX) != 0) {
        to->efer = from->efer;
        to->cr4 = from->cr4;
        to->cr3 = from->cr3;
        to->cr0 = from->cr0;
    }
    if ((groups & CLEAN_DRX) != 0) {
        to->dr7 = from->dr7;
        to->dr6 = from->dr6;
    }
    if ((groups & CLEAN_NP) != 0)
        to->g_pat = from->g_pat;
}

/* What follows from the groups that L1 changed. */
static void derive(struct svm_vcpu *svm, struct nested_svm *nested, struct svm_slot *slot)
{
    const struct vmcb_control *control12 = &slot->control, *control01 = &svm->vmcb01->control;
    const struct vmcb_save *l1 = &svm->vmcb01->save;
    struct vmcb_control *control = &slot->vmcb02->control;
    bool gmet = machine.mode_based_execute && (control12->nested_control & GMET_ENABLE) != 0;

    svm_merge_intercepts(control12, nested->own_intercepts,
                         (control12->v_intr & nested->v_intr_for_l2 & V_GIF_ENABLE) != 0, control->intercept);
    control->pause_filter_threshold = control12->pause_filter_threshold;
    control->pause_filter_count = control12->pause_filter_count;
    control->tsc_offset = control01->tsc_offset + control12->tsc_offset;
    control->nested_control = NP_ENABLE | (machine.mode_based_execute ? GMET_ENABLE : 0);
    control->lbr_control = (control01->lbr_control & LBR_VIRTUALIZATION_ENABLE) |
                           (svm_virtual_vmload(control12) ? VMLOAD_VIRTUALIZATION_ENABLE : 0);
    load_permission_maps(svm, nested, slot);
    if (!nested_svm_has_np(nested))
        slot->vmcb02->save.g_pat = l1->g_pat;
    /* L1's registers at VMRUN are the host's: 15.25.3. */
    slot->role = paging_role_npt(&nested->cpu, l1->cr0, l1->cr4, l1->efer, gmet);
    slot->host.cr0 = l1->cr0;
    slot->host.cr4 = l1->cr4;
    slot->host.efer = l1->efer;
    slot->host.pat = l1->g_pat;
}

/* False: VMRUN refuses vmcb12. */
static __attribute__((noinline)) bool load_groups(struct svm_vcpu *svm, struct svm_slot *slot, u32 groups)
{
    struct nested_svm *nested = nested_svm_of(svm->vcpu);

    const struct shadow_key before = {slot->control.n_cr3, slot->role, slot->host.pat};
    u32 asid = slot->control.asid;

    copy_control(&slot->control, &slot->vmcb12->control, groups);
    copy_save(&slot->vmcb02->save, &slot->vmcb12->save, groups);
    /* From here on only the copies are looked at, and not read again behind the compiler's back. */
    __asm__ volatile("" : : : "memory");
    nested->facts.host_paging = (svm->vmcb01->save.cr0 & CR0_PG) != 0;
    if (svm_check_vmcb(&slot->control, &slot->vmcb02->save, &nested->facts) != SVM_CHECK_PASSED)
        return false;
    derive(svm, nested, slot);
    if (before.pointer != slot->control.n_cr3 || !role_equal(before.role, slot->role) ||
        before.pat != slot->host.pat || asid != slot->control.asid || !nested_svm_has_np(nested))
        nested->acquired = NULL;
    return true;
}

/* Groups without a clean bit, and those that no hypervisor calls clean. */
static void copy_rest(struct vmcb_save *to, const struct vmcb_save *from)
{
    to->rflags = from->rflags;
    to->rip = from->rip;
    to->rsp = from->rsp;
    to->s_cet = from->s_cet;
    to->ssp = from->ssp;
    to->isst_addr = from->isst_addr;
    to->rax = from->rax;
    to->cr2 = from->cr2;
}

static bool host_changed(const struct svm_slot *slot, const struct vmcb_save *l1)
{
    return slot->host.cr0 != l1->cr0 || slot->host.cr4 != l1->cr4 || slot->host.efer != l1->efer ||
           slot->host.pat != l1->g_pat;
}

#define ALWAYS_READ (CLEAN_TPR | CLEAN_CR2 | CLEAN_LBR)

/* Without LBR virtualization of L1's, L2 shares these with L1. */
static inline void load_lbr(const struct svm_slot *slot, const struct vmcb_save *l1, u32 groups)
{
    if (!svm_features.lbr_virtualization)
        return;
    if ((slot->control.lbr_control & LBR_VIRTUALIZATION_ENABLE) == 0)
        svm_copy_lbr(&slot->vmcb02->save, l1);
    else if ((groups & CLEAN_LBR) != 0)
        svm_copy_lbr(&slot->vmcb02->save, &slot->vmcb12->save);
}

/* False: VMRUN refuses vmcb12. */
static inline bool load_vmcb(struct svm_vcpu *svm, struct nested_svm *nested, struct svm_slot *slot)
{
    const volatile struct vmcb_control *from = &slot->vmcb12->control; /* one load for each field */
    struct vmcb_control *copy = &slot->control, *control = &slot->vmcb02->control;
    u64 nested_control = from->nested_control, v_intr = from->v_intr;
    u64 lbr_control = from->lbr_control & nested->lbr_control_for_l2;
    u32 groups = ~from->clean;

    if (!slot->loaded || copy->nested_control != nested_control || copy->lbr_control != lbr_control ||
        ((copy->v_intr ^ v_intr) & (V_GIF_ENABLE | V_NMI_ENABLE)) != 0 ||
        host_changed(slot, &svm->vmcb01->save))
        groups = ~0u;
    slot->loaded = false;
    copy->nested_control = nested_control;
    copy->v_intr = v_intr;
    copy->event_inj = from->event_inj;
    copy->lbr_control = lbr_control;
    copy_rest(&slot->vmcb02->save, &slot->vmcb12->save);
    load_lbr(slot, &svm->vmcb01->save, groups);
    slot->vmcb02->save.spec_ctrl = svm->vmcb01->save.spec_ctrl; /* L2 shares the MSR with L1, and leaves it */
    if ((groups & CLEAN_KNOWN & ~ALWAYS_READ) != 0 || (copy->event_inj & EVENT_VALID) != 0) {
        if (!load_groups(svm, slot, groups))
            return false;
    }
    /* What Umbra itself changed after the last exit is marked already. */
    control->clean &= ~(groups | (u32)ALWAYS_READ);
    control->v_intr = v_intr & nested->v_intr_for_l2;
    control->interrupt_state = from->interrupt_state & (INTERRUPT_SHADOW | GUEST_INTERRUPT_MASK);
    control->event_inj = (copy->event_inj & EVENT_VALID) != 0 ? copy->event_inj : 0;
    control->n_rip = from->n_rip;
    control->tlb_control = TLB_CONTROL_NOTHING;
    nested->injected = (struct svm_injected){control->event_inj, control->n_rip, slot->vmcb02->save.rip};
    return true;
}

void nested_svm_enter(struct vcpu *vcpu, struct svm_slot *slot)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb_save *l1 = &svm->vmcb01->save;

    if (svm->l1_svme_change)
        nested_svm_forget(svm);
    nested->slot = slot;
    if (!load_vmcb(svm, nested, slot)) {
        nested_svm_refuse(vcpu);
        return;
    }
    if (slot->msr_map != NULL)
        svm_msr_merge(&nested->msr_merge, slot->msr_map);
    nested->interrupts = (slot->control.v_intr & V_INTR_MASKING) != 0 && (l1->rflags & RFLAGS_IF) != 0;
    svm_release_tpr(svm);
    u8 tlb_control = __atomic_load_n(&slot->vmcb12->control.tlb_control, __ATOMIC_RELAXED);
    if (tlb_control != TLB_CONTROL_NOTHING)
        nested_svm_obey_tlb_control(nested, tlb_control);
    if (tlb_control == TLB_CONTROL_FLUSH_ALL)
        svm_flush_l1(svm); /* its own is among "all ASIDs": table 15-9 */
    svm_switch_to_l2(svm, slot->vmcb02, slot->vmcb02_address, nested->interrupts);
    if (__builtin_expect(svm_nmi_is_due(svm) || svm->init_pending, 0)) {
        vcpu->gpr[GPR_RAX] = slot->vmcb02->save.rax;
        if (!nested_svm_take_held(vcpu))
            return;
    }
    /* Not earlier: a flush that it asks for must not be lost with an L2 that does not run. */
    nested_svm_translate(vcpu);
    if (machine.tdp.flush_pending)
        svm_flush_changes(svm);
}
