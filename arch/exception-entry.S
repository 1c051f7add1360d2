/* SPDX-License-Identifier: MIT */
/*
 * Entry of the 32 exception vectors: each pushes what the CPU did not, saves all general-purpose registers in hardware
 * order (struct exception_frame) and calls exception_handler(). The stack is the TSS's for #DF, NMI, #MC; else the current one.
 */
        .text
        .altmacro
        .macro exception vector, has_error
        .balign 16
        .if \vector == 30
        clgi                            /* AMD only; see exception_handler() */
        .endif
        .if \has_error == 0
        push    $0
        .endif
        push    $\vector
        jmp     exception_common
        .endm

        .balign 16
        .global exception_entries
exception_entries:
        .set    vector, 0
        .rept   32
        /* Error codes: #DF 8, #TS to #PF 10..14, #AC 17, #CP 21, #VC 29, #SX 30. */
        .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        exception %vector, 1
        .else
        exception %vector, 0
        .endif
        .set    vector, vector + 1
        .endr

        .noaltmacro
exception_common:
        push    %r15
        push    %r14
        push    %r13
        push    %r12
        push    %r11
        push    %r10
        push    %r9
        push    %r8
        push    %rdi
        push    %rsi
        push    %rbp
        push    %rsp
        push    %rbx
        push    %rdx
        push    %rcx
        push    %rax
        cld
        mov     %rsp, %rdi
        /* The System V ABI wants a 16-byte aligned stack; the frame itself may lie at any 8-byte boundary. */
        mov     %rsp, %rbx
        and     $-16, %rsp
        call    exception_handler
        mov     %rbx, %rsp
        pop     %rax
        pop     %rcx
        pop     %rdx
        pop     %rbx
        add     $8, %rsp
        pop     %rbp
        pop     %rsi
        pop     %rdi
        pop     %r8
        pop     %r9
        pop     %r10
        pop     %r11
        pop     %r12
        pop     %r13
        pop     %r14
        pop     %r15
        add     $16, %rsp
        iretq

/*
 * bool rdmsr_safe(u32 msr, u64 *value): the faulting instruction's address and where to go on are in the fix-up table.
 * Clobbers what the ABI lets it.
 */
        .macro fixup from, to
        .pushsection .fixups, "a"
        .quad   \from, \to
        .popsection
        .endm

        .global rdmsr_safe
rdmsr_safe:
        mov     %edi, %ecx
1:      rdmsr
        shl     $32, %rdx
        or      %rdx, %rax
        mov     %rax, (%rsi)
        mov     $1, %eax
        ret
        fixup   1b, fault_result

/* bool wrmsr_safe(u32 msr, u64 value) */
        .global wrmsr_safe
wrmsr_safe:
        mov     %edi, %ecx
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
1:      wrmsr
        mov     $1, %eax
        ret
        fixup   1b, fault_result

/* bool xsetbv_safe(u32 index, u64 value) */
        .global xsetbv_safe
xsetbv_safe:
        mov     %edi, %ecx
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
1:      xsetbv
        mov     $1, %eax
        ret
        fixup   1b, fault_result

fault_result:
        xor     %eax, %eax
        ret

        .section .note.GNU-stack, "", @progbits
