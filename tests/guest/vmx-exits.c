/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-exits: every instruction by which L2 can exit, with reason, qualification, length and instruction
 * information, and that it runs through where its control is off. Source: SDM vol. 3C 26.1, 26.3, 28.2.
 */
#include "tests/guest/vmx.h"

static u8 data[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 bitmap_a[PAGE_SIZE] __attribute__((aligned(4096))),
    bitmap_b[PAGE_SIZE] __attribute__((aligned(4096)));

L2_CODE(code_cpuid, "", "cpuid");
L2_CODE(code_hlt, "", "hlt");
L2_CODE(code_invd, "", "invd");
L2_CODE(code_wbinvd, "", "wbinvd");
L2_CODE(code_invlpg, "", "invlpg 0x30(%rbx)");
L2_CODE(code_rdpmc, "", "rdpmc");
L2_CODE(code_rdtsc, "", "rdtsc");
L2_CODE(code_rdtscp, "", "rdtscp");
L2_CODE(code_vmcall, "", "vmcall");
L2_CODE(code_vmclear, "", "vmclear 0x10(%rbx,%rsi,4)");
L2_CODE(code_vmptrld, "", "vmptrld (%r9)");
L2_CODE(code_vmptrst, "", "vmptrst %fs:8(%rbx)");
L2_CODE(code_vmxon, "", "vmxon 0x1000(%rbx)");
L2_CODE(code_vmlaunch, "", "vmlaunch");
L2_CODE(code_vmresume, "", "vmresume");
L2_CODE(code_vmxoff, "", "vmxoff");
L2_CODE(code_vmread_register, "", "vmread %r10, %rdx");
L2_CODE(code_vmread_memory, "", "vmread %rax, 0x20(%rbx,%r8,8)");
L2_CODE(code_vmwrite_register, "", "vmwrite %rsi, %r11");
L2_CODE(code_vmwrite_memory, "", "vmwrite (%rbx), %rcx");
L2_CODE(code_invept, "", "invept 0x40(%rbx), %rdx");
L2_CODE(code_invvpid, "", "invvpid (%rbx,%rsi,2), %r12");
L2_CODE(code_invpcid, "", "invpcid 8(%rbx), %rdi");
L2_CODE(code_read_cr3, "", "mov %cr3, %r9");
L2_CODE(code_write_cr3, "mov %cr3, %rdx", "mov %rdx, %cr3");
L2_CODE(code_read_cr8, "", "mov %cr8, %rsi");
L2_CODE(code_write_cr8, "xor %edi, %edi", "mov %rdi, %cr8");
L2_CODE(code_write_dr, "", "mov %rcx, %dr3");
L2_CODE(code_read_dr, "", "mov %dr7, %r14");
L2_CODE(code_in8, "", "in $0x80, %al");
L2_CODE(code_out8, "", "out %al, $0x80");
L2_CODE(code_in32, "mov $0x84, %edx", "in %dx, %eax");
L2_CODE(code_out16, "mov $0x84, %edx", "out %ax, %dx");
L2_CODE(code_outs, "mov $0x80, %edx\nlea 0x60(%rbx), %rsi", "outsb");
L2_CODE(code_ins, "mov $0x80, %edx\nlea 0x70(%rbx), %rdi", "insb");
L2_CODE(code_rep_outs, "mov $0x80, %edx\nmov $2, %ecx\nlea 0x60(%rbx), %rsi", "rep outsw");
L2_CODE(code_rdmsr, "mov $0x174, %ecx", "rdmsr");
L2_CODE(code_wrmsr, "mov $0x174, %ecx\nxor %eax, %eax\nxor %edx, %edx", "wrmsr");
L2_CODE(code_rdmsr_high, "mov $0xc0000082, %ecx", "rdmsr");
L2_CODE(code_wrmsr_high, "mov $0xc0000082, %ecx\nxor %eax, %eax\nxor %edx, %edx", "wrmsr");
L2_CODE(code_monitor, "mov %rbx, %rax\nxor %ecx, %ecx\nxor %edx, %edx", "monitor");
L2_CODE(code_mwait, "xor %eax, %eax\nxor %ecx, %ecx", "mwait");
L2_CODE(code_pause, "", "pause");
L2_CODE(code_sgdt, "", "sgdt 0x18(%rbx)");
L2_CODE(code_sidt, "", "sidt 0x28(%rbx,%rsi,8)");
L2_CODE(code_lgdt, "", "lgdt (%rbx)");
L2_CODE(code_lidt, "", "lidt (%rbx)");
L2_CODE(code_sldt, "", "sldt %r8d");
L2_CODE(code_str, "", "str 2(%rbx)");
L2_CODE(code_lldt, "xor %ecx, %ecx", "lldt %cx");
L2_CODE(code_ltr, "andb $~2, 0x55(%r15)\nmov $0x50, %ecx", "ltr %cx");
L2_CODE(code_xsetbv, "xor %ecx, %ecx\nxgetbv", "xsetbv");
L2_CODE(code_rdrand, "", "rdrand %rdi");
L2_CODE(code_rdseed, "", "rdseed %r13d");
L2_CODE(code_umwait, "xor %eax, %eax\nxor %edx, %edx\nxor %ecx, %ecx", "umwait %ecx");
L2_CODE(code_tpause, "xor %eax, %eax\nxor %edx, %edx\nxor %ecx, %ecx", "tpause %ecx");

/* Instruction information: SDM vol. 3C tables 28-8 to 28-15; only bits that are defined are compared. */
#define SIZE64         (2u << 7)
#define SEGMENT_FS     (4u << 15)
#define SEGMENT_DS     (3u << 15)
#define NO_INDEX       BIT(22)
#define INDEX(n)       ((u64)(n) << 18)
#define BASE(n)        ((u64)(n) << 23)
#define REG1(n)        ((u64)(n) << 3)
#define REG2(n)        ((u64)(n) << 28)
#define IN_REGISTER    BIT(10)
#define MASK_NO_INDEX  (BITS(9, 7) | BIT(10) | BITS(17, 15) | BITS(27, 22))
#define MASK_INDEX     (BITS(1, 0) | BITS(9, 7) | BIT(10) | BITS(27, 15))
#define MASK_REGISTERS (BITS(6, 3) | BIT(10) | BITS(31, 28))
#define MASK_REG2      BITS(31, 28)

static const struct exit_case {
    const char *name;
    const struct l2_code *code;
    u32 reason;
    u32 control; /* that makes it exit; 0: it always does */
    enum vmx_word word;
    u64 mask, info;
    u64 qualification; /* has `data` added if bit 63 is set */
    bool not_without;  /* cannot run through, or should not */
} exit_cases[] = {
    {"cpuid", &code_cpuid, REASON_CPUID, 0, 0, 0, 0, 0, 0},
    {"invd", &code_invd, REASON_INVD, 0, 0, 0, 0, 0, 0},
    {"vmcall", &code_vmcall, REASON_VMCALL, 0, 0, 0, 0, 0, 0},
    {"vmlaunch", &code_vmlaunch, REASON_VMLAUNCH, 0, 0, 0, 0, 0, 0},
    {"vmresume", &code_vmresume, REASON_VMRESUME, 0, 0, 0, 0, 0, 0},
    {"vmxoff", &code_vmxoff, REASON_VMXOFF, 0, 0, 0, 0, 0, 0},
    {"xsetbv", &code_xsetbv, REASON_XSETBV, 0, 0, 0, 0, 0, 0},
    {"vmclear", &code_vmclear, REASON_VMCLEAR, 0, 0, MASK_INDEX, 2 | SIZE64 | SEGMENT_DS | INDEX(6) | BASE(3),
     0x10, 0},
    {"vmptrld", &code_vmptrld, REASON_VMPTRLD, 0, 0, MASK_NO_INDEX, SIZE64 | SEGMENT_DS | NO_INDEX | BASE(9),
     0, 0},
    {"vmptrst", &code_vmptrst, REASON_VMPTRST, 0, 0, MASK_NO_INDEX, SIZE64 | SEGMENT_FS | NO_INDEX | BASE(3),
     8, 0},
    {"vmxon", &code_vmxon, REASON_VMXON, 0, 0, MASK_NO_INDEX, SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3),
     0x1000, 0},
    {"vmread_register", &code_vmread_register, REASON_VMREAD, 0, 0, MASK_REGISTERS,
     IN_REGISTER | REG1(2) | REG2(10), 0, 0},
    {"vmread_memory", &code_vmread_memory, REASON_VMREAD, 0, 0, MASK_INDEX | MASK_REG2,
     3 | SIZE64 | SEGMENT_DS | INDEX(8) | BASE(3) | REG2(0), 0x20, 0},
    {"vmwrite_register", &code_vmwrite_register, REASON_VMWRITE, 0, 0, MASK_REGISTERS,
     IN_REGISTER | REG1(6) | REG2(11), 0, 0},
    {"vmwrite_memory", &code_vmwrite_memory, REASON_VMWRITE, 0, 0, MASK_NO_INDEX | MASK_REG2,
     SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(1), 0, 0},
    {"invept", &code_invept, REASON_INVEPT, 0, 0, MASK_NO_INDEX | MASK_REG2,
     SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(2), 0x40, 0},
    {"invvpid", &code_invvpid, REASON_INVVPID, 0, 0, MASK_INDEX | MASK_REG2,
     1 | SIZE64 | SEGMENT_DS | INDEX(6) | BASE(3) | REG2(12), 0, 0},
    {"invpcid", &code_invpcid, REASON_INVPCID, PRIMARY_INVLPG_EXITING, WORD_PRIMARY,
     MASK_NO_INDEX | MASK_REG2, SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(7), 8, true},
    {"hlt", &code_hlt, REASON_HLT, PRIMARY_HLT_EXITING, WORD_PRIMARY, 0, 0, 0, true},
    {"invlpg", &code_invlpg, REASON_INVLPG, PRIMARY_INVLPG_EXITING, WORD_PRIMARY, 0, 0, BIT(63) | 0x30, 0},
    {"rdpmc", &code_rdpmc, REASON_RDPMC, PRIMARY_RDPMC_EXITING, WORD_PRIMARY, 0, 0, 0, true},
    {"rdtsc", &code_rdtsc, REASON_RDTSC, PRIMARY_RDTSC_EXITING, WORD_PRIMARY, 0, 0, 0, 0},
    {"rdtscp", &code_rdtscp, REASON_RDTSCP, PRIMARY_RDTSC_EXITING, WORD_PRIMARY, 0, 0, 0, 0},
    {"mwait", &code_mwait, REASON_MWAIT, PRIMARY_MWAIT_EXITING, WORD_PRIMARY, 0, 0, 0, true},
    {"monitor", &code_monitor, REASON_MONITOR, PRIMARY_MONITOR_EXITING, WORD_PRIMARY, 0, 0, 0, 0},
    {"pause", &code_pause, REASON_PAUSE, PRIMARY_PAUSE_EXITING, WORD_PRIMARY, 0, 0, 0, 0},
    {"mov_from_cr3", &code_read_cr3, REASON_CONTROL_REGISTER, PRIMARY_CR3_STORE_EXITING, WORD_PRIMARY, 0, 0,
     0x913, 0},
    {"mov_to_cr3", &code_write_cr3, REASON_CONTROL_REGISTER, PRIMARY_CR3_LOAD_EXITING, WORD_PRIMARY, 0, 0,
     0x203, 0},
    {"mov_from_cr8", &code_read_cr8, REASON_CONTROL_REGISTER, PRIMARY_CR8_STORE_EXITING, WORD_PRIMARY, 0, 0,
     0x618, 0},
    {"mov_to_cr8", &code_write_cr8, REASON_CONTROL_REGISTER, PRIMARY_CR8_LOAD_EXITING, WORD_PRIMARY, 0, 0,
     0x708, 0},
    {"mov_to_dr3", &code_write_dr, REASON_MOV_DR, PRIMARY_MOV_DR_EXITING, WORD_PRIMARY, 0, 0, 0x103, 0},
    {"mov_from_dr7", &code_read_dr, REASON_MOV_DR, PRIMARY_MOV_DR_EXITING, WORD_PRIMARY, 0, 0, 0xe17, 0},
    {"in8", &code_in8, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, 0, 0, 0x800048, 0},
    {"out8", &code_out8, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, 0, 0, 0x800040, 0},
    {"in32", &code_in32, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, 0, 0, 0x84000b, 0},
    {"out16", &code_out16, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, 0, 0, 0x840001, 0},
    {"outs", &code_outs, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, BITS(9, 7) | BITS(17, 15),
     SIZE64 | SEGMENT_DS, 0x800010, 0},
    {"ins", &code_ins, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, BITS(9, 7), SIZE64, 0x800018, 0},
    {"rep_outs", &code_rep_outs, REASON_IO, PRIMARY_IO_EXITING, WORD_PRIMARY, BITS(9, 7) | BITS(17, 15),
     SIZE64 | SEGMENT_DS, 0x800031, 0},
    {"wbinvd", &code_wbinvd, REASON_WBINVD, SECONDARY_WBINVD_EXITING, WORD_SECONDARY, 0, 0, 0, 0},
    {"rdrand", &code_rdrand, REASON_RDRAND, SECONDARY_RDRAND_EXITING, WORD_SECONDARY,
     BITS(6, 3) | BITS(12, 11), REG1(7) | 2 << 11, 0, 0},
    {"rdseed", &code_rdseed, REASON_RDSEED, SECONDARY_RDSEED_EXITING, WORD_SECONDARY,
     BITS(6, 3) | BITS(12, 11), REG1(13) | 1 << 11, 0, 0},
    {"sgdt", &code_sgdt, REASON_GDTR_IDTR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     MASK_NO_INDEX | BITS(29, 28), SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(0), 0x18, 0},
    {"sidt", &code_sidt, REASON_GDTR_IDTR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     MASK_INDEX | BITS(29, 28), 3 | SIZE64 | SEGMENT_DS | INDEX(6) | BASE(3) | REG2(1), 0x28, 0},
    {"lgdt", &code_lgdt, REASON_GDTR_IDTR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     MASK_NO_INDEX | BITS(29, 28), SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(2), 0, true},
    {"lidt", &code_lidt, REASON_GDTR_IDTR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     MASK_NO_INDEX | BITS(29, 28), SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(3), 0, true},
    {"sldt", &code_sldt, REASON_LDTR_TR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     BITS(6, 3) | BIT(10) | BITS(29, 28), IN_REGISTER | REG1(8) | REG2(0), 0, 0},
    {"str", &code_str, REASON_LDTR_TR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     MASK_NO_INDEX | BITS(29, 28), SIZE64 | SEGMENT_DS | NO_INDEX | BASE(3) | REG2(1), 2, 0},
    {"lldt", &code_lldt, REASON_LDTR_TR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     BITS(6, 3) | BIT(10) | BITS(29, 28), IN_REGISTER | REG1(1) | REG2(2), 0, 0},
    {"ltr", &code_ltr, REASON_LDTR_TR, SECONDARY_DESCRIPTOR_TABLE_EXITING, WORD_SECONDARY,
     BITS(6, 3) | BIT(10) | BITS(29, 28), IN_REGISTER | REG1(1) | REG2(3), 0, true},
    {"rdmsr", &code_rdmsr, REASON_RDMSR, 0, 0, 0, 0, 0, 0},
    {"wrmsr", &code_wrmsr, REASON_WRMSR, 0, 0, 0, 0, 0, 0},
};

