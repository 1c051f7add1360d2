/* SPDX-License-Identifier: MIT */
/*
 * vmx/vmcs.h with VMREAD and VMWRITE of the simulated CPU (tests/unit/simulated-vmx.h) in place of the real
 * ones, for objects that a host test links: this directory comes first among those that are searched.
 */
#ifndef UMBRA_TESTS_UNIT_DOUBLE_VMCS_H
#define UMBRA_TESTS_UNIT_DOUBLE_VMCS_H

#define vmread_safe       real_vmread_safe
#define vmread            real_vmread
#define vmread_unchecked  real_vmread_unchecked
#define vmwrite           real_vmwrite
#define vmwrite_unchecked real_vmwrite_unchecked
#define vmwrite_from      real_vmwrite_from
#include_next "vmx/vmcs.h"
#undef vmread_safe
#undef vmread
#undef vmread_unchecked
#undef vmwrite
#undef vmwrite_unchecked
#undef vmwrite_from

u64 simulated_vmread(u64 field);
void simulated_vmwrite(u64 field, u64 value);

static inline u64 vmread(enum vmcs_field field)
{
    return simulated_vmread(field);
}

static inline u64 vmread_unchecked(enum vmcs_field field)
{
    return simulated_vmread(field);
}

static inline void vmwrite(enum vmcs_field field, u64 value)
{
    simulated_vmwrite(field, value);
}

static inline void vmwrite_unchecked(enum vmcs_field field, u64 value)
{
    simulated_vmwrite(field, value);
}

static inline void vmwrite_from(enum vmcs_field field, const void *from)
{
    u64 value;

    __builtin_memcpy(&value, from, sizeof(value));
    simulated_vmwrite(field, value);
}

#endif
