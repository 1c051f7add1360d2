/* SPDX-License-Identifier: MIT */
/*
 * In the fuzz targets this takes the place of tests/unit/random.h (by -include, before it): the same
 * functions, but what they return is the fuzzer's input, byte by byte. So every choice of the unit tests'
 * generators (machine state, tables, access) is the input's, and coverage steers it. An input that ends early
 * goes on with numbers made from its last bytes: the same input is always the same case.
 */
#ifndef UMBRA_TESTS_UNIT_RANDOM_H
#define UMBRA_TESTS_UNIT_RANDOM_H

#include "arch/types.h"

/* fuzz.c: the next 1 to 8 bytes, little-endian. */
u64 input_take(unsigned bytes);

static inline u64 random_u64(void)
{
    return input_take(8);
}

/* 0 .. bound - 1; bound is not 0. */
static inline u64 random_below(u64 bound)
{
    return input_take(bound <= 0x100 ? 1 : bound <= 0x10000 ? 2 : 8) % bound;
}

static inline bool random_chance(unsigned percent)
{
    return random_below(100) < percent;
}

/* The input is all there is. */
static inline void random_seed(u64 seed)
{
    (void)seed;
}

#endif
