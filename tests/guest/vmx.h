/* SPDX-License-Identifier: MIT */
/*
 * The test guest as an L1 of its own: one VMCS, a guest (L2) in the same image and the same address space,
 * and what the groups vmx-* share. Field encodings and control names are those of vmx/; whatever is expected
 * comes from the manual.
 */
#ifndef UMBRA_TESTS_GUEST_VMX_H
#define UMBRA_TESTS_GUEST_VMX_H

#include "arch/msr.h"
#include "tests/guest/l2.h"
#include "vmx/controls.h"
#include "vmx/exit-reason.h"
#include "vmx/vmcs.h"

/* RFLAGS after a VMX instruction, SDM vol. 3D 31.2; or END_FAULT plus the vector. */
enum { END_SUCCEED = 0, END_INVALID = 0x01, END_VALID = 0x40, END_FAULT = 0x10000, END_FLAGS = 0x8d5 };

#define L2_CODE(name, before, instruction) L2_CODE_WITH("vmcall", name, before, instruction)

/* --- vmx-enter.S --- */
/* 0: L2 ran and has come back; else RFLAGS of the entry that failed. */
u64 vmx_enter(struct l2_registers *registers, bool launch);
void vmx_exit_point(void);
extern const u8 l2_vectors[];

/* --- vmx-library.c --- */
/* Turns VMX operation on, with a current and clear VMCS; false (and a note) if there is no VMX. */
bool vmx_start(const char *group);
void vmx_stop(void);
/* The same on any CPU, with regions of its own; the VMCS still has to be filled. */
void vmx_begin(u8 *vmxon, u8 *vmcs);
/* The regions' physical addresses. */
extern u8 vmx_region[PAGE_SIZE], vmcs_region[PAGE_SIZE], other_region[PAGE_SIZE];

/* Each returns how the instruction ended. */
u64 try_vmxon(u64 pointer);
u64 try_vmxoff(void);
u64 try_vmclear(u64 pointer);
u64 try_vmptrld(u64 pointer);
u64 try_vmptrst(u64 *pointer);
u64 try_vmread(u64 field, u64 *value);
u64 try_vmwrite(u64 field, u64 value);
u64 try_invept(u64 type, u64 pointer, u64 reserved);
u64 try_invept_at(u64 type, const void *descriptor);
u64 try_invvpid(u64 type, u64 vpid, u64 address);
u64 try_vmlaunch(void);
u64 try_vmresume(void);

/* Control words; their capability MSRs are the TRUE ones where there are any. */
enum vmx_word { WORD_PIN, WORD_PRIMARY, WORD_SECONDARY, WORD_EXIT, WORD_ENTRY, WORDS };
bool vmx_has(enum vmx_word word, u64 bits);
u64 vmx_required(enum vmx_word word);
void vmx_set(enum vmx_word word, u64 bits);
void vmx_clear(enum vmx_word word, u64 bits);

/* The current VMCS gets a state that can be entered: L2 is 64-bit code in ring 0 on L1's page tables, with
 * EPT that maps 0..4 GByte one to one and all exceptions intercepted. */
void vmx_reset(void);
/* The same but for what the VMCS refers to, which is as vmx_reset() has left it. */
void vmx_reset_vmcs(void);
/* NMIs are open again for L1, as after its handler's IRET. */
void vmx_unblock_nmis(void);
/* Enters at RIP; the exit reason with bit 31, or RUN_FAILED plus the VM-instruction error, or RUN_INVALID. */
enum { RUN_FAILED = 0x70000000, RUN_INVALID = 0x71000000, RUN_FAULT = 0x72000000 };
u64 vmx_resume(void);
u64 vmx_run(const struct l2_code *code);

/* --- the EPT that vmx_reset() uses: 2-MByte pages one to one, and the window of L2 from 4 GByte on --- */
enum {
    EPT_R = 1,
    EPT_W = 2,
    EPT_X = 4,
    EPT_WB = 6 << 3,
    EPT_PS = 128,
    EPT_A = 256,
    EPT_D = 512,
    EPT_XU = 1024
};
#define EPT_RWX    (EPT_R | EPT_W | EPT_X)
#define EPT_WINDOW L2_WINDOW
#define EPTP_AD    BIT(6)
extern u64 ept_pml4[512], ept_pdpt[512], ept_directory[4 * 512], ept_window_directory[512], ept_window[512];
u64 ept_pointer(void);
void ept_init(void);
bool ept_has(u64 capability);

#endif
