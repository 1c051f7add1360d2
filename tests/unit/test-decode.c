/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder against vectors made by hand from the encoding rules of SDM volume 2, chapter 2 and
 * appendix A. Every valid vector is also cut off at each of its bytes, in a heap block of just that size, so
 * that the address sanitizer sees a read past what was given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/decode.h"
#include "arch/x86.h"

#define M16 DECODE_MODE_16
#define M32 DECODE_MODE_32
#define M64 DECODE_MODE_64

static enum decode_status decode_exact(const u8 *bytes, size_t count, enum decode_mode mode,
                                       struct instruction *insn)
{
    u8 *block = malloc(count != 0 ? count : 1);
    enum decode_status status;

    assert_non_null(block);
    memcpy(block, bytes, count);
    status = decode_instruction(block, count, mode, insn);
    free(block);
    return status;
}

/* Bytes behind the instruction change nothing; each shorter string asks for more. */
static struct instruction decode_whole(const u8 *bytes, size_t count, enum decode_mode mode)
{
    struct instruction insn;
    struct instruction with_tail;
    u8 tail[INSTRUCTION_MAX_BYTES + 1];

    for (size_t shorter = 0; shorter < count; shorter++)
        assert_int_equal(decode_exact(bytes, shorter, mode, &insn), DECODE_NEED_MORE);
    memset(tail, 0xFF, sizeof(tail));
    memcpy(tail, bytes, count);
    assert_int_equal(decode_exact(tail, sizeof(tail), mode, &with_tail), DECODE_OK);
    assert_int_equal(decode_exact(bytes, count, mode, &insn), DECODE_OK);
    assert_int_equal(insn.length, count);
    assert_int_equal(with_tail.length, count);
    assert_int_equal(with_tail.immediate, insn.immediate);
    assert_int_equal(with_tail.memory.displacement, insn.memory.displacement);
    return insn;
}

static enum decode_status decode_status_of(const u8 *bytes, size_t count, enum decode_mode mode)
{
    struct instruction insn;

    return decode_exact(bytes, count, mode, &insn);
}

#define BYTES(...)                ((const u8[]){__VA_ARGS__})
#define DECODE(mode, ...)         decode_whole(BYTES(__VA_ARGS__), sizeof(BYTES(__VA_ARGS__)), mode)
#define STATUS(mode, ...)         decode_status_of(BYTES(__VA_ARGS__), sizeof(BYTES(__VA_ARGS__)), mode)

#define assert_invalid(mode, ...) assert_int_equal(STATUS(mode, __VA_ARGS__), DECODE_INVALID)

static void assert_opcode(struct instruction insn, enum opcode_map map, u8 opcode)
{
    assert_int_equal(insn.encoding, ENCODING_LEGACY);
    assert_int_equal(insn.map, map);
    assert_int_equal(insn.opcode, opcode);
}

static void assert_memory(struct instruction insn, enum instruction_segment segment, u8 base, u8 index,
                          u8 scale, i64 displacement)
{
    assert_true(insn.memory.present);
    assert_int_equal(insn.memory.segment, segment);
    assert_int_equal(insn.memory.base, base);
    assert_int_equal(insn.memory.index, index);
    assert_int_equal(insn.memory.scale, scale);
    assert_int_equal(insn.memory.displacement, displacement);
}

