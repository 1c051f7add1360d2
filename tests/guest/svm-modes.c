/* SPDX-License-Identifier: MIT */
/*
 * Group svm-modes: in each of its modes L2 executes what L1 leaves to it and what a hypervisor below L1 may
 * have to finish in L1's place, with prefixes and at segment bases that are not zero. Source: APM vol.
 * 2 1.3, 15.19, vol. 3 1.2.
 */
#include "tests/guest/svm.h"

enum mode { REAL, PROTECTED_16, PROTECTED_32, PAGED_32, PAE_32, VIRTUAL_8086, COMPATIBILITY, LONG, MODES };
static const char *const mode_name[MODES] = {"real",  "protected16", "protected32",   "paged32",
                                             "pae32", "v8086",       "compatibility", "long"};

/* Below 1 MByte, for virtual-8086 mode; the code begins at an offset. */
enum { CODE_BASE = REAL_BUFFER, CODE_OFFSET = 0x123 };

static u32 directory_32[1024] __attribute__((aligned(4096)));
static u64 pointers_pae[4] __attribute__((aligned(4096)));
static u64 directory_pae[4 * 512] __attribute__((aligned(4096)));
static struct vmcb other __attribute__((aligned(4096)));

enum {
    NOT_IN_REAL = 1, /* #UD there */
    PRIVILEGED = 2,
    GROUP_7 = 4,
    NOT_IN_LEGACY = 8, /* QEMU exits there, intercepted or not */
};
static const struct instruction_case {
    const char *name, *bytes;
    unsigned size, flags;
    u64 rax, rcx;
} instructions[] = {
    {"cpuid", "\x0f\xa2", 2, 0, 0x80000000, 0},
    {"rdmsr", "\x0f\x32", 2, PRIVILEGED, 0, MSR_IA32_SYSENTER_CS},
    {"wrmsr", "\x0f\x30", 2, PRIVILEGED, 0, MSR_IA32_SYSENTER_CS},
    {"rdmsr_efer", "\x0f\x32", 2, PRIVILEGED, 0, MSR_EFER},
    {"invd", "\x0f\x08", 2, PRIVILEGED, 0, 0},
    {"xsetbv", "\x0f\x01\xd1", 3, PRIVILEGED | GROUP_7, 1, 0},
    {"vmsave", "\x0f\x01\xdb", 3, PRIVILEGED | GROUP_7 | NOT_IN_REAL | NOT_IN_LEGACY, (u64)&other, 0},
    {"invlpga", "\x0f\x01\xdf", 3, PRIVILEGED | GROUP_7 | NOT_IN_REAL, 0, 1},
};

static const struct prefix_case {
    const char *name, *bytes;
    unsigned size;
    bool not_group_7, long_only;
} prefixes[] = {
    {"plain", "", 0, false, false},
    {"segment", "\x2e", 1, false, false},
    {"address", "\x67", 1, false, false},
    {"operand", "\x66", 1, true, false},
    {"three", "\x66\x67\x3e", 3, true, false},
    {"rex", "\x48", 1, true, true},
};

static bool is_legacy(enum mode mode)
{
    return mode < COMPATIBILITY;
}

static void build_tables(void)
{
    for (u32 i = 0; i < 1024; i++)
        directory_32[i] = i << 22 | PTE_P | PTE_W | PTE_U | PTE_PS;
    for (u64 i = 0; i < ARRAY_SIZE(directory_pae); i++)
        directory_pae[i] = i << 21 | PTE_P | PTE_W | PTE_U | PTE_PS;
    for (unsigned i = 0; i < ARRAY_SIZE(pointers_pae); i++)
        pointers_pae[i] = (u64)&directory_pae[512 * i] | PTE_P;
}

static void set_paging(enum mode mode)
{
    struct vmcb_save *save = &vmcb.save;

    if (!is_legacy(mode))
        return;
    save->efer &= ~(EFER_LME | EFER_LMA);
    save->cr0 &= ~CR0_PG;
    if (mode == REAL)
        save->cr0 &= ~CR0_PE;
    if (mode == PAE_32) {
        save->cr0 |= CR0_PG;
        save->cr3 = (u64)pointers_pae;
    } else if (mode == PAGED_32) {
        save->cr0 |= CR0_PG;
        save->cr3 = (u64)directory_32;
        save->cr4 = (save->cr4 & ~CR4_PAE) | CR4_PSE;
    }
}

