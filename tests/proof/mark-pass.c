/* SPDX-License-Identifier: MIT */
/*
 * Proof: one pass of walk_set_flags() over the entries of an allowed walk, of which nothing else is known:
 * any two may be one word in memory, an adversary changes any of them at any time, and the second stage
 * answers what it likes. Each compare-and-exchange is one for the contract of an entry
 * (tests/proof/mark-entry.c): at the address that the walk read, expecting what it read or what was written
 * over that just now, setting the accessed flag, and in the leaf, for a write, the dirty flag, and nothing
 * else; from the root down, once for each entry that lacks a flag; where EPT has to allow the write, it has,
 * for exactly this entry. Afterwards no flag is owed, or the result tells why.
 *
 * FORMAT, KIND: the tables. Both settings of EPTP bit 6, every level of the leaf.
 */
#include "mm/walk-general.h"
#include "tests/proof/any.h"

#define LEVELS spec_levels(FORMAT)

static struct paging paging, host;
static u64 root, linear, accessed, dirty;
static unsigned access_bits, leaf_level, lowest_marked;
static u64 seen[PAGING_LEVELS_MAX + 1]; /* by level: as the walk read it, with the flags set since */
static u64 where[PAGING_LEVELS_MAX + 1];
static bool staged, changed, refused;
static struct {
    bool asked, allowed;
    u64 address, to;
} host_walk; /* of the second stage, for the next entry */

/* SDM vol. 3A 4.8, vol. 3C 29.3.5: a PDPTE of PAE has no flags. */
static u64 owed(unsigned level)
{
    bool write = (access_bits & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;

    if (FORMAT == SPEC_PAE && level == 3)
        return 0;
    return (accessed | (write && level == leaf_level ? dirty : 0)) & ~seen[level];
}

/* Where the first stage says that the entry of a level is. */
static u64 guest_address(unsigned level)
{
    u64 table = level != LEVELS ? seen[level + 1] & (FORMAT == SPEC_32BIT ? BITS(31, 12) : BITS(51, 12))
                : FORMAT == SPEC_32BIT ? root & BITS(31, 12)
                : FORMAT == SPEC_PAE   ? root & BITS(31, 5)
                                       : root & BITS(51, 12);

    return table + spec_index(FORMAT, level, linear) * spec_entry_bytes(FORMAT);
}

/* Reading an entry has counted as writing it, unless EPT has its own flags off (SDM vol. 3C 29.3.3.2). */
static bool needs_permission(void)
{
    return staged && role_is_ept(host.role) && !role_has(host.role, ROLE_EPT_AD);
}

enum walk_status walk_host(const struct walk_second_stage *second, const struct paging_memory *memory,
                           u64 address, unsigned access, u64 supplied)
{
    (void)memory;
    assert(needs_permission() && !host_walk.asked && !refused);
    assert(access == ACCESS_WRITE && supplied == FAULT_LINEAR_VALID);
    host_walk.asked = true;
    host_walk.address = address;
    host_walk.allowed = nondet_bool();
    host_walk.to = second->result->host.address = nondet_u64();
    refused = !host_walk.allowed;
    return refused ? WALK_FAULT : WALK_OK;
}

enum walk_status walk_not_memory(const struct paging *of, struct walk *result, unsigned level, u64 address)
{
    assert(of == &paging && refused && address == where[level]);
    result->level = (u8)level;
    return WALK_NOT_MEMORY;
}

/* The next entry, from the root down, that lacks a flag; 0: none. */
static unsigned next_level(void)
{
    unsigned next = 0;

    for (unsigned level = 1; level <= LEVELS; level++) {
        if (level >= leaf_level && level < lowest_marked && owed(level) != 0)
            next = level;
    }
    return next;
}

static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    unsigned level = next_level();

    (void)memory;
    assert(bytes == spec_entry_bytes(FORMAT) && !changed && !refused && level != 0);
    assert(address.raw == where[level] && expected == seen[level] && desired == (expected | owed(level)));
    if (needs_permission())
        assert(host_walk.asked && host_walk.to == address.raw && host_walk.address == guest_address(level));
    lowest_marked = level;
    host_walk.asked = false;
    if (nondet_bool()) {
        refused = true;
        return MEMORY_NOT_OWNED;
    }
    if (nondet_bool()) {
        changed = true;
        return MEMORY_CHANGED;
    }
    for (unsigned same = 1; same <= LEVELS; same++) {
        if (same >= leaf_level && where[same] == address.raw && seen[same] == expected)
            seen[same] = desired;
    }
    return MEMORY_OK;
}

