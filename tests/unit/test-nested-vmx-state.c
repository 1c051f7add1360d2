/* SPDX-License-Identifier: MIT */
/*
 * Nested VMX remembers what L1 and L2 have not changed: which fields an entry need not check or write, which
 * an exit need not save. Here the twin is a CPU that saves and loads everything at each transition. L1 writes
 * and reads fields by every route, with and without VMCS shadowing, L2 changes its state, VMCSs are put away
 * and taken up again; what L1 reads, what L2 runs with and what L1 comes back to has to be the twin's at
 * every step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mm/frame.h"
#include "mm/phys.h"
#include "nested/vmx-fields.h"
#include "nested/vmx-shadowing.h"
#include "tests/unit/checked-frames.h"
#include "tests/unit/nested-vmx-doubles.h"
#include "tests/unit/random.h"
#include "tests/unit/simulated-vmx.h"
#include "tests/unit/vmx-check-case.h"
#include "vmx/exit-reason.h"

enum { REGIONS = 2, STEPS = 40000 };
static const u64 region_at[REGIONS] = {0x4000, 0x5000};

static struct nested_vmx nested;
static struct vmx_vcpu vendor;
static struct vcpu vcpu;
static u64 vmcs01;
/* The twin: each region's fields as the architecture has them, and which one is current. */
static struct vmcs12 twin[REGIONS];
static bool launched[REGIONS];
static unsigned current;

/* --- fields --- */

static const struct vmcs12_field *find(u32 encoding)
{
    const struct vmcs12_field *field = vmcs12_find_field(encoding, &nested_vmx_capability);

    assert_non_null(field);
    return field;
}

static u64 expected(u32 encoding)
{
    return vmcs12_read(&twin[current], find(encoding));
}

static bool is_shadowed(u32 encoding, bool write)
{
    const u8 *bitmap = phys_to_virt(write ? nested.shadowing.vmwrite_bitmap : nested.shadowing.vmread_bitmap);

    return nested.shadowing.active && (bitmap[encoding / 8] >> encoding % 8 & 1) == 0;
}

/* RCX is the value's register, RDX the encoding's; one time in four the operand is in memory. */
static void instruction_of_l1(u32 reason, u32 encoding, u64 value)
{
    bool memory = random_chance(25);
    u32 information = (memory ? 0 : 1u << 10) | (u32)GPR_RCX << 3 | (u32)GPR_RDX << 28;
    enum exit_action action;

    vcpu.gpr[GPR_RCX] = double_operand = value;
    vcpu.gpr[GPR_RDX] = encoding;
    simulated_vmx_set(vmcs01, VMCS_EXIT_INSTRUCTION_INFORMATION, information);
    if (reason == REASON_VMREAD)
        action = nested_vmx_vmread(&vcpu);
    else if (reason == REASON_VMWRITE)
        action = nested_vmx_vmwrite(&vcpu);
    else
        action = nested_vmx_instruction(&vcpu, reason);
    assert_int_equal(action, EXIT_SKIP);
    if ((simulated_vmx_get(vmcs01, VMCS_GUEST_RFLAGS) & 0x41) != 0)
        fail_msg("instruction %u on field %x, value %llx: VM-instruction error %u", reason, encoding,
                 (unsigned long long)value, nested.vmcs12.instruction_error);
    if (reason == REASON_VMREAD && memory)
        vcpu.gpr[GPR_RCX] = double_operand;
}

static u64 read_field(u32 encoding)
{
    if (is_shadowed(encoding, false))
        return simulated_vmx_get(nested.shadowing.vmcs.raw, encoding);
    instruction_of_l1(REASON_VMREAD, encoding, 0);
    return vcpu.gpr[GPR_RCX];
}

static void write_field(u32 encoding, u64 value)
{
    if (is_shadowed(encoding, true))
        simulated_vmx_set(nested.shadowing.vmcs.raw, encoding, value);
    else
        instruction_of_l1(REASON_VMWRITE, encoding, value);
    vmcs12_write(&twin[current], find(encoding), value);
}

static void check_field(u32 encoding)
{
    u64 value = read_field(encoding);

    if (value != expected(encoding))
        fail_msg("field %x reads %llx, expected %llx", encoding, (unsigned long long)value,
                 (unsigned long long)expected(encoding));
}

/* --- values that an entry accepts --- */

