/* SPDX-License-Identifier: MIT */
/*
 * The fields of vmcs12 as VMREAD and VMWRITE see them: each of the 64K encodings, every width, halves of
 * 64-bit fields, what is read-only; that each byte of the structure belongs to one field; and operands of VMX
 * instructions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "nested/vmx-fields.h"
#include "nested/vmx-operand.h"
#include "tests/unit/vmx-check-case.h"

static struct nested_vmx_capability everything(void)
{
    struct check_case check_case;

    check_case_init(&check_case, BASE_64);
    vmcs12_offer_fields(&check_case.capability);
    return check_case.capability;
}

/* SDM vol. 3C table 25-21: access type, index, type, reserved, width, reserved. */
static unsigned width_of(u32 encoding)
{
    static const unsigned bytes[] = {2, 8, 4, 8};
    return bytes[encoding >> 13 & 3];
}

enum type { TYPE_CONTROL, TYPE_DATA, TYPE_GUEST, TYPE_HOST };

static enum type type_of(u32 encoding)
{
    return (enum type)(encoding >> 10 & 3);
}

static void test_table(void **state)
{
    (void)state;
    for (unsigned slot = 0; slot < VMCS12_SLOTS; slot++) {
        const struct vmcs12_field *field = &vmcs12_fields[slot];
        u32 encoding = vmcs12_slot_encoding(slot);
        if (field->bytes == 0)
            continue;
        assert_int_equal(field->bytes, width_of(encoding));
        assert_int_equal(field->offset % field->bytes, 0);
        assert_int_equal(field->read_only, type_of(encoding) == TYPE_DATA);
        assert_int_equal(field->group == VMCS12_HOST, type_of(encoding) == TYPE_HOST);
        assert_int_equal(field->group == VMCS12_INFORMATION, type_of(encoding) == TYPE_DATA);
        bool guest =
            field->group == VMCS12_SEGMENTS || field->group == VMCS12_GUEST || field->group == VMCS12_HOT;
        bool event = field->group == VMCS12_EVENT; /* of the controls and of the guest state */
        assert_true(event || guest == (type_of(encoding) == TYPE_GUEST));
        assert_true(!event || type_of(encoding) == TYPE_GUEST || type_of(encoding) == TYPE_CONTROL);
    }
}

/* Behind the header, but for the hole of host LDTR and the padding at the end. */
static void test_each_byte_has_one_field(void **state)
{
    static u8 owner[sizeof(struct vmcs12)];

    (void)state;
    memset(owner, 0, sizeof(owner));
    for (unsigned slot = 0; slot < VMCS12_SLOTS; slot++) {
        for (unsigned i = 0; i < vmcs12_fields[slot].bytes; i++)
            owner[vmcs12_fields[slot].offset + i]++;
    }
    for (size_t i = 0; i < sizeof(owner); i++) {
        size_t hole = offsetof(struct vmcs12, host_selector) + 2 * VMCS_LDTR;
        bool none = i < 16 || i >= offsetof(struct vmcs12, padding) || i == hole || i == hole + 1;
        if (owner[i] != (none ? 0 : 1))
            fail_msg("byte %zu belongs to %u fields", i, owner[i]);
    }
}

static void test_all_encodings(void **state)
{
    const struct nested_vmx_capability capability = everything();
    unsigned found = 0;

    (void)state;
    for (u32 encoding = 0; encoding < 0x10000; encoding++) {
        const struct vmcs12_field *field = vmcs12_find_field(encoding, &capability);
        bool high = (encoding & VMCS_FIELD_HIGH) != 0;
        bool reserved = (encoding & (BIT(12) | BIT(15))) != 0;
        if (field == NULL)
            continue;
        found++;
        assert_false(reserved);
        assert_true(!high || (encoding >> 13 & 3) == 1);
        const struct vmcs12_field *row = &vmcs12_fields[VMCS_FIELD_SLOT(encoding)];
        assert_int_equal(encoding & ~VMCS_FIELD_HIGH, vmcs12_slot_encoding(VMCS_FIELD_SLOT(encoding)));
        assert_int_equal(field->offset, row->offset + (high ? 4 : 0));
        assert_int_equal(field->bytes, high ? 4 : row->bytes);
        assert_int_equal(field->read_only, row->read_only);
    }
    assert_true(found > 180);
    assert_null(vmcs12_find_field(VMCS_GUEST_RIP | BIT(16), &capability));
    assert_null(vmcs12_find_field(VMCS_GUEST_RIP | BIT(32), &capability));
    assert_null(vmcs12_find_field(VMCS_GUEST_RIP | BIT(63), &capability));
    assert_null(vmcs12_find_field(VMCS_GUEST_RIP | 1, &capability));    /* natural width has no upper half */
    assert_null(vmcs12_find_field(VMCS_GUEST_RIP | 0x40, &capability)); /* index 47 */
}

static void test_read_write(void **state)
{
    const struct nested_vmx_capability capability = everything();

    (void)state;
    for (unsigned slot = 0; slot < VMCS12_SLOTS; slot++) {
        u32 encoding = vmcs12_slot_encoding(slot);
        const struct vmcs12_field *field = vmcs12_find_field(encoding, &capability);
        struct vmcs12 vmcs12, before;
        u64 value = 0x8123456789abcdef, mask;

        if (field == NULL)
            continue;
        mask = field->bytes == 8 ? ~0ull : BIT(8 * field->bytes) - 1;
        memset(&vmcs12, 0x5a, sizeof(vmcs12));
        before = vmcs12;
        vmcs12_write(&vmcs12, field, value);
        assert_int_equal(vmcs12_read(&vmcs12, field), value & mask);
        /* Nothing else has changed. */
        memset((u8 *)&vmcs12 + field->offset, 0x5a, field->bytes);
        assert_memory_equal(&vmcs12, &before, sizeof(vmcs12));
        if ((encoding >> 13 & 3) != 1)
            continue;
        const struct vmcs12_field *high = vmcs12_find_field(encoding | VMCS_FIELD_HIGH, &capability);
        assert_non_null(high);
        assert_int_equal(high->group, field->group);
        vmcs12_write(&vmcs12, field, value);
        vmcs12_write(&vmcs12, high, 0xffffffff11223344);
        assert_int_equal(vmcs12_read(&vmcs12, field), 0x1122334489abcdef);
        assert_int_equal(vmcs12_read(&vmcs12, high), 0x11223344);
    }
}

