/* SPDX-License-Identifier: MIT */
/*
 * Group svm-checks: VMCBs that VMRUN must refuse with VMEXIT_INVALID, each for one rule that is violated
 * alone, and unusual ones that it must take. Source: APM vol. 2 15.5.1, 15.20, 15.25.3, 15.25.4.
 */
#include "tests/guest/svm.h"

L2_CODE(code_nothing, "", "nop");

#define AT(field) ((u16)offsetof(struct vmcb, field))
/* Attributes are the second word of a segment. */
#define ATTRIBUTE(bit) ((bit) << 16)

/* Bits of the quadwords at two places of the VMCB. */
struct change {
    u16 offset;
    u64 clear, set;
};
struct vmcb_case {
    const char *name;
    struct change change[2];
};

#define LOW32       BITS(31, 0)
#define EVENT(type) (EVENT_VALID | (u64)(type) << 8)

static const struct vmcb_case refused[] = {
    {"svme", {{AT(save.efer), EFER_SVME, 0}}},
    {"efer_bit_1", {{AT(save.efer), 0, BIT(1)}}},
    {"efer_bit_7", {{AT(save.efer), 0, BIT(7)}}},
    {"efer_bit_9", {{AT(save.efer), 0, BIT(9)}}},
    {"efer_bit_16", {{AT(save.efer), 0, BIT(16)}}},
    {"efer_bit_32", {{AT(save.efer), 0, BIT(32)}}},
    {"efer_bit_63", {{AT(save.efer), 0, BIT(63)}}},
    {"nw_without_cd", {{AT(save.cr0), CR0_CD, CR0_NW}}},
    {"cr0_bit_32", {{AT(save.cr0), 0, BIT(32)}}},
    {"cr0_bit_63", {{AT(save.cr0), 0, BIT(63)}}},
    {"cr3_bit_52", {{AT(save.cr3), 0, BIT(52)}}},
    {"cr3_bit_63", {{AT(save.cr3), 0, BIT(63)}}},
    {"cr4_bit_13", {{AT(save.cr4), 0, BIT(13)}}},
    {"cr4_bit_14", {{AT(save.cr4), 0, BIT(14)}}},
    {"cr4_bit_15", {{AT(save.cr4), 0, BIT(15)}}},
    {"cr4_bit_19", {{AT(save.cr4), 0, BIT(19)}}},
    {"cr4_bit_25", {{AT(save.cr4), 0, BIT(25)}}},
    {"cr4_bit_31", {{AT(save.cr4), 0, BIT(31)}}},
    {"cr4_bit_33", {{AT(save.cr4), 0, BIT(33)}}},
    {"cr4_bit_63", {{AT(save.cr4), 0, BIT(63)}}},
    {"dr6_bit_32", {{AT(save.dr6), 0, BIT(32)}}},
    {"dr6_bit_63", {{AT(save.dr6), 0, BIT(63)}}},
    {"dr7_bit_32", {{AT(save.dr7), 0, BIT(32)}}},
    {"dr7_bit_63", {{AT(save.dr7), 0, BIT(63)}}},
    {"long_mode_without_pae", {{AT(save.cr4), CR4_PAE, 0}}},
    {"long_mode_without_pe", {{AT(save.cr0), CR0_PE, 0}}},
    {"cs_l_and_d", {{AT(save.cs), 0, ATTRIBUTE(SEGMENT_DB)}}},
    {"vmrun_not_intercepted", {{AT(control.intercept[4]), BIT(VMEXIT_VMRUN % 32), 0}}},
    {"asid_0", {{AT(control.asid), LOW32, 0}}},
    {"event_type_1", {{AT(control.event_inj), 0, EVENT(1) | 0x20}}},
    {"event_type_5", {{AT(control.event_inj), 0, EVENT(5) | 0x20}}},
    {"event_type_6", {{AT(control.event_inj), 0, EVENT(6) | 0x20}}},
    {"event_type_7", {{AT(control.event_inj), 0, EVENT(7) | 0x20}}},
    {"event_exception_2", {{AT(control.event_inj), 0, EVENT(3) | 2}}},
    {"event_exception_32", {{AT(control.event_inj), 0, EVENT(3) | 32}}},
    {"event_exception_255", {{AT(control.event_inj), 0, EVENT(3) | 255}}},
    {"nested_cr3_bit_52", {{AT(control.n_cr3), 0, BIT(52)}}},
    {"nested_cr3_bit_63", {{AT(control.n_cr3), 0, BIT(63)}}},
    {"pat_type_2", {{AT(save.g_pat), ~0ull, 0x0007040600070402}}},
    {"pat_type_3", {{AT(save.g_pat), ~0ull, 0x0307040600070406}}},
    {"pat_type_8", {{AT(save.g_pat), ~0ull, 0x0007080600070406}}},
};

