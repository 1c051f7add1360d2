/* SPDX-License-Identifier: MIT */
/*
 * Events: what is injected at the next entry, what an exit interrupted and has to be redone, NMIs in both
 * worlds, and the end of an instruction that Umbra did for the guest. Source: SDM vol. 3C 25.3, 27.6, 28.2.
 *
 * NMIs. One that comes in the guest is an exit; NMIs then stay blocked in the CPU until the next entry. One
 * that comes in Umbra runs vmx_nmi_hook(), between any two instructions of the code below. None is lost:
 * - vcpu->nmi_pending alone says whether an NMI waits, and NMI-window exiting in the VMCS follows it. The
 *   hook sets both. After the hook nothing has to look: the entry itself leads to the exit that injects it.
 * - v->primary has all other bits of that control. Only exits change it, never the hook, so no change undoes
 *   the hook's: write_changed_primary() takes v->primary first, derives the VMCS's value, and starts again if
 *   nmi_pending changed meanwhile. A hook after that writes the same v->primary itself.
 * - nmi_pending is cleared before the injection is written, so an NMI after it counts as the next one. An NMI
 *   before it merges with the one that waits, as in a CPU, which latches only one.
 * - An NMI that another CPU's shoot-down sent (vcpu/shootdown.h) is answered where it arrives, and is none of
 *   the guest's.
 */
#include "arch/print.h"
#include "vcpu/shootdown.h"
#include "vmx/controls.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

#define DEBUGCTL_BTF BIT(1)

/* Orders memory accesses of the exit path against those of the NMI hook on the same CPU. */
static void order_against_nmi(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static bool nmi_waits(const struct vcpu *vcpu)
{
    return *(const volatile bool *)&vcpu->nmi_pending;
}

/* After a checked access to the VMCS, or a VMPTRLD. */
static inline __attribute__((always_inline)) void write_primary(struct vcpu *vcpu, u32 primary,
                                                                u32 nmi_controls)
{
    bool waits;

    do {
        order_against_nmi();
        waits = nmi_waits(vcpu);
        vmwrite_unchecked(VMCS_PRIMARY_CONTROLS,
                          __builtin_expect(waits, false) ? primary | nmi_controls : primary);
    } while (__builtin_expect(waits != nmi_waits(vcpu), false));
}

/* After a change of v->primary or v->nmi_controls. */
static void write_changed_primary(struct vcpu *vcpu)
{
    const struct vmx_vcpu *v = vmx_of(vcpu);

    write_primary(vcpu, v->primary, v->nmi_controls);
}

void vmx_nmi_hook(struct vcpu *vcpu)
{
    const struct vmx_vcpu *v = vmx_of(vcpu);

    if (shootdown_nmi(vcpu))
        return;
    vcpu->nmi_pending = true;
    vmwrite(VMCS_PRIMARY_CONTROLS, v->primary | v->nmi_controls);
}

/*
 * A hook in between may write the controls of one VMCS into the other: into the old one, which is always
 * written when it becomes current again, or into the new one, which is written here.
 */
void vmx_switch_vmcs(struct vcpu *vcpu, hpa_t vmcs, u32 primary, u32 nmi_controls)
{
    struct vmx_vcpu *v = vmx_of(vcpu);

    v->primary = primary;
    v->nmi_controls = nmi_controls;
    vmx_visit_vmcs(vmcs);
    write_primary(vcpu, primary, nmi_controls);
}

/* A hook in between has written the controls of the visited VMCS instead. */
void vmx_return_to_vmcs01(struct vcpu *vcpu)
{
    vmx_visit_vmcs(vmx_of(vcpu)->vmcs);
    order_against_nmi();
    if (nmi_waits(vcpu))
        write_changed_primary(vcpu);
}

void vmx_set_single_step(struct vcpu *vcpu, bool on)
{
    struct vmx_vcpu *v = vmx_of(vcpu);

    v->primary = (u32)(on ? v->primary | PRIMARY_MONITOR_TRAP_FLAG : v->primary & ~PRIMARY_MONITOR_TRAP_FLAG);
    write_changed_primary(vcpu);
}

void vmx_deliver_nmi(struct vcpu *vcpu)
{
    u64 blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);
    bool entry_is_free = (vmread(VMCS_ENTRY_INTERRUPTION) & INTERRUPTION_VALID) == 0;

    if (entry_is_free && (blocking & (BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS)) == 0) {
        vcpu->nmi_pending = false;
        order_against_nmi();
        /* A CPU may take an NMI after STI, and an entry may refuse one there: the NMI ends that shadow. */
        if ((blocking & BLOCKING_BY_STI) != 0)
            vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking & ~BLOCKING_BY_STI);
        vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_NMI | EXC_NMI);
    }
    write_changed_primary(vcpu);
}

