/* SPDX-License-Identifier: MIT */
/*
 * Multiboot2 kernels (Multiboot2 Specification 2.0) for i386: ELF32 and ELF64 by program headers, or any file
 * by the address tag of its header; entered in 32-bit protected mode. No EFI boot services.
 */
#include "arch/string.h"
#include "boot/guest-multiboot.h"
#include "boot/multiboot.h"
#include "mm/phys.h"

/* Preferences of the relocatable tag, 3.1.11. */
enum { PREFER_HIGH = 2 };

/* What the header tags say, 3.1.3 to 3.1.11. */
struct header {
    bool has_addresses, has_entry, relocatable;
    struct multiboot_addresses addresses;
    u32 entry;
    u32 min_address, max_address, alignment, preference;
};

enum header_search multiboot2_find_header(struct span image, u64 *header)
{
    enum header_search result = HEADER_NONE;
    u64 end = min_u64(image.bytes, MB2_HEADER_SEARCH);
    for (u64 at = 0; at + MB2_HEADER_BYTES <= end; at += 8) {
        if (span_u32(image, at) != MB2_HEADER_MAGIC)
            continue;
        u32 sum = MB2_HEADER_MAGIC + span_u32(image, at + MB2_HEADER_ARCHITECTURE) +
                  span_u32(image, at + MB2_HEADER_LENGTH) + span_u32(image, at + MB2_HEADER_CHECKSUM);
        if (sum == 0 || result == HEADER_NONE)
            *header = at;
        if (sum == 0)
            return HEADER_FOUND;
        result = HEADER_BAD_CHECKSUM;
    }
    return result;
}

/* --- header tags --- */

static enum guest_status refuse_damaged(struct guest_plan *plan, unsigned type)
{
    return plan_refuse(
        plan, GUEST_DAMAGED_IMAGE,
        "the guest is a multiboot2 kernel with a damaged header: its tag of type %u leads beyond its "
        "end or is too short",
        type);
}

static enum guest_status refuse_tag(struct guest_plan *plan, const char *what, unsigned number)
{
    return plan_refuse(plan, GUEST_UNSUPPORTED,
                       "the guest is a multiboot2 kernel that demands %s %u, which Umbra does not have", what,
                       number);
}

static bool can_inform(u32 type)
{
    switch (type) {
    case MB2_TAG_END:
    case MB2_TAG_COMMAND_LINE:
    case MB2_TAG_LOADER_NAME:
    case MB2_TAG_MODULE:
    case MB2_TAG_BASIC_MEMORY:
    case MB2_TAG_MEMORY_MAP:
    case MB2_TAG_FRAMEBUFFER:
    case MB2_TAG_ACPI_OLD_RSDP:
    case MB2_TAG_ACPI_NEW_RSDP:
    case MB2_TAG_LOAD_BASE:
        return true;
    default:
        return false;
    }
}

static enum guest_status parse_request(struct guest_plan *plan, struct span tag, bool optional)
{
    for (u64 at = MB2_HEADER_TAG_BYTES; !optional && span_holds(tag, at, sizeof(u32)); at += sizeof(u32)) {
        if (!can_inform(span_u32(tag, at)))
            return refuse_tag(plan, "information of type", span_u32(tag, at));
    }
    return GUEST_OK;
}

static void parse_addresses(struct header *header, struct span tag)
{
    header->has_addresses = true;
    header->addresses = (struct multiboot_addresses){
        .header = span_u32(tag, 8),
        .load = span_u32(tag, 12),
        .load_end = span_u32(tag, 16),
        .bss_end = span_u32(tag, 20),
    };
}

static void parse_relocatable(struct header *header, struct span tag)
{
    header->relocatable = true;
    header->min_address = span_u32(tag, 8);
    header->max_address = span_u32(tag, 12);
    header->alignment = span_u32(tag, 16);
    header->preference = span_u32(tag, 20);
}

/* How long a tag of that type must be; shorter ones are damaged. */
static u64 tag_bytes_needed(u32 type)
{
    switch (type) {
    case MB2_HEADER_ADDRESS:
    case MB2_HEADER_RELOCATABLE:
        return 24;
    case MB2_HEADER_ENTRY_ADDRESS:
        return 12;
    default:
        return MB2_HEADER_TAG_BYTES;
    }
}

