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

/*
 * The field of an encoding, or NULL if L1 has no such field: not in the table, reserved bits of the encoding
 * set, the upper half of what is no 64-bit field, or the control that it belongs to is not offered. SDM vol.
 * 3C 25.11.2.
 */
const struct vmcs12_field *vmcs12_find_field(u64 encoding, const struct nested_vmx_capability *capability);

/*
 * The value that VMREAD gives and that VMWRITE sets. With `high` (bit 0 of the encoding) bits 63:32 of a
 * 64-bit field only; what does not fit the field's width is ignored by writes and 0 in reads.
 */
u64 vmcs12_read(const struct vmcs12 *vmcs12, const struct vmcs12_field *field, bool high);
void vmcs12_write(struct vmcs12 *vmcs12, const struct vmcs12_field *field, bool high, u64 value);

/* The highest index of any field that L1 has: IA32_VMX_VMCS_ENUM bits 9:1 (SDM vol. 3D A.9). */
unsigned vmcs12_highest_index(const struct nested_vmx_capability *capability);

/* The table, for its tests: slots without a field have bytes = 0. */
enum { VMCS12_SLOTS = 512 };
extern const struct vmcs12_field vmcs12_fields[VMCS12_SLOTS];
/* The encoding (without bit 0) of a slot. */
u32 vmcs12_slot_encoding(unsigned slot);

#endif
