/* SPDX-License-Identifier: MIT */
/*
 * The multiboot loaders at damaged images, which may load or not but cause no stray access, and with kernels
 * and modules in every position to each other, which must arrive whole.
 */
#include "tests/unit/multiboot-guest.h"

/* --- damage --- */

/* One of four shapes, all at 2 MByte. */
static void shape(unsigned kind)
{
    const u32 addresses[4] = {MIB(2) + HEADER, MIB(2), 0, MIB(2) + 0x9000}, entry = MIB(2) + 0x10;
    const u32 relocation[4] = {MIB(1), 0xffffffff, 0x1000, 2}, requests[2] = {4, 6};
    u64 at = HEADER + 16;
    plain_kernel(kind < 2 ? 1 : 2, MIB(2));
    if (kind == 1)
        put_kludge(HEADER, addresses[0], addresses[1], addresses[2], addresses[3], entry);
    if (kind < 2)
        return;
    put_tag2(&at, 1, 0, requests, 2);
    if (kind == 3) {
        put_tag2(&at, 2, 0, addresses, 4);
        put_tag2(&at, 3, 0, &entry, 1);
    }
    put_tag2(&at, 10, 1, relocation, 4);
    end_header2(HEADER, at);
}

/* A damaged checksum would hide all other damage. */
static void repair_checksum(unsigned kind)
{
    u32 word[4];
    memcpy(word, image + HEADER, sizeof(word));
    if (kind < 2)
        put(HEADER + 8, 0u - word[0] - word[1], 4);
    else
        put(HEADER + 12, 0u - word[0] - word[1] - word[2], 4);
}

static void test_truncation(void **state)
{
    (void)state;
    standard_map(MIB(4));
    for (unsigned kind = 0; kind < 4; kind++) {
        shape(kind);
        for (size_t bytes = image_bytes; bytes > 0; bytes -= bytes > 0x1000 ? 7 : 1) {
            image_bytes = bytes;
            guest_module(MIB(4) - bytes, "quiet");
            try_load();
        }
    }
}

static void test_field_extremes(void **state)
{
    (void)state;
    const u64 extremes[] = {0, 1, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff, ~0ull};
    u8 sound[0x1000];
    standard_map(MIB(4));
    for (unsigned kind = 0; kind < 4; kind++) {
        shape(kind);
        memcpy(sound, image, sizeof(sound));
        for (unsigned offset = 0; offset < HEADER + 0x80; offset += 2) {
            for (unsigned i = 0; i < ARRAY_SIZE(extremes) * 3; i++) {
                memcpy(image, sound, sizeof(sound));
                put(offset, extremes[i / 3], 2u << (i % 3));
                repair_checksum(kind);
                guest_module(MIB(4) - image_bytes, "quiet");
                own_module(MIB(3), 100, "a");
                if (try_load() == GUEST_OK)
                    check_start(kind < 2 ? 1 : 2);
            }
        }
    }
}

static void test_mutations(void **state)
{
    (void)state;
    unsigned loaded = 0, runs = 120000;
    u8 sound[0x1000];
    standard_map(MIB(4));
    for (unsigned kind = 0; kind < 4; kind++) {
        shape(kind);
        image_bytes = 0x7400; /* all that is loaded */
        memcpy(sound, image, sizeof(sound));
        for (unsigned run = 0; run < runs / 4; run++) {
            memcpy(image, sound, sizeof(sound));
            for (u64 i = 1 + random_below(3); i-- > 0;) {
                u64 at = random_chance(50) ? random_below(0xc0) : HEADER + random_below(0x80);
                image[at] = (u8)(random_chance(50) ? random_u64() : 0xff * random_below(2));
            }
            repair_checksum(kind);
            guest_module(MIB(4) - image_bytes, "quiet");
            own_module(MIB(3) + random_below(2) * 2048, 300, "a");
            own_module(MIB(2) + random_below(8) * PAGE_SIZE, 5000, "b");
            if (try_load() == GUEST_OK) {
                check_start(kind < 2 ? 1 : 2);
                loaded++;
            }
        }
    }
    assert_in_range(loaded, runs / 20, runs - runs / 20);
}

