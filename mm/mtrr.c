/* SPDX-License-Identifier: MIT */
/*
 * A software copy of the MTRRs: its MSRs with the checks that the CPU makes, and the memory type that it
 * gives to a range. It touches no MSR of the machine and takes no state of the machine for granted.
 */
#include "mm/mtrr.h"

#include "arch/msr.h"

/* Layouts: SDM vol. 3A 12.11.1 and 12.11.2. */
#define DEF_TYPE_RESERVED (BITS(63, 12) | BITS(9, 8))

#define PHYSBASE_RESERVED BITS(11, 8)
#define PHYSMASK_VALID    BIT(11)
#define PHYSMASK_RESERVED BITS(10, 0)

/* Each fixed-range register describes eight consecutive sub-ranges, lowest in the low byte: SDM vol. 3A table
 * 12-9. */
static const struct fixed_range {
    u32 msr;
    u32 start;
    u32 granule; /* bytes per sub-range */
} fixed_ranges[MTRR_FIXED_COUNT] = {
    {MSR_IA32_MTRR_FIX64K_00000, 0x00000, 0x10000}, {MSR_IA32_MTRR_FIX16K_80000, 0x80000, 0x4000},
    {MSR_IA32_MTRR_FIX16K_A0000, 0xa0000, 0x4000},  {MSR_IA32_MTRR_FIX4K_C0000, 0xc0000, 0x1000},
    {MSR_IA32_MTRR_FIX4K_C8000, 0xc8000, 0x1000},   {MSR_IA32_MTRR_FIX4K_D0000, 0xd0000, 0x1000},
    {MSR_IA32_MTRR_FIX4K_D8000, 0xd8000, 0x1000},   {MSR_IA32_MTRR_FIX4K_E0000, 0xe0000, 0x1000},
    {MSR_IA32_MTRR_FIX4K_E8000, 0xe8000, 0x1000},   {MSR_IA32_MTRR_FIX4K_F0000, 0xf0000, 0x1000},
    {MSR_IA32_MTRR_FIX4K_F8000, 0xf8000, 0x1000},
};

/*
 * How often mtrr_type looks further for the same type: more than the fixed ranges and 32 variable ranges with
 * contiguous masks can change it. Only masks with holes make more changes; their pieces are reported one by
 * one.
 */
enum { MAX_PIECES = 160 };

static bool type_valid(const struct mtrr_state *state, u64 type)
{
    switch (type) {
    case MT_UC:
    case MT_WT:
    case MT_WP:
    case MT_WB:
        return true;
    case MT_WC:
        return (state->cap & IA32_MTRRCAP_WC) != 0;
    default:
        return false;
    }
}

static u64 address_reserved(const struct mtrr_state *state)
{
    return state->maxphyaddr < 64 ? BITS(63, state->maxphyaddr) : 0;
}

static bool is_variable(const struct mtrr_state *state, u32 msr)
{
    return msr >= MSR_IA32_MTRR_PHYSBASE0 && msr - MSR_IA32_MTRR_PHYSBASE0 < 2 * state->variable_count;
}

u32 mtrr_fixed_msr(unsigned index)
{
    return fixed_ranges[index].msr;
}

/* The index of a fixed-range register; MTRR_FIXED_COUNT if `msr` is none or the CPU has none. */
static unsigned fixed_index(const struct mtrr_state *state, u32 msr)
{
    unsigned i = 0;
    if ((state->cap & IA32_MTRRCAP_FIX) == 0)
        return MTRR_FIXED_COUNT;
    while (i < MTRR_FIXED_COUNT && fixed_ranges[i].msr != msr)
        i++;
    return i;
}

bool mtrr_owns(const struct mtrr_state *state, u32 msr)
{
    return msr == MSR_IA32_MTRRCAP || msr == MSR_IA32_MTRR_DEF_TYPE || is_variable(state, msr) ||
           fixed_index(state, msr) < MTRR_FIXED_COUNT;
}

u64 mtrr_read(const struct mtrr_state *state, u32 msr)
{
    unsigned fixed = fixed_index(state, msr);
    if (fixed < MTRR_FIXED_COUNT)
        return state->fixed[fixed];
    if (is_variable(state, msr)) {
        unsigned n = (msr - MSR_IA32_MTRR_PHYSBASE0) / 2;
        return (msr & 1) != 0 ? state->variable[n].mask : state->variable[n].base;
    }
    return msr == MSR_IA32_MTRRCAP ? state->cap : msr == MSR_IA32_MTRR_DEF_TYPE ? state->def_type : 0;
}

static bool write_fixed(struct mtrr_state *state, unsigned index, u64 value)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!type_valid(state, value >> (8 * i) & 0xff))
            return false;
    }
    state->fixed[index] = value;
    return true;
}

