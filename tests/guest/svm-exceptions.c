/* SPDX-License-Identifier: MIT */
/*
 * Group svm-exceptions: exceptions of L2's own, which exit or reach its handlers; debug exceptions; and what
 * EXITINTINFO says when the delivery of one ends in another exit. Source: APM vol.
 * 2 8.2, 13.1, 15.7.2, 15.12.
 */
#include "tests/guest/svm.h"

static u8 data[PAGE_SIZE] __attribute__((aligned(4096)));

L2_CODE(code_nops, "nop\nnop\nnop", "nop");
L2_CODE(code_de, "xor %eax, %eax\nxor %edx, %edx\nxor %ecx, %ecx", "div %ecx");
L2_CODE(code_bp, "", "int3");
L2_CODE(code_of, ".code32\nmov $0x7fffffff, %eax\nadd $1, %eax", "into\n.code64");
L2_CODE(code_br, ".code32\nmov $9, %eax", "bound %eax, (%ebx)\n.code64");
L2_CODE(code_ud, "", "ud2");
L2_CODE(code_nm, "", "fnop");
L2_CODE(code_np, "mov $0x48, %eax", "mov %eax, %ds");
L2_CODE(code_ss, "mov $0x48, %eax", "mov %eax, %ss");
L2_CODE(code_gp, "mov $0x1000000000000000, %rbx", "mov (%rbx,%rbx,8), %rax");
L2_CODE(code_gp_selector, "mov $0xfff8, %eax", "mov %eax, %ds");
L2_CODE(code_pf_read, "", "mov (%rbx), %rax");
L2_CODE(code_pf_write, "", "mov %rax, (%rbx)");
L2_CODE(code_mf, "fninit\npushq $0x37b\nfldcw (%rsp)\npop %rax\nfld1\nfidivs (%rbx)", "fwait");
L2_CODE(code_int, "", "int $0x45");
L2_CODE(code_step, "pushfq\norq $0x100, (%rsp)\npopfq", "nop");
L2_CODE(code_cpuid, "", "cpuid");
L2_CODE(code_stgi, "", "stgi");
L2_CODE(code_read_dr, "", "mov %dr0, %rax");
L2_CODE(code_write_data, "", "movl $1, (%rbx)");

enum { PAGE_TEST = 8, PAGE_HOLE = 12 };
enum { CODE_32 = 1, ERROR = 2, TRAP = 4 };

static const struct exception {
    const char *name;
    const struct l2_code *code;
    unsigned vector, flags;
    u64 error;
    u64 window; /* entry of L2's page 8, where RBX points for page faults */
} exceptions[] = {
    {"de", &code_de, EXC_DE, 0, 0, 0},
    {"bp", &code_bp, EXC_BP, TRAP, 0, 0},
    {"of", &code_of, EXC_OF, CODE_32 | TRAP, 0, 0},
    {"br", &code_br, EXC_BR, CODE_32, 0, 0},
    {"ud", &code_ud, EXC_UD, 0, 0, 0},
    {"nm", &code_nm, EXC_NM, 0, 0, 0},
    {"np", &code_np, EXC_NP, ERROR, 0x48, 0},
    {"ss", &code_ss, EXC_SS, ERROR, 0x48, 0},
    {"gp", &code_gp, EXC_GP, ERROR, 0, 0},
    {"gp_selector", &code_gp_selector, EXC_GP, ERROR, 0xfff8, 0},
    {"pf_read", &code_pf_read, EXC_PF, ERROR, 0, 0},
    {"pf_write", &code_pf_write, EXC_PF, ERROR, 2, 0},
    {"pf_read_only", &code_pf_write, EXC_PF, ERROR, 3, PTE_P | PTE_U},
    {"pf_reserved", &code_pf_read, EXC_PF, ERROR, 9, PTE_P | BIT(51)},
    {"mf", &code_mf, EXC_MF, 0, 0, 0},
};

static void prepare(void)
{
    svm_reset();
    memset(data, 0, sizeof(data));
    l2.rbx = (u64)data;
}

static void prepare_exception(const struct exception *test)
{
    prepare();
    vmcb.save.cr2 = 0x1111;
    if (test->vector == EXC_PF) {
        window_set(PAGE_TEST, test->window);
        l2.rbx = WINDOW + PAGE_TEST * PAGE_SIZE + 8;
    }
    if ((test->flags & CODE_32) != 0) {
        vmcb.save.cs.selector = SEL_CODE32;
        vmcb.save.cs.attributes = 0xc9b;
    }
    if (test->vector == EXC_NM)
        vmcb.save.cr0 |= CR0_TS;
}

