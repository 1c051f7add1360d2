/* SPDX-License-Identifier: MIT */
/*
 * The pure half of svm/: the table of intercepts, exit indices and names, EFER writes, how events combine and
 * are injected again, which instruction an exit names, and the single step with all its ends. The CPU is
 * played by hand: the test writes into the VMCB what VMEXIT would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/x86.h"
#include "mm/guest-mem.h"
#include "mm/guest-paging.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/efer.h"
#include "svm/event.h"
#include "svm/exit-name.h"
#include "svm/instruction.h"
#include "svm/npf.h"
#include "svm/step.h"
#include "tests/unit/svm-case.h"

/* APM vol. 2 table 15-7 and appendix B: the words, written down from the manual's offsets. */
static void test_intercept_words(void **state)
{
    u32 words[VMCB_INTERCEPT_WORDS];

    (void)state;
    svm_controls_set_intercepts(words);
    assert_int_equal(words[0], 0); /* CR0 to CR15 */
    assert_int_equal(words[1], 0); /* DR0 to DR15 */
    assert_int_equal(words[2], 1u << 13);
    /* INIT 3, CPUID 18, INVD 22, INVLPGA 26, MSR_PROT 28, SHUTDOWN 31 */
    assert_int_equal(words[3], 1u << 3 | 1u << 18 | 1u << 22 | 1u << 26 | 1u << 28 | 1u << 31);
    /* VMRUN 0, VMMCALL 1, VMLOAD 2, VMSAVE 3, STGI 4, CLGI 5, SKINIT 6, XSETBV 13 */
    assert_int_equal(words[4], 0x7f | 1u << 13);
    assert_int_equal(words[5], 0);
    assert_int_equal(words[2], svm_controls_exceptions());
    for (unsigned i = 0; i < svm_intercept_count; i++)
        assert_non_null(svm_intercepts[i].reason);
}

static void test_virtual_vmload(void **state)
{
    struct vmcb_control control = {.lbr_control = LBR_VIRTUALIZATION_ENABLE};
    const u32 bits = 1u << VMEXIT_VMLOAD % 32 | 1u << VMEXIT_VMSAVE % 32;

    (void)state;
    svm_controls_set_intercepts(control.intercept);
    u32 before = control.intercept[VMEXIT_VMLOAD / 32];
    svm_controls_vmload(&control, true);
    assert_int_equal(control.intercept[VMEXIT_VMLOAD / 32], before & ~bits);
    assert_int_equal(control.lbr_control, LBR_VIRTUALIZATION_ENABLE | VMLOAD_VIRTUALIZATION_ENABLE);
    svm_controls_vmload(&control, false);
    assert_int_equal(control.intercept[VMEXIT_VMLOAD / 32], before);
    assert_int_equal(control.lbr_control, LBR_VIRTUALIZATION_ENABLE);
}

static void test_exit_index(void **state)
{
    (void)state;
    for (u64 exit_code = 0; exit_code < 0x1000; exit_code++)
        assert_true(svm_exit_index(exit_code) < SVM_EXIT_COUNT);
    assert_int_equal(svm_exit_index(0x72), 0x72);
    assert_int_equal(svm_exit_index(0x400), SVM_EXIT_NPF);
    assert_int_equal(svm_exit_index(0x403), SVM_EXIT_NPF + 3);
    assert_int_equal(svm_exit_index(0x404), SVM_EXIT_UNKNOWN);
    assert_int_equal(svm_exit_index(~0ull), SVM_EXIT_INVALID);
    assert_int_equal(svm_exit_index(~1ull), SVM_EXIT_UNKNOWN);
    assert_int_equal(svm_exit_index(0xffffffff), SVM_EXIT_UNKNOWN);
}

