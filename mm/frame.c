/* SPDX-License-Identifier: MIT */
/*
 * The frame pool: a never-used part that is handed out from the bottom up, and a list of the frames that came
 * back, linked through their first words. Frames are zeroed when they are handed out, so that no table ever
 * starts with what an earlier owner left.
 */
#include "mm/frame.h"

#include "arch/atomic.h"
#include "arch/print.h"
#include "arch/string.h"
#include "mm/phys.h"

static struct {
    struct spinlock lock;
    u64 start, end; /* the whole pool, host-physical */
    u64 unused;     /* [unused, end) was never handed out */
    u64 free_list;  /* first frame that came back; 0 = none */
    size_t free_list_count;
} pool;

void frame_pool_init(hpa_t start, hpa_t end)
{
    ASSERT(((start.raw | end.raw) & PAGE_MASK) == 0 && start.raw <= end.raw && start.raw != 0,
           "the region that boot chose is page-aligned, not inverted and not at address 0");
    pool.start = start.raw;
    pool.end = end.raw;
    pool.unused = start.raw;
    pool.free_list = 0;
    pool.free_list_count = 0;
}

/* From the never-used part; the caller holds the lock. */
static bool take_unused(size_t count, hpa_t *first)
{
    if (count == 0 || count > (pool.end - pool.unused) / PAGE_SIZE)
        return false;
    *first = hpa(pool.unused);
    pool.unused += count * PAGE_SIZE;
    return true;
}

static bool take_one(hpa_t *frame)
{
    if (pool.free_list == 0)
        return take_unused(1, frame);
    *frame = hpa(pool.free_list);
    const u64 *words = phys_to_virt(*frame);
    pool.free_list = words[0];
    pool.free_list_count--;
    return true;
}

bool frame_alloc(hpa_t *frame)
{
    spin_lock(&pool.lock);
    bool done = take_one(frame);
    spin_unlock(&pool.lock);
    if (done)
        memset(phys_to_virt(*frame), 0, PAGE_SIZE);
    return done;
}

bool frame_alloc_contiguous(size_t count, hpa_t *first)
{
    spin_lock(&pool.lock);
    bool done = take_unused(count, first);
    spin_unlock(&pool.lock);
    if (done)
        memset(phys_to_virt(*first), 0, count * PAGE_SIZE);
    return done;
}

void frame_free(hpa_t frame)
{
    ASSERT((frame.raw & PAGE_MASK) == 0 && frame.raw >= pool.start && frame.raw < pool.unused,
           "only frames that the pool handed out come back to it");

    u64 *words = phys_to_virt(frame);
    spin_lock(&pool.lock);
    words[0] = pool.free_list;
    pool.free_list = frame.raw;
    pool.free_list_count++;
    spin_unlock(&pool.lock);
}

size_t frame_free_count(void)
{
    spin_lock(&pool.lock);
    size_t count = pool.free_list_count + (size_t)((pool.end - pool.unused) / PAGE_SIZE);
    spin_unlock(&pool.lock);
    return count;
}
