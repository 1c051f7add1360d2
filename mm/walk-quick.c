/* SPDX-License-Identifier: MIT */
/*
 * Ordinary walks, in as few instructions as there can be; see mm/walk-quick.h. A walk that meets anything
 * else gives up: mm/walk.c starts over, and reads what it decides on anew. Nothing is recorded or written
 * here.
 */
#include "mm/walk-quick.h"

#define likely(condition)   __builtin_expect((condition), 1)
#define unlikely(condition) __builtin_expect((condition), 0)
#define INLINE              static inline __attribute__((always_inline))
#define NOINLINE            static __attribute__((noinline))

enum { INDEX_BITS = 9, ADDRESS_BITS = 48 };

/*
 * Instructions that no expression of C becomes reliably. Proofs, which have no instructions, define
 * QUICK_IN_C and say the same in C, over memory of their own.
 */
#ifndef QUICK_IN_C

/* One load, neither torn nor repeated; what else is in memory is not kept in registers across it. */
static inline u64 load_entry(const u64 *entry)
{
    u64 value;

    __asm__ volatile("movq %1, %0" : "=r"(value) : "m"(*entry) : "memory");
    return value;
}

/* `value` moves up by `count` bits, and the highest bits of `below` come in. */
INLINE u64 shift_in(u64 value, u64 below, unsigned count)
{
    __asm__("shldq %2, %1, %0" : "+r"(value) : "r"(below), "ic"((u8)count) : "cc");
    return value;
}

/* Hides how a value came about, so that the compiler keeps the value and not what it was made from. */
static inline u64 opaque(u64 value)
{
    __asm__("" : "+r"(value));
    return value;
}

#endif

INLINE u64 rotate_right(u64 value, unsigned count)
{
    return value >> count | value << (64 - count);
}

/* `wrong` is a mismatch of what was granted. If it is P alone, the key decides; see struct paging_quick. */
NOINLINE u64 check_key(const struct paging *paging, u64 wrong, u64 granted, u64 leaf, unsigned access,
                       u64 translation)
{
    unsigned rights = (unsigned)granted & (RIGHT_R | RIGHT_W | RIGHT_U);

    if (wrong != PTE_P ||
        permission_key_faults(&paging->permission, access, rights, leaf >> PTE_KEY_SHIFT & 15))
        return WALK_NOT_QUICK;
    return translation;
}

/*
 * The entry of `level` maps a page, or the walk is none of the quick ones; `rest` starts with the offset in
 * the page. What is particular to large pages is told by quick.large, what all leaves share by the leaf's
 * masks.
 */
INLINE u64 finish(const struct paging *paging, u64 granted, u64 entry, unsigned level, u64 rest, u64 access)
{
    const struct paging_quick *quick = &paging->quick;
    unsigned offset_bits = PAGE_SHIFT + INDEX_BITS * (level - 1);

    /* Levels are 1 to 5. */
    /* cppcheck-suppress arrayIndexOutOfBoundsCond */
    if (level > 1 && (entry & quick->large[level]) != ENTRY_PS)
        return WALK_NOT_QUICK;
    if (unlikely((entry & quick->leaf_mask[access]) != quick->leaf_value[access]))
        return WALK_NOT_QUICK;
    u64 wrong = (granted & quick->granted_mask[access]) ^ quick->granted_value[access];
    if (unlikely(wrong != 0))
        return check_key(paging, wrong, granted, entry, (unsigned)access,
                         shift_in(entry << 12 >> (12 + offset_bits), rest, offset_bits));
    return shift_in(entry << 12 >> (12 + offset_bits), rest, offset_bits);
}

/* What a walk's tables are reached through: the window alone, or a second stage before it. */
struct second_stage {
    const struct paging *paging; /* NULL: none */
    u64 root, access;
};

static u64 walk_host(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                     u64 access);

/* Without the bits of CR3 above an address. */
INLINE u64 root_address(u64 root)
{
    return root << 12 >> 12;
}