void vmx_nmi_exit(struct vcpu *vcpu)
{
    if (shootdown_nmi(vcpu))
        return;
    vcpu->nmi_pending = true;
    vmx_deliver_nmi(vcpu);
}

void vmx_nmi_window_exit(struct vcpu *vcpu)
{
    vmx_deliver_nmi(vcpu);
}

void vmx_inject_exception(enum exception_vector vector, bool has_error_code, u32 error_code)
{
    u64 information = INTERRUPTION_VALID | INTERRUPTION_HARDWARE | vector;

    /* Real mode has no error codes, and an entry that pushes one there fails (SDM vol. 3C 27.2.1.3). */
    if (has_error_code && (vmread(VMCS_GUEST_CR0) & CR0_PE) != 0) {
        information |= INTERRUPTION_ERROR_CODE;
        vmwrite(VMCS_ENTRY_ERROR_CODE, error_code);
    }
    vmwrite(VMCS_ENTRY_INTERRUPTION, information);
    /* A fault's frame has RF set, so that an instruction breakpoint does not hit a second time (SDM vol.
     * 3B 18.3.1.1). */
    vmwrite(VMCS_GUEST_RFLAGS, vmread(VMCS_GUEST_RFLAGS) | RFLAGS_RF);
}

static bool is_software_event(u64 information)
{
    u64 type = information & INTERRUPTION_TYPE;
    return type == INTERRUPTION_SOFTWARE || type == INTERRUPTION_PRIVILEGED || type == INTERRUPTION_TRAP;
}

bool vmx_resume_delivery(void)
{
    u64 information = vmread(VMCS_VECTORING);

    if ((information & INTERRUPTION_VALID) == 0)
        return false;
    information &= INTERRUPTION_VALID | INTERRUPTION_ERROR_CODE | INTERRUPTION_TYPE | INTERRUPTION_VECTOR;
    if ((information & INTERRUPTION_ERROR_CODE) != 0)
        vmwrite(VMCS_ENTRY_ERROR_CODE, vmread(VMCS_VECTORING_ERROR_CODE));
    /* RIP is that of the INT instruction; the frame gets the one after it. */
    if (is_software_event(information))
        vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
    /* The interrupted delivery had blocked NMIs already; injecting one requires that they are not. */
    if ((information & INTERRUPTION_TYPE) == INTERRUPTION_NMI)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) & ~BLOCKING_BY_NMI);
    vmwrite(VMCS_ENTRY_INTERRUPTION, information);
    return true;
}

/* An instruction ends: RF is clear after it, and with TF it is followed by #DB unless only branches trap. */
static void finish_flags(u64 rflags)
{
    vmwrite(VMCS_GUEST_RFLAGS, rflags & ~RFLAGS_RF);
    if ((rflags & RFLAGS_TF) != 0 && (vmread(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF) == 0)
        vmwrite(VMCS_GUEST_PENDING_DEBUG, vmread(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}

void vmx_skip_special_instruction(u64 next, u64 rip)
{
    u64 blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);

    /* EIP wraps around at 4 GByte; RIP does not. */
    if ((next ^ rip) >> 32 != 0 && !vmx_code64())
        next &= BITS(31, 0);
    vmwrite(VMCS_GUEST_RIP, next);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking & ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
    finish_flags(vmread(VMCS_GUEST_RFLAGS));
}
