/* SPDX-License-Identifier: MIT */
/*
 * VMCS shadowing (SDM vol. 3C 25.10), as Umbra uses it: while L1 has a current VMCS, the fields that its exit
 * loop touches most are in a VMCS of the hardware's, so that its VMREAD and VMWRITE of them do not exit.
 * vmcs12 stays the authoritative copy whenever Umbra's code looks at it. Nothing here does anything where the
 * CPU has no such control, or with vmcs-shadowing=off.
 */
#ifndef UMBRA_NESTED_VMX_SHADOWING_H
#define UMBRA_NESTED_VMX_SHADOWING_H

#include "vcpu/vcpu.h"

/*
 * The shadowed fields: X(name of the encoding, member). Information about an exit, and state of L2 that L1
 * often reads but rarely writes: L1's VMWRITEs of these exit.
 */
#define VMX_SHADOWED_INFORMATION(X)                                                                          \
    X(EXIT_REASON, exit_reason)                                                                              \
    X(EXIT_INTERRUPTION, exit_interruption)                                                                  \
    X(EXIT_ERROR_CODE, exit_error_code)                                                                      \
    X(VECTORING, vectoring)                                                                                  \
    X(VECTORING_ERROR_CODE, vectoring_error_code)                                                            \
    X(EXIT_INSTRUCTION_LENGTH, exit_instruction_length)                                                      \
    X(EXIT_INSTRUCTION_INFORMATION, exit_instruction_information)                                            \
    X(EXIT_QUALIFICATION, exit_qualification)                                                                \
    X(GUEST_LINEAR_ADDRESS, guest_linear_address)                                                            \
    X(GUEST_PHYSICAL_ADDRESS, guest_physical_address)
#define VMX_SHADOWED_STATE(X)                                                                                \
    X(GUEST_CR0, guest_cr0)                                                                                  \
    X(GUEST_CR3, guest_cr3)                                                                                  \
    X(GUEST_CR4, guest_cr4)                                                                                  \
    X(GUEST_CS_RIGHTS, guest_rights[VMCS_CS])                                                                \
    X(GUEST_SS_RIGHTS, guest_rights[VMCS_SS])

/*
 * What L1 reads and writes. Only fields without a second half. The primary processor-based controls cannot be
 * here: an NMI that comes while the shadow VMCS is current writes them. The second list matters only with a
 * valid event.
 */
#define VMX_SHADOWED_POINTERS(X)                                                                             \
    X(GUEST_RIP, guest_rip)                                                                                  \
    X(GUEST_RSP, guest_rsp)
#define VMX_SHADOWED_EVENT(X)                                                                                \
    X(GUEST_RFLAGS, guest_rflags)                                                                            \
    X(GUEST_INTERRUPTIBILITY, guest_interruptibility)                                                        \
    X(ENTRY_INTERRUPTION, entry_interruption)
#define VMX_SHADOWED_EVENT_DETAILS(X)                                                                        \
    X(ENTRY_ERROR_CODE, entry_error_code)                                                                    \
    X(ENTRY_INSTRUCTION_LENGTH, entry_instruction_length)

#define VMX_SHADOWED(X)                                                                                      \
    VMX_SHADOWED_INFORMATION(X)                                                                              \
    VMX_SHADOWED_STATE(X)                                                                                    \
    VMX_SHADOWED_POINTERS(X)                                                                                 \
    VMX_SHADOWED_EVENT(X)                                                                                    \
    VMX_SHADOWED_EVENT_DETAILS(X)

/* A bit for each in vmcs_shadowing.stale. */
enum vmx_shadowed {
#define VMX_SHADOWED_ENUM(name, member) SHADOWED_##name,
    VMX_SHADOWED(VMX_SHADOWED_ENUM)
#undef VMX_SHADOWED_ENUM
        SHADOWED_FIELDS,
};
#define SHADOWED(name) (1u << SHADOWED_##name)
#define SHADOWED_ALL   ((1u << SHADOWED_FIELDS) - 1)
/* The first list. */
#define SHADOWED_INFORMATION_ALL (SHADOWED(GUEST_CR0) - 1)

/* At boot. False if the frame pool is empty. */
bool vmx_shadowing_init(struct vcpu *vcpu);

/* All of these but publish with vmcs01 as the hardware's current VMCS, before and after. */

/* L1 has a current VMCS from now on, or has none any more; the latter collects first. */
void vmx_shadowing_begin(struct vcpu *vcpu);
void vmx_shadowing_end(struct vcpu *vcpu);
/*
 * L1 ran: what it wrote goes to vmcs12, with nested_vmx.dirty as a VMWRITE that exits sets it.
 * Error code and instruction length of an event that is not valid may be left out: the end collects them.
 */
void vmx_shadowing_collect(struct vcpu *vcpu);
/*
 * L1 will run: the fields of vmcs12 that are marked in vmcs_shadowing.stale go to the shadow VMCS. Any VMCS
 * is current before; vmcs01 with `primary` (struct vmx_vcpu) is afterwards, shadowing or not.
 */
void vmx_shadowing_publish(struct vcpu *vcpu, u32 primary);
/* An exit has written `value` to that field of vmcs12: L1 reads it in the shadow VMCS, if it reads it there.
 */
void vmx_shadowing_update(struct vcpu *vcpu, u64 encoding, u64 value);

#endif
