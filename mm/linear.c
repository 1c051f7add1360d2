/* SPDX-License-Identifier: MIT */
/*
 * Linear-address access; see mm/linear.h. An operand has at most two pages; both are translated, flags
 * included, before a byte moves.
 */
#include "mm/linear.h"
#include "arch/string.h"
#include "arch/x86.h"
#include "mm/walk-quick.h"

#define LINEAR_32_BIT BITS(31, 0)

/* Code- and data-segment types, SDM vol. 3A table 3-1. */
#define TYPE_CODE        BIT(3)
#define TYPE_EXPAND_DOWN BIT(2) /* data */
#define TYPE_WRITABLE    BIT(1) /* data; code: readable */

/* The part of an operand that lies in one page. */
struct piece {
    gpa_t address;
    size_t bytes;
};

u64 linear_lam_mask(u64 address, u64 cr3, u64 cr4)
{
    bool supervisor = (address >> 63) != 0;
    unsigned sign; /* the bit that replaces all from there to bit 62 */

    if (supervisor) {
        if ((cr4 & CR4_LAM_SUP) == 0)
            return address;
        sign = (cr4 & CR4_LA57) != 0 ? 56 : 47;
    } else {
        if ((cr3 & (CR3_LAM_U57 | CR3_LAM_U48)) == 0)
            return address;
        sign = (cr3 & CR3_LAM_U57) != 0 ? 56 : 47;
    }
    u64 metadata = BITS(62, sign + 1);
    return (address >> sign & 1) != 0 ? address | metadata : address & ~metadata;
}

bool linear_canonical(u64 address, bool la57)
{
    unsigned unused = la57 ? 64 - 57 : 64 - 48;

    return (u64)((i64)(address << unused) >> unused) == address;
}

static enum linear_status raise(struct linear_result *result, enum exception_vector vector)
{
    result->vector = (u8)vector;
    result->error_code = 0;
    return LINEAR_EXCEPTION;
}

static enum linear_status raise_segment(struct linear_result *result, const struct linear_segment *segment)
{
    return raise(result, segment->stack ? EXC_SS : EXC_GP);
}

/* SDM vol. 1 3.3.7.1, vol. 3A 4.4: both ends must be canonical once the metadata are gone. */
static enum linear_status address_64(const struct linear_context *context,
                                     const struct linear_operand *operand, unsigned access, u64 *linear,
                                     struct linear_result *result)
{
    bool la57 = (context->cr4 & CR4_LA57) != 0;
    u64 address = operand->segment.base + operand->offset;

    if ((access & ACCESS_FETCH) == 0 && !operand->segment.system && !operand->implicit)
        address = linear_lam_mask(address, context->root, context->cr4);
    if (!linear_canonical(address, la57) || !linear_canonical(address + operand->bytes - 1, la57))
        return raise_segment(result, &operand->segment);
    *linear = address;
    return LINEAR_OK;
}

static bool type_allows(const struct linear_segment *segment, unsigned access)
{
    bool code = (segment->type & TYPE_CODE) != 0;
    bool read_or_write = (segment->type & TYPE_WRITABLE) != 0;

    if (segment->system)
        return true;
    if ((access & ACCESS_FETCH) != 0)
        return code;
    if ((access & ACCESS_WRITE) != 0)
        return !code && read_or_write;
    return !code || read_or_write;
}

