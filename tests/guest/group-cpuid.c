/* SPDX-License-Identifier: MIT */
/*
 * Group `cpuid`: CPUID always exits under a hypervisor, so here it stands for every skipped instruction: in
 * each mode, with redundant prefixes, across a page boundary, with TF set and in an interrupt shadow, nothing
 * may differ from the bare CPU.
 */
#include "tests/guest/guest.h"

enum { PAGE_LEFT = 8, PAGE_RIGHT = 9, STEPS_MAX = 8 };

static u8 split_pages[3 * PAGE_SIZE] __attribute__((aligned(4096)));
static unsigned step_count, step_wanted;
static u64 step_rip[STEPS_MAX], step_dr6[STEPS_MAX];

static void name_in_mode(char *name, size_t size, const char *what, enum code_mode mode)
{
    print_to(name, size, "cpuid.%s_%s", what, code_mode_name[mode]);
}

/* CPUID leaf 0 ran to its end at `after`, and changed nothing but its four registers. */
static bool leaf0_right(enum code_mode mode, u64 vector, u64 after)
{
    const struct frame *frame = &fault.frame;
    struct cpuid want = cpuid(0, 0);
    u64 mask = mode == RING0_64 || mode == RING3_64 ? ~0ull : 0xffffffff;
    bool registers = (frame->rax & mask) == want.eax && (frame->rbx & mask) == want.ebx &&
                     (frame->rcx & mask) == want.ecx && (frame->rdx & mask) == want.edx &&
                     (frame->rsi & mask) == (0x1122334455667788 & mask) && (frame->rdi & mask) == 99;
    return vector == VECTOR_DONE && frame->rip == after && registers;
}

static const struct code leaf0 = {.rax = 0xffffffff00000000,
                                  .rbx = ~0ull,
                                  .rcx = 0xffffffff00000000,
                                  .rdx = ~0ull,
                                  .rsi = 0x1122334455667788,
                                  .rdi = 99};

static void with_prefixes(void)
{
    static const struct {
        const char *name, *bytes;
        size_t size;
        bool only64;
    } forms[] = {
        {"plain", "\x0f\xa2", 2, false},
        {"66", "\x66\x0f\xa2", 3, false},
        {"f2", "\xf2\x0f\xa2", 3, false},
        {"f3", "\xf3\x0f\xa2", 3, false},
        {"segment", "\x2e\x0f\xa2", 3, false},
        {"67", "\x67\x0f\xa2", 3, false},
        {"rex", "\x48\x0f\xa2", 3, true},
        {"f2_rex", "\xf2\x4f\x0f\xa2", 4, true},
        {"15_bytes", "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x0f\xa2", 15, false},
    };
    char name[64];
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        for (enum code_mode mode = RING0_64; mode <= RING3_32; mode++) {
            if (forms[i].only64 && (mode == RING0_32 || mode == RING3_32))
                continue;
            struct code code = leaf0;
            code.bytes = forms[i].bytes;
            code.size = forms[i].size;
            u64 vector = execute(mode, &code);
            name_in_mode(name, sizeof(name), forms[i].name, mode);
            check(name, leaf0_right(mode, vector, execute_address(mode) + forms[i].size + 2));
        }
    }
    const struct code lock = {CODE("\xf0\x0f\xa2")};
    check_eq("cpuid.lock_prefix", execute(RING0_64, &lock), EXC_UD);
    const struct code too_long = {CODE("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x0f\xa2")};
    check_eq("cpuid.16_bytes", execute(RING0_64, &too_long), EXC_GP);
}

/* The instruction's second byte on another page, whose frame is not the next one. */
static void across_pages(void)
{
    char name[64];
    u64 left = (u64)split_pages, right = (u64)split_pages + 2 * PAGE_SIZE,
        at = WINDOW + PAGE_RIGHT * PAGE_SIZE - 1;
    split_pages[PAGE_SIZE - 1] = 0x0f;
    memcpy(&split_pages[2 * PAGE_SIZE], "\xa2\xcd\x80", 3);
    window_map(PAGE_LEFT, left, PTE_P | PTE_U);
    window_set(PAGE_RIGHT, 0);
    /* First, since Bochs keeps an instruction that crossed a page once, whatever becomes of the page. */
    u64 missing = execute_at(RING3_64, at, &leaf0);
    check("cpuid.across_to_missing_page", missing == EXC_PF && fault.cr2 == at + 1 && fault.frame.rip == at);
    window_map(PAGE_RIGHT, right, PTE_P | PTE_U);
    for (enum code_mode mode = RING0_64; mode <= RING3_32; mode++) {
        u64 vector = execute_at(mode, at, &leaf0);
        name_in_mode(name, sizeof(name), "across_pages", mode);
        check(name, leaf0_right(mode, vector, at + 4));
    }
}

static bool single_step(struct frame *frame)
{
    if (step_count < STEPS_MAX) {
        step_rip[step_count] = frame->rip;
        __asm__ volatile("mov %%dr6, %0" : "=r"(step_dr6[step_count]));
    }
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ull));
    if (++step_count >= step_wanted)
        frame->rflags &= ~RFLAGS_TF;
    return true;
}