static void prepare(enum mode mode)
{
    static const u16 attributes[MODES] = {0x9b, 0x9b, 0xc9b, 0xc9b, 0xc9b, 0xf3, 0xc9b, 0xa9b};
    struct vmcb_save *save = &vmcb.save;
    bool small = mode == REAL || mode == PROTECTED_16 || mode == VIRTUAL_8086;

    svm_reset();
    save->cr4 |= CR4_OSXSAVE;
    set_paging(mode);
    save->cs =
        (struct vmcb_segment){.selector = mode == VIRTUAL_8086 || mode == REAL ? CODE_BASE >> 4 : SEL_CODE32,
                              .attributes = attributes[mode],
                              .limit = small ? 0xffff : 0xffffffff,
                              .base = mode == LONG ? 0 : CODE_BASE};
    save->rip = mode == LONG ? CODE_BASE + CODE_OFFSET : CODE_OFFSET;
    if (mode == LONG)
        save->cs.selector = SEL_CODE64;
    if (mode == VIRTUAL_8086) {
        save->rflags |= RFLAGS_VM;
        save->cpl = 3;
        save->ss = save->ds = save->es =
            (struct vmcb_segment){.selector = 0x1000, .attributes = 0xf3, .limit = 0xffff, .base = 0x10000};
    }
}

static void put_code(const struct prefix_case *prefix, const struct instruction_case *instruction)
{
    u8 *code = (u8 *)(u64)(CODE_BASE + CODE_OFFSET);

    memcpy(code, prefix->bytes, prefix->size);
    memcpy(code + prefix->size, instruction->bytes, instruction->size);
    memcpy(code + prefix->size + instruction->size, "\x0f\x01\xd9", 3); /* VMMCALL */
}

/* The exception that the instruction is in that mode, or NO_FAULT. */
static u64 fault_in(enum mode mode, const struct instruction_case *instruction)
{
    if ((instruction->flags & NOT_IN_REAL) != 0 && (mode == REAL || mode == VIRTUAL_8086))
        return EXC_UD;
    return mode == VIRTUAL_8086 && (instruction->flags & PRIVILEGED) != 0 ? EXC_GP : NO_FAULT;
}

static void check_one(enum mode mode, const struct instruction_case *instruction,
                      const struct prefix_case *prefix)
{
    char name[80];
    u64 vector = fault_in(mode, instruction);

    print_to(name, sizeof(name), "svm-modes.%s.%s.%s", mode_name[mode], prefix->name, instruction->name);
    prepare(mode);
    put_code(prefix, instruction);
    u64 start = vmcb.save.rip;
    l2.rax = instruction->rax;
    l2.rcx = instruction->rcx;
    u64 exit = svm_resume();
    check_part(name, "exit", exit, vector == NO_FAULT ? VMEXIT_VMMCALL : VMEXIT_EXCP0 + vector);
    check_part(name, "rip", vmcb.save.rip,
               start + (vector == NO_FAULT ? prefix->size + instruction->size : 0));
    if (instruction->bytes[1] == '\xa2')
        check_part(name, "eax", l2.rax, cpuid(0x80000000, 0).eax);
    if (instruction->rcx == MSR_EFER && vector == NO_FAULT)
        check_part(name, "efer", l2.rax, vmcb.save.efer);
}

/* What L1 intercepts exits with RIP as L2's mode counts it. */
static void check_exit(enum mode mode)
{
    static const struct prefix_case none = {"plain", "", 0, false, false};
    static const struct instruction_case hlt = {"hlt", "\x90\xf4", 2, PRIVILEGED, 0, 0},
                                         in = {"in", "\xe4\x80", 2, 0, 0, 0};
    char name[64];

    print_to(name, sizeof(name), "svm-modes.%s.hlt", mode_name[mode]);
    prepare(mode);
    put_code(&none, &hlt);
    svm_intercept(EXIT_HLT);
    u64 start = vmcb.save.rip;
    check_part(name, "exit", svm_resume(), mode == VIRTUAL_8086 ? VMEXIT_EXCP0 + EXC_GP : EXIT_HLT);
    check_part(name, "rip", vmcb.save.rip, start + 1);
    check_part(name, "cpl", vmcb.save.cpl, mode == VIRTUAL_8086 ? 3 : 0);
    check_part(name, "cs_base", vmcb.save.cs.base, mode == LONG ? 0 : CODE_BASE);
    print_to(name, sizeof(name), "svm-modes.%s.in", mode_name[mode]);
    prepare(mode);
    put_code(&none, &in);
    svm_intercept(VMEXIT_IOIO);
    memset(svm_io_map, 0xff, sizeof(svm_io_map));
    if (mode == VIRTUAL_8086)
        return; /* the TSS's map comes first, and it is none */
    check_part(name, "exit", svm_resume(), VMEXIT_IOIO);
    check_part(name, "info_2", vmcb.control.exit_info_2, start + 2);
}

void group_svm_modes(void)
{
    if (!svm_start("svm-modes"))
        return;
    build_tables();
    for (enum mode mode = REAL; mode < MODES; mode++) {
        check_exit(mode);
        for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++) {
            for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
                if ((prefixes[p].long_only && mode != LONG) ||
                    ((instructions[i].flags & NOT_IN_LEGACY) != 0 && mode > REAL && mode < VIRTUAL_8086) ||
                    (prefixes[p].not_group_7 && (instructions[i].flags & GROUP_7) != 0))
                    continue;
                check_one(mode, &instructions[i], &prefixes[p]);
            }
        }
    }
    svm_stop();
}
