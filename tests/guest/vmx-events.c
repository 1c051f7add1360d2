/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-events: what L1 injects and what ends in L2 on its way to a handler: exceptions, interrupts,
 * NMIs, windows, single steps, the timer, HLT and pending debug exceptions. Source: SDM vol.
 * 3C 26.2, 26.5, 27.6, 27.7, 28.2.
 */
#include "tests/guest/vmx.h"

#define VALID      INTERRUPTION_VALID
#define ERROR_CODE INTERRUPTION_ERROR_CODE

L2_CODE(code_nop, "", "nop");
L2_CODE(code_nops, "nop\nnop\nnop", "nop");
L2_CODE(code_ud, "", "ud2");
L2_CODE(code_int3, "", "int3");
L2_CODE(code_int, "", "int $0x45");
L2_CODE(code_int1, "", ".byte 0xf1");
L2_CODE(code_de, "xor %eax, %eax\nxor %edx, %edx\nxor %ecx, %ecx", "div %ecx");
L2_CODE(code_gp, "mov $0x1000000000000000, %rbx", "mov (%rbx,%rbx,8), %rax");
L2_CODE(code_gp_selector, "mov $0xfff8, %eax", "mov %eax, %ds");
L2_CODE(code_np, "mov $0x48, %eax", "mov %eax, %ds");
L2_CODE(code_pf, "", "mov %rax, (%rbx)");
L2_CODE(code_nm, "", "fnop");
L2_CODE(code_sti, "", "sti\nnop\nnop");
L2_CODE(code_sti_cpuid, "sti", "cpuid");
L2_CODE(code_mov_ss, "mov %ss, %eax\nmov %eax, %ss", "cpuid");
L2_CODE(code_iret,
        "mov %ss, %eax\npush %rax\nlea 32(%rsp), %rax\npush %rax\npushfq\nmov %cs, %eax\npush %rax\n"
        "lea 1f(%rip), %rax\npush %rax",
        "iretq\n1: nop");
L2_CODE(code_spin, "", "1: pause\njmp 1b");
L2_CODE(code_pushf_tf, "pushfq\norq $0x100, (%rsp)\npopfq", "nop");

static const u64 *frame(void)
{
    return (const u64 *)vmread(VMCS_GUEST_RSP);
}

/* --- exceptions that exit --- */

static void check_exception(const char *name, const struct l2_code *code, unsigned vector, u64 type,
                            bool has_error, u64 error)
{
    char prefix[64];
    u64 info = VALID | type | vector | (has_error ? ERROR_CODE : 0);

    print_to(prefix, sizeof(prefix), "vmx-events.%s", name);
    vmx_reset();
    l2.rbx = WINDOW + 8 * PAGE_SIZE;
    window_set(8, 0);
    if (vector == EXC_NM)
        vmwrite(VMCS_GUEST_CR0, read_cr0() | CR0_TS);
    check_part(prefix, "reason", vmx_run(code), REASON_EXCEPTION_OR_NMI);
    check_part(prefix, "information", vmread(VMCS_EXIT_INTERRUPTION) & ~BIT(12), info);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)code->at);
    if (has_error)
        check_part(prefix, "error_code", vmread(VMCS_EXIT_ERROR_CODE), error);
    if (vector == EXC_PF)
        check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION), l2.rbx);
    check_part(prefix, "no_vectoring", vmread(VMCS_VECTORING) & VALID, 0);
    if (type != INTERRUPTION_HARDWARE)
        check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), (u64)(code->next - code->at));
    /* Without its bit in the bitmap: L2's handler has it. */
    vmwrite(VMCS_EXCEPTION_BITMAP, vector == EXC_PF ? 0xffffffff & ~BIT(14) : ~BIT(vector) & 0xffffffff);
    check_part(prefix, "own_reason", vmx_run(code), REASON_VMCALL);
    check_part(prefix, "own_vector", l2.rax, L2_VECTOR + vector);
    check_part(prefix, "own_rip", frame()[has_error ? 1 : 0],
               type == INTERRUPTION_HARDWARE ? (u64)code->at : (u64)code->next);
    if (has_error)
        check_part(prefix, "own_error_code", frame()[0], error);
}

