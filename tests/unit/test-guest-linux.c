/* SPDX-License-Identifier: MIT */
/*
 * The Linux loader: what the kernel finds, with images made by hand; every way in which kernel, initrd and
 * their sources can lie to each other; and damaged images, which must be refused without a stray access and
 * without a write.
 */
#include "boot/guest.h"
#include "tests/unit/arena.h"
#include "tests/unit/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SETUP_BYTES = 5 * 512, IMAGE_MAX = 1 << 20, INITRD_MAX = 1 << 20, ENTRY = 0x200 };

static struct boot_info info;
static struct memmap map;
static struct start_state start;
static char sentence[GUEST_SENTENCE_BYTES];

/* The image and the initrds as they were, to compare with what the guest finds. */
static u8 image[IMAGE_MAX], initrd[INITRD_MAX];
static size_t image_bytes;

static void put(u8 *at, u64 value, unsigned bytes)
{
    memcpy(at, &value, bytes);
}

static void set(unsigned offset, u64 value, unsigned bytes)
{
    put(image + offset, value, bytes);
}

static void fill_random(u8 *bytes, size_t count)
{
    for (size_t i = 0; i < count; i += sizeof(u64)) {
        u64 value = random_u64();
        memcpy(bytes + i, &value, min_u64(sizeof(value), count - i));
    }
}

/* A sound image with `kernel_bytes` of protected-mode code, which is preferred at `preferred`. */
static void make_image(u64 kernel_bytes, u64 preferred, u64 init_bytes, u64 alignment)
{
    memset(image, 0xcc, SETUP_BYTES);
    memset(image + 0x1f1, 0, 0x290 - 0x1f1);
    image_bytes = SETUP_BYTES + kernel_bytes;
    fill_random(image + SETUP_BYTES, kernel_bytes);
    set(0x1f1, SETUP_BYTES / 512 - 1, 1);
    set(0x1f4, (kernel_bytes + 15) / 16, 4);
    set(0x1fe, 0xaa55, 2);
    set(0x200, 0x6aeb, 2); /* the header ends at 0x26c */
    set(0x202, 0x53726448, 4);
    set(0x206, 0x20f, 2);
    set(0x211, 1, 1);
    set(0x22c, 0x7fffffff, 4);
    set(0x230, alignment, 4);
    set(0x234, 1, 1);
    set(0x236, 1, 2);
    set(0x238, 255, 4);
    set(0x258, preferred, 8);
    set(0x260, init_bytes, 4);
}

static void begin(void)
{
    memset(&info, 0, sizeof(info));
    memset(&map, 0, sizeof(map));
    info.command_line = "";
    info.loader_name = "test";
}

static void add(u64 from, u64 to, u32 type)
{
    assert_int_equal(memmap_add(&map, from, to - from, type), MEMMAP_OK);
}

static void make_rsdp(u8 *rsdp, u8 revision)
{
    memset(rsdp, 0, 36);
    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = revision;
    put(rsdp + 16, 0x12345678, 4);
    put(rsdp + 20, 36, 4);
    u8 sum = 0;
    for (unsigned i = 0; i < 20; i++)
        sum = (u8)(sum + rsdp[i]);
    rsdp[8] = (u8)-sum;
}

/* Found at once by the search for it, which otherwise takes most of the time of a run. */
static void put_rsdp_first(void)
{
    u8 rsdp[36];
    make_rsdp(rsdp, 2);
    arena_put(0xe0000, rsdp, sizeof(rsdp));
}

/* A PC with RAM up to `top`, and no RSDP. */
static void standard_map(u64 top)
{
    begin();
    add(0, 0x9f000, MEM_RAM);
    add(0x9f000, 0xa0000, MEM_RESERVED);
    add(0xf0000, 0x100000, MEM_RESERVED);
    add(MIB(1), top, MEM_RAM);
    arena_layout(&map);
    memset(arena_at(0), 0, 0x9f000);
    static const u8 nothing[36];
    arena_put(0xe0000, nothing, sizeof(nothing));
}

static void module(u64 at, const u8 *bytes, size_t count, const char *string)
{
    struct boot_module *added = &info.module[info.module_count++];
    added->start = at;
    added->end = at + count;
    added->string = string;
    if (count != 0)
        arena_put(at, bytes, count);
}

