/* SPDX-License-Identifier: MIT */
/*
 * What the tests of VM-entry checks start from: vmcs12s that pass every check, one for each mode that the
 * checks tell apart, a CPU that offers everything, and a little memory of L1.
 */
#ifndef UMBRA_TESTS_UNIT_VMX_CHECK_CASE_H
#define UMBRA_TESTS_UNIT_VMX_CHECK_CASE_H

#include "nested/vmx-check.h"

enum base {
    BASE_64,         /* 64-bit mode, every control that can be on is on */
    BASE_32,         /* 32-bit protected mode without paging's extensions, secondary controls off */
    BASE_PAE,        /* 32-bit protected mode with PAE paging, EPT on */
    BASE_PAE_NO_EPT, /* the same, EPT off */
    BASE_REAL,       /* unrestricted, CR0.PE = 0 */
    BASE_VIRTUAL_8086,
    BASE_32_HOST, /* BASE_32 from a host that is not in IA-32e mode */
    BASES,
};

struct check_case {
    struct vmcs12 vmcs12;
    struct nested_vmx_capability capability;
    struct paging_memory memory;
    struct vmx_check_input input;
};

/* Where L1's memory of the tests is; all else is not RAM. */
enum {
    CASE_VIRTUAL_APIC = 0x1000,
    CASE_LINK = 0x2000,
    CASE_PDPTES = 0x3000,
    CASE_CURRENT = 0x4000,
    CASE_MEMORY_BYTES = 0x5000,
    CASE_MAXPHYADDR = 40,
};
extern u8 case_memory[CASE_MEMORY_BYTES];

/* Also makes the memory anew. The case keeps pointers into itself. */
void check_case_init(struct check_case *check_case, enum base base);

/* All parts in the order of an entry; the first failure. */
enum vmx_check check_case_run(const struct check_case *check_case);

#endif
