/* SPDX-License-Identifier: MIT */
/*
 * Umbra's own 4-level page tables: built once at boot, then never changed. No page is both writable and
 * executable, none is accessible to user mode, and Umbra's image appears in them only at its link address.
 */
#ifndef UMBRA_MM_OWN_TABLES_H
#define UMBRA_MM_OWN_TABLES_H

#include "arch/types.h"

enum own_flags {
    OWN_READ = 0,
    OWN_WRITE = 1,
    OWN_EXECUTE = 2,
    OWN_UNCACHED = 4, /* device registers; else write-back */
};

struct own_tables {
    hpa_t root;
    bool page_1g; /* the CPU has 1-GByte pages */
};

/* False if the frame pool is empty. */
bool own_tables_init(struct own_tables *tables, bool page_1g);

/*
 * Maps [virtual, virtual + bytes) to host-physical addresses from `physical` on, in the largest
 * pages that fit; all page-aligned, nothing of it mapped before. False if the frame pool is empty.
 */
bool own_tables_map(struct own_tables *tables, u64 virtual, u64 physical, u64 bytes, unsigned flags);

#endif
