/* SPDX-License-Identifier: MIT */
/*
 * Why a translation failed, and how the three architectures of faults say it: the #PF error code, the exit
 * qualification of an EPT violation, and EXITINFO1 of VMEXIT_NPF. Derived from the walk alone: no answer of
 * hardware is passed on. Pure.
 */
#ifndef UMBRA_MM_FAULT_H
#define UMBRA_MM_FAULT_H

#include "arch/types.h"
#include "mm/npf-info.h"
#include "mm/paging-role.h"
#include "mm/rights.h"

enum fault_reason {
    FAULT_NONE,
    FAULT_NOT_PRESENT, /* also: EPT or NPT, and the input address is wider than the tables translate */
    FAULT_RESERVED,    /* a reserved bit; in EPT any misconfiguration: an exit reason of its own (49) */
    FAULT_PERMISSION,  /* rights or protection key */
};

/*
 * What only the first stage knows of an access that faults in the second, at the bit positions of the exit
 * qualification (SDM vol. 3C table 28-7). Nested walks fill it in; whoever reflects a fault of hardware takes
 * it from there. FAULT_LINEAR_VALID without FAULT_FINAL is an access to a guest paging structure; neither is
 * an access without linear address (PDPTE load, trace output).
 */
#define FAULT_LINEAR_VALID  BIT(7)
#define FAULT_FINAL         BIT(8)
#define FAULT_LINEAR_USER   BIT(9)  /* U/S is 1 in all guest entries; paging off: 1 */
#define FAULT_LINEAR_WRITE  BIT(10) /* R/W is 1 in all guest entries; paging off: 1 */
#define FAULT_LINEAR_XD     BIT(11) /* XD (with NXE) in some guest entry; paging off: 0 */
#define FAULT_NMI_UNBLOCKED BIT(12)
#define FAULT_GUEST_VERIFY  BIT(15)
#define FAULT_ASYNCHRONOUS  BIT(16)

struct fault {
    u64 address;   /* that was translated: linear, or guest-physical for the second stage */
    u32 supplied;  /* FAULT_LINEAR_VALID and following; second stage only */
    u8 reason;     /* enum fault_reason */
    u8 level;      /* of the entry to blame: not present or reserved; permission: of the leaf */
    u8 access;     /* enum access */
    u8 rights;     /* enum right, accumulated down to the leaf; 0 unless reason is FAULT_PERMISSION */
    bool key;      /* permission: the protection key forbids the access (rights may, too) */
    bool ss_entry; /* EPT with SSS control: bit 60 of the leaf is set; only with FAULT_PERMISSION */
};

/* #PF error code, SDM vol. 3A 4.7; APM vol. 2 8.4.2. */
#define PF_P     BIT(0)
#define PF_W     BIT(1)
#define PF_U     BIT(2)
#define PF_RSVD  BIT(3)
#define PF_FETCH BIT(4)
#define PF_PK    BIT(5)
#define PF_SS    BIT(6)

/*
 * The error code of a guest-format fault. W, U and SS describe the access, whatever was wrong; FETCH is set
 * for a fetch if the role has NXE or SMEP; P unless not present; PK with FAULT_PERMISSION only. An access
 * with ACCESS_FETCH is never W or SS.
 */
u32 fault_pf_error_code(struct paging_role role, const struct fault *fault);

/*
 * EXITINFO1 (mm/npf-info.h) of a fault in NPT; `role` is the NPT role, so NXE and SMEP in it are the host's
 * (L1's). U: 1 without GMET and for guest table walks, else whether CPL is 3. SS is set for shadow-stack
 * accesses. Bit 32 is set if `supplied` has FAULT_FINAL, else bit 33.
 */
u64 fault_npf_exit_info_1(struct paging_role role, const struct fault *fault);

/*
 * The other direction: what access was it that hardware reported? For a fetch under GMET, U/S comes from the
 * VMCB's CPL, since the CPU may set bit 2 wrongly (erratum 1218); for all else from what must be so. A guest
 * table walk is a user's write. Returns enum access.
 */
unsigned fault_npf_access(u64 exit_info_1, unsigned cpl, bool gmet);

/* Exit qualification of an EPT violation, SDM vol. 3C table 28-7. */
#define EPT_VIOLATION_READ          BIT(0)
#define EPT_VIOLATION_WRITE         BIT(1)
#define EPT_VIOLATION_FETCH         BIT(2)
#define EPT_VIOLATION_R             BIT(3)
#define EPT_VIOLATION_W             BIT(4)
#define EPT_VIOLATION_X             BIT(5)
#define EPT_VIOLATION_XU            BIT(6) /* 0 without MBEC */
#define EPT_VIOLATION_SS            BIT(13)
#define EPT_VIOLATION_SUPERVISOR_SS BIT(14)

/*
 * The qualification of a fault in EPT whose reason is not FAULT_RESERVED (a misconfiguration has none, it is
 * 0). Bits 0..2 describe the access; one to a guest paging structure that counts as a write sets 0 and 1.
 * Bits 3..6 are the accumulated rights, all 0 if an entry was not present. Bits 7..12, 15 and 16 are
 * fault->supplied; 9..11 only together with 7 and 8, and only if `advanced` (IA32_VMX_EPT_VPID_CAP bit 22, as
 * the guest sees it). Bit 13: shadow-stack access; 14: ss_entry.
 */
u64 fault_ept_qualification(struct paging_role role, const struct fault *fault, bool advanced);

#endif
