/* SPDX-License-Identifier: MIT */
/*
 * A model of how CPUs install entries of the shadow tables, drop them, and take a table page for something else, while
 * others do the same and hardware walks: nested/shadow-fault.c, -quick.c, -lay.c, -pool.c, -sync.c, vcpu/shootdown.c. Not the
 * code: one address of L2, reached through a page of level 2 and one of level 1, in a pool of PAGES. Every step is one
 * access to shared memory; all orders of steps are visited, with memory as the code's atomic operations make it. There
 * is no bound but the sizes below.
 *
 * What must hold, as assertions:
 *   STALE      after INVEPT on a CPU, its L2 reaches nothing that is older
 *   REUSED     neither hardware nor a section uses a page that has been taken for something else since it came to it
 *   TWO_SIZES  no two CPUs hold different entries of one slot
 *   LISTED     a page is on one list at a time
 *   LOST       what was linked to a page that is free again went with it
 * tests/proof/run leaves out one part of the protocol at a time (WITHOUT_...): then one of them must not hold.
 *
 * Left out, and so not relied upon: flushes at entries, which a root's generation asks for. Left to other tests: roots
 * and their eviction (tests/unit/test-shadow-threads.c), dirty flags (tests/proof/shootdown.py).
 */
#ifndef CPUS
#define CPUS 2
#endif
#ifndef PAGES
#define PAGES 2
#endif
#ifndef VERSIONS
#define VERSIONS 1
#endif
/* What each CPU does besides running L2, a bit each: L1 on it edits and invalidates; it evicts; it makes pages free. */
#define INVALIDATES 1
#define EVICTS      2
#define RECLAIMS    4
#ifndef DOES
#define DOES 7
#endif
#ifndef OTHERS_DO
#define OTHERS_DO DOES
#endif
#define CAN(what) (((c == 0 -> DOES : OTHERS_DO) & (what)) != 0)

#define NONE   7
#define BIT(p) (1 << (p))

/* A slot: SLOT_BUSY; a link to a page; a leaf made from that version of L1's entry. */
#define EMPTY      0
#define BUSY       1
#define LINK(p)    (16 + (p))
#define LEAF(v)    (32 + (v))
#define IS_LINK(e) ((e) >= 16 && (e) < 32)
#define IS_LEAF(e) ((e) >= 32 && (e) < 64)
#define PRESENT(e) (IS_LINK(e) || IS_LEAF(e))
#define PAGE(e)    ((e) - 16)
/*
 * SLOT_OWED. Its number tells which shoot-downs began later, any of which ends the debt: here, the CPUs whose shoot-down
 * that is, a bit each; and EMPTY as soon as one has ended.
 */
#define OWED(cpus) (64 + (cpus))
#define IS_OWED(e) ((e) >= 64)

byte l1;              /* version of L1's entry */
byte slot[PAGES + 1]; /* of the root, which stays, and of each page */
bit use[PAGES];       /* changes when the page is taken */
bit level[PAGES];     /* 1: it links, 0: it maps */
bit in_use[PAGES];
byte parent[PAGES]; /* the slot that it was linked to */
byte free_list, retired, dead;
bit locked; /* machine_lock() */

bit inside[CPUS];     /* a section */
byte waits_for[CPUS]; /* whose sections it waits for, a bit each */
bit asked[CPUS];      /* to flush, by the CPU that has the lock */
byte owing[CPUS];     /* what it is about to store as OWED(); NONE: nothing; EMPTY_NOW: an end came in between */
#define EMPTY_NOW 8
byte floor[CPUS]; /* version that its last INVEPT has seen */
/* What a CPU has cached: the page of level 2, the page of level 1, the leaf; each only with those before. */
byte upper[CPUS], lower[CPUS], tlb[CPUS];
bit upper_use[CPUS], lower_use[CPUS];

inline forget_lower(c)
{
    lower[c] = NONE; lower_use[c] = 0; tlb[c] = NONE
}

inline flush(c)
{
    upper[c] = NONE; upper_use[c] = 0; forget_lower(c)
}

