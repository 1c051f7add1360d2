/* SPDX-License-Identifier: MIT */
/*
 * NMIs of three owners, Umbra's own single step, and faults that Umbra raises in L2. vmcs02 always has NMI
 * exiting and virtual NMIs; what L1 asked for is made of them here. Source: SDM vol. 3C 25.6.1, 26.2, 28.5.5.
 *
 * L1 without NMI exiting: NMIs are L2's, through its IDT, and the blocking in vmcs02 is the CPU's own, which
 * L1 shares. L1 with virtual NMIs: the blocking in vmcs02 is L1's virtual one, and an NMI always leads to L1.
 * L1 with NMI exiting only: L2 cannot change the blocking that L1 gave it. An NMI that came while Umbra ran
 * must not wait until L2 unblocks virtual NMIs: it has MTF as its messenger.
 */
#include "arch/cpu.h"
#include "nested/vmx-vmcs02.h"
#include "vmx/exit-reason.h"

/*
 * With NMI exiting only, vmcs02's own blocking stays out of it. An injected NMI blocks NMIs by itself, and an
 * entry with virtual NMIs refuses one that finds them blocked, which L1 without virtual NMIs may ask for.
 */
u32 l2_interruptibility(const struct vmcs12 *vmcs12)
{
    if (!l1_has_virtual_nmis(vmcs12) && (l1_exits_by_nmi(vmcs12) || l1_injects_nmi(vmcs12)))
        return (u32)(vmcs12->guest_interruptibility & ~BLOCKING_BY_NMI);
    return vmcs12->guest_interruptibility;
}

bool l2_nmi_is_next(const struct vmcs12 *vmcs12, u64 interruptibility, u64 pending_debug, u64 timer)
{
    const u64 delivered = PENDING_DEBUG_ENABLED | PENDING_DEBUG_BS | PENDING_DEBUG_TRANSACTION;
    bool expired = (vmcs12->pin_controls & PIN_PREEMPTION_TIMER) != 0 && timer == 0;
    bool window =
        (vmcs12->primary_controls & PRIMARY_NMI_WINDOW) != 0 && (interruptibility & BLOCKING_BY_NMI) == 0;

    return (interruptibility & BLOCKING_BY_MOV_SS) == 0 && (pending_debug & delivered) == 0 && !expired &&
           !window;
}

bool l2_nmi_is_first(const struct vcpu *vcpu)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);
    const struct vmcs12 *vmcs12 = &nested->vmcs12;

    return l1_exits_by_nmi(vmcs12) && !nested->vmcs02->nmi_blocked &&
           vmcs12->guest_activity != ACTIVITY_WAIT_FOR_SIPI &&
           (vmcs12->entry_interruption & INTERRUPTION_VALID) == 0 &&
           l2_nmi_is_next(vmcs12, vmcs12->guest_interruptibility, vmcs12->guest_pending_debug,
                          vmcs12->guest_preemption_timer);
}

void l2_set_step(struct vcpu *vcpu, bool on)
{
    const struct nested_vmx *nested = nested_vmx_of(vcpu);

    nested->vmcs02->stepping = on;
    vmx_set_single_step(vcpu, on || (nested->vmcs12.primary_controls & PRIMARY_MONITOR_TRAP_FLAG) != 0);
}

static enum exit_action exception_exit(struct vcpu *vcpu, enum exception_vector vector, bool has_error_code,
                                       u32 error_code, u64 qualification)
{
    struct l2_exit_information information;

    bool error_code_valid = has_error_code && (vmread(VMCS_GUEST_CR0) & CR0_PE) != 0;
    vmwrite(VMCS_GUEST_RFLAGS, vmread(VMCS_GUEST_RFLAGS) | RFLAGS_RF);
    l2_exit_information_read(&information);
    information.reason = REASON_EXCEPTION_OR_NMI;
    information.interruption = (u32)(INTERRUPTION_VALID | INTERRUPTION_HARDWARE | vector |
                                     (error_code_valid ? INTERRUPTION_ERROR_CODE : 0));
    information.error_code = error_code_valid ? error_code : 0;
    information.qualification = qualification;
    information.instruction_information = 0;
    return l2_reflect(vcpu, &information);
}

static bool intercepts(const struct vmcs12 *vmcs12, enum exception_vector vector)
{
    return (vmcs12->exception_bitmap >> vector & 1) != 0;
}

enum exit_action l2_exception(struct vcpu *vcpu, enum exception_vector vector, bool has_error_code,
                              u32 error_code)
{
    if (intercepts(&nested_vmx_of(vcpu)->vmcs12, vector))
        return exception_exit(vcpu, vector, has_error_code, error_code, 0);
    vmx_inject_exception(vector, has_error_code, error_code);
    return EXIT_RESUME;
}

enum exit_action l2_page_fault(struct vcpu *vcpu, u32 error_code, u64 address)
{
    const struct vmcs12 *vmcs12 = &nested_vmx_of(vcpu)->vmcs12;
    bool matches = (error_code & vmcs12->page_fault_mask) == vmcs12->page_fault_match;

    if (intercepts(vmcs12, EXC_PF) == matches)
        return exception_exit(vcpu, EXC_PF, true, error_code, address);
    write_cr2(address);
    vmx_inject_exception(EXC_PF, true, error_code);
    return EXIT_RESUME;
}
