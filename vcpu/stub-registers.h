/* SPDX-License-Identifier: MIT */
/*
 * The guest's general-purpose registers between CPU and vcpu->gpr, for the entry stubs of both vendors. `base` holds the vcpu and
 * must be none of the registers named here; RAX, RSP and the register that a vendor uses as the base are the vendor's own affair.
 */
#include "asm-offsets.h"

.macro LOAD_GUEST_REGISTERS base
        mov     VCPU_GPR_RCX(\base), %rcx
        mov     VCPU_GPR_RDX(\base), %rdx
        mov     VCPU_GPR_RBX(\base), %rbx
        mov     VCPU_GPR_RBP(\base), %rbp
        mov     VCPU_GPR_RSI(\base), %rsi
        mov     VCPU_GPR_R8(\base), %r8
        mov     VCPU_GPR_R9(\base), %r9
        mov     VCPU_GPR_R10(\base), %r10
        mov     VCPU_GPR_R11(\base), %r11
        mov     VCPU_GPR_R12(\base), %r12
        mov     VCPU_GPR_R13(\base), %r13
        mov     VCPU_GPR_R14(\base), %r14
        mov     VCPU_GPR_R15(\base), %r15
.endm

.macro SAVE_GUEST_REGISTERS base
        mov     %rcx, VCPU_GPR_RCX(\base)
        mov     %rdx, VCPU_GPR_RDX(\base)
        mov     %rbx, VCPU_GPR_RBX(\base)
        mov     %rbp, VCPU_GPR_RBP(\base)
        mov     %rsi, VCPU_GPR_RSI(\base)
        mov     %r8, VCPU_GPR_R8(\base)
        mov     %r9, VCPU_GPR_R9(\base)
        mov     %r10, VCPU_GPR_R10(\base)
        mov     %r11, VCPU_GPR_R11(\base)
        mov     %r12, VCPU_GPR_R12(\base)
        mov     %r13, VCPU_GPR_R13(\base)
        mov     %r14, VCPU_GPR_R14(\base)
        mov     %r15, VCPU_GPR_R15(\base)
.endm
