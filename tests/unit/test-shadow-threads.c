/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU under several CPUs of L1 at once, each a thread: they edit shared tables, invalidate, run L2
 * on hardware that keeps what it may, and Umbra takes permissions away in its own map. Every page that L1
 * maps has the address and a version in its own address, so that each access of L2 tells where it came from:
 * no version is older than what the CPU's last invalidation saw, and nothing of another address ever shows.
 * Built with ThreadSanitizer; SHADOW_STEPS in the environment sets the steps of each thread, SHADOW_SEED what
 * they are.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/print.h"
#include "mm/frame.h"
#include "mm/memmap.h"
#include "mm/tdp-format.h"
#include "nested/shadow-internal.h"

#ifndef SHADOW_DEFAULT_STEPS
#define SHADOW_DEFAULT_STEPS 6000
#endif

enum {
    CPUS = 4,
    ROOTS = 3,   /* L1's top tables; they share what is below */
    REGIONS = 8, /* of 2 MByte, each with two level-1 tables that take turns */
    PLACES = 4,  /* pages in use of each region */
    PAGES = REGIONS * PLACES,
    TLB = 24,
    TRIES = 100000,
};

#define TABLES_START MIB(1)
#define POOL_START   MIB(2)
#define POOL_END     MIB(8)
/* Where page i points to: so many versions of 4 KByte each. */
#define TARGET(i)  (GIB(2) + (u64)(i)*GIB(4))
#define VERSIONS   0xfffffu
#define EPT_ALL    0x707ull /* R, W, X and XU, A and D */
#define EPT_WB     0x30ull
#define MAXPHYADDR 40

u64 direct_map_base;
struct mem_range umbra_region = {.start = POOL_START, .end = POOL_END};

static u8 arena[POOL_END] __attribute__((aligned(4096)));
static struct tdp tdp;
static struct shadow *shadow;

/* One translation, or one table on the way to it, that a CPU has cached. */
struct cached {
    u64 root, address, entry, table; /* table: of level 1, or 0 if it is a page */
};

struct cpu {
    struct shadow_cpu shadow;
    struct shadow_use use;
    unsigned index, root, acquired; /* acquired: the root of the last time, plus 1 */
    u64 random;
    u32 kicked, answered; /* shoot-downs asked for, and done */
    bool in_guest;
    bool late; /* so that tables are noted as written without a flag, for good, when much was tried before */
    bool writable_cached[32]; /* frames of tables of which this CPU's TLB has it that they may be written */
    bool dirty_cached[32];    /* frames of tables whose dirty flag this CPU's TLB has as set */
    u32 seen[PAGES];          /* versions that an invalidation found: no older one may show */
    struct cached tlb[TLB];
    u64 accesses, faults, quick, edits, renewed, wakes;
};

static struct cpu cpus[CPUS];
static struct {
    struct spinlock lock;
    u32 version[PLACES];
    bool second; /* which of the two tables is linked */
} region[REGIONS];
static struct spinlock own_lock;
static u32 own_epoch[PAGES]; /* odd: Umbra lets nobody write there */

_Noreturn void fatal(const char *fmt, ...)
{
    (void)fmt;
    abort();
}

/* Any thread: the others would go on for long. */
static _Noreturn void wrong(const char *what, unsigned page, u64 entry)
{
    fprintf(stderr, "%s: page %u, entry %#lx\n", what, page, entry);
    abort();
}

static u64 random_u64(struct cpu *cpu)
{
    cpu->random ^= cpu->random << 13;
    cpu->random ^= cpu->random >> 7;
    cpu->random ^= cpu->random << 17;
    return cpu->random >> 8;
}

static unsigned below(struct cpu *cpu, unsigned bound)
{
    return (unsigned)(random_u64(cpu) % bound);
}

static u64 *word(u64 address)
{
    return (u64 *)(void *)(arena + address);
}

/* --- tables of L1 --- */