extern u64 gdt[];

static void prepare(void)
{
    vmx_reset();
    l2.rbx = (u64)data;
    l2.rsi = 0;
    l2.r15 = (u64)gdt;
}

/* Qualifications of displacements hold the displacement alone where the register is not added (SDM vol.
 * 3C 28.2.1). */
static void check_exit(const struct exit_case *test, u64 got)
{
    char prefix[64];
    u64 qualification =
        test->qualification & BIT(63) ? (u64)data + (u8)test->qualification : test->qualification;

    print_to(prefix, sizeof(prefix), "vmx-exits.%s", test->name);
    check_part(prefix, "reason", got, test->reason);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)test->code->at);
    check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH),
               (u64)(test->code->next - test->code->at));
    check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION), qualification);
    if (test->mask)
        check_part(prefix, "information", vmread(VMCS_EXIT_INSTRUCTION_INFORMATION) & test->mask, test->info);
}

static void check_without(const struct exit_case *test)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-exits.%s.allowed", test->name);
    prepare();
    vmx_clear(test->word, test->control);
    check_part(prefix, "reason", vmx_run(test->code), REASON_VMCALL);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)test->code->next);
}

static void check_instruction(const struct exit_case *test)
{
    if (test->reason == REASON_INVPCID && !vmx_has(WORD_SECONDARY, SECONDARY_INVPCID)) {
        note_skipped(test->name, "L2 cannot have the instruction");
        return;
    }
    if (test->control && !vmx_has(test->word, test->control)) {
        note_skipped(test->name, "the control is not offered");
        return;
    }
    prepare();
    if (test->control)
        vmx_set(test->word, test->control);
    check_exit(test, vmx_run(test->code));
    if (test->control && !test->not_without)
        check_without(test);
}

