/* SPDX-License-Identifier: MIT */
/*
 * Physical memory for tests of code that reaches it through mm/phys.h: 8 GByte of addresses of which only RAM
 * and the first MByte can be touched. A stray access ends the test with its address; the first write after
 * arena_arm() is noted.
 */
#ifndef UMBRA_TESTS_UNIT_ARENA_H
#define UMBRA_TESTS_UNIT_ARENA_H

#include "arch/types.h"
#include "mm/memmap.h"

/* Makes exactly the RAM of `map` (whole pages) writable, what is not RAM below 1 MByte readable, and all else
 * neither. */
void arena_layout(const struct memmap *map);

/* From now on arena_written says whether anything was written. */
void arena_arm(void);
extern bool arena_written;

/* Makes RAM writable again, for the test's own writes. */
void arena_disarm(void);

/* Writes anywhere below 1 MByte or into RAM, whatever the protection. */
void arena_put(u64 physical, const void *bytes, size_t count);

void *arena_at(u64 physical);
u16 arena_u16(u64 physical);
u32 arena_u32(u64 physical);
u64 arena_u64(u64 physical);

/* Makes [0, 4 GByte) readable: what code may rely on while it follows 32-bit pointers of a boot loader. */
void arena_open_low(void);

#endif
