/* SPDX-License-Identifier: MIT */
/*
 * What a CPU does with an access to memory, written rule by rule from the manuals and as slowly as they say
 * it: the twin against which mm/'s paging core is tested and proved. It shares no code and no constant with
 * mm/ and never tries to be fast. No allocation, bounded loops, no state of its own: fit for a bounded model
 * checker.
 *
 * "SDM 4.6" is section 4.6 of the Intel SDM, volume 3 (chapters 1..8: 3A; from 25 on: 3C); "APM 15.25" is a
 * section of the AMD APM, volume 2.
 */
#ifndef UMBRA_TESTS_SPECIFICATION_H
#define UMBRA_TESTS_SPECIFICATION_H

#include "arch/types.h"

enum { SPEC_LEVELS_MAX = 5, SPEC_FLAG_SETS_MAX = 48 };

/* SDM 4.1.1 and 29.3; APM 5.2. SPEC_NO_PAGING: CR0.PG = 0. NPT tables have one of the guest's own formats. */
enum spec_format { SPEC_NO_PAGING, SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5, SPEC_EPT4, SPEC_EPT5 };

/* One hierarchy of tables and the machine state that gives its entries a meaning. */
struct spec_paging {
    enum spec_format format;
    u64 root;          /* CR3, nCR3 or EPTP, as the register holds it */
    bool pdpte_loaded; /* PAE: the PDPTE registers below are used, not memory (SDM 4.4.1; not so in
                          APM 15.25.10) */
    u64 pdpte[4];
    unsigned maxphyaddr; /* 32 .. 52 */
    bool amd;            /* APM 5.3.3: bit 8 of PML4E and PML5E must be zero */
    bool page1gb, pse, pse36;
    bool wp, nxe, smep, smap, pke, pks, cet;
    u32 pkru, pkrs;
    /* EPT only (SDM 29.3, 25.6.11, appendix A.10) */
    bool page2mb, execute_only, mbec, ept_ad, supervisor_shadow_stack;
    /* NPT only: the VMCB's GMET bit (APM 15.25.13) */
    bool gmet;
};

enum spec_second_kind { SPEC_SECOND_NONE, SPEC_SECOND_EPT, SPEC_SECOND_NPT };

/* The second-level translation, if there is one. For NPT `tables` holds the *host's* mode and bits
 * (APM 15.25.3). */
struct spec_second {
    enum spec_second_kind kind;
    bool advanced; /* IA32_VMX_EPT_VPID_CAP bit 22 */
    struct spec_paging tables;
};

enum spec_kind { SPEC_READ, SPEC_WRITE, SPEC_FETCH };

/* One access by an instruction, or by the CPU on its behalf, to a linear address. */
struct spec_access {
    enum spec_kind kind;
    unsigned cpl;
    bool ac;           /* EFLAGS.AC */
    bool implicit;     /* SDM 4.6.1: an implicit supervisor-mode access (descriptor tables, TSS) */
    bool shadow_stack; /* SDM 4.6.1: made by a shadow-stack instruction or push */
    bool wruss;        /* a shadow-stack store that is a user-mode access at any CPL */
};

/* An access to a guest-physical address. */
struct spec_second_access {
    enum spec_kind kind;
    bool guest_table;  /* to an entry of the guest's own paging structures */
    bool linear_user;  /* the linear address is a user-mode address (MBEC) */
    bool linear_write; /* ... is writable, */
    bool linear_nx;    /* ... is execute-disabled: the "advanced information" */
    bool supervisor_shadow_stack, shadow_stack;
    unsigned cpl; /* GMET */
};

/* The entries of one walk, from the root to the last one read. */
struct spec_path {
    unsigned count;
    struct {
        u64 address; /* of the entry; 0 for a PDPTE register */
        u64 entry;
        unsigned level; /* 1 = the table whose entries map 4-KByte pages */
        bool loaded;    /* from a PDPTE register */
    } step[SPEC_LEVELS_MAX];
};

