/* SPDX-License-Identifier: MIT */
/*
 * Group svm-features: what L1 may hand to the CPU to do for L2, where the CPU can: the TSC ratio, virtual
 * NMIs, last branch records. Source: APM vol. 2 15.21.10, 15.23, 15.30.5.
 */
#include "tests/guest/svm.h"

enum { SVM_HAS_LBR = 1 << 1, SVM_HAS_TSC_RATIO = 1 << 4, SVM_HAS_VIRTUAL_NMI = 1 << 25, PAGE_HOLE = 12 };

#define SAVE_TSC "shl $32, %rdx\nor %rdx, %rax\nmov %rax, %rsi"
L2_CODE(code_rdtsc, "rdtsc", SAVE_TSC);
L2_CODE(code_rdtscp, "rdtscp", SAVE_TSC);
L2_CODE(code_cpuid_rdtsc, "cpuid\nrdtsc", SAVE_TSC);
L2_CODE(code_wrmsr_rdtsc, "wrmsr\nrdtsc", SAVE_TSC);

/* --- TSC ratio --- */

static u64 scaled(u64 tsc, u64 ratio)
{
    return (u64)((unsigned __int128)tsc * ratio >> 32);
}

/* L2's time is between those of L1 before and after, as L2 should see them. */
static void expect_time(const char *name, const struct l2_code *code, u64 ratio, u64 offset)
{
    char prefix[64];
    u64 before, after;

    print_to(prefix, sizeof(prefix), "svm-features.tsc_ratio.%s", name);
    vmcb.control.tsc_offset = offset;
    vmcb.control.clean = 0;
    before = rdtsc();
    check_part(prefix, "exit", svm_run(code), VMEXIT_VMMCALL);
    after = rdtsc();
    check_part(prefix, "not_before", l2.rsi - offset >= scaled(before, ratio), true);
    check_part(prefix, "not_after", l2.rsi - offset <= scaled(after, ratio), true);
}

static void check_tsc_msr(void)
{
    check_eq("svm-features.tsc_ratio.first", rdmsr(MSR_TSC_RATIO), TSC_RATIO_ONE);
    for (unsigned bit = 40; bit < 64; bit++)
        check_eq("svm-features.tsc_ratio.reserved", try_wrmsr(MSR_TSC_RATIO, TSC_RATIO_ONE | BIT(bit)),
                 EXC_GP);
    check_eq("svm-features.tsc_ratio.kept", rdmsr(MSR_TSC_RATIO), TSC_RATIO_ONE);
    check_eq("svm-features.tsc_ratio.write", try_wrmsr(MSR_TSC_RATIO, BITS(39, 0)), NO_FAULT);
    check_eq("svm-features.tsc_ratio.read", rdmsr(MSR_TSC_RATIO), BITS(39, 0));
}

static void check_tsc_ratio(void)
{
    static const u64 ratios[] = {
        TSC_RATIO_ONE, TSC_RATIO_ONE / 2, 2 * TSC_RATIO_ONE, 10 * TSC_RATIO_ONE + 12345, 0, 1000,
    };
    u64 before;

    if (!svm_has(SVM_HAS_TSC_RATIO)) {
        note_skipped("svm-features.tsc_ratio", "not offered");
        return;
    }
    check_tsc_msr();
    svm_reset();
    for (unsigned i = 0; i < ARRAY_SIZE(ratios); i++) {
        wrmsr(MSR_TSC_RATIO, ratios[i]);
        expect_time("rdtsc", &code_rdtsc, ratios[i], 0);
        expect_time("offset", &code_rdtsc, ratios[i], 0x123456789abcdef0);
        expect_time("rdtscp", &code_rdtscp, ratios[i], ~0ull);
        /* An exit that L1 does not see in between. */
        expect_time("cpuid", &code_cpuid_rdtsc, ratios[i], 5);
    }
    /* The host's is never scaled. */
    before = rdtsc();
    wrmsr(MSR_TSC_RATIO, 0);
    check_eq("svm-features.tsc_ratio.of_l1", rdtsc() > before, true);
    svm_intercept(EXIT_RDTSC);
    vmcb.control.clean = 0;
    check_eq("svm-features.tsc_ratio.intercepted", svm_run(&code_rdtsc), EXIT_RDTSC);
    svm_allow(EXIT_RDTSC);
    /* L2 may be given the MSR itself, which is L1's. */
    l2.rcx = MSR_TSC_RATIO;
    l2.rax = 0;
    l2.rdx = 3;
    expect_time("of_l2", &code_wrmsr_rdtsc, 3 * TSC_RATIO_ONE, 0);
    check_eq("svm-features.tsc_ratio.left_by_l2", rdmsr(MSR_TSC_RATIO), 3 * TSC_RATIO_ONE);
    check_eq("svm-features.tsc_ratio.of_l1_after", rdtsc() - before < before, true);
    wrmsr(MSR_TSC_RATIO, TSC_RATIO_ONE);
}

