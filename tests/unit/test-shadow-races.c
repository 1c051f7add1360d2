/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU's races, each forced: whatever two CPUs do at once is tried with one of them stopped after
 * each of its atomic operations, and the other one after each of its own (tests/unit/two-cpus.h). L1's CPUs
 * have TLBs that forget nothing before a shoot-down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mm/tdp-format.h"
#include "tests/unit/shadow-case.h"
#include "tests/unit/two-cpus.h"

#define OLD GIB(1)
#define NEW GIB(2)

/* L1's table of level 1, the third that is made, is the first page of 2 MByte: world_map() takes frames 12 to
 * 23 in turns. */
enum { FRAME_BEFORE_THE_LAST = 10 };

/* What L1's CPUs have cached of Umbra's own entry for that table. */
static struct {
    bool writable, dirty;
    bool storing; /* in the middle of an instruction, where no NMI comes */
} l1_tlb[2];
static struct shadow_use used[2];
static struct world_plan plan;
static u64 where[2];   /* L1's leaves for pages 0 and 1 */
static unsigned wrong; /* L2 has reached what it may not */
static u64 shootdowns; /* before the CPUs ran */
static bool seen;      /* by the first CPU */
static unsigned saw;
static bool l2_has_table; /* as its page 2 */
static bool has_aliases;
static unsigned has_dead_pages;
static u64 compared; /* tables, by the first CPU, before its INVEPT */
static bool starts_asleep, starts_writable, never_sleeps;
static unsigned were_asleep;

/* --- the CPUs --- */

static struct shadow_cpu *shadow_of(unsigned cpu)
{
    return cpu == 0 ? &world.cpu : &world.second_cpu;
}

/* Umbra's own entry for L1's table. */
static u64 *own_entry(void)
{
    u64 table = world.tdp.root.raw;

    for (unsigned level = TDP_LEVELS;; level--) {
        u64 *entries = phys_to_virt(hpa(table));
        u64 *entry = &entries[tdp_entry_index(where[0], level)];
        if (!tdp_entry_is_table(&world.tdp.config, level, *entry))
            return entry;
        table = tdp_entry_address(*entry);
    }
}

static void shoot_down(void *owner);
static void (*shoots_down)(void *owner) = shoot_down;

/* NMIs: each CPU has answered when it returns. */
static void shoot_down(void *owner)
{
    (void)owner;
    while (l1_tlb[0].storing || l1_tlb[1].storing)
        two_cpus_relax();
    memset(l1_tlb, 0, sizeof(l1_tlb));
    world_honour_flush();
}

/*
 * As on AMD, where no NMI comes while Umbra runs: a CPU answers in its guest, or where Umbra does it for it,
 * which is while it waits for its own turn.
 */
static struct {
    bool locked, in_umbra[2], asked[2];
} amd;
static _Thread_local unsigned this_one;

static void shoot_down_of_amd(void *owner)
{
    unsigned other = 1 - this_one;

    while (amd.locked) {
        amd.asked[this_one] = false;
        two_cpus_relax();
    }
    amd.locked = true;
    amd.asked[other] = amd.in_umbra[other];
    while (amd.asked[other])
        two_cpus_relax();
    shoot_down(owner);
    amd.locked = false;
}

static void exits_to_umbra(unsigned cpu)
{
    this_one = cpu;
    amd.in_umbra[cpu] = true;
}

static void leaves_umbra(void)
{
    amd.in_umbra[this_one] = amd.asked[this_one] = false;
    two_cpus_step();
}