enum spec_result {
    SPEC_TRANSLATED,
    SPEC_PAGE_FAULT,           /* #PF; `code` is the error code, `linear` goes to CR2 */
    SPEC_EPT_VIOLATION,        /* `qualification`, `gpa` */
    SPEC_EPT_MISCONFIGURATION, /* `gpa` */
    SPEC_NPF,                  /* `exitinfo1`, `gpa` = EXITINFO2 */
    SPEC_NO_MEMORY,            /* an entry lies where the callback has no memory: no manual says anything */
};

/* Accessed and dirty flags that the CPU sets: a locked OR of `bits` on the 32-bit word at `address`. */
struct spec_flag_set {
    u64 address;
    u32 bits;
};

struct spec_flag_sets {
    unsigned count;
    struct spec_flag_set set[SPEC_FLAG_SETS_MAX];
};

struct spec_translation {
    enum spec_result result;
    u64 address;   /* guest-physical of a guest walk, host-physical of a second-level walk */
    u64 page_size; /* of the page that the leaf maps */
    struct spec_path path;
    bool user_address, writable, execute_disabled; /* of the page: the AND or OR over the path */
    u32 code;                                      /* #PF error code */
    u64 qualification;                             /* of an EPT violation */
    u64 qualification_undefined;                   /* its bits that the manual leaves undefined here */
    u64 exitinfo1;                                 /* of a #NPF */
    u64 gpa;                                       /* that an EPT- or NPT-induced exit reports */
};

/* Physical memory, which a walk reads but never changes; `read` gives 4 or 8 naturally aligned bytes. */
struct spec_memory {
    void *context;
    bool (*read)(void *context, u64 address, unsigned bytes, u64 *value);
};

/* --- format.c: what an entry is
 * --------------------------------------------------------------------------------------- */

bool spec_is_ept(enum spec_format format);
unsigned spec_levels(enum spec_format format);
unsigned spec_entry_bytes(enum spec_format format);
unsigned spec_address_bits(enum spec_format format);
u64 spec_root_table(const struct spec_paging *paging);
u64 spec_index(enum spec_format format, unsigned level, u64 address);
u64 spec_entry_page_size(enum spec_format format, unsigned level);
bool spec_present(const struct spec_paging *paging, unsigned level, u64 entry);
bool spec_maps_page(const struct spec_paging *paging, unsigned level, u64 entry);
/* The bits of a present entry that must be 0, PS included where it must be. */
u64 spec_reserved_bits(const struct spec_paging *paging, unsigned level, u64 entry);
bool spec_ept_misconfigured(const struct spec_paging *paging, unsigned level, u64 entry);
u64 spec_entry_address(const struct spec_paging *paging, unsigned level, u64 entry);

/* --- permission.c: may a linear address be accessed?
 * ------------------------------------------------------------------- */

bool spec_user_mode_access(const struct spec_access *access);
bool spec_path_user(const struct spec_paging *paging, const struct spec_path *path);
bool spec_path_writable(const struct spec_paging *paging, const struct spec_path *path);
bool spec_path_execute_disabled(const struct spec_paging *paging, const struct spec_path *path);
bool spec_path_shadow_stack(const struct spec_paging *paging, const struct spec_path *path);
/* The protection key of a page under PKE or PKS forbids this access. */
bool spec_key_denies(const struct spec_paging *paging, const struct spec_access *access,
                     const struct spec_path *path);
bool spec_permission_guest(const struct spec_paging *paging, const struct spec_access *access,
                           const struct spec_path *path);
u32 spec_page_fault_code(const struct spec_paging *paging, const struct spec_access *access,
                         const struct spec_path *path, bool present, bool reserved);

/* --- second-permission.c: may a guest-physical address be accessed?
 * ----------------------------------------------------- */

bool spec_permission_ept(const struct spec_paging *ept, const struct spec_second_access *access,
                         const struct spec_path *path);
u64 spec_ept_qualification(const struct spec_second *second, const struct spec_second_access *access,
                           const struct spec_path *path, bool present, u64 *undefined);
bool spec_permission_npt(const struct spec_paging *npt, const struct spec_second_access *access,
                         const struct spec_path *path);
