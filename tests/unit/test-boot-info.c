/* SPDX-License-Identifier: MIT */
/*
 * Information structures of multiboot2 and multiboot1 loaders, made by hand: what is read from sound ones,
 * the status for each kind of damage, and random damage, which must not lead to a read outside of what the
 * loader passed.
 */
#include "boot/info.h"
#include "boot/multiboot.h"
#include "tests/unit/arena.h"
#include "tests/unit/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct boot_info info;

/* --- multiboot2 --- */

static u8 structure[65536];
static size_t structure_bytes;

static void append(const void *bytes, size_t count)
{
    if (count != 0)
        memcpy(structure + structure_bytes, bytes, count);
    structure_bytes += count;
}

static void append_value(u64 value, unsigned bytes)
{
    append(&value, bytes);
}

static void seal(void)
{
    u32 bytes = (u32)structure_bytes;
    memcpy(structure, &bytes, sizeof(bytes));
}

static void tag(u32 type, const void *payload, size_t count)
{
    append_value(type, 4);
    append_value(8 + count, 4);
    append(payload, count);
    while (structure_bytes % 8 != 0)
        append_value(0, 1);
}

static void begin2(void)
{
    memset(structure, 0, sizeof(structure));
    structure_bytes = 8;
}

static void end2(void)
{
    tag(0, NULL, 0);
    seal();
}

static void module2(u32 start, u32 end, const char *string)
{
    u8 payload[300];
    memcpy(payload, &start, 4);
    memcpy(payload + 4, &end, 4);
    memcpy(payload + 8, string, strlen(string) + 1);
    tag(3, payload, 8 + strlen(string) + 1);
}

struct map_entry {
    u64 start, bytes;
    u32 type, zero;
};

static void map2(u32 entry_bytes, const struct map_entry *entries, unsigned count)
{
    u8 payload[1024] = {0};
    memcpy(payload, &entry_bytes, 4);
    for (unsigned i = 0; i < count; i++)
        memcpy(payload + 8 + i * entry_bytes, &entries[i], sizeof(entries[i]));
    tag(6, payload, 8 + (size_t)count * entry_bytes);
}

static const struct map_entry pc_map[] = {
    {0, 0x9f000, 1, 0},
    {0xf0000, 0x10000, 2, 0},
    {MIB(1), MIB(63), 1, 0},
    {GIB(3), 0, 1, 0},             /* empty */
    {~0ull - 0xfff, MIB(1), 1, 0}, /* wraps around */
    {MIB(64), MIB(1), 3, 0},
};

static void make_rsdp(u8 *rsdp)
{
    memset(rsdp, 0x11, 36);
    memcpy(rsdp, "RSD PTR ", 8);
    u8 sum = 0;
    rsdp[8] = 0;
    for (unsigned i = 0; i < 20; i++)
        sum = (u8)(sum + rsdp[i]);
    rsdp[8] = (u8)-sum;
}

static void framebuffer2(void)
{
    u8 payload[30] = {0};
    const u64 address = 0x1fd000000;
    const u32 sizes[3] = {4096, 1024, 768};
    const u8 kind[2] = {32, 1}, colors[6] = {16, 8, 8, 7, 0, 6};
    memcpy(payload, &address, 8);
    memcpy(payload + 8, sizes, 12);
    memcpy(payload + 20, kind, 2);
    memcpy(payload + 24, colors, 6);
    tag(8, payload, sizeof(payload));
}

/* Everything that a loader may pass. */
static void full2(void)
{
    u8 rsdp[36];
    const u64 system_table = 0x7ff00000;
    const u32 basic[2] = {639, 65535};
    make_rsdp(rsdp);
    begin2();
    tag(1, "console=com1 loglevel=debug", 28);
    tag(2, "GRUB 2.06", 10);
    module2(0x200000, 0x300000, "root=/dev/sda");
    module2(0x300000, 0x300000, "");
    tag(4, basic, 8);
    map2(24, pc_map, ARRAY_SIZE(pc_map));
    framebuffer2();
    tag(12, &system_table, 8);
    tag(14, rsdp, 20);
    tag(15, rsdp, 36);
    tag(77, "unknown", 8);
    end2();
}

