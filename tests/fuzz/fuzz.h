/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share: the input as the source of all choices, and cmocka's assertions as crashes,
 * since that is what libFuzzer looks for. Included before the unit test whose cases the input decides.
 */
#ifndef UMBRA_TESTS_FUZZ_FUZZ_H
#define UMBRA_TESTS_FUZZ_FUZZ_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/random.h"

#undef fail
#define fail() fuzz_crash("fail")
#undef assert_true
#define assert_true(condition) ((condition) ? (void)0 : fuzz_crash(#condition))

_Noreturn void fuzz_crash(const char *what);
/* From now on random_u64() and its companions are answered from these bytes. */
void input_begin(const u8 *data, size_t bytes);
/* Has the last byte been used? What is answered from then on is made up. */
bool input_ended(void);
/* libFuzzer's entry. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes);

#endif
