/* SPDX-License-Identifier: MIT */
/*
 * The frame pool in an arena: every frame once and zeroed, none outside, nothing lost, and an assertion where
 * a caller gives back what it never got.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/print.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "tests/unit/random.h"

enum { FRAMES = 64 };
static const u64 pool_start = MIB(16);
static const u64 pool_end = MIB(16) + FRAMES * PAGE_SIZE;

u64 direct_map_base;
static u8 arena[(FRAMES + 2) * 4096] __attribute__((aligned(4096)));
static jmp_buf after_fatal;

void fatal(const char *fmt, ...)
{
    (void)fmt;
    longjmp(after_fatal, 1);
}

/* A frame of dirty bytes lies before and one behind the pool; nothing may write them. */
static int new_pool(void **state)
{
    (void)state;
    memset(arena, 0xa5, sizeof(arena));
    direct_map_base = (u64)(uintptr_t)arena + PAGE_SIZE - pool_start;
    frame_pool_init(hpa(pool_start), hpa(pool_end));
    return 0;
}

static int neighbours_untouched(void **state)
{
    (void)state;
    for (size_t i = 0; i < PAGE_SIZE; i++) {
        if (arena[i] != 0xa5 || arena[sizeof(arena) - 1 - i] != 0xa5)
            return -1;
    }
    return 0;
}

static void assert_zeroed(hpa_t frame)
{
    static const u8 zeroes[4096];
    assert_memory_equal(phys_to_virt(frame), zeroes, sizeof(zeroes));
}

static size_t frame_number(hpa_t frame)
{
    assert_int_equal(frame.raw & PAGE_MASK, 0);
    assert_true(frame.raw >= pool_start && frame.raw < pool_end);
    return (size_t)((frame.raw - pool_start) / PAGE_SIZE);
}

static void every_frame_once(void **state)
{
    (void)state;
    bool seen[FRAMES] = {false};
    hpa_t frame;

    for (size_t i = 0; i < FRAMES; i++) {
        assert_int_equal(frame_free_count(), FRAMES - i);
        assert_true(frame_alloc(&frame));
        assert_false(seen[frame_number(frame)]);
        seen[frame_number(frame)] = true;
        assert_zeroed(frame);
    }
    assert_int_equal(frame_free_count(), 0);
    assert_false(frame_alloc(&frame));
    assert_false(frame_alloc_contiguous(1, &frame));
}

static void contiguous_frames_come_from_the_unused_part(void **state)
{
    (void)state;
    hpa_t single, block, rest;

    assert_true(frame_alloc(&single));
    assert_true(frame_alloc_contiguous(10, &block));
    for (u64 i = 0; i < 10; i++)
        assert_zeroed(hpa(block.raw + i * PAGE_SIZE));
    assert_true(single.raw + PAGE_SIZE <= block.raw || single.raw >= block.raw + 10 * PAGE_SIZE);

    assert_true(frame_alloc_contiguous(FRAMES - 11, &rest));
    frame_free(single);
    assert_int_equal(frame_free_count(), 1);
    assert_false(frame_alloc_contiguous(1, &block));
    assert_true(frame_alloc(&block));
    assert_int_equal(block.raw, single.raw);
}

static void impossible_counts_are_refused(void **state)
{
    (void)state;
    hpa_t frame;

    assert_false(frame_alloc_contiguous(0, &frame));
    assert_false(frame_alloc_contiguous(FRAMES + 1, &frame));
    assert_false(frame_alloc_contiguous(SIZE_MAX, &frame));
    assert_false(frame_alloc_contiguous(SIZE_MAX / 4096 + 2, &frame));
    assert_int_equal(frame_free_count(), FRAMES);
}

static void random_use_keeps_account(void **state)
{
    (void)state;
    hpa_t held[FRAMES];
    bool used[FRAMES] = {false};
    size_t count = 0;

    for (int round = 0; round < 20000; round++) {
        hpa_t frame;
        if (random_chance(round / 1000 % 2 == 0 ? 60 : 40)) {
            bool got = frame_alloc(&frame);
            assert_int_equal(got, count < FRAMES);
            if (!got)
                continue;
            assert_false(used[frame_number(frame)]);
            used[frame_number(frame)] = true;
            assert_zeroed(frame);
            memset(phys_to_virt(frame), 0xff, PAGE_SIZE);
            held[count++] = frame;
        } else if (count != 0) {
            size_t which = (size_t)random_below(count);
            used[frame_number(held[which])] = false;
            frame_free(held[which]);
            held[which] = held[--count];
        }
        assert_int_equal(frame_free_count(), FRAMES - count);
    }
}

static void assert_free_is_refused(u64 address)
{
    if (setjmp(after_fatal) == 0) {
        frame_free(hpa(address));
        fail_msg("the frame at %#llx was taken", (unsigned long long)address);
    }
}

static void foreign_frames_are_refused(void **state)
{
    (void)state;
    hpa_t frame;

    assert_true(frame_alloc(&frame));
    assert_free_is_refused(0);
    assert_free_is_refused(frame.raw + 8);
    assert_free_is_refused(pool_start - PAGE_SIZE);
    assert_free_is_refused(pool_end);
    assert_free_is_refused(frame.raw + PAGE_SIZE); /* in the pool, never handed out */
    assert_int_equal(frame_free_count(), FRAMES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_frame_once, new_pool, neighbours_untouched),
        cmocka_unit_test_setup_teardown(contiguous_frames_come_from_the_unused_part, new_pool,
                                        neighbours_untouched),
        cmocka_unit_test_setup_teardown(impossible_counts_are_refused, new_pool, neighbours_untouched),
        cmocka_unit_test_setup_teardown(random_use_keeps_account, new_pool, neighbours_untouched),
        cmocka_unit_test_setup_teardown(foreign_frames_are_refused, new_pool, neighbours_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
