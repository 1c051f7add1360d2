/* SPDX-License-Identifier: MIT */
/* L2's memory and registers, for both vendors; see tests/guest/l2.h. */
#include "tests/guest/l2.h"

struct l2_registers l2;
u8 l2_stack[PAGE_SIZE] __attribute__((aligned(4096)));
u8 l2_idt[L2_IDT_BYTES] __attribute__((aligned(4096)));

void l2_set_vector(u64 vector, u64 handler)
{
    u64 gate[2] = {(handler & 0xffff) | SEL_CODE64 << 16 | 0x8eull << 40 | (handler >> 16 & 0xffff) << 48,
                   handler >> 32};

    memcpy(l2_idt + 16 * vector, gate, sizeof(gate));
}

void l2_init(const u8 *vectors)
{
    for (u64 i = 0; i < 256; i++)
        l2_set_vector(i, (u64)vectors + 16 * i);
    memset(&l2, 0, sizeof(l2));
}

void *l2_window(unsigned index, u64 flags)
{
    return window_map(index, L2_WINDOW + index * PAGE_SIZE, flags);
}

void check_part(const char *prefix, const char *what, u64 got, u64 want)
{
    char name[96];

    print_to(name, sizeof(name), "%s.%s", prefix, what);
    check_eq(name, got, want);
}
