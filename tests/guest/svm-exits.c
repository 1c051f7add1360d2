/* SPDX-License-Identifier: MIT */
/*
 * Group svm-exits: every instruction by which L2 can exit, with exit code and EXITINFO, that it runs through
 * where its intercept is off, and that its faults come first; both permission maps. Source: APM vol. 2 15.7
 * to 15.11, 15.14, appendix C.
 */
#include "tests/guest/svm.h"

extern u64 gdt[];

static u8 data[PAGE_SIZE] __attribute__((aligned(4096)));
static struct vmcb other __attribute__((aligned(4096)));

L2_CODE(code_read_cr0, "", "mov %cr0, %r9");
L2_CODE(code_read_cr2, "", "mov %cr2, %r9");
L2_CODE(code_read_cr3, "", "mov %cr3, %r9");
L2_CODE(code_read_cr4, "", "mov %cr4, %r9");
L2_CODE(code_read_cr8, "", "mov %cr8, %r9");
L2_CODE(code_write_cr0, "mov %cr0, %rdx", "mov %rdx, %cr0");
L2_CODE(code_write_cr2, "mov %cr2, %rdx", "mov %rdx, %cr2");
L2_CODE(code_write_cr3, "mov %cr3, %rdx", "mov %rdx, %cr3");
L2_CODE(code_write_cr4, "mov %cr4, %rdx", "mov %rdx, %cr4");
L2_CODE(code_write_cr8, "xor %edx, %edx", "mov %rdx, %cr8");
L2_CODE(code_smsw, "", "smsw %rdx");
L2_CODE(code_clts, "", "clts");
L2_CODE(code_lmsw, "mov $0xb, %ecx", "lmsw %cx");
L2_CODE(code_cr0_by_rcx, "", "mov %rcx, %cr0");
L2_CODE(code_read_dr0, "", "mov %dr0, %r14");
L2_CODE(code_read_dr1, "", "mov %dr1, %r14");
L2_CODE(code_read_dr2, "", "mov %dr2, %r14");
L2_CODE(code_read_dr3, "", "mov %dr3, %r14");
L2_CODE(code_read_dr6, "", "mov %dr6, %r14");
L2_CODE(code_read_dr7, "", "mov %dr7, %r14");
L2_CODE(code_write_dr0, "xor %ecx, %ecx", "mov %rcx, %dr0");
L2_CODE(code_write_dr1, "xor %ecx, %ecx", "mov %rcx, %dr1");
L2_CODE(code_write_dr2, "xor %ecx, %ecx", "mov %rcx, %dr2");
L2_CODE(code_write_dr3, "xor %ecx, %ecx", "mov %rcx, %dr3");
L2_CODE(code_write_dr6, "mov $0xffff0ff0, %ecx", "mov %rcx, %dr6");
L2_CODE(code_write_dr7, "mov $0x400, %ecx", "mov %rcx, %dr7");
L2_CODE(code_sidt, "", "sidt 0x28(%rbx)");
L2_CODE(code_sgdt, "", "sgdt 0x18(%rbx)");
L2_CODE(code_sldt, "", "sldt %r8d");
L2_CODE(code_str, "", "str 2(%rbx)");
L2_CODE(code_lidt, "sidt (%rbx)", "lidt (%rbx)");
L2_CODE(code_lgdt, "sgdt (%rbx)", "lgdt (%rbx)");
L2_CODE(code_lldt, "xor %ecx, %ecx", "lldt %cx");
L2_CODE(code_ltr, "andb $~2, 0x55(%r15)\nmov $0x50, %ecx", "ltr %cx");
L2_CODE(code_rdtsc, "", "rdtsc");
L2_CODE(code_rdtscp, "", "rdtscp");
L2_CODE(code_rdpmc, "xor %ecx, %ecx", "rdpmc");
L2_CODE(code_pushf, "", "pushfq");
L2_CODE(code_popf, "pushfq", "popfq");
L2_CODE(code_cpuid, "", "cpuid");
L2_CODE(code_rsm, "", "rsm");
L2_CODE(code_iret,
        "mov %ss, %eax\npush %rax\nlea 32(%rsp), %rax\npush %rax\npushfq\nmov %cs, %eax\npush %rax\n"
        "lea 1f(%rip), %rax\npush %rax",
        "iretq\n1:");