static enum guest_status load(void)
{
    memset(sentence, 0, sizeof(sentence));
    arena_arm();
    enum guest_status status = guest_load(&info, &map, &start, sentence, sizeof(sentence));
    assert_int_not_equal(strlen(sentence), 0);
    assert_true(strlen(sentence) < sizeof(sentence) - 1);
    if (status != GUEST_OK && arena_written)
        fail_msg("refused, but memory was written: %s", sentence);
    arena_disarm();
    return status;
}

#define assert_loaded() assert_string_equal(load() == GUEST_OK ? "" : sentence, "")
#define assert_refused(status, text)                                                                         \
    do {                                                                                                     \
        assert_int_equal(load(), status);                                                                    \
        if (strstr(sentence, text) == NULL)                                                                  \
            fail_msg("sentence without \"%s\": %s", text, sentence);                                         \
    } while (0)

static u64 params(void)
{
    return start.gpr[GPR_RSI];
}

static u64 kernel_at(void)
{
    return start.rip - ENTRY;
}

static u64 initrd_at(void)
{
    return arena_u32(params() + 0x218) | (u64)arena_u32(params() + 0xc0) << 32;
}

static u64 initrd_size(void)
{
    return arena_u32(params() + 0x21c) | (u64)arena_u32(params() + 0xc4) << 32;
}

static u64 command_line_at(void)
{
    return arena_u32(params() + 0x228) | (u64)arena_u32(params() + 0xc8) << 32;
}

/* Walks the page tables that the guest starts with. */
static u64 translate(u64 address)
{
    u64 pml4e = arena_u64(start.cr3 + (address >> 39) * 8);
    assert_int_equal(pml4e & 1, 1);
    u64 pdpte = arena_u64((pml4e & BITS(51, 12)) + (address >> 30 & 511) * 8);
    assert_int_equal(pdpte & 0x83, 3);
    u64 pde = arena_u64((pdpte & BITS(51, 12)) + (address >> 21 & 511) * 8);
    assert_int_equal(pde & 0x83, 0x83);
    return (pde & BITS(51, 21)) | (address & BITS(20, 0));
}

static void assert_apart(u64 a, u64 a_bytes, u64 b, u64 b_bytes)
{
    if (a < b + b_bytes && b < a + a_bytes)
        fail_msg("0x%lx+0x%lx and 0x%lx+0x%lx overlap", a, a_bytes, b, b_bytes);
}

/* Everything that holds for every Linux guest that was loaded. */
static void check_loaded(u64 init_bytes)
{
    u64 kernel_bytes = image_bytes - SETUP_BYTES, scratch = start.cr3, scratch_bytes = 7 * PAGE_SIZE;
    u64 needed = max_u64(init_bytes, kernel_bytes);

    assert_int_equal(start.mode, START_LONG64);
    assert_true(memmap_covers(&map, kernel_at(), needed, MEM_RAM));
    assert_memory_equal(arena_at(kernel_at()), image + SETUP_BYTES, kernel_bytes);
    assert_int_equal(arena_u32(params() + 0x214), kernel_at());
    assert_int_equal(arena_u32(params() + 0x202), 0x53726448);
    assert_int_equal(arena_u16(params() + 0x210) & 0xff, 0xff);
    assert_int_equal(arena_u16(params() + 0x1ee), 0); /* the sentinel */

    assert_int_equal(start.cs_selector, 0x10);
    assert_int_equal(start.data_selector, 0x18);
    assert_int_equal(start.gdt_limit, 31);
    assert_int_equal(arena_u64(start.gdt_base + 0x10) >> 40 & 0xf0fb, 0xa09b & 0xf0fb);
    assert_int_equal(arena_u64(start.gdt_base + 0x18) >> 40 & 0xf0ff, 0xc093);
    const u64 probes[] = {0, kernel_at(), kernel_at() + needed - 1, params(), command_line_at(), GIB(4) - 1};
    for (unsigned i = 0; i < ARRAY_SIZE(probes); i++)
        assert_int_equal(translate(probes[i]), probes[i]);

    assert_true(scratch >= PAGE_SIZE && scratch + scratch_bytes <= GIB(4));
    assert_true(memmap_covers(&map, scratch, scratch_bytes, MEM_RAM));
    assert_apart(kernel_at(), needed, scratch, scratch_bytes);
    assert_apart(kernel_at(), needed, start.gdt_base, 32);
    assert_apart(kernel_at(), needed, command_line_at(), strlen(arena_at(command_line_at())) + 1);
    if (initrd_size() != 0) {
        assert_apart(kernel_at(), needed, initrd_at(), initrd_size());
        assert_apart(scratch, scratch_bytes, initrd_at(), initrd_size());
        assert_int_equal(initrd_at() & PAGE_MASK, 0);
    }
    unsigned count = min_u64(map.count, 128) & 0xff;
    assert_int_equal(arena_u16(params() + 0x1e8) & 0xff, count);
    for (unsigned i = 0; i < count; i++) {
        u64 entry = params() + 0x2d0 + i * 20;
        assert_int_equal(arena_u64(entry), map.range[i].start);
        assert_int_equal(arena_u64(entry + 8), map.range[i].end - map.range[i].start);
        assert_int_equal(arena_u32(entry + 16), map.range[i].type);
    }
}