/* --- placement --- */

static u64 random_ram(u64 bytes, u64 alignment)
{
    for (unsigned tries = 0; tries < 200; tries++) {
        u64 at = align_down(MIB(1) + random_below(MIB(2)), alignment);
        if (memmap_covers(&map, at, bytes, MEM_RAM))
            return at;
    }
    return 0;
}

static bool clear_of_modules(u64 at, u64 bytes)
{
    for (unsigned i = 0; i < info.module_count; i++) {
        if (at < info.module[i].end && at + bytes > info.module[i].start)
            return false;
    }
    return true;
}

/* Segments in any order in the file, at any places in memory that do not overlap. */
static bool random_kernel(unsigned version)
{
    u64 offset = 0x1000;
    unsigned count = 1 + (unsigned)random_below(6);
    blank_image(0x1000 + KIB(200));
    while (segment_count < count) {
        u64 file_bytes = 1 + random_below(KIB(32)), bss = random_chance(50) ? random_below(KIB(32)) : 0;
        u64 at = random_ram(file_bytes + bss, random_chance(50) ? PAGE_SIZE : 4);
        bool fits = at != 0;
        for (unsigned i = 0; i < segment_count; i++) {
            if (at < segment[i].physical + segment[i].memory_bytes &&
                at + file_bytes + bss > segment[i].physical)
                fits = false;
        }
        if (!fits) {
            if (random_chance(2))
                return false;
            continue;
        }
        add_segment(offset, at, file_bytes, file_bytes + bss);
        offset += file_bytes + random_below(64);
    }
    image_bytes = offset;
    if (version == 1) {
        put_elf32(segment[0].linear);
        put_header1(0x400, 1);
    } else {
        put_elf64(segment[0].linear);
        end_header2(0x400, 0x410);
    }
    return true;
}

static void random_map(void)
{
    memset(&map, 0, sizeof(map));
    if (random_chance(50))
        add(0, 0x9f000, MEM_RAM);
    else
        add(0x20000, 0x22000, MEM_RAM);
    add(MIB(1), MIB(1) + KIB(512) + random_below(384) * PAGE_SIZE, MEM_RAM);
    for (u64 i = random_below(4); i-- > 0;) {
        u64 hole = MIB(1) + random_below(512) * PAGE_SIZE;
        add(hole, hole + PAGE_SIZE * (1 + random_below(16)), MEM_RESERVED);
    }
    lay_out();
}

static void test_random_placement(void **state)
{
    (void)state;
    unsigned loaded = 0, tried = 0;
    for (unsigned run = 0; run < 4000; run++) {
        unsigned version = 1 + (unsigned)random_below(2);
        random_map();
        if (!random_kernel(version))
            continue;
        u64 at = random_ram(image_bytes, 1);
        if (at == 0)
            continue;
        guest_module(at, "quiet");
        for (u64 i = random_below(MODULES_MAX); i-- > 0;) {
            u64 bytes = 1 + random_below(KIB(128));
            at = random_ram(bytes, random_chance(60) ? PAGE_SIZE : 1);
            if (at != 0 && clear_of_modules(at, bytes))
                own_module(at, bytes, "module");
        }
        tried++;
        enum guest_status status = try_load();
        assert_true(status == GUEST_OK || status == GUEST_NO_ROOM);
        if (status != GUEST_OK)
            continue;
        loaded++;
        check_start(version);
        check_segments(0);
        assert_int_equal(start.rip, segment[0].physical);
    }
    assert_true(tried > 2500 && loaded > tried / 10 * 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_field_extremes),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_random_placement),
    };
    return cmocka_run_group_tests_name("guest-multiboot-damage", tests, NULL, NULL);
}
