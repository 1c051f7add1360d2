/* SPDX-License-Identifier: MIT */
/*
 * Program headers of ELF executables for i386 and x86-64, checked against the bytes that are there. Pure: it
 * reads the image and nothing else, and loads nothing.
 */
#ifndef UMBRA_BOOT_ELF_H
#define UMBRA_BOOT_ELF_H

#include "arch/types.h"
#include "boot/span.h"

enum { ELF_SEGMENTS_MAX = 32 };

/* One PT_LOAD program header. Bytes between file_bytes and memory_bytes are zero in memory. */
struct elf_segment {
    u64 offset;     /* into the image */
    u64 file_bytes; /* all inside the image */
    u64 physical;   /* p_paddr; physical + memory_bytes does not wrap */
    u64 linear;     /* p_vaddr */
    u64 memory_bytes;
};

struct elf_image {
    bool is_64;
    u64 entry; /* physical address */
    unsigned segment_count;
    struct elf_segment segment[ELF_SEGMENTS_MAX];
};

enum elf_status {
    ELF_OK,
    ELF_NOT_ELF,
    ELF_BAD_HEADER,  /* not a little-endian executable for i386 or x86-64 */
    ELF_TRUNCATED,   /* a header or a segment's bytes lie outside the image */
    ELF_BAD_SEGMENT, /* less memory than file bytes, or the addresses wrap around */
    ELF_TOO_MANY,    /* more than ELF_SEGMENTS_MAX segments */
    ELF_NO_SEGMENT,
    ELF_BAD_ENTRY, /* in no segment */
};

/* Empty segments are left out. `elf` is undefined unless the result is ELF_OK. */
enum elf_status elf_parse(struct span image, struct elf_image *elf);

/* What is wrong, to follow "the image ...". */
const char *elf_status_text(enum elf_status status);

#endif