enum kind { ADDRESS, ADDRESS32, PAGE, SELECTOR, LIMIT16, LIMIT32, RIGHTS, FLAGS, WORD, CODE_OR_NONE };
struct variable {
    u32 encoding;
    enum kind kind;
};

/* Of L2's state; L2 itself changes these, too. */
static const struct variable state_fields[] = {
    {VMCS_GUEST_RIP, ADDRESS},
    {VMCS_GUEST_RSP, ADDRESS},
    {VMCS_GUEST_RFLAGS, FLAGS},
    {VMCS_GUEST_CR3, PAGE},
    {VMCS_GUEST_DS_SELECTOR, SELECTOR},
    {VMCS_GUEST_ES_SELECTOR, SELECTOR},
    {VMCS_GUEST_GS_BASE, ADDRESS},
    {VMCS_GUEST_FS_BASE, ADDRESS},
    {VMCS_GUEST_DS_BASE, ADDRESS32},
    {VMCS_GUEST_ES_LIMIT, LIMIT32},
    {VMCS_GUEST_GS_RIGHTS, RIGHTS},
    {VMCS_GUEST_TR_BASE, ADDRESS},
    {VMCS_GUEST_GDTR_BASE, ADDRESS},
    {VMCS_GUEST_IDTR_LIMIT, LIMIT16},
    {VMCS_GUEST_SYSENTER_CS, WORD},
    {VMCS_GUEST_SYSENTER_EIP, ADDRESS},
    {VMCS_GUEST_DR7, WORD},
    {VMCS_GUEST_CS_RIGHTS, RIGHTS},
    {VMCS_GUEST_PDPTE1, PAGE},
};
/* Besides, L1 writes these. */
static const struct variable other_fields[] = {
    {VMCS_EXCEPTION_BITMAP, WORD},
    {VMCS_TSC_OFFSET, ADDRESS},
    {VMCS_HOST_CR3, PAGE},
    {VMCS_HOST_RSP, ADDRESS},
    {VMCS_HOST_RIP, ADDRESS},
    {VMCS_HOST_FS_BASE, ADDRESS},
    {VMCS_HOST_DS_SELECTOR, CODE_OR_NONE},
    {VMCS_HOST_SYSENTER_EIP, ADDRESS},
    {VMCS_ENTRY_ERROR_CODE, LIMIT16},
    {VMCS_CR0_SHADOW, ADDRESS},
    {VMCS_EXIT_QUALIFICATION, ADDRESS},
    {VMCS_EXIT_REASON, WORD},
};

static u64 value_for(const struct variable *variable)
{
    u64 value = random_u64();

    switch (variable->kind) {
    case ADDRESS:
        return value >> 18;
    case ADDRESS32:
    case WORD:
        return (u32)value;
    case PAGE:
        return value & BITS(30, 12);
    case SELECTOR:
        return value & 0xfff8;
    case LIMIT16:
        return value & 0xffff;
    case LIMIT32:
        return (u32)value | 0xff000fff;
    case RIGHTS: /* the bit that software may use */
        return (variable->encoding == VMCS_GUEST_CS_RIGHTS ? 0xa09b : 0xc093) | (value & BIT(12));
    case FLAGS:
        return RFLAGS_RESERVED1 | RFLAGS_IF | (value & 0x41);
    case CODE_OR_NONE:
        return value & 8;
    }
    return 0;
}

static void write_something(void)
{
    size_t states = ARRAY_SIZE(state_fields), i = (size_t)random_below(states + ARRAY_SIZE(other_fields));
    const struct variable *variable = i < states ? &state_fields[i] : &other_fields[i - states];

    write_field(variable->encoding, value_for(variable));
}

/* Which registers are loaded and saved. */
static void write_controls(void)
{
    const u64 exit = EXIT_SAVE_DEBUG | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER;
    const u64 entry = ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER;

    if (random_chance(50))
        write_field(VMCS_EXIT_CONTROLS, twin[current].exit_controls ^ (exit & random_u64()));
    else
        write_field(VMCS_ENTRY_CONTROLS, twin[current].entry_controls ^ (entry & random_u64()));
}

/* --- registers that controls switch --- */

