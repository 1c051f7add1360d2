/* SPDX-License-Identifier: MIT */
#include "mm/own-tables.h"

#include "mm/frame.h"
#include "mm/paging-format.h"
#include "mm/phys.h"

static u64 level_size(unsigned level)
{
    return PAGE_SIZE << (9 * (level - 1));
}

static u64 *entry_at(hpa_t table, u64 virtual, unsigned level)
{
    u64 *entries = phys_to_virt(table);
    return &entries[virtual >> (PAGE_SHIFT + 9 * (level - 1)) & 511];
}

/* The largest page at which both addresses and what is left agree. */
static unsigned page_level(const struct own_tables *tables, u64 virtual, u64 physical, u64 bytes)
{
    unsigned level = tables->page_1g ? 3 : 2;
    while (level > 1 && (((virtual | physical) & (level_size(level) - 1)) != 0 || bytes < level_size(level)))
        level--;
    return level;
}

static bool map_page(struct own_tables *tables, u64 virtual, u64 physical, unsigned level, u64 bits)
{
    hpa_t table = tables->root;
    for (unsigned at = 4; at > level; at--) {
        u64 *entry = entry_at(table, virtual, at);
        if ((*entry & PTE_P) == 0) {
            hpa_t child;
            if (!frame_alloc(&child))
                return false;
            *entry = child.raw | PTE_P | PTE_W | PTE_A;
        }
        table = hpa(*entry & ENTRY_ADDRESS);
    }
    *entry_at(table, virtual, level) = physical | bits | (level > 1 ? ENTRY_PS : 0);
    return true;
}

bool own_tables_init(struct own_tables *tables, bool page_1g)
{
    tables->page_1g = page_1g;
    return frame_alloc(&tables->root);
}

bool own_tables_map(struct own_tables *tables, u64 virtual, u64 physical, u64 bytes, unsigned flags)
{
    /* Accessed and dirty are set in advance: the CPU need never write them. */
    u64 bits = PTE_P | PTE_A | PTE_D | PTE_G;
    if ((flags & OWN_WRITE) != 0)
        bits |= PTE_W;
    if ((flags & OWN_EXECUTE) == 0)
        bits |= PTE_XD;
    if ((flags & OWN_UNCACHED) != 0)
        bits |= PTE_PCD | PTE_PWT; /* entry 3 of Umbra's PAT */

    while (bytes != 0) {
        unsigned level = page_level(tables, virtual, physical, bytes);
        if (!map_page(tables, virtual, physical, level, bits))
            return false;
        virtual += level_size(level);
        physical += level_size(level);
        bytes -= level_size(level);
    }
    return true;
}
