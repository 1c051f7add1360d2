/* SPDX-License-Identifier: MIT */
/*
 * A model of how INVEPT finds out whether L1 has written its tables: by dirty flags, or, where these tables are asleep, by
 * what wakes them (nested/shadow-sync.c, nested/shadow-root.c, mm/tdp.c, vcpu/shootdown.c); also while Umbra's own map
 * changes. Not the code: one table of L1's with one entry, and the slot that is made from it. Every step is one access to
 * shared memory, and all orders of steps are visited, with memory as the code's atomic operations make it. A count that is
 * only compared with what a CPU remembers of it is a bit of that CPU: it has counted since.
 *
 * What must hold, as assertions:
 *   STALE   after INVEPT on a CPU, its L2 reaches nothing that is older
 *   MISSED  when INVEPT finds that nothing has changed, there is nothing older in the slot
 *   OWN     after a change of Umbra's own map has been flushed, L2 reaches nothing that was made from what stood there before
 * tests/proof/run leaves out or moves one part of the protocol at a time (WITHOUT_..., LATE_..., EARLY_...): then one of them
 * must not hold.
 *
 * Left out: table pages that come and go (installation.pml), several tables.
 */
#ifndef CPUS
#define CPUS 2
#endif
#ifndef VERSIONS
#define VERSIONS 1
#endif
/* What each CPU does besides running L2, a bit each: L1 on it writes the table; L2, or Umbra for L1, writes it without a dirty flag;
 * L1 invalidates; L2 faults; Umbra's own map gets another entry for the table, once; Umbra sets a flag in a table of several
 * formats. */
#define STORES      1
#define WROTE       2
#define INVALIDATES 4
#define FAULTS      8
#define CHANGES     16
#define MARKS       32
#ifndef DOES
#define DOES 13
#endif
#ifndef OTHERS_DO
#define OTHERS_DO DOES
#endif
#define CAN(what) (((c == 0 -> DOES : OTHERS_DO) & (what)) != 0)

#define NONE   7
#define EMPTY  7
#define BIT(c)  (1 << (c))
#define ALL     (BIT(CPUS) - 1)
#define OF(set) (((set) & BIT(c)) != 0)

byte l1;           /* version of L1's entry */
byte slot = EMPTY; /* version that it was made from */
bit slot_place;    /* and which of Umbra's own entries */
bit changed;       /* the change of that one, with its flush, is done */
/* Umbra's own entry for the table: the one that there was at the start, and the one that takes its place. */
bit place, dirty[2], writable[2], asleep[2];
bit there;   /* the page that the slot is in, */
bit linked;  /* which others find when all is noted: */
bit tracked; /* its `dirty` points to this one, which is void if changed_page */
bit changed_page;
bit unseen;            /* written > seen */
bit may_be_written;    /* without a dirty flag: the bit of shadow_mark_writable() */
bit distrusted;        /* `dirty` is NULL, because of that: always compared */
bit unheard;           /* news is not the root's */
bit unfollowed;        /* own_changes is not what the map counts */
bit counted;           /* the map has counted since follow() has read it */
bit map_lock, lock, locked; /* of struct tdp, of struct shadow, machine_lock() */

/* Of each CPU: a section; whose sections it waits for; to flush; in the middle of an instruction of L1's that writes. */
bit inside[CPUS], asked[CPUS], storing[CPUS];
byte waits_for[CPUS];
byte reads[CPUS]; /* in a section: version that it has read; NONE: none */
/* What its TLB has: of Umbra's entry, that it may be written and that it is dirty; of the slot, the version. */
bit tlb_writable[CPUS], tlb_dirty[CPUS];
byte tlb[CPUS], floor[CPUS]; /* floor: version that its last INVEPT has seen */
/* struct shadow_watch; whether `wakes`, `events`, `changes` have counted since it began; `writes`, since they were read. */
bit complete[CPUS], sleeps[CPUS], watched[CPUS];
bit knows[CPUS]; /* the table is among those that are watched; of the others nothing ever changes */
byte woken, events, changes, noted, newer; /* a bit each; newer: news that have come since it has read them */

inline flush(c)
{
    tlb[c] = NONE; tlb_writable[c] = 0; tlb_dirty[c] = 0
}

inline enter(c)
{
    inside[c] = 1
}

inline leave(c)
{
    atomic {
        inside[c] = 0; reads[c] = NONE;
        for (o : 0 .. CPUS - 1) { waits_for[o] = waits_for[o] & ~BIT(c) }
        o = 0
    }
}

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

/* With the machine's lock. */
inline flush_all(c)
{
    atomic {
        flush(c);
        for (o : 0 .. CPUS - 1) { asked[o] = (o != c) }
        o = 0
    };
    asked[0] + asked[1] + asked[CPUS - 1] == 0
}

inline shoot_down(c)
{
    atomic { !locked -> locked = 1 };
    flush_all(c);
    locked = 0
}

/* --- mm/tdp.c --- */

inline count_change()
{
    atomic { unfollowed = 1; counted = 1; changed_page = 1; changes = ALL }
}

