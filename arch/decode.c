/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder: prefixes, escapes, opcode, ModRM, SIB, displacement, immediate, in the order in
 * which they stand in memory (SDM volume 2, figure 2-1). The formats come from arch/decode-tables.c. A cursor
 * remembers the first thing that went wrong, so that the steps need no error path of their own; after an
 * error it only yields zeros and never moves.
 */
#include "arch/decode.h"
#include "arch/decode-tables.h"
#include "arch/x86.h"

#define REX_W     0x8u
#define REX_R     0x4u
#define REX_X     0x2u
#define REX_B     0x1u

#define XOP_MAP_8 0x8u
#define XOP_MAP_A 0xAu

struct cursor {
    const u8 *bytes;
    u8 available;
    u8 at;
    enum decode_mode mode;
    enum decode_status status;
};

/* The first failure stands: what follows it is built on zeros. */
static void fail(struct cursor *cursor, enum decode_status status)
{
    if (cursor->status == DECODE_OK)
        cursor->status = status;
}

static u8 peek_byte(struct cursor *cursor)
{
    if (cursor->at == INSTRUCTION_MAX_BYTES)
        fail(cursor, DECODE_TOO_LONG);
    else if (cursor->at == cursor->available)
        fail(cursor, DECODE_NEED_MORE);
    return cursor->status == DECODE_OK ? cursor->bytes[cursor->at] : 0;
}

static u8 take_byte(struct cursor *cursor)
{
    u8 byte = peek_byte(cursor);

    if (cursor->status == DECODE_OK)
        cursor->at++;
    return byte;
}

/* A little-endian number of 0 to 8 bytes. */
static u64 take_unsigned(struct cursor *cursor, unsigned bytes)
{
    u64 value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (u64)take_byte(cursor) << (8 * i);
    return value;
}

static i64 take_signed(struct cursor *cursor, unsigned bytes)
{
    u64 value = take_unsigned(cursor, bytes);

    if (bytes != 0 && bytes < 8 && (value & BIT(8 * bytes - 1)) != 0)
        value |= ~0ull << (8 * bytes);
    return (i64)value;
}

static void override_segment(struct cursor *cursor, struct instruction *insn,
                             enum instruction_segment segment)
{
    /* In 64-bit mode these four prefixes mean nothing: not even that FS or GS before them is forgotten. */
    if (cursor->mode == DECODE_MODE_64 && segment < SEGMENT_FS)
        return;
    insn->segment_override = true;
    insn->memory.segment = segment;
}

static bool note_legacy_prefix(struct cursor *cursor, struct instruction *insn, u8 byte)
{
    switch (byte) {
    case 0x26:
    case 0x2E:
    case 0x36:
    case 0x3E:
        override_segment(cursor, insn, (enum instruction_segment)(byte >> 3 & 3));
        return true;
    case 0x64:
    case 0x65:
        override_segment(cursor, insn, byte == 0x64 ? SEGMENT_FS : SEGMENT_GS);
        return true;
    case 0x66:
        insn->operand_size_prefix = true;
        return true;
    case 0x67:
        insn->address_size_prefix = true;
        return true;
    case 0xF0:
        insn->lock = true;
        return true;
    case 0xF2:
    case 0xF3:
        insn->repne = byte == 0xF2;
        insn->rep = byte == 0xF3;
        return true;
    default:
        return false;
    }
}

/* Consumes all prefixes and returns the first byte that is none. */
static u8 take_prefixes(struct cursor *cursor, struct instruction *insn)
{
    for (;;) {
        u8 byte = take_byte(cursor);

        if (note_legacy_prefix(cursor, insn, byte))
            insn->rex = 0; /* a REX prefix counts only right before the opcode */
        else if (cursor->mode == DECODE_MODE_64 && (byte & 0xF0) == 0x40)
            insn->rex = byte;
        else
            return byte;
    }
}

/*
 * C4, C5 and 62 are LES, LDS and BOUND outside 64-bit mode unless the next byte, as their ModRM, had mod = 3;
 * 8F is POP unless the map number in the next byte is 8 or more, where POP's ModRM.reg would not be 0.
 */
static enum instruction_encoding encoding_of(struct cursor *cursor, u8 byte)
{
    bool vector = cursor->mode == DECODE_MODE_64;

    if (byte != 0xC4 && byte != 0xC5 && byte != 0x62 && byte != 0x8F)
        return ENCODING_LEGACY;
    vector = vector || peek_byte(cursor) >> 6 == 3;
    if (byte == 0x8F)
        return (peek_byte(cursor) & 0x1F) >= 8 ? ENCODING_XOP : ENCODING_LEGACY;
    if (!vector)
        return ENCODING_LEGACY;
    return byte == 0x62 ? ENCODING_EVEX : ENCODING_VEX;
}