/* shadow_enter(), shadow_leave() */
inline enter(c)
{
#ifndef WITHOUT_SECTIONS
    inside[c] = 1
#else
    skip
#endif
}

inline leave(c)
{
    atomic {
        inside[c] = 0;
        for (o : 0 .. CPUS - 1) { waits_for[o] = waits_for[o] & ~BIT(c) }
        o = 0
    }
}

/* shadow_wait(): all at once, which may be sooner than the code, never later */
inline wait(c)
{
    atomic {
        for (o : 0 .. CPUS - 1) {
            if
            :: o != c && inside[o] -> waits_for[c] = waits_for[c] | BIT(o)
            :: else
            fi
        }
        o = 0
    };
    waits_for[c] == 0
}

/* shadow_shoot_down(), with shootdown() of vcpu/shootdown.c in machine_lock() */
inline shoot_down(c)
{
    atomic {
        for (o : 0 .. PAGES) {
            if
            :: IS_OWED(slot[o]) -> slot[o] = slot[o] | BIT(c)
            :: else
            fi
        }
        for (o : 0 .. CPUS - 1) {
            if
            :: owing[o] < NONE -> owing[o] = owing[o] | BIT(c)
            :: else
            fi
        }
        o = 0
    };
    atomic {
        !locked -> locked = 1;
        flush(c);
        for (o : 0 .. CPUS - 1) { asked[o] = (o != c) }
        o = 0
    };
    atomic { asked[0] + asked[1] + asked[CPUS - 1] == 0 -> locked = 0 };
    atomic {
        for (o : 0 .. PAGES) {
            if
            :: IS_OWED(slot[o]) && (slot[o] & BIT(c)) -> slot[o] = EMPTY
            :: else
            fi
        }
        for (o : 0 .. CPUS - 1) {
            if
            :: owing[o] < NONE && (owing[o] & BIT(c)) -> owing[o] = EMPTY_NOW
            :: else
            fi
        }
        o = 0
    }
}

/* shadow_retire(), and the same for pages that are dead */
#define ON_NO_LIST(p) assert(((retired | dead | free_list) & BIT(p)) == 0) /* LISTED */

inline retire(p)
{
    atomic { ON_NO_LIST(p); retired = retired | BIT(p) }
}

/* shadow_entry_drop() */
inline drop(at, what)
{
    atomic {
        taken = (slot[at] == what);
        if
        :: taken -> slot[at] = BUSY
        :: else
        fi
    };
    if
    :: taken ->
        if
        :: IS_LINK(what) -> retire(PAGE(what))
        :: else
        fi;
        owing[c] = 0;
        atomic {
#ifdef WITHOUT_OWED
            slot[at] = EMPTY;
#else
            slot[at] = (owing[c] == EMPTY_NOW -> EMPTY : OWED(owing[c]));
#endif
            owing[c] = NONE
        }
    :: else
    fi
}

/* REUSED: the section still has the page behind slot `at` that it came to. */
#define SAME(at, u) assert((at) == 0 || use[(at) - 1] == (u))

