/* SPDX-License-Identifier: MIT */
/* arch/cpu.h with a CR0 and a CR8 that a host may use. */
#ifndef UMBRA_TESTS_UNIT_DOUBLE_CPU_H
#define UMBRA_TESTS_UNIT_DOUBLE_CPU_H

#define read_cr0  real_read_cr0
#define read_cr8  real_read_cr8
#define write_cr8 real_write_cr8
#include_next "arch/cpu.h"
#undef read_cr0
#undef read_cr8
#undef write_cr8
#include "arch/x86.h"

static inline u64 read_cr0(void)
{
    return CR0_PE | CR0_NE | CR0_PG;
}

static inline u64 read_cr8(void)
{
    return 0;
}

static inline void write_cr8(u64 value)
{
    (void)value;
}

#endif
