/* SPDX-License-Identifier: MIT */
/*
 * Memory operands against the specification: segmentation, canonical addresses and linear-address masking by
 * the million; then whole reads and writes of guest memory, over page boundaries, through one and two stages,
 * with every byte written compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "mm/linear.h"
#include "tests/unit/paging-case.h"
#include "tests/unit/random.h"

/* Smaller where the test is built slow, with all sanitizers. */
#ifndef LINEAR_ADDRESSES
#define LINEAR_ADDRESSES 6000000u
#define LINEAR_OPERANDS  300000u
#endif

static struct case_memory memory;
static u8 data[LINEAR_BYTES_MAX], buffer[LINEAR_BYTES_MAX];
static u64 compared;

static int set_up(void **state)
{
    (void)state;
    case_memory_init(&memory);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (u8)random_u64();
    return 0;
}

struct input {
    struct case_tables guest, host;
    struct spec_second second;
    struct spec_access access;
    struct spec_linear_request request;
    struct linear_context context;
    struct linear_operand operand;
};

/* --- segments and canonical addresses
 * ---------------------------------------------------------------------------- */

static u64 edge(u64 center)
{
    return center + random_below(40) - 20;
}

static u64 random_offset(const struct spec_linear_request *request)
{
    static const u64 edges[] = {0,          0x10000,    1ull << 31, 1ull << 32,
                                1ull << 47, 1ull << 48, 1ull << 56, 1ull << 57};
    u64 offset;

    switch (random_below(6)) {
    case 0:
        offset = random_u64();
        break;
    case 1:
        offset = edge(request->segment.limit);
        break;
    case 2:
        offset = edge(edges[random_below(ARRAY_SIZE(edges))]);
        break;
    case 3: /* sign-extended, with metadata above */
        offset =
            ((u64)((i64)random_u64() >> random_below(24))) ^ (random_chance(50) ? random_u64() << 57 : 0);
        break;
    case 4:
        offset = edge(0) - (random_chance(50) ? edges[random_below(ARRAY_SIZE(edges))] : 0);
        break;
    default:
        offset = random_u64() >> random_below(64);
    }
    return request->mode == SPEC_64BIT ? offset : offset & 0xFFFFFFFF;
}

static u64 random_bytes(void)
{
    static const u64 sizes[] = {1, 2, 4, 8, 16, 32, 64, 10, 108, 512};

    return random_chance(90) ? sizes[random_below(ARRAY_SIZE(sizes))] : random_below(LINEAR_BYTES_MAX) + 1;
}

static struct spec_segment random_segment(enum spec_mode mode)
{
    static const u32 limits[] = {0,      1,       0xFFF,     0x7FFF,     0xFFFE,
                                 0xFFFF, 0x10000, 0xFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF};

    return (struct spec_segment){
        .base = random_chance(40)    ? 0
                : mode == SPEC_64BIT ? random_u64()
                                     : random_u64() & 0xFFFFFFFF,
        .limit = random_chance(80) ? limits[random_below(ARRAY_SIZE(limits))] : (u32)random_u64(),
        .type = (unsigned)random_below(16),
        .big = random_chance(50),
        .unusable = random_chance(3),
        .system = random_chance(12),
    };
}

/* Modes as the control registers tell them; the paging mode is chosen by the caller. */
static enum spec_mode random_mode(enum spec_format format)
{
    if (format == SPEC_LONG4 || format == SPEC_LONG5)
        return random_chance(75) ? SPEC_64BIT : SPEC_PROTECTED;
    if (format == SPEC_NO_PAGING && random_chance(40))
        return SPEC_REAL;
    return random_chance(20) ? SPEC_V86 : SPEC_PROTECTED;
}

