/* SPDX-License-Identifier: MIT */
/*
 * The arena behind tests/unit/checked-frames.h. The frames' "physical" addresses are arbitrary: the direct
 * map's base is chosen so that they lead into the arena.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/frame.h"
#include "mm/phys.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/random.h"

u64 direct_map_base;

static const u64 first_frame = MIB(768);
static u8 arena[CHECKED_FRAMES * 4096] __attribute__((aligned(4096)));
static bool used[CHECKED_FRAMES];
static size_t used_count, remaining;
static bool refused;

void checked_frames_reset(void)
{
    direct_map_base = (u64)(uintptr_t)arena - first_frame;
    memset(arena, 0xff, sizeof(arena));
    memset(used, 0, sizeof(used));
    used_count = 0;
    checked_frames_limit(SIZE_MAX);
}

void checked_frames_limit(size_t count)
{
    refused = false;
    remaining = count;
}

bool checked_frames_refused(void)
{
    return refused;
}

size_t checked_frames_in_use(void)
{
    return used_count;
}

static bool is_frame(u64 address)
{
    return (address & PAGE_MASK) == 0 && address >= first_frame &&
           address < first_frame + CHECKED_FRAMES * PAGE_SIZE;
}

bool checked_frame_in_use(u64 address)
{
    return is_frame(address) && used[(address - first_frame) / PAGE_SIZE];
}

bool frame_alloc(hpa_t *frame)
{
    if (remaining == 0) {
        refused = true;
        return false;
    }
    if (used_count == CHECKED_FRAMES)
        fail_msg("more tables than the test's arena has frames");

    size_t i = (size_t)random_below(CHECKED_FRAMES);
    while (used[i])
        i = (i + 1) % CHECKED_FRAMES;
    used[i] = true;
    used_count++;
    remaining--;
    *frame = hpa(first_frame + i * PAGE_SIZE);
    memset(phys_to_virt(*frame), 0, PAGE_SIZE);
    return true;
}

void frame_free(hpa_t frame)
{
    if (!checked_frame_in_use(frame.raw))
        fail_msg("a frame was freed that is not in use: %#llx", (unsigned long long)frame.raw);
    used[(frame.raw - first_frame) / PAGE_SIZE] = false;
    used_count--;
    memset(phys_to_virt(frame), 0xff, PAGE_SIZE);
}