static void test_plain(void **state)
{
    (void)state;
    standard_map(MIB(32));
    add(MIB(30), MIB(31), MEM_RESERVED); /* Umbra's region */
    arena_layout(&map);
    make_image(100000, MIB(16), MIB(4), MIB(2));
    module(MIB(2) + 0x123, image, image_bytes, "root=/dev/ram0 quiet");
    assert_loaded();
    check_loaded(MIB(4));
    assert_int_equal(kernel_at(), MIB(16));
    assert_int_equal(initrd_size(), 0);
    assert_int_equal(initrd_at(), 0);
    assert_string_equal(arena_at(command_line_at()), "root=/dev/ram0 quiet");
    assert_int_equal(arena_u64(params() + 0x70), 0);
    assert_int_equal(arena_u64(params() + 0x250), 0);
    const u8 *screen = arena_at(params());
    assert_int_equal(screen[0x06], 3);
    assert_int_equal(screen[0x07], 80);
    assert_int_equal(screen[0x0e], 25);
    assert_int_equal(screen[0x0f], 1);
    assert_non_null(strstr(sentence, "Linux"));
}

static void test_initrd_stays(void **state)
{
    (void)state;
    standard_map(MIB(32));
    make_image(5000, MIB(4), MIB(1), MIB(2));
    fill_random(initrd, 70001);
    module(MIB(2), image, image_bytes, "/vmlinuz  console=ttyS0");
    module(MIB(3), initrd, 70001, "/initrd");
    assert_loaded();
    check_loaded(MIB(1));
    assert_int_equal(initrd_at(), MIB(3));
    assert_int_equal(initrd_size(), 70001);
    assert_memory_equal(arena_at(MIB(3)), initrd, 70001);
    assert_string_equal(arena_at(command_line_at()), "console=ttyS0");
}

static void test_initrd_moves(void **state)
{
    (void)state;
    const u64 places[] = {MIB(4) + PAGE_SIZE, MIB(5) - PAGE_SIZE, MIB(6) + 4, MIB(4) - PAGE_SIZE};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        standard_map(MIB(32));
        make_image(5000, MIB(4), MIB(1), MIB(2));
        fill_random(initrd, 70001);
        module(MIB(2), image, image_bytes, "");
        module(places[i], initrd, 70001, "");
        assert_loaded();
        check_loaded(MIB(1));
        assert_memory_equal(arena_at(initrd_at()), initrd, 70001);
        assert_true(initrd_at() > MIB(31)); /* as high as possible */
    }
}

static void test_initrd_address_limit(void **state)
{
    (void)state;
    standard_map(MIB(32));
    add(GIB(4), GIB(4) + MIB(4), MEM_RAM);
    arena_layout(&map);
    make_image(5000, MIB(4), MIB(1), MIB(2));
    set(0x22c, MIB(20) - 1, 4);
    fill_random(initrd, 70001);
    module(MIB(2), image, image_bytes, "");
    module(MIB(24), initrd, 70001, "");
    assert_loaded();
    check_loaded(MIB(1));
    assert_int_equal(initrd_at(), MIB(20) - 18 * PAGE_SIZE);
    assert_memory_equal(arena_at(initrd_at()), initrd, 70001);

    /* With XLF_CAN_BE_LOADED_ABOVE_4G the limit does not count. */
    set(0x236, 3, 2);
    info.module_count = 0;
    module(MIB(2), image, image_bytes, "");
    module(GIB(4) + 1, initrd, 70001, "");
    assert_loaded();
    check_loaded(MIB(1));
    assert_true(initrd_at() > GIB(4));
    assert_memory_equal(arena_at(initrd_at()), initrd, 70001);
}

