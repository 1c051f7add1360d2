/* SPDX-License-Identifier: MIT */
/* The common half of the two multiboot loaders; it knows no header and no information structure of either. */
#include "boot/guest-multiboot.h"

#include "arch/print.h"
#include "arch/string.h"
#include "boot/multiboot.h"

/* Below 1 MByte the information structure keeps clear of what BIOS, trampolines and boot sectors use. */
#define INFO_FLOOR KIB(64)

/* Any selectors do for a guest that must load its own (multiboot 3.2). */
enum { FLAT_CODE = 0x08, FLAT_DATA = 0x10 };

bool multiboot_segment(struct span image, u64 header, const struct multiboot_addresses *addresses,
                       struct elf_image *kernel)
{
    u64 load = addresses->load, offset = 0;
    if (addresses->load == MULTIBOOT_LOAD_FROM_START) {
        if (addresses->header < header)
            return false;
        load = addresses->header - header;
    } else {
        /* The header lies as far behind the load address in memory as behind the first loaded byte in the
         * file. */
        if (addresses->header < load || addresses->header - load > header)
            return false;
        offset = header - (addresses->header - load);
    }
    u64 present = image.bytes - offset;
    u64 file_bytes = addresses->load_end == 0 ? present : addresses->load_end - load;
    if (addresses->load_end != 0 && addresses->load_end <= load)
        return false;
    u64 memory_bytes = addresses->bss_end == 0 ? file_bytes : addresses->bss_end - load;
    if (file_bytes > present || (addresses->bss_end != 0 && addresses->bss_end < load + file_bytes) ||
        addresses->entry - load >= memory_bytes)
        return false;
    *kernel = (struct elf_image){
        .entry = addresses->entry,
        .segment_count = 1,
        .segment[0] = {offset, file_bytes, load, load, memory_bytes},
    };
    return true;
}

enum guest_status multiboot_place_kernel(struct guest_plan *plan, const struct elf_image *kernel, u64 *end)
{
    u64 image = plan->info->module[0].start;
    *end = 0;
    for (unsigned i = 0; i < kernel->segment_count; i++) {
        const struct elf_segment *segment = &kernel->segment[i];
        u64 segment_end = segment->physical + segment->memory_bytes;
        if (segment_end > GIB(4) || !plan_take(plan, segment->physical, segment->memory_bytes))
            return plan_refuse(
                plan, GUEST_NO_ROOM,
                "the guest kernel must be loaded at 0x%lx to 0x%lx, which is not all free RAM below 4 "
                "GByte or belongs to two of its segments: link it elsewhere or add memory",
                (unsigned long)segment->physical, (unsigned long)segment_end);
        *end = max_u64(*end, segment_end);
        plan_move(plan, image + segment->offset, segment->physical, segment->file_bytes);
        plan_zero(plan, segment->physical + segment->file_bytes, segment->memory_bytes - segment->file_bytes);
    }
    return GUEST_OK;
}

static bool module_may_stay(struct guest_plan *plan, u64 start, u64 bytes)
{
    return (start & PAGE_MASK) == 0 && start >= MIB(1) && start + bytes <= GIB(4) &&
           plan_take(plan, start, bytes);
}

/* Behind the kernel if there is room, otherwise anywhere between 1 MByte and 4 GByte. */
static bool place_behind(struct guest_plan *plan, u64 kernel_end, struct plan_request *request, u64 *start)
{
    request->floor = max_u64(align_up(kernel_end, PAGE_SIZE), MIB(1));
    if (plan_place(plan, request, start))
        return true;
    request->floor = MIB(1);
    return plan_place(plan, request, start);
}

enum guest_status multiboot_place_modules(struct guest_plan *plan, u64 kernel_end)
{
    /* Those that stay are known first, so that no other is put in their place. A page is never shared by two.
     */
    for (unsigned i = 1; i < plan->info->module_count; i++) {
        const struct boot_module *module = &plan->info->module[i];
        u64 pages = align_up(max_u64(module->end - module->start, 1), PAGE_SIZE);
        if (module_may_stay(plan, module->start, pages))
            plan->module_at[i] = module->start;
    }
    for (unsigned i = 1; i < plan->info->module_count; i++) {
        const struct boot_module *module = &plan->info->module[i];
        u64 bytes = module->end - module->start;
        struct plan_request request = {
            .bytes = align_up(max_u64(bytes, 1), PAGE_SIZE),
            .alignment = PAGE_SIZE,
            .limit = GIB(4),
            .module = i,
        };
        if (plan->module_at[i] != 0)
            continue;
        if (!place_behind(plan, kernel_end, &request, &plan->module_at[i]))
            return plan_refuse(
                plan, GUEST_NO_ROOM,
                "the guest's module %u needs %lu KByte of RAM in one piece below 4 GByte, which is not "
                "free: use a machine with more memory",
                i, (unsigned long)(request.bytes >> 10));
        plan_move(plan, module->start, plan->module_at[i], bytes);
    }
    return GUEST_OK;
}

