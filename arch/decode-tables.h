/* SPDX-License-Identifier: MIT */
/*
 * The tables behind arch/decode.c and the meaning of their bits. No other file includes this header. The
 * tables hold what appendix A of SDM volume 2 says about format and validity, and nothing about what
 * instructions do.
 */
#ifndef UMBRA_ARCH_DECODE_TABLES_H
#define UMBRA_ARCH_DECODE_TABLES_H

#include "arch/types.h"

/* The immediate that follows ModRM, SIB and displacement. */
enum immediate_format {
    IMMEDIATE_NONE,
    IMMEDIATE_B,      /* 1 byte */
    IMMEDIATE_W,      /* 2 bytes */
    IMMEDIATE_Z,      /* 2 bytes with operand size 2, else 4 */
    IMMEDIATE_V,      /* as the operand size, also 8 bytes: MOV B8..BF */
    IMMEDIATE_WB,     /* 2 bytes and 1: ENTER */
    IMMEDIATE_FAR,    /* an offset of operand size and a selector */
    IMMEDIATE_OFFSET, /* not an immediate: a memory offset of address size, MOV A0..A3 */
    IMMEDIATE_TEST_B, /* group 3: 1 byte for TEST (/0 and /1) only */
    IMMEDIATE_TEST_Z, /* likewise, as IMMEDIATE_Z */
    IMMEDIATE_SSE4A,  /* 1 byte and 1 with a 66 or F2 prefix (EXTRQ, INSERTQ), else none (VMREAD) */
};

/* How the operand size follows from mode and prefixes (SDM volume 2, section 2.2.1.2 and 2.2.1.7). */
enum operand_size {
    SIZE_V,       /* 2, 4 or 8 */
    SIZE_BYTE,    /* 1 */
    SIZE_STACK,   /* as SIZE_V, but 8 is the default in 64-bit mode and 4 cannot be had there */
    SIZE_BRANCH,  /* as SIZE_V, but always 8 in 64-bit mode */
    SIZE_MACHINE, /* 8 in 64-bit mode, else 4: MOV CR and DR, VMREAD, INVEPT and the like */
    SIZE_Z,       /* as SIZE_V, but REX.W gives 4: port I/O and far pointers */
    SIZE_GROUP5,  /* opcode FF: CALL and JMP as SIZE_BRANCH, PUSH as SIZE_STACK, else as SIZE_V */
};

/* Which of NP (none), 66, F3, F2 is in force as the mandatory prefix: the index of all prefix rules. */
enum mandatory_prefix {
    PREFIX_NP,
    PREFIX_66,
    PREFIX_F3,
    PREFIX_F2,
    MANDATORY_PREFIXES,
};

/* A table entry of 0 is an undefined opcode, since no prefix makes it valid. */
#define FORMAT_MODRM             (1u << 0)
#define FORMAT_IMMEDIATE(format) ((unsigned)(format) << 1)
#define FORMAT_SIZE(size)        ((unsigned)(size) << 5)
#define FORMAT_NOT_64            (1u << 8) /* invalid in 64-bit mode */
#define FORMAT_PREFIX(prefix)    (1u << (9u + (unsigned)(prefix)))
#define FORMAT_MEMORY_ONLY       (1u << 13) /* invalid with ModRM.mod = 3 */
#define FORMAT_REGISTER_ONLY     (1u << 14) /* invalid with ModRM.mod != 3 */
#define FORMAT_GROUP             (1u << 15) /* validity depends on ModRM: see opcode_groups and x87 */

static inline enum immediate_format format_immediate(unsigned format)
{
    return (enum immediate_format)(format >> 1 & 0xF);
}

static inline enum operand_size format_size(unsigned format)
{
    return (enum operand_size)(format >> 5 & 0x7);
}

/* For each mandatory prefix, the values of ModRM.reg (bit n: /n) that are defined with and without memory. */
struct opcode_group {
    u8 map;
    u8 opcode;
    u8 memory[MANDATORY_PREFIXES];
    u8 reg[MANDATORY_PREFIXES];
};

#define OPCODE_GROUPS 29u

/* Indexed by enum opcode_map, then by opcode. */
extern const u16 opcode_formats[4][256];
extern const struct opcode_group opcode_groups[OPCODE_GROUPS];

/* 0F 01 with mod = 3, by the low 6 bits of ModRM: bit n is set if it is defined with mandatory prefix n. */
extern const u8 group7_register_prefixes[64];

/* D8..DF by the low 3 bits of the opcode: bit n is ModRM.reg with memory, ModRM's low 6 bits without. */
extern const u8 x87_memory[8];
extern const u64 x87_register[8];

#endif
