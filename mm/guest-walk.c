/* SPDX-License-Identifier: MIT */
/*
 * The guest's own paging, read-only; see mm/guest-walk.h. Each entry is read exactly once, by the checked
 * accessor of mm/guest-mem.h, so that a guest which changes its tables meanwhile gets one of its own answers
 * and nothing else.
 */
#include "mm/guest-walk.h"
#include "arch/x86.h"
#include "mm/guest-mem.h"

/* Paging-structure entries, SDM volume 3A, tables 4-4 to 4-20. */
#define ENTRY_PRESENT         BIT(0)
#define ENTRY_PS              BIT(7)
#define ENTRY_ADDRESS         BITS(51, 12)

#define PAE_CR3_ADDRESS       BITS(31, 5)
#define LEGACY_CR3_ADDRESS    BITS(31, 12)
#define LEGACY_4_MBYTE_LOW    BITS(31, 22)
#define LEGACY_4_MBYTE_HIGH   BITS(20, 13) /* PSE-36: address bits 39:32 */
#define LEGACY_4_MBYTE_SHIFT  22u
#define LEGACY_PSE36_DISTANCE 19u

#define LINEAR_32_BIT         BITS(31, 0)

enum decode_mode guest_decode_mode(const struct guest_paging *paging)
{
    if ((paging->efer & EFER_LMA) != 0 && paging->cs_long)
        return DECODE_MODE_64;
    return paging->cs_32_bit ? DECODE_MODE_32 : DECODE_MODE_16;
}

static u64 replace_low_bits(u64 high, u64 low, unsigned bits)
{
    return (high & ~(BIT(bits) - 1)) | (low & (BIT(bits) - 1));
}

static enum guest_walk_status read_legacy_entry(u64 table, u64 index, u64 *entry)
{
    u32 value;

    if (guest_load_u32(gpa(table + index * sizeof(value)), &value) != GUEST_MEM_OK)
        return GUEST_WALK_NO_TABLE;
    *entry = value;
    return (value & ENTRY_PRESENT) != 0 ? GUEST_WALK_OK : GUEST_WALK_NOT_PRESENT;
}

static enum guest_walk_status read_entry(u64 table, u64 index, u64 *entry)
{
    if (guest_load_u64(gpa(table + index * sizeof(*entry)), entry) != GUEST_MEM_OK)
        return GUEST_WALK_NO_TABLE;
    return (*entry & ENTRY_PRESENT) != 0 ? GUEST_WALK_OK : GUEST_WALK_NOT_PRESENT;
}

/* 32-bit paging, SDM volume 3A, section 4.3. */
static enum guest_walk_status walk_legacy(const struct guest_paging *paging, u64 linear, u64 *translated)
{
    u64 entry;
    enum guest_walk_status status =
        read_legacy_entry(paging->cr3 & LEGACY_CR3_ADDRESS, linear >> LEGACY_4_MBYTE_SHIFT, &entry);

    if (status != GUEST_WALK_OK)
        return status;
    if ((entry & ENTRY_PS) != 0 && (paging->cr4 & CR4_PSE) != 0) {
        u64 page = (entry & LEGACY_4_MBYTE_LOW) | (entry & LEGACY_4_MBYTE_HIGH) << LEGACY_PSE36_DISTANCE;

        *translated = replace_low_bits(page, linear, LEGACY_4_MBYTE_SHIFT);
        return GUEST_WALK_OK;
    }
    status = read_legacy_entry(entry & LEGACY_CR3_ADDRESS, linear >> PAGE_SHIFT & 0x3FF, &entry);
    *translated = replace_low_bits(entry & LEGACY_CR3_ADDRESS, linear, PAGE_SHIFT);
    return status;
}

/*
 * All formats with 8-byte entries, whose tables have 512 of them: from the table of `levels` (5: PML5, 4:
 * PML4, 3: page-directory pointers, of which PAE paging has four) down. Pages end at level 1, or at 2 or
 * large_page_level with PS.
 */
static enum guest_walk_status walk_levels(u64 table, unsigned levels, unsigned large_page_level, u64 linear,
                                          u64 *translated)
{
    for (unsigned level = levels;; level--) {
        unsigned shift = PAGE_SHIFT + 9 * (level - 1);
        u64 entry;
        enum guest_walk_status status = read_entry(table, linear >> shift & 0x1FF, &entry);

        if (status != GUEST_WALK_OK)
            return status;
        table = entry & ENTRY_ADDRESS;
        if (level == 1 || (entry & ENTRY_PS) != 0) {
            *translated = replace_low_bits(table, linear, shift);
            return level <= large_page_level ? GUEST_WALK_OK : GUEST_WALK_RESERVED;
        }
    }
}

static bool canonical(u64 linear, unsigned width)
{
    u64 sign = linear >> (width - 1);

    return sign == 0 || sign == BITS(64 - width, 0);
}

enum guest_walk_status guest_walk(const struct guest_paging *paging, gva_t address, gpa_t *translated)
{
    bool long_mode = (paging->efer & EFER_LMA) != 0;
    unsigned levels = (paging->cr4 & CR4_LA57) != 0 ? 5 : 4;
    u64 linear = address.raw & (long_mode ? ~0ull : LINEAR_32_BIT);
    u64 result = linear;
    enum guest_walk_status status;

    if ((paging->cr0 & CR0_PG) == 0)
        status = GUEST_WALK_OK;
    else if (long_mode && !canonical(linear, PAGE_SHIFT + 9 * levels))
        status = GUEST_WALK_NON_CANONICAL;
    else if (long_mode)
        status = walk_levels(paging->cr3 & ENTRY_ADDRESS, levels, 3, linear, &result);
    else if ((paging->cr4 & CR4_PAE) != 0)
        status = walk_levels(paging->cr3 & PAE_CR3_ADDRESS, 3, 2, linear, &result);
    else
        status = walk_legacy(paging, linear, &result);

    if (status == GUEST_WALK_OK)
        *translated = gpa(result);
    return status;
}

size_t guest_fetch(const struct guest_paging *paging, u64 rip, u8 *dst, size_t bytes)
{
    bool code64 = guest_decode_mode(paging) == DECODE_MODE_64;
    u64 linear_mask = code64 ? ~0ull : LINEAR_32_BIT;
    u64 linear = (rip + (code64 ? 0 : paging->cs_base)) & linear_mask;
    size_t had = 0;

    while (had < bytes) {
        u64 next = (linear + had) & linear_mask;
        size_t chunk = min_u64(bytes - had, PAGE_SIZE - (next & PAGE_MASK));
        gpa_t from;

        if (guest_walk(paging, gva(next), &from) != GUEST_WALK_OK)
            break;
        if (guest_read(from, dst + had, chunk) != GUEST_MEM_OK)
            break;
        had += chunk;
    }
    return had;
}