static const struct vmcb_case taken[] = {
    {"nothing", {{0}}},
    {"efer_nxe_clear", {{AT(save.efer), EFER_NXE, 0}}},
    {"efer_sce", {{AT(save.efer), 0, EFER_SCE}}},
    {"cr0_cd", {{AT(save.cr0), 0, CR0_CD}}},
    {"cr0_cd_nw", {{AT(save.cr0), 0, CR0_CD | CR0_NW}}},
    {"cr0_wp_clear", {{AT(save.cr0), CR0_WP, 0}}},
    {"cr3_low_bits", {{AT(save.cr3), 0, BITS(4, 3)}}},
    {"dr6_0", {{AT(save.dr6), ~0ull, 0}}},
    {"dr7_low_bits", {{AT(save.dr7), 0, BITS(9, 8)}}},
    {"event_not_valid", {{AT(control.event_inj), 0, BITS(10, 0)}}},
    {"rflags_if", {{AT(save.rflags), 0, RFLAGS_IF}}},
    {"tlb_control_1", {{AT(control.asid), 0, (u64)TLB_CONTROL_FLUSH_ALL << 32}}},
    {"nested_paging_off", {{AT(control.nested_control), NP_ENABLE, 0}}},
    {"pat_without_nested_paging",
     {{AT(control.nested_control), NP_ENABLE, 0}, {AT(save.g_pat), ~0ull, 0x0007080600070406}}},
    {"tsc_offset", {{AT(control.tsc_offset), 0, BIT(62)}}},
    {"clean_bits_of_the_first_run", {{AT(control.clean), 0, LOW32}}},
};

static void apply(const struct change *change)
{
    u64 *place = (u64 *)((u8 *)&vmcb + change->offset);

    *place = (*place & ~change->clear) | change->set;
}

/* VMEXIT_INVALID, and L2's state stays as it was. */
static void expect_refusal(const char *name)
{
    char prefix[64];
    struct vmcb_save before = vmcb.save;

    print_to(prefix, sizeof(prefix), "svm-checks.%s", name);
    before.rip = (u64)code_nothing.start;
    check_part(prefix, "exit", svm_run(&code_nothing), VMEXIT_INVALID);
    check_part(prefix, "state", memcmp(&before, &vmcb.save, sizeof(before)) != 0, false);
    check_part(prefix, "event_taken", vmcb.control.event_inj & EVENT_VALID, 0);
}

static void check_refused(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        svm_reset();
        apply(&refused[i].change[0]);
        apply(&refused[i].change[1]);
        expect_refusal(refused[i].name);
    }
}

static void expect_entry(const char *name)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-checks.%s", name);
    check_part(prefix, "exit", svm_run(&code_nothing), VMEXIT_VMMCALL);
    check_part(prefix, "rip", vmcb.save.rip, (u64)code_nothing.next);
}

static void check_taken(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(taken); i++) {
        svm_reset();
        apply(&taken[i].change[0]);
        apply(&taken[i].change[1]);
        expect_entry(taken[i].name);
    }
}