/* What SVM intercepts and a CPU without next-RIP save leaves to the decoder. */
static void intercepted_instructions(void **state)
{
    (void)state;
    for (unsigned mode = M16; mode <= M64; mode++) {
        struct instruction insn = DECODE(mode, 0x0F, 0x01, 0xD9); /* VMMCALL */

        assert_opcode(insn, OPCODE_MAP_0F, 0x01);
        assert_int_equal(insn.reg << 3 | insn.rm, 0x19);
        assert_false(insn.memory.present);
        assert_opcode(DECODE(mode, 0x0F, 0xA2), OPCODE_MAP_0F, 0xA2); /* CPUID */
        assert_opcode(DECODE(mode, 0x66, 0x2E, 0xF3, 0x0F, 0xA2), OPCODE_MAP_0F, 0xA2);
        assert_opcode(DECODE(mode, 0x0F, 0x30), OPCODE_MAP_0F, 0x30);       /* WRMSR */
        assert_opcode(DECODE(mode, 0x67, 0x0F, 0x32), OPCODE_MAP_0F, 0x32); /* RDMSR */
        assert_opcode(DECODE(mode, 0x0F, 0x01, 0xD1), OPCODE_MAP_0F, 0x01); /* XSETBV */
        assert_opcode(DECODE(mode, 0x0F, 0x08), OPCODE_MAP_0F, 0x08);       /* INVD */
        assert_opcode(DECODE(mode, 0x0F, 0x09), OPCODE_MAP_0F, 0x09);       /* WBINVD */
        assert_opcode(DECODE(mode, 0xF4), OPCODE_MAP_PRIMARY, 0xF4);        /* HLT */
        assert_opcode(DECODE(mode, 0x0F, 0x33), OPCODE_MAP_0F, 0x33);       /* RDPMC */
        assert_opcode(DECODE(mode, 0x0F, 0x01, 0xF9), OPCODE_MAP_0F, 0x01); /* RDTSCP */
        assert_opcode(DECODE(mode, 0x0F, 0x01, 0xC1), OPCODE_MAP_0F, 0x01); /* VMCALL */
        for (unsigned svm = 0xD8; svm <= 0xDF; svm++)
            assert_opcode(DECODE(mode, 0x36, 0x0F, 0x01, (u8)svm), OPCODE_MAP_0F, 0x01);
    }
    assert_int_equal(DECODE(M64, 0x48, 0x0F, 0xA2).rex, 0x48);
    assert_opcode(DECODE(M32, 0x48), OPCODE_MAP_PRIMARY, 0x48); /* DEC: no REX here */
}

static void prefixes(void **state)
{
    struct instruction insn;

    (void)state;
    insn = DECODE(M64, 0xF0, 0x66, 0x67, 0x64, 0x4D, 0x0F, 0xB1, 0x0A); /* LOCK CMPXCHG fs:[r10d], r9 */
    assert_true(insn.lock && insn.operand_size_prefix && insn.address_size_prefix && insn.segment_override);
    assert_int_equal(insn.rex, 0x4D);
    assert_int_equal(insn.operand_bytes, 8);
    assert_int_equal(insn.address_bytes, 4);
    assert_int_equal(insn.reg, GPR_R9);
    assert_memory(insn, SEGMENT_FS, GPR_R10, REGISTER_NONE, 1, 0);

    insn = DECODE(M64, 0x48, 0x66, 0x89, 0x03); /* a REX not right before the opcode is void */
    assert_int_equal(insn.rex, 0);
    assert_int_equal(insn.operand_bytes, 2);
    insn = DECODE(M64, 0x48, 0x41, 0x89, 0x03); /* of two, the last counts */
    assert_int_equal(insn.rex, 0x41);
    assert_int_equal(insn.operand_bytes, 4);
    assert_int_equal(insn.memory.base, GPR_R11);

    insn = DECODE(M32, 0xF3, 0xF2, 0xA4);
    assert_true(insn.repne && !insn.rep);
    insn = DECODE(M32, 0xF2, 0xF3, 0xA4);
    assert_true(insn.rep && !insn.repne);

    assert_int_equal(DECODE(M32, 0x26, 0x65, 0x8B, 0x00).memory.segment, SEGMENT_GS);
    assert_int_equal(DECODE(M32, 0x65, 0x26, 0x8B, 0x00).memory.segment, SEGMENT_ES);
    assert_int_equal(DECODE(M32, 0x2E, 0x8B, 0x45, 0x00).memory.segment, SEGMENT_CS);
    assert_int_equal(DECODE(M32, 0x36, 0x8B, 0x00).memory.segment, SEGMENT_SS);
    assert_int_equal(DECODE(M32, 0x3E, 0x8B, 0x45, 0x00).memory.segment, SEGMENT_DS);
    insn = DECODE(M64, 0x65, 0x26, 0x8B, 0x00); /* ES does not count in 64-bit mode, nor does it undo GS */
    assert_int_equal(insn.memory.segment, SEGMENT_GS);
    assert_false(DECODE(M64, 0x26, 0x8B, 0x00).segment_override);
}

