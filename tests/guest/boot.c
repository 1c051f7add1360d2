/* SPDX-License-Identifier: MIT */
/*
 * What the boot loader handed over: parsed and copied before anything else runs, and then checked by the
 * group `boot`. Source: Multiboot Specification 0.6.96 section 3.3; Multiboot2 Specification 2.0 section 3.6.
 */
#include "tests/guest/guest.h"

extern u32 entry_eax, entry_ebx, entry_cr0, entry_cr4, entry_eflags;
extern u16 entry_selectors[4];
extern const u8 image_start[], image_bss_end[];

enum { MB1_LOADED = 0x2badb002, MB2_LOADED = 0x36d76289 };
enum { MB1_MEMORY = 1, MB1_COMMAND_LINE = 4, MB1_MODULES = 8, MB1_MAP = 0x40, MB1_LOADER = 0x200 };
enum { MB2_END = 0, MB2_COMMAND_LINE = 1, MB2_LOADER = 2, MB2_MODULE = 3, MB2_MEMORY = 4, MB2_MAP = 6 };

struct boot boot;
static u64 info_start, info_end;

static u32 read32(u64 address)
{
    u32 value;
    memcpy(&value, (const void *)address, sizeof(value));
    return value;
}

static u64 read64(u64 address)
{
    return (u64)read32(address + 4) << 32 | read32(address);
}

static void copy_text(char *to, size_t size, u64 from)
{
    const char *text = (const char *)from;
    size_t length = 0;
    for (; text[length] && length + 1 < size; length++)
        to[length] = text[length];
    to[length] = 0;
}

static void add_range(u64 start, u64 bytes, u32 type)
{
    if (boot.range_count < RANGES_MAX)
        boot.range[boot.range_count++] = (struct boot_range){start, bytes, type};
}

static void add_module(u32 start, u32 end, u64 text)
{
    if (boot.module_count == MODULES_MAX)
        return;
    struct boot_module *module = &boot.module[boot.module_count++];
    module->start = start;
    module->end = end;
    copy_text(module->text, sizeof(module->text), text);
}

static void read_multiboot1(u64 info)
{
    u32 flags = read32(info);
    boot.protocol = "multiboot1";
    info_start = info;
    info_end = info + 88;
    boot.has_memory_sizes = flags & MB1_MEMORY;
    boot.lower_kib = read32(info + 4);
    boot.upper_kib = read32(info + 8);
    boot.has_command_line = flags & MB1_COMMAND_LINE;
    if (boot.has_command_line)
        copy_text(boot.command_line, sizeof(boot.command_line), read32(info + 16));
    if (flags & MB1_MODULES) {
        u64 entry = read32(info + 24);
        for (u32 i = read32(info + 20); i > 0; i--, entry += 16)
            add_module(read32(entry), read32(entry + 4), read32(entry + 8));
    }
    if (flags & MB1_MAP) {
        u64 end = read32(info + 48) + (u64)read32(info + 44);
        for (u64 entry = read32(info + 48); entry < end; entry += 4 + read32(entry))
            add_range(read64(entry + 4), read64(entry + 12), read32(entry + 20));
    }
    if (flags & MB1_LOADER)
        copy_text(boot.loader, sizeof(boot.loader), read32(info + 64));
}

static void read_map_tag(u64 tag, u32 size)
{
    u32 step = read32(tag + 8);
    for (u64 entry = tag + 16; step >= 24 && entry + 24 <= tag + size; entry += step)
        add_range(read64(entry), read64(entry + 8), read32(entry + 16));
}

static void read_multiboot2(u64 info)
{
    boot.protocol = "multiboot2";
    info_start = info;
    info_end = info + read32(info);
    u64 tag = info + 8;
    while (tag + 8 <= info_end && read32(tag) != MB2_END) {
        u32 size = read32(tag + 4);
        switch (read32(tag)) {
        case MB2_COMMAND_LINE:
            boot.has_command_line = true;
            copy_text(boot.command_line, sizeof(boot.command_line), tag + 8);
            break;
        case MB2_LOADER:
            copy_text(boot.loader, sizeof(boot.loader), tag + 8);
            break;
        case MB2_MODULE:
            add_module(read32(tag + 8), read32(tag + 12), tag + 16);
            break;
        case MB2_MEMORY:
            boot.has_memory_sizes = true;
            boot.lower_kib = read32(tag + 8);
            boot.upper_kib = read32(tag + 12);
            break;
        case MB2_MAP:
            read_map_tag(tag, size);
            break;
        }
        tag += align_up(size, 8);
    }
}

void boot_read(void)
{
    if (entry_eax == MB1_LOADED)
        read_multiboot1(entry_ebx);
    else if (entry_eax == MB2_LOADED)
        read_multiboot2(entry_ebx);
    else
        boot.protocol = "unknown";
}

bool boot_is_ram(u64 start, u64 bytes)
{
    for (unsigned i = 0; i < boot.range_count; i++) {
        const struct boot_range *range = &boot.range[i];
        if (range->type == 1 && start >= range->start && start + bytes <= range->start + range->bytes)
            return true;
    }
    return false;
}

