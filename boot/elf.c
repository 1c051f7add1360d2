/* SPDX-License-Identifier: MIT */
/* ELF headers by their offsets (System V ABI, chapters 4 and 5; the 64-bit layout is in the same tables). */
#include "boot/elf.h"

#define ELF_MAGIC 0x464c457fu

enum {
    ELF_CLASS = 4,
    ELF_CLASS_32 = 1,
    ELF_CLASS_64 = 2,
    ELF_DATA = 5,
    ELF_DATA_LITTLE_ENDIAN = 1,
    ELF_TYPE = 16,
    ELF_TYPE_EXECUTABLE = 2,
    ELF_MACHINE = 18,
    ELF_MACHINE_386 = 3,
    ELF_MACHINE_X86_64 = 62,
    ELF_ENTRY = 24,
    ELF_SEGMENT_LOAD = 1,
};

/* Where the two classes keep the same fields. */
struct layout {
    u8 address_bytes;
    u8 header_bytes, phoff, phentsize, phnum;
    u8 program_header_bytes, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
};

static const struct layout layout_32 = {4, 52, 28, 42, 44, 32, 4, 8, 12, 16, 20};
static const struct layout layout_64 = {8, 64, 32, 54, 56, 56, 8, 16, 24, 32, 40};

static u64 read_address(struct span span, const struct layout *layout, u64 offset)
{
    return layout->address_bytes == 4 ? span_u32(span, offset) : span_u64(span, offset);
}

static enum elf_status add_segment(struct span image, struct span header, const struct layout *layout,
                                   struct elf_image *elf)
{
    struct elf_segment segment = {
        .offset = read_address(header, layout, layout->p_offset),
        .file_bytes = read_address(header, layout, layout->p_filesz),
        .physical = read_address(header, layout, layout->p_paddr),
        .linear = read_address(header, layout, layout->p_vaddr),
        .memory_bytes = read_address(header, layout, layout->p_memsz),
    };
    if (segment.memory_bytes == 0 && segment.file_bytes == 0)
        return ELF_OK;
    if (segment.memory_bytes < segment.file_bytes ||
        segment.physical + segment.memory_bytes < segment.physical)
        return ELF_BAD_SEGMENT;
    if (!span_holds(image, segment.offset, segment.file_bytes))
        return ELF_TRUNCATED;
    if (elf->segment_count == ELF_SEGMENTS_MAX)
        return ELF_TOO_MANY;
    elf->segment[elf->segment_count++] = segment;
    return ELF_OK;
}

/* e_entry is a linear address; kernels linked high but started low have it as a physical one. */
static enum elf_status find_entry(u64 entry, struct elf_image *elf)
{
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_segment *segment = &elf->segment[i];
        if (entry - segment->linear < segment->memory_bytes) {
            elf->entry = entry - segment->linear + segment->physical;
            return ELF_OK;
        }
    }
    for (unsigned i = 0; i < elf->segment_count; i++) {
        if (entry - elf->segment[i].physical < elf->segment[i].memory_bytes) {
            elf->entry = entry;
            return ELF_OK;
        }
    }
    return ELF_BAD_ENTRY;
}

enum elf_status elf_parse(struct span image, struct elf_image *elf)
{
    if (span_u32(image, 0) != ELF_MAGIC)
        return ELF_NOT_ELF;
    u8 class = span_u8(image, ELF_CLASS);
    u16 machine = span_u16(image, ELF_MACHINE);
    if ((class != ELF_CLASS_32 && class != ELF_CLASS_64) ||
        span_u8(image, ELF_DATA) != ELF_DATA_LITTLE_ENDIAN ||
        span_u16(image, ELF_TYPE) != ELF_TYPE_EXECUTABLE ||
        (machine != ELF_MACHINE_386 && machine != ELF_MACHINE_X86_64))
        return ELF_BAD_HEADER;

    elf->is_64 = class == ELF_CLASS_64;
    elf->segment_count = 0;
    const struct layout *layout = elf->is_64 ? &layout_64 : &layout_32;
    if (!span_holds(image, 0, layout->header_bytes))
        return ELF_TRUNCATED;
    u64 table = read_address(image, layout, layout->phoff);
    u64 step = span_u16(image, layout->phentsize), count = span_u16(image, layout->phnum);
    if (step < layout->program_header_bytes)
        return ELF_BAD_HEADER;
    if (!span_holds(image, table, count * step))
        return ELF_TRUNCATED;

    for (u64 i = 0; i < count; i++) {
        struct span header = span_part(image, table + i * step, step);
        if (span_u32(header, 0) != ELF_SEGMENT_LOAD)
            continue;
        enum elf_status status = add_segment(image, header, layout, elf);
        if (status != ELF_OK)
            return status;
    }
    if (elf->segment_count == 0)
        return ELF_NO_SEGMENT;
    return find_entry(read_address(image, layout, ELF_ENTRY), elf);
}

const char *elf_status_text(enum elf_status status)
{
    switch (status) {
    case ELF_OK:
        return "is a sound ELF executable";
    case ELF_NOT_ELF:
        return "is no ELF file";
    case ELF_BAD_HEADER:
        return "is no ELF executable for i386 or x86-64";
    case ELF_TRUNCATED:
        return "is cut short: its ELF headers lead beyond its end";
    case ELF_BAD_SEGMENT:
        return "has an ELF segment whose sizes contradict each other";
    case ELF_TOO_MANY:
        return "has more than 32 ELF segments";
    case ELF_NO_SEGMENT:
        return "has no ELF segment to load";
    case ELF_BAD_ENTRY:
        return "has its ELF entry point outside of all its segments";
    }
    return "is in an unknown state";
}
