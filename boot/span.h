/* SPDX-License-Identifier: MIT */
/*
 * Bounded views of bytes that others wrote: boot information and guest images. A read outside of a span gives
 * 0 and touches nothing, so a forgotten check can misread but never reach beyond what was given. Values are
 * little-endian, of any alignment.
 */
#ifndef UMBRA_BOOT_SPAN_H
#define UMBRA_BOOT_SPAN_H

#include "arch/string.h"
#include "arch/types.h"

struct span {
    const u8 *base;
    u64 bytes;
};

static inline bool span_holds(struct span span, u64 offset, u64 bytes)
{
    return offset <= span.bytes && bytes <= span.bytes - offset;
}

/* `bytes` from `offset` on; what lies beyond the end is cut off. */
static inline struct span span_part(struct span span, u64 offset, u64 bytes)
{
    if (offset > span.bytes)
        return (struct span){span.base, 0};
    return (struct span){span.base + offset, min_u64(bytes, span.bytes - offset)};
}

static inline u8 span_u8(struct span span, u64 offset)
{
    return span_holds(span, offset, 1) ? span.base[offset] : 0;
}

static inline u16 span_u16(struct span span, u64 offset)
{
    u16 value = 0;
    if (span_holds(span, offset, sizeof(value)))
        memcpy(&value, span.base + offset, sizeof(value));
    return value;
}

static inline u32 span_u32(struct span span, u64 offset)
{
    u32 value = 0;
    if (span_holds(span, offset, sizeof(value)))
        memcpy(&value, span.base + offset, sizeof(value));
    return value;
}

static inline u64 span_u64(struct span span, u64 offset)
{
    u64 value = 0;
    if (span_holds(span, offset, sizeof(value)))
        memcpy(&value, span.base + offset, sizeof(value));
    return value;
}

#endif
