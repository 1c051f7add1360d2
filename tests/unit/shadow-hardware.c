/* SPDX-License-Identifier: MIT */
/*
 * The CPU that runs L2 on the shadow: a walker by the specification, and a TLB that drops nothing unless it
 * must: neither translations nor paging-structure-cache entries (SDM vol. 3C 29.4; APM vol. 2 15.16). All
 * that it lets L2 do is compared with what L1 and Umbra permit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/phys.h"
#include "tests/unit/random.h"
#include "tests/unit/shadow-world.h"

enum { CACHED_PAGES = 64, CACHED_TABLES = 48, TRIES = 12 };

/* The way through the shadow to a table or to a page. */
struct way {
    u64 space;   /* EPT: the root table (EP4TA); NPT: the ASID */
    u64 address; /* first of what it stands for, and its size */
    u64 size;
    u64 next;       /* the table, or the page of memory */
    unsigned level; /* of the next entry to be read; 0: it is a page */
    struct spec_path path;
};

static struct way pages[CACHED_PAGES], tables[CACHED_TABLES];
static unsigned page_count, table_count;
static struct hardware_use last_use;
static bool last_use_known;

static u64 space_of(const struct hardware_use *use)
{
    return world.ept ? use->use.root.raw : use->use.tag;
}

static struct spec_paging format_of(const struct hardware_use *use)
{
    struct spec_paging format = world.own.tables;

    format.root = use->use.root.raw;
    format.ept_ad = world.root[use->root].second.tables.ept_ad;
    return format;
}

void hardware_reset(void)
{
    page_count = table_count = 0;
    last_use_known = false;
}

static void forget(struct way *ways, unsigned *count, u64 space, bool all, u64 address)
{
    for (unsigned i = 0; i < *count; i++) {
        if (ways[i].space == space && (all || address - ways[i].address < ways[i].size))
            ways[i--] = ways[--*count];
    }
}

static void remember(struct way *ways, unsigned *count, unsigned limit, const struct way *way)
{
    if (*count < limit)
        ways[(*count)++] = *way;
    else
        ways[random_below(limit)] = *way;
}

/*
 * What was invalidated is used from now on. EPT: what is cached belongs to the table (EP4TA), whatever the
 * VPID. Two roots of the world may be the same for L1.
 */
static void begin_use(unsigned root, unsigned tag)
{
    for (unsigned i = 0; i < WORLD_ROOTS; i++) {
        if (world.root[i].key.pointer != world.root[root].key.pointer ||
            !role_equal(world.root[i].key.role, world.root[root].key.role))
            continue;
        for (unsigned k = 0; k < WORLD_TAGS; k++) {
            if (!world.ept && k != tag)
                continue;
            world.since[i][k] = world.now;
            world.invalidated[i][k] = false;
        }
    }
}

/* The answer of the last time, if it is for the same and still holds; it is asked for now and then. */
static bool renew(unsigned root, unsigned tag, struct hardware_use *use)
{
    if (!last_use_known || last_use.root != root || last_use.tag != tag || random_chance(40))
        return false;
    unsigned renewal = shadow_renew(world.shadow, &world.cpu);
    *use = last_use;
    use->use.flush_tables = (renewal & SHADOW_FLUSH_TABLES) != 0;
    use->use.flush_linear = (renewal & SHADOW_FLUSH_LINEAR) != 0;
    return renewal != SHADOW_EXPIRED;
}

void hardware_enter(unsigned root, unsigned tag, struct hardware_use *use)
{
    if (!renew(root, tag, use)) {
        *use = (struct hardware_use){.root = root, .tag = tag};
        assert_int_equal(shadow_acquire(world.shadow, &world.cpu, &world.root[root].key, tag, &use->use),
                         SHADOW_ACQUIRED);
    }
    last_use = *use;
    last_use_known = true;
    if (use->use.flush_tables || (use->use.flush_linear && !world.ept)) {
        forget(pages, &page_count, space_of(use), true, 0);
        forget(tables, &table_count, space_of(use), true, 0);
    }
    if (world.invalidated[root][tag])
        begin_use(root, tag);
}

/* --- walking the shadow --- */

