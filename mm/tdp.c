/* SPDX-License-Identifier: MIT */
/*
 * Builds and changes Umbra's own second-level tables. Every change is made in two passes over the range: the
 * first splits and links tables so that the second needs no memory, and changes no translation; the second
 * changes leaves and merges what has become uniform. So a change happens as a whole or not at all. After each
 * of them no table is empty and none could be one larger page. Nothing here flushes a TLB.
 */
#include "mm/tdp.h"

#include "mm/frame.h"
#include "mm/phys.h"
#include "mm/tdp-format.h"

enum change_kind {
    CHANGE_MAP,
    CHANGE_UNMAP,
    CHANGE_ACCESS,
    CHANGE_TYPE,
    CHANGE_NOTHING, /* merges what the first pass split before it failed */
};

struct change {
    enum change_kind kind;
    unsigned access;
    enum memory_type type;
    u64 displacement; /* target minus guest-physical address, modulo 2^64 */
};

/* What a change means for the part of its range that one entry stands for. */
enum step {
    STEP_KEEP,    /* the entry says already what it should */
    STEP_REPLACE, /* one store of the entry does it */
    STEP_DESCEND, /* to be done in the next lower table */
    STEP_HOLE,    /* nothing is mapped where something must be */
};

static u64 *table_entries(u64 table)
{
    return phys_to_virt(hpa(table));
}

/* The CPU may set accessed and dirty flags at any time, so an entry is read exactly once where it is judged.
 */
static u64 read_entry(const u64 *slot)
{
    return atomic_peek(slot);
}

/*
 * The only store to a linked table. Release: a table's content is there before an entry refers to it.
 *
 * A present entry may be cached in a TLB or in a paging-structure cache, so that its change needs a flush; an
 * entry that is not present never is (SDM vol. 3C 29.4.2; APM vol. 2 5.5). Two changes count although no
 * stale use of them would be wrong: more access, which would cost a violation for nothing, and the split of a
 * page, because a CPU that holds two sizes of one page may raise a machine check (Intel: "machine check error
 * on page size change"; AMD erratum 383).
 */
/* NOLINTNEXTLINE(readability-non-const-parameter): the checker does not see that the builtin writes *slot. */
static void write_entry(struct tdp *tdp, u64 *slot, u64 old, u64 entry)
{
    atomic_release(slot, entry);
    if (tdp_entry_present(&tdp->config, old))
        atomic_poke(&tdp->flush_pending, true);
}

/*
 * A table that was unlinked from an entry waits for the flush, with all tables below it. The list's link
 * replaces its first entry: page-aligned, and so not present in either format, should a paging-structure
 * cache still lead here.
 */
static void retire_tables(struct tdp *tdp, unsigned level, u64 entry)
{
    if (!tdp_entry_is_table(&tdp->config, level, entry))
        return;

    u64 *entries = table_entries(tdp_entry_address(entry));
    if (level > 2) {
        for (unsigned i = 0; i < TDP_ENTRIES; i++)
            retire_tables(tdp, level - 1, entries[i]);
    }
    __atomic_store_n(&entries[0], tdp->retired, __ATOMIC_RELAXED);
    tdp->retired = tdp_entry_address(entry);
}

/*
 * Counted twice if there was something: what was derived from the old entry is void before any CPU can use
 * the new one, which sets no flag where the old one stood; and so is, afterwards, what was derived in
 * between.
 */
static void replace_entry(struct tdp *tdp, unsigned level, u64 *slot, u64 old, u64 entry)
{
    u64 counted = tdp_entry_present(&tdp->config, old);

    atomic_add(&tdp->changes, counted);
    write_entry(tdp, slot, old, entry);
    retire_tables(tdp, level, old);
    atomic_add(&tdp->changes, counted);
}

static bool same_translation(const struct tdp *tdp, const struct change *change, unsigned level, u64 entry,
                             u64 at)
{
    u64 offset = at & (tdp_entry_span(level) - 1);
    return tdp_entry_address(entry) + offset == at + change->displacement &&
           tdp_entry_access(&tdp->config, entry) == change->access &&
           (tdp->config.format == TDP_NPT || tdp_entry_type(&tdp->config, entry) == change->type);
}

