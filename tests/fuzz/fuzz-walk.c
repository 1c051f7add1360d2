/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: single walks of every format against the specification. The input decides the machine state,
 * the tables, the address and the access, through the generators of the unit test; a difference is a crash.
 */
#include "tests/fuzz/fuzz.h"

#define main unit_test_walk
int unit_test_walk(void);
#include "tests/unit/test-walk.c"
#undef main

enum { GUEST, NPT, EPT, KINDS };

static void guest_case(struct input *in, struct spec_flag_sets *flags)
{
    struct case_machine machine = case_random_machine((enum spec_format)random_below(SPEC_LONG5 + 1));

    in->second.kind = SPEC_SECOND_NONE;
    case_guest(&in->tables, &machine);
    random_guest_case(in, flags);
}

static void npt_case(struct input *in, struct spec_flag_sets *flags)
{
    static const enum spec_format formats[] = {SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    struct case_machine host = case_random_machine(formats[random_below(ARRAY_SIZE(formats))]);

    host.cpu.amd = true;
    host.pdpte_loaded = false;
    in->second.kind = SPEC_SECOND_NPT;
    case_npt(&in->tables, &host, random_chance(50));
    random_second_case(in, flags);
}

static void ept_case(struct input *in, struct spec_flag_sets *flags)
{
    struct case_ept ept = case_random_ept(random_chance(50) ? SPEC_EPT4 : SPEC_EPT5);

    in->second.kind = SPEC_SECOND_EPT;
    case_ept(&in->tables, &ept);
    in->second.advanced = ept.advanced;
    random_second_case(in, flags);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct input in;
    struct spec_flag_sets flags = {.count = 0};

    if (access_count == 0)
        set_up(NULL);
    input_begin(data, bytes);
    memset(memory.bytes, 0, sizeof(memory.bytes));
    memset(&in, 0, sizeof(in));
    switch (random_below(KINDS)) {
    case GUEST:
        guest_case(&in, &flags);
        break;
    case NPT:
        npt_case(&in, &flags);
        break;
    default:
        ept_case(&in, &flags);
    }
    return 0;
}
