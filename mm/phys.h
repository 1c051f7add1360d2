/* SPDX-License-Identifier: MIT */
/*
 * How Umbra reaches physical memory: through one linear window over all of it. The pure parts of mm/ use
 * nothing else, so a host test gives them an arena by setting the window's base. Nothing here checks an
 * address: what a guest names goes through mm/guest-mem.h.
 */
#ifndef UMBRA_MM_PHYS_H
#define UMBRA_MM_PHYS_H

#include "arch/types.h"

/* The virtual address at which host-physical address 0 is mapped. Set once, before anything in mm/ runs. */
extern u64 direct_map_base;

/* Valid for every host-physical address that the window maps; the caller knows that it does. */
static inline void *phys_to_virt(hpa_t address)
{
    return (void *)(uintptr_t)(direct_map_base + address.raw);
}

#endif
