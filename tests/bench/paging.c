/* SPDX-License-Identifier: MIT */
/*
 * What the paging core costs, one operation at a time: `paging CASE COUNT` does it COUNT times on the host.
 * tests/bench/paging runs it under valgrind, which counts. The objects are those of the hypervisor's build.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86.h"
#include "mm/fault.h"
#include "mm/linear.h"
#include "mm/walk-quick.h"

enum { ARENA_BYTES = 1 << 20, TABLES = 0x10000, EPT_TABLES = 0x40000, TARGET = 0x80000 };

#define LINEAR   0x00007F1234567123ull
#define ALL_KEYS 0x55555554u /* access is disabled for every key but 0 */

static _Alignas(4096) u8 arena[ARENA_BYTES];
static struct paging_memory memory;
static struct paging guest, guest_keys, ept, npt;
static volatile unsigned sink;

static void put(u64 address, u64 value)
{
    memcpy(arena + address, &value, sizeof(value));
}

/* Tables for one address, from level 4 down to `leaf_level`, one page each from `root` on. */
static void map(enum paging_format_id format, u64 root, u64 address, u64 target, unsigned leaf_level,
                u64 flags)
{
    u64 table = root;

    for (unsigned level = paging_formats[format].levels; level > leaf_level; level--) {
        put(paging_entry_address(format, table, address, level), (root + PAGE_SIZE * (5 - level)) | flags);
        table = root + PAGE_SIZE * (5 - level);
    }
    u64 leaf = target | flags | (leaf_level > 1 ? ENTRY_PS : 0);
    leaf |= format >= PAGING_EPT4 ? 6u << EPTE_TYPE_SHIFT | EPTE_D : PTE_D;
    put(paging_entry_address(format, table, address, leaf_level), leaf);
}

#define PTE_FLAGS  (PTE_P | PTE_W | PTE_U | PTE_A)
#define EPTE_FLAGS (EPTE_R | EPTE_W | EPTE_X | EPTE_XU | EPTE_A)

static void set_up(void)
{
    const struct paging_cpu cpu = {.maxphyaddr = 46, .page_1g = true, .execute_only = true};
    u64 cr0 = CR0_PE | CR0_PG | CR0_WP;
    u64 cr4 = CR4_PAE | CR4_SMEP | CR4_SMAP;
    u64 efer = EFER_LMA | EFER_NXE;

    paging_init(&guest, paging_role_guest(&cpu, cr0, cr4, efer));
    paging_init(&guest_keys, paging_role_guest(&cpu, cr0, cr4 | CR4_PKE | CR4_PKS, efer));
    permission_set_keys(&guest_keys.permission, guest_keys.role, ALL_KEYS, ALL_KEYS);
    paging_init(&ept, paging_role_ept(&cpu, 3u << 3 | 6 | BIT(6), true, false));
    paging_init(&npt, paging_role_npt(&cpu, cr0, cr4, efer, true));

    paging_set_window(&memory, arena, 0, ARENA_BYTES);
    map(PAGING_4LEVEL, TABLES, LINEAR, TARGET, 1, PTE_FLAGS);
    /* Both second stages are an identity map of the arena: one page of 2 MByte, and for EPT also of 4 KByte.
     */
    map(PAGING_EPT4, EPT_TABLES, 0, 0, 2, EPTE_FLAGS);
    map(PAGING_4LEVEL, EPT_TABLES + 0x8000, 0, 0, 2, PTE_FLAGS);
    map(PAGING_EPT4, EPT_TABLES + 0x10000, 0, 0, 1, EPTE_FLAGS);
    for (u64 page = 0; page < ARENA_BYTES; page += PAGE_SIZE)
        put(paging_entry_address(PAGING_EPT4, EPT_TABLES + 0x13000, page, 1),
            page | EPTE_FLAGS | EPTE_D | 6u << EPTE_TYPE_SHIFT);
}

/* Hides a value from the optimiser, so that each turn is a new one. */
static unsigned hidden(unsigned value)
{
    __asm__ volatile("" : "+r"(value));
    return value;
}

static __attribute__((noinline)) void nothing(void)
{
    sink = hidden(0);
}

static __attribute__((noinline)) void check_rights(void)
{
    sink = permission_rights_fault(&guest.permission, hidden(ACCESS_WRITE), hidden(RIGHTS_ALL_BUT_SS));
}

