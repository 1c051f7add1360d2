/* SPDX-License-Identifier: MIT */
/*
 * Group svm-smp: INITs, SIPIs, NMIs and interrupts between CPUs that run an L2, and sent by one; and a VMCB
 * and nested tables that CPUs use in turns. cpus=N as for group smp. Source: APM vol. 2 15.13, 15.15, 15.16,
 * 15.17, 15.21.8, 15.28.
 */
#include "tests/guest/svm.h"

L2_CODE(code_spin, "", "1: pause\njmp 1b");
L2_CODE(code_hlt, "1: hlt", "jmp 1b");
L2_CODE(code_nops, "nop", "nop\nnop");
L2_CODE(code_beat, "", "1: incq (%rdi)\npause\njmp 1b");
L2_CODE(code_count,
        "incq (%rdi)\nincq %rbx\nmov %cr4, %r8\nmov %dr7, %r9\nmov %es, %r10d\nsidt -16(%rsp)\nmov "
        "-16(%rsp), %r11",
        "nop");
L2_CODE(code_cpuid, "", "cpuid");
L2_CODE(code_read, "", "mov (%rdi), %rax");
/* INIT, RCX turns, and SIPI: as the boot code of an operating system does. */
L2_CODE(code_start_by_page,
        "mov %esi, 0x10(%rdi)\nmov %eax, (%rdi)\n1: pause\ndec %rcx\njnz 1b\nmov %esi, 0x10(%rdi)",
        "mov %ebx, (%rdi)");
L2_CODE(code_start_by_msr, "mov %esi, %edx\nwrmsr\n1: pause\ndec %rdi\njnz 1b\nmov %ebx, %eax", "wrmsr");

enum {
    REPEATS = 3,
    TURNS = 12,
    DELAY_LONG = 100000,
    ICR_ADDRESS = 0xfee00300,
    TABLE_ROUNDS = 12,
    PAGE_SHARED = 20, /* of L2's window */
};