/* SDM volume 2, table 2-1: all eight forms with each displacement. */
static void memory_16(void **state)
{
    static const struct {
        u8 base, index;
        enum instruction_segment segment;
    } form[8] = {
        {GPR_RBX, GPR_RSI, SEGMENT_DS},       {GPR_RBX, GPR_RDI, SEGMENT_DS},
        {GPR_RBP, GPR_RSI, SEGMENT_SS},       {GPR_RBP, GPR_RDI, SEGMENT_SS},
        {GPR_RSI, REGISTER_NONE, SEGMENT_DS}, {GPR_RDI, REGISTER_NONE, SEGMENT_DS},
        {GPR_RBP, REGISTER_NONE, SEGMENT_SS}, {GPR_RBX, REGISTER_NONE, SEGMENT_DS},
    };

    (void)state;
    for (u8 rm = 0; rm < 8; rm++) {
        u8 mod1 = 0x40 | rm;
        u8 mod2 = 0x80 | rm;

        if (rm != 6)
            assert_memory(DECODE(M16, 0x8B, rm), form[rm].segment, form[rm].base, form[rm].index, 1, 0);
        assert_memory(DECODE(M16, 0x8B, mod1, 0xFE), form[rm].segment, form[rm].base, form[rm].index, 1, -2);
        assert_memory(DECODE(M16, 0x8B, mod2, 0x34, 0x92), form[rm].segment, form[rm].base, form[rm].index, 1,
                      (int16_t)0x9234);
    }
    assert_memory(DECODE(M16, 0x8B, 0x06, 0x34, 0x12), SEGMENT_DS, REGISTER_NONE, REGISTER_NONE, 1, 0x1234);
    assert_int_equal(DECODE(M16, 0x8B, 0x00).operand_bytes, 2);
    assert_int_equal(DECODE(M16, 0x66, 0x8B, 0x00).operand_bytes, 4);
    assert_int_equal(DECODE(M16, 0x66, 0x8B, 0x00).address_bytes, 2);
    assert_memory(DECODE(M32, 0x67, 0x8B, 0x42, 0x01), SEGMENT_SS, GPR_RBP, GPR_RSI, 1, 1);
}

/* SDM volume 2, tables 2-2 and 2-3. */
static void memory_32(void **state)
{
    struct instruction insn;

    (void)state;
    assert_memory(DECODE(M32, 0x8B, 0x03), SEGMENT_DS, GPR_RBX, REGISTER_NONE, 1, 0);
    assert_memory(DECODE(M32, 0x8B, 0x45, 0x80), SEGMENT_SS, GPR_RBP, REGISTER_NONE, 1, -128);
    assert_memory(DECODE(M32, 0x8B, 0x86, 1, 0, 0, 0x80), SEGMENT_DS, GPR_RSI, REGISTER_NONE, 1,
                  (int32_t)0x80000001);
    insn = DECODE(M32, 0x8B, 0x05, 0, 0, 0xE0, 0xFE);
    assert_memory(insn, SEGMENT_DS, REGISTER_NONE, REGISTER_NONE, 1, (int32_t)0xFEE00000);
    assert_false(insn.memory.rip_relative);
    assert_memory(DECODE(M32, 0x8B, 0x04, 0xB3), SEGMENT_DS, GPR_RBX, GPR_RSI, 4, 0);
    assert_memory(DECODE(M32, 0x8B, 0x04, 0x24), SEGMENT_SS, GPR_RSP, REGISTER_NONE, 1, 0);
    assert_memory(DECODE(M32, 0x8B, 0x04, 0xE4), SEGMENT_SS, GPR_RSP, REGISTER_NONE, 1, 0);
    assert_memory(DECODE(M32, 0x8B, 0x04, 0xED, 1, 2, 3, 4), SEGMENT_DS, REGISTER_NONE, GPR_RBP, 8,
                  0x04030201);
    assert_memory(DECODE(M32, 0x8B, 0x44, 0x6D, 0x10), SEGMENT_SS, GPR_RBP, GPR_RBP, 2, 0x10);
    assert_memory(DECODE(M16, 0x67, 0x8B, 0x84, 0x18, 1, 0, 0, 0), SEGMENT_DS, GPR_RAX, GPR_RBX, 1, 1);
}

