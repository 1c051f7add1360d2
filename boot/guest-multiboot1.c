/* SPDX-License-Identifier: MIT */
/*
 * Multiboot1 kernels (Multiboot Specification 0.6.96): ELF32 by program headers, or any file by the address
 * fields of its header. Video modes are not set: a framebuffer is passed on if the boot loader had set one
 * up.
 */
#include "arch/string.h"
#include "boot/guest-multiboot.h"
#include "boot/multiboot.h"
#include "mm/phys.h"

#define FLAGS_SUPPORTED (MB1_FLAG_ALIGN_MODULES | MB1_FLAG_MEMORY_INFO | MB1_FLAG_VIDEO_MODE)

enum header_search multiboot1_find_header(struct span image, u64 *header)
{
    enum header_search result = HEADER_NONE;
    u64 end = min_u64(image.bytes, MB1_HEADER_SEARCH);
    for (u64 at = 0; at + MB1_HEADER_BYTES <= end; at += 4) {
        if (span_u32(image, at) != MB1_HEADER_MAGIC)
            continue;
        u32 sum = MB1_HEADER_MAGIC + span_u32(image, at + MB1_HEADER_FLAGS) +
                  span_u32(image, at + MB1_HEADER_CHECKSUM);
        if (sum == 0 || result == HEADER_NONE)
            *header = at;
        if (sum == 0)
            return HEADER_FOUND;
        result = HEADER_BAD_CHECKSUM;
    }
    return result;
}

static enum guest_status parse_kludge(struct guest_plan *plan, struct span image, u64 header,
                                      struct elf_image *kernel)
{
    const struct multiboot_addresses addresses = {
        .header = span_u32(image, header + MB1_HEADER_HEADER_ADDR),
        .load = span_u32(image, header + MB1_HEADER_LOAD_ADDR),
        .load_end = span_u32(image, header + MB1_HEADER_LOAD_END_ADDR),
        .bss_end = span_u32(image, header + MB1_HEADER_BSS_END_ADDR),
        .entry = span_u32(image, header + MB1_HEADER_ENTRY_ADDR),
    };
    if (span_holds(image, header, MB1_HEADER_KLUDGE_BYTES) && addresses.load != MULTIBOOT_LOAD_FROM_START &&
        multiboot_segment(image, header, &addresses, kernel))
        return GUEST_OK;
    return plan_refuse(
        plan, GUEST_DAMAGED_IMAGE,
        "the guest is a multiboot kernel whose header contradicts its size: load address 0x%x to 0x%x, "
        "entry 0x%x, %lu bytes",
        addresses.load, addresses.load_end, (unsigned)addresses.entry, (unsigned long)image.bytes);
}

static enum guest_status parse_kernel(struct guest_plan *plan, struct span image, u64 header,
                                      struct elf_image *kernel)
{
    u32 flags = span_u32(image, header + MB1_HEADER_FLAGS);
    u32 unknown = flags & (u32)MB1_FLAGS_REQUIRED & ~(u32)FLAGS_SUPPORTED;
    if (unknown != 0)
        return plan_refuse(
            plan, GUEST_UNSUPPORTED,
            "the guest is a multiboot kernel that demands features of flags 0x%x, which Umbra does not "
            "have",
            unknown);
    if ((flags & MB1_FLAG_AOUT_KLUDGE) != 0)
        return parse_kludge(plan, image, header, kernel);

    enum elf_status status = elf_parse(image, kernel);
    if (status != ELF_OK)
        return plan_refuse(plan, GUEST_DAMAGED_IMAGE, "the guest is a multiboot kernel that %s",
                           elf_status_text(status));
    if (kernel->is_64)
        return plan_refuse(
            plan, GUEST_UNSUPPORTED,
            "the guest is a multiboot kernel in an ELF64 file: multiboot starts 32-bit code, so make it "
            "ELF32 (objcopy -O elf32-i386) or set address fields in its header");
    return GUEST_OK;
}

/* Offsets, from the start of the information structure, of what it points to. */
struct info_offsets {
    u64 memory_map, modules, strings;
};

static void write_memory_map(struct writer *writer, const struct memmap *memory)
{
    for (unsigned i = 0; i < memory->count; i++) {
        const struct mem_range *range = &memory->range[i];
        writer_value(writer, MB1_MMAP_PAYLOAD, 4);
        writer_value(writer, range->start, 8);
        writer_value(writer, range->end - range->start, 8);
        writer_value(writer, range->type, 4);
    }
}