/* Parses the structure, which ends where the readable memory ends. */
static enum boot_info_status parse2(void)
{
    struct memmap ram = {0};
    memmap_add(&ram, MIB(1), KIB(128), MEM_RAM);
    arena_layout(&ram);
    u64 at = MIB(1) + KIB(128) - structure_bytes;
    arena_put(at, structure, structure_bytes);
    arena_arm();
    enum boot_info_status status = boot_info_parse(&info, 0x36d76289, (u32)at);
    assert_false(arena_written);
    arena_disarm();
    return status;
}

static void test_multiboot2(void **state)
{
    (void)state;
    full2();
    assert_int_equal(parse2(), BOOT_INFO_OK);
    memset(arena_at(MIB(1)), 0xee, KIB(128)); /* nothing may point there */
    assert_string_equal(info.command_line, "console=com1 loglevel=debug");
    assert_string_equal(info.loader_name, "GRUB 2.06");
    assert_int_equal(info.module_count, 2);
    assert_int_equal(info.module[0].start, 0x200000);
    assert_int_equal(info.module[0].end, 0x300000);
    assert_string_equal(info.module[0].string, "root=/dev/sda");
    assert_string_equal(info.module[1].string, "");
    assert_int_equal(info.memory.count, 4);
    assert_int_equal(info.memory.range[2].end, MIB(64));
    assert_int_equal(info.memory.range[3].type, MEM_ACPI);
    assert_true(info.framebuffer.present);
    assert_int_equal(info.framebuffer.address, 0x1fd000000);
    assert_int_equal(info.framebuffer.width, 1024);
    assert_int_equal(info.framebuffer.green_size, 7);
    assert_int_equal(info.framebuffer.blue_size, 6);
    assert_int_equal(info.rsdp_bytes, 36);
    assert_int_equal(info.rsdp[35], 0x11);
    assert_int_equal(info.efi_system_table, 0x7ff00000);
    assert_int_equal(info.loader_end, MIB(1) + KIB(128));
    assert_int_equal(info.loader_start, info.loader_end - structure_bytes);
}

static void test_multiboot2_minimal(void **state)
{
    (void)state;
    begin2();
    map2(32, pc_map, 1);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_OK);
    assert_string_equal(info.command_line, "");
    assert_non_null(info.loader_name);
    assert_int_equal(info.module_count, 0);
    assert_false(info.framebuffer.present);
    assert_int_equal(info.rsdp_bytes, 0);
}

static void test_other_memory_tags(void **state)
{
    (void)state;
    const u32 basic[2] = {640, 31 * 1024};
    u8 efi[8 + 3 * 48] = {48, 0, 0, 0, 1, 0, 0, 0};
    const u32 type[3] = {7, 9, 11};
    for (unsigned i = 0; i < 3; i++) {
        u64 start = MIB(i), pages = 256;
        memcpy(efi + 8 + i * 48, &type[i], 4);
        memcpy(efi + 8 + i * 48 + 8, &start, 8);
        memcpy(efi + 8 + i * 48 + 24, &pages, 8);
    }
    begin2();
    tag(4, basic, 8);
    tag(17, efi, sizeof(efi));
    end2();
    assert_int_equal(parse2(), BOOT_INFO_OK);
    assert_int_equal(info.memory.count, 3);
    assert_int_equal(info.memory.range[0].end, MIB(1));
    assert_int_equal(info.memory.range[0].type, MEM_RAM);
    assert_int_equal(info.memory.range[1].type, MEM_ACPI);
    assert_int_equal(info.memory.range[2].type, MEM_RESERVED);

    begin2();
    tag(4, basic, 8);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_OK);
    assert_int_equal(info.memory.count, 2);
    assert_int_equal(info.memory.range[0].end, KIB(640));
    assert_int_equal(info.memory.range[1].end, MIB(32));
}