static void memory_64(void **state)
{
    struct instruction insn;

    (void)state;
    insn = DECODE(M64, 0x8B, 0x05, 0xF0, 0xFF, 0xFF, 0xFF);
    assert_memory(insn, SEGMENT_DS, REGISTER_NONE, REGISTER_NONE, 1, -16);
    assert_true(insn.memory.rip_relative);
    assert_true(
        DECODE(M64, 0x41, 0x8B, 0x05, 0, 0, 0, 0).memory.rip_relative); /* REX.B does not matter to rm 5 */
    insn = DECODE(M64, 0x8B, 0x04, 0x25, 0, 0, 0xE0, 0xFE);
    assert_memory(insn, SEGMENT_DS, REGISTER_NONE, REGISTER_NONE, 1, (int32_t)0xFEE00000);
    assert_false(insn.memory.rip_relative);
    assert_memory(DECODE(M64, 0x41, 0x8B, 0x45, 0x00), SEGMENT_DS, GPR_R13, REGISTER_NONE, 1, 0);
    assert_memory(DECODE(M64, 0x41, 0x8B, 0x04, 0x24), SEGMENT_DS, GPR_R12, REGISTER_NONE, 1, 0);
    assert_memory(DECODE(M64, 0x42, 0x8B, 0x04, 0x20), SEGMENT_DS, GPR_RAX, GPR_R12, 1,
                  0); /* index 12 is real */
    assert_memory(DECODE(M64, 0x4B, 0x8B, 0x44, 0xED, 0x7F), SEGMENT_DS, GPR_R13, GPR_R13, 8, 0x7F);
    assert_memory(DECODE(M64, 0x49, 0x8B, 0x04, 0x0D, 1, 0, 0, 0), SEGMENT_DS, REGISTER_NONE, GPR_RCX, 1, 1);
    assert_int_equal(DECODE(M64, 0x67, 0x8B, 0x00).address_bytes, 4);
    insn = DECODE(M64, 0xA1, 1, 2, 3, 4, 5, 6, 7, 0x88);
    assert_memory(insn, SEGMENT_DS, REGISTER_NONE, REGISTER_NONE, 1, (i64)0x8807060504030201);
    insn = DECODE(M64, 0x64, 0x67, 0xA2, 1, 2, 3, 4);
    assert_memory(insn, SEGMENT_FS, REGISTER_NONE, REGISTER_NONE, 1, 0x04030201);
    assert_int_equal(insn.operand_bytes, 1);
    assert_int_equal(DECODE(M16, 0xA3, 1, 2).memory.displacement, 0x0201);
}

/* The moves a guest uses on a device's registers. */
static void moves(void **state)
{
    struct instruction insn;

    (void)state;
    insn = DECODE(M64, 0xC7, 0x83, 0xB0, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF); /* MOV dword [rbx+0xb0], -2 */
    assert_opcode(insn, OPCODE_MAP_PRIMARY, 0xC7);
    assert_memory(insn, SEGMENT_DS, GPR_RBX, REGISTER_NONE, 1, 0xB0);
    assert_int_equal(insn.immediate, -2);
    assert_int_equal(insn.immediate_bytes, 4);
    assert_int_equal(insn.operand_bytes, 4);
    insn = DECODE(M64, 0x48, 0xC7, 0x03, 0xFE, 0xFF, 0xFF, 0xFF);
    assert_int_equal(insn.operand_bytes, 8);
    assert_int_equal(insn.immediate, -2);
    insn = DECODE(M64, 0x66, 0xC7, 0x03, 0x34, 0x12);
    assert_int_equal(insn.immediate, 0x1234);
    insn = DECODE(M64, 0xC6, 0x03, 0x80);
    assert_int_equal(insn.operand_bytes, 1);
    assert_int_equal(insn.immediate, -128);

    insn = DECODE(M64, 0x44, 0x88, 0x3B);
    assert_opcode(insn, OPCODE_MAP_PRIMARY, 0x88);
    assert_int_equal(insn.operand_bytes, 1);
    assert_int_equal(insn.reg, GPR_R15);
    insn = DECODE(M64, 0x45, 0x0F, 0xB6, 0x0A); /* MOVZX r9d, byte [r10] */
    assert_opcode(insn, OPCODE_MAP_0F, 0xB6);
    assert_int_equal(insn.operand_bytes, 4);
    assert_int_equal(insn.memory.base, GPR_R10);
    assert_int_equal(DECODE(M64, 0x48, 0x0F, 0xBF, 0x00).operand_bytes, 8);     /* MOVSX */
    assert_int_equal(DECODE(M64, 0x48, 0x63, 0x00).operand_bytes, 8);           /* MOVSXD */
    assert_int_equal(DECODE(M64, 0x87, 0x0B).reg, GPR_RCX);                     /* XCHG */
    assert_int_equal(DECODE(M64, 0x83, 0x0B, 0x80).immediate, -128);            /* OR */
    assert_int_equal(DECODE(M64, 0xF7, 0x03, 1, 0, 0, 0).immediate, 1);         /* TEST */
    assert_int_equal(DECODE(M64, 0xF6, 0x0B, 1).immediate_bytes, 1);            /* its alias /1 */
    assert_int_equal(DECODE(M64, 0xF7, 0x13).immediate_bytes, 0);               /* NOT */
    assert_int_equal(DECODE(M64, 0xFF, 0x33).operand_bytes, 8);                 /* PUSH */
    assert_int_equal(DECODE(M64, 0xFF, 0x13).operand_bytes, 8);                 /* CALL */
    assert_int_equal(DECODE(M64, 0xFF, 0x03).operand_bytes, 4);                 /* INC */
    assert_int_equal(DECODE(M64, 0x8F, 0x00).operand_bytes, 8);                 /* POP */
    assert_int_equal(DECODE(M64, 0x0F, 0x38, 0xF1, 0x0B).memory.base, GPR_RBX); /* MOVBE */
    assert_int_equal(DECODE(M64, 0x48, 0x0F, 0xC3, 0x03).operand_bytes, 8);     /* MOVNTI */
    assert_int_equal(DECODE(M64, 0xF3, 0xA5).operand_bytes, 4);                 /* REP MOVSD */
    assert_false(DECODE(M64, 0xF3, 0xA5).memory.present);
}

