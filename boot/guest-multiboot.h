/* SPDX-License-Identifier: MIT */
/*
 * What loading a multiboot1 and a multiboot2 kernel has in common: the kernel's pieces, its modules, and the
 * block of memory with the information structure, which is measured before its place is known and written
 * after all moves are done.
 */
#ifndef UMBRA_BOOT_GUEST_MULTIBOOT_H
#define UMBRA_BOOT_GUEST_MULTIBOOT_H

#include "boot/guest-plan.h"

/* The address fields of a multiboot1 header with the a.out kludge, or of a multiboot2 address tag. */
struct multiboot_addresses {
    u32 header, load, load_end, bss_end;
    u64 entry;
};

/* load_addr of a multiboot2 address tag that means the beginning of the file. */
#define MULTIBOOT_LOAD_FROM_START 0xffffffffu

/* The one segment that the fields describe; `header` is the offset of the header in the image. False if they
 * contradict it. */
bool multiboot_segment(struct span image, u64 header, const struct multiboot_addresses *addresses,
                       struct elf_image *kernel);

/* Takes the memory of all segments below 4 GByte and plans their moves; *end is one past the highest byte. */
enum guest_status multiboot_place_kernel(struct guest_plan *plan, const struct elf_image *kernel, u64 *end);

/* Lets page-aligned modules below 4 GByte stay, and finds places for the others, by preference behind the
 * kernel. */
enum guest_status multiboot_place_modules(struct guest_plan *plan, u64 kernel_end);

/* A page-aligned place for the information structure: low memory by preference, where old loaders have it. */
enum guest_status multiboot_place_info(struct guest_plan *plan, u64 kernel_end, u64 bytes, u64 *info);

/* Schedules and makes the moves. */
enum guest_status multiboot_move(struct guest_plan *plan);

/* Entry with EAX = magic, EBX = info, in flat 32-bit segments; and the sentence about it. */
void multiboot_start(struct guest_plan *plan, struct start_state *start, unsigned version, u64 entry,
                     u64 info);

/* KByte of RAM from address 0, and from 1 MByte, up to the first hole: multiboot 3.3, mem_lower and
 * mem_upper. */
u32 multiboot_mem_lower(const struct memmap *memory);
u32 multiboot_mem_upper(const struct memmap *memory);

/* Appends to a block of memory, or only counts if `base` is NULL. */
struct writer {
    u8 *base;
    u64 length;
};

void writer_bytes(struct writer *writer, const void *bytes, u64 count);
void writer_value(struct writer *writer, u64 value, unsigned bytes);
void writer_string(struct writer *writer, const char *text);
/* Zeros up to a multiple of `alignment`. */
void writer_align(struct writer *writer, u64 alignment);
/* Overwrites `bytes` bytes at an offset that was written before. */
void writer_patch(struct writer *writer, u64 offset, u64 value, unsigned bytes);

/* Colour fields of an RGB framebuffer in the order of both protocols. */
void writer_colors(struct writer *writer, const struct boot_framebuffer *framebuffer);

#endif
