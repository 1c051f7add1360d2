/* SPDX-License-Identifier: MIT */
/*
 * The guest-memory accessor and the read-only walk of the guest's paging, over an arena that plays physical
 * memory. Tables are built by hand from SDM volume 3A, chapter 4, each entry as a literal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "mm/guest-mem.h"
#include "mm/guest-walk.h"
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

static void put32(u64 address, u32 value)
{
    memcpy(arena + address, &value, sizeof(value));
}

static void assert_walk(const struct guest_paging *paging, u64 linear, u64 expected)
{
    gpa_t translated = gpa(0);

    assert_int_equal(guest_walk(paging, gva(linear), &translated), GUEST_WALK_OK);
    assert_int_equal(translated.raw, expected);
}

static void assert_no_walk(const struct guest_paging *paging, u64 linear, enum guest_walk_status expected)
{
    gpa_t translated = gpa(0x1234);

    assert_int_equal(guest_walk(paging, gva(linear), &translated), expected);
    assert_int_equal(translated.raw, 0x1234);
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

static void single_loads(void **state)
{
    u32 value32 = 0;
    u64 value64 = 0;

    (void)state;
    put64(0x1000, 0x1122334455667788);
    assert_int_equal(guest_load_u64(gpa(0x1000), &value64), GUEST_MEM_OK);
    assert_int_equal(value64, 0x1122334455667788);
    assert_int_equal(guest_load_u32(gpa(0x1004), &value32), GUEST_MEM_OK);
    assert_int_equal(value32, 0x11223344);
    assert_int_equal(guest_load_u64(gpa(0x1004), &value64), GUEST_MEM_MISALIGNED);
    assert_int_equal(guest_load_u32(gpa(0x1002), &value32), GUEST_MEM_MISALIGNED);
    assert_int_equal(guest_load_u64(gpa(UMBRA_START), &value64), GUEST_MEM_NOT_OWNED);
    assert_int_equal(guest_load_u32(gpa(HOLE_START), &value32), GUEST_MEM_NOT_OWNED);
}

static void paging_off(void **state)
{
    struct guest_paging paging = {.cr0 = CR0_PE, .cr3 = UMBRA_START};

    (void)state;
    assert_walk(&paging, 0x12345678, 0x12345678);
    assert_walk(&paging, 0x5FFFFFFFF, 0xFFFFFFFF);
}

static void paging_32_bit(void **state)
{
    struct guest_paging paging = {.cr0 = CR0_PE | CR0_PG, .cr3 = 0x2018, .cr4 = CR4_PSE};

    (void)state;
    put32(0x2000 + 4 * 0x301, 0x3067);     /* linear C0400000: a table at 3000 */
    put32(0x3000 + 4 * 0x123, 0xABCD5067); /* page ABCD5000 */
    put32(0x2000 + 4 * 0x3FF, 0xFFC00083); /* a 4-MByte page */
    put32(0x2000 + 4 * 0x001, 0x00806087); /* PSE-36: bits 20:13 are address bits 39:32, here 3 */
    put32(0x2000 + 4 * 0x002, UMBRA_START | 1);
    put32(0x2000 + 4 * 0x003, 0xFFFFF001);

    assert_walk(&paging, 0xC0523ABC, 0xABCD5ABC);
    assert_walk(&paging, 0xFFF23456, 0xFFF23456);
    assert_walk(&paging, 0x00512345, 0x300912345);
    assert_no_walk(&paging, 0xC0524000, GUEST_WALK_NOT_PRESENT);
    assert_no_walk(&paging, 0x80000000, GUEST_WALK_NOT_PRESENT);
    assert_no_walk(&paging, 0x00800000, GUEST_WALK_NO_TABLE);
    assert_no_walk(&paging, 0x00C00000, GUEST_WALK_NO_TABLE);

    paging.cr4 = 0; /* without PSE the bit means nothing: the entry points to a table */
    put32(0x2000 + 4 * 0x3FF, 0x3083);
    assert_walk(&paging, 0xFFD23ABC, 0xABCD5ABC);
    paging.cr3 = UMBRA_START;
    assert_no_walk(&paging, 0, GUEST_WALK_NO_TABLE);
}

