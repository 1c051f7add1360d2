/* SPDX-License-Identifier: MIT */
/*
 * Proof: all attempts of walk_and_mark(), composed of walks (tests/proof/walk.c) and passes over their
 * entries (tests/proof/mark-pass.c), which are replaced by any answer that those are proved to give. A pass
 * gets the newest walk, whole, which allowed the access and owes a flag; there is a new walk only where a
 * pass found an entry changed; the answer is the last one's, WALK_CONTENDED only after WALK_ATTEMPTS passes
 * that found a change. It ends, and nothing but a pass writes.
 */
#include "mm/walk-general.h"
#include "tests/proof/any.h"

enum turn { TURN_WALK, TURN_PASS, TURN_OVER };

static const struct paging *tables;
static const struct paging_memory nowhere; /* whose functions nobody can call */
static u64 root, linear;
static unsigned access_bits, passes;
static enum turn turn;
static enum walk_status answer;
static struct walk newest;

static bool same_entries(const struct walk *walked)
{
    bool same = walked->level == newest.level && walked->root_level == newest.root_level &&
                walked->leaf == newest.leaf && walked->deviations == newest.deviations;

    for (unsigned level = 1; level <= PAGING_LEVELS_MAX; level++)
        same = same && walked->entry[level].address == newest.entry[level].address &&
               walked->entry[level].value == newest.entry[level].value;
    return same;
}

static bool owes(void)
{
    bool write = (access_bits & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;

    return (newest.deviations & tables->accessed) != 0 || (write && (tables->dirty & ~newest.leaf) != 0);
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 at, u64 address,
                      unsigned access, struct walk *result)
{
    struct walk any;

    assert(turn == TURN_WALK && paging == tables && memory == &nowhere);
    assert(at == root && address == linear && access == access_bits);
    *result = newest = any;
    answer = nondet_bool() ? WALK_OK : nondet_bool() ? WALK_FAULT : WALK_NOT_MEMORY;
    turn = answer == WALK_OK && owes() ? TURN_PASS : TURN_OVER;
    return answer;
}

/* In the place of walk_set_flags(). */
enum walk_status any_pass(const struct paging *paging, const struct paging_memory *memory,
                          const struct walk_second_stage *second, u64 at, u64 address, unsigned access,
                          struct walk *result)
{
    assert(turn == TURN_PASS && paging == tables && memory == &nowhere && second == NULL);
    assert(at == root && address == linear && access == access_bits && same_entries(result));
    passes++;
    answer = nondet_bool() ? WALK_OK : nondet_bool() ? WALK_CONTENDED : WALK_NOT_MEMORY;
    turn = answer == WALK_CONTENDED && passes < WALK_ATTEMPTS ? TURN_WALK : TURN_OVER;
    return answer;
}

enum walk_status walk_host(const struct walk_second_stage *second, const struct paging_memory *memory,
                           u64 address, unsigned access, u64 supplied)
{
    (void)second, (void)memory, (void)address, (void)access, (void)supplied;
    assert(false);
    return WALK_FAULT;
}

enum walk_status walk_not_memory(const struct paging *paging, struct walk *result, unsigned level,
                                 u64 address)
{
    (void)paging, (void)result, (void)level, (void)address;
    assert(false);
    return WALK_FAULT;
}

int main(void)
{
    struct paging paging = {.accessed = nondet_u64(), .dirty = nondet_u64()};
    struct walk result;

    tables = &paging;
    root = nondet_u64();
    linear = nondet_u64();
    access_bits = nondet_unsigned() & (ACCESS_KINDS - 1);
    assert(walk_and_mark(&paging, &nowhere, root, linear, access_bits, &result) == answer);
    assert(turn == TURN_OVER && passes <= WALK_ATTEMPTS);
    assert(answer != WALK_CONTENDED || passes == WALK_ATTEMPTS);
    return 0;
}