/* --- virtual NMIs --- */

L2_CODE(code_nops, "nop\nnop", "nop");
L2_CODE(code_stgi, "nop", "stgi\nnop");
L2_CODE(code_clgi, "clgi\nnop", "nop");
/* From the handler to what follows. */
#define RETURN                                                                                               \
    "mov %ss, %eax\npush %rax\npush %rsp\npushf\nmov %cs, %eax\npush %rax\nlea 1f(%rip), %rax\n"             \
    "push %rax\nxor %eax, %eax"
L2_CODE(code_iret, RETURN, "iretq\n1:");
L2_CODE(code_clgi_iret, "clgi\n" RETURN, "iretq\n1: nop");

#define NMI_STATE (V_NMI | V_NMI_MASK | V_NMI_ENABLE)

static const u64 *frame(void)
{
    return (const u64 *)vmcb.save.rsp;
}

static void prepare_nmi(u64 v_intr)
{
    svm_reset();
    svm_intercept(VMEXIT_NMI);
    vmcb.control.v_intr = V_NMI_ENABLE | v_intr;
}

/* L2 gets as far as its VMMCALL, or into its handler at `rip`. */
static void expect_nmi(const char *name, const struct l2_code *code, const u8 *rip, u64 left)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-features.vnmi.%s", name);
    check_part(prefix, "exit", svm_run(code), VMEXIT_VMMCALL);
    check_part(prefix, "taken", l2.rax == L2_VECTOR + EXC_NMI, rip != NULL);
    if (rip != NULL && l2.rax == L2_VECTOR + EXC_NMI)
        check_part(prefix, "rip", frame()[0], (u64)rip);
    check_part(prefix, "left", vmcb.control.v_intr & NMI_STATE, V_NMI_ENABLE | left);
    check_part(prefix, "no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
}

static void check_blocking(void)
{
    prepare_nmi(V_NMI);
    expect_nmi("at_once", &code_nops, code_nops.start, V_NMI_MASK);
    prepare_nmi(V_NMI | V_NMI_MASK);
    expect_nmi("masked", &code_nops, NULL, V_NMI | V_NMI_MASK);
    prepare_nmi(V_NMI_MASK);
    expect_nmi("after_iret", &code_iret, NULL, 0);
    prepare_nmi(V_NMI | V_NMI_MASK);
    expect_nmi("pending_after_iret", &code_iret, code_iret.next, V_NMI_MASK);
    prepare_nmi(0);
    expect_nmi("none", &code_nops, NULL, 0);
    prepare_nmi(V_NMI);
    vmcb.control.v_intr &= ~V_NMI_ENABLE;
    check_eq("svm-features.vnmi.off", svm_run_vector(&code_nops), 0);
    /* All is called clean: V_NMI is read at each VMRUN all the same. */
    prepare_nmi(0);
    expect_nmi("first_run", &code_nops, NULL, 0);
    vmcb.control.clean = ~(u32)CLEAN_TPR;
    vmcb.control.v_intr |= V_NMI;
    expect_nmi("second_run", &code_nops, code_nops.start, V_NMI_MASK);
    prepare_nmi(0);
    svm_allow(VMEXIT_NMI);
    check_eq("svm-features.vnmi.without_intercept", svm_run(&code_nops), VMEXIT_INVALID);
}