/* replace_entry(): a table that merges, so that the old entry is overwritten by the list of retired ones */
inline change_map(c)
{
    atomic { !map_lock -> map_lock = 1; found = dirty[0] };
#ifndef WITHOUT_COUNT_BEFORE
    count_change();
#endif
    atomic { dirty[1] = found; writable[1] = 1; place = 1; found = 0 };
    dirty[0] = 0;
#ifndef WITHOUT_COUNT_AFTER
    count_change();
#endif
    map_lock = 0
}

inline put_to_sleep(c)
{
    atomic { !map_lock -> map_lock = 1 };
    if
    :: knows[c] && !OF(changes) && writable[watched[c]] -> asleep[watched[c]] = 1; writable[watched[c]] = 0
    :: else
    fi;
    map_lock = 0
}

inline wake(c)
{
    atomic { !map_lock -> map_lock = 1 };
    if
    :: asleep[place] ->
#ifndef LATE_WAKES
        woken = ALL;
#endif
        writable[place] = 1;
#ifdef LATE_WAKES
        woken = ALL;
#endif
        asleep[place] = 0
    :: else
    fi;
    map_lock = 0
}

inline clear_dirty(c)
{
    atomic { !map_lock -> map_lock = 1 };
    if
    :: !changed_page -> dirty[tracked] = 0
    :: else
    fi;
    map_lock = 0
}

/* --- nested/ --- */

/* shadow_note_write(); to harvest is no event for one's own watch */
inline note(cpus)
{
    atomic { unseen = 1; noted = ALL; events = events | (cpus) }
}

inline mark_writable(c)
{
#ifndef WITHOUT_MARK_SECTION
    enter(c);
#endif
    if
    :: !may_be_written ->
        if
        :: there -> events = ALL
        :: else
        fi;
        may_be_written = 1;
        if
        :: there -> atomic { unheard = 1; newer = ALL }; events = ALL
        :: else
        fi
    :: else
    fi;
    leave(c)
}

inline write_l1()
{
    atomic {
        if
        :: l1 < VERSIONS -> l1++
        :: else
        fi
    }
}

/* shadow_follow_own_map() */
inline follow(c)
{
    if
    :: unfollowed ->
        atomic { !lock -> lock = 1 };
        if
        :: unfollowed ->
            counted = 0;
            wait(c);
            atomic { slot = EMPTY; slot_place = 0; there = 0; linked = 0 };
            atomic {
                unfollowed = counted;
                lock = 0
            }
        :: else -> lock = 0
        fi
    :: else
    fi
}

/* Leaves its answer in `found`. */
inline nothing_is_dirty(c)
{
#ifdef EARLY_CHANGES
    taken = OF(changes);
    found = knows[c] && dirty[watched[c]];
    found = found | taken | OF(events);
#else
    found = knows[c] && dirty[watched[c]];
    found = found | OF(events);
#ifndef WITHOUT_CHANGES
    found = found | OF(changes);
#endif
#endif
    atomic { found = 1 - found; taken = 0 }
}

inline unchanged()
{
    assert(slot == EMPTY || slot >= seen) /* MISSED */
}

/* shadow_is_unchanged(), with its answer in `found` */
inline is_unchanged(c)
{
    found = complete[c];
    if
    :: found && sleeps[c] ->
        found = found && !OF(woken);
#ifndef WITHOUT_CHANGES
        found = found && !OF(changes);
#endif
#ifndef WITHOUT_EVENTS
        found = found && !OF(events);
#endif
        if
        :: !found -> sleeps[c] = 0; found = 1
        :: else -> goto known
        fi
    :: else
    fi;
    if
    :: found ->
        nothing_is_dirty(c);
        complete[c] = found;
        if
        :: found -> skip
        :: found ->
#ifndef LATE_REMEMBERED
            woken = woken & ~BIT(c);
#endif
            put_to_sleep(c);
#ifdef LATE_REMEMBERED
            woken = woken & ~BIT(c);
#endif
#ifndef WITHOUT_SLEEP_SHOOTDOWN
            shoot_down(c);
#endif
#ifndef WITHOUT_SECOND_LOOK
            nothing_is_dirty(c);
#endif
            atomic { sleeps[c] = found; complete[c] = found }
        :: else
        fi
    :: else
    fi;
known:
    skip
}

