/* SPDX-License-Identifier: MIT */
#include "tests/unit/multiboot-guest.h"

struct boot_info info;
struct memmap map;
struct start_state start;
char sentence[GUEST_SENTENCE_BYTES];

u8 image[IMAGE_MAX];
size_t image_bytes;
struct segment segment[SEGMENTS_MAX];
unsigned segment_count;
static u8 content[MODULES_MAX][CONTENT_BYTES]; /* of the guest's own modules, [0] is not used */

void put(u64 offset, u64 value, unsigned bytes)
{
    memcpy(image + offset, &value, bytes);
}

static void fill_random(u8 *bytes, size_t count)
{
    for (size_t i = 0; i < count; i += sizeof(u64)) {
        u64 value = random_u64();
        memcpy(bytes + i, &value, min_u64(sizeof(value), count - i));
    }
}

/* --- images --- */

void add_segment(u64 offset, u64 physical, u64 file_bytes, u64 memory_bytes)
{
    segment[segment_count++] =
        (struct segment){offset, physical, physical + 0x80000000, file_bytes, memory_bytes};
}

void put_elf32(u64 entry)
{
    memcpy(image,
           "\x7f"
           "ELF\x01\x01\x01",
           8);
    put(16, 2, 2);
    put(18, 3, 2);
    put(24, entry, 4);
    put(28, 52, 4);
    put(42, 32, 2);
    put(44, segment_count, 2);
    for (unsigned i = 0; i < segment_count; i++) {
        const u64 fields[6] = {1,
                               segment[i].offset,
                               segment[i].linear,
                               segment[i].physical,
                               segment[i].file_bytes,
                               segment[i].memory_bytes};
        for (unsigned j = 0; j < 6; j++)
            put(52 + i * 32 + j * 4, fields[j], 4);
    }
}

void put_elf64(u64 entry)
{
    memcpy(image,
           "\x7f"
           "ELF\x02\x01\x01",
           8);
    put(16, 2, 2);
    put(18, 62, 2);
    put(24, entry, 8);
    put(32, 64, 8);
    put(54, 56, 2);
    put(56, segment_count, 2);
    for (unsigned i = 0; i < segment_count; i++) {
        const u64 fields[5] = {segment[i].offset, segment[i].linear, segment[i].physical,
                               segment[i].file_bytes, segment[i].memory_bytes};
        put(64 + i * 56, 1, 4);
        for (unsigned j = 0; j < 5; j++)
            put(64 + i * 56 + 8 + j * 8, fields[j], 8);
    }
}

void put_header1(u64 at, u32 flags)
{
    put(at, MB1_HEADER_MAGIC, 4);
    put(at + 4, flags, 4);
    put(at + 8, 0u - MB1_HEADER_MAGIC - flags, 4);
}

void put_kludge(u64 at, u32 header, u32 load, u32 load_end, u32 bss_end, u32 entry)
{
    const u32 fields[5] = {header, load, load_end, bss_end, entry};
    put_header1(at, 0x10003);
    memcpy(image + at + 12, fields, sizeof(fields));
}

void put_tag2(u64 *at, u16 type, u16 flags, const u32 *fields, unsigned count)
{
    put(*at, type, 2);
    put(*at + 2, flags, 2);
    put(*at + 4, 8 + count * 4, 4);
    if (count != 0)
        memcpy(image + *at + 8, fields, count * sizeof(u32));
    *at += align_up(8 + count * 4, 8);
}

void end_header2(u64 header, u64 at)
{
    put_tag2(&at, 0, 0, NULL, 0);
    u32 length = (u32)(at - header);
    put(header, MB2_HEADER_MAGIC, 4);
    put(header + 4, 0, 4);
    put(header + 8, length, 4);
    put(header + 12, 0u - MB2_HEADER_MAGIC - length, 4);
}

void blank_image(size_t bytes)
{
    memset(&info, 0, sizeof(info));
    info.command_line = info.loader_name = "";
    image_bytes = bytes;
    segment_count = 0;
    fill_random(image, bytes);
    memset(image, 0, min_u64(bytes, 0x1000));
}