static enum guest_status parse_tag(struct guest_plan *plan, struct span tag, struct header *header)
{
    u16 type = span_u16(tag, 0);
    bool optional = (span_u16(tag, MB2_HEADER_TAG_FLAGS) & MB2_HEADER_TAG_OPTIONAL) != 0;
    if (tag.bytes < tag_bytes_needed(type))
        return refuse_damaged(plan, type);
    switch (type) {
    case MB2_HEADER_INFORMATION_REQUEST:
        return parse_request(plan, tag, optional);
    case MB2_HEADER_ADDRESS:
        parse_addresses(header, tag);
        return GUEST_OK;
    case MB2_HEADER_ENTRY_ADDRESS:
        header->has_entry = true;
        header->entry = span_u32(tag, 8);
        return GUEST_OK;
    case MB2_HEADER_RELOCATABLE:
        parse_relocatable(header, tag);
        return GUEST_OK;
    case MB2_HEADER_FRAMEBUFFER:
        if (!optional && !plan->info->framebuffer.present)
            return plan_refuse(
                plan, GUEST_UNSUPPORTED,
                "the guest is a multiboot2 kernel that demands a framebuffer, but the boot loader has "
                "set up none: set gfxpayload in GRUB");
        return GUEST_OK;
    case MB2_HEADER_CONSOLE_FLAGS:
    case MB2_HEADER_MODULE_ALIGNMENT:
    case MB2_HEADER_EFI_I386_ENTRY:
    case MB2_HEADER_EFI_AMD64_ENTRY:
        /* Modules are always aligned; entry points for EFI do not concern a start without it. */
        return GUEST_OK;
    default:
        return optional ? GUEST_OK : refuse_tag(plan, "the header feature", type);
    }
}

static enum guest_status parse_header(struct guest_plan *plan, struct span image, u64 at,
                                      struct header *header)
{
    u64 length = span_u32(image, at + MB2_HEADER_LENGTH);
    if (span_u32(image, at + MB2_HEADER_ARCHITECTURE) != MB2_ARCHITECTURE_I386)
        return plan_refuse(plan, GUEST_UNSUPPORTED,
                           "the guest is a multiboot2 kernel for architecture %u: only i386 (0) can run here",
                           span_u32(image, at + MB2_HEADER_ARCHITECTURE));
    if (!span_holds(image, at, length))
        return refuse_damaged(plan, MB2_HEADER_END);
    struct span tags = span_part(image, at, length);
    for (u64 tag = MB2_HEADER_BYTES; span_holds(tags, tag, MB2_HEADER_TAG_BYTES);) {
        u16 type = span_u16(tags, tag);
        u64 size = span_u32(tags, tag + MB2_HEADER_TAG_SIZE);
        if (size < MB2_HEADER_TAG_BYTES || !span_holds(tags, tag, size))
            return refuse_damaged(plan, type);
        if (type == MB2_HEADER_END)
            return GUEST_OK;
        enum guest_status status = parse_tag(plan, span_part(tags, tag, size), header);
        if (status != GUEST_OK)
            return status;
        tag += align_up(size, MB2_TAG_ALIGNMENT);
    }
    return refuse_damaged(plan, MB2_HEADER_END);
}

/* --- the kernel --- */

static bool entry_is_loaded(const struct elf_image *kernel)
{
    for (unsigned i = 0; i < kernel->segment_count; i++) {
        if (kernel->entry - kernel->segment[i].physical < kernel->segment[i].memory_bytes)
            return true;
    }
    return false;
}

