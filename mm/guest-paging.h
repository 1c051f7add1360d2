/* SPDX-License-Identifier: MIT */
/*
 * The paging core's way to the guest's memory: struct paging_memory (mm/paging.h) over mm/guest-mem.h, for
 * walks of L1's own tables, of its EPT or NPT, and of operands in its memory.
 */
#ifndef UMBRA_MM_GUEST_PAGING_H
#define UMBRA_MM_GUEST_PAGING_H

#include "mm/paging.h"

/* Its window are the pages of guest_main_memory. Constant after guest_paging_settled(). */
extern struct paging_memory guest_paging_memory;

/* To be called once at boot, after memmap_guest_settled(). */
void guest_paging_settled(void);

#endif