static bool write_variable(struct mtrr_state *state, u32 msr, u64 value)
{
    unsigned n = (msr - MSR_IA32_MTRR_PHYSBASE0) / 2;
    if ((value & address_reserved(state)) != 0)
        return false;
    if ((msr & 1) != 0) {
        if ((value & PHYSMASK_RESERVED) != 0)
            return false;
        state->variable[n].mask = value;
        return true;
    }
    if ((value & PHYSBASE_RESERVED) != 0 || !type_valid(state, value & 0xff))
        return false;
    state->variable[n].base = value;
    return true;
}

bool mtrr_write(struct mtrr_state *state, u32 msr, u64 value)
{
    unsigned fixed = fixed_index(state, msr);
    if (fixed < MTRR_FIXED_COUNT)
        return write_fixed(state, fixed, value);
    if (is_variable(state, msr))
        return write_variable(state, msr, value);
    if (msr != MSR_IA32_MTRR_DEF_TYPE || (value & DEF_TYPE_RESERVED) != 0 || !type_valid(state, value & 0xff))
        return false;
    state->def_type = value;
    return true;
}

/*
 * The lowest address above `address` at which a variable range begins or ceases to match; ~0 if it stays as
 * it is. `mask` and `base` are the address bits (from bit 12 up) of the range; the mask need not be
 * contiguous.
 */
static u64 next_change(u64 address, u64 mask, u64 base)
{
    u64 differing = (address ^ base) & mask;
    if (differing ==
        0) { /* The match ends where the lowest bit that the mask compares flips, if there is one. */
        u64 last = address | ((mask & -mask) - 1);
        return last == ~0ull ? last : last + 1;
    }

    /* The lowest address above that agrees with base in the mask's bits; `top` is the highest that differs
     * now. */
    u64 top = BIT(63 - (unsigned)__builtin_clzll(differing));
    u64 below = top | (top - 1);
    if ((base & top) != 0) /* base is higher there: keep what is above, and all below is lowest */
        return (address & ~below) | (base & mask & below);
    /* base is lower there: count the bits above that are not compared up by one; ones in the others carry
     * over them */
    return (((address | mask | below) + 1) & ~mask) | (base & mask);
}

/* SDM vol. 3A 12.11.4.1 on overlapping variable ranges; the mixes that it leaves undefined are UC here. */
static enum memory_type combine(enum memory_type a, enum memory_type b)
{
    if (a == b)
        return a;
    if ((a == MT_WT && b == MT_WB) || (a == MT_WB && b == MT_WT))
        return MT_WT;
    return MT_UC;
}

static enum memory_type variable_type(const struct mtrr_state *state, u64 address, u64 *piece_end)
{
    enum memory_type type = (enum memory_type)(state->def_type & 0xff);
    bool matched = false;

    for (unsigned i = 0; i < state->variable_count; i++) {
        u64 mask = state->variable[i].mask & ~PAGE_MASK;
        u64 base = state->variable[i].base & ~PAGE_MASK;
        enum memory_type own = (enum memory_type)(state->variable[i].base & 0xff);

        if ((state->variable[i].mask & PHYSMASK_VALID) == 0)
            continue;
        *piece_end = min_u64(*piece_end, next_change(address, mask, base));
        if (((address ^ base) & mask) == 0) {
            type = matched ? combine(type, own) : own;
            matched = true;
        }
    }
    return type;
}

static enum memory_type fixed_type(const struct mtrr_state *state, u64 address, u64 *piece_end)
{
    unsigned i = MTRR_FIXED_COUNT - 1;
    while (fixed_ranges[i].start > address)
        i--;
    u64 n = (address - fixed_ranges[i].start) / fixed_ranges[i].granule;
    *piece_end = min_u64(*piece_end, fixed_ranges[i].start + (n + 1) * fixed_ranges[i].granule);
    return (enum memory_type)(state->fixed[i] >> (8 * n) & 0xff);
}

/* The type at `address`; *piece_end is lowered to where another register, or another part of one, decides. */
static enum memory_type piece_type(const struct mtrr_state *state, u64 address, u64 *piece_end)
{
    if ((state->def_type & IA32_MTRR_DEF_TYPE_E) == 0)
        return MT_UC;
    if ((state->def_type & IA32_MTRR_DEF_TYPE_FE) != 0 && (state->cap & IA32_MTRRCAP_FIX) != 0 &&
        address < MIB(1))
        return fixed_type(state, address, piece_end);
    return variable_type(state, address, piece_end);
}

enum memory_type mtrr_type(const struct mtrr_state *state, u64 start, u64 end, u64 *uniform_end)
{
    u64 until = end;
    enum memory_type type = piece_type(state, start, &until);

    for (unsigned i = 0; i < MAX_PIECES && until < end; i++) {
        u64 piece_end = end;
        if (piece_type(state, until, &piece_end) != type)
            break;
        until = piece_end;
    }
    *uniform_end = until;
    return type;
}
