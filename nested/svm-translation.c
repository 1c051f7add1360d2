/* SPDX-License-Identifier: MIT */
/*
 * L2's second-level translation: the shadow of L1's nested paging, or Umbra's own tables if L1 uses none;
 * ASIDs and flushes; and nested page faults. EXITINFO1 for L1 comes from L1's tables, not from the CPU.
 * Source: APM vol. 2 15.16, 15.25.
 */
#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/print.h"
#include "mm/fault.h"
#include "nested/nested.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"
#include "svm/exit-name.h"

#define CPUID_SVM 0x8000000au

static struct shadow *the_shadow;

static struct shadow *make_shadow(void)
{
    struct shadow_config config = nested_shadow_config();

    config.host_pat = rdmsr(MSR_IA32_PAT);
    return shadow_init(&config);
}

bool nested_svm_translation_init(struct vcpu *vcpu)
{
    struct nested_svm *nested = nested_svm_of(vcpu);

    if (the_shadow == NULL)
        the_shadow = make_shadow();
    nested->shadow = the_shadow;
    if (the_shadow == NULL)
        return false;
    /* ASIDs are a CPU's own; L1's is the one below. One more than the shadow's is for L2 on Umbra's own
     * tables. */
    nested->first_asid = svm_of(vcpu)->vmcb->control.asid + 1;
    nested->one_asid = cpuid(CPUID_SVM, 0).ebx <= nested->first_asid + SHADOW_TAGS;
    nested->direct_flush = true;
    return shadow_cpu_init(the_shadow, &nested->shadow_cpu, (u16)nested->first_asid, vcpu);
}

/* A CPU that has not come so far yet uses no shadow either. */
void nested_svm_own_map_changed(struct vcpu *vcpu)
{
    if (the_shadow != NULL && vcpu->nested != NULL)
        shadow_follow_own_map(the_shadow, &nested_svm_of(vcpu)->shadow_cpu);
}

/* --- before an entry --- */

static void flush(struct vmcb_control *control)
{
    /* Not to take a flush of everything back. */
    if (control->tlb_control == TLB_CONTROL_NOTHING)
        control->tlb_control = svm_features.flush_by_asid ? TLB_CONTROL_FLUSH_GUEST : TLB_CONTROL_FLUSH_ALL;
}

static inline void set_table_and_asid(struct nested_svm *nested, u64 table, u32 tag)
{
    struct vmcb_control *control = &nested->slot->vmcb02->control;
    u32 asid = tag;

    if (nested->one_asid) {
        asid = nested->first_asid;
        if (nested->last_tag != tag)
            flush(control);
        nested->last_tag = tag;
    }
    if (control->n_cr3 == table && control->asid == asid)
        return;
    control->n_cr3 = table;
    control->asid = asid;
    control->clean &= ~(u32)(CLEAN_ASID | CLEAN_NP);
}

static inline void translate_by_shadow(struct nested_svm *nested, struct svm_vcpu *svm)
{
    const struct svm_slot *slot = nested->slot;
    struct shadow_key key = {slot->control.n_cr3, slot->role, slot->host.pat};
    struct shadow_use use;

    ASSERT(shadow_acquire(nested->shadow, &nested->shadow_cpu, &key, slot->control.asid, &use) ==
               SHADOW_ACQUIRED,
           "VMRUN has checked that L1's paging is on, and the pool is large enough for one root");
    nested->acquired = slot;
    set_table_and_asid(nested, use.root.raw, use.tag);
    if (use.flush_tables || use.flush_linear)
        flush(&slot->vmcb02->control);
    if (svm->host != NULL && nested->handle == use.handle)
        return;
    nested->handle = use.handle;
    svm->host = shadow_paging(nested->shadow, use.handle, &svm->host_root);
}

static void translate_by_own_tables(struct nested_svm *nested, struct svm_vcpu *svm)
{
    const struct svm_slot *slot = nested->slot;

    if (nested->direct_asid != slot->control.asid)
        nested->direct_flush = true;
    nested->direct_asid = slot->control.asid;
    set_table_and_asid(nested, machine.tdp.root.raw, nested->first_asid + SHADOW_TAGS);
    if (nested->direct_flush)
        flush(&slot->vmcb02->control);
    nested->direct_flush = false;
    svm->host = NULL;
}

