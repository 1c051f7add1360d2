/* SPDX-License-Identifier: MIT */
/*
 * The general walker; see mm/walk-general.h. Every entry goes through classify(); nothing here is
 * specialised.
 */
#include "mm/walk-general.h"

#define COLD static __attribute__((noinline, cold))

enum entry_kind { ENTRY_NOT_PRESENT, ENTRY_RESERVED, ENTRY_TABLE, ENTRY_PAGE };

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
__attribute__((cold)) enum walk_status walk_beyond_tables(const struct paging *paging, struct walk *result,
                                                          u64 address, unsigned access)
{
    unsigned root_level = paging_formats[role_format(paging->role)].levels;

    return fail(paging, result, FAULT_NOT_PRESENT, root_level + 1, address, access);
}

__attribute__((cold)) enum walk_status walk_deny(const struct paging *paging, struct walk *result,
                                                 u64 address, unsigned access)
{
    fail(paging, result, FAULT_PERMISSION, result->level, address, access);
    result->fault.rights = result->rights;
    result->fault.key = permission_key_faults(&paging->permission, access, result->rights, result->key);
    result->fault.ss_entry = role_has(paging->role, ROLE_EPT_SSS) && (result->leaf & EPTE_SUPERVISOR_SS) != 0;
    return WALK_FAULT;
}

__attribute__((cold)) enum walk_status walk_not_memory(const struct paging *paging, struct walk *result,
                                                       unsigned level, u64 address)
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

/* The leaf is found and its translation recorded: what it allows, in modes with shadow stacks or keys. */
enum walk_status walk_permit_special(const struct paging *paging, u64 above, unsigned rights, u64 address,
                                     unsigned access, struct walk *result)
{
    if (is_shadow_stack_page(paging, above, result->leaf))
        rights |= RIGHT_SS;
    result->rights = (u8)rights;
    if (permission_faults(&paging->permission, access, rights, result->key))
        return walk_deny(paging, result, address, access);
    return WALK_OK;
}

/* --- the general walker --- */

/* Reads and records the entry for `address` in `table`. `second` is NULL in one-dimensional walks. */
static enum walk_status read_entry(const struct paging *paging, const struct paging_memory *memory,
                                   const struct walk_second_stage *second, u64 table, u64 address,
                                   unsigned level, struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    u64 where = paging_entry_address(format, table, address, level);

    if (second != NULL) {
        enum walk_status status =
            walk_host(second, memory, where, walk_table_access(second->paging), FAULT_LINEAR_VALID);
        if (status != WALK_OK)
            return status;
        where = second->result->host.address;
    }
    result->entry[level].address = where;
    if (walk_load_entry(memory, format, where, &result->entry[level].value) != MEMORY_OK)
        return walk_not_memory(paging, result, level, where);
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
enum walk_status walk_rest(const struct paging *paging, const struct paging_memory *memory,
                           const struct walk_second_stage *second, unsigned level, u64 address,
                           unsigned access, struct walk *result)
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
            read_entry(paging, memory, second, entry & ENTRY_ADDRESS, address, level - 1, result);
        if (status != WALK_OK)
            return status;
    }
}

enum walk_status walk_general(const struct paging *paging, const struct paging_memory *memory,
                              const struct walk_second_stage *second, u64 root, u64 address, unsigned access,
                              struct walk *result)
{
    enum paging_format_id format = role_format(paging->role);
    unsigned level = paging_formats[format].levels;
    u64 table = root & paging_formats[format].root_mask;

    if (unlikely((address & paging->input_reserved) != 0))
        return walk_beyond_tables(paging, result, address, access);
    if (format == PAGING_PAE && paging->pdptes != NULL) {
        u64 pdpte = paging->pdptes[address >> 30 & 3];
        result->entry[level] = (struct walk_entry){WALK_NO_ADDRESS, pdpte};
        if ((pdpte & PTE_P) == 0)
            return refuse(paging, result, ENTRY_NOT_PRESENT, level, address, access);
        table = pdpte & ENTRY_ADDRESS;
        level--;
    }
    enum walk_status status = read_entry(paging, memory, second, table, address, level, result);
    return status == WALK_OK ? walk_rest(paging, memory, second, level, address, access, result) : status;
}

enum walk_status walk_nothing(u64 address, struct walk *result)
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
