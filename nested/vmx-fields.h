/* SPDX-License-Identifier: MIT */
/*
 * The fields of vmcs12: what VMREAD and VMWRITE can name, where it is kept, who may write it, and whether
 * this L1 has it at all. One table, and the two functions that use it. Pure.
 */
#ifndef UMBRA_NESTED_VMX_FIELDS_H
#define UMBRA_NESTED_VMX_FIELDS_H

#include "nested/vmcs12.h"
#include "nested/vmx-capability.h"

struct vmcs12_field {
    u16 offset; /* in struct vmcs12 */
    u8 bytes;   /* 2, 4 or 8; 0: there is no such field */
    u8 group;   /* enum vmcs12_group */
    u8 word;    /* enum control_word of the control that the field belongs to; CONTROL_WORDS: none */
    u8 control; /* bit number of that control: without it the field does not exist */
    bool read_only;
};

/* The encoding as it is used: SDM vol. 3C table 25-21. Bit 0 chooses the upper half of a 64-bit field. */
#define VMCS_FIELD_HIGH BIT(0)

/* All indexes that are in use fit 5 bits: the slot of the table is width, type and index. */
#define VMCS_FIELD_INDEX_BITS 5u
#define VMCS_FIELD_INDEX_MAX  ((1u << VMCS_FIELD_INDEX_BITS) - 1)
#define VMCS_FIELD_SLOT(encoding)                                                                            \
    (((encoding) >> 13 & 3) << (VMCS_FIELD_INDEX_BITS + 2) |                                                 \
     ((encoding) >> 10 & 3) << VMCS_FIELD_INDEX_BITS | ((encoding) >> 1 & VMCS_FIELD_INDEX_MAX))
/* Of an encoding that is in use: index, type, width; all other bits but the lowest are 0. */
#define VMCS_FIELD_DEFINED  (BITS(5, 1) | BITS(11, 10) | BITS(14, 13))
#define VMCS_FIELD_WIDTH    BITS(14, 13)
#define VMCS_FIELD_WIDTH_64 BIT(13)

enum { VMCS12_SLOTS = NESTED_VMX_FIELD_SLOTS };
extern const struct vmcs12_field vmcs12_fields[VMCS12_SLOTS];

/* Marks in the capability which fields L1 has, by the controls that it is offered. */
void vmcs12_offer_fields(struct nested_vmx_capability *capability);

/*
 * The field of an encoding, or NULL if L1 has no such field: not in the table, reserved bits of the encoding
 * set, the upper half of what is no 64-bit field, or the control that it belongs to is not offered. SDM vol.
 * 3C 25.11.2.
 */
static inline const struct vmcs12_field *vmcs12_find_field(u64 encoding,
                                                           const struct nested_vmx_capability *capability)
{
    u32 slot = (u32)VMCS_FIELD_SLOT(encoding);

    if ((encoding & ~(VMCS_FIELD_DEFINED | VMCS_FIELD_HIGH)) != 0)
        return NULL;
    if ((encoding & VMCS_FIELD_HIGH) != 0 && (encoding & VMCS_FIELD_WIDTH) != VMCS_FIELD_WIDTH_64)
        return NULL;
    return (capability->fields[slot / 64] >> slot % 64 & 1) != 0 ? &vmcs12_fields[slot] : NULL;
}

/*
 * The value that VMREAD gives and that VMWRITE sets. With `high` (bit 0 of the encoding) bits 63:32 of a
 * 64-bit field only; what does not fit the field's width is ignored by writes and 0 in reads.
 */
static inline u64 vmcs12_read(const struct vmcs12 *vmcs12, const struct vmcs12_field *field, bool high)
{
    const void *at = (const u8 *)vmcs12 + field->offset;
    u64 value = *(const u64 *)at & ~0ull >> (64 - 8u * field->bytes);

    return high ? value >> 32 : value;
}
_Static_assert(offsetof(struct vmcs12, host_selector[VMCS_TR]) + sizeof(u64) <= sizeof(struct vmcs12),
               "8 bytes can be read at every field");

void vmcs12_write(struct vmcs12 *vmcs12, const struct vmcs12_field *field, bool high, u64 value);

/* The highest index of any field that L1 has: IA32_VMX_VMCS_ENUM bits 9:1 (SDM vol. 3D A.9). */
unsigned vmcs12_highest_index(const struct nested_vmx_capability *capability);

/* Slots of the table without a field have bytes = 0. The encoding (without bit 0) of a slot. */
u32 vmcs12_slot_encoding(unsigned slot);

#endif