static void random_request(struct input *in, const struct case_machine *machine, enum spec_mode mode)
{
    struct spec_linear_request *request = &in->request;
    bool wide = mode == SPEC_64BIT;

    *request = (struct spec_linear_request){
        .mode = mode,
        .la57 = (machine->cr4 & CR4_LA57) != 0,
        .lam_u48 = random_chance(30),
        .lam_u57 = random_chance(30),
        .lam_sup = random_chance(30),
        .stack = random_chance(20),
        .base_used = wide,
        .write = random_chance(50),
        .segment = random_segment(mode),
        .bytes = random_bytes(),
    };
    request->offset = random_offset(request);
    if (wide && random_chance(70))
        request->segment.base = 0;
    in->operand = (struct linear_operand){
        .segment = {.base = request->segment.base,
                    .limit = request->segment.limit,
                    .type = (u8)request->segment.type,
                    .usable = !request->segment.unusable,
                    .big = request->segment.big,
                    .stack = request->stack,
                    .system = request->segment.system},
        .offset = request->offset,
        .bytes = (u32)request->bytes,
    };
    in->context.root &= ~(CR3_LAM_U48 | CR3_LAM_U57);
    in->context.root |= (request->lam_u48 ? CR3_LAM_U48 : 0) | (request->lam_u57 ? CR3_LAM_U57 : 0);
    in->context.cr0 = mode == SPEC_REAL ? machine->cr0 & ~CR0_PE : machine->cr0;
    in->context.cr4 = machine->cr4 | (request->lam_sup ? CR4_LAM_SUP : 0);
    in->context.efer = machine->efer;
    in->context.rflags = mode == SPEC_V86 ? RFLAGS_VM : 0;
    in->context.code_64 = wide;
}

static void print_request(const struct input *in)
{
    static const char *const modes[] = {"real", "virtual-8086", "protected", "64-bit"};
    const struct spec_linear_request *request = &in->request;

    printf("  %s mode la57 %d lam u48 %d u57 %d sup %d stack %d write %d\n", modes[request->mode],
           request->la57, request->lam_u48, request->lam_u57, request->lam_sup, request->stack,
           request->write);
    printf("  segment base %#llx limit %#x type %#x big %d unusable %d system %d; offset %#llx, %llu bytes\n",
           (unsigned long long)request->segment.base, request->segment.limit, request->segment.type,
           request->segment.big, request->segment.unusable, request->segment.system,
           (unsigned long long)request->offset, (unsigned long long)request->bytes);
}

static bool same_segmentation(const struct input *in)
{
    u64 want = 0, got = 0;
    struct linear_result result = {.vector = 0};
    enum spec_linear_result spec = spec_linear(&in->request, &want);
    enum linear_status status = linear_address(&in->context, &in->operand,
                                               in->request.write ? ACCESS_WRITE : ACCESS_READ, &got, &result);

    switch (spec) {
    case SPEC_LINEAR_OK:
        return status == LINEAR_OK && got == want;
    case SPEC_LINEAR_GP:
        return status == LINEAR_EXCEPTION && result.vector == EXC_GP && result.error_code == 0;
    case SPEC_LINEAR_SS:
        return status == LINEAR_EXCEPTION && result.vector == EXC_SS && result.error_code == 0;
    case SPEC_LINEAR_UNSPECIFIED:
        break;
    }
    return status == LINEAR_OK ||
           (status == LINEAR_EXCEPTION && result.vector == (in->request.stack ? EXC_SS : EXC_GP));
}

static void segmentation(void **state)
{
    static const enum spec_format formats[] = {SPEC_NO_PAGING, SPEC_32BIT, SPEC_LONG4, SPEC_LONG5};
    static struct input in;

    (void)state;
    for (u64 n = 0; n < LINEAR_ADDRESSES; n++) {
        enum spec_format format = formats[random_below(ARRAY_SIZE(formats))];
        struct case_machine machine = {.cr0 = CR0_PE, .cr4 = format == SPEC_LONG5 ? CR4_LA57 : 0};

        if (format != SPEC_NO_PAGING)
            machine.cr0 |= CR0_PG;
        if (format >= SPEC_LONG4)
            machine.efer = EFER_LMA | EFER_LME;
        random_request(&in, &machine, random_mode(format));
        if (!same_segmentation(&in)) {
            printf("segmentation differs in case %llu\n", (unsigned long long)n);
            print_request(&in);
            fail();
        }
    }
    printf("  %u operands through segmentation compared\n", LINEAR_ADDRESSES);
}

