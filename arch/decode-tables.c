/* SPDX-License-Identifier: MIT */
/*
 * The opcode maps of SDM volume 2, appendix A (tables) and of APM volume 3, appendix A, as the
 * decoder needs them. Opcodes that only Intel or only AMD defines are here, too: a CPU that lacks them raises
 * #UD itself. Constant data only.
 */
#include "arch/decode-tables.h"

#define NP  FORMAT_PREFIX(PREFIX_NP)
#define P66 FORMAT_PREFIX(PREFIX_66)
#define PF3 FORMAT_PREFIX(PREFIX_F3)
#define PF2 FORMAT_PREFIX(PREFIX_F2)

/* Prefix sets: instructions without mandatory prefix take all; MMX with its SSE2 twin; SSE with its four
 * forms. */
#define ANY         (NP | P66 | PF3 | PF2)
#define MMX         (NP | P66 | FORMAT_MODRM)
#define PD          (P66 | FORMAT_MODRM)
#define PS          (NP | FORMAT_MODRM)
#define SSE         (ANY | FORMAT_MODRM)
#define MEM         FORMAT_MEMORY_ONLY
#define REG         FORMAT_REGISTER_ONLY
#define NO64        FORMAT_NOT_64
#define IMM(format) FORMAT_IMMEDIATE(IMMEDIATE_##format)
#define SIZE(size)  FORMAT_SIZE(SIZE_##size)

/* The usual operand forms: ModRM with operands of operand size (V) or of one byte (B). */
#define EV    (ANY | FORMAT_MODRM)
#define EB    (ANY | FORMAT_MODRM | SIZE(BYTE))
#define GROUP (ANY | FORMAT_MODRM | FORMAT_GROUP)
#define REL8  (ANY | IMM(B) | SIZE(BRANCH))
#define RELZ  (ANY | IMM(Z) | SIZE(BRANCH))

/* ADD, OR, ADC, SBB, AND, SUB, XOR, CMP: six forms each. */
#define ARITHMETIC(first)                                                                                    \
    [first] = EB, [first + 1] = EV, [first + 2] = EB, [first + 3] = EV,                                      \
    [first + 4] = ANY | IMM(B) | SIZE(BYTE), [first + 5] = ANY | IMM(Z)