static void test_bad_rsdp_is_left_out(void **state)
{
    (void)state;
    u8 rsdp[36];
    make_rsdp(rsdp);
    begin2();
    map2(24, pc_map, 1);
    tag(14, rsdp, 20);
    rsdp[10] ^= 1;
    tag(15, rsdp, 36);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_OK);
    assert_int_equal(info.rsdp_bytes, 20);
}

static void test_damage2(void **state)
{
    (void)state;
    u8 many[256] = {0};

    begin2();
    end2();
    assert_int_equal(parse2(), BOOT_INFO_NO_MEMORY_MAP);

    begin2();
    map2(24, pc_map, 1);
    seal(); /* no end tag */
    assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);

    for (u32 total = 0; total < 8; total++) {
        full2();
        memcpy(structure, &total, 4);
        assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);
    }
    full2();
    memcpy(structure, "\xff\xff\xff\xff", 4);
    assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);

    begin2();
    tag(1, "no end", 6);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);

    begin2();
    module2(0x200000, 0x1fffff, "");
    end2();
    assert_int_equal(parse2(), BOOT_INFO_BAD_MODULE);

    begin2();
    for (unsigned i = 0; i < 33; i++)
        module2(0x200000, 0x200001, "");
    end2();
    assert_int_equal(parse2(), BOOT_INFO_TOO_MANY_MODULES);

    begin2();
    memset(many, 'x', 255);
    for (unsigned i = 0; i < 65; i++)
        tag(2, many, 256);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_STRINGS_TOO_LONG);

    begin2();
    for (unsigned i = 0; i < 300; i++)
        map2(24, &(struct map_entry){MIB(2ull * i), MIB(1), 1, 0}, 1);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_MAP_FULL);

    begin2();
    tag(8, many, 23);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);

    begin2();
    map2(23, pc_map, 1);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);

    begin2();
    tag(15, many, 19);
    end2();
    assert_int_equal(parse2(), BOOT_INFO_TRUNCATED);

    assert_int_equal(boot_info_parse(&info, 0x12345678, 0), BOOT_INFO_UNKNOWN_LOADER);
    arena_open_low();
    assert_int_equal(boot_info_parse(&info, 0x36d76289, 0xfffffffc), BOOT_INFO_TRUNCATED);
    for (int i = BOOT_INFO_OK; i <= BOOT_INFO_MAP_FULL; i++)
        assert_true(strlen(boot_info_status_text((enum boot_info_status)i)) > 10);
}

static void check_sane(enum boot_info_status status)
{
    const char *low = info.strings, *high = info.strings + sizeof(info.strings);
    assert_true(info.module_count <= BOOT_MODULES_MAX);
    for (unsigned i = 0; i < info.module_count; i++) {
        const char *string = info.module[i].string;
        assert_true(info.module[i].start <= info.module[i].end);
        assert_true(string >= low && string + strlen(string) < high);
    }
    if (status == BOOT_INFO_OK)
        assert_true(memmap_ram_bytes(&info.memory) != 0);
}

/* Cut off at each length, with a total size that says so. */
static void test_truncation2(void **state)
{
    (void)state;
    full2();
    for (size_t bytes = structure_bytes; bytes >= 8; bytes--) {
        structure_bytes = bytes;
        seal();
        enum boot_info_status status = parse2();
        check_sane(status);
        assert_true(status == BOOT_INFO_TRUNCATED || bytes > 400);
    }
}

/* The total size is the one thing that nothing else can contradict, so it stays. */
static void test_mutations2(void **state)
{
    (void)state;
    unsigned sound = 0, runs = 100000;
    static u8 copy[1024];
    struct memmap ram = {0};
    memmap_add(&ram, MIB(1), KIB(8), MEM_RAM);
    arena_layout(&ram);
    arena_arm();
    arena_disarm();
    full2();
    assert_true(structure_bytes <= sizeof(copy));
    u64 at = MIB(1) + KIB(8) - structure_bytes;
    for (unsigned run = 0; run < runs; run++) {
        memcpy(copy, structure, structure_bytes);
        for (u64 i = 1 + random_below(4); i-- > 0;)
            copy[8 + random_below(structure_bytes - 8)] = (u8)(random_chance(60) ? random_u64() : 0xff);
        memcpy(arena_at(at), copy, structure_bytes);
        enum boot_info_status status = boot_info_parse(&info, 0x36d76289, (u32)at);
        check_sane(status);
        sound += status == BOOT_INFO_OK;
    }
    assert_in_range(sound, runs / 10, runs - runs / 10);
}

