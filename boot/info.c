/* SPDX-License-Identifier: MIT */
/*
 * Reads the information structures of multiboot2 and multiboot1 loaders. Every length and pointer in them is
 * checked against the structure, or against the memory map that came with it, before anything behind it is
 * read.
 */
#include "boot/info.h"

#include "arch/string.h"
#include "boot/multiboot.h"
#include "boot/span.h"
#include "mm/phys.h"

/* Larger structures are damage: 32 modules with a page of text each, and all tags, stay far below. */
#define INFO_BYTES_MAX MIB(1)

/* UEFI 2.10 section 7.2.3: EFI_MEMORY_DESCRIPTOR and its types. */
enum {
    EFI_DESCRIPTOR_START = 8,
    EFI_DESCRIPTOR_PAGES = 24,
    EFI_DESCRIPTOR_BYTES = 40,
    EFI_LOADER_CODE = 1,
    EFI_BOOT_SERVICES_DATA = 4,
    EFI_CONVENTIONAL = 7,
    EFI_UNUSABLE = 8,
    EFI_ACPI_RECLAIM = 9,
    EFI_ACPI_NVS = 10,
    EFI_PERSISTENT = 14,
};

enum { RSDP_ACPI1_BYTES = 20 };

struct parse {
    struct boot_info *info;
    size_t string_bytes;           /* of info->strings in use */
    struct span efi_map, ordinary; /* tags kept until it is known which one is needed */
};

static enum boot_info_status copy_string(struct parse *parse, struct span text, const char **copy)
{
    /* No string that is read further than this could be kept. */
    size_t length = strnlen((const char *)text.base, min_u64(text.bytes, BOOT_STRINGS_BYTES));
    if (length == text.bytes)
        return BOOT_INFO_TRUNCATED;
    if (length + 1 > BOOT_STRINGS_BYTES - parse->string_bytes)
        return BOOT_INFO_STRINGS_TOO_LONG;
    char *to = parse->info->strings + parse->string_bytes;
    memcpy(to, text.base, length + 1);
    parse->string_bytes += length + 1;
    *copy = to;
    return BOOT_INFO_OK;
}

static enum boot_info_status add_memory(struct parse *parse, u64 start, u64 bytes, u32 type)
{
    /* Firmware is known to report empty ranges; one that wraps around names no memory that could be used
     * either. */
    return memmap_add(&parse->info->memory, start, bytes, type) == MEMMAP_FULL ? BOOT_INFO_MAP_FULL
                                                                               : BOOT_INFO_OK;
}

static enum boot_info_status add_basic_memory(struct parse *parse, u32 lower_kib, u32 upper_kib)
{
    enum boot_info_status status = add_memory(parse, 0, KIB(lower_kib), MEM_RAM);
    return status == BOOT_INFO_OK ? add_memory(parse, MIB(1), KIB(upper_kib), MEM_RAM) : status;
}

static enum boot_info_status add_module(struct parse *parse, u64 start, u64 end, struct span string)
{
    struct boot_info *info = parse->info;
    if (info->module_count == BOOT_MODULES_MAX)
        return BOOT_INFO_TOO_MANY_MODULES;
    if (end < start)
        return BOOT_INFO_BAD_MODULE;
    struct boot_module *module = &info->module[info->module_count];
    enum boot_info_status status = copy_string(parse, string, &module->string);
    if (status != BOOT_INFO_OK)
        return status;
    module->start = start;
    module->end = end;
    info->module_count++;
    return BOOT_INFO_OK;
}

static void set_colors(struct boot_framebuffer *framebuffer, struct span color)
{
    if (framebuffer->type != MB_FRAMEBUFFER_RGB)
        return;
    framebuffer->red_position = span_u8(color, 0);
    framebuffer->red_size = span_u8(color, 1);
    framebuffer->green_position = span_u8(color, 2);
    framebuffer->green_size = span_u8(color, 3);
    framebuffer->blue_position = span_u8(color, 4);
    framebuffer->blue_size = span_u8(color, 5);
}

/* The span of all 32-bit physical addresses: what a loader can point to. */
static struct span below_4g(void)
{
    return (struct span){phys_to_virt(hpa(0)), GIB(4)};
}

/* --- multiboot2 --- */

