/* SPDX-License-Identifier: MIT */
/* The guest's memory as the paging core reads and marks it; see mm/guest-paging.h. */
#include "mm/guest-paging.h"

#include "arch/string.h"
#include "mm/guest-mem.h"
#include "mm/memmap.h"
#include "mm/phys.h"

static enum memory_status status_of(enum guest_mem_status status)
{
    return status == GUEST_MEM_OK ? MEMORY_OK : MEMORY_NOT_OWNED;
}

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    u32 half;
    enum guest_mem_status status;

    (void)memory;
    if (bytes == sizeof(*value))
        return status_of(guest_load_u64(address, value));
    status = guest_load_u32(address, &half);
    if (status == GUEST_MEM_OK)
        *value = half;
    return status_of(status);
}

static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    (void)memory;
    if (address.raw % bytes != 0 || !memmap_guest_owns(address, bytes))
        return MEMORY_NOT_OWNED;
    void *at = phys_to_virt(hpa(address.raw));
    bool done;
    if (bytes == sizeof(u64)) {
        done = __atomic_compare_exchange_n((u64 *)at, &expected, desired, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    } else {
        u32 half = (u32)expected;
        done = __atomic_compare_exchange_n((u32 *)at, &half, (u32)desired, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    }
    return done ? MEMORY_OK : MEMORY_CHANGED;
}

static enum memory_status read(const struct paging_memory *memory, gpa_t address, void *dst, size_t bytes)
{
    (void)memory;
    return status_of(guest_read(address, dst, bytes));
}

static enum memory_status write(const struct paging_memory *memory, gpa_t address, const void *src,
                                size_t bytes)
{
    (void)memory;
    return status_of(guest_write(address, src, bytes));
}

static bool writable(const struct paging_memory *memory, gpa_t address, size_t bytes)
{
    (void)memory;
    return memmap_guest_owns(address, bytes);
}

struct paging_memory guest_paging_memory;

void guest_paging_settled(void)
{
    u64 start = align_up(guest_main_memory.start, PAGE_SIZE);
    u64 end = align_down(guest_main_memory.end, PAGE_SIZE);

    guest_paging_memory = (struct paging_memory){
        .load = load,
        .compare_exchange = compare_exchange,
        .read = read,
        .write = write,
        .writable = writable,
    };
    if (start < end)
        paging_set_window(&guest_paging_memory, phys_to_virt(hpa(start)), start, end - start);
}
