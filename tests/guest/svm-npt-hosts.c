/* SPDX-License-Identifier: MIT */
/*
 * Group svm-npt-hosts: nested tables in the formats of an L1 that is not in 4-level long mode: 32-bit, PAE
 * and 5-level paging; L2 is 64-bit code all the same. Source: APM vol. 2 5.2, 5.3, 15.25.3.
 */
#include "tests/guest/svm.h"

L2_CODE(code_read, "", "mov (%rbx), %rax");
L2_CODE(code_write, "", "mov %rax, (%rbx)");
L2_CODE(code_jump, "", "jmp *%rbx");

struct svm_host {
    u32 cr3, cr4, lme, vmcb, rbx, pg;
};
void svm_enter_from_host(const struct svm_host *host);

enum format { LEGACY, PAE, LONG_5, FORMATS };
static const char *const format_name[FORMATS] = {"legacy", "pae", "long5"};

/* Nothing that L1 or L2 needs is there. */
enum { PAGE_TEST = 8 };
#define TEST_ADDRESS (0xc0000000ull + PAGE_TEST * PAGE_SIZE)

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u32 legacy_directory[1024] __attribute__((aligned(4096))),
    legacy_table[1024] __attribute__((aligned(4096)));
static u64 pae_pointers[4] __attribute__((aligned(4096))), pae_of_l1[4] __attribute__((aligned(4096)));
static u64 pml5[512] __attribute__((aligned(4096)));
static enum format format;
static bool gmet;
static struct svm_host host;

static void enter(struct l2_registers *registers, u64 address, unsigned flags)
{
    (void)flags;
    host.vmcb = (u32)address;
    host.rbx = (u32)registers->rbx;
    svm_enter_from_host(&host);
}

/* --- the tables: L1 runs on them, too, since they map all of its memory one to one --- */

/* But QEMU sets accessed flags in PAE's upper level, where they are reserved: L1 has that for itself. */

static u64 get_entry(unsigned level)
{
    if (format == LEGACY)
        return level == 1 ? legacy_table[PAGE_TEST] : legacy_directory[TEST_ADDRESS >> 22];
    return level == 1 ? npt_window[PAGE_TEST] : npt_directory[TEST_ADDRESS >> 21];
}

static void set_entry(unsigned level, u64 entry)
{
    if (format == LEGACY)
        *(level == 1 ? &legacy_table[PAGE_TEST] : &legacy_directory[TEST_ADDRESS >> 22]) = (u32)entry;
    else
        *(level == 1 ? &npt_window[PAGE_TEST] : &npt_directory[TEST_ADDRESS >> 21]) = entry;
}

static u64 large_page_flags(void)
{
    return PTE_P | PTE_W | PTE_PS | (gmet ? 0 : PTE_U);
}

static u64 build_tables(void)
{
    for (u32 i = 0; i < 1024; i++)
        legacy_directory[i] = i << 22 | (u32)large_page_flags();
    memset(legacy_table, 0, sizeof(legacy_table));
    for (u64 i = 0; i < ARRAY_SIZE(npt_directory); i++)
        npt_directory[i] = i << 21 | large_page_flags();
    for (unsigned i = 0; i < ARRAY_SIZE(pae_pointers); i++)
        pae_pointers[i] = pae_of_l1[i] = (u64)&npt_directory[512 * i] | PTE_P;
    pml5[0] = (u64)npt_pml4 | NPT_ALL;
    set_entry(2, (format == LEGACY ? (u64)legacy_table : (u64)npt_window) | NPT_ALL);
    set_entry(1, (u64)page | NPT_ALL);
    return format == LEGACY ? (u64)legacy_directory : format == PAE ? (u64)pae_pointers : (u64)pml5;
}

