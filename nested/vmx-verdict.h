/* SPDX-License-Identifier: MIT */
/*
 * Who handles an exit of L2: a decision made of the exit's reason and vmcs12's controls alone, one row per
 * reason. Pure.
 */
#ifndef UMBRA_NESTED_VMX_VERDICT_H
#define UMBRA_NESTED_VMX_VERDICT_H

#include "nested/vmcs12.h"

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

enum l2_verdict l2_exit_verdict(const struct vmcs12 *vmcs12, const struct l2_exit_facts *facts);

#endif