static void test_exit_names(void **state)
{
    (void)state;
    assert_string_equal(svm_exit_name(0x00), "VMEXIT_CR0_READ");
    assert_string_equal(svm_exit_name(0x1f), "VMEXIT_CR15_WRITE");
    assert_string_equal(svm_exit_name(0x30), "VMEXIT_DR0_WRITE");
    assert_string_equal(svm_exit_name(0x4e), "VMEXIT_EXCP14");
    assert_string_equal(svm_exit_name(0x5f), "VMEXIT_EXCP31");
    assert_string_equal(svm_exit_name(0x60), "VMEXIT_INTR");
    assert_string_equal(svm_exit_name(0x68), "VMEXIT_LDTR_READ");
    assert_string_equal(svm_exit_name(0x70), "VMEXIT_PUSHF");
    assert_string_equal(svm_exit_name(VMEXIT_CPUID), "VMEXIT_CPUID");
    assert_string_equal(svm_exit_name(VMEXIT_MSR), "VMEXIT_MSR");
    assert_string_equal(svm_exit_name(VMEXIT_SHUTDOWN), "VMEXIT_SHUTDOWN");
    assert_string_equal(svm_exit_name(VMEXIT_VMRUN), "VMEXIT_VMRUN");
    assert_string_equal(svm_exit_name(VMEXIT_XSETBV), "VMEXIT_XSETBV");
    assert_string_equal(svm_exit_name(0x90), "VMEXIT_CR0_WRITE_TRAP");
    assert_string_equal(svm_exit_name(0xa2), "VMEXIT_INVPCID");
    assert_string_equal(svm_exit_name(SVM_EXIT_NPF), "VMEXIT_NPF");
    assert_string_equal(svm_exit_name(SVM_EXIT_INVALID), "VMEXIT_INVALID");
    assert_string_equal(svm_exit_name(SVM_EXIT_UNKNOWN), "unknown");
    assert_string_equal(svm_exit_name(100000), "unknown");
    for (u32 index = 0; index < SVM_EXIT_COUNT; index++)
        assert_non_null(svm_exit_name(index));
}

static void test_efer_writable(void **state)
{
    struct efer_features none = {.leaf_80000008_ebx = 1u << 20};
    struct efer_features old = {.leaf_80000001_edx = 1u << 11 | 1u << 20 | 1u << 25 | 1u << 29};
    struct efer_features all = {~0u, ~0u, ~0u & ~(1u << 20), ~0u};

    (void)state;
    assert_int_equal(svm_efer_writable(&none), 0);
    assert_int_equal(svm_efer_writable(&old), EFER_SCE | EFER_LME | EFER_NXE | EFER_LMSLE | EFER_FFXSR);
    assert_int_equal(svm_efer_writable(&all), 1 | 1 << 8 | 1 << 11 | 0xe000 | 1 << 17 | 1 << 18 | 3 << 20);
}

static void test_efer_write(void **state)
{
    const u64 writable = EFER_SCE | EFER_LME | EFER_NXE;
    const u64 running = EFER_SVME | EFER_LME | EFER_LMA;
    u64 result = 0;

    (void)state;
    assert_true(
        svm_efer_write(running, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE, CR0_PG, writable, &result));
    assert_int_equal(result, running | EFER_NXE | EFER_SCE);
    /* LMA is the CPU's: neither cleared nor set. */
    assert_true(svm_efer_write(running, EFER_LME, CR0_PG, writable, &result));
    assert_int_equal(result, running);
    assert_true(svm_efer_write(EFER_SVME, EFER_LMA, 0, writable, &result));
    assert_int_equal(result, EFER_SVME);
    /* LME changes only while paging is off. */
    result = 42;
    assert_false(svm_efer_write(running, EFER_NXE, CR0_PG, writable, &result));
    assert_false(svm_efer_write(EFER_SVME, EFER_LME, CR0_PG, writable, &result));
    assert_int_equal(result, 42);
    assert_true(svm_efer_write(EFER_SVME, EFER_LME, 0, writable, &result));
    assert_int_equal(result, EFER_SVME | EFER_LME);
    /* SVME and every other bit look reserved. */
    for (unsigned bit = 0; bit < 64; bit++) {
        bool allowed = (BIT(bit) & (writable | EFER_LMA)) != 0;
        assert_int_equal(svm_efer_write(EFER_SVME, BIT(bit), 0, writable, &result), allowed);
        assert_true((result & EFER_SVME) != 0 || result == 42);
    }
    assert_int_equal(svm_efer_visible(running), EFER_LME | EFER_LMA);
}

