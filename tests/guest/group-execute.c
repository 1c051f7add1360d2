/* SPDX-License-Identifier: MIT */
/*
 * Groups `mbec` and `gmet`: Umbra's test hypercall takes read, write, supervisor-fetch or user-fetch
 * permission from one page, and every kind of access to it has to fault, or not, as the manuals say, with
 * their encoding of the reason. Each violation opens the page again, so the access goes through and is seen
 * only in the count. Source: SDM vol. 3C 29.3.3 and table 28-7 (EPT, MBEC, exit qualification); APM vol.
 * 2 15.25.6 and 15.36.12 (#NPF, GMET).
 */
#include "tests/guest/guest.h"

enum { R = 1, W = 2, XS = 4, XU = 8, RWX = 15 };
enum { PAGE_SUPERVISOR = 50, PAGE_USER = 51 };
enum { NPF_P = 1, NPF_W = 2, NPF_U = 4, NPF_ID = 16 };
#define NPF_FINAL BIT(32)
#define NPF_WALK  BIT(33)

static u8 pages[3 * PAGE_SIZE] __attribute__((aligned(4096)));

/* The kinds of access that are tried on the page. */
static const struct access {
    const char *name;
    unsigned kind; /* R, W, or XS for a fetch */
    enum code_mode mode;
    bool user_page;
} accesses[] = {
    {"read", R, RING0_64, false},           {"read_user", R, RING3_64, true},
    {"write", W, RING0_64, false},          {"write_user", W, RING3_64, true},
    {"fetch_ring0", XS, RING0_64, false},   {"fetch_ring0_of_user_page", XS, RING0_64, true},
    {"fetch_ring3", XS, RING3_64, true},    {"fetch_ring0_32", XS, RING0_32, false},
    {"fetch_ring3_32", XS, RING3_32, true},
};

static u64 page(void)
{
    return (u64)pages + PAGE_SIZE;
}

static u32 protect(u64 start, u64 end, unsigned access)
{
    return hypercall(HYPERCALL_TEST_PROTECT, start, end, access).status;
}

static struct hypercall last_violation(void)
{
    return hypercall(HYPERCALL_TEST_LAST_VIOLATION, 0, 0, 0);
}

static u64 linear(bool user_page)
{
    return WINDOW + (user_page ? PAGE_USER : PAGE_SUPERVISOR) * PAGE_SIZE;
}

/* Whether the second-level format can say it. */
static bool representable(unsigned access)
{
    bool supervisor = access & XS, user = access & XU;
    if ((access & W) && !(access & R))
        return false;
    if (is_intel)
        return supervisor == user || mode_based_execute; /* execute-only: both emulated Intel CPUs have it */
    if (access && !(access & R))
        return false;
    return supervisor == user || (mode_based_execute && user);
}

/* Which of the page's permissions an access needs. */
static unsigned needed(const struct access *access)
{
    if (access->kind != XS)
        return access->kind;
    if (!mode_based_execute)
        return XS;
    if (is_intel)
        return access->user_page ? XU : XS;
    return access->mode == RING3_64 || access->mode == RING3_32 ? XU : XS;
}

static bool is_user(const struct access *access)
{
    return access->mode == RING3_64 || access->mode == RING3_32;
}

static u64 try_access(const struct access *access)
{
    u64 address = linear(access->user_page);
    struct code code = {CODE("\x48\x8b\x06"), .rsi = address + 256};
    if (access->kind == XS)
        return execute_at(access->mode, address, &(const struct code){0});
    if (access->kind == W)
        code.bytes = "\x48\x89\x06";
    return execute(access->mode, &code);
}

/* Exit qualification of an EPT violation, bits 0 to 11; advanced information (9 to 11) is checked if there is
 * any. */
static bool qualification_right(const struct access *access, unsigned permissions, u64 got)
{
    u64 want = access->kind == XS ? BIT(2) : access->kind == W ? BIT(1) : BIT(0);
    want |= (u64)(permissions & (R | W | XS)) << 3 | BIT(7) | BIT(8);
    if (mode_based_execute && (permissions & XU))
        want |= BIT(6);
    u64 advanced = access->user_page ? BIT(9) | BIT(10) : BIT(10);
    u64 basic = got & BITS(8, 0);
    bool advanced_right = (got & BITS(11, 9)) == 0 || (got & BITS(11, 9)) == advanced;
    if (basic == want && advanced_right)
        return true;
    /* Deviation Bochs-XU-in-bit-13: a data violation reports XU there and never in bit 6. */
    if (on_bochs() && access->kind != XS && (permissions & XU) && basic == (want & ~BIT(6)) &&
        (got & BIT(13)) && advanced_right) {
        print("guest: deviation Bochs-XU-in-bit-13\n");
        return true;
    }
    print("guest: qualification 0x%lx, want 0x%lx\n", got, want | advanced);
    return false;
}