static u64 top_table(unsigned root)
{
    return TABLES_START + root * PAGE_SIZE;
}

#define UPPER_TABLE  (TABLES_START + ROOTS * PAGE_SIZE)
#define MIDDLE_TABLE (UPPER_TABLE + PAGE_SIZE)

static u64 lower_table(unsigned r, bool second)
{
    return MIDDLE_TABLE + PAGE_SIZE * (1 + 2 * r + second);
}

static u64 address_of(unsigned page)
{
    return page / PLACES * MIB(2) + page % PLACES * 5 * PAGE_SIZE;
}

static u64 *leaf_of(unsigned page, bool second)
{
    return word(lower_table(page / PLACES, second) + page % PLACES * 5 * sizeof(u64));
}

static u32 version_of(unsigned page, u64 entry)
{
    u64 offset = (entry & ENTRY_ADDRESS) - TARGET(page);

    if (offset >= GIB(4))
        wrong("L2 reaches what was never mapped there", page, entry);
    return (u32)(offset >> PAGE_SHIFT);
}

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    (void)memory;
    (void)bytes;
    if (address.raw < TABLES_START || address.raw >= POOL_START)
        return MEMORY_NOT_OWNED;
    *value = atomic_load(word(address.raw));
    return MEMORY_OK;
}

static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    (void)memory;
    (void)bytes;
    return atomic_cas(word(address.raw), expected, desired) ? MEMORY_OK : MEMORY_CHANGED;
}

static struct paging_memory memory = {.load = load, .compare_exchange = compare_exchange};

/* --- the CPUs --- */

static void flush_all(struct cpu *cpu)
{
    memset(cpu->tlb, 0, sizeof(cpu->tlb));
    memset(cpu->dirty_cached, 0, sizeof(cpu->dirty_cached));
    memset(cpu->writable_cached, 0, sizeof(cpu->writable_cached));
}

/* As an NMI does it in a guest; in Umbra it comes before the next entry at the latest. */
static void answer(struct cpu *cpu)
{
    u32 asked = atomic_load(&cpu->kicked);

    if (asked == cpu->answered)
        return;
    flush_all(cpu);
    atomic_store(&cpu->answered, asked);
}

static void enter_guest(struct cpu *cpu)
{
    atomic_store(&cpu->in_guest, true);
    answer(cpu);
}

static void leave_guest(struct cpu *cpu)
{
    atomic_store(&cpu->in_guest, false);
}

static void shoot_down(void *owner)
{
    struct cpu *self = owner;

    flush_all(self);
    for (unsigned i = 0; i < CPUS; i++) {
        if (&cpus[i] == self)
            continue;
        u32 wanted = atomic_add(&cpus[i].kicked, 1) + 1;
        while (atomic_load(&cpus[i].in_guest) && (int)(atomic_load(&cpus[i].answered) - wanted) < 0)
            cpu_relax();
    }
}

static u64 *own_slot(u64 address, u64 *entry)
{
    u64 table = tdp.root.raw, *slot;

    for (unsigned level = TDP_LEVELS;; level--) {
        slot = word(table + tdp_entry_index(address, level) * sizeof(u64));
        *entry = atomic_load(slot);
        if (!tdp_entry_is_table(&tdp.config, level, *entry))
            return slot;
        table = tdp_entry_address(*entry);
    }
}

/*
 * What L1 writes sets the dirty flag in Umbra's own map, unless the TLB has it as set; a TLB that has it that
 * the page may be written does so even if that has changed. Else it is a violation.
 */
static void l1_store(struct cpu *cpu, u64 address, u64 value)
{
    unsigned frame = (unsigned)((address - TABLES_START) / PAGE_SIZE);

    enter_guest(cpu);
    while (!cpu->dirty_cached[frame]) {
        u64 entry, *slot = own_slot(address, &entry);
        if ((entry & EPTE_W) != 0)
            cpu->writable_cached[frame] = true;
        if (cpu->writable_cached[frame]) {
            cpu->dirty_cached[frame] = atomic_cas(slot, entry, entry | EPTE_A | EPTE_D);
            continue;
        }
        leave_guest(cpu);
        cpu->wakes += tdp_wake(&tdp, gpa(address));
        enter_guest(cpu);
    }
    atomic_store(word(address), value);
    leave_guest(cpu);
}