inline synchronise(c)
{
    atomic { complete[c] = 0; sleeps[c] = 0; events = events & ~BIT(c) };
    changes = (changes & ~BIT(c)) | (unfollowed << c);
#ifdef EARLY_NEWS
    atomic { heard = !unheard; newer = newer & ~BIT(c) };
#endif
    wait(c);
#ifndef EARLY_NEWS
    atomic { heard = !unheard; newer = newer & ~BIT(c) };
#endif
    enter(c);
    atomic { taken = there; watched[c] = tracked };
    if
    :: !heard && may_be_written -> distrusted = 1
    :: else
    fi;
    always = taken && distrusted;
    found = taken && !always && dirty[watched[c]];
    found = found | (taken && !always && unseen);
    if
    :: found && dirty[watched[c]] -> note(ALL & ~BIT(c)); clear_dirty(c); note(ALL & ~BIT(c))
    :: else
    fi;
    leave(c);
    if
    :: found || always ->
        if
        :: found ->
            noted = noted & ~BIT(c);
            shoot_down(c);
            wait(c)
        :: else
        fi;
        enter(c);
        atomic {
            if
            :: slot != l1 -> slot = EMPTY; slot_place = 0
            :: else
            fi
        };
        if
        :: found -> unseen = OF(noted)
        :: else
        fi;
        leave(c)
    :: else
    fi;
    if
    :: !heard -> unheard = OF(newer)
    :: else
    fi;
    atomic { complete[c] = !always; knows[c] = taken; always = 0; heard = 0 }
}

proctype Cpu(byte c)
{
    byte o, seen;
    bit found, taken, always, heard;

guest:
    atomic { seen = 0; found = 0; taken = 0 };
    if
    :: atomic { tlb[c] == NONE && slot != EMPTY ->
        tlb[c] = slot;
        assert(tlb[c] >= floor[c]); /* STALE */
        assert(slot_place || !changed) /* OWN */
       }; goto guest
    :: slot == EMPTY && CAN(FAULTS) -> goto fault
    :: CAN(STORES) && l1 < VERSIONS -> goto store
    /* L1 reads its table */
    :: atomic { CAN(STORES) && !tlb_writable[c] && writable[place] -> tlb_writable[c] = 1; tlb_dirty[c] = dirty[place] }; goto guest
    :: CAN(WROTE) && l1 < VERSIONS ->
#ifdef LATE_MARK
        write_l1();
#endif
        mark_writable(c);
#ifndef LATE_MARK
        write_l1();
#endif
        goto guest
    :: CAN(MARKS) && l1 < VERSIONS -> /* in a fault, shadow-fault.c: note_and_exchange() */
#ifndef WITHOUT_NOTE_SECTION
        enter(c);
#endif
#ifndef LATE_NOTE
        note(ALL);
#endif
        write_l1();
#ifdef LATE_NOTE
        note(ALL);
#endif
        leave(c);
        goto guest
    :: CAN(INVALIDATES) -> goto invept
    :: CAN(CHANGES) && place == 0 -> goto change
    fi;

store: /* one instruction; what the TLB has holds though the entry has changed */
    if
    :: atomic { tlb_dirty[c] -> storing[c] = 1 }
    :: atomic {
        !tlb_dirty[c] && (tlb_writable[c] || writable[place]) ->
        tlb_writable[c] = 1; tlb_dirty[c] = 1; dirty[place] = 1; storing[c] = 1
       }
    :: !tlb_dirty[c] && !tlb_writable[c] && !writable[place] -> wake(c); goto guest
    fi;
    atomic {
        if
        :: l1 < VERSIONS -> l1++
        :: else
        fi;
        storing[c] = 0
    };
    goto guest;

fault: /* shadow_fault() */
    enter(c);
    if
    :: !unfollowed ->
        reads[c] = l1;
        taken = place;
        /* shadow_track() */
        if
        :: atomic { !there && !map_lock -> there = 1; tracked = place; changed_page = 0; unseen = 1; distrusted = 0 };
            if
            :: may_be_written -> distrusted = 1
            :: else
            fi;
            events = ALL;
            linked = 1
        :: linked
        :: there && !linked -> reads[c] = NONE
        fi;
#ifndef WITHOUT_REREADING
        /* put() */
            if
            :: atomic { reads[c] != l1 -> reads[c] = NONE }
            :: else
            fi;
#endif
        atomic {
            if
            :: slot == EMPTY && linked && reads[c] != NONE -> slot = reads[c]; slot_place = taken
            :: else
            fi
        }
    :: else
    fi;
    leave(c);
    goto guest;

invept: /* shadow_acquire() */
    seen = l1;
    follow(c);
    is_unchanged(c);
    if
    :: found -> unchanged()
    :: else ->
        synchronise(c);
#ifndef WITHOUT_FOLLOWING
        follow(c)
#endif
    fi;
    atomic { tlb[c] = NONE; floor[c] = seen };
    goto guest;

change:
    atomic { !locked && place == 0 -> locked = 1 };
    change_map(c);
    follow(c);
    flush_all(c);
    atomic { locked = 0; changed = 1 };
    goto guest
}

/* The NMI of a shoot-down: between two instructions, in L1, L2, or anywhere in Umbra. */
proctype Nmi(byte c)
{
end:
    do
    :: atomic { asked[c] && !storing[c] -> flush(c); asked[c] = 0 }
    od
}

init
{
    byte i;

    atomic {
        writable[0] = 1;
        for (i : 0 .. CPUS - 1) { tlb[i] = NONE; reads[i] = NONE }
        for (i : 0 .. CPUS - 1) { run Cpu(i); run Nmi(i) }
    }
}