static void take_legacy_opcode(struct cursor *cursor, struct instruction *insn, u8 byte)
{
    insn->map = OPCODE_MAP_PRIMARY;
    if (byte == 0x0F) {
        byte = take_byte(cursor);
        insn->map = OPCODE_MAP_0F;
        if (byte == 0x38 || byte == 0x3A) {
            insn->map = byte == 0x38 ? OPCODE_MAP_0F38 : OPCODE_MAP_0F3A;
            byte = take_byte(cursor);
        }
    }
    insn->opcode = byte;
}

/* The payload bytes of a vector prefix, and the opcode (SDM volume 2, sections 2.3.5 and 2.7.1; APM volume
 * 3, 1.9). */
static void take_vector_opcode(struct cursor *cursor, struct instruction *insn, u8 byte)
{
    unsigned maps;

    insn->map = OPCODE_MAP_0F;
    if (insn->encoding == ENCODING_EVEX) {
        u8 p0 = take_byte(cursor);
        u8 p1 = take_byte(cursor);

        take_byte(cursor);
        if ((p0 & 0x08) != 0 || (p1 & 0x04) == 0)
            fail(cursor, DECODE_INVALID);
        insn->map = p0 & 0x7;
        maps = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 5 | 1u << 6;
    } else {
        maps = insn->encoding == ENCODING_XOP ? 7u << XOP_MAP_8 : 1u << 1 | 1u << 2 | 1u << 3;
        if (byte != 0xC5)
            insn->map = take_byte(cursor) & 0x1F;
        take_byte(cursor);
    }
    if ((maps >> insn->map & 1) == 0)
        fail(cursor, DECODE_INVALID);
    insn->opcode = take_byte(cursor);
}

/* The table entry of the instruction; vector encodings have few formats, which need no table. */
static unsigned format_of(const struct instruction *insn)
{
    enum immediate_format immediate = IMMEDIATE_NONE;
    unsigned map_0f = opcode_formats[OPCODE_MAP_0F][insn->opcode];

    if (insn->encoding == ENCODING_LEGACY)
        return opcode_formats[insn->map][insn->opcode];
    if (insn->map == OPCODE_MAP_0F && insn->opcode == 0x77)
        return 0; /* VZEROUPPER and VZEROALL: the only ones without ModRM */
    if (insn->map == OPCODE_MAP_0F && format_immediate(map_0f) == IMMEDIATE_B)
        immediate = IMMEDIATE_B;
    if (insn->map == OPCODE_MAP_0F3A || insn->map == XOP_MAP_8)
        immediate = IMMEDIATE_B;
    if (insn->map == XOP_MAP_A)
        immediate = IMMEDIATE_Z;
    return FORMAT_MODRM | FORMAT_IMMEDIATE(immediate);
}

static enum mandatory_prefix mandatory_prefix(const struct instruction *insn)
{
    if (insn->rep || insn->repne)
        return insn->rep ? PREFIX_F3 : PREFIX_F2;
    return insn->operand_size_prefix ? PREFIX_66 : PREFIX_NP;
}

/* What can be said before ModRM is read. */
static bool opcode_defined(enum decode_mode mode, const struct instruction *insn, unsigned format)
{
    if (insn->encoding != ENCODING_LEGACY) {
        bool refused_prefix = insn->operand_size_prefix || insn->rep || insn->repne || insn->lock;

        return !refused_prefix && insn->rex == 0;
    }
    if ((format & FORMAT_NOT_64) != 0 && mode == DECODE_MODE_64)
        return false;
    return (format & FORMAT_PREFIX(mandatory_prefix(insn))) != 0;
}

/* modrm_low: the reg and rm fields. */
static bool x87_defined(unsigned opcode_low, bool memory, unsigned modrm_low)
{
    if (memory)
        return (x87_memory[opcode_low] >> (modrm_low >> 3) & 1) != 0;
    return (x87_register[opcode_low] >> modrm_low & 1) != 0;
}

