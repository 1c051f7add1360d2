/* SPDX-License-Identifier: MIT */
/*
 * What the test guest's two L1s share, the one for VMX and the one for SVM: the registers of L2, its code,
 * its stack and its interrupt table. L2 lives in the same image and the same address space.
 */
#ifndef UMBRA_TESTS_GUEST_L2_H
#define UMBRA_TESTS_GUEST_L2_H

#include "tests/guest/guest.h"

/* L2's registers, loaded at an entry and saved at an exit. */
struct l2_registers {
    u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};
extern struct l2_registers l2;
extern u8 l2_stack[PAGE_SIZE];

/* A table of L1's for L2's memory: away from whatever L2 itself writes to. */
#define L1_TABLE __attribute__((aligned(4096), section(".bss.tables")))

/* One instruction `at` after some preparation, with the vendor's call to L1 from `next` on. */
struct l2_code {
    const u8 *start, *at, *next;
};
#define L2_CODE_WITH(call, name, before, instruction)                                                        \
    extern const u8 name##_start[], name##_at[], name##_next[];                                              \
    __asm__(".pushsection .text\n" #name "_start:\n" before "\n" #name "_at:\n" instruction "\n" #name       \
            "_next:\n " call "\n " call "\n.popsection");                                                    \
    static const struct l2_code name = {name##_start, name##_at, name##_next}

/* L2's interrupt table: vector n leads to a call of L1 with RAX = L2_VECTOR + n and RSP at its frame. */
#define L2_VECTOR 0x5600
enum { L2_IDT_BYTES = 4096 };
extern u8 l2_idt[L2_IDT_BYTES];
/* The gate to a handler, for one of L2's vectors. */
void l2_set_vector(u64 vector, u64 handler);
/* Zeroes the registers and makes the table from 256 handlers of 16 bytes. */
void l2_init(const u8 *vectors);

/* L2's window in its physical memory, which L1's second-level tables map at will. Linear window page `index`
 * leads to page `index` there, with these flags of L2's tables. */
#define L2_WINDOW GIB(4)
void *l2_window(unsigned index, u64 flags);

/*
 * Two CPUs, each in an L2 of its own, interrupt each other, one answered by the next; each interrupt has to
 * be an exit, and is then taken by L1. Checks `prefix`.interrupts.*; leaves the hook of VECTOR_PING set.
 */
struct l2_pings {
    const char *prefix;
    /* On this CPU, or on the other one, at the same time: an L2 that exits for interrupts, as far as it was
     * not made before. */
    void (*prepare)(bool other);
    /* Runs it until it exits; `first`: for the first time. True if an interrupt is why. */
    bool (*run)(bool other, bool first);
};
enum { VECTOR_PING = 0x44 };
void l2_check_pings(const struct l2_pings *pings);
/* The hook: counts, and ends the interrupt. */
bool l2_take_ping(struct frame *at);

/* Check of `prefix`.`what`. */
void check_part(const char *prefix, const char *what, u64 got, u64 want);

#endif