static enum guest_status parse_kernel(struct guest_plan *plan, struct span image, u64 at,
                                      struct header *header, struct elf_image *kernel)
{
    if (header->has_addresses) {
        /* Without an entry tag there is none: an image with an address tag names it there. */
        header->addresses.entry = header->entry;
        if (!header->has_entry || !multiboot_segment(image, at, &header->addresses, kernel))
            return plan_refuse(
                plan, GUEST_DAMAGED_IMAGE,
                "the guest is a multiboot2 kernel whose address tags contradict its size: load address "
                "0x%x to 0x%x, entry 0x%x, %lu bytes",
                header->addresses.load, header->addresses.load_end, header->entry,
                (unsigned long)image.bytes);
        return GUEST_OK;
    }
    enum elf_status status = elf_parse(image, kernel);
    if (status != ELF_OK)
        return plan_refuse(plan, GUEST_DAMAGED_IMAGE, "the guest is a multiboot2 kernel that %s",
                           elf_status_text(status));
    if (header->has_entry)
        kernel->entry = header->entry;
    if (kernel->entry >= GIB(4) || !entry_is_loaded(kernel))
        return plan_refuse(
            plan, GUEST_DAMAGED_IMAGE,
            "the guest is a multiboot2 kernel whose entry point 0x%lx is not in what it loads below 4 "
            "GByte",
            (unsigned long)kernel->entry);
    return GUEST_OK;
}

static void kernel_bounds(const struct elf_image *kernel, u64 *low, u64 *high)
{
    *low = ~0ull;
    *high = 0;
    for (unsigned i = 0; i < kernel->segment_count; i++) {
        *low = min_u64(*low, kernel->segment[i].physical);
        *high = max_u64(*high, kernel->segment[i].physical + kernel->segment[i].memory_bytes);
    }
}

static bool fits_where_linked(const struct guest_plan *plan, const struct elf_image *kernel)
{
    for (unsigned i = 0; i < kernel->segment_count; i++) {
        const struct elf_segment *segment = &kernel->segment[i];
        if (segment->physical + segment->memory_bytes > GIB(4) ||
            !memmap_covers(plan->memory, segment->physical, segment->memory_bytes, MEM_RAM))
            return false;
    }
    return true;
}

/*
 * A relocatable kernel is moved only if it does not fit where it was linked, and then as a whole. The place
 * is not taken here: multiboot_place_kernel() takes each segment. Leaves the kernel alone if nothing better
 * is found.
 */
static void relocate(struct guest_plan *plan, const struct header *header, struct elf_image *kernel)
{
    u64 low, high, place;
    bool aligned = header->alignment != 0 && (header->alignment & (header->alignment - 1)) == 0;
    if (!header->relocatable || !aligned || fits_where_linked(plan, kernel))
        return;
    kernel_bounds(kernel, &low, &high);
    u64 base = align_down(low, header->alignment), limit = (u64)header->max_address + 1;
    enum memmap_status status;
    if (header->preference == PREFER_HIGH)
        status = memmap_find_highest(plan->memory, high - base, header->alignment, limit, NULL, 0, &place);
    else
        status = memmap_find_lowest(plan->memory, high - base, header->alignment,
                                    max_u64(header->min_address, MIB(1)), limit, NULL, 0, &place);
    if (status != MEMMAP_OK || place < header->min_address)
        return;
    for (unsigned i = 0; i < kernel->segment_count; i++)
        kernel->segment[i].physical += place - base;
    kernel->entry += place - base;
}

/* --- the information structure, 3.6 --- */

/* Starts a tag; its size is patched by end_tag() when it is known. */
static u64 begin_tag(struct writer *writer, u32 type)
{
    writer_align(writer, MB2_TAG_ALIGNMENT);
    u64 at = writer->length;
    writer_value(writer, type, 4);
    writer_value(writer, 0, 4);
    return at;
}

static void end_tag(struct writer *writer, u64 at)
{
    writer_patch(writer, at + MB2_TAG_SIZE, writer->length - at, 4);
}

static void write_string_tag(struct writer *writer, u32 type, const char *text)
{
    u64 tag = begin_tag(writer, type);
    writer_string(writer, text);
    end_tag(writer, tag);
}

static void write_modules(struct writer *writer, const struct guest_plan *plan)
{
    for (unsigned i = 1; i < plan->info->module_count; i++) {
        const struct boot_module *module = &plan->info->module[i];
        u64 tag = begin_tag(writer, MB2_TAG_MODULE);
        writer_value(writer, plan->module_at[i], 4);
        writer_value(writer, plan->module_at[i] + (module->end - module->start), 4);
        writer_string(writer, module->string);
        end_tag(writer, tag);
    }
}

