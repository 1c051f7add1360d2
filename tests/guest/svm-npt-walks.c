/* SPDX-License-Identifier: MIT */
/*
 * Group svm-npt-walks: nested paging of L2's own page tables, device memory and Umbra's memory behind L1's
 * nested tables, and which changes of either tables have to be seen without a flush and after each kind of
 * flush. Source: APM vol. 2 15.16, 15.25.
 */
#include "tests/guest/svm.h"

L2_CODE(code_read, "", "mov (%rbx), %rax");
L2_CODE(code_read_long, "", "mov (%rbx), %eax");
L2_CODE(code_write, "", "mov %rax, (%rbx)");
L2_CODE(code_write_long, "", "mov %eax, (%rbx)");
L2_CODE(code_jump, "", "jmp *%rbx");
L2_CODE(code_invlpg, "mov (%rbx), %rax\nmov %rcx, (%rdx)\ninvlpg (%rbx)", "mov (%rbx), %rax");
L2_CODE(code_reload_cr3, "mov (%rbx), %rax\nmov %rcx, (%rdx)\nmov %cr3, %rax\nmov %rax, %cr3",
        "mov (%rbx), %rax");

enum { PAGE_TEST = 8, PAGE_DEVICE = 20, LEVELS = 4, TEST_VALUE = 0x1111, OTHER_VALUE = 0x2222 };

/* L2's own tables: own[n - 1] is of level n, and lies at page n - 1 of L2's physical window. */
static u64 own[LEVELS][512] __attribute__((aligned(4096)));
static u64 page[512] __attribute__((aligned(4096))), page2[512] __attribute__((aligned(4096)));
static u64 other_pml4[512] __attribute__((aligned(4096))), other_pdpt[512] __attribute__((aligned(4096))),
    other_directory[512] __attribute__((aligned(4096))), other_window[512] __attribute__((aligned(4096)));
static bool gmet;

static unsigned index_at(u64 linear, unsigned level)
{
    return linear >> (3 + 9 * level) & 511;
}

static u64 own_address(unsigned level)
{
    return NPT_WINDOW + (level - 1) * PAGE_SIZE;
}

static void prepare(void)
{
    const u64 *from = (const u64 *)(read_cr3() & BITS(51, 12));
    const u64 flags = PTE_P | PTE_W | PTE_U | PTE_A;

    svm_reset();
    for (unsigned level = LEVELS; level > 1; level--) {
        memcpy(own[level - 1], from, PAGE_SIZE);
        from = (const u64 *)(from[index_at(WINDOW, level)] & BITS(51, 12));
        own[level - 1][index_at(WINDOW, level)] = own_address(level - 1) | flags;
        /* So that nothing but the test page needs a flag set. */
        for (unsigned i = 0; i < 512; i++)
            own[level - 1][i] |= (own[level - 1][i] & PTE_P) != 0 ? PTE_A | PTE_D : 0;
    }
    memset(own[0], 0, PAGE_SIZE);
    own[0][PAGE_TEST] = (u64)page | flags | PTE_D;
    for (unsigned level = 1; level <= LEVELS; level++)
        npt_window[level - 1] = (u64)own[level - 1] | NPT_ALL;
    vmcb.save.cr3 = own_address(LEVELS);
    page[0] = TEST_VALUE;
    page2[0] = OTHER_VALUE;
    l2.rbx = WINDOW + PAGE_TEST * PAGE_SIZE;
    if (!gmet)
        return;
    vmcb.control.nested_control |= GMET_ENABLE;
    for (unsigned i = 0; i < ARRAY_SIZE(npt_directory); i++)
        npt_directory[i] &= ~(u64)PTE_U;
}

/* --- L2's tables behind nested ones --- */

/* Of the upper two tables the code's own entries are used first. */
static u64 entry_address(unsigned level)
{
    u64 linear = level > 2 ? (u64)code_read.start : l2.rbx;

    return own_address(level) + 8 * index_at(linear, level);
}

/* A walk of L2's tables is a user's write for the nested tables, whatever L2 does: 15.25. */
static void expect_walk_fault(const char *prefix, const struct l2_code *code, unsigned level, u64 info)
{
    check_part(prefix, "exit", svm_run(code), VMEXIT_NPF);
    check_part(prefix, "info_1", vmcb.control.exit_info_1, NPF_TABLE_WALK | NPF_USER | NPF_WRITE | info);
    check_part(prefix, "info_2", vmcb.control.exit_info_2, entry_address(level));
    check_part(prefix, "rip", vmcb.save.rip, level > 2 ? (u64)code->start : (u64)code->at);
}

