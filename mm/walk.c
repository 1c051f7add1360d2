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
#define COLD                static __attribute__((noinline, cold))

#define EPTE_TYPE           BITS(5, 3)
#define EPTE_TYPE_WB        (6ull << EPTE_TYPE_SHIFT)
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

/* PDPTEs of PAE have neither R/W, U/S, XD nor an accessed flag (SDM vol. 3A table 4-8). */
static bool has_flags(enum paging_format_id format, unsigned level)
{
    return format != PAGING_PAE || level != 3;
}

/* Bits that are 1 in an ordinary entry: denies nothing, was accessed. XORed, a set bit is a deviation. */
INLINE u64 ordinary_bits(enum paging_format_id format, unsigned level)
{
    if (!is_ept(format))
        return has_flags(format, level) ? PTE_P | PTE_W | PTE_U | PTE_A : PTE_P;
    return EPTE_R | EPTE_W | EPTE_X | EPTE_XU | EPTE_A | (level == 1 ? EPTE_TYPE_WB : 0);
}

static __attribute__((noinline)) enum entry_kind classify(const struct paging *paging, unsigned level,
                                                          u64 entry)
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

/* From accumulated deviations to rights: the bits stand in the same order, only not in the same places. */
INLINE unsigned rights_of(const struct paging *paging, enum paging_format_id format, u64 denied)
{
    u64 allowed = ~denied;

    if (!is_ept(format))
        return (unsigned)(RIGHT_R | (allowed & (RIGHT_W | RIGHT_U)) | (allowed >> 60 & RIGHT_X));
    unsigned rights = (unsigned)((allowed & (RIGHT_R | RIGHT_W)) | (allowed << 1 & RIGHT_X));
    return role_has(paging->role, ROLE_MBEC) ? rights | (unsigned)(allowed >> 6 & RIGHT_XU) : rights;
}

/* The leaf is found: rights, permission, result. */
INLINE enum walk_status finish(const struct paging *paging, enum paging_format_id format, unsigned level,
                               u64 above, u64 leaf, u64 address, unsigned access, struct walk *result)
{
    u64 denied = above | (leaf ^ ordinary_bits(format, level));
    unsigned rights = rights_of(paging, format, denied);
    unsigned key = 0;

    if (unlikely(role_has(paging->role, ROLE_CET | ROLE_EPT_SSS)) &&
        is_shadow_stack_page(paging, above, leaf))
        rights |= RIGHT_SS;
    if (format == PAGING_4LEVEL || format == PAGING_5LEVEL)
        key = leaf >> PTE_KEY_SHIFT & 15;

    u64 span = paging_level_span(format, level);
    result->address = paging_page_address(format, leaf, level) | (address & (span - 1));
    result->leaf = leaf;
    result->level = (u8)level;
    result->root_level = paging_formats[format].levels;
    result->rights = (u8)rights;
    result->key = (u8)key;
    result->accessed = (denied & paging_formats[format].accessed) == 0;
    if (unlikely(permission_faults(&paging->permission, access, rights, key)))
        return deny(paging, result, address, access);
    return WALK_OK;
}

static __attribute__((noinline)) enum walk_status finish_large(const struct paging *paging, unsigned level,
                                                               u64 above, u64 leaf, u64 address,
                                                               unsigned access, struct walk *result)
{
    return finish(paging, role_format(paging->role), level, above, leaf, address, access, result);
}

/* --- the second stage as seen by the first
 * -------------------------------------------------------------------- */

/* What an access to a structure of the first stage is to the second; see mm/walk.h. */
static unsigned table_access(const struct paging *host)
{
    if (!role_is_ept(host->role))
        return ACCESS_WRITE | ACCESS_USER;
    return role_has(host->role, ROLE_EPT_AD) ? ACCESS_WRITE : ACCESS_READ;
}

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

/* --- the loop
 * ----------------------------------------------------------------------------------------------------- */

INLINE enum memory_status load_entry(const struct paging_memory *memory, enum paging_format_id format,
                                     u64 address, u64 *entry)
{
    if (paging_formats[format].entry_bytes == sizeof(u32))
        return paging_load_u32(memory, address, entry);
    return paging_load_u64(memory, address, entry);
}