/* From a place on the way down to the page; false: not present. Tables met on the way are cached if `cache`.
 */
static bool descend(const struct hardware_use *use, struct way way, u64 address, struct way *page, bool cache)
{
    const struct spec_paging format = format_of(use);

    while (way.level != 0) {
        u64 where = way.next + spec_index(format.format, way.level, address) * 8, entry;
        assert_true(world.all_memory.read(NULL, where, 8, &entry));
        if (!spec_present(&format, way.level, entry))
            return false;
        if (world.ept ? spec_ept_misconfigured(&format, way.level, entry)
                      : (entry & spec_reserved_bits(&format, way.level, entry)) != 0)
            fail_msg("the shadow has an invalid entry of level %u: %#llx", way.level,
                     (unsigned long long)entry);
        way.path.step[way.path.count].address = where;
        way.path.step[way.path.count].level = way.level;
        way.path.step[way.path.count++].entry = entry;
        bool leaf = spec_maps_page(&format, way.level, entry);
        way.size = spec_entry_page_size(format.format, way.level);
        way.address = address & ~(way.size - 1);
        way.next = spec_entry_address(&format, way.level, entry);
        way.level = leaf ? 0 : way.level - 1;
        if (!leaf && (way.next < WORLD_UMBRA_START || way.next >= WORLD_END))
            fail_msg("the shadow leads to a table outside the pool");
        if (cache && !leaf)
            remember(tables, &table_count, CACHED_TABLES, &way);
    }
    *page = way;
    return true;
}

static struct way from_root(const struct hardware_use *use)
{
    return (struct way){.space = space_of(use), .next = use->use.root.raw, .level = SHADOW_LEVELS};
}

static bool way_permits(const struct hardware_use *use, const struct way *page,
                        const struct world_access *access)
{
    const struct spec_paging format = format_of(use);

    return world.ept ? spec_permission_ept(&format, &access->access, &page->path)
                     : spec_permission_npt(&format, &access->access, &page->path);
}

static unsigned address_index(u64 address)
{
    unsigned i = 0;

    while (i < WORLD_ADDRESSES && (world.address[i] ^ address) >= PAGE_SIZE)
        i++;
    return i;
}

/* What hardware would let L2 do, L1 and Umbra must let it do. */
static void judge(const struct hardware_use *use, const struct way *page, const struct world_access *access,
                  const char *source)
{
    unsigned index = address_index(access->address);
    u32 since = world.since[use->root][use->tag];
    u64 target = page->next + (access->address - page->address);
    u64 leaf = page->path.step[page->path.count - 1].entry;
    unsigned level = page->path.step[page->path.count - 1].level;

    if (index < WORLD_ADDRESSES)
        since = (u32)max_u64(since, world.address_since[use->root][index]);
    if (!world_own_permits(use->root, target, &access->access))
        fail_msg("%s: L2 reaches %#llx as Umbra's own map does not permit", source,
                 (unsigned long long)target);
    if (!world.overflow && !world_permits(use->root, since, access, target, leaf, level))
        fail_msg(
            "%s: L2 reaches %#llx through %#llx as L1 does not permit: root %u, kind %d, leaf %#llx level %u",
            source, (unsigned long long)target, (unsigned long long)access->address, use->root,
            access->access.kind, (unsigned long long)leaf, level);
}

static const struct spec_second_access every_kind[] = {
    {.kind = SPEC_READ},
    {.kind = SPEC_WRITE},
    {.kind = SPEC_FETCH, .cpl = 0, .linear_user = false},
    {.kind = SPEC_FETCH, .cpl = 3, .linear_user = true},
    {.kind = SPEC_READ, .guest_table = true},
};

static void judge_all_kinds(const struct hardware_use *use, const struct way *page, u64 address,
                            const char *source)
{
    for (unsigned i = 0; i < ARRAY_SIZE(every_kind); i++) {
        const struct world_access access = {address, every_kind[i]};
        if (way_permits(use, page, &access))
            judge(use, page, &access, source);
    }
}

