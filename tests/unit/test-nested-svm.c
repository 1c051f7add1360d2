/* SPDX-License-Identifier: MIT */
/*
 * The pure half of nested SVM: which exit of L2 is whose, code by code; VMRUN's consistency checks, each with
 * a VMCB that fails just that one; what vmcb02's intercepts and MSR permission map are made of; and what L1
 * is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "nested/svm-capability.h"
#include "nested/svm-check.h"
#include "nested/svm-merge.h"
#include "nested/svm-verdict.h"
#include "svm/controls.h"
#include "svm/exit-name.h"

static void intercept(struct vmcb_control *control, u32 code)
{
    control->intercept[code / 32] |= 1u << code % 32;
}

/* --- whose exit --- */

static const struct {
    u32 code;
    enum svm_verdict verdict; /* if L1 did not ask for it */
} rows[] = {
    {VMEXIT_CR0_READ, SVM_VERDICT_UNEXPECTED},
    {VMEXIT_EXCP0, SVM_VERDICT_STEP},
    {VMEXIT_EXCP0 + EXC_PF, SVM_VERDICT_STEP},
    {VMEXIT_EXCP0 + 31, SVM_VERDICT_STEP},
    {VMEXIT_INTR, SVM_VERDICT_UNEXPECTED},
    {VMEXIT_NMI, SVM_VERDICT_STEP},
    {VMEXIT_SMI, SVM_VERDICT_UNEXPECTED},
    {VMEXIT_INIT, SVM_VERDICT_INIT},
    {VMEXIT_VINTR, SVM_VERDICT_UNEXPECTED},
    {VMEXIT_CPUID, SVM_VERDICT_UMBRA},
    {VMEXIT_INVD, SVM_VERDICT_UMBRA},
    {VMEXIT_INVLPGA, SVM_VERDICT_INSTRUCTION},
    {VMEXIT_IOIO, SVM_VERDICT_UNEXPECTED},
    {VMEXIT_MSR, SVM_VERDICT_UMBRA},
    {VMEXIT_SHUTDOWN, SVM_VERDICT_UMBRA},
    {VMEXIT_VMRUN, SVM_VERDICT_UNEXPECTED}, /* VMRUN is refused without that intercept */
    {VMEXIT_VMMCALL, SVM_VERDICT_UNDEFINED},
    {VMEXIT_VMLOAD, SVM_VERDICT_INSTRUCTION},
    {VMEXIT_VMSAVE, SVM_VERDICT_INSTRUCTION},
    {VMEXIT_STGI, SVM_VERDICT_INSTRUCTION},
    {VMEXIT_CLGI, SVM_VERDICT_INSTRUCTION},
    {VMEXIT_SKINIT, SVM_VERDICT_UNDEFINED},
    {VMEXIT_XSETBV, SVM_VERDICT_UMBRA},
};

static void test_verdicts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vmcb_control control = {0};
        assert_int_equal(svm_verdict(&control, rows[i].code, false), rows[i].verdict);
        intercept(&control, rows[i].code);
        assert_int_equal(svm_verdict(&control, rows[i].code, true), SVM_VERDICT_L1);
    }
}

/* Whatever Umbra asks for in L2 has somebody who handles it, and L1's wish always comes first. */
static void test_every_code(void **state)
{
    struct vmcb_control nothing = {0}, all;
    u32 merged[VMCB_INTERCEPT_WORDS];

    (void)state;
    memset(&all, 0xff, sizeof(all));
    svm_own_intercepts(merged);
    svm_merge_intercepts(&nothing, merged, false, merged);
    for (u32 code = 0; code < 32 * VMCB_INTERCEPT_WORDS; code++) {
        bool asked = (merged[code / 32] >> code % 32 & 1) != 0;
        if (asked && code != VMEXIT_VMRUN)
            assert_int_not_equal(svm_verdict(&nothing, code, false), SVM_VERDICT_UNEXPECTED);
        assert_int_not_equal(svm_verdict(&nothing, code, false), SVM_VERDICT_L1);
        assert_int_equal(svm_verdict(&all, code, true), SVM_VERDICT_L1);
    }
    assert_int_equal(svm_verdict(&all, VMEXIT_NPF, false), SVM_VERDICT_NPF);
    assert_int_equal(svm_verdict(&all, VMEXIT_INVALID, false), SVM_VERDICT_INVALID);
    assert_int_equal(svm_verdict(&all, 0x401, false), SVM_VERDICT_UNEXPECTED);
}

