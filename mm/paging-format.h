/* SPDX-License-Identifier: MIT */
/*
 * The formats of paging structures: guest tables (which NPT shares) and EPT. One constant description per
 * format, bits of an entry under the manuals' names, and what must be zero in an entry for a given role.
 * Sources: SDM vol. 3A 4.3 to 4.5 and tables 4-4 to 4-20; SDM vol. 3C 29.3.2 and tables 29-1 to 29-7; APM
 * vol. 2 5.3 and 5.4. Pure: reads no memory.
 */
#ifndef UMBRA_MM_PAGING_FORMAT_H
#define UMBRA_MM_PAGING_FORMAT_H

#include "arch/types.h"
#include "mm/paging-role.h"

/* Entries of guest tables and NPT. */
#define PTE_P         BIT(0)
#define PTE_W         BIT(1)
#define PTE_U         BIT(2)
#define PTE_PWT       BIT(3)
#define PTE_PCD       BIT(4)
#define PTE_A         BIT(5)
#define PTE_D         BIT(6) /* of an entry that maps a page */
#define PTE_PAT_4K    BIT(7) /* of a level-1 entry; above, bit 7 is PS and a page's PAT bit is bit 12 */
#define PTE_G         BIT(8)
#define PTE_PAT_LARGE BIT(12)
#define PTE_KEY_SHIFT 59u /* protection key, bits 62:59 of an entry that maps a page, 4- and 5-level */
#define PTE_XD        BIT(63)

/* Entries of EPT. */
#define EPTE_R             BIT(0)
#define EPTE_W             BIT(1)
#define EPTE_X             BIT(2) /* with MBEC: XS, for supervisor-mode linear addresses */
#define EPTE_TYPE_SHIFT    3u     /* memory type, bits 5:3 of a leaf */
#define EPTE_IPAT          BIT(6) /* leaf: ignore PAT */
#define EPTE_A             BIT(8)
#define EPTE_D             BIT(9)
#define EPTE_XU            BIT(10) /* with MBEC: for user-mode linear addresses */
#define EPTE_VERIFY_PAGING BIT(57)
#define EPTE_PAGING_WRITE  BIT(58)
#define EPTE_SUPERVISOR_SS BIT(60) /* leaf, with supervisor shadow-stack control */
#define EPTE_SUB_PAGE      BIT(61) /* 4-KByte leaf, with sub-page write permissions */
#define EPTE_SUPPRESS_VE   BIT(63)

/* The same in all formats. */
#define ENTRY_PS      BIT(7)       /* level 2 or 3: the entry maps a page */
#define ENTRY_ADDRESS BITS(51, 12) /* of a table or page; 32-bit format: bits 31:12 */

enum {
    PAGING_LEVELS_MAX = 5, /* an entry of a level-1 table maps 4 KByte */
};

struct paging_format {
    u8 levels;       /* level of the root table */
    u8 entry_bytes;  /* 4 or 8 */
    u8 index_bits;   /* of a table; PAE's root has 4 entries all the same */
    u8 address_bits; /* width of the address that is translated */
    u64 root_mask;   /* the root table's address in CR3 or EPTP */
    u64 present;     /* any of these bits: the entry is present (EPT: also XU, with MBEC) */
    u64 accessed, dirty;
};

static const struct paging_format paging_formats[PAGING_FORMATS] = {
    [PAGING_NONE] = {.address_bits = 64},
    [PAGING_32BIT] = {2, 4, 10, 32, BITS(31, 12), PTE_P, PTE_A, PTE_D},
    [PAGING_PAE] = {3, 8, 9, 32, BITS(31, 5), PTE_P, PTE_A, PTE_D},
    [PAGING_4LEVEL] = {4, 8, 9, 48, ENTRY_ADDRESS, PTE_P, PTE_A, PTE_D},
    [PAGING_5LEVEL] = {5, 8, 9, 57, ENTRY_ADDRESS, PTE_P, PTE_A, PTE_D},
    [PAGING_EPT4] = {4, 8, 9, 48, ENTRY_ADDRESS, EPTE_R | EPTE_W | EPTE_X, EPTE_A, EPTE_D},
    [PAGING_EPT5] = {5, 8, 9, 57, ENTRY_ADDRESS, EPTE_R | EPTE_W | EPTE_X, EPTE_A, EPTE_D},
};

