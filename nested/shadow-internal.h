/* SPDX-License-Identifier: MIT */
/*
 * What the files of the shadow MMU share: the pool of shadow pages, the trees they form, and the roots. A
 * shadow page stands at exactly one place of exactly one root's tree; it is never found by the frame that it
 * shadows, and never used at a second place. For nested/shadow*.c and their tests only.
 *
 * Several CPUs: docs/nested.md, "Several CPUs". Whatever follows a link, a bit of `tracked` or the pool's
 * array does so inside a section (shadow_enter(), shadow_leave()), which is short and waits for no CPU. A
 * page is used anew only after every section that may know it has ended (shadow_wait()), and after a
 * shoot-down.
 */
#ifndef UMBRA_NESTED_SHADOW_INTERNAL_H
#define UMBRA_NESTED_SHADOW_INTERNAL_H

#include "arch/atomic.h"
#include "mm/phys.h"
#include "nested/shadow.h"

enum {
    SHADOW_LEVELS = 4,
    SHADOW_ENTRIES = 512,
    SHADOW_SLOTS = 64, /* of roots, at most: one bit each in struct shadow_state */
};

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

/*
 * What stands in a slot that maps nothing, besides 0. No bit of it makes an entry present in either format.
 * BUSY: a CPU is writing this slot. OWED: what stood here was dropped, and other CPUs may still use it; what
 * is put here next could contradict it (as a page of another size), so it waits for a shoot-down that began
 * after the number in bits 63:12.
 */
#define SLOT_BUSY         BIT(11)
#define SLOT_OWED         BIT(9)
#define SLOT_NUMBER_SHIFT 12u
#define SLOT_PRESENT      (EPTE_R | EPTE_W | EPTE_X | EPTE_XU) /* bit 0 is P of NPT */

/* All but `used`, `seen`, `in_use` and `dirty` stays as it is from when the page is linked until it is free.
 */
struct shadow_page {
    struct shadow_identity identity;
    /* TABLE: the entry of Umbra's own map whose D flag tells that L1 wrote the table, valid while
     * tdp->changes is `changes`. NULL: none does, or L2 may write it, which that flag does not tell: then it
     * is always compared. */
    u64 *dirty;
    u64 changes;
    u64 top_entry; /* root's page, 5-level formats: L1's entry above it */
    u64 seen;      /* TABLE: every write that was noticed up to this number has been compared */
    u32 parent;    /* page, or SHADOW_NONE for a root's */
    u32 used;      /* value of shadow.clock at the last fault that came through, or not long before */
    u16 slot;      /* index in the parent */
    u16 written;   /* TABLE: index of its frame in shadow.written[] */
    u8 root;       /* index */
    u8 level;      /* 4: entries of 512 GByte; 1: entries of 4 KByte */
    u8 top_rights; /* root's page: enum tdp_access of top_entry */
    bool in_use;   /* it may be a victim */
} __attribute__((aligned(64)));

enum { SHADOW_QUICK_KINDS = 8 }; /* of accesses: ACCESS_WRITE, ACCESS_USER, ACCESS_FETCH */

/* What a leaf of L1 has to be for shadow_fault_quick(), and what it gives to the shadow's. */
struct shadow_quick {
    u64 mask[SHADOW_QUICK_KINDS], value[SHADOW_QUICK_KINDS];
    u64 writable;      /* of these bits one is 1 in a leaf whose dirty flag need not be set any more */
    u64 kept, execute; /* which bits are the same; which one becomes XU */
    const u64 *top;    /* 5-level formats: L1's entry above the root's page, if it can be read at any time */
};

struct shadow_root {
    struct shadow_key key; /* pointer: address bits only */
    struct paging paging;
    u32 page;       /* SHADOW_NONE: this slot is free, or about to be; written last */
    u32 handle;     /* of this use of the slot */
    u32 used;       /* shadow.clock at the last acquire */
    u32 generation; /* counts what was dropped: a tag that has not seen this one yet must be flushed */
    u32 pins;       /* CPUs whose last root it is: it stays */
    u32 news;       /* shadow.news that every page's `always` knows of */
    u64 relatives;  /* a bit for each slot with a root of the same table, itself too; maybe for more */
    /* By level, from 1: one bit for each page of the pool of kind TABLE and of this root; and which words of
     * these, modulo 64, were ever not 0. */
    u64 *tracked[SHADOW_LEVELS + 1], tracked_words[SHADOW_LEVELS + 1];
    u64 accessed_bit, dirty_bit; /* of L1's entries; 0 if L1 uses none */
    u8 top_level;                /* the highest level at which the shadow has pages of kind TABLE */
    u8 pat[8];                   /* NPT: L1's PAT index to Umbra's */
    struct shadow_quick quick;
};

