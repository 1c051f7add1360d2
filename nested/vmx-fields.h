/* SPDX-License-Identifier: MIT */
/*
 * The fields of vmcs12: what VMREAD and VMWRITE can name, where it is kept, who may write it, and whether
 * this L1 has it at all. One table, and the two functions that use it. Pure.
 */
#ifndef UMBRA_NESTED_VMX_FIELDS_H
#define UMBRA_NESTED_VMX_FIELDS_H

#include "nested/vmcs12.h"
#include "nested/vmx-capability.h"

/* The encoding as it is used: SDM vol. 3C table 25-21. Bit 0 chooses the upper half of a 64-bit field. */
#define VMCS_FIELD_HIGH BIT(0)

/* All indexes that are in use fit 5 bits: the slot of the table is width, type and index. */
#define VMCS_FIELD_INDEX_BITS 5u
#define VMCS_FIELD_INDEX_MAX  ((1u << VMCS_FIELD_INDEX_BITS) - 1)
#define VMCS_FIELD_SLOT(encoding)                                                                            \
    (((encoding) >> 13 & 3) << (VMCS_FIELD_INDEX_BITS + 2) |                                                 \
     ((encoding) >> 10 & 3) << VMCS_FIELD_INDEX_BITS | ((encoding) >> 1 & VMCS_FIELD_INDEX_MAX))
enum { VMCS12_SLOTS = 512 };
extern const struct vmcs12_field vmcs12_fields[VMCS12_SLOTS];

/* All other bits are 0 in an encoding that is in use: those of width, type, index, and the upper half. */
#define VMCS_FIELD_DEFINED (BITS(14, 13) | BITS(11, 10) | BITS(5, 0))
/* Of such an encoding: its place in nested_vmx_capability.fields. */
#define VMCS_FIELD_NUMBER(encoding) ((encoding) >> 10 << 6 | ((encoding)&BITS(5, 0)))
_Static_assert(VMCS_FIELD_NUMBER(VMCS_FIELD_DEFINED) < NESTED_VMX_FIELDS, "each encoding has its place");

/* Fills in which fields L1 has, by the controls that it is offered. */
void vmcs12_offer_fields(struct nested_vmx_capability *capability);

/*
 * The field of an encoding, or NULL if L1 has no such field: not in the table, reserved bits of the encoding
 * set, the upper half of what is no 64-bit field, or the control that it belongs to is not offered. The upper
 * half of a 64-bit field is a field of 4 bytes. SDM vol. 3C 25.11.2.
 */
static inline const struct vmcs12_field *vmcs12_find_field(u64 encoding,
                                                           const struct nested_vmx_capability *capability)
{
    const struct vmcs12_field *field = &capability->fields[VMCS_FIELD_NUMBER(encoding & VMCS_FIELD_DEFINED)];

    return (encoding & ~VMCS_FIELD_DEFINED) == 0 && field->bytes != 0 ? field : NULL;
}

/*
 * The value that VMREAD gives and that VMWRITE sets; what does not fit the field's width is ignored by writes
 * and 0 in reads.
 */
static inline u64 vmcs12_read(const struct vmcs12 *vmcs12, const struct vmcs12_field *field)
{
    u64 value;

    __builtin_memcpy(&value, (const u8 *)vmcs12 + field->offset, sizeof(value));
    return value << field->unused_bits >> field->unused_bits;
}

static inline void vmcs12_write(struct vmcs12 *vmcs12, const struct vmcs12_field *field, u64 value)
{
    u8 *at = (u8 *)vmcs12 + field->offset;
    u64 old;

    __builtin_memcpy(&old, at, sizeof(old));
    value = old ^ ((old ^ value) & ~0ull >> field->unused_bits);
    __builtin_memcpy(at, &value, sizeof(value));
}
_Static_assert(offsetof(struct vmcs12, host_selector[VMCS_TR]) + sizeof(u64) <= sizeof(struct vmcs12),
               "8 bytes can be accessed at every field");

/* The highest index of any field that L1 has: IA32_VMX_VMCS_ENUM bits 9:1 (SDM vol. 3D A.9). */
unsigned vmcs12_highest_index(const struct nested_vmx_capability *capability);

/* Slots of the table without a field have bytes = 0. The encoding (without bit 0) of a slot. */
u32 vmcs12_slot_encoding(unsigned slot);

#endif
