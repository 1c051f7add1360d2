/* SPDX-License-Identifier: MIT */
/*
 * Umbra's paging core as the guest's oracle: the very sources that translate for Umbra say here what this CPU
 * should do with an access. Numbers only, since the guest's own names and those of mm/ meet in oracle.c.
 */
#ifndef UMBRA_TESTS_GUEST_ORACLE_H
#define UMBRA_TESTS_GUEST_ORACLE_H

#include "arch/types.h"

enum oracle_kind { ORACLE_READ, ORACLE_WRITE, ORACLE_FETCH, ORACLE_KINDS };

/* The registers that give the guest's tables their meaning, and what CPUID says of the CPU. */
struct oracle_machine {
    u64 cr0, cr3, cr4, efer;
    u32 pkru, pkrs;
    unsigned maxphyaddr;
    bool page_1g, amd;
    const u64 *pdptes; /* PAE: as the registers hold them; NULL: read from memory */
};

struct oracle_access {
    enum oracle_kind kind;
    bool user; /* CPL 3 */
    bool ac;   /* EFLAGS.AC */
};

struct oracle_answer {
    bool fault;
    u32 error_code; /* of the #PF */
    u64 physical;   /* of a translation */
    unsigned level; /* of the entry that maps the page, or that is to blame */
    bool user_page; /* of a translation or a denied one: U/S is 1 in all entries */
    bool walked;    /* the tables lead to a page, whether or not the access is allowed */
    bool key;       /* the protection key forbids the access, */
    bool rights;    /* ... the page's rights do */
};

/* To be called after each change of *machine. */
void oracle_set(const struct oracle_machine *machine);
/* One access, by tables in memory that is mapped one to one; sets accessed and dirty flags as the CPU would.
 */
struct oracle_answer oracle_access(u64 linear, const struct oracle_access *access);

/* Second-level permissions as the hypercalls of test builds name them: 1 R, 2 W, 4 XS, 8 XU. */
struct oracle_second {
    bool intel;
    bool mode_based; /* MBEC or GMET is on */
    bool ept_ad;
    bool advanced; /* IA32_VMX_EPT_VPID_CAP bit 22 */
};

/* The linear address of the access, or of the walk that reads or writes an entry of the guest's tables. */
struct oracle_linear {
    bool user, write, execute_disabled;
    bool table; /* the access is the CPU's own, to a table */
};

struct oracle_violation {
    bool violation;
    u64 reason; /* exit qualification, or EXITINFO1 */
};

struct oracle_violation oracle_second(const struct oracle_second *format, unsigned permissions,
                                      const struct oracle_access *access, const struct oracle_linear *linear);

#endif