static const struct {
    u32 field, host;
    u64 load, save, host_load;
} switched[] = {
    {VMCS_GUEST_PAT, VMCS_HOST_PAT, ENTRY_LOAD_PAT, EXIT_SAVE_PAT, EXIT_LOAD_PAT},
    {VMCS_GUEST_EFER, VMCS_HOST_EFER, ENTRY_LOAD_EFER, EXIT_SAVE_EFER, EXIT_LOAD_EFER},
    {VMCS_GUEST_DEBUGCTL, 0, ENTRY_LOAD_DEBUG, EXIT_SAVE_DEBUG, 0},
    {VMCS_GUEST_DR7, 0, ENTRY_LOAD_DEBUG, EXIT_SAVE_DEBUG, 0},
};
static u64 registers_of_l1[ARRAY_SIZE(switched)];
/* No control of L1's concerns it: one register for both. */
static u64 lbr_control;

static void change_switched(u64 vmcs)
{
    simulated_vmx_set(vmcs, VMCS_GUEST_PAT, random_chance(50) ? 0x0007040600070406 : 0x0606060606060606);
    simulated_vmx_set(vmcs, VMCS_GUEST_EFER, EFER_LMA | EFER_LME | (random_chance(50) ? EFER_NXE : 0));
    simulated_vmx_set(vmcs, VMCS_GUEST_DEBUGCTL, random_below(4));
    simulated_vmx_set(vmcs, VMCS_GUEST_DR7, 0x400 | random_below(256));
    simulated_vmx_set(vmcs, VMCS_GUEST_LBR_CTL, random_below(16));
}

/* --- transitions --- */

static void check_l2(u64 vmcs)
{
    const struct vmcs12 *vmcs12 = &twin[current];

    for (size_t i = 0; i < ARRAY_SIZE(state_fields); i++) {
        u32 encoding = state_fields[i].encoding;
        if (encoding != VMCS_GUEST_DR7)
            assert_int_equal(simulated_vmx_get(vmcs, encoding), expected(encoding));
    }
    for (size_t i = 0; i < ARRAY_SIZE(switched); i++) {
        bool loaded = (vmcs12->entry_controls & switched[i].load) != 0;
        assert_int_equal(simulated_vmx_get(vmcs, switched[i].field),
                         loaded ? expected(switched[i].field) : registers_of_l1[i]);
    }
    assert_int_equal(simulated_vmx_get(vmcs, VMCS_GUEST_LBR_CTL), lbr_control);
    assert_int_equal(simulated_vmx_get(vmcs, VMCS_EXCEPTION_BITMAP), vmcs12->exception_bitmap);
    assert_int_equal(simulated_vmx_get(vmcs, VMCS_CR0_SHADOW), vmcs12->cr0_shadow);
    assert_int_equal(simulated_vmx_get(vmcs, VMCS_GUEST_CR0), vmcs12->guest_cr0);
    assert_int_equal(simulated_vmx_get(vmcs, VMCS_GUEST_INTERRUPTIBILITY), vmcs12->guest_interruptibility);
    assert_int_equal(simulated_vmx_get(vmcs, VMCS_ENTRY_INTERRUPTION), vmcs12->entry_interruption);
}

static void enter(void)
{
    change_switched(vmcs01);
    for (size_t i = 0; i < ARRAY_SIZE(switched); i++)
        registers_of_l1[i] = simulated_vmx_get(vmcs01, switched[i].field);
    lbr_control = simulated_vmx_get(vmcs01, VMCS_GUEST_LBR_CTL);
    if (setjmp(double_launched) == 0) {
        enum exit_action action =
            launched[current] ? nested_vmx_vmresume(&vcpu) : nested_vmx_instruction(&vcpu, REASON_VMLAUNCH);
        assert_int_equal(action, EXIT_RESUME);
    }
    assert_true(vcpu.l2_running);
    launched[current] = true;
    check_l2(simulated_vmx_current());
}

static void run_l2(u64 vmcs)
{
    for (u64 changes = random_below(4); changes > 0; changes--) {
        const struct variable *variable = &state_fields[random_below(ARRAY_SIZE(state_fields))];
        simulated_vmx_set(vmcs, variable->encoding, value_for(variable));
    }
    if (random_chance(30))
        change_switched(vmcs);
    simulated_vmx_set(vmcs, VMCS_EXIT_REASON, REASON_CPUID);
    simulated_vmx_set(vmcs, VMCS_EXIT_QUALIFICATION, random_chance(30) ? random_u64() : 0);
    simulated_vmx_set(vmcs, VMCS_EXIT_INSTRUCTION_LENGTH, 2 + random_below(2));
    simulated_vmx_set(vmcs, VMCS_ENTRY_INTERRUPTION,
                      simulated_vmx_get(vmcs, VMCS_ENTRY_INTERRUPTION) & ~INTERRUPTION_VALID);
}