static void check_exceptions(void)
{
    check_exception("ud", &code_ud, EXC_UD, INTERRUPTION_HARDWARE, false, 0);
    check_exception("de", &code_de, EXC_DE, INTERRUPTION_HARDWARE, false, 0);
    check_exception("bp", &code_int3, EXC_BP, INTERRUPTION_TRAP, false, 0);
    check_exception("int1", &code_int1, EXC_DB, INTERRUPTION_PRIVILEGED, false, 0);
    check_exception("gp", &code_gp, EXC_GP, INTERRUPTION_HARDWARE, true, 0);
    check_exception("gp_selector", &code_gp_selector, EXC_GP, INTERRUPTION_HARDWARE, true, 0xfff8);
    check_exception("np", &code_np, EXC_NP, INTERRUPTION_HARDWARE, true, 0x48);
    check_exception("pf", &code_pf, EXC_PF, INTERRUPTION_HARDWARE, true, 2);
    check_exception("nm", &code_nm, EXC_NM, INTERRUPTION_HARDWARE, false, 0);
}

/* The error code decides on page faults: SDM vol. 3C 26.2. */
static void check_page_fault_filter(void)
{
    for (unsigned bit = 0; bit < 2; bit++) {
        for (unsigned match = 0; match < 2; match++) {
            char prefix[64];
            bool exits = bit == match;
            print_to(prefix, sizeof(prefix), "vmx-events.page_fault_bit%u_match%u", bit, match);
            vmx_reset();
            window_set(8, 0);
            l2.rbx = WINDOW + 8 * PAGE_SIZE;
            vmwrite(VMCS_EXCEPTION_BITMAP, bit ? 0xffffffff : 0xffffffff & ~BIT(14));
            vmwrite(VMCS_PAGE_FAULT_MASK, 2);
            vmwrite(VMCS_PAGE_FAULT_MATCH, match ? 2 : 0);
            check_part(prefix, "reason", vmx_run(&code_pf), exits ? REASON_EXCEPTION_OR_NMI : REASON_VMCALL);
        }
    }
}

/* --- injection --- */

static void check_injection(const char *name, u64 info, u64 error, u64 length, u64 handler_rip_offset)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-events.inject.%s", name);
    vmx_reset();
    vmwrite(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | info);
    vmwrite(VMCS_ENTRY_ERROR_CODE, error);
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, length);
    if ((info & INTERRUPTION_TYPE) == INTERRUPTION_EXTERNAL)
        vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    check_part(prefix, "reason", vmx_run(&code_nop), REASON_VMCALL);
    check_part(prefix, "vector", l2.rax, L2_VECTOR + (info & 0xff));
    bool has_error = (info & ERROR_CODE) != 0;
    check_part(prefix, "rip", frame()[has_error], (u64)code_nop.start + handler_rip_offset);
    check_part(prefix, "frame", vmread(VMCS_GUEST_RSP),
               (u64)l2_stack + PAGE_SIZE - 64 - 40 - (has_error ? 8 : 0));
    if (has_error)
        check_part(prefix, "error_code", frame()[0], error);
    check_part(prefix, "flags_saved", frame()[2 + has_error] & RFLAGS_IF,
               (info & INTERRUPTION_TYPE) == INTERRUPTION_EXTERNAL ? RFLAGS_IF : 0);
    check_part(prefix, "valid_cleared", vmread(VMCS_ENTRY_INTERRUPTION) & VALID, 0);
    check_part(prefix, "no_vectoring", vmread(VMCS_VECTORING) & VALID, 0);
}