static void check_injected_nmi(void)
{
    prepare_nmi(0);
    vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_NMI | EXC_NMI;
    expect_nmi("injected", &code_nops, code_nops.start, V_NMI_MASK);
    /* Another waits for the handler's end. */
    prepare_nmi(V_NMI);
    vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_NMI | EXC_NMI;
    expect_nmi("injected_first", &code_nops, code_nops.start, V_NMI | V_NMI_MASK);
    /* After another event it comes in that one's handler. */
    prepare_nmi(V_NMI);
    vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_INTR | 0x52;
    expect_nmi("after_interrupt", &code_nops, svm_l2_vectors + 16 * 0x52, V_NMI_MASK);
}

/* L1 hears of a delivery that it has to mend, and the NMI counts as taken. */
static void check_interrupted_delivery(void)
{
    prepare_nmi(V_NMI);
    vmcb.save.idtr.base = (u64)l2_window(PAGE_HOLE, PTE_P | PTE_W | PTE_A | PTE_D);
    npt_window[PAGE_HOLE] = 0;
    check_eq("svm-features.vnmi.delivery_exit", svm_run(&code_nops), VMEXIT_NPF);
    check_eq("svm-features.vnmi.delivery_event", vmcb.control.exit_int_info & BITS(31, 0),
             EVENT_VALID | EVENT_TYPE_NMI | EXC_NMI);
    check_eq("svm-features.vnmi.delivery_state", vmcb.control.v_intr & NMI_STATE, V_NMI_ENABLE);
    npt_window[PAGE_HOLE] = (u64)l2_idt | NPT_ALL;
    vmcb.control.event_inj = EVENT_VALID | EVENT_TYPE_NMI | EXC_NMI;
    check_eq("svm-features.vnmi.delivery_again", svm_resume(), VMEXIT_VMMCALL);
    check_eq("svm-features.vnmi.delivery_vector", l2.rax, L2_VECTOR + EXC_NMI);
    check_eq("svm-features.vnmi.delivery_masked", vmcb.control.v_intr & NMI_STATE, V_NMI_ENABLE | V_NMI_MASK);
}

static volatile unsigned nmis;

static bool take_nmi(struct frame *at)
{
    (void)at;
    nmis++;
    return true;
}

/* Virtual ones neither block real ones nor take their place. */
static void check_real_nmi(u64 v_intr)
{
    prepare_nmi(v_intr);
    nmis = 0;
    (void)try_clgi();
    apic_send_self(EXC_NMI);
    svm_enter_flags = ENTER_KEEP_GIF;
    check_eq("svm-features.vnmi.real_exit", svm_run(&code_nops), VMEXIT_NMI);
    check_eq("svm-features.vnmi.real_rip", vmcb.save.rip, (u64)code_nops.start);
    check_eq("svm-features.vnmi.real_left", vmcb.control.v_intr & NMI_STATE, V_NMI_ENABLE | v_intr);
    (void)try_stgi();
    check_eq("svm-features.vnmi.real_is_l1s", nmis, 1);
    svm_enter_flags = 0;
    expect_nmi("after_real", &code_nops, NULL, v_intr);
    /* The handlers of L2 have left the real ones as they were. */
    apic_send_self(EXC_NMI);
    check_eq("svm-features.vnmi.real_again", nmis, 2);
}

static void check_virtual_nmi(void)
{
    if (!svm_has(SVM_HAS_VIRTUAL_NMI)) {
        note_skipped("svm-features.vnmi", "not offered");
        return;
    }
    check_blocking();
    check_injected_nmi();
    check_interrupted_delivery();
    apic_init();
    trap_set_hook(EXC_NMI, take_nmi);
    check_real_nmi(0);
    check_real_nmi(V_NMI_MASK);
    check_real_nmi(V_NMI | V_NMI_MASK);
    trap_set_hook(EXC_NMI, NULL);
    /* L2's CLGI is L1's: not intercepted, and no virtual GIF. */
    prepare_nmi(V_NMI | V_NMI_MASK);
    expect_nmi("lent_gif", &code_clgi_iret, NULL, V_NMI);
    if (!svm_has(SVM_HAS_VGIF))
        return;
    prepare_nmi(V_NMI | V_GIF_ENABLE);
    expect_nmi("gif_clear", &code_nops, NULL, V_NMI);
    expect_nmi("gif_set", &code_stgi, code_stgi.at + 3, V_NMI_MASK);
    prepare_nmi(V_GIF_ENABLE | V_GIF);
    expect_nmi("gif_cleared", &code_clgi, NULL, 0);
    vmcb.control.v_intr |= V_NMI;
    expect_nmi("gif_cleared_pending", &code_nops, NULL, V_NMI);
}