static bool exitinfo_right(const struct access *access, unsigned permissions, u64 got)
{
    u64 want = NPF_FINAL | (permissions & R ? NPF_P : 0);
    if (access->kind == W)
        want |= NPF_W;
    if (access->kind == XS)
        want |= NPF_ID;
    if (is_user(access) || !mode_based_execute)
        want |= NPF_U;
    /* Under GMET bit 2 of a fetch may be wrong: erratum 1218. */
    u64 ignored = mode_based_execute && access->kind == XS ? NPF_U : 0;
    if (((got ^ want) & ~ignored) == 0)
        return true;
    print("guest: EXITINFO1 0x%lx, want 0x%lx\n", got, want);
    return false;
}

static void one(unsigned permissions, const struct access *access)
{
    char name[96];
    bool should = needed(access) & ~permissions;
    u64 before = last_violation().rbx;
    u32 status = protect(page(), page() + PAGE_SIZE, permissions);
    u64 vector = try_access(access);
    struct hypercall after = last_violation();
    print_to(name, sizeof(name), "execute.%c%c%c%c_%s", permissions & R ? 'r' : '-',
             permissions & W ? 'w' : '-', permissions & XS ? 's' : '-', permissions & XU ? 'u' : '-',
             access->name);
    bool good = status == HYPERCALL_OK && vector == VECTOR_DONE && after.rbx - before == (should ? 1 : 0);
    if (!good)
        print("guest: status %u vector %lu violations %lu, want %u\n", status, vector, after.rbx - before,
              should);
    if (good && should) {
        u64 offset = access->kind == XS ? 0 : 256;
        good = is_intel ? qualification_right(access, permissions, after.rdx)
                        : exitinfo_right(access, permissions, after.rdx);
        if (after.rsi != page() + offset || (is_intel && after.rdi != linear(access->user_page) + offset)) {
            print("guest: violation at guest-physical 0x%lx linear 0x%lx\n", after.rsi, after.rdi);
            good = false;
        }
    }
    check(name, good);
}

static void all_permissions(void)
{
    char name[64];
    for (unsigned permissions = 0; permissions <= RWX; permissions++) {
        if (!representable(permissions)) {
            print_to(name, sizeof(name), "execute.refused_%x", permissions);
            u32 status = protect(page(), page() + PAGE_SIZE, permissions);
            check_eq(name, status, HYPERCALL_REFUSED);
            continue;
        }
        for (size_t i = 0; i < ARRAY_SIZE(accesses); i++)
            one(permissions, &accesses[i]);
    }
}

/* Ring 3 fetching from a supervisor page is a page fault of the guest's own, whatever the second level says.
 */
static void guest_fault_comes_first(void)
{
    u64 before = last_violation().rbx;
    protect(page(), page() + PAGE_SIZE, R | W);
    u64 vector = execute_at(RING3_64, linear(false), &(const struct code){0});
    check("execute.guest_page_fault_first",
          vector == EXC_PF && fault.error == 5 + 16 && last_violation().rbx == before);
    write_cr4(read_cr4() | CR4_SMEP);
    vector = execute_at(RING0_64, linear(true), &(const struct code){0});
    write_cr4(read_cr4() & ~CR4_SMEP);
    check("execute.smep_first", vector == EXC_PF && last_violation().rbx == before);
}

/* Only the page itself: its neighbours, in the same large page, keep everything. */
static void granularity(void)
{
    u64 value, before = last_violation().rbx;
    protect(page(), page() + PAGE_SIZE, 0);
    for (unsigned i = 0; i < 3; i += 2) {
        u64 neighbour = (u64)pages + i * PAGE_SIZE;
        memcpy((void *)(neighbour + 0xff0), "\xcd\x80", 2);
        memcpy((void *)neighbour, "\xcd\x80", 2);
        try_read64(neighbour + 0xff8, &value);
        try_read64(neighbour, &value);
        execute_at(RING0_64, neighbour, &(const struct code){0});
        execute_at(RING0_64, neighbour + 0xff0, &(const struct code){0});
    }
    check_eq("execute.neighbours_unaffected", last_violation().rbx, before);
    /* A range of three pages, then narrowed: the outer ones are free again. */
    check_eq("execute.protect_three", protect((u64)pages, (u64)pages + 3 * PAGE_SIZE, R), HYPERCALL_OK);
    try_write64((u64)pages, 0);
    check_eq("execute.first_of_three", last_violation().rbx, before + 1);
    try_write64((u64)pages + 2 * PAGE_SIZE, 0);
    check_eq("execute.last_of_three", last_violation().rbx, before + 2);
    try_write64((u64)pages, 0);
    check_eq("execute.opened_by_the_violation", last_violation().rbx, before + 2);
    check_eq("execute.open_all", protect((u64)pages, (u64)pages + 3 * PAGE_SIZE, RWX), HYPERCALL_OK);
    try_write64(page(), 0);
    check_eq("execute.opened_by_hypercall", last_violation().rbx, before + 2);
}

