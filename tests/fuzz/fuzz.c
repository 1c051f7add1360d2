/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer's input as a stream of numbers that never ends: what follows the last byte is Marsaglia's
 * xorshift64, seeded by a hash of the input.
 */
#include "tests/fuzz/fuzz.h"

static const u8 *input;
static size_t input_left;
static u64 state;

void input_begin(const u8 *data, size_t bytes)
{
    input = data;
    input_left = bytes;
    state = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        state = (state ^ data[i]) * 0x100000001b3u;
    state |= 1; /* xorshift's state must not be 0 */
}

static u8 next(void)
{
    if (input_left != 0) {
        input_left--;
        return *input++;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (u8)(state >> 24);
}

u64 input_take(unsigned bytes)
{
    u64 value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (u64)next() << 8 * i;
    return value;
}

bool input_ended(void)
{
    return input_left == 0;
}

_Noreturn void fuzz_crash(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    fflush(NULL);
    abort();
}