static enum step map_step(const struct tdp *tdp, const struct change *change, unsigned level, u64 entry,
                          u64 at, bool whole)
{
    bool leaf = tdp_entry_present(&tdp->config, entry) && !tdp_entry_is_table(&tdp->config, level, entry);
    bool aligned = ((at + change->displacement) & (tdp_entry_span(level) - 1)) == 0;

    if (leaf && same_translation(tdp, change, level, entry, at))
        return STEP_KEEP;
    return whole && aligned && tdp_leaf_level(&tdp->config, level) ? STEP_REPLACE : STEP_DESCEND;
}

/*
 * `entry` stands in a table of that level; `at` is where the part of the range begins that it stands for, and
 * `whole` says that this part is all that it stands for.
 */
static enum step next_step(const struct tdp *tdp, const struct change *change, unsigned level, u64 entry,
                           u64 at, bool whole)
{
    if (change->kind == CHANGE_MAP)
        return map_step(tdp, change, level, entry, at, whole);

    bool present = tdp_entry_present(&tdp->config, entry);
    bool table = tdp_entry_is_table(&tdp->config, level, entry);
    bool same;

    switch (change->kind) {
    case CHANGE_UNMAP:
        return !present ? STEP_KEEP : whole ? STEP_REPLACE : STEP_DESCEND;
    case CHANGE_ACCESS:
        if (!present)
            return STEP_HOLE;
        same = !table && tdp_entry_access(&tdp->config, entry) == change->access;
        break;
    case CHANGE_TYPE:
        same = !present || (!table && tdp_entry_type(&tdp->config, entry) == change->type);
        break;
    case CHANGE_NOTHING:
    default:
        same = !table;
        break;
    }
    return same ? STEP_KEEP : whole && !table ? STEP_REPLACE : STEP_DESCEND;
}

/* The entry that replaces `entry`; accessed and dirty flags stay with a page whose target stays. */
static u64 changed_entry(const struct tdp *tdp, const struct change *change, unsigned level, u64 entry,
                         u64 at)
{
    const struct tdp_config *config = &tdp->config;
    u64 flags = entry & tdp_accessed_dirty(config);
    u64 target = tdp_entry_address(entry);

    switch (change->kind) {
    case CHANGE_MAP:
        return tdp_leaf_entry(config, level, at + change->displacement, change->access, change->type);
    case CHANGE_ACCESS:
        if (change->access == 0)
            return 0;
        return tdp_leaf_entry(config, level, target, change->access, tdp_entry_type(config, entry)) | flags;
    case CHANGE_TYPE:
        return tdp_leaf_entry(config, level, target, tdp_entry_access(config, entry), change->type) | flags;
    case CHANGE_UNMAP:
    case CHANGE_NOTHING:
    default:
        return 0;
    }
}

/* Replaces a hole by an empty table, or a page by a table that translates the same; false without memory. */
static bool make_table(struct tdp *tdp, unsigned level, u64 *slot)
{
    u64 old = read_entry(slot);
    hpa_t table;

    if (!frame_alloc(&table))
        return false;
    if (tdp_entry_present(&tdp->config, old)) {
        u64 *entries = table_entries(table.raw);
        u64 span = tdp_entry_span(level - 1);
        u64 first = tdp_leaf_entry(&tdp->config, level - 1, tdp_entry_address(old),
                                   tdp_entry_access(&tdp->config, old), tdp_entry_type(&tdp->config, old));
        /* Which of the smaller pages were accessed or written is not known, nor what a CPU sets in the old
         * entry before it is replaced: all may have been. */
        if (tdp->config.accessed_dirty)
            first |= tdp_accessed_dirty(&tdp->config);
        for (unsigned i = 0; i < TDP_ENTRIES; i++)
            entries[i] = first + i * span;
    }
    write_entry(tdp, slot, old, tdp_table_entry(&tdp->config, table));
    return true;
}