/* Reads and records the entry for `address` in `table`. `stage` is NULL in one-dimensional walks. */
INLINE enum walk_status read_entry(const struct paging *paging, const struct paging_memory *memory,
                                   const struct stage *stage, enum paging_format_id format, u64 table,
                                   u64 address, unsigned level, struct walk *result, u64 *entry)
{
    u64 where = paging_entry_address(format, table, address, level);

    if (stage != NULL) {
        enum walk_status status =
            walk_host(stage, memory, where, table_access(stage->paging), FAULT_LINEAR_VALID);
        if (status != WALK_OK)
            return status;
        where = stage->result->host.address;
    }
    if (unlikely(load_entry(memory, format, where, entry) != MEMORY_OK))
        return not_memory(paging, result, level, where);
    result->entry[level].address = where;
    result->entry[level].value = *entry;
    return WALK_OK;
}

INLINE enum walk_status walk_tables(const struct paging *paging, const struct paging_memory *memory,
                                    const struct stage *stage, u64 root, u64 address, unsigned access,
                                    struct walk *result, enum paging_format_id format)
{
    unsigned level = paging_formats[format].levels;
    u64 table = root & paging_formats[format].root_mask;
    u64 denied = 0;
    u64 entry;
    enum walk_status status;
    enum entry_kind kind;

    if (format == PAGING_PAE && paging->pdptes != NULL) {
        entry = paging->pdptes[address >> 30 & 3];
        result->entry[level] = (struct walk_entry){NO_ADDRESS, entry};
        if ((entry & PTE_P) == 0)
            return refuse(paging, result, ENTRY_NOT_PRESENT, level, address, access);
        table = entry & ENTRY_ADDRESS;
        level--;
    }

#pragma GCC unroll 4
    for (; level > 1; level--) {
        status = read_entry(paging, memory, stage, format, table, address, level, result, &entry);
        if (unlikely(status != WALK_OK))
            return status;
        u64 deviations = entry ^ ordinary_bits(format, level);
        if (unlikely((deviations & paging->not_plain[level]) != 0)) {
            kind = classify(paging, level, entry);
            if (kind == ENTRY_PAGE)
                return finish_large(paging, level, denied, entry, address, access, result);
            if (kind != ENTRY_TABLE)
                return refuse(paging, result, kind, level, address, access);
        }
        if (has_flags(format, level))
            denied |= deviations;
        table = entry & ENTRY_ADDRESS;
    }

    status = read_entry(paging, memory, stage, format, table, address, 1, result, &entry);
    if (unlikely(status != WALK_OK))
        return status;
    if (unlikely(((entry ^ ordinary_bits(format, 1)) & paging->not_plain[1]) != 0)) {
        kind = classify(paging, 1, entry);
        if (kind != ENTRY_PAGE)
            return refuse(paging, result, kind, 1, address, access);
    }
    return finish(paging, format, 1, denied, entry, address, access, result);
}

/* --- one dimension
 * ------------------------------------------------------------------------------------------------ */

#define HOT_WALK(name, format)                                                                               \
    static __attribute__((noinline)) enum walk_status name(                                                  \
        const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,              \
        unsigned access, struct walk *result)                                                                \
    {                                                                                                        \
        return walk_tables(paging, memory, NULL, root, address, access, result, format);                     \
    }

HOT_WALK(walk_4level, PAGING_4LEVEL)
HOT_WALK(walk_5level, PAGING_5LEVEL)
HOT_WALK(walk_ept4, PAGING_EPT4)
HOT_WALK(walk_ept5, PAGING_EPT5)

static enum walk_status walk_any(const struct paging *paging, const struct paging_memory *memory,
                                 const struct stage *stage, u64 root, u64 address, unsigned access,
                                 struct walk *result)
{
    return walk_tables(paging, memory, stage, root, address, access, result, role_format(paging->role));
}