/* What a string instruction would access: SDM vol. 3C 28.2.1. */
static void check_strings(void)
{
    static const struct {
        const char *name;
        const struct l2_code *code;
        u64 offset;
    } cases[] = {{"outs", &code_outs, 0x60}, {"ins", &code_ins, 0x70}, {"rep_outs", &code_rep_outs, 0x60}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        char prefix[64];
        print_to(prefix, sizeof(prefix), "vmx-exits.%s", cases[i].name);
        prepare();
        vmx_set(WORD_PRIMARY, PRIMARY_IO_EXITING);
        check_part(prefix, "exits", vmx_run(cases[i].code), REASON_IO);
        check_part(prefix, "linear_address", vmread(VMCS_GUEST_LINEAR_ADDRESS), (u64)data + cases[i].offset);
    }
    check_eq("vmx-exits.rep_outs.count", l2.rcx, 2);
}

/* UMWAIT and TPAUSE: #UD without their control, an exit with RDTSC exiting. */
static void check_user_wait(const char *name, const struct l2_code *code, u32 reason)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-exits.%s", name);
    prepare();
    vmx_clear(WORD_SECONDARY, SECONDARY_USER_WAIT_PAUSE);
    check_part(prefix, "off", vmx_run(code), REASON_EXCEPTION_OR_NMI);
    check_part(prefix, "off_vector", vmread(VMCS_EXIT_INTERRUPTION) & 0xff, EXC_UD);
    if (!vmx_has(WORD_SECONDARY, SECONDARY_USER_WAIT_PAUSE)) {
        note_skipped(name, "the control is not offered");
        return;
    }
    prepare();
    vmx_set(WORD_SECONDARY, SECONDARY_USER_WAIT_PAUSE);
    vmx_set(WORD_PRIMARY, PRIMARY_RDTSC_EXITING);
    check_part(prefix, "reason", vmx_run(code), reason);
    check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), (u64)(code->next - code->at));
    vmx_clear(WORD_PRIMARY, PRIMARY_RDTSC_EXITING);
    check_part(prefix, "runs", vmx_run(code), REASON_VMCALL);
}