const u16 opcode_formats[4][256] =
    {
        /* Table A-2, one-byte opcodes. Prefixes, escapes and vector encodings are never looked up. */
        [0] =
            {
                ARITHMETIC(0x00),
                ARITHMETIC(0x08),
                ARITHMETIC(0x10),
                ARITHMETIC(0x18),
                ARITHMETIC(0x20),
                ARITHMETIC(0x28),
                ARITHMETIC(0x30),
                ARITHMETIC(0x38),
                [0x06] = ANY | SIZE(STACK) | NO64,
                [0x07] = ANY | SIZE(STACK) | NO64,
                [0x0E] = ANY | SIZE(STACK) | NO64,
                [0x16] = ANY | SIZE(STACK) | NO64,
                [0x17] = ANY | SIZE(STACK) | NO64,
                [0x1E] = ANY | SIZE(STACK) | NO64,
                [0x1F] = ANY | SIZE(STACK) | NO64,
                [0x27] = ANY | NO64,
                [0x2F] = ANY | NO64,
                [0x37] = ANY | NO64,
                [0x3F] = ANY | NO64,
                [0x40 ... 0x4F] = ANY | NO64, /* REX in 64-bit mode */
                [0x50 ... 0x5F] = ANY | SIZE(STACK),
                [0x60 ... 0x61] = ANY | NO64,
                [0x62] = EV | MEM | NO64, /* BOUND */
                [0x63] = EV,              /* MOVSXD, ARPL */
                [0x68] = ANY | IMM(Z) | SIZE(STACK),
                [0x69] = EV | IMM(Z),
                [0x6A] = ANY | IMM(B) | SIZE(STACK),
                [0x6B] = EV | IMM(B),
                [0x6C] = ANY | SIZE(BYTE),
                [0x6D] = ANY | SIZE(Z),
                [0x6E] = ANY | SIZE(BYTE),
                [0x6F] = ANY | SIZE(Z),
                [0x70 ... 0x7F] = REL8,
                [0x80] = EB | IMM(B),
                [0x81] = EV | IMM(Z),
                [0x82] = EB | IMM(B) | NO64,
                [0x83] = EV | IMM(B),
                [0x84] = EB,
                [0x85] = EV,
                [0x86] = EB,
                [0x87] = EV,
                [0x88] = EB,
                [0x89] = EV,
                [0x8A] = EB,
                [0x8B] = EV,
                [0x8C] = GROUP,
                [0x8D] = EV | MEM, /* LEA */
                [0x8E] = GROUP,
                [0x8F] = GROUP | SIZE(STACK),
                [0x90 ... 0x99] = ANY,
                [0x9A] = ANY | IMM(FAR) | SIZE(Z) | NO64,
                [0x9B] = ANY,
                [0x9C ... 0x9D] = ANY | SIZE(STACK),
                [0x9E ... 0x9F] = ANY,
                [0xA0] = ANY | IMM(OFFSET) | SIZE(BYTE),
                [0xA1] = ANY | IMM(OFFSET),
                [0xA2] = ANY | IMM(OFFSET) | SIZE(BYTE),
                [0xA3] = ANY | IMM(OFFSET),
                [0xA4] = ANY | SIZE(BYTE),
                [0xA5] = ANY,
                [0xA6] = ANY | SIZE(BYTE),
                [0xA7] = ANY,
                [0xA8] = ANY | IMM(B) | SIZE(BYTE),
                [0xA9] = ANY | IMM(Z),
                [0xAA] = ANY | SIZE(BYTE),
                [0xAB] = ANY,
                [0xAC] = ANY | SIZE(BYTE),
                [0xAD] = ANY,
                [0xAE] = ANY | SIZE(BYTE),
                [0xAF] = ANY,
                [0xB0 ... 0xB7] = ANY | IMM(B) | SIZE(BYTE),
                [0xB8 ... 0xBF] = ANY | IMM(V),
                [0xC0] = EB | IMM(B),
                [0xC1] = EV | IMM(B),
                [0xC2] = ANY | IMM(W) | SIZE(BRANCH),
                [0xC3] = ANY | SIZE(BRANCH),
                [0xC4 ... 0xC5] = EV | MEM | NO64, /* LES, LDS */
                [0xC6] = GROUP | IMM(B) | SIZE(BYTE),
                [0xC7] = GROUP | IMM(Z),
                [0xC8] = ANY | IMM(WB) | SIZE(STACK),
                [0xC9] = ANY | SIZE(STACK),
                [0xCA] = ANY | IMM(W),
                [0xCB] = ANY,
                [0xCC] = ANY,
                [0xCD] = ANY | IMM(B),
                [0xCE] = ANY | NO64,
                [0xCF] = ANY,
                [0xD0] = EB,
                [0xD1] = EV,
                [0xD2] = EB,
                [0xD3] = EV,
                [0xD4 ... 0xD5] = ANY | IMM(B) | NO64,
                [0xD6] = ANY | NO64, /* SALC */
                [0xD7] = ANY | SIZE(BYTE),
                [0xD8 ... 0xDF] = GROUP,
                [0xE0 ... 0xE3] = REL8,
                [0xE4] = ANY | IMM(B) | SIZE(BYTE),
                [0xE5] = ANY | IMM(B) | SIZE(Z),
                [0xE6] = ANY | IMM(B) | SIZE(BYTE),
                [0xE7] = ANY | IMM(B) | SIZE(Z),
                [0xE8 ... 0xE9] = RELZ,
                [0xEA] = ANY | IMM(FAR) | SIZE(Z) | NO64,
                [0xEB] = REL8,
                [0xEC] = ANY | SIZE(BYTE),
                [0xED] = ANY | SIZE(Z),
                [0xEE] = ANY | SIZE(BYTE),
                [0xEF] = ANY | SIZE(Z),
                [0xF1] = ANY,
                [0xF4 ... 0xF5] = ANY,
                [0xF6] = EB | IMM(TEST_B),
                [0xF7] = EV | IMM(TEST_Z),
                [0xF8 ... 0xFD] = ANY,
                [0xFE] = GROUP | SIZE(BYTE),
                [0xFF] = GROUP | SIZE(GROUP5),
            },
        /* Table A-3, 0F. */
        [1] =
            {
                [0x00 ... 0x01] = GROUP,
                [0x02 ... 0x03] = EV,
                [0x05 ... 0x09] = ANY,
                [0x0B] = ANY,
                [0x0D] = EV,
                [0x0E] = ANY,         /* FEMMS */
                [0x0F] = EV | IMM(B), /* 3DNow!: the opcode proper comes last and is not judged */
                [0x10 ... 0x11] = SSE,
                [0x12] = GROUP,
                [0x13] = MMX | MEM,
                [0x14 ... 0x15] = MMX,
                [0x16] = GROUP,
                [0x17] = MMX | MEM,
                [0x18 ... 0x1F] = EV, /* prefetches, MPX, CET, multi-byte NOP: NOPs where not implemented */
                [0x20 ... 0x23] = EV | SIZE(MACHINE),
                [0x28 ... 0x29] = MMX,
                [0x2A] = SSE,
                [0x2B] = SSE | MEM,
                [0x2C ... 0x2D] = SSE,
                [0x2E ... 0x2F] = MMX,
                [0x30 ... 0x35] = ANY,
                [0x37] = NP, /* GETSEC */
                [0x40 ... 0x4F] = EV,
                [0x50] = MMX | REG,
                [0x51] = SSE,
                [0x52 ... 0x53] = PS | PF3,
                [0x54 ... 0x57] = MMX,
                [0x58 ... 0x5A] = SSE,
                [0x5B] = MMX | PF3,
                [0x5C ... 0x5F] = SSE,
                [0x60 ... 0x6B] = MMX,
                [0x6C ... 0x6D] = PD,
                [0x6E] = MMX,
                [0x6F] = MMX | PF3,
                [0x70] = SSE | IMM(B),
                [0x71 ... 0x73] = GROUP | IMM(B),
                [0x74 ... 0x76] = MMX,
                [0x77] = NP,
                [0x78] = GROUP | IMM(SSE4A) | SIZE(MACHINE), /* VMREAD */
                [0x79] = GROUP | SIZE(MACHINE),              /* VMWRITE */
                [0x7C ... 0x7D] = PD | PF2,
                [0x7E ... 0x7F] = MMX | PF3,
                [0x80 ... 0x8F] = RELZ,
                [0x90 ... 0x9F] = EB,
                [0xA0 ... 0xA1] = ANY | SIZE(STACK),
                [0xA2] = ANY, /* CPUID */
                [0xA3] = EV,
                [0xA4] = EV | IMM(B),
                [0xA5] = EV,
                [0xA8 ... 0xA9] = ANY | SIZE(STACK),
                [0xAA] = ANY,
                [0xAB] = EV,
                [0xAC] = EV | IMM(B),
                [0xAD] = EV,
                [0xAE] = GROUP,
                [0xAF] = EV,
                [0xB0] = EB,
                [0xB1] = EV,
                [0xB2] = EV | MEM,
                [0xB3] = EV,
                [0xB4 ... 0xB5] = EV | MEM,
                [0xB6 ... 0xB7] = EV, /* MOVZX: the operand size is the destination's */
                [0xB8] = FORMAT_MODRM | PF3,
                [0xB9] = EV, /* UD1 */
                [0xBA] = GROUP | IMM(B),
                [0xBB ... 0xBF] = EV,
                [0xC0] = EB,
                [0xC1] = EV,
                [0xC2] = SSE | IMM(B),
                [0xC3] = PS | MEM, /* MOVNTI */
                [0xC4] = MMX | IMM(B),
                [0xC5] = MMX | IMM(B) | REG,
                [0xC6] = MMX | IMM(B),
                [0xC7] = GROUP,
                [0xC8 ... 0xCF] = ANY,
                [0xD0] = PD | PF2,
                [0xD1 ... 0xD5] = MMX,
                [0xD6] = GROUP,
                [0xD7] = MMX | REG,
                [0xD8 ... 0xE5] = MMX,
                [0xE6] = PD | PF3 | PF2,
                [0xE7] = MMX | MEM,
                [0xE8 ... 0xEF] = MMX,
                [0xF0] = FORMAT_MODRM | PF2 | MEM, /* LDDQU */
                [0xF1 ... 0xF6] = MMX,
                [0xF7] = MMX | REG,
                [0xF8 ... 0xFE] = MMX,
                [0xFF] = EV, /* UD0, with ModRM as on Intel CPUs */
            },
        /* Table A-4, 0F 38. */
        [2] =
            {
                [0x00 ... 0x0B] = MMX,
                [0x10] = PD,
                [0x14 ... 0x15] = PD,
                [0x17] = PD,
                [0x1C ... 0x1E] = MMX,
                [0x20 ... 0x25] = PD,
                [0x28 ... 0x29] = PD,
                [0x2A] = PD | MEM,
                [0x2B] = PD,
                [0x30 ... 0x35] = PD,
                [0x37 ... 0x41] = PD,
                [0x80 ... 0x82] = PD | MEM | SIZE(MACHINE), /* INVEPT, INVVPID, INVPCID */
                [0xC8 ... 0xCD] = PS,
                [0xCF] = PD,
                [0xD8] = GROUP,
                [0xDB] = PD,
                [0xDC ... 0xDF] = GROUP,
                [0xF0 ... 0xF1] = GROUP, /* MOVBE, CRC32 */
                [0xF5] = PD | MEM,
                [0xF6] = GROUP,
                [0xF8] = FORMAT_MODRM | P66 | PF3 | PF2 | MEM,
                [0xF9] = PS | MEM,
                [0xFA ... 0xFB] = FORMAT_MODRM | PF3 | REG,
            },
        /* Table A-5, 0F 3A. */
        [3] =
            {
                [0x08 ... 0x0E] = PD | IMM(B),
                [0x0F] = MMX | IMM(B),
                [0x14 ... 0x17] = PD | IMM(B),
                [0x20 ... 0x22] = PD | IMM(B),
                [0x40 ... 0x42] = PD | IMM(B),
                [0x44] = PD | IMM(B),
                [0x60 ... 0x63] = PD | IMM(B),
                [0xCC] = PS | IMM(B),
                [0xCE ... 0xCF] = PD | IMM(B),
                [0xDF] = PD | IMM(B),
                [0xF0] = GROUP | IMM(B), /* HRESET */
            },
};

