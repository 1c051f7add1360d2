/* SPDX-License-Identifier: MIT */
/*
 * What the files of the shadow MMU share: the pool of shadow pages, the trees they form, and the roots. A
 * shadow page stands at exactly one place of exactly one root's tree; it is never found by the frame that it
 * shadows, and never used at a second place. For nested/shadow*.c and their tests only.
 */
#ifndef UMBRA_NESTED_SHADOW_INTERNAL_H
#define UMBRA_NESTED_SHADOW_INTERNAL_H

#include "mm/phys.h"
#include "nested/shadow.h"

enum { SHADOW_LEVELS = 4, SHADOW_ENTRIES = 512 };

#define SHADOW_NONE 0xffffffffu

/* What the entries of a shadow page are made from. */
enum shadow_kind {
    SHADOW_TABLE,  /* a table of L1 */
    SHADOW_DIRECT, /* a part of one large page of L1 */
    SHADOW_TOP,    /* nothing: a level above the root of L1's format (PAE, 32-bit) */
};

/*
 * What a shadow page is of, within its root. A link from its parent is followed at a fault only if all of it
 * is what L1's tables ask for now.
 */
struct shadow_identity {
    u64 source; /* TABLE: L1's address of the table; DIRECT: of the memory behind entry 0; TOP: 0 */
    u8 kind;    /* enum shadow_kind */
    u8 part; /* TABLE, 32-bit format: which part of the table's 4-MByte or 4-GByte span the page stands for */
    u8 type; /* DIRECT: memory type as shadow_leaf_type() gives it */
    u8 above; /* enum right: what of the entries above must be, and cannot be, expressed there */
    u32 zero;
};

struct shadow_page {
    struct shadow_identity identity;
    u64 *dirty; /* the entry of Umbra's own map whose D flag tells that L1 wrote the table; NULL: none does */
    u64 start;  /* L2's address of what entry 0 maps */
    u32 parent; /* page, or SHADOW_NONE for a root's */
    u32 used;   /* value of shadow.clock at the last fault that came through */
    u32 frame_next;   /* TABLE: next page whose table may lie in the same frame */
    u32 tracked_next; /* TABLE: list of the root's tables; also the free list */
    u32 tracked_prev;
    u16 slot; /* index in the parent */
    u8 root;  /* index */
    u8 level; /* 4: entries of 512 GByte; 1: entries of 4 KByte */
    bool in_use;
    bool always; /* TABLE: no dirty flag can be trusted (L2, or Umbra, may have written it): compare always */
} __attribute__((aligned(64)));

struct shadow_root {
    struct shadow_key key; /* pointer: address bits only */
    struct paging paging;
    u32 page;                    /* SHADOW_NONE: this slot is free */
    u32 handle;                  /* of this use of the slot */
    u32 used;                    /* shadow.clock at the last acquire or fault */
    u32 generation;              /* a tag that has not seen this one yet must be flushed */
    u32 tracked;                 /* first page of kind TABLE */
    bool stale;                  /* L1 has invalidated it: to be synchronised before L2 runs */
    u64 accessed_bit, dirty_bit; /* of L1's entries; 0 if L1 uses none */
    u64 top_entry;               /* 5-level formats: L1's entry above the shadow's root */
    u8 top_level;                /* the highest level at which the shadow has pages of kind TABLE */
    u8 top_rights;               /* enum tdp_access: of top_entry */
    u8 pat[8];                   /* NPT: L1's PAT index to Umbra's */
};

struct shadow {
    struct shadow_config config;
    struct tdp_config format;
    struct shadow_statistics statistics;
    struct shadow_page *pages;
    u64 tables;    /* host-physical address of the table of page 0; the others follow */
    u64 snapshots; /* the same for L1's entries from which the table's entries were made */
    u32 free_list, clock, serial, hand;
    u32 sync_next;            /* the page that the synchronisation comes to next, should this one go away */
    struct tdp_leaf own_leaf; /* of the last look into Umbra's own map; target: of its start */
    u64 own_leaf_start;
    u64 own_changes;  /* config.tdp->changes that the tables know of */
    u32 *frame_heads; /* frame hash */
    u32 frame_mask;
    /* One bit per 4-KByte and per 2-MByte page of L1's RAM that some L2 may have been able to write to. */
    u64 *writable_4k, *writable_2m;
    u8 first_format;  /* of L1's tables; PAGING_NONE: there was no root yet */
    bool flags_alias; /* roots of PAE, or of several formats: see shadow-fault.c */
    struct {
        u64 page, rip;
        u32 access, count;
    } repeated;
    u32 recent;                              /* the page that got an entry last */
    u64 recent_entry[PAGING_LEVELS_MAX + 1]; /* by level: L1's entries above it then */
    u32 last_root, root_slots;               /* found last; how many slots were ever used */
    struct shadow_root root[SHADOW_ROOTS];
};

struct shadow_tag {
    u32 handle, l1_tag, generation, used;
    bool in_use, flush_linear;
    bool stale; /* L1 has flushed its ASID: the root is synchronised before L2 runs with it, though others ran
                   it since */
};

struct shadow_tags {
    u16 first, last;
    u32 clock;
    struct shadow_tag tag[SHADOW_TAGS];
};

