/* SPDX-License-Identifier: MIT */
/*
 * Entries: what an entry of L1 leaves to those below it, and how the shadow says it in Umbra's format (SDM
 * vol. 3C 29.3.2 and 29.3.7; APM vol. 2 15.25.5, 15.25.8). Reads and writes no memory.
 */
#include "mm/tdp-format.h"
#include "nested/shadow-internal.h"

#define NPT_PWT       BIT(3)
#define NPT_PCD       BIT(4)
#define NPT_PAT_4K    BIT(7)
#define NPT_PAT_LARGE BIT(12)

/* A type in an EPT leaf is bits 6:3 of it, ignore-PAT included; in NPT it is Umbra's PAT index. */
#define TYPE_IGNORE_PAT 8u

enum { PAT_UC = 0, PAT_WC = 1, PAT_WT = 4, PAT_WP = 5, PAT_WB = 6, PAT_UC_MINUS = 7 };

u64 shadow_compose_link(const struct tdp_config *format, hpa_t table, unsigned rights)
{
    if (format->format == TDP_EPT) {
        u64 user = format->mode_based_execute ? (u64)(rights & TDP_XU) << 7 : 0;
        return table.raw | (rights & (TDP_R | TDP_W | TDP_XS)) | user;
    }
    return table.raw | PTE_P | PTE_U | PTE_A | (rights & TDP_W) | ((rights & TDP_XU) != 0 ? 0 : PTE_XD);
}

/*
 * L1's type over Umbra's, as page attributes over MTRRs (SDM vol. 3A table 12-7): on the bare machine an EPT
 * type stands in for the MTRRs, and L1's MTRRs are what Umbra's own map expresses. Ordinary memory takes the
 * type that L1 wants; a device stays uncacheable.
 */
static enum memory_type combine(enum memory_type own, enum memory_type l1)
{
    if (own == MT_WB || own == l1)
        return l1;
    if (l1 == MT_WB && own != MT_UC)
        return own;
    if (l1 == MT_WC)
        return MT_WC;
    if ((own == MT_WT && l1 == MT_WP) || (own == MT_WP && l1 == MT_WT))
        return l1;
    return MT_UC;
}

static u64 npt_pat_bits(unsigned level, unsigned index)
{
    u64 pat = level == 1 ? NPT_PAT_4K : NPT_PAT_LARGE;

    return ((index & 1) != 0 ? NPT_PWT : 0) | ((index & 2) != 0 ? NPT_PCD : 0) | ((index & 4) != 0 ? pat : 0);
}

u64 shadow_compose_leaf(const struct shadow *shadow, unsigned level, u64 target, unsigned rights,
                        unsigned type, enum memory_type own)
{
    const struct tdp_config *format = &shadow->format;

    if (format->format == TDP_NPT)
        return tdp_leaf_entry(format, level, target, rights, MT_WB) | npt_pat_bits(level, type);
    enum memory_type combined = combine(own, (enum memory_type)(type & 7));
    return tdp_leaf_entry(format, level, target, rights, combined) |
           ((type & TYPE_IGNORE_PAT) != 0 ? EPTE_IPAT : 0);
}

/* Bits of which a set one allows more, and of which a set one allows less. */
static u64 allowing(const struct tdp_config *format)
{
    if (format->format == TDP_NPT)
        return PTE_W;
    return EPTE_R | EPTE_W | EPTE_X | (format->mode_based_execute ? EPTE_XU : 0);
}

static u64 forbidding(const struct tdp_config *format)
{
    return format->format == TDP_NPT ? PTE_XD : 0;
}

bool shadow_entry_same(const struct tdp_config *format, u64 old, u64 now)
{
    return ((old ^ now) & ~tdp_accessed_dirty(format)) == 0;
}

bool shadow_entry_widened(const struct tdp_config *format, u64 old, u64 now)
{
    u64 same = ~(allowing(format) | forbidding(format) | tdp_accessed_dirty(format));

    return ((old ^ now) & same) == 0 && (old & ~now & allowing(format)) == 0 &&
           (now & ~old & forbidding(format)) == 0;
}

/* Umbra's entry of the same type; WC has none after reset, and is then uncacheable, which is only slower. */
static u8 nearest_pat(u8 type, u64 host_pat)
{
    u8 uncacheable = 0;

    for (u8 i = 0; i < 8; i++) {
        u8 candidate = (u8)(host_pat >> (8 * i) & 7);
        if (candidate == type)
            return i;
        if (candidate == PAT_UC)
            uncacheable = i;
    }
    return uncacheable;
}

void shadow_translate_pat(u8 table[8], u64 l1_pat, u64 host_pat)
{
    for (unsigned i = 0; i < 8; i++)
        table[i] = nearest_pat((u8)(l1_pat >> (8 * i) & 7), host_pat);
}
