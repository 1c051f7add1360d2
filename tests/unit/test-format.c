/* SPDX-License-Identifier: MIT */
/* The formatter of Umbra's messages against the C library's, and its bounds. */
#include "arch/print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SAME(...)                                                                                            \
    do {                                                                                                     \
        char ours[128], theirs[128];                                                                         \
        size_t length = format(ours, sizeof(ours), __VA_ARGS__);                                             \
        assert_int_equal(length, snprintf(theirs, sizeof(theirs), __VA_ARGS__));                             \
        assert_string_equal(ours, theirs);                                                                   \
    } while (0)

static void test_same_as_c_library(void **state)
{
    (void)state;
    SAME("plain %% text");
    SAME("%s|%8s|%-8s|%c", "ab", "cd", "ef", 'x');
    SAME("%d %d %5d %-5d| %05d", 0, -1, 42, 42, -42);
    SAME("%u %x %08x %lx %016lx", 7u, 0xbeefu, 0xbeefu, 0x123456789abcdeful, 0xful);
    SAME("%ld %lu %zu", -9223372036854775807l - 1, ~0ul, (size_t)12);
}

static void test_bounds(void **state)
{
    (void)state;
    char buffer[8];
    memset(buffer, 'z', sizeof(buffer));
    assert_int_equal(format(buffer, 5, "%s", "long text"), 4);
    assert_memory_equal(buffer, "long\0zzz", 8);
    assert_int_equal(format(buffer, 0, "%d", 12345), 0);
    assert_int_equal(buffer[0], 'l');
}

static void test_pointer_and_unknown(void **state)
{
    (void)state;
    char buffer[64];
    char fmt[] = "%p %q %"; /* not constant: the compiler would refuse it, the formatter must bear it */
    format(buffer, sizeof(buffer), fmt, (void *)0x1234);
    assert_string_equal(buffer, "0000000000001234 q ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_c_library),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_pointer_and_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