L2_CODE(code_int, "", "int $0x45");
L2_CODE(code_invd, "", "invd");
L2_CODE(code_pause, "", "pause");
L2_CODE(code_hlt, "", "hlt");
L2_CODE(code_invlpg, "", "invlpg 0x30(%rbx)");
L2_CODE(code_invlpga, "mov $2, %ecx\nmov %rbx, %rax", "invlpga %rax, %ecx");
L2_CODE(code_vmrun, "mov %rbx, %rax", "vmrun %rax");
L2_CODE(code_vmmcall, "", "vmmcall");
L2_CODE(code_vmload, "mov %rbx, %rax", "vmload %rax");
L2_CODE(code_vmsave, "mov %rbx, %rax", "vmsave %rax");
L2_CODE(code_stgi, "", "stgi");
L2_CODE(code_clgi, "", "clgi");
L2_CODE(code_skinit, "mov %ebx, %eax", "skinit %eax");
L2_CODE(code_icebp, "", ".byte 0xf1");
L2_CODE(code_wbinvd, "", "wbinvd");
L2_CODE(code_monitor, "mov %rbx, %rax\nxor %ecx, %ecx\nxor %edx, %edx", "monitor");
L2_CODE(code_mwait, "xor %eax, %eax\nxor %ecx, %ecx", "mwait");
L2_CODE(code_xsetbv, "xor %ecx, %ecx\nxgetbv", "xsetbv");
L2_CODE(code_rdmsr, "mov $0x174, %ecx", "rdmsr");
L2_CODE(code_wrmsr, "mov $0x174, %ecx\nxor %eax, %eax\nxor %edx, %edx", "wrmsr");

/* --- one instruction, one intercept --- */