static void paging_pae(void **state)
{
    struct guest_paging paging = {.cr0 = CR0_PE | CR0_PG, .cr3 = 0x2020, .cr4 = CR4_PAE};

    (void)state;
    put64(0x2020, 0x3001); /* the four PDPTEs need only 32-byte alignment */
    put64(0x2038, 0x4001);
    put64(0x2030, 0x4081);                              /* PS is reserved in a PDPTE */
    put64(0x3000 + 8 * 0x1FF, 0x5067);                  /* linear 3FE00000 */
    put64(0x5000 + 8 * 0x1FF, 0x8000000123456063);      /* NX and a page above 4 GByte */
    put64(0x4000, 0x80000007654010E7 & ~(u64)0x1FF000); /* linear C0000000: a 2-MByte page */
    put64(0x4008, 0x80000007654010E7);                  /* the same with its PAT bit */

    assert_walk(&paging, 0x3FFFF123, 0x123456123);
    assert_walk(&paging, 0xC0112233, 0x765512233);
    assert_walk(&paging, 0xC0312233, 0x765512233);
    assert_no_walk(&paging, 0x80000000, GUEST_WALK_RESERVED);
    assert_no_walk(&paging, 0x40000000, GUEST_WALK_NOT_PRESENT);
    assert_no_walk(&paging, 0x00000000, GUEST_WALK_NOT_PRESENT);
}

static const u64 kernel_linear = 0xFFFF800000201ABC; /* PML4 256, PDPT 0, PD 1, PT 1 */

static struct guest_paging four_levels(void)
{
    put64(0x2000 + 8 * 256, 0x3067);
    put64(0x3000, 0x4067);
    put64(0x4008, 0x5067);
    put64(0x5008, 0x8000000000007063);
    put64(0x3008, 0x80000000C00000E3);           /* a 1-GByte page at FFFF800040000000 */
    put64(0x4010, 0xFFE000E3);                   /* a 2-MByte page at FFFF800000400000 */
    put64(0x2000 + 8 * 257, 0x30E7);             /* PS is reserved in a PML4E */
    put64(0x2000 + 8 * 511, 0x000FFFFFFFFFF067); /* a table beyond memory */
    return (struct guest_paging){
        /* PCID and LAM bits are not part of the address. */
        .cr0 = CR0_PE | CR0_PG,      .cr3 = 0x6000000000002018, .cr4 = CR4_PAE,
        .efer = EFER_LME | EFER_LMA, .cs_long = true,
    };
}

static void paging_4_level(void **state)
{
    struct guest_paging paging = four_levels();

    (void)state;
    assert_walk(&paging, kernel_linear, 0x7ABC);
    assert_walk(&paging, 0xFFFF800076543210, 0xF6543210);
    assert_walk(&paging, 0xFFFF800000554321, 0xFFF54321);
    assert_no_walk(&paging, 0xFFFF808000000000, GUEST_WALK_RESERVED);
    assert_no_walk(&paging, 0xFFFFFF8000000000, GUEST_WALK_NO_TABLE);
    assert_no_walk(&paging, 0xFFFF810000000000, GUEST_WALK_NOT_PRESENT);
    assert_no_walk(&paging, 0x0000800000000000, GUEST_WALK_NON_CANONICAL);
    assert_no_walk(&paging, 0xFFFF7FFFFFFFFFFF, GUEST_WALK_NON_CANONICAL);
    assert_no_walk(&paging, 0x00007FFFFFFFFFFF, GUEST_WALK_NOT_PRESENT);
}

static void paging_5_level(void **state)
{
    struct guest_paging paging = four_levels();

    (void)state;
    paging.cr4 |= CR4_LA57;
    paging.cr3 = 0x6000;
    put64(0x6000 + 8 * 0x100, 0x2067);
    put64(0x6000, 0x20E7);
    /* The lowest canonical address of the upper half, and then as in kernel_linear. */
    assert_walk(&paging, 0xFF00800000201ABC, 0x7ABC);
    assert_no_walk(&paging, 0x0000800000201ABC, GUEST_WALK_RESERVED); /* canonical here; PS in a PML5E */
    assert_no_walk(&paging, 0x0100000000000000, GUEST_WALK_NON_CANONICAL);
}

