/* SPDX-License-Identifier: MIT */
/*
 * The walker; see mm/walk.h. One loop serves all formats: it is inlined into one function for each hot
 * format, with the format as a constant, and into a general one for the rest and for the first stage of
 * two-dimensional walks. Ordinary entries take one test each; all others go through classify().
 */
#include "mm/walk.h"

#define likely(condition)   __builtin_expect((condition), 1)
#define unlikely(condition) __builtin_expect((condition), 0)
#define INLINE              static inline __attribute__((always_inline))
#define NOINLINE            static __attribute__((noinline))
#define COLD                static __attribute__((noinline, cold))

#define NO_ADDRESS          (~0ull)

enum entry_kind { ENTRY_NOT_PRESENT, ENTRY_RESERVED, ENTRY_TABLE, ENTRY_PAGE };

/* The second stage of a walk whose tables are reached through it. */
struct stage {
    const struct paging *paging;
    u64 root;
    bool mark; /* set A/D flags in the second stage's tables */
    struct walk_2d *result;
};

static bool is_ept(enum paging_format_id format)
{
    return format >= PAGING_EPT4;
}

/* All but the PDPTEs of PAE have R/W, U/S and an accessed flag. */
static bool has_flags(enum paging_format_id format, unsigned level)
{
    return format != PAGING_PAE || level != 3;
}

static enum entry_kind classify(const struct paging *paging, unsigned level, u64 entry)
{
    unsigned bit7 = (entry & ENTRY_PS) != 0;
    unsigned bit10 = (entry & EPTE_XU) != 0;

    if ((entry & paging->present) == 0)
        return ENTRY_NOT_PRESENT;
    if ((entry & paging->reserved[bit7][level]) != 0)
        return ENTRY_RESERVED;
    if ((paging->misconfigured[bit10] >> (entry & 63) & 1) != 0)
        return ENTRY_RESERVED;
    return paging_maps_page(paging->role, level, entry) ? ENTRY_PAGE : ENTRY_TABLE;
}

COLD enum walk_status fail(const struct paging *paging, struct walk *result, enum fault_reason reason,
                           unsigned level, u64 address, unsigned access)
{
    result->level = (u8)level;
    result->root_level = paging_formats[role_format(paging->role)].levels;
    result->fault = (struct fault){
        .address = address,
        .reason = (u8)reason,
        .level = (u8)level,
        .access = (u8)access,
    };
    return WALK_FAULT;
}

/* The entry of that level ends the walk: it is not present, or has a reserved bit set. */
COLD enum walk_status refuse(const struct paging *paging, struct walk *result, enum entry_kind kind,
                             unsigned level, u64 address, unsigned access)
{
    return fail(paging, result, kind == ENTRY_RESERVED ? FAULT_RESERVED : FAULT_NOT_PRESENT, level, address,
                access);
}

/* EPT and NPT: the address is wider than the tables translate. */
COLD enum walk_status beyond_tables(const struct paging *paging, struct walk *result, u64 address,
                                    unsigned access)
{
    unsigned root_level = paging_formats[role_format(paging->role)].levels;

    return fail(paging, result, FAULT_NOT_PRESENT, root_level + 1, address, access);
}

COLD enum walk_status deny(const struct paging *paging, struct walk *result, u64 address, unsigned access)
{
    fail(paging, result, FAULT_PERMISSION, result->level, address, access);
    result->fault.rights = result->rights;
    result->fault.key = permission_key_faults(&paging->permission, access, result->rights, result->key);
    result->fault.ss_entry = role_has(paging->role, ROLE_EPT_SSS) && (result->leaf & EPTE_SUPERVISOR_SS) != 0;
    return WALK_FAULT;
}

COLD enum walk_status not_memory(const struct paging *paging, struct walk *result, unsigned level,
                                 u64 address)
{
    result->level = (u8)level;
    result->root_level = paging_formats[role_format(paging->role)].levels;
    result->entry[level].address = address;
    return WALK_NOT_MEMORY;
}

/* `above`: deviations of all entries but the leaf, with R/W at bit 1 in all formats. */
static bool is_shadow_stack_page(const struct paging *paging, u64 above, u64 leaf)
{
    if ((above & PTE_W) != 0)
        return false;
    if (role_is_ept(paging->role))
        return role_has(paging->role, ROLE_EPT_SSS) && (above & EPTE_R) == 0 &&
               (leaf & (EPTE_R | EPTE_SUPERVISOR_SS)) == (EPTE_R | EPTE_SUPERVISOR_SS);
    return role_has(paging->role, ROLE_CET) && (leaf & (PTE_W | PTE_D)) == PTE_D;
}