proctype Cpu(byte c)
{
    byte e, p, q, at, list, o, version;
    bit u, taken;

guest:
    atomic { e = 0; p = 0; q = 0; u = 0; at = 0; list = 0; taken = 0; version = 0 };
    if
    :: upper[c] == NONE -> goto walk_root
    :: upper[c] != NONE && lower[c] == NONE -> goto walk_upper
    :: lower[c] != NONE && tlb[c] == NONE -> goto walk_lower
    /* what is cached may go */
    :: atomic { tlb[c] != NONE -> tlb[c] = NONE }; goto guest
    :: atomic { lower[c] != NONE -> forget_lower(c) }; goto guest
    :: atomic { CAN(INVALIDATES) && l1 < VERSIONS -> l1++ }; goto guest
    :: CAN(INVALIDATES) -> goto invept
    :: CAN(EVICTS) && in_use[0] + in_use[1] + in_use[PAGES - 1] != 0 -> goto evict
    :: CAN(RECLAIMS) && (retired | dead) != 0 -> goto reclaim
    fi;

walk_root: /* hardware, one table at a time; an NMI may come in between, and then it begins anew */
    atomic {
        if
        :: upper[c] != NONE -> goto guest
        :: else -> e = slot[0]
        fi;
        if
        :: IS_LINK(e) -> upper[c] = PAGE(e); upper_use[c] = use[PAGE(e)]
        :: else -> goto violation
        fi;
        for (o : 0 .. CPUS - 1) {
            assert(upper[o] == NONE || (upper[o] == upper[c] && upper_use[o] == upper_use[c])) /* TWO_SIZES */
        }
        o = 0; e = 0;
        goto guest
    };

walk_upper:
    atomic {
        if
        :: upper[c] == NONE || lower[c] != NONE -> goto guest
        :: else
        fi;
        assert(use[upper[c]] == upper_use[c] && level[upper[c]] == 1); /* REUSED */
        e = slot[1 + upper[c]];
        if
        :: IS_LINK(e) -> lower[c] = PAGE(e); lower_use[c] = use[PAGE(e)]
        :: else -> goto violation
        fi;
        for (o : 0 .. CPUS - 1) {
            assert(lower[o] == NONE || upper[o] != upper[c] || (lower[o] == lower[c] && lower_use[o] == lower_use[c])) /* TWO_SIZES */
        }
        o = 0; e = 0;
        goto guest
    };

walk_lower:
    atomic {
        if
        :: lower[c] == NONE || tlb[c] != NONE -> goto guest
        :: else
        fi;
        assert(use[lower[c]] == lower_use[c] && level[lower[c]] == 0); /* REUSED */
        e = slot[1 + lower[c]];
        if
        :: IS_LEAF(e) -> tlb[c] = e - 32
        :: else -> goto violation
        fi;
        assert(tlb[c] >= floor[c]); /* STALE */
        for (o : 0 .. CPUS - 1) { assert(tlb[o] == NONE || tlb[o] == tlb[c]) } /* TWO_SIZES */
        o = 0; e = 0;
        goto guest
    };

violation: /* drops what was used; then shadow_fault() */
    atomic { flush(c); e = 0; enter(c) };
    atomic { version = l1; q = 2 }; /* ask_l1(); shadow_lay(), a page of level 2 first */
    do
    :: q > 0 ->
        atomic { SAME(at, u); e = slot[at] }; /* follow(), lay_link(); fill() of shadow-quick.c */
        if
        :: IS_LINK(e) -> atomic { at = 1 + PAGE(e); u = use[PAGE(e)]; q--; e = 0 }
        :: IS_OWED(e) -> goto needs_shootdown
        :: else ->
            /* shadow_page_new(): any of the free pages */
            atomic {
                if
                :: free_list == 0 -> goto done
                :: else
                fi;
                p = 0;
                do
                :: free_list & BIT(p) -> break
                :: p + 1 < PAGES && (free_list >> (p + 1)) != 0 -> p++
                od;
                free_list = free_list & ~BIT(p);
                use[p] = 1 - use[p]; level[p] = q - 1; slot[1 + p] = EMPTY; parent[p] = at; in_use[p] = 1
            };
            if /* put() */
            :: e == BUSY -> retire(p); goto done
            :: else ->
                atomic {
                    SAME(at, u);
                    taken = (slot[at] == e);
#ifdef WITHOUT_BUSY
                    taken = 1;
#endif
                    if
                    :: taken -> slot[at] = BUSY
                    :: else
                    fi
                };
                if
                :: !taken -> retire(p); goto done
                :: else
                fi;
                atomic { SAME(at, u); slot[at] = LINK(p); at = 1 + p; u = use[p]; q--; p = 0; e = 0; taken = 0 }
            fi
        fi
    :: else -> break
    od;
    atomic { SAME(at, u); e = slot[at] }; /* put() for the leaf */
    if
    :: e == LEAF(version) || e == BUSY -> goto done
    :: PRESENT(e) && e != LEAF(version) -> drop(at, e); goto needs_shootdown
    :: IS_OWED(e) -> goto needs_shootdown
    :: else ->
        atomic {
            SAME(at, u);
            taken = (slot[at] == e);
            if
            :: taken -> slot[at] = BUSY
            :: else
            fi
        };
        if
        :: taken -> atomic { SAME(at, u); slot[at] = LEAF(version) }
        :: else
        fi
    fi;

done:
    leave(c);
    goto guest;

needs_shootdown:
    leave(c);
    shoot_down(c);
    goto guest;

invept: /* shadow_synchronise() */
    q = l1;
#ifndef WITHOUT_FIRST_WAIT
    wait(c);
#endif
    enter(c);
    p = 0;
    do
    :: p < PAGES ->
        /* compare_page() */
        atomic {
            u = use[p];
            e = (in_use[p] && level[p] == 0 -> slot[1 + p] : EMPTY)
        };
        if
        :: IS_LEAF(e) && e != LEAF(l1) -> drop(1 + p, e); SAME(1 + p, u)
        :: else
        fi;
        p++
    :: else -> break
    od;
    leave(c);
    atomic {
#ifndef WITHOUT_OWN_FLUSH
        flush(c);
#endif
        floor[c] = q;
        assert(tlb[c] == NONE || tlb[c] >= q) /* STALE */
    };
    goto guest;

evict: /* find_victim(), evict() */
    enter(c);
    atomic {
        p = 0;
        do
        :: p + 1 < PAGES -> p++
        :: break
        od;
        taken = in_use[p]; u = use[p]
    };
    if
    :: taken ->
        atomic { SAME(1 + p, u); at = parent[p]; e = slot[at] };
        if
        :: e == LINK(p) -> drop(at, e)
        :: else
        fi;
        SAME(1 + p, u)
    :: else
    fi;
    goto done;

reclaim: /* shadow_reclaim(): shadow_collect() */
    atomic { list = retired; retired = 0 };
#ifndef WITHOUT_COLLECT_WAIT
    if
    :: list != 0 -> wait(c)
    :: else
    fi;
#endif
    p = 0;
    do
    :: p < PAGES ->
        if
        :: (list & BIT(p)) != 0 ->
            /* bury(); children first */
            if
            :: level[p] == 1 && IS_LINK(slot[1 + p]) ->
                atomic { e = slot[1 + p]; slot[1 + p] = EMPTY };
                if
                :: IS_LINK(e) -> atomic { ON_NO_LIST(PAGE(e)); in_use[PAGE(e)] = 0; dead = dead | BIT(PAGE(e)) }
                :: else
                fi
            :: else
            fi;
            atomic { in_use[p] = 0; dead = dead | BIT(p) }
        :: else
        fi;
        p++
    :: else -> break
    od;
    /* release_dead() */
    atomic { p = 0; e = 0; list = dead; dead = 0 };
    if
    :: list != 0 ->
#ifndef WITHOUT_FREE_SHOOTDOWN
        shoot_down(c);
#endif
#ifndef WITHOUT_FREE_WAIT
        wait(c);
#endif
        atomic {
            for (o : 0 .. PAGES - 1) {
                if
                :: (list & BIT(o)) != 0 -> ON_NO_LIST(o); assert(level[o] == 0 || !IS_LINK(slot[1 + o])) /* LOST */
                :: else
                fi
            }
            o = 0;
            free_list = free_list | list
        }
    :: else
    fi;
    goto guest
}

/* The NMI of a shoot-down: in L2, or anywhere in Umbra, which uses no translation and answers in its waits, too. */
proctype Nmi(byte c)
{
end:
    do
    :: atomic { asked[c] -> flush(c); asked[c] = 0 }
    od
}

init
{
    byte i;

    atomic {
        free_list = BIT(PAGES) - 1;
        for (i : 0 .. CPUS - 1) { flush(i); owing[i] = NONE }
        for (i : 0 .. CPUS - 1) { run Cpu(i); run Nmi(i) }
    }
}