/* Umbra, for an instruction of L1's: by no TLB. */
static void umbra_store(struct cpu *cpu, u64 address, u64 value)
{
    shadow_will_write(shadow, &cpu->shadow, gpa(address), sizeof(value));
    atomic_store(word(address), value);
}

/* L1 reads a table: it may be written from now on, for the TLB, without being dirty. */
static void l1_load(struct cpu *cpu, u64 address)
{
    u64 entry;

    enter_guest(cpu);
    (void)own_slot(address, &entry);
    if ((entry & EPTE_W) != 0)
        cpu->writable_cached[(address - TABLES_START) / PAGE_SIZE] = true;
    leave_guest(cpu);
}

static void edit(struct cpu *cpu)
{
    unsigned page = below(cpu, PAGES), r = page / PLACES, place = page % PLACES;

    spin_lock(&region[r].lock);
    if (below(cpu, 10) == 0) {
        /* The other table takes over, with new versions of all pages. */
        for (unsigned i = 0; i < PLACES; i++) {
            unsigned other = r * PLACES + i;
            u64 value = TARGET(other) + (u64)++region[r].version[i] * PAGE_SIZE;
            l1_store(cpu, (u64)((u8 *)leaf_of(other, !region[r].second) - arena), value | EPT_ALL | EPT_WB);
        }
        region[r].second = !region[r].second;
        l1_store(cpu, MIDDLE_TABLE + r * sizeof(u64), lower_table(r, region[r].second) | EPT_ALL);
    } else {
        u64 value = TARGET(page) + (u64)++region[r].version[place] * PAGE_SIZE;
        u64 rights = below(cpu, 8) == 0 ? 0 : (EPT_ALL & ~(below(cpu, 4) == 0 ? 0x2ull : 0)) | EPT_WB;
        if (below(cpu, 5) == 0)
            rights &= ~0x300ull;
        bool by_umbra = cpu->late && below(cpu, 4) == 0;
        (by_umbra ? umbra_store : l1_store)(cpu, (u64)((u8 *)leaf_of(page, region[r].second) - arena),
                                            value | rights);
    }
    if (region[r].version[place] == VERSIONS)
        wrong("too many steps", page, 0);
    spin_unlock(&region[r].lock);
    cpu->edits++;
}

/* What L1 maps there now: a table that is not linked at the end may be one that is being prepared. */
static u32 version_now(unsigned page)
{
    u64 link, leaf, *place = word(MIDDLE_TABLE + page / PLACES * sizeof(u64));

    do {
        link = atomic_load(place);
        leaf = atomic_load(leaf_of(page, (link & ENTRY_ADDRESS) != lower_table(page / PLACES, false)));
    } while (((atomic_load(place) ^ link) & ENTRY_ADDRESS) != 0);
    return version_of(page, leaf);
}

static void invalidate(struct cpu *cpu)
{
    l1_load(cpu, lower_table(below(cpu, REGIONS), below(cpu, 2) != 0));
    for (unsigned page = 0; page < PAGES; page++) {
        u32 version = version_now(page);
        if (version > cpu->seen[page])
            cpu->seen[page] = version;
    }
    if (below(cpu, 4) == 0) {
        shadow_invalidate_all(&cpu->shadow);
        return;
    }
    for (unsigned i = 0; i < ROOTS; i++)
        shadow_invalidate_pointer(shadow, &cpu->shadow, top_table(i));
}