static enum walk_status walk_nothing(u64 address, struct walk *result)
{
    result->address = address;
    result->leaf = 0;
    result->level = 0;
    result->root_level = 0;
    result->rights = RIGHTS_ALL_BUT_SS;
    result->key = 0;
    result->accessed = true;
    return WALK_OK;
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);

    if (unlikely((address & paging->input_reserved) != 0))
        return fail(paging, result, FAULT_NOT_PRESENT, paging_formats[format].levels + 1u, address, access);
    switch (format) {
    case PAGING_4LEVEL:
        return walk_4level(paging, memory, root, address, access, result);
    case PAGING_5LEVEL:
        return walk_5level(paging, memory, root, address, access, result);
    case PAGING_EPT4:
        return walk_ept4(paging, memory, root, address, access, result);
    case PAGING_EPT5:
        return walk_ept5(paging, memory, root, address, access, result);
    case PAGING_32BIT:
    case PAGING_PAE:
        return walk_any(paging, memory, NULL, root, address, access, result);
    default:
        return walk_nothing(address, result);
    }
}

/* --- accessed and dirty flags
 * ----------------------------------------------------------------------------------- */

/* Which flags does a successful walk for that access owe to the entry of a level? */
static u64 flags_owed(const struct paging *paging, const struct walk *walk, unsigned level, unsigned access)
{
    const struct paging_format *format = &paging_formats[role_format(paging->role)];
    bool dirties = level == walk->level && (access & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;

    if (!has_flags(role_format(paging->role), level))
        return 0;
    return (format->accessed | (dirties ? format->dirty : 0)) & ~walk->entry[level].value;
}

/*
 * The second stage must allow the write to an entry of the first. Where reads of entries already counted as
 * writes, it has; WALK_CONTENDED if the entry is to be found elsewhere by now.
 */
static enum walk_status may_write_entry(const struct stage *stage, const struct paging_memory *memory,
                                        u64 guest_address, u64 address)
{
    if (table_access(stage->paging) != ACCESS_READ)
        return WALK_OK;
    enum walk_status status = walk_host(stage, memory, guest_address, ACCESS_WRITE, FAULT_LINEAR_VALID);
    if (status != WALK_OK)
        return status;
    return stage->result->host.address == address ? WALK_OK : WALK_CONTENDED;
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
        entry->value |= owed;
    }
    result->leaf = result->entry[result->level].value;
    result->accessed = true;
    return WALK_OK;
}

static bool owes_flags(const struct paging *paging, const struct walk *walk, unsigned access)
{
    if (walk->level == 0 || (role_is_ept(paging->role) && !role_has(paging->role, ROLE_EPT_AD)))
        return false;
    return !walk->accessed || flags_owed(paging, walk, walk->level, access) != 0;
}

enum walk_status walk_and_mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result)
{
    for (unsigned attempt = 0; attempt < WALK_ATTEMPTS; attempt++) {
        enum walk_status status = walk(paging, memory, root, address, access, result);

        if (status != WALK_OK || !owes_flags(paging, result, access))
            return status;
        status = set_flags(paging, memory, NULL, root, address, access, result);
        if (status != WALK_CONTENDED)
            return status;
    }
    return WALK_CONTENDED;
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

/* --- two dimensions
 * ----------------------------------------------------------------------------------------------- */

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

/* The access to the final address as the second stage sees it. */
static unsigned final_access(const struct paging *host, unsigned access, unsigned guest_rights)
{
    if (!role_is_ept(host->role))
        return access & ~(unsigned)ACCESS_AC;
    if ((access & ACCESS_FETCH) != 0)
        return ACCESS_FETCH | ((guest_rights & RIGHT_U) != 0 ? ACCESS_USER : 0);
    if ((access & ACCESS_SHADOW_STACK) != 0)
        return access & ~(unsigned)ACCESS_AC;
    return access & ACCESS_WRITE;
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
    struct stage stage = {tables->host, tables->host_root, mark, result};
    unsigned rights;

    result->stage = WALK_STAGE_GUEST;
    enum walk_status status = walk_first_stage(tables, memory, &stage, linear, access);
    if (status != WALK_OK)
        return status;

    rights = result->guest.rights;
    result->guest_address = result->guest.address;
    status = walk_host(&stage, memory, result->guest_address, final_access(tables->host, access, rights),
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