static void check_exit(const struct exception *test)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-exceptions.%s", test->name);
    prepare_exception(test);
    check_part(prefix, "exit", svm_run(test->code), VMEXIT_EXCP0 + test->vector);
    check_part(prefix, "rip", vmcb.save.rip, (u64)test->code->at);
    check_part(prefix, "no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    if ((test->flags & ERROR) != 0)
        check_part(prefix, "error_code", vmcb.control.exit_info_1, test->error);
    check_part(prefix, "cr2_kept", vmcb.save.cr2, 0x1111);
    if (test->vector == EXC_PF)
        check_part(prefix, "address", vmcb.control.exit_info_2, l2.rbx);
}

static void check_own(const struct exception *test)
{
    char prefix[64];
    u64 error = (test->flags & ERROR) != 0;

    print_to(prefix, sizeof(prefix), "svm-exceptions.%s.own", test->name);
    prepare_exception(test);
    svm_allow(VMEXIT_EXCP0 + test->vector);
    check_part(prefix, "vector", svm_run_vector(test->code), L2_VECTOR + test->vector);
    const u64 *frame = (const u64 *)vmcb.save.rsp;
    check_part(prefix, "rip", frame[error],
               (test->flags & TRAP) != 0 ? (u64)test->code->next : (u64)test->code->at);
    if (error)
        check_part(prefix, "error_code", frame[0], test->error);
    check_part(prefix, "cr2", vmcb.save.cr2, test->vector == EXC_PF ? l2.rbx : 0x1111);
    __asm__ volatile("fninit");
}

/* --- ring 3, and fetches --- */

static struct vmcb small_tss __attribute__((aligned(4096))), own_state __attribute__((aligned(4096)));

/* A TSS too small for the stack pointer of ring 0. */
static void check_invalid_tss(void)
{
    (void)try_vmsave((u64)&own_state);
    small_tss = own_state;
    small_tss.save.tr.limit = 3;
    prepare();
    svm_allow(VMEXIT_EXCP0 + EXC_UD);
    (void)try_vmload((u64)&small_tss);
    check_eq("svm-exceptions.ts.exit", svm_run_user(&code_ud), VMEXIT_EXCP0 + EXC_TS);
    (void)try_vmload((u64)&own_state);
    check_eq("svm-exceptions.ts.error_code", vmcb.control.exit_info_1 & ~1ull, SEL_TSS);
    check_eq("svm-exceptions.ts.event", vmcb.control.exit_int_info & BITS(31, 0),
             EVENT_VALID | EVENT_TYPE_EXCEPTION | EXC_UD);
    check_eq("svm-exceptions.ts.rip", vmcb.save.rip, svm_at_user(&code_ud, code_ud.at));
}

static void check_user(void)
{
    prepare();
    check_eq("svm-exceptions.user_read.exit", svm_run_user(&code_pf_read), VMEXIT_EXCP0 + EXC_PF);
    check_eq("svm-exceptions.user_read.error_code", vmcb.control.exit_info_1, 5);
    check_eq("svm-exceptions.user_read.rip", vmcb.save.rip, svm_at_user(&code_pf_read, code_pf_read.at));
    check_eq("svm-exceptions.user_read.cpl", vmcb.save.cpl, 3);
    prepare();
    svm_allow(VMEXIT_EXCP0 + EXC_PF);
    check_eq("svm-exceptions.user_read.own", svm_run_user(&code_pf_read), VMEXIT_VMMCALL);
    check_eq("svm-exceptions.user_read.own_vector", vmcb.save.rax, L2_VECTOR + EXC_PF);
    check_eq("svm-exceptions.user_read.own_cpl", vmcb.save.cpl, 0);
    prepare();
    vmcb.save.rip = (u64)window_map(PAGE_TEST, (u64)data, PTE_P | PTE_NX);
    check_eq("svm-exceptions.fetch.exit", svm_resume(), VMEXIT_EXCP0 + EXC_PF);
    check_eq("svm-exceptions.fetch.error_code", vmcb.control.exit_info_1, 0x11);
    check_eq("svm-exceptions.fetch.address", vmcb.control.exit_info_2, WINDOW + PAGE_TEST * PAGE_SIZE);
}

/* --- debug exceptions --- */

