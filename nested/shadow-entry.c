/* SPDX-License-Identifier: MIT */
/*
 * Entries: what an entry of L1 leaves to those below it, and how the shadow says it in Umbra's format (SDM
 * vol. 3C 29.3.2 and 29.3.7; APM vol. 2 15.25.5, 15.25.8). Reads and writes no memory.
 */
#include "nested/shadow-internal.h"

#include "mm/tdp-format.h"

enum { PAT_UC = 0, PAT_WC = 1, PAT_WT = 4, PAT_WP = 5, PAT_WB = 6, PAT_UC_MINUS = 7 };

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
