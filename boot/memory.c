/* SPDX-License-Identifier: MIT */
#include "boot/memory.h"

#include "arch/cpu.h"
#include "arch/layout.h"
#include "arch/print.h"
#include "mm/frame.h"
#include "mm/guest-paging.h"
#include "mm/own-tables.h"
#include "mm/phys.h"

/* The pool's share of RAM and its bounds: docs/architecture.md, "How it boots". */
enum { POOL_DIVISOR = 100 };
#define POOL_MIN MIB(3)
#define POOL_MAX MIB(64)
/* Stacks, per-CPU data, the virtual CPU and what it needs for guests of the guest. */
#define POOL_PER_CPU KIB(384)

/* Umbra's region starts and ends on this, so that the guest keeps 2-MByte pages on either side. */
#define REGION_ALIGNMENT        MIB(2)

#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_PAGE1GB       BIT(26)

extern const u8 image_start[], image_rodata[], image_data[], image_end[];

void boot_relocate(void *copy, u64 bytes, u64 cr3);

static struct own_tables own_tables;

static u64 image_bytes(void)
{
    return (uintptr_t)image_end - (uintptr_t)image_start;
}

static enum memmap_status choose_region(const struct boot_info *info, unsigned cpus)
{
    struct mem_range avoid[BOOT_MODULES_MAX + 2];
    size_t count = 0;
    u64 pool = max_u64(POOL_MIN + cpus * POOL_PER_CPU,
                       min_u64(POOL_MAX, memmap_ram_bytes(&info->memory) / POOL_DIVISOR));
    u64 bytes = align_up(image_bytes() + pool, REGION_ALIGNMENT);
    u64 start;

    avoid[count++] = (struct mem_range){LAYOUT_LOAD_ADDRESS, LAYOUT_LOAD_ADDRESS + image_bytes(), MEM_RAM};
    avoid[count++] = (struct mem_range){info->loader_start, info->loader_end, MEM_RAM};
    for (unsigned i = 0; i < info->module_count; i++)
        avoid[count++] = (struct mem_range){info->module[i].start, info->module[i].end, MEM_RAM};

    enum memmap_status status =
        memmap_find_highest(&info->memory, bytes, REGION_ALIGNMENT, GIB(4), avoid, count, &start);
    if (status == MEMMAP_OK)
        umbra_region = (struct mem_range){start, start + bytes, MEM_RESERVED};
    return status;
}

/* Memory that Umbra may have to read or write for the guest: RAM and what ACPI left in it; never device
 * memory. */
static bool is_memory(u32 type)
{
    return type == MEM_RAM || type == MEM_ACPI || type == MEM_NVS;
}

static bool map_direct(u64 start, u64 end)
{
    return start >= end ||
           own_tables_map(&own_tables, LAYOUT_DIRECT_MAP + start, start, end - start, OWN_READ | OWN_WRITE);
}

static bool map_memory(u64 pool_start)
{
    /* The first MByte as a whole: BIOS data, the EBDA, ACPI's search area, the text screen. */
    u64 mapped = MIB(1);
    if (!map_direct(0, mapped))
        return false;

    for (unsigned i = 0; i < guest_memmap.count; i++) {
        const struct mem_range *range = &guest_memmap.range[i];
        if (!is_memory(range->type))
            continue;
        u64 start = max_u64(mapped, align_down(range->start, PAGE_SIZE));
        u64 end = align_up(range->end, PAGE_SIZE);
        if (!map_direct(start, end))
            return false;
        mapped = max_u64(mapped, end);
    }
    return map_direct(pool_start, umbra_region.end);
}

static bool map_image(u64 physical)
{
    const struct {
        const u8 *start, *end;
        unsigned flags;
    } parts[] = {
        {image_start, image_rodata, OWN_READ | OWN_EXECUTE},
        {image_rodata, image_data, OWN_READ},
        {image_data, image_end, OWN_READ | OWN_WRITE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        u64 virtual = (u64)(uintptr_t)parts[i].start;
        if (!own_tables_map(&own_tables, virtual, physical + (virtual - LAYOUT_IMAGE),
                            (uintptr_t)parts[i].end - virtual, parts[i].flags))
            return false;
    }
    return true;
}

const char *boot_memory_init(const struct boot_info *info, unsigned cpus)
{
    if (choose_region(info, cpus) != MEMMAP_OK)
        return "there is no room for Umbra in RAM below 4 GByte: give the machine more memory or load "
               "smaller modules";

    guest_memmap = info->memory;
    if (memmap_set(&guest_memmap, umbra_region.start, umbra_region.end, MEM_RESERVED) != MEMMAP_OK)
        return "the firmware's memory map has too many entries: report it with the map";
    memmap_guest_settled();

    u64 pool_start = umbra_region.start + align_up(image_bytes(), PAGE_SIZE);
    bool page_1g = (cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_PAGE1GB) != 0;
    frame_pool_init(hpa(pool_start), hpa(umbra_region.end));
    if (!own_tables_init(&own_tables, page_1g) || !map_memory(pool_start) || !map_image(umbra_region.start))
        return "Umbra's memory pool is too small for its own page tables: give the machine less or more "
               "memory and report it";

    guest_paging_settled();
    boot_relocate(phys_to_virt(hpa(umbra_region.start)), image_bytes(), own_tables.root.raw);
    return NULL;
}

static bool map_stack(u64 start, u64 bytes)
{
    for (u64 offset = 0; offset < bytes; offset += PAGE_SIZE) {
        hpa_t frame;
        if (!frame_alloc(&frame) ||
            !own_tables_map(&own_tables, start + offset, frame.raw, PAGE_SIZE, OWN_READ | OWN_WRITE))
            return false;
    }
    return true;
}

bool boot_memory_map_stacks(unsigned cpu, struct cpu_stacks *tops)
{
    u64 slot = LAYOUT_STACKS + (u64)cpu * LAYOUT_STACK_SLOT;
    *tops = (struct cpu_stacks){
        .exit = slot + LAYOUT_EXIT_STACK + LAYOUT_EXIT_SIZE,
        .nmi = slot + LAYOUT_NMI_STACK + LAYOUT_NMI_SIZE,
        .fault = slot + LAYOUT_FAULT_STACK + LAYOUT_FAULT_SIZE,
    };
    return map_stack(slot + LAYOUT_EXIT_STACK, LAYOUT_EXIT_SIZE) &&
           map_stack(slot + LAYOUT_NMI_STACK, LAYOUT_NMI_SIZE) &&
           map_stack(slot + LAYOUT_FAULT_STACK, LAYOUT_FAULT_SIZE);
}

bool boot_memory_map_local_apic(struct percpu *cpu, hpa_t page)
{
    u64 at = LAYOUT_STACKS + (u64)cpu->index * LAYOUT_STACK_SLOT + LAYOUT_LOCAL_APIC;

    cpu->local_apic = (u8 *)(uintptr_t)at; // NOLINT(performance-no-int-to-ptr)
    return own_tables_map(&own_tables, at, page.raw, PAGE_SIZE, OWN_READ | OWN_WRITE | OWN_UNCACHED);
}