void hardware_check(const struct hardware_use *use, u64 address)
{
    struct way page;

    if (address >= BIT(48))
        return;
    if (descend(use, from_root(use), address, &page, false))
        judge_all_kinds(use, &page, address, "a walk");
    for (unsigned i = 0; i < page_count; i++) {
        if (pages[i].space == space_of(use) && address - pages[i].address < pages[i].size)
            judge_all_kinds(use, &pages[i], address, "the TLB");
    }
    for (unsigned i = 0; i < table_count; i++) {
        if (tables[i].space == space_of(use) && address - tables[i].address < tables[i].size &&
            descend(use, tables[i], address, &page, false))
            judge_all_kinds(use, &page, address, "a cached table");
    }
}

/* --- an access --- */

/* EPT: with the flags on, hardware sets them in the shadow, also in an entry that only a cache led to. */
static void set_flags(const struct hardware_use *use, const struct way *page, bool write)
{
    u64 bits = world.ept ? BIT(8) : BIT(5);

    if (world.ept && !world.root[use->root].second.tables.ept_ad)
        return;
    for (unsigned i = 0; i < page->path.count; i++) {
        bool leaf = i + 1 == page->path.count;
        u64 *entry = phys_to_virt(hpa(page->path.step[i].address));
        *entry |= bits | (leaf && write ? (world.ept ? BIT(9) : BIT(6)) : 0);
    }
}

static void write_into_table(const struct world_access *access, u64 target)
{
    if (access->access.kind != SPEC_WRITE || !world_is_table(target))
        return;
    u64 where = target & ~(u64)7;
    /* Through the shadow: Umbra's own map sees nothing of it. */
    world_store(where, world_peek(where) ^ (random_u64() & 0x407));
}

enum hardware_result hardware_access(const struct hardware_use *use, const struct world_access *access)
{
    struct way page;
    bool found = false, cached = false;

    for (unsigned i = 0; i < page_count && !cached; i++) {
        if (pages[i].space == space_of(use) && access->address - pages[i].address < pages[i].size) {
            page = pages[i];
            found = cached = way_permits(use, &page, access) || random_chance(50);
        }
    }
    if (!cached) {
        struct way start = from_root(use);
        for (unsigned i = 0; i < table_count; i++) {
            if (tables[i].space == start.space && access->address - tables[i].address < tables[i].size &&
                random_chance(60))
                start = tables[i];
        }
        found = access->address < BIT(48) && descend(use, start, access->address, &page, true);
    }
    if (found && way_permits(use, &page, access)) {
        judge(use, &page, access, "an access");
        if (!cached) {
            set_flags(use, &page, access->access.kind == SPEC_WRITE);
            remember(pages, &page_count, CACHED_PAGES, &page);
        }
        write_into_table(access, page.next + (access->address - page.address));
        return HARDWARE_DONE;
    }
    /* A violation invalidates what would have been used (SDM vol. 3C 29.4.3.1; on AMD: APM vol. 2 5.5.2). */
    forget(pages, &page_count, space_of(use), false, access->address);
    forget(tables, &table_count, space_of(use), false, access->address);
    return HARDWARE_FAULT;
}

/* --- the exits --- */

static void note_reflection(const struct hardware_use *use, u64 address)
{
    unsigned index = address_index(address);

    for (unsigned i = 0; i < WORLD_ROOTS && index < WORLD_ADDRESSES; i++) {
        if (((world.root[i].key.pointer ^ world.root[use->root].key.pointer) & ~PAGE_MASK) == 0 &&
            (world.ept || world.root[i].key.pointer == world.root[use->root].key.pointer))
            world.address_since[i][index] = world.now;
    }
}

static void expect_refusal(const struct hardware_use *use, const struct world_access *access,
                           enum shadow_outcome outcome, const struct shadow_result *result)
{
    struct spec_translation spec = world_l1_walk(use->root, access);

