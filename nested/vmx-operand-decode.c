/* SPDX-License-Identifier: MIT */
/* The VM-exit instruction information of VMX instructions as an operand; pure. */
#include "nested/vmx-operand.h"

/* SDM vol. 3C table 28-13; tables 28-10 and 28-14 are the same where they have a part at all. */
#define INFORMATION_SCALE(i)        ((u8)((i)&3))
#define INFORMATION_ADDRESS_SIZE(i) ((i) >> 7 & 7)
#define INFORMATION_SEGMENT(i)      ((i) >> 15 & 7)
#define INFORMATION_INDEX(i)        ((u8)((i) >> 18 & 15))
#define INFORMATION_NO_INDEX        BIT(22)
#define INFORMATION_BASE(i)         ((u8)((i) >> 23 & 15))
#define INFORMATION_NO_BASE         BIT(27)

struct vmx_operand vmx_operand_decode(u32 information)
{
    static const u8 address_bits[] = {16, 32, 64};
    u32 size = INFORMATION_ADDRESS_SIZE(information);
    u32 segment = INFORMATION_SEGMENT(information);

    return (struct vmx_operand){
        .in_register = (information & VMX_OPERAND_IN_REGISTER) != 0,
        .reg = (u8)VMX_OPERAND_REGISTER(information),
        .second = (u8)VMX_OPERAND_SECOND(information),
        .address_bits = address_bits[size < ARRAY_SIZE(address_bits) ? size : 2],
        .scale = INFORMATION_SCALE(information),
        .has_base = (information & INFORMATION_NO_BASE) == 0,
        .has_index = (information & INFORMATION_NO_INDEX) == 0,
        .base = INFORMATION_BASE(information),
        .index = INFORMATION_INDEX(information),
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
