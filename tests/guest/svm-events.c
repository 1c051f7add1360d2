/* SPDX-License-Identifier: MIT */
/*
 * Group svm-events: events that L1 injects, exits on their way to a handler, virtual interrupts, the
 * interrupt shadow, and real interrupts and NMIs under V_INTR_MASKING, GIF and virtual GIF. Source: APM vol.
 * 2 15.13, 15.17, 15.20, 15.21, 15.33.
 */
#include "arch/msr.h"
#include "tests/guest/svm.h"

L2_CODE(code_nops, "nop\nnop\nnop", "nop");
L2_CODE(code_read, "", "mov (%rbx), %rax");
L2_CODE(code_sti, "", "sti\nnop\nnop");
L2_CODE(code_sti_cpuid, "sti", "cpuid");
L2_CODE(code_mov_ss_cpuid, "mov %ss, %eax\nmov %eax, %ss", "cpuid");
L2_CODE(code_cpuid, "", "cpuid");
L2_CODE(code_read_cr8, "", "mov %cr8, %rsi");
L2_CODE(code_write_cr8, "", "mov %rsi, %cr8");
L2_CODE(code_hlt, "sti", "hlt");
L2_CODE(code_clgi, "", "clgi");
L2_CODE(code_stgi, "", "stgi\nnop");
L2_CODE(code_clgi_sti, "clgi\nsti\nnop\nnop\nnop", "nop");
L2_CODE(code_clgi_stgi, "clgi\nsti\nnop\nnop", "stgi\nnop\nnop");
/* An SMI to itself by the ICR of xAPIC mode. */
L2_CODE(code_clgi_smi, "clgi\nmov $0xfee00300, %edi\nmovl $0x4200, (%rdi)\nsti\nnop\nnop", "stgi\nnop\nnop");
L2_CODE(code_spin, "", "1: pause\njmp 1b");

enum { PAGE_HOLE = 12, PAGE_STACK = 13, VIRTUAL_VECTOR = 0x51 };

static const u64 *frame(void)
{
    return (const u64 *)vmcb.save.rsp;
}

/* --- injection --- */

static const struct injection {
    const char *name;
    u64 event;
    u64 error; /* 0: none is pushed */
} injections[] = {
    {"de", EVENT_TYPE_EXCEPTION | EXC_DE, 0},
    {"db", EVENT_TYPE_EXCEPTION | EXC_DB, 0},
    {"bp", EVENT_TYPE_EXCEPTION | EXC_BP, 0},
    {"of", EVENT_TYPE_EXCEPTION | EXC_OF, 0},
    {"br", EVENT_TYPE_EXCEPTION | EXC_BR, 0},
    {"ud", EVENT_TYPE_EXCEPTION | EXC_UD, 0},
    {"nm", EVENT_TYPE_EXCEPTION | EXC_NM, 0},
    {"df", EVENT_TYPE_EXCEPTION | EXC_DF | EVENT_ERROR_VALID, 0x20},
    {"ts", EVENT_TYPE_EXCEPTION | EXC_TS | EVENT_ERROR_VALID, 0x1234},
    {"np", EVENT_TYPE_EXCEPTION | EXC_NP | EVENT_ERROR_VALID, 0x1234},
    {"ss", EVENT_TYPE_EXCEPTION | EXC_SS | EVENT_ERROR_VALID, 0xfff8},
    {"gp", EVENT_TYPE_EXCEPTION | EXC_GP | EVENT_ERROR_VALID, 0x1234},
    {"pf", EVENT_TYPE_EXCEPTION | EXC_PF | EVENT_ERROR_VALID, 0x1f},
    {"mf", EVENT_TYPE_EXCEPTION | EXC_MF, 0},
    {"ac", EVENT_TYPE_EXCEPTION | EXC_AC | EVENT_ERROR_VALID, 0x10},
    {"mc", EVENT_TYPE_EXCEPTION | EXC_MC, 0},
    {"xm", EVENT_TYPE_EXCEPTION | EXC_XM, 0},
    {"intr_32", EVENT_TYPE_INTR | 0x20, 0},
    {"intr_255", EVENT_TYPE_INTR | 0xff, 0},
    {"intr_3", EVENT_TYPE_INTR | 3, 0},
    {"nmi", EVENT_TYPE_NMI | 2, 0},
    {"software_0x80", EVENT_TYPE_SOFTWARE | 0x80, 0},
    {"software_3", EVENT_TYPE_SOFTWARE | 3, 0},
    {"software_14", EVENT_TYPE_SOFTWARE | 14, 0},
};

static void prepare_injection(const struct injection *test)
{
    svm_reset();
    vmcb.control.event_inj = EVENT_VALID | test->event | test->error << EVENT_ERROR_SHIFT;
    vmcb.control.n_rip = (u64)code_nops.start;
    vmcb.save.cr2 = 0x2468;
    vmcb.save.dr6 = 0xffff0ff0;
}

