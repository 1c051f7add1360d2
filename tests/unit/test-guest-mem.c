/* SPDX-License-Identifier: MIT */
/*
 * The guest-memory accessor, plain and as walks and operands use it, and the fetch of code through it, over
 * an arena that plays physical memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "mm/guest-mem.h"
#include "mm/guest-paging.h"
#include "mm/linear.h"
#include "mm/memmap.h"
#include "mm/phys.h"

#define ARENA_BYTES MIB(1)
#define UMBRA_START 0x80000u
#define UMBRA_END   0x90000u
#define HOLE_START  0xB0000u
#define ROM_START   0xC0000u

u64 direct_map_base;
static u8 *arena;

static int set_up(void **state)
{
    (void)state;
    arena = aligned_alloc(PAGE_SIZE, ARENA_BYTES);
    assert_non_null(arena);
    memset(arena, 0, ARENA_BYTES);
    direct_map_base = (u64)(uintptr_t)arena;
    guest_memmap.count = 0;
    assert_int_equal(memmap_add(&guest_memmap, 0, HOLE_START, MEM_RAM), MEMMAP_OK);
    assert_int_equal(memmap_add(&guest_memmap, HOLE_START, ARENA_BYTES - HOLE_START, MEM_RESERVED),
                     MEMMAP_OK);
    umbra_region = (struct mem_range){.start = UMBRA_START, .end = UMBRA_END, .type = MEM_RESERVED};
    guest_paging_settled();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(arena);
    return 0;
}

static void put64(u64 address, u64 value)
{
    memcpy(arena + address, &value, sizeof(value));
}

static void accessor_checks_every_byte(void **state)
{
    u8 buffer[16] = {0};
    u8 data[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

    (void)state;
    assert_int_equal(guest_write(gpa(0x1000), data, 16), GUEST_MEM_OK);
    assert_memory_equal(arena + 0x1000, data, 16);
    assert_int_equal(guest_read(gpa(0x1001), buffer, 15), GUEST_MEM_OK);
    assert_memory_equal(buffer, data + 1, 15);

    assert_int_equal(guest_write(gpa(UMBRA_START - 16), data, 16), GUEST_MEM_OK);
    assert_int_equal(guest_write(gpa(UMBRA_START - 15), data, 16), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(UMBRA_START - 15), buffer, 16), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_write(gpa(UMBRA_START), data, 1), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(UMBRA_END - 1), buffer, 1), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(UMBRA_END), buffer, 1), GUEST_MEM_OK);
    assert_int_equal(guest_read(gpa(UMBRA_START - 1), buffer, UMBRA_END - UMBRA_START + 2),
                     GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(HOLE_START - 1), buffer, 2), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(ARENA_BYTES), buffer, 1), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(ROM_START), buffer, 16), GUEST_MEM_OK);
    assert_int_equal(guest_read(gpa(ROM_START - 1), buffer, 2), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(ARENA_BYTES - 1), buffer, 2), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_write(gpa(ROM_START), data, 1), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(~0ull), buffer, 1), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_read(gpa(~0ull - 7), buffer, 16), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_write(gpa(0x1000), data, (size_t)-1), GUEST_MEM_NOT_OWNED);
    assert_int_equal(arena[UMBRA_START], 0);
    assert_int_equal(arena[UMBRA_START - 1], 16);
}

static void pages_begin_at_pages(void **state)
{
    (void)state;
    assert_ptr_equal(guest_page(gpa(0x3000)), arena + 0x3000);
    assert_null(guest_page(gpa(0x3008)));
    assert_null(guest_page(gpa(UMBRA_START)));
    assert_null(guest_page(gpa(UMBRA_END - PAGE_SIZE)));
    assert_non_null(guest_page(gpa(UMBRA_END)));
    assert_null(guest_page(gpa(HOLE_START)));
    assert_null(guest_page(gpa(~PAGE_MASK)));
}

static void single_loads(void **state)
{
    u64 value = 0;

    (void)state;
    put64(0x1000, 0x1122334455667788);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(0x1000), 8, &value), MEMORY_OK);
    assert_int_equal(value, 0x1122334455667788);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(0x1004), 4, &value), MEMORY_OK);
    assert_int_equal(value, 0x11223344);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(0x1004), 8, &value),
                     MEMORY_NOT_OWNED);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(0x1002), 4, &value),
                     MEMORY_NOT_OWNED);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(UMBRA_START), 8, &value),
                     MEMORY_NOT_OWNED);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(HOLE_START), 4, &value),
                     MEMORY_NOT_OWNED);
    assert_int_equal(value, 0x11223344);
}

static enum memory_status exchange(u64 address, unsigned bytes, u64 expected, u64 desired)
{
    return guest_paging_memory.compare_exchange(&guest_paging_memory, gpa(address), bytes, expected, desired);
}

static void exchanges(void **state)
{
    u64 value = 0;

    (void)state;
    put64(0x1000, 0x1122334455667788);
    assert_int_equal(exchange(0x1000, 8, 0x1122334455667788, 5), MEMORY_OK);
    assert_int_equal(exchange(0x1000, 8, 0x1122334455667788, 6), MEMORY_CHANGED);
    assert_int_equal(exchange(0x1004, 4, 0, 7), MEMORY_OK);
    assert_int_equal(exchange(0x1004, 4, 0, 8), MEMORY_CHANGED);
    assert_int_equal(guest_paging_memory.load(&guest_paging_memory, gpa(0x1000), 8, &value), MEMORY_OK);
    assert_int_equal(value, 0x700000005);
    assert_int_equal(exchange(UMBRA_START, 8, 0, 1), MEMORY_NOT_OWNED);
    assert_int_equal(exchange(UMBRA_START - 4, 8, 0, 1), MEMORY_NOT_OWNED);
    assert_int_equal(exchange(ROM_START, 8, 0, 1), MEMORY_NOT_OWNED);
    assert_int_equal(arena[UMBRA_START], 0);
}

static void bytes_of_operands(void **state)
{
    u8 data[4] = {1, 2, 3, 4};

    (void)state;
    assert_true(guest_paging_memory.writable(&guest_paging_memory, gpa(UMBRA_START - 4), 4));
    assert_false(guest_paging_memory.writable(&guest_paging_memory, gpa(UMBRA_START - 3), 4));
    assert_false(guest_paging_memory.writable(&guest_paging_memory, gpa(ROM_START), 4));
    assert_int_equal(guest_paging_memory.write(&guest_paging_memory, gpa(0x2000), data, 4), MEMORY_OK);
    assert_int_equal(guest_paging_memory.read(&guest_paging_memory, gpa(0x2001), data, 2), MEMORY_OK);
    assert_int_equal(data[0], 2);
    assert_int_equal(guest_paging_memory.write(&guest_paging_memory, gpa(ROM_START), data, 4),
                     MEMORY_NOT_OWNED);
    assert_int_equal(guest_paging_memory.read(&guest_paging_memory, gpa(ROM_START), data, 4), MEMORY_OK);
    assert_int_equal(guest_paging_memory.read(&guest_paging_memory, gpa(UMBRA_START), data, 4),
                     MEMORY_NOT_OWNED);
}

/* The window is the largest range without any of Umbra's: here all RAM is one range that Umbra lies in. */
static void window_is_the_guests(void **state)
{
    (void)state;
    memmap_guest_settled();
    guest_paging_settled();
    assert_int_equal(guest_paging_memory.window_bytes, 0);

    assert_int_equal(memmap_set(&guest_memmap, UMBRA_START, UMBRA_END, MEM_RESERVED), MEMMAP_OK);
    assert_int_equal(memmap_set(&guest_memmap, 0x7F800, UMBRA_START, MEM_NVS), MEMMAP_OK);
    memmap_guest_settled();
    guest_paging_settled();
    assert_int_equal(guest_paging_memory.window_start, 0);
    assert_int_equal(guest_paging_memory.window_bytes, 0x7F000);
    assert_ptr_equal(guest_paging_memory.window, arena);
}