static bool group_member_defined(const struct instruction *insn)
{
    enum mandatory_prefix prefix = mandatory_prefix(insn);
    unsigned reg = insn->reg & 7u;
    unsigned low = reg << 3 | (insn->rm & 7u);
    bool memory = insn->mod != 3;

    if (insn->map == OPCODE_MAP_PRIMARY && (insn->opcode & 0xF8) == 0xD8)
        return x87_defined(insn->opcode & 7u, memory, low);
    if (insn->map == OPCODE_MAP_0F && insn->opcode == 0x01 && !memory)
        return (group7_register_prefixes[low] >> prefix & 1) != 0;
    /* XABORT and XBEGIN are C6 and C7 with all of ModRM given: F8. */
    if (insn->map == OPCODE_MAP_PRIMARY && (insn->opcode & 0xFE) == 0xC6 && !memory && reg == 7)
        return (insn->rm & 7) == 0;

    for (unsigned i = 0; i < OPCODE_GROUPS; i++) {
        const struct opcode_group *group = &opcode_groups[i];

        if (group->map == insn->map && group->opcode == insn->opcode)
            return ((memory ? group->memory[prefix] : group->reg[prefix]) >> reg & 1) != 0;
    }
    return false;
}

static bool modrm_defined(const struct instruction *insn, unsigned format)
{
    if ((format & FORMAT_MEMORY_ONLY) != 0 && insn->mod == 3)
        return false;
    if ((format & FORMAT_REGISTER_ONLY) != 0 && insn->mod != 3)
        return false;
    return (format & FORMAT_GROUP) == 0 || group_member_defined(insn);
}

/* SDM volume 2, table 2-1. */
static void take_memory_16(struct cursor *cursor, struct instruction *insn)
{
    static const u8 base[8] = {GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX};
    static const u8 index[4] = {GPR_RSI, GPR_RDI, GPR_RSI, GPR_RDI};
    struct memory_operand *memory = &insn->memory;
    unsigned rm = insn->rm & 7u;
    unsigned displacement_bytes = insn->mod;

    if (insn->mod == 0 && rm == 6) {
        displacement_bytes = 2;
    } else {
        memory->base = base[rm];
        if (rm < ARRAY_SIZE(index))
            memory->index = index[rm];
    }
    memory->displacement = take_signed(cursor, displacement_bytes);
}

/* Returns the base register's number, before it is known whether it counts. SDM volume 2, table 2-3. */
static unsigned take_sib(struct cursor *cursor, struct instruction *insn)
{
    u8 sib = take_byte(cursor);
    unsigned index = (sib >> 3 & 7u) | ((insn->rex & REX_X) != 0 ? 8u : 0);

    if (index != GPR_RSP) {
        insn->memory.index = (u8)index;
        insn->memory.scale = (u8)(1u << (sib >> 6));
    }
    return (sib & 7u) | ((insn->rex & REX_B) != 0 ? 8u : 0);
}

/* SDM volume 2, table 2-2, and section 2.2.1.6 for RIP-relative addressing. */
static void take_memory_32(struct cursor *cursor, struct instruction *insn)
{
    bool has_sib = (insn->rm & 7) == 4;
    unsigned base = has_sib ? take_sib(cursor, insn) : insn->rm;
    bool no_base = insn->mod == 0 && (base & 7) == 5;

    if (!no_base)
        insn->memory.base = (u8)base;
    insn->memory.rip_relative = no_base && !has_sib && cursor->mode == DECODE_MODE_64;
    insn->memory.displacement = take_signed(cursor, no_base || insn->mod == 2 ? 4 : insn->mod);
}

static void take_memory(struct cursor *cursor, struct instruction *insn)
{
    insn->memory.present = insn->encoding == ENCODING_LEGACY;
    if (insn->address_bytes == 2)
        take_memory_16(cursor, insn);
    else
        take_memory_32(cursor, insn);
    if (!insn->segment_override && (insn->memory.base == GPR_RSP || insn->memory.base == GPR_RBP))
        insn->memory.segment = SEGMENT_SS;
}

static void take_modrm(struct cursor *cursor, struct instruction *insn)
{
    u8 modrm = take_byte(cursor);

    insn->has_modrm = true;
    insn->mod = modrm >> 6;
    insn->reg = (u8)((modrm >> 3 & 7u) | ((insn->rex & REX_R) != 0 ? 8u : 0));
    insn->rm = (u8)((modrm & 7u) | ((insn->rex & REX_B) != 0 ? 8u : 0));
    if (insn->map == OPCODE_MAP_0F && (insn->opcode & 0xFC) == 0x20 && insn->encoding == ENCODING_LEGACY)
        insn->mod =
            3; /* MOV CR and DR: the field is ignored (SDM volume 2, MOV - Move to/from Control Registers) */
}

static enum operand_size group5_size(unsigned extension)
{
    if (extension == 2 || extension == 4)
        return SIZE_BRANCH;
    return extension == 6 ? SIZE_STACK : SIZE_V;
}