/* Into ring 3: the TSS has the way to ring 0. */
static void check_injection_into_user(const struct injection *test)
{
    char prefix[64];
    bool error = (test->event & EVENT_ERROR_VALID) != 0;

    print_to(prefix, sizeof(prefix), "svm-events.inject_ring3.%s", test->name);
    prepare_injection(test);
    vmcb.save.rflags |= RFLAGS_IF;
    check_part(prefix, "exit", svm_run_user(&code_nops), VMEXIT_VMMCALL);
    check_part(prefix, "vector", vmcb.save.rax, L2_VECTOR + (test->event & EVENT_VECTOR_MASK));
    check_part(prefix, "cpl", vmcb.save.cpl, 0);
    check_part(prefix, "rip", frame()[error], svm_at_user(&code_nops, code_nops.start));
    check_part(prefix, "selector", frame()[error + 1], SEL_USER_CODE64);
    check_part(prefix, "flags_of_l2", frame()[error + 2] & RFLAGS_IF, RFLAGS_IF);
    check_part(prefix, "flags_of_handler", vmcb.save.rflags & RFLAGS_IF, 0);
}

/* INT n goes by the gate's DPL, which is 0. */
static void check_software_from_user(const struct injection *test)
{
    char prefix[64];
    u64 vector = test->event & EVENT_VECTOR_MASK;

    print_to(prefix, sizeof(prefix), "svm-events.inject_ring3.%s", test->name);
    prepare_injection(test);
    check_part(prefix, "exit", svm_run_user(&code_nops), VMEXIT_EXCP0 + EXC_GP);
    check_part(prefix, "error_code", vmcb.control.exit_info_1, vector * 8 + 2);
    check_part(prefix, "event", vmcb.control.exit_int_info & BITS(31, 0), EVENT_VALID | test->event);
    check_part(prefix, "cpl", vmcb.save.cpl, 3);
}

static void check_injection(const struct injection *test)
{
    char prefix[64];
    bool error = (test->event & EVENT_ERROR_VALID) != 0;

    /* Neither an intercept of that exception nor RFLAGS.IF stops it. */
    print_to(prefix, sizeof(prefix), "svm-events.inject.%s", test->name);
    prepare_injection(test);
    svm_intercept(EXIT_SWINT);
    check_part(prefix, "vector", svm_run_vector(&code_nops), L2_VECTOR + (test->event & EVENT_VECTOR_MASK));
    check_part(prefix, "rip", frame()[error], (u64)code_nops.start);
    check_part(prefix, "frame", vmcb.save.rsp, (u64)l2_stack + PAGE_SIZE - 64 - 40 - (error ? 8 : 0));
    if (error)
        check_part(prefix, "error_code", frame()[0], test->error);
    check_part(prefix, "taken", vmcb.control.event_inj & EVENT_VALID, 0);
    check_part(prefix, "delivered", vmcb.control.exit_int_info & EVENT_VALID, 0);
    check_part(prefix, "cr2", vmcb.save.cr2, 0x2468);
    check_part(prefix, "dr6", vmcb.save.dr6, 0xffff0ff0);
    if ((test->event & EVENT_TYPE_MASK) == EVENT_TYPE_SOFTWARE)
        check_software_from_user(test);
    else if ((test->event & EVENT_VECTOR_MASK) != EXC_BP && (test->event & EVENT_VECTOR_MASK) != EXC_OF)
        check_injection_into_user(test); /* whether those two go by the gate's DPL no manual says */
}

/* With NRIP save it is nRIP that an injected INT n pushes, and RIP for what is none. */
static void check_next_rip(const struct injection *test)
{
    char prefix[64];
    bool error = (test->event & EVENT_ERROR_VALID) != 0;
    bool software = (test->event & EVENT_TYPE_MASK) == EVENT_TYPE_SOFTWARE;

    print_to(prefix, sizeof(prefix), "svm-events.next_rip.%s", test->name);
    prepare_injection(test);
    vmcb.control.n_rip = (u64)code_nops.start + 2;
    check_part(prefix, "vector", svm_run_vector(&code_nops), L2_VECTOR + (test->event & EVENT_VECTOR_MASK));
    check_part(prefix, "rip", frame()[error], (u64)code_nops.start + (software ? 2 : 0));
}

/* The table of handlers lies where nested paging maps nothing: EXITINTINFO is what was injected. */
static void check_vectoring(const struct injection *test)
{
    char prefix[64];
    u64 vector = test->event & EVENT_VECTOR_MASK;
    bool error = (test->event & EVENT_ERROR_VALID) != 0;

    print_to(prefix, sizeof(prefix), "svm-events.vectoring.%s", test->name);
    prepare_injection(test);
    u64 injected = vmcb.control.event_inj;
    vmcb.save.idtr.base = (u64)l2_window(PAGE_HOLE, PTE_P | PTE_W | PTE_A | PTE_D);
    check_part(prefix, "exit", svm_run(&code_nops), VMEXIT_NPF);
    check_part(prefix, "info_1", vmcb.control.exit_info_1, NPF_FINAL | NPF_USER);
    check_part(prefix, "info_2", vmcb.control.exit_info_2, NPT_WINDOW + PAGE_HOLE * PAGE_SIZE + 16 * vector);
    check_part(prefix, "event", vmcb.control.exit_int_info & (error ? ~0ull : BITS(31, 0)),
               injected & (error ? ~0ull : BITS(31, 0)));
    check_part(prefix, "rip", vmcb.save.rip, (u64)code_nops.start);
    npt_window[PAGE_HOLE] = (u64)l2_idt | NPT_ALL;
    vmcb.control.event_inj = vmcb.control.exit_int_info;
    vmcb.control.n_rip = (u64)code_nops.start;
    check_part(prefix, "again", svm_resume() == VMEXIT_VMMCALL ? l2.rax : 0, L2_VECTOR + vector);
    check_part(prefix, "again_rip", frame()[error], (u64)code_nops.start);
    if (error)
        check_part(prefix, "again_error_code", frame()[0], test->error);
}