static void check_level(unsigned level)
{
    char prefix[64];
    u64 *npt = &npt_window[level - 1];

    print_to(prefix, sizeof(prefix), "svm-npt-walks.%slevel%u", gmet ? "gmet." : "", level);
    prepare();
    check_part(prefix, "all", svm_run(&code_read), VMEXIT_VMMCALL);
    check_part(prefix, "value", l2.rax, TEST_VALUE);
    check_part(prefix, "flags", *npt & (PTE_A | PTE_D), PTE_A | PTE_D);
    prepare();
    *npt = 0;
    expect_walk_fault(prefix, &code_read, level, 0);
    *npt = (u64)own[level - 1] | NPT_ALL;
    check_part(prefix, "then_present", svm_resume(), VMEXIT_VMMCALL);
    prepare();
    *npt |= BIT(physical_bits);
    expect_walk_fault(prefix, &code_read, level, NPF_PRESENT | NPF_RESERVED);
    prepare();
    *npt |= PTE_NX;
    check_part(prefix, "nx", svm_run(&code_read), VMEXIT_VMMCALL);
    prepare();
    *npt &= ~(u64)PTE_U;
    if (gmet)
        check_part(prefix, "supervisor", svm_run(&code_read), VMEXIT_VMMCALL);
    else
        expect_walk_fault(prefix, &code_read, level, NPF_PRESENT);
    prepare();
    *npt &= ~(u64)PTE_W;
    expect_walk_fault(prefix, &code_read, level, NPF_PRESENT);
    *npt |= PTE_W;
    check_part(prefix, "then_writable", svm_resume(), VMEXIT_VMMCALL);
    /* A flag of L2's is set in its table. */
    prepare();
    u64 *entry = &own[level - 1][index_at(l2.rbx, level)];
    *entry &= ~(u64)PTE_A;
    check_part(prefix, "flag", svm_run(&code_read), VMEXIT_VMMCALL);
    check_part(prefix, "flag_of_l2", *entry & PTE_A, PTE_A);
    prepare();
    *entry &= ~(u64)PTE_A;
    *npt &= ~(u64)PTE_W;
    check_part(prefix, "denied", svm_run(&code_read), VMEXIT_NPF);
    check_part(prefix, "denied_flag_of_l2", *entry & PTE_A, 0);
}

static void check_own_faults(void)
{
    prepare();
    own[0][PAGE_TEST] &= ~(u64)PTE_D;
    check_eq("svm-npt-walks.dirty.write", svm_run(&code_write), VMEXIT_VMMCALL);
    check_eq("svm-npt-walks.dirty.of_l2", own[0][PAGE_TEST] & PTE_D, PTE_D);
    /* L2's own faults are its own, whatever nested paging allows. */
    prepare();
    own[0][PAGE_TEST] = 0;
    check_eq("svm-npt-walks.page_fault", svm_run(&code_read), VMEXIT_EXCP0 + EXC_PF);
    check_eq("svm-npt-walks.page_fault_error_code", vmcb.control.exit_info_1, 0);
    check_eq("svm-npt-walks.page_fault_address", vmcb.control.exit_info_2, l2.rbx);
    /* L2 without paging: linear is physical, and no walk takes place. */
    prepare();
    vmcb.save.efer &= ~(EFER_LME | EFER_LMA);
    vmcb.save.cr0 &= ~CR0_PG;
    vmcb.save.cs.attributes = 0xc9b;
    npt_directory[0xc0000000 >> 21] = 0;
    l2.rbx = 0xc0123450;
    check_eq("svm-npt-walks.without_paging", svm_run(&code_read_long), VMEXIT_NPF);
    check_eq("svm-npt-walks.without_paging_info_1", vmcb.control.exit_info_1, NPF_FINAL | NPF_USER);
    check_eq("svm-npt-walks.without_paging_info_2", vmcb.control.exit_info_2, 0xc0123450);
}

/* --- device memory, and Umbra's --- */