static void test_several_initrds(void **state)
{
    (void)state;
    standard_map(MIB(32));
    make_image(5000, MIB(4), MIB(1), MIB(2));
    fill_random(initrd, 300);
    module(MIB(2), image, image_bytes, "");
    module(MIB(8), initrd, 101, "");
    module(MIB(9), initrd + 101, 50, "");
    module(MIB(10), initrd + 151, 149, "");
    assert_loaded();
    check_loaded(MIB(1));
    assert_int_equal(initrd_size(), 104 + 52 + 149);
    assert_memory_equal(arena_at(initrd_at()), initrd, 101);
    assert_memory_equal(arena_at(initrd_at() + 101), "\0\0", 3);
    assert_memory_equal(arena_at(initrd_at() + 104), initrd + 101, 50);
    assert_memory_equal(arena_at(initrd_at() + 156), initrd + 151, 149);
}

static void test_relocation(void **state)
{
    (void)state;
    standard_map(MIB(32));
    add(MIB(16) + PAGE_SIZE, MIB(16) + 2 * PAGE_SIZE, MEM_RESERVED);
    arena_layout(&map);
    make_image(5000, MIB(16), MIB(4), MIB(2));
    module(MIB(2), image, image_bytes, "");
    assert_loaded();
    check_loaded(MIB(4));
    assert_int_equal(kernel_at(), MIB(18));

    set(0x234, 0, 1);
    arena_put(MIB(2), image, image_bytes);
    assert_refused(GUEST_NO_ROOM, "4096 KByte");
}

static void test_small_memory(void **state)
{
    (void)state;
    standard_map(MIB(32));
    make_image(5000, MIB(16), MIB(62), MIB(2));
    module(MIB(2), image, image_bytes, "");
    assert_refused(GUEST_NO_ROOM, "63488 KByte");

    make_image(5000, MIB(16), MIB(8), MIB(2));
    fill_random(initrd, INITRD_MAX);
    standard_map(MIB(25));
    make_image(5000, MIB(16), MIB(8), MIB(2));
    module(MIB(2), image, image_bytes, "");
    module(MIB(16), initrd, INITRD_MAX, "");
    assert_loaded();
    check_loaded(MIB(8));
    assert_int_equal(initrd_at(), MIB(24));
    assert_memory_equal(arena_at(initrd_at()), initrd, INITRD_MAX);
}

/* The initrd can only move up by a page, over itself. */
static void test_initrd_slides(void **state)
{
    (void)state;
    standard_map(MIB(2) + PAGE_SIZE);
    make_image(5000, MIB(1), KIB(64), KIB(4));
    fill_random(initrd, MIB(1) - KIB(64) + PAGE_SIZE);
    module(KIB(64), image, image_bytes, "");
    module(MIB(1) + KIB(64) - PAGE_SIZE, initrd, MIB(1) - KIB(64) + PAGE_SIZE, "");
    assert_loaded();
    check_loaded(KIB(64));
    assert_int_equal(initrd_at(), MIB(1) + KIB(64));
    assert_memory_equal(arena_at(initrd_at()), initrd, MIB(1) - KIB(64) + PAGE_SIZE);
}

/* Kernel and initrd lie where the other must go; with a free page range the detour works, without it is
 * refused. */
static void test_exchange(void **state)
{
    (void)state;
    for (unsigned free_pages = 0; free_pages < 40; free_pages += 13) {
        begin();
        add(MIB(1), MIB(1) + KIB(128) + free_pages * PAGE_SIZE, MEM_RAM);
        add(MIB(4), MIB(4) + 8 * PAGE_SIZE, MEM_RAM);
        arena_layout(&map);
        make_image(KIB(56), MIB(1), KIB(64), KIB(64));
        set(0x22c, MIB(2) - 1, 4);
        fill_random(initrd, KIB(64));
        module(MIB(1) + KIB(64), image, image_bytes, "");
        module(MIB(1), initrd, KIB(64), "");
        if (free_pages < 56 / 4) {
            assert_refused(GUEST_NO_ROOM, "in each other's way");
            continue;
        }
        assert_loaded();
        check_loaded(KIB(64));
        assert_memory_equal(arena_at(initrd_at()), initrd, KIB(64));
    }
}