/* The CPU's exit: SDM vol. 3C 28.2, 28.3. */
static void save_in_twin(u64 vmcs)
{
    struct vmcs12 *vmcs12 = &twin[current];
    static const u32 information[] = {VMCS_EXIT_REASON, VMCS_EXIT_QUALIFICATION, VMCS_EXIT_INSTRUCTION_LENGTH,
                                      VMCS_EXIT_INTERRUPTION, VMCS_VECTORING};

    for (size_t i = 0; i < ARRAY_SIZE(state_fields); i++) {
        u32 encoding = state_fields[i].encoding;
        if (encoding != VMCS_GUEST_DR7)
            vmcs12_write(vmcs12, find(encoding), simulated_vmx_get(vmcs, encoding));
    }
    for (size_t i = 0; i < ARRAY_SIZE(switched); i++) {
        registers_of_l1[i] = simulated_vmx_get(vmcs, switched[i].field);
        if ((vmcs12->exit_controls & switched[i].save) != 0)
            vmcs12_write(vmcs12, find(switched[i].field), registers_of_l1[i]);
    }
    lbr_control = simulated_vmx_get(vmcs, VMCS_GUEST_LBR_CTL);
    for (size_t i = 0; i < ARRAY_SIZE(information); i++)
        vmcs12_write(vmcs12, find(information[i]), simulated_vmx_get(vmcs, information[i]));
    vmcs12->entry_interruption &= (u32)~INTERRUPTION_VALID;
}

static void check_l1(void)
{
    const struct vmcs12 *vmcs12 = &twin[current];
    u16 ds = vmcs12->host_selector[VMCS_DS];

    assert_int_equal(simulated_vmx_current(), vmcs01);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_RIP), vmcs12->host_rip);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_RSP), vmcs12->host_rsp);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_CR3), vmcs12->host_cr3);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_FS_BASE), vmcs12->host_fs_base);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_SYSENTER_EIP), vmcs12->host_sysenter_eip);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_DS_SELECTOR), ds);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_DS_RIGHTS), ds == 0 ? 0x1c093 : 0xc093);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_CS_RIGHTS), 0xa09b);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_DEBUGCTL), 0);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_DR7), 0x400);
    assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_LBR_CTL), lbr_control);
    for (size_t i = 0; i < 2; i++) {
        bool from_host = (vmcs12->exit_controls & switched[i].host_load) != 0;
        assert_int_equal(simulated_vmx_get(vmcs01, switched[i].field),
                         from_host ? expected(switched[i].host) : registers_of_l1[i]);
    }
}

static void round_trip(void)
{
    if (random_chance(20)) {
        write_field(VMCS_ENTRY_ERROR_CODE, random_below(100));
        write_field(VMCS_ENTRY_INTERRUPTION,
                    INTERRUPTION_VALID | INTERRUPTION_HARDWARE | INTERRUPTION_ERROR_CODE | EXC_GP);
    }
    enter();
    u64 vmcs02 = simulated_vmx_current();
    run_l2(vmcs02);
    save_in_twin(vmcs02);
    assert_int_equal(nested_vmx_l2_exit(&vcpu, REASON_CPUID), EXIT_RESUME);
    assert_false(vcpu.l2_running);
    check_l1();
}

/* An entry that L1's mistake lets fail changes nothing but the exit information. */
static void expect_failure(void)
{
    assert_int_equal(nested_vmx_vmresume(&vcpu), EXIT_RESUME);
    assert_false(vcpu.l2_running);
    assert_int_equal(simulated_vmx_current(), vmcs01);
    twin[current].exit_reason = (u32)(EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE);
    twin[current].exit_qualification = 0;
}

static void failing_entry(void)
{
    u64 rip = expected(VMCS_GUEST_RIP);

    if (!launched[current])
        return;
    write_field(VMCS_GUEST_RIP, 0x1234567800000000);
    expect_failure();
    write_field(VMCS_GUEST_RIP, rip);
}