void nested_svm_translate(struct vcpu *vcpu)
{
    struct nested_svm *nested = nested_svm_of(vcpu);

    unsigned renewal =
        nested->acquired == nested->slot ? shadow_renew(nested->shadow, &nested->shadow_cpu) : SHADOW_EXPIRED;
    if (__builtin_expect(renewal == SHADOW_RENEWED, true))
        return;
    if (renewal != SHADOW_EXPIRED) {
        flush(&nested->slot->vmcb02->control);
        return;
    }
    nested->acquired = NULL;
    /* What made the last answer invalid may have changed Umbra's own permission map, too: svm/startup.h. */
    if (nested->slot->msr_map != NULL)
        svm_msr_merge(&nested->msr_merge, nested->slot->msr_map);
    if (nested_svm_has_np(nested))
        translate_by_shadow(nested, svm_of(vcpu));
    else
        translate_by_own_tables(nested, svm_of(vcpu));
}

/* --- flushes that L1 asks for --- */

void nested_svm_obey_tlb_control(struct nested_svm *nested, u8 tlb_control)
{
    u32 asid = nested->slot->control.asid;

    switch (tlb_control) {
    case TLB_CONTROL_FLUSH_GUEST:
    case TLB_CONTROL_FLUSH_NON_GLOBAL:
        shadow_invalidate_l1_tag(&nested->shadow_cpu, asid);
        nested->direct_flush = nested->direct_flush || nested->direct_asid == asid;
        break;
    default: /* 1; and what is reserved flushes all, which is never wrong */
        shadow_invalidate_all(&nested->shadow_cpu);
        nested->direct_flush = true;
        break;
    }
}

void nested_svm_invalidate_linear(struct nested_svm *nested, u32 asid)
{
    shadow_invalidate_linear(&nested->shadow_cpu, asid);
    if (nested->direct_asid == asid)
        nested->direct_flush = true;
}

/* --- nested page faults --- */

static enum exit_action own_tables_deny(struct svm_vcpu *svm, const struct shadow_result *result)
{
    const struct violation violation = {
        .gpa = result->own.address,
        .access = result->own.access,
        .raw = svm->vmcb->control.exit_info_1,
    };

    return svm_violation(svm, &violation);
}

static unsigned npf_access(const struct vmcb *vmcb02)
{
    return fault_npf_access(vmcb02->control.exit_info_1, vmcb02->save.cpl, machine.mode_based_execute);
}

bool nested_svm_npf_filled(struct nested_svm *nested)
{
    const struct vmcb *vmcb02 = nested->slot->vmcb02;

    return nested->acquired == nested->slot &&
           shadow_fault_quick(nested->shadow, &nested->shadow_cpu, l2_gpa(vmcb02->control.exit_info_2),
                              npf_access(vmcb02));
}

static enum exit_action shadow_npf(struct vcpu *vcpu)
{
    struct nested_svm *nested = nested_svm_of(vcpu);
    struct svm_vcpu *svm = svm_of(vcpu);
    const struct vmcb *vmcb02 = nested->slot->vmcb02;
    struct shadow_result result;
    const struct shadow_access access = {
        .address = l2_gpa(vmcb02->control.exit_info_2),
        .access = npf_access(vmcb02),
        .supplied = (u32)(FAULT_LINEAR_VALID |
                          ((vmcb02->control.exit_info_1 & NPF_TABLE_WALK) != 0 ? 0 : FAULT_FINAL)),
        .rip = vmcb02->save.rip,
    };

    switch (shadow_fault(nested->shadow, &nested->shadow_cpu, nested->handle, &access, &result)) {
    case SHADOW_REFLECT:
    case SHADOW_MISCONFIGURED:
        nested_svm_reflect(vcpu, VMEXIT_NPF, result.exit_info_1, access.address.raw);
        return EXIT_RESUME;
    case SHADOW_POLICY:
    case SHADOW_UMBRA_MEMORY:
        return own_tables_deny(svm, &result);
    case SHADOW_NO_PROGRESS:
        fatal("a guest of the guest meets the same nested page fault again and again at %lx, RIP %lx, "
              "EXITINFO1 %lx",
              access.address.raw, access.rip, vmcb02->control.exit_info_1);
    case SHADOW_FILLED:
    case SHADOW_STALE:
    case SHADOW_LOG_FULL:
    default:
        return EXIT_RESUME;
    }
}

enum exit_action nested_svm_npf(struct vcpu *vcpu)
{
    if (nested_svm_has_np(nested_svm_of(vcpu)))
        return shadow_npf(vcpu);
    return svm_handle(svm_of(vcpu), SVM_EXIT_NPF);
}