/* Rarer than pages of 2 MByte: kept apart, for the sake of registers in the common case. */
NOINLINE u64 finish_1g(const struct paging *paging, u64 granted, u64 entry, u64 rest, u64 access)
{
    return finish(paging, granted, entry, 3, rest, access);
}

/*
 * `table` is a frame's number, and `rest` the address, shifted until the next index is at its top: one more
 * shift makes both into an entry's number. What a table reference must and must not have are the low bits of
 * the entry and the highest; rotated, they stand above the frame's number, so that one comparison judges
 * them, too. In the window frames are counted from its first, and the comparison is the one with its size; no
 * bit from MAXPHYADDR up survives either.
 */
INLINE u64 walk_four_levels(const struct paging *paging, const struct paging_memory *memory,
                            const struct second_stage *second, u64 root, u64 address, u64 access,
                            u64 *all_granted)
{
    const u8 *window = memory->window;
    bool direct = second == NULL;
    u64 table = (root >> PAGE_SHIFT) - (direct ? memory->window_frame : 0);
    u64 rest = opaque(address << (64 - ADDRESS_BITS));
    u64 granted = ~0ull, entry = 0;

#pragma GCC unroll 4
    for (unsigned level = 4; level >= 1; level--) {
        if (unlikely(table >= (direct ? memory->window_frames : paging->quick.frames))) {
            *all_granted = granted;
            if (level >= 3)
                return WALK_NOT_QUICK;
            return level == 2 ? finish_1g(paging, granted, entry, rest, access)
                              : finish(paging, granted, entry, 2, rest, access);
        }
        u64 offset = shift_in(table, rest, INDEX_BITS) * sizeof(entry);
        if (!direct) {
            offset = walk_host(second->paging, memory, second->root, offset, second->access) -
                     memory->window_start;
            if (unlikely(offset >= memory->window_bytes))
                return WALK_NOT_QUICK;
        }
        entry = load_entry((const void *)(window + offset));
        rest = direct ? opaque(rest << INDEX_BITS) : rest << INDEX_BITS;
        granted &= entry;
        table = rotate_right((direct ? entry : entry ^ PTE_P) & paging->quick.table, PAGE_SHIFT) -
                (direct ? memory->window_present : 0);
    }
    *all_granted = granted;
    return finish(paging, granted, entry, 1, rest, access);
}

/* EPT or NPT, for an address that is no wider than they translate. */
NOINLINE u64 walk_host(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                       u64 access)
{
    u64 granted;

    return walk_four_levels(paging, memory, NULL, root, address, access, &granted);
}

NOINLINE u64 walk_host_checked(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, u64 access)
{
    if (unlikely(paging->quick.format != QUICK_HOST || (address & paging->input_reserved) != 0))
        return WALK_NOT_QUICK;
    return walk_host(paging, memory, root_address(root), address, access);
}

u64 walk_quick(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
               u64 access)
{
    u64 granted;

    if (unlikely(paging->quick.format != QUICK_GUEST))
        return walk_host_checked(paging, memory, root, address, access);
    return walk_four_levels(paging, memory, NULL, root_address(root), address, access, &granted);
}

u64 walk_2d_quick(const struct walk_2d_tables *tables, const struct paging_memory *memory, u64 linear,
                  u64 access)
{
    const struct paging *host = tables->host;
    const struct second_stage second = {host, root_address(tables->host_root), walk_table_access(host)};
    u64 granted = 0;

    if (tables->guest->quick.format != QUICK_GUEST || host->quick.format != QUICK_HOST)
        return WALK_NOT_QUICK;
    u64 address = walk_four_levels(tables->guest, memory, &second, root_address(tables->guest_root), linear,
                                   access, &granted);
    if (unlikely((address & host->input_reserved) != 0)) /* WALK_NOT_QUICK, too */
        return WALK_NOT_QUICK;
    return walk_host(host, memory, second.root, address,
                     walk_final_access(host, (unsigned)access, (unsigned)granted & RIGHT_U));
}
