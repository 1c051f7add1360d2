/* SPDX-License-Identifier: MIT */
/* The multiboot1 and multiboot2 loaders: what a sound kernel finds, and the sentence with which each other
 * one is refused. */
#include "tests/unit/multiboot-guest.h"

/* --- sound kernels --- */

static void test_plain(void **state)
{
    (void)state;
    for (unsigned version = 1; version <= 2; version++) {
        plain_kernel(version, MIB(4));
        standard_map(MIB(16));
        add(MIB(15), MIB(16), MEM_RESERVED); /* Umbra's region */
        lay_out();
        guest_module(MIB(1) + 0x10, "/kernel test=1");
        own_module(MIB(2), 10000, "NR_CPUS=1");
        own_module(MIB(4) + PAGE_SIZE, 20000, "in the way");
        own_module(MIB(3) + 1, 1, "");
        own_module(MIB(14), 0, "nothing in it");
        assert_loaded();
        check_start(version);
        check_segments(0);
        assert_int_equal(start.rip, MIB(4) + 0x345);
        assert_int_equal(start.gpr[GPR_RBX], KIB(64));
        assert_int_equal(found.mem_lower, 636);
        assert_int_equal(found.mem_upper, 14 * 1024);
        assert_int_equal(found.module[0].start, MIB(2));
        assert_true(found.module[1].start > MIB(4));
        assert_int_equal(found.framebuffer, 0);
        if (version == 2) {
            assert_int_equal(found.rsdp_type, 15);
            assert_memory_equal(found.rsdp, arena_at(0xe0000), 36);
        }
    }
}

static void test_physical_entry_and_no_low_memory(void **state)
{
    (void)state;
    plain_kernel(1, MIB(4));
    put_elf32(MIB(4) + 0x777);
    memset(&map, 0, sizeof(map));
    add(MIB(3), MIB(6), MEM_RAM);
    lay_out();
    guest_module(MIB(3), "");
    assert_loaded();
    check_start(1);
    check_segments(0);
    assert_int_equal(start.rip, MIB(4) + 0x777);
    assert_true(start.gpr[GPR_RBX] > MIB(4));
    assert_int_equal(found.mem_lower, 0);
    assert_int_equal(found.mem_upper, 0);
}

static void test_framebuffer_and_rsdp_copy(void **state)
{
    (void)state;
    u8 nothing[BOOT_RSDP_BYTES] = {0};
    for (unsigned version = 1; version <= 2; version++) {
        plain_kernel(version, MIB(4));
        standard_map(MIB(16));
        arena_put(0xe0000, nothing, sizeof(nothing));
        make_rsdp(info.rsdp, 0);
        info.rsdp_bytes = 20;
        info.framebuffer =
            (struct boot_framebuffer){true, 1, 32, 0x1fd000000, 4096, 1024, 768, 16, 8, 8, 7, 0, 6};
        guest_module(MIB(2), "");
        assert_loaded();
        check_start(version);
        assert_int_not_equal(found.framebuffer, 0);
        assert_int_equal(arena_u64(found.framebuffer), 0x1fd000000);
        assert_int_equal(arena_u32(found.framebuffer + 8), 4096);
        assert_int_equal(arena_u32(found.framebuffer + 12), 1024);
        assert_int_equal(arena_u32(found.framebuffer + 16), 768);
        assert_int_equal(arena_u16(found.framebuffer + 20), 0x120);
        assert_memory_equal(arena_at(found.framebuffer + (version == 1 ? 22 : 24)),
                            "\x10\x08\x08\x07\x00\x06", 6);
        if (version == 2) {
            assert_int_equal(found.rsdp_type, 14);
            assert_memory_equal(found.rsdp, info.rsdp, 20);
        }
    }
}

static void test_address_fields(void **state)
{
    (void)state;
    const u32 entry = 0x200000 + 0x40;
    for (unsigned version = 1; version <= 2; version++) {
        /* Everything from 0x100 bytes before the header on, with bss; then the whole file, without. */
        for (unsigned whole = 0; whole < 2; whole++) {
            blank_image(0x3000);
            u32 load = 0x200000, header = load + (whole ? HEADER : 0x100);
            u32 load_end = whole ? 0 : load + 0x1800, bss_end = whole ? 0 : load + 0x2800;
            if (version == 1) {
                put_kludge(HEADER, header, load, load_end, bss_end, entry);
            } else {
                const u32 addresses[4] = {header, whole ? 0xffffffff : load, load_end, bss_end};
                u64 at = HEADER + 16;
                put_tag2(&at, 2, 0, addresses, 4);
                put_tag2(&at, 3, 0, &entry, 1);
                end_header2(HEADER, at);
            }
            add_segment(whole ? 0 : HEADER - 0x100, load, whole ? 0x3000 : 0x1800, whole ? 0x3000 : 0x2800);
            standard_map(MIB(4));
            memset(arena_at(load), 0xaa, 0x4000);
            guest_module(load - 0x800, "kludge");
            own_module(load + 0x3000, 5000, "a");
            assert_loaded();
            check_start(version);
            check_segments(0);
            assert_int_equal(start.rip, entry);
        }
    }
}