#define ALL(mask)                                                                                            \
    {                                                                                                        \
        mask, mask, mask, mask                                                                               \
    }
#define NONE_VALID                                                                                           \
    {                                                                                                        \
        0, 0, 0, 0                                                                                           \
    }

/* Table A-6 and the opcodes whose prefixes differ between memory and register forms: {NP, 66, F3, F2}. */
const struct opcode_group opcode_groups[OPCODE_GROUPS] = {
    {0, 0x8C, ALL(0x3F), ALL(0x3F)},
    {0, 0x8E, ALL(0x3D), ALL(0x3D)}, /* CS cannot be loaded */
    {0, 0x8F, ALL(0x01), ALL(0x01)},
    {0, 0xC6, ALL(0x01), ALL(0x01)},
    {0, 0xC7, ALL(0x01), ALL(0x01)},
    {0, 0xFE, ALL(0x03), ALL(0x03)},
    {0, 0xFF, ALL(0x7F), ALL(0x57)},
    {1, 0x00, {0x3F, 0x3F, 0x3F, 0x7F}, {0x3F, 0x3F, 0x3F, 0x7F}},
    {1, 0x01, {0xDF, 0xDF, 0xFF, 0xDF}, NONE_VALID},
    {1, 0x12, ALL(0xFF), {0xFF, 0x00, 0xFF, 0xFF}},
    {1, 0x16, {0xFF, 0xFF, 0xFF, 0x00}, {0xFF, 0x00, 0xFF, 0x00}},
    {1, 0x71, NONE_VALID, {0x54, 0x54, 0x00, 0x00}},
    {1, 0x72, NONE_VALID, {0x54, 0x54, 0x00, 0x00}},
    {1, 0x73, NONE_VALID, {0x44, 0xCC, 0x00, 0x00}},
    {1, 0x78, {0xFF, 0x00, 0x00, 0x00}, {0xFF, 0x01, 0x00, 0xFF}},
    {1, 0x79, {0xFF, 0x00, 0x00, 0x00}, {0xFF, 0xFF, 0x00, 0xFF}},
    {1, 0xAE, {0xFF, 0xC0, 0x50, 0x00}, {0xE0, 0x40, 0x7F, 0x40}},
    {1, 0xBA, ALL(0xF0), ALL(0xF0)},
    {1, 0xC7, {0xFA, 0x42, 0x42, 0x02}, {0xC0, 0xC0, 0xC0, 0x00}},
    {1, 0xD6, {0x00, 0xFF, 0x00, 0x00}, {0x00, 0xFF, 0xFF, 0xFF}},
    {2, 0xD8, {0x00, 0x00, 0x0F, 0x00}, NONE_VALID},
    {2, 0xDC, {0x00, 0xFF, 0xFF, 0x00}, {0x00, 0xFF, 0xFF, 0x00}},
    {2, 0xDD, {0x00, 0xFF, 0xFF, 0x00}, {0x00, 0xFF, 0x00, 0x00}},
    {2, 0xDE, {0x00, 0xFF, 0xFF, 0x00}, {0x00, 0xFF, 0x00, 0x00}},
    {2, 0xDF, {0x00, 0xFF, 0xFF, 0x00}, {0x00, 0xFF, 0x00, 0x00}},
    {2, 0xF0, {0xFF, 0xFF, 0x00, 0xFF}, {0x00, 0x00, 0x00, 0xFF}},
    {2, 0xF1, {0xFF, 0xFF, 0x00, 0xFF}, {0x00, 0x00, 0x00, 0xFF}},
    {2, 0xF6, {0xFF, 0xFF, 0xFF, 0x00}, {0x00, 0xFF, 0xFF, 0x00}},
    {3, 0xF0, NONE_VALID, {0x00, 0x00, 0x01, 0x00}},
};