static struct vmcb other_vmcb __attribute__((aligned(4096)));
static u8 other_host_area[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 other_stack[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 shared_pages[2][512] __attribute__((aligned(4096)));
static volatile u64 beat;

/* What the other CPU does. */
static struct {
    struct l2_registers *registers;
    struct vmcb *vmcb;
    unsigned flags;
    volatile u64 result;
} job;
enum { NO_RESULT = 0xdead };

static void expect(const char *what, u64 got, u64 want)
{
    check_part("svm-smp", what, got, want);
}

/* --- on the other CPU --- */

static void switch_svm_on(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (u64)other_host_area);
}

/* Of ASID 1, if it is not 0. */
static u64 page_to_invalidate;

static void invalidate_page(void)
{
    __asm__ volatile("invlpga %%rax, %%ecx" ::"a"(page_to_invalidate), "c"(1) : "memory");
}

static void run_job(void)
{
    switch_svm_on();
    if (page_to_invalidate != 0)
        invalidate_page();
    job.vmcb->save.rax = job.registers->rax;
    svm_enter(job.registers, (u64)job.vmcb, job.flags);
    job.registers->rax = job.vmcb->save.rax;
    job.vmcb->control.tlb_control = TLB_CONTROL_NOTHING;
    job.result = job.vmcb->control.exit_code;
    __asm__ volatile("stgi");
}

static void read_svme(void)
{
    job.result = rdmsr(MSR_EFER) & EFER_SVME;
}

/* --- NMIs and INITs for an L2 of this CPU --- */

static void check_nmi(const struct l2_code *code, const char *name)
{
    for (unsigned i = 0; i < REPEATS; i++) {
        svm_reset();
        svm_intercept(VMEXIT_NMI);
        svm_enter_flags = ENTER_KEEP_GIF;
        smp_own_nmis = 0;
        smp_send_once(apic_id(), ICR_NMI);
        u64 exit = svm_run(code);
        smp_rest();
        check_part(name, "exit", exit, VMEXIT_NMI);
        check_part(name, "no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
        check_part(name, "waits", smp_own_nmis, 0);
        (void)try_stgi();
        check_part(name, "left_to_l1", smp_own_nmis, 1);
        /* L2's own. */
        svm_reset();
        smp_send_once(apic_id(), ICR_NMI);
        check_part(name, "own", svm_run_vector(code), L2_VECTOR + EXC_NMI);
        smp_rest();
        /* Its handler has come to no IRET: the next one waits for that of an interrupt. */
        smp_send_and_wait(apic_id(), ICR_NMI);
        smp_rest();
        smp_settle();
        check_part(name, "blocked", smp_own_nmis, 1);
        apic_send_self(VECTOR_PING);
        __asm__ volatile("sti\nnop\nnop\ncli");
        check_part(name, "comes_after_iret", smp_own_nmis, 2);
    }
}

static unsigned redirected;

static bool take_redirected(struct frame *at)
{
    redirected += at->error == 1;
    return true;
}

/* With R_INIT it becomes #SX in the end, so that it does no harm here. */
static void check_init(void)
{
    u64 vm_cr = rdmsr(MSR_VM_CR);

    trap_set_hook(EXC_SX, take_redirected);
    for (unsigned i = 0; i < REPEATS; i++) {
        svm_reset();
        svm_intercept(VMEXIT_INIT);
        svm_enter_flags = ENTER_KEEP_GIF;
        redirected = 0;
        smp_send_once(apic_id(), ICR_INIT);
        expect("init.exit", svm_run(&code_spin), VMEXIT_INIT);
        smp_rest();
        expect("init.still_pending", svm_run(&code_spin), VMEXIT_INIT);
        wrmsr(MSR_VM_CR, vm_cr | VM_CR_R_INIT);
        (void)try_stgi();
        expect("init.redirected", redirected, 1);
        smp_send_once(apic_id(), ICR_INIT);
        expect("r_init.exit", svm_run(&code_hlt), VMEXIT_INIT);
        smp_rest();
        svm_allow(VMEXIT_INIT);
        expect("r_init.exception", svm_run(&code_spin), VMEXIT_EXCP0 + EXC_SX);
        expect("r_init.error_code", vmcb.control.exit_info_1, 1);
        (void)try_stgi();
        expect("r_init.gone", redirected, 1);
        svm_reset();
        vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = 0;
        smp_send_once(apic_id(), ICR_INIT);
        expect("r_init.own", svm_run_vector(&code_spin), L2_VECTOR + EXC_SX);
        smp_rest();
        wrmsr(MSR_VM_CR, vm_cr);
    }
    trap_set_hook(EXC_SX, NULL);
}

/* --- an L2 of the other CPU --- */

/* svm_reset() was before. */
static bool other_begins(const struct l2_code *code, unsigned flags, void (*function)(void))
{
    static struct l2_registers registers;

    other_vmcb = vmcb;
    other_vmcb.save.rip = (u64)code->start;
    other_vmcb.save.rsp = (u64)other_stack + PAGE_SIZE - 64;
    memset(&registers, 0, sizeof(registers));
    registers.rdi = (u64)&beat;
    job.registers = &registers;
    job.vmcb = &other_vmcb;
    job.flags = flags;
    job.result = NO_RESULT;
    return smp_call_one(0, function);
}

static bool beats(void)
{
    u64 before = beat;

    for (unsigned i = 0; i < 100 && beat == before; i++)
        smp_settle();
    return beat != before;
}

static bool stops_beating(void)
{
    u64 before;
    unsigned i = 0;

    do {
        before = beat;
        smp_settle();
    } while (beat != before && i++ < 100);
    return beat == before;
}

static bool other_starts(void)
{
    unsigned starts = smp_starts(0);

    smp_forget_call();
    apic_send(smp_id(0), ICR_STARTUP | SMP_PAGE >> 12);
    return smp_has_started(0, starts + 1);
}

/* Whether or not L1 sees it first, it is reset. */
static void check_init_of_other(const char *name, bool intercepted)
{
    svm_reset();
    if (intercepted)
        svm_intercept(VMEXIT_INIT);
    check_part(name, "begins", other_begins(&code_beat, ENTER_KEEP_GIF, run_job) && beats(), true);
    unsigned starts = smp_starts(0);
    apic_send(smp_id(0), ICR_STARTUP | SMP_PAGE >> 12);
    check_part(name, "sipi_is_ignored", beats() && smp_starts(0) == starts, true);
    apic_send(smp_id(0), ICR_INIT);
    check_part(name, "stops", stops_beating() && smp_starts(0) == starts, true);
    check_part(name, "starts", other_starts(), true);
    check_part(name, "exit", job.result, intercepted ? (u64)VMEXIT_INIT : NO_RESULT);
    check_part(name, "read", smp_call_one(0, read_svme) && smp_returned(0), true);
    check_part(name, "svme_is_off", job.result, 0);
    svm_reset();
    check_part(name, "runs_again", other_begins(&code_nops, 0, run_job) && smp_returned(0), true);
    check_part(name, "exit_again", job.result, VMEXIT_VMMCALL);
}

static volatile bool go;

static void run_job_later(void)
{
    switch_svm_on();
    __asm__ volatile("clgi");
    beat++;
    while (!go)
        __asm__ volatile("pause");
    run_job();
}

/* The INIT waits for GIF, which VMRUN sets: it stops the CPU once. */
static void check_held_init_of_other(void)
{
    svm_reset();
    beat = 0;
    go = false;
    expect("held_init.begins", other_begins(&code_beat, ENTER_KEEP_GIF, run_job_later), true);
    while (beat == 0)
        __asm__ volatile("pause");
    unsigned starts = smp_starts(0);
    apic_send(smp_id(0), ICR_INIT);
    smp_settle();
    go = true;
    smp_settle();
    expect("held_init.stops", stops_beating() && smp_starts(0) == starts, true);
    expect("held_init.ran_nothing", beat, 1);
    expect("held_init.one_sipi_starts", other_starts(), true);
}

static void check_nmi_of_other(void)
{
    svm_reset();
    svm_intercept(VMEXIT_NMI);
    for (unsigned i = 0; i < REPEATS; i++) {
        expect("other_nmi.begins", other_begins(&code_beat, 0, run_job) && beats(), true);
        apic_send(smp_id(0), ICR_NMI);
        expect("other_nmi.returns", smp_returned(0), true);
        expect("other_nmi.exit", job.result, VMEXIT_NMI);
    }
}

/* --- an L2 sends INIT and SIPI --- */

static void check_start(const char *name, const struct l2_code *code, u64 delay, bool by_msr)
{
    unsigned starts = smp_starts(0);

    l2.rax = ICR_INIT;
    l2.rbx = ICR_STARTUP | SMP_PAGE >> 12;
    if (by_msr) {
        l2.rsi = smp_id(0);
        l2.rdi = delay;
        l2.rcx = MSR_X2APIC_ICR;
    } else {
        l2.rsi = (u64)smp_id(0) << 24;
        l2.rdi = ICR_ADDRESS;
        l2.rcx = delay;
    }
    check_part(name, "exit", svm_run(code), VMEXIT_VMMCALL);
    check_part(name, "starts", smp_has_started(0, starts + 1), true);
}

static void check_starts_by_page(void)
{
    for (unsigned i = 0; i < REPEATS; i++) {
        svm_reset();
        check_start("svm-smp.l2_sends", &code_start_by_page, DELAY_LONG, false);
        check_start("svm-smp.l2_sends_at_once", &code_start_by_page, 1, false);
        vmcb.control.nested_control = 0;
        vmcb.control.tlb_control = TLB_CONTROL_FLUSH_ALL;
        check_start("svm-smp.l2_sends_without_np", &code_start_by_page, DELAY_LONG, false);
    }
}

static void check_starts_by_msr(void)
{
    for (unsigned i = 0; i < REPEATS; i++) {
        svm_reset();
        check_start("svm-smp.l2_sends_x2apic", &code_start_by_msr, DELAY_LONG, true);
        svm_intercept(VMEXIT_MSR);
        check_start("svm-smp.l2_sends_x2apic_by_map", &code_start_by_msr, DELAY_LONG, true);
        check_start("svm-smp.l2_sends_x2apic_by_known_map", &code_start_by_msr, DELAY_LONG, true);
        /* Where the ICR does not say to whom it sent, Umbra cannot know. */
        if (rdmsr(MSR_X2APIC_ICR) >> 32 == smp_id(0))
            check_start("svm-smp.l2_sends_x2apic_at_once", &code_start_by_msr, 1, true);
        else
            note_skipped("svm-smp.l2_sends_x2apic_at_once", "the ICR reads without its destination");
    }
}

/* --- one VMCB on two CPUs --- */

/* On this CPU or on the other; the exit code. */
static u64 run_on(bool other)
{
    if (!other)
        return svm_resume();
    job.registers = &l2;
    job.vmcb = &vmcb;
    job.flags = 0;
    job.result = NO_RESULT;
    return smp_call_one(0, run_job) && smp_returned(0) ? job.result : NO_RESULT;
}

/* A CPU that ran it before has to see what was changed since: L1 says so by its clean bits (15.15.2). */
static void check_moves(void)
{
    u64 total = 0, cr4 = read_cr4();

    svm_reset();
    beat = 0;
    l2.rdi = (u64)&beat;
    for (unsigned i = 0; i < TURNS; i++) {
        bool other = i % 3 != 0;
        for (unsigned again = 0; again < 2; again++) {
            if (again == 0) {
                vmcb.control.clean = 0;
                vmcb.control.tlb_control = TLB_CONTROL_FLUSH_ALL;
                vmcb.save.cr4 = (cr4 & ~(u64)CR4_PCE) | (i % 2 != 0 ? CR4_PCE : 0);
                vmcb.save.dr7 = 0x400 | (u64)(i % 4) << 4;
                vmcb.save.es.selector = i % 2 != 0 ? SEL_DATA : SEL_CODE64;
                vmcb.save.idtr.limit = L2_IDT_BYTES - 1 - i;
            } else if (vmcb.control.clean == 0) {
                vmcb.control.clean = ~0u; /* nothing of it, here */
            }
            vmcb.save.rip = (u64)code_count.start;
            vmcb.save.dr7 = 0x400 | (u64)(i % 4) << 4;
            if (again != 0)
                vmcb.control.clean &= ~(u32)CLEAN_DRX;
            expect("moved.exit", run_on(other), VMEXIT_VMMCALL);
            total++;
            expect("moved.memory", beat, total);
            expect("moved.registers", l2.rbx, total);
            expect("moved.cr4", l2.r8 & CR4_PCE, i % 2 != 0 ? CR4_PCE : 0);
            expect("moved.dr7", l2.r9 & 0xff, (u64)(i % 4) << 4);
            expect("moved.es", l2.r10, i % 2 != 0 ? SEL_DATA : SEL_CODE64);
            expect("moved.idt_limit", l2.r11 & 0xffff, L2_IDT_BYTES - 1 - i);
        }
        /* An intercept that comes and goes. */
        vmcb.control.clean = 0;
        if (i % 2 != 0)
            svm_intercept(VMEXIT_CPUID);
        else
            svm_allow(VMEXIT_CPUID);
        struct l2_registers kept = l2;
        vmcb.save.rip = (u64)code_cpuid.start;
        expect("moved.intercept", run_on(!other), i % 2 != 0 ? VMEXIT_CPUID : VMEXIT_VMMCALL);
        l2 = kept;
    }
}

enum flush { FLUSH_ALL, FLUSH_ASID, NEW_ASID, FLUSH_PAGE };

/* L1 on the boot CPU or on the other one changes where L2's page leads; each CPU then has to see it, after a
 * flush of its own or with an ASID that it has not used yet. */
static u64 read_on(bool other, enum flush flush, u64 address)
{
    static u32 fresh = 100;

    vmcb.control.clean = 0;
    vmcb.control.asid = flush == NEW_ASID ? fresh++ : 1;
    if (flush == FLUSH_ALL)
        vmcb.control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    else if (flush == FLUSH_ASID)
        vmcb.control.tlb_control = TLB_CONTROL_FLUSH_GUEST;
    vmcb.save.rip = (u64)code_read.start;
    l2.rdi = address;
    u64 exit = run_on(other);
    return exit == VMEXIT_VMMCALL ? l2.rax : exit;
}

static volatile u64 entry_to_write;
static volatile u64 *volatile entry_to_change;

static void write_entry(void)
{
    *entry_to_change = entry_to_write;
}

static void write_entry_on(bool other, u64 *entry, u64 value)
{
    entry_to_change = entry;
    entry_to_write = value;
    if (!other)
        write_entry();
    else
        expect("tables.changed_by_other", smp_call_one(0, write_entry) && smp_returned(0), true);
}

static void check_nested_tables(void)
{
    u64 address = (u64)l2_window(PAGE_SHARED, PTE_P | PTE_W | PTE_A | PTE_D);

    for (unsigned i = 0; i < 3 * TABLE_ROUNDS; i++) {
        unsigned which = i % 3;
        u64 want = which == 2 ? (u64)VMEXIT_NPF : shared_pages[which][0];
        write_entry_on(i / 4 % 2 != 0, &npt_window[PAGE_SHARED],
                       which == 2 ? 0 : (u64)shared_pages[which] | NPT_ALL);
        for (unsigned n = 0; n < 2; n++) {
            bool other = n == i % 2;
            expect(other ? "tables.other" : "tables.own",
                   read_on(other, (enum flush)(i / TABLE_ROUNDS), address), want);
        }
    }
}

/* INVLPGA is for the CPU that executes it: 15.16.2. */
static void check_own_tables(void)
{
    u64 address = 0;

    for (unsigned i = 0; i < 2; i++) {
        npt_window[PAGE_SHARED + i] = (u64)shared_pages[i] | NPT_ALL;
        address = (u64)l2_window(PAGE_SHARED + i, PTE_P | PTE_W | PTE_A | PTE_D);
    }
    page_to_invalidate = address;
    (void)read_on(false, FLUSH_ALL, address);
    (void)read_on(true, FLUSH_ALL, address);
    for (unsigned i = 0; i < TABLE_ROUNDS; i++) {
        u64 target = L2_WINDOW + (PAGE_SHARED + i % 2) * PAGE_SIZE;
        write_entry_on(i / 2 % 2 != 0, &window_table()[PAGE_SHARED + 1],
                       target | PTE_P | PTE_W | PTE_A | PTE_D);
        invalidate_page();
        expect("tables.page", read_on(false, FLUSH_PAGE, address), shared_pages[i % 2][0]);
        expect("tables.other_page", read_on(true, FLUSH_PAGE, address), shared_pages[i % 2][0]);
    }
}

static void check_tables(void)
{
    svm_reset();
    shared_pages[0][0] = 0x111;
    shared_pages[1][0] = 0x222;
    check_nested_tables();
    check_own_tables();
    page_to_invalidate = 0;
}

/* --- interrupts from L2 to L2 --- */

static bool run_until_interrupt(bool other, bool first)
{
    struct vmcb *of = other ? &other_vmcb : &vmcb;

    (void)first;
    of->save.rip = (u64)code_spin.start;
    svm_enter(other ? job.registers : &l2, (u64)of, ENTER_INTERRUPTS);
    return of->control.exit_code == VMEXIT_INTR;
}

/* The VMCBs of both are made before. */
static void prepare_for_pings(bool other)
{
    if (other)
        switch_svm_on();
}

static void check_interrupts(void)
{
    static const struct l2_pings pings = {"svm-smp", prepare_for_pings, run_until_interrupt};
    static struct l2_registers registers;

    svm_reset();
    svm_intercept(VMEXIT_INTR);
    vmcb.control.v_intr = V_INTR_MASKING;
    other_vmcb = vmcb;
    other_vmcb.save.rsp = (u64)other_stack + PAGE_SIZE - 64;
    job.registers = &registers;
    l2_check_pings(&pings);
    /* L2's own. */
    for (unsigned i = 0; i < REPEATS; i++) {
        svm_reset();
        vmcb.save.rflags |= RFLAGS_IF;
        smp_send_once(apic_id(), ICR_FIXED | VECTOR_PING);
        expect("interrupts.own", svm_run_vector(&code_spin), L2_VECTOR + VECTOR_PING);
        apic_write(APIC_EOI, 0);
        smp_rest();
    }
}

void group_svm_smp(void)
{
    if (smp_start() == 0) {
        note_skipped("svm-smp", "one CPU");
        return;
    }
    if (!svm_start("svm-smp"))
        return;
    trap_set_hook(VECTOR_PING, l2_take_ping);
    check_nmi(&code_spin, "svm-smp.nmi");
    check_nmi(&code_hlt, "svm-smp.nmi_in_hlt");
    check_init();
    check_nmi_of_other();
    check_init_of_other("svm-smp.other_init", false);
    check_init_of_other("svm-smp.other_init_exit", true);
    check_held_init_of_other();
    check_moves();
    check_tables();
    check_interrupts();
    check_starts_by_page();
    if ((cpuid(1, 0).ecx & BIT(21)) != 0) {
        expect("x2apic", smp_x2apic(), true);
        check_starts_by_msr();
    }
    svm_stop();
}