/* Entries that take nothing away: what they are under a mask. */
struct shadow_plain {
    u64 link, link_mask; /* of the shadow's tables */
    u64 own, own_mask;   /* of Umbra's own, for a page; and what the shadow's leaf has of it */
    u64 kept, set;       /* what a leaf of the shadow has of Umbra's, and in any case */
};

struct shadow {
    struct shadow_config config;
    struct tdp_config format;
    struct shadow_plain plain;
    struct shadow_page *pages;
    const u64 **source; /* of each page: shadow_quick_source() */
    u32 *next;          /* of each page: lists of free, retired and dead pages */
    u64 tables;         /* host-physical address of the table of page 0; the others follow */
    u64 snapshots;      /* the same for L1's entries from which the table's entries were made */
    u64 to_snapshot;    /* entries from one to the other */
    u64 free_list;      /* first page, and in bits 63:32 a count of changes */
    u64 retired;        /* first page of those that were unlinked, each with its tree */
    u64 dead;           /* those that no section knows any more */
    u32 clock, hand;
    u64 shootdowns_begun, shootdowns_done;
    u64 own_changes; /* tdp->changes that all trees know of */
    /* Numbers the writes to L1's tables that were noticed; by a hash of the frame, the last one there. */
    u64 writes, *written;
    u16 *table_count; /* by the same hash: pages of kind TABLE that are tracked there */
    u32 written_mask;
    u64 events; /* counts, when it is done, what makes a struct shadow_watch void */
    /* One bit per 4-KByte and per 2-MByte page of L1's RAM that some L2 may have been able to write to. */
    u64 *writable_4k, *writable_2m;
    u32 news;         /* counts the bits that were set */
    u8 first_format;  /* of L1's tables; PAGING_NONE: there was no root yet */
    bool flags_alias; /* roots of PAE, or of several formats: see shadow-fault.c */
    struct spinlock
        lock; /* of root[] but for what a section may write, and of cpus; never taken in a section */
    struct shadow_root *root;
    u32 root_count, root_slots; /* a power of two; how many were ever used */
    struct shadow_state *cpus;
    u32 cpu_count;
};

struct shadow_tag {
    u32 handle, l1_tag, generation, used;
    bool in_use, flush_linear;
    bool stale; /* L1 has flushed its ASID: the root is synchronised before L2 runs with it, though others ran
                   it since */
};

/*
 * What the last shadow_synchronise() of a CPU has left: the entries of Umbra's own map whose D flags tell
 * whether L1 writes to the root's tables. As long as none is set, no write was noticed in another way, no
 * table has become one, and L2 can write to no more of them (these are the events), there is nothing to
 * compare.
 */
struct shadow_watch {
    u64 **entry; /* a multiple of SHADOW_WATCH_STEP; room for all pages and a word of `tracked` more */
    u32 *owed;   /* pages of one level that are to be compared */
    u32 count, owed_count;
    u32 handle; /* of the root */
    u64 events, changes, wakes;
    u32 quiet;                 /* so often nothing was changed */
    bool asleep;               /* all entries are, as long as tdp->wakes is `wakes` */
    bool complete, impossible; /* impossible: there is more to know than these flags tell */
    bool written;              /* some of `owed` only because it was; others always are */
};
enum { SHADOW_WATCH_STEP = 8 };

/* What struct shadow_cpu is inside. Other CPUs read `inside`, `root_page` and `next` only. */
struct shadow_state {
    u32 inside;            /* odd: in a section; it changes with each */
    u16 first, last, tags; /* tags: so many were ever used */
    u32 clock, pinned;     /* pinned: slot of the root used last, or SHADOW_NONE */
    u32 root_page;         /* that L2 was last told to run on, or SHADOW_NONE */
    struct shadow_state *next;
    void *owner; /* for config.shoot_down */
    u64 stale;   /* EPT, one bit for each slot: L1 has invalidated here what may come from the root */
    struct shadow_watch watch;
    struct tdp_leaf own_leaf; /* of the last look into Umbra's own map; target: of its start */
    u64 own_leaf_start, own_changes;
    struct {
        u64 page, rip, fault; /* fault: its number */
        u32 access, count;
    } repeated;
    struct shadow_statistics statistics;
    struct shadow_tag tag[SHADOW_TAGS];
};

