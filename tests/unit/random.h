/* SPDX-License-Identifier: MIT */
/*
 * Random numbers for unit tests: the same sequence in every run, so that a failure comes again. The generator
 * is Marsaglia's xorshift64.
 */
#ifndef UMBRA_TESTS_UNIT_RANDOM_H
#define UMBRA_TESTS_UNIT_RANDOM_H

#include "arch/types.h"

static u64 random_state = 0x9e3779b97f4a7c15ull;

static inline u64 random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Another sequence for each `seed`, for the file that calls it. An odd factor, so that the state does not
 * become 0, which it would stay. */
static inline void random_seed(u64 seed)
{
    random_state *= 2 * seed + 1;
}

/* 0 .. bound - 1; bound is not 0. */
static inline u64 random_below(u64 bound)
{
    return (random_u64() >> 11) % bound;
}

/* True in `percent` of 100 cases. */
static inline bool random_chance(unsigned percent)
{
    return random_below(100) < percent;
}

#endif
