/* SPDX-License-Identifier: MIT */
/* The VM-exit instruction information of VMX instructions as an operand; pure. */
#include "nested/vmx-operand.h"

struct vmx_operand vmx_operand_decode(u32 information)
{
    static const u8 address_bits[] = {16, 32, 64};
    u32 size = VMX_OPERAND_ADDRESS_SIZE(information);
    u32 segment = VMX_OPERAND_SEGMENT(information);

    return (struct vmx_operand){
        .in_register = (information & VMX_OPERAND_IN_REGISTER) != 0,
        .reg = (u8)VMX_OPERAND_REGISTER(information),
        .second = (u8)VMX_OPERAND_SECOND(information),
        .address_bits = address_bits[size < ARRAY_SIZE(address_bits) ? size : 2],
        .scale = (u8)VMX_OPERAND_SCALE(information),
        .has_base = (information & VMX_OPERAND_NO_BASE) == 0,
        .has_index = (information & VMX_OPERAND_NO_INDEX) == 0,
        .base = (u8)VMX_OPERAND_BASE(information),
        .index = (u8)VMX_OPERAND_INDEX(information),
        .segment = segment <= VMCS_GS ? (enum vmcs_segment)segment : VMCS_DS,
    };
}

u64 vmx_operand_offset(const struct vmx_operand *operand, const u64 *gpr, u64 displacement)
{
    u64 offset = displacement;

    if (operand->has_base)
        offset += gpr[operand->base];
    if (operand->has_index)
        offset += gpr[operand->index] << operand->scale;
    return operand->address_bits == 64 ? offset : offset & BITS(operand->address_bits - 1u, 0);
}