_Static_assert(sizeof(struct shadow_page) == 64, "one cache line");
_Static_assert(sizeof(struct shadow_state) <= sizeof(struct shadow_cpu), "the opaque storage holds it");

static inline struct shadow_state *shadow_state_of(struct shadow_cpu *storage)
{
    return (struct shadow_state *)(void *)storage->opaque;
}

/* --- sections --- */

static inline void shadow_enter(struct shadow_state *cpu)
{
    atomic_store(&cpu->inside, cpu->inside + 1);
}

static inline void shadow_leave(struct shadow_state *cpu)
{
    atomic_release(&cpu->inside, cpu->inside + 1);
}

/* Does nobody else use shadows? */
static inline bool shadow_alone(const struct shadow *shadow)
{
    return atomic_peek(&shadow->cpu_count) <= 1;
}

/* Returns when every section of another CPU that had begun has ended; not to be called inside one. */
void shadow_wait(struct shadow *shadow, const struct shadow_state *cpu);
/* Returns when no CPU uses a translation of a shadow that was dropped before, or a dirty flag that was
 * cleared before; not inside a section, not with the lock. */
void shadow_shoot_down(struct shadow *shadow, const struct shadow_state *cpu);

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

static inline bool slot_present(u64 entry)
{
    return (entry & SLOT_PRESENT) != 0;
}

/* Has no shoot-down ended since that began after what stood in the slot was dropped? */
static inline bool slot_owed(const struct shadow *shadow, u64 entry)
{
    return (entry & (SLOT_OWED | SLOT_PRESENT)) == SLOT_OWED &&
           atomic_acquire(&shadow->shootdowns_done) <= entry >> SLOT_NUMBER_SHIFT;
}

/*
 * A page, empty, not linked yet; SHADOW_NONE: there is none free, and shadow_reclaim() is to be called. A
 * page of kind TABLE is tracked from here on. In a section, or with the lock for a root's.
 */
u32 shadow_page_new(struct shadow *shadow, struct shadow_state *cpu, unsigned root, unsigned level,
                    const struct shadow_identity *identity);
/* A page of kind TABLE: L1's writes to its table are seen from now on. */
void shadow_track(struct shadow *shadow, u32 number);
/* The slot becomes this CPU's, which then stores what follows. False: it is not that entry any more. */
bool shadow_slot_take(const struct shadow *shadow, u64 *slot, u64 entry);
/* Makes a present entry not present, retires what was linked to it, and has the root flushed; in a section.
 * False: it is not that entry any more. */
bool shadow_entry_drop(struct shadow *shadow, u32 page, unsigned slot, u64 entry);
/* The page is not linked any more: it and all below it will be free some day. */
void shadow_retire(struct shadow *shadow, u32 page);
/* Retired pages are not compared any more. Not in a section; may be called with nothing to do. */
void shadow_collect(struct shadow *shadow, struct shadow_state *cpu);
/* Makes pages free, of the retired ones or of those used least recently. False: there are none. Not in a
 * section, not with the lock. */
bool shadow_reclaim(struct shadow *shadow, struct shadow_state *cpu);

/* Of the frame at that address of L1: its index in shadow.written[]. */
static inline u16 shadow_written_index(const struct shadow *shadow, u64 address)
{
    u64 frame = address >> PAGE_SHIFT;

    return (u16)((frame ^ frame >> 11) & shadow->written_mask);
}

/* L1's table there has been written: after that. */
static inline void shadow_note_write(struct shadow *shadow, u16 index)
{
    u64 number = atomic_add(&shadow->writes, 1) + 1, last = atomic_load(&shadow->written[index]);

    while (last < number && !atomic_cas(&shadow->written[index], last, number))
        last = atomic_load(&shadow->written[index]);
    atomic_add(&shadow->events, 1);
}