static void map_device(u64 physical, unsigned offset)
{
    prepare();
    npt_window[PAGE_DEVICE] = (physical & ~(u64)PAGE_MASK) | NPT_ALL | PTE_PCD | PTE_PWT;
    own[0][PAGE_DEVICE] = (NPT_WINDOW + PAGE_DEVICE * PAGE_SIZE) | PTE_P | PTE_W | PTE_PCD | PTE_PWT;
    l2.rbx = WINDOW + PAGE_DEVICE * PAGE_SIZE + offset;
}

static void check_devices(void)
{
    const u64 apic = 0xfee00000;
    enum { VERSION = 0x30, TASK_PRIORITY = 0x80 };

    apic_init();
    if (apic_is_x2apic) {
        note_skipped("svm-npt-walks.device", "the APIC has no registers in memory");
        return;
    }
    map_device(apic, VERSION);
    check_eq("svm-npt-walks.device.read", svm_run(&code_read_long), VMEXIT_VMMCALL);
    check_eq("svm-npt-walks.device.value", l2.rax, apic_read(VERSION));
    map_device(apic, TASK_PRIORITY);
    l2.rax = 0x50;
    check_eq("svm-npt-walks.device.write", svm_run(&code_write_long), VMEXIT_VMMCALL);
    check_eq("svm-npt-walks.device.written", apic_read(TASK_PRIORITY), 0x50);
    apic_write(TASK_PRIORITY, 0);
    map_device(apic, VERSION);
    npt_window[PAGE_DEVICE] = 0;
    check_eq("svm-npt-walks.device.not_mapped", svm_run(&code_read_long), VMEXIT_NPF);
    check_eq("svm-npt-walks.device.not_mapped_info_2", vmcb.control.exit_info_2,
             NPT_WINDOW + PAGE_DEVICE * PAGE_SIZE + VERSION);
}

/* It reads as ones and keeps nothing, for L2 as for L1. */
static void check_umbra(void)
{
    u64 start, end;

    if (!umbra_region(&start, &end))
        return;
    const u64 places[] = {start, start + (end - start) / 2, end - PAGE_SIZE};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        map_device(places[i], 0x10);
        check_eq("svm-npt-walks.umbra.read", svm_run(&code_read), VMEXIT_VMMCALL);
        check_eq("svm-npt-walks.umbra.ones", l2.rax, ~0ull);
        l2.rax = 0;
        check_eq("svm-npt-walks.umbra.write", svm_run(&code_write), VMEXIT_VMMCALL);
        check_eq("svm-npt-walks.umbra.read_again", svm_run(&code_read), VMEXIT_VMMCALL);
        check_eq("svm-npt-walks.umbra.still_ones", l2.rax, ~0ull);
        check_eq("svm-npt-walks.umbra.fetch", svm_run(&code_jump), VMEXIT_EXCP0 + EXC_UD);
        check_eq("svm-npt-walks.umbra.fetch_rip", vmcb.save.rip, l2.rbx);
    }
    /* Tables of L2's there are full of ones: reserved bits. */
    prepare();
    npt_window[0] = (start & ~(u64)PAGE_MASK) | NPT_ALL;
    check_eq("svm-npt-walks.umbra.table", svm_run(&code_read), VMEXIT_EXCP0 + EXC_PF);
    check_eq("svm-npt-walks.umbra.table_error_code", vmcb.control.exit_info_1, 9);
    /* And L1's own. */
    prepare();
    npt_window_directory[0] = (start & ~(u64)PAGE_MASK) | NPT_ALL;
    check_eq("svm-npt-walks.umbra.nested_table", svm_run(&code_read), VMEXIT_NPF);
    check_eq("svm-npt-walks.umbra.nested_table_reserved",
             vmcb.control.exit_info_1 & (NPF_PRESENT | NPF_RESERVED | NPF_TABLE_WALK),
             NPF_PRESENT | NPF_RESERVED | NPF_TABLE_WALK);
}

/* --- changes of L1's tables --- */

enum flush { FLUSH_ALL, FLUSH_ASID, FLUSH_NON_GLOBAL, NEW_ASID, FLUSHES };
static const char *const flush_name[FLUSHES] = {"all", "asid", "non_global", "new_asid"};

static void flush(enum flush how)
{
    static const u8 control[] = {TLB_CONTROL_FLUSH_ALL, TLB_CONTROL_FLUSH_GUEST,
                                 TLB_CONTROL_FLUSH_NON_GLOBAL};

    if (how == NEW_ASID)
        vmcb.control.asid++;
    else
        vmcb.control.tlb_control = control[how];
}

