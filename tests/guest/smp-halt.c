/* SPDX-License-Identifier: MIT */
/*
 * Group smp-halt: a CPU in HLT wakes up for what is meant for it, once, and for nothing else: not for what
 * other CPUs want of it below the guest, nor for code that is not there any more; cpus=N as for group smp. It
 * uses the last CPU. Source: APM vol. 3 HLT, vol. 2 8.2.3.
 */
#include "tests/guest/svm.h"

enum {
    VECTOR_HALT = 0x44,
    ROUNDS = 60,
    SHOOT_DOWNS = 4,
    SETTLES = 2,
    HLT_END = 2,
    PATIENCE = 400000,
    PATIENCE_THREADS = 40000000, /* where CPUs are threads */
};

static unsigned who;
static volatile unsigned wakes, nmis;
static volatile bool stop, ready, halts_in_nmi;
static volatile u64 nmi_rip, ran;
static u8 code[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 page[512] __attribute__((aligned(4096)));

static bool on_interrupt(struct frame *frame)
{
    (void)frame;
    apic_write(APIC_EOI, 0);
    return true;
}

static void halt(void)
{
    __asm__ volatile("sti; hlt; cli" ::: "memory");
    wakes++;
}

static bool on_nmi(struct frame *frame)
{
    nmi_rip = frame->rip;
    nmis++;
    if (halts_in_nmi) {
        halts_in_nmi = false;
        halt();
    }
    return true;
}

static void settle(void)
{
    for (unsigned i = 0; i < SETTLES; i++)
        smp_settle();
}

/* What comes late of the IPIs by which CPUs are told what to do. */
static void take_interrupts(void)
{
    settle();
    __asm__ volatile("sti; nop; cli" ::: "memory");
    ready = true;
}

static void halt_until_told(void)
{
    take_interrupts();
    do
        halt();
    while (!stop);
}

static void shoot_down(void)
{
    if (!under_umbra || !test_build)
        return;
    for (unsigned i = 0; i < SHOOT_DOWNS; i++)
        (void)hypercall(HYPERCALL_TEST_PROTECT, (u64)page, (u64)page + sizeof(page), i % 2 != 0 ? 15 : 1);
}

static bool comes_to(const volatile unsigned *counter, unsigned want)
{
    unsigned patience = is_intel ? PATIENCE : PATIENCE_THREADS;

    for (unsigned i = 0; i < patience && *counter < want; i++)
        __asm__ volatile("pause");
    return *counter >= want;
}

static void interrupt(void)
{
    apic_send(smp_id(who), ICR_FIXED | VECTOR_HALT);
}

static void let(void (*function)(void))
{
    stop = ready = false;
    (void)smp_call_one(who, function);
    while (!ready)
        __asm__ volatile("pause");
}

/* Before it, after it, and both: an interrupt that comes with a shoot-down must not be slept over. */
static void interrupts(void)
{
    unsigned n = 0;

    wakes = 0;
    let(halt_until_told);
    do {
        if (n % 3 != 0)
            shoot_down();
        interrupt();
        if (n % 3 != 1)
            shoot_down();
    } while (comes_to(&wakes, ++n) && n < ROUNDS);
    check_eq("smp-halt.interrupts_wake", n, ROUNDS);
    settle();
    check_eq("smp-halt.shoot_down.wakes_nobody", wakes, ROUNDS);
    stop = true;
    interrupt();
    check("smp-halt.interrupts_over", smp_returned(who));
}

/* CLI and HLT in memory that is written to meanwhile: what comes after the NMI counts itself. */
static void parked(void)
{
    static const u8 before[] = {0xfa, 0xf4, 0x90, 0xc3};           /* CLI, HLT, NOP, RET */
    u8 after[] = {0xf0, 0x48, 0xff, 0x04, 0x25, 0, 0, 0, 0, 0xc3}; /* LOCK INC ran; RET */
    u32 counter = (u32)(u64)&ran;
    union {
        u8 *bytes;
        void (*call)(void);
    } there = {code};

    memcpy(&after[5], &counter, sizeof(counter));
    memcpy(code, before, sizeof(before));
    nmis = 0;
    ran = 0;
    (void)smp_call_one(who, there.call);
    settle();
    memcpy(code + HLT_END - 1, after, sizeof(after));
    for (unsigned i = 0; i < ROUNDS; i++)
        shoot_down();
    settle();
    check_eq("smp-halt.shoot_down.parked_sleeps_on", ran, 0);
    apic_send(smp_id(who), ICR_NMI);
    check("smp-halt.nmi_comes", comes_to(&nmis, 1));
    check_eq("smp-halt.shoot_down.nmi_ends_halt", nmi_rip, (u64)code + HLT_END);
    check("smp-halt.nmi_is_over", smp_returned(who));
    check_eq("smp-halt.runs_after_nmi", ran, 1);
}

static void wait_until_told(void)
{
    take_interrupts();
    while (!stop)
        __asm__ volatile("pause");
}

/* A second NMI waits for the end of the first one's handler, which only an interrupt wakes up. */
static void nmi_in_nmi(void)
{
    let(wait_until_told);
    wakes = nmis = 0;
    halts_in_nmi = true;
    apic_send(smp_id(who), ICR_NMI);
    check("smp-halt.nmi_begins", comes_to(&nmis, 1));
    settle();
    apic_send(smp_id(who), ICR_NMI);
    settle(); /* or else it may merge with that of a shoot-down: vcpu/shootdown.h */
    shoot_down();
    settle();
    check_eq("smp-halt.shoot_down.blocked_nmi_wakes_nobody", wakes, 0);
    check_eq("smp-halt.shoot_down.blocked_nmi_waits", nmis, 1);
    interrupt();
    check("smp-halt.interrupt_wakes_nmi_handler", comes_to(&wakes, 1));
    check("smp-halt.blocked_nmi_comes", comes_to(&nmis, 2));
    stop = true;
    check("smp-halt.goes_on_after_nmis", smp_returned(who));
}

static void halt_below_priority(void)
{
    take_interrupts();
    apic_write(APIC_TPR, 0xf0);
    halt();
    apic_write(APIC_TPR, 0);
    while (!stop)
        __asm__ volatile("pause");
}

/* The local APIC's task priority holds it back, until an NMI ends the HLT. */
static void task_priority(void)
{
    wakes = nmis = 0;
    let(halt_below_priority);
    settle();
    interrupt();
    shoot_down();
    settle();
    check_eq("smp-halt.shoot_down.task_priority_holds_back", wakes, 0);
    apic_send(smp_id(who), ICR_NMI);
    check("smp-halt.nmi_has_no_priority", comes_to(&wakes, 1));
    stop = true;
    check("smp-halt.task_priority_over", smp_returned(who));
}

static void halt_without_gif(void)
{
    take_interrupts();
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    __asm__ volatile("clgi; sti; hlt; cli" ::: "memory");
    wakes++;
    __asm__ volatile("stgi" ::: "memory");
}

/* AMD: whatever comes while GIF is 0 waits for STGI, which comes no more. Other CPUs do not wait for that
 * one. */
static void global_interrupt_flag(void)
{
    wakes = nmis = 0;
    let(halt_without_gif);
    settle();
    interrupt();
    apic_send(smp_id(who), ICR_NMI);
    shoot_down();
    settle();
    check_eq("smp-halt.gif_holds_all_back", wakes + nmis, 0);
}

void group_smp_halt(void)
{
    unsigned others = smp_start();

    if (others == 0) {
        note_skipped("smp-halt", "one CPU");
        return;
    }
    who = others - 1;
    trap_set_hook(VECTOR_HALT, on_interrupt);
    trap_set_hook(EXC_NMI, on_nmi);
    interrupts();
    parked();
    nmi_in_nmi();
    task_priority();
    check("smp-halt.all_rest", smp_rest());
    /* The last one: nothing wakes that CPU any more. */
    if (!is_intel)
        global_interrupt_flag();
}