static void acquire(struct cpu *cpu)
{
    const struct paging_cpu features = {.maxphyaddr = MAXPHYADDR, .page_1g = true, .execute_only = true};
    u64 eptp = top_table(cpu->root % ROOTS) | 6 | 3 << 3 | (cpu->root < ROOTS ? BIT(6) : 0);
    const struct shadow_key key = {.pointer = eptp, .role = paging_role_ept(&features, eptp, true, false)};

    unsigned renewal = cpu->acquired == cpu->root + 1 && below(cpu, 3) != 0
                           ? shadow_renew(shadow, &cpu->shadow)
                           : SHADOW_EXPIRED;
    cpu->renewed += (renewal & SHADOW_FLUSH_TABLES) != 0;
    cpu->use.flush_tables = (renewal & SHADOW_FLUSH_TABLES) != 0;
    if (renewal == SHADOW_EXPIRED &&
        shadow_acquire(shadow, &cpu->shadow, &key, 1 + cpu->root % 2, &cpu->use) != SHADOW_ACQUIRED)
        wrong("no root", 0, eptp);
    cpu->acquired = cpu->root + 1;
    if (cpu->use.flush_tables)
        memset(cpu->tlb, 0, sizeof(cpu->tlb));
}

/* --- an access of L2 --- */

static u64 *entry_in(u64 table, u64 address, unsigned level)
{
    if (table < POOL_START || table >= POOL_END)
        wrong("the shadow leads out of the pool", (unsigned)level, table);
    return word(table + shadow_index(address, level) * sizeof(u64));
}

static void remember(struct cpu *cpu, u64 address, u64 entry, u64 table)
{
    cpu->tlb[below(cpu, TLB)] =
        (struct cached){.root = cpu->use.root.raw, .address = address, .entry = entry, .table = table};
}

static bool permits(u64 entry, bool write)
{
    return (entry & EPTE_R) != 0 && (!write || (entry & EPTE_W) != 0);
}

/* All upper entries allow everything, so only the leaf counts. */
static bool walk_shadow(struct cpu *cpu, u64 address, bool write, u64 *entry)
{
    u64 table = cpu->use.root.raw;
    unsigned level = SHADOW_LEVELS;
    u64 *slot;

    for (unsigned i = 0; i < TLB; i++) {
        const struct cached *way = &cpu->tlb[i];
        if (way->root != table || way->address != align_down(address, MIB(2)) || way->table == 0)
            continue;
        table = way->table;
        level = 1;
        break;
    }
    for (;; level--) {
        slot = entry_in(table, address, level);
        *entry = atomic_load(slot);
        if (!slot_present(*entry))
            return false;
        if (level == 1)
            break;
        table = *entry & ENTRY_ADDRESS;
        if (level == 2 && below(cpu, 2) == 0)
            remember(cpu, align_down(address, MIB(2)), 0, table);
    }
    if (!permits(*entry, write) || !atomic_cas(slot, *entry, *entry | EPTE_A | (write ? EPTE_D : 0)))
        return false;
    remember(cpu, address, *entry, 0);
    return true;
}

static bool translate(struct cpu *cpu, u64 address, bool write, u64 *entry)
{
    for (unsigned i = 0; i < TLB; i++) {
        const struct cached *way = &cpu->tlb[i];
        if (way->root == cpu->use.root.raw && way->address == address && way->table == 0 &&
            permits(way->entry, write)) {
            *entry = way->entry;
            return true;
        }
    }
    if (walk_shadow(cpu, address, write, entry))
        return true;
    /* A violation drops what was used. */
    for (unsigned i = 0; i < TLB; i++) {
        if (cpu->tlb[i].address == address || cpu->tlb[i].address == align_down(address, MIB(2)))
            cpu->tlb[i].root = 0;
    }
    return false;
}

