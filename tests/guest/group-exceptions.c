/* SPDX-License-Identifier: MIT */
/*
 * Group `exceptions`: every exception that code can raise on purpose arrives at the guest with its vector,
 * error code, RIP and CR2 or DR6, from ring 0 and ring 3.
 */
#include "tests/guest/guest.h"

enum {
    PAGE_DATA = 12,
    PAGE_ABSENT = 13,
    ERROR_P = 1,
    ERROR_W = 2,
    ERROR_U = 4,
    ERROR_RSVD = 8,
    ERROR_ID = 16
};

static u8 data_page[PAGE_SIZE] __attribute__((aligned(4096)));

static void expect(const char *name, enum code_mode mode, struct code code, u64 vector, u64 error, u64 offset)
{
    u64 got = execute(mode, &code);
    bool right = got == vector && fault.error == error && fault.frame.rip == execute_address(mode) + offset;
    check(name, right);
    if (!right)
        print("guest: vector %lu error 0x%lx rip +0x%lx, want vector %lu error 0x%lx rip +0x%lx\n", got,
              fault.error, fault.frame.rip - execute_address(mode), vector, error, offset);
}

static void simple(void)
{
    expect("exceptions.de", RING0_64, (struct code){CODE("\xf7\xf1")}, EXC_DE, 0, 0);
    expect("exceptions.de_ring3", RING3_64, (struct code){CODE("\xf7\xf1")}, EXC_DE, 0, 0);
    expect("exceptions.bp", RING3_64, (struct code){CODE("\xcc")}, EXC_BP, 0, 1);
    expect("exceptions.ud", RING0_64, (struct code){CODE("\x0f\x0b")}, EXC_UD, 0, 0);
    expect("exceptions.ud_ring3", RING3_32, (struct code){CODE("\x0f\x0b")}, EXC_UD, 0, 0);
    /* MOV AL, 7FH; ADD AL, 1; INTO */
    expect("exceptions.of", RING3_32, (struct code){CODE("\xb0\x7f\x04\x01\xce")}, EXC_OF, 0, 5);
    /* BOUND EAX, [ESI]: both bounds are 0, EAX is 5. */
    window_map(PAGE_DATA, (u64)data_page, PTE_P | PTE_W | PTE_U);
    expect("exceptions.br", RING3_32,
           (struct code){CODE("\x62\x06"), .rax = 5, .rsi = WINDOW + PAGE_DATA * PAGE_SIZE}, EXC_BR, 0, 0);
    expect("exceptions.gp_cli_ring3", RING3_64, (struct code){CODE("\xfa")}, EXC_GP, 0, 0);
    expect("exceptions.gp_hlt_ring3", RING3_64, (struct code){CODE("\xf4")}, EXC_GP, 0, 0);
    expect("exceptions.gp_in_ring3", RING3_64, (struct code){CODE("\xec"), .rdx = 0x3fd}, EXC_GP, 0, 0);
    expect("exceptions.gp_int_ring3", RING3_64, (struct code){CODE("\xcd\x41")}, EXC_GP, 0x41 << 3 | 2, 0);
    expect("exceptions.gp_mov_cr0_ring3", RING3_64, (struct code){CODE("\x0f\x20\xc0")}, EXC_GP, 0, 0);
    expect("exceptions.gp_not_canonical", RING0_64, (struct code){CODE("\x48\x8b\x06"), .rsi = BIT(63)},
           EXC_GP, 0, 0);
    /* MOV FS, AX */
    expect("exceptions.np", RING0_64, (struct code){CODE("\x8e\xe0"), .rax = SEL_NOT_PRESENT}, EXC_NP,
           SEL_NOT_PRESENT, 0);
    expect("exceptions.gp_beyond_gdt", RING0_64, (struct code){CODE("\x8e\xe0"), .rax = 0xfff8}, EXC_GP,
           0xfff8, 0);
    expect("exceptions.ss_not_present", RING0_64, (struct code){CODE("\x8e\xd0"), .rax = SEL_NOT_PRESENT},
           EXC_SS, SEL_NOT_PRESENT, 0);
    /* MOV RBP, RSI; MOV RAX, [RBP] */
    expect("exceptions.ss_not_canonical", RING0_64,
           (struct code){CODE("\x48\x89\xf5\x48\x8b\x45\x00"), .rsi = BIT(62)}, EXC_SS, 0, 3);
}