/* VMX instructions take their operand size from the mode alone. */
static void vmx_operands(void **state)
{
    struct instruction insn;

    (void)state;
    insn = DECODE(M64, 0x44, 0x0F, 0x78, 0x1B); /* VMREAD [rbx], r11 */
    assert_int_equal(insn.operand_bytes, 8);
    assert_int_equal(insn.reg, GPR_R11);
    assert_memory(insn, SEGMENT_DS, GPR_RBX, REGISTER_NONE, 1, 0);
    assert_int_equal(DECODE(M32, 0x0F, 0x79, 0xC8).operand_bytes, 4);
    assert_int_equal(DECODE(M16, 0x0F, 0x79, 0xC8).operand_bytes, 4);
    insn = DECODE(M64, 0x66, 0x0F, 0x38, 0x80, 0x4D, 0xF0); /* INVEPT rcx, [rbp-16] */
    assert_opcode(insn, OPCODE_MAP_0F38, 0x80);
    assert_int_equal(insn.operand_bytes, 8);
    assert_memory(insn, SEGMENT_SS, GPR_RBP, REGISTER_NONE, 1, -16);
    assert_int_equal(DECODE(M64, 0xF3, 0x0F, 0xC7, 0x34, 0x24).reg, 6); /* VMXON [rsp] */
    assert_int_equal(DECODE(M64, 0x66, 0x0F, 0xC7, 0x30).reg, 6);       /* VMCLEAR */
    assert_int_equal(DECODE(M64, 0x0F, 0xC7, 0x38).reg, 7);             /* VMPTRST */
}