/* Of the vector of one that was injected, and is over; on a stack that the shadow has not seen yet. */
L2_CODE(code_own_int, "inc %rsi\nmov %rbx, %rsp", "int $0x80");
L2_CODE(code_return, "inc %rdi", "iretq");

static void check_own_after_injected(void)
{
    static u8 stack[PAGE_SIZE] __attribute__((aligned(4096)));

    svm_reset();
    l2_set_vector(0x80, (u64)code_return.start);
    npt_window[PAGE_STACK] = npt_window[PAGE_STACK + 1] = (u64)stack | NPT_ALL;
    /* The second time nothing but that page is new. */
    for (unsigned i = 0; i < 2; i++) {
        l2.rdi = l2.rsi = 0;
        l2.rbx = (u64)l2_window(PAGE_STACK + i, PTE_P | PTE_W | PTE_A | PTE_D) + PAGE_SIZE;
        vmcb.save.rsp = (u64)l2_stack + PAGE_SIZE - 64;
        vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_SOFTWARE | 0x80;
        vmcb.control.n_rip = (u64)code_own_int.start;
        check_eq("svm-events.own_after_injected.exit", svm_run(&code_own_int), VMEXIT_VMMCALL);
        check_eq("svm-events.own_after_injected.handled", l2.rdi, 2);
        check_eq("svm-events.own_after_injected.executed", l2.rsi, 1);
    }
}

/* --- virtual interrupts --- */

static void prepare_virtual(u64 v_intr, u64 rflags)
{
    svm_reset();
    vmcb.control.v_intr = V_IRQ | (u64)VIRTUAL_VECTOR << 32 | v_intr;
    vmcb.save.rflags |= rflags;
}

#define PRIORITY(n) ((u64)(n) << 16)