/* A TLB that has it that the page may be written sets the flag though that has changed. */
static void l1_stores(unsigned cpu, unsigned page, u64 target)
{
    u64 flag = world.ept ? EPTE_D : PTE_D, entry = world_peek(where[page]);

    for (;;) {
        l1_tlb[cpu].writable |= (*own_entry() & PTE_W) != 0;
        if (l1_tlb[cpu].writable)
            break;
        (void)tdp_wake(&world.tdp, gpa(where[page]));
    }
    l1_tlb[cpu].storing = true;
    if (!l1_tlb[cpu].dirty)
        *own_entry() |= flag;
    l1_tlb[cpu].dirty = true;
    two_cpus_step();
    world_store(where[page], (entry & ~ENTRY_ADDRESS) | target);
    l1_tlb[cpu].storing = false;
    two_cpus_step();
}

/* Umbra, for an instruction of that CPU's L1. */
static void umbra_writes(unsigned cpu, unsigned page, u64 target)
{
    shadow_will_write(world.shadow, shadow_of(cpu), gpa(where[page]), sizeof(u64));
    world_store(where[page], (world_peek(where[page]) & ~ENTRY_ADDRESS) | target);
    two_cpus_step();
}

static void enters(unsigned cpu)
{
    if (shadow_renew(world.shadow, shadow_of(cpu)) == SHADOW_EXPIRED)
        (void)shadow_acquire(world.shadow, shadow_of(cpu), &world.root[0].key, 0, &used[cpu]);
}

static void invalidates(unsigned cpu)
{
    if (world.ept)
        shadow_invalidate_pointer(world.shadow, shadow_of(cpu), world.root[0].key.pointer);
    else
        shadow_invalidate_l1_tag(shadow_of(cpu), 0);
    enters(cpu);
}

static void faults_by(unsigned cpu, unsigned page, unsigned kind)
{
    const struct shadow_access access = {.address = l2_gpa(page * PAGE_SIZE),
                                         .access = kind | (world.ept ? 0 : ACCESS_USER),
                                         .supplied = FAULT_LINEAR_VALID | FAULT_FINAL};
    struct shadow_result ignored;

    if (!shadow_fault_quick(world.shadow, shadow_of(cpu), access.address, access.access))
        (void)shadow_fault(world.shadow, shadow_of(cpu), used[cpu].handle, &access, &ignored);
}

static void faults(unsigned cpu, unsigned page)
{
    faults_by(cpu, page, ACCESS_READ);
}

/* The entry of the shadow for that page, of an L2 of that CPU; 0: there is none. */
static u64 leaf(unsigned cpu, unsigned page)
{
    u64 table = used[cpu].root.raw;

    for (unsigned level = SHADOW_LEVELS;; level--) {
        const u64 *entries = phys_to_virt(hpa(table));
        u64 entry = entries[level == 1 ? page : 0];
        if (!slot_present(entry) || level == 1)
            return slot_present(entry) ? entry : 0;
        table = entry & ENTRY_ADDRESS;
    }
}

/* Where page 0 of an L2 of that CPU leads; 0: nowhere. */
static u64 reached(unsigned cpu)
{
    return leaf(cpu, 0) & ENTRY_ADDRESS;
}

/* L2 writes to L1's table, which is its page 2, and L1's flags for that are set. */
static void l2_stores(unsigned cpu, unsigned page, u64 target)
{
    while ((leaf(cpu, 2) & PTE_W) == 0) {
        faults_by(cpu, 2, ACCESS_READ | ACCESS_WRITE);
        if ((leaf(cpu, 2) & PTE_W) == 0)
            two_cpus_relax();
    }
    world_store(where[page], (world_peek(where[page]) & ~ENTRY_ADDRESS) | target);
    two_cpus_step();
}

static u64 accessed_flag(void)
{
    return world.ept ? EPTE_A : PTE_A;
}

static u64 compared_by_first(void)
{
    return shadow_state_of(shadow_of(0))->statistics.tables_compared;
}

/* --- what they do --- */

