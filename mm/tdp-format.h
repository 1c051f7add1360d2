/* SPDX-License-Identifier: MIT */
/*
 * Entries of Umbra's own EPT and NPT, built of the bits of mm/paging-format.h. It translates between entries
 * and the access vocabulary of mm/tdp.h, and never builds an entry that is misconfigured or has a reserved
 * bit set. It reads and writes no memory.
 */
#ifndef UMBRA_MM_TDP_FORMAT_H
#define UMBRA_MM_TDP_FORMAT_H

#include "mm/paging-format.h"
#include "mm/tdp.h"

enum {
    TDP_LEVELS = 4, /* entries of a level-4 table are PML4 entries, those of a level-1 table map 4 KByte */
    TDP_ENTRIES = 512,
};

/* The CPU ignores it in both formats: W was there, and comes back at the first write; see tdp_sleep(). */
#define TDP_ASLEEP BIT(52)

/* Bytes that one entry of a table of that level stands for. */
static inline u64 tdp_entry_span(unsigned level)
{
    return BIT(PAGE_SHIFT + 9 * (level - 1));
}

static inline unsigned tdp_entry_index(u64 address, unsigned level)
{
    return (unsigned)(address >> (PAGE_SHIFT + 9 * (level - 1))) % TDP_ENTRIES;
}

/* Can the format say exactly this access with this type? Access 0 (not present) always can be said. */
bool tdp_representable(const struct tdp_config *config, unsigned access, enum memory_type type);

/* May an entry of that level map a page? */
bool tdp_leaf_level(const struct tdp_config *config, unsigned level);

/* A representable access to the page at `target`, aligned to the span of the level; 0 for access 0. */
u64 tdp_leaf_entry(const struct tdp_config *config, unsigned level, u64 target, unsigned access,
                   enum memory_type type);
/* An entry that restricts nothing and refers to the next lower table. */
u64 tdp_table_entry(const struct tdp_config *config, hpa_t table);

static inline bool tdp_entry_present(const struct tdp_config *config, u64 entry)
{
    if (config->format == TDP_NPT)
        return (entry & PTE_P) != 0;
    u64 permissions = EPTE_R | EPTE_W | EPTE_X | (config->mode_based_execute ? EPTE_XU : 0);
    return (entry & permissions) != 0;
}

/* Present and referring to a table, seen in a table of that level. */
static inline bool tdp_entry_is_table(const struct tdp_config *config, unsigned level, u64 entry)
{
    return level > 1 && (entry & ENTRY_PS) == 0 && tdp_entry_present(config, entry);
}

/* Host-physical address of the page or table of a present entry. */
static inline u64 tdp_entry_address(u64 entry)
{
    return entry & ENTRY_ADDRESS;
}

/* Access and memory type of a present leaf. */
unsigned tdp_entry_access(const struct tdp_config *config, u64 entry);
enum memory_type tdp_entry_type(const struct tdp_config *config, u64 entry);

/* The bits that the CPU may set on its own while it uses a leaf. */
static inline u64 tdp_accessed_dirty(const struct tdp_config *config)
{
    return config->format == TDP_NPT ? PTE_A | PTE_D : EPTE_A | EPTE_D;
}

#endif