/* Every position of a single different bit, and random pointers, for every setting of LAM. */
static void masking(void **state)
{
    u64 cases = 0;

    (void)state;
    for (unsigned modes = 0; modes < 16; modes++) {
        struct spec_linear_request request = {.mode = SPEC_64BIT,
                                              .la57 = (modes & 1) != 0,
                                              .lam_u48 = (modes & 2) != 0,
                                              .lam_u57 = (modes & 4) != 0,
                                              .lam_sup = (modes & 8) != 0};
        u64 cr3 = 0x1000 | (request.lam_u48 ? CR3_LAM_U48 : 0) | (request.lam_u57 ? CR3_LAM_U57 : 0);
        u64 cr4 = (request.la57 ? CR4_LA57 : 0) | (request.lam_sup ? CR4_LAM_SUP : 0);

        for (unsigned n = 0; n < LINEAR_ADDRESSES / 200 + 4 * 64 * 64; n++) {
            u64 pointer = random_u64();

            if (n < 4 * 64 * 64)
                pointer =
                    ((n & 1) != 0 ? ~0ull : 0) ^ BIT(n >> 2 & 63) ^ ((n & 2) != 0 ? BIT(n >> 8 & 63) : 0);
            assert_true(linear_lam_mask(pointer, cr3, cr4) == spec_lam(&request, pointer));
            assert_true(linear_canonical(pointer, request.la57) == spec_canonical(pointer, request.la57));
            cases++;
        }
    }
    printf("  %llu pointers masked and judged\n", (unsigned long long)cases);
}

/* --- whole operands
 * --------------------------------------------------------------------------------------------------- */

enum outcome { DONE, EXCEPTION, HOST_FAULT, NOT_MEMORY, UNSPECIFIED };

/* What the specification says of a whole operand. */
struct verdict {
    enum outcome outcome;
    unsigned vector;
    u32 code;
    u64 cr2;
    struct spec_translation host; /* of a host fault */
    unsigned pieces;
    struct {
        u64 physical, bytes;
    } piece[2];
    struct spec_flag_sets flags;
};

/* SDM vol. 3A 6.15: #AC with CR0.AM and EFLAGS.AC at CPL 3, not for the CPU's own accesses. */
static bool misaligned(const struct input *in, u64 linear)
{
    return (in->context.cr0 & CR0_AM) != 0 && in->access.ac && in->access.cpl == 3 && !in->access.implicit &&
           in->operand.alignment > 1 && linear % in->operand.alignment != 0;
}

static bool judge_page(const struct input *in, u64 linear, struct verdict *verdict, u64 *physical)
{
    struct spec_translation_2d walked;

    if (in->second.kind == SPEC_SECOND_NONE)
        walked.whole = spec_walk(&in->guest.spec, &memory.spec, linear, &in->access, &verdict->flags);
    else
        walked =
            spec_walk_2d(&in->guest.spec, &in->second, &memory.spec, linear, &in->access, &verdict->flags);
    *physical = walked.whole.address;
    if (walked.whole.result == SPEC_TRANSLATED)
        return true;
    verdict->outcome = walked.whole.result == SPEC_NO_MEMORY ? NOT_MEMORY : HOST_FAULT;
    verdict->host = walked.whole;
    if (walked.whole.result == SPEC_PAGE_FAULT) {
        verdict->outcome = EXCEPTION;
        verdict->vector = EXC_PF;
        verdict->code = walked.whole.code;
        verdict->cr2 = linear;
    }
    return false;
}

static bool is_memory(u64 physical, u64 bytes)
{
    return physical >= memory.base && physical - memory.base < CASE_BYTES &&
           bytes <= CASE_BYTES - (physical - memory.base);
}

/* Both pages are translated before anything else; a linear address outside 64-bit mode has 32 bits. */
static void judge_pages(const struct input *in, u64 linear, struct verdict *verdict)
{
    u64 first = PAGE_SIZE - linear % PAGE_SIZE;
    u64 sizes[2] = {min_u64(first, in->request.bytes), in->request.bytes - min_u64(first, in->request.bytes)};

    for (unsigned i = 0; i < 2 && sizes[i] != 0; i++) {
        u64 start = i == 0 ? linear : linear + first;

        if (in->request.mode != SPEC_64BIT)
            start &= 0xFFFFFFFF;
        if (!judge_page(in, start, verdict, &verdict->piece[i].physical))
            return;
        verdict->piece[i].bytes = sizes[i];
        verdict->pieces++;
    }
    for (unsigned i = 0; i < verdict->pieces; i++)
        if (!is_memory(verdict->piece[i].physical, verdict->piece[i].bytes))
            verdict->outcome = NOT_MEMORY;
}