static void prepare(void)
{
    world_make(&plan);
    memset(l1_tlb, 0, sizeof(l1_tlb));
    world.next_frame = FRAME_BEFORE_THE_LAST;
    for (unsigned page = 0; page < 2; page++) {
        (void)world_map(0, page * PAGE_SIZE, 1, OLD + page * PAGE_SIZE);
        (void)world_entry(0, page * PAGE_SIZE, 1, &where[page]);
    }
    /* The flags of one format are something else in another, which these tables may have, too. */
    world.shadow->flags_alias = has_aliases;
    if (has_aliases)
        world_store(where[1], world_peek(where[1]) & ~accessed_flag());
    if (l2_has_table)
        (void)world_map(0, 2 * PAGE_SIZE, 1, align_down(where[0], PAGE_SIZE));
    enters(0);
    enters(1);
    shootdowns = world.shadow->shootdowns_begun;
}

/* Page 0 is in the shadow, and CPU 0 knows that L1's tables have not changed since. */
static void prepare_watch(void)
{
    plan.quiet = never_sleeps ? 0 : 1;
    prepare();
    faults(0, 0);
    enters(1);
    for (unsigned i = 0; i < (starts_asleep ? 2u : 1u); i++) {
        invalidates(0);
        shoot_down(NULL);
    }
    l1_tlb[0].writable = l1_tlb[1].writable = starts_writable;
    were_asleep += (*own_entry() & TDP_ASLEEP) != 0;
}

/* The only pages that are neither in use as roots nor on a list are those that are dead. */
static void prepare_dead(void)
{
    u64 top, link;

    memset(&amd, 0, sizeof(amd));
    prepare();
    faults(0, 0);
    (void)world_entry(0, 0, SHADOW_LEVELS, &top);
    link = world_peek(top);
    world_l1_store(top, 0);
    invalidates(0);
    world_l1_store(top, link);
    world.shadow->free_list |= SHADOW_NONE;
    has_dead_pages += (u32)world.shadow->dead != SHADOW_NONE;
}

static void prepare_tables(void)
{
    prepare();
    faults(0, 1);
}

static void fault_of_first(void)
{
    faults(0, 0);
}

static void fault_of_second(void)
{
    faults(1, 0);
}

static void first_invalidates(void)
{
    invalidates(0);
}

static void first_stores_and_invalidates(void)
{
    l1_stores(0, 0, NEW);
    invalidates(0);
}

static void second_stores(void)
{
    l1_stores(1, 0, NEW);
}

static void second_stores_elsewhere(void)
{
    l1_stores(1, 1, NEW);
}

static void second_has_umbra_write(void)
{
    umbra_writes(1, 0, NEW);
}

static void second_has_umbra_write_elsewhere(void)
{
    umbra_writes(1, 1, NEW);
}

static void first_has_umbra_write_and_invalidates(void)
{
    umbra_writes(0, 0, NEW);
    invalidates(0);
}

/* L1's code on this CPU sees what the other one has written, and so owes an INVEPT. */
static void first_sees_and_invalidates(void)
{
    seen = (world_peek(where[0]) & ENTRY_ADDRESS) == NEW;
    two_cpus_step();
    invalidates(0);
}

static void first_enters_another_root(void)
{
    exits_to_umbra(0);
    wrong += shadow_acquire(world.shadow, shadow_of(0), &world.root[1].key, 0, &used[0]) != SHADOW_ACQUIRED;
    leaves_umbra();
}

static void second_makes_pages_free(void)
{
    exits_to_umbra(1);
    (void)shadow_reclaim(world.shadow, shadow_state_of(shadow_of(1)));
    leaves_umbra();
}

static void nothing(void)
{
}

static void first_sees_flag_and_invalidates(void)
{
    seen = (world_peek(where[1]) & accessed_flag()) != 0;
    two_cpus_step();
    compared = compared_by_first();
    invalidates(0);
}

static void second_has_flag_set(void)
{
    faults(1, 1);
}

static void first_l2_stores_and_l1_invalidates(void)
{
    l2_stores(0, 0, NEW);
    invalidates(0);
}

static void second_l2_stores_elsewhere(void)
{
    l2_stores(1, 1, NEW);
}

