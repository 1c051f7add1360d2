/* SPDX-License-Identifier: MIT */
/*
 * A fault of L2: L1's tables decide first, as they are now; then Umbra's own map; then the way to the page is
 * laid in the shadow. No answer of hardware but the access itself counts. All of it is one section, which is
 * begun anew after pages had to be made free, or a shoot-down was owed.
 */
#include "nested/shadow-internal.h"

#include "mm/memmap.h"
#include "mm/tdp-format.h"

enum { FLUSH_AFTER_REPEATS = 2, SECTIONS_MAX = 8 };

/* --- L1's answer --- */

static u64 deciding_entry(const struct walk *walk)
{
    return walk->fault.level > walk->root_level ? 0 : walk->entry[walk->fault.level].value;
}

static void drop_in_root(struct shadow *shadow, u32 page, u64 address)
{
    for (unsigned level = SHADOW_LEVELS;; level--) {
        unsigned slot = shadow_index(address, level);
        u64 entry = atomic_acquire(&shadow_table(shadow, page)[slot]);
        if (!slot_present(entry))
            return;
        u32 child = level > 1 ? shadow_child(shadow, entry) : SHADOW_NONE;
        if (child == SHADOW_NONE) {
            (void)shadow_entry_drop(shadow, page, slot, entry);
            return;
        }
        page = child;
    }
}

/*
 * The entries that translate the address, in every root whose tables start where this one's do; also what
 * CPUs lay that have read L1's tables before.
 */
static void drop_address(struct shadow *shadow, struct shadow_state *cpu, u64 table, u64 address)
{
    if (address >= BIT(48))
        return;
    shadow_wait(shadow, cpu);
    shadow_enter(cpu);
    for (unsigned i = 0; i < atomic_peek(&shadow->root_slots); i++) {
        u32 page = atomic_acquire(&shadow->root[i].page);
        if (page != SHADOW_NONE && shadow->root[i].key.pointer == table)
            drop_in_root(shadow, page, address);
    }
    shadow_leave(cpu);
}

static enum shadow_outcome refuse(const struct shadow *shadow, struct shadow_state *cpu,
                                  const struct shadow_root *root, const struct shadow_access *access,
                                  const struct walk *walk, struct shadow_result *result)
{
    struct paging_role role = root->key.role;

    cpu->statistics.reflected++;
    cpu->repeated.count = 0;
    result->fault = walk->fault;
    result->fault.supplied = access->supplied;
    if (!role_is_ept(role)) {
        result->exit_info_1 = fault_npf_exit_info_1(role, &result->fault);
        return SHADOW_REFLECT;
    }
    if (walk->fault.reason == FAULT_RESERVED)
        return SHADOW_MISCONFIGURED;
    result->qualification =
        fault_ept_qualification(role, &result->fault, shadow->config.advanced_information);
    result->convertible = (deciding_entry(walk) & EPTE_SUPPRESS_VE) == 0;
    return SHADOW_REFLECT;
}

/* A table of L1 that is not in its RAM reads as ones, as a hole and Umbra's memory do: reserved bits are set.
 */
static void read_as_ones(struct walk *walk, const struct shadow_access *access)
{
    walk->fault = (struct fault){
        .address = access->address.raw,
        .reason = FAULT_RESERVED,
        .level = walk->level,
        .access = (u8)access->access,
    };
    walk->entry[walk->level].value = ~0ull;
}

/* More than four levels: L1 may map what Umbra's tables cannot translate; it does not exist for L2. */
static void beyond_reach(struct walk *walk, const struct shadow_access *access)
{
    walk->fault = (struct fault){
        .address = access->address.raw,
        .reason = FAULT_NOT_PRESENT,
        .level = (u8)(walk->root_level + 1),
        .access = (u8)access->access,
    };
}

static bool writes(unsigned access)
{
    return (access & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;
}

enum l1_answer { L1_ALLOWS, L1_REFUSES, L1_LOG_FULL, L1_AGAIN };

struct noting_memory {
    struct paging_memory memory;
    struct shadow *shadow;
};

/* Before, and in this section: who uses up the note waits for the section before he compares. */
static enum memory_status note_and_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                            u64 expected, u64 desired)
{
    struct shadow *shadow = ((const struct noting_memory *)memory)->shadow;

    shadow_note_write(shadow, shadow_written_index(shadow, address.raw));
    return shadow->config.memory->compare_exchange(shadow->config.memory, address, bytes, expected, desired);
}

/*
 * Setting flags changes what an entry means where it is at the same time an entry of another kind: of a PDPT
 * of PAE, which has no flags but reserved bits there, or of tables of another format. Umbra's map does not
 * see such writes.
 */