static bool try_access(struct cpu *cpu, unsigned page, bool write)
{
    u64 entry;
    u32 epoch = atomic_load(&own_epoch[page]);

    enter_guest(cpu);
    bool done = translate(cpu, address_of(page), write, &entry);
    leave_guest(cpu);
    if (!done)
        return false;
    if (version_of(page, entry) < cpu->seen[page])
        wrong("L2 reaches a version that an invalidation has ended", page, entry);
    if (write && epoch % 2 != 0 && atomic_load(&own_epoch[page]) == epoch)
        wrong("L2 writes where Umbra lets nobody write", page, entry);
    return true;
}

static void access_page(struct cpu *cpu, unsigned page, bool write)
{
    for (unsigned i = 0; i < TRIES; i++) {
        struct shadow_result result;
        const struct shadow_access access = {.address = l2_gpa(address_of(page)),
                                             .access = write ? ACCESS_WRITE : ACCESS_READ,
                                             .supplied = FAULT_LINEAR_VALID | FAULT_FINAL,
                                             .rip = cpu->accesses};
        if (try_access(cpu, page, write)) {
            cpu->accesses++;
            return;
        }
        cpu->faults++;
        /* L2 goes on at once, with what this CPU has cached. */
        if (shadow_fault_quick(shadow, &cpu->shadow, access.address, access.access)) {
            cpu->quick++;
            continue;
        }
        enum shadow_outcome outcome = shadow_fault(shadow, &cpu->shadow, cpu->use.handle, &access, &result);
        if (outcome == SHADOW_NO_PROGRESS || outcome == SHADOW_MISCONFIGURED)
            wrong("a fault ends as it should not", page, outcome);
        acquire(cpu);
        if (outcome != SHADOW_FILLED && outcome != SHADOW_STALE)
            return;
    }
    wrong("an access does not come to an end", page, 0);
}

static void run_l2(struct cpu *cpu)
{
    if (below(cpu, 6) == 0)
        cpu->root = below(cpu, 2 * ROOTS);
    acquire(cpu);
    for (unsigned i = 1 + below(cpu, 6); i-- > 0;) {
        bool invalidates = below(cpu, 4) == 0; /* perhaps with nothing changed since the last time */
        if (invalidates)
            invalidate(cpu);
        if (invalidates || below(cpu, 8) == 0)
            acquire(cpu);
        access_page(cpu, below(cpu, PAGES), below(cpu, 2) == 0);
    }
}

/* Umbra forbids writes to all targets of a page, or allows them again. */
static void own_edit(struct cpu *cpu)
{
    unsigned page = below(cpu, PAGES);

    spin_lock(&own_lock);
    bool allow = own_epoch[page] % 2 != 0;
    if (allow)
        atomic_add(&own_epoch[page], 1);
    if (tdp_protect(&tdp, TARGET(page), TARGET(page) + GIB(4), allow ? TDP_RWX : TDP_R | TDP_XS | TDP_XU) !=
        TDP_OK)
        wrong("Umbra's own map cannot be changed", page, 0);
    shadow_follow_own_map(shadow, &cpu->shadow);
    shoot_down(cpu);
    if (!allow)
        atomic_add(&own_epoch[page], 1);
    spin_unlock(&own_lock);
}

static unsigned long wanted(const char *variable, unsigned long otherwise)
{
    const char *text = getenv(variable);

    return text != NULL ? strtoul(text, NULL, 10) : otherwise;
}

static void *cpu_thread(void *argument)
{
    struct cpu *cpu = argument;

    unsigned long steps = wanted("SHADOW_STEPS", SHADOW_DEFAULT_STEPS);

    for (unsigned long i = steps; i-- > 0;) {
        cpu->late = i < steps / 8;
        unsigned dice = below(cpu, 200);
        if (dice < 110)
            run_l2(cpu);
        else if (dice < 160)
            edit(cpu);
        else if (dice < 199)
            invalidate(cpu);
        else
            own_edit(cpu);
    }
    return NULL;
}

/* --- the machine --- */

