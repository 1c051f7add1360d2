/* SPDX-License-Identifier: MIT */
/*
 * Exit accounting: a counter per exit reason and a ring of the last exits, per virtual CPU, cheap enough to
 * be always on.
 */
#ifndef UMBRA_VCPU_ACCOUNTING_H
#define UMBRA_VCPU_ACCOUNTING_H

#include "arch/types.h"

enum { ACCOUNTING_REASONS = 192, ACCOUNTING_RING = 256 };

struct trace_entry {
    u64 tsc;
    u64 rip;
    u64 qualification; /* exit qualification, or EXITINFO1 */
    u32 reason;        /* index into count[] */
    u32 reserved;
};

struct accounting {
    u64 exits; /* also the ring's write position, modulo ACCOUNTING_RING */
    u64 count[ACCOUNTING_REASONS];
    u64 umbra_memory_accesses;
    u64 denied_msrs;
    struct trace_entry ring[ACCOUNTING_RING];
};

/* Called once per exit; `reason` is below ACCOUNTING_REASONS (the vendor's dense index). */
static inline void account_exit(struct accounting *accounting, u32 reason, u64 tsc, u64 rip,
                                u64 qualification)
{
    struct trace_entry *entry = &accounting->ring[accounting->exits++ % ACCOUNTING_RING];
    entry->tsc = tsc;
    entry->rip = rip;
    entry->qualification = qualification;
    entry->reason = reason;
    accounting->count[reason]++;
}

/* Prints counters, and the last `lines` ring entries, oldest first, with machine.vendor's names. */
void accounting_print(const struct accounting *accounting, unsigned lines);

#endif