static enum walk_status mark(struct shadow *shadow, const struct shadow_root *root,
                             const struct shadow_access *access, struct walk *result)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 pointer = root->key.pointer, address = access->address.raw;

    if (!atomic_peek(&shadow->flags_alias))
        return walk_and_mark(&root->paging, memory, pointer, address, access->access, result);
    struct noting_memory noting = {*memory, shadow};
    noting.memory.compare_exchange = note_and_exchange;
    enum walk_status status =
        walk_and_mark(&root->paging, &noting.memory, pointer, address, access->access, result);
    return status == WALK_OK ? walk(&root->paging, memory, pointer, address, access->access, result) : status;
}

static enum l1_answer ask_l1(struct shadow *shadow, const struct shadow_root *root,
                             const struct shadow_access *access, struct walk *result)
{
    const struct paging_memory *memory = shadow->config.memory;
    u64 address = access->address.raw;
    enum walk_status status = walk(&root->paging, memory, root->key.pointer, address, access->access, result);

    if (status == WALK_OK && root->dirty_bit != 0) {
        bool dirties = writes(access->access) && (result->leaf & root->dirty_bit) == 0;
        bool marks = dirties || (result->deviations & root->accessed_bit) != 0;
        if (marks && shadow->config.log_dirty != NULL &&
            !shadow->config.log_dirty(shadow->config.context, access->address, dirties))
            return L1_LOG_FULL;
        if (marks)
            status = mark(shadow, root, access, result);
    }
    if (status == WALK_CONTENDED)
        return L1_AGAIN;
    if (status == WALK_NOT_MEMORY)
        read_as_ones(result, access);
    else if (status == WALK_OK && address >= BIT(48))
        beyond_reach(result, access);
    return status == WALK_OK && address < BIT(48) ? L1_ALLOWS : L1_REFUSES;
}

/* --- Umbra's answer --- */

static unsigned own_access(const struct tdp_config *format, unsigned access)
{
    if ((access & ACCESS_FETCH) != 0)
        return (access & ACCESS_USER) != 0 || !format->mode_based_execute ? TDP_XU : TDP_XS;
    return writes(access) ? TDP_W : TDP_R;
}

/* As tdp_lookup(), for the start of the page; the last answer holds until the map changes, but for holes. */
static const struct tdp_leaf *own_leaf(struct shadow *shadow, struct shadow_state *cpu, u64 changes,
                                       u64 address)
{
    struct tdp_leaf *leaf = &cpu->own_leaf;

    if (leaf->present && cpu->own_changes == changes && address - cpu->own_leaf_start < leaf->size)
        return leaf;
    *leaf = tdp_lookup(shadow->config.tdp, gpa(address));
    cpu->own_changes = changes;
    cpu->own_leaf_start = align_down(address, leaf->size);
    leaf->target -= address - cpu->own_leaf_start;
    return leaf;
}

static enum shadow_outcome own_denies(struct shadow_state *cpu, const struct walk *walk, unsigned wanted,
                                      struct shadow_result *result)
{
    cpu->statistics.policy++;
    result->own.address = gpa(walk->address);
    result->own.access = wanted;
    return umbra_region_overlaps(walk->address, 1) ? SHADOW_UMBRA_MEMORY : SHADOW_POLICY;
}

/* --- progress --- */

/* By the very next fault: between others L2 has got on, and came here again in a loop. */
static bool is_repeated(struct shadow_state *cpu, const struct shadow_access *access)
{
    u64 page = align_down(access->address.raw, PAGE_SIZE), before = cpu->repeated.fault;

    cpu->repeated.fault = cpu->statistics.faults;
    if (cpu->repeated.page == page && cpu->repeated.rip == access->rip &&
        cpu->repeated.access == access->access && cpu->repeated.fault - before == 1)
        return true;
    cpu->repeated.page = page;
    cpu->repeated.rip = access->rip;
    cpu->repeated.access = access->access;
    cpu->repeated.count = 0;
    return false;
}

/* Nothing was left to fill. A stale translation may be why: then a flush helps. If it does not, nothing will.
 */
