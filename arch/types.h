/* SPDX-License-Identifier: MIT */
/*
 * Fixed-width integers and one type per address space, so that the compiler refuses to mix them up.
 * Freestanding: included by the hypervisor, by host tests and by proofs alike. It declares no function
 * that needs linking.
 */
#ifndef UMBRA_ARCH_TYPES_H
#define UMBRA_ARCH_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

/* Host-physical address: what Umbra's own page tables and the last EPT/NPT level produce. */
typedef struct {
    u64 raw;
} hpa_t;

/* Guest-physical address of L1. Umbra maps L1 one to one, but a gpa_t is not trusted before it is checked. */
typedef struct {
    u64 raw;
} gpa_t;

/* Guest linear address. */
typedef struct {
    u64 raw;
} gva_t;

static inline hpa_t hpa(u64 raw)
{
    return (hpa_t){raw};
}

static inline gpa_t gpa(u64 raw)
{
    return (gpa_t){raw};
}

static inline gva_t gva(u64 raw)
{
    return (gva_t){raw};
}

#define KIB(n)     ((u64)(n) << 10)
#define MIB(n)     ((u64)(n) << 20)
#define GIB(n)     ((u64)(n) << 30)

#define PAGE_SHIFT 12u
#define PAGE_SIZE  KIB(4)
#define PAGE_MASK  (PAGE_SIZE - 1)

#define BIT(n)     (1ull << (n))
/* Bits hi..lo set, hi and lo included: the notation of the manuals. */
#define BITS(hi, lo)  ((~0ull >> (63 - (hi))) & (~0ull << (lo)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Alignment is a power of two. */
static inline u64 align_down(u64 value, u64 alignment)
{
    return value & ~(alignment - 1);
}

/* Wraps to a small value if the result does not fit: callers check the input range first. */
static inline u64 align_up(u64 value, u64 alignment)
{
    return align_down(value + alignment - 1, alignment);
}

static inline u64 min_u64(u64 a, u64 b)
{
    return a < b ? a : b;
}

static inline u64 max_u64(u64 a, u64 b)
{
    return a > b ? a : b;
}

#endif
