/* SPDX-License-Identifier: MIT */
/*
 * Who handles an exit of L2: a decision made of the exit's reason and vmcs12's controls alone, one row per
 * reason. Pure.
 */
#ifndef UMBRA_NESTED_VMX_VERDICT_H
#define UMBRA_NESTED_VMX_VERDICT_H

#include "nested/vmcs12.h"
#include "vmx/exit-reason.h"

enum l2_verdict {
    VERDICT_L1,           /* L1 gets the exit as the hardware reported it */
    VERDICT_NMI_TO_L1,    /* an NMI exit, which L1's controls ask for */
    VERDICT_NMI_TO_L2,    /* an NMI that L2 takes through its own IDT */
    VERDICT_WAITING_NMI,  /* the exit was forced because an NMI waits */
    VERDICT_SECOND_LEVEL, /* EPT violation or misconfiguration: the shadow tables' to judge */
    VERDICT_MSR,          /* L1 does not want it, Umbra's policy decides */
    VERDICT_GP,           /* #GP(0): L2 wrote what not even L1 may */
    VERDICT_STEP,         /* the end of Umbra's own single step */
    VERDICT_VMFUNC,       /* L1 has allowed VM functions */
    VERDICT_FIELD,        /* VMREAD or VMWRITE, which L1 lets through to a shadow VMCS */
};

/* Of the exit, as far as the reason makes it meaningful. */
struct l2_exit_facts {
    u32 reason; /* basic */
    u32 interruption;
    u64 qualification;
    u64 operand;      /* of a MOV to CR4 */
    bool nmi_waits;   /* vcpu->nmi_pending */
    bool stepping;    /* Umbra has turned MTF on for a step of its own */
    bool intercepted; /* by L1: the access to an MSR, or to a field of a shadow VMCS */
};

/* The reasons that have to be judged, with the functions that do it: X(name, function). */
#define L2_JUDGED_REASONS(X)                                                                                 \
    X(EXCEPTION_OR_NMI, of_exception_or_nmi)                                                                 \
    X(NMI_WINDOW, of_nmi_window)                                                                             \
    X(VMREAD, of_field)                                                                                      \
    X(VMWRITE, of_field)                                                                                     \
    X(CONTROL_REGISTER, of_control_register)                                                                 \
    X(RDMSR, of_msr)                                                                                         \
    X(WRMSR, of_msr)                                                                                         \
    X(MONITOR_TRAP_FLAG, of_monitor_trap_flag)                                                               \
    X(EPT_VIOLATION, of_second_level)                                                                        \
    X(EPT_MISCONFIGURATION, of_second_level)                                                                 \
    X(VMFUNC, of_vmfunc)

#define L2_JUDGED_BIT(reason, function) | (REASON_##reason < 64 ? 1ull << (REASON_##reason & 63) : 0)

/* Is the verdict VERDICT_L1 without further ado? False also for an entry that has failed, and reasons from 64
 * on. */
static inline bool l2_exit_is_l1s(u32 reason)
{
    return reason < 64 && ((0 L2_JUDGED_REASONS(L2_JUDGED_BIT)) >> reason & 1) == 0;
}

enum l2_verdict l2_exit_verdict(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts);

#endif