static void expect_debug(const char *name, u64 exit, u64 rip, u64 dr6)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-exceptions.debug.%s", name);
    check_part(prefix, "exit", exit, VMEXIT_EXCP0 + EXC_DB);
    check_part(prefix, "rip", vmcb.save.rip, rip);
    check_part(prefix, "dr6", vmcb.save.dr6 & (BITS(15, 13) | BITS(3, 0)), dr6);
}

static void check_debug(void)
{
    prepare();
    vmcb.save.rflags |= RFLAGS_TF;
    expect_debug("step", svm_run(&code_nops), (u64)code_nops.start + 1, BIT(14));
    vmcb.save.dr6 = 0xffff0ff0;
    expect_debug("next_step", svm_resume(), (u64)code_nops.start + 2, BIT(14));
    /* After an instruction that L1 leaves to whoever executes it; and L1 is not asked about what it injects.
     */
    prepare();
    vmcb.save.rflags |= RFLAGS_TF;
    expect_debug("step_over_cpuid", svm_run(&code_cpuid), (u64)code_cpuid.next, BIT(14));
    check_eq("svm-exceptions.debug.step_over_cpuid_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    prepare();
    vmcb.save.rflags |= RFLAGS_TF;
    expect_debug("step_over_stgi", svm_run(&code_stgi), (u64)code_stgi.next, BIT(14));
    prepare();
    expect_debug("popf", svm_run(&code_step), (u64)code_step.next, BIT(14));
    prepare();
    svm_allow(VMEXIT_EXCP0 + EXC_DB);
    check_eq("svm-exceptions.debug.own_step", svm_run_vector(&code_step), L2_VECTOR + EXC_DB);
    check_eq("svm-exceptions.debug.own_step_rip", *(const u64 *)vmcb.save.rsp, (u64)code_step.next);
    prepare();
    vmcb.save.dr7 = 0x402;
    __asm__ volatile("mov %0, %%dr0" ::"r"((u64)code_nops.start + 2));
    expect_debug("breakpoint", svm_run(&code_nops), (u64)code_nops.start + 2, BIT(0));
    check_eq("svm-exceptions.debug.dr7_kept", vmcb.save.dr7, 0x402);
    /* With RF the breakpoint is passed. */
    vmcb.save.rflags |= RFLAGS_RF;
    check_eq("svm-exceptions.debug.resume_flag", svm_resume(), VMEXIT_VMMCALL);
    prepare();
    vmcb.save.dr7 = 0xd0402;
    __asm__ volatile("mov %0, %%dr0" ::"r"(data));
    expect_debug("data", svm_run(&code_write_data), (u64)code_write_data.next, BIT(0));
    prepare();
    vmcb.save.dr7 = 0x400 | BIT(13);
    expect_debug("general_detect", svm_run(&code_read_dr), (u64)code_read_dr.at, BIT(13));
    __asm__ volatile("mov %0, %%dr0" ::"r"(0ull));
}

/* --- exits on the way to a handler --- */

static void check_double_faults(void)
{
    prepare();
    vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = (u32)(BIT(EXC_GP) | BIT(EXC_DF));
    vmcb.save.idtr.limit = 0x1f;
    check_eq("svm-exceptions.delivery.ud_exit", svm_run(&code_ud), VMEXIT_EXCP0 + EXC_GP);
    check_eq("svm-exceptions.delivery.ud_error_code", vmcb.control.exit_info_1 & ~1ull, EXC_UD * 8 + 2);
    check_eq("svm-exceptions.delivery.ud_event", vmcb.control.exit_int_info & BITS(31, 0),
             EVENT_VALID | EVENT_TYPE_EXCEPTION | EXC_UD);
    check_eq("svm-exceptions.delivery.ud_rip", vmcb.save.rip, (u64)code_ud.at);
    check_eq("svm-exceptions.delivery.int_exit", svm_run(&code_int), VMEXIT_EXCP0 + EXC_GP);
    check_eq("svm-exceptions.delivery.int_error_code", vmcb.control.exit_info_1, 0x45 * 8 + 2);
    check_eq("svm-exceptions.delivery.int_event", vmcb.control.exit_int_info & BITS(31, 0),
             EVENT_VALID | EVENT_TYPE_SOFTWARE | 0x45);
    check_eq("svm-exceptions.delivery.int_rip", vmcb.save.rip, (u64)code_int.at);
    vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = (u32)BIT(EXC_DF);
    check_eq("svm-exceptions.delivery.df_exit", svm_run(&code_gp), VMEXIT_EXCP0 + EXC_DF);
    check_eq("svm-exceptions.delivery.df_error_code", vmcb.control.exit_info_1, 0);
    check_eq("svm-exceptions.delivery.df_rip", vmcb.save.rip, (u64)code_gp.at);
    vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    check_eq("svm-exceptions.delivery.shutdown", svm_run(&code_gp), VMEXIT_SHUTDOWN);
    prepare();
    vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    window_set(PAGE_HOLE, 0);
    vmcb.save.rsp = WINDOW + PAGE_HOLE * PAGE_SIZE + 0x800;
    check_eq("svm-exceptions.delivery.no_stack", svm_run(&code_ud), VMEXIT_SHUTDOWN);
}

/* L2's interrupt table, or its stack, lies where nested paging maps nothing. */
static const struct delivery {
    const char *name;
    const struct l2_code *code;
    u64 event;
} deliveries[] = {
    {"ud", &code_ud, EVENT_TYPE_EXCEPTION | EXC_UD},
    {"gp", &code_gp_selector,
     EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | EXC_GP | 0xfff8ull << EVENT_ERROR_SHIFT},
    {"pf", &code_pf_write, EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | EXC_PF | 2ull << EVENT_ERROR_SHIFT},
    {"int", &code_int, EVENT_TYPE_SOFTWARE | 0x45},
    {"step", &code_step, EVENT_TYPE_EXCEPTION | EXC_DB},
};

static void prepare_delivery(void)
{
    prepare();
    vmcb.control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    window_set(PAGE_TEST, 0);
    l2.rbx = WINDOW + PAGE_TEST * PAGE_SIZE;
}

static void expect_delivery(const char *prefix, const struct delivery *test, u64 address, u64 access)
{
    bool error = (test->event & EVENT_ERROR_VALID) != 0;

    check_part(prefix, "exit", svm_run(test->code), VMEXIT_NPF);
    check_part(prefix, "info_1", vmcb.control.exit_info_1, NPF_FINAL | NPF_USER | access);
    check_part(prefix, "info_2", vmcb.control.exit_info_2, address);
    check_part(prefix, "event", vmcb.control.exit_int_info & (error ? ~0ull : BITS(31, 0)),
               EVENT_VALID | test->event);
    check_part(prefix, "rip", vmcb.save.rip,
               test->code == &code_step ? (u64)test->code->next : (u64)test->code->at);
    if ((test->event & EVENT_VECTOR_MASK) == EXC_PF)
        check_part(prefix, "cr2", vmcb.save.cr2, l2.rbx);
}

static void check_delivery(const struct delivery *test)
{
    char prefix[64];
    u64 vector = test->event & EVENT_VECTOR_MASK;

    print_to(prefix, sizeof(prefix), "svm-exceptions.delivery.table.%s", test->name);
    prepare_delivery();
    vmcb.save.idtr.base = (u64)l2_window(PAGE_HOLE, PTE_P | PTE_W | PTE_A | PTE_D);
    expect_delivery(prefix, test, NPT_WINDOW + PAGE_HOLE * PAGE_SIZE + 16 * vector, 0);
    /* As hypervisors do: the page appears, the event is injected again. */
    npt_window[PAGE_HOLE] = (u64)l2_idt | NPT_ALL;
    vmcb.control.event_inj = vmcb.control.exit_int_info;
    u64 rip = vmcb.save.rip;
    vmcb.control.n_rip = rip; /* where INT n returns to, on a CPU that has it */
    u64 exit = svm_resume();
    check_part(prefix, "again", exit == VMEXIT_VMMCALL ? l2.rax : exit, L2_VECTOR + vector);
    check_part(prefix, "again_rip", ((const u64 *)vmcb.save.rsp)[(test->event & EVENT_ERROR_VALID) != 0],
               rip);

    print_to(prefix, sizeof(prefix), "svm-exceptions.delivery.stack.%s", test->name);
    prepare_delivery();
    vmcb.save.rsp = (u64)l2_window(PAGE_HOLE, PTE_P | PTE_W | PTE_A | PTE_D) + 0x800;
    if (test->code != &code_step)
        expect_delivery(prefix, test, NPT_WINDOW + PAGE_HOLE * PAGE_SIZE + 0x800 - 8, NPF_WRITE);
}

void group_svm_exceptions(void)
{
    if (!svm_start("svm-exceptions"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(exceptions); i++) {
        check_exit(&exceptions[i]);
        check_own(&exceptions[i]);
    }
    check_user();
    check_invalid_tss();
    check_debug();
    check_double_faults();
    for (unsigned i = 0; i < ARRAY_SIZE(deliveries); i++)
        check_delivery(&deliveries[i]);
    svm_stop();
}