static struct verdict judge(const struct input *in)
{
    struct verdict verdict = {.outcome = DONE};
    u64 linear = 0;
    enum spec_linear_result segmented = spec_linear(&in->request, &linear);

    if (segmented == SPEC_LINEAR_UNSPECIFIED) {
        verdict.outcome = UNSPECIFIED;
    } else if (segmented != SPEC_LINEAR_OK) {
        verdict.outcome = EXCEPTION;
        verdict.vector = segmented == SPEC_LINEAR_SS ? EXC_SS : EXC_GP;
    } else if (misaligned(in, linear)) {
        verdict.outcome = EXCEPTION;
        verdict.vector = EXC_AC;
    } else {
        judge_pages(in, linear, &verdict);
    }
    return verdict;
}

static void fail_operand(const struct input *in, const struct verdict *verdict, enum linear_status status,
                         const struct linear_result *result, const char *what)
{
    static const char *const outcomes[] = {"done", "exception", "host fault", "not memory", "unspecified"};

    printf("%s differs in case %llu\n", what, (unsigned long long)compared);
    print_request(in);
    case_print_access(&in->access);
    case_print_tables("guest", &in->guest.spec);
    if (in->second.kind != SPEC_SECOND_NONE)
        case_print_tables("second level", &in->second.tables);
    printf("  specification: %s vector %u code %#x cr2 %#llx pieces %u: %#llx+%llu %#llx+%llu\n",
           outcomes[verdict->outcome], verdict->vector, verdict->code, (unsigned long long)verdict->cr2,
           verdict->pieces, (unsigned long long)verdict->piece[0].physical,
           (unsigned long long)verdict->piece[0].bytes, (unsigned long long)verdict->piece[1].physical,
           (unsigned long long)verdict->piece[1].bytes);
    printf("  code: status %u vector %u code %#x cr2 %#llx address %#llx fault reason %u\n", status,
           result->vector, result->error_code, (unsigned long long)result->cr2,
           (unsigned long long)result->address, result->fault.reason);
    case_print_flags(&memory, &verdict->flags);
    fail();
}

static const char *compare_status(const struct input *in, const struct verdict *verdict,
                                  enum linear_status status, const struct linear_result *result)
{
    static const enum linear_status statuses[] = {LINEAR_OK, LINEAR_EXCEPTION, LINEAR_HOST_FAULT,
                                                  LINEAR_NOT_MEMORY};

    if (status != statuses[verdict->outcome])
        return "status";
    if (verdict->outcome == EXCEPTION) {
        if (result->vector != verdict->vector || result->error_code != verdict->code)
            return "exception";
        if (verdict->vector == EXC_PF && result->cr2 != verdict->cr2)
            return "CR2";
    }
    if (verdict->outcome == HOST_FAULT && result->fault.address != verdict->host.gpa)
        return "guest-physical address of a host fault";
    if (verdict->outcome == HOST_FAULT && verdict->host.result == SPEC_NPF &&
        fault_npf_exit_info_1(in->host.code.role, &result->fault) != verdict->host.exitinfo1)
        return "EXITINFO1";
    if (verdict->outcome == HOST_FAULT && verdict->host.result == SPEC_EPT_VIOLATION &&
        ((fault_ept_qualification(in->host.code.role, &result->fault, in->second.advanced) ^
          verdict->host.qualification) &
         ~verdict->host.qualification_undefined) != 0)
        return "exit qualification";
    return NULL;
}

/* The operand's bytes, and no others, were read or written, in the order of their addresses. */
static const char *compare_bytes(const struct verdict *verdict, bool read)
{
    u64 done = 0;

    if (memory.data_writes != (read ? 0 : verdict->pieces))
        return "number of writes";
    for (unsigned i = 0; i < verdict->pieces; i++) {
        const u8 *at = memory.bytes + (verdict->piece[i].physical - memory.base);

        if (memcmp(at, (read ? buffer : data) + done, verdict->piece[i].bytes) != 0)
            return "bytes";
        if (!read && (memory.data_write[i].address != verdict->piece[i].physical ||
                      memory.data_write[i].bytes != verdict->piece[i].bytes))
            return "place of a write";
        done += verdict->piece[i].bytes;
    }
    return NULL;
}

