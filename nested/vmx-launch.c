/* SPDX-License-Identifier: MIT */
/*
 * VMLAUNCH and VMRESUME of L1 up to the point of no return: the checks of SDM vol. 3C 27.1 to 27.3.1, of
 * which those are left out whose fields nobody has changed since they passed.
 */
#include "arch/print.h"
#include "mm/guest-paging.h"
#include "nested/vmx-capability.h"
#include "nested/vmx-check.h"
#include "nested/vmx-shadowing.h"
#include "nested/vmx-vmcs02.h"
#include "vmx/exit-reason.h"
#include "vmx/vmx.h"

static void log_check(enum vmx_check check)
{
    const struct vmx_check_text *text = vmx_check_text(check);

    log_debug("L1's VM entry fails a check of SDM vol. 3C %s: %s", text->section, text->rule);
}

/* Have the checks of these groups passed with exactly the current content? */
static bool is_checked(const struct nested_vmx *nested, u32 groups)
{
    return (nested->dirty & groups) == 0;
}

static bool injects_event(const struct vmcs12 *vmcs12)
{
    return (vmcs12->entry_interruption & INTERRUPTION_VALID) != 0;
}

static enum vmx_check check_controls(struct nested_vmx *nested, const struct vmx_check_input *input)
{
    enum vmx_check check = VMX_CHECK_OK;

    if (!is_checked(nested, VMCS12_CONTROLS))
        check = vmx_check_controls(input);
    if (check == VMX_CHECK_OK)
        check = vmx_check_event(input);
    return check;
}

/* The other checks depend on the modes, not on all controls. */
static bool modes_checked(const struct nested_vmx *nested)
{
    return is_checked(nested, VMCS12_CONTROLS) || vmcs02_modes_same(nested->vmcs02->active, &nested->vmcs12);
}

/* Only outside of IA-32e mode can RFLAGS.VM, which all segments have to fit, change alone. */
static bool is_rarely_changed_checked(const struct nested_vmx *nested)
{
    return modes_checked(nested) && is_checked(nested, VMCS12_SEGMENTS | VMCS12_GUEST) &&
           (is_checked(nested, VMCS12_EVENT) || (nested->vmcs12.entry_controls & ENTRY_IA32E_GUEST) != 0);
}

static enum vmx_check check_guest(struct vcpu *vcpu, const struct vmx_check_input *input)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    enum vmx_check check = VMX_CHECK_OK;
    bool rare = !is_rarely_changed_checked(nested);

    if (!rare && is_checked(nested, VMCS12_EVENT) && !injects_event(input->vmcs12) &&
        input->vmcs12->link_pointer == NO_VMCS)
        return is_checked(nested, VMCS12_HOT) ? VMX_CHECK_OK : vmx_check_rip(input);
    if (rare || vmx_check_reads_debugctl(input->vmcs12))
        nested_vmx_save_state(vcpu);
    if (rare)
        check = vmx_check_guest_rare(input);
    if (check == VMX_CHECK_OK)
        check = vmx_check_guest_always(input);
    return check;
}

/*
 * The host state is compared with L1's current mode, too, but only IA-32e mode matters, and L1 cannot leave
 * it in VMX operation.
 */
static enum exit_action check_and_enter(struct vcpu *vcpu, bool launch)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);
    const struct vmx_check_input input = {
        .vmcs12 = &nested->vmcs12,
        .capability = &nested_vmx_capability,
        .memory = &guest_paging_memory,
        .current = nested->current,
        .l1_long_mode = (vmread(VMCS_GUEST_EFER) & EFER_LMA) != 0,
    };

    enum vmx_check check = check_controls(nested, &input);
    if (check != VMX_CHECK_OK) {
        log_check(check);
        return nested_vmx_fail(vcpu, VMX_ERROR_ENTRY_CONTROLS);
    }
    if (!modes_checked(nested) || !is_checked(nested, VMCS12_HOST))
        check = vmx_check_host(&input);
    if (check != VMX_CHECK_OK) {
        log_check(check);
        return nested_vmx_fail(vcpu, VMX_ERROR_ENTRY_HOST_STATE);
    }
    check = check_guest(vcpu, &input);
    if (check != VMX_CHECK_OK) {
        log_check(check);
        return nested_vmx_entry_failure(vcpu, REASON_ENTRY_GUEST_STATE, vmx_check_qualification(check));
    }
    return nested_vmx_enter(vcpu, launch);
}

/* Whatever the address width: the canonical addresses of 48 bits, or 32 bits outside of 64-bit mode. */
static bool is_plain_rip(const struct vmcs12 *vmcs12)
{
    bool code64 = (vmcs12->entry_controls & ENTRY_IA32E_GUEST) != 0 &&
                  (vmcs12->guest_rights[VMCS_CS] & RIGHTS_LONG) != 0;
    u64 rip = vmcs12->guest_rip;

    return code64 ? rip >> 47 == 0 || rip >> 47 == BITS(16, 0) : rip >> 32 == 0;
}

/* All is checked, but for a RIP without surprises, and needs no memory of L1. */
static bool is_plain_entry(const struct nested_vmx *nested)
{
    const struct vmcs12 *vmcs12 = &nested->vmcs12;

    return is_checked(nested, VMCS12_CHECKED & ~VMCS12_HOT) && !injects_event(vmcs12) &&
           vmcs12->link_pointer == NO_VMCS && is_plain_rip(vmcs12);
}

enum exit_action nested_vmx_launch(struct vcpu *vcpu, bool launch)
{
    struct nested_vmx *nested = nested_vmx_of(vcpu);

    vmx_shadowing_collect(vcpu);
    if (nested->current == NO_VMCS || (nested->vmcs12.revision & VMCS_SHADOW_INDICATOR) != 0)
        return nested_vmx_fail_invalid();
    if ((vmread(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_MOV_SS) != 0)
        return nested_vmx_fail(vcpu, VMX_ERROR_ENTRY_MOV_SS);
    if (launch && nested->vmcs12.launch_state != VMCS12_CLEAR)
        return nested_vmx_fail(vcpu, VMX_ERROR_VMLAUNCH_NOT_CLEAR);
    if (!launch && nested->vmcs12.launch_state != VMCS12_LAUNCHED)
        return nested_vmx_fail(vcpu, VMX_ERROR_VMRESUME_NOT_LAUNCHED);
    if (is_plain_entry(nested))
        return nested_vmx_enter(vcpu, launch);
    return check_and_enter(vcpu, launch);
}