/* Those that depend on the CPU's widths. */
static void check_widths(void)
{
    u64 limit = BIT(physical_bits);

    svm_reset();
    vmcb.save.cr3 |= limit;
    expect_refusal("cr3_beyond_width");
    svm_reset();
    vmcb.control.n_cr3 |= limit;
    expect_refusal("nested_cr3_beyond_width");
    svm_reset();
    svm_intercept(VMEXIT_IOIO);
    vmcb.control.iopm_base_pa = limit - 2 * PAGE_SIZE;
    expect_refusal("io_map_ends_beyond_width");
    vmcb.control.iopm_base_pa = limit;
    expect_refusal("io_map_beyond_width");
    svm_reset();
    svm_intercept(VMEXIT_MSR);
    vmcb.control.msrpm_base_pa = limit - PAGE_SIZE;
    expect_refusal("msr_map_ends_beyond_width");
    vmcb.control.msrpm_base_pa = limit;
    expect_refusal("msr_map_beyond_width");
    svm_reset();
    vmcb.control.asid = cpuid(0x8000000a, 0).ebx - 1;
    expect_entry("last_asid");
    svm_reset();
    svm_intercept(VMEXIT_IOIO);
    svm_intercept(VMEXIT_MSR);
    vmcb.control.iopm_base_pa |= 0xabc;
    vmcb.control.msrpm_base_pa |= 0xfff;
    expect_entry("low_bits_of_maps");
}

/* --- modes without long mode: VMRUN asks for none --- */

static void leave_long_mode(u16 attributes, u64 cr0_set)
{
    u64 start = (u64)code_nothing.start;

    svm_reset();
    vmcb.save.efer &= ~(EFER_LME | EFER_LMA);
    vmcb.save.cr0 = (vmcb.save.cr0 & ~(CR0_PG | CR0_PE)) | cr0_set;
    vmcb.save.cs = (struct vmcb_segment){
        .selector = (u16)(start >> 4), .base = start & ~0xfull, .limit = 0xffff, .attributes = attributes};
    vmcb.save.ss.attributes = vmcb.save.ds.attributes = vmcb.save.es.attributes = 0x93;
    vmcb.save.rip = start & 0xf;
}

static void expect_mode(const char *name)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-checks.%s", name);
    check_part(prefix, "exit", svm_resume(), VMEXIT_VMMCALL);
    check_part(prefix, "rip", vmcb.save.rip, ((u64)code_nothing.start & 0xf) + 1);
    check_part(prefix, "efer", vmcb.save.efer & (EFER_LME | EFER_LMA), 0);
}

static void check_modes(void)
{
    static u64 pae[4] __attribute__((aligned(4096)));
    const u64 *table = (const u64 *)(read_cr3() & BITS(51, 12));

    leave_long_mode(0x9b, 0);
    expect_mode("real_mode");
    leave_long_mode(0x9b, CR0_PE);
    expect_mode("protected_16");
    leave_long_mode(0xc9b, CR0_PE);
    expect_mode("protected_32");
    /* L1's own second level of tables serves as PAE's first, without the bits that are reserved there. */
    table = (const u64 *)(table[0] & BITS(51, 12));
    for (unsigned i = 0; i < ARRAY_SIZE(pae); i++)
        pae[i] = (table[i] & BITS(51, 12)) | PTE_P;
    leave_long_mode(0xc9b, CR0_PE | CR0_PG);
    vmcb.save.cr3 = (u64)pae;
    expect_mode("protected_pae");
    leave_long_mode(0x9b, CR0_PG);
    vmcb.save.cr3 = (u64)pae;
    expect_mode("paged_real_mode");
}

void group_svm_checks(void)
{
    if (!svm_start("svm-checks"))
        return;
    check_taken();
    check_refused();
    check_widths();
    check_modes();
    svm_reset();
    expect_entry("after_all");
    svm_stop();
}