_Static_assert(sizeof(struct shadow_tags) <= sizeof(struct shadow_cpu), "the opaque storage holds the tags");

/* --- shadow-pool.c: pages and trees --- */

static inline u64 *shadow_table(const struct shadow *shadow, u32 page)
{
    return phys_to_virt(hpa(shadow->tables + (u64)page * PAGE_SIZE));
}

static inline u64 *shadow_snapshot(const struct shadow *shadow, u32 page)
{
    return phys_to_virt(hpa(shadow->snapshots + (u64)page * PAGE_SIZE));
}

static inline hpa_t shadow_table_address(const struct shadow *shadow, u32 page)
{
    return hpa(shadow->tables + (u64)page * PAGE_SIZE);
}

/* The page that a present entry of level 2 or more links to, or SHADOW_NONE if it maps a page. */
static inline u32 shadow_child(const struct shadow *shadow, u64 entry)
{
    if ((entry & ENTRY_PS) != 0)
        return SHADOW_NONE;
    return (u32)(((entry & ENTRY_ADDRESS) - shadow->tables) / PAGE_SIZE);
}

/*
 * A page, empty, not linked yet; one that is not on the current fault's path makes room if need be.
 * SHADOW_NONE: all are on it. A page of kind TABLE is tracked from here on.
 */
u32 shadow_page_new(struct shadow *shadow, unsigned root, unsigned level,
                    const struct shadow_identity *identity);
/* Makes an entry not present, frees what was linked to it, and has the root flushed. */
void shadow_entry_drop(struct shadow *shadow, u32 page, unsigned slot);
/* All entries of a page. */
void shadow_page_empty(struct shadow *shadow, u32 page);
/* A root's page becomes one of another identity: emptied, and tracked anew. */
void shadow_page_become(struct shadow *shadow, u32 page, const struct shadow_identity *identity);
/* A root and its whole tree. */
void shadow_root_free(struct shadow *shadow, struct shadow_root *root);

/* The first page whose L1 table lies in that frame (a page number of L1), and the next. */
u32 shadow_first_of_frame(const struct shadow *shadow, u64 frame);
u32 shadow_next_of_frame(const struct shadow *shadow, u32 page, u64 frame);
/* L2 becomes able to write [address, address + bytes) of L1's memory; bytes: 4 KByte, 2 MByte, 1 GByte. */
void shadow_mark_writable(struct shadow *shadow, u64 address, u64 bytes);
bool shadow_may_be_written(const struct shadow *shadow, u64 address);

/* --- shadow-entry.c: what entries mean --- */

/* Rights (enum tdp_access) that an L1 entry of that level leaves to what is below it. */
static inline unsigned shadow_entry_rights(struct paging_role role, unsigned level, u64 entry)
{
    if (role_is_ept(role)) {
        u64 user = role_has(role, ROLE_MBEC) ? entry >> 7 : entry << 1;
        return (unsigned)((entry & (EPTE_R | EPTE_W | EPTE_X)) | (user & TDP_XU));
    }
    /* PDPTEs of PAE have none of these bits (SDM vol. 3A table 4-8). */
    if (role_format(role) == PAGING_PAE && level == 3)
        return TDP_RWX;
    return TDP_R | (unsigned)(entry & PTE_W) | ((entry & PTE_XD) != 0 ? 0 : TDP_XS | TDP_XU);
}

/* L1's memory type of a leaf, in the form that shadow_compose_leaf() understands. */
static inline unsigned shadow_leaf_type(const struct shadow_root *root, unsigned level, u64 leaf)
{
    if (role_is_ept(root->key.role))
        return (unsigned)(leaf >> EPTE_TYPE_SHIFT & 15);
    u64 pat_bit = leaf & (level == 1 ? PTE_PAT_4K : PTE_PAT_LARGE);
    return root->pat[(leaf >> 3 & 3) | (pat_bit != 0 ? 4u : 0)];
}

u64 shadow_compose_link(const struct tdp_config *format, hpa_t table, unsigned rights);
u64 shadow_compose_leaf(const struct shadow *shadow, unsigned level, u64 target, unsigned rights,
                        unsigned type, enum memory_type own);
/* Is whatever the old entry allows and means allowed and meant by the new one, too? Accessed and dirty do not
 * count. */
bool shadow_entry_widened(const struct tdp_config *format, u64 old, u64 now);
bool shadow_entry_same(const struct tdp_config *format, u64 old, u64 now);
void shadow_translate_pat(u8 table[8], u64 l1_pat, u64 host_pat);

/* --- shadow-sync.c --- */

/* L1's address of the entry from which entry `slot` of a page of kind TABLE is made. */
u64 shadow_source_address(const struct shadow *shadow, const struct shadow_page *page, unsigned slot);
/* Drops the entries of the root whose L1 entries have changed. */
void shadow_synchronise(struct shadow *shadow, struct shadow_root *root);
/* 5-level formats: gives the root's page the table that L1's top entry refers to now. */
void shadow_set_top(struct shadow *shadow, struct shadow_root *root, u64 entry);
/* Umbra's own map: if it has changed, everything goes. */
void shadow_follow_own_map(struct shadow *shadow);

/* --- shadow-root.c --- */

struct shadow_root *shadow_root_of(struct shadow *shadow, u32 handle);

#endif