/* The test page behind a nested entry of its own. */
static void prepare_remap(void)
{
    prepare();
    npt_window[PAGE_TEST] = (u64)page | NPT_ALL;
    own[0][PAGE_TEST] = (NPT_WINDOW + PAGE_TEST * PAGE_SIZE) | PTE_P | PTE_W | PTE_A | PTE_D;
}

static void check_flush(enum flush how)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-npt-walks.flush_%s", flush_name[how]);
    prepare_remap();
    check_part(prefix, "first", svm_run(&code_write), VMEXIT_VMMCALL);
    npt_window[PAGE_TEST] = (u64)page2 | NPT_ALL;
    flush(how);
    check_part(prefix, "remapped", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0, OTHER_VALUE);
    npt_window[PAGE_TEST] &= ~(u64)PTE_W;
    flush(how);
    check_part(prefix, "read_only", svm_run(&code_write), VMEXIT_NPF);
    npt_window[PAGE_TEST] = 0;
    flush(how);
    check_part(prefix, "gone", svm_run(&code_read), VMEXIT_NPF);
    npt_window[PAGE_TEST] = (u64)page | NPT_ALL;
    check_part(prefix, "back", svm_run(&code_read), VMEXIT_VMMCALL);
    npt_window_directory[0] = 0;
    flush(how);
    check_part(prefix, "table_gone", svm_run(&code_read), VMEXIT_NPF);
    npt_window_directory[0] = (u64)npt_window | NPT_ALL;
    check_part(prefix, "table_back", svm_run(&code_read), VMEXIT_VMMCALL);
    /* Another table in its place. */
    memcpy(other_window, npt_window, PAGE_SIZE);
    other_window[PAGE_TEST] = (u64)page2 | NPT_ALL;
    npt_window_directory[0] = (u64)other_window | NPT_ALL;
    flush(how);
    check_part(prefix, "other_table", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0, OTHER_VALUE);
    /* One that had been a table is written, with no use as a table any more. */
    npt_window[PAGE_TEST] = 0;
    check_part(prefix, "other_table_still", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0, OTHER_VALUE);
}

/* More rights need no flush: what faulted is walked again. */
static void check_without_flush(void)
{
    prepare_remap();
    npt_window[PAGE_TEST] = 0;
    check_eq("svm-npt-walks.no_flush.not_present", svm_run(&code_read), VMEXIT_NPF);
    npt_window[PAGE_TEST] = (u64)page | PTE_P | PTE_U | PTE_NX;
    check_eq("svm-npt-walks.no_flush.present", svm_run(&code_read), VMEXIT_VMMCALL);
    check_eq("svm-npt-walks.no_flush.read_only", svm_run(&code_write), VMEXIT_NPF);
    npt_window[PAGE_TEST] |= PTE_W;
    check_eq("svm-npt-walks.no_flush.writable", svm_run(&code_write), VMEXIT_VMMCALL);
    memcpy(page, "\x0f\x01\xd9", 3);
    check_eq("svm-npt-walks.no_flush.no_execute", svm_run(&code_jump), VMEXIT_NPF);
    npt_window[PAGE_TEST] &= ~PTE_NX;
    check_eq("svm-npt-walks.no_flush.executable", svm_run(&code_jump), VMEXIT_VMMCALL);
}

/* Two trees, each with its ASID: neither needs a flush when they take turns. */
static void check_two_roots(void)
{
    prepare_remap();
    memcpy(other_pml4, npt_pml4, PAGE_SIZE);
    memcpy(other_pdpt, npt_pdpt, PAGE_SIZE);
    memcpy(other_directory, npt_window_directory, PAGE_SIZE);
    memcpy(other_window, npt_window, PAGE_SIZE);
    other_pml4[0] = (u64)other_pdpt | NPT_ALL;
    other_pdpt[4] = (u64)other_directory | NPT_ALL;
    other_directory[0] = (u64)other_window | NPT_ALL;
    other_window[PAGE_TEST] = (u64)page2 | NPT_ALL;
    for (unsigned i = 0; i < 6; i++) {
        bool second = i % 2 != 0;
        vmcb.control.n_cr3 = second ? (u64)other_pml4 : (u64)npt_pml4;
        vmcb.control.asid = second ? 2 : 1;
        check_eq("svm-npt-walks.two_roots.exit", svm_run(&code_read), VMEXIT_VMMCALL);
        check_eq("svm-npt-walks.two_roots.value", l2.rax, second ? OTHER_VALUE : TEST_VALUE);
    }
    /* A flush of the one, when the other has changed as well. */
    npt_window[PAGE_TEST] = (u64)page2 | NPT_ALL;
    other_window[PAGE_TEST] = (u64)page | NPT_ALL;
    vmcb.control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    check_eq("svm-npt-walks.two_roots.second_changed", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0,
             TEST_VALUE);
    vmcb.control.n_cr3 = (u64)npt_pml4;
    vmcb.control.asid = 1;
    check_eq("svm-npt-walks.two_roots.first_changed", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0,
             OTHER_VALUE);
}