static void any_entries(struct walk *walked)
{
    bool lacks = false;

    walked->root_level = (u8)LEVELS;
    walked->level = (u8)leaf_level;
    for (unsigned level = 1; level <= LEVELS; level++) {
        seen[level] = FORMAT == SPEC_32BIT ? nondet_u64() & BITS(31, 0) : nondet_u64();
        where[level] = nondet_u64();
        walked->entry[level].value = seen[level];
        walked->entry[level].address = where[level];
        lacks = lacks || (level >= leaf_level && (owed(level) & accessed) != 0);
    }
    walked->leaf = seen[leaf_level];
    walked->deviations = (nondet_u64() & ~accessed) | (lacks ? accessed : 0);
}

/* The second stage leads to another place by now than when the entry was read. */
static bool moved(void)
{
    return host_walk.asked && !refused && host_walk.address == guest_address(next_level()) &&
           host_walk.to != where[next_level()];
}

static void check(enum walk_status status, const struct walk *walked)
{
    assert(changed + refused + moved() == (status == WALK_OK ? 0 : 1));
    assert((status == WALK_CONTENDED) == (changed || moved()));
    if (status != WALK_OK)
        return;
    for (unsigned level = 1; level <= LEVELS; level++)
        assert(level < leaf_level || (owed(level) == 0 && walked->entry[level].value == seen[level]));
    assert(walked->leaf == seen[leaf_level] && !walk_owes_flags(&paging, walked, access_bits));
}

static void one_pass(bool flags, unsigned leaf)
{
    static const enum paging_format_id formats[] = {
        [SPEC_32BIT] = PAGING_32BIT,  [SPEC_PAE] = PAGING_PAE,   [SPEC_LONG4] = PAGING_4LEVEL,
        [SPEC_LONG5] = PAGING_5LEVEL, [SPEC_EPT4] = PAGING_EPT4, [SPEC_EPT5] = PAGING_EPT5};
    const struct paging_memory memory = {.compare_exchange = compare_exchange};
    struct walk_2d whole;
    const struct walk_second_stage second = {&host, nondet_u64(), true, &whole};

    accessed = !flags ? 0 : KIND == EPT ? BIT(8) : BIT(5);
    dirty = !flags ? 0 : KIND == EPT ? BIT(9) : BIT(6);
    paging.role.bits = formats[FORMAT];
    paging.accessed = accessed;
    paging.dirty = dirty;
    leaf_level = leaf;
    lowest_marked = LEVELS + 1;
    any_entries(&whole.guest);
    check(walk_set_flags(&paging, &memory, staged ? &second : NULL, root, linear, access_bits, &whole.guest),
          &whole.guest);
}

int main(void)
{
    const struct paging_cpu cpu = {.maxphyaddr = MAXPHYADDR};

    root = nondet_u64();
    linear = nondet_u64();
    access_bits = nondet_unsigned() & (ACCESS_KINDS - 1);
    staged = KIND == GUEST && nondet_bool();
    host.role = nondet_bool()   ? paging_role_ept(&cpu, 0x1e, false, false)
                : nondet_bool() ? paging_role_ept(&cpu, 0x5e, false, false)
                                : paging_role_npt(&cpu, CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, false);
    for (unsigned leaf = 1; leaf <= 3 && leaf < LEVELS + (FORMAT == SPEC_32BIT); leaf++) {
        if (nondet_bool()) {
            one_pass(KIND != EPT || nondet_bool(), leaf);
            return 0;
        }
    }
    return 0;
}
