/* SPDX-License-Identifier: MIT */
/*
 * Group smp-restart: other CPUs of L1 are restarted by INIT and SIPI as by a kernel that another one started:
 * with VMX or SVM on, which an INIT has to wait for on Intel (SDM vol. 3C 26.2), and with L2 running, where
 * an NMI brings them out first; then they turn it on again. cpus=N as for group smp. They use no FAULTABLE
 * instruction that faults.
 */
#include "tests/guest/svm.h"
#undef L2_CODE /* of neither vendor here */
#include "tests/guest/vmx.h"

enum { ROUNDS = 2 };

extern const u8 smp_restart_spin[];
__asm__(".pushsection .text\nsmp_restart_spin:\n1: pause\njmp 1b\n.popsection");

static struct {
    u8 vmxon[PAGE_SIZE], control[PAGE_SIZE], host_area[PAGE_SIZE];
} mine[SMP_MAX] __attribute__((aligned(4096)));
static struct l2_registers l2_of[SMP_MAX];

/* What each has come to, which it sets itself; `beats` grows as long as it runs in L1. */
enum { BEGINS, HAS_BEGUN, IS_OUT };
static volatile unsigned stage[SMP_MAX];
static volatile u64 beats[SMP_MAX], reason[SMP_MAX];
static volatile bool leave_root;

static void begin(unsigned cpu)
{
    if (is_intel) {
        vmx_begin(mine[cpu].vmxon, mine[cpu].control);
        vmx_reset_vmcs();
    } else {
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
        wrmsr(MSR_VM_HSAVE_PA, (u64)mine[cpu].host_area);
        memcpy(mine[cpu].control, &vmcb, sizeof(vmcb));
    }
}

static _Noreturn void beat(unsigned cpu)
{
    for (;;)
        beats[cpu]++;
}

static void stay_in_root(unsigned cpu)
{
    begin(cpu);
    stage[cpu] = HAS_BEGUN;
    while (!leave_root)
        beats[cpu]++;
    (void)try_vmxoff();
    stage[cpu] = IS_OUT;
    beat(cpu);
}

/* An NMI, or an INIT on Intel, ends L2; VMX or SVM goes off, as Linux has it before it starts another kernel.
 */
static void run_l2(unsigned cpu)
{
    struct vmcb *own = (struct vmcb *)(void *)mine[cpu].control;

    begin(cpu);
    if (is_intel) {
        vmx_set(WORD_PIN, PIN_NMI_EXITING);
        vmwrite(VMCS_GUEST_RIP, (u64)smp_restart_spin);
        stage[cpu] = HAS_BEGUN;
        reason[cpu] = vmx_enter(&l2_of[cpu], true) == 0 ? vmread(VMCS_EXIT_REASON) : ~0ull;
        (void)try_vmxoff();
    } else {
        own->control.intercept[VMEXIT_NMI / 32] |= 1u << VMEXIT_NMI % 32;
        own->save.rip = (u64)smp_restart_spin;
        stage[cpu] = HAS_BEGUN;
        svm_enter(&l2_of[cpu], (u64)own, 0);
        reason[cpu] = own->control.exit_code;
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
    }
    stage[cpu] = IS_OUT;
    beat(cpu);
}

/* --- on the boot CPU --- */

static unsigned others;

static void expect(const char *what, bool good)
{
    check_part("smp-restart", what, good, true);
}

static bool all_come_to(unsigned wanted)
{
    bool good = true;

    for (unsigned i = 0; i < 20; i++) {
        smp_settle();
        good = true;
        for (unsigned cpu = 1; cpu <= others; cpu++)
            good = good && stage[cpu] == wanted;
        if (good)
            break;
    }
    return good;
}

static bool all_call(void (*function)(unsigned cpu))
{
    for (unsigned cpu = 1; cpu <= others; cpu++) {
        stage[cpu] = BEGINS;
        reason[cpu] = 0;
    }
    return smp_call(function) && all_come_to(HAS_BEGUN);
}

/* Does it go on, or has it stopped? */
static bool all_beat(bool wanted)
{
    u64 before[SMP_MAX];
    bool good = true;

    smp_settle();
    for (unsigned cpu = 1; cpu <= others; cpu++)
        before[cpu] = beats[cpu];
    smp_settle();
    for (unsigned cpu = 1; cpu <= others; cpu++)
        good = good && (beats[cpu] != before[cpu]) == wanted;
    return good;
}

static void send_all(u32 command)
{
    for (unsigned cpu = 1; cpu <= others; cpu++)
        apic_send(smp_id(cpu - 1), command);
    smp_settle();
}

static void send_init(void)
{
    send_all(ICR_INIT);
}

static bool sipi_starts(unsigned who)
{
    unsigned before = smp_starts(who);

    smp_forget_call();
    apic_send(smp_id(who), ICR_STARTUP | SMP_PAGE >> 12);
    return smp_has_started(who, before + 1);
}

static bool all_start(void)
{
    bool good = true;

    for (unsigned cpu = 1; cpu <= others; cpu++)
        good = sipi_starts(cpu - 1) && good;
    return good && smp_rest();
}

static void check_root(void)
{
    leave_root = false;
    expect("root.begins", all_call(stay_in_root));
    send_init();
    expect("root.init_is_blocked", all_beat(true));
    unsigned starts = smp_starts(0);
    send_all(ICR_STARTUP | SMP_PAGE >> 12);
    expect("root.sipi_is_ignored", all_beat(true) && smp_starts(0) == starts);
    leave_root = true;
    smp_settle();
    bool stopped = all_beat(false);
    expect("root.init_after_vmxoff", stopped);
    if (!stopped)
        send_init();
    expect("root.starts", all_start());
}

static void check_l2_by_nmi(void)
{
    bool by_nmi = true;

    expect("l2.begins", all_call(run_l2));
    expect("l2.runs", all_beat(false));
    send_all(ICR_NMI);
    expect("l2.comes_out", all_come_to(IS_OUT));
    for (unsigned cpu = 1; cpu <= others; cpu++)
        by_nmi = by_nmi && reason[cpu] == (is_intel ? (u64)REASON_EXCEPTION_OR_NMI : (u64)VMEXIT_NMI);
    expect("l2.by_nmi", by_nmi);
    send_init();
    expect("l2.init_stops", all_beat(false));
    expect("l2.starts", all_start());
}

/* Intel: it ends L2. AMD, where L1 does not intercept it: it ends all. */
static void check_l2_by_init(void)
{
    bool by_init = true;

    expect("l2_init.begins", all_call(run_l2));
    send_init();
    if (is_intel) {
        expect("l2_init.comes_out", all_come_to(IS_OUT));
        for (unsigned cpu = 1; cpu <= others; cpu++)
            by_init = by_init && reason[cpu] == REASON_INIT;
        expect("l2_init.by_init", by_init);
        send_init();
    }
    expect("l2_init.stops", all_beat(false));
    expect("l2_init.starts", all_start());
}

void group_smp_restart(void)
{
    others = smp_start();
    if (others == 0) {
        note_skipped("smp-restart", "one CPU");
        return;
    }
    if (is_intel ? !vmx_start("smp-restart") : !svm_start("smp-restart"))
        return;
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (is_intel)
            check_root();
        check_l2_by_nmi();
        check_l2_by_init();
    }
    if (is_intel)
        vmx_stop();
    else
        svm_stop();
}