static u64 in_flight(u64 type, unsigned vector)
{
    return EVENT_VALID | type | vector;
}

/* APM vol. 2 table 8-3, row by row. */
static void test_combine(void **state)
{
    const unsigned contributory[] = {EXC_DE, EXC_TS, EXC_NP, EXC_SS, EXC_GP, EXC_CP};

    (void)state;
    assert_int_equal(svm_event_combine(0, EXC_GP), SVM_DELIVER_IT);
    for (unsigned i = 0; i < ARRAY_SIZE(contributory); i++) {
        u64 first = in_flight(EVENT_TYPE_EXCEPTION, contributory[i]);
        assert_int_equal(svm_event_combine(first, EXC_PF), SVM_DELIVER_IT);
        assert_int_equal(svm_event_combine(first, EXC_UD), SVM_DELIVER_IT);
        for (unsigned j = 0; j < ARRAY_SIZE(contributory); j++)
            assert_int_equal(svm_event_combine(first, contributory[j]), SVM_DELIVER_DOUBLE_FAULT);
        assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_EXCEPTION, EXC_PF), contributory[i]),
                         SVM_DELIVER_DOUBLE_FAULT);
        assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_EXCEPTION, EXC_DF), contributory[i]),
                         SVM_DELIVER_SHUTDOWN);
        assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_INTR, 0x30), contributory[i]),
                         SVM_DELIVER_IT);
        assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_SOFTWARE, EXC_GP), contributory[i]),
                         SVM_DELIVER_IT);
        assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_NMI, 2), contributory[i]), SVM_DELIVER_IT);
    }
    assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_EXCEPTION, EXC_PF), EXC_PF),
                     SVM_DELIVER_DOUBLE_FAULT);
    assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_EXCEPTION, EXC_PF), EXC_DB), SVM_DELIVER_IT);
    assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_EXCEPTION, EXC_DF), EXC_PF),
                     SVM_DELIVER_SHUTDOWN);
    assert_int_equal(svm_event_combine(in_flight(EVENT_TYPE_EXCEPTION, EXC_DB), EXC_GP), SVM_DELIVER_IT);
}

static void test_reinjection(void **state)
{
    const u64 page_fault = in_flight(EVENT_TYPE_EXCEPTION, EXC_PF) | EVENT_ERROR_VALID | 6ull << 32;

    (void)state;
    assert_int_equal(svm_event_reinjection(0x30), 0);
    assert_int_equal(svm_event_reinjection(page_fault), page_fault);
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_INTR, 0x30)),
                     in_flight(EVENT_TYPE_INTR, 0x30));
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_NMI, 2)), in_flight(EVENT_TYPE_NMI, 2));
    /* Executed again instead. */
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_SOFTWARE, 0x80)), 0);
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_EXCEPTION, EXC_BP)), 0);
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_EXCEPTION, EXC_OF)), 0);
    /* As QEMU's TCG says it. */
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_EXCEPTION, 0x30)),
                     in_flight(EVENT_TYPE_INTR, 0x30));
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_EXCEPTION, 31)),
                     in_flight(EVENT_TYPE_INTR, 31));
    assert_int_equal(svm_event_reinjection(in_flight(EVENT_TYPE_EXCEPTION, 2)), in_flight(EVENT_TYPE_NMI, 2));
}