/* --- CR0 and CR4: masks and shadows --- */

L2_CODE(code_write_cr0, "", "mov %rax, %cr0");
L2_CODE(code_write_cr4, "", "mov %rax, %cr4");
L2_CODE(code_read_cr0, "mov %cr0, %rax", "mov %cr4, %rcx");
L2_CODE(code_clts, "", "clts");
L2_CODE(code_lmsw, "mov $0xb, %ecx", "lmsw %cx");
L2_CODE(code_lmsw_memory, "movw $0xb, (%rbx)", "lmsw (%rbx)");
L2_CODE(code_smsw, "", "smsw %rax");

static void check_cr_access(const char *name, const struct l2_code *code, bool owned, u64 want)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-exits.%s.%s", name, owned ? "owned" : "free");
    check_part(prefix, "reason", vmx_run(code), owned ? REASON_CONTROL_REGISTER : REASON_VMCALL);
    check_part(prefix, "rip", vmread(VMCS_GUEST_RIP), (u64)(owned ? code->at : code->next));
    if (owned) {
        check_part(prefix, "qualification", vmread(VMCS_EXIT_QUALIFICATION), want);
        check_part(prefix, "length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH), (u64)(code->next - code->at));
    }
}

static void check_masks(void)
{
    u64 cr0 = read_cr0(), cr4 = read_cr4();

    for (unsigned owned = 0; owned < 2; owned++) {
        prepare();
        vmwrite(VMCS_CR0_MASK, owned ? CR0_TS : 0);
        vmwrite(VMCS_CR0_SHADOW, cr0);
        l2.rax = cr0 | CR0_TS;
        check_cr_access("mov_to_cr0", &code_write_cr0, owned, 0x000);
        check_part("vmx-exits.mov_to_cr0", owned ? "kept" : "changed", vmread(VMCS_GUEST_CR0),
                   owned ? cr0 : cr0 | CR0_TS);
        prepare();
        vmwrite(VMCS_CR0_MASK, owned ? CR0_TS : 0);
        vmwrite(VMCS_CR0_SHADOW, cr0 | CR0_TS);
        check_cr_access("clts", &code_clts, owned, 0x020);
        prepare();
        vmwrite(VMCS_CR0_MASK, owned ? CR0_TS : 0);
        vmwrite(VMCS_CR0_SHADOW, cr0);
        check_cr_access("lmsw", &code_lmsw, owned, 0xb0030);
        prepare();
        vmwrite(VMCS_CR0_MASK, owned ? CR0_TS : 0);
        vmwrite(VMCS_CR0_SHADOW, cr0);
        check_cr_access("lmsw_memory", &code_lmsw_memory, owned, 0xb0070);
        if (owned)
            check_eq("vmx-exits.lmsw_memory.linear_address", vmread(VMCS_GUEST_LINEAR_ADDRESS), (u64)data);
        prepare();
        vmwrite(VMCS_CR4_MASK, owned ? CR4_PGE : 0);
        vmwrite(VMCS_CR4_SHADOW, cr4 & ~CR4_PGE);
        l2.rax = cr4 | CR4_PGE;
        check_cr_access("mov_to_cr4", &code_write_cr4, owned, 0x004);
        check_part("vmx-exits.mov_to_cr4", owned ? "kept" : "changed", vmread(VMCS_GUEST_CR4),
                   owned ? cr4 : cr4 | CR4_PGE);
    }
    prepare();
    vmwrite(VMCS_CR0_MASK, CR0_TS | CR0_MP);
    vmwrite(VMCS_CR0_SHADOW, CR0_TS);
    vmwrite(VMCS_CR4_MASK, CR4_PGE | CR4_VMXE);
    vmwrite(VMCS_CR4_SHADOW, CR4_PGE);
    check_eq("vmx-exits.shadow.runs", vmx_run(&code_read_cr0), REASON_VMCALL);
    check_eq("vmx-exits.shadow.cr0", l2.rax, (cr0 & ~(CR0_TS | CR0_MP)) | CR0_TS);
    check_eq("vmx-exits.shadow.cr4", l2.rcx, (cr4 & ~(CR4_PGE | CR4_VMXE)) | CR4_PGE);
    check_eq("vmx-exits.shadow.smsw_runs", vmx_run(&code_smsw), REASON_VMCALL);
    check_eq("vmx-exits.shadow.smsw", l2.rax & 0xffff, ((cr0 & ~(CR0_TS | CR0_MP)) | CR0_TS) & 0xffff);
    /* A write of what the shadow has is no exit, and changes nothing that the mask covers. */
    prepare();
    vmwrite(VMCS_CR0_MASK, CR0_TS);
    vmwrite(VMCS_CR0_SHADOW, CR0_TS);
    l2.rax = cr0 | CR0_TS;
    check_eq("vmx-exits.shadow.same_value", vmx_run(&code_write_cr0), REASON_VMCALL);
    check_eq("vmx-exits.shadow.same_value_kept", vmread(VMCS_GUEST_CR0) & CR0_TS, 0);
    prepare();
    vmwrite(VMCS_CR3_TARGET_COUNT, 1);
    vmwrite(VMCS_CR3_TARGET0, read_cr3());
    vmx_set(WORD_PRIMARY, PRIMARY_CR3_LOAD_EXITING);
    vmx_clear(WORD_PRIMARY, PRIMARY_CR3_STORE_EXITING);
    check_eq("vmx-exits.cr3_target", vmx_run(&code_write_cr3), REASON_VMCALL);
    vmwrite(VMCS_CR3_TARGET0, read_cr3() + PAGE_SIZE);
    check_eq("vmx-exits.cr3_target_other", vmx_run(&code_write_cr3), REASON_CONTROL_REGISTER);
}