static void write_memory(struct writer *writer, const struct memmap *memory)
{
    u64 tag = begin_tag(writer, MB2_TAG_BASIC_MEMORY);
    writer_value(writer, multiboot_mem_lower(memory), 4);
    writer_value(writer, multiboot_mem_upper(memory), 4);
    end_tag(writer, tag);

    tag = begin_tag(writer, MB2_TAG_MEMORY_MAP);
    writer_value(writer, MB2_MMAP_ENTRY_BYTES, 4);
    writer_value(writer, 0, 4); /* entry version */
    for (unsigned i = 0; i < memory->count; i++) {
        const struct mem_range *range = &memory->range[i];
        writer_value(writer, range->start, 8);
        writer_value(writer, range->end - range->start, 8);
        writer_value(writer, range->type, 4);
        writer_value(writer, 0, 4);
    }
    end_tag(writer, tag);
}

static void write_framebuffer(struct writer *writer, const struct boot_framebuffer *framebuffer)
{
    u64 tag = begin_tag(writer, MB2_TAG_FRAMEBUFFER);
    writer_value(writer, framebuffer->address, 8);
    writer_value(writer, framebuffer->pitch, 4);
    writer_value(writer, framebuffer->width, 4);
    writer_value(writer, framebuffer->height, 4);
    writer_value(writer, framebuffer->bpp, 1);
    writer_value(writer, framebuffer->type, 1);
    writer_value(writer, 0, 2);
    if (framebuffer->type == MB_FRAMEBUFFER_RGB)
        writer_colors(writer, framebuffer);
    if (framebuffer->type == MB_FRAMEBUFFER_INDEXED)
        writer_value(writer, 0, 2); /* the palette is not known */
    end_tag(writer, tag);
}

static void write_rsdp(struct writer *writer, const struct guest_plan *plan)
{
    if (plan->rsdp_bytes == 0)
        return;
    u64 tag = begin_tag(writer,
                        plan->rsdp_bytes == BOOT_RSDP_BYTES ? MB2_TAG_ACPI_NEW_RSDP : MB2_TAG_ACPI_OLD_RSDP);
    writer_bytes(writer, plan->rsdp, plan->rsdp_bytes);
    end_tag(writer, tag);
}

static void write_info(struct writer *writer, const struct guest_plan *plan, const struct header *header,
                       u64 load_base)
{
    writer_value(writer, 0, MB2_INFO_BYTES);
    write_string_tag(writer, MB2_TAG_COMMAND_LINE, plan->info->module[0].string);
    write_string_tag(writer, MB2_TAG_LOADER_NAME, "Umbra");
    write_modules(writer, plan);
    write_memory(writer, plan->memory);
    if (plan->info->framebuffer.present)
        write_framebuffer(writer, &plan->info->framebuffer);
    write_rsdp(writer, plan);
    if (header->relocatable) {
        u64 tag = begin_tag(writer, MB2_TAG_LOAD_BASE);
        writer_value(writer, load_base, 4);
        end_tag(writer, tag);
    }
    end_tag(writer, begin_tag(writer, MB2_TAG_END));
    writer_patch(writer, 0, writer->length, 4);
}

enum guest_status multiboot2_load(struct guest_plan *plan, u64 at, struct start_state *start)
{
    static struct elf_image kernel;
    struct header header = {0};
    struct writer measure = {NULL, 0};
    u64 kernel_end = 0, info = 0, low, high;

    enum guest_status status = parse_header(plan, plan_image(plan), at, &header);
    if (status == GUEST_OK)
        status = parse_kernel(plan, plan_image(plan), at, &header, &kernel);
    if (status != GUEST_OK)
        return status;
    relocate(plan, &header, &kernel);
    kernel_bounds(&kernel, &low, &high);
    status = multiboot_place_kernel(plan, &kernel, &kernel_end);
    if (status == GUEST_OK)
        status = multiboot_place_modules(plan, kernel_end);
    if (status != GUEST_OK)
        return status;
    write_info(&measure, plan, &header, low);
    status = multiboot_place_info(plan, kernel_end, measure.length, &info);
    if (status == GUEST_OK)
        status = multiboot_move(plan);
    if (status != GUEST_OK)
        return status;

    struct writer writer = {phys_to_virt(hpa(info)), 0};
    write_info(&writer, plan, &header, low);
    multiboot_start(plan, start, 2, kernel.entry, info);
    return GUEST_OK;
}
