/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-smp: another CPU sends INITs, SIPIs and NMIs to one whose L2 runs, or waits for a SIPI; a VMCS
 * and EPT tables that CPUs use in turns; L2s that interrupt each other. cpus=N as for group smp. Source: SDM
 * vol. 3C 25.1, 25.11.1, 26.2, 28.2.1, 29.4.3.
 */
#include "tests/guest/vmx.h"

L2_CODE(code_spin, "", "1: pause\njmp 1b");
L2_CODE(code_nops, "nop", "nop\nnop");

L2_CODE(code_count,
        "incq (%rdi)\nincq %rbx\nmov %cr4, %r8\nmov %dr7, %r9\nmov %es, %r10d\nsidt -16(%rsp)\n"
        "mov -16(%rsp), %r11",
        "nop");
L2_CODE(code_rdtsc, "", "rdtsc");
L2_CODE(code_read, "", "mov (%rdi), %rax");

enum {
    VECTOR = 0x9a,
    TURNS = 12,
    TABLE_ROUNDS = 12,
    PAGE_SHARED = 20, /* of L2's window */
    NO_REASON = 0xdead,
    INVEPT_CONTEXT = 1,
    INVEPT_GLOBAL = 2
};

static u8 other_vmxon[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 other_vmcs[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 shared_pages[2][512] __attribute__((aligned(4096)));

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

static volatile unsigned nmis;

static bool on_nmi(struct frame *frame)
{
    (void)frame;
    nmis++;
    return true;
}

/* The NMI exit blocks NMIs for L1; the next one waits for L2, and finds it waiting for its start. */
static void check_nmi_before_sipi(void)
{
    if (!(rdmsr(MSR_IA32_VMX_MISC) & BIT(8)))
        return;
    trap_set_hook(EXC_NMI, on_nmi);
    vmx_reset();
    vmx_set(WORD_PIN, PIN_NMI_EXITING);
    smp_send_once(apic_id(), ICR_NMI);
    expect("nmi_before_sipi.first", vmx_run(&code_spin), REASON_EXCEPTION_OR_NMI);
    smp_rest();
    apic_send_self(EXC_NMI);
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
    smp_send(apic_id(), ICR_STARTUP | VECTOR);
    expect("nmi_before_sipi.exit", vmx_run(&code_spin), REASON_SIPI);
    smp_rest();
    vmx_unblock_nmis();
    expect("nmi_before_sipi.arrives_in_l1", nmis, 1);
    trap_set_hook(EXC_NMI, NULL);
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
    /* An event that L1 injects is delivered before. */
    vmx_reset();
    apic_send_init();
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
    expect("init_in_root.after_injection", vmx_run(&code_nops), REASON_INIT);
    expect("init_in_root.after_injection_rip", vmread(VMCS_GUEST_RIP), (u64)l2_vectors + 16 * EXC_UD);
    vmx_reset();
    expect("init_in_root.once_again", vmx_run(&code_nops), REASON_VMCALL);
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

/* --- one VMCS on two CPUs --- */

static void begin_on_other(void)
{
    vmx_begin(other_vmxon, other_vmcs);
}

static void end_on_other(void)
{
    (void)try_vmclear((u64)other_vmcs);
    (void)try_vmxoff();
}

/* What is to be done where the VMCS is now. */
static struct {
    const struct l2_code *code;
    void (*before)(void);
    u64 invept; /* 0: none */
    u64 reason;
} job;

/* VMPTRLD, the first entry by VMLAUNCH, VMCLEAR. */
static void run_job(void)
{
    if (try_vmptrld((u64)vmcs_region) != END_SUCCEED)
        return;
    if (job.before != NULL)
        job.before();
    if (job.invept != 0)
        (void)try_invept(job.invept, ept_pointer(), 0);
    job.reason = vmx_run(job.code);
    if (job.code == &code_count && job.reason == REASON_VMCALL)
        job.reason = vmx_run(job.code);
    if (try_vmclear((u64)vmcs_region) != END_SUCCEED)
        job.reason = NO_REASON;
}

static u64 run_on(bool other, const struct l2_code *code, void (*before)(void), u64 invept)
{
    job.code = code;
    job.before = before;
    job.invept = invept;
    job.reason = NO_REASON;
    if (!other)
        run_job();
    else if (!smp_call_one(0, run_job) || !smp_returned(0))
        return NO_REASON;
    return job.reason;
}

static unsigned turn;

static void change_fields(void)
{
    bool odd = turn % 2 != 0;

    vmwrite(VMCS_GUEST_CR4, (read_cr4() & ~(u64)CR4_PCE) | (odd ? CR4_PCE : 0));
    vmwrite(VMCS_GUEST_DR7, 0x400 | (u64)(turn % 4) << 4);
    vmwrite(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, VMCS_ES), odd ? SEL_DATA : SEL_CODE64);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, L2_IDT_BYTES - 1 - turn);
    if (odd)
        vmx_set(WORD_PRIMARY, PRIMARY_RDTSC_EXITING);
    else
        vmx_clear(WORD_PRIMARY, PRIMARY_RDTSC_EXITING);
}

static void check_moves(void)
{
    static volatile u64 memory;

    vmx_reset();
    (void)try_vmclear((u64)vmcs_region);
    memset(&l2, 0, sizeof(l2));
    l2.rdi = (u64)&memory;
    for (turn = 0; turn < TURNS; turn++) {
        bool other = turn % 3 != 0, odd = turn % 2 != 0;
        expect("moved.exit", run_on(other, &code_count, change_fields, 0), REASON_VMCALL);
        expect("moved.memory", memory, 2 * (turn + 1));
        expect("moved.registers", l2.rbx, 2 * (turn + 1));
        expect("moved.cr4", l2.r8 & CR4_PCE, odd ? CR4_PCE : 0);
        expect("moved.dr7", l2.r9 & 0xff, (u64)(turn % 4) << 4);
        expect("moved.es", l2.r10, odd ? SEL_DATA : SEL_CODE64);
        expect("moved.idt_limit", l2.r11 & 0xffff, L2_IDT_BYTES - 1 - turn);
        /* What was written there counts here. */
        struct l2_registers kept = l2;
        expect("moved.control", run_on(!other, &code_rdtsc, NULL, 0), odd ? REASON_RDTSC : REASON_VMCALL);
        l2 = kept;
    }
}

/* --- EPT tables --- */

static volatile u64 entry_to_write;

static void write_entry(void)
{
    *(volatile u64 *)&ept_window[PAGE_SHARED] = entry_to_write;
}

/* Each CPU sees a change, whoever made it, after an INVEPT of its own. */
static void check_tables(void)
{
    shared_pages[0][0] = 0x111;
    shared_pages[1][0] = 0x222;
    u64 address = (u64)l2_window(PAGE_SHARED, PTE_P | PTE_W | PTE_A | PTE_D);
    for (unsigned i = 0; i < 2 * TABLE_ROUNDS; i++) {
        unsigned which = i % 3;
        entry_to_write = which == 2 ? 0 : (u64)shared_pages[which] | EPT_RWX | EPT_WB;
        if (i / 4 % 2 == 0)
            write_entry();
        else
            expect("tables.changed_by_other", smp_call_one(0, write_entry) && smp_returned(0), true);
        for (unsigned n = 0; n < 2; n++) {
            bool other = n == i % 2;
            const char *what = other ? "tables.other" : "tables.own";
            l2.rdi = address;
            u64 reason = run_on(other, &code_read, NULL, i < TABLE_ROUNDS ? INVEPT_CONTEXT : INVEPT_GLOBAL);
            expect(what, reason, which == 2 ? REASON_EPT_VIOLATION : REASON_VMCALL);
            if (which != 2)
                expect(what, l2.rax, shared_pages[which][0]);
        }
    }
}

/* --- interrupts from L2 to L2 --- */

static bool run_until_interrupt(bool other, bool first)
{
    static struct l2_registers other_registers;

    vmwrite(VMCS_GUEST_RIP, (u64)code_spin.start);
    /* On Bochs no interrupt ends a guest whose own are off. */
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    return vmx_enter(other ? &other_registers : &l2, first) == 0 &&
           vmread(VMCS_EXIT_REASON) == REASON_EXTERNAL_INTERRUPT;
}

static void prepare_for_pings(bool other)
{
    (void)try_vmptrld(other ? (u64)other_vmcs : (u64)vmcs_region);
    if (other)
        vmx_reset_vmcs();
    else
        vmx_reset();
    vmx_set(WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING);
}

static void check_interrupts(void)
{
    static const struct l2_pings pings = {"vmx-smp", prepare_for_pings, run_until_interrupt};

    l2_check_pings(&pings);
    (void)try_vmclear((u64)vmcs_region);
}

static void check_turns(void)
{
    if (!smp_call_one(0, begin_on_other) || !smp_returned(0)) {
        expect("turns.begin", false, true);
        return;
    }
    check_moves();
    check_tables();
    check_interrupts();
    expect("turns.end", smp_call_one(0, end_on_other) && smp_returned(0), true);
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
    check_nmi_before_sipi();
    check_turns();
    (void)try_vmptrld((u64)vmcs_region);
    check_init();
    check_init_in_root();
    vmx_stop();
}