static bool within_limit(const struct linear_segment *segment, u64 first, u64 last)
{
    bool expand_down =
        !segment->system && (segment->type & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN;

    if (!expand_down)
        return last <= segment->limit;
    return first > segment->limit && last <= (segment->big ? BITS(31, 0) : BITS(15, 0));
}

/* SDM vol. 3A 5.3 (limit), 5.5 (type), 5.4.1 (null selector). */
static enum linear_status address_32(const struct linear_operand *operand, unsigned access, u64 *linear,
                                     struct linear_result *result)
{
    const struct linear_segment *segment = &operand->segment;
    u64 first = operand->offset & LINEAR_32_BIT;

    if (!segment->usable || !type_allows(segment, access) ||
        !within_limit(segment, first, first + operand->bytes - 1))
        return raise_segment(result, segment);
    *linear = (segment->base + first) & LINEAR_32_BIT;
    return LINEAR_OK;
}

enum linear_status linear_address(const struct linear_context *context, const struct linear_operand *operand,
                                  unsigned access, u64 *linear, struct linear_result *result)
{
    return context->code_64 ? address_64(context, operand, access, linear, result)
                            : address_32(operand, access, linear, result);
}

/* CPL 3 checks alignment and is a user; only an explicit supervisor access is one that EFLAGS.AC concerns. */
static unsigned complete_access(const struct linear_context *context, const struct linear_operand *operand,
                                unsigned access)
{
    if (operand->implicit)
        return access;
    if (context->cpl == 3)
        return access | ACCESS_USER;
    bool ac = (context->rflags & RFLAGS_AC) != 0 && (access & (ACCESS_FETCH | ACCESS_SHADOW_STACK)) == 0;
    return ac ? access | ACCESS_AC : access;
}

static bool misaligned(const struct linear_context *context, const struct linear_operand *operand, u64 linear)
{
    if (operand->implicit || operand->alignment < 2 || context->cpl != 3)
        return false;
    if ((context->cr0 & CR0_AM) == 0 || (context->rflags & RFLAGS_AC) == 0)
        return false;
    return (linear & (operand->alignment - 1u)) != 0;
}

static enum linear_status page_fault(const struct linear_context *context, const struct fault *fault,
                                     u64 linear, struct linear_result *result)
{
    result->fault = *fault;
    result->vector = EXC_PF;
    result->error_code = fault_pf_error_code(context->paging->role, fault);
    result->cr2 = linear;
    return LINEAR_EXCEPTION;
}

static enum linear_status not_memory(const struct walk *walk, struct linear_result *result)
{
    result->address = walk->entry[walk->level].address;
    return LINEAR_NOT_MEMORY;
}

static enum linear_status translate_1d(const struct linear_context *context, u64 linear, unsigned access,
                                       u64 *address, struct linear_result *result)
{
    struct walk walk;

    switch (walk_translate_and_mark(context->paging, context->memory, context->root, linear, access, &walk)) {
    case WALK_OK:
        *address = walk.address;
        return LINEAR_OK;
    case WALK_FAULT:
        return page_fault(context, &walk.fault, linear, result);
    case WALK_NOT_MEMORY:
        return not_memory(&walk, result);
    default:
        return LINEAR_CONTENDED;
    }
}

static enum linear_status translate_2d(const struct linear_context *context, u64 linear, unsigned access,
                                       u64 *address, struct linear_result *result)
{
    const struct walk_2d_tables tables = {context->paging, context->root, context->host, context->host_root};
    struct walk_2d walk;
    enum walk_status status = walk_translate_2d_and_mark(&tables, context->memory, linear, access, &walk);

    if (status == WALK_OK) {
        *address = walk.address;
        return LINEAR_OK;
    }
    const struct walk *failed = walk.stage == WALK_STAGE_HOST ? &walk.host : &walk.guest;
    if (status == WALK_NOT_MEMORY)
        return not_memory(failed, result);
    if (status != WALK_FAULT)
        return LINEAR_CONTENDED;
    if (walk.stage == WALK_STAGE_GUEST)
        return page_fault(context, &failed->fault, linear, result);
    result->fault = failed->fault;
    return LINEAR_HOST_FAULT;
}

/* The pieces of the operand in its one or two pages, translated. */
static enum linear_status translate(const struct linear_context *context,
                                    const struct linear_operand *operand, u64 linear, unsigned access,
                                    struct piece piece[2], struct linear_result *result)
{
    u64 mask = context->code_64 ? ~0ull : LINEAR_32_BIT;
    size_t left = operand->bytes;

    for (unsigned i = 0; i < 2; i++) {
        u64 address = 0;

        piece[i].bytes = min_u64(left, PAGE_SIZE - (linear & PAGE_MASK));
        if (piece[i].bytes == 0)
            break;
        enum linear_status status = context->host == NULL
                                        ? translate_1d(context, linear, access, &address, result)
                                        : translate_2d(context, linear, access, &address, result);
        if (status != LINEAR_OK)
            return status;
        piece[i].address = gpa(address);
        left -= piece[i].bytes;
        linear = (linear + piece[i].bytes) & mask;
    }
    return LINEAR_OK;
}

/* All that comes before a byte moves. */
static enum linear_status prepare(const struct linear_context *context, const struct linear_operand *operand,
                                  unsigned access, struct piece piece[2], struct linear_result *result)
{
    u64 linear;
    enum linear_status status = linear_address(context, operand, access, &linear, result);

    if (status != LINEAR_OK)
        return status;
    if (misaligned(context, operand, linear))
        return raise(result, EXC_AC);
    return translate(context, operand, linear, complete_access(context, operand, access), piece, result);
}

static enum linear_status outside(gpa_t address, struct linear_result *result)
{
    result->address = address.raw;
    return LINEAR_NOT_MEMORY;
}

enum linear_status linear_read(const struct linear_context *context, const struct linear_operand *operand,
                               unsigned access, void *dst, struct linear_result *result)
{
    struct piece piece[2] = {{gpa(0), 0}, {gpa(0), 0}};
    u8 *to = dst;
    enum linear_status status = prepare(context, operand, access, piece, result);

    for (unsigned i = 0; i < 2 && status == LINEAR_OK && piece[i].bytes != 0; i++) {
        if (context->memory->read(context->memory, piece[i].address, to, piece[i].bytes) != MEMORY_OK)
            status = outside(piece[i].address, result);
        to += piece[i].bytes;
    }
    return status;
}

enum linear_status linear_write(const struct linear_context *context, const struct linear_operand *operand,
                                unsigned access, const void *src, struct linear_result *result)
{
    const struct paging_memory *memory = context->memory;
    struct piece piece[2] = {{gpa(0), 0}, {gpa(0), 0}};
    const u8 *from = src;
    enum linear_status status = prepare(context, operand, access | ACCESS_WRITE, piece, result);

    for (unsigned i = 0; i < 2 && status == LINEAR_OK && piece[i].bytes != 0; i++) {
        if (!memory->writable(memory, piece[i].address, piece[i].bytes))
            status = outside(piece[i].address, result);
    }
    for (unsigned i = 0; i < 2 && status == LINEAR_OK && piece[i].bytes != 0; i++) {
        if (memory->write(memory, piece[i].address, from, piece[i].bytes) != MEMORY_OK)
            status = outside(piece[i].address, result);
        from += piece[i].bytes;
    }
    return status;
}

static bool translate_fetch_2d(const struct linear_context *context, u64 linear, unsigned access,
                               u64 *address)
{
    const struct walk_2d_tables tables = {context->paging, context->root, context->host, context->host_root};
    struct walk_2d walked;

    if (walk_translate_2d(&tables, context->memory, linear, access, &walked) != WALK_OK)
        return false;
    *address = walked.address;
    return true;
}

static bool translate_fetch(const struct linear_context *context, u64 linear, u64 *address)
{
    unsigned access = ACCESS_FETCH | (context->cpl == 3 ? ACCESS_USER : 0);
    struct walk walked;

    if (context->host != NULL)
        return translate_fetch_2d(context, linear, access, address);
    if (walk_translate(context->paging, context->memory, context->root, linear, access, &walked) != WALK_OK)
        return false;
    *address = walked.address;
    return true;
}

size_t linear_fetch(const struct linear_context *context, u64 linear, u8 *dst, size_t bytes)
{
    u64 mask = context->code_64 ? ~0ull : LINEAR_32_BIT;
    size_t had = 0;

    while (had < bytes) {
        u64 next = (linear + had) & mask;
        size_t chunk = min_u64(bytes - had, PAGE_SIZE - (next & PAGE_MASK));
        u64 from = 0;

        if (context->code_64 && !linear_canonical(next, (context->cr4 & CR4_LA57) != 0))
            break;
        if (!translate_fetch(context, next, &from) ||
            context->memory->read(context->memory, gpa(from), dst + had, chunk) != MEMORY_OK)
            break;
        had += chunk;
    }
    return had;
}