static void check_virtual_interrupts(void)
{
    prepare_virtual(PRIORITY(5), RFLAGS_IF);
    check_eq("svm-events.virtual.vector", svm_run_vector(&code_nops), L2_VECTOR + VIRTUAL_VECTOR);
    check_eq("svm-events.virtual.rip", frame()[0], (u64)code_nops.start);
    check_eq("svm-events.virtual.taken", vmcb.control.v_intr & V_IRQ, 0);
    prepare_virtual(PRIORITY(5), 0);
    check_eq("svm-events.virtual.without_if", svm_run(&code_nops), VMEXIT_VMMCALL);
    check_eq("svm-events.virtual.without_if_rip", vmcb.save.rip, (u64)code_nops.next);
    check_eq("svm-events.virtual.still_pending", vmcb.control.v_intr & V_IRQ, V_IRQ);
    vmcb.save.rsp = (u64)l2_stack + PAGE_SIZE - 64;
    check_eq("svm-events.virtual.sti", svm_run_vector(&code_sti), L2_VECTOR + VIRTUAL_VECTOR);
    check_eq("svm-events.virtual.sti_rip", frame()[0], (u64)code_sti.at + 2);
    /* V_INTR_PRIO against V_TPR. */
    prepare_virtual(PRIORITY(5) | 6, RFLAGS_IF);
    check_eq("svm-events.virtual.lower_priority", svm_run(&code_nops), VMEXIT_VMMCALL);
    check_eq("svm-events.virtual.lower_priority_rip", vmcb.save.rip, (u64)code_nops.next);
    prepare_virtual(PRIORITY(5) | 5, RFLAGS_IF);
    (void)svm_run(&code_nops);
    check_eq("svm-events.virtual.same_priority", vmcb.save.rip, (u64)code_nops.next);
    prepare_virtual(PRIORITY(5) | 4, RFLAGS_IF);
    check_eq("svm-events.virtual.higher_priority", svm_run_vector(&code_nops), L2_VECTOR + VIRTUAL_VECTOR);
    prepare_virtual(PRIORITY(1) | V_IGN_TPR | 15, RFLAGS_IF);
    check_eq("svm-events.virtual.ignoring_tpr", svm_run_vector(&code_nops), L2_VECTOR + VIRTUAL_VECTOR);
    /* The intercept: before the interrupt is taken. */
    prepare_virtual(PRIORITY(5), RFLAGS_IF);
    svm_intercept(VMEXIT_VINTR);
    check_eq("svm-events.vintr.exit", svm_run(&code_nops), VMEXIT_VINTR);
    check_eq("svm-events.vintr.rip", vmcb.save.rip, (u64)code_nops.start);
    check_eq("svm-events.vintr.pending", vmcb.control.v_intr & V_IRQ, V_IRQ);
    check_eq("svm-events.vintr.no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    vmcb.save.rflags &= ~RFLAGS_IF;
    check_eq("svm-events.vintr.sti", svm_run(&code_sti), VMEXIT_VINTR);
    check_eq("svm-events.vintr.sti_rip", vmcb.save.rip, (u64)code_sti.at + 2);
    /* The shadow covers one instruction. */
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    check_eq("svm-events.vintr.shadow", svm_run(&code_nops), VMEXIT_VINTR);
    check_eq("svm-events.vintr.shadow_rip", vmcb.save.rip, (u64)code_nops.start + 1);
    check_eq("svm-events.vintr.shadow_over", vmcb.control.interrupt_state & INTERRUPT_SHADOW, 0);
    /* What is injected comes first. */
    prepare_virtual(PRIORITY(5), RFLAGS_IF);
    svm_intercept(VMEXIT_VINTR);
    vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_INTR | 0x31;
    check_eq("svm-events.vintr.after_injection", svm_run_vector(&code_nops), L2_VECTOR + 0x31);
    check_eq("svm-events.vintr.after_injection_pending", vmcb.control.v_intr & V_IRQ, V_IRQ);
    /* A pending one ends HLT. */
    prepare_virtual(PRIORITY(5), 0);
    check_eq("svm-events.virtual.hlt", svm_run_vector(&code_hlt), L2_VECTOR + VIRTUAL_VECTOR);
}

/* Not with a virtual interrupt that waits for the write of CR8: QEMU dies of an assertion then. */
static void check_virtual_tpr(void)
{
    u64 own;

    __asm__ volatile("mov %0, %%cr8" ::"r"(3ull));
    svm_reset();
    vmcb.control.v_intr = V_INTR_MASKING | 9;
    check_eq("svm-events.tpr.read_exit", svm_run(&code_read_cr8), VMEXIT_VMMCALL);
    check_eq("svm-events.tpr.read", l2.rsi, 9);
    l2.rsi = 7;
    check_eq("svm-events.tpr.write_exit", svm_run(&code_write_cr8), VMEXIT_VMMCALL);
    check_eq("svm-events.tpr.written", vmcb.control.v_intr & V_TPR, 7);
    __asm__ volatile("mov %%cr8, %0" : "=r"(own));
    check_eq("svm-events.tpr.of_l1", own, 3);
    /* Without masking L2 has the real one. */
    svm_reset();
    check_eq("svm-events.tpr.real_read_exit", svm_run(&code_read_cr8), VMEXIT_VMMCALL);
    check_eq("svm-events.tpr.real_read", l2.rsi, 3);
    l2.rsi = 0;
    check_eq("svm-events.tpr.real_write_exit", svm_run(&code_write_cr8), VMEXIT_VMMCALL);
    __asm__ volatile("mov %%cr8, %0" : "=r"(own));
    check_eq("svm-events.tpr.real_written", own, 0);
    __asm__ volatile("mov %0, %%cr8" ::"r"(0ull));
}

static void check_shadow(void)
{
    svm_reset();
    svm_intercept(VMEXIT_CPUID);
    check_eq("svm-events.shadow.sti", svm_run(&code_sti_cpuid), VMEXIT_CPUID);
    check_eq("svm-events.shadow.sti_saved", vmcb.control.interrupt_state & INTERRUPT_SHADOW,
             INTERRUPT_SHADOW);
    svm_reset();
    svm_intercept(VMEXIT_CPUID);
    check_eq("svm-events.shadow.mov_ss", svm_run(&code_mov_ss_cpuid), VMEXIT_CPUID);
    check_eq("svm-events.shadow.mov_ss_saved", vmcb.control.interrupt_state & INTERRUPT_SHADOW,
             INTERRUPT_SHADOW);
    svm_reset();
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    svm_intercept(VMEXIT_CPUID);
    check_eq("svm-events.shadow.loaded", svm_run(&code_cpuid), VMEXIT_CPUID);
    check_eq("svm-events.shadow.loaded_saved", vmcb.control.interrupt_state & INTERRUPT_SHADOW,
             INTERRUPT_SHADOW);
    vmcb.control.interrupt_state = INTERRUPT_SHADOW;
    check_eq("svm-events.shadow.passes", svm_run(&code_nops), VMEXIT_VMMCALL);
    check_eq("svm-events.shadow.over", vmcb.control.interrupt_state & INTERRUPT_SHADOW, 0);
}

/* --- real interrupts and NMIs --- */

static volatile unsigned nmis, interrupts;

static bool take_nmi(struct frame *at)
{
    (void)at;
    nmis++;
    return true;
}

static bool take_interrupt(struct frame *at)
{
    (void)at;
    interrupts++;
    apic_write(APIC_EOI, 0);
    return true;
}

static void let_interrupts_in(void)
{
    __asm__ volatile("sti\nnop\nnop\ncli");
}

static unsigned taken_interrupts(void)
{
    interrupts = 0;
    let_interrupts_in();
    return interrupts;
}

static void check_gif(void)
{
    nmis = 0;
    interrupts = 0;
    (void)try_clgi();
    apic_send_self(VECTOR_SELF);
    apic_send_self(EXC_NMI);
    let_interrupts_in();
    check_eq("svm-events.gif.interrupt_held", interrupts, 0);
    check_eq("svm-events.gif.nmi_held", nmis, 0);
    (void)try_stgi();
    check_eq("svm-events.gif.nmi_comes", nmis, 1);
    let_interrupts_in();
    check_eq("svm-events.gif.interrupt_comes", interrupts, 1);
    /* An exit clears it. */
    svm_reset();
    svm_enter_flags = ENTER_KEEP_GIF;
    check_eq("svm-events.gif.exit", svm_run(&code_nops), VMEXIT_VMMCALL);
    apic_send_self(VECTOR_SELF);
    apic_send_self(EXC_NMI);
    check_eq("svm-events.gif.interrupt_held_after_exit", taken_interrupts(), 0);
    check_eq("svm-events.gif.nmi_held_after_exit", nmis, 1);
    (void)try_stgi();
    check_eq("svm-events.gif.nmi_comes_after_exit", nmis, 2);
    check_eq("svm-events.gif.interrupt_comes_after_exit", taken_interrupts(), 1);
    /* Also if VMRUN found it set. */
    svm_enter_flags = ENTER_WITH_GIF | ENTER_KEEP_GIF;
    check_eq("svm-events.gif.exit_of_vmrun_with_gif", svm_run(&code_nops), VMEXIT_VMMCALL);
    apic_send_self(VECTOR_SELF);
    apic_send_self(EXC_NMI);
    check_eq("svm-events.gif.interrupt_held_without_clgi", taken_interrupts(), 0);
    check_eq("svm-events.gif.nmi_held_without_clgi", nmis, 2);
    (void)try_stgi();
    check_eq("svm-events.gif.nmi_comes_without_clgi", nmis, 3);
    check_eq("svm-events.gif.interrupt_comes_without_clgi", taken_interrupts(), 1);
    /* So does one of a VMCB that is refused. */
    svm_reset();
    svm_enter_flags = ENTER_KEEP_GIF;
    vmcb.control.asid = 0;
    check_eq("svm-events.gif.refused", svm_run(&code_nops), VMEXIT_INVALID);
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.gif.held_after_refusal", taken_interrupts(), 0);
    (void)try_stgi();
    check_eq("svm-events.gif.comes_after_refusal", taken_interrupts(), 1);
}

/* A pending interrupt at VMRUN: V_INTR_MASKING, RFLAGS.IF of L1 and of L2, and the intercept. */
static void check_interrupt(const char *name, u64 masking, unsigned flags, u64 rflags, bool exits)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-events.interrupt.%s", name);
    svm_reset();
    svm_intercept(VMEXIT_INTR);
    svm_enter_flags = flags;
    vmcb.control.v_intr = masking;
    vmcb.save.rflags |= rflags;
    apic_send_self(VECTOR_SELF);
    check_part(prefix, "exit", svm_run(&code_nops), exits ? VMEXIT_INTR : VMEXIT_VMMCALL);
    check_part(prefix, "rip", vmcb.save.rip, exits ? (u64)code_nops.start : (u64)code_nops.next);
    check_part(prefix, "no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    check_part(prefix, "left_to_l1", taken_interrupts(), 1);
}

static void check_real_interrupts(void)
{
    check_interrupt("plain", 0, 0, RFLAGS_IF, true);
    check_interrupt("plain_without_if", 0, 0, 0, false);
    check_interrupt("plain_host_if_is_no_matter", 0, ENTER_INTERRUPTS, 0, false);
    check_interrupt("masking_host_if", V_INTR_MASKING, ENTER_INTERRUPTS, 0, true);
    check_interrupt("masking_both_if", V_INTR_MASKING, ENTER_INTERRUPTS, RFLAGS_IF, true);
    check_interrupt("masking_without_host_if", V_INTR_MASKING, 0, RFLAGS_IF, false);
    check_interrupt("masking_none", V_INTR_MASKING, 0, 0, false);
    /* Not intercepted, it is L2's. */
    svm_reset();
    vmcb.save.rflags |= RFLAGS_IF;
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.interrupt.own", svm_run_vector(&code_nops), L2_VECTOR + VECTOR_SELF);
    apic_write(APIC_EOI, 0);
    check_eq("svm-events.interrupt.own_is_gone", taken_interrupts(), 0);
    /* It ends HLT, which is then over. */
    svm_reset();
    svm_intercept(VMEXIT_INTR);
    apic_write(APIC_DIVIDE, 3);
    apic_write(APIC_LVT_TIMER, VECTOR_SELF);
    apic_write(APIC_INITIAL, 100000);
    check_eq("svm-events.interrupt.hlt", svm_run(&code_hlt), VMEXIT_INTR);
    check_eq("svm-events.interrupt.hlt_rip", vmcb.save.rip, (u64)code_hlt.next);
    check_eq("svm-events.interrupt.hlt_left_to_l1", taken_interrupts(), 1);
    /* L2's loop ends, too. */
    svm_reset();
    svm_intercept(VMEXIT_INTR);
    vmcb.control.v_intr = V_INTR_MASKING;
    svm_enter_flags = ENTER_INTERRUPTS;
    apic_write(APIC_INITIAL, 100000);
    check_eq("svm-events.interrupt.loop", svm_run(&code_spin), VMEXIT_INTR);
    check_eq("svm-events.interrupt.loop_left_to_l1", taken_interrupts(), 1);
    apic_write(APIC_LVT_TIMER, BIT(16));
}

static void check_real_nmis(void)
{
    svm_reset();
    svm_intercept(VMEXIT_NMI);
    nmis = 0;
    (void)try_clgi();
    apic_send_self(EXC_NMI);
    svm_enter_flags = ENTER_KEEP_GIF;
    check_eq("svm-events.nmi.exit", svm_run(&code_nops), VMEXIT_NMI);
    check_eq("svm-events.nmi.rip", vmcb.save.rip, (u64)code_nops.start);
    check_eq("svm-events.nmi.no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    check_eq("svm-events.nmi.not_yet", nmis, 0);
    (void)try_stgi();
    check_eq("svm-events.nmi.left_to_l1", nmis, 1);
    /* Not intercepted, it is L2's. */
    svm_reset();
    (void)try_clgi();
    apic_send_self(EXC_NMI);
    check_eq("svm-events.nmi.own", svm_run_vector(&code_nops), L2_VECTOR + EXC_NMI);
    check_eq("svm-events.nmi.own_rip", frame()[0], (u64)code_nops.start);
    check_eq("svm-events.nmi.own_is_gone", nmis, 1);
    /* L2's handler has not come to its IRET: that of an interrupt lets NMIs in again. */
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.nmi.iret", taken_interrupts(), 1);
}

/* L2's table of handlers lies where nested paging maps nothing; the way there has been walked before. */
static void prepare_hole(void)
{
    svm_reset();
    vmcb.save.idtr.base = l2.rbx = (u64)l2_window(PAGE_HOLE, PTE_P | PTE_W | PTE_A | PTE_D);
    check_eq("svm-events.delivery.hole", svm_run(&code_read), VMEXIT_NPF);
}

/* Of an event that L2 takes by itself. */
static void expect_own_delivery(const char *name, u64 event)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-events.delivery.%s", name);
    check_part(prefix, "exit", svm_run(&code_nops), VMEXIT_NPF);
    check_part(prefix, "info_2", vmcb.control.exit_info_2,
               NPT_WINDOW + PAGE_HOLE * PAGE_SIZE + 16 * (event & EVENT_VECTOR_MASK));
    check_part(prefix, "event", vmcb.control.exit_int_info & BITS(31, 0), EVENT_VALID | event);
    check_part(prefix, "rip", vmcb.save.rip, (u64)code_nops.start);
    check_part(prefix, "taken", vmcb.control.v_intr & V_IRQ, 0);
    npt_window[PAGE_HOLE] = (u64)l2_idt | NPT_ALL;
    vmcb.control.v_intr &= ~V_IRQ;
    vmcb.control.event_inj = EVENT_VALID | event;
    check_part(prefix, "again", svm_resume() == VMEXIT_VMMCALL ? l2.rax : 0,
               L2_VECTOR + (event & EVENT_VECTOR_MASK));
}

static void check_own_deliveries(void)
{
    prepare_hole();
    vmcb.save.rflags |= RFLAGS_IF;
    apic_send_self(VECTOR_SELF);
    expect_own_delivery("interrupt", EVENT_TYPE_INTR | VECTOR_SELF);
    apic_write(APIC_EOI, 0);
    prepare_hole();
    (void)try_clgi();
    apic_send_self(EXC_NMI);
    expect_own_delivery("nmi", EVENT_TYPE_NMI | EXC_NMI);
    prepare_hole();
    vmcb.control.v_intr = V_IRQ | PRIORITY(5) | (u64)VIRTUAL_VECTOR << 32;
    vmcb.save.rflags |= RFLAGS_IF;
    expect_own_delivery("virtual", EVENT_TYPE_INTR | VIRTUAL_VECTOR);
    check_eq("svm-events.delivery.nothing_left", taken_interrupts(), 0);
}

/* --- INIT that VM_CR.R_INIT makes an exception --- */

static unsigned redirected;
static u64 redirected_error;

static bool take_redirected(struct frame *at)
{
    redirected++;
    redirected_error = at->error;
    return true;
}

static void check_redirected_init(void)
{
    u64 vm_cr;

    if (try_rdmsr(MSR_VM_CR, &vm_cr) != NO_FAULT || try_wrmsr(MSR_VM_CR, vm_cr | VM_CR_R_INIT) != NO_FAULT)
        return;
    redirected = 0;
    trap_set_hook(EXC_SX, take_redirected);
    apic_send_init();
    check_eq("svm-events.r_init.taken", redirected, 1);
    check_eq("svm-events.r_init.error_code", redirected_error, 1);
    (void)try_clgi();
    apic_send_init();
    check_eq("svm-events.r_init.held", redirected, 1);
    (void)try_stgi();
    check_eq("svm-events.r_init.comes", redirected, 2);
    svm_reset();
    svm_intercept(VMEXIT_EXCP0 + EXC_SX);
    (void)try_clgi();
    apic_send_init();
    svm_enter_flags = ENTER_KEEP_GIF;
    check_eq("svm-events.r_init.exit", svm_run(&code_nops), VMEXIT_EXCP0 + EXC_SX);
    check_eq("svm-events.r_init.exit_error_code", vmcb.control.exit_info_1, 1);
    (void)try_stgi();
    check_eq("svm-events.r_init.gone", redirected, 2);
    svm_reset();
    (void)try_clgi();
    apic_send_init();
    vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    svm_enter_flags = ENTER_KEEP_GIF;
    check_eq("svm-events.r_init.own", svm_run_vector(&code_nops), L2_VECTOR + EXC_SX);
    /* The INIT itself exits, stays pending, and is redirected at last so that it does no harm. */
    (void)try_wrmsr(MSR_VM_CR, vm_cr & ~VM_CR_R_INIT);
    svm_reset();
    svm_intercept(VMEXIT_INIT);
    (void)try_clgi();
    apic_send_init();
    svm_enter_flags = ENTER_KEEP_GIF;
    redirected = 0;
    check_eq("svm-events.init.exit", svm_run(&code_nops), VMEXIT_INIT);
    check_eq("svm-events.init.rip", vmcb.save.rip, (u64)code_nops.start);
    check_eq("svm-events.init.exit_again", svm_run(&code_nops), VMEXIT_INIT);
    (void)try_wrmsr(MSR_VM_CR, vm_cr | VM_CR_R_INIT);
    check_eq("svm-events.init.held", redirected, 0);
    (void)try_stgi();
    check_eq("svm-events.init.redirected", redirected, 1);
    trap_set_hook(EXC_SX, NULL);
    (void)try_wrmsr(MSR_VM_CR, vm_cr);
}

/* --- L1's GIF in L2's hands: neither intercepted nor virtual --- */

enum { STGI_BYTES = 3 };

static void check_lent_gif(void)
{
    svm_reset();
    svm_intercept(VMEXIT_INTR);
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.lent_gif.held", svm_run(&code_clgi_sti), VMEXIT_VMMCALL);
    check_eq("svm-events.lent_gif.left_to_l1", taken_interrupts(), 1);
    check_eq("svm-events.lent_gif.nothing_remains", vmcb.control.v_intr, 0);
    svm_reset();
    svm_intercept(VMEXIT_INTR);
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.lent_gif.exit", svm_run(&code_clgi_stgi), VMEXIT_INTR);
    check_eq("svm-events.lent_gif.exit_rip", vmcb.save.rip, (u64)code_clgi_stgi.at + STGI_BYTES);
    check_eq("svm-events.lent_gif.exit_left_to_l1", taken_interrupts(), 1);
    svm_reset();
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.lent_gif.own", svm_run_vector(&code_clgi_stgi), L2_VECTOR + VECTOR_SELF);
    check_eq("svm-events.lent_gif.own_rip", frame()[0], (u64)code_clgi_stgi.at + STGI_BYTES);
    apic_write(APIC_EOI, 0);
    check_eq("svm-events.lent_gif.own_is_gone", taken_interrupts(), 0);
    /* Virtual ones wait, too, and V_INTR_MASKING stays as L1 said. */
    prepare_virtual(PRIORITY(5) | V_INTR_MASKING, 0);
    check_eq("svm-events.lent_gif.virtual_held", svm_run(&code_clgi_sti), VMEXIT_VMMCALL);
    check_eq("svm-events.lent_gif.virtual_pending", vmcb.control.v_intr & (V_IRQ | V_INTR_MASKING),
             V_IRQ | V_INTR_MASKING);
    prepare_virtual(PRIORITY(5), 0);
    check_eq("svm-events.lent_gif.virtual_comes", svm_run_vector(&code_clgi_stgi),
             L2_VECTOR + VIRTUAL_VECTOR);
    check_eq("svm-events.lent_gif.virtual_rip", frame()[0], (u64)code_clgi_stgi.at + STGI_BYTES);
}

static void check_lent_gif_and_smi(void)
{
    svm_reset();
    svm_intercept(VMEXIT_SMI);
    for (unsigned i = 0; i < 2; i++) {
        check_eq("svm-events.lent_gif.smi", svm_run(&code_clgi_smi), VMEXIT_SMI);
        check_eq("svm-events.lent_gif.smi_rip", vmcb.save.rip, (u64)code_clgi_smi.at + STGI_BYTES);
        check_eq("svm-events.lent_gif.smi_after_sti", vmcb.save.rflags & RFLAGS_IF, RFLAGS_IF);
    }
    check_eq("svm-events.lent_gif.smi_is_gone", svm_run(&code_clgi_stgi), VMEXIT_VMMCALL);
}

/* --- virtual GIF --- */

L2_CODE(code_clgi_exit_sti, "clgi\ncpuid\nsti\nnop\nnop", "nop");

/* On a CPU without, the bit is reserved: CLGI of L2 clears L1's GIF, whatever exits come in between. */
static void check_no_virtual_gif(void)
{
    note_skipped("svm-events.vgif", "not offered");
    svm_reset();
    vmcb.control.v_intr = V_GIF_ENABLE | V_GIF;
    svm_intercept(VMEXIT_INTR);
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.no_vgif.held", svm_run(&code_clgi_exit_sti), VMEXIT_VMMCALL);
    check_eq("svm-events.no_vgif.left_to_l1", taken_interrupts(), 1);
}

static void check_virtual_gif(void)
{
    if (!svm_has(SVM_HAS_VGIF)) {
        check_no_virtual_gif();
        return;
    }
    svm_reset();
    vmcb.control.v_intr = V_GIF_ENABLE | V_GIF;
    check_eq("svm-events.vgif.clgi", svm_run(&code_clgi), VMEXIT_VMMCALL);
    check_eq("svm-events.vgif.cleared", vmcb.control.v_intr & (V_GIF | V_GIF_ENABLE), V_GIF_ENABLE);
    check_eq("svm-events.vgif.stgi", svm_run(&code_stgi), VMEXIT_VMMCALL);
    check_eq("svm-events.vgif.set", vmcb.control.v_intr & (V_GIF | V_GIF_ENABLE), V_GIF | V_GIF_ENABLE);
    svm_intercept(VMEXIT_CLGI);
    svm_intercept(VMEXIT_STGI);
    check_eq("svm-events.vgif.clgi_intercepted", svm_run(&code_clgi), VMEXIT_CLGI);
    check_eq("svm-events.vgif.clgi_not_done", vmcb.control.v_intr & V_GIF, V_GIF);
    check_eq("svm-events.vgif.stgi_intercepted", svm_run(&code_stgi), VMEXIT_STGI);
    /* Virtual interrupts wait for it, real ones do not. */
    prepare_virtual(PRIORITY(5) | V_GIF_ENABLE, RFLAGS_IF);
    check_eq("svm-events.vgif.held", svm_run(&code_nops), VMEXIT_VMMCALL);
    check_eq("svm-events.vgif.held_rip", vmcb.save.rip, (u64)code_nops.next);
    check_eq("svm-events.vgif.held_pending", vmcb.control.v_intr & V_IRQ, V_IRQ);
    check_eq("svm-events.vgif.then_stgi", svm_run_vector(&code_stgi), L2_VECTOR + VIRTUAL_VECTOR);
    prepare_virtual(PRIORITY(5) | V_GIF_ENABLE, RFLAGS_IF);
    svm_intercept(VMEXIT_VINTR);
    check_eq("svm-events.vgif.vintr_held", svm_run(&code_nops), VMEXIT_VMMCALL);
    check_eq("svm-events.vgif.vintr_then", svm_run(&code_stgi), VMEXIT_VINTR);
    prepare_virtual(PRIORITY(5) | V_GIF_ENABLE | V_GIF, RFLAGS_IF);
    check_eq("svm-events.vgif.set_at_vmrun", svm_run_vector(&code_nops), L2_VECTOR + VIRTUAL_VECTOR);
    svm_reset();
    vmcb.control.v_intr = V_GIF_ENABLE | V_INTR_MASKING;
    svm_enter_flags = ENTER_INTERRUPTS;
    svm_intercept(VMEXIT_INTR);
    apic_send_self(VECTOR_SELF);
    check_eq("svm-events.vgif.real_interrupt", svm_run(&code_nops), VMEXIT_INTR);
    check_eq("svm-events.vgif.real_interrupt_left_to_l1", taken_interrupts(), 1);
}

void group_svm_events(void)
{
    if (!svm_start("svm-events"))
        return;
    apic_init();
    trap_set_hook(EXC_NMI, take_nmi);
    trap_set_hook(VECTOR_SELF, take_interrupt);
    for (unsigned i = 0; i < ARRAY_SIZE(injections); i++) {
        u64 vector = injections[i].event & EVENT_VECTOR_MASK;
        check_injection(&injections[i]);
        check_vectoring(&injections[i]);
        if (svm_has(SVM_HAS_NRIPS) && vector != EXC_BP && vector != EXC_OF)
            check_next_rip(&injections[i]);
    }
    check_own_after_injected();
    check_virtual_interrupts();
    check_virtual_tpr();
    check_shadow();
    check_gif();
    check_real_interrupts();
    check_real_nmis();
    check_redirected_init();
    check_lent_gif();
    check_lent_gif_and_smi();
    check_own_deliveries();
    check_virtual_gif();
    trap_set_hook(EXC_NMI, NULL);
    trap_set_hook(VECTOR_SELF, NULL);
    svm_stop();
}