/* Position of the lowest index bit of a level: 1 is the level whose entries map 4 KByte. */
static inline unsigned paging_level_shift(enum paging_format_id format, unsigned level)
{
    return PAGE_SHIFT + paging_formats[format].index_bits * (level - 1);
}

/* Bytes that an entry of that level stands for. */
static inline u64 paging_level_span(enum paging_format_id format, unsigned level)
{
    return BIT(paging_level_shift(format, level));
}

/* Guest-physical (or L2 guest-physical) address of the entry for `address` in the table at `table`. */
static inline u64 paging_entry_address(enum paging_format_id format, u64 table, u64 address, unsigned level)
{
    u64 index = address >> paging_level_shift(format, level) & (BIT(paging_formats[format].index_bits) - 1);

    if (format == PAGING_PAE && level == 3)
        index &= 3;
    return table + index * paging_formats[format].entry_bytes;
}

/*
 * Does an entry of that level, present, with this bit 7 (of no account at level 1), map a page? In the 32-bit
 * format only if the role has PSE; elsewhere bit 7 is reserved where the answer is no (paging_reserved_bits).
 */
static inline bool paging_maps_page(struct paging_role role, unsigned level, u64 entry)
{
    if (level == 1)
        return true;
    if ((entry & ENTRY_PS) == 0)
        return false;
    return role_format(role) == PAGING_32BIT ? role_has(role, ROLE_PSE) : level <= 3;
}

/* Bits that make an entry present. */
static inline u64 paging_present_bits(struct paging_role role)
{
    return paging_formats[role_format(role)].present | (role_has(role, ROLE_MBEC) ? EPTE_XU : 0);
}

/*
 * Bits that must be 0 in a present entry of that level (1 to the format's levels) whose bit 7 is `bit7`. A
 * set one is a page fault with RSVD, in EPT a misconfiguration.
 * - address bits 51:MAXPHYADDR everywhere (32-bit: a PSE-36 page has bits 21 and, of its bits 20:13 for
 *   address bits 39:32, those from MAXPHYADDR up; nothing else is reserved);
 * - XD without NXE; PAE: bits 62:52; a PDPTE of PAE: 2:1, 8:5, 63:52;
 * - bit 7 where it cannot mean a page: level 4 and above, level 3 without 1-GByte pages;
 * - low address bits of a large page, except guest formats' bit 12 (PAT): 20:13, 29:13; EPT 20:12, 29:12;
 * - EPT: 6:3 of an entry that maps no page;
 * - AMD: bit 8 of a PML4E or PML5E (a PDPE ignores it).
 */
u64 paging_reserved_bits(struct paging_role role, unsigned level, bool bit7);

/*
 * EPT only: for bits 5:0 of an entry (memory type and RWX) the 64-bit set of values that are misconfigured in
 * an entry that maps a page, whatever the level (SDM vol. 3C 29.3.3.1): memory type 2, 3 or 7; W without R; X
 * without R unless execute-only is supported. `xu` is the entry's bit 10: with MBEC it counts like X, and an
 * entry with XU alone is present. Bit n of the result is for bits 5:0 = n; not-present values are not in it.
 * Of an entry that maps no page the type bits are reserved bits, so the same set serves.
 */
u64 paging_ept_misconfigured(struct paging_role role, bool xu);

/* Base address of the page that a leaf of that level maps; PSE-36 honoured (SDM vol. 3A table 4-4). */
static inline u64 paging_page_address(enum paging_format_id format, u64 leaf, unsigned level)
{
    u64 address = leaf & ENTRY_ADDRESS & ~(paging_level_span(format, level) - 1);

    if (format == PAGING_32BIT && level == 2)
        address |= (leaf & BITS(20, 13)) << (32 - 13);
    return address;
}

#endif