static void prepare(void)
{
    static const u32 cr4[FORMATS] = {CR4_PSE, CR4_PAE, CR4_PAE | CR4_LA57};
    u32 kept = (u32)read_cr4() & ~(u32)(CR4_PSE | CR4_PAE);

    svm_reset();
    vmcb.control.n_cr3 = build_tables();
    if (gmet)
        vmcb.control.nested_control |= GMET_ENABLE;
    host.cr3 = format == PAE ? (u32)(u64)pae_of_l1 : (u32)vmcb.control.n_cr3;
    host.cr4 = kept | cr4[format];
    host.pg = (u32)CR0_PG;
    host.lme = format == LONG_5 ? EFER_LME : 0;
    memset(page, 0, sizeof(page));
    memcpy(page, "\x0f\x01\xd9", 3); /* VMMCALL */
    l2.rbx = (u64)window_map(PAGE_TEST, TEST_ADDRESS, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
}

/* --- permissions --- */

enum access { READ, WRITE, FETCH, ACCESSES };
static const char *const access_name[ACCESSES] = {"read", "write", "fetch"};
static const struct l2_code *const access_code[ACCESSES] = {&code_read, &code_write, &code_jump};

static bool allowed(u64 permissions, enum access access, bool user)
{
    if ((permissions & PTE_P) == 0 || (access == WRITE && (permissions & PTE_W) == 0) ||
        (access == FETCH && (permissions & PTE_NX) != 0))
        return false;
    if (!gmet)
        return (permissions & PTE_U) != 0;
    return access != FETCH || user || (permissions & PTE_U) == 0;
}

/* A fetch is told only by an L1 that has NX, for which 32-bit tables have no bit. */
static u64 fault_info(enum access access, bool user)
{
    u64 info = NPF_FINAL | (access == WRITE ? NPF_WRITE : 0);

    if (access == FETCH && format != LEGACY)
        info |= NPF_FETCH;
    return info | (!gmet || user ? NPF_USER : 0);
}

static void check_access(const char *prefix, u64 exit, u64 info, u64 unknown)
{
    check_part(prefix, "exit", exit, VMEXIT_NPF);
    check_part(prefix, "info_1", vmcb.control.exit_info_1 & ~unknown, info & ~unknown);
    check_part(prefix, "info_2", vmcb.control.exit_info_2, TEST_ADDRESS);
}

static void check_permission(unsigned level, u64 permissions, enum access access, bool user)
{
    char prefix[80];

    print_to(prefix, sizeof(prefix), "svm-npt-hosts.%s.%slevel%u.%s%s%s%s.%s_by_ring%u", format_name[format],
             gmet ? "gmet." : "", level, (permissions & PTE_P) != 0 ? "p" : "-",
             (permissions & PTE_W) != 0 ? "w" : "-", (permissions & PTE_U) != 0 ? "u" : "-",
             (permissions & PTE_NX) != 0 ? "n" : "-", access_name[access], user ? 3u : 0u);
    prepare();
    set_entry(level, (get_entry(level) & ~(u64)NPT_ALL) | permissions);
    u64 exit = user ? svm_run_user(access_code[access]) : svm_run(access_code[access]);
    if (allowed(permissions, access, user))
        check_part(prefix, "exit", exit, VMEXIT_VMMCALL);
    else
        check_access(prefix, exit, fault_info(access, user) | (permissions & PTE_P), gmet ? NPF_USER : 0);
}

static void check_permissions(void)
{
    static const u64 permissions[] = {0,
                                      PTE_P,
                                      PTE_P | PTE_W,
                                      PTE_P | PTE_U,
                                      PTE_P | PTE_W | PTE_U,
                                      PTE_P | PTE_U | PTE_NX,
                                      PTE_P | PTE_W | PTE_NX};

    for (unsigned i = 0; i < ARRAY_SIZE(permissions); i++) {
        if (format == LEGACY && (permissions[i] & PTE_NX) != 0)
            continue;
        for (unsigned level = 1; level <= 2; level++) {
            for (enum access access = READ; access < ACCESSES; access++) {
                check_permission(level, permissions[i], access, false);
                check_permission(level, permissions[i], access, true);
            }
        }
    }
}

/* --- the format's own: reserved bits, large pages, flags --- */

static void check_reserved(const char *name, unsigned level, u64 set)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-npt-hosts.%s.reserved_%s", format_name[format], name);
    prepare();
    set_entry(level, get_entry(level) | set);
    check_access(prefix, svm_run(&code_read), fault_info(READ, false) | NPF_PRESENT | NPF_RESERVED, 0);
}

