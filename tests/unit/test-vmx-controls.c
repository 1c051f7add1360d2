/* SPDX-License-Identifier: MIT */
/*
 * The combination of VMX control tables with capability MSRs, and the rules of CR0 writes. Each capability
 * starts as a CPU that allows everything and loses one thing per test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "vmx/controls.h"
#include "vmx/cr0.h"

static const struct control_capability everything = {{
    0xffffffff00000000,
    0xffffffff00000000,
    0xffffffff00000000,
    0xffffffff00000000,
    0xffffffff00000000,
}};

/* An Ice Lake's, as its capability MSRs read. */
static const struct control_capability ice_lake = {{
    [CONTROL_PIN] = 0x000000ff00000016,
    [CONTROL_PRIMARY] = 0xfff9fffe04006172,
    [CONTROL_SECONDARY] = 0x053cffff00000000,
    [CONTROL_EXIT] = 0x01ffffff00036dfb,
    [CONTROL_ENTRY] = 0x0003ffff000011fb,
}};

static void forbid_one(struct control_capability *capability, enum control_word word, u64 bit)
{
    capability->word[word] &= ~(bit << 32);
}

static void test_table_rows(void **state)
{
    (void)state;
    for (unsigned w = 0; w < CONTROL_WORDS; w++) {
        size_t count;
        const struct control_row *rows = control_rows((enum control_word)w, &count);
        u64 seen = 0;
        assert_true(count > 0);
        for (size_t i = 0; i < count; i++) {
            assert_true(rows[i].bit != 0 && (rows[i].bit & (rows[i].bit - 1)) == 0);
            assert_true(rows[i].bit <= BIT(31));
            assert_int_equal(seen & rows[i].bit, 0);
            assert_true(i == 0 || rows[i].bit > rows[i - 1].bit);
            assert_true(strlen(rows[i].name) > 3 && strlen(rows[i].reason) > 10);
            if (rows[i].feature != FEATURE_NONE)
                assert_int_equal(rows[i].use, CONTROL_WANTED);
            seen |= rows[i].bit;
        }
        assert_true(strlen(control_word_name((enum control_word)w)) > 3);
    }
}