static void check_injections(void)
{
    static const struct {
        const char *name;
        u8 vector;
        bool error;
    } exceptions[] = {{"de", 0, false}, {"db", 1, false},  {"br", 5, false}, {"ud", 6, false},
                      {"nm", 7, false}, {"df", 8, true},   {"ts", 10, true}, {"np", 11, true},
                      {"ss", 12, true}, {"gp", 13, true},  {"pf", 14, true}, {"mf", 16, false},
                      {"ac", 17, true}, {"mc", 18, false}, {"xm", 19, false}};

    for (unsigned i = 0; i < ARRAY_SIZE(exceptions); i++)
        check_injection(
            exceptions[i].name,
            INTERRUPTION_HARDWARE | exceptions[i].vector | (exceptions[i].error ? ERROR_CODE : 0),
            exceptions[i].error && exceptions[i].vector != 8 && exceptions[i].vector != 17 ? 0x1234 : 0, 0,
            0);
    check_injection("external_32", INTERRUPTION_EXTERNAL | 0x20, 0, 0, 0);
    check_injection("external_255", INTERRUPTION_EXTERNAL | 0xff, 0, 0, 0);
    check_injection("external_3", INTERRUPTION_EXTERNAL | 3, 0, 0, 0);
    check_injection("nmi", INTERRUPTION_NMI | 2, 0, 0, 0);
    check_injection("software_0x80", INTERRUPTION_SOFTWARE | 0x80, 0, 2, 2);
    check_injection("software_long", INTERRUPTION_SOFTWARE | 0x45, 0, 15, 15);
    check_injection("int3", INTERRUPTION_TRAP | 3, 0, 1, 1);
    check_injection("into", INTERRUPTION_TRAP | 4, 0, 1, 1);
    check_injection("int1", INTERRUPTION_PRIVILEGED | 1, 0, 1, 1);
}

/* --- exits on the way to a handler --- */

/* L2's interrupt table lies behind EPT's window, which is closed. */
static void check_vectoring(const char *name, u64 info, u64 error, u64 length)
{
    char prefix[64];
    bool software = (info & INTERRUPTION_TYPE) >= INTERRUPTION_SOFTWARE;

    print_to(prefix, sizeof(prefix), "vmx-events.vectoring.%s", name);
    vmx_reset();
    vmwrite(VMCS_GUEST_IDTR_BASE, (u64)l2_window(12, PTE_P | PTE_W | PTE_A | PTE_D));
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | info);
    vmwrite(VMCS_ENTRY_ERROR_CODE, error);
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, length);
    if ((info & INTERRUPTION_TYPE) == INTERRUPTION_EXTERNAL)
        vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    check_part(prefix, "reason", vmx_run(&code_nop), REASON_EPT_VIOLATION);
    check_part(prefix, "information", vmread(VMCS_VECTORING) & ~BIT(12), VALID | info);
    if ((info & ERROR_CODE) != 0)
        check_part(prefix, "error_code", vmread(VMCS_VECTORING_ERROR_CODE), error);
    if (software)
        check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), length);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)code_nop.start);
    check_part(prefix, "physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
               EPT_WINDOW + 12 * PAGE_SIZE + 16 * (info & 0xff));
    /* Injected again as L1s do, with the table there: the event arrives. */
    u64 again = vmread(VMCS_VECTORING);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, 0xfff);
    (void)l2_window(12, 0);
    u64 table = vmread(VMCS_GUEST_IDTR_BASE);
    vmx_reset();
    (void)table;
    vmwrite(VMCS_ENTRY_INTERRUPTION, again & ~BIT(12));
    vmwrite(VMCS_ENTRY_ERROR_CODE, error);
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, length);
    if ((info & INTERRUPTION_TYPE) == INTERRUPTION_EXTERNAL)
        vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    check_part(prefix, "again", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + (info & 0xff));
}

static void check_vectorings(void)
{
    check_vectoring("external", INTERRUPTION_EXTERNAL | 0x31, 0, 0);
    check_vectoring("nmi", INTERRUPTION_NMI | 2, 0, 0);
    check_vectoring("ud", INTERRUPTION_HARDWARE | EXC_UD, 0, 0);
    check_vectoring("gp", INTERRUPTION_HARDWARE | ERROR_CODE | EXC_GP, 0x58, 0);
    check_vectoring("pf", INTERRUPTION_HARDWARE | ERROR_CODE | EXC_PF, 7, 0);
    check_vectoring("software", INTERRUPTION_SOFTWARE | 0x45, 0, 2);
    check_vectoring("int3", INTERRUPTION_TRAP | 3, 0, 1);
    check_vectoring("int1", INTERRUPTION_PRIVILEGED | 1, 0, 1);
}

