/* SPDX-License-Identifier: MIT */
/*
 * From VMLAUNCH or VMRESUME of L1, whose checks have passed, to L2: what is loaded in which order, and the
 * failures that only loading finds. Source: SDM vol. 3C 27.3.2, 27.4, 27.6.
 */
#include "arch/print.h"
#include "mm/guest-paging.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-check.h"
#include "nested/vmx-vmcs02.h"
#include "vcpu/shootdown.h"
#include "vmx/exit-reason.h"

/* Exit qualification of an entry that fails because of invalid guest state: SDM vol. 3C 27.8. */
enum { QUALIFICATION_PDPTE = 2 };

/* vmcs02 always uses EPT, and such an entry takes PDPTEs from the VMCS: without L1's EPT they are in memory.
 */
static bool load_pdptes(const struct vmcs12 *vmcs12)
{
    bool pae = (vmcs12->guest_cr0 & CR0_PG) != 0 && (vmcs12->guest_cr4 & CR4_PAE) != 0 &&
               (vmcs12->entry_controls & ENTRY_IA32E_GUEST) == 0;

    return l1_uses_ept(vmcs12) || !pae || vmx_load_pdptes();
}

static void inject(const struct vmcs12 *vmcs12)
{
    vmwrite(VMCS_ENTRY_INTERRUPTION, vmcs12->entry_interruption);
    if ((vmcs12->entry_interruption & INTERRUPTION_VALID) == 0)
        return;
    vmwrite(VMCS_ENTRY_ERROR_CODE, vmcs12->entry_error_code);
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, vmcs12->entry_instruction_length);
}

static enum exit_action fail(struct vcpu *vcpu, u32 reason, u64 qualification)
{
    l2_leave_vmcs02(vcpu);
    return nested_vmx_entry_failure(vcpu, reason, qualification);
}

/*
 * With VPIDs off an entry drops the linear and the combined mappings of VPID 0000H, those of all EP4TAs (SDM
 * vol. 3C 29.4.3.1). Guest-physical mappings may stay, but no CPU is known to keep those of pages: an L1 that
 * keeps a log of dirty pages may clear dirty flags and find them set and logged anew without INVEPT, as
 * kvm-unit-tests' PML test does. The shadow is such a mapping, so it must not be kept. One with VPIDs has to
 * execute INVEPT anyway.
 */
static void enter_without_vpid(struct vcpu *vcpu, const struct vmcs12 *vmcs12)
{
    /* That of the exit before is made up for, too. */
    nested_vmx_invalidate_linear(vcpu, 0);
    if ((vmcs12_secondary(vmcs12) & SECONDARY_PML) != 0)
        shadow_invalidate_pointer(nested_vmx_shadow(), nested_vmx_shadow_cpu(vcpu), vmcs12->ept_pointer);
}

/* An INIT that L1's root operation has blocked; wait-for-SIPI blocks it, too, and an injected event comes
 * first. */
static bool init_is_first(const struct vmcs12 *vmcs12)
{
    return vmcs12->guest_activity != ACTIVITY_WAIT_FOR_SIPI &&
           (vmcs12->entry_interruption & INTERRUPTION_VALID) == 0;
}

/* The CPU looks at the virtual TPR at each entry, but only after the list has changed L1's MSRs here. */
static bool tpr_allows(const struct nested_vmx *nested)
{
    const struct vmx_check_input input = {
        .vmcs12 = &nested->vmcs12,
        .capability = &nested_vmx_capability,
        .memory = &guest_paging_memory,
        .current = nested->current,
    };

    return vmx_check_virtual_tpr(&input) == VMX_CHECK_OK;
}

enum exit_action nested_vmx_enter(struct vcpu *vcpu, bool launch)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    struct vmcs02_state *state = nested->vmcs02;
    const struct vmcs12 *vmcs12 = &nested->vmcs12;

    (void)launch;
    state->primary01 = vmx_of(vcpu)->primary;
    /* The list writes to vmcs02, and if the entry fails, nothing of that has happened. */
    if (vmcs12->entry_msr_load_count != 0) {
        if (!tpr_allows(nested))
            return nested_vmx_fail(vcpu, VMX_ERROR_ENTRY_CONTROLS);
        nested_vmx_save_state(vcpu);
    }
    vmcs02_load(vcpu, nested);
    if (!load_pdptes(vmcs12))
        return fail(vcpu, REASON_ENTRY_GUEST_STATE, QUALIFICATION_PDPTE);
    if (vmcs12->entry_msr_load_count != 0) {
        u32 failed = msr_list_load(vcpu, vmcs12->entry_msr_load, vmcs12->entry_msr_load_count);
        if (failed != MSR_LIST_DONE)
            return fail(vcpu, REASON_ENTRY_MSR_LOADING, failed);
    }
    inject(vmcs12);
    if ((vmcs12_secondary(vmcs12) & SECONDARY_VPID) == 0)
        enter_without_vpid(vcpu, vmcs12);
    l2_acquire_tables(vcpu, nested);
    vcpu->l2_running = true;
    if (__builtin_expect(vmcs12->guest_activity == ACTIVITY_WAIT_FOR_SIPI, false))
        shootdown_wait_begins(vcpu);
    if (__builtin_expect(vmx_of(vcpu)->init_pending, false)) {
        if (init_is_first(vmcs12)) {
            nested->vmcs12.launch_state = VMCS12_LAUNCHED;
            return l2_init_exit(vcpu);
        }
        /* After the delivery, which is then the step. */
        l2_set_step(vcpu, vmcs12->guest_activity != ACTIVITY_WAIT_FOR_SIPI);
    }
    if (__builtin_expect(vcpu->nmi_pending, false) && l2_nmi_is_first(vcpu)) {
        nested->vmcs12.launch_state = VMCS12_LAUNCHED;
        return l2_nmi_exit(vcpu);
    }
    if (state->active->launched)
        return EXIT_RESUME;
    /* The stub would resume: the first entry through a VMCS goes on from here, on a stack that starts anew.
     */
    vmx_finish_exit(vcpu, EXIT_RESUME, 0);
    vmx_launch(vcpu, vmx_of(vcpu)->host_rsp);
}

/* The checks of L1's fields are Umbra's own, but what the hardware refuses beyond them is L1's doing, too. */
enum exit_action nested_vmx_l2_entry_failed(struct vcpu *vcpu, u32 error)
{
    if (error != VMX_ERROR_ENTRY_CONTROLS && error != VMX_ERROR_ENTRY_HOST_STATE)
        fatal("VM entry of the guest's guest failed: VM-instruction error %u, \"%s\"; a bug in Umbra", error,
              vmx_instruction_error_name(error));
    l2_leave_vmcs02(vcpu);
    return nested_vmx_fail(vcpu, (enum vmx_instruction_error)error);
}