/* Does the operand itself lie over a table that it was reached through? Then its flags are gone. */
static bool overwrites_flags(const struct verdict *verdict)
{
    for (unsigned i = 0; i < verdict->flags.count; i++)
        for (unsigned p = 0; p < verdict->pieces; p++)
            if (verdict->flags.set[i].address + 4 > verdict->piece[p].physical &&
                verdict->flags.set[i].address < verdict->piece[p].physical + verdict->piece[p].bytes)
                return true;
    return false;
}

static enum outcome compare_operand(struct input *in)
{
    struct linear_result result = {.vector = 0};
    struct verdict verdict = judge(in);
    unsigned access = case_guest_access(&in->access) & ~(unsigned)(ACCESS_USER | ACCESS_AC);
    /* A read-modify-write operand is read as if written. */
    bool read = !in->request.write || random_chance(10);
    enum linear_status status;
    const char *wrong;

    if (verdict.outcome == UNSPECIFIED)
        return UNSPECIFIED;
    if (read)
        status = linear_read(&in->context, &in->operand, access, buffer, &result);
    else
        status = linear_write(&in->context, &in->operand, access & ~(unsigned)ACCESS_WRITE, data, &result);
    wrong = compare_status(in, &verdict, status, &result);
    if (wrong == NULL)
        wrong = case_compare_flags(&memory, &verdict.flags,
                                   status != LINEAR_OK || (!read && overwrites_flags(&verdict)));
    if (wrong == NULL && status == LINEAR_OK)
        wrong = compare_bytes(&verdict, read);
    if (wrong == NULL && status != LINEAR_OK && memory.data_writes != 0)
        wrong = "a write before a fault";
    if (wrong != NULL)
        fail_operand(in, &verdict, status, &result, wrong);
    compared++;
    return verdict.outcome;
}

/* A frame without tables, frequently the last one, or what comes after it. */
static u64 random_data_frame(void)
{
    unsigned frame = random_chance(40) ? CASE_FRAMES - 1 : 16 + (unsigned)random_below(CASE_FRAMES + 1 - 16);

    return memory.base + frame * PAGE_SIZE;
}

/* Tables for the one or two pages of the operand. */
static void build_guest(struct input *in, u64 linear)
{
    struct case_chain chain = {.spec = &in->guest.spec,
                               .leaf_level = case_random_leaf_level(&in->guest.spec),
                               .odd_percent = random_chance(50) ? 2 : 0,
                               .plain_percent = random_chance(70) ? 97 : 30};
    unsigned levels = spec_levels(in->guest.spec.format);

    for (unsigned level = 1; level <= levels; level++) {
        chain.table_address[level] = memory.base + (10 + level) * PAGE_SIZE;
        chain.table_host[level] = chain.table_address[level];
    }
    in->guest.spec.root = levels == 0 ? 0 : chain.table_address[levels];
    for (unsigned i = 0; i < 4 && in->guest.spec.pdpte_loaded; i++)
        in->guest.spec.pdpte[i] = chain.table_address[2] | 1;
    for (unsigned page = 0; page < 2 && levels != 0; page++) {
        chain.address = linear + page * PAGE_SIZE;
        chain.target = random_data_frame();
        case_build_chain(&memory, &chain);
    }
}

/* The second level maps memory to itself, but for spoiled entries; each frame has an entry of its own. */
static void build_host(struct input *in)
{
    const struct spec_paging *spec = &in->second.tables;
    struct case_chain chain = {
        .spec = spec, .leaf_level = 1, .odd_percent = random_chance(30) ? 1 : 0, .plain_percent = 99};

    for (unsigned level = 1; level <= spec_levels(spec->format); level++)
        chain.table_host[level] = chain.table_address[level] = memory.base + (2 + level) * PAGE_SIZE;
    in->second.tables.root = in->host.spec.root = chain.table_host[spec_levels(spec->format)];
    in->context.host_root = in->host.spec.root;
    for (unsigned frame = 0; frame < CASE_FRAMES; frame++) {
        chain.address = chain.target = memory.base + frame * PAGE_SIZE;
        case_build_chain(&memory, &chain);
    }
}

