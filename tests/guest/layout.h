/* SPDX-License-Identifier: MIT */
/* Numbers that the test guest's C and assembly share: selectors, and where the real-mode code is put. */
#ifndef UMBRA_TESTS_GUEST_LAYOUT_H
#define UMBRA_TESTS_GUEST_LAYOUT_H

#define SEL_CODE64      0x08
#define SEL_DATA        0x10
#define SEL_CODE32      0x18
#define SEL_USER_CODE32 0x23
#define SEL_USER_DATA   0x2b
#define SEL_USER_CODE64 0x33
#define SEL_CODE16      0x38
#define SEL_DATA16      0x40
#define SEL_NOT_PRESENT 0x48
#define SEL_TSS         0x50

/* Below 64 KByte, away from the BIOS's own data: free once the loader's information has been copied. */
#define REAL_BASE   0x8000
#define REAL_STACK  0x7c00
#define REAL_BUFFER 0x9000

#define STACK_BYTES 16384

/* Other CPUs: two pages at which they can start, their number, and stacks. */
#define SMP_PAGE        0x5000
#define SMP_OTHER_PAGE  0x6000
#define SMP_MAX         8
#define SMP_STACK_BYTES 8192

#endif