static enum boot_info_status parse_framebuffer(struct parse *parse, struct span tag)
{
    struct boot_framebuffer framebuffer = {
        .present = true,
        .address = span_u64(tag, MB2_FB_ADDRESS),
        .pitch = span_u32(tag, MB2_FB_PITCH),
        .width = span_u32(tag, MB2_FB_WIDTH),
        .height = span_u32(tag, MB2_FB_HEIGHT),
        .bpp = span_u8(tag, MB2_FB_BPP),
        .type = span_u8(tag, MB2_FB_TYPE),
    };
    u64 color_bytes = framebuffer.type == MB_FRAMEBUFFER_RGB ? MB_FRAMEBUFFER_COLOR_BYTES : 0;
    if (tag.bytes < MB2_FB_COLOR + color_bytes)
        return BOOT_INFO_TRUNCATED;
    set_colors(&framebuffer, span_part(tag, MB2_FB_COLOR, MB_FRAMEBUFFER_COLOR_BYTES));
    parse->info->framebuffer = framebuffer;
    return BOOT_INFO_OK;
}

static enum boot_info_status parse_rsdp(struct parse *parse, struct span tag)
{
    struct span rsdp = span_part(tag, MB2_TAG_BYTES, BOOT_RSDP_BYTES);
    u8 bytes = rsdp.bytes < BOOT_RSDP_BYTES ? RSDP_ACPI1_BYTES : BOOT_RSDP_BYTES;
    if (rsdp.bytes < RSDP_ACPI1_BYTES)
        return BOOT_INFO_TRUNCATED;
    u8 sum = 0;
    for (unsigned i = 0; i < RSDP_ACPI1_BYTES; i++)
        sum = (u8)(sum + rsdp.base[i]);
    /* A copy without its checksum is worth less than none; of two copies the longer one leads to the XSDT. */
    if (sum != 0 || bytes <= parse->info->rsdp_bytes)
        return BOOT_INFO_OK;
    memcpy(parse->info->rsdp, rsdp.base, bytes);
    parse->info->rsdp_bytes = bytes;
    return BOOT_INFO_OK;
}

static enum boot_info_status parse_memory_map(struct parse *parse, struct span tag)
{
    u32 step = span_u32(tag, MB2_MMAP_ENTRY_SIZE);
    if (tag.bytes < MB2_MMAP_ENTRIES || step < MB2_MMAP_ENTRY_BYTES)
        return BOOT_INFO_TRUNCATED;
    for (u64 at = MB2_MMAP_ENTRIES; span_holds(tag, at, MB2_MMAP_ENTRY_BYTES); at += step) {
        enum boot_info_status status =
            add_memory(parse, span_u64(tag, at), span_u64(tag, at + 8), span_u32(tag, at + 16));
        if (status != BOOT_INFO_OK)
            return status;
    }
    return BOOT_INFO_OK;
}

/* Loader and boot-services memory is free once the operating system runs (UEFI 2.10 table 7.10). */
static u32 efi_memory_type(u32 type)
{
    if ((type >= EFI_LOADER_CODE && type <= EFI_BOOT_SERVICES_DATA) || type == EFI_CONVENTIONAL)
        return MEM_RAM;
    switch (type) {
    case EFI_UNUSABLE:
        return MEM_UNUSABLE;
    case EFI_ACPI_RECLAIM:
        return MEM_ACPI;
    case EFI_ACPI_NVS:
        return MEM_NVS;
    case EFI_PERSISTENT:
        return MEM_PERSISTENT;
    default:
        return MEM_RESERVED;
    }
}

static enum boot_info_status parse_efi_map(struct parse *parse, struct span tag)
{
    u32 step = span_u32(tag, MB2_MMAP_ENTRY_SIZE);
    if (tag.bytes < MB2_MMAP_ENTRIES || step < EFI_DESCRIPTOR_BYTES)
        return BOOT_INFO_TRUNCATED;
    for (u64 at = MB2_MMAP_ENTRIES; span_holds(tag, at, EFI_DESCRIPTOR_BYTES); at += step) {
        u64 pages = span_u64(tag, at + EFI_DESCRIPTOR_PAGES);
        if (pages > ~0ull >> PAGE_SHIFT)
            continue;
        enum boot_info_status status = add_memory(parse, span_u64(tag, at + EFI_DESCRIPTOR_START),
                                                  pages << PAGE_SHIFT, efi_memory_type(span_u32(tag, at)));
        if (status != BOOT_INFO_OK)
            return status;
    }
    return BOOT_INFO_OK;
}

