/* SPDX-License-Identifier: MIT */
/*
 * Memory operands of emulated instructions: segment:offset to linear address to guest memory, with the faults
 * that the CPU would raise, in its order. Nothing is written before every byte has been found writable. It
 * injects nothing: it says what to inject.
 */
#ifndef UMBRA_MM_LINEAR_H
#define UMBRA_MM_LINEAR_H

#include "arch/types.h"
#include "mm/walk.h"

enum { LINEAR_BYTES_MAX = 4096 };

/* A segment register's hidden part. */
struct linear_segment {
    u64 base;
    u32 limit;   /* in bytes, granularity applied */
    u8 type;     /* bits 3:0 of the descriptor's type field, SDM vol. 3A 3.4.5.1 */
    bool usable; /* false: null selector (VMX: unusable; SVM: not present) */
    bool big;    /* D/B: upper bound of an expand-down segment */
    bool stack;  /* the operand is addressed through SS: faults are #SS */
    bool system; /* GDT, LDT, IDT or TSS access: no type check */
};

/* How addresses are to be understood. */
struct linear_context {
    const struct paging *paging; /* of the guest's current mode */
    u64 root;                    /* CR3, LAM and PCID bits included */
    const struct paging_memory *memory;
    /* Second stage (EPT or NPT role) for guests of the guest; NULL: guest-physical is the memory's address.
     */
    const struct paging *host;
    u64 host_root;
    u64 cr0, cr4, efer, rflags; /* PE, AM; LA57, LAM_SUP; LMA; AC, VM */
    u8 cpl;
    bool code_64; /* EFER.LMA and CS.L */
};

struct linear_operand {
    struct linear_segment segment; /* in 64-bit mode only base (FS, GS; else 0) and stack count */
    u64 offset;                    /* effective address, already cut to the address size */
    u32 bytes;                     /* 1 to LINEAR_BYTES_MAX */
    u8 alignment; /* 0 or 1: none. Power of two: #AC where alignment checking is on (CR0.AM, EFLAGS.AC, CPL 3)
                   */
    bool implicit; /* an implicit supervisor access: CPL is taken for 0 and EFLAGS.AC for 0 */
};

enum linear_status {
    LINEAR_OK,
    LINEAR_EXCEPTION,  /* result.vector and following */
    LINEAR_HOST_FAULT, /* the second stage: result.fault, reason and `supplied` included */
    LINEAR_NOT_MEMORY, /* the bytes, or a paging structure, are not RAM of the guest: result.address */
    LINEAR_CONTENDED,  /* as WALK_CONTENDED: execute the instruction anew */
};

struct linear_result {
    u8 vector;          /* EXC_GP, EXC_SS, EXC_PF, EXC_AC */
    u32 error_code;     /* 0 but for #PF */
    u64 cr2;            /* #PF: the faulting linear address, after LAM: that is what was translated */
    struct fault fault; /* #PF and host faults: the walk's */
    u64 address;        /* LINEAR_NOT_MEMORY: guest-physical */
};

#define CR3_LAM_U57 BIT(61)
#define CR3_LAM_U48 BIT(62)
#define CR4_LAM_SUP BIT(28)

/*
 * Linear-address masking, SDM vol. 1 3.3.7 (vol. 3A 4.4): replaces the metadata bits of a data pointer by the
 * sign of the address they are ignored for. User pointers (bit 63 = 0): LAM_U57 ignores 62:57, else LAM_U48
 * 62:48. Supervisor pointers (bit 63 = 1) with LAM_SUP: 62:57 with 5-level paging, else 62:48. Bit 63 stays.
 * Not for fetches, system accesses (GDT, IDT, TSS), nor outside 64-bit mode.
 */
u64 linear_lam_mask(u64 address, u64 cr3, u64 cr4);

/* Are all bits above the linear-address width (48, with 5-level paging 57) equal to the highest one within?
 */
bool linear_canonical(u64 address, bool la57);

/*
 * Segmentation, SDM vol. 3A 5.3 and 5.5: gives the linear address of an operand for an access (enum access;
 * ACCESS_USER and ACCESS_AC are added by the functions below, not by the caller). 64-bit mode: canonical
 * check of the first and the last byte (#GP, #SS through the stack segment) after LAM. Else: usable, type
 * (readable, writable; execute-only code is not readable), limit, expand-down; the result wraps at 4 GByte.
 */
enum linear_status linear_address(const struct linear_context *context, const struct linear_operand *operand,
                                  unsigned access, u64 *linear, struct linear_result *result);

/*
 * Copies the operand to dst, or src to the operand, with all checks in the order #GP/#SS, #AC, #PF, second
 * stage. An operand that crosses pages (at most one boundary) has both pages translated, for a write, before
 * the first byte is written; A/D flags are set as the CPU would. `access` adds ACCESS_SHADOW_STACK or, to
 * linear_read, ACCESS_WRITE for a read-modify-write operand, which linear_write may follow.
 */
enum linear_status linear_read(const struct linear_context *context, const struct linear_operand *operand,
                               unsigned access, void *dst, struct linear_result *result);
enum linear_status linear_write(const struct linear_context *context, const struct linear_operand *operand,
                                unsigned access, const void *src, struct linear_result *result);

/*
 * Instruction bytes at a linear address, as a fetch at context->cpl, for decoding an instruction that the CPU
 * has just fetched itself: no flag is set in any table. Returns how many of `bytes` could be had: fewer, if a
 * later page cannot be fetched from or is not RAM of the guest; 0 if the first is not.
 */
size_t linear_fetch(const struct linear_context *context, u64 linear, u8 *dst, size_t bytes);

#endif
