/* SPDX-License-Identifier: MIT */
/*
 * L1's tables for L2 in the hostile groups, EPT or NPT: the playground one to one from three roots, random
 * entries elsewhere, and random changes to all of it.
 */
#include "tests/guest/hostile.h"

enum {
    PDPT = PAGE_NESTED + NESTED_ROOTS,
    DIRECTORY,
    TABLE,
    LOW_TABLE,
    HIGH_DIRECTORY,
};

static u64 random_entry(void)
{
    return is_intel ? hostile_ept_entry() : hostile_npt_entry();
}

/* Bits that give every permission: EPT's read, write and both executes; NPT's present, writable, user. */
static u64 all_permissions(void)
{
    return is_intel ? 7 | BIT(10) : 7;
}

/* Of a page: with the memory type that EPT wants. */
static u64 leaf(u64 address, bool writable)
{
    return address | (is_intel ? 6 << 3 : 0) | (writable ? all_permissions() : all_permissions() & ~2ull);
}

void hostile_map_nested(bool own_tables)
{
    u64 *table = (u64 *)play_page(TABLE);

    for (unsigned root = 0; root < NESTED_ROOTS; root++)
        *(u64 *)play_page(PAGE_NESTED + root) = play_page(PDPT) | all_permissions();
    *(u64 *)play_page(PDPT) = play_page(DIRECTORY) | all_permissions();
    ((u64 *)play_page(DIRECTORY))[PLAYGROUND >> 21] = play_page(TABLE) | all_permissions();
    for (unsigned i = 0; i < PLAYGROUND_PAGES; i++) {
        bool is_table = i >= PAGE_NESTED && i < PAGE_NESTED + NESTED_PAGES;
        table[i] = leaf(play_page(i), own_tables || !is_table);
        if (!hostile_may_execute(play_page(i)))
            table[i] |= BIT(63);
    }
    table[PAGE_APIC] = is_intel ? leaf(play_page(PAGE_APIC), true) & ~(BIT(2) | BIT(10))
                                : leaf(play_page(PAGE_APIC), true) | BIT(63);
}

void hostile_write_nested(void)
{
    memset((void *)play_page(PAGE_NESTED), 0, NESTED_PAGES * PAGE_SIZE);
    hostile_map_nested(hostile_chance(30));
    *(u64 *)play_page(DIRECTORY) = play_page(LOW_TABLE) | all_permissions();
    ((u64 *)play_page(PDPT))[3] = play_page(HIGH_DIRECTORY) | all_permissions();
    for (unsigned i = 0; i < 512; i += 1 + hostile_below(8)) {
        ((u64 *)play_page(LOW_TABLE))[i] = random_entry();
        ((u64 *)play_page(HIGH_DIRECTORY))[i] = random_entry();
    }
}

void hostile_change_nested(void)
{
    for (unsigned i = hostile_below(6); i > 0; i--) {
        u64 *table = (u64 *)play_page(PAGE_NESTED + hostile_below(NESTED_PAGES));
        unsigned index = hostile_chance(70) ? hostile_below(PLAYGROUND_PAGES) : hostile_below(512);
        /* Roots and the levels below them have few entries that matter. */
        if (hostile_chance(10))
            index = hostile_chance(50) ? 0 : (unsigned)(PLAYGROUND >> 21);
        table[index] = random_entry();
    }
}