enum guest_status multiboot_place_info(struct guest_plan *plan, u64 kernel_end, u64 bytes, u64 *info)
{
    struct plan_request request = {
        .bytes = align_up(bytes, PAGE_SIZE),
        .alignment = PAGE_SIZE,
        .floor = INFO_FLOOR,
        .limit = MIB(1),
        .module = PLAN_NO_MODULE,
    };
    if (plan_place(plan, &request, info))
        return GUEST_OK;
    request.limit = GIB(4);
    if (place_behind(plan, kernel_end, &request, info))
        return GUEST_OK;
    return plan_refuse(
        plan, GUEST_NO_ROOM,
        "there are no %lu KByte of RAM free below 4 GByte for the guest's multiboot information",
        (unsigned long)(request.bytes >> 10));
}

enum guest_status multiboot_move(struct guest_plan *plan)
{
    if (!plan_schedule(plan))
        return plan_refuse(
            plan, GUEST_NO_ROOM,
            "the guest kernel and its modules lie in each other's way and there is no free RAM to move "
            "them through: use a machine with more memory");
    plan_execute(plan);
    return GUEST_OK;
}

void multiboot_start(struct guest_plan *plan, struct start_state *start, unsigned version, u64 entry,
                     u64 info)
{
    start->mode = START_PROTECTED32;
    start->rip = entry;
    start->gpr[GPR_RAX] = version == 2 ? MB2_LOADER_MAGIC : MB1_LOADER_MAGIC;
    start->gpr[GPR_RBX] = info;
    start->cs_selector = FLAT_CODE;
    start->data_selector = FLAT_DATA;
    format(
        plan->sentence, plan->sentence_bytes,
        "the guest is a multiboot%u kernel with entry point 0x%lx, its information at 0x%lx, and %u modules",
        version, (unsigned long)entry, (unsigned long)info, plan->info->module_count - 1);
}

/* KByte of RAM from `start` to the first hole. */
static u32 ram_kib_from(const struct memmap *memory, u64 start)
{
    for (unsigned i = 0; i < memory->count; i++) {
        const struct mem_range *range = &memory->range[i];
        if (range->type == MEM_RAM && range->start <= start && range->end > start)
            return (u32)min_u64((range->end - start) >> 10, UINT32_MAX);
    }
    return 0;
}

u32 multiboot_mem_lower(const struct memmap *memory)
{
    return (u32)min_u64(ram_kib_from(memory, 0), 640);
}

u32 multiboot_mem_upper(const struct memmap *memory)
{
    return ram_kib_from(memory, MIB(1));
}

void writer_bytes(struct writer *writer, const void *bytes, u64 count)
{
    if (writer->base != NULL)
        memcpy(writer->base + writer->length, bytes, count);
    writer->length += count;
}

void writer_value(struct writer *writer, u64 value, unsigned bytes)
{
    writer_bytes(writer, &value, bytes);
}

void writer_string(struct writer *writer, const char *text)
{
    writer_bytes(writer, text, strlen(text) + 1);
}

void writer_align(struct writer *writer, u64 alignment)
{
    while ((writer->length & (alignment - 1)) != 0)
        writer_value(writer, 0, 1);
}

void writer_patch(struct writer *writer, u64 offset, u64 value, unsigned bytes)
{
    if (writer->base != NULL)
        memcpy(writer->base + offset, &value, bytes);
}

void writer_colors(struct writer *writer, const struct boot_framebuffer *framebuffer)
{
    const u8 colors[MB_FRAMEBUFFER_COLOR_BYTES] = {
        framebuffer->red_position, framebuffer->red_size,      framebuffer->green_position,
        framebuffer->green_size,   framebuffer->blue_position, framebuffer->blue_size,
    };
    writer_bytes(writer, colors, sizeof(colors));
}