static void immediates(void **state)
{
    struct instruction insn;

    (void)state;
    insn = DECODE(M64, 0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8);
    assert_int_equal(insn.immediate, 0x0807060504030201);
    assert_int_equal(insn.immediate_bytes, 8);
    assert_int_equal(DECODE(M64, 0xB8, 1, 2, 3, 4).immediate_bytes, 4);
    assert_int_equal(DECODE(M64, 0x66, 0xB8, 1, 2).immediate_bytes, 2);
    assert_int_equal(DECODE(M16, 0xB8, 1, 2).immediate_bytes, 2);
    assert_int_equal(DECODE(M16, 0x66, 0xB8, 1, 2, 3, 4).immediate_bytes, 4);

    insn = DECODE(M32, 0xC8, 0x34, 0x12, 0xFF); /* ENTER */
    assert_int_equal(insn.immediate, 0x1234);
    assert_int_equal(insn.second_immediate, 0xFF);
    insn = DECODE(M32, 0xEA, 1, 2, 3, 4, 0x10, 0x80); /* JMP far */
    assert_int_equal(insn.immediate, 0x04030201);
    assert_int_equal(insn.second_immediate, 0x8010);
    assert_int_equal(insn.second_immediate_bytes, 2);
    assert_int_equal(DECODE(M16, 0x9A, 1, 2, 0x10, 0x80).immediate, 0x0201);
    assert_int_equal(DECODE(M32, 0xC2, 8, 0).immediate, 8);

    assert_int_equal(DECODE(M64, 0xE8, 0xFE, 0xFF, 0xFF, 0xFF).immediate, -2);
    assert_int_equal(DECODE(M64, 0x66, 0xE9, 1, 2, 3, 4).length, 6); /* 66 does not shorten it */
    assert_int_equal(DECODE(M32, 0x66, 0xE9, 1, 2).length, 4);
    assert_int_equal(DECODE(M16, 0x0F, 0x84, 1, 2).length, 4);
    assert_int_equal(DECODE(M64, 0x68, 1, 2, 3, 0x84).immediate, (int32_t)0x84030201);
    assert_int_equal(DECODE(M64, 0x68, 1, 2, 3, 4).operand_bytes, 8);
    assert_int_equal(DECODE(M64, 0x66, 0x68, 1, 2).operand_bytes, 2);
    assert_int_equal(DECODE(M64, 0xE5, 0x71).operand_bytes, 4);
    assert_int_equal(DECODE(M64, 0x48, 0xED).operand_bytes, 4);

    assert_int_equal(DECODE(M64, 0x0F, 0xA4, 0xC8, 3).immediate, 3);                 /* SHLD */
    assert_int_equal(DECODE(M64, 0x0F, 0xBA, 0x20, 3).immediate, 3);                 /* BT */
    assert_int_equal(DECODE(M64, 0x66, 0x0F, 0x3A, 0x16, 0x00, 3).length, 6);        /* PEXTRD */
    assert_int_equal(DECODE(M64, 0x66, 0x0F, 0x78, 0xC1, 1, 2).second_immediate, 2); /* EXTRQ */
    assert_int_equal(DECODE(M64, 0x0F, 0x0F, 0x48, 0x10, 0x9E).length, 5);           /* PFADD mm1, [rax+16] */
}

static void oddities(void **state)
{
    struct instruction insn;

    (void)state;
    insn =
        DECODE(M64, 0x44, 0x0F, 0x20, 0x04); /* MOV RSP, CR8: mod 0 and rm 4 bring neither memory nor SIB */
    assert_int_equal(insn.mod, 3);
    assert_int_equal(insn.reg, 8);
    assert_int_equal(insn.rm, GPR_RSP);
    assert_int_equal(insn.operand_bytes, 8);
    assert_false(insn.memory.present);
    assert_int_equal(DECODE(M32, 0x66, 0x0F, 0x22, 0xC0).operand_bytes, 4);

    assert_int_equal(DECODE(M64, 0xC6, 0xF8, 1).length, 3);                    /* XABORT */
    assert_int_equal(DECODE(M64, 0xC7, 0xF8, 1, 0, 0, 0).length, 6);           /* XBEGIN */
    assert_opcode(DECODE(M32, 0xC5, 0x00), OPCODE_MAP_PRIMARY, 0xC5);          /* LDS */
    assert_opcode(DECODE(M32, 0xC4, 0x44, 0x24, 8), OPCODE_MAP_PRIMARY, 0xC4); /* LES */
    assert_opcode(DECODE(M32, 0x62, 0x00), OPCODE_MAP_PRIMARY, 0x62);          /* BOUND */
    assert_opcode(DECODE(M64, 0x90), OPCODE_MAP_PRIMARY, 0x90);
    assert_opcode(DECODE(M64, 0xD9, 0x6C, 0x24, 0x10), OPCODE_MAP_PRIMARY, 0xD9);
    assert_opcode(DECODE(M64, 0x66, 0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0), OPCODE_MAP_0F, 0x1F);
    assert_opcode(DECODE(M64, 0xF3, 0x0F, 0x1E, 0xFA), OPCODE_MAP_0F, 0x1E); /* ENDBR64 */
}