/* An exception of L2's own whose delivery faults: the second exits and tells of the first. */
static void check_own_vectoring(void)
{
    vmx_reset();
    vmwrite(VMCS_EXCEPTION_BITMAP, BIT(EXC_GP) | BIT(EXC_DF));
    vmwrite(VMCS_GUEST_IDTR_LIMIT, 0x1f);
    check_eq("vmx-events.nested.ud_reason", vmx_run(&code_ud), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.nested.ud_second", vmread(VMCS_EXIT_INTERRUPTION),
             VALID | ERROR_CODE | INTERRUPTION_HARDWARE | EXC_GP);
    check_eq("vmx-events.nested.ud_second_error", vmread(VMCS_EXIT_ERROR_CODE), EXC_UD * 8 + 3);
    check_eq("vmx-events.nested.ud_first", vmread(VMCS_VECTORING), VALID | INTERRUPTION_HARDWARE | EXC_UD);
    check_eq("vmx-events.nested.int_reason", vmx_run(&code_int), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.nested.int_second_error", vmread(VMCS_EXIT_ERROR_CODE), 0x45 * 8 + 2);
    check_eq("vmx-events.nested.int_first", vmread(VMCS_VECTORING), VALID | INTERRUPTION_SOFTWARE | 0x45);
    /* #GP in delivering #GP: a double fault, which exits; without its bit a triple fault, which always does.
     */
    vmwrite(VMCS_EXCEPTION_BITMAP, BIT(EXC_DF));
    check_eq("vmx-events.nested.df_reason", vmx_run(&code_gp), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.nested.df", vmread(VMCS_EXIT_INTERRUPTION),
             VALID | ERROR_CODE | INTERRUPTION_HARDWARE | EXC_DF);
    check_eq("vmx-events.nested.df_first", vmread(VMCS_VECTORING) & VALID, 0);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    check_eq("vmx-events.nested.triple", vmx_run(&code_gp), REASON_TRIPLE_FAULT);
    check_eq("vmx-events.nested.triple_rip", vmread(VMCS_GUEST_RIP), (u64)code_gp.at);
    check_eq("vmx-events.nested.triple_activity", vmread(VMCS_GUEST_ACTIVITY), 0);
}

/* --- windows, steps, the timer --- */

static void check_interrupt_window(void)
{
    vmx_reset();
    vmx_set(WORD_PRIMARY, PRIMARY_INTERRUPT_WINDOW);
    check_eq("vmx-events.window.closed", vmx_run(&code_nop), REASON_VMCALL);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    check_eq("vmx-events.window.open", vmx_run(&code_nop), REASON_INTERRUPT_WINDOW);
    check_eq("vmx-events.window.open_rip", vmread(VMCS_GUEST_RIP), (u64)code_nop.start);
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    check_eq("vmx-events.window.sti", vmx_run(&code_sti), REASON_INTERRUPT_WINDOW);
    check_eq("vmx-events.window.sti_rip", vmread(VMCS_GUEST_RIP), (u64)code_sti.at + 2);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    check_eq("vmx-events.window.blocked_by_sti", vmx_run(&code_nops), REASON_INTERRUPT_WINDOW);
    check_eq("vmx-events.window.blocked_by_sti_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    check_eq("vmx-events.window.blocked_by_mov_ss", vmx_run(&code_nops), REASON_INTERRUPT_WINDOW);
    check_eq("vmx-events.window.blocked_by_mov_ss_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
    /* Not from HLT: Bochs sleeps on where a CPU exits. */
    /* The injection comes first. */
    vmx_reset();
    vmx_set(WORD_PRIMARY, PRIMARY_INTERRUPT_WINDOW);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | 0x31);
    check_eq("vmx-events.window.after_injection", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0,
             L2_VECTOR + 0x31);
}

static void check_interruptibility(void)
{
    vmx_reset();
    check_eq("vmx-events.interruptibility.sti", vmx_run(&code_sti_cpuid), REASON_CPUID);
    check_eq("vmx-events.interruptibility.sti_saved", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_STI);
    vmx_reset();
    check_eq("vmx-events.interruptibility.mov_ss", vmx_run(&code_mov_ss), REASON_CPUID);
    check_eq("vmx-events.interruptibility.mov_ss_saved", vmread(VMCS_GUEST_INTERRUPTIBILITY),
             BLOCKING_BY_MOV_SS);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    check_eq("vmx-events.interruptibility.sti_again", vmx_run(&code_sti_cpuid), REASON_CPUID);
    check_eq("vmx-events.interruptibility.sti_again_saved", vmread(VMCS_GUEST_INTERRUPTIBILITY), 0);
}

static void check_virtual_nmis(void)
{
    if (!vmx_has(WORD_PIN, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)) {
        note_skipped("vmx-events.virtual_nmis", "not offered");
        return;
    }
    vmx_reset();
    vmx_set(WORD_PIN, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set(WORD_PRIMARY, PRIMARY_NMI_WINDOW);
    check_eq("vmx-events.nmi_window.open", vmx_run(&code_nop), REASON_NMI_WINDOW);
    check_eq("vmx-events.nmi_window.open_rip", vmread(VMCS_GUEST_RIP), (u64)code_nop.start);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    check_eq("vmx-events.nmi_window.blocked", vmx_run(&code_nop), REASON_VMCALL);
    check_eq("vmx-events.nmi_window.still_blocked", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    check_eq("vmx-events.nmi_window.iret", vmx_run(&code_iret), REASON_NMI_WINDOW);
    check_eq("vmx-events.nmi_window.iret_rip", vmread(VMCS_GUEST_RIP), (u64)code_iret.next - 1);
    check_eq("vmx-events.nmi_window.iret_unblocked", vmread(VMCS_GUEST_INTERRUPTIBILITY), 0);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    check_eq("vmx-events.nmi_window.mov_ss", vmx_run(&code_nops), REASON_NMI_WINDOW);
    check_eq("vmx-events.nmi_window.mov_ss_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
    /* An injected NMI blocks virtual NMIs. */
    vmx_reset();
    vmx_set(WORD_PIN, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | INTERRUPTION_NMI | 2);
    check_eq("vmx-events.virtual_nmi.arrives", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0,
             L2_VECTOR + 2);
    check_eq("vmx-events.virtual_nmi.blocks", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | INTERRUPTION_NMI | 2);
    check_eq("vmx-events.virtual_nmi.second_refused", vmx_run(&code_nop),
             EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE);
    vmwrite(VMCS_ENTRY_INTERRUPTION, 0);
    /* Without NMI exiting the blocking is the CPU's own. */
    vmx_reset();
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | INTERRUPTION_NMI | 2);
    check_eq("vmx-events.own_nmi.arrives", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + 2);
    check_eq("vmx-events.own_nmi.blocks", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    check_eq("vmx-events.own_nmi.iret", vmx_run(&code_iret), REASON_VMCALL);
    check_eq("vmx-events.own_nmi.unblocked", vmread(VMCS_GUEST_INTERRUPTIBILITY), 0);
}

/* NMIs and interrupts that this CPU sends itself, just before L2 or out of it. */
static void check_real_events(void)
{
    apic_init();
    vmx_reset();
    vmx_set(WORD_PIN, PIN_NMI_EXITING);
    vmx_set(WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    apic_send_self(VECTOR_SELF);
    check_eq("vmx-events.interrupt.exit", vmx_run(&code_nops), REASON_EXTERNAL_INTERRUPT);
    check_eq("vmx-events.interrupt.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    check_eq("vmx-events.interrupt.not_acknowledged", vmread(VMCS_EXIT_INTERRUPTION) & VALID, 0);
    vmwrite(VMCS_GUEST_RFLAGS, 2);
    check_eq("vmx-events.interrupt.without_if", vmx_run(&code_nops), REASON_EXTERNAL_INTERRUPT);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    vmx_set(WORD_EXIT, EXIT_ACKNOWLEDGE_INTERRUPT);
    check_eq("vmx-events.interrupt.acknowledge", vmx_run(&code_nops), REASON_EXTERNAL_INTERRUPT);
    check_eq("vmx-events.interrupt.vector", vmread(VMCS_EXIT_INTERRUPTION), VALID | VECTOR_SELF);
    apic_write(APIC_EOI, 0);
    /* Without the control L2 has it. */
    vmx_clear(WORD_PIN, PIN_EXTERNAL_INTERRUPT_EXITING);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    apic_send_self(VECTOR_SELF);
    check_eq("vmx-events.interrupt.own", vmx_run(&code_nops) == REASON_VMCALL ? l2.rax : 0,
             L2_VECTOR + VECTOR_SELF);
    apic_write(APIC_EOI, 0);
    vmx_reset();
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_HLT);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    apic_send_self(VECTOR_SELF);
    check_eq("vmx-events.interrupt.own_in_hlt", vmx_run(&code_nops) == REASON_VMCALL ? l2.rax : 0,
             L2_VECTOR + VECTOR_SELF);
    apic_write(APIC_EOI, 0);
}

static void check_steps(void)
{
    if (!vmx_has(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG)) {
        note_skipped("vmx-events.mtf", "not offered");
    } else {
        vmx_reset();
        vmx_set(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.reason", vmx_run(&code_nops), REASON_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
        check_eq("vmx-events.mtf.next", vmx_resume(), REASON_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.next_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 2);
        vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | INTERRUPTION_HARDWARE | EXC_UD);
        check_eq("vmx-events.mtf.injection", vmx_run(&code_nops), REASON_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.injection_rip", vmread(VMCS_GUEST_RIP), (u64)l2_vectors + 16 * EXC_UD);
        vmx_clear(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG);
        vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | INTERRUPTION_OTHER);
        check_eq("vmx-events.mtf.pending", vmx_run(&code_nops), REASON_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.pending_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
        vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_HLT);
        vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | INTERRUPTION_OTHER);
        check_eq("vmx-events.mtf.pending_in_hlt", vmx_run(&code_nops), REASON_MONITOR_TRAP_FLAG);
        vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
        vmx_set(WORD_PRIMARY, PRIMARY_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.cpuid", vmx_run(&code_sti_cpuid), REASON_MONITOR_TRAP_FLAG);
        check_eq("vmx-events.mtf.fault_exit", vmx_run(&code_ud), REASON_EXCEPTION_OR_NMI);
    }
    if (!vmx_has(WORD_PIN, PIN_PREEMPTION_TIMER)) {
        note_skipped("vmx-events.timer", "not offered");
        return;
    }
    vmx_reset();
    vmx_set(WORD_PIN, PIN_PREEMPTION_TIMER);
    vmwrite(VMCS_GUEST_PREEMPTION_TIMER, 0);
    check_eq("vmx-events.timer.zero", vmx_run(&code_nops), REASON_PREEMPTION_TIMER);
    check_eq("vmx-events.timer.zero_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    vmwrite(VMCS_GUEST_PREEMPTION_TIMER, 100);
    check_eq("vmx-events.timer.spin", vmx_run(&code_spin), REASON_PREEMPTION_TIMER);
    vmwrite(VMCS_GUEST_PREEMPTION_TIMER, 100000);
    check_eq("vmx-events.timer.kept", vmx_run(&code_nops), REASON_VMCALL);
    check_eq("vmx-events.timer.kept_value", vmread(VMCS_GUEST_PREEMPTION_TIMER), 100000);
    vmx_set(WORD_EXIT, EXIT_SAVE_PREEMPTION_TIMER);
    check_eq("vmx-events.timer.saved", vmx_run(&code_nops), REASON_VMCALL);
    check("vmx-events.timer.saved_value", vmread(VMCS_GUEST_PREEMPTION_TIMER) <= 100000);
    vmwrite(VMCS_GUEST_PREEMPTION_TIMER, 100);
    check_eq("vmx-events.timer.spin_saved", vmx_run(&code_spin), REASON_PREEMPTION_TIMER);
    check_eq("vmx-events.timer.spin_saved_value", vmread(VMCS_GUEST_PREEMPTION_TIMER), 0);
}

/* --- debug exceptions --- */

static void check_debug(void)
{
    vmx_reset();
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_TF);
    check_eq("vmx-events.debug.step", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.debug.step_information", vmread(VMCS_EXIT_INTERRUPTION),
             VALID | INTERRUPTION_HARDWARE | EXC_DB);
    check_eq("vmx-events.debug.step_qualification", vmread(VMCS_EXIT_QUALIFICATION), BIT(14));
    check_eq("vmx-events.debug.step_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
    vmx_reset();
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_TF);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, PENDING_DEBUG_BS);
    check_eq("vmx-events.debug.pending", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.debug.pending_information", vmread(VMCS_EXIT_INTERRUPTION),
             VALID | INTERRUPTION_HARDWARE | EXC_DB);
    check_eq("vmx-events.debug.pending_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    check_eq("vmx-events.debug.pending_qualification", vmread(VMCS_EXIT_QUALIFICATION), BIT(14));
    vmx_reset();
    vmwrite(VMCS_GUEST_PENDING_DEBUG, BIT(12) | BIT(0));
    check_eq("vmx-events.debug.pending_breakpoint", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.debug.pending_breakpoint_qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0xf, 1);
    /* Blocked by MOV SS: after the next instruction. */
    vmx_reset();
    vmwrite(VMCS_GUEST_PENDING_DEBUG, BIT(12) | BIT(1));
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    check_eq("vmx-events.debug.pending_blocked", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.debug.pending_blocked_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
    /* A breakpoint of DR7 in the VMCS. */
    vmx_reset();
    vmwrite(VMCS_GUEST_DR7, 0x402);
    __asm__ volatile("mov %0, %%dr0" ::"r"((u64)code_nops.start + 2));
    check_eq("vmx-events.debug.breakpoint", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    check_eq("vmx-events.debug.breakpoint_rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 2);
    check_eq("vmx-events.debug.breakpoint_qualification", vmread(VMCS_EXIT_QUALIFICATION) & 0xf, 1);
    check_eq("vmx-events.debug.dr7_saved", vmread(VMCS_GUEST_DR7), 0x402);
    /* L1's DR7 is reset by the exit. */
    u64 dr7;
    __asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
    check_eq("vmx-events.debug.dr7_of_l1", dr7, 0x400);
    vmx_reset();
    vmwrite(VMCS_EXCEPTION_BITMAP, 0);
    check_eq("vmx-events.debug.own_step", vmx_run(&code_pushf_tf) == REASON_VMCALL ? l2.rax : 0,
             L2_VECTOR + EXC_DB);
}

static void check_hlt(void)
{
    vmx_reset();
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_HLT);
    vmwrite(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
    vmwrite(VMCS_ENTRY_INTERRUPTION, VALID | 0x31);
    check_eq("vmx-events.hlt.injection_wakes", vmx_run(&code_nop) == REASON_VMCALL ? l2.rax : 0,
             L2_VECTOR + 0x31);
    check_eq("vmx-events.hlt.active_then", vmread(VMCS_GUEST_ACTIVITY), ACTIVITY_ACTIVE);
}

void group_vmx_events(void)
{
    if (!vmx_start("vmx-events"))
        return;
    check_exceptions();
    check_page_fault_filter();
    check_injections();
    check_vectorings();
    check_own_vectoring();
    check_interrupt_window();
    check_interruptibility();
    check_virtual_nmis();
    check_steps();
    check_debug();
    check_hlt();
    check_real_events();
    vmx_stop();
}
