/* SPDX-License-Identifier: MIT */
/*
 * Group `second-level`: Umbra's test hypercall takes permissions from a page of the guest, and every access
 * to it through every guest entry has to be a violation, or none, as Umbra's own paging core says for that
 * access, with the exit qualification or EXITINFO1 that it derives. Then the same for the guest's own page
 * table, which the CPU's walk reads and writes; and for both at once, whose violations come in that order.
 */
#include "tests/guest/guest.h"
#include "tests/guest/oracle.h"

enum { PERMISSION_SETS = 16, ALL = 15, PAGE_TRIED = 70, PAGE_OF_CODE = 71, REPORTED_MAX = 8 };
enum { AT_READ = 0, AT_WRITE = 16, DATA = 256 };
#define QUALIFICATION_ADVANCED BITS(11, 9)
#define QUALIFICATION_READ     BIT(0)
#define QUALIFICATION_XU       BIT(6)
#define QUALIFICATION_SS       BIT(13)
#define EXITINFO_USER          BIT(2)

static u8 pages[2 * PAGE_SIZE] __attribute__((aligned(4096)));
static u8 accessors[PAGE_SIZE] __attribute__((aligned(4096)));
static struct oracle_second format;

/* Whole accesses, and apart from them the bits of the reason that an emulator is known to get wrong. */
enum aspect { FINAL, WALK, XU_OF_DATA, READ_OF_WALK, ASPECTS };
static const char *const aspect_name[ASPECTS] = {"final", "walk", "xu_bit_of_data_accesses",
                                                 "read_bit_of_walks"};
static u64 compared[ASPECTS], different[ASPECTS], violations;
static unsigned table_permissions; /* for both_accesses() */

static u64 page(void)
{
    return (u64)pages;
}

static u64 linear(void)
{
    return WINDOW + PAGE_TRIED * PAGE_SIZE;
}

static u32 protect(u64 start, unsigned permissions)
{
    return hypercall(HYPERCALL_TEST_PROTECT, start, start + PAGE_SIZE, permissions).status;
}

static struct hypercall last_violation(void)
{
    return hypercall(HYPERCALL_TEST_LAST_VIOLATION, 0, 0, 0);
}

static u64 offset_of(const struct oracle_access *access)
{
    return access->kind == ORACLE_FETCH ? 0 : DATA;
}

static u64 address_of(const struct oracle_access *access)
{
    return linear() + offset_of(access);
}

static u64 do_access(const struct oracle_access *access)
{
    enum code_mode mode = access->user ? RING3_64 : RING0_64;
    u64 code = access->user ? WINDOW + PAGE_OF_CODE * PAGE_SIZE : (u64)accessors;
    const struct code registers = {.rsi = address_of(access)};

    if (access->kind == ORACLE_FETCH)
        return execute_at(mode, address_of(access), &registers);
    return execute_at(mode, code + (access->kind == ORACLE_WRITE ? AT_WRITE : AT_READ), &registers);
}

/* Does the guest's own entry let the access through? With WP, without SMEP and SMAP. */
static bool guest_allows(const struct oracle_access *access, u64 entry)
{
    if (access->user && (entry & PTE_U) == 0)
        return false;
    if (access->kind == ORACLE_WRITE)
        return (entry & PTE_W) != 0;
    return access->kind == ORACLE_READ || (entry & PTE_NX) == 0;
}

/* The bits of a reason that count: those that hardware may leave out, or set wrongly, do not. */
static u64 counted(const struct oracle_access *access, u64 reason)
{
    if (is_intel) /* advanced information is an option of the CPU: all of it or nothing */
        return (reason & QUALIFICATION_ADVANCED) != 0 ? ~0ull : ~QUALIFICATION_ADVANCED;
    /* Erratum 1218: U/S of a fetch under GMET. */
    return format.mode_based && access->kind == ORACLE_FETCH ? ~(u64)EXITINFO_USER : ~0ull;
}

