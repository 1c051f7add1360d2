/* SPDX-License-Identifier: MIT */
/*
 * The table of exits of L2. Everything that only L1's controls, or none, can have caused is L1's; the rows
 * below are the few that Umbra's own controls can cause, too. Source: SDM vol. 3C ch. 26.
 */
#include "nested/vmx-verdict.h"

#include "vmx/controls.h"
#include "vmx/exit-reason.h"

/* Exit qualification of a control-register access, SDM vol. 3C table 28-3 */
#define ACCESS_REGISTER(qualification) ((qualification)&BITS(3, 0))
#define ACCESS_TYPE(qualification)     ((qualification) >> 4 & 3)
#define ACCESS_MOV_TO                  0u

typedef enum l2_verdict verdict_function(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts);

static enum l2_verdict of_exception_or_nmi(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    if ((facts->interruption & INTERRUPTION_TYPE) != INTERRUPTION_NMI)
        return VERDICT_L1;
    return (vmcs12->pin_controls & PIN_NMI_EXITING) != 0 ? VERDICT_NMI_TO_L1 : VERDICT_NMI_TO_L2;
}

/* NMI-window exiting needs virtual NMIs, which without NMI exiting L1 cannot have. */
static enum l2_verdict of_nmi_window(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    if (facts->nmi_waits && (vmcs12->pin_controls & PIN_NMI_EXITING) == 0)
        return VERDICT_WAITING_NMI;
    return VERDICT_L1;
}

/* L1 has injected a pending MTF exit, which nothing comes before. */
static bool injects_mtf(const struct vmcs12 *vmcs12)
{
    const u64 mask = INTERRUPTION_VALID | INTERRUPTION_TYPE;

    return (vmcs12->entry_interruption & mask) == (INTERRUPTION_VALID | INTERRUPTION_OTHER);
}

/* An MTF exit has a higher priority than an NMI: L1's own comes first, and the NMI finds L1 instead. */
static enum l2_verdict of_monitor_trap_flag(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    if (facts->stepping)
        return VERDICT_STEP;
    if ((vmcs12->primary_controls & PRIMARY_MONITOR_TRAP_FLAG) != 0 || injects_mtf(vmcs12) ||
        !facts->nmi_waits)
        return VERDICT_L1;
    return VERDICT_WAITING_NMI;
}

static enum l2_verdict of_msr(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    (void)vmcs12;
    return facts->intercepted ? VERDICT_L1 : VERDICT_MSR;
}

static enum l2_verdict of_field(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    (void)vmcs12;
    return facts->intercepted ? VERDICT_L1 : VERDICT_FIELD;
}

static enum l2_verdict of_control_register(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    u64 q = facts->qualification;

    if (ACCESS_REGISTER(q) != 4 || ACCESS_TYPE(q) != ACCESS_MOV_TO)
        return VERDICT_L1;
    return ((facts->operand ^ vmcs12->cr4_shadow) & vmcs12->cr4_mask) != 0 ? VERDICT_L1 : VERDICT_GP;
}

static enum l2_verdict of_second_level(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    (void)vmcs12;
    (void)facts;
    return VERDICT_SECOND_LEVEL;
}

static enum l2_verdict of_vmfunc(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    (void)facts;
    return vmcs12->vm_function_controls != 0 ? VERDICT_VMFUNC : VERDICT_L1;
}

static verdict_function *const table[EXIT_REASONS] = {
#define ROW(reason, function) [REASON_##reason] = (function),
    L2_JUDGED_REASONS(ROW)
#undef ROW
};

enum l2_verdict l2_exit_verdict(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts)
{
    verdict_function *verdict = facts->reason < EXIT_REASONS ? table[facts->reason] : NULL;

    return verdict == NULL ? VERDICT_L1 : verdict(vmcs12, facts);
}
