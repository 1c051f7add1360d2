/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-smp: another CPU sends INITs, SIPIs and NMIs to one whose L2 runs, or waits for a SIPI. cpus=N as
 * for group smp. Source: SDM vol. 3C 26.2, 28.2.1.
 */
#include "tests/guest/vmx.h"

L2_CODE(code_spin, "", "1: pause\njmp 1b");
L2_CODE(code_nops, "nop", "nop\nnop");

enum { VECTOR = 0x9a };

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-smp", what, got, want);
}

static void check_sipi(void)
{
    if (!(rdmsr(MSR_IA32_VMX_MISC) & BIT(8))) {
        note_skipped("vmx-smp.sipi", "no wait-for-SIPI");
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        vmx_reset();
        vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
        /* NMIs are blocked there, and one SIPI is enough. */
        smp_send(apic_id(), ICR_STARTUP | VECTOR);
        expect("sipi.exit", vmx_run(&code_spin), REASON_SIPI);
        smp_rest();
        expect("sipi.vector", vmread(VMCS_EXIT_QUALIFICATION), VECTOR);
        expect("sipi.ran_nothing", vmread(VMCS_GUEST_RIP), (u64)code_spin.at);
    }
}

static void check_init(void)
{
    for (unsigned i = 0; i < 3; i++) {
        vmx_reset();
        smp_send_once(apic_id(), ICR_INIT);
        expect("init.exit", vmx_run(&code_spin), REASON_INIT);
        smp_rest();
        expect("init.activity", vmread(VMCS_GUEST_ACTIVITY), ACTIVITY_ACTIVE);
    }
}

/* Root operation blocks it; the next entry lets it through, once. */
static void check_init_in_root(void)
{
    vmx_reset();
    apic_send_init();
    expect("init_in_root.exit", vmx_run(&code_nops), REASON_INIT);
    vmx_reset();
    expect("init_in_root.once", vmx_run(&code_nops), REASON_VMCALL);
}

static void check_nmi(void)
{
    for (unsigned i = 0; i < 3; i++) {
        vmx_reset();
        vmx_set(WORD_PIN, PIN_NMI_EXITING);
        smp_send_once(apic_id(), ICR_NMI);
        expect("nmi.exit", vmx_run(&code_spin), REASON_EXCEPTION_OR_NMI);
        smp_rest();
        expect("nmi.information", vmread(VMCS_EXIT_INTERRUPTION),
               INTERRUPTION_VALID | INTERRUPTION_NMI | EXC_NMI);
    }
}

void group_vmx_smp(void)
{
    if (smp_start() == 0) {
        note_skipped("vmx-smp", "one CPU");
        return;
    }
    if (!vmx_start("vmx-smp"))
        return;
    check_sipi();
    check_nmi();
    check_init();
    check_init_in_root();
    vmx_stop();
}