/* The bits that have a check of their own. */
static u64 xu_bits(const struct oracle_access *access)
{
    bool data = is_intel && format.mode_based && access->kind != ORACLE_FETCH;

    return data ? QUALIFICATION_XU | QUALIFICATION_SS : 0;
}

static u64 read_bit(enum aspect aspect)
{
    return is_intel && format.ept_ad && aspect == WALK ? QUALIFICATION_READ : 0;
}

static void compare_bits(enum aspect aspect, u64 bits, u64 difference)
{
    compared[aspect] += bits != 0;
    different[aspect] += (difference & bits) != 0;
}

/* What became of one access. */
struct outcome {
    u64 vector, count; /* of violations */
    struct hypercall last;
    u64 gpa; /* that the violation should name */
};

static void judge(enum aspect aspect, const struct oracle_access *access, unsigned permissions, u64 entry,
                  const struct oracle_violation *want, const struct outcome *got)
{
    bool good = got->vector == VECTOR_DONE && got->count == (want->violation ? 1 : 0);
    u64 difference = (got->last.rdx ^ want->reason) & counted(access, got->last.rdx);
    u64 xu = xu_bits(access), read = read_bit(aspect);

    if (good && want->violation) {
        good = (difference & ~(xu | read)) == 0 && got->last.rsi == got->gpa &&
               (!is_intel || got->last.rdi == address_of(access));
        compare_bits(XU_OF_DATA, xu, difference);
        compare_bits(READ_OF_WALK, read, difference);
    }
    compared[aspect]++;
    violations += want->violation;
    if (good || different[aspect]++ >= REPORTED_MAX)
        return;
    print("guest: differs: permissions %x entry 0x%lx kind %u user %u: vector %lu, %lu violations, want %u\n",
          permissions, entry, access->kind, access->user, got->vector, got->count, want->violation);
    print("guest:   reason 0x%lx, want 0x%lx, gpa 0x%lx of 0x%lx, linear 0x%lx\n", got->last.rdx,
          want->reason, got->last.rsi, got->gpa, got->last.rdi);
}

static struct oracle_linear linear_of(u64 entry)
{
    return (struct oracle_linear){.user = (entry & PTE_U) != 0,
                                  .write = (entry & PTE_W) != 0,
                                  .execute_disabled = (entry & PTE_NX) != 0};
}

static void final_access(const struct oracle_access *access, unsigned permissions, u64 entry)
{
    const struct oracle_linear at = linear_of(entry);
    struct oracle_violation want = oracle_second(&format, permissions, access, &at);
    struct outcome got = {.gpa = page() + offset_of(access)};
    u64 before = last_violation().rbx;

    window_set(PAGE_TRIED, page() | entry);
    protect(page(), permissions);
    got.vector = do_access(access);
    got.last = last_violation();
    got.count = got.last.rbx - before;
    judge(FINAL, access, permissions, entry, &want, &got);
}

/* From CPL 0 and only data, so that nothing else goes through the window's table. */
static u64 do_plain(const struct oracle_access *access)
{
    u64 value, vector = access->kind == ORACLE_READ ? try_read64(address_of(access), &value)
                                                    : try_write64(address_of(access), 0);

    return vector == NO_FAULT ? VECTOR_DONE : vector;
}

/*
 * The entry as the walk finds it has no flag set: the CPU reads it, and writes it too.
 */
static void table_access(const struct oracle_access *access, unsigned permissions, u64 entry)
{
    const struct oracle_linear at = {.table = true};
    struct oracle_violation want = oracle_second(&format, permissions, access, &at);
    u64 table = (u64)window_table(), before = last_violation().rbx;
    struct outcome got = {.gpa = table + PAGE_TRIED * sizeof(u64)};

    if (access->user || access->kind == ORACLE_FETCH)
        return;
    window_set(PAGE_TRIED, page() | entry);
    protect(table, permissions);
    flush_tlb();
    got.vector = do_plain(access);
    got.last = last_violation();
    got.count = got.last.rbx - before;
    protect(table, ALL);
    judge(WALK, access, permissions, entry, &want, &got);
}

