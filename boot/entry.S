/* SPDX-License-Identifier: MIT */
/*
 * From the boot loader's 32-bit protected mode to boot_main() in long mode at the image's link address. Until paging is on,
 * code runs at its load address, so every symbol goes through PHYS().
 * Sources: Multiboot specification 0.6.96, Multiboot2 specification 2.0; SDM vol. 3A 9.8.5.
 */
#include "arch/layout.h"

#define PHYS(symbol) ((symbol) - LAYOUT_IMAGE + LAYOUT_LOAD_ADDRESS)

#define MULTIBOOT1_MAGIC        0x1badb002
#define MULTIBOOT1_PAGE_ALIGN   0x00000001
#define MULTIBOOT1_MEMORY_INFO  0x00000002
#define MULTIBOOT1_AOUT_KLUDGE  0x00010000
#define MULTIBOOT1_FLAGS        (MULTIBOOT1_PAGE_ALIGN | MULTIBOOT1_MEMORY_INFO | MULTIBOOT1_AOUT_KLUDGE)
#define MULTIBOOT2_MAGIC        0xe85250d6
#define MULTIBOOT2_I386         0
#define MULTIBOOT2_TAG_ENTRY    3
#define MULTIBOOT2_TAG_ALIGN    6
#define MULTIBOOT2_TAG_END      0

#define CR0_PE_WP_PG_NE  0x80010021
#define CR4_PAE          0x20
#define EFER             0xc0000080
#define EFER_LME_NXE     0x900
#define CPUID_EXTENDED   0x80000001
#define CPUID_EDX_LM     29
#define CPUID_EDX_NX     20
#define PTE_P_W          0x3
#define PTE_P_W_PS       0x83
#define ENTRIES          512
#define COM1             0x3f8
#define UART_LINE_CONTROL 3
#define UART_DIVISOR     0x80
#define UART_8N1         3
#define UART_LINE_STATUS 5
#define UART_EMPTY       0x20
#define VGA_TEXT         0xb8000
#define VGA_GREY         0x07
#define CODE64           0x08
#define DATA             0x10
#define CODE32           0x18
#define CR0_PE           0x1

/* Paging and long mode on, with the boot tables; then a far jump to CODE64 is due. Changes EAX, ECX, EDX. */
.macro ENABLE_LONG_MODE
        mov     $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $PHYS(boot_root), %eax
        mov     %eax, %cr3
        mov     $EFER, %ecx
        rdmsr
        or      $EFER_LME_NXE, %eax
        wrmsr
        mov     $CR0_PE_WP_PG_NE, %eax
        mov     %eax, %cr0
.endm

        .section .headers, "ax"
        .balign 8
multiboot1_header:
        .long   MULTIBOOT1_MAGIC
        .long   MULTIBOOT1_FLAGS
        .long   -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
        .long   PHYS(multiboot1_header)
        .long   PHYS(image_start)
        .long   PHYS(image_bss)
        .long   PHYS(image_end)
        .long   PHYS(entry32)

        .balign 8
multiboot2_header:
        .long   MULTIBOOT2_MAGIC
        .long   MULTIBOOT2_I386
        .long   multiboot2_end - multiboot2_header
        .long   0x100000000 - (MULTIBOOT2_MAGIC + MULTIBOOT2_I386 + (multiboot2_end - multiboot2_header))
        .short  MULTIBOOT2_TAG_ENTRY, 0
        .long   12, PHYS(entry32)
        .balign 8
        .short  MULTIBOOT2_TAG_ALIGN, 0
        .long   8
        .short  MULTIBOOT2_TAG_END, 0
        .long   8
multiboot2_end:

        .code32
        .text
        .global entry32
/* EAX = the loader's magic number, EBX = its information structure; interrupts off, paging off, flat segments. */
entry32:
        cli
        cld
        mov     $PHYS(boot_stack_top), %esp
        mov     %eax, %ebp
        mov     %ebx, %edi

        mov     $0x80000000, %eax
        cpuid
        cmp     $CPUID_EXTENDED, %eax
        jb      no_long_mode
        mov     $CPUID_EXTENDED, %eax
        cpuid
        bt      $CPUID_EDX_LM, %edx
        jnc     no_long_mode
        bt      $CPUID_EDX_NX, %edx
        jnc     no_long_mode

        /* The first 4 GByte with 2-MByte pages, seen at 0 (for this code) and at the direct map. */
        xor     %ecx, %ecx
1:      mov     %ecx, %eax
        shl     $21, %eax
        mov     %ecx, %edx
        shr     $11, %edx
        or      $PTE_P_W_PS, %eax
        mov     %eax, PHYS(boot_low_directories)(, %ecx, 8)
        mov     %edx, PHYS(boot_low_directories) + 4(, %ecx, 8)
        inc     %ecx
        cmp     $(4 * ENTRIES), %ecx
        jne     1b
        xor     %ecx, %ecx
        mov     $PHYS(boot_low_directories) + PTE_P_W, %eax