static enum boot_info_status parse_tag(struct parse *parse, u32 type, struct span tag)
{
    switch (type) {
    case MB2_TAG_COMMAND_LINE:
        return copy_string(parse, span_part(tag, MB2_TAG_BYTES, tag.bytes), &parse->info->command_line);
    case MB2_TAG_LOADER_NAME:
        return copy_string(parse, span_part(tag, MB2_TAG_BYTES, tag.bytes), &parse->info->loader_name);
    case MB2_TAG_MODULE:
        return add_module(parse, span_u32(tag, MB2_MODULE_START), span_u32(tag, MB2_MODULE_END),
                          span_part(tag, MB2_MODULE_STRING, tag.bytes));
    case MB2_TAG_BASIC_MEMORY:
        parse->ordinary = tag;
        return tag.bytes < MB2_MEMORY_UPPER + sizeof(u32) ? BOOT_INFO_TRUNCATED : BOOT_INFO_OK;
    case MB2_TAG_MEMORY_MAP:
        return parse_memory_map(parse, tag);
    case MB2_TAG_EFI_MEMORY_MAP:
        parse->efi_map = tag;
        return BOOT_INFO_OK;
    case MB2_TAG_FRAMEBUFFER:
        return parse_framebuffer(parse, tag);
    case MB2_TAG_EFI64_SYSTEM_TABLE:
        parse->info->efi_system_table = span_u64(tag, MB2_TAG_BYTES);
        return tag.bytes < MB2_TAG_BYTES + sizeof(u64) ? BOOT_INFO_TRUNCATED : BOOT_INFO_OK;
    case MB2_TAG_ACPI_OLD_RSDP:
    case MB2_TAG_ACPI_NEW_RSDP:
        return parse_rsdp(parse, tag);
    default:
        return BOOT_INFO_OK;
    }
}

static enum boot_info_status parse_tags(struct parse *parse, struct span all)
{
    for (u64 at = MB2_INFO_BYTES; span_holds(all, at, MB2_TAG_BYTES);) {
        u32 type = span_u32(all, at), size = span_u32(all, at + MB2_TAG_SIZE);
        if (size < MB2_TAG_BYTES || !span_holds(all, at, size))
            return BOOT_INFO_TRUNCATED;
        if (type == MB2_TAG_END)
            return BOOT_INFO_OK;
        enum boot_info_status status = parse_tag(parse, type, span_part(all, at, size));
        if (status != BOOT_INFO_OK)
            return status;
        at += align_up(size, MB2_TAG_ALIGNMENT);
    }
    return BOOT_INFO_TRUNCATED;
}

static enum boot_info_status parse_multiboot2(struct parse *parse, u32 physical)
{
    u64 total = span_u32(span_part(below_4g(), physical, MB2_INFO_BYTES), 0);
    struct span all = span_part(below_4g(), physical, total);
    if (total < MB2_INFO_BYTES || total > INFO_BYTES_MAX || all.bytes != total)
        return BOOT_INFO_TRUNCATED;
    parse->info->loader_start = physical;
    parse->info->loader_end = physical + total;

    enum boot_info_status status = parse_tags(parse, all);
    if (status == BOOT_INFO_OK && parse->info->memory.count == 0 && parse->efi_map.bytes != 0)
        status = parse_efi_map(parse, parse->efi_map);
    if (status == BOOT_INFO_OK && parse->info->memory.count == 0 && parse->ordinary.bytes != 0)
        status = add_basic_memory(parse, span_u32(parse->ordinary, MB2_MEMORY_LOWER),
                                  span_u32(parse->ordinary, MB2_MEMORY_UPPER));
    return status;
}

/* --- multiboot1 --- */

/*
 * All that may be read from `physical` on: to the end of its RAM range, or to the end of the first MByte,
 * where loaders use memory that firmware calls reserved. Empty for an address where no loader can have stored
 * anything.
 */
