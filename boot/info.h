/* SPDX-License-Identifier: MIT */
/*
 * What the boot loader told Umbra, copied out of the loader's memory and independent of the protocol
 * (multiboot2 or multiboot1): nothing here points to memory that Umbra may overwrite while it loads the
 * guest, except the modules.
 */
#ifndef UMBRA_BOOT_INFO_H
#define UMBRA_BOOT_INFO_H

#include "arch/types.h"
#include "mm/memmap.h"

enum { BOOT_MODULES_MAX = 32, BOOT_STRINGS_BYTES = 16384, BOOT_RSDP_BYTES = 36 };

struct boot_module {
    u64 start, end;     /* physical, end exclusive */
    const char *string; /* its command line, inside boot_info.strings */
};

struct boot_framebuffer {
    bool present;
    u8 type; /* multiboot2 3.6.12: 0 indexed, 1 RGB, 2 EGA text */
    u8 bpp;
    u64 address;
    u32 pitch, width, height;
    u8 red_position, red_size, green_position, green_size, blue_position, blue_size;
};

struct boot_info {
    const char *command_line;
    const char *loader_name;
    struct memmap memory; /* as firmware reported it */
    unsigned module_count;
    struct boot_module module[BOOT_MODULES_MAX];
    struct boot_framebuffer framebuffer;
    u8 rsdp_bytes; /* 0, 20 (ACPI 1.0) or 36; a copy of the RSDP that the loader passed */
    u8 rsdp[BOOT_RSDP_BYTES];
    u64 efi_system_table; /* 0 if none */
    u64 loader_end;       /* one past the highest byte of the loader's own information structure */
    u64 loader_start;
    char strings[BOOT_STRINGS_BYTES];
};

enum boot_info_status {
    BOOT_INFO_OK,
    BOOT_INFO_UNKNOWN_LOADER, /* neither magic number */
    BOOT_INFO_TRUNCATED,      /* a length in the structure leads beyond its end */
    BOOT_INFO_NO_MEMORY_MAP,
    BOOT_INFO_TOO_MANY_MODULES,
    BOOT_INFO_STRINGS_TOO_LONG,
    BOOT_INFO_BAD_MODULE, /* end before start, or it wraps around */
    BOOT_INFO_MAP_FULL,
};

/* `magic` is EAX at entry, `physical` EBX; memory is reached through mm/phys.h. */
enum boot_info_status boot_info_parse(struct boot_info *info, u32 magic, u32 physical);
/* A sentence for the user: what is wrong and what to do. */
const char *boot_info_status_text(enum boot_info_status status);

#endif