/* Nothing that matters to L1: the tables of the 2-MByte page merge; or the page that is asleep, with which
 * they would not, cannot be executed any more. */
static void own_map_changes(void)
{
    u64 bytes = starts_asleep ? PAGE_SIZE : MIB(2), start = align_down(where[0], bytes);

    (void)tdp_protect(&world.tdp, start, start + bytes, starts_asleep ? TDP_R | TDP_W : TDP_RWX);
    shadow_follow_own_map(world.shadow, shadow_of(1));
    shoot_down(NULL);
}

/* Umbra takes away what page 0 leads to. */
static void own_map_forbids(void)
{
    (void)tdp_unmap(&world.tdp, OLD, OLD + PAGE_SIZE);
    shadow_follow_own_map(world.shadow, shadow_of(1));
    shoot_down(NULL);
}

static void first_enters_and_faults(void)
{
    enters(0);
    faults(0, 0);
}

static void nothing_old_is_reached(void)
{
    wrong += reached(0) == OLD;
}

static void nothing_old_is_reached_if_seen(void)
{
    saw += seen;
    if (seen)
        nothing_old_is_reached();
}

static void it_was_compared_if_seen(void)
{
    saw += seen;
    wrong += seen && compared_by_first() == compared;
}

static void flag_is_set(void)
{
    wrong += (world_peek(where[1]) & accessed_flag()) == 0;
}

static void nothing_was_undone(void)
{
    wrong += reached(0) != OLD || world.shadow->shootdowns_begun != shootdowns;
}

static void next_invalidation_finds_it(void)
{
    invalidates(0);
    nothing_old_is_reached();
}

/* --- the cases --- */

static void run_with_both(const struct two_cpus *cpus, unsigned stride, void (*before)(void),
                          void (*check)(void))
{
    for (unsigned vendor = 0; vendor < 2; vendor++) {
        plan = vendor == 0 ? ept_plan : npt_plan;
        plan.pages = SHADOW_PAGES_MIN;
        plan.window = true;
        plan.shoot_down = shoots_down;
        wrong = were_asleep = 0;
        unsigned runs = two_cpus_run_all(cpus, stride, before, check);
        assert_in_range(runs, 20, 100000);
        assert_int_equal(wrong, 0);
        assert_int_equal(were_asleep, before == prepare_watch && starts_asleep ? runs : 0);
    }
}

/* Who loses the race for a slot leaves what is there: else both could go on so for ever. */
static void faults_at_once_undo_nothing_of_each_other(void **state)
{
    static const struct two_cpus cpus = {fault_of_first, fault_of_second, NULL};

    (void)state;
    run_with_both(&cpus, 1000, prepare, nothing_was_undone);
}

static void a_fault_that_has_read_the_old_entry_is_waited_for(void **state)
{
    static const struct two_cpus cpus = {first_stores_and_invalidates, fault_of_second,
                                         nothing_old_is_reached};

    (void)state;
    run_with_both(&cpus, 1, prepare_tables, nothing_old_is_reached);
    /* Its table is not even tracked yet. */
    run_with_both(&cpus, 8, prepare, nothing_old_is_reached);
}

static void run_with_watch(const struct two_cpus *cpus, void (*check)(void))
{
    for (unsigned variant = 0; variant < 4; variant++) {
        starts_asleep = variant == 1;
        starts_writable = variant == 2;
        never_sleeps = variant == 3;
        run_with_both(cpus, 1, prepare_watch, check);
    }
}

static void a_write_while_tables_go_to_sleep_is_found(void **state)
{
    static const struct two_cpus cpus = {first_invalidates, second_stores, NULL};

    (void)state;
    run_with_watch(&cpus, next_invalidation_finds_it);
}