static void test_everything(void **state)
{
    struct vmx_controls controls;
    (void)state;

    assert_null(controls_combine(&everything, &controls).row);
    for (unsigned w = 0; w < CONTROL_WORDS; w++) {
        size_t count;
        const struct control_row *rows = control_rows((enum control_word)w, &count);
        u64 expected = 0;
        for (size_t i = 0; i < count; i++) {
            if (rows[i].use == CONTROL_REQUIRED || rows[i].use == CONTROL_WANTED)
                expected |= rows[i].bit;
        }
        assert_int_equal(controls.word[w], expected);
    }
    for (unsigned f = 0; f < CONTROL_FEATURES; f++)
        assert_true(controls.feature[f]);
    assert_int_equal(controls.word[CONTROL_PIN], PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    assert_int_equal(controls.word[CONTROL_PRIMARY], PRIMARY_MSR_BITMAPS | PRIMARY_SECONDARY_CONTROLS);
}

static void test_ice_lake(void **state)
{
    struct vmx_controls controls;
    (void)state;

    assert_null(controls_combine(&ice_lake, &controls).row);
    assert_int_equal(controls.word[CONTROL_PIN], 0x16 | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    assert_int_equal(controls.word[CONTROL_PRIMARY],
                     0x04006172 | PRIMARY_MSR_BITMAPS | PRIMARY_SECONDARY_CONTROLS);
    assert_false(controls.feature[FEATURE_PERF_GLOBAL_CTRL]);
    assert_int_equal(controls.word[CONTROL_EXIT] & EXIT_LOAD_PERF_GLOBAL_CTRL, 0);
    assert_int_equal(controls.word[CONTROL_ENTRY] & ENTRY_LOAD_PERF_GLOBAL_CTRL, 0);
    assert_true(controls.feature[FEATURE_BNDCFGS]);
    assert_false(controls.feature[FEATURE_CET]);
}

static void test_each_row(void **state)
{
    (void)state;
    for (unsigned w = 0; w < CONTROL_WORDS; w++) {
        enum control_word word = (enum control_word)w;
        size_t count;
        const struct control_row *rows = control_rows(word, &count);
        for (size_t i = 0; i < count; i++) {
            struct control_capability never = everything, always = everything;
            struct vmx_controls controls;
            forbid_one(&never, word, rows[i].bit);
            always.word[w] |= rows[i].bit;

            struct control_verdict verdict = controls_combine(&never, &controls);
            bool needs_one = rows[i].use == CONTROL_REQUIRED || rows[i].use == CONTROL_SWITCHED;
            assert_ptr_equal(verdict.row, needs_one ? &rows[i] : NULL);
            if (needs_one) {
                assert_int_equal(verdict.word, word);
                assert_false(verdict.must_be_one);
            } else {
                assert_int_equal(controls.word[w] & rows[i].bit, 0);
            }

            verdict = controls_combine(&always, &controls);
            bool needs_zero = rows[i].use == CONTROL_FORBIDDEN || rows[i].use == CONTROL_SWITCHED;
            assert_ptr_equal(verdict.row, needs_zero ? &rows[i] : NULL);
            if (needs_zero)
                assert_true(verdict.must_be_one);
            else
                assert_int_equal(controls.word[w] & rows[i].bit, rows[i].bit);
        }
    }
}

static void test_feature_is_all_or_nothing(void **state)
{
    static const struct {
        enum control_word word;
        u64 bit;
    } parts[] = {
        {CONTROL_EXIT, EXIT_SAVE_PERF_GLOBAL_CTRL},
        {CONTROL_EXIT, EXIT_LOAD_PERF_GLOBAL_CTRL},
        {CONTROL_ENTRY, ENTRY_LOAD_PERF_GLOBAL_CTRL},
    };
    (void)state;
    for (size_t missing = 0; missing < ARRAY_SIZE(parts); missing++) {
        struct control_capability capability = everything;
        struct vmx_controls controls;
        forbid_one(&capability, parts[missing].word, parts[missing].bit);
        assert_null(controls_combine(&capability, &controls).row);
        assert_false(controls.feature[FEATURE_PERF_GLOBAL_CTRL]);
        assert_true(controls.feature[FEATURE_PKRS]);
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
            assert_int_equal(controls.word[parts[i].word] & parts[i].bit, 0);
    }
}

static void test_unknown_bits(void **state)
{
    struct control_capability capability = everything;
    struct vmx_controls controls;
    (void)state;

    capability.word[CONTROL_PIN] |= BIT(1) | BIT(31); /* the CPU insists */
    assert_null(controls_combine(&capability, &controls).row);
    assert_int_equal(controls.word[CONTROL_PIN], PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | BIT(1) | BIT(31));
}

static void test_cpu_without_true_controls(void **state)
{
    struct control_capability capability = ice_lake;
    struct vmx_controls controls;
    (void)state;

    capability.word[CONTROL_PRIMARY] |= PRIMARY_CR3_LOAD_EXITING | PRIMARY_CR3_STORE_EXITING;
    struct control_verdict verdict = controls_combine(&capability, &controls);
    assert_non_null(verdict.row);
    assert_int_equal(verdict.row->bit, PRIMARY_CR3_LOAD_EXITING);
    assert_true(verdict.must_be_one);
}

/* --- CR0
 * -----------------------------------------------------------------------------------------------------------
 */

static void test_cr0_value(void **state)
{
    (void)state;
    assert_int_equal(cr0_effective(0), CR0_ET);
    assert_int_equal(cr0_effective(~0ull), 0xe005003f);
    assert_int_equal(cr0_lmsw(CR0_PE | CR0_ET | CR0_TS, 0), CR0_PE | CR0_ET);
    assert_int_equal(cr0_lmsw(CR0_ET, 0xffff), CR0_ET | CR0_PE | CR0_MP | CR0_EM | CR0_TS);
    assert_int_equal(cr0_lmsw(CR0_ET | CR0_NE | CR0_WP, CR0_MP), CR0_ET | CR0_NE | CR0_WP | CR0_MP);
}

static void test_cr0_combinations(void **state)
{
    (void)state;
    assert_true(cr0_change_valid(&(struct cr0_change){.old = CR0_ET, .new = CR0_ET | CR0_PE}));
    assert_false(cr0_change_valid(&(struct cr0_change){.old = CR0_ET, .new = CR0_ET | CR0_PG}));
    assert_false(cr0_change_valid(&(struct cr0_change){.old = CR0_ET, .new = CR0_ET | CR0_NW}));
    assert_true(cr0_change_valid(&(struct cr0_change){.old = CR0_ET, .new = CR0_ET | CR0_NW | CR0_CD}));
    assert_false(cr0_change_valid(&(struct cr0_change){.old = CR0_ET, .new = CR0_ET | BIT(32)}));
    assert_false(cr0_change_valid(&(struct cr0_change){.old = CR0_PE, .new = CR0_PE, .cr4 = CR4_CET}));
}

static void test_cr0_paging(void **state)
{
    const u64 off = CR0_ET | CR0_PE, on = off | CR0_PG;
    struct cr0_change start = {.old = off, .new = on, .cr4 = CR4_PAE, .efer = EFER_LME};
    struct cr0_change wrong;
    (void)state;

    assert_true(cr0_change_valid(&start));
    assert_int_equal(cr0_change_efer(&start), EFER_LME | EFER_LMA);
    assert_false(cr0_change_loads_pdptes(&start));
    wrong = start, wrong.cr4 = 0;
    assert_false(cr0_change_valid(&wrong));
    wrong = start, wrong.cs_long = true;
    assert_false(cr0_change_valid(&wrong));
    wrong = start, wrong.tss16 = true;
    assert_false(cr0_change_valid(&wrong));

    struct cr0_change stop = {.old = on, .new = off, .cr4 = CR4_PAE, .efer = EFER_LME | EFER_LMA};
    assert_true(cr0_change_valid(&stop));
    assert_int_equal(cr0_change_efer(&stop), EFER_LME);
    wrong = stop, wrong.code64 = true;
    assert_false(cr0_change_valid(&wrong));
    wrong = stop, wrong.cr4 |= CR4_PCIDE;
    assert_false(cr0_change_valid(&wrong));

    struct cr0_change pae = {.old = off, .new = on, .cr4 = CR4_PAE};
    assert_true(cr0_change_valid(&pae));
    assert_true(cr0_change_loads_pdptes(&pae));
    assert_int_equal(cr0_change_efer(&pae), 0);
    pae.old = on;
    assert_false(cr0_change_loads_pdptes(&pae));
    pae.new = on | CR0_CD;
    assert_true(cr0_change_loads_pdptes(&pae));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_rows),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_ice_lake),
        cmocka_unit_test(test_each_row),
        cmocka_unit_test(test_feature_is_all_or_nothing),
        cmocka_unit_test(test_unknown_bits),
        cmocka_unit_test(test_cpu_without_true_controls),
        cmocka_unit_test(test_cr0_value),
        cmocka_unit_test(test_cr0_combinations),
        cmocka_unit_test(test_cr0_paging),
    };
    return cmocka_run_group_tests_name("vmx-controls", tests, NULL, NULL);
}
