/* SPDX-License-Identifier: MIT */
/*
 * What every hostile group does around its steps: the words on the command line, episodes that each start
 * from a seed of their own, progress, canaries, interrupts that somebody sent, and L1's own state.
 */
#include "tests/guest/hostile.h"

#include "arch/msr.h"

enum { DEFAULT_STEPS = 20000, STEPS_OF_EPISODE = 40, STEPS_OF_REPORT = 5000 };

static struct {
    u64 cr0, cr3, cr4, efer, pat;
} own;

static u64 word(const char *key, u64 otherwise)
{
    const char *text = option(boot.command_line, key);

    return text ? number(text, NULL) : otherwise;
}

static bool on_interrupt(struct frame *frame)
{
    (void)frame;
    apic_write(APIC_EOI, 0);
    return true;
}

static void check_of(const struct hostile_group *group, const char *what, bool good)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s", group->name, what);
    check(name, good);
}

void hostile_take_interrupts(void)
{
    __asm__ volatile("sti; nop; nop; cli");
    apic_write(APIC_EOI, 0);
}

bool hostile_own_state(u64 cr0_ignored)
{
    bool kept =
        ((read_cr0() ^ own.cr0) & ~cr0_ignored) == 0 && read_cr3() == own.cr3 && read_cr4() == own.cr4;

    write_cr0(own.cr0);
    write_cr4(own.cr4);
    wrmsr(MSR_EFER, own.efer);
    wrmsr(MSR_IA32_PAT, own.pat);
    __asm__ volatile("mov %0, %%cr8" ::"r"(0ull));
    return kept;
}

static void start(const struct hostile_group *group)
{
    check_of(group, "memory", hostile_memory_init());
    apic_init();
    trap_set_hook(VECTOR_SELF, on_interrupt);
    trap_set_hook(VECTOR_TIMER, on_interrupt);
    trap_set_hook(EXC_NMI, on_interrupt);
    own.cr0 = read_cr0();
    own.cr3 = read_cr3();
    own.cr4 = read_cr4();
    own.efer = rdmsr(MSR_EFER);
    own.pat = rdmsr(MSR_IA32_PAT);
    for (unsigned i = 0; i < CODE_PAGES; i++)
        hostile_write_code(i);
}

static void report(const struct hostile_group *group, u64 steps)
{
    unsigned kinds = 0;

    for (unsigned i = 0; i < HOSTILE_EXITS; i++)
        kinds += group->result->seen[i / 64] >> i % 64 & 1;
    check_of(group, "own_state", group->result->state_lost == 0);
    check_of(group, "entries_succeed", group->result->entered > steps / 5);
    check_of(group, "entries_fail", group->result->failed > steps / 100);
    print("guest: %s saw %u kinds of exits\n", group->name, kinds);
    check_of(group, "exits_of_many_kinds", kinds > 20);
}

void hostile_run(const struct hostile_group *group)
{
    u64 seed = word("seed", 1), steps = word("steps", DEFAULT_STEPS), trace = word("trace", ~0ull), lost = 0;
    bool hidden = true;

    print("guest: %s seed %lu, %lu steps\n", group->name, seed, steps);
    start(group);
    for (u64 i = word("from", 0) * STEPS_OF_EPISODE; i < steps; i++) {
        if (i % STEPS_OF_EPISODE == 0) {
            hostile_seed(seed << 40 ^ i);
            group->begin_episode();
        }
        if (i >= trace)
            print("guest: %s step %lu\n", group->name, i);
        group->step();
        if (i % STEPS_OF_REPORT == STEPS_OF_REPORT - 1) {
            lost += hostile_canaries_lost();
            hidden = hidden && hostile_umbra_hidden();
            print("guest: %s %lu steps, %lu entries, %lu failed ones, %lu words lost\n", group->name, i + 1,
                  group->result->entered, group->result->failed, lost);
        }
    }
    check_of(group, "memory_untouched", lost + hostile_canaries_lost() == 0);
    check_of(group, "umbra_hidden", hidden && hostile_umbra_hidden());
    report(group, steps);
}