static u8 operand_bytes(enum decode_mode mode, const struct instruction *insn, enum operand_size size)
{
    bool rex_w = (insn->rex & REX_W) != 0;
    bool long_mode = mode == DECODE_MODE_64;

    if (size == SIZE_GROUP5)
        size = group5_size(insn->reg & 7u);
    if (size == SIZE_BYTE)
        return 1;
    if (size == SIZE_MACHINE)
        return long_mode ? 8 : 4;
    if (long_mode && (size == SIZE_BRANCH || rex_w))
        return size == SIZE_Z ? 4 : 8;
    if (insn->operand_size_prefix != (mode == DECODE_MODE_16))
        return 2;
    return long_mode && size == SIZE_STACK ? 8 : 4;
}

static u8 address_bytes(enum decode_mode mode, bool prefix)
{
    if (mode == DECODE_MODE_64)
        return prefix ? 4 : 8;
    return prefix == (mode == DECODE_MODE_16) ? 4 : 2;
}

static void take_immediate(struct cursor *cursor, struct instruction *insn, unsigned bytes,
                           unsigned second_bytes)
{
    insn->immediate_bytes = (u8)bytes;
    insn->immediate = take_signed(cursor, bytes);
    insn->second_immediate_bytes = (u8)second_bytes;
    insn->second_immediate = (u16)take_unsigned(cursor, second_bytes);
}

static void take_offset(struct cursor *cursor, struct instruction *insn)
{
    insn->memory.present = true;
    insn->memory.displacement = take_signed(cursor, insn->address_bytes);
}

static void take_operand_bytes(struct cursor *cursor, struct instruction *insn, enum immediate_format format)
{
    unsigned z = insn->operand_bytes == 2 ? 2 : 4;
    bool is_test = (insn->reg & 7) < 2;

    switch (format) {
    case IMMEDIATE_NONE:
        break;
    case IMMEDIATE_B:
        take_immediate(cursor, insn, 1, 0);
        break;
    case IMMEDIATE_W:
        take_immediate(cursor, insn, 2, 0);
        break;
    case IMMEDIATE_Z:
        take_immediate(cursor, insn, z, 0);
        break;
    case IMMEDIATE_V:
        take_immediate(cursor, insn, insn->operand_bytes, 0);
        break;
    case IMMEDIATE_WB:
        take_immediate(cursor, insn, 2, 1);
        break;
    case IMMEDIATE_FAR:
        take_immediate(cursor, insn, z, 2);
        break;
    case IMMEDIATE_OFFSET:
        take_offset(cursor, insn);
        break;
    case IMMEDIATE_TEST_B:
        take_immediate(cursor, insn, is_test ? 1 : 0, 0);
        break;
    case IMMEDIATE_TEST_Z:
        take_immediate(cursor, insn, is_test ? z : 0, 0);
        break;
    case IMMEDIATE_SSE4A:
        if (mandatory_prefix(insn) != PREFIX_NP)
            take_immediate(cursor, insn, 1, 1);
        break;
    }
}

static void take_opcode(struct cursor *cursor, struct instruction *insn)
{
    u8 byte = take_prefixes(cursor, insn);

    insn->encoding = encoding_of(cursor, byte);
    if (insn->encoding == ENCODING_LEGACY)
        take_legacy_opcode(cursor, insn, byte);
    else
        take_vector_opcode(cursor, insn, byte);
}

enum decode_status decode_instruction(const u8 *bytes, size_t count, enum decode_mode mode,
                                      struct instruction *insn)
{
    struct cursor cursor = {.bytes = bytes, .mode = mode, .status = DECODE_OK};
    unsigned format;

    cursor.available = (u8)min_u64(count, INSTRUCTION_MAX_BYTES);
    *insn = (struct instruction){
        .memory = {.segment = SEGMENT_DS, .base = REGISTER_NONE, .index = REGISTER_NONE, .scale = 1},
    };

    take_opcode(&cursor, insn);
    format = cursor.status == DECODE_OK ? format_of(insn) : 0;
    if (!opcode_defined(mode, insn, format))
        fail(&cursor, DECODE_INVALID);

    insn->address_bytes = address_bytes(mode, insn->address_size_prefix);
    if ((format & FORMAT_MODRM) != 0) {
        take_modrm(&cursor, insn);
        if (!modrm_defined(insn, format))
            fail(&cursor, DECODE_INVALID);
        if (insn->mod != 3)
            take_memory(&cursor, insn);
    }
    insn->operand_bytes = operand_bytes(mode, insn, format_size(format));
    take_operand_bytes(&cursor, insn, format_immediate(format));
    insn->length = cursor.at;
    return cursor.status;
}