/* First pass over [start, end), which lies inside one table of that level: makes the tables that the second
 * needs. */
static enum tdp_status prepare(struct tdp *tdp, const struct change *change, unsigned level, u64 table,
                               u64 start, u64 end)
{
    u64 span = tdp_entry_span(level);
    u64 *entries = table_entries(table);
    u64 next;

    for (u64 at = start; at < end; at = next) {
        u64 *slot = &entries[tdp_entry_index(at, level)];
        u64 entry = read_entry(slot);
        next = min_u64(align_down(at, span) + span, end);

        enum step step = next_step(tdp, change, level, entry, at, next - at == span);
        if (step == STEP_HOLE)
            return TDP_NOT_MAPPED;
        if (step != STEP_DESCEND)
            continue;
        if (!tdp_entry_is_table(&tdp->config, level, entry) && !make_table(tdp, level, slot))
            return TDP_NO_MEMORY;
        enum tdp_status status =
            prepare(tdp, change, level - 1, tdp_entry_address(read_entry(slot)), at, next);
        if (status != TDP_OK)
            return status;
    }
    return TDP_OK;
}

static bool table_is_empty(const u64 *entries)
{
    unsigned i = 0;
    while (i < TDP_ENTRIES && entries[i] == 0)
        i++;
    return i == TDP_ENTRIES;
}

/* If the entries of a table could be one page of that level: its entry, which has every flag that one of them
 * has. */
static bool table_is_uniform(const struct tdp *tdp, unsigned level, const u64 *entries, u64 *page)
{
    const struct tdp_config *config = &tdp->config;
    u64 first = read_entry(&entries[0]) & ~tdp_accessed_dirty(config);
    u64 target = tdp_entry_address(first);
    u64 flags = 0;

    if (!tdp_leaf_level(config, level) || (target & (tdp_entry_span(level) - 1)) != 0 ||
        !tdp_entry_present(config, first) || tdp_entry_is_table(config, level - 1, first))
        return false;
    for (unsigned i = 0; i < TDP_ENTRIES; i++) {
        u64 entry = read_entry(&entries[i]);
        if ((entry & ~tdp_accessed_dirty(config)) != first + i * tdp_entry_span(level - 1))
            return false;
        flags |= entry & tdp_accessed_dirty(config);
    }
    *page = tdp_leaf_entry(config, level, target, tdp_entry_access(config, first),
                           tdp_entry_type(config, first)) |
            flags;
    return true;
}

/* Unlinks the table that `slot` refers to if it is empty or could be one page. */
static void merge_table(struct tdp *tdp, unsigned level, u64 *slot)
{
    u64 entry = read_entry(slot);
    const u64 *entries = table_entries(tdp_entry_address(entry));
    u64 merged = 0;

    if (!table_is_empty(entries) && !table_is_uniform(tdp, level, entries, &merged))
        return;
    replace_entry(tdp, level, slot, entry, merged);
}

/* Second pass: it needs no memory, because wherever it descends there is a table. */
static void commit(struct tdp *tdp, const struct change *change, unsigned level, u64 table, u64 start,
                   u64 end)
{
    u64 span = tdp_entry_span(level);
    u64 *entries = table_entries(table);
    u64 next;

    for (u64 at = start; at < end; at = next) {
        u64 *slot = &entries[tdp_entry_index(at, level)];
        u64 entry = read_entry(slot);
        next = min_u64(align_down(at, span) + span, end);

        enum step step = next_step(tdp, change, level, entry, at, next - at == span);
        if (step == STEP_DESCEND) {
            commit(tdp, change, level - 1, tdp_entry_address(entry), at, next);
            merge_table(tdp, level, slot);
        } else if (step == STEP_REPLACE) {
            replace_entry(tdp, level, slot, entry, changed_entry(tdp, change, level, entry, at));
        }
    }
}

