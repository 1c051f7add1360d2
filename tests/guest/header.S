/* SPDX-License-Identifier: MIT */
/*
 * The boot header, the only part that differs between the three images: multiboot1 ELF, multiboot1 flat binary (with the
 * address fields that a.out kernels use), multiboot2 ELF. Exactly one of HEADER_* is 1.
 * Source: Multiboot Specification 0.6.96 section 3.1; Multiboot2 Specification 2.0 section 3.1.
 */
#define MB1_MAGIC      0x1badb002
#define MB1_PAGE_ALIGN 1
#define MB1_MEMORY     2
#define MB1_ADDRESSES  0x10000
#define MB2_MAGIC      0xe85250d6

    .section .header, "a"
    .balign 8
header:
#if HEADER_MB1
    .long MB1_MAGIC, MB1_PAGE_ALIGN | MB1_MEMORY, -(MB1_MAGIC + MB1_PAGE_ALIGN + MB1_MEMORY)
#elif HEADER_FLAT
    .long MB1_MAGIC, MB1_PAGE_ALIGN | MB1_MEMORY | MB1_ADDRESSES
    .long -(MB1_MAGIC + MB1_PAGE_ALIGN + MB1_MEMORY + MB1_ADDRESSES)
    .long header, image_start, image_data_end, image_bss_end, _start
#elif HEADER_MB2
    .long MB2_MAGIC, 0, header_end - header, -(MB2_MAGIC + (header_end - header))
    .short 1, 0                     /* information request: command line, modules, memory sizes, memory map */
    .long 8 + 4 * 4
    .long 1, 3, 4, 6
    .short 6, 0                     /* modules are page aligned */
    .long 8
    .short 0, 0
    .long 8
header_end:
#endif
