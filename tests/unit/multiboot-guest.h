/* SPDX-License-Identifier: MIT */
/*
 * Multiboot kernels made by hand, machines to load them on, and the check of what a kernel finds when it
 * starts; shared by the tests of the multiboot loaders. The state is one kernel under test at a time.
 */
#ifndef UMBRA_TESTS_UNIT_MULTIBOOT_GUEST_H
#define UMBRA_TESTS_UNIT_MULTIBOOT_GUEST_H

#include "boot/guest.h"
#include "boot/multiboot.h"
#include "tests/unit/arena.h"
#include "tests/unit/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IMAGE_MAX = 1 << 20, HEADER = 0x200, SEGMENTS_MAX = 8, MODULES_MAX = 5, CONTENT_BYTES = 1 << 18 };

struct segment {
    u64 offset, physical, linear, file_bytes, memory_bytes;
};

/* What a kernel found in its information structure. */
struct found {
    const char *command_line, *loader;
    u32 mem_lower, mem_upper;
    unsigned modules;
    struct {
        u64 start, end;
        const char *string;
    } module[BOOT_MODULES_MAX];
    unsigned ranges;
    struct mem_range range[MEMMAP_MAX];
    u64 bytes; /* of the information structure with all that belongs to it */
    u64 load_base;
    unsigned rsdp_type;
    const u8 *rsdp;
    u64 framebuffer; /* where its fields are, 0 if there are none */
};

extern struct boot_info info;
extern struct memmap map;
extern struct start_state start;
extern char sentence[GUEST_SENTENCE_BYTES];
extern u8 image[IMAGE_MAX];
extern size_t image_bytes;
extern struct segment segment[SEGMENTS_MAX];
extern unsigned segment_count;
extern struct found found;

/* Images. */
void put(u64 offset, u64 value, unsigned bytes);
void blank_image(size_t bytes);
void add_segment(u64 offset, u64 physical, u64 file_bytes, u64 memory_bytes);
void put_elf32(u64 entry);
void put_elf64(u64 entry);
void put_header1(u64 at, u32 flags);
void put_kludge(u64 at, u32 header, u32 load, u32 load_end, u32 bss_end, u32 entry);
void put_tag2(u64 *at, u16 type, u16 flags, const u32 *fields, unsigned count);
void end_header2(u64 header, u64 at);
/* A kernel of two segments at `physical`: code, and data with bss. */
void plain_kernel(unsigned version, u64 physical);

/* Machines. */
void add(u64 from, u64 to, u32 type);
void make_rsdp(u8 *rsdp, u8 revision);
void lay_out(void);
void standard_map(u64 top);
void guest_module(u64 at, const char *string);
void own_module(u64 at, size_t bytes, const char *string);

/* Loads, and fails the test if memory was written though the guest was refused. */
enum guest_status try_load(void);

#define assert_loaded() assert_string_equal(try_load() == GUEST_OK ? "" : sentence, "")
#define assert_refused(status, text)                                                                         \
    do {                                                                                                     \
        assert_int_equal(try_load(), status);                                                                \
        if (strstr(sentence, text) == NULL)                                                                  \
            fail_msg("sentence without \"%s\": %s", text, sentence);                                         \
    } while (0)

/* The entry state, the information structure and the content of all modules. */
void check_start(unsigned version);
/* Segments as they were linked, or `delta` higher; after check_start(). */
void check_segments(u64 delta);

#endif
