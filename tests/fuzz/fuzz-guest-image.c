/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the multiboot loaders. The input says which of four kernels is damaged (ELF or flat, of either
 * protocol), where and how. It may load or not, but touch nothing outside of its memory, and what loads must
 * have arrived whole.
 */
#include "tests/fuzz/fuzz.h"

#define main unit_test_guest_image
int unit_test_guest_image(void);
#include "tests/unit/test-guest-multiboot-damage.c"
#undef main

enum { LOADED_BYTES = 0x7400, DAMAGES_MAX = 12 };

/* In the ELF headers, or in the multiboot header and what follows it. */
static void damage(void)
{
    u64 at = random_chance(50) ? random_below(0xc0) : HEADER + random_below(0x80);
    unsigned bytes = 1u << random_below(3);

    put(at, input_take(bytes), bytes);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    unsigned kind, damages;

    input_begin(data, bytes);
    kind = (unsigned)random_below(4);
    damages = (unsigned)random_below(DAMAGES_MAX);
    standard_map(MIB(4));
    shape(kind);
    image_bytes = LOADED_BYTES;
    for (unsigned i = 0; i < damages; i++)
        damage();
    if (random_chance(90))
        repair_checksum(kind);
    if (random_chance(10))
        image_bytes -= random_below(LOADED_BYTES);
    guest_module(MIB(4) - image_bytes, "quiet");
    own_module(MIB(3) + random_below(2) * 2048, 300, "a");
    own_module(MIB(2) + random_below(8) * PAGE_SIZE, 5000, "b");
    if (try_load() == GUEST_OK)
        check_start(kind < 2 ? 1 : 2);
    return 0;
}