/*
 * From accumulated deviations to rights: the bits stand in the same order, only not in the same places. In
 * guest formats bit 0 is P, which no entry of a complete walk lacks.
 */
INLINE unsigned rights_of(const struct paging *paging, enum paging_format_id format, u64 denied)
{
    u64 allowed = ~denied;

    if (!is_ept(format))
        return (unsigned)((allowed & (RIGHT_R | RIGHT_W | RIGHT_U)) | (allowed >> 60 & RIGHT_X));
    unsigned rights = (unsigned)((allowed & (RIGHT_R | RIGHT_W)) | (allowed << 1 & RIGHT_X));
    return role_has(paging->role, ROLE_MBEC) ? rights | (unsigned)(allowed >> 6 & RIGHT_XU) : rights;
}

/* The leaf is found and its translation recorded: what it allows, in modes with shadow stacks or keys. */
NOINLINE enum walk_status permit_special(const struct paging *paging, u64 above, unsigned rights, u64 address,
                                         unsigned access, struct walk *result)
{
    if (is_shadow_stack_page(paging, above, result->leaf))
        rights |= RIGHT_SS;
    result->rights = (u8)rights;
    if (permission_faults(&paging->permission, access, rights, result->key))
        return deny(paging, result, address, access);
    return WALK_OK;
}

/* The leaf is found: translation, rights, permission. */
INLINE enum walk_status finish(const struct paging *paging, enum paging_format_id format, unsigned level,
                               u64 above, u64 leaf, u64 address, unsigned access, struct walk *result)
{
    u64 deviations = above | (leaf ^ paging_plain_bits(format, level, false));
    unsigned rights = rights_of(paging, format, deviations);
    u64 span = paging_level_span(format, level);

    result->address = paging_page_address(format, leaf, level) | (address & (span - 1));
    result->leaf = leaf;
    result->deviations = deviations;
    result->level = (u8)level;
    result->root_level = paging_formats[format].levels;
    result->key = format == PAGING_4LEVEL || format == PAGING_5LEVEL ? leaf >> PTE_KEY_SHIFT & 15 : 0;
    result->rights = (u8)rights;
    if (unlikely(role_has(paging->role, ROLE_CET | ROLE_EPT_SSS | ROLE_PKU | ROLE_PKS)))
        return permit_special(paging, above, rights, address, access, result);
    if (unlikely(permission_rights_fault(&paging->permission, access, rights)))
        return deny(paging, result, address, access);
    return WALK_OK;
}

/* --- the second stage as seen by the first --- */

static enum walk_status walk_host(const struct stage *stage, const struct paging_memory *memory, u64 address,
                                  unsigned access, u64 supplied)
{
    struct walk *host = &stage->result->host;
    enum walk_status status = stage->mark
                                  ? walk_and_mark(stage->paging, memory, stage->root, address, access, host)
                                  : walk(stage->paging, memory, stage->root, address, access, host);

    if (unlikely(status != WALK_OK)) {
        stage->result->stage = WALK_STAGE_HOST;
        host->fault.supplied = (u32)supplied;
    }
    return status;
}

/* --- the general walker --- */

static enum memory_status load_entry(const struct paging_memory *memory, enum paging_format_id format,
                                     u64 address, u64 *entry)
{
    if (paging_formats[format].entry_bytes == sizeof(u32))
        return paging_load_u32(memory, address, entry);
    return paging_load_u64(memory, address, entry);
}

/* Reads and records the entry for `address` in `table`. `stage` is NULL in one-dimensional walks. */
static enum walk_status read_entry(const struct paging *paging, const struct paging_memory *memory,
                                   const struct stage *stage, u64 table, u64 address, unsigned level,
                                   struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    u64 where = paging_entry_address(format, table, address, level);

    if (stage != NULL) {
        enum walk_status status =
            walk_host(stage, memory, where, walk_table_access(stage->paging), FAULT_LINEAR_VALID);
        if (status != WALK_OK)
            return status;
        where = stage->result->host.address;
    }
    result->entry[level].address = where;
    if (load_entry(memory, format, where, &result->entry[level].value) != MEMORY_OK)
        return not_memory(paging, result, level, where);
    return WALK_OK;
}

