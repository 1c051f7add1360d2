/* SPDX-License-Identifier: MIT */
/*
 * A role made ready for use: permission tables and reserved bits, computed once per change of role, and the
 * accessor through which walks reach memory. Neither knows whose tables are walked. Pure.
 */
#ifndef UMBRA_MM_PAGING_H
#define UMBRA_MM_PAGING_H

#include "arch/types.h"
#include "mm/paging-format.h"
#include "mm/permission.h"

/*
 * What an ordinary walk of mm/walk-quick.c has to fulfil, by kind of access. `granted` is the AND of its
 * entries, `leaf` the one that maps a 4-KByte page. They allow the access, with no reserved bit set and no
 * flag owed, if they are `_value` under `_mask`. A mask that tells of no more than P leaves the decision to
 * the leaf's protection key; kinds that are not quick have a value that cannot be. Those four, and `large`,
 * are valid for 5-level formats, too.
 */
enum paging_quick_format { QUICK_NONE, QUICK_GUEST, QUICK_HOST }; /* 4-level guest tables; NPT and EPT */

struct paging_quick {
    u64 granted_mask[ACCESS_KINDS], granted_value[ACCESS_KINDS];
    u64 leaf_mask[ACCESS_KINDS], leaf_value[ACCESS_KINDS];
    u64 large[PAGING_LEVELS_MAX + 1]; /* [2], [3]: of these bits PS alone, if the entry maps a large page */
    u64 table; /* the address in an entry that refers to a table; P, which it has; and bits that it has not */
    u64 frames; /* that table references can name: by MAXPHYADDR, and by what a second stage translates */
    enum paging_quick_format format;
};

struct paging {
    struct paging_role role;
    u64 present;        /* any of these bits: an entry is present */
    u64 input_reserved; /* EPT and NPT: bits of the input address that no table translates; else 0 */
    u64 reserved[2][PAGING_LEVELS_MAX + 1]; /* [bit 7 of the entry][level]: paging_reserved_bits() */
    /*
     * [level]: which deviations (paging_plain_bits()) call for a closer look at an entry. It is a table
     * reference with nothing reserved set if it has none of plain_table[]; it maps a page with nothing
     * reserved set if, of plain_page[], it has none at level 1 and PS alone above. 0 where there is no such
     * entry.
     */
    u64 plain_table[PAGING_LEVELS_MAX + 1], plain_page[PAGING_LEVELS_MAX + 1];
    u64 accessed, dirty;  /* the flags of an entry; 0 in EPT without A/D flags */
    u64 misconfigured[2]; /* EPT, [bit 10 of the entry]: paging_ept_misconfigured() */
    /*
     * PAE: the four PDPTEs of the CPU's registers (SDM vol. 3A 4.4.1; in VMX the VMCS has them), or NULL to
     * read them from memory at each walk, as NPT hosts and AMD guests with nested paging do (APM vol. 2
     * 15.25.10). Those in registers are not checked for reserved bits: the load was.
     */
    const u64 *pdptes;
    struct permission permission;
    struct paging_quick quick;
};

/*
 * What is 1 in an entry that denies nothing, was accessed and, if it is to map a page in EPT, has the
 * write-back type. XORed, a set bit is a deviation. PDPTEs of PAE have neither R/W, U/S nor A (SDM vol. 3A
 * table 4-8).
 */
static inline u64 paging_plain_bits(enum paging_format_id format, unsigned level, bool page)
{
    if (format >= PAGING_EPT4)
        return EPTE_R | EPTE_W | EPTE_X | EPTE_XU | EPTE_A | (page ? 6ull << EPTE_TYPE_SHIFT : 0);
    return format == PAGING_PAE && level == 3 ? PTE_P : PTE_P | PTE_W | PTE_U | PTE_A;
}

/* All of *paging from the role; protection keys are 0 (allow all), pdptes is NULL. */
void paging_init(struct paging *paging, struct paging_role role);

enum memory_status {
    MEMORY_OK,
    MEMORY_NOT_OWNED, /* not all of it is RAM of the guest: nothing was read or written */
    MEMORY_CHANGED,   /* compare_exchange: the value was not the expected one; nothing was written */
};

/*
 * How a walk reaches guest memory. Addresses are guest-physical of the level whose memory it is (L1). Every
 * function validates every byte that it is asked for; what it validated may change its content between two
 * calls, never its owner.
 *
 * The window is a shortcut: one range that is the guest's, whole, and readable directly; its start and size
 * are multiples of 4 KByte (size 0: none). Aligned entries inside are loaded without a call.
 * paging_set_window() sets it. It ends below 2^MAXPHYADDR of every role that is used with it.
 */
struct paging_memory {
    const u8 *window; /* where window_start is mapped */
    u64 window_start, window_bytes;
    /* The same in frames; and the first frame once more, with the P of mm/walk-quick.c's table references. */
    u64 window_frame, window_frames, window_present;
    /* One load that is not torn, of 4 or 8 bytes, aligned to its size. */
    enum memory_status (*load)(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value);
    /* One locked compare-and-exchange, of 4 or 8 bytes, aligned to its size. */
    enum memory_status (*compare_exchange)(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired);
    /* Any bytes within one 4-KByte page; not atomic beyond what the size allows. */
    enum memory_status (*read)(const struct paging_memory *memory, gpa_t address, void *dst, size_t bytes);
    enum memory_status (*write)(const struct paging_memory *memory, gpa_t address, const void *src,
                                size_t bytes);
    /* Would write() of these bytes succeed? So that an operand in two pages is written whole or not at all.
     */
    bool (*writable)(const struct paging_memory *memory, gpa_t address, size_t bytes);
};

static inline void paging_set_window(struct paging_memory *memory, const void *window, u64 start, u64 bytes)
{
    memory->window = window;
    memory->window_start = start;
    memory->window_bytes = bytes;
    memory->window_frame = start >> PAGE_SHIFT;
    memory->window_frames = bytes >> PAGE_SHIFT;
    memory->window_present = memory->window_frame + BIT(64 - PAGE_SHIFT);
}

/* One entry (8 bytes, aligned), read exactly once. */
static inline enum memory_status paging_load_u64(const struct paging_memory *memory, u64 address, u64 *value)
{
    u64 offset = address - memory->window_start;

    if (__builtin_expect(offset >= memory->window_bytes, 0))
        return memory->load(memory, gpa(address), sizeof(*value), value);
    *value = __atomic_load_n((const u64 *)(const void *)(memory->window + offset), __ATOMIC_RELAXED);
    return MEMORY_OK;
}

/* The same of 4 bytes; the upper half of *value is 0. */
static inline enum memory_status paging_load_u32(const struct paging_memory *memory, u64 address, u64 *value)
{
    u64 offset = address - memory->window_start;

    if (__builtin_expect(offset >= memory->window_bytes, 0))
        return memory->load(memory, gpa(address), sizeof(u32), value);
    *value = __atomic_load_n((const u32 *)(const void *)(memory->window + offset), __ATOMIC_RELAXED);
    return MEMORY_OK;
}

#endif
