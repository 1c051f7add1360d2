/* SPDX-License-Identifier: MIT */
/* See tests/unit/simulated-vmx.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/simulated-vmx.h"
#include "vmx/instructions.h"
#include "vmx/vmcs.h"

enum { SIMULATED_VMCSS = 16, FIELDS = 0x8000 };
#define NONE (~0ull)

static struct {
    u64 address;
    u64 field[FIELDS];
} vmcss[SIMULATED_VMCSS];
static unsigned count;
static u64 current, accesses;

void simulated_vmx_reset(void)
{
    memset(vmcss, 0, sizeof(vmcss));
    count = 0;
    accesses = 0;
    current = NONE;
}

static u64 *field_of(u64 vmcs, u64 field)
{
    assert_true(field < FIELDS);
    for (unsigned i = 0; i < count; i++) {
        if (vmcss[i].address == vmcs)
            return &vmcss[i].field[field];
    }
    assert_true(count < SIMULATED_VMCSS);
    vmcss[count].address = vmcs;
    return &vmcss[count++].field[field];
}

/* SDM vol. 3C table 25-21 */
static u64 width_mask(u64 field)
{
    static const u64 masks[] = {BITS(15, 0), ~0ull, BITS(31, 0), ~0ull};

    return masks[field >> 13 & 3];
}

u64 simulated_vmx_current(void)
{
    return current;
}

u64 simulated_vmx_get(u64 vmcs, u64 field)
{
    return *field_of(vmcs, field);
}

void simulated_vmx_set(u64 vmcs, u64 field, u64 value)
{
    *field_of(vmcs, field) = value & width_mask(field);
}

u64 simulated_vmx_accesses(void)
{
    return accesses;
}

/* --- what the objects under test execute --- */

u64 simulated_vmread(u64 field)
{
    assert_int_not_equal(current, NONE);
    accesses++;
    return simulated_vmx_get(current, field);
}

void simulated_vmwrite(u64 field, u64 value)
{
    assert_int_not_equal(current, NONE);
    accesses++;
    simulated_vmx_set(current, field, value);
}

bool vmptrld(hpa_t vmcs)
{
    current = vmcs.raw;
    return true;
}

bool vmclear(hpa_t vmcs)
{
    if (current == vmcs.raw)
        current = NONE;
    return true;
}
