/* SPDX-License-Identifier: MIT */
/*
 * The test guest as an L1 of its own on AMD: one VMCB, a guest (L2) in the same image and the same address
 * space, and what the groups svm-* share. The VMCB's layout is that of svm/vmcb.h; whatever is expected comes
 * from the manual.
 */
#ifndef UMBRA_TESTS_GUEST_SVM_H
#define UMBRA_TESTS_GUEST_SVM_H

#include "arch/msr.h"
#include "svm/vmcb.h"
#include "tests/guest/l2.h"

#define L2_CODE(name, before, instruction) L2_CODE_WITH("vmmcall", name, before, instruction)

/* Exit codes that only an L1 knows: APM vol. 2 appendix C. */
enum {
    EXIT_CR0_SEL_WRITE = 0x065,
    EXIT_IDTR_READ = 0x066,
    EXIT_GDTR_READ = 0x067,
    EXIT_LDTR_READ = 0x068,
    EXIT_TR_READ = 0x069,
    EXIT_IDTR_WRITE = 0x06a,
    EXIT_GDTR_WRITE = 0x06b,
    EXIT_LDTR_WRITE = 0x06c,
    EXIT_TR_WRITE = 0x06d,
    EXIT_RDTSC = 0x06e,
    EXIT_RDPMC = 0x06f,
    EXIT_PUSHF = 0x070,
    EXIT_POPF = 0x071,
    EXIT_RSM = 0x073,
    EXIT_IRET = 0x074,
    EXIT_SWINT = 0x075,
    EXIT_PAUSE = 0x077,
    EXIT_HLT = 0x078,
    EXIT_INVLPG = 0x079,
    EXIT_TASK_SWITCH = 0x07d,
    EXIT_RDTSCP = 0x087,
    EXIT_ICEBP = 0x088,
    EXIT_WBINVD = 0x089,
    EXIT_MONITOR = 0x08a,
    EXIT_MWAIT = 0x08b,
};

/* --- svm-enter.S --- */
enum {
    ENTER_INTERRUPTS = 1, /* RFLAGS.IF is 1 at VMRUN */
    ENTER_KEEP_GIF = 2,   /* GIF stays 0 after the exit */
    ENTER_WITH_GIF = 4,   /* GIF is 1 before VMRUN, too */
};
/* VMRUN between CLGI and STGI, if `flags` has nothing else to say; everything but RAX, RSP, RIP and RFLAGS
 * goes through `registers`. */
void svm_enter(struct l2_registers *registers, u64 vmcb, unsigned flags);
/* L2's interrupt table: vector n leads to VMMCALL. */
extern const u8 svm_l2_vectors[];

/* --- svm-library.c --- */
extern struct vmcb vmcb;
extern u8 svm_host_area[PAGE_SIZE];
/* Permission maps, all clear after svm_reset(); the VMCB refers to them. */
extern u8 svm_io_map[3 * PAGE_SIZE], svm_msr_map[2 * PAGE_SIZE];

/* CPUID 8000_000A EDX */
enum {
    SVM_HAS_NRIPS = 1 << 3,
    SVM_HAS_DECODE_ASSISTS = 1 << 7,
    SVM_HAS_VGIF = 1 << 16,
    SVM_HAS_GMET = 1 << 17
};
bool svm_has(u32 features);

/* Turns SVM on and resets the VMCB; false (and a note) if there is no SVM. */
bool svm_start(const char *group);
void svm_stop(void);

/* The VMCB gets a state that can be entered: L2 is 64-bit code in ring 0 on L1's page tables, with nested
 * paging that maps 0..4 GByte one to one, and leaves by VMMCALL, exceptions and shutdowns. */
void svm_reset(void);
/* Exit code n on or off: its bit in the intercept words. */
void svm_intercept(u32 code);
void svm_allow(u32 code);
/* Enters at RIP and returns the exit code. */
u64 svm_resume(void);
u64 svm_run(const struct l2_code *code);
/* For the entries from now on: the flags of svm_enter(). */
extern unsigned svm_enter_flags;
/* How L2 is entered: svm_enter(), where no other way is being tried. */
extern void (*svm_entry)(struct l2_registers *registers, u64 address, unsigned flags);
/* The same in ring 3, where a copy of the code runs: at_user() is where an address in it has got to. */
u64 svm_run_user(const struct l2_code *code);
u64 svm_at_user(const struct l2_code *code, const u8 *address);
/* The exit code if L2 did not come to its VMMCALL with an interrupt's vector, else L2_VECTOR + vector. */
u64 svm_run_vector(const struct l2_code *code);

/* Each returns the vector of the exception, or NO_FAULT. Of VMRUN only failures come back in good order. */
u64 try_vmrun(u64 address);
u64 try_vmload(u64 address);
u64 try_vmsave(u64 address);
u64 try_stgi(void);
u64 try_clgi(void);
u64 try_invlpga(u64 address, u32 asid);
u64 try_skinit(u64 address);

/* --- the nested tables that svm_reset() uses: 2-MByte pages one to one, and L2's window from 4 GByte on ---
 */
#define NPT_WINDOW L2_WINDOW
#define NPT_ALL    (PTE_P | PTE_W | PTE_U)
extern u64 npt_pml4[512], npt_pdpt[512], npt_directory[4 * 512], npt_window_directory[512], npt_window[512];
void npt_init(void);

#endif
