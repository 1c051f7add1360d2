/* SPDX-License-Identifier: MIT */
/*
 * The paging role: every mode bit that shapes what a paging-structure entry means, packed into one word.
 * Two roles are the same if and only if the words are equal: the constructors leave out what does not matter
 * to the format. Pure. The role is part of a shadow page's key.
 */
#ifndef UMBRA_MM_PAGING_ROLE_H
#define UMBRA_MM_PAGING_ROLE_H

#include "arch/types.h"

enum paging_format_id {
    PAGING_NONE, /* CR0.PG = 0: linear address = physical address, every access is allowed */
    PAGING_32BIT,
    PAGING_PAE,
    PAGING_4LEVEL,
    PAGING_5LEVEL,
    PAGING_EPT4,
    PAGING_EPT5,
    PAGING_FORMATS,
};

#define ROLE_FORMAT           BITS(3, 0) /* enum paging_format_id */
#define ROLE_MAXPHYADDR_SHIFT 4u
#define ROLE_MAXPHYADDR       BITS(9, 4) /* 32 to 52; 0 for PAGING_NONE */

/* Guest formats; for NPT those of the host (L1) that the comment names. */
#define ROLE_WP        BIT(10) /* CR0.WP; NPT: always set */
#define ROLE_NXE       BIT(11) /* IA32_EFER.NXE; PAE and above, NPT too */
#define ROLE_SMEP      BIT(12) /* CR4.SMEP; NPT: denies nothing, only lets EXITINFO1 report I/D */
#define ROLE_SMAP      BIT(13) /* CR4.SMAP; never NPT */
#define ROLE_PKU       BIT(14) /* CR4.PKE; 4- and 5-level only, never NPT */
#define ROLE_PKS       BIT(15) /* CR4.PKS; as PKU */
#define ROLE_CET       BIT(16) /* CR4.CET; never NPT. Without it every shadow-stack access faults */
#define ROLE_PSE       BIT(17) /* CR4.PSE; 32-bit format only, NPT too */
#define ROLE_PAGE_1G   BIT(18) /* 1-GByte pages exist; 4- and 5-level, EPT */
#define ROLE_BIT8_RSVD BIT(19) /* AMD: bit 8 of a PML4E or PML5E must be 0; 4-, 5-level */
/* Nested paging of AMD. */
#define ROLE_NPT  BIT(20)
#define ROLE_GMET BIT(21)
/* EPT. */
#define ROLE_MBEC         BIT(22)
#define ROLE_EXECUTE_ONLY BIT(23) /* IA32_VMX_EPT_VPID_CAP bit 0 */
#define ROLE_EPT_AD       BIT(24) /* EPTP bit 6 */
#define ROLE_EPT_SSS      BIT(25) /* EPTP bit 7: supervisor shadow-stack control */
#define ROLE_SPP          BIT(26) /* sub-page write permissions: bit 61 of a 4-KByte leaf counts */

struct paging_role {
    u32 bits;
};

static inline enum paging_format_id role_format(struct paging_role role)
{
    return (enum paging_format_id)(role.bits & ROLE_FORMAT);
}

static inline unsigned role_maxphyaddr(struct paging_role role)
{
    return (unsigned)((role.bits & ROLE_MAXPHYADDR) >> ROLE_MAXPHYADDR_SHIFT);
}

static inline bool role_has(struct paging_role role, u64 bit)
{
    return (role.bits & bit) != 0;
}

static inline bool role_is_ept(struct paging_role role)
{
    return role_format(role) >= PAGING_EPT4;
}

static inline bool role_equal(struct paging_role a, struct paging_role b)
{
    return a.bits == b.bits;
}

/* What the CPU that the tables are for can do, as that (possibly virtual) CPU enumerates it. */
struct paging_cpu {
    unsigned maxphyaddr; /* bits, 32 to 52 */
    bool page_1g;        /* CPUID 80000001H EDX[26]; for EPT: IA32_VMX_EPT_VPID_CAP bit 17 */
    bool execute_only;   /* IA32_VMX_EPT_VPID_CAP bit 0 */
    bool amd;
};

/* CR0.WP and PG, CR4, EFER.NXE and LMA of the guest (SDM vol. 3A 4.1.1). */
struct paging_role paging_role_guest(const struct paging_cpu *cpu, u64 cr0, u64 cr4, u64 efer);

/*
 * NPT: the paging mode of the host (for nested guests L1) at VMRUN (APM vol. 2 15.25.3), with WP forced and
 * SMAP, PKE, CET left out. With CR0.PG = 0 in the host the result is PAGING_NONE.
 */
struct paging_role paging_role_npt(const struct paging_cpu *cpu, u64 cr0, u64 cr4, u64 efer, bool gmet);

/*
 * EPT: page-walk length, A/D and supervisor shadow-stack control from the EPTP (SDM vol. 3C table 25-9),
 * whose validity the VM-entry checks have established: any length but 5 is taken for 4.
 */
struct paging_role paging_role_ept(const struct paging_cpu *cpu, u64 eptp, bool mbec, bool spp);

#endif