static void test_rsdp(void **state)
{
    (void)state;
    u8 rsdp[36], zero[36] = {0}, segment[2] = {0xc0, 0x9f};
    make_rsdp(rsdp, 2);
    standard_map(MIB(32));
    make_image(5000, MIB(4), MIB(1), MIB(2));
    module(MIB(2), image, image_bytes, "");
    memcpy(info.rsdp, rsdp, 36);
    info.rsdp_bytes = 36;

    /* The loader's copy, in memory that Linux reserves. */
    assert_loaded();
    check_loaded(MIB(1));
    u64 node = arena_u64(params() + 0x250);
    assert_int_not_equal(node, 0);
    assert_int_equal(arena_u32(node + 8), 0);
    assert_int_equal(arena_u32(node + 12), 36);
    assert_int_equal(arena_u64(params() + 0x70), node + 16);
    assert_memory_equal(arena_at(node + 16), rsdp, 36);

    /* Firmware's own wins. */
    arena_put(0xf1230, rsdp, 36);
    module(MIB(2), image, image_bytes, "");
    info.module_count = 1;
    assert_loaded();
    assert_int_equal(arena_u64(params() + 0x70), 0xf1230);
    assert_int_equal(arena_u64(params() + 0x250), 0);

    arena_put(0x40e, segment, 2);
    arena_put(0x9fc10, rsdp, 36);
    arena_put(MIB(2), image, image_bytes);
    assert_loaded();
    assert_int_equal(arena_u64(params() + 0x70), 0x9fc10);
    arena_put(0xf1230, zero, 36);
    arena_put(0x9fc10, zero, 36);
}

static void test_many_ranges(void **state)
{
    (void)state;
    u8 rsdp[36];
    make_rsdp(rsdp, 0);
    standard_map(MIB(32));
    for (unsigned i = 0; i < 140; i++)
        add(GIB(1) + MIB(2ull * i), GIB(1) + MIB(2ull * i + 1), MEM_RESERVED + (i & 1));
    make_image(5000, MIB(4), MIB(1), MIB(2));
    module(MIB(2), image, image_bytes, "");
    memcpy(info.rsdp, rsdp, 20);
    info.rsdp_bytes = 20;
    assert_loaded();
    check_loaded(MIB(1));
    bool found = false;
    for (u64 node = arena_u64(params() + 0x250); node != 0; node = arena_u64(node)) {
        if (arena_u32(node + 8) != 1)
            continue;
        found = true;
        assert_int_equal(arena_u32(node + 12), (map.count - 128) * 20);
        for (unsigned i = 128; i < map.count; i++)
            assert_int_equal(arena_u64(node + 16 + (i - 128) * 20), map.range[i].start);
    }
    assert_true(found);
}

static void test_framebuffer(void **state)
{
    (void)state;
    standard_map(MIB(32));
    make_image(5000, MIB(4), MIB(1), MIB(2));
    module(MIB(2), image, image_bytes, "");
    info.framebuffer =
        (struct boot_framebuffer){true, 1, 32, 0x1fd000000, 4096, 1024, 768, 16, 8, 8, 8, 0, 8};
    assert_loaded();
    const u8 *screen = arena_at(params());
    assert_int_equal(screen[0x0f], 0x23);
    assert_int_equal(arena_u16(params() + 0x12), 1024);
    assert_int_equal(arena_u16(params() + 0x14), 768);
    assert_int_equal(arena_u16(params() + 0x16), 32);
    assert_int_equal(arena_u32(params() + 0x18), 0xfd000000);
    assert_int_equal(arena_u32(params() + 0x1c), 48);
    assert_int_equal(arena_u16(params() + 0x24), 4096);
    assert_memory_equal(screen + 0x26, "\x08\x10\x08\x08\x08\x00\x08\x18", 8);
    assert_int_equal(arena_u32(params() + 0x36), 2);
    assert_int_equal(arena_u32(params() + 0x3a), 1);

    info.framebuffer.type = 2;
    arena_put(MIB(2), image, image_bytes);
    assert_loaded();
    assert_int_equal(((const u8 *)arena_at(params()))[0x0f], 1);
}