static void check_reserved_bits(void)
{
    if (format == LEGACY) {
        check_reserved("page_21", 2, PTE_PS | BIT(21));
        return;
    }
    check_reserved("level1_width", 1, BIT(physical_bits));
    check_reserved("level2_width", 2, BIT(physical_bits));
    check_reserved("page_13", 2, PTE_PS | BIT(13));
    if (format == LONG_5)
        return;
    check_reserved("level1_52", 1, BIT(52));
    check_reserved("level2_62", 2, BIT(62));
}

static void check_rest(void)
{
    char prefix[64];
    u64 size = format == LEGACY ? MIB(4) : MIB(2), offset = (u64)page & (size - 1);

    print_to(prefix, sizeof(prefix), "svm-npt-hosts.%s", format_name[format]);
    prepare();
    check_part(prefix, "read", svm_run(&code_read), VMEXIT_VMMCALL);
    check_part(prefix, "accessed", get_entry(1) & (PTE_A | PTE_D), PTE_A);
    check_part(prefix, "write", svm_run(&code_write), VMEXIT_VMMCALL);
    check_part(prefix, "dirty", get_entry(1) & (PTE_A | PTE_D), PTE_A | PTE_D);
    check_part(prefix, "table", get_entry(2) & (PTE_A | PTE_D), PTE_A);
    /* More rights need no flush. */
    prepare();
    set_entry(1, 0);
    check_part(prefix, "not_present", svm_run(&code_read), VMEXIT_NPF);
    set_entry(1, (u64)page | NPT_ALL);
    check_part(prefix, "present", svm_run(&code_read), VMEXIT_VMMCALL);
    check_part(prefix, "value", l2.rax, 0xd9010f);
    prepare();
    memcpy(page, &(u64){0x1122334455667788}, sizeof(u64));
    set_entry(2, ((u64)page & ~(size - 1)) | NPT_ALL | PTE_PS);
    l2.rbx = (u64)window_map(PAGE_TEST, (TEST_ADDRESS & ~(size - 1)) + offset,
                             PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
    check_part(prefix, "large", svm_run(&code_read), VMEXIT_VMMCALL);
    check_part(prefix, "large_value", l2.rax, 0x1122334455667788);
    /* L1 has come back as it was. */
    check_part(prefix, "l1_exit", vmcb.control.exit_code, VMEXIT_VMMCALL);
    check_part(prefix, "rip", vmcb.save.rip, (u64)code_read.next);
}

/* Nested paging needs paging of L1's, and all else does not. */
static void check_without_paging(void)
{
    format = PAE;
    prepare();
    host.pg = 0;
    check_eq("svm-npt-hosts.without_paging.nested", svm_run(&code_read), VMEXIT_INVALID);
    prepare();
    host.pg = 0;
    vmcb.control.nested_control = 0;
    l2.rbx = (u64)page;
    check_eq("svm-npt-hosts.without_paging.plain", svm_run(&code_read), VMEXIT_VMMCALL);
    check_eq("svm-npt-hosts.without_paging.value", l2.rax, 0xd9010f);
}

void group_svm_npt_hosts(void)
{
    if (!svm_start("svm-npt-hosts"))
        return;
    svm_entry = enter;
    for (format = LEGACY; format < FORMATS; format++) {
        if (format == LONG_5 && (cpuid(7, 0).ecx & BIT(16)) == 0) {
            note_skipped("svm-npt-hosts.long5", "no 5-level paging");
            continue;
        }
        for (unsigned with = 0; with <= svm_has(SVM_HAS_GMET); with++) {
            gmet = with;
            check_permissions();
        }
        gmet = false;
        check_reserved_bits();
        check_rest();
    }
    check_without_paging();
    svm_entry = svm_enter;
    svm_stop();
}