2:      mov     %eax, PHYS(boot_low_pointers)(, %ecx, 8)
        add     $4096, %eax
        inc     %ecx
        cmp     $4, %ecx
        jne     2b
        /* The image's 2 MByte at its link address. */
        movl    $(LAYOUT_LOAD_ADDRESS + PTE_P_W_PS), PHYS(boot_image_directory)
        movl    $PHYS(boot_image_directory) + PTE_P_W, PHYS(boot_image_pointers) + 510 * 8
        movl    $PHYS(boot_low_pointers) + PTE_P_W, PHYS(boot_root)
        movl    $PHYS(boot_low_pointers) + PTE_P_W, PHYS(boot_root) + 256 * 8
        movl    $PHYS(boot_image_pointers) + PTE_P_W, PHYS(boot_root) + 511 * 8

        ENABLE_LONG_MODE
        lgdt    PHYS(boot_gdt_pointer)
        ljmp    $CODE64, $PHYS(entry64_low)

no_long_mode:
        /* Nobody has set the port up: after a reset it sends five bits at any speed. 115200 baud: divisor 1. */
        mov     $(COM1 + UART_LINE_CONTROL), %edx
        mov     $UART_DIVISOR, %al
        out     %al, %dx
        mov     $COM1, %edx
        mov     $1, %al
        out     %al, %dx
        inc     %edx
        mov     $0, %al
        out     %al, %dx
        mov     $(COM1 + UART_LINE_CONTROL), %edx
        mov     $UART_8N1, %al
        out     %al, %dx
        mov     $PHYS(message_no_long_mode), %esi
        mov     $VGA_TEXT, %edi
3:      movzbl  (%esi), %ebx
        test    %bl, %bl
        jz      5f
        inc     %esi
        mov     $(COM1 + UART_LINE_STATUS), %edx
        mov     $0x10000, %ecx
4:      in      %dx, %al
        test    $UART_EMPTY, %al
        loopz   4b
        mov     $COM1, %edx
        mov     %bl, %al
        out     %al, %dx
        mov     $VGA_GREY, %bh
        mov     %bx, (%edi)
        add     $2, %edi
        jmp     3b
5:      hlt
        jmp     5b

        .code64
entry64_low:
        mov     $entry64_high, %rax
        jmp     *%rax
entry64_high:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $boot_stack_top, %rsp
        mov     %edi, %esi
        mov     %ebp, %edi
        xor     %ebp, %ebp
        push    $0
        push    $0
        call    boot_main
6:      hlt
        jmp     6b

/*
 * void boot_relocate(void *copy, u64 bytes, u64 cr3): copies the image, with the stack this runs on, to where `copy` maps
 * and switches to the page tables that map the copy at the link address. Nothing is written between the copy and the switch,
 * so the copy is the whole state.
 */
        .global boot_relocate
boot_relocate:
        mov     %rdx, %rax
        mov     $image_start, %rdx
        mov     %rsi, %rcx
        shr     $3, %rcx
        mov     %rdx, %rsi
        rep movsq
        mov     %rax, %cr3
        ret

/* void boot_switch_stack(u64 stack_top, void (*continue_at)(void)): leaves the boot stack for ever. */
        .global boot_switch_stack
boot_switch_stack:
        mov     %rdi, %rsp
        xor     %ebp, %ebp
        push    $0
        push    $0
        call    *%rsi
7:      hlt
        jmp     7b

/*
 * Another CPU, from a start-up IPI to ap_main(). What lies between the first two labels is copied to a page below
 * 1 MByte; then it goes through the image where the loader put it, with the tables of the start, which no one has
 * overwritten yet, until the tables that Umbra runs on are loaded: they have the same code at the same address.
 */
        .code16
        .global ap_trampoline, ap_trampoline_root, ap_trampoline_end
ap_trampoline:
        cli
        lgdtl   %cs:(ap_gdt_pointer - ap_trampoline)
        movl    %cs:(ap_trampoline_root - ap_trampoline), %esi
        mov     $CR0_PE, %eax           /* caches on */
        mov     %eax, %cr0
        ljmpl   $CODE32, $PHYS(ap_entry32)
        .balign 4
ap_gdt_pointer:
        .short  boot_gdt_pointer - boot_gdt - 1
        .long   PHYS(boot_gdt)
        .balign 4
ap_trampoline_root:                     /* for CR3: filled in in the copy */
        .long   0
ap_trampoline_end:

        .code32
ap_entry32:
        mov     $DATA, %eax
        mov     %eax, %ds
        ENABLE_LONG_MODE
        ljmp    $CODE64, $PHYS(ap_entry64_low)

        .code64
ap_entry64_low:
        mov     $ap_entry64_high, %rax
        jmp     *%rax
ap_entry64_high:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %esi, %esi
        mov     %rsi, %cr3              /* from here on there is no GDT */
        mov     ap_stack_top, %rsp
        xor     %ebp, %ebp
        push    $0
        push    $0
        call    ap_main                 /* does not return */
        ud2

        .section .rodata
message_no_long_mode:
        .asciz  "umbra: fatal: this CPU has no 64-bit mode with execute-disable: Umbra needs an Intel or AMD CPU with virtualization\r\n"
        .balign 8
boot_gdt:
        .quad   0
        .quad   0x00af9b000000ffff
        .quad   0x00cf93000000ffff
        .quad   0x00cf9b000000ffff
boot_gdt_pointer:
        .short  . - boot_gdt - 1
        .long   PHYS(boot_gdt)

        .bss
        .balign 4096
boot_root:
        .skip   4096
boot_low_pointers:
        .skip   4096
boot_low_directories:
        .skip   4 * 4096
boot_image_pointers:
        .skip   4096
boot_image_directory:
        .skip   4096
        .global ap_stack_top
ap_stack_top:
        .skip   16
boot_stack:
        .skip   16384
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