/* L2 becomes able to write [address, address + bytes) of L1's memory; bytes: 4 KByte, 2 MByte, 1 GByte.
 * Before the entry is there that lets it. */
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

/* L1's memory type of a leaf, in the form that compose_leaf() of shadow-lay.c understands. */
static inline unsigned shadow_leaf_type(const struct shadow_root *root, unsigned level, u64 leaf)
{
    if (role_is_ept(root->key.role))
        return (unsigned)(leaf >> EPTE_TYPE_SHIFT & 15);
    u64 pat_bit = leaf & (level == 1 ? PTE_PAT_4K : PTE_PAT_LARGE);
    return root->pat[(leaf >> 3 & 3) | (pat_bit != 0 ? 4u : 0)];
}

/* Is whatever the old entry allows and means allowed and meant by the new one, too? Accessed and dirty do not
 * count. */
bool shadow_entry_widened(const struct tdp_config *format, u64 old, u64 now);
bool shadow_entry_same(const struct tdp_config *format, u64 old, u64 now);
void shadow_translate_pat(u8 table[8], u64 l1_pat, u64 host_pat);

/* --- shadow-lay.c --- */

/* What one fault has to lay. */
struct shadow_fill {
    struct shadow_root *root;
    const struct walk *walk;
    const struct tdp_leaf *own;
    u64 own_start; /* L1's address at which *own begins */
    u64 address;
    unsigned root_index;
    unsigned map_level; /* of the entry that will map the page */
    unsigned above;     /* identity.above of the next page down */
    bool writable;      /* L1's dirty flag is set, or L1 has none */
    bool changed;       /* something was not yet as it should be, or another CPU is at it */
};

enum shadow_laid {
    SHADOW_LAID,
    SHADOW_RACED,      /* another CPU is at one of the slots, or there is nothing to put: L2 tries again */
    SHADOW_NEEDS_PAGE, /* shadow_reclaim(), then the whole fault again */
    SHADOW_NEEDS_SHOOTDOWN, /* shadow_shoot_down(), likewise */
};

enum shadow_laid shadow_lay(struct shadow *shadow, struct shadow_state *cpu, struct shadow_fill *fill);

/* --- shadow-quick.c --- */

void shadow_quick_init(struct shadow *shadow);
/* Of a new root, when all but its page is known. */
void shadow_quick_root(const struct shadow *shadow, struct shadow_root *root);
/*
 * L1's table that the page stands for, where Umbra can read it at any time; NULL if there is none, or if
 * entries made from it are not for shadow_fault_quick(). The page's identity and root are known.
 */
const u64 *shadow_quick_source(const struct shadow *shadow, const struct shadow_page *page);

static inline unsigned shadow_index(u64 address, unsigned level)
{
    return (unsigned)(address >> (PAGE_SHIFT + 9 * (level - 1))) % SHADOW_ENTRIES;
}

/* --- shadow-sync.c --- */

/* L1's address of the entry from which entry `slot` of a page of kind TABLE is made. */
u64 shadow_source_address(const struct shadow *shadow, const struct shadow_page *page, unsigned slot);
/* Is that entry of L1's not `expected` any more? */
bool shadow_source_changed(const struct shadow *shadow, const struct shadow_page *page, unsigned slot,
                           u64 expected);
/*
 * Drops the entries of the root whose L1 entries have changed before the call. The root is pinned by this
 * CPU; not in a section.
 */
void shadow_synchronise(struct shadow *shadow, struct shadow_state *cpu, struct shadow_root *root);
/* Would shadow_synchronise() find nothing to do? True only if that is certain. Not in a section. */
bool shadow_is_unchanged(struct shadow *shadow, struct shadow_state *cpu, const struct shadow_root *root);

/* --- shadow-root.c --- */

/* With the lock: a root goes, with its whole tree. Its slot may be filled again after shadow_wait(). */
void shadow_root_free(struct shadow *shadow, struct shadow_root *root);

/* In a section: the root of a handle; NULL: it is gone. */
static inline struct shadow_root *shadow_root_of(const struct shadow *shadow, u32 handle)
{
    struct shadow_root *root = &shadow->root[handle & (shadow->root_count - 1)];

    return atomic_acquire(&root->page) != SHADOW_NONE && atomic_peek(&root->handle) == handle ? root : NULL;
}

#endif
