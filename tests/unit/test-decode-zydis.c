/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder against an independent one, Zydis, on millions of byte strings per mode from a
 * fixed seed: half of them random, half steered into prefixes, opcode maps and vector encodings. Where the
 * two may differ, a function below names the case and the reason; any other difference fails with the bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <Zydis/Zydis.h>

#include "arch/decode.h"

enum {
    STRINGS_PER_MODE = 1500000,
    STRING_BYTES = 24,
};

static u64 next_random(u64 *state)
{
    /* xorshift64: good enough to spread opcodes, and the same on every machine */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void steer(u64 *state, u8 *bytes)
{
    static const u8 prefix[] = {0x66, 0x66, 0xF2, 0xF3, 0xF0, 0x67, 0x2E, 0x36,
                                0x3E, 0x26, 0x64, 0x65, 0x41, 0x44, 0x48, 0x4F};
    u64 choice = next_random(state);
    u64 prefixes = (choice & 0xF) == 0 ? choice >> 16 & 0xF : choice >> 4 & 3;

    for (u64 i = 0; i < prefixes; i++)
        *bytes++ = prefix[next_random(state) % sizeof(prefix)];
    switch (choice >> 8 & 7) {
    case 0:
    case 1:
        bytes[0] = 0x0F;
        break;
    case 2:
        bytes[0] = 0x0F;
        bytes[1] = (choice & BIT(11)) != 0 ? 0x38 : 0x3A;
        break;
    case 3: /* VEX with a map that exists */
        bytes[0] = 0xC4;
        bytes[1] = (u8)((bytes[1] & 0xE0) | (1 + (choice >> 12) % 3));
        break;
    case 4: /* EVEX with its fixed bits */
        bytes[0] = 0x62;
        bytes[1] &= 0xF7;
        bytes[2] |= 0x04;
        break;
    case 5: /* group 7, where most intercepted instructions are */
        bytes[0] = 0x0F;
        bytes[1] = 0x01;
        break;
    default:
        break;
    }
}

static void random_string(u64 *state, u8 bytes[STRING_BYTES])
{
    for (unsigned i = 0; i < STRING_BYTES; i += 8) {
        u64 word = next_random(state);

        memcpy(bytes + i, &word, sizeof(word));
    }
    if ((next_random(state) >> 32 & 1) != 0)
        steer(state, bytes);
}

/* One string, both answers. */
struct comparison {
    enum decode_mode mode;
    const u8 *bytes;
    size_t count;
    enum decode_status status;
    struct instruction insn;
    ZyanStatus zydis_status;
    ZydisDecoderContext zydis_context;
    ZydisDecodedInstruction zydis;
};

static void fail_with_bytes(const struct comparison *c, const char *what)
{
    print_error("%s: mode %u, ours %u (length %u), Zydis %x (length %u, %s):", what, (unsigned)c->mode,
                (unsigned)c->status, c->insn.length, (unsigned)c->zydis_status, c->zydis.length,
                ZYAN_SUCCESS(c->zydis_status) ? ZydisMnemonicGetString(c->zydis.mnemonic) : "-");
    for (size_t i = 0; i < c->count; i++)
        print_error(" %02x", c->bytes[i]);
    print_error("\n");
    fail();
}

/* What Zydis accepts and the decoder refuses or sees differently, because no CPU that Umbra can run on has
 * it. */
static bool other_cpus_only(const struct comparison *c)
{
    /* Instructions of VIA CPUs: 0F A6 and 0F A7, undefined at Intel and AMD. */
    if (c->zydis.opcode_map == ZYDIS_OPCODE_MAP_0F && (c->zydis.opcode & 0xFE) == 0xA6)
        return c->zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    /* Knights Corner: MVEX, which is EVEX with a fixed bit clear, and mask jumps with VEX. */
    return c->zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX || c->zydis.mnemonic == ZYDIS_MNEMONIC_JKZD ||
           c->zydis.mnemonic == ZYDIS_MNEMONIC_JKNZD;
}

/* Accepted although Zydis calls the encoding undefined. */
static bool undefined_by_zydis_only(const struct comparison *c)
{
    const struct instruction *insn = &c->insn;
    unsigned reg = insn->reg & 7u;

    if (insn->map == OPCODE_MAP_0F3A)
        return insn->opcode == 0xF0; /* HRESET: only ModRM.reg is judged, not rm */
    if (insn->map != OPCODE_MAP_0F)
        return false;
    switch (insn->opcode) {
    case 0x00:
        return reg == 6; /* LKGS is newer than this Zydis */
    case 0x01:
        /* Instructions newer than this Zydis, AMD's with any prefix, and members for 64-bit mode only. */
        return insn->mod == 3;
    case 0x0F:
        return true; /* 3DNow!: the opcode in the last byte is not judged */
    case 0x1A:
    case 0x1B:
        return true; /* MPX: NOPs on a CPU without it, in forms that MPX forbids, too */
    case 0xAE:
        return c->mode != DECODE_MODE_64 && reg < 4; /* RDFSBASE to WRGSBASE: 64-bit mode only */
    case 0xC7:
        return c->mode != DECODE_MODE_64 && reg == 6; /* SENDUIPI: 64-bit mode only */
    default:
        return false;
    }
}

/* Zydis refuses what decode_instruction() says that it does not judge. */
static bool refusal_not_shared(const struct comparison *c)
{
    switch (c->zydis_status) {
    case ZYDIS_STATUS_ILLEGAL_LOCK: /* LOCK where the instruction does not take it */
        return true;
    case ZYDIS_STATUS_BAD_REGISTER: /* numbers of control, debug, bounds and vector registers */
        return true;
    case ZYDIS_STATUS_DECODING_ERROR: /* vector encodings: the opcode */
        return c->insn.encoding != ENCODING_LEGACY || undefined_by_zydis_only(c);
    case ZYDIS_STATUS_MALFORMED_EVEX: /* combinations of fields that depend on the opcode */
    case ZYDIS_STATUS_INVALID_MASK:
        return c->insn.encoding == ENCODING_EVEX;
    case ZYDIS_STATUS_NO_MORE_DATA: /* JKZD and JKNZD again, cut off in their displacement */
        return c->insn.encoding == ENCODING_VEX && c->insn.map == 1 && (c->insn.opcode & 0xFE) == 0x84;
    default:
        return false;
    }
}

static bool segment_not_shared(const struct comparison *c, const ZydisDecodedOperandMem *theirs)
{
    /* LEA computes an offset: no segment is involved, though ours names the one that would be. */
    if (theirs->type == ZYDIS_MEMOP_TYPE_AGEN)
        return true;
    /* Zydis reads 3E before an indirect near branch as the NOTRACK of CET only; ours keeps it an override,
     * too. */
    return (c->zydis.attributes & ZYDIS_ATTRIB_HAS_NOTRACK) != 0;
}

/* Compares what both found in an instruction that both accept. */
static void compare_memory(const struct comparison *c, const ZydisDecoder *decoder)
{
    static const ZydisRegister segment[] = {ZYDIS_REGISTER_ES, ZYDIS_REGISTER_CS, ZYDIS_REGISTER_SS,
                                            ZYDIS_REGISTER_DS, ZYDIS_REGISTER_FS, ZYDIS_REGISTER_GS};
    const struct instruction *insn = &c->insn;
    const struct memory_operand *ours = &insn->memory;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    const ZydisDecodedOperandMem *theirs = NULL;
    bool rip_relative, same;

    ZydisDecoderDecodeOperands(decoder, &c->zydis_context, &c->zydis, operands, c->zydis.operand_count);
    for (unsigned i = 0; i < c->zydis.operand_count_visible; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            theirs = &operands[i].mem;
    /* MPX ignores the address-size prefix and splits base and index; ours sees the NOP that it is without
     * MPX. */
    if (theirs == NULL || c->zydis.meta.isa_set == ZYDIS_ISA_SET_MPX)
        return;
    /* mod 0 with SIB base 5 has no base, whatever REX.B says (SDM volume 2, table 2-5); Zydis 4.0 takes R13.
     */
    if (insn->mod == 0 && insn->rm % 8 == 4 && c->zydis.raw.sib.base == 5 && insn->rm != 4)
        return;
    rip_relative = theirs->base == ZYDIS_REGISTER_RIP || theirs->base == ZYDIS_REGISTER_EIP;
    same = ours->present && ours->rip_relative == rip_relative &&
           (segment[ours->segment] == theirs->segment || segment_not_shared(c, theirs)) &&
           insn->address_bytes * 8u == c->zydis.address_width &&
           (theirs->index == ZYDIS_REGISTER_NONE || ours->scale == theirs->scale) &&
           (u64)ours->displacement == (u64)theirs->disp.value;
    if (!rip_relative)
        same = same && ours->base == (u8)ZydisRegisterGetId(theirs->base);
    if (!same || ours->index != (u8)ZydisRegisterGetId(theirs->index))
        fail_with_bytes(c, "memory operand");
}

static void compare_prefixes(const struct comparison *c)
{
    const struct instruction *insn = &c->insn;
    bool lock = false, operand_size = false, address_size = false;
    u8 repeat = 0;
    u8 rex = 0;

    for (unsigned i = 0; i < c->zydis.raw.prefix_count; i++) {
        u8 value = c->zydis.raw.prefixes[i].value;

        lock = lock || value == 0xF0;
        operand_size = operand_size || value == 0x66;
        address_size = address_size || value == 0x67;
        if (value == 0xF2 || value == 0xF3)
            repeat = value;
    }
    if ((c->zydis.attributes & ZYDIS_ATTRIB_HAS_REX) != 0)
        rex = c->bytes[c->zydis.raw.rex.offset];
    if (insn->lock != lock || insn->operand_size_prefix != operand_size ||
        insn->address_size_prefix != address_size || insn->rep != (repeat == 0xF3) ||
        insn->repne != (repeat == 0xF2) || insn->rex != rex)
        fail_with_bytes(c, "prefixes");
}

static void compare_opcode(const struct comparison *c)
{
    static const struct {
        ZydisInstructionEncoding theirs;
        enum instruction_encoding ours;
        u8 xop_map_distance;
    } encodings[] = {
        {ZYDIS_INSTRUCTION_ENCODING_LEGACY, ENCODING_LEGACY, 0},
        {ZYDIS_INSTRUCTION_ENCODING_VEX, ENCODING_VEX, 0},
        {ZYDIS_INSTRUCTION_ENCODING_EVEX, ENCODING_EVEX, 0},
        {ZYDIS_INSTRUCTION_ENCODING_XOP, ENCODING_XOP, 8},
    };
    const struct instruction *insn = &c->insn;
    unsigned map = (unsigned)c->zydis.opcode_map;
    bool has_modrm = (c->zydis.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;

    for (unsigned i = 0; i < ARRAY_SIZE(encodings); i++) {
        if (encodings[i].theirs != c->zydis.encoding)
            continue;
        if (encodings[i].xop_map_distance != 0)
            map = map - ZYDIS_OPCODE_MAP_XOP8 + encodings[i].xop_map_distance;
        if (insn->encoding != encodings[i].ours || insn->map != map || insn->opcode != c->zydis.opcode)
            fail_with_bytes(c, "opcode");
    }
    if (insn->has_modrm != has_modrm)
        fail_with_bytes(c, "ModRM");
    if (has_modrm && ((insn->reg & 7) != c->zydis.raw.modrm.reg || (insn->rm & 7) != c->zydis.raw.modrm.rm ||
                      (insn->mod != c->zydis.raw.modrm.mod && insn->mod != 3)))
        fail_with_bytes(c, "ModRM fields");
}

static bool same_immediate(u64 ours, u8 ours_bytes, u64 theirs, u8 theirs_bits)
{
    if (ours_bytes * 8u != theirs_bits)
        return false;
    return ours_bytes == 0 || ((ours ^ theirs) & BITS(8 * ours_bytes - 1, 0)) == 0;
}

static void compare_immediates(const struct comparison *c)
{
    const struct instruction *insn = &c->insn;

    if (!same_immediate((u64)insn->immediate, insn->immediate_bytes, c->zydis.raw.imm[0].value.u,
                        c->zydis.raw.imm[0].size) ||
        !same_immediate(insn->second_immediate, insn->second_immediate_bytes, c->zydis.raw.imm[1].value.u,
                        c->zydis.raw.imm[1].size))
        fail_with_bytes(c, "immediates");
}

/* Opcodes of general-purpose instructions; for all others the decoder's operand size means nothing. */
static bool has_operand_size(const struct instruction *insn)
{
    if (insn->map == OPCODE_MAP_PRIMARY) {
        /* x87, and these: INS and OUTS, to which Zydis gives 64 bits with REX.W; XLAT; XABORT. */
        bool excepted = insn->opcode == 0x6D || insn->opcode == 0x6F || insn->opcode == 0xD7;

        return !excepted && (insn->opcode & 0xF8) != 0xD8 && (insn->opcode != 0xC6 || (insn->reg & 7) == 0);
    }
    if (insn->map != OPCODE_MAP_0F)
        return false;
    return (insn->opcode & 0xF0) == 0x40 || (insn->opcode & 0xE0) == 0x80 || (insn->opcode & 0xF0) == 0xB0 ||
           (insn->opcode & 0xFC) == 0x20 || (insn->opcode & 0xFE) == 0xC0 || insn->opcode == 0xAF;
}

static void compare_operand_size(const struct comparison *c)
{
    if (has_operand_size(&c->insn) && c->insn.operand_bytes * 8u != c->zydis.operand_width)
        fail_with_bytes(c, "operand size");
}

/* True if both accept the string and agree on all of it. */
static bool compare(struct comparison *c, const ZydisDecoder *decoder)
{
    c->status = decode_instruction(c->bytes, c->count, c->mode, &c->insn);
    c->zydis_status =
        ZydisDecoderDecodeInstruction(decoder, &c->zydis_context, c->bytes, c->count, &c->zydis);

    if (ZYAN_SUCCESS(c->zydis_status)) {
        if (other_cpus_only(c))
            return false;
        if (c->status != DECODE_OK)
            fail_with_bytes(c, "refused");
        if (c->insn.length != c->zydis.length)
            fail_with_bytes(c, "length");
        compare_prefixes(c);
        /* Zydis reports a 3DNow! instruction by its last byte, an opcode map of its own. */
        if (c->zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
            return true;
        compare_opcode(c);
        compare_immediates(c);
        if (c->zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
            compare_memory(c, decoder);
            compare_operand_size(c);
        }
        return true;
    }
    if (c->status == DECODE_OK && !refusal_not_shared(c))
        fail_with_bytes(c, "accepted");
    return false;
}

static void mode_agrees(enum decode_mode mode, ZydisMachineMode machine_mode, ZydisStackWidth stack_width)
{
    u64 random = 0x9E3779B97F4A7C15 + mode;
    unsigned agreed = 0;
    ZydisDecoder decoder;

    assert_true(ZYAN_SUCCESS(ZydisDecoderInit(&decoder, machine_mode, stack_width)));
    for (unsigned i = 0; i < STRINGS_PER_MODE; i++) {
        u8 bytes[STRING_BYTES];
        struct comparison c = {.mode = mode, .bytes = bytes};

        random_string(&random, bytes);
        c.count = (i & 7) == 0 ? next_random(&random) >> 32 & 0xF : STRING_BYTES;
        agreed += compare(&c, &decoder) ? 1 : 0;
    }
    /* An empty comparison must not pass: more than half of such strings are instructions. */
    assert_true(agreed > STRINGS_PER_MODE / 2);
}

static void mode_16(void **state)
{
    (void)state;
    mode_agrees(DECODE_MODE_16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
}

static void mode_32(void **state)
{
    (void)state;
    mode_agrees(DECODE_MODE_32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
}

static void mode_64(void **state)
{
    (void)state;
    mode_agrees(DECODE_MODE_64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mode_16),
        cmocka_unit_test(mode_32),
        cmocka_unit_test(mode_64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