/* What the entries above `level` deny. */
static u64 denied_above(enum paging_format_id format, const struct walk *result, unsigned level)
{
    u64 denied = 0;

    for (unsigned upper = paging_formats[format].levels; upper > level; upper--) {
        if (has_flags(format, upper))
            denied |= result->entry[upper].value ^ paging_plain_bits(format, upper, false);
    }
    return denied;
}

/* The walk from an entry on that has been read and recorded, with those above it. */
INLINE enum walk_status walk_rest(const struct paging *paging, const struct paging_memory *memory,
                                  const struct stage *stage, unsigned level, u64 address, unsigned access,
                                  struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    u64 denied = denied_above(format, result, level);

    for (;; level--) {
        u64 entry = result->entry[level].value;
        enum entry_kind kind = classify(paging, level, entry);

        if (kind == ENTRY_PAGE)
            return finish(paging, format, level, denied, entry, address, access, result);
        if (kind != ENTRY_TABLE)
            return refuse(paging, result, kind, level, address, access);
        if (has_flags(format, level))
            denied |= entry ^ paging_plain_bits(format, level, false);

        enum walk_status status =
            read_entry(paging, memory, stage, entry & ENTRY_ADDRESS, address, level - 1, result);
        if (status != WALK_OK)
            return status;
    }
}

INLINE enum walk_status walk_any(const struct paging *paging, const struct paging_memory *memory,
                                 const struct stage *stage, u64 root, u64 address, unsigned access,
                                 struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    unsigned level = paging_formats[format].levels;
    u64 table = root & paging_formats[format].root_mask;

    if (format == PAGING_PAE && paging->pdptes != NULL) {
        u64 pdpte = paging->pdptes[address >> 30 & 3];
        result->entry[level] = (struct walk_entry){NO_ADDRESS, pdpte};
        if ((pdpte & PTE_P) == 0)
            return refuse(paging, result, ENTRY_NOT_PRESENT, level, address, access);
        table = pdpte & ENTRY_ADDRESS;
        level--;
    }
    enum walk_status status = read_entry(paging, memory, stage, table, address, level, result);
    return status == WALK_OK ? walk_rest(paging, memory, stage, level, address, access, result) : status;
}

NOINLINE enum walk_status walk_cold_format(const struct paging *paging, const struct paging_memory *memory,
                                           u64 root, u64 address, unsigned access, struct walk *result)
{
    if ((address & paging->input_reserved) != 0)
        return beyond_tables(paging, result, address, access);
    return walk_any(paging, memory, NULL, root, address, access, result);
}

/* --- the straight line for hot formats --- */

NOINLINE enum walk_status walk_from(const struct paging *paging, const struct paging_memory *memory,
                                    unsigned level, u64 address, unsigned access, struct walk *result)
{
    return walk_rest(paging, memory, NULL, level, address, access, result);
}

/* The entry of `level`, whose address is recorded, is not in the window. */
NOINLINE enum walk_status walk_outside(const struct paging *paging, const struct paging_memory *memory,
                                       unsigned level, u64 address, unsigned access, struct walk *result)
{
    struct walk_entry *entry = &result->entry[level];

    if (memory->load(memory, gpa(entry->address), sizeof(entry->value), &entry->value) != MEMORY_OK)
        return not_memory(paging, result, level, entry->address);
    return walk_rest(paging, memory, NULL, level, address, access, result);
}

/* Of a format with 8-byte entries and four levels. */
INLINE enum walk_status walk_hot(const struct paging *paging, const struct paging_memory *memory, u64 root,
                                 u64 address, unsigned access, struct walk *result,
                                 enum paging_format_id format)
{
    const u64 page_type = paging_plain_bits(format, 1, true) ^ paging_plain_bits(format, 1, false);
    const u8 *window = memory->window;
    u64 table = root & ENTRY_ADDRESS;
    u64 denied = 0;
    unsigned level = paging_formats[format].levels;

#pragma GCC unroll 4
    while (level >= 1) {
        u64 where = paging_entry_address(format, table, address, level);

        u64 offset = where - memory->window_start;
        result->entry[level].address = where;
        if (unlikely(offset >= memory->window_bytes))
            return walk_outside(paging, memory, level, address, access, result);
        u64 entry = __atomic_load_n((const u64 *)(const void *)(window + offset), __ATOMIC_RELAXED);
        result->entry[level].value = entry;

        u64 deviations = entry ^ paging_plain_bits(format, level, false);
        if (level == 1) {
            if (unlikely(((deviations ^ page_type) & paging->plain_page[level]) != 0))
                break;
            return finish(paging, format, level, denied, entry, address, access, result);
        }
        if (unlikely((deviations & paging->plain_table[level]) != 0)) {
            if (level <= 3 && ((deviations ^ page_type) & paging->plain_page[level]) == ENTRY_PS)
                return finish(paging, format, level, denied, entry, address, access, result);
            break;
        }
        denied |= deviations;
        table = entry & ENTRY_ADDRESS;
        level--;
    }
    return walk_from(paging, memory, level, address, access, result);
}

