/* SPDX-License-Identifier: MIT */
/*
 * What the files of VM-entry checks share: the controls that are in force, and rules that hold for guest and
 * host alike. Pure.
 */
#ifndef UMBRA_NESTED_VMX_CHECK_PARTS_H
#define UMBRA_NESTED_VMX_CHECK_PARTS_H

#include "mm/linear.h"
#include "nested/vmx-check.h"

/* Ends the calling function with the name of the check that failed. */
#define REQUIRE(condition, name)                                                                             \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return VMX_CHECK_##name;                                                                         \
    } while (0)

/* Ends it if another function found something. */
#define REQUIRE_OK(check)                                                                                    \
    do {                                                                                                     \
        enum vmx_check failed_ = (check);                                                                    \
        if (failed_ != VMX_CHECK_OK)                                                                         \
            return failed_;                                                                                  \
    } while (0)

/* --- controls in force --- */

static inline bool pin_on(const struct vmx_check_input *input, u64 control)
{
    return (input->vmcs12->pin_controls & control) != 0;
}

static inline bool primary_on(const struct vmx_check_input *input, u64 control)
{
    return (input->vmcs12->primary_controls & control) != 0;
}

/* All are 0 while they are not activated (SDM vol. 3C 25.6.2). */
static inline bool secondary_on(const struct vmx_check_input *input, u64 control)
{
    return primary_on(input, PRIMARY_SECONDARY_CONTROLS) &&
           (input->vmcs12->secondary_controls & control) != 0;
}

static inline bool exit_on(const struct vmx_check_input *input, u64 control)
{
    return (input->vmcs12->exit_controls & control) != 0;
}

static inline bool entry_on(const struct vmx_check_input *input, u64 control)
{
    return (input->vmcs12->entry_controls & control) != 0;
}

/* --- the injected event --- */

#define EVENT_TYPE_RESERVED (1ull << 8)

static inline bool injects(const struct vmx_check_input *input)
{
    return (input->vmcs12->entry_interruption & INTERRUPTION_VALID) != 0;
}

static inline bool injects_type(const struct vmx_check_input *input, u64 type)
{
    return injects(input) && (input->vmcs12->entry_interruption & INTERRUPTION_TYPE) == type;
}

static inline unsigned injected_vector(const struct vmx_check_input *input)
{
    return (unsigned)(input->vmcs12->entry_interruption & INTERRUPTION_VECTOR);
}

/* --- values --- */

static inline bool within_width(const struct vmx_check_input *input, u64 address)
{
    return address >> input->capability->maxphyaddr == 0;
}

/* `alignment` is a power of two. */
static inline bool is_address(const struct vmx_check_input *input, u64 address, u64 alignment)
{
    return (address & (alignment - 1)) == 0 && within_width(input, address);
}

/* By the width that the CPU supports, whatever CR4.LA57 says. */
static inline bool is_canonical(const struct vmx_check_input *input, u64 address)
{
    return linear_canonical(address, input->capability->la57);
}

/* CR0 or CR4 against its pair of fixed-bit MSRs (SDM vol. 3D A.7, A.8). */
static inline bool has_fixed_bits(const struct vmx_check_input *input, u64 value, u32 fixed0_msr, u64 exempt)
{
    u64 fixed0 = nested_vmx_msr(input->capability, fixed0_msr) & ~exempt;
    u64 fixed1 = nested_vmx_msr(input->capability, fixed0_msr + 1);

    return (fixed0 & ~value) == 0 && (value & ~fixed1) == 0;
}

/* SDM vol. 3A table 12-10: types 2 and 3 are reserved. */
static inline bool is_pat(u64 pat)
{
    const u64 bytes = 0x0101010101010101ull;
    u64 type_2_or_3 = (pat >> 1 & bytes) & ~(pat >> 2 & bytes);

    return (pat & 0xf8 * bytes) == 0 && type_2_or_3 == 0;
}

#define S_CET_SUPPRESS BIT(10)
#define S_CET_TRACKER  BIT(11)

static inline bool is_s_cet(const struct vmx_check_input *input, u64 value)
{
    const u64 both = S_CET_SUPPRESS | S_CET_TRACKER;

    return (value & ~input->capability->s_cet_valid) == 0 && (value & both) != both &&
           is_canonical(input, value & ~PAGE_MASK);
}

#endif