enum { NOT_WITHOUT = 1 }; /* cannot run through */
static const struct exit_case {
    const char *name;
    const struct l2_code *code;
    u32 exit;
    u32 flags;
} exit_cases[] = {
    {"read_cr0", &code_read_cr0, VMEXIT_CR0_READ, 0},
    {"read_cr2", &code_read_cr2, VMEXIT_CR0_READ + 2, 0},
    {"read_cr3", &code_read_cr3, VMEXIT_CR0_READ + 3, 0},
    {"read_cr4", &code_read_cr4, VMEXIT_CR0_READ + 4, 0},
    {"read_cr8", &code_read_cr8, VMEXIT_CR0_READ + 8, 0},
    {"smsw", &code_smsw, VMEXIT_CR0_READ, 0},
    {"write_cr0", &code_write_cr0, VMEXIT_CR0_WRITE, 0},
    {"write_cr2", &code_write_cr2, VMEXIT_CR0_WRITE + 2, 0},
    {"write_cr3", &code_write_cr3, VMEXIT_CR0_WRITE + 3, 0},
    {"write_cr4", &code_write_cr4, VMEXIT_CR0_WRITE + 4, 0},
    {"write_cr8", &code_write_cr8, VMEXIT_CR0_WRITE + 8, 0},
    {"clts", &code_clts, VMEXIT_CR0_WRITE, 0},
    {"lmsw", &code_lmsw, VMEXIT_CR0_WRITE, 0},
    {"read_dr0", &code_read_dr0, VMEXIT_DR0_READ, 0},
    {"read_dr1", &code_read_dr1, VMEXIT_DR0_READ + 1, 0},
    {"read_dr2", &code_read_dr2, VMEXIT_DR0_READ + 2, 0},
    {"read_dr3", &code_read_dr3, VMEXIT_DR0_READ + 3, 0},
    {"read_dr6", &code_read_dr6, VMEXIT_DR0_READ + 6, 0},
    {"read_dr7", &code_read_dr7, VMEXIT_DR0_READ + 7, 0},
    {"write_dr0", &code_write_dr0, VMEXIT_DR0_WRITE, 0},
    {"write_dr1", &code_write_dr1, VMEXIT_DR0_WRITE + 1, 0},
    {"write_dr2", &code_write_dr2, VMEXIT_DR0_WRITE + 2, 0},
    {"write_dr3", &code_write_dr3, VMEXIT_DR0_WRITE + 3, 0},
    {"write_dr6", &code_write_dr6, VMEXIT_DR0_WRITE + 6, 0},
    {"write_dr7", &code_write_dr7, VMEXIT_DR0_WRITE + 7, 0},
    {"sidt", &code_sidt, EXIT_IDTR_READ, 0},
    {"sgdt", &code_sgdt, EXIT_GDTR_READ, 0},
    {"sldt", &code_sldt, EXIT_LDTR_READ, 0},
    {"str", &code_str, EXIT_TR_READ, 0},
    {"lidt", &code_lidt, EXIT_IDTR_WRITE, 0},
    {"lgdt", &code_lgdt, EXIT_GDTR_WRITE, 0},
    {"lldt", &code_lldt, EXIT_LDTR_WRITE, 0},
    {"ltr", &code_ltr, EXIT_TR_WRITE, 0},
    {"rdtsc", &code_rdtsc, EXIT_RDTSC, 0},
    {"rdtscp", &code_rdtscp, EXIT_RDTSCP, 0},
    {"rdpmc", &code_rdpmc, EXIT_RDPMC, NOT_WITHOUT},
    {"pushf", &code_pushf, EXIT_PUSHF, 0},
    {"popf", &code_popf, EXIT_POPF, 0},
    {"cpuid", &code_cpuid, VMEXIT_CPUID, 0},
    {"rsm", &code_rsm, EXIT_RSM, NOT_WITHOUT},
    {"iret", &code_iret, EXIT_IRET, 0},
    {"int", &code_int, EXIT_SWINT, NOT_WITHOUT},
    {"invd", &code_invd, VMEXIT_INVD, 0},
    {"pause", &code_pause, EXIT_PAUSE, 0},
    {"hlt", &code_hlt, EXIT_HLT, NOT_WITHOUT},
    {"invlpg", &code_invlpg, EXIT_INVLPG, 0},
    {"invlpga", &code_invlpga, VMEXIT_INVLPGA, 0},
    {"vmrun", &code_vmrun, VMEXIT_VMRUN, NOT_WITHOUT},
    {"vmmcall", &code_vmmcall, VMEXIT_VMMCALL, NOT_WITHOUT},
    {"vmload", &code_vmload, VMEXIT_VMLOAD, NOT_WITHOUT},
    {"vmsave", &code_vmsave, VMEXIT_VMSAVE, 0},
    {"stgi", &code_stgi, VMEXIT_STGI, NOT_WITHOUT},
    {"clgi", &code_clgi, VMEXIT_CLGI, NOT_WITHOUT},
    {"skinit", &code_skinit, VMEXIT_SKINIT, NOT_WITHOUT},
    {"icebp", &code_icebp, EXIT_ICEBP, NOT_WITHOUT},
    {"wbinvd", &code_wbinvd, EXIT_WBINVD, 0},
    {"monitor", &code_monitor, EXIT_MONITOR, 0},
    {"mwait", &code_mwait, EXIT_MWAIT, NOT_WITHOUT},
    {"xsetbv", &code_xsetbv, VMEXIT_XSETBV, 0},
};

static void prepare(void)
{
    svm_reset();
    memset(data, 0, sizeof(data));
    l2.rbx = (u64)data;
    l2.r15 = (u64)gdt;
    vmcb.save.cr4 |= CR4_OSXSAVE;
}

static void expect_exit(const char *prefix, const struct l2_code *code, u64 got, u64 want)
{
    check_part(prefix, "exit", got, want);
    check_part(prefix, "rip", vmcb.save.rip, (u64)code->at);
    check_part(prefix, "no_event", vmcb.control.exit_int_info & EVENT_VALID, 0);
    if (svm_has(SVM_HAS_NRIPS))
        check_part(prefix, "n_rip", vmcb.control.n_rip, (u64)code->next);
}

static void check_instruction(const struct exit_case *test)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-exits.%s", test->name);
    prepare();
    svm_intercept(test->exit);
    expect_exit(prefix, test->code, svm_run(test->code), test->exit);
    if ((test->flags & NOT_WITHOUT) != 0)
        return;
    print_to(prefix, sizeof(prefix), "svm-exits.%s.allowed", test->name);
    prepare();
    check_part(prefix, "exit", svm_run(test->code), VMEXIT_VMMCALL);
    check_part(prefix, "rip", vmcb.save.rip, (u64)test->code->next);
}

/* --- faults that come before the intercept --- */