static void vector_encodings(void **state)
{
    struct instruction insn;

    (void)state;
    insn = DECODE(M64, 0xC5, 0xF8, 0x77); /* VZEROUPPER */
    assert_int_equal(insn.encoding, ENCODING_VEX);
    assert_false(insn.has_modrm);
    for (unsigned mode = M16; mode <= M64; mode++) {
        assert_int_equal(DECODE(mode, 0xC5, 0xF8, 0x28, 0xC1).encoding, ENCODING_VEX);
        assert_int_equal(DECODE(mode, 0xC4, 0xE2, 0x79, 0x18, 0xC1).map, 2);
        assert_int_equal(DECODE(mode, 0x62, 0xF1, 0x7C, 0x48, 0x28, 0xC1).encoding, ENCODING_EVEX);
        assert_int_equal(DECODE(mode, 0x8F, 0xE8, 0x78, 0xC0, 0xC1, 5).encoding, ENCODING_XOP);
    }
    assert_int_equal(DECODE(M64, 0xC5, 0xF8, 0xC6, 0xC1, 0x1B).immediate, 0x1B);          /* VSHUFPS */
    assert_int_equal(DECODE(M64, 0xC4, 0xE3, 0x71, 0x0F, 0x44, 0x24, 8, 3).immediate, 3); /* VPALIGNR */
    assert_int_equal(DECODE(M64, 0x64, 0xC4, 0xE2, 0x69, 0x90, 0x04, 0x08).length, 7);    /* VPGATHERDD */
    assert_int_equal(DECODE(M64, 0x67, 0xC5, 0xFA, 0x6F, 0x05, 1, 2, 3, 4).length, 9);
    assert_int_equal(DECODE(M64, 0x62, 0xF3, 0x75, 0x48, 0x3F, 0x48, 1, 4).immediate, 4);       /* VPCMPB */
    assert_int_equal(DECODE(M64, 0x62, 0xF5, 0x74, 0x48, 0x58, 0x88, 1, 2, 3, 4).map, 5);       /* VADDPH */
    assert_int_equal(DECODE(M64, 0x8F, 0xE9, 0x78, 0x80, 0xC1).immediate_bytes, 0);             /* VFRCZPS */
    assert_int_equal(DECODE(M64, 0x8F, 0xEA, 0x78, 0x10, 0xC1, 1, 2, 3, 4).immediate_bytes, 4); /* BEXTR */

    assert_invalid(M64, 0x66, 0xC5, 0xF8, 0x77); /* no 66, F2, F3, LOCK or REX before VEX */
    assert_invalid(M64, 0xF3, 0xC5, 0xF8, 0x77);
    assert_invalid(M64, 0xF0, 0xC5, 0xF8, 0x77);
    assert_invalid(M64, 0x48, 0xC5, 0xF8, 0x77);
    assert_invalid(M64, 0xC4, 0xE0, 0x79, 0x18, 0xC1); /* maps 0 and 4 */
    assert_invalid(M64, 0xC4, 0xE4, 0x79, 0x18, 0xC1);
    assert_invalid(M64, 0x62, 0xF9, 0x7C, 0x48, 0x28, 0xC1); /* a fixed bit of EVEX */
    assert_invalid(M64, 0x62, 0xF1, 0x78, 0x48, 0x28, 0xC1);
    assert_invalid(M64, 0x62, 0xF4, 0x7C, 0x48, 0x28, 0xC1); /* APX */
    assert_invalid(M64, 0x8F, 0xEB, 0x78, 0x80, 0xC1);
}

/* Every one-byte opcode in 64-bit mode: exactly these are not defined. SDM volume 2, table A-2. */
static void undefined_one_byte_opcodes(void **state)
{
    static const u8 undefined[] = {0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37,
                                   0x3F, 0x60, 0x61, 0x82, 0x9A, 0xCE, 0xD4, 0xD5, 0xD6, 0xEA};
    static const u8 vector[] = {0x62, 0xC4, 0xC5};

    (void)state;
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        bool expected = memchr(undefined, (int)opcode, sizeof(undefined)) != NULL;
        u8 bytes[INSTRUCTION_MAX_BYTES] = {(u8)opcode};

        if (memchr(vector, (int)opcode, sizeof(vector)) != NULL)
            continue;
        assert_int_equal(decode_status_of(bytes, sizeof(bytes), M64) == DECODE_INVALID, expected);
        assert_int_not_equal(decode_status_of(bytes, sizeof(bytes), M32), DECODE_INVALID);
    }
}