static void debug_traps(void)
{
    u64 watched = (u64)data_page;
    expect("exceptions.db_int1", RING0_64, (struct code){CODE("\xf1")}, EXC_DB, 0, 1);
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ull));
    /* A write watchpoint of eight bytes: the trap comes after MOV [RSI], RAX. */
    __asm__ volatile("mov %0, %%dr1; mov %1, %%dr7" ::"r"(watched), "r"(0x00900408ull));
    const struct code store = {CODE("\x48\x89\x06\x90"), .rsi = watched};
    u64 vector = execute(RING0_64, &store);
    check("exceptions.db_write_watchpoint",
          vector == EXC_DB && fault.frame.rip == execute_address(RING0_64) + 3 && (fault.dr6 & 0xf) == 2);
    const struct code load = {CODE("\x48\x8b\x06\x90"), .rsi = watched};
    check_eq("exceptions.db_read_is_no_write", execute(RING0_64, &load), VECTOR_DONE);
    __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ull));
    __asm__ volatile("mov %0, %%dr7" ::"r"(0x400ull));
    check_eq("exceptions.db_off_again", execute(RING0_64, &store), VECTOR_DONE);
    /* DR7.GD: the next access to a debug register traps before it. */
    __asm__ volatile("mov %0, %%dr7" ::"r"(0x2400ull));
    const struct code move = {CODE("\x0f\x21\xf8")};
    vector = execute(RING0_64, &move);
    u64 dr7;
    __asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
    check("exceptions.db_general_detect",
          vector == EXC_DB && (fault.dr6 & BIT(13)) && fault.frame.rip == execute_address(RING0_64));
    check("exceptions.db_clears_gd", !(dr7 & 0x2000));
    __asm__ volatile("mov %0, %%dr7; mov %1, %%dr6" ::"r"(0x400ull), "r"(0xffff0ff0ull));
    u64 cr4 = read_cr4();
    write_cr4(cr4 | CR4_DE);
    expect("exceptions.dr4_with_de", RING0_64, (struct code){CODE("\x0f\x21\xe0")}, EXC_UD, 0, 0);
    write_cr4(cr4);
    expect("exceptions.dr7_high_bits", RING0_64, (struct code){CODE("\x0f\x23\xf8"), .rax = BIT(32)}, EXC_GP,
           0, 0);
}

/* MOV RAX, [RSI] or MOV [RSI], RAX at window page 12 with the given entry. */
static void page_fault(const char *name, enum code_mode mode, u64 entry, bool write, u64 error)
{
    u64 address = WINDOW + PAGE_DATA * PAGE_SIZE + 0x123;
    struct code code = {CODE("\x48\x8b\x06"), .rsi = address};
    if (write)
        code.bytes = "\x48\x89\x06";
    window_set(PAGE_DATA, entry);
    expect(name, mode, code, EXC_PF, error, 0);
    char cr2[64];
    print_to(cr2, sizeof(cr2), "%s_cr2", name);
    check_eq(cr2, fault.cr2, address);
}

static void page_faults(void)
{
    u64 page = (u64)data_page;
    page_fault("exceptions.pf_absent", RING0_64, 0, false, 0);
    page_fault("exceptions.pf_absent_write", RING0_64, 0, true, ERROR_W);
    page_fault("exceptions.pf_absent_ring3", RING3_64, 0, false, ERROR_U);
    page_fault("exceptions.pf_read_only", RING0_64, page | PTE_P, true, ERROR_P | ERROR_W);
    page_fault("exceptions.pf_read_only_ring3", RING3_64, page | PTE_P | PTE_U, true,
               ERROR_P | ERROR_W | ERROR_U);
    page_fault("exceptions.pf_supervisor_page", RING3_64, page | PTE_P | PTE_W, false, ERROR_P | ERROR_U);
    page_fault("exceptions.pf_reserved_bit", RING0_64, page | PTE_P | PTE_W | BIT(51), false,
               ERROR_P | ERROR_RSVD);
    page_fault("exceptions.pf_reserved_maxphyaddr", RING0_64, page | PTE_P | PTE_W | BIT(physical_bits), true,
               ERROR_P | ERROR_W | ERROR_RSVD);

    u64 target = WINDOW + PAGE_DATA * PAGE_SIZE;
    data_page[0] = 0xc3;
    window_set(PAGE_DATA, page | PTE_P | PTE_U | PTE_NX);
    u64 vector = execute_at(RING3_64, target, &(const struct code){0});
    check("exceptions.pf_no_execute_ring3",
          vector == EXC_PF && fault.error == (ERROR_P | ERROR_U | ERROR_ID) && fault.cr2 == target);
    vector = execute_at(RING0_64, target, &(const struct code){0});
    check("exceptions.pf_no_execute",
          vector == EXC_PF && fault.error == (ERROR_P | ERROR_ID) && fault.cr2 == target);
    if (cpuid(7, 0).ebx & BIT(7)) {
        window_set(PAGE_DATA, page | PTE_P | PTE_U);
        write_cr4(read_cr4() | CR4_SMEP);
        vector = execute_at(RING0_64, target, &(const struct code){0});
        write_cr4(read_cr4() & ~CR4_SMEP);
        check("exceptions.pf_smep",
              vector == EXC_PF && fault.error == (ERROR_P | ERROR_ID) && fault.cr2 == target);
    }
    if (cpuid(7, 0).ebx & BIT(20)) {
        u64 value;
        window_set(PAGE_DATA, page | PTE_P | PTE_U);
        write_cr4(read_cr4() | CR4_SMAP);
        u64 with_smap = try_read64(target, &value);
        u64 error = fault.error;
        write_cr4(read_cr4() & ~CR4_SMAP);
        check("exceptions.pf_smap", with_smap == EXC_PF && error == ERROR_P);
    }
    window_set(PAGE_DATA, page | PTE_P | PTE_W | PTE_U);
    u64 entry = window_get(PAGE_DATA), value;
    try_read64(target, &value);
    check_eq("exceptions.accessed_bit", window_get(PAGE_DATA) & (PTE_A | PTE_D), PTE_A);
    try_write64(target, 1);
    check_eq("exceptions.dirty_bit", window_get(PAGE_DATA), entry | PTE_A | PTE_D);
}