    note_reflection(use, access->address);
    if (spec.result == SPEC_NO_MEMORY) {
        assert_int_equal(outcome, world.ept ? SHADOW_MISCONFIGURED : SHADOW_REFLECT);
        return;
    }
    if (access->address >= BIT(48))
        return;
    if (spec.result == SPEC_TRANSLATED)
        fail_msg("%#llx was refused, but L1 permits it", (unsigned long long)access->address);
    assert_int_equal(outcome,
                     spec.result == SPEC_EPT_MISCONFIGURATION ? SHADOW_MISCONFIGURED : SHADOW_REFLECT);
    if (spec.result == SPEC_EPT_VIOLATION)
        assert_int_equal(result->qualification & ~spec.qualification_undefined,
                         spec.qualification & ~spec.qualification_undefined);
    if (spec.result == SPEC_NPF)
        assert_int_equal(result->exit_info_1, spec.exitinfo1);
}

static void expect_own_denial(const struct hardware_use *use, const struct world_access *access,
                              const struct shadow_result *result)
{
    struct spec_translation spec = world_l1_walk(use->root, access);

    assert_int_equal(spec.result, SPEC_TRANSLATED);
    assert_int_equal(result->own.address.raw, spec.address);
    assert_false(world_own_permits(use->root, spec.address, &access->access));
}

static void expect(const struct hardware_use *use, const struct world_access *access,
                   enum shadow_outcome outcome, const struct shadow_result *result)
{
    switch (outcome) {
    case SHADOW_REFLECT:
    case SHADOW_MISCONFIGURED:
        expect_refusal(use, access, outcome, result);
        break;
    case SHADOW_POLICY:
    case SHADOW_UMBRA_MEMORY:
        expect_own_denial(use, access, result);
        assert_int_equal(outcome == SHADOW_UMBRA_MEMORY,
                         result->own.address.raw >= WORLD_UMBRA_START && result->own.address.raw < WORLD_END);
        break;
    case SHADOW_LOG_FULL:
        assert_true(world.log_full);
        break;
    case SHADOW_FILLED:
    case SHADOW_STALE:
        break;
    case SHADOW_NO_PROGRESS:
        fail_msg("no progress");
    }
}

/* What the shadow has for the address: 0 is nothing. */
static u64 shadow_entry(const struct hardware_use *use, u64 address)
{
    struct way page;

    return descend(use, from_root(use), address, &page, false) ? page.path.step[page.path.count - 1].entry
                                                               : 0;
}

/* An ordinary fault: what is there then is what shadow_fault() would have made, and nothing is owed. */
static bool fault_quickly(const struct hardware_use *use, const struct shadow_access *fault)
{
    struct shadow_access again = *fault;
    struct shadow_result result;

    if (!shadow_fault_quick(world.shadow, &world.cpu, fault->address, fault->access))
        return false;
    assert_int_equal(shadow_renew(world.shadow, &world.cpu), SHADOW_RENEWED);
    again.rip = ++world.quick;
    u64 entry = shadow_entry(use, fault->address.raw);
    assert_int_not_equal(entry, 0);
    enum shadow_outcome outcome = shadow_fault(world.shadow, &world.cpu, use->use.handle, &again, &result);
    /* A flag of the leaf may have been one of L1's entry above the root's page, too. */
    assert_true(outcome == SHADOW_FILLED || outcome == SHADOW_STALE);
    assert_int_equal(shadow_entry(use, fault->address.raw), entry);
    return true;
}

enum shadow_outcome hardware_run(struct hardware_use *use, const struct world_access *access,
                                 struct shadow_result *result)
{
    for (unsigned i = 0; i < TRIES; i++) {
        if (hardware_access(use, access) == HARDWARE_DONE)
            return SHADOW_FILLED;
        const struct shadow_access fault = {
            .address = l2_gpa(access->address),
            .access = world_access_bits(use->root, &access->access),
            .supplied = world_supplied_bits(&access->access),
            .rip = 0x1000,
        };
        if (fault_quickly(use, &fault))
            continue;
        enum shadow_outcome outcome = shadow_fault(world.shadow, &world.cpu, use->use.handle, &fault, result);
        if (world.disturb_percent == 0)
            expect(use, access, outcome, result);
        if (outcome != SHADOW_FILLED && outcome != SHADOW_STALE)
            return outcome;
        hardware_enter(use->root, use->tag, use);
    }
    if (world.disturb_percent == 0)
        fail_msg("an access at %#llx does not come to an end", (unsigned long long)access->address);
    return SHADOW_STALE;
}