/* --- LBR virtualization --- */

/* DebugCtl and LastBranchFromIP as L2 finds them, and another DebugCtl: BTF, which does nothing without TF.
 */
L2_CODE(code_lbr,
        "mov $0x1d9, %ecx\nrdmsr\nmov %rax, %rsi\nmov $0x1db, %ecx\nrdmsr\nshl $32, %rdx\nor %rdx, %rax\n"
        "mov %rax, %rdi\nmov $0x1d9, %ecx\nxor %edx, %edx\nmov $2, %eax",
        "wrmsr");
L2_CODE(code_branch, "mov $0x1d9, %ecx\nxor %edx, %edx\nmov $1, %eax\nwrmsr\nxor %eax, %eax",
        "jmp 1f\nnop\n1: wrmsr");

enum { DEBUGCTL_BTF = 2, JMP_BYTES = 2 };

static void prepare_lbr(u64 lbr_control)
{
    svm_reset();
    wrmsr(MSR_IA32_DEBUGCTL, 0);
    vmcb.control.lbr_control = lbr_control;
    vmcb.save.dbgctl = 0;
    vmcb.save.br_from = 0x12345678;
    vmcb.save.br_to = 0x23456789;
}

static void check_lbr(void)
{
    if (!svm_has(SVM_HAS_LBR)) {
        note_skipped("svm-features.lbr", "not offered");
        return;
    }
    prepare_lbr(LBR_VIRTUALIZATION_ENABLE);
    wrmsr(MSR_IA32_DEBUGCTL, DEBUGCTL_BTF);
    check_eq("svm-features.lbr.exit", svm_run(&code_lbr), VMEXIT_VMMCALL);
    check_eq("svm-features.lbr.debugctl_in", l2.rsi, 0);
    check_eq("svm-features.lbr.from_in", l2.rdi, 0x12345678);
    check_eq("svm-features.lbr.debugctl_out", vmcb.save.dbgctl, DEBUGCTL_BTF);
    check_eq("svm-features.lbr.from_out", vmcb.save.br_from, 0x12345678);
    check_eq("svm-features.lbr.to_out", vmcb.save.br_to, 0x23456789);
    check_eq("svm-features.lbr.of_l1", rdmsr(MSR_IA32_DEBUGCTL), DEBUGCTL_BTF);
    /* A group with a clean bit of its own. */
    wrmsr(MSR_IA32_DEBUGCTL, 0);
    vmcb.control.clean = ~(u32)CLEAN_LBR;
    vmcb.save.dbgctl = 0;
    vmcb.save.br_from = 0x3456789a;
    check_eq("svm-features.lbr.changed_exit", svm_run(&code_lbr), VMEXIT_VMMCALL);
    check_eq("svm-features.lbr.changed_debugctl", l2.rsi, 0);
    check_eq("svm-features.lbr.changed_from", l2.rdi, 0x3456789a);
    check_eq("svm-features.lbr.of_l1_still", rdmsr(MSR_IA32_DEBUGCTL), 0);
    /* L2's branches are its own. */
    prepare_lbr(LBR_VIRTUALIZATION_ENABLE);
    check_eq("svm-features.lbr.branch_exit", svm_run(&code_branch), VMEXIT_VMMCALL);
    check_eq("svm-features.lbr.branch_from", vmcb.save.br_from, (u64)code_branch.at);
    check_eq("svm-features.lbr.branch_to", vmcb.save.br_to, (u64)code_branch.at + JMP_BYTES + 1);
    /* Without it, L1 and L2 share them. */
    prepare_lbr(0);
    check_eq("svm-features.lbr.shared_exit", svm_run(&code_lbr), VMEXIT_VMMCALL);
    check_eq("svm-features.lbr.shared", rdmsr(MSR_IA32_DEBUGCTL), DEBUGCTL_BTF);
    check_eq("svm-features.lbr.untouched", vmcb.save.br_from, 0x12345678);
    wrmsr(MSR_IA32_DEBUGCTL, 0);
}

void group_svm_features(void)
{
    if (!svm_start("svm-features"))
        return;
    check_tsc_ratio();
    check_virtual_nmi();
    check_lbr();
    svm_stop();
}
