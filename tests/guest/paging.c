/* SPDX-License-Identifier: MIT */
/*
 * The guest's page tables: the one-to-one map that entry.S made, and the window, 2 MByte of linear addresses
 * whose 4-KByte entries tests set as they like, with every permission left to that last entry.
 */
#include "tests/guest/guest.h"

extern u64 directories[4 * 512];

static u64 window_entries[512] __attribute__((aligned(4096)));

u64 *window_directory_entry(void)
{
    return &directories[WINDOW >> 21];
}

void tables_init(void)
{
    /* Devices live from 3 GByte on. */
    for (unsigned i = 3 * 512; i < 4 * 512; i++)
        directories[i] |= PTE_PCD | PTE_PWT;
    *window_directory_entry() = (u64)window_entries | PTE_P | PTE_W | PTE_U;
    flush_tlb();
}

u64 *window_table(void)
{
    return window_entries;
}

void window_set(unsigned index, u64 entry)
{
    window_entries[index] = entry;
    invlpg((const void *)(WINDOW + index * PAGE_SIZE));
}

u64 window_get(unsigned index)
{
    return window_entries[index];
}

void *window_map(unsigned index, u64 physical, u64 flags)
{
    window_set(index, physical | flags);
    return (void *)(WINDOW + index * PAGE_SIZE);
}

void flush_tlb(void)
{
    write_cr3(read_cr3());
}