/*
 * A page opens at its first violation: if the walk is denied, it goes on, and the final access may be denied
 * in turn.
 */
static void both_accesses(const struct oracle_access *access, unsigned permissions, u64 entry)
{
    const struct oracle_linear walk = {.table = true}, at = linear_of(entry);
    struct oracle_violation of_table = oracle_second(&format, table_permissions, access, &walk);
    struct oracle_violation of_page = oracle_second(&format, permissions, access, &at);
    bool table_last = of_table.violation && !of_page.violation;
    u64 table = (u64)window_table(), before = last_violation().rbx;
    struct outcome got = {.gpa = table_last ? table + PAGE_TRIED * sizeof(u64) : page() + offset_of(access)};

    if (access->user || access->kind == ORACLE_FETCH)
        return;
    window_set(PAGE_TRIED, page() | entry);
    protect(page(), permissions);
    protect(table, table_permissions);
    flush_tlb();
    got.vector = do_plain(access);
    got.last = last_violation();
    got.count = got.last.rbx - before - (of_table.violation && of_page.violation ? 1 : 0);
    protect(table, ALL);
    judge(table_last ? WALK : FINAL, access, permissions, entry, table_last ? &of_table : &of_page, &got);
}

/* Every guest entry: U, W and NX in all combinations; every access that it lets through. */
static void all_accesses(unsigned permissions, void (*one)(const struct oracle_access *, unsigned, u64))
{
    for (unsigned rights = 0; rights < 8; rights++) {
        u64 entry = PTE_P | ((rights & 1) != 0 ? PTE_U : 0u) | ((rights & 2) != 0 ? PTE_W : 0u);

        entry |= (rights & 4) != 0 ? PTE_NX : 0;
        for (unsigned kind = 0; kind < ORACLE_KINDS; kind++) {
            for (unsigned user = 0; user < 2; user++) {
                struct oracle_access access = {.kind = (enum oracle_kind)kind, .user = user != 0};

                if (guest_allows(&access, entry))
                    one(&access, permissions, entry);
            }
        }
    }
}

static void prepare(void)
{
    memcpy(accessors + AT_READ, "\x8a\x06\xcd\x80", 4);  /* mov al, [rsi]; int 80h */
    memcpy(accessors + AT_WRITE, "\x88\x06\xcd\x80", 4); /* mov [rsi], al; int 80h */
    memcpy(pages, "\xcd\x80", 2);
    window_map(PAGE_OF_CODE, (u64)accessors, PTE_P | PTE_U | PTE_A);
    /* Umbra has EPT's accessed and dirty flags on where the CPU has them: as all do that we run this on. */
    format = (struct oracle_second){
        .intel = is_intel, .mode_based = mode_based_execute, .ept_ad = is_intel, .advanced = true};
}

void group_second_level(void)
{
    char name[64];

    check("second_level.needs_a_test_build_of_umbra", under_umbra && test_build);
    if (!under_umbra || !test_build)
        return;
    prepare();
    for (unsigned permissions = 0; permissions < PERMISSION_SETS; permissions++) {
        if (protect(page(), permissions) != HYPERCALL_OK)
            continue; /* the format cannot say it */
        all_accesses(permissions, final_access);
        protect(page(), ALL);
        all_accesses(permissions, table_access);
        for (table_permissions = 0; table_permissions < PERMISSION_SETS; table_permissions++) {
            bool told = protect((u64)window_table(), table_permissions) == HYPERCALL_OK;

            protect((u64)window_table(), ALL);
            if (told)
                all_accesses(permissions, both_accesses);
        }
        protect(page(), ALL);
    }
    print("guest: second-level: %lu accesses compared, %lu of them violations\n",
          compared[FINAL] + compared[WALK], violations);
    for (unsigned aspect = 0; aspect < ASPECTS; aspect++) {
        if (compared[aspect] == 0)
            continue;
        print_to(name, sizeof(name), "second_level.%s", aspect_name[aspect]);
        check_eq(name, different[aspect], 0);
    }
    check("second_level.enough_compared", compared[FINAL] > 200 && violations > 100);
}