/* A kernel of two segments at `physical`: code, and data with bss. */
void plain_kernel(unsigned version, u64 physical)
{
    blank_image(0x8000);
    add_segment(0, physical, 0x5000, 0x5000);
    add_segment(0x5000, physical + 0x5000, 0x2345, 0x4567);
    u64 entry = segment[0].linear + 0x345, at = HEADER + 16;
    if (version == 1) {
        put_elf32(entry);
        put_header1(HEADER, 3);
    } else {
        put_elf64(entry);
        end_header2(HEADER, at);
    }
}

/* --- machines --- */

void add(u64 from, u64 to, u32 type)
{
    assert_int_equal(memmap_add(&map, from, to - from, type), MEMMAP_OK);
}

void make_rsdp(u8 *rsdp, u8 revision)
{
    memset(rsdp, 0, BOOT_RSDP_BYTES);
    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = revision;
    rsdp[16] = 0x77;
    u8 sum = 0;
    for (unsigned i = 0; i < 20; i++)
        sum = (u8)(sum + rsdp[i]);
    rsdp[8] = (u8)-sum;
}

void lay_out(void)
{
    u8 rsdp[BOOT_RSDP_BYTES];
    make_rsdp(rsdp, 2);
    arena_layout(&map);
    if (memmap_covers(&map, 0, 0x9f000, MEM_RAM))
        memset(arena_at(0), 0, 0x9f000);
    arena_put(0xe0000, rsdp, sizeof(rsdp));
}

void standard_map(u64 top)
{
    memset(&map, 0, sizeof(map));
    add(0, 0x9f000, MEM_RAM);
    add(0xf0000, 0x100000, MEM_RESERVED);
    add(MIB(1), top, MEM_RAM);
    lay_out();
}

void guest_module(u64 at, const char *string)
{
    info.module_count = 1;
    info.module[0] = (struct boot_module){at, at + image_bytes, string};
    arena_put(at, image, image_bytes);
}

void own_module(u64 at, size_t bytes, const char *string)
{
    unsigned i = info.module_count++;
    info.module[i] = (struct boot_module){at, at + bytes, string};
    if (bytes != 0) {
        fill_random(content[i], bytes);
        arena_put(at, content[i], bytes);
    }
}

enum guest_status try_load(void)
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

/* --- what the kernel finds --- */

struct found found;

static u64 note_end(u64 end)
{
    u64 bytes = end - start.gpr[GPR_RBX];
    found.bytes = max_u64(found.bytes, bytes);
    return end;
}

static const char *string_at(u64 physical)
{
    const char *text = arena_at(physical);
    note_end(physical + strlen(text) + 1);
    return text;
}

static void read_info1(void)
{
    u64 at = start.gpr[GPR_RBX];
    u32 flags = arena_u32(at);
    assert_int_equal(flags & 0x24d, 0x24d & flags);
    note_end(at + MB1_INFO_BYTES);
    found.mem_lower = arena_u32(at + 4);
    found.mem_upper = arena_u32(at + 8);
    found.command_line = string_at(arena_u32(at + 16));
    found.loader = string_at(arena_u32(at + 64));
    found.modules = arena_u32(at + 20);
    assert_true(found.modules < BOOT_MODULES_MAX);
    for (unsigned i = 0; i < found.modules; i++) {
        u64 module = arena_u32(at + 24) + i * 16;
        found.module[i].start = arena_u32(module);
        found.module[i].end = arena_u32(module + 4);
        found.module[i].string = string_at(arena_u32(module + 8));
    }
    u64 table = arena_u32(at + 48), end = note_end(table + arena_u32(at + 44));
    for (; table < end; table += 24) {
        assert_int_equal(arena_u32(table), 20);
        struct mem_range *range = &found.range[found.ranges++];
        range->start = arena_u64(table + 4);
        range->end = range->start + arena_u64(table + 12);
        range->type = arena_u32(table + 20);
    }
    found.framebuffer = (flags & MB1_INFO_HAS_FRAMEBUFFER) != 0 ? at + 88 : 0;
}