u64 spec_npf_exitinfo1(const struct spec_paging *npt, const struct spec_second_access *access, bool present,
                       bool reserved);

/* --- walk.c
 * --------------------------------------------------------------------------------------------------------------
 */

/*
 * `flags`, here and below, collects what is set; NULL: nothing is to be set, as by an access that only asks.
 * Reads see the flags that were set before.
 */
bool spec_read(const struct spec_memory *memory, const struct spec_flag_sets *flags, u64 address,
               unsigned bytes, u64 *value);
/* Notes the flags `bits` (of the low 32 bits of an entry) unless they are set already. */
void spec_set_flags(const struct spec_memory *memory, struct spec_flag_sets *flags, u64 address, u32 bits);
/* One translation of a linear address by tables that lie in memory as it is: no second level. */
struct spec_translation spec_walk(const struct spec_paging *paging, const struct spec_memory *memory,
                                  u64 linear, const struct spec_access *access, struct spec_flag_sets *flags);
/* The same without accessed and dirty flags: `flags` are only read through. */
struct spec_translation spec_walk_entries(const struct spec_paging *paging, const struct spec_memory *memory,
                                          u64 linear, const struct spec_access *access,
                                          const struct spec_flag_sets *flags);
/* One translation of a guest-physical address. */
struct spec_translation spec_walk_second(const struct spec_second *second, const struct spec_memory *memory,
                                         u64 gpa, const struct spec_second_access *access,
                                         struct spec_flag_sets *flags);

/* --- walk-2d.c
 * ------------------------------------------------------------------------------------------------------------
 */

struct spec_translation_2d {
    struct spec_translation whole;   /* the result of it all; address is host-physical */
    struct spec_translation guest;   /* the guest's own tables; result and path as far as they were walked */
    u64 entry_host[SPEC_LEVELS_MAX]; /* where the second level found each entry of guest.path that was read */
    bool final;                      /* the guest walk was done: `whole` is of its guest-physical address */
};

struct spec_translation_2d spec_walk_2d(const struct spec_paging *guest, const struct spec_second *second,
                                        const struct spec_memory *memory, u64 linear,
                                        const struct spec_access *access, struct spec_flag_sets *flags);

/* --- linear.c: from a segment and an offset to a linear address
 * ---------------------------------------------------------- */

enum spec_mode { SPEC_REAL, SPEC_V86, SPEC_PROTECTED, SPEC_64BIT };

/* A segment register's hidden part. */
struct spec_segment {
    u64 base;
    u32 limit; /* in bytes, granularity applied */
    unsigned
        type; /* SDM table 3-1: bit 3 code, bit 2 expand-down or conforming, bit 1 writable or readable */
    bool big; /* B flag */
    bool unusable; /* loaded with a null selector */
    bool system;   /* GDT, LDT, IDT or TSS: the CPU itself reads it, with base and limit only */
};

struct spec_linear_request {
    enum spec_mode mode;
    bool la57;                      /* CR4.LA57: 57-bit linear addresses */
    bool lam_u48, lam_u57, lam_sup; /* CR3 bits 62, 61; CR4 bit 28 */
    bool stack;                     /* SS-relative: #SS, not #GP */
    bool base_used;                 /* 64-bit mode: FS or GS */
    bool write;
    struct spec_segment segment;
    u64 offset; /* effective address, already cut to the address size */
    u64 bytes;  /* of the operand, 1 .. 4096 */
};

enum spec_linear_result { SPEC_LINEAR_OK, SPEC_LINEAR_GP, SPEC_LINEAR_SS, SPEC_LINEAR_UNSPECIFIED };

bool spec_canonical(u64 address, bool la57);
u64 spec_lam(const struct spec_linear_request *request, u64 pointer);
/* Error code of #GP and #SS is 0. UNSPECIFIED: SDM 5.3 leaves it to the implementation (an operand over 4
 * GByte). */
enum spec_linear_result spec_linear(const struct spec_linear_request *request, u64 *linear);

#endif