static void walk_writes_nothing(void **state)
{
    struct guest_paging paging = four_levels();
    u8 *before = malloc(ARENA_BYTES);

    (void)state;
    assert_non_null(before);
    put64(0x5008, 0x7001); /* A and D are clear and stay so */
    memcpy(before, arena, ARENA_BYTES);
    assert_walk(&paging, kernel_linear, 0x7ABC);
    assert_memory_equal(before, arena, ARENA_BYTES);
    free(before);
}

static void decode_modes(void **state)
{
    struct guest_paging paging = {.cs_long = true};

    (void)state;
    assert_int_equal(guest_decode_mode(&paging), DECODE_MODE_16); /* CS.L without LMA means nothing */
    paging.cs_32_bit = true;
    assert_int_equal(guest_decode_mode(&paging), DECODE_MODE_32);
    paging.cs_32_bit = false;
    paging.efer = EFER_LMA;
    assert_int_equal(guest_decode_mode(&paging), DECODE_MODE_64);
    paging.cs_long = false;
    assert_int_equal(guest_decode_mode(&paging), DECODE_MODE_16);
}

static void fetch_across_pages(void **state)
{
    struct guest_paging paging = four_levels();
    u8 bytes[15];

    (void)state;
    for (u8 i = 0; i < 15; i++) {
        arena[0x7FF8 + i] = i; /* the first eight bytes, and what must not follow them */
        arena[0xA000 + i] = (u8)(8 + i);
    }
    put64(0x5010, 0xA063); /* the next linear page is elsewhere in physical memory */
    assert_int_equal(guest_fetch(&paging, 0xFFFF800000201FF8, bytes, 15), 15);
    for (u8 i = 0; i < 15; i++)
        assert_int_equal(bytes[i], i);

    put64(0x5010, 0);
    assert_int_equal(guest_fetch(&paging, 0xFFFF800000201FF8, bytes, 15), 8);
    assert_int_equal(guest_fetch(&paging, 0xFFFF800000201FF0, bytes, 15), 15);
    put64(0x5010, UMBRA_START | 0x63); /* mapped, but to what is not the guest's */
    assert_int_equal(guest_fetch(&paging, 0xFFFF800000201FF8, bytes, 15), 8);
    assert_int_equal(guest_fetch(&paging, 0xFFFF800000202000, bytes, 15), 0);
    assert_int_equal(guest_fetch(&paging, 0xFFFF810000000000, bytes, 15), 0);
}

static void fetch_adds_the_segment_base(void **state)
{
    struct guest_paging paging = {.cs_base = 0x9FFF0, .efer = EFER_LMA};
    u8 bytes[2];

    (void)state;
    arena[0xA0000] = 0x0F;
    arena[0xA0001] = 0xA2;
    assert_int_equal(guest_fetch(&paging, 0x10, bytes, 2), 2);
    assert_int_equal(bytes[1], 0xA2);
    paging.cs_base = 0xFFFFFFF0; /* outside 64-bit mode linear addresses wrap at 4 GByte */
    assert_int_equal(guest_fetch(&paging, 0xA0010, bytes, 2), 2);
    assert_int_equal(bytes[0], 0x0F);
    paging.cs_long = true; /* in 64-bit mode the base does not count */
    assert_int_equal(guest_fetch(&paging, 0xA0001, bytes, 1), 1);
    assert_int_equal(bytes[0], 0xA2);
}

#define WALK_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WALK_TEST(accessor_checks_every_byte),
        WALK_TEST(single_loads),
        WALK_TEST(paging_off),
        WALK_TEST(paging_32_bit),
        WALK_TEST(paging_pae),
        WALK_TEST(paging_4_level),
        WALK_TEST(paging_5_level),
        WALK_TEST(walk_writes_nothing),
        WALK_TEST(decode_modes),
        WALK_TEST(fetch_across_pages),
        WALK_TEST(fetch_adds_the_segment_base),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
