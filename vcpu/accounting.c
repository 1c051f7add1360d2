/* SPDX-License-Identifier: MIT */
/*
 * Prints what account_exit() recorded: on request of a hypercall, and in a fatal report. Since somebody asked
 * for it, it is printed at any log level.
 */
#include "vcpu/accounting.h"

#include "arch/print.h"
#include "vcpu/vendor.h"

static void print_counters(const struct accounting *accounting)
{
    log_error("exits %lu, accesses to Umbra's memory %lu, denied MSR accesses %lu", accounting->exits,
              accounting->umbra_memory_accesses, accounting->denied_msrs);
    for (u32 reason = 0; reason < ACCOUNTING_REASONS; reason++) {
        if (accounting->count[reason] != 0)
            log_error("%10lu %s", accounting->count[reason], machine.vendor->reason_name(reason));
    }
}

void accounting_print(const struct accounting *accounting, unsigned lines)
{
    u64 kept = min_u64(accounting->exits, ACCOUNTING_RING);
    u64 shown = min_u64(lines, kept);

    print_counters(accounting);
    if (shown != 0)
        log_error("last exits, oldest first: TSC, RIP, qualification or EXITINFO1, reason");
    for (u64 i = accounting->exits - shown; i != accounting->exits; i++) {
        const struct trace_entry *entry = &accounting->ring[i % ACCOUNTING_RING];
        log_error("%016lx %016lx %016lx %s", entry->tsc, entry->rip, entry->qualification,
                  machine.vendor->reason_name(entry->reason));
    }
}