static const struct exit_case first_faults[] = {
    {"hlt", &code_hlt, EXIT_HLT, EXC_GP},
    {"invd", &code_invd, VMEXIT_INVD, EXC_GP},
    {"wbinvd", &code_wbinvd, EXIT_WBINVD, EXC_GP},
    {"invlpg", &code_invlpg, EXIT_INVLPG, EXC_GP},
    {"read_cr0", &code_read_cr0, VMEXIT_CR0_READ, EXC_GP},
    {"write_cr8", &code_write_cr8, VMEXIT_CR0_WRITE + 8, EXC_GP},
    {"read_dr7", &code_read_dr7, VMEXIT_DR0_READ + 7, EXC_GP},
    {"clts", &code_clts, VMEXIT_CR0_WRITE, EXC_GP},
    {"lldt", &code_lldt, EXIT_LDTR_WRITE, EXC_GP},
    {"rdmsr", &code_rdmsr, VMEXIT_MSR, EXC_GP},
    {"wrmsr", &code_wrmsr, VMEXIT_MSR, EXC_GP},
    {"rdpmc", &code_rdpmc, EXIT_RDPMC, EXC_GP},
    {"rdtsc", &code_rdtsc, EXIT_RDTSC, EXC_GP},
    {"xsetbv", &code_xsetbv, VMEXIT_XSETBV, EXC_GP},
    {"vmrun", &code_vmrun, VMEXIT_VMRUN, EXC_GP},
    {"vmload", &code_vmload, VMEXIT_VMLOAD, EXC_GP},
    {"stgi", &code_stgi, VMEXIT_STGI, EXC_GP},
    {"clgi", &code_clgi, VMEXIT_CLGI, EXC_GP},
    {"invlpga", &code_invlpga, VMEXIT_INVLPGA, EXC_GP},
};

static void check_first_faults(void)
{
    char prefix[64];

    for (unsigned i = 0; i < ARRAY_SIZE(first_faults); i++) {
        const struct exit_case *test = &first_faults[i];
        print_to(prefix, sizeof(prefix), "svm-exits.ring3.%s", test->name);
        prepare();
        svm_intercept(test->exit);
        memset(svm_msr_map, 0xff, sizeof(svm_msr_map));
        vmcb.save.cr4 = (vmcb.save.cr4 | CR4_TSD) & ~CR4_PCE;
        check_part(prefix, "exit", svm_run_user(test->code), VMEXIT_EXCP0 + test->flags);
        check_part(prefix, "error_code", vmcb.control.exit_info_1, 0);
        check_part(prefix, "rip", vmcb.save.rip, svm_at_user(test->code, test->code->at));
    }
    /* The operand of VMRUN and its likes. */
    for (u32 code = VMEXIT_VMRUN; code <= VMEXIT_VMSAVE; code++) {
        static const struct l2_code *const codes[] = {&code_vmrun, NULL, &code_vmload, &code_vmsave};
        if (codes[code - VMEXIT_VMRUN] == NULL)
            continue;
        print_to(prefix, sizeof(prefix), "svm-exits.operand_of_%x", code);
        prepare();
        svm_intercept(code);
        l2.rbx = (u64)data + 8;
        check_part(prefix, "exit", svm_run(codes[code - VMEXIT_VMRUN]), VMEXIT_EXCP0 + EXC_GP);
    }
}

/* --- what is #UD where L1 does not intercept it, and what takes effect --- */

static void check_not_intercepted(void)
{
    prepare();
    svm_allow(VMEXIT_VMMCALL);
    check_eq("svm-exits.vmmcall.undefined", svm_run(&code_vmmcall), VMEXIT_EXCP0 + EXC_UD);
    check_eq("svm-exits.vmmcall.undefined_rip", vmcb.save.rip, (u64)code_vmmcall.at);
    prepare();
    check_eq("svm-exits.skinit.undefined", svm_run(&code_skinit), VMEXIT_EXCP0 + EXC_UD);
    prepare();
    check_eq("svm-exits.rsm.undefined", svm_run(&code_rsm), VMEXIT_EXCP0 + EXC_UD);
    prepare();
    svm_allow(VMEXIT_EXCP0 + EXC_DB);
    check_eq("svm-exits.icebp.own", svm_run_vector(&code_icebp), L2_VECTOR + EXC_DB);
    check_eq("svm-exits.icebp.own_rip", *(const u64 *)vmcb.save.rsp, (u64)code_icebp.next);
    prepare();
    check_eq("svm-exits.int.own", svm_run_vector(&code_int), L2_VECTOR + 0x45);
    check_eq("svm-exits.int.own_rip", *(const u64 *)vmcb.save.rsp, (u64)code_int.next);
    /* VMSAVE by L2: the physical address is L1's. */
    prepare();
    memset(&other, 0, sizeof(other));
    l2.rbx = (u64)&other;
    u64 before = rdmsr(MSR_LSTAR);
    wrmsr(MSR_LSTAR, 0x123456000);
    check_eq("svm-exits.vmsave.runs", svm_run(&code_vmsave), VMEXIT_VMMCALL);
    check_eq("svm-exits.vmsave.lstar", other.save.lstar, 0x123456000);
    wrmsr(MSR_LSTAR, before);
    check_eq("svm-exits.vmload.runs", svm_run(&code_vmload), VMEXIT_VMMCALL);
    check_eq("svm-exits.vmload.lstar", rdmsr(MSR_LSTAR), 0x123456000);
    wrmsr(MSR_LSTAR, before);
}