static void test_segments_in_a_circle(void **state)
{
    (void)state;
    const u64 base = MIB(2);
    for (unsigned free_pages = 0; free_pages < 40; free_pages += 10) {
        /* Each of four segments must go where the next one lies. */
        blank_image(0x1000 + 4 * 0x10000);
        for (unsigned i = 0; i < 4; i++)
            add_segment(0x1000 + i * 0x10000, base + 0x1000 + (i + 1) % 4 * 0x10000, 0x10000, 0x10000);
        put_elf32(segment[0].linear);
        put_header1(HEADER, 0);
        memset(&map, 0, sizeof(map));
        add(KIB(64), KIB(68), MEM_RAM);
        add(base, base + 0x41000 + free_pages * PAGE_SIZE, MEM_RAM);
        lay_out();
        guest_module(base, "");
        if (free_pages < 16) {
            assert_refused(GUEST_NO_ROOM, "each other's way");
            continue;
        }
        assert_loaded();
        check_start(1);
        check_segments(0);
    }
}

static void test_relocatable(void **state)
{
    (void)state;
    const u32 fields[4][4] = {{0x100000, 0xffffffff, 0x200000, 0},
                              {0x100000, 0xffffffff, 0x1000, 1},
                              {0x100000, 0x4fffff, 0x1000, 2},
                              {0x10000000, 0xffffffff, 0x1000, 0}};
    const u64 expected[4] = {MIB(2), MIB(1), MIB(5) - 0xa000, 0};
    for (unsigned i = 0; i < 4; i++) {
        u64 at = HEADER + 16;
        plain_kernel(2, MIB(64));
        put_tag2(&at, 10, 0, fields[i], 4);
        end_header2(HEADER, at);
        standard_map(MIB(8));
        guest_module(MIB(1) + 0x123, "");
        own_module(MIB(2), 70000, "");
        if (expected[i] == 0) {
            assert_refused(GUEST_NO_ROOM, "0x4000000");
            continue;
        }
        assert_loaded();
        check_start(2);
        check_segments(expected[i] - MIB(64));
        assert_int_equal(start.rip, expected[i] + 0x345);
        assert_int_equal(found.load_base, expected[i]);
    }
    /* It stays where it was linked if it can. */
    u64 at = HEADER + 16;
    plain_kernel(2, MIB(5));
    put_tag2(&at, 10, 0, fields[0], 4);
    end_header2(HEADER, at);
    standard_map(MIB(8));
    guest_module(MIB(2), "");
    assert_loaded();
    check_start(2);
    check_segments(0);
    assert_int_equal(found.load_base, MIB(5));
}

/* --- refusals --- */

static void test_refusals1(void **state)
{
    (void)state;
    standard_map(MIB(8));
    plain_kernel(1, MIB(4));
    put_header1(HEADER, 0x13);
    guest_module(MIB(2), "");
    assert_refused(GUEST_UNSUPPORTED, "flags 0x10");

    put_header1(HEADER, 3);
    put(HEADER + 8, 0, 4);
    guest_module(MIB(2), "");
    assert_refused(GUEST_DAMAGED_IMAGE, "offset 512");

    plain_kernel(1, MIB(4));
    put_elf64(MIB(4));
    put_header1(HEADER, 3);
    guest_module(MIB(2), "");
    assert_refused(GUEST_UNSUPPORTED, "ELF64");

    plain_kernel(1, MIB(16));
    guest_module(MIB(2), "");
    assert_refused(GUEST_NO_ROOM, "0x1000000 to 0x1005000");

    plain_kernel(1, MIB(4));
    segment[1].physical = MIB(4) + 0x4fff;
    put_elf32(MIB(4));
    guest_module(MIB(2), "");
    assert_refused(GUEST_NO_ROOM, "two of its segments");

    plain_kernel(1, MIB(4));
    put_elf32(MIB(6));
    guest_module(MIB(2), "");
    assert_refused(GUEST_DAMAGED_IMAGE, "entry point");

    plain_kernel(1, MIB(4));
    put(0, 0x12345678, 4);
    guest_module(MIB(2), "");
    assert_refused(GUEST_DAMAGED_IMAGE, "no ELF file");

    plain_kernel(1, MIB(4));
    put(HEADER, 0, 4);
    guest_module(MIB(2), "");
    assert_refused(GUEST_UNKNOWN_IMAGE, "7f 45 4c 46");

    plain_kernel(1, MIB(4));
    guest_module(MIB(2), "");
    own_module(MIB(6), 0, "");
    info.module[1].end = MIB(9);
    assert_refused(GUEST_NO_MODULE, "module 2");

    const u32 kludges[][5] = {
        {MIB(4) - 1, MIB(4), 0, 0, MIB(4)},                   /* header in front of what is loaded */
        {MIB(4) + HEADER + 1, MIB(4), 0, 0, MIB(4)},          /* loaded from before the file */
        {MIB(4), MIB(4), MIB(4), 0, MIB(4)},                  /* nothing to load */
        {MIB(4), MIB(4), MIB(4) + 0x9000, 0, MIB(4)},         /* more than the file has */
        {MIB(4), MIB(4), MIB(4) + 0x100, MIB(4) + 1, MIB(4)}, /* bss ends inside */
        {MIB(4), MIB(4), MIB(4) + 0x100, 0, MIB(4) + 0x100},  /* entry behind */
        {MIB(4), MIB(4), MIB(4) + 0x100, 0, MIB(4) - 1},      /* entry before */
        {0xffffffff, 0xffffffff, 0, 0, 0xffffffff},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(kludges); i++) {
        const u32 *k = kludges[i];
        plain_kernel(1, MIB(4));
        put_kludge(HEADER, k[0], k[1], k[2], k[3], k[4]);
        guest_module(MIB(2), "");
        assert_refused(GUEST_DAMAGED_IMAGE, "contradicts its size");
    }
}