static enum tdp_status apply(struct tdp *tdp, const struct change *change, u64 start, u64 end)
{
    static const struct change nothing = {.kind = CHANGE_NOTHING};

    spin_lock(&tdp->lock);
    enum tdp_status status = prepare(tdp, change, TDP_LEVELS, tdp->root.raw, start, end);
    commit(tdp, status == TDP_OK ? change : &nothing, TDP_LEVELS, tdp->root.raw, start, end);
    spin_unlock(&tdp->lock);
    return status;
}

static bool range_valid(const struct tdp *tdp, u64 start, u64 end)
{
    unsigned bits = tdp->config.maxphyaddr < 48 ? tdp->config.maxphyaddr : 48;
    return ((start | end) & PAGE_MASK) == 0 && start < end && end <= BIT(bits);
}

static bool target_valid(const struct tdp *tdp, u64 target, u64 bytes)
{
    u64 limit = BIT(tdp->config.maxphyaddr);
    return (target & PAGE_MASK) == 0 && bytes <= limit && target <= limit - bytes;
}

enum tdp_status tdp_init(struct tdp *tdp, const struct tdp_config *config)
{
    *tdp = (struct tdp){.config = *config};
    return frame_alloc(&tdp->root) ? TDP_OK : TDP_NO_MEMORY;
}

enum tdp_status tdp_map_to(struct tdp *tdp, u64 start, u64 end, u64 target, unsigned access,
                           enum memory_type type)
{
    if (!range_valid(tdp, start, end) || !target_valid(tdp, target, end - start))
        return TDP_BAD_RANGE;
    if (!tdp_representable(&tdp->config, access, type))
        return TDP_UNREPRESENTABLE;
    if (access == 0)
        return tdp_unmap(tdp, start, end);
    return apply(tdp, &(struct change){CHANGE_MAP, access, type, target - start}, start, end);
}

enum tdp_status tdp_map(struct tdp *tdp, u64 start, u64 end, unsigned access, enum memory_type type)
{
    return tdp_map_to(tdp, start, end, start, access, type);
}

enum tdp_status tdp_unmap(struct tdp *tdp, u64 start, u64 end)
{
    if (!range_valid(tdp, start, end))
        return TDP_BAD_RANGE;
    return apply(tdp, &(struct change){.kind = CHANGE_UNMAP}, start, end);
}

enum tdp_status tdp_protect(struct tdp *tdp, u64 start, u64 end, unsigned access)
{
    if (!range_valid(tdp, start, end))
        return TDP_BAD_RANGE;
    if (!tdp_representable(&tdp->config, access, MT_WB))
        return TDP_UNREPRESENTABLE;
    return apply(tdp, &(struct change){.kind = CHANGE_ACCESS, .access = access}, start, end);
}

enum tdp_status tdp_retype(struct tdp *tdp, u64 start, u64 end, const struct mtrr_state *mtrr)
{
    enum tdp_status status = TDP_OK;
    u64 next;

    if (!range_valid(tdp, start, end))
        return TDP_BAD_RANGE;
    if (tdp->config.format == TDP_NPT)
        return TDP_OK;
    for (u64 at = start; at < end && status == TDP_OK; at = next) {
        enum memory_type type = mtrr_type(mtrr, at, end, &next);
        if (!tdp_representable(&tdp->config, TDP_R, type))
            return TDP_UNREPRESENTABLE;
        status = apply(tdp, &(struct change){.kind = CHANGE_TYPE, .type = type}, at, next);
    }
    return status;
}

/* The entry that decides about an address below 2^48, and the level of its table. */
static u64 *find_slot(const struct tdp *tdp, u64 address, unsigned *level)
{
    u64 table = tdp->root.raw;

    for (*level = TDP_LEVELS;; (*level)--) {
        u64 *slot = &table_entries(table)[tdp_entry_index(address, *level)];
        u64 entry = read_entry(slot);
        if (!tdp_entry_is_table(&tdp->config, *level, entry))
            return slot;
        table = tdp_entry_address(entry);
    }
}