/*
 * Table A-6, group 7. The manuals disagree about prefixes before XGETBV, XSETBV and AMD's own instructions
 * (the APM forbids none): whatever some CPU may have executed is accepted.
 */
const u8 group7_register_prefixes[64] = {
    [0x00 ... 0x05] = 0x1, /* ENCLV, VMCALL, VMLAUNCH, VMRESUME, VMXOFF, PCONFIG */
    [0x06] = 0xD,          /* WRMSRNS, WRMSRLIST, RDMSRLIST */
    [0x08 ... 0x09] = 0x1, /* MONITOR, MWAIT */
    [0x0A] = 0xD,          /* CLAC, ERETU, ERETS */
    [0x0B] = 0x1,          /* STAC */
    [0x0C ... 0x0E] = 0x2, /* TDCALL, SEAMRET, SEAMOPS */
    [0x0F] = 0x3,          /* ENCLS, SEAMCALL */
    [0x10 ... 0x11] = 0xF, /* XGETBV, XSETBV */
    [0x14 ... 0x17] = 0x1, /* VMFUNC, XEND, XTEST, ENCLU */
    [0x18 ... 0x1F] = 0xF, /* SVM: VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, INVLPGA */
    [0x20 ... 0x27] = 0xF, /* SMSW */
    [0x28] = 0xD,          /* SERIALIZE, SETSSBSY, XSUSLDTRK */
    [0x29] = 0x8,          /* XRESLDTRK */
    [0x2A] = 0x4,          /* SAVEPREVSSP */
    [0x2C ... 0x2D] = 0x4, /* UIRET, TESTUI */
    [0x2E ... 0x2F] = 0x5, /* RDPKRU, WRPKRU; CLUI, STUI */
    [0x30 ... 0x37] = 0xF, /* LMSW */
    [0x38 ... 0x3F] = 0xF, /* SWAPGS, RDTSCP, MONITORX, MWAITX, CLZERO, RDPRU, INVLPGB, TLBSYNC */
};

/* Tables, with the aliases that all CPUs execute though the manual leaves them blank. */
const u8 x87_memory[8] = {0xFF, 0xFD, 0xFF, 0xAF, 0xFF, 0xDF, 0xFF, 0xFF};

const u64 x87_register[8] = {
    0xFFFFFFFFFFFFFFFF, 0xFFFF7F33FF01FFFF, 0x00000200FFFFFFFF, 0x00FFFF1FFFFFFFFF,
    0xFFFFFFFFFFFFFFFF, 0x0000FFFFFFFFFFFF, 0xFFFFFFFF02FFFFFF, 0x00FFFF01FFFFFFFF,
};
