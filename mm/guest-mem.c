/* SPDX-License-Identifier: MIT */
/*
 * Checked access to guest memory; see mm/guest-mem.h. What is owned is the memory map's knowledge, where it
 * is mapped is mm/phys.h's. Keeps no pointer into guest memory beyond a call.
 */
#include "mm/guest-mem.h"
#include "arch/string.h"
#include "mm/memmap.h"
#include "mm/phys.h"

#define LEGACY_ROM_START KIB(768)
#define LEGACY_ROM_END   MIB(1)

/* The guest's memory at `address`, or NULL if not all of it is the guest's. */
static void *guest_pointer(gpa_t address, size_t bytes)
{
    if (!memmap_guest_owns(address, bytes))
        return NULL;
    return phys_to_virt(hpa(address.raw));
}

/* Option ROMs and the BIOS: reserved, always mapped, and a guest may run code there. */
static bool is_legacy_rom(gpa_t address, size_t bytes)
{
    return address.raw >= LEGACY_ROM_START && address.raw < LEGACY_ROM_END && bytes != 0 &&
           bytes <= LEGACY_ROM_END - address.raw;
}

enum guest_mem_status guest_read(gpa_t source, void *dst, size_t bytes)
{
    if (!is_legacy_rom(source, bytes) && !memmap_guest_owns(source, bytes))
        return GUEST_MEM_NOT_OWNED;
    memcpy(dst, phys_to_virt(hpa(source.raw)), bytes);
    return GUEST_MEM_OK;
}

const void *guest_view(gpa_t source, size_t bytes)
{
    if (bytes > PAGE_SIZE - (source.raw & PAGE_MASK))
        return NULL;
    return guest_pointer(source, bytes);
}

void *guest_page(gpa_t page)
{
    return page.raw % PAGE_SIZE == 0 ? guest_pointer(page, PAGE_SIZE) : NULL;
}

enum guest_mem_status guest_write(gpa_t target, const void *src, size_t bytes)
{
    void *to = guest_pointer(target, bytes);

    if (to == NULL)
        return GUEST_MEM_NOT_OWNED;
    memcpy(to, src, bytes);
    return GUEST_MEM_OK;
}

enum guest_mem_status guest_load_u32(gpa_t source, u32 *value)
{
    const u32 *from = guest_pointer(source, sizeof(*from));

    if (source.raw % sizeof(*from) != 0)
        return GUEST_MEM_MISALIGNED;
    if (from == NULL)
        return GUEST_MEM_NOT_OWNED;
    *value = __atomic_load_n(from, __ATOMIC_RELAXED);
    return GUEST_MEM_OK;
}

enum guest_mem_status guest_load_u64(gpa_t source, u64 *value)
{
    const u64 *from = guest_pointer(source, sizeof(*from));

    if (source.raw % sizeof(*from) != 0)
        return GUEST_MEM_MISALIGNED;
    if (from == NULL)
        return GUEST_MEM_NOT_OWNED;
    *value = __atomic_load_n(from, __ATOMIC_RELAXED);
    return GUEST_MEM_OK;
}