struct tdp_leaf tdp_lookup(struct tdp *tdp, gpa_t gpa)
{
    unsigned level = TDP_LEVELS;
    u64 entry = 0;

    if (gpa.raw < BIT(48)) {
        spin_lock(&tdp->lock);
        entry = read_entry(find_slot(tdp, gpa.raw, &level));
        spin_unlock(&tdp->lock);
    }

    struct tdp_leaf leaf = {.size = tdp_entry_span(level), .entry = entry, .level = level};
    if (tdp_entry_present(&tdp->config, entry)) {
        leaf.present = true;
        leaf.target = tdp_entry_address(entry) + (gpa.raw & (leaf.size - 1));
        leaf.access = tdp_entry_access(&tdp->config, entry);
        leaf.type = tdp_entry_type(&tdp->config, entry);
    }
    return leaf;
}

/* Splits until the page has an entry of its own. */
static u64 *own_entry(struct tdp *tdp, u64 page)
{
    unsigned level;
    u64 *slot = find_slot(tdp, page, &level);

    while (level > 1 && tdp_entry_present(&tdp->config, read_entry(slot)) && make_table(tdp, level, slot))
        slot = find_slot(tdp, page, &level);
    return level == 1 && tdp_entry_present(&tdp->config, read_entry(slot)) ? slot : NULL;
}

u64 *tdp_track(struct tdp *tdp, gpa_t page)
{
    if (!tdp->config.accessed_dirty || page.raw >= BIT(48))
        return NULL;
    spin_lock(&tdp->lock);
    u64 *slot = own_entry(tdp, page.raw);
    spin_unlock(&tdp->lock);
    return slot;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the builtin writes *entry, unseen by the checker. */
bool tdp_clear_dirty(struct tdp *tdp, u64 *entry, u64 changes)
{
    u64 dirty = tdp->config.format == TDP_NPT ? PTE_D : EPTE_D;

    spin_lock(&tdp->lock);
    bool valid = tdp->changes == changes;
    if (valid) {
        atomic_and(entry, ~dirty);
        atomic_poke(&tdp->flush_pending, true);
    }
    spin_unlock(&tdp->lock);
    return valid;
}

/* W is bit 1 in both formats. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the builtin writes *entry, unseen by the checker. */
void tdp_sleep(struct tdp *tdp, u64 *entry, u64 changes)
{
    spin_lock(&tdp->lock);
    if (tdp->changes == changes && (read_entry(entry) & PTE_W) != 0) {
        /* At no time does the entry look as if the guest had less access. */
        atomic_or(entry, TDP_ASLEEP);
        atomic_and(entry, ~(u64)PTE_W);
        atomic_poke(&tdp->flush_pending, true);
    }
    spin_unlock(&tdp->lock);
}

bool tdp_wake(struct tdp *tdp, gpa_t page)
{
    unsigned level;

    if (page.raw >= BIT(48))
        return false;
    spin_lock(&tdp->lock);
    u64 *slot = find_slot(tdp, page.raw, &level);
    bool asleep = (read_entry(slot) & TDP_ASLEEP) != 0;
    if (asleep) {
        atomic_add(&tdp->wakes, 1);
        atomic_or(slot, PTE_W);
        atomic_and(slot, ~TDP_ASLEEP);
    }
    spin_unlock(&tdp->lock);
    return asleep;
}

u64 tdp_flush_begins(struct tdp *tdp)
{
    spin_lock(&tdp->lock);
    u64 retired = tdp->retired;
    tdp->retired = 0;
    atomic_poke(&tdp->flush_pending, false);
    spin_unlock(&tdp->lock);
    return retired;
}

void tdp_flush_ends(u64 retired)
{
    while (retired != 0) {
        hpa_t table = hpa(retired);
        retired = table_entries(table.raw)[0];
        frame_free(table);
    }
}

void tdp_flushed(struct tdp *tdp)
{
    tdp_flush_ends(tdp_flush_begins(tdp));
}