static void header_tag(u16 type, u16 flags, const u32 *fields, unsigned count)
{
    u64 at = HEADER + 16;
    plain_kernel(2, MIB(4));
    put_tag2(&at, type, flags, fields, count);
    end_header2(HEADER, at);
    guest_module(MIB(2), "");
}

static void test_refusals2(void **state)
{
    (void)state;
    const u32 requests[] = {4, 6, 9}, framebuffer[] = {1024, 768, 32}, entry = MIB(6);
    standard_map(MIB(8));

    header_tag(1, 0, requests, 3);
    assert_refused(GUEST_UNSUPPORTED, "information of type 9");
    header_tag(1, 1, requests, 3);
    assert_loaded();
    header_tag(1, 0, requests, 2);
    assert_loaded();
    header_tag(5, 0, framebuffer, 3);
    assert_refused(GUEST_UNSUPPORTED, "framebuffer");
    header_tag(5, 1, framebuffer, 3);
    assert_loaded();
    header_tag(7, 0, NULL, 0);
    assert_refused(GUEST_UNSUPPORTED, "header feature 7");
    header_tag(7, 1, NULL, 0);
    assert_loaded();
    header_tag(99, 0, NULL, 0);
    assert_refused(GUEST_UNSUPPORTED, "header feature 99");
    header_tag(3, 0, &entry, 1);
    assert_refused(GUEST_DAMAGED_IMAGE, "entry point 0x600000");
    header_tag(3, 0, NULL, 0);
    assert_refused(GUEST_DAMAGED_IMAGE, "tag of type 3");
    header_tag(2, 0, requests, 3);
    assert_refused(GUEST_DAMAGED_IMAGE, "tag of type 2");
    header_tag(2, 0, (const u32[]){MIB(4), MIB(4), 0, 0}, 4);
    assert_refused(GUEST_DAMAGED_IMAGE, "contradict its size");

    header_tag(6, 0, NULL, 0);
    put(HEADER + 16 + 4, 0, 4); /* the tag's size */
    guest_module(MIB(2), "");
    assert_refused(GUEST_DAMAGED_IMAGE, "tag of type 6");

    plain_kernel(2, MIB(4));
    put(HEADER + 4, 4, 4);
    put(HEADER + 12, 0u - MB2_HEADER_MAGIC - 4 - 24, 4);
    guest_module(MIB(2), "");
    assert_refused(GUEST_UNSUPPORTED, "architecture 4");

    plain_kernel(2, MIB(4));
    put(HEADER + 12, 0, 4);
    guest_module(MIB(2), "");
    assert_refused(GUEST_DAMAGED_IMAGE, "offset 512");

    plain_kernel(2, GIB(4));
    guest_module(MIB(2), "");
    assert_refused(GUEST_DAMAGED_IMAGE, "entry point");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_physical_entry_and_no_low_memory),
        cmocka_unit_test(test_framebuffer_and_rsdp_copy),
        cmocka_unit_test(test_address_fields),
        cmocka_unit_test(test_segments_in_a_circle),
        cmocka_unit_test(test_relocatable),
        cmocka_unit_test(test_refusals1),
        cmocka_unit_test(test_refusals2),
    };
    return cmocka_run_group_tests_name("guest-multiboot", tests, NULL, NULL);
}