/* A field whose control is not offered does not exist. */
static void test_conditions(void **state)
{
    static const struct {
        u32 encoding;
        u32 msr;
        u64 control;
    } rows[] = {
        {VMCS_VPID, MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_VPID},
        {VMCS_EPT_POINTER, MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_EPT},
        {VMCS_GUEST_PHYSICAL_ADDRESS, MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_EPT},
        {VMCS_TSC_MULTIPLIER, MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_TSC_SCALING},
        {VMCS_PML_INDEX, MSR_IA32_VMX_PROCBASED_CTLS2, SECONDARY_PML},
        {VMCS_MSR_BITMAPS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, PRIMARY_MSR_BITMAPS},
        {VMCS_TPR_THRESHOLD, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, PRIMARY_TPR_SHADOW},
        {VMCS_GUEST_PREEMPTION_TIMER, MSR_IA32_VMX_TRUE_PINBASED_CTLS, PIN_PREEMPTION_TIMER},
        {VMCS_GUEST_PKRS, MSR_IA32_VMX_TRUE_ENTRY_CTLS, ENTRY_LOAD_PKRS},
        {VMCS_HOST_S_CET, MSR_IA32_VMX_TRUE_EXIT_CTLS, EXIT_LOAD_CET},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct nested_vmx_capability capability = everything();
        assert_non_null(vmcs12_find_field(rows[i].encoding, &capability));
        capability.msr[rows[i].msr - MSR_IA32_VMX_BASIC] &= ~(rows[i].control << 32);
        vmcs12_offer_fields(&capability);
        assert_null(vmcs12_find_field(rows[i].encoding, &capability));
    }
}

static void test_highest_index(void **state)
{
    struct nested_vmx_capability capability = everything();

    (void)state;
    assert_int_equal(vmcs12_highest_index(&capability), 0x2032 >> 1 & 0x1ff);
    capability.msr[MSR_IA32_VMX_PROCBASED_CTLS2 - MSR_IA32_VMX_BASIC] = 0;
    vmcs12_offer_fields(&capability);
    assert_int_equal(vmcs12_highest_index(&capability), 0x482e >> 1 & 0x1ff);
}

/* --- operands --- */

static void test_operand_register(void **state)
{
    struct vmx_operand operand = vmx_operand_decode(1u << 10 | 15u << 3 | 8u << 28);

    (void)state;
    assert_true(operand.in_register);
    assert_int_equal(operand.reg, GPR_R15);
    assert_int_equal(operand.second, GPR_R8);
}

static void test_operand_memory(void **state)
{
    static const struct {
        u32 information;
        u64 displacement, offset;
        enum vmcs_segment segment;
    } rows[] = {
        /* scale 8, 64 bits, DS, index R9, base RBP */
        {3u | 2u << 7 | 3u << 15 | 9u << 18 | 5u << 23, 0x10, 0x10 + 0x1000 * 5 + 8 * 0x1000 * 9, VMCS_DS},
        /* 32 bits, SS, no index, base RSP */
        {1u << 7 | 2u << 15 | 1u << 22 | 4u << 23, ~0ull, 0x3fff, VMCS_SS},
        /* 16 bits, GS, neither index nor base */
        {0u << 7 | 5u << 15 | 1u << 22 | 1u << 27, 0x12345, 0x2345, VMCS_GS},
        /* 32 bits wrap around */
        {1u << 7 | 3u << 15 | 1u << 22 | 15u << 23, 0x20, 0x10, VMCS_DS},
        /* 64 bits, index only */
        {1u | 2u << 7 | 4u << 15 | 1u << 18 | 1u << 27, 0, 0x2000, VMCS_FS},
    };
    u64 gpr[GPR_COUNT];

    (void)state;
    for (unsigned i = 0; i < GPR_COUNT; i++)
        gpr[i] = 0x1000ull * i;
    gpr[GPR_R15] = 0xfffffff0;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vmx_operand operand = vmx_operand_decode(rows[i].information);
        assert_false(operand.in_register);
        assert_int_equal(operand.segment, rows[i].segment);
        assert_int_equal(vmx_operand_offset(&operand, gpr, rows[i].displacement), rows[i].offset);
    }
}

/* Reserved values of the information field do not lead outside of the arrays. */
static void test_operand_reserved(void **state)
{
    (void)state;
    for (u32 size = 0; size < 8; size++) {
        for (u32 segment = 0; segment < 8; segment++) {
            struct vmx_operand operand = vmx_operand_decode(size << 7 | segment << 15);
            assert_true(operand.segment <= VMCS_GS);
            assert_true(operand.address_bits == 16 || operand.address_bits == 32 ||
                        operand.address_bits == 64);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_each_byte_has_one_field),
        cmocka_unit_test(test_all_encodings),
        cmocka_unit_test(test_read_write),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_highest_index),
        cmocka_unit_test(test_operand_register),
        cmocka_unit_test(test_operand_memory),
        cmocka_unit_test(test_operand_reserved),
    };
    return cmocka_run_group_tests_name("vmx-fields", tests, NULL, NULL);
}
