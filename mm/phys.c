/* SPDX-License-Identifier: MIT */
/* The hypervisor's own window to physical memory; host tests define theirs. */
#include "mm/phys.h"

u64 direct_map_base;
