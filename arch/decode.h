/* SPDX-License-Identifier: MIT */
/*
 * The x86 instruction decoder: how long an instruction is and what its parts are (SDM volume 2, chapter 2 and
 * appendix A; APM volume 3, chapter 1). It is pure: it looks at the bytes it is given and at nothing else, it
 * neither executes nor fetches, and it keeps no state.
 */
#ifndef UMBRA_ARCH_DECODE_H
#define UMBRA_ARCH_DECODE_H

#include "arch/types.h"

/* No instruction is longer; a longer one raises #GP (SDM volume 2, section 2.3.11). */
#define INSTRUCTION_MAX_BYTES 15u

/* The default operand and address size of the code segment: CS.L with EFER.LMA, else CS.D. */
enum decode_mode {
    DECODE_MODE_16,
    DECODE_MODE_32,
    DECODE_MODE_64,
};

enum decode_status {
    DECODE_OK,
    DECODE_NEED_MORE, /* the bytes end before the instruction does */
    DECODE_INVALID,   /* an opcode that is not defined in this mode */
    DECODE_TOO_LONG,  /* the instruction would need more than INSTRUCTION_MAX_BYTES */
};

enum instruction_encoding {
    ENCODING_LEGACY,
    ENCODING_VEX,
    ENCODING_EVEX,
    ENCODING_XOP,
};

/* The opcode maps of the legacy encoding; VEX, EVEX and XOP use their own map numbers (1 to 10). */
enum opcode_map {
    OPCODE_MAP_PRIMARY = 0,
    OPCODE_MAP_0F = 1,
    OPCODE_MAP_0F38 = 2,
    OPCODE_MAP_0F3A = 3,
};

/* The encoding of segment registers in ModRM.reg (SDM volume 2, section 2.1.5 and appendix B). */
enum instruction_segment {
    SEGMENT_ES,
    SEGMENT_CS,
    SEGMENT_SS,
    SEGMENT_DS,
    SEGMENT_FS,
    SEGMENT_GS,
};

/* General-purpose register numbers are the hardware's: rax rcx rdx rbx rsp rbp rsi rdi r8..r15. */
#define REGISTER_NONE 0xFFu

/*
 * The explicit memory operand: by ModRM, or the direct offset of MOV A0..A3. Implicit ones (string
 * instructions, XLAT, PUSH and POP) are not described. LEA and the hint NOPs have one without accessing it.
 */
struct memory_operand {
    bool present;
    bool rip_relative;                /* displacement counts from the next instruction */
    enum instruction_segment segment; /* with the override applied; in 64-bit mode only FS and GS override */
    u8 base;                          /* register number or REGISTER_NONE */
    u8 index;                         /* register number or REGISTER_NONE */
    u8 scale;                         /* 1, 2, 4 or 8: the factor of index */
    i64 displacement;                 /* sign-extended; the 64-bit offset of A0..A3 in full */
};

struct instruction {
    u8 length; /* bytes, 1..15 */
    enum instruction_encoding encoding;
    u8 map; /* enum opcode_map for the legacy encoding */
    u8 opcode;

    bool lock;
    bool rep;                 /* F3 is the last of the F2 and F3 prefixes */
    bool repne;               /* F2 is */
    bool operand_size_prefix; /* 66 */
    bool address_size_prefix; /* 67 */
    bool segment_override;    /* memory.segment comes from a prefix that counts in this mode */
    u8 rex;                   /* the REX byte that counts, 40..4F, or 0 */

    bool has_modrm;
    u8 mod; /* 3 for MOV to and from CR and DR, which ignore the field */
    u8 reg; /* 0..15 with REX.R; as an opcode extension use its low three bits */
    u8 rm;  /* 0..15 with REX.B; a register number if mod is 3 */

    u8 operand_bytes; /* effective operand size of a general-purpose instruction: 1, 2, 4 or 8 */
    u8 address_bytes; /* effective address size: 2, 4 or 8 */
    struct memory_operand memory;

    u8 immediate_bytes;        /* encoded size, 0 if none: 1, 2, 4 or 8 */
    i64 immediate;             /* sign-extended from its encoded size; the offset of a far pointer */
    u8 second_immediate_bytes; /* ENTER, EXTRQ, INSERTQ: 1; far pointer: 2; else 0 */
    u16 second_immediate;      /* the nesting level, the index, the selector */
};

/*
 * Decodes the instruction at bytes[0..count), of which at most the first INSTRUCTION_MAX_BYTES are read;
 * count may be 0. *insn is complete if DECODE_OK is returned and unspecified otherwise.
 *
 * DECODE_OK does not promise that a CPU executes the instruction: neither features, CPL, the legality of
 * LOCK, nor the register numbers of MOV CR, DR and segment registers are judged. For VEX, EVEX and XOP the
 * opcode itself is not judged either, and only length, prefixes, encoding, map, opcode, ModRM fields (not
 * extended), address size and immediate are reported. A 66 prefix before a near branch is ignored in 64-bit
 * mode, as on Intel CPUs. REX2, EVEX map 4 (APX) and map 7 are reported as invalid.
 */
enum decode_status decode_instruction(const u8 *bytes, size_t count, enum decode_mode mode,
                                      struct instruction *insn);

#endif