#define HOT_WALK(name, format)                                                                               \
    NOINLINE enum walk_status name(const struct paging *paging, const struct paging_memory *memory,          \
                                   u64 root, u64 address, unsigned access, struct walk *result)              \
    {                                                                                                        \
        if (unlikely((address & paging->input_reserved) != 0))                                               \
            return beyond_tables(paging, result, address, access);                                           \
        return walk_hot(paging, memory, root, address, access, result, format);                              \
    }

HOT_WALK(walk_4level, PAGING_4LEVEL)
HOT_WALK(walk_ept4, PAGING_EPT4)

/* --- one dimension --- */

static enum walk_status walk_nothing(u64 address, struct walk *result)
{
    result->address = address;
    result->leaf = 0;
    result->level = 0;
    result->root_level = 0;
    result->rights = RIGHTS_ALL_BUT_SS;
    result->key = 0;
    result->deviations = 0;
    return WALK_OK;
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result)
{
    switch (role_format(paging->role)) {
    case PAGING_4LEVEL:
        return walk_4level(paging, memory, root, address, access, result);
    case PAGING_EPT4:
        return walk_ept4(paging, memory, root, address, access, result);
    case PAGING_32BIT:
    case PAGING_PAE:
    case PAGING_5LEVEL:
    case PAGING_EPT5:
        return walk_cold_format(paging, memory, root, address, access, result);
    default:
        return walk_nothing(address, result);
    }
}

/* --- accessed and dirty flags --- */

static bool is_write(unsigned access)
{
    return (access & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;
}

/* Which flags does a successful walk for that access owe to the entry of a level? */
static u64 flags_owed(const struct paging *paging, const struct walk *walk, unsigned level, unsigned access)
{
    bool dirties = level == walk->level && is_write(access);

    if (!has_flags(role_format(paging->role), level))
        return 0;
    return (paging->accessed | (dirties ? paging->dirty : 0)) & ~walk->entry[level].value;
}

/* Does it owe any? */
INLINE bool owes_flags(const struct paging *paging, const struct walk *walk, unsigned access)
{
    return (walk->deviations & paging->accessed) != 0 ||
           (is_write(access) && (paging->dirty & ~walk->leaf) != 0);
}

/*
 * The second stage must allow the write to an entry of the first. Where reads of entries already counted as
 * writes, it has; WALK_CONTENDED if the entry is to be found elsewhere by now.
 */
static enum walk_status may_write_entry(const struct stage *stage, const struct paging_memory *memory,
                                        u64 guest_address, u64 address)
{
    if (walk_table_access(stage->paging) != ACCESS_READ)
        return WALK_OK;
    enum walk_status status = walk_host(stage, memory, guest_address, ACCESS_WRITE, FAULT_LINEAR_VALID);
    if (status != WALK_OK)
        return status;
    return stage->result->host.address == address ? WALK_OK : WALK_CONTENDED;
}

/* Flags were set in an entry: in tables that refer to themselves, it may have served at several levels. */
static void record_flags(struct walk *result, u64 address, u64 value, u64 flags)
{
    for (unsigned level = result->level; level <= result->root_level; level++) {
        struct walk_entry *entry = &result->entry[level];

        if (entry->address == address && entry->value == value)
            entry->value |= flags;
    }
}

/* WALK_CONTENDED: an entry has changed since it was read. */
static enum walk_status set_flags(const struct paging *paging, const struct paging_memory *memory,
                                  const struct stage *stage, u64 root, u64 address, unsigned access,
                                  struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    u64 table = root & paging_formats[format].root_mask;

    for (unsigned level = result->root_level; level >= result->level; level--) {
        struct walk_entry *entry = &result->entry[level];
        u64 owed = flags_owed(paging, result, level, access);
        u64 guest_address = paging_entry_address(format, table, address, level);

        table = entry->value & ENTRY_ADDRESS;
        if (owed == 0)
            continue;
        if (stage != NULL) {
            enum walk_status status = may_write_entry(stage, memory, guest_address, entry->address);
            if (status != WALK_OK)
                return status;
        }
        enum memory_status written =
            memory->compare_exchange(memory, gpa(entry->address), paging_formats[format].entry_bytes,
                                     entry->value, entry->value | owed);
        if (written == MEMORY_CHANGED)
            return WALK_CONTENDED;
        if (written != MEMORY_OK)
            return not_memory(paging, result, level, entry->address);
        record_flags(result, entry->address, entry->value, owed);
    }
    result->leaf = result->entry[result->level].value;
    result->deviations &= ~paging->accessed;
    return WALK_OK;
}

NOINLINE enum walk_status mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result)
{
    for (unsigned attempt = 1;; attempt++) {
        enum walk_status status = set_flags(paging, memory, NULL, root, address, access, result);

        if (status != WALK_CONTENDED || attempt == WALK_ATTEMPTS)
            return status;
        status = walk(paging, memory, root, address, access, result);
        if (status != WALK_OK || !owes_flags(paging, result, access))
            return status;
    }
}