static struct spec_access random_operand_access(enum spec_mode mode, bool write, bool system)
{
    struct spec_access access = {.kind = write ? SPEC_WRITE : SPEC_READ, .ac = random_chance(50)};

    access.cpl = mode == SPEC_V86 || random_chance(50) ? 3
                 : mode == SPEC_REAL                   ? 0
                                                       : (unsigned)random_below(3);
    if (mode == SPEC_REAL)
        access.cpl = 0;
    access.implicit = system && random_chance(70);
    access.shadow_stack = mode == SPEC_64BIT && !access.implicit && random_chance(10);
    return access;
}

/* An operand that mostly passes segmentation and often lies over the end of a page. */
static void random_operand(struct input *in, const struct case_machine *machine)
{
    enum spec_mode mode = random_mode(in->guest.spec.format);

    random_request(in, machine, mode);
    if (random_chance(85)) {
        in->request.segment.limit = in->operand.segment.limit = 0xFFFFFFFF;
        in->request.segment.type = in->operand.segment.type = 3;
        if (in->guest.spec.format == SPEC_NO_PAGING)
            in->request.segment.base = in->operand.segment.base = 0;
    }
    if (random_chance(50))
        in->request.offset |= PAGE_SIZE - 1 - random_below(8);
    if (in->guest.spec.format == SPEC_NO_PAGING && random_chance(80))
        in->request.offset = memory.base + 16 * PAGE_SIZE + random_below(CASE_BYTES - 16 * PAGE_SIZE + 16);
    if (mode != SPEC_64BIT && random_chance(10)) /* over the end of the 32-bit linear addresses */
        in->request.segment.base =
            random_below(in->request.bytes + 1) - in->request.offset - in->request.bytes;
    if (mode != SPEC_64BIT) {
        in->request.offset &= 0xFFFFFFFF;
        in->request.segment.base &= 0xFFFFFFFF;
    }
    in->operand.segment.base = in->request.segment.base;
    in->operand.offset = in->request.offset;
    in->access = random_operand_access(mode, in->request.write, in->request.segment.system);
    in->operand.implicit = in->access.implicit;
    in->operand.alignment = (u8)(random_chance(20) ? BIT(random_below(5)) : 0);
    in->context.cpl = (u8)in->access.cpl;
    in->context.rflags |= in->access.ac ? RFLAGS_AC : 0;
    in->context.cr0 |= random_chance(50) ? CR0_AM : 0;
}

static void random_case(struct input *in, const struct case_machine *machine, u64 *outcomes)
{
    u64 linear = 0, root;

    case_memory_place(&memory, random_chance(50) ? 0 : GIB(1));
    memory.disturb_percent = 0;
    random_operand(in, machine);
    (void)spec_linear(&in->request, &linear);
    build_guest(in, linear);
    if (in->second.kind != SPEC_SECOND_NONE)
        build_host(in);
    root = in->context.root & (CR3_LAM_U48 | CR3_LAM_U57);
    in->context.root = in->guest.spec.root | root;
    outcomes[compare_operand(in)]++;
}

static void random_stages(struct input *in, const struct case_machine *machine)
{
    in->second.kind = (enum spec_second_kind)random_below(3);
    case_guest(&in->guest, machine);
    if (in->second.kind == SPEC_SECOND_EPT) {
        struct case_ept ept = case_random_ept(SPEC_EPT4);

        in->second.advanced = ept.advanced;
        case_ept(&in->host, &ept);
    } else if (in->second.kind == SPEC_SECOND_NPT) {
        struct case_machine host = case_random_machine(SPEC_LONG4);

        /* No GMET: EXITINFO1 would tell the CPL of an implicit access, which enum access does not name. */
        case_npt(&in->host, &host, false);
    }
    in->second.tables = in->host.spec;
    in->context =
        (struct linear_context){.paging = &in->guest.code,
                                .memory = &memory.code,
                                .host = in->second.kind == SPEC_SECOND_NONE ? NULL : &in->host.code};
}