static bool walk_violation_right(struct hypercall violation, u64 table, bool write_removed)
{
    if ((violation.rsi & ~PAGE_MASK) != table)
        return false;
    if (!is_intel)
        return (violation.rdx & (NPF_FINAL | NPF_WALK)) == NPF_WALK && !(violation.rdx & NPF_ID);
    /* With EPT A/D each access to a paging structure counts as read and write. Deviation Bochs-walk-bit-1:
     * bit 1 alone. */
    u64 kind = violation.rdx & 7;
    bool both = kind == 3 || kind == 1 || (on_bochs() && kind == 2);
    u64 permissions = violation.rdx >> 3 & 3;
    return both && (violation.rdx & BIT(7)) && !(violation.rdx & BIT(8)) &&
           permissions == (write_removed ? R : 0);
}

/* The walk has to set A and D in a table that may only be read. */
static void walk_of_read_only_table(u64 table)
{
    u64 before = last_violation().rbx;
    window_table()[PAGE_SUPERVISOR] &= ~(u64)(PTE_A | PTE_D);
    protect(table, table + PAGE_SIZE, R | XS | XU);
    flush_tlb();
    u64 vector = try_write64(linear(false) + 512, 1);
    struct hypercall after = last_violation();
    check("execute.walk_of_read_only_table",
          vector == NO_FAULT && after.rbx == before + 1 && walk_violation_right(after, table, true));
    check_eq("execute.walk_sets_dirty", window_get(PAGE_SUPERVISOR) & (PTE_A | PTE_D), PTE_A | PTE_D);
    print("guest: fact execute.walk_read_only 0x%lx\n", after.rdx);
}

/* The guest's page table itself is protected: the fault is one of the walk, not of the access. */
static void page_walks(void)
{
    u64 table = (u64)window_table(), value, before = last_violation().rbx;
    protect(table, table + PAGE_SIZE, 0);
    flush_tlb();
    u64 vector = try_read64(linear(false), &value);
    struct hypercall after = last_violation();
    check("execute.walk_of_unreadable_table",
          vector == NO_FAULT && after.rbx == before + 1 && walk_violation_right(after, table, false));
    print("guest: fact execute.walk_unreadable 0x%lx\n", after.rdx);
    if (on_bochs() && (after.rdx & 7) == 1)
        note_skipped("execute.walk_of_read_only_table",
                     "Bochs without EPT A/D sets A and D whatever EPT permits");
    else
        walk_of_read_only_table(table);
    before = last_violation().rbx;
    protect(table, table + PAGE_SIZE, R | W);
    flush_tlb();
    vector = try_read64(linear(false), &value);
    check("execute.walk_needs_no_execute", vector == NO_FAULT && last_violation().rbx == before);
    protect(table, table + PAGE_SIZE, RWX);
}

static void bad_arguments(void)
{
    u64 start, end;
    check_eq("execute.bad_unaligned", protect(page() + 1, page() + PAGE_SIZE, RWX), HYPERCALL_BAD_ARGUMENT);
    check_eq("execute.bad_empty", protect(page(), page(), RWX), HYPERCALL_BAD_ARGUMENT);
    check_eq("execute.bad_order", protect(page() + PAGE_SIZE, page(), RWX), HYPERCALL_BAD_ARGUMENT);
    check_eq("execute.bad_access", protect(page(), page() + PAGE_SIZE, 16), HYPERCALL_BAD_ARGUMENT);
    check("execute.bad_beyond_memory",
          protect(BIT(physical_bits), BIT(physical_bits) + PAGE_SIZE, RWX) != HYPERCALL_OK);
    check("execute.bad_wraps", protect(~PAGE_MASK, 0, RWX) != HYPERCALL_OK);
    if (umbra_region(&start, &end)) {
        check_eq("execute.umbra_refused", protect(start, start + PAGE_SIZE, RWX), HYPERCALL_REFUSED);
        check_eq("execute.umbra_end_refused", protect(end - PAGE_SIZE, end, RWX), HYPERCALL_REFUSED);
        check_eq("execute.umbra_overlap_refused", protect(start - PAGE_SIZE, start + PAGE_SIZE, R),
                 HYPERCALL_REFUSED);
    }
}

static void run(void)
{
    const char *wanted = option(boot.command_line, "mode-based-execute");
    if (!under_umbra || !test_build) {
        check("execute.needs_a_test_build_of_umbra", false);
        return;
    }
    if (wanted)
        check_eq("execute.mode_based_execute", mode_based_execute, starts_with(wanted, "yes"));
    memcpy((void *)page(), "\x90\xcd\x80", 3);
    window_map(PAGE_SUPERVISOR, page(), PTE_P | PTE_W);
    window_map(PAGE_USER, page(), PTE_P | PTE_W | PTE_U);
    all_permissions();
    guest_fault_comes_first();
    granularity();
    page_walks();
    bad_arguments();
    protect((u64)pages, (u64)pages + sizeof(pages), RWX);
}

void group_mbec(void)
{
    check("execute.intel", is_intel);
    run();
}

void group_gmet(void)
{
    check("execute.amd", !is_intel);
    run();
}
