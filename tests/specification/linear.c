/* SPDX-License-Identifier: MIT */
/*
 * From segment and effective address to a linear address for memory operands: SDM 3.3.7.1, 3.4, 5.3, 5.4
 * (volume 3A), 4.4 "linear-address masking" of the paging chapter, APM 4.8 and 5.3.1.
 */
#include "tests/specification/specification.h"

/* SDM volume 1, 3.3.7.1: bits 63 down to the highest translated one (47, or 56 with CR4.LA57) are all equal.
 */
bool spec_canonical(u64 address, bool la57)
{
    unsigned top = la57 ? 56 : 47;

    for (unsigned bit = top; bit < 63; bit++)
        if ((address >> bit & 1) != (address >> 63))
            return false;
    return true;
}

/* Bits 62:(top + 1) become copies of bit `top`; bit 63 stays. */
static u64 mask_pointer(u64 pointer, unsigned top)
{
    u64 sign = pointer >> top & 1;

    for (unsigned bit = top + 1; bit <= 62; bit++)
        pointer = (pointer & ~(1ull << bit)) | sign << bit;
    return pointer;
}

/*
 * SDM, linear-address masking: bit 63 of the pointer (not the CPL) tells user from supervisor pointers. User:
 * CR3.LAM_U57 keeps 57 bits, else CR3.LAM_U48 keeps 48. Supervisor: CR4.LAM_SUP keeps 57 with 5-level, 48
 * with 4-level paging. Only in 64-bit mode, only for data accesses by instructions (not by the CPU to system
 * structures), and before the canonical check.
 */
u64 spec_lam(const struct spec_linear_request *request, u64 pointer)
{
    if (request->mode != SPEC_64BIT || request->segment.system)
        return pointer;
    if (pointer >> 63 != 0) {
        if (!request->lam_sup)
            return pointer;
        return mask_pointer(pointer, request->la57 ? 56 : 47);
    }
    if (request->lam_u57)
        return mask_pointer(pointer, 56);
    if (request->lam_u48)
        return mask_pointer(pointer, 47);
    return pointer;
}

static enum spec_linear_result refuse(const struct spec_linear_request *request)
{
    return request->stack ? SPEC_LINEAR_SS : SPEC_LINEAR_GP;
}

/*
 * 64-bit mode, SDM 3.2.4 and 3.4.4: no limit, no type, and a base of FS and GS only, which is added modulo
 * 2^64. Every byte of the operand must lie at a canonical address, else #GP(0), or #SS(0) for a stack
 * reference.
 */
static enum spec_linear_result linear_64bit(const struct spec_linear_request *request, u64 *linear)
{
    u64 first = request->offset + (request->base_used ? request->segment.base : 0);
    u64 last;

    first = spec_lam(request, first);
    last = first + request->bytes - 1;
    if (!spec_canonical(first, request->la57) || !spec_canonical(last, request->la57))
        return refuse(request);
    *linear = first;
    return SPEC_LINEAR_OK;
}

/*
 * SDM 5.4.1 and 5.5 (table 3-1): a null selector refuses everything; a code segment refuses writes, and reads
 * if it is execute-only; a data segment refuses writes unless it is writable. In real-address and
 * virtual-8086 mode the hidden part's attributes stay in force as they were loaded (SDM 11.9.2): usable and
 * writable, if that mode loaded them. System structures have no such type.
 */
static bool type_allows(const struct spec_linear_request *request)
{
    bool code = (request->segment.type & 8) != 0;
    bool readable_or_writable = (request->segment.type & 2) != 0;

    if (request->segment.unusable)
        return false;
    if (request->segment.system)
        return true;
    if (request->write)
        return !code && readable_or_writable;
    return !code || readable_or_writable;
}

/*
 * SDM 5.3: an offset beyond the limit is refused; in an expand-down data segment (type bit 2 without bit 3,
 * not a system structure) the valid offsets are limit + 1 to FFFFH, or to FFFFFFFFH with the B flag.
 */
static bool limit_allows(const struct spec_linear_request *request, u64 offset)
{
    const struct spec_segment *segment = &request->segment;

    if (!segment->system && (segment->type & 0xC) == 0x4)
        return offset > segment->limit && offset <= (segment->big ? 0xFFFFFFFFull : 0xFFFFull);
    return offset <= segment->limit;
}

/*
 * Outside 64-bit mode: every byte within the limit; then base + offset modulo 2^32. SDM 5.3: whether an
 * operand that runs over the end of a segment whose limit is FFFFFFFFH is refused depends on the
 * implementation.
 */
static enum spec_linear_result linear_segmented(const struct spec_linear_request *request, u64 *linear)
{
    u64 last = request->offset + request->bytes - 1;

    if (!type_allows(request) || !limit_allows(request, request->offset))
        return refuse(request);
    if (last > 0xFFFFFFFFull && limit_allows(request, 0xFFFFFFFFull))
        return SPEC_LINEAR_UNSPECIFIED;
    if (!limit_allows(request, last))
        return refuse(request);
    *linear = (request->segment.base + request->offset) & 0xFFFFFFFFull;
    return SPEC_LINEAR_OK;
}

enum spec_linear_result spec_linear(const struct spec_linear_request *request, u64 *linear)
{
    if (request->mode == SPEC_64BIT)
        return linear_64bit(request, linear);
    return linear_segmented(request, linear);
}
