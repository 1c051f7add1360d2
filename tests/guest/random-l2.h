/* SPDX-License-Identifier: MIT */
/*
 * What the groups svm-random and vmx-random share: the instructions that their L2s are made of, the registers
 * that these begin with, and real interrupts and NMIs around an entry. The same seed gives the same L2s
 * everywhere.
 */
#ifndef UMBRA_TESTS_GUEST_RANDOM_L2_H
#define UMBRA_TESTS_GUEST_RANDOM_L2_H

#include "tests/guest/hostile.h"
#include "tests/guest/l2.h"

/* X(name, preparation, instruction), to be compiled with the vendor's L2_CODE(). RBX: 8 bytes or more of
 * data. */
#define RANDOM_STABLE(X)                                                                                     \
    X(nops, "nop", "nop\nnop")                                                                               \
    X(rdmsr, "", "rdmsr")                                                                                    \
    X(out8, "", "out %al, %dx")                                                                              \
    X(out32, "", "out %eax, %dx")                                                                            \
    X(int_80, "", "int $0x80")                                                                               \
    X(int3, "", "int3")                                                                                      \
    X(icebp, "", ".byte 0xf1")                                                                               \
    X(ud2, "", "ud2")                                                                                        \
    X(read_cr0, "", "mov %cr0, %rsi")                                                                        \
    X(read_cr3, "", "mov %cr3, %rsi")                                                                        \
    X(read_cr4, "", "mov %cr4, %rsi")                                                                        \
    X(read_cr8, "", "mov %cr8, %rsi")                                                                        \
    X(write_cr0, "mov %cr0, %rsi\nxor $0x10008, %rsi", "mov %rsi, %cr0")                                     \
    X(write_cr2, "", "mov %rbx, %cr2")                                                                       \
    X(write_cr3, "mov %cr3, %rsi", "mov %rsi, %cr3")                                                         \
    X(write_cr4, "mov %cr4, %rsi\nxor $0x80, %rsi", "mov %rsi, %cr4")                                        \
    X(clts, "", "clts")                                                                                      \
    X(smsw, "", "smsw %esi")                                                                                 \
    X(read_dr0, "", "mov %dr0, %rsi")                                                                        \
    X(read_dr7, "", "mov %dr7, %rsi")                                                                        \
    X(write_dr7, "mov $0x700, %esi", "mov %rsi, %dr7")                                                       \
    X(pushf, "", "pushf\npop %rsi")                                                                          \
    X(popf_tf, "push $0x142", "popf\nnop\nnop")                                                              \
    X(hlt, "sti", "hlt")                                                                                     \
    X(sti, "", "sti\nnop\nnop")                                                                              \
    X(pause, "", "pause\npause")                                                                             \
    X(invlpg, "", "invlpg (%rbx)")                                                                           \
    X(wbinvd, "", "wbinvd")                                                                                  \
    X(invd, "", "invd")                                                                                      \
    X(monitor, "", "monitor")                                                                                \
    X(sgdt, "", "sgdt (%rbx)")                                                                               \
    X(lidt, "sidt (%rbx)", "lidt (%rbx)")                                                                    \
    X(sldt, "", "sldt %esi")                                                                                 \
    X(load, "", "mov (%rbx), %rsi")                                                                          \
    X(store, "", "mov %rsi, (%rbx)")                                                                         \
    X(int_new_stack, "lea 2048(%rbx), %rsp", "int $0x81")                                                    \
    X(ud2_new_stack, "lea 2048(%rbx), %rsp", "ud2")                                                          \
    X(fault_gp, "mov $0x1000000000000000, %rsi", "mov (%rsi,%rsi,8), %rsi")                                  \
    X(fault_pf, "mov $0x4000000000, %rsi", "mov (%rsi), %rsi")                                               \
    X(fault_de, "xor %ecx, %ecx", "div %ecx")

/* These leave what is not the same each time in registers that are not printed. */
#define RANDOM_UNSTABLE(X)                                                                                   \
    X(cpuid, "", "cpuid")                                                                                    \
    X(cpuid_tf, "pushf\norq $0x100, (%rsp)\npopf", "cpuid\nnop")                                             \
    X(cpuid_shadow, "mov %ss, %esi\nmov %esi, %ss", "cpuid")                                                 \
    X(rdtsc, "", "rdtsc")                                                                                    \
    X(in8, "", "in %dx, %al")                                                                                \
    X(xsetbv, "", "xsetbv")

#define RANDOM_DEFINE(name, before, instruction) L2_CODE(random_##name, before, instruction);
#define RANDOM_LIST(name, before, instruction)   {#name, &random_##name},
struct random_code {
    const char *name;
    const struct l2_code *code;
};

/* Memory of L2's, at its own address and, if L1's tables say so, in this page of the window. */
enum { RANDOM_PAGE = 8 };
extern u8 random_data[PAGE_SIZE];

/* Real interrupts and NMIs that came to L1 since random_events_begin(). */
extern unsigned random_interrupts, random_nmis;

void random_begin(void);
void random_end(void);
/* Each series of entries has random numbers of its own, so that what one prints does not change the next. */
void random_begin_series(unsigned series);
/* L2's registers; RBX keeps its value, which is where the data are. */
void random_registers(u64 rax);
void random_events_begin(void);
/* Calls it in L1's NMI handler, before whose end no other NMI comes, with an NMI pending. */
void random_with_nmi(void (*function)(void));
/* What is left comes to L1; what L2 took is over. */
void random_events_drain(void);

#endif