/* --- CR0 but for TS and MP --- */

static void check_selective_cr0(void)
{
    static const struct {
        const char *name;
        u64 changed;
        bool exits;
    } cases[] = {{"nothing", 0, false}, {"ts", CR0_TS, false},
                 {"mp", CR0_MP, false}, {"wp", CR0_WP, true},
                 {"am", CR0_AM, true},  {"cd", CR0_CD, true},
                 {"ne", CR0_NE, true},  {"ts_wp", CR0_TS | CR0_WP, true}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        prepare();
        svm_intercept(EXIT_CR0_SEL_WRITE);
        l2.rcx = vmcb.save.cr0 ^ cases[i].changed;
        u64 before = vmcb.save.cr0;
        check_part("svm-exits.cr0_selective", cases[i].name, svm_run(&code_cr0_by_rcx),
                   cases[i].exits ? EXIT_CR0_SEL_WRITE : VMEXIT_VMMCALL);
        check_part("svm-exits.cr0_selective", "value", vmcb.save.cr0, cases[i].exits ? before : l2.rcx);
    }
    prepare();
    svm_intercept(EXIT_CR0_SEL_WRITE);
    vmcb.save.cr0 |= CR0_TS;
    check_eq("svm-exits.cr0_selective.clts", svm_run(&code_clts), VMEXIT_VMMCALL);
    check_eq("svm-exits.cr0_selective.clts_value", vmcb.save.cr0 & CR0_TS, 0);
    prepare();
    svm_intercept(EXIT_CR0_SEL_WRITE);
    check_eq("svm-exits.cr0_selective.lmsw_changing_mp_ts", svm_run(&code_lmsw), VMEXIT_VMMCALL);
}

/* --- values that L2 gets and leaves --- */

L2_CODE(code_values,
        "mov %cr0, %r8\nmov %cr3, %r9\nmov %cr4, %r10\nmov %cr2, %r11\nmov %dr6, %r12\nmov %dr7, %r13\n"
        "sgdt (%rbx)\nsidt 16(%rbx)\nmov $0xc0000080, %ecx\nrdmsr\nmov %rax, %r14\npushfq\npop %r15",
        "nop");
L2_CODE(code_efer, "mov $0xc0000080, %ecx\nrdmsr\nbtr $11, %eax", "wrmsr");
L2_CODE(code_registers,
        "mov $0x1122334455667788, %rax\nlea 1(%rax), %rcx\nlea 2(%rax), %rdx\nlea 3(%rax), %rbx\n"
        "lea 4(%rax), %rbp\nlea 5(%rax), %rsi\nlea 6(%rax), %rdi\nlea 7(%rax), %r8\nlea 8(%rax), %r9\n"
        "lea 9(%rax), %r10\nlea 10(%rax), %r11\nlea 11(%rax), %r12\nlea 12(%rax), %r13\nlea 13(%rax), %r14\n"
        "lea 14(%rax), %r15",
        "cpuid");