/* --- multiboot1 --- */

enum { INFO1 = 0x10000, MAP1 = 0x10100, MODULES1 = 0x10200, TEXT1 = 0x10300, BYTES1 = 0x400 };

static void put1(u64 at, u64 value, unsigned bytes)
{
    memcpy(arena_at(at), &value, bytes);
}

static void full1(void)
{
    memset(arena_at(INFO1), 0, BYTES1);
    put1(INFO1, 0x124d, 4);
    put1(INFO1 + 4, 639, 4);
    put1(INFO1 + 8, 31 * 1024, 4);
    put1(INFO1 + 16, TEXT1, 4);
    put1(INFO1 + 20, 2, 4);
    put1(INFO1 + 24, MODULES1, 4);
    put1(INFO1 + 44, 3 * 24, 4);
    put1(INFO1 + 48, MAP1, 4);
    put1(INFO1 + 64, TEXT1 + 0x20, 4);
    put1(INFO1 + 88, 0xfd000000, 8);
    put1(INFO1 + 96, 4096, 4);
    put1(INFO1 + 100, 1024, 4);
    put1(INFO1 + 104, 768, 4);
    put1(INFO1 + 108, 0x0120, 2);
    put1(INFO1 + 110, 0x0810, 2);
    for (unsigned i = 0; i < 3; i++) {
        put1(MAP1 + i * 24, 20, 4);
        put1(MAP1 + i * 24 + 4, pc_map[i].start, 8);
        put1(MAP1 + i * 24 + 12, pc_map[i].bytes, 8);
        put1(MAP1 + i * 24 + 20, pc_map[i].type, 4);
    }
    put1(MODULES1, 0x200000, 4);
    put1(MODULES1 + 4, 0x280000, 4);
    put1(MODULES1 + 8, TEXT1 + 0x40, 4);
    put1(MODULES1 + 16, 0x280000, 4);
    put1(MODULES1 + 20, 0x280001, 4);
    strcpy(arena_at(TEXT1), "/umbra.elf nested=off");
    strcpy(arena_at(TEXT1 + 0x20), "GNU GRUB 0.97");
    strcpy(arena_at(TEXT1 + 0x40), "/kernel arguments");
}

static enum boot_info_status parse1(void)
{
    return boot_info_parse(&info, 0x2badb002, INFO1);
}

static void test_multiboot1(void **state)
{
    (void)state;
    arena_open_low();
    full1();
    assert_int_equal(parse1(), BOOT_INFO_OK);
    assert_string_equal(info.command_line, "/umbra.elf nested=off");
    assert_string_equal(info.loader_name, "GNU GRUB 0.97");
    assert_int_equal(info.module_count, 2);
    assert_int_equal(info.module[0].end, 0x280000);
    assert_string_equal(info.module[0].string, "/kernel arguments");
    assert_string_equal(info.module[1].string, "");
    assert_int_equal(info.memory.count, 3);
    assert_true(info.framebuffer.present);
    assert_int_equal(info.framebuffer.bpp, 32);
    assert_int_equal(info.framebuffer.red_position, 16);
    assert_int_equal(info.framebuffer.red_size, 8);
    assert_int_equal(info.loader_start, INFO1);
    assert_int_equal(info.loader_end, TEXT1 + 0x40 + sizeof("/kernel arguments"));

    /* A longer entry, as the size field allows, and only the memory sizes. */
    put1(MAP1, 28, 4);
    put1(INFO1 + 44, 32, 4);
    assert_int_equal(parse1(), BOOT_INFO_OK);
    assert_int_equal(info.memory.count, 1);
    put1(INFO1, 1, 4);
    assert_int_equal(parse1(), BOOT_INFO_OK);
    assert_int_equal(info.memory.range[1].end, MIB(32));
    assert_int_equal(info.module_count, 0);
}

