/* SPDX-License-Identifier: MIT */
/*
 * Operands of VMX instructions of L1, and of those of L2 that Umbra executes: what the VM-exit instruction
 * information says (SDM vol. 3C 28.2.5, tables 28-10, 28-13 and 28-14), and access to memory through segments
 * and paging, with their faults.
 */
#ifndef UMBRA_NESTED_VMX_OPERAND_H
#define UMBRA_NESTED_VMX_OPERAND_H

#include "arch/types.h"
#include "vcpu/vcpu.h"
#include "vmx/vmcs.h"

struct nested_vmx;

/* Before any access; once per vcpu, at boot. */
void vmx_operand_init(struct nested_vmx *nested);

/* An operand as the instruction encodes it; the registers' values are not in it. */
struct vmx_operand {
    bool in_register;
    u8 reg;          /* in_register: enum gpr_index */
    u8 second;       /* the other, always a register: the field of VMREAD and VMWRITE, the type of INVEPT */
    u8 address_bits; /* 16, 32 or 64 */
    u8 scale;        /* shift of the index register: 0 to 3 */
    bool has_base, has_index;
    u8 base, index; /* enum gpr_index */
    enum vmcs_segment segment;
};

/* Parts of the information if both operands are registers, SDM vol. 3C table 28-14. */
#define VMX_OPERAND_IN_REGISTER BIT(10)
#define VMX_OPERAND_REGISTER(i) ((i) >> 3 & 15)
#define VMX_OPERAND_SECOND(i)   ((i) >> 28 & 15)

/* And of memory operands, table 28-13. */
#define VMX_OPERAND_SCALE(i)        ((i)&3)
#define VMX_OPERAND_ADDRESS_SIZE(i) ((i) >> 7 & 7)
#define VMX_OPERAND_SEGMENT(i)      ((i) >> 15 & 7)
#define VMX_OPERAND_INDEX(i)        ((i) >> 18 & 15)
#define VMX_OPERAND_NO_INDEX        BIT(22)
#define VMX_OPERAND_BASE(i)         ((i) >> 23 & 15)
#define VMX_OPERAND_NO_BASE         BIT(27)

/*
 * A page of L1's from which an operand was read without a fault, and all that this has rested on: should it
 * be the same the next time, so is the answer. Only 4-level paging, no user page (whose access depends on
 * RFLAGS.AC and PKRU, too), no protection keys for supervisor pages, and all in the window of L1's memory.
 */
struct vmx_operand_path {
    u64 page; /* linear address; 0: none */
    u64 cr0, cr3, cr4, efer;
    const u64 *entry[4]; /* those of L1's tables that lead to it; fewer, if it is large: some twice */
    u64 value[4];
    const u8 *memory;
} __attribute__((aligned(128))); /* so that an index is a shift */
enum { VMX_OPERAND_PATHS = 4 };

/* Pure. `information` is the field's value for an instruction with such an operand. */
struct vmx_operand vmx_operand_decode(u32 information);

/*
 * The effective address: base, index and displacement, cut to the address size. `displacement` is the exit
 * qualification, which has the sum with RIP for RIP-relative addressing. Pure.
 */
u64 vmx_operand_offset(const struct vmx_operand *operand, const u64 *gpr, u64 displacement);

/*
 * Where Umbra can read the memory operand of L1's instruction that has exited with this information, if one
 * of the paths remembered leads there; NULL: it takes more to tell, and nothing has happened. The content may
 * change at any time. `bytes` is 8 or 16.
 */
const u64 *vmx_operand_find_of_l1(struct vcpu *vcpu, u32 information, u32 bytes);
/*
 * As vmx_operand_read() of the current exit's memory operand, for instructions of L1 that have only that one;
 * `bytes` is 8 or 16.
 */
bool vmx_operand_read_of_l1(struct vcpu *vcpu, void *dst, u32 bytes, enum exit_action *action);

/*
 * Copies between the memory operand of the current exit and Umbra; `bytes` is 4, 8 or 16. L1's exit: vmcs01
 * is the hardware's VMCS; L2's (vcpu->l2_running): vmcs02. False: it faulted, and *action is what is left to
 * do: the exception is injected, or (L2 only) the exit to L1 is made. What is not RAM of L1 reads as ones,
 * and writes to it are dropped. gpr[GPR_RSP] need not be filled in.
 */
bool vmx_operand_read(struct vcpu *vcpu, const struct vmx_operand *operand, void *dst, u32 bytes,
                      enum exit_action *action);
bool vmx_operand_write(struct vcpu *vcpu, const struct vmx_operand *operand, const void *src, u32 bytes,
                       enum exit_action *action);

#endif