/* A value that no check concerned until L1 changed a control. */
static void entry_failing_by_a_control(void)
{
    if (!launched[current])
        return;
    write_field(VMCS_EXIT_CONTROLS, twin[current].exit_controls & ~(u32)EXIT_SAVE_PAT);
    write_field(VMCS_ENTRY_CONTROLS, twin[current].entry_controls & ~(u32)ENTRY_LOAD_PAT);
    write_field(VMCS_GUEST_PAT, 2);
    round_trip();
    write_field(VMCS_ENTRY_CONTROLS, twin[current].entry_controls | (u32)ENTRY_LOAD_PAT);
    expect_failure();
    write_field(VMCS_GUEST_PAT, 6);
}

/* So does one that the CPU finds wrong, when all is loaded; the event stays valid, too. */
static void refused_entry(void)
{
    if (!launched[current])
        return;
    enter();
    simulated_vmx_set(simulated_vmx_current(), VMCS_EXIT_QUALIFICATION, 3);
    u32 reason = (u32)(EXIT_REASON_ENTRY_FAILURE | REASON_ENTRY_GUEST_STATE);
    assert_int_equal(nested_vmx_l2_exit(&vcpu, reason), EXIT_RESUME);
    twin[current].exit_reason = reason;
    twin[current].exit_qualification = 3;
    check_l1();
}

static void check_all(void)
{
    for (unsigned slot = 0; slot < VMCS12_SLOTS; slot++) {
        u32 encoding = vmcs12_slot_encoding(slot);
        if (vmcs12_find_field(encoding, &nested_vmx_capability) != NULL)
            check_field(encoding);
    }
}

static void switch_region(void)
{
    if (random_chance(50)) {
        instruction_of_l1(REASON_VMCLEAR, 0, region_at[current]);
        launched[current] = false;
    }
    current = (unsigned)random_below(REGIONS);
    instruction_of_l1(REASON_VMPTRLD, 0, region_at[current]);
    if (random_chance(20))
        check_all();
}

/* --- the test --- */

/* 64-bit code without what needs more of L1's memory. */
static void make_region(unsigned index)
{
    static struct check_case base;
    struct vmcs12 *vmcs12 = &twin[index];

    check_case_init(&base, BASE_64);
    *vmcs12 = base.vmcs12;
    vmcs12->revision = VMCS12_REVISION;
    vmcs12->link_pointer = NO_VMCS;
    vmcs12->pin_controls &= (u32)(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | 0x16);
    vmcs12->primary_controls = (u32)(PRIMARY_SECONDARY_CONTROLS | 0x0401e172);
    vmcs12->secondary_controls = SECONDARY_EPT | SECONDARY_VPID | SECONDARY_UNRESTRICTED_GUEST;
    vmcs12->exit_controls &= ~(u32)EXIT_SAVE_PREEMPTION_TIMER;
    vmcs12->exit_msr_load_count = vmcs12->exit_msr_store_count = vmcs12->entry_msr_load_count = 0;
    memcpy(double_memory + region_at[index], vmcs12, sizeof(*vmcs12));
    nested_vmx_capability = base.capability;
    nested_vmx_capability.msr[MSR_IA32_VMX_MISC - MSR_IA32_VMX_BASIC] |= VMX_MISC_VMWRITE_ANY;
    vmcs12_offer_fields(&nested_vmx_capability);
}

static void make_world(bool shadowing)
{
    simulated_vmx_reset();
    checked_frames_reset();
    memset(&nested, 0, sizeof(nested));
    memset(&vendor, 0, sizeof(vendor));
    memset(launched, 0, sizeof(launched));
    memset(&vmx_capability, 0, sizeof(vmx_capability));
    vmx_capability.controls.feature[FEATURE_LBR_CTL] = true;
    vcpu = (struct vcpu){.nested = &nested, .vendor = &vendor};
    machine.vmcs_shadowing = shadowing;
    vmcs01 = 0x100000;
    vendor.vmcs = hpa(vmcs01);
    assert_true(vmptrld(vendor.vmcs));
    nested.current = NO_VMCS;
    simulated_vmx_set(vmcs01, VMCS_GUEST_EFER, EFER_LMA | EFER_LME);
    for (unsigned i = 0; i < REGIONS; i++)
        make_region(i);
    hpa_t msr_bitmap;
    assert_true(frame_alloc(&msr_bitmap));
    vendor.msr_bitmap = msr_bitmap;
    assert_true(vmx_shadowing_init(&vcpu) && nested_vmx_transitions_init(&vcpu));
    nested.vmx_operation = true;
    current = 0;
    instruction_of_l1(REASON_VMPTRLD, 0, region_at[0]);
}