static void test_command_line_limit(void **state)
{
    (void)state;
    static char line[300];
    memset(line, 'x', 256);
    standard_map(MIB(32));
    make_image(5000, MIB(4), MIB(1), MIB(2));
    module(MIB(2), image, image_bytes, line);
    assert_refused(GUEST_COMMAND_LINE, "256 characters, but this Linux takes 255");
    line[255] = '\0';
    assert_loaded();
    assert_string_equal(arena_at(command_line_at()), line);
}

static void test_refusals(void **state)
{
    (void)state;
    const struct {
        unsigned offset, bytes;
        u64 value;
        enum guest_status status;
        const char *text;
    } cases[] = {
        {0x206, 2, 0x20b, GUEST_UNSUPPORTED, "protocol 2.11"},
        {0x236, 2, 0xfffe, GUEST_UNSUPPORTED, "without a 64-bit entry"},
        {0x211, 1, 0, GUEST_UNSUPPORTED, "without a 64-bit entry"},
        {0x1fe, 2, 0, GUEST_DAMAGED_IMAGE, "boot sector"},
        {0x1f1, 1, 255, GUEST_DAMAGED_IMAGE, "cut short"},
        {0x1f4, 4, 0xffffffff, GUEST_DAMAGED_IMAGE, "cut short"},
        {0x1f4, 4, 0x20, GUEST_DAMAGED_IMAGE, "512 bytes of kernel"},
        {0x201, 1, 0x10, GUEST_DAMAGED_IMAGE, "setup header"},
        {0x201, 1, 0xff, GUEST_DAMAGED_IMAGE, "setup header"},
        {0x230, 4, 0, GUEST_DAMAGED_IMAGE, "alignment"},
        {0x230, 4, 0x300000, GUEST_DAMAGED_IMAGE, "alignment of 0x300000"},
        {0x258, 8, ~0ull, GUEST_NO_ROOM, "which this machine does not have"},
        {0x258, 8, ~0ull << 21, GUEST_NO_ROOM, "which this machine does not have"},
        {0x260, 4, 0xffffffff, GUEST_NO_ROOM, "which this machine does not have"},
        {0x202, 4, 0, GUEST_UNKNOWN_IMAGE, "begins with cc cc cc cc"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        standard_map(MIB(8));
        make_image(5000, MIB(4), MIB(1), MIB(2));
        set(cases[i].offset, cases[i].value, cases[i].bytes);
        module(MIB(2), image, image_bytes, "");
        assert_refused(cases[i].status, cases[i].text);
    }
    standard_map(MIB(8));
    assert_refused(GUEST_NO_MODULE, "no guest");
    module(MIB(2), image, 3, "");
    assert_refused(GUEST_UNKNOWN_IMAGE, "3 bytes");
    info.module[0].start = MIB(8) - 2;
    info.module[0].end = MIB(8) + 2;
    assert_refused(GUEST_NO_MODULE, "module 1");
    info.module[0].start = ~0ull;
    assert_refused(GUEST_NO_MODULE, "module 1");
}

/* Each field at its extremes, at every width: whatever comes of it, nothing stray happens. */
static void test_field_extremes(void **state)
{
    (void)state;
    const u64 extremes[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, ~0ull};
    standard_map(MIB(4));
    put_rsdp_first();
    for (unsigned offset = 0x1f1; offset < 0x26c; offset++) {
        for (unsigned i = 0; i < ARRAY_SIZE(extremes) * 4; i++) {
            make_image(5000, MIB(2), MIB(1), MIB(2));
            set(offset, extremes[i / 4], 1u << (i % 4));
            info.module_count = 0;
            module(MIB(4) - image_bytes, image, image_bytes, "quiet");
            load();
        }
    }
}

static void test_truncation(void **state)
{
    (void)state;
    standard_map(MIB(4));
    put_rsdp_first();
    make_image(5000, MIB(2), MIB(1), MIB(2));
    for (size_t bytes = 0; bytes < image_bytes; bytes++) {
        info.module_count = 0;
        module(MIB(4) - bytes, image, bytes, "quiet");
        /* syssize is in paragraphs, so up to 15 bytes of padding are not missed. */
        enum guest_status status = load();
        assert_true(status != GUEST_OK || bytes + 15 >= image_bytes);
    }
}

/* Random bytes in the header of an image that ends at the end of RAM. */
static void test_mutations(void **state)
{
    (void)state;
    unsigned loaded = 0, runs = 200000;
    u8 sound[0x290];
    standard_map(MIB(4));
    put_rsdp_first();
    make_image(5000, MIB(2), KIB(64), MIB(1));
    memcpy(sound, image, sizeof(sound));
    fill_random(initrd, 3000);
    for (unsigned run = 0; run < runs; run++) {
        memcpy(image, sound, sizeof(sound));
        for (u64 i = 1 + random_below(3); i-- > 0;)
            image[0x1f1 + random_below(0x26c - 0x1f1)] = (u8)(random_chance(50) ? random_u64() : 0xff);
        info.module_count = 0;
        module(MIB(4) - image_bytes, image, image_bytes, "quiet");
        module(MIB(3) + random_below(3) * 2048, initrd, 3000, "");
        if (load() == GUEST_OK) {
            loaded++;
            assert_memory_equal(arena_at(initrd_at()), initrd, 3000);
        }
    }
    assert_in_range(loaded, runs / 10, runs - runs / 10);
}

/* RAM with holes, and a place for `bytes` in it that keeps clear of what is there. */
static u64 random_place(u64 bytes, u64 alignment, const struct boot_module *other)
{
    for (unsigned tries = 0; tries < 300; tries++) {
        u64 at = align_down(MIB(1) + random_below(MIB(3)), alignment);
        if (memmap_covers(&map, at, bytes, MEM_RAM) &&
            (other == NULL || at >= other->end || at + bytes <= other->start))
            return at;
    }
    return 0;
}

static void test_random_placement(void **state)
{
    (void)state;
    unsigned loaded = 0, tried = 0;
    for (unsigned run = 0; run < 6000; run++) {
        begin();
        add(0, 0x9f000, MEM_RAM);
        add(MIB(1), MIB(2) + random_below(512) * PAGE_SIZE, MEM_RAM);
        for (u64 i = random_below(3); i-- > 0;) {
            u64 hole = MIB(1) + random_below(512) * PAGE_SIZE;
            add(hole, hole + PAGE_SIZE * (1 + random_below(32)), MEM_RESERVED);
        }
        arena_layout(&map);
        put_rsdp_first();
        u64 init_bytes = PAGE_SIZE * (1 + random_below(64)), count = 1 + random_below(KIB(256));
        make_image(0x201 + random_below(KIB(200)), MIB(1) + random_below(256) * PAGE_SIZE, init_bytes,
                   PAGE_SIZE);
        u64 kernel = random_place(image_bytes, 1, NULL);
        if (kernel == 0)
            continue;
        module(kernel, image, image_bytes, "quiet");
        u64 second = random_place(count, random_chance(70) ? PAGE_SIZE : 1, &info.module[0]);
        if (second == 0)
            continue;
        fill_random(initrd, min_u64(count, 4096));
        module(second, initrd, count, "");
        tried++;
        enum guest_status status = load();
        assert_true(status == GUEST_OK || status == GUEST_NO_ROOM);
        if (status != GUEST_OK)
            continue;
        loaded++;
        check_loaded(init_bytes);
        assert_int_equal(initrd_size(), count);
        assert_memory_equal(arena_at(initrd_at()), initrd, count);
    }
    assert_true(tried > 4000 && loaded > tried / 10 * 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_initrd_stays),
        cmocka_unit_test(test_initrd_moves),
        cmocka_unit_test(test_initrd_address_limit),
        cmocka_unit_test(test_several_initrds),
        cmocka_unit_test(test_relocation),
        cmocka_unit_test(test_small_memory),
        cmocka_unit_test(test_initrd_slides),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_rsdp),
        cmocka_unit_test(test_many_ranges),
        cmocka_unit_test(test_framebuffer),
        cmocka_unit_test(test_command_line_limit),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_field_extremes),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_random_placement),
    };
    return cmocka_run_group_tests_name("guest-linux", tests, NULL, NULL);
}