/* --- changes of L2's tables --- */

static void check_linear(void)
{
    u64 entry2 = (u64)page2 | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;

    prepare();
    own[0][PAGE_TEST] = 0;
    check_eq("svm-npt-walks.linear.not_present", svm_run(&code_read), VMEXIT_EXCP0 + EXC_PF);
    own[0][PAGE_TEST] = (u64)page | PTE_P | PTE_W | PTE_A | PTE_D;
    check_eq("svm-npt-walks.linear.present", svm_run(&code_read), VMEXIT_VMMCALL);
    own[0][PAGE_TEST] = entry2;
    check_eq("svm-npt-walks.linear.invlpga", try_invlpga(l2.rbx, 1), NO_FAULT);
    check_eq("svm-npt-walks.linear.after_invlpga", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0,
             OTHER_VALUE);
    own[0][PAGE_TEST] = (u64)page | PTE_P | PTE_W | PTE_A | PTE_D;
    flush(NEW_ASID);
    check_eq("svm-npt-walks.linear.new_asid", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0, TEST_VALUE);
    /* L2 does so itself. */
    l2.rcx = entry2;
    l2.rdx = (u64)&own[0][PAGE_TEST];
    check_eq("svm-npt-walks.linear.own_invlpg", svm_run(&code_invlpg) == VMEXIT_VMMCALL ? l2.rax : 0,
             OTHER_VALUE);
    own[0][PAGE_TEST] = (u64)page | PTE_P | PTE_W | PTE_A | PTE_D;
    flush(FLUSH_ALL);
    check_eq("svm-npt-walks.linear.own_cr3", svm_run(&code_reload_cr3) == VMEXIT_VMMCALL ? l2.rax : 0,
             OTHER_VALUE);
    /* The same without nested paging. */
    prepare();
    vmcb.control.nested_control = 0;
    for (unsigned level = LEVELS; level > 1; level--)
        own[level - 1][index_at(WINDOW, level)] = (u64)own[level - 2] | PTE_P | PTE_W | PTE_U | PTE_A;
    vmcb.save.cr3 = (u64)own[LEVELS - 1];
    check_eq("svm-npt-walks.without_nested.read", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0,
             TEST_VALUE);
    own[0][PAGE_TEST] = entry2;
    check_eq("svm-npt-walks.without_nested.invlpga", try_invlpga(l2.rbx, 1), NO_FAULT);
    check_eq("svm-npt-walks.without_nested.after_invlpga", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0,
             OTHER_VALUE);
    own[0][PAGE_TEST] = (u64)page | PTE_P | PTE_W | PTE_A | PTE_D;
    flush(FLUSH_ALL);
    check_eq("svm-npt-walks.without_nested.after_flush", svm_run(&code_read) == VMEXIT_VMMCALL ? l2.rax : 0,
             TEST_VALUE);
}

void group_svm_npt_walks(void)
{
    enum { SVM_HAS_FLUSH_BY_ASID = 1 << 6 };

    if (!svm_start("svm-npt-walks"))
        return;
    for (unsigned with = 0; with <= svm_has(SVM_HAS_GMET); with++) {
        gmet = with;
        for (unsigned level = 1; level <= LEVELS; level++)
            check_level(level);
    }
    gmet = false;
    check_own_faults();
    check_devices();
    check_umbra();
    for (enum flush how = FLUSH_ALL; how < FLUSHES; how++) {
        bool by_asid = how == FLUSH_ASID || how == FLUSH_NON_GLOBAL;
        if (by_asid && !svm_has(SVM_HAS_FLUSH_BY_ASID))
            note_skipped("svm-npt-walks.flush_by_asid", "not offered");
        else
            check_flush(how);
    }
    check_without_flush();
    check_two_roots();
    check_linear();
    svm_stop();
}