enum walk_status walk_and_mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result)
{
    enum walk_status status = walk(paging, memory, root, address, access, result);

    if (status != WALK_OK || likely(!owes_flags(paging, result, access)))
        return status;
    return mark(paging, memory, root, address, access, result);
}

bool walk_unchanged(const struct paging *paging, const struct paging_memory *memory, const struct walk *walk)
{
    enum paging_format_id format = role_format(paging->role);
    u64 now;

    for (unsigned level = walk->level; level != 0 && level <= walk->root_level; level++) {
        const struct walk_entry *entry = &walk->entry[level];

        if (entry->address == NO_ADDRESS)
            continue;
        if (load_entry(memory, format, entry->address, &now) != MEMORY_OK || now != entry->value)
            return false;
    }
    return true;
}

/* --- two dimensions --- */

static enum walk_status walk_first_stage(const struct walk_2d_tables *tables,
                                         const struct paging_memory *memory, const struct stage *stage,
                                         u64 linear, unsigned access)
{
    struct walk *guest = &stage->result->guest;

    if (role_format(tables->guest->role) == PAGING_NONE)
        return walk_nothing(linear, guest);
    for (unsigned attempt = 0; attempt < WALK_ATTEMPTS; attempt++) {
        enum walk_status status =
            walk_any(tables->guest, memory, stage, tables->guest_root, linear, access, guest);

        if (status != WALK_OK || !stage->mark || !owes_flags(tables->guest, guest, access))
            return status;
        status = set_flags(tables->guest, memory, stage, tables->guest_root, linear, access, guest);
        if (status != WALK_CONTENDED || stage->result->stage == WALK_STAGE_HOST)
            return status;
    }
    return WALK_CONTENDED;
}

/* Bits 7 to 11 of the exit qualification for the access to the final address. */
static u64 final_supplied(unsigned guest_rights)
{
    return FAULT_LINEAR_VALID | FAULT_FINAL | ((guest_rights & RIGHT_U) != 0 ? FAULT_LINEAR_USER : 0) |
           ((guest_rights & RIGHT_W) != 0 ? FAULT_LINEAR_WRITE : 0) |
           ((guest_rights & RIGHT_X) == 0 ? FAULT_LINEAR_XD : 0);
}

static enum walk_status walk_two_stages(const struct walk_2d_tables *tables,
                                        const struct paging_memory *memory, u64 linear, unsigned access,
                                        bool mark, struct walk_2d *result)
{
    result->stage = WALK_STAGE_GUEST;
    struct stage stage = {tables->host, tables->host_root, mark, result};
    enum walk_status status = walk_first_stage(tables, memory, &stage, linear, access);
    if (status != WALK_OK)
        return status;

    unsigned rights = result->guest.rights;
    result->guest_address = result->guest.address;
    status = walk_host(&stage, memory, result->guest_address, walk_final_access(tables->host, access, rights),
                       final_supplied(rights));
    result->address = result->host.address;
    return status;
}

enum walk_status walk_2d(const struct walk_2d_tables *tables, const struct paging_memory *memory, u64 linear,
                         unsigned access, struct walk_2d *result)
{
    return walk_two_stages(tables, memory, linear, access, false, result);
}

enum walk_status walk_2d_and_mark(const struct walk_2d_tables *tables, const struct paging_memory *memory,
                                  u64 linear, unsigned access, struct walk_2d *result)
{
    return walk_two_stages(tables, memory, linear, access, true, result);
}