static struct span readable_from(const struct parse *parse, u32 physical)
{
    const struct memmap *memory = &parse->info->memory;
    u64 end = physical < MIB(1) ? MIB(1) : physical;
    for (unsigned i = 0; i < memory->count; i++) {
        const struct mem_range *range = &memory->range[i];
        if (range->type == MEM_RAM && range->start <= physical && range->end > physical)
            end = max_u64(end, min_u64(range->end, GIB(4)));
    }
    return span_part(below_4g(), physical, end - physical);
}

static void note_loader_memory(struct parse *parse, u64 start, u64 bytes)
{
    struct boot_info *info = parse->info;
    info->loader_start = min_u64(info->loader_start, start);
    info->loader_end = max_u64(info->loader_end, start + bytes);
}

static enum boot_info_status copy_string_at(struct parse *parse, u32 physical, const char **copy)
{
    enum boot_info_status status = copy_string(parse, readable_from(parse, physical), copy);
    if (status == BOOT_INFO_OK)
        note_loader_memory(parse, physical, strlen(*copy) + 1);
    return status;
}

static enum boot_info_status parse_mmap1(struct parse *parse, u32 physical, u32 length)
{
    struct span map = span_part(below_4g(), physical, length);
    if (length > INFO_BYTES_MAX || map.bytes != length)
        return BOOT_INFO_TRUNCATED;
    note_loader_memory(parse, physical, length);
    for (u64 at = 0; at < length;) {
        u64 payload = span_u32(map, at + MB1_MMAP_SIZE);
        if (payload < MB1_MMAP_PAYLOAD || !span_holds(map, at, MB1_MMAP_BASE + payload))
            return BOOT_INFO_TRUNCATED;
        enum boot_info_status status =
            add_memory(parse, span_u64(map, at + MB1_MMAP_BASE), span_u64(map, at + MB1_MMAP_LENGTH),
                       span_u32(map, at + MB1_MMAP_TYPE));
        if (status != BOOT_INFO_OK)
            return status;
        at += MB1_MMAP_BASE + payload;
    }
    return BOOT_INFO_OK;
}

static enum boot_info_status parse_modules1(struct parse *parse, u32 physical, u32 count)
{
    struct span table = readable_from(parse, physical);
    if (count > BOOT_MODULES_MAX)
        return BOOT_INFO_TOO_MANY_MODULES;
    if (!span_holds(table, 0, (u64)count * MB1_MODULE_BYTES))
        return BOOT_INFO_TRUNCATED;
    note_loader_memory(parse, physical, (u64)count * MB1_MODULE_BYTES);
    for (u64 at = 0; at < (u64)count * MB1_MODULE_BYTES; at += MB1_MODULE_BYTES) {
        static const u8 no_string[1];
        u32 string = span_u32(table, at + MB1_MODULE_STRING);
        struct span text = string == 0 ? (struct span){no_string, 1} : readable_from(parse, string);
        enum boot_info_status status = add_module(parse, span_u32(table, at + MB1_MODULE_START),
                                                  span_u32(table, at + MB1_MODULE_END), text);
        if (status != BOOT_INFO_OK)
            return status;
        if (string != 0)
            note_loader_memory(parse, string,
                               strlen(parse->info->module[parse->info->module_count - 1].string) + 1);
    }
    return BOOT_INFO_OK;
}

static void parse_framebuffer1(struct parse *parse, struct span info)
{
    struct boot_framebuffer *framebuffer = &parse->info->framebuffer;
    *framebuffer = (struct boot_framebuffer){
        .present = true,
        .address = span_u64(info, MB1_INFO_FB_ADDR),
        .pitch = span_u32(info, MB1_INFO_FB_PITCH),
        .width = span_u32(info, MB1_INFO_FB_WIDTH),
        .height = span_u32(info, MB1_INFO_FB_HEIGHT),
        .bpp = span_u8(info, MB1_INFO_FB_BPP),
        .type = span_u8(info, MB1_INFO_FB_TYPE),
    };
    set_colors(framebuffer, span_part(info, MB1_INFO_FB_COLOR, MB_FRAMEBUFFER_COLOR_BYTES));
}