static void run(bool shadowing)
{
    make_world(shadowing);
    assert_int_equal(nested.shadowing.active, shadowing);
    check_all();
    for (unsigned step = 0; step < STEPS; step++) {
        u64 choice = random_below(100);
        if (choice < 35)
            round_trip();
        else if (choice < 60)
            write_something();
        else if (choice < 85)
            check_field(state_fields[random_below(ARRAY_SIZE(state_fields))].encoding);
        else if (choice < 92)
            write_controls();
        else if (choice < 94)
            failing_entry();
        else if (choice < 96)
            refused_entry();
        else if (choice < 97)
            entry_failing_by_a_control();
        else if (choice < 98)
            switch_region();
        else
            check_all();
    }
}

static void test_with_shadowing(void **state)
{
    (void)state;
    run(true);
}

static void test_without_shadowing(void **state)
{
    (void)state;
    run(false);
}

/* What it is for: the second of two equal round trips touches few fields. */
static void test_a_round_trip_is_short(void **state)
{
    (void)state;
    make_world(true);
    for (unsigned i = 0; i < 3; i++) {
        u64 before = simulated_vmx_accesses();
        enter();
        simulated_vmx_set(simulated_vmx_current(), VMCS_EXIT_REASON, REASON_CPUID);
        assert_int_equal(nested_vmx_l2_exit(&vcpu, REASON_CPUID), EXIT_RESUME);
        assert_true(i == 0 || simulated_vmx_accesses() - before < 110);
    }
}

/* An NMI that came while Umbra ran has MTF as its messenger, which MOV SS does not hold back. */
static void test_nmi_waits_for_mov_ss(void **state)
{
    (void)state;
    make_world(true);
    enter();
    u64 vmcs02 = simulated_vmx_current();
    vcpu.nmi_pending = true;
    simulated_vmx_set(vmcs02, VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS);
    assert_int_equal(nested_vmx_l2_exit(&vcpu, REASON_MONITOR_TRAP_FLAG), EXIT_RESUME);
    assert_true(vcpu.l2_running && vcpu.nmi_pending);
    simulated_vmx_set(vmcs02, VMCS_GUEST_INTERRUPTIBILITY, 0);
    assert_int_equal(nested_vmx_l2_exit(&vcpu, REASON_MONITOR_TRAP_FLAG), EXIT_RESUME);
    assert_false(vcpu.l2_running || vcpu.nmi_pending);
    assert_int_equal(nested.vmcs12.exit_reason, REASON_EXCEPTION_OR_NMI);
    assert_int_equal(nested.vmcs12.exit_interruption, INTERRUPTION_VALID | INTERRUPTION_NMI | EXC_NMI);
}

/* An L2 in 64-bit mode leaves an SSP behind that no CPU in 32-bit mode can have. */
static void test_ssp_of_a_32_bit_l1(void **state)
{
    (void)state;
    make_world(true);
    vmx_capability.controls.feature[FEATURE_CET] = true;
    for (unsigned host64 = 0; host64 < 2; host64++) {
        const struct vmcs12 vmcs12 = {.exit_controls = host64 ? EXIT_HOST_64 : 0};
        const struct switch_plan plan = l2_switch_plan(&vmcs12);
        struct carried_registers kept;
        for (unsigned i = 0; i < SWITCHED_REGISTERS; i++)
            kept.value[i] = BIT(32) | 8;
        l1_switched_registers_load(&vmcs12, &plan, &kept);
        assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_SSP), host64 ? BIT(32) | 8 : 8);
        assert_int_equal(simulated_vmx_get(vmcs01, VMCS_GUEST_INTERRUPT_SSP_TABLE), BIT(32) | 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_with_shadowing),        cmocka_unit_test(test_without_shadowing),
        cmocka_unit_test(test_a_round_trip_is_short), cmocka_unit_test(test_nmi_waits_for_mov_ss),
        cmocka_unit_test(test_ssp_of_a_32_bit_l1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
