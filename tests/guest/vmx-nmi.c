/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-nmi: real NMIs and INITs that find L2 or L1, with every combination of NMI exiting and virtual
 * NMIs; and entries right after MOV SS. Source: SDM vol. 3C 26.2, 26.3, 27.1, 28.5.5, 28.6, vol. 3A 7.7.1.
 */
#include "tests/guest/vmx.h"

#define NMI_EXIT (INTERRUPTION_VALID | INTERRUPTION_NMI | EXC_NMI)

/* RBX: where the low half of the APIC's command register is, EAX: the command. */
L2_CODE(code_send, "", "mov %eax, (%rbx)\nnop\nnop");
L2_CODE(code_nops, "nop", "nop\nnop");
L2_CODE(code_iret,
        "mov %ss, %eax\npush %rax\nlea 32(%rsp), %rax\npush %rax\npushfq\nmov %cs, %eax\npush %rax\n"
        "lea 1f(%rip), %rax\npush %rax",
        "iretq\n1: nop\nnop");

L2_CODE(code_iret_alone, "", "iretq");

static u64 stack_page[512] __attribute__((aligned(4096)));

enum { PAGE_STACK = 8, COMMAND = 0xfee00300, COMMAND_NMI = 0x4400, COMMAND_INIT = 0x4500 };

static volatile unsigned nmis;

static bool on_nmi(struct frame *frame)
{
    (void)frame;
    nmis++;
    return true;
}

static void expect(const char *what, u64 got, u64 want)
{
    check_part("vmx-nmi", what, got, want);
}