static void a_write_to_a_table_that_another_cpu_wakes_is_found(void **state)
{
    static const struct two_cpus cpus = {first_stores_and_invalidates, second_stores_elsewhere,
                                         nothing_old_is_reached};

    (void)state;
    run_with_watch(&cpus, nothing_old_is_reached);
}

/* In whatever state of what Umbra does: who has seen it written, and invalidates then, is rid of the old. */
static void what_umbra_writes_is_found_by_who_has_seen_it(void **state)
{
    static const struct two_cpus cpus = {first_sees_and_invalidates, second_has_umbra_write,
                                         nothing_old_is_reached_if_seen};

    (void)state;
    saw = 0;
    run_with_watch(&cpus, next_invalidation_finds_it);
    assert_true(saw != 0);
}

static void flags_that_umbra_sets_where_they_mean_more_are_found(void **state)
{
    static const struct two_cpus cpus = {first_sees_flag_and_invalidates, second_has_flag_set,
                                         it_was_compared_if_seen};

    (void)state;
    saw = 0;
    has_aliases = true;
    run_with_watch(&cpus, flag_is_set);
    has_aliases = false;
    assert_true(saw != 0);
}

/* For pages that another CPU is about to make free it is waited as for any other CPU: its shoot-down goes on.
 */
static void who_waits_for_pages_answers_who_has_them(void **state)
{
    static const struct two_cpus cpus = {first_enters_another_root, second_makes_pages_free, NULL};

    (void)state;
    shoots_down = shoot_down_of_amd;
    has_dead_pages = 0;
    run_with_both(&cpus, 1, prepare_dead, nothing);
    shoots_down = shoot_down;
    assert_true(has_dead_pages != 0);
}

static void what_umbra_writes_for_two_cpus_is_found(void **state)
{
    static const struct two_cpus cpus = {first_has_umbra_write_and_invalidates,
                                         second_has_umbra_write_elsewhere, nothing_old_is_reached};

    (void)state;
    run_with_watch(&cpus, nothing_old_is_reached);
}

/* The first to note that L2 may write there is not the first who does. */
static void what_l2_writes_where_another_cpu_let_it_is_found(void **state)
{
    static const struct two_cpus cpus = {first_l2_stores_and_l1_invalidates, second_l2_stores_elsewhere,
                                         nothing_old_is_reached};

    (void)state;
    l2_has_table = true;
    run_with_watch(&cpus, nothing_old_is_reached);
    l2_has_table = false;
}

static void a_write_while_the_own_map_changes_is_found(void **state)
{
    static const struct two_cpus cpus = {first_stores_and_invalidates, own_map_changes,
                                         nothing_old_is_reached};

    (void)state;
    run_with_watch(&cpus, nothing_old_is_reached);
}

/* When the change has been flushed, nothing is left of what was filled meanwhile. */
static void a_fault_while_the_own_map_changes_keeps_nothing(void **state)
{
    static const struct two_cpus cpus = {first_enters_and_faults, own_map_forbids, NULL};

    (void)state;
    run_with_both(&cpus, 1, prepare_tables, nothing_old_is_reached);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_at_once_undo_nothing_of_each_other),
        cmocka_unit_test(a_fault_that_has_read_the_old_entry_is_waited_for),
        cmocka_unit_test(a_write_while_tables_go_to_sleep_is_found),
        cmocka_unit_test(a_write_to_a_table_that_another_cpu_wakes_is_found),
        cmocka_unit_test(what_umbra_writes_is_found_by_who_has_seen_it),
        cmocka_unit_test(flags_that_umbra_sets_where_they_mean_more_are_found),
        cmocka_unit_test(what_umbra_writes_for_two_cpus_is_found),
        cmocka_unit_test(who_waits_for_pages_answers_who_has_them),
        cmocka_unit_test(what_l2_writes_where_another_cpu_let_it_is_found),
        cmocka_unit_test(a_write_while_the_own_map_changes_is_found),
        cmocka_unit_test(a_fault_while_the_own_map_changes_keeps_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