static void test_damage1(void **state)
{
    (void)state;
    const struct {
        u64 at;
        u32 value;
        enum boot_info_status status;
    } cases[] = {
        {INFO1, 0, BOOT_INFO_NO_MEMORY_MAP},
        {INFO1 + 44, 71, BOOT_INFO_TRUNCATED},
        {INFO1 + 44, 0xffffffff, BOOT_INFO_TRUNCATED},
        {INFO1 + 48, 0xffffffff, BOOT_INFO_TRUNCATED},
        {MAP1, 19, BOOT_INFO_TRUNCATED},
        {MAP1, 0xffffffff, BOOT_INFO_TRUNCATED},
        {INFO1 + 20, 33, BOOT_INFO_TOO_MANY_MODULES},
        {INFO1 + 20, 0xffffffff, BOOT_INFO_TOO_MANY_MODULES},
        {INFO1 + 24, MIB(512), BOOT_INFO_TRUNCATED},
        {INFO1 + 24, MIB(64) - 16, BOOT_INFO_TRUNCATED},
        {INFO1 + 16, MIB(512), BOOT_INFO_TRUNCATED},
        {INFO1 + 64, 0xffffffff, BOOT_INFO_TRUNCATED},
        {MODULES1 + 8, 0xffffffff, BOOT_INFO_TRUNCATED},
        {MODULES1, 0x280001, BOOT_INFO_BAD_MODULE},
    };
    arena_open_low();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        full1();
        put1(cases[i].at, cases[i].value, 4);
        assert_int_equal(parse1(), cases[i].status);
    }
    /* Text without an end, short of and beyond what can be kept. */
    full1();
    put1(INFO1 + 16, MIB(64) - 8, 4);
    memset(arena_at(MIB(64) - 8), 'x', 16);
    assert_int_equal(parse1(), BOOT_INFO_TRUNCATED);
    memset(arena_at(MIB(63)), 'x', KIB(20));
    put1(INFO1 + 16, MIB(63), 4);
    assert_int_equal(parse1(), BOOT_INFO_STRINGS_TOO_LONG);
    /* At the very end of what 32 bits can name. */
    memset(arena_at(GIB(4) - 16), 0xff, 16);
    for (u64 at = GIB(4) - 16; at < GIB(4); at++)
        assert_int_not_equal(boot_info_parse(&info, 0x2badb002, (u32)at), BOOT_INFO_OK);
}

static void test_mutations1(void **state)
{
    (void)state;
    unsigned sound = 0, runs = 100000;
    static u8 copy[BYTES1];
    arena_open_low();
    full1();
    memcpy(copy, arena_at(INFO1), BYTES1);
    for (unsigned run = 0; run < runs; run++) {
        memcpy(arena_at(INFO1), copy, BYTES1);
        for (u64 i = 1 + random_below(3); i-- > 0;) {
            const u64 part[] = {INFO1 + random_below(116), MAP1 + random_below(72),
                                MODULES1 + random_below(32)};
            put1(part[random_below(3)], random_chance(60) ? random_u64() : ~0ull, 1);
        }
        enum boot_info_status status = parse1();
        check_sane(status);
        sound += status == BOOT_INFO_OK;
    }
    assert_in_range(sound, runs / 10, runs - runs / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multiboot2),        cmocka_unit_test(test_multiboot2_minimal),
        cmocka_unit_test(test_other_memory_tags), cmocka_unit_test(test_bad_rsdp_is_left_out),
        cmocka_unit_test(test_damage2),           cmocka_unit_test(test_truncation2),
        cmocka_unit_test(test_mutations2),        cmocka_unit_test(test_multiboot1),
        cmocka_unit_test(test_damage1),           cmocka_unit_test(test_mutations1),
    };
    return cmocka_run_group_tests_name("boot-info", tests, NULL, NULL);
}