static struct paging code_paging;

static struct linear_context context_of(u64 cr0, u64 cr3, u64 efer)
{
    const struct paging_cpu cpu = {.maxphyaddr = 40, .page_1g = true, .amd = true};

    paging_init(&code_paging, paging_role_guest(&cpu, cr0, CR4_PAE, efer));
    return (struct linear_context){.paging = &code_paging,
                                   .root = cr3,
                                   .memory = &guest_paging_memory,
                                   .cr0 = cr0,
                                   .cr4 = CR4_PAE,
                                   .efer = efer,
                                   .code_64 = (efer & EFER_LMA) != 0};
}

/* PML4 256, PDPT 0, PD 1, PT 1. PCID and LAM bits of CR3 are not part of its address. */
static struct linear_context four_levels(void)
{
    put64(0x2000 + 8 * 256, 0x3027);
    put64(0x3000, 0x4027);
    put64(0x4008, 0x5027);
    put64(0x5008, 0x7023);
    return context_of(CR0_PE | CR0_PG, 0x6000000000002018, EFER_LME | EFER_LMA | EFER_NXE);
}

static void fetch_across_pages(void **state)
{
    struct linear_context context = four_levels();
    u8 bytes[15];

    (void)state;
    for (u8 i = 0; i < 15; i++) {
        arena[0x7FF8 + i] = i; /* the first eight bytes, and what must not follow them */
        arena[0xA000 + i] = (u8)(8 + i);
    }
    put64(0x5010, 0xA063); /* the next linear page is elsewhere in physical memory */
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201FF8, bytes, 15), 15);
    for (u8 i = 0; i < 15; i++)
        assert_int_equal(bytes[i], i);

    put64(0x5010, 0);
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201FF8, bytes, 15), 8);
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201FF0, bytes, 15), 15);
    put64(0x5010, UMBRA_START | 0x63); /* mapped, but to what is not the guest's */
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201FF8, bytes, 15), 8);
    assert_int_equal(linear_fetch(&context, 0xFFFF800000202000, bytes, 15), 0);
    assert_int_equal(linear_fetch(&context, 0xFFFF810000000000, bytes, 15), 0);
    assert_int_equal(linear_fetch(&context, 0x0000800000000000, bytes, 15), 0); /* not canonical */
}