/* --- bitmaps --- */

static void with_bitmap(u8 *bitmap, unsigned bit, bool set)
{
    memset(bitmap, 0, PAGE_SIZE);
    if (set)
        bitmap[bit / 8] = (u8)(1 << bit % 8);
}

static void check_msr_bitmap(const char *name, const struct l2_code *code, unsigned bit, u32 reason)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-exits.msr_bitmap.%s", name);
    for (unsigned set = 0; set < 2; set++) {
        prepare();
        vmx_set(WORD_PRIMARY, PRIMARY_MSR_BITMAPS);
        vmwrite(VMCS_MSR_BITMAPS, (u64)bitmap_a);
        with_bitmap(bitmap_a, bit, set);
        check_part(prefix, set ? "intercepted" : "free", vmx_run(code), set ? reason : REASON_VMCALL);
        with_bitmap(bitmap_a, bit, !set);
        check_part(prefix, set ? "freed_at_once" : "intercepted_at_once", vmx_run(code),
                   set ? REASON_VMCALL : reason);
    }
}

L2_CODE(code_in_ffff, "mov $0xffff, %edx", "in %dx, %ax");
L2_CODE(code_in_8084, "mov $0x8084, %edx", "in %dx, %al");

static void check_bitmaps(void)
{
    check_msr_bitmap("rdmsr_low", &code_rdmsr, 0x174, REASON_RDMSR);
    check_msr_bitmap("rdmsr_high", &code_rdmsr_high, 8192 + 0x82, REASON_RDMSR);
    check_msr_bitmap("wrmsr_low", &code_wrmsr, 16384 + 0x174, REASON_WRMSR);
    check_msr_bitmap("wrmsr_high", &code_wrmsr_high, 24576 + 0x82, REASON_WRMSR);
    prepare();
    vmx_set(WORD_PRIMARY, PRIMARY_IO_BITMAPS);
    vmwrite(VMCS_IO_BITMAP_A, (u64)bitmap_a);
    vmwrite(VMCS_IO_BITMAP_B, (u64)bitmap_b);
    with_bitmap(bitmap_a, 0x80, true);
    with_bitmap(bitmap_b, 0x84, true);
    check_eq("vmx-exits.io_bitmap.in80", vmx_run(&code_in8), REASON_IO);
    check_eq("vmx-exits.io_bitmap.out80", vmx_run(&code_out8), REASON_IO);
    check_eq("vmx-exits.io_bitmap.in84_free", vmx_run(&code_in32), REASON_VMCALL);
    check_eq("vmx-exits.io_bitmap.in8084", vmx_run(&code_in_8084), REASON_IO);
    check_eq("vmx-exits.io_bitmap.in8084_qualification", vmread(VMCS_EXIT_QUALIFICATION), 0x80840008);
    with_bitmap(bitmap_a, 0x87, true);
    check_eq("vmx-exits.io_bitmap.last_byte", vmx_run(&code_in32), REASON_IO);
    check_eq("vmx-exits.io_bitmap.in80_free", vmx_run(&code_in8), REASON_VMCALL);
    with_bitmap(bitmap_b, 0, false);
    check_eq("vmx-exits.io_bitmap.in8084_free", vmx_run(&code_in_8084), REASON_VMCALL);
    check_eq("vmx-exits.io_bitmap.wraps", vmx_run(&code_in_ffff), REASON_IO);
}