/* Steps through the bytes `wanted` times; true if the traps came after exactly these offsets. */
static bool steps(enum code_mode mode, struct code code, unsigned wanted, const u8 *offsets)
{
    step_count = 0;
    step_wanted = wanted;
    code.rflags = RFLAGS_TF;
    trap_set_hook(EXC_DB, single_step);
    u64 vector = execute(mode, &code);
    trap_set_hook(EXC_DB, NULL);
    bool right = vector == VECTOR_DONE && step_count == wanted;
    for (unsigned i = 0; i < wanted && i < STEPS_MAX; i++)
        right =
            right && step_rip[i] == execute_address(mode) + offsets[i] && (step_dr6[i] & 0xe00f) == 0x4000;
    if (!right) {
        for (unsigned i = 0; i < step_count && i < STEPS_MAX; i++)
            print("guest: step %u at +0x%lx dr6 0x%lx\n", i, step_rip[i] - execute_address(mode),
                  step_dr6[i]);
    }
    return right;
}

static void with_trap_flag(void)
{
    char name[64];
    for (enum code_mode mode = RING0_64; mode <= RING3_32; mode++) {
        const struct code once = {CODE("\x0f\xa2\x90\x90")};
        name_in_mode(name, sizeof(name), "trap_flag", mode);
        check(name, steps(mode, once, 1, (const u8[]){2}));
        const struct code several = {CODE("\x90\x0f\xa2\x0f\xa2\x90\x90")};
        name_in_mode(name, sizeof(name), "trap_flag_each", mode);
        check(name, steps(mode, several, 4, (const u8[]){1, 3, 5, 6}));
    }
    /* Other instructions that a hypervisor may intercept: XGETBV is not one of them, RDMSR of an intercepted
     * MSR is. */
    const struct code rdmsr_step = {CODE("\x0f\x32\x90\x90"), .rcx = 0xfe};
    check("cpuid.trap_flag_rdmsr", steps(RING0_64, rdmsr_step, 1, (const u8[]){2}));
    if (under_umbra) {
        const struct code vmcall_step = {CODE("\x0f\x01\xc1\x90\x90"), .rax = HYPERCALL_MAGIC,
                                         .rcx = HYPERCALL_EXITS};
        const struct code vmmcall_step = {CODE("\x0f\x01\xd9\x90\x90"), .rax = HYPERCALL_MAGIC,
                                          .rcx = HYPERCALL_EXITS};
        check("cpuid.trap_flag_hypercall",
              steps(RING0_64, is_intel ? vmcall_step : vmmcall_step, 1, (const u8[]){3}));
    }
    /* MOV SS holds the trap back until after the next instruction; the skipped CPUID must end that. */
    const struct code shadow = {CODE("\x8e\xd0\x0f\xa2\x90\x90"), .rax = SEL_DATA};
    check("cpuid.trap_flag_after_mov_ss", steps(RING0_64, shadow, 1, (const u8[]){4}));
}

/* RF is set by IRETQ and lasts for one instruction: a breakpoint on the one after CPUID has to fire. */
static void resume_flag(void)
{
    const struct code code = {CODE("\x0f\xa2\x90"), .rflags = RFLAGS_RF};
    u64 next = execute_address(RING0_64) + 2;
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" ::"r"(next), "r"(0x402ull));
    u64 vector = execute(RING0_64, &code);
    __asm__ volatile("mov %0, %%dr7; mov %1, %%dr6" ::"r"(0x400ull), "r"(0xffff0ff0ull));
    check("cpuid.clears_rf", vector == EXC_DB && fault.frame.rip == next);
}

/* An instruction breakpoint on CPUID itself fires before it, once, and not again when RF lets it pass. */
static void breakpoint_on_cpuid(void)
{
    const struct code code = {CODE("\x0f\xa2")};
    u64 address = execute_address(RING0_64);
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" ::"r"(address), "r"(0x402ull));
    u64 vector = execute(RING0_64, &code);
    bool hit = vector == EXC_DB && fault.frame.rip == address && (fault.dr6 & 0xf) == 1;
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ull));
    struct code again = code;
    again.rflags = RFLAGS_RF;
    vector = execute(RING0_64, &again);
    __asm__ volatile("mov %0, %%dr7" ::"r"(0x400ull));
    check("cpuid.instruction_breakpoint", hit);
    check("cpuid.instruction_breakpoint_with_rf", vector == VECTOR_DONE);
}

static void features_follow_control_registers(void)
{
    u64 cr4 = read_cr4();
    if (!(cpuid(1, 0).ecx & BIT(26))) {
        note_skipped("cpuid.osxsave", "no XSAVE");
        return;
    }
    write_cr4(cr4 & ~CR4_OSXSAVE);
    check("cpuid.osxsave_clear", !(cpuid(1, 0).ecx & BIT(27)));
    write_cr4(cr4 | CR4_OSXSAVE);
    check("cpuid.osxsave_set", (cpuid(1, 0).ecx & BIT(27)) != 0);
    write_cr4(cr4);
    if (cpuid(7, 0).ecx & BIT(3)) {
        write_cr4(cr4 | CR4_PKE);
        check("cpuid.ospke_set", (cpuid(7, 0).ecx & BIT(4)) != 0);
        write_cr4(cr4);
        check("cpuid.ospke_clear", !(cpuid(7, 0).ecx & BIT(4)));
    }
}

void group_cpuid(void)
{
    with_prefixes();
    across_pages();
    with_trap_flag();
    resume_flag();
    breakpoint_on_cpuid();
    features_follow_control_registers();
}