static __attribute__((noinline)) void check_keys(void)
{
    sink =
        permission_faults(&guest_keys.permission, hidden(ACCESS_WRITE), hidden(RIGHTS_ALL_BUT_SS), hidden(3));
}

static void walk_case(const struct paging *paging, u64 root, u64 address, unsigned access)
{
    struct walk result;
    enum walk_status status = walk(paging, &memory, root, address, access, &result);

    if (status != WALK_OK)
        abort();
}

static void quick_case(const struct paging *paging, u64 root, u64 address, unsigned access)
{
    if (walk_quick(paging, &memory, root, address, access) == WALK_NOT_QUICK)
        abort();
}

static void quick_4level(void)
{
    quick_case(&guest, TABLES, LINEAR, ACCESS_USER | ACCESS_WRITE);
}

static void quick_4level_keys(void)
{
    quick_case(&guest_keys, TABLES, LINEAR, ACCESS_USER);
}

static void quick_ept_4k(void)
{
    quick_case(&ept, EPT_TABLES + 0x10000, TARGET, ACCESS_WRITE);
}

static void quick_ept_2m(void)
{
    quick_case(&ept, EPT_TABLES, TARGET, ACCESS_WRITE);
}

static void record_4level(void)
{
    walk_case(&guest, TABLES, LINEAR, ACCESS_USER);
}

static void record_4level_keys(void)
{
    walk_case(&guest_keys, TABLES, LINEAR, ACCESS_USER);
}

static void record_ept_4k(void)
{
    walk_case(&ept, EPT_TABLES + 0x10000, TARGET, ACCESS_WRITE);
}

static void record_ept_2m(void)
{
    walk_case(&ept, EPT_TABLES, TARGET, ACCESS_WRITE);
}

static void record_mark(void)
{
    struct walk result;

    if (walk_and_mark(&guest, &memory, TABLES, LINEAR, ACCESS_USER | ACCESS_WRITE, &result) != WALK_OK)
        abort();
}

static void quick_2d_case(const struct paging *host, u64 root)
{
    const struct walk_2d_tables tables = {&guest, TABLES, host, root};

    if (walk_2d_quick(&tables, &memory, LINEAR, ACCESS_USER | ACCESS_WRITE) == WALK_NOT_QUICK)
        abort();
}

static void quick_2d_ept_4k(void)
{
    quick_2d_case(&ept, EPT_TABLES + 0x10000);
}

static void quick_2d_ept_2m(void)
{
    quick_2d_case(&ept, EPT_TABLES);
}

static void quick_2d_npt_2m(void)
{
    quick_2d_case(&npt, EPT_TABLES + 0x8000);
}

static void record_2d_ept_4k(void)
{
    const struct walk_2d_tables tables = {&guest, TABLES, &ept, EPT_TABLES + 0x10000};
    struct walk_2d result;

    if (walk_2d(&tables, &memory, LINEAR, ACCESS_USER, &result) != WALK_OK)
        abort();
}

static void new_role(void)
{
    struct paging paging;

    paging_init(&paging, (struct paging_role){hidden(npt.role.bits)});
    sink = paging.permission.key_bits[hidden(0)];
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"nothing", nothing},
    {"check-rights", check_rights},
    {"check-keys", check_keys},
    {"walk-4level", quick_4level},
    {"walk-4level-keys", quick_4level_keys},
    {"walk-ept-4k", quick_ept_4k},
    {"walk-ept-2m", quick_ept_2m},
    {"walk-2d-ept-4k", quick_2d_ept_4k},
    {"walk-2d-ept-2m", quick_2d_ept_2m},
    {"walk-2d-npt-2m", quick_2d_npt_2m},
    {"record-4level", record_4level},
    {"record-4level-keys", record_4level_keys},
    {"record-4level-and-mark", record_mark},
    {"record-ept-4k", record_ept_4k},
    {"record-ept-2m", record_ept_2m},
    {"record-2d-ept-4k", record_2d_ept_4k},
    {"new-role", new_role},
};

int main(int argc, char **argv)
{
    unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

    set_up();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        if (argc == 3 && strcmp(argv[1], cases[i].name) != 0)
            continue;
        if (argc < 3)
            puts(cases[i].name);
        for (unsigned long turn = 0; turn < count; turn++)
            cases[i].run();
    }
    return 0;
}