static void test_raise(void **state)
{
    (void)state;
    svm_event_raise(&svm, EXC_GP, 0x18);
    assert_int_equal(vmcb.control.event_inj, 0x0000001880000b0dull);
    assert_true((vmcb.save.rflags & RFLAGS_RF) != 0);

    svm_event_raise(&svm, EXC_UD, 0);
    assert_int_equal(vmcb.control.event_inj, 0x80000306ull);

    vmcb.save.cr0 = 0; /* real mode */
    svm_event_raise(&svm, EXC_GP, 0);
    assert_int_equal(vmcb.control.event_inj, 0x8000030dull);
    vmcb.save.cr0 = CR0_PE;

    vmcb.control.exit_int_info = in_flight(EVENT_TYPE_EXCEPTION, EXC_PF);
    svm_event_raise(&svm, EXC_GP, 0x18);
    assert_int_equal(vmcb.control.event_inj, 0x80000b08ull);

    vmcb.control.exit_int_info = in_flight(EVENT_TYPE_EXCEPTION, EXC_DF);
    if (setjmp(shutdown_jump) == 0) {
        svm_event_raise(&svm, EXC_GP, 0);
        fail_msg("%s", "an exception during #DF is a shutdown");
    }
}

static void test_delivery_is_watched(void **state)
{
    (void)state;
    svm_event_raise(&svm, EXC_UD, 0);
    assert_int_equal(svm.unusual, 0);
    svm_event_raise(&svm, EXC_GP, 0x18);
    assert_int_equal(svm.unusual, SVM_WATCHING);
    assert_int_equal(vmcb.control.intercept[2],
                     BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_CP));

    /* Its gate is not present. */
    svm_event_delivery_over(&svm);
    assert_int_equal(vmcb.control.intercept[2], svm_controls_exceptions());
    vmcb.control.exit_int_info = vmcb.control.event_inj;
    vmcb.control.exit_info_1 = 13 << 3 | 2;
    svm_event_second_exception(&svm, EXC_NP);
    assert_int_equal(vmcb.control.event_inj, 0x80000b08ull);

    /* The IDT is not mapped: the second fault's address is in CR2. */
    vmcb.control.exit_int_info = in_flight(EVENT_TYPE_EXCEPTION, EXC_PF);
    vmcb.control.exit_info_2 = 0x1234;
    svm_event_second_exception(&svm, EXC_PF);
    assert_int_equal(vmcb.save.cr2, 0x1234);
    assert_int_equal(vmcb.control.event_inj, 0x80000b08ull);

    /* All went well, and this is the next fault of the guest's: it raises that one itself. */
    svm_event_delivery_over(&svm);
    vmcb.control.exit_int_info = 0;
    vmcb.control.event_inj = 0;
    vmcb.save.cr2 = 0;
    svm_event_second_exception(&svm, EXC_PF);
    assert_int_equal(vmcb.save.cr2, 0);
    assert_int_equal(vmcb.control.event_inj, 0);
    assert_int_equal(vmcb.control.intercept[2], svm_controls_exceptions());
}

static void test_next_rip_from_cpu(void **state)
{
    (void)state;
    svm_features.nrip_save = true;
    vmcb.control.n_rip = 0x401003;
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_CPUID));
    assert_int_equal(svm.next_rip, 0x401003);
    /* Its length alone does not say whether that prefix changes the address size. */
    set_code("\x0f\x01\xd8", 3);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_VMRUN));
    assert_int_equal(svm.address_mask, ~0ull);
    vmcb.control.n_rip = 0x401004;
    set_code("\x67\x0f\x01\xd8", 4);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_VMRUN));
    assert_int_equal(svm.next_rip, 0x401004);
    assert_int_equal(svm.address_mask, 0xffffffff);
}

