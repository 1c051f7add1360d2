/* SPDX-License-Identifier: MIT */
/*
 * The three encodings of a fault; see mm/fault.h.
 */
#include "mm/fault.h"

static u64 flag(bool condition, u64 bit)
{
    return condition ? bit : 0;
}

/* Bits that a #PF error code and EXITINFO1 of a nested page fault share, U/S excepted. */
static u64 error_code(struct paging_role role, const struct fault *fault)
{
    bool fetch = (fault->access & ACCESS_FETCH) != 0;

    return flag(fault->reason != FAULT_NOT_PRESENT, PF_P) |
           flag(!fetch && (fault->access & ACCESS_WRITE) != 0, PF_W) |
           flag(fault->reason == FAULT_RESERVED, PF_RSVD) |
           flag(fetch && role_has(role, ROLE_NXE | ROLE_SMEP), PF_FETCH) |
           flag(!fetch && (fault->access & ACCESS_SHADOW_STACK) != 0, PF_SS);
}

u32 fault_pf_error_code(struct paging_role role, const struct fault *fault)
{
    return (u32)(error_code(role, fault) | flag((fault->access & ACCESS_USER) != 0, PF_U) |
                 flag(fault->reason == FAULT_PERMISSION && fault->key, PF_PK));
}

u64 fault_npf_exit_info_1(struct paging_role role, const struct fault *fault)
{
    bool final = (fault->supplied & FAULT_FINAL) != 0;
    bool user = !final || !role_has(role, ROLE_GMET) || (fault->access & ACCESS_USER) != 0;

    return error_code(role, fault) | flag(user, PF_U) | (final ? NPF_FINAL : NPF_TABLE_WALK);
}

unsigned fault_npf_access(u64 exit_info_1, unsigned cpl, bool gmet)
{
    if ((exit_info_1 & NPF_TABLE_WALK) != 0)
        return ACCESS_WRITE | ACCESS_USER;

    unsigned access = cpl == 3 || !gmet ? ACCESS_USER : 0;
    if ((exit_info_1 & PF_FETCH) != 0)
        return access | ACCESS_FETCH;
    access |= (exit_info_1 & PF_W) != 0 ? ACCESS_WRITE : 0;
    return access | ((exit_info_1 & PF_SS) != 0 ? ACCESS_SHADOW_STACK : 0);
}

/*
 * Bits 0 to 2. A write to a guest entry is the walk's own: with EPT's A/D flags any use of the entry (SDM
 * vol. 3C 29.3.3.2), without them the setting of a flag, for which kvm-unit-tests, right on
 * Intel's CPUs, expects the read, too; the manual leaves it open.
 */
static u64 ept_access_bits(const struct fault *fault)
{
    bool of_table = (fault->supplied & (FAULT_LINEAR_VALID | FAULT_FINAL)) == FAULT_LINEAR_VALID;

    if ((fault->access & ACCESS_FETCH) != 0)
        return EPT_VIOLATION_FETCH;
    if ((fault->access & ACCESS_WRITE) == 0)
        return EPT_VIOLATION_READ;
    return EPT_VIOLATION_WRITE | flag(of_table, EPT_VIOLATION_READ);
}

static u64 ept_rights_bits(struct paging_role role, unsigned rights)
{
    return flag((rights & RIGHT_R) != 0, EPT_VIOLATION_R) | flag((rights & RIGHT_W) != 0, EPT_VIOLATION_W) |
           flag((rights & RIGHT_X) != 0, EPT_VIOLATION_X) |
           flag((rights & RIGHT_XU) != 0 && role_has(role, ROLE_MBEC), EPT_VIOLATION_XU);
}

static u64 ept_supplied_bits(const struct fault *fault, bool advanced)
{
    u64 bits = fault->supplied & (FAULT_LINEAR_VALID | FAULT_FINAL | FAULT_NMI_UNBLOCKED |
                                  FAULT_GUEST_VERIFY | FAULT_ASYNCHRONOUS);

    /* Bit 8 is defined only with bit 7, and bits 9 to 11 only with both. */
    if ((bits & FAULT_LINEAR_VALID) == 0)
        bits &= ~(u64)FAULT_FINAL;
    if ((bits & FAULT_FINAL) == 0 || !advanced)
        return bits;
    return bits | (fault->supplied & (FAULT_LINEAR_USER | FAULT_LINEAR_WRITE | FAULT_LINEAR_XD));
}

u64 fault_ept_qualification(struct paging_role role, const struct fault *fault, bool advanced)
{
    bool shadow_stack = (fault->access & (ACCESS_SHADOW_STACK | ACCESS_FETCH)) == ACCESS_SHADOW_STACK;

    if (fault->reason == FAULT_RESERVED)
        return 0;
    u64 bits =
        ept_access_bits(fault) | ept_supplied_bits(fault, advanced) | flag(shadow_stack, EPT_VIOLATION_SS);
    if (fault->reason == FAULT_NOT_PRESENT)
        return bits;
    return bits | ept_rights_bits(role, fault->rights) | flag(fault->ss_entry, EPT_VIOLATION_SUPERVISOR_SS);
}
