/* SPDX-License-Identifier: MIT */
/*
 * What the files of the walker share, and nobody else includes: the general walker, which serves every format
 * and both dimensions, and the end of every walk. See mm/walk.h.
 */
#ifndef UMBRA_MM_WALK_GENERAL_H
#define UMBRA_MM_WALK_GENERAL_H

#include "mm/walk.h"

#define likely(condition)   __builtin_expect((condition), 1)
#define unlikely(condition) __builtin_expect((condition), 0)
#define INLINE              static inline __attribute__((always_inline))
#define NOINLINE            static __attribute__((noinline))

#define WALK_NO_ADDRESS     (~0ull)

/* The second stage of a walk whose tables are reached through it. */
struct walk_second_stage {
    const struct paging *paging;
    u64 root;
    bool mark; /* set A/D flags in the second stage's tables */
    struct walk_2d *result;
};

/* One entry at `address`, of 4 or 8 bytes. */
static inline enum memory_status walk_load_entry(const struct paging_memory *memory,
                                                 enum paging_format_id format, u64 address, u64 *entry)
{
    if (paging_formats[format].entry_bytes == sizeof(u32))
        return paging_load_u32(memory, address, entry);
    return paging_load_u64(memory, address, entry);
}

/*
 * The general walker, whose arguments and result are those of walk(), PAGING_NONE excepted. `second` is NULL
 * in one-dimensional walks; with it, `root` and the result's tables are addresses of the first stage.
 */
enum walk_status walk_general(const struct paging *paging, const struct paging_memory *memory,
                              const struct walk_second_stage *second, u64 root, u64 address, unsigned access,
                              struct walk *result);

/* The same from an entry on that has been read and recorded in result->entry[level], with those above it. */
enum walk_status walk_rest(const struct paging *paging, const struct paging_memory *memory,
                           const struct walk_second_stage *second, unsigned level, u64 address,
                           unsigned access, struct walk *result);

/* Ways to end a walk, with *result filled in. */
enum walk_status walk_deny(const struct paging *paging, struct walk *result, u64 address, unsigned access);
enum walk_status walk_not_memory(const struct paging *paging, struct walk *result, unsigned level,
                                 u64 address);
enum walk_status walk_beyond_tables(const struct paging *paging, struct walk *result, u64 address,
                                    unsigned access);
enum walk_status walk_nothing(u64 address, struct walk *result);
enum walk_status walk_permit_special(const struct paging *paging, u64 above, unsigned rights, u64 address,
                                     unsigned access, struct walk *result);

/*
 * The second stage's part of a two-dimensional walk: the translation of `address`, which goes to
 * second->result->host; a fault has `supplied` filled in, and is noted as the second stage's.
 */
enum walk_status walk_host(const struct walk_second_stage *second, const struct paging_memory *memory,
                           u64 address, unsigned access, u64 supplied);

/*
 * Accessed and dirty flags of a successful walk. WALK_CONTENDED: an entry has changed since it was read, or,
 * with a second stage, is to be found elsewhere by now.
 */
bool walk_owes_flags(const struct paging *paging, const struct walk *walk, unsigned access);
enum walk_status walk_set_flags(const struct paging *paging, const struct paging_memory *memory,
                                const struct walk_second_stage *second, u64 root, u64 address,
                                unsigned access, struct walk *result);

static inline bool is_ept(enum paging_format_id format)
{
    return format >= PAGING_EPT4;
}

/* All but the PDPTEs of PAE have R/W, U/S and an accessed flag. */
static inline bool has_flags(enum paging_format_id format, unsigned level)
{
    return format != PAGING_PAE || level != 3;
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
        return walk_permit_special(paging, above, rights, address, access, result);
    if (unlikely(permission_rights_fault(&paging->permission, access, rights)))
        return walk_deny(paging, result, address, access);
    return WALK_OK;
}

#endif