/* Of VMRUN, VMLOAD and VMSAVE: by mode and prefix. */
static void test_address_size(void **state)
{
    static const struct {
        u16 attributes;
        u64 plain, prefixed;
    } modes[] = {{SEGMENT_L, ~0ull, 0xffffffff}, {SEGMENT_DB, 0xffffffff, 0xffff}, {0, 0xffff, 0xffffffff}};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        vmcb.save.cs.attributes = modes[i].attributes;
        set_code("\x0f\x01\xda", 3);
        assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_VMLOAD));
        assert_int_equal(svm.address_mask, modes[i].plain);
        set_code("\x67\x0f\x01\xda", 4);
        assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_VMLOAD));
        assert_int_equal(svm.address_mask, modes[i].prefixed);
        assert_int_equal(svm.next_rip, 0x401004);
    }
}

static void test_next_rip_decoded(void **state)
{
    (void)state;
    set_code("\x0f\xa2", 2);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_CPUID));
    assert_int_equal(svm.next_rip, 0x401002);
    assert_false(svm_find_next_rip(&svm, SVM_INSTRUCTION_RDMSR));

    set_code("\x66\x48\x0f\xa2", 4);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_CPUID));
    assert_int_equal(svm.next_rip, 0x401004);

    set_code("\x0f\x01\xd9", 3);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_VMMCALL));
    assert_int_equal(svm.next_rip, 0x401003);
    assert_false(svm_find_next_rip(&svm, SVM_INSTRUCTION_XSETBV));

    set_code("\x2e\x0f\x01\xd1", 4);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_XSETBV));
    assert_int_equal(svm.next_rip, 0x401004);

    /* Memory that Umbra does not read: no prefixes. */
    code_bytes = 1;
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_XSETBV));
    assert_int_equal(svm.next_rip, 0x401003);

    /* Outside 64-bit mode RIP has 32 bits. */
    vmcb.save.cs.attributes = SEGMENT_DB;
    vmcb.save.rip = 0xffffffff;
    set_code("\x0f\x30", 2);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_WRMSR));
    assert_int_equal(svm.next_rip, 1);
}

/* True if the length came without fetching. */
static bool remembered(enum svm_instruction which)
{
    fetches = 0;
    svm.next_rip = 0;
    return svm_find_next_rip(&svm, which) && fetches == 0;
}

static void test_last_instruction(void **state)
{
    (void)state;
    set_code("\x0f\xa2", 2);
    assert_false(remembered(SVM_INSTRUCTION_CPUID));
    assert_true(remembered(SVM_INSTRUCTION_CPUID));
    assert_int_equal(svm.next_rip, 0x401002);
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));

    /* Other bytes in the same place. */
    assert_true(remembered(SVM_INSTRUCTION_CPUID));
    set_code("\x66\x0f\xa2", 3);
    assert_false(remembered(SVM_INSTRUCTION_CPUID));
    assert_int_equal(svm.next_rip, 0x401003);
    assert_false(remembered(SVM_INSTRUCTION_CPUID));
    set_code("\x0f\x32", 2);
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_RDMSR));
    assert_true(remembered(SVM_INSTRUCTION_RDMSR));

    /* Another address, address space or mode. */
    vmcb.save.rip++;
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));
    assert_true(remembered(SVM_INSTRUCTION_RDMSR));
    vmcb.save.cr3 = 0x5000;
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));
    assert_true(remembered(SVM_INSTRUCTION_RDMSR));
    vmcb.save.cs.attributes = SEGMENT_DB;
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));
    assert_false(remembered(SVM_INSTRUCTION_RDMSR)); /* only 64-bit code is remembered */
    vmcb.save.cs.attributes = SEGMENT_L;
    vmcb.save.efer = EFER_SVME;
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));

    /* Across two pages. */
    vmcb.save.efer |= EFER_LMA;
    vmcb.save.rip = 0x401fff;
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));
    assert_false(remembered(SVM_INSTRUCTION_RDMSR));
    vmcb.save.rip = 0x401000;

    /* Of three bytes, each of which counts; several at a time; never of a guest of the guest. */
    set_code("\x0f\x01\xd9", 3);
    assert_false(remembered(SVM_INSTRUCTION_VMMCALL));
    assert_true(remembered(SVM_INSTRUCTION_VMMCALL));
    assert_int_equal(svm.next_rip, 0x401003);
    vmcb.save.rip = 0x401004;
    assert_false(remembered(SVM_INSTRUCTION_VMMCALL));
    vmcb.save.rip = 0x401000;
    assert_true(remembered(SVM_INSTRUCTION_VMMCALL));
    vcpu.l2_running = true;
    assert_false(remembered(SVM_INSTRUCTION_VMMCALL));
    vcpu.l2_running = false;
    set_code("\x0f\x01\xd8", 3);
    assert_false(remembered(SVM_INSTRUCTION_VMMCALL)); /* the guest has changed it since the exit */
    assert_true(svm_find_next_rip(&svm, SVM_INSTRUCTION_VMRUN));
    vmcb.save.cr3 = 0x6000;
    assert_false(remembered(SVM_INSTRUCTION_VMRUN));
}