static void make_tables(void)
{
    for (unsigned i = 0; i < ROOTS; i++)
        *word(top_table(i)) = UPPER_TABLE | EPT_ALL;
    *word(UPPER_TABLE) = MIDDLE_TABLE | EPT_ALL;
    for (unsigned r = 0; r < REGIONS; r++)
        *word(MIDDLE_TABLE + r * sizeof(u64)) = lower_table(r, false) | EPT_ALL;
    for (unsigned page = 0; page < PAGES; page++)
        *leaf_of(page, false) = *leaf_of(page, true) = TARGET(page) | EPT_ALL | EPT_WB;
}

static void make_machine(u32 pages, bool window)
{
    const struct tdp_config format = {.format = TDP_EPT,
                                      .mode_based_execute = true,
                                      .execute_only = true,
                                      .accessed_dirty = true,
                                      .page_1g = true,
                                      .maxphyaddr = MAXPHYADDR};
    const struct shadow_config config = {.tdp = &tdp,
                                         .memory = &memory,
                                         .memory_limit = POOL_END,
                                         .cpus = CPUS,
                                         .shoot_down = shoot_down,
                                         .quiet = window ? 1 : 3,
                                         .pages = pages};

    memset(arena, 0, sizeof(arena));
    memset(region, 0, sizeof(region));
    memset(own_epoch, 0, sizeof(own_epoch));
    direct_map_base = (u64)(uintptr_t)arena;
    frame_pool_init(hpa(POOL_START), hpa(POOL_END));
    assert_int_equal(tdp_init(&tdp, &format), TDP_OK);
    assert_int_equal(tdp_map(&tdp, 0, GIB(256), TDP_RWX, MT_WB), TDP_OK);
    tdp_flushed(&tdp);
    make_tables();
    paging_set_window(&memory, arena + TABLES_START, TABLES_START, window ? POOL_START - TABLES_START : 0);
    shadow = shadow_init(&config);
    assert_non_null(shadow);
    for (unsigned i = 0; i < CPUS; i++) {
        u64 seed = 0x9e3779b97f4a7c15ull * (i + 1 + CPUS * wanted("SHADOW_SEED", 0));
        cpus[i] = (struct cpu){.index = i, .random = seed + pages};
        assert_true(shadow_cpu_init(shadow, &cpus[i].shadow, (u16)(1 + i * SHADOW_TAGS), &cpus[i]));
    }
}

/* `window`: L1's tables can be read at any time, so that there are ordinary faults. */
static void run(u32 pages, bool window)
{
    struct shadow_statistics sum;
    pthread_t thread[CPUS];

    make_machine(pages, window);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, cpu_thread, &cpus[i]), 0);
    u64 accesses = 0, quick = 0, renewed = 0, wakes = 0;
    for (unsigned i = 0; i < CPUS; i++) {
        pthread_join(thread[i], NULL);
        accesses += cpus[i].accesses;
        quick += cpus[i].quick;
        renewed += cpus[i].renewed;
        wakes += cpus[i].wakes;
    }
    shadow_statistics(shadow, &sum);
    assert_true(accesses > 0 && sum.filled > 0 && sum.reflected > 0 && sum.policy > 0);
    assert_true(renewed > 0 && wakes > 0 && sum.entries_dropped > 0 && sum.drops_of_everything > 0 &&
                (quick > 0) == window);
    if (getenv("SHADOW_STEPS") != NULL)
        print_message(
            "%u pages: %lu accesses, %lu renewed, %lu woken, %lu filled, %lu of them quickly, %lu reflected, "
            "%lu dropped, "
            "evicted %lu pages, "
            "%lu shoot-downs\n",
            pages, accesses, renewed, wakes, sum.filled, quick, sum.reflected, sum.entries_dropped,
            sum.pages_evicted, shadow->shootdowns_begun);
}

static void with_room(void **state)
{
    (void)state;
    run(512, true);
}

static void with_eviction(void **state)
{
    (void)state;
    run(48, true);
    run(80, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_room),
        cmocka_unit_test(with_eviction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