static void operands(void **state)
{
    static const enum spec_format formats[] = {SPEC_NO_PAGING, SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static struct input in;
    struct case_machine machine;
    u64 outcomes[UNSPECIFIED + 1] = {0};

    (void)state;
    for (u64 n = 0; n < LINEAR_OPERANDS; n++) {
        if (n % 8 == 0) {
            machine = case_random_machine(formats[random_below(ARRAY_SIZE(formats))]);
            random_stages(&in, &machine);
        }
        random_case(&in, &machine, outcomes);
    }
    printf("  %llu operands compared: %llu done, %llu exceptions, %llu host faults, %llu not memory\n",
           (unsigned long long)compared, (unsigned long long)outcomes[DONE],
           (unsigned long long)outcomes[EXCEPTION], (unsigned long long)outcomes[HOST_FAULT],
           (unsigned long long)outcomes[NOT_MEMORY]);
    for (enum outcome outcome = DONE; outcome <= NOT_MEMORY; outcome++)
        assert_true(outcomes[outcome] > LINEAR_OPERANDS / 100);
}

/* How many bytes an instruction fetch can have: page by page, as the specification's walk allows it. */
static u64 fetchable(const struct input *in, u64 linear, u64 bytes)
{
    u64 done = 0;

    while (done < bytes) {
        u64 at = in->request.mode == SPEC_64BIT ? linear + done : (linear + done) & 0xFFFFFFFF;
        u64 part = min_u64(PAGE_SIZE - at % PAGE_SIZE, bytes - done);
        struct spec_translation_2d walked;

        if (in->request.mode == SPEC_64BIT && !spec_canonical(at, in->request.la57))
            break;
        if (in->second.kind == SPEC_SECOND_NONE)
            walked.whole = spec_walk(&in->guest.spec, &memory.spec, at, &in->access, NULL);
        else
            walked = spec_walk_2d(&in->guest.spec, &in->second, &memory.spec, at, &in->access, NULL);
        if (walked.whole.result != SPEC_TRANSLATED || !is_memory(walked.whole.address, part) ||
            memcmp(buffer + done, memory.bytes + (walked.whole.address - memory.base), part) != 0)
            break;
        done += part;
    }
    return done;
}

static void instruction_fetches(void **state)
{
    static const enum spec_format formats[] = {SPEC_NO_PAGING, SPEC_32BIT, SPEC_PAE, SPEC_LONG4, SPEC_LONG5};
    static struct input in;
    struct case_machine machine;
    u64 whole = 0, none = 0;

    (void)state;
    for (u64 n = 0; n < LINEAR_OPERANDS / 4; n++) {
        u64 linear = 0, bytes = random_below(15) + 1, got;

        machine = case_random_machine(formats[random_below(ARRAY_SIZE(formats))]);
        random_stages(&in, &machine);
        case_memory_place(&memory, 0);
        random_operand(&in, &machine);
        if (spec_linear(&in.request, &linear) != SPEC_LINEAR_OK ||
            (in.request.mode == SPEC_64BIT && linear > ~0ull - 64))
            continue;
        build_guest(&in, linear);
        if (in.second.kind != SPEC_SECOND_NONE)
            build_host(&in);
        in.context.root = in.guest.spec.root;
        in.access = (struct spec_access){.kind = SPEC_FETCH, .cpl = in.context.cpl};
        memset(buffer, 0xCC, sizeof(buffer));
        got = linear_fetch(&in.context, linear, buffer, bytes);
        if (memory.writes != 0 || got > bytes || fetchable(&in, linear, got) != got) {
            printf("%llu of %llu bytes fetched at %#llx, %u entries written\n", (unsigned long long)got,
                   (unsigned long long)bytes, (unsigned long long)linear, memory.writes);
            print_request(&in);
            case_print_tables("guest", &in.guest.spec);
            fail();
        }
        if (got < bytes) {
            /* The next byte must really not be there: put anything into the buffer that memory might hold. */
            for (unsigned value = 0; value < 256; value++) {
                buffer[got] = (u8)value;
                assert_true(fetchable(&in, linear, got + 1) == got);
            }
        }
        whole += got == bytes;
        none += got == 0;
    }
    assert_true(whole > LINEAR_OPERANDS / 100 && none > LINEAR_OPERANDS / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segmentation),
        cmocka_unit_test(masking),
        cmocka_unit_test(operands),
        cmocka_unit_test(instruction_fetches),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