static enum shadow_outcome spurious(struct shadow_state *cpu, struct shadow_root *root,
                                    const struct shadow_access *access)
{
    cpu->statistics.spurious++;
    if (!is_repeated(cpu, access))
        return SHADOW_FILLED;
    cpu->repeated.count++;
    if (cpu->repeated.count >= FLUSH_AFTER_REPEATS)
        atomic_add(&root->generation, 1);
    return cpu->repeated.count < SHADOW_REPEAT_LIMIT ? SHADOW_FILLED : SHADOW_NO_PROGRESS;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* 5-level formats: is the root's page still of L1's top entry? */
static bool is_outdated(const struct shadow *shadow, struct shadow_state *cpu, const struct shadow_root *root,
                        const struct walk *walk)
{
    if (walk->root_level <= SHADOW_LEVELS ||
        walk->entry[walk->root_level].value == shadow->pages[atomic_acquire(&root->page)].top_entry)
        return false;
    /* The next shadow_acquire() looks at it. */
    cpu->stale |= BIT(root - shadow->root);
    return true;
}

/* L1 allows the access. */
static inline enum shadow_laid fill_page(struct shadow *shadow, struct shadow_state *cpu,
                                         struct shadow_root *root, u32 handle,
                                         const struct shadow_access *access, const struct walk *walk,
                                         struct shadow_result *result, enum shadow_outcome *outcome)
{
    const struct tdp_leaf *own = own_leaf(shadow, cpu, atomic_peek(&shadow->own_changes), walk->address);
    unsigned wanted = own_access(&shadow->format, access->access);

    if ((wanted & ~own->access) != 0) {
        *outcome = own_denies(cpu, walk, wanted, result);
        return SHADOW_LAID;
    }
    *outcome = SHADOW_STALE;
    if (is_outdated(shadow, cpu, root, walk))
        return SHADOW_LAID;

    struct shadow_fill fill = {
        .root = root,
        .walk = walk,
        .own = own,
        .own_start = cpu->own_leaf_start,
        .address = access->address.raw,
        .root_index = (unsigned)(handle & (shadow->root_count - 1)),
        .map_level = smaller(walk->level, own->level),
        .writable = root->dirty_bit == 0 || (walk->leaf & root->dirty_bit) != 0,
    };
    enum shadow_laid laid = shadow_lay(shadow, cpu, &fill);
    if (laid <= SHADOW_RACED) {
        cpu->statistics.filled++;
        *outcome = fill.changed ? SHADOW_FILLED : spurious(cpu, root, access);
    }
    return laid;
}

/* One section. */
static inline enum shadow_laid answer(struct shadow *shadow, struct shadow_state *cpu, u32 handle,
                                      const struct shadow_access *access, struct shadow_result *result,
                                      enum shadow_outcome *outcome)
{
    struct shadow_root *root = shadow_root_of(shadow, handle);
    struct walk walked;

    *outcome = SHADOW_STALE;
    if (root == NULL || atomic_acquire(&shadow->own_changes) != atomic_acquire(&shadow->config.tdp->changes))
        return SHADOW_LAID;
    switch (ask_l1(shadow, root, access, &walked)) {
    case L1_REFUSES:
        *outcome = refuse(shadow, cpu, root, access, &walked, result);
        return SHADOW_LAID;
    case L1_LOG_FULL:
        *outcome = SHADOW_LOG_FULL;
        return SHADOW_LAID;
    case L1_AGAIN:
        /* As long as another CPU of L1's keeps writing the entry: that is L1's affair, and no loop of
         * Umbra's. */
        *outcome = SHADOW_FILLED;
        return SHADOW_LAID;
    case L1_ALLOWS:
        break;
    }
    return fill_page(shadow, cpu, root, handle, access, &walked, result, outcome);
}

/* The handle was good a moment ago, and the root is pinned. */
static u64 table_of_root(const struct shadow *shadow, u32 handle)
{
    return shadow->root[handle & (shadow->root_count - 1)].key.pointer;
}

enum shadow_outcome shadow_fault(struct shadow *shadow, struct shadow_cpu *storage, u32 handle,
                                 const struct shadow_access *access, struct shadow_result *result)
{
    struct shadow_state *cpu = shadow_state_of(storage);
    enum shadow_outcome outcome;

    cpu->statistics.faults++;
    for (unsigned sections = 0; sections < SECTIONS_MAX; sections++) {
        shadow_enter(cpu);
        enum shadow_laid laid = answer(shadow, cpu, handle, access, result, &outcome);
        shadow_leave(cpu);
        if (__builtin_expect(laid <= SHADOW_RACED, 1)) {
            if (outcome == SHADOW_REFLECT || outcome == SHADOW_MISCONFIGURED)
                drop_address(shadow, cpu, table_of_root(shadow, handle), access->address.raw);
            return outcome;
        }
        if (laid == SHADOW_NEEDS_SHOOTDOWN)
            shadow_shoot_down(shadow, cpu);
        else if (!shadow_reclaim(shadow, cpu))
            break;
    }
    return SHADOW_STALE;
}
