/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: memory operands, segmentation and reads and writes over pages and stages, against the
 * specification. The input decides everything, through the generators of the unit test; a difference is a
 * crash.
 */
#include "tests/fuzz/fuzz.h"

#define main unit_test_linear
int unit_test_linear(void);
#include "tests/unit/test-linear.c"
#undef main

static void segmentation_case(struct input *in)
{
    static const enum spec_format formats[] = {SPEC_NO_PAGING, SPEC_32BIT, SPEC_LONG4, SPEC_LONG5};
    enum spec_format format = formats[random_below(ARRAY_SIZE(formats))];
    struct case_machine machine = case_random_machine(format);

    random_request(in, &machine, random_mode(format));
    if (!same_segmentation(in)) {
        print_request(in);
        fuzz_crash("segmentation differs");
    }
}

static void operand_case(struct input *in)
{
    u64 outcomes[UNSPECIFIED + 1] = {0};
    struct case_machine machine = case_random_machine((enum spec_format)random_below(SPEC_LONG5 + 1));

    random_stages(in, &machine);
    random_case(in, &machine, outcomes);
}

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t count)
{
    static struct input in;
    static bool ready;

    input_begin(bytes, count);
    if (!ready)
        set_up(NULL);
    ready = true;
    memset(memory.bytes, 0, sizeof(memory.bytes));
    memset(&in, 0, sizeof(in));
    if (random_chance(20))
        segmentation_case(&in);
    else
        operand_case(&in);
    return 0;
}