static void prepare(u64 pin)
{
    vmx_reset();
    vmx_clear(WORD_PIN, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set(WORD_PIN, pin);
    l2.rbx = COMMAND;
    l2.rax = COMMAND_NMI;
    nmis = 0;
}

static void check_exiting(void)
{
    prepare(PIN_NMI_EXITING);
    expect("exit", vmx_run(&code_send), REASON_EXCEPTION_OR_NMI);
    expect("exit.information", vmread(VMCS_EXIT_INTERRUPTION), NMI_EXIT);
    check("vmx-nmi.exit.rip",
          vmread(VMCS_GUEST_RIP) > (u64)code_send.at && vmread(VMCS_GUEST_RIP) <= (u64)code_send.next);
    expect("exit.interruptibility", vmread(VMCS_GUEST_INTERRUPTIBILITY), 0);
    expect("exit.not_l1s", nmis, 0);
    /* The exit blocks NMIs for L1: the next one waits, until L2 runs with NMIs open. */
    apic_send_self(EXC_NMI);
    expect("blocked_in_l1", nmis, 0);
    expect("waits_for_l2", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    expect("waits_for_l2.information", vmread(VMCS_EXIT_INTERRUPTION), NMI_EXIT);
    expect("waits_for_l2.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    /* Or until L1 executes IRET. */
    apic_send_self(EXC_NMI);
    expect("still_blocked", nmis, 0);
    vmx_unblock_nmis();
    expect("iret_unblocks", nmis, 1);
    /* L2 in HLT wakes up for the exit. */
    expect("again", vmx_run(&code_send), REASON_EXCEPTION_OR_NMI);
    apic_send_self(EXC_NMI);
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_HLT);
    expect("hlt", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    expect("hlt.information", vmread(VMCS_EXIT_INTERRUPTION), NMI_EXIT);
    expect("hlt.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
    /* MOV SS holds it back for an instruction. */
    apic_send_self(EXC_NMI);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    expect("mov_ss", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    expect("mov_ss.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start + 1);
    /* An injected event is delivered first. */
    apic_send_self(EXC_NMI);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
    expect("after_injection", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    expect("after_injection.information", vmread(VMCS_EXIT_INTERRUPTION), NMI_EXIT);
    expect("after_injection.rip", vmread(VMCS_GUEST_RIP), (u64)l2_vectors + 16 * EXC_UD);
    /* A VMCS is launched by an entry after which L2 had no time to do anything, too. */
    (void)try_vmclear((u64)vmcs_region);
    (void)try_vmptrld((u64)vmcs_region);
    apic_send_self(EXC_NMI);
    expect("first_entry", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    expect("first_entry.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    expect("first_entry.launched", try_vmlaunch(), END_VALID);
    expect("first_entry.launched_error", vmread(VMCS_INSTRUCTION_ERROR), 4);
    expect("first_entry.resume", vmx_run(&code_nops), REASON_VMCALL);
    vmx_unblock_nmis();
}

/* An NMI has come out of L2, so that L1's are blocked, and the next one waits. */
static void prepare_waiting(u64 pin)
{
    prepare(pin);
    expect("order.exit", vmx_run(&code_send), REASON_EXCEPTION_OR_NMI);
    apic_send_self(EXC_NMI);
    expect("order.waits", nmis, 0);
}

/* What comes before an NMI that waits for L2, and then leaves it to L1: the timer, and an NMI-window exit. */
static void check_order(void)
{
    prepare_waiting(PIN_NMI_EXITING);
    vmx_set(WORD_PIN, PIN_PREEMPTION_TIMER);
    vmwrite(VMCS_GUEST_PREEMPTION_TIMER, 0);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
    expect("order.timer", vmx_run(&code_nops), REASON_PREEMPTION_TIMER);
    expect("order.timer.rip", vmread(VMCS_GUEST_RIP), (u64)l2_vectors + 16 * EXC_UD);
    expect("order.timer.in_l1", nmis, 1);
    prepare_waiting(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set(WORD_PRIMARY, PRIMARY_NMI_WINDOW);
    expect("order.window", vmx_run(&code_nops), REASON_NMI_WINDOW);
    expect("order.window.in_l1", nmis, 1);
    prepare_waiting(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set(WORD_PRIMARY, PRIMARY_NMI_WINDOW);
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE | EXC_UD);
    expect("order.window_after_event", vmx_run(&code_nops), REASON_NMI_WINDOW);
    expect("order.window_after_event.rip", vmread(VMCS_GUEST_RIP), (u64)l2_vectors + 16 * EXC_UD);
    /* Not a breakpoint that DR7 does not enable, and it is forgotten. */
    prepare_waiting(PIN_NMI_EXITING);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, 1);
    expect("order.breakpoint", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    expect("order.breakpoint.rip", vmread(VMCS_GUEST_RIP), (u64)code_nops.start);
    expect("order.breakpoint.pending", vmread(VMCS_GUEST_PENDING_DEBUG), 0);
    vmx_unblock_nmis();
}

/* Without virtual NMIs the blocking that L1 gives L2 is the CPU's, and L2's IRET does not end it. */
static void check_blocked(void)
{
    prepare(PIN_NMI_EXITING);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    expect("blocked", vmx_run(&code_send), REASON_VMCALL);
    expect("blocked.saved", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    expect("blocked.in_l1", nmis, 0);
    expect("blocked.iret", vmx_run(&code_iret), REASON_VMCALL);
    expect("blocked.after_iret", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    vmx_unblock_nmis();
    expect("blocked.arrives_in_l1", nmis, 1);
    /* One that is injected blocks the next. */
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmwrite(VMCS_ENTRY_INTERRUPTION, NMI_EXIT);
    expect("injected", vmx_run(&code_nops) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_NMI);
    expect("injected.saved", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    apic_send_self(EXC_NMI);
    expect("injected.blocks_l1", nmis, 1);
    vmx_unblock_nmis();
    expect("injected.arrives_in_l1", nmis, 2);
}

static void check_own(void)
{
    prepare(0);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    expect("own", vmx_run(&code_send) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_NMI);
    expect("own.blocks", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    expect("own.not_l1s", nmis, 0);
    /* The blocking has come along to L1. */
    apic_send_self(EXC_NMI);
    expect("own.blocks_l1", nmis, 0);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    expect("own.iret", vmx_run(&code_iret) == REASON_VMCALL ? l2.rax : 0, L2_VECTOR + EXC_NMI);
    expect("own.iret_rip", *(u64 *)vmread(VMCS_GUEST_RSP), (u64)code_iret.next - 2);
    vmx_unblock_nmis();
    expect("own.none_left", nmis, 0);
}

/* With virtual NMIs L2's blocking is its own: a real NMI always exits. */
static void check_virtual(void)
{
    if (!vmx_has(WORD_PIN, PIN_VIRTUAL_NMIS)) {
        note_skipped("vmx-nmi.virtual", "not offered");
        return;
    }
    prepare(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    expect("virtual.exit", vmx_run(&code_send), REASON_EXCEPTION_OR_NMI);
    expect("virtual.information", vmread(VMCS_EXIT_INTERRUPTION), NMI_EXIT);
    expect("virtual.blocking_kept", vmread(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
    apic_send_self(EXC_NMI);
    expect("virtual.blocked_in_l1", nmis, 0);
    expect("virtual.next", vmx_run(&code_nops), REASON_EXCEPTION_OR_NMI);
    /* L2's IRET ends its virtual blocking, and says so to the window. */
    vmx_set(WORD_PRIMARY, PRIMARY_NMI_WINDOW);
    expect("virtual.window", vmx_run(&code_iret), REASON_NMI_WINDOW);
    vmx_unblock_nmis();
    expect("virtual.none_left", nmis, 0);
    /* Other exits do not block NMIs for L1, whatever L2 has blocked. */
    prepare(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    expect("virtual.other_exit", vmx_run(&code_nops), REASON_VMCALL);
    apic_send_self(EXC_NMI);
    expect("virtual.open_in_l1", nmis, 1);
}

/*
 * IRET has ended the blocking when its read of the stack is denied: the exit says so, since L1 has to block
 * again before L2 repeats it (SDM vol. 3C 28.2.3). A violation that is none of L1's shows nothing of that.
 */
static void check_iret_fault(const char *name, u64 pin)
{
    char prefix[64];
    u64 *stack = l2_window(PAGE_STACK, PTE_P | PTE_W | PTE_A | PTE_D);

    print_to(prefix, sizeof(prefix), "vmx-nmi.%s", name);
    if (!vmx_has(WORD_PIN, pin)) {
        note_skipped(prefix, "not offered");
        return;
    }
    prepare(pin);
    stack_page[0] = (u64)code_iret_alone.next;
    stack_page[1] = SEL_CODE64;
    stack_page[2] = 2;
    stack_page[3] = (u64)l2_stack + PAGE_SIZE - 64;
    stack_page[4] = SEL_DATA;
    vmwrite(VMCS_GUEST_RSP, (u64)stack);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    check_part(prefix, "denied", vmx_run(&code_iret_alone), REASON_EPT_VIOLATION);
    check_part(prefix, "unblocked", vmread(VMCS_EXIT_QUALIFICATION) & BIT(12), BIT(12));
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)code_iret_alone.at);
    ept_window[PAGE_STACK] = (u64)stack_page | EPT_RWX | EPT_WB;
    (void)try_invept(2, 0, 0);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
    check_part(prefix, "runs", vmx_run(&code_iret_alone), REASON_VMCALL);
    check_part(prefix, "then_open", vmread(VMCS_GUEST_INTERRUPTIBILITY), 0);
    vmx_unblock_nmis();
}

/* --- INIT --- */

/* In VMX operation L1 is not reset by it; L2 is stopped. */
static void check_init(void)
{
    prepare(0);
    l2.rax = COMMAND_INIT;
    expect("init.exit", vmx_run(&code_send), REASON_INIT);
    check("vmx-nmi.init.rip", vmread(VMCS_GUEST_RIP) > (u64)code_send.at);
    prepare(0);
    expect("init.once", vmx_run(&code_nops), REASON_VMCALL);
}

/* --- MOV SS --- */

static u64 after_mov_ss(bool launch)
{
    u64 flags;

    __asm__ volatile("mov %%ss, %%eax\ntestl %1, %1\njz 1f\nmov %%eax, %%ss\nvmlaunch\njmp 2f\n"
                     "1: mov %%eax, %%ss\nvmresume\n2: pushfq\npopq %0"
                     : "=&r"(flags)
                     : "r"((u32)launch)
                     : "rax", "memory", "cc");
    return flags & END_FLAGS;
}

static void check_mov_ss(void)
{
    (void)try_vmclear((u64)vmcs_region);
    (void)try_vmptrld((u64)vmcs_region);
    vmx_reset();
    expect("mov_ss.vmlaunch", after_mov_ss(true), END_VALID);
    expect("mov_ss.vmlaunch_error", vmread(VMCS_INSTRUCTION_ERROR), 26);
    expect("mov_ss.vmresume", after_mov_ss(false), END_VALID);
    expect("mov_ss.vmresume_error", vmread(VMCS_INSTRUCTION_ERROR), 26);
    /* It is looked at before the controls. */
    vmwrite(VMCS_PIN_CONTROLS, 0);
    expect("mov_ss.first", after_mov_ss(true), END_VALID);
    expect("mov_ss.first_error", vmread(VMCS_INSTRUCTION_ERROR), 26);
    vmx_reset();
    expect("mov_ss.good_again", vmx_run(&code_nops), REASON_VMCALL);
}

void group_vmx_nmi(void)
{
    if (!vmx_start("vmx-nmi"))
        return;
    apic_init();
    trap_set_hook(EXC_NMI, on_nmi);
    check_mov_ss();
    if (vmx_has(WORD_PIN, PIN_NMI_EXITING)) {
        check_exiting();
        check_order();
        check_blocked();
        check_virtual();
    }
    check_own();
    check_iret_fault("own_iret_fault", 0);
    check_iret_fault("virtual_iret_fault", PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    check_init();
    trap_set_hook(EXC_NMI, NULL);
    vmx_stop();
}