static void test_msr_verdict(void **state)
{
    struct vmcb_control control = {0};

    (void)state;
    assert_int_equal(svm_verdict(&control, VMEXIT_MSR, true), SVM_VERDICT_UMBRA);
    intercept(&control, VMEXIT_MSR);
    assert_int_equal(svm_verdict(&control, VMEXIT_MSR, false), SVM_VERDICT_UMBRA);
    assert_int_equal(svm_verdict(&control, VMEXIT_MSR, true), SVM_VERDICT_L1);
}

/* --- merging --- */

static void test_merged_intercepts(void **state)
{
    struct vmcb_control control = {0};
    u32 own[VMCB_INTERCEPT_WORDS], all[VMCB_INTERCEPT_WORDS], merged[VMCB_INTERCEPT_WORDS];

    (void)state;
    svm_own_intercepts(own);
    svm_controls_set_intercepts(all);
    all[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    assert_memory_equal(own, all, sizeof(own));
    intercept(&control, VMEXIT_EXCP0 + EXC_PF);
    intercept(&control, VMEXIT_IOIO);
    svm_merge_intercepts(&control, own, false, merged);
    for (unsigned i = 0; i < VMCB_INTERCEPT_WORDS; i++)
        assert_int_equal(merged[i], own[i] | control.intercept[i]);
    /* On a CPU without a virtual GIF L1's bit is nothing: CLGI of L2 would clear the CPU's own. */
    control.v_intr = V_GIF_ENABLE;
    svm_merge_intercepts(&control, own, false, merged);
    assert_int_equal(merged[VMEXIT_STGI / 32] & (1u << VMEXIT_STGI % 32 | 1u << VMEXIT_CLGI % 32),
                     1u << VMEXIT_STGI % 32 | 1u << VMEXIT_CLGI % 32);
    assert_int_equal(svm_v_intr_for_l2(false, true) & (V_GIF | V_GIF_ENABLE), 0);
    svm_merge_intercepts(&control, own, true, merged);
    assert_int_equal(merged[VMEXIT_STGI / 32] & (1u << VMEXIT_STGI % 32 | 1u << VMEXIT_CLGI % 32), 0);
    intercept(&control, VMEXIT_STGI);
    svm_merge_intercepts(&control, own, true, merged);
    assert_int_equal(merged[VMEXIT_STGI / 32] & (1u << VMEXIT_STGI % 32 | 1u << VMEXIT_CLGI % 32),
                     1u << VMEXIT_STGI % 32);
}

/* Of L2, by L1's leave: with nested paging the CPU does it, and what it then does not do is L1's exit. */
static void test_virtual_vmload(void **state)
{
    const u32 bits = 1u << VMEXIT_VMLOAD % 32 | 1u << VMEXIT_VMSAVE % 32;
    struct vmcb_control control = {.lbr_control = VMLOAD_VIRTUALIZATION_ENABLE};
    u32 own[VMCB_INTERCEPT_WORDS], merged[VMCB_INTERCEPT_WORDS];

    (void)state;
    svm_own_intercepts(own);
    svm_merge_intercepts(&control, own, false, merged);
    assert_int_equal(merged[VMEXIT_VMLOAD / 32] & bits, bits);
    assert_int_equal(svm_verdict(&control, VMEXIT_VMLOAD, false), SVM_VERDICT_INSTRUCTION);
    control.nested_control = NP_ENABLE;
    svm_merge_intercepts(&control, own, false, merged);
    assert_int_equal(merged[VMEXIT_VMLOAD / 32] & bits, 0);
    assert_int_equal(svm_verdict(&control, VMEXIT_VMLOAD, false), SVM_VERDICT_L1);
    assert_int_equal(svm_verdict(&control, VMEXIT_VMSAVE, false), SVM_VERDICT_L1);
    intercept(&control, VMEXIT_VMSAVE);
    svm_merge_intercepts(&control, own, false, merged);
    assert_int_equal(merged[VMEXIT_VMLOAD / 32] & bits, 1u << VMEXIT_VMSAVE % 32);
}

static u64 own_map[MSR_MAP_WORDS], l1_map[MSR_MAP_WORDS], merged_map[MSR_MAP_WORDS];

static void randomise(u64 *map)
{
    static u64 random = 88172645463325252ull;

    for (unsigned i = 0; i < MSR_MAP_WORDS; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        map[i] = random;
    }
}

/* Where nothing was learned all is intercepted; nothing is ever open that L1 or Umbra intercepts. */
static unsigned open_words(void)
{
    unsigned open = 0;

    for (unsigned i = 0; i < MSR_MAP_WORDS; i++) {
        assert_true(merged_map[i] == ~0ull || merged_map[i] == (own_map[i] | l1_map[i]));
        open += merged_map[i] != ~0ull;
    }
    return open;
}

static void test_merged_msr_map(void **state)
{
    struct svm_msr_merge merge = {.own = own_map, .merged = merged_map};

    (void)state;
    memset(own_map, 0xff, sizeof(own_map));
    memset(l1_map, 0xff, sizeof(l1_map));
    memset(merged_map, 0xff, sizeof(merged_map));
    own_map[8] = ~BIT(1);           /* writes of MSR 100h pass */
    own_map[256 + 8] = ~BITS(3, 2); /* C0000101h */
    assert_false(svm_msr_learn(&merge, l1_map, 0x101, true));
    assert_false(svm_msr_learn(&merge, l1_map, 0x100, false));
    assert_false(svm_msr_learn(&merge, l1_map, 0x5000, true));
    assert_int_equal(merge.count, 0);
    l1_map[8] = 0;
    assert_true(svm_msr_learn(&merge, l1_map, 0x100, true));
    assert_true(svm_msr_learn(&merge, l1_map, 0x100, true));
    assert_int_equal(merge.count, 1);
    assert_int_equal(merged_map[8], ~BIT(1));
    /* L1 changes its mind until the next VMRUN. */
    l1_map[8] = ~0ull;
    l1_map[256 + 8] = 0;
    assert_true(svm_msr_learn(&merge, l1_map, 0xc0000101, false));
    assert_int_equal(merged_map[256 + 8], ~BITS(3, 2));
    assert_int_equal(merged_map[8], ~0ull);
    assert_int_equal(merge.count, 2);
}

static void test_msr_places_are_reused(void **state)
{
    struct svm_msr_merge merge = {.own = own_map, .merged = merged_map};

    (void)state;
    memset(merged_map, 0xff, sizeof(merged_map));
    for (unsigned round = 0; round < 1000; round++) {
        u32 msr = round * 37 % 0x2000;
        randomise(own_map);
        randomise(l1_map);
        svm_msr_merge(&merge, l1_map);
        own_map[2 * msr / 64] = l1_map[2 * msr / 64] = 0;
        assert_true(svm_msr_learn(&merge, l1_map, msr, round % 2 != 0));
        assert_int_equal(merged_map[2 * msr / 64], 0);
        assert_in_range(open_words(), 1, SVM_MSR_WORDS);
        assert_in_range(merge.count, 1, SVM_MSR_WORDS);
    }
}

/* APM vol. 2 15.11: byte offsets 0, 800h and 1000h. */
static void test_msr_bits(void **state)
{
    static const struct {
        u32 msr;
        unsigned byte, bit;
    } places[] = {
        {0x0, 0, 0},
        {0x1, 0, 2},
        {0x10, 4, 0},
        {0x1fff, 0x7ff, 6},
        {0xc0000000, 0x800, 0},
        {0xc0000080, 0x820, 0},
        {0xc0001fff, 0xfff, 6},
        {0xc0010000, 0x1000, 0},
        {0xc0010117, 0x1045, 6},
        {0xc0011fff, 0x17ff, 6},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        for (unsigned write = 0; write < 2; write++) {
            u8 *byte = (u8 *)l1_map + places[i].byte;
            memset(l1_map, 0, sizeof(l1_map));
            assert_false(svm_msr_intercepted(l1_map, places[i].msr, write != 0));
            *byte = (u8)(1u << (places[i].bit + write));
            assert_true(svm_msr_intercepted(l1_map, places[i].msr, write != 0));
            assert_false(svm_msr_intercepted(l1_map, places[i].msr, write == 0));
        }
    }
    memset(l1_map, 0, sizeof(l1_map));
    assert_true(svm_msr_intercepted(l1_map, 0x2000, false));
    assert_true(svm_msr_intercepted(l1_map, 0xbfffffff, false));
    assert_true(svm_msr_intercepted(l1_map, 0xc0002000, true));
    assert_true(svm_msr_intercepted(l1_map, 0xc0012000, true));
}

/* --- consistency checks --- */

#define LIMIT BIT(40)

static const struct svm_check_facts facts = {
    .physical_limit = LIMIT,
    .efer_valid = EFER_SVME | EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
    .cr4_valid = BITS(12, 0) | BITS(18, 16) | BITS(24, 20),
    .host_paging = true,
    .virtual_nmi = true,
};

static struct vmcb vmcb;

static void make_good(void)
{
    memset(&vmcb, 0, sizeof(vmcb));
    vmcb.save.efer = EFER_SVME | EFER_LME | EFER_LMA;
    vmcb.save.cr0 = CR0_PG | CR0_PE | CR0_ET;
    vmcb.save.cr4 = CR4_PAE;
    vmcb.save.cr3 = LIMIT - PAGE_SIZE;
    vmcb.save.cs.attributes = SEGMENT_L;
    vmcb.save.dr6 = 0xffff0ff0;
    vmcb.save.dr7 = 0x400;
    vmcb.save.g_pat = 0x0007040600070406ull;
    vmcb.control.asid = 1;
    vmcb.control.nested_control = NP_ENABLE;
    vmcb.control.n_cr3 = LIMIT - PAGE_SIZE;
    intercept(&vmcb.control, VMEXIT_VMRUN);
    intercept(&vmcb.control, VMEXIT_IOIO);
    intercept(&vmcb.control, VMEXIT_MSR);
    vmcb.control.iopm_base_pa = LIMIT - 3 * PAGE_SIZE + 0xfff;
    vmcb.control.msrpm_base_pa = LIMIT - 3 * PAGE_SIZE + 0xfff;
}

#define FAILS(what, check)                                                                                   \
    do {                                                                                                     \
        make_good();                                                                                         \
        what;                                                                                                \
        assert_int_equal(svm_check_vmcb(&vmcb.control, &vmcb.save, &facts), check);                          \
    } while (0)

static void test_state_checks(void **state)
{
    (void)state;
    FAILS((void)0, SVM_CHECK_PASSED);
    FAILS(vmcb.save.efer &= ~EFER_SVME, SVM_CHECK_SVME_CLEAR);
    FAILS(vmcb.save.efer |= BIT(1), SVM_CHECK_EFER_RESERVED);
    FAILS(vmcb.save.efer |= BIT(63), SVM_CHECK_EFER_RESERVED);
    FAILS(vmcb.save.cr0 |= CR0_NW, SVM_CHECK_CR0_NW_WITHOUT_CD);
    FAILS(vmcb.save.cr0 |= CR0_NW | CR0_CD, SVM_CHECK_PASSED);
    FAILS(vmcb.save.cr0 |= CR0_CD, SVM_CHECK_PASSED);
    for (unsigned bit = 32; bit < 64; bit++) {
        FAILS(vmcb.save.cr0 |= BIT(bit), SVM_CHECK_CR0_HIGH);
        FAILS(vmcb.save.dr6 |= BIT(bit), SVM_CHECK_DR6_HIGH);
        FAILS(vmcb.save.dr7 |= BIT(bit), SVM_CHECK_DR7_HIGH);
        FAILS(vmcb.save.cr4 |= BIT(bit), SVM_CHECK_CR4_RESERVED);
    }
    for (unsigned bit = 40; bit < 64; bit++)
        FAILS(vmcb.save.cr3 |= BIT(bit), SVM_CHECK_CR3_RESERVED);
    FAILS(vmcb.save.cr4 |= BIT(15), SVM_CHECK_CR4_RESERVED);
    FAILS(vmcb.save.cr4 &= ~CR4_PAE, SVM_CHECK_LONG_MODE_WITHOUT_PAE);
    FAILS(vmcb.save.cr0 &= ~CR0_PE, SVM_CHECK_LONG_MODE_WITHOUT_PE);
    FAILS(vmcb.save.cs.attributes |= SEGMENT_DB, SVM_CHECK_CS_L_AND_D);
    FAILS(vmcb.save.cs.attributes = SEGMENT_DB, SVM_CHECK_PASSED);
}

/* Without paging, or outside long mode, other rules hold. */
static void test_legacy_state(void **state)
{
    (void)state;
    FAILS((vmcb.save.cr0 &= ~(CR0_PG | CR0_PE), vmcb.save.cr4 = 0), SVM_CHECK_PASSED);
    FAILS((vmcb.save.cr0 &= ~CR0_PG, vmcb.save.cr3 = ~0ull), SVM_CHECK_PASSED);
    FAILS((vmcb.save.efer = EFER_SVME, vmcb.save.cr4 = 0), SVM_CHECK_PASSED);
    FAILS((vmcb.save.efer = EFER_SVME, vmcb.save.cr0 &= ~CR0_PE), SVM_CHECK_PASSED); /* paged real mode */
    FAILS((vmcb.save.efer = EFER_SVME, vmcb.save.cs.attributes = SEGMENT_L | SEGMENT_DB), SVM_CHECK_PASSED);
}

static void test_control_checks(void **state)
{
    (void)state;
    FAILS(vmcb.control.intercept[VMEXIT_VMRUN / 32] = 0, SVM_CHECK_VMRUN_NOT_INTERCEPTED);
    FAILS(vmcb.control.asid = 0, SVM_CHECK_ASID_ZERO);
    FAILS(vmcb.control.iopm_base_pa += PAGE_SIZE, SVM_CHECK_PERMISSION_MAP_ADDRESS);
    FAILS(vmcb.control.iopm_base_pa = ~0ull, SVM_CHECK_PERMISSION_MAP_ADDRESS);
    FAILS(vmcb.control.msrpm_base_pa += PAGE_SIZE, SVM_CHECK_PERMISSION_MAP_ADDRESS);
    FAILS(vmcb.control.msrpm_base_pa = ~0ull, SVM_CHECK_PERMISSION_MAP_ADDRESS);
    /* A map that is not used may be anywhere. */
    FAILS((vmcb.control.intercept[VMEXIT_IOIO / 32] = 0, vmcb.control.iopm_base_pa = ~0ull,
           vmcb.control.msrpm_base_pa = ~0ull),
          SVM_CHECK_PASSED);
    FAILS(vmcb.control.n_cr3 = LIMIT, SVM_CHECK_NESTED_CR3);
    FAILS((vmcb.control.n_cr3 = LIMIT, vmcb.control.nested_control = 0), SVM_CHECK_PASSED);
    for (unsigned type = 0; type < 256; type++)
        FAILS(vmcb.save.g_pat = (u64)type << 56,
              type == 0 || type == 1 || (type >= 4 && type <= 7) ? SVM_CHECK_PASSED : SVM_CHECK_GUEST_PAT);
    FAILS((vmcb.save.g_pat = 2, vmcb.control.nested_control = GMET_ENABLE), SVM_CHECK_PASSED);

    struct svm_check_facts unpaged = facts, older = facts;
    older.virtual_nmi = false;
    FAILS(vmcb.control.v_intr = V_NMI_ENABLE, SVM_CHECK_VIRTUAL_NMI);
    assert_int_equal(svm_check_vmcb(&vmcb.control, &vmcb.save, &older), SVM_CHECK_PASSED);
    FAILS((vmcb.control.v_intr = V_NMI_ENABLE, intercept(&vmcb.control, VMEXIT_NMI)), SVM_CHECK_PASSED);
    FAILS(vmcb.control.v_intr = V_NMI | V_NMI_MASK, SVM_CHECK_PASSED);

    unpaged.host_paging = false;
    make_good();
    assert_int_equal(svm_check_vmcb(&vmcb.control, &vmcb.save, &unpaged),
                     SVM_CHECK_NESTED_PAGING_WITHOUT_PAGING);
    vmcb.control.nested_control = 0;
    assert_int_equal(svm_check_vmcb(&vmcb.control, &vmcb.save, &unpaged), SVM_CHECK_PASSED);
}

static void test_event_check(void **state)
{
    (void)state;
    for (u64 type = 0; type < 8; type++) {
        for (u64 vector = 0; vector < 256; vector++) {
            bool legal = type == 0 || type == 2 || type == 4 || (type == 3 && vector < 32 && vector != 2);
            FAILS(vmcb.control.event_inj = EVENT_VALID | type << 8 | vector,
                  legal ? SVM_CHECK_PASSED : SVM_CHECK_EVENT);
            FAILS(vmcb.control.event_inj = type << 8 | vector, SVM_CHECK_PASSED);
        }
    }
}

/* --- what L1 is told --- */

static void test_capability(void **state)
{
    struct cpuid_regs all = {~0u, 64, ~0u, ~0u}, none = {1, 16, 0, 0}, leaf;
    const u64 emulated = SVM_EDX_VMCB_CLEAN | SVM_EDX_FLUSH_BY_ASID;
    u64 offered = 0;

    (void)state;
    for (unsigned i = 0; i < svm_feature_row_count; i++) {
        assert_int_equal(offered & svm_feature_rows[i].bit, 0);
        offered |= svm_feature_rows[i].bit;
        assert_int_equal(svm_feature_rows[i].emulated, (emulated & svm_feature_rows[i].bit) != 0);
    }
    leaf = svm_capability_leaf(all, true);
    assert_int_equal(leaf.eax, 0xff);
    assert_int_equal(leaf.ebx, 64);
    assert_int_equal(leaf.ecx, 0);
    assert_int_equal(leaf.edx, offered);
    assert_int_equal(svm_capability_leaf(all, false).edx, offered & ~SVM_EDX_GMET);
    assert_int_equal(svm_capability_leaf(none, true).edx, emulated);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_msr_verdict),
        cmocka_unit_test(test_virtual_vmload),
        cmocka_unit_test(test_merged_intercepts),
        cmocka_unit_test(test_merged_msr_map),
        cmocka_unit_test(test_msr_places_are_reused),
        cmocka_unit_test(test_msr_bits),
        cmocka_unit_test(test_state_checks),
        cmocka_unit_test(test_legacy_state),
        cmocka_unit_test(test_control_checks),
        cmocka_unit_test(test_event_check),
        cmocka_unit_test(test_capability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
