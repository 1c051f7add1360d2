/* SPDX-License-Identifier: MIT */
/*
 * Umbra's virtual address space. The same numbers serve C, assembly and the linker script, so this file holds
 * only preprocessor constants.
 *
 *   ffff8000_00000000  direct map: host-physical memory, but for Umbra's image; writable, never executable
 *   ffffffff_80000000  the image: text r-x, rodata r--, data and bss rw-
 *   ffffffff_c0000000  per CPU: stacks with guard pages between them, local APIC
 */
#ifndef UMBRA_ARCH_LAYOUT_H
#define UMBRA_ARCH_LAYOUT_H

#define LAYOUT_DIRECT_MAP 0xffff800000000000
#define LAYOUT_IMAGE      0xffffffff80000000
#define LAYOUT_STACKS     0xffffffffc0000000

/* Where the boot loader puts the image: host-physical. It moves from there before the guest is loaded. */
#define LAYOUT_LOAD_ADDRESS 0x200000

/* Each CPU's slot at LAYOUT_STACKS, and what is in it, each below a page that is never mapped. */
#define LAYOUT_STACK_SLOT  0x20000
#define LAYOUT_EXIT_STACK  0x1000 /* offset in the slot */
#define LAYOUT_EXIT_SIZE   0x4000
#define LAYOUT_NMI_STACK   0x6000
#define LAYOUT_NMI_SIZE    0x2000
#define LAYOUT_FAULT_STACK 0x9000
#define LAYOUT_FAULT_SIZE  0x4000
#define LAYOUT_LOCAL_APIC  0xf000 /* one page, uncached, on machines with several CPUs */

#endif