static void check_values(void)
{
    static const char *const names[15] = {"rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8",
                                          "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const u64 *value = &l2.rax;
    u64 base;

    prepare();
    svm_intercept(VMEXIT_CPUID);
    check_eq("svm-exits.registers.exit", svm_run(&code_registers), VMEXIT_CPUID);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        check_part("svm-exits.registers", names[i], value[i], 0x1122334455667788 + i);
    prepare();
    vmcb.save.cr0 |= CR0_TS;
    vmcb.save.cr2 = 0xabcdef000;
    vmcb.save.dr6 = 0xffff4ff0;
    vmcb.save.dr7 = 0x700;
    vmcb.save.rflags = 2 | BIT(21);
    vmcb.save.gdtr.limit = 0x57;
    vmcb.save.idtr.limit = 0x7ff;
    check_eq("svm-exits.values.exit", svm_run(&code_values), VMEXIT_VMMCALL);
    check_eq("svm-exits.values.cr0", l2.r8, read_cr0() | CR0_TS);
    check_eq("svm-exits.values.cr3", l2.r9, read_cr3());
    check_eq("svm-exits.values.cr4", l2.r10, read_cr4() | CR4_OSXSAVE);
    check_eq("svm-exits.values.cr2", l2.r11, 0xabcdef000);
    check_eq("svm-exits.values.dr6", l2.r12, 0xffff4ff0);
    check_eq("svm-exits.values.dr7", l2.r13, 0x700);
    check_eq("svm-exits.values.efer", l2.r14, rdmsr(MSR_EFER));
    check_eq("svm-exits.values.rflags", l2.r15 & BIT(21), BIT(21));
    memcpy(&base, data + 2, sizeof(base));
    check_eq("svm-exits.values.gdt_base", base, (u64)gdt);
    check_eq("svm-exits.values.gdt_limit", data[0], 0x57);
    memcpy(&base, data + 18, sizeof(base));
    check_eq("svm-exits.values.idt_base", base, (u64)l2_idt);
    check_eq("svm-exits.values.idt_limit", data[17], 7);
    /* L2's EFER is its own. */
    prepare();
    check_eq("svm-exits.efer_write.exit", svm_run(&code_efer), VMEXIT_VMMCALL);
    check_eq("svm-exits.efer_write.l2", vmcb.save.efer, rdmsr(MSR_EFER) & ~EFER_NXE);
    check_eq("svm-exits.efer_write.l1", rdmsr(MSR_EFER) & (EFER_NXE | EFER_SVME), EFER_NXE | EFER_SVME);
}

/* CPUID that L1 leaves to L2 says what it says to L1; Umbra's hypercalls are L1's alone. */
static void check_umbras(void)
{
    static const u32 leaves[] = {0, 1, 7, 0xd, 0x40000000, 0x80000000, 0x80000001, 0x80000008, 0x8000000a};

    for (unsigned i = 0; i < ARRAY_SIZE(leaves); i++) {
        char prefix[64];
        print_to(prefix, sizeof(prefix), "svm-exits.cpuid_%x", leaves[i]);
        prepare();
        vmcb.save.cr4 = read_cr4();
        l2.rax = leaves[i];
        const struct cpuid want = cpuid(leaves[i], 0);
        check_part(prefix, "exit", svm_run(&code_cpuid), VMEXIT_VMMCALL);
        check_part(prefix, "eax", l2.rax, want.eax);
        check_part(prefix, "ebx", l2.rbx, want.ebx);
        check_part(prefix, "ecx", l2.rcx, want.ecx);
        check_part(prefix, "edx", l2.rdx, want.edx);
    }
    prepare();
    svm_allow(VMEXIT_VMMCALL);
    l2.rax = HYPERCALL_MAGIC;
    l2.rcx = HYPERCALL_FEATURES;
    check_eq("svm-exits.hypercall.undefined", svm_run(&code_vmmcall), VMEXIT_EXCP0 + EXC_UD);
    check_eq("svm-exits.hypercall.nothing_done", l2.rax, HYPERCALL_MAGIC);
}

static void check_tsc(void)
{
    const u64 offset = 1ull << 50;
    u64 before = rdtsc();

    prepare();
    vmcb.control.tsc_offset = offset;
    check_eq("svm-exits.tsc_offset.exit", svm_run(&code_rdtsc), VMEXIT_VMMCALL);
    u64 value = l2.rdx << 32 | (u32)l2.rax, after = rdtsc();
    check("svm-exits.tsc_offset.value", value >= before + offset && value <= after + offset);
    check("svm-exits.tsc_offset.not_l1s", after < offset);
}

void group_svm_exits(void)
{
    if (!svm_start("svm-exits"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(exit_cases); i++)
        check_instruction(&exit_cases[i]);
    check_first_faults();
    check_not_intercepted();
    check_selective_cr0();
    check_values();
    check_umbras();
    check_tsc();
    svm_stop();
}