/* For code that the CPU has just fetched: it sets no flag, and goes by the rights of a fetch. */
static void fetch_changes_nothing(void **state)
{
    struct linear_context context = four_levels();
    u8 *before = malloc(ARENA_BYTES);
    u8 bytes[4];

    (void)state;
    assert_non_null(before);
    put64(0x5008, 0x7001); /* A and D are clear and stay so */
    memcpy(before, arena, ARENA_BYTES);
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201ABC, bytes, 4), 4);
    context.cpl = 3;
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201ABC, bytes, 4), 0);
    context.cpl = 0;
    assert_memory_equal(before, arena, ARENA_BYTES);
    put64(0x5008, 0x8000000000007001);
    assert_int_equal(linear_fetch(&context, 0xFFFF800000201ABC, bytes, 4), 0);
    free(before);
}

static void fetch_without_paging_wraps(void **state)
{
    struct linear_context context = context_of(CR0_PE, 0, 0);
    u8 bytes[2];

    (void)state;
    arena[0] = 0xA2;
    arena[0xA0000] = 0x0F;
    assert_int_equal(linear_fetch(&context, 0xA0000, bytes, 1), 1);
    assert_int_equal(bytes[0], 0x0F);
    assert_int_equal(linear_fetch(&context, 0xFFFFFFFF, bytes, 2), 0); /* no memory */
    assert_int_equal(linear_fetch(&context, 0x100000000, bytes, 1), 1);
    assert_int_equal(bytes[0], 0xA2);
}

#define MEMORY_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MEMORY_TEST(accessor_checks_every_byte),
        MEMORY_TEST(pages_begin_at_pages),
        MEMORY_TEST(single_loads),
        MEMORY_TEST(exchanges),
        MEMORY_TEST(bytes_of_operands),
        MEMORY_TEST(window_is_the_guests),
        MEMORY_TEST(fetch_across_pages),
        MEMORY_TEST(fetch_changes_nothing),
        MEMORY_TEST(fetch_without_paging_wraps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
