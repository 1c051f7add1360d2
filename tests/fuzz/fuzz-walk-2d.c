/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: walks through two stages, every guest format through every EPT and NPT format, against the
 * specification. The input decides everything, through the generators of the unit test; a difference is a
 * crash.
 */
#include "tests/fuzz/fuzz.h"

#define main unit_test_walk_2d
int unit_test_walk_2d(void);
#include "tests/unit/test-walk-2d.c"
#undef main

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct input in;
    struct case_machine machine;
    enum spec_second_kind kind;

    if (access_count == 0)
        set_up(NULL);
    input_begin(data, bytes);
    memset(memory.bytes, 0, sizeof(memory.bytes));
    memset(&in, 0, sizeof(in));
    kind = random_chance(50) ? SPEC_SECOND_EPT : SPEC_SECOND_NPT;
    machine = case_random_machine((enum spec_format)random_below(SPEC_LONG5 + 1));
    machine.cpu.amd = kind == SPEC_SECOND_NPT;
    machine.pdpte_loaded = machine.pdpte_loaded && kind == SPEC_SECOND_EPT;
    case_guest(&in.guest, &machine);
    random_second(&in, kind);
    random_input(&in);
    compare_case(&in);
    return 0;
}