/* The memory map comes first: it says which of the other pointers can be followed. */
static enum boot_info_status parse_memory1(struct parse *parse, struct span info, u32 flags)
{
    enum boot_info_status status = BOOT_INFO_OK;
    if ((flags & MB1_INFO_HAS_MMAP) != 0)
        status = parse_mmap1(parse, span_u32(info, MB1_INFO_MMAP_ADDR), span_u32(info, MB1_INFO_MMAP_LENGTH));
    if (status == BOOT_INFO_OK && parse->info->memory.count == 0 && (flags & MB1_INFO_HAS_MEMORY) != 0)
        status =
            add_basic_memory(parse, span_u32(info, MB1_INFO_MEM_LOWER), span_u32(info, MB1_INFO_MEM_UPPER));
    return status;
}

static enum boot_info_status parse_multiboot1(struct parse *parse, u32 physical)
{
    struct span info = span_part(below_4g(), physical, MB1_INFO_BYTES);
    u32 flags = span_u32(info, 0);
    if (info.bytes != MB1_INFO_BYTES)
        return BOOT_INFO_TRUNCATED;
    parse->info->loader_start = physical;
    parse->info->loader_end = physical + info.bytes;

    enum boot_info_status status = parse_memory1(parse, info, flags);
    if (status == BOOT_INFO_OK && (flags & MB1_INFO_HAS_CMDLINE) != 0)
        status = copy_string_at(parse, span_u32(info, MB1_INFO_CMDLINE), &parse->info->command_line);
    if (status == BOOT_INFO_OK && (flags & MB1_INFO_HAS_LOADER_NAME) != 0)
        status = copy_string_at(parse, span_u32(info, MB1_INFO_LOADER_NAME), &parse->info->loader_name);
    if (status == BOOT_INFO_OK && (flags & MB1_INFO_HAS_MODULES) != 0)
        status =
            parse_modules1(parse, span_u32(info, MB1_INFO_MODS_ADDR), span_u32(info, MB1_INFO_MODS_COUNT));
    if (status == BOOT_INFO_OK && (flags & MB1_INFO_HAS_FRAMEBUFFER) != 0)
        parse_framebuffer1(parse, info);
    return status;
}

enum boot_info_status boot_info_parse(struct boot_info *info, u32 magic, u32 physical)
{
    struct parse parse = {.info = info};
    memset(info, 0, sizeof(*info));
    info->command_line = "";
    info->loader_name = "an unnamed boot loader";

    enum boot_info_status status = BOOT_INFO_UNKNOWN_LOADER;
    if (magic == MB2_LOADER_MAGIC)
        status = parse_multiboot2(&parse, physical);
    else if (magic == MB1_LOADER_MAGIC)
        status = parse_multiboot1(&parse, physical);

    const struct boot_framebuffer *framebuffer = &info->framebuffer;
    if (framebuffer->pitch == 0 || framebuffer->width == 0 || framebuffer->height == 0)
        info->framebuffer.present = false;
    if (status == BOOT_INFO_OK && memmap_ram_bytes(&info->memory) == 0)
        status = BOOT_INFO_NO_MEMORY_MAP;
    return status;
}

const char *boot_info_status_text(enum boot_info_status status)
{
    switch (status) {
    case BOOT_INFO_OK:
        return "the boot information is complete";
    case BOOT_INFO_UNKNOWN_LOADER:
        return "Umbra was not started by a multiboot2 or multiboot loader: start it with GRUB's multiboot2 "
               "command";
    case BOOT_INFO_TRUNCATED:
        return "the boot loader's information structure is damaged (a length or an address leads out of it): "
               "try another version of the boot loader";
    case BOOT_INFO_NO_MEMORY_MAP:
        return "the boot loader passed no memory map with RAM in it: start Umbra with GRUB's multiboot2 "
               "command";
    case BOOT_INFO_TOO_MANY_MODULES:
        return "the boot loader passed more than 32 modules: join some of the guest's module2 lines";
    case BOOT_INFO_STRINGS_TOO_LONG:
        return "the command lines of Umbra and its modules are longer than 16 KByte together: shorten them";
    case BOOT_INFO_BAD_MODULE:
        return "the boot loader passed a module that ends before it starts: try another version of the boot "
               "loader";
    case BOOT_INFO_MAP_FULL:
        return "the firmware's memory map has more than 256 ranges: Umbra cannot hold it";
    }
    return "the boot information is in an unknown state";
}
