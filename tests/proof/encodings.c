/* SPDX-License-Identifier: MIT */
/*
 * Proof: whatever a fault holds and whatever the role is, the three encodings set no bit that is reserved,
 * and none that another one rules out: #PF error code (SDM vol. 3A 4.7), EPT exit qualification (table 28-7)
 * and EXITINFO1 (APM vol. 2 15.25.6).
 */
#include <assert.h>

#include "mm/fault.h"

u64 nondet_u64(void);

static struct fault any_fault(void)
{
    struct fault fault;

    __CPROVER_assume(fault.reason != FAULT_NONE && fault.reason <= FAULT_PERMISSION);
    return fault;
}

static void check_error_codes(struct paging_role role, const struct fault *fault)
{
    u64 code = fault_pf_error_code(role, fault), info = fault_npf_exit_info_1(role, fault);
    bool present = fault->reason != FAULT_NOT_PRESENT, reserved = fault->reason == FAULT_RESERVED;

    /* P, W, U, RSVD, I/D, PK, SS; EXITINFO1 has no PK, and bit 32 or 33. */
    assert((code & ~0x7full) == 0 && (info & ~0x30000005full) == 0);
    assert(((code & 0x01) != 0) == present && ((info & 0x01) != 0) == present);
    assert(((code & 0x08) != 0) == reserved && ((info & 0x08) != 0) == reserved);
    assert((code & 0x20) == 0 || fault->reason == FAULT_PERMISSION);
    /* A fetch is no write and no shadow-stack access. */
    assert((code & 0x10) == 0 || (code & 0x42) == 0);
    assert((info & 0x10) == 0 || (info & 0x42) == 0);
    assert(info >> 32 == 1 || info >> 32 == 2);
}

static void check_qualification(struct paging_role role, const struct fault *fault, bool advanced)
{
    u64 bits = fault_ept_qualification(role, fault, advanced);

    assert((bits & ~0x1ffffull) == 0);
    if (fault->reason == FAULT_RESERVED) {
        assert(bits == 0);
        return;
    }
    /* A fetch alone, or a read, a write, both. */
    assert((bits & 7) == 4 || (bits & 7) == 1 || (bits & 7) == 2 || (bits & 7) == 3);
    assert((bits & 0x4078) == 0 || fault->reason == FAULT_PERMISSION);
    assert((bits & 0x40) == 0 || role_has(role, ROLE_MBEC));
    assert((bits & 0x180) != 0x100);
    assert((bits & 0xe00) == 0 || (advanced && (bits & 0x180) == 0x180));
    assert((bits & 0x2000) == 0 || (bits & 4) == 0);
}

int main(void)
{
    struct paging_role role = {(u32)nondet_u64()};
    struct fault fault = any_fault();

    check_error_codes(role, &fault);
    check_qualification(role, &fault, (nondet_u64() & 1) != 0);
    return 0;
}