static void read_tag2(u64 at, u32 type, u32 size)
{
    switch (type) {
    case 1:
        found.command_line = arena_at(at + 8);
        assert_int_equal(size, 8 + strlen(found.command_line) + 1);
        break;
    case 2:
        found.loader = arena_at(at + 8);
        break;
    case 3:
        found.module[found.modules].start = arena_u32(at + 8);
        found.module[found.modules].end = arena_u32(at + 12);
        found.module[found.modules++].string = arena_at(at + 16);
        break;
    case 4:
        found.mem_lower = arena_u32(at + 8);
        found.mem_upper = arena_u32(at + 12);
        break;
    case 6:
        assert_int_equal(arena_u32(at + 8), 24);
        for (u64 entry = at + 16; entry < at + size; entry += 24) {
            struct mem_range *range = &found.range[found.ranges++];
            range->start = arena_u64(entry);
            range->end = range->start + arena_u64(entry + 8);
            range->type = arena_u32(entry + 16);
        }
        break;
    case 8:
        found.framebuffer = at + 8;
        assert_int_equal(size, 38);
        break;
    case 14:
    case 15:
        found.rsdp_type = type;
        found.rsdp = arena_at(at + 8);
        assert_int_equal(size, 8 + (type == 14 ? 20 : 36));
        break;
    case 21:
        found.load_base = arena_u32(at + 8);
        break;
    default:
        fail_msg("tag of type %u", type);
    }
}

static void read_info2(void)
{
    u64 base = start.gpr[GPR_RBX], end = note_end(base + arena_u32(base));
    assert_int_equal(base & 7, 0);
    for (u64 at = base + 8;; at = align_up(at + arena_u32(at + 4), 8)) {
        assert_true(at + 8 <= end);
        if (arena_u32(at) == 0) {
            assert_int_equal(arena_u32(at + 4), 8);
            assert_int_equal(at + 8, end);
            return;
        }
        read_tag2(at, arena_u32(at), arena_u32(at + 4));
    }
}

static void assert_apart(u64 a, u64 a_bytes, u64 b, u64 b_bytes)
{
    if (a < b + b_bytes && b < a + a_bytes)
        fail_msg("0x%lx+0x%lx and 0x%lx+0x%lx overlap", a, a_bytes, b, b_bytes);
}

static bool all_zero(const u8 *bytes, u64 count)
{
    for (u64 i = 0; i < count; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static void check_modules(void)
{
    assert_int_equal(found.modules, info.module_count - 1);
    for (unsigned i = 0; i < found.modules; i++) {
        u64 at = found.module[i].start, bytes = info.module[i + 1].end - info.module[i + 1].start;
        assert_int_equal(at & PAGE_MASK, 0);
        assert_int_equal(found.module[i].end - at, bytes);
        assert_string_equal(found.module[i].string, info.module[i + 1].string);
        if (bytes != 0) {
            assert_true(memmap_covers(&map, at, bytes, MEM_RAM) && at >= MIB(1) && at + bytes <= GIB(4));
            assert_memory_equal(arena_at(at), content[i + 1], bytes);
        }
        assert_apart(at, bytes, start.gpr[GPR_RBX], found.bytes);
        for (unsigned j = 0; j < i; j++)
            assert_apart(at, bytes, found.module[j].start, found.module[j].end - found.module[j].start);
    }
}

/* Segments as they were linked, or `delta` higher. */
void check_segments(u64 delta)
{
    for (unsigned i = 0; i < segment_count; i++) {
        u64 at = segment[i].physical + delta, file_bytes = segment[i].file_bytes;
        assert_memory_equal(arena_at(at), image + segment[i].offset, file_bytes);
        assert_true(all_zero(arena_at(at + file_bytes), segment[i].memory_bytes - file_bytes));
        assert_apart(at, segment[i].memory_bytes, start.gpr[GPR_RBX], found.bytes);
        for (unsigned j = 0; j < found.modules; j++)
            assert_apart(at, segment[i].memory_bytes, found.module[j].start,
                         found.module[j].end - found.module[j].start);
    }
}

void check_start(unsigned version)
{
    memset(&found, 0, sizeof(found));
    assert_int_equal(start.mode, START_PROTECTED32);
    assert_int_equal(start.gpr[GPR_RAX], version == 1 ? 0x2badb002 : 0x36d76289);
    if (version == 1)
        read_info1();
    else
        read_info2();
    assert_true(memmap_covers(&map, start.gpr[GPR_RBX], found.bytes, MEM_RAM));
    assert_string_equal(found.command_line, info.module[0].string);
    assert_string_equal(found.loader, "Umbra");
    assert_int_equal(found.ranges, map.count);
    assert_memory_equal(found.range, map.range, map.count * sizeof(map.range[0]));
    check_modules();
}
