/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the boot loader's information. The input is a multiboot2 structure whole, at the very end of
 * readable memory, or what is written over a sound multiboot1 one.
 */
#include "tests/fuzz/fuzz.h"

#define main unit_test_boot_info
int unit_test_boot_info(void);
#include "tests/unit/test-boot-info.c"
#undef main

static void multiboot2_case(const u8 *data, size_t bytes)
{
    begin2();
    append(data, min_u64(bytes, sizeof(structure) - structure_bytes) & ~7ull);
    seal();
    check_sane(parse2());
}

/* Bytes that the input leaves 0 keep their sound value. */
static void multiboot1_case(const u8 *data, size_t bytes)
{
    arena_open_low();
    full1();
    for (size_t i = 0; i < bytes && i < BYTES1; i++)
        if (data[i] != 0)
            put1(INFO1 + i, data[i], 1);
    check_sane(parse1());
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    if ((data[0] & 3) == 0)
        multiboot1_case(data + 1, bytes - 1);
    else
        multiboot2_case(data + 1, bytes - 1);
    return 0;
}