static void undefined_opcodes(void **state)
{
    static const u8 undefined_0f[] = {0x04, 0x0A, 0x0C, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39,
                                      0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x7A, 0x7B, 0xA6, 0xA7};

    (void)state;
    for (unsigned mode = M16; mode <= M64; mode++) {
        for (size_t i = 0; i < sizeof(undefined_0f); i++)
            assert_invalid(mode, 0x0F, undefined_0f[i]);
        assert_invalid(mode, 0xFF, 0xF8);             /* group 5, /7 */
        assert_invalid(mode, 0xFF, 0xD8);             /* CALL far takes memory only */
        assert_invalid(mode, 0xFE, 0xD0);             /* group 4, /2 */
        assert_invalid(mode, 0x8E, 0xC8);             /* MOV CS */
        assert_invalid(mode, 0x8D, 0xC0);             /* LEA of a register */
        assert_invalid(mode, 0xC6, 0xF9);             /* XABORT but for rm */
        assert_invalid(mode, 0x0F, 0xB8, 0xC0);       /* POPCNT without F3 */
        assert_invalid(mode, 0x0F, 0xBA, 0xD8, 0x00); /* group 8, /3 */
        assert_invalid(mode, 0x0F, 0x01, 0xC7);
        assert_invalid(mode, 0x0F, 0x71, 0xC0, 0x00);
        assert_invalid(mode, 0x0F, 0x38, 0x0C, 0xC0);
        assert_invalid(mode, 0x0F, 0x38, 0x80, 0x00); /* INVEPT without 66 */
        assert_invalid(mode, 0x66, 0x0F, 0x38, 0x80, 0xC0);
        assert_invalid(mode, 0x0F, 0x3A, 0xFF, 0xC0, 0x00);
        assert_invalid(mode, 0xD9, 0xD1); /* x87 */
        assert_invalid(mode, 0xD9, 0x08);
        assert_invalid(mode, 0xDD, 0xF0);
    }
}

static void length_limit(void **state)
{
    u8 bytes[32];
    struct instruction insn;

    (void)state;
    memset(bytes, 0x2E, sizeof(bytes));
    bytes[14] = 0x90;
    assert_int_equal(decode_exact(bytes, 15, M64, &insn), DECODE_OK);
    assert_int_equal(insn.length, 15);
    assert_int_equal(decode_exact(bytes, 14, M64, &insn), DECODE_NEED_MORE);
    assert_int_equal(decode_exact(bytes, 0, M64, &insn), DECODE_NEED_MORE);

    bytes[14] = 0x2E;
    bytes[15] = 0x90;
    assert_int_equal(decode_exact(bytes, 15, M64, &insn), DECODE_TOO_LONG);
    assert_int_equal(decode_exact(bytes, 16, M64, &insn), DECODE_TOO_LONG);
    assert_int_equal(decode_exact(bytes, 14, M64, &insn), DECODE_NEED_MORE);

    /* MOV dword [rip+disp32], imm32 is 10 bytes: five prefixes fit, six do not. */
    for (unsigned prefixes_before = 5; prefixes_before <= 6; prefixes_before++) {
        memset(bytes, 0x2E, sizeof(bytes));
        bytes[prefixes_before] = 0xC7;
        bytes[prefixes_before + 1] = 0x05;
        assert_int_equal(decode_exact(bytes, sizeof(bytes), M64, &insn),
                         prefixes_before == 5 ? DECODE_OK : DECODE_TOO_LONG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intercepted_instructions),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(memory_16),
        cmocka_unit_test(memory_32),
        cmocka_unit_test(memory_64),
        cmocka_unit_test(moves),
        cmocka_unit_test(vmx_operands),
        cmocka_unit_test(immediates),
        cmocka_unit_test(oddities),
        cmocka_unit_test(vector_encodings),
        cmocka_unit_test(undefined_one_byte_opcodes),
        cmocka_unit_test(undefined_opcodes),
        cmocka_unit_test(length_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
