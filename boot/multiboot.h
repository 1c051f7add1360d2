/* SPDX-License-Identifier: MIT */
/*
 * Numbers of the Multiboot Specification 0.6.96 and the Multiboot2 Specification 2.0, used in both
 * directions: by Umbra as it is started, and by Umbra as the boot loader of its guest. Offsets are in bytes
 * from the start of the structure.
 */
#ifndef UMBRA_BOOT_MULTIBOOT_H
#define UMBRA_BOOT_MULTIBOOT_H

#include "arch/types.h"

/* EAX at the entry of an operating system: multiboot 3.2, multiboot2 3.3. */
#define MB1_LOADER_MAGIC 0x2badb002u
#define MB2_LOADER_MAGIC 0x36d76289u

/* Multiboot 3.1.1: header fields and their flags. */
#define MB1_HEADER_MAGIC 0x1badb002u
enum {
    MB1_HEADER_SEARCH = 8192,
    MB1_HEADER_FLAGS = 4,
    MB1_HEADER_CHECKSUM = 8,
    MB1_HEADER_HEADER_ADDR = 12,
    MB1_HEADER_LOAD_ADDR = 16,
    MB1_HEADER_LOAD_END_ADDR = 20,
    MB1_HEADER_BSS_END_ADDR = 24,
    MB1_HEADER_ENTRY_ADDR = 28,
    MB1_HEADER_BYTES = 12,
    MB1_HEADER_KLUDGE_BYTES = 32,
};
#define MB1_FLAG_ALIGN_MODULES BIT(0)
#define MB1_FLAG_MEMORY_INFO   BIT(1)
#define MB1_FLAG_VIDEO_MODE    BIT(2)
#define MB1_FLAGS_REQUIRED     BITS(15, 0)
#define MB1_FLAG_AOUT_KLUDGE   BIT(16)

/* Multiboot 3.3: the information structure, its flags and what it points to. */
enum {
    MB1_INFO_MEM_LOWER = 4,
    MB1_INFO_MEM_UPPER = 8,
    MB1_INFO_CMDLINE = 16,
    MB1_INFO_MODS_COUNT = 20,
    MB1_INFO_MODS_ADDR = 24,
    MB1_INFO_MMAP_LENGTH = 44,
    MB1_INFO_MMAP_ADDR = 48,
    MB1_INFO_LOADER_NAME = 64,
    MB1_INFO_FB_ADDR = 88,
    MB1_INFO_FB_PITCH = 96,
    MB1_INFO_FB_WIDTH = 100,
    MB1_INFO_FB_HEIGHT = 104,
    MB1_INFO_FB_BPP = 108,
    MB1_INFO_FB_TYPE = 109,
    MB1_INFO_FB_COLOR = 110,
    MB1_INFO_BYTES = 116,

    MB1_MODULE_START = 0,
    MB1_MODULE_END = 4,
    MB1_MODULE_STRING = 8,
    MB1_MODULE_BYTES = 16,

    /* The size field does not count itself. */
    MB1_MMAP_SIZE = 0,
    MB1_MMAP_BASE = 4,
    MB1_MMAP_LENGTH = 12,
    MB1_MMAP_TYPE = 20,
    MB1_MMAP_PAYLOAD = 20,
};
#define MB1_INFO_HAS_MEMORY      BIT(0)
#define MB1_INFO_HAS_CMDLINE     BIT(2)
#define MB1_INFO_HAS_MODULES     BIT(3)
#define MB1_INFO_HAS_MMAP        BIT(6)
#define MB1_INFO_HAS_LOADER_NAME BIT(9)
#define MB1_INFO_HAS_FRAMEBUFFER BIT(12)

/* Multiboot2 3.1: header, header tags and their flags. */
#define MB2_HEADER_MAGIC 0xe85250d6u
enum {
    MB2_HEADER_SEARCH = 32768,
    MB2_HEADER_ARCHITECTURE = 4,
    MB2_HEADER_LENGTH = 8,
    MB2_HEADER_CHECKSUM = 12,
    MB2_HEADER_BYTES = 16,
    MB2_ARCHITECTURE_I386 = 0,

    MB2_HEADER_TAG_FLAGS = 2,
    MB2_HEADER_TAG_SIZE = 4,
    MB2_HEADER_TAG_BYTES = 8,
    MB2_HEADER_TAG_OPTIONAL = 1,

    MB2_HEADER_END = 0,
    MB2_HEADER_INFORMATION_REQUEST = 1,
    MB2_HEADER_ADDRESS = 2,
    MB2_HEADER_ENTRY_ADDRESS = 3,
    MB2_HEADER_CONSOLE_FLAGS = 4,
    MB2_HEADER_FRAMEBUFFER = 5,
    MB2_HEADER_MODULE_ALIGNMENT = 6,
    MB2_HEADER_EFI_BOOT_SERVICES = 7,
    MB2_HEADER_EFI_I386_ENTRY = 8,
    MB2_HEADER_EFI_AMD64_ENTRY = 9,
    MB2_HEADER_RELOCATABLE = 10,
};

/* Multiboot2 3.6: tags of the information structure. */
enum {
    MB2_INFO_BYTES = 8, /* total size and a reserved field, before the first tag */
    MB2_TAG_SIZE = 4,
    MB2_TAG_BYTES = 8,
    MB2_TAG_ALIGNMENT = 8,

    MB2_TAG_END = 0,
    MB2_TAG_COMMAND_LINE = 1,
    MB2_TAG_LOADER_NAME = 2,
    MB2_TAG_MODULE = 3,
    MB2_TAG_BASIC_MEMORY = 4,
    MB2_TAG_MEMORY_MAP = 6,
    MB2_TAG_FRAMEBUFFER = 8,
    MB2_TAG_EFI64_SYSTEM_TABLE = 12,
    MB2_TAG_ACPI_OLD_RSDP = 14,
    MB2_TAG_ACPI_NEW_RSDP = 15,
    MB2_TAG_EFI_MEMORY_MAP = 17,
    MB2_TAG_LOAD_BASE = 21,

    MB2_MODULE_START = 8,
    MB2_MODULE_END = 12,
    MB2_MODULE_STRING = 16,
    MB2_MEMORY_LOWER = 8,
    MB2_MEMORY_UPPER = 12,
    MB2_MMAP_ENTRY_SIZE = 8,
    MB2_MMAP_ENTRIES = 16,
    MB2_MMAP_ENTRY_BYTES = 24,
    MB2_FB_ADDRESS = 8,
    MB2_FB_PITCH = 16,
    MB2_FB_WIDTH = 20,
    MB2_FB_HEIGHT = 24,
    MB2_FB_BPP = 28,
    MB2_FB_TYPE = 29,
    MB2_FB_COLOR = 32,
};

/* Framebuffer types, the same in both: multiboot2 3.6.12. */
enum {
    MB_FRAMEBUFFER_INDEXED = 0,
    MB_FRAMEBUFFER_RGB = 1,
    MB_FRAMEBUFFER_EGA_TEXT = 2,
    MB_FRAMEBUFFER_COLOR_BYTES = 6,
};

#endif