static void write_modules(struct writer *writer, const struct guest_plan *plan, u64 strings)
{
    for (unsigned i = 1; i < plan->info->module_count; i++) {
        const struct boot_module *module = &plan->info->module[i];
        writer_value(writer, plan->module_at[i], 4);
        writer_value(writer, plan->module_at[i] + (module->end - module->start), 4);
        writer_value(writer, strings, 4);
        writer_value(writer, 0, 4);
        strings += strlen(module->string) + 1;
    }
}

/* All strings in one row: those of the modules, the kernel's, Umbra's name. */
static void write_strings(struct writer *writer, const struct guest_plan *plan, u64 *command_line, u64 *name)
{
    for (unsigned i = 1; i < plan->info->module_count; i++)
        writer_string(writer, plan->info->module[i].string);
    *command_line = writer->length;
    writer_string(writer, plan->info->module[0].string);
    *name = writer->length;
    writer_string(writer, "Umbra");
}

static void patch_framebuffer(struct writer *writer, const struct boot_framebuffer *framebuffer)
{
    writer_patch(writer, MB1_INFO_FB_ADDR, framebuffer->address, 8);
    writer_patch(writer, MB1_INFO_FB_PITCH, framebuffer->pitch, 4);
    writer_patch(writer, MB1_INFO_FB_WIDTH, framebuffer->width, 4);
    writer_patch(writer, MB1_INFO_FB_HEIGHT, framebuffer->height, 4);
    writer_patch(writer, MB1_INFO_FB_BPP, framebuffer->bpp, 1);
    writer_patch(writer, MB1_INFO_FB_TYPE, framebuffer->type, 1);
    if (framebuffer->type == MB_FRAMEBUFFER_RGB) {
        struct writer colors = {writer->base == NULL ? NULL : writer->base + MB1_INFO_FB_COLOR, 0};
        writer_colors(&colors, framebuffer);
    }
}

/* The structure at guest-physical `base`, with all that it points to behind it. */
static void write_info(struct writer *writer, const struct guest_plan *plan, u64 base)
{
    const struct boot_framebuffer *framebuffer = &plan->info->framebuffer;
    static const u8 nothing[MB1_INFO_BYTES];
    u64 command_line, name, modules, memory_map;
    u64 module_bytes = (u64)(plan->info->module_count - 1) * MB1_MODULE_BYTES;
    u64 flags = MB1_INFO_HAS_MEMORY | MB1_INFO_HAS_CMDLINE | MB1_INFO_HAS_MODULES | MB1_INFO_HAS_MMAP |
                MB1_INFO_HAS_LOADER_NAME | (framebuffer->present ? MB1_INFO_HAS_FRAMEBUFFER : 0);

    writer_bytes(writer, nothing, sizeof(nothing));
    memory_map = writer->length;
    write_memory_map(writer, plan->memory);
    modules = writer->length;
    write_modules(writer, plan, base + modules + module_bytes);
    write_strings(writer, plan, &command_line, &name);

    writer_patch(writer, 0, flags, 4);
    writer_patch(writer, MB1_INFO_MEM_LOWER, multiboot_mem_lower(plan->memory), 4);
    writer_patch(writer, MB1_INFO_MEM_UPPER, multiboot_mem_upper(plan->memory), 4);
    writer_patch(writer, MB1_INFO_CMDLINE, base + command_line, 4);
    writer_patch(writer, MB1_INFO_MODS_COUNT, plan->info->module_count - 1, 4);
    writer_patch(writer, MB1_INFO_MODS_ADDR, base + modules, 4);
    writer_patch(writer, MB1_INFO_MMAP_LENGTH, modules - memory_map, 4);
    writer_patch(writer, MB1_INFO_MMAP_ADDR, base + memory_map, 4);
    writer_patch(writer, MB1_INFO_LOADER_NAME, base + name, 4);
    if (framebuffer->present)
        patch_framebuffer(writer, framebuffer);
}

enum guest_status multiboot1_load(struct guest_plan *plan, u64 at, struct start_state *start)
{
    static struct elf_image kernel;
    struct writer measure = {NULL, 0};
    u64 kernel_end = 0, info = 0;

    enum guest_status status = parse_kernel(plan, plan_image(plan), at, &kernel);
    if (status == GUEST_OK)
        status = multiboot_place_kernel(plan, &kernel, &kernel_end);
    if (status == GUEST_OK)
        status = multiboot_place_modules(plan, kernel_end);
    if (status != GUEST_OK)
        return status;
    write_info(&measure, plan, 0);
    status = multiboot_place_info(plan, kernel_end, measure.length, &info);
    if (status == GUEST_OK)
        status = multiboot_move(plan);
    if (status != GUEST_OK)
        return status;

    struct writer writer = {phys_to_virt(hpa(info)), 0};
    write_info(&writer, plan, info);
    multiboot_start(plan, start, 1, kernel.entry, info);
    return GUEST_OK;
}