/* --- values that L2 gets --- */

L2_CODE(code_registers,
        "mov $0x1122334455667788, %rax\nlea 1(%rax), %rcx\nlea 2(%rax), %rdx\nlea 3(%rax), %rbx\n"
        "lea 4(%rax), %rbp\nlea 5(%rax), %rsi\nlea 6(%rax), %rdi\nlea 7(%rax), %r8\nlea 8(%rax), %r9\n"
        "lea 9(%rax), %r10\nlea 10(%rax), %r11\nlea 11(%rax), %r12\nlea 12(%rax), %r13\nlea 13(%rax), %r14\n"
        "lea 14(%rax), %r15",
        "cpuid");

static void check_registers(void)
{
    static const char *const names[15] = {"rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8",
                                          "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const u64 *value = &l2.rax;

    prepare();
    check_eq("vmx-exits.registers.reason", vmx_run(&code_registers), REASON_CPUID);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        check_part("vmx-exits.registers", names[i], value[i], 0x1122334455667788 + i);
}

void group_vmx_exits(void)
{
    if (!vmx_start("vmx-exits"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(exit_cases); i++)
        check_instruction(&exit_cases[i]);
    check_strings();
    check_user_wait("umwait", &code_umwait, REASON_UMWAIT);
    check_user_wait("tpause", &code_tpause, REASON_TPAUSE);
    check_masks();
    check_bitmaps();
    check_registers();
    vmx_stop();
}
