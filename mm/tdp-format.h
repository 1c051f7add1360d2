/* SPDX-License-Identifier: MIT */
/*
 * Entries of Umbra's own EPT and NPT: the one place that knows their bits. It translates between entries and
 * the access vocabulary of mm/tdp.h, and never builds an entry that is misconfigured or has a reserved bit
 * set. It reads and writes no memory.
 */
#ifndef UMBRA_MM_TDP_FORMAT_H
#define UMBRA_MM_TDP_FORMAT_H

#include "mm/tdp.h"

#define TDP_ENTRY_ADDRESS BITS(51, 12)
#define TDP_ENTRY_PS      BIT(7) /* the same bit in both formats: this entry of level 2 or 3 maps a page */

/* EPT entries, SDM vol. 3C tables 29-1 to 29-7. */
#define EPT_READ             BIT(0)
#define EPT_WRITE            BIT(1)
#define EPT_EXECUTE          BIT(2) /* with MBEC: by supervisor-mode linear addresses only (XS) */
#define EPT_TYPE_SHIFT       3u     /* memory type in bits 5:3 of a leaf */
#define EPT_ACCESSED         BIT(8)
#define EPT_DIRTY            BIT(9)
#define EPT_EXECUTE_FOR_USER BIT(10) /* XU; ignored without MBEC */

/* NPT entries are long-mode page-table entries, APM vol. 2 5.4.1; U and NX under GMET: 15.25. */
#define NPT_PRESENT    BIT(0)
#define NPT_WRITE      BIT(1)
#define NPT_USER       BIT(2)
#define NPT_ACCESSED   BIT(5)
#define NPT_DIRTY      BIT(6)
#define NPT_NO_EXECUTE BIT(63)

enum {
    TDP_LEVELS = 4, /* entries of a level-4 table are PML4 entries, those of a level-1 table map 4 KByte */
    TDP_ENTRIES = 512,
};

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
        return (entry & NPT_PRESENT) != 0;
    u64 permissions =
        EPT_READ | EPT_WRITE | EPT_EXECUTE | (config->mode_based_execute ? EPT_EXECUTE_FOR_USER : 0);
    return (entry & permissions) != 0;
}

/* Present and referring to a table, seen in a table of that level. */
static inline bool tdp_entry_is_table(const struct tdp_config *config, unsigned level, u64 entry)
{
    return level > 1 && (entry & TDP_ENTRY_PS) == 0 && tdp_entry_present(config, entry);
}

/* Host-physical address of the page or table of a present entry. */
static inline u64 tdp_entry_address(u64 entry)
{
    return entry & TDP_ENTRY_ADDRESS;
}

/* Access and memory type of a present leaf. */
unsigned tdp_entry_access(const struct tdp_config *config, u64 entry);
enum memory_type tdp_entry_type(const struct tdp_config *config, u64 entry);

/* The bits that the CPU may set on its own while it uses a leaf. */
static inline u64 tdp_accessed_dirty(const struct tdp_config *config)
{
    return config->format == TDP_NPT ? NPT_ACCESSED | NPT_DIRTY : EPT_ACCESSED | EPT_DIRTY;
}

#endif
