/* SPDX-License-Identifier: MIT */
/*
 * The one vocabulary of the paging core: what the entries of a walk allow, and what an access wants. Every
 * format (guest tables, EPT, NPT) is translated into these bits before anything is decided. Constants only.
 */
#ifndef UMBRA_MM_RIGHTS_H
#define UMBRA_MM_RIGHTS_H

/*
 * Rights accumulated over a walk, each the AND of one bit over all entries used. Guest formats and NPT: R is
 * always set at the end of a walk (P), W is R/W, U is U/S, X is the absence of XD/NX, and XU is never set.
 * EPT: R, W, X (XS with mode-based execute control) and XU (only while that control is on); U is never set.
 */
enum right {
    RIGHT_R = 1 << 0,
    RIGHT_W = 1 << 1,
    RIGHT_U = 1 << 2,
    RIGHT_X = 1 << 3,  /* fetch; EPT with MBEC: by supervisor-mode linear addresses (XS) */
    RIGHT_XU = 1 << 4, /* EPT with MBEC: fetch by user-mode linear addresses */
    /*
     * A shadow-stack page. Guest formats, only with ROLE_CET (SDM vol. 3A 4.6.1): R/W is 1 in every entry but
     * the one that maps the page, where R/W is 0 and D is 1. EPT, only with ROLE_EPT_SSS (SDM vol. 3C
     * 29.3.3.2): R is 1 everywhere, W is 1 in every entry but perhaps the last, and the last has bit 60.
     * Otherwise 0. Entries without R/W (PDPTEs of PAE) count as if it were 1.
     */
    RIGHT_SS = 1 << 5,
    RIGHTS_COMBINATIONS = 1 << 6,
    RIGHTS_ALL_BUT_SS = RIGHT_R | RIGHT_W | RIGHT_U | RIGHT_X | RIGHT_XU,
};

/*
 * What an access is. None of the bits: a supervisor's data read. FETCH excludes WRITE, SHADOW_STACK and AC.
 * The engine answers for excluded combinations too (mm/permission.h), but no caller makes one.
 */
enum access {
    ACCESS_READ = 0,
    ACCESS_WRITE = 1 << 0, /* also the write half of a read-modify-write */
    /*
     * Guest formats: CPL is 3 and the access is explicit (a user-mode access; also WRUSS). NPT: CPL is 3.
     * EPT: a fetch through a user-mode *linear address* (U/S is 1 in all guest entries, or paging is off), or
     * a user shadow-stack access; no meaning for other data accesses.
     */
    ACCESS_USER = 1 << 1,
    ACCESS_FETCH = 1 << 2,
    ACCESS_SHADOW_STACK = 1 << 3, /* read or (with WRITE) write of a shadow stack */
    /*
     * An explicit supervisor data access with EFLAGS.AC = 1, so that SMAP does not apply. Never set for
     * implicit supervisor accesses (descriptor tables, TSS: SDM vol. 3A 4.6), whatever EFLAGS.AC is.
     */
    ACCESS_AC = 1 << 4,
    ACCESS_KINDS = 1 << 5,
};

#endif