static bool needs_svm(const char *bytes, size_t count)
{
    struct instruction decoded;

    set_code(bytes, count);
    return svm_fetch_instruction(&svm, &decoded) && svm_instruction_needs_svm(&decoded);
}

static void test_needs_svm(void **state)
{
    (void)state;
    assert_true(needs_svm("\x0f\x01\xd8", 3));     /* VMRUN */
    assert_true(needs_svm("\x0f\x01\xda", 3));     /* VMLOAD */
    assert_true(needs_svm("\x0f\x01\xdf", 3));     /* INVLPGA */
    assert_true(needs_svm("\x67\x0f\x01\xdb", 4)); /* VMSAVE with EAX */
    assert_false(needs_svm("\x0f\x01\xd9", 3));    /* VMMCALL */
    assert_false(needs_svm("\x0f\x01\xd1", 3));    /* XSETBV */
    assert_false(needs_svm("\x0f\x01\x18", 3));    /* LIDT [RAX] */
    assert_false(needs_svm("\x0f\xa2", 2));
}

static void test_npf_access(void **state)
{
    (void)state;
    assert_int_equal(svm_npf_access(0x100000004, 0, true), TDP_R);
    assert_int_equal(svm_npf_access(0x100000006, 3, true), TDP_W);
    assert_int_equal(svm_npf_access(0x100000015, 0, true), TDP_XS); /* erratum 1218: U is not believed */
    assert_int_equal(svm_npf_access(0x100000011, 3, true), TDP_XU);
    assert_int_equal(svm_npf_access(0x100000011, 1, true), TDP_XS);
    assert_int_equal(svm_npf_access(0x100000015, 0, false), TDP_XS | TDP_XU);
    assert_int_equal(svm_npf_access(0x200000007, 0, true), TDP_R | TDP_W);
    assert_int_equal(svm_npf_access(0x200000014, 0, true), TDP_R);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intercept_words),
        cmocka_unit_test(test_virtual_vmload),
        cmocka_unit_test(test_exit_index),
        cmocka_unit_test(test_exit_names),
        cmocka_unit_test(test_efer_writable),
        cmocka_unit_test(test_efer_write),
        cmocka_unit_test(test_combine),
        cmocka_unit_test(test_reinjection),
        cmocka_unit_test_setup(test_raise, svm_case_set_up),
        cmocka_unit_test_setup(test_delivery_is_watched, svm_case_set_up),
        cmocka_unit_test_setup(test_next_rip_from_cpu, svm_case_set_up),
        cmocka_unit_test_setup(test_next_rip_decoded, svm_case_set_up),
        cmocka_unit_test_setup(test_address_size, svm_case_set_up),
        cmocka_unit_test_setup(test_last_instruction, svm_case_set_up),
        cmocka_unit_test_setup(test_needs_svm, svm_case_set_up),
        cmocka_unit_test(test_npf_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
