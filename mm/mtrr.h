/* SPDX-License-Identifier: MIT */
/*
 * The guest's MTRRs as it sees them (a software copy) and the memory type that they give to a physical range:
 * on Intel that type goes into the EPT, because MTRRs do not apply to accesses through EPT (29.3.7 of SDM
 * vol. 3C). Pure.
 */
#ifndef UMBRA_MM_MTRR_H
#define UMBRA_MM_MTRR_H

#include "arch/types.h"

/* Memory types, SDM vol. 3A 12.3 table 12-2. The numbers serve MTRRs, PAT and EPT. */
enum memory_type {
    MT_UC = 0,
    MT_WC = 1,
    MT_WT = 4,
    MT_WP = 5,
    MT_WB = 6,
};

enum { MTRR_FIXED_COUNT = 11, MTRR_VARIABLE_MAX = 32 };

struct mtrr_state {
    u64 cap;                     /* IA32_MTRRCAP */
    u64 def_type;                /* IA32_MTRR_DEF_TYPE */
    u64 fixed[MTRR_FIXED_COUNT]; /* MSRs 250H, 258H, 259H, 268H..26FH; used if IA32_MTRRCAP.FIX is set */
    struct {
        u64 base, mask;
    } variable[MTRR_VARIABLE_MAX];
    unsigned variable_count; /* IA32_MTRRCAP.VCNT, at most MTRR_VARIABLE_MAX */
    unsigned maxphyaddr;     /* bits */
};

/* The MSR that `fixed[index]` stands for. */
u32 mtrr_fixed_msr(unsigned index);

/* Is `msr` an MTRR that this state holds (IA32_MTRRCAP included)? */
bool mtrr_owns(const struct mtrr_state *state, u32 msr);
/* The value of an owned MSR; 0 for any other. */
u64 mtrr_read(const struct mtrr_state *state, u32 msr);
/* Writes an owned MSR; false where the CPU raises #GP: reserved bits, undefined types, IA32_MTRRCAP. */
bool mtrr_write(struct mtrr_state *state, u32 msr, u64 value);

/*
 * The type at `start` and, in *uniform_end, how far (at most to `end`) it is surely the same; start < end,
 * both physical. UC wins; WT wins over WB; other mixes are undefined and taken as UC (SDM vol. 3A 12.11.4.1).
 */
enum memory_type mtrr_type(const struct mtrr_state *state, u64 start, u64 end, u64 *uniform_end);

#endif