static void double_fault(void)
{
    /* #GP whose gate is not present: a second contributory exception. */
    const struct code code = {CODE("\x48\x8b\x06"), .rsi = BIT(63)};
    trap_set_present(EXC_GP, false);
    u64 vector = execute(RING0_64, &code);
    trap_set_present(EXC_GP, true);
    check_eq("exceptions.df", vector, EXC_DF);
    check_eq("exceptions.df_error", fault.error, 0);
    /* #UD whose gate is not present is benign: #NP with the gate's error code follows. */
    const struct code undefined = {CODE("\x0f\x0b")};
    trap_set_present(EXC_UD, false);
    vector = execute(RING0_64, &undefined);
    trap_set_present(EXC_UD, true);
    check("exceptions.np_in_delivery", vector == EXC_NP && (fault.error & ~1ull) == (EXC_UD << 3 | 2));
    /* The same for an exception that a hypervisor injects: an undefined VMX or SVM instruction. */
    const struct code injected = {CODE("\x0f\x01\xc2")};
    trap_set_present(EXC_UD, false);
    vector = execute(RING0_64, &injected);
    trap_set_present(EXC_UD, true);
    check("exceptions.np_in_delivery_of_injected_ud",
          vector == EXC_NP && (fault.error & ~1ull) == (EXC_UD << 3 | 2));
}

static void alignment(void)
{
    u64 cr0 = read_cr0();
    window_map(PAGE_DATA, (u64)data_page, PTE_P | PTE_W | PTE_U);
    const struct code code = {CODE("\x48\x8b\x06"), .rsi = WINDOW + PAGE_DATA * PAGE_SIZE + 1,
                              .rflags = RFLAGS_AC};
    write_cr0(cr0 | CR0_AM);
    u64 vector = execute(RING3_64, &code);
    write_cr0(cr0);
    check_eq("exceptions.ac", vector, EXC_AC);
}

static void floating_point(void)
{
    u64 cr0 = read_cr0(), cr4 = read_cr4();
    write_cr0((cr0 & ~CR0_EM) | CR0_TS | CR0_MP | CR0_NE);
    /* FNINIT */
    expect("exceptions.nm", RING0_64, (struct code){CODE("\xdb\xe3")}, EXC_NM, 0, 0);
    __asm__ volatile("clts");
    check("exceptions.clts", !(read_cr0() & CR0_TS));
    /* FNINIT; FLDCW [RSI] with divide-by-zero unmasked; FLD1; FLDZ; FDIVP; FWAIT */
    data_page[0] = 0x7b;
    data_page[1] = 0x03;
    expect("exceptions.mf", RING0_64,
           (struct code){CODE("\xdb\xe3\xd9\x2e\xd9\xe8\xd9\xee\xde\xf9\x9b"), .rsi = (u64)data_page}, EXC_MF,
           0, 10);
    __asm__ volatile("fninit");
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    /* LDMXCSR [RSI] with divide-by-zero unmasked; CVTSI2SS XMM0, EAX; XORPS XMM1, XMM1; DIVSS XMM0, XMM1 */
    memcpy(data_page, "\x80\x1d\x00\x00", 4);
    expect("exceptions.xm", RING0_64,
           (struct code){CODE("\x0f\xae\x16\xf3\x0f\x2a\xc0\x0f\x57\xc9\xf3\x0f\x5e\xc1"), .rax = 1,
                         .rsi = (u64)data_page},
           EXC_XM, 0, 10);
    write_cr4(cr4);
    write_cr0(cr0);
}

static void other_instructions(void)
{
    expect("exceptions.invd_runs", RING0_64, (struct code){CODE("\x0f\x08")}, VECTOR_DONE, 0, 4);
    expect("exceptions.wbinvd_runs", RING0_64, (struct code){CODE("\x0f\x09")}, VECTOR_DONE, 0, 4);
    expect("exceptions.invd_ring3", RING3_64, (struct code){CODE("\x0f\x08")}, EXC_GP, 0, 0);
    expect("exceptions.pause_runs", RING0_64, (struct code){CODE("\xf3\x90")}, VECTOR_DONE, 0, 4);
    expect("exceptions.invlpg_runs", RING0_64, (struct code){CODE("\x0f\x01\x3e"), .rsi = (u64)data_page},
           VECTOR_DONE, 0, 5);
}

void group_exceptions(void)
{
    simple();
    debug_traps();
    page_faults();
    double_fault();
    alignment();
    floating_point();
    other_instructions();
}
