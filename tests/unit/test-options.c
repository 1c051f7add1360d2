/* SPDX-License-Identifier: MIT */
/* Umbra's command line: each option with its values, and a complaint for each word that is ignored. */
#include "boot/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct boot_options options;

static void parse(const char *line)
{
    /* A copy of exactly its size, so that a read beyond the end is seen. */
    char *copy = malloc(strlen(line) + 1);
    assert_non_null(copy);
    memcpy(copy, line, strlen(line) + 1);
    options_parse(&options, copy);
    free(copy);
}

static void assert_console(const char *line, bool serial, u16 port, u32 baud)
{
    parse(line);
    assert_int_equal(options.complaint_count, 0);
    assert_int_equal(options.serial, serial);
    if (serial) {
        assert_int_equal(options.serial_port, port);
        assert_int_equal(options.serial_baud, baud);
    }
}

static void assert_complaint(const char *line, enum option_fault fault, const char *word)
{
    char sentence[200];
    parse(line);
    assert_int_equal(options.complaint_count, 1);
    assert_int_equal(options.complaint[0].fault, fault);
    assert_string_equal(options.complaint[0].word, word);
    options_complaint_text(&options.complaint[0], sentence, sizeof(sentence));
    assert_non_null(strstr(sentence, word));
    assert_non_null(strstr(sentence, "ignored"));
    assert_true(strlen(sentence) < sizeof(sentence) - 1);
    /* Nothing else happened. */
    assert_true(options.serial);
    assert_int_equal(options.serial_port, 0x3f8);
    assert_int_equal(options.serial_baud, 115200);
    assert_int_equal(options.log_level, LOG_INFO);
}

static void test_console(void **state)
{
    (void)state;
    assert_console("", true, 0x3f8, 115200);
    assert_console("console=com1", true, 0x3f8, 115200);
    assert_console("console=com1,9600", true, 0x3f8, 9600);
    assert_console("console=com2,38400", true, 0x2f8, 38400);
    assert_console("console=0x3e8", true, 0x3e8, 115200);
    assert_console("console=0xE000,57600", true, 0xe000, 57600);
    assert_console("console=none", false, 0, 0);
    assert_console("console=none console=com2", true, 0x2f8, 115200);

    const char *const bad[] = {
        "console=",
        "console=com3",
        "console=com1,",
        "console=com1,0",
        "console=com1,115201",
        "console=com1,1000x",
        "console=com1,7",
        "console=0x",
        "console=0x0",
        "console=0xffff",
        "console=0x10000",
        "console=1016",
        "console=com1,9600,8n1",
        "console=com1,99999999999999999999",
        "console=com1,1",
        "console=none,9600",
        "console=COM1",
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_complaint(bad[i], OPTION_BAD_VALUE, bad[i]);
}

static void test_log_level(void **state)
{
    (void)state;
    const char *const line[] = {"loglevel=error", "loglevel=warn", "loglevel=info", "loglevel=debug"};
    for (unsigned i = 0; i < ARRAY_SIZE(line); i++) {
        parse(line[i]);
        assert_int_equal(options.complaint_count, 0);
        assert_int_equal(options.log_level, i);
    }
    assert_complaint("loglevel=debugging", OPTION_BAD_VALUE, "loglevel=debugging");
    assert_complaint("loglevel=", OPTION_BAD_VALUE, "loglevel=");
}

static void test_nested(void **state)
{
    (void)state;
    parse("");
    assert_true(options.nested);
    parse("nested=off");
    assert_int_equal(options.complaint_count, 0);
    assert_false(options.nested);
    parse("nested=off nested=on");
    assert_int_equal(options.complaint_count, 0);
    assert_true(options.nested);
    parse("nested=on nested=off");
    assert_int_equal(options.complaint_count, 0);
    assert_false(options.nested);
    assert_complaint("nested=maybe", OPTION_BAD_VALUE, "nested=maybe");
    parse("nested=maybe");
    assert_true(options.nested);
    parse("nested=off nested=maybe");
    assert_false(options.nested);
    parse("");
    assert_true(options.vmcs_shadowing);
    parse("vmcs-shadowing=off");
    assert_int_equal(options.complaint_count, 0);
    assert_false(options.vmcs_shadowing);
    assert_complaint("vmcs-shadowing=1", OPTION_BAD_VALUE, "vmcs-shadowing=1");
}

static void test_other_options(void **state)
{
    (void)state;
    parse("cpus=unprotected hypercalls=user");
    assert_int_equal(options.complaint_count, 0);
    assert_true(options.unprotected_cpus);
    assert_int_equal(options.hypercalls, HYPERCALLS_USER);
    parse("cpus=all hypercalls=off");
    assert_int_equal(options.complaint_count, 0);
    assert_false(options.unprotected_cpus);
    assert_int_equal(options.hypercalls, HYPERCALLS_OFF);
    assert_complaint("cpus=two", OPTION_BAD_VALUE, "cpus=two");
    parse("cpus=unprotected cpus=two");
    assert_true(options.unprotected_cpus);
    assert_complaint("hypercalls=all", OPTION_BAD_VALUE, "hypercalls=all");
}

static void test_words(void **state)
{
    (void)state;
    /* The loader's name for Umbra is no option; in any other place a word without `=` is one too many. */
    parse("/boot/umbra.elf loglevel=debug");
    assert_int_equal(options.complaint_count, 0);
    assert_int_equal(options.log_level, LOG_DEBUG);
    parse("/boot/a=b");
    assert_int_equal(options.complaint_count, 0);
    parse("umbra.elf\tloglevel=debug\n");
    assert_int_equal(options.complaint_count, 0);
    assert_int_equal(options.log_level, LOG_DEBUG);
    parse("  \t ");
    assert_int_equal(options.complaint_count, 0);

    assert_complaint("umbra verbose", OPTION_UNKNOWN, "verbose");
    assert_complaint("consol=com1", OPTION_UNKNOWN, "consol=com1");
    assert_complaint("consoles=com1", OPTION_UNKNOWN, "consoles=com1");
    assert_complaint("=x", OPTION_UNKNOWN, "=x");
    assert_complaint("x=12345678901234567890123456789012345678901234567890", OPTION_UNKNOWN,
                     "x=123456789012345678901234567890123456789012345");
}

static void test_many_complaints(void **state)
{
    (void)state;
    char line[4096] = "";
    for (unsigned i = 0; i < 40; i++)
        strcat(line, "what=ever ");
    strcat(line, "loglevel=error");
    parse(line);
    assert_int_equal(options.complaint_count, 40);
    assert_string_equal(options.complaint[OPTION_COMPLAINTS_MAX - 1].word, "what=ever");
    assert_int_equal(options.log_level, LOG_ERROR);
}

static void test_skip_file_name(void **state)
{
    (void)state;
    assert_string_equal(options_skip_file_name("/vmlinuz  root=/dev/sda"), "root=/dev/sda");
    assert_string_equal(options_skip_file_name("/vmlinuz"), "");
    assert_string_equal(options_skip_file_name("root=/dev/sda /x"), "root=/dev/sda /x");
    assert_string_equal(options_skip_file_name(""), "");
    assert_string_equal(options_skip_file_name(" /a b"), "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_console),        cmocka_unit_test(test_log_level),
        cmocka_unit_test(test_nested),         cmocka_unit_test(test_other_options),
        cmocka_unit_test(test_words),          cmocka_unit_test(test_many_complaints),
        cmocka_unit_test(test_skip_file_name),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
