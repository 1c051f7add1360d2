/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-ept: L2 under page tables of L1's making: permissions, misconfigurations, page sizes, accessed
 * and dirty flags, and what has to be seen with and without INVEPT. Source: SDM vol. 3C 29.3, 29.4, table
 * 28-7.
 */
#include "tests/guest/vmx.h"

/* Exit qualification of an EPT violation. */
enum {
    Q_READ = 1,
    Q_WRITE = 2,
    Q_FETCH = 4,
    Q_ENTRY = 3, /* shift of the entries' permissions */
    Q_LINEAR = BIT(7),
    Q_TRANSLATED = BIT(8),
    Q_USER = BIT(9),
    Q_PAGE_WRITABLE = BIT(10),
    Q_PAGE_XD = BIT(11),
};
enum { PAGE_TEST = 8, PAGE_OTHER = 9, PAGE_USER_CODE = 10 };

static u8 page[PAGE_SIZE] __attribute__((aligned(4096))), page2[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 user_page[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 table[512] __attribute__((aligned(4096))), other_pml4[512] __attribute__((aligned(4096))),
    other_pdpt[512] __attribute__((aligned(4096))), other_directory[512] __attribute__((aligned(4096))),
    other_window[512] __attribute__((aligned(4096)));

L2_CODE(code_read, "", "mov (%rbx), %rax");
L2_CODE(code_write, "", "mov %rax, (%rbx)");
L2_CODE(code_update, "", "addq $1, (%rbx)");
L2_CODE(code_jump, "", "jmp *%rbx");

static bool mbec;
static bool advanced;
static bool execute_only;

static u64 no_invept(void)
{
    return END_SUCCEED;
}

static u64 invept_all(void)
{
    return try_invept(2, 0, 0);
}

static u64 invept_single(void)
{
    return try_invept(1, vmread(VMCS_EPT_POINTER), 0);
}

static void set_leaf(unsigned index, u64 entry)
{
    ept_window[index] = entry;
    (void)invept_all();
}

static void prepare(bool with_mbec)
{
    vmx_reset();
    if (with_mbec)
        vmx_set(WORD_SECONDARY, SECONDARY_MBEC);
    vmwrite(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    l2.rbx = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
    memset(page, 0, PAGE_SIZE);
    memcpy(page, "\x0f\x01\xc1\x0f\x01\xc1", 6); /* VMCALL */
}

/* L2 in ring 3, which can leave by an exit only: its code in a page of its own. */
static void enter_user(const struct l2_code *code)
{
    memcpy(user_page, code->start, (size_t)(code->next - code->start));
    memcpy(user_page + (code->next - code->start), "\x0f\xa2", 2); /* CPUID: an exit from ring 3, too */
    vmwrite(VMCS_GUEST_RIP, (u64)window_map(PAGE_USER_CODE, (u64)user_page, PTE_P | PTE_U | PTE_A));
    vmwrite(VMCS_GUEST_CS_SELECTOR, SEL_USER_CODE64);
    vmwrite(VMCS_GUEST_CS_RIGHTS, 0xa0fb);
    vmwrite(VMCS_GUEST_SS_SELECTOR, SEL_USER_DATA);
    vmwrite(VMCS_GUEST_SS_RIGHTS, 0xc0f3);
    for (unsigned segment = VMCS_ES; segment <= VMCS_GS; segment++) {
        if (segment == VMCS_CS || segment == VMCS_SS)
            continue;
        vmwrite(vmcs_segment_field(VMCS_GUEST_ES_SELECTOR, (enum vmcs_segment)segment), SEL_USER_DATA);
        vmwrite(vmcs_segment_field(VMCS_GUEST_ES_RIGHTS, (enum vmcs_segment)segment), 0xc0f3);
    }
    /* What executes from the page ends by an exit that ring 3 can make. */
    memcpy(page, "\x0f\xa2", 2);
}

/* --- permissions --- */

enum access { READ, WRITE, UPDATE, FETCH, ACCESSES };
static const char *const access_name[ACCESSES] = {"read", "write", "update", "fetch"};
static const struct l2_code *const access_code[ACCESSES] = {&code_read, &code_write, &code_update,
                                                            &code_jump};

static bool access_allowed(u64 permissions, enum access access, bool user, bool with_mbec)
{
    switch (access) {
    case READ:
        return (permissions & EPT_R) != 0;
    case WRITE:
        return (permissions & EPT_W) != 0;
    case UPDATE:
        return (permissions & (EPT_R | EPT_W)) == (EPT_R | EPT_W);
    default:
        return (permissions & (with_mbec && user ? (u64)EPT_XU : (u64)EPT_X)) != 0;
    }
}

static u64 expected_qualification(u64 permissions, enum access access, bool user_mode_page, bool with_mbec)
{
    static const u64 kind[ACCESSES] = {Q_READ, Q_WRITE, Q_READ | Q_WRITE, Q_FETCH};
    u64 value = kind[access] | (permissions & EPT_RWX) << Q_ENTRY | Q_LINEAR | Q_TRANSLATED;

    if (with_mbec && (permissions & EPT_XU) != 0)
        value |= BIT(6);
    if (advanced) {
        value |= Q_PAGE_WRITABLE;
        if (user_mode_page)
            value |= Q_USER;
    }
    return value;
}

/* `user`: a user page, and L2 in ring 3 for it (a fetch from a user page by ring 0 is a matter of MBEC, too).
 */
static void check_permission(u64 permissions, enum access access, bool user, bool with_mbec)
{
    char prefix[96];

    prepare(with_mbec);
    set_leaf(PAGE_TEST, (u64)page | permissions |
                            ((permissions & EPT_RWX) || (with_mbec && permissions) ? (u64)EPT_WB : 0));
    l2.rbx = (u64)l2_window(PAGE_TEST, PTE_P | PTE_W | PTE_A | PTE_D | (user ? PTE_U : 0));
    vmwrite(VMCS_GUEST_RIP, (u64)access_code[access]->start);
    if (user)
        enter_user(access_code[access]);
    print_to(prefix, sizeof(prefix), "vmx-ept.%s%c%c%c%c.%s.%s", with_mbec ? "mbec_" : "",
             permissions & EPT_R ? 'r' : '-', permissions & EPT_W ? 'w' : '-',
             permissions & EPT_X ? 'x' : '-', permissions & EPT_XU ? 'u' : '-', user ? "user" : "supervisor",
             access_name[access]);
    u64 reason = vmx_resume();
    if (access_allowed(permissions, access, user, with_mbec)) {
        check_part(prefix, "allowed", reason, user ? REASON_CPUID : REASON_VMCALL);
        return;
    }
    check_part(prefix, "reason", reason, REASON_EPT_VIOLATION);
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION),
        want = expected_qualification(permissions, access, user, with_mbec);
    /* A read-modify-write may be reported as either or both; bit 6, which is undefined without the control,
     * and what Bochs sets in its place are looked at alone. */
    u64 ignored = BIT(6) | BIT(13) | (access == UPDATE ? (u64)(Q_READ | Q_WRITE) : 0);
    check_part(prefix, "qualification", qualification & ~ignored, want & ~ignored);
    if (access == UPDATE)
        check_part(prefix, "is_data", (qualification & (Q_READ | Q_WRITE)) != 0, true);
    if (with_mbec)
        check_part(prefix, "user_execute_bit", qualification & (BIT(6) | BIT(13)), want & BIT(6));
    check_part(prefix, "physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), EPT_WINDOW + PAGE_TEST * PAGE_SIZE);
    check_part(prefix, "linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), l2.rbx);
}

static bool permissions_valid(u64 permissions, bool with_mbec)
{
    bool readable = permissions & EPT_R, writable = permissions & EPT_W;
    bool executable = (permissions & EPT_X) != 0 || (with_mbec && (permissions & EPT_XU) != 0);

    return readable || (!writable && (!executable || execute_only));
}

static void check_permissions(void)
{
    for (unsigned with_mbec = 0; with_mbec <= (mbec ? 1u : 0u); with_mbec++) {
        for (u64 bits = 0; bits < (with_mbec ? 16 : 8); bits++) {
            u64 permissions = (bits & 7) | (bits & 8 ? (u64)EPT_XU : 0);
            if (!permissions_valid(permissions, with_mbec))
                continue;
            for (unsigned access = READ; access < ACCESSES; access++) {
                check_permission(permissions, (enum access)access, false, with_mbec);
                check_permission(permissions, (enum access)access, true, with_mbec);
            }
        }
    }
}

/* The permissions of all levels count: those of the directory are taken away. */
static void check_upper_levels(void)
{
    static const u64 left[] = {EPT_R, EPT_R | EPT_W, EPT_R | EPT_X, 0};
    static const char *const names[] = {"r", "rw", "rx", "none"};
    char prefix[64];

    for (unsigned i = 0; i < ARRAY_SIZE(left); i++) {
        for (unsigned access = READ; access < ACCESSES; access++) {
            prepare(false);
            set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
            ept_window_directory[0] = left[i] ? (u64)ept_window | left[i] : 0;
            (void)invept_all();
            print_to(prefix, sizeof(prefix), "vmx-ept.directory_%s.%s", names[i], access_name[access]);
            u64 reason = vmx_run(access_code[access]);
            bool allowed = access_allowed(left[i], (enum access)access, false, false);
            check_part(prefix, "reason", reason, allowed ? REASON_VMCALL : REASON_EPT_VIOLATION);
            if (!allowed)
                check_part(prefix, "entry_bits", vmread(VMCS_EXIT_QUALIFICATION) >> Q_ENTRY & 7, left[i]);
        }
    }
}

/* --- misconfigurations --- */

static void check_misconfiguration(const char *name, u64 *entry, u64 value, bool bad)
{
    char prefix[64];

    prepare(false);
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    *entry = value;
    (void)invept_all();
    print_to(prefix, sizeof(prefix), "vmx-ept.misconfiguration.%s", name);
    check_part(prefix, "reason", vmx_run(&code_read), bad ? REASON_EPT_MISCONFIGURATION : REASON_VMCALL);
    if (bad && entry != &ept_pml4[0])
        check_part(prefix, "physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
                   EPT_WINDOW + PAGE_TEST * PAGE_SIZE);
}

static void check_misconfigurations(void)
{
    u64 *leaf = &ept_window[PAGE_TEST], *directory = &ept_window_directory[0], *pdpt = &ept_pdpt[4];
    u64 good = (u64)page | EPT_RWX | EPT_WB;
    char name[32];

    check_misconfiguration("write_only", leaf, (good & ~(u64)EPT_RWX) | EPT_W, true);
    check_misconfiguration("write_execute", leaf, (good & ~(u64)EPT_RWX) | EPT_W | EPT_X, true);
    check_misconfiguration("directory_write_only", directory, (u64)ept_window | EPT_W, true);
    check_misconfiguration("pdpt_write_only", pdpt, (u64)ept_window_directory | EPT_W, true);
    for (u64 type = 0; type < 8; type++) {
        bool bad = type == 2 || type == 3 || type == 7;
        print_to(name, sizeof(name), "memory_type_%u", (unsigned)type);
        check_misconfiguration(name, leaf, (u64)page | EPT_RWX | type << 3, bad);
    }
    for (unsigned bit = physical_bits; bit < 52; bit += 3) {
        print_to(name, sizeof(name), "leaf_bit_%u", bit);
        check_misconfiguration(name, leaf, good | BIT(bit), true);
        print_to(name, sizeof(name), "directory_bit_%u", bit);
        check_misconfiguration(name, directory, (u64)ept_window | EPT_RWX | BIT(bit), true);
    }
    for (unsigned bit = 3; bit < 7; bit++) {
        print_to(name, sizeof(name), "directory_bit_%u", bit);
        check_misconfiguration(name, directory, (u64)ept_window | EPT_RWX | BIT(bit), true);
        print_to(name, sizeof(name), "pdpt_bit_%u", bit);
        check_misconfiguration(name, pdpt, (u64)ept_window_directory | EPT_RWX | BIT(bit), true);
    }
    check_misconfiguration("pml4_bit_7", &ept_pml4[0], (u64)ept_pdpt | EPT_RWX | BIT(7), true);
    check_misconfiguration("directory_2m_unaligned", directory, MIB(2) | BIT(13) | EPT_RWX | EPT_WB | EPT_PS,
                           true);
    check_misconfiguration("pdpt_1g_unaligned", pdpt, BIT(21) | EPT_RWX | EPT_WB | EPT_PS, true);
    /* Bits that are ignored. */
    check_misconfiguration("leaf_bit_11", leaf, good | BIT(11), false);
    check_misconfiguration("leaf_bit_52", leaf, good | BIT(52), false);
    check_misconfiguration("leaf_bit_62", leaf, good | BIT(62), false);
    check_misconfiguration("leaf_bit_7", leaf, good | BIT(7), false);
    check_misconfiguration("directory_bit_11", directory, (u64)ept_window | EPT_RWX | BIT(11), false);
    check_misconfiguration("directory_bit_60", directory, (u64)ept_window | EPT_RWX | BIT(60), false);
    /* What is not present is a violation whatever its other bits are. */
    prepare(false);
    set_leaf(PAGE_TEST, BITS(51, 3) & ~BIT(10));
    check_eq("vmx-ept.not_present_with_bits", vmx_run(&code_read), REASON_EPT_VIOLATION);
}

/* --- page sizes --- */

static void check_sizes(void)
{
    volatile u64 *word = (volatile u64 *)page;

    prepare(false);
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    *word = 0x4444;
    check_eq("vmx-ept.4k.reason", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.4k.value", l2.rax, 0x4444);
    /* The same as 2 MByte and 1 GByte: the linear window leads into the page at its offset there. */
    if (ept_has(BIT(16))) {
        prepare(false);
        *word = 0x2222;
        ept_window_directory[1] = ((u64)page & ~(MIB(2) - 1)) | EPT_RWX | EPT_WB | EPT_PS;
        (void)invept_all();
        l2.rbx = (u64)window_map(PAGE_TEST, EPT_WINDOW + MIB(2) + ((u64)page & (MIB(2) - 1)), PTE_P | PTE_W);
        check_eq("vmx-ept.2m.reason", vmx_run(&code_read), REASON_VMCALL);
        check_eq("vmx-ept.2m.value", l2.rax, 0x2222);
        ept_window_directory[1] &= ~(u64)EPT_W;
        (void)invept_all();
        check_eq("vmx-ept.2m.write_denied", vmx_run(&code_write), REASON_EPT_VIOLATION);
        check_eq("vmx-ept.2m.physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
                 EPT_WINDOW + MIB(2) + ((u64)page & (MIB(2) - 1)));
    }
    if (ept_has(BIT(17))) {
        prepare(false);
        *word = 0x1111;
        ept_pdpt[5] = EPT_RWX | EPT_WB | EPT_PS;
        (void)invept_all();
        l2.rbx = (u64)window_map(PAGE_TEST, GIB(5) + (u64)page, PTE_P | PTE_W);
        check_eq("vmx-ept.1g.reason", vmx_run(&code_read), REASON_VMCALL);
        check_eq("vmx-ept.1g.value", l2.rax, 0x1111);
        ept_pdpt[5] &= ~(u64)EPT_W;
        (void)invept_all();
        check_eq("vmx-ept.1g.write_denied", vmx_run(&code_write), REASON_EPT_VIOLATION);
        check_eq("vmx-ept.1g.entry_bits", vmread(VMCS_EXIT_QUALIFICATION) >> Q_ENTRY & 7, EPT_R | EPT_X);
        ept_pdpt[5] = 0;
    }
    prepare(false);
    ept_pdpt[6] = 0;
    (void)invept_all();
    l2.rbx = (u64)window_map(PAGE_TEST, GIB(6) + 0x123000, PTE_P | PTE_W);
    check_eq("vmx-ept.pdpt_absent.reason", vmx_run(&code_read), REASON_EPT_VIOLATION);
    check_eq("vmx-ept.pdpt_absent.physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), GIB(6) + 0x123000);
    l2.rbx = (u64)window_map(PAGE_TEST, GIB(512) + 0x5000, PTE_P | PTE_W);
    if (physical_bits > 39) {
        check_eq("vmx-ept.pml4_absent.reason", vmx_run(&code_read), REASON_EPT_VIOLATION);
        check_eq("vmx-ept.pml4_absent.physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS), GIB(512) + 0x5000);
    }
}

/* --- violations by the walk of L2's own tables --- */

static void map_table(u64 permissions)
{
    set_leaf(PAGE_OTHER, (u64)table | permissions | EPT_WB);
    table[PAGE_TEST] = EPT_WINDOW + PAGE_TEST * PAGE_SIZE + (PTE_P | PTE_W | PTE_U);
    *window_directory_entry() = (EPT_WINDOW + PAGE_OTHER * PAGE_SIZE) | PTE_P | PTE_W | PTE_U | PTE_A;
}

static void check_walks(void)
{
    u64 saved = *window_directory_entry();
    u64 linear = WINDOW + PAGE_TEST * PAGE_SIZE;

    prepare(false);
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    map_table(EPT_R | EPT_W);
    check_eq("vmx-ept.walk.allowed", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.walk.accessed", table[PAGE_TEST] & (PTE_A | PTE_D), PTE_A);
    check_eq("vmx-ept.walk.write", vmx_run(&code_write), REASON_VMCALL);
    check_eq("vmx-ept.walk.dirty", table[PAGE_TEST] & (PTE_A | PTE_D), PTE_A | PTE_D);
    map_table(EPT_R);
    check_eq("vmx-ept.walk.flag_denied", vmx_run(&code_read), REASON_EPT_VIOLATION);
    check_eq("vmx-ept.walk.flag_denied_bits", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bf & ~(u64)Q_READ,
             Q_WRITE | EPT_R << Q_ENTRY | Q_LINEAR);
    check_eq("vmx-ept.walk.flag_denied_physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
             EPT_WINDOW + PAGE_OTHER * PAGE_SIZE + 8 * PAGE_TEST);
    check_eq("vmx-ept.walk.flag_denied_linear", vmread(VMCS_GUEST_LINEAR_ADDRESS), linear);
    table[PAGE_TEST] |= PTE_A | PTE_D;
    check_eq("vmx-ept.walk.flag_there", vmx_run(&code_read), REASON_VMCALL);
    ept_window[PAGE_OTHER] = 0;
    (void)invept_all();
    check_eq("vmx-ept.walk.absent", vmx_run(&code_read), REASON_EPT_VIOLATION);
    check_eq("vmx-ept.walk.absent_bits", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bd, Q_READ | Q_LINEAR);
    check_eq("vmx-ept.walk.absent_physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
             EPT_WINDOW + PAGE_OTHER * PAGE_SIZE + 8 * PAGE_TEST);
    ept_window[PAGE_OTHER] = (u64)table | EPT_W | EPT_WB;
    (void)invept_all();
    check_eq("vmx-ept.walk.misconfigured", vmx_run(&code_read), REASON_EPT_MISCONFIGURATION);
    *window_directory_entry() = saved;
    flush_tlb();
}

/* --- accessed and dirty flags --- */

static void flags_of(const char *name, u64 entry, u64 want)
{
    check_part("vmx-ept.flags", name, entry & (EPT_A | EPT_D), want);
}

static void check_flags(void)
{
    if (!ept_has(BIT(21))) {
        note_skipped("vmx-ept.flags", "the CPU has none");
        return;
    }
    prepare(false);
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    check_eq("vmx-ept.flags.off", vmx_run(&code_write), REASON_VMCALL);
    flags_of("off_untouched", ept_window[PAGE_TEST], 0);
    vmwrite(VMCS_EPT_POINTER, ept_pointer() | EPTP_AD);
    check_eq("vmx-ept.flags.read", vmx_run(&code_read), REASON_VMCALL);
    flags_of("leaf_read", ept_window[PAGE_TEST], EPT_A);
    flags_of("directory", ept_window_directory[0], EPT_A);
    flags_of("pdpt", ept_pdpt[4], EPT_A);
    flags_of("pml4", ept_pml4[0], EPT_A);
    flags_of("other_pdpt", ept_pdpt[7], 0);
    flags_of("code_2m", ept_directory[(u64)code_read.at >> 21] & (u64)EPT_A, EPT_A);
    check_eq("vmx-ept.flags.write", vmx_run(&code_write), REASON_VMCALL);
    flags_of("leaf_write", ept_window[PAGE_TEST], EPT_A | EPT_D);
    ept_window[PAGE_TEST] &= ~(u64)(EPT_A | EPT_D);
    (void)invept_single();
    check_eq("vmx-ept.flags.read_again", vmx_run(&code_read), REASON_VMCALL);
    flags_of("leaf_read_again", ept_window[PAGE_TEST], EPT_A);
    check_eq("vmx-ept.flags.write_again", vmx_run(&code_write), REASON_VMCALL);
    flags_of("leaf_write_again", ept_window[PAGE_TEST], EPT_A | EPT_D);
    ept_window[PAGE_TEST] = (u64)page | EPT_R | EPT_WB;
    (void)invept_all();
    check_eq("vmx-ept.flags.denied", vmx_run(&code_write), REASON_EPT_VIOLATION);
    check_eq("vmx-ept.flags.denied_not_dirty", ept_window[PAGE_TEST] & EPT_D, 0);
    /* 2 MByte */
    ept_window_directory[1] = ((u64)page & ~(MIB(2) - 1)) | EPT_RWX | EPT_WB | EPT_PS;
    (void)invept_all();
    l2.rbx = (u64)window_map(PAGE_TEST, EPT_WINDOW + MIB(2) + ((u64)page2 & (MIB(2) - 1)), PTE_P | PTE_W);
    if (((u64)page2 >> 21) == ((u64)page >> 21)) {
        check_eq("vmx-ept.flags.2m_read_runs", vmx_run(&code_read), REASON_VMCALL);
        flags_of("2m_read", ept_window_directory[1], EPT_A);
        check_eq("vmx-ept.flags.2m_write_runs", vmx_run(&code_write), REASON_VMCALL);
        flags_of("2m_write", ept_window_directory[1], EPT_A | EPT_D);
    }
    /* With the flags on, walks of L2's tables are writes as to EPT. */
    prepare(false);
    u64 saved = *window_directory_entry();
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    map_table(EPT_R);
    table[PAGE_TEST] |= PTE_A | PTE_D;
    vmwrite(VMCS_EPT_POINTER, ept_pointer() | EPTP_AD);
    (void)invept_all();
    check_eq("vmx-ept.flags.walk_is_write", vmx_run(&code_read), REASON_EPT_VIOLATION);
    check_eq("vmx-ept.flags.walk_bits", vmread(VMCS_EXIT_QUALIFICATION) & 0x1bb & ~(u64)Q_READ,
             Q_WRITE | EPT_R << Q_ENTRY | Q_LINEAR);
    map_table(EPT_R | EPT_W);
    table[PAGE_TEST] |= PTE_A | PTE_D;
    (void)invept_all();
    check_eq("vmx-ept.flags.walk_runs", vmx_run(&code_read), REASON_VMCALL);
    flags_of("walk_table_dirty", ept_window[PAGE_OTHER], EPT_A | EPT_D);
    *window_directory_entry() = saved;
    flush_tlb();
}

/* --- what changes when --- */

static void check_removal(const char *name, u64 (*invalidate)(void), bool add)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "vmx-ept.%s", name);
    prepare(false);
    set_leaf(PAGE_TEST, add ? 0 : (u64)page | EPT_RWX | EPT_WB);
    check_part(prefix, "before", vmx_run(&code_write), add ? REASON_EPT_VIOLATION : REASON_VMCALL);
    ept_window[PAGE_TEST] = (u64)page | EPT_WB | (add ? EPT_RWX : EPT_R);
    check_part(prefix, "invept", invalidate(), END_SUCCEED);
    check_part(prefix, "after", vmx_run(&code_write), add ? REASON_VMCALL : REASON_EPT_VIOLATION);
    ept_window[PAGE_TEST] = add ? 0 : (u64)page2 | EPT_RWX | EPT_WB;
    check_part(prefix, "invept_again", add ? invept_all() : no_invept(), END_SUCCEED);
    check_part(prefix, "again", vmx_run(&code_write), add ? REASON_EPT_VIOLATION : REASON_VMCALL);
}

static void check_many_pages(void)
{
    unsigned wrong = 0;

    prepare(false);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 16; i < 80; i++) {
            ept_window[i] = (u64)((i + round) & 1 ? page : page2) | EPT_RWX | EPT_WB;
            window_map(i, EPT_WINDOW + i * PAGE_SIZE, PTE_P | PTE_W);
        }
        (void)(round & 1 ? invept_single() : invept_all());
        *(volatile u64 *)page = 0xaaaa;
        *(volatile u64 *)page2 = 0xbbbb;
        for (unsigned i = 16; i < 80; i++) {
            l2.rbx = WINDOW + i * PAGE_SIZE;
            if (vmx_run(&code_read) != REASON_VMCALL || l2.rax != ((i + round) & 1 ? 0xaaaau : 0xbbbbu))
                wrong++;
        }
    }
    check_eq("vmx-ept.many_pages", wrong, 0);
}

static void check_pointers(void)
{
    u64 first = ept_pointer(), second = (u64)other_pml4 | 3 << 3 | 6;
    unsigned wrong = 0;

    prepare(false);
    memcpy(other_pml4, ept_pml4, PAGE_SIZE);
    memcpy(other_pdpt, ept_pdpt, PAGE_SIZE);
    memset(other_directory, 0, PAGE_SIZE);
    other_pml4[0] = (u64)other_pdpt | EPT_RWX;
    other_pdpt[4] = (u64)other_directory | EPT_RWX;
    other_directory[0] = (u64)other_window | EPT_RWX;
    other_window[PAGE_TEST] = (u64)page2 | EPT_RWX | EPT_WB;
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    *(volatile u64 *)page = 1;
    *(volatile u64 *)page2 = 2;
    for (unsigned i = 0; i < 20; i++) {
        vmwrite(VMCS_EPT_POINTER, i & 1 ? second : first);
        if (vmx_run(&code_read) != REASON_VMCALL || l2.rax != (i & 1 ? 2u : 1u))
            wrong++;
    }
    check_eq("vmx-ept.two_pointers", wrong, 0);
    /* A single-context INVEPT of the one is none of the other's business; its own removal must show. */
    other_window[PAGE_TEST] = 0;
    check_eq("vmx-ept.single_other", try_invept(1, second, 0), END_SUCCEED);
    vmwrite(VMCS_EPT_POINTER, second);
    check_eq("vmx-ept.single_other_gone", vmx_run(&code_read), REASON_EPT_VIOLATION);
    vmwrite(VMCS_EPT_POINTER, first);
    check_eq("vmx-ept.single_first_stays", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.single_first_value", l2.rax, 1);
    /* The two share L1's tables below: a change shows in both. */
    other_pdpt[4] = ept_pdpt[4];
    (void)invept_all();
    vmwrite(VMCS_EPT_POINTER, second);
    check_eq("vmx-ept.shared_runs", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.shared_value", l2.rax, 1);
    ept_window[PAGE_TEST] = (u64)page2 | EPT_RWX | EPT_WB;
    (void)invept_all();
    check_eq("vmx-ept.shared_changed_runs", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.shared_changed", l2.rax, 2);
    vmwrite(VMCS_EPT_POINTER, first);
    check_eq("vmx-ept.shared_first_runs", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.shared_first", l2.rax, 2);
}

/*
 * A directory of EPT that is also a page table of L1's own memory: the flags that an operand's page gets
 * there are reserved bits in EPT.
 */
static void check_table_of_both(void)
{
    enum { ROUNDS = 12 };
    static u64 both[512] L1_TABLE, lower[512] L1_TABLE;
    u64 *directory = window_directory_entry() + 1, saved = *directory;
    u64 *operand = (u64 *)(WINDOW + MIB(2) + PAGE_TEST * PAGE_SIZE) + 511;
    unsigned wrong = 0;

    prepare(false);
    lower[0] = (u64)page | EPT_RWX | EPT_WB;
    both[PAGE_TEST] = (u64)lower | EPT_R | EPT_W;
    ept_pdpt[5] = (u64)both | EPT_RWX;
    *directory = (u64)both | PTE_P | PTE_W;
    flush_tlb();
    l2.rbx = (u64)window_map(PAGE_TEST, GIB(5) + PAGE_TEST * MIB(2), PTE_P | PTE_W | PTE_A | PTE_D);
    for (unsigned i = 0; i < ROUNDS; i++) {
        (void)invept_all();
        wrong += vmx_run(&code_read) != REASON_VMCALL;
    }
    check_eq("vmx-ept.both.reads", wrong, 0);
    check_eq("vmx-ept.both.operand", try_vmptrst(operand), END_SUCCEED);
    check_eq("vmx-ept.both.flags", both[PAGE_TEST] & (PTE_A | PTE_D), PTE_A | PTE_D);
    (void)invept_all();
    check_eq("vmx-ept.both.reserved", vmx_run(&code_read), REASON_EPT_MISCONFIGURATION);
    ept_pdpt[5] = 0;
    *directory = saved;
    flush_tlb();
}

/* L1's and L2's writes to the same page reach each other. */
static void check_coherence(void)
{
    prepare(false);
    set_leaf(PAGE_TEST, (u64)page | EPT_RWX | EPT_WB);
    *(volatile u64 *)page = 0;
    for (unsigned i = 0; i < 4; i++)
        (void)vmx_run(&code_update);
    check_eq("vmx-ept.l1_sees_l2", *(volatile u64 *)page, 4);
    *(volatile u64 *)page = 77;
    check_eq("vmx-ept.l2_runs", vmx_run(&code_read), REASON_VMCALL);
    check_eq("vmx-ept.l2_sees_l1", l2.rax, 77);
}

/* --- Umbra's own memory as L2's --- */

static void check_umbra_memory(void)
{
    u64 start, end, value;

    if (!umbra_region(&start, &end)) {
        note_skipped("vmx-ept.umbra", "not under Umbra");
        return;
    }
    prepare(false);
    *(volatile u64 *)page = 0;
    for (u64 address = start; address < end; address += (end - start) / 4) {
        set_leaf(PAGE_TEST, (address & ~PAGE_MASK) | EPT_RWX | EPT_WB);
        l2.rax = 0;
        check_eq("vmx-ept.umbra.read", vmx_run(&code_read), REASON_VMCALL);
        value = l2.rax;
        check_eq("vmx-ept.umbra.as_l1_reads",
                 try_read64(address & ~PAGE_MASK, &l2.rcx) == NO_FAULT ? l2.rcx : value, value);
        l2.rax = ~value;
        check_eq("vmx-ept.umbra.write", vmx_run(&code_write), REASON_VMCALL);
        check_eq("vmx-ept.umbra.read_again", vmx_run(&code_read), REASON_VMCALL);
        check_eq("vmx-ept.umbra.unchanged", l2.rax, value);
    }
    /* L1's tables in Umbra's memory lead nowhere good, but the machine goes on. */
    ept_window_directory[0] = start | EPT_RWX;
    (void)invept_all();
    u64 reason = vmx_run(&code_read);
    check("vmx-ept.umbra.table", reason == REASON_EPT_VIOLATION || reason == REASON_EPT_MISCONFIGURATION);
}

L2_CODE(code_nothing, "", "nop");

static void check_eptp(const char *name, u64 pointer, bool good)
{
    vmx_reset();
    vmwrite(VMCS_EPT_POINTER, pointer);
    check_part("vmx-ept.eptp", name, vmx_run(&code_nothing), good ? (u64)REASON_VMCALL : RUN_FAILED + 7);
    check_part("vmx-ept.invept", name, try_invept(1, pointer, 0), good ? END_SUCCEED : END_VALID);
}

static void check_eptps(void)
{
    u64 good = ept_pointer();

    check_eptp("good", good, true);
    check_eptp("accessed_dirty", good | EPTP_AD, ept_has(BIT(21)));
    check_eptp("uncacheable", good & ~7ull, ept_has(BIT(8)));
    check_eptp("type_1", (good & ~7ull) | 1, false);
    check_eptp("type_7", good | 7, false);
    check_eptp("walk_3", (good & ~0x38ull) | 2 << 3, false);
    check_eptp("walk_1", (good & ~0x38ull), false);
    check_eptp("walk_5", (good & ~0x38ull) | 4 << 3, ept_has(BIT(7)));
    check_eptp("bit_8", good | BIT(8), false);
    check_eptp("bit_11", good | BIT(11), false);
    check_eptp("too_high", good | BIT(physical_bits), false);
    check_eptp("bit_63", good | BIT(63), false);
}

void group_vmx_ept(void)
{
    if (!vmx_start("vmx-ept"))
        return;
    if (!vmx_has(WORD_SECONDARY, SECONDARY_EPT)) {
        note_skipped("vmx-ept", "the CPU has no EPT");
        vmx_stop();
        return;
    }
    mbec = vmx_has(WORD_SECONDARY, SECONDARY_MBEC);
    advanced = ept_has(BIT(22));
    execute_only = ept_has(BIT(0));
    check_eptps();
    check_permissions();
    check_upper_levels();
    check_misconfigurations();
    check_sizes();
    check_walks();
    check_flags();
    check_removal("removal_single", invept_single, false);
    check_removal("removal_all", invept_all, false);
    check_removal("addition", no_invept, true);
    check_many_pages();
    check_pointers();
    check_table_of_both();
    check_coherence();
    check_umbra_memory();
    vmx_stop();
}