static bool overlap(u64 a, u64 a_end, u64 b, u64 b_end)
{
    return a < b_end && b < a_end;
}

static void check_map(void)
{
    u64 image = (u64)image_start, image_end = (u64)image_bss_end;
    bool disjoint = true;
    for (unsigned i = 0; i < boot.range_count; i++) {
        const struct boot_range *a = &boot.range[i];
        print("guest: fact boot.map 0x%lx-0x%lx type %u\n", a->start, a->start + a->bytes, a->type);
        for (unsigned j = 0; j < i; j++) {
            const struct boot_range *b = &boot.range[j];
            if (overlap(a->start, a->start + a->bytes, b->start, b->start + b->bytes))
                disjoint = false;
        }
    }
    check("boot.map_present", boot.range_count > 0);
    check("boot.map_disjoint", disjoint);
    check("boot.image_in_ram", boot_is_ram(image, image_end - image));
    check("boot.upper_memory_is_ram", boot.has_memory_sizes && boot_is_ram(MIB(1), KIB(boot.upper_kib)));
    check("boot.lower_memory", boot.has_memory_sizes && boot.lower_kib >= 512 && boot.lower_kib <= 640);
}

static void check_umbra_range(void)
{
    u64 start, end;
    if (!umbra_region(&start, &end)) {
        check("boot.umbra_region_known", !under_umbra);
        return;
    }
    bool reserved = false, as_ram = false;
    for (unsigned i = 0; i < boot.range_count; i++) {
        const struct boot_range *range = &boot.range[i];
        u64 range_end = range->start + range->bytes;
        if (range->type == 2 && range->start <= start && end <= range_end)
            reserved = true;
        if (range->type != 2 && overlap(start, end, range->start, range_end))
            as_ram = true;
    }
    check("boot.umbra_region_reserved", reserved);
    check("boot.umbra_region_not_ram", !as_ram);
    check("boot.info_outside_umbra", !overlap(info_start, info_end, start, end));
}

/* A module whose string says pattern=SEED,BYTES holds byte i = (SEED + 7 i) modulo 251. */
static void check_module(unsigned index)
{
    const struct boot_module *module = &boot.module[index];
    const char *text = option(module->text, "pattern");
    char name[64];
    print("guest: fact boot.module%u \"%s\" %lu bytes\n", index, module->text, module->end - module->start);
    print_to(name, sizeof(name), "boot.module%u_in_ram", index);
    check(name, module->end >= module->start && boot_is_ram(module->start, module->end - module->start));
    print_to(name, sizeof(name), "boot.module%u_page_aligned", index);
    check(name, (module->start & PAGE_MASK) == 0);
    print_to(name, sizeof(name), "boot.module%u_clear_of_others", index);
    bool clear = !overlap(module->start, module->end, (u64)image_start, (u64)image_bss_end) &&
                 !overlap(module->start, module->end, info_start, info_end);
    for (unsigned i = 0; i < index; i++)
        clear = clear && !overlap(module->start, module->end, boot.module[i].start, boot.module[i].end);
    check(name, clear);
    if (!text)
        return;
    const char *after;
    u64 seed = number(text, &after), bytes = number(after + 1, NULL), wrong = 0;
    print_to(name, sizeof(name), "boot.module%u_size", index);
    check_eq(name, module->end - module->start, bytes);
    for (u64 i = 0; i < module->end - module->start; i++) {
        if (((const u8 *)module->start)[i] != (u8)((seed + 7 * i) % 251))
            wrong++;
    }
    print_to(name, sizeof(name), "boot.module%u_content", index);
    check_eq(name, wrong, 0);
}

static void check_a20(void)
{
    volatile u32 *low = (volatile u32 *)(u64)REAL_BUFFER, *high = (volatile u32 *)(u64)(REAL_BUFFER + MIB(1));
    u32 saved = *high;
    *low = 0x12345678;
    *high = 0x9abcdef0;
    check("boot.a20", *low == 0x12345678 && *high == 0x9abcdef0);
    *high = saved;
}

void group_boot(void)
{
    const char *wanted = option(boot.command_line, "modules"),
               *protocol = option(boot.command_line, "protocol");
    print("guest: fact boot.protocol %s\n", boot.protocol);
    print("guest: fact boot.command_line \"%s\"\n", boot.command_line);
    print("guest: fact boot.loader \"%s\"\n", boot.loader);
    check("boot.protocol", !protocol || starts_with(protocol, boot.protocol));
    check("boot.command_line_given", boot.has_command_line);
    check("boot.loader_name_given", boot.loader[0] != 0);
    check_eq("boot.cr0", entry_cr0 & (CR0_PE | CR0_PG), CR0_PE);
    fact("boot.cr0", entry_cr0);
    check_eq("boot.cr4", entry_cr4, 0);
    check_eq("boot.eflags", entry_eflags & (RFLAGS_IF | RFLAGS_VM), 0);
    check("boot.selectors", entry_selectors[0] != entry_selectors[1]);
    check_a20();
    check_map();
    check_umbra_range();
    if (wanted)
        check_eq("boot.module_count", boot.module_count, number(wanted, NULL));
    for (unsigned i = 0; i < boot.module_count; i++)
        check_module(i);
}
