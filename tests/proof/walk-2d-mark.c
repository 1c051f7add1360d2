/* SPDX-License-Identifier: MIT */
/*
 * Proof: a two-dimensional walk that sets flags, composed of walks of the first stage
 * (tests/proof/walk-2d.c), passes over their entries (tests/proof/mark-pass.c) and marking walks of the
 * second stage (tests/proof/mark-attempts.c), which are replaced by any answer that those may give. The first
 * stage allows the access before a flag is set or the final address asked for; a pass gets the newest walk,
 * and only where it owes a flag; there is a new walk only where a pass found an entry changed, WALK_ATTEMPTS
 * of them at most; the final address is asked for when no flag is owed any more, with the access and the
 * linear address's properties by the newest walk's rights. The answer is the last part's, blamed on the right
 * stage.
 *
 * KIND is the second stage's.
 */
#include "mm/walk-general.h"
#include "tests/proof/any.h"

enum turn { TURN_GUEST, TURN_PASS, TURN_FINAL, TURN_OVER };

static struct paging guest, host;
static const struct paging_memory nowhere; /* whose functions nobody can call */
static struct walk_2d found;
static u64 guest_root, host_root, linear, address, final_to;
static unsigned access_bits, rights, passes;
static bool owes, final;
static enum turn turn = TURN_GUEST;
static enum walk_status answer;
static enum walk_stage blamed;

static bool same_stage(const struct walk_second_stage *second)
{
    return second->paging == &host && second->root == host_root && second->mark && second->result == &found;
}

/* A part ends the walk, by a fault of its own or of the second stage, which has been told by walk_host(). */
static enum walk_status end(enum walk_status status, enum walk_stage stage)
{
    found.stage = blamed = stage;
    turn = TURN_OVER;
    return answer = status;
}

static enum walk_status any_failure(void)
{
    return nondet_bool() ? WALK_FAULT : WALK_NOT_MEMORY;
}

static enum walk_status any_end(void)
{
    if (nondet_bool())
        return end(any_failure(), WALK_STAGE_GUEST);
    return end(nondet_bool() ? WALK_CONTENDED : any_failure(), WALK_STAGE_HOST);
}

enum walk_status walk_general(const struct paging *paging, const struct paging_memory *memory,
                              const struct walk_second_stage *second, u64 root, u64 at, unsigned access,
                              struct walk *result)
{
    assert(turn == TURN_GUEST && paging == &guest && memory == &nowhere && same_stage(second));
    assert(root == guest_root && at == linear && access == access_bits && result == &found.guest);
    assert(role_format(guest.role) != PAGING_NONE && found.stage == WALK_STAGE_GUEST);
    if (nondet_bool())
        return any_end();
    address = result->address = nondet_u64();
    result->rights = (u8)nondet_unsigned();
    rights = result->rights;
    owes = nondet_bool();
    turn = owes ? TURN_PASS : TURN_FINAL;
    return WALK_OK;
}

enum walk_status walk_nothing(u64 at, struct walk *result)
{
    assert(turn == TURN_GUEST && role_format(guest.role) == PAGING_NONE);
    assert(at == linear && result == &found.guest);
    address = result->address = at;
    rights = result->rights = RIGHTS_ALL_BUT_SS;
    turn = TURN_FINAL;
    return WALK_OK;
}

bool walk_owes_flags(const struct paging *paging, const struct walk *walk, unsigned access)
{
    assert(turn == (owes ? TURN_PASS : TURN_FINAL) && paging == &guest);
    assert(walk == &found.guest && access == access_bits);
    return owes;
}

enum walk_status walk_set_flags(const struct paging *paging, const struct paging_memory *memory,
                                const struct walk_second_stage *second, u64 root, u64 at, unsigned access,
                                struct walk *result)
{
    assert(turn == TURN_PASS && paging == &guest && memory == &nowhere && same_stage(second));
    assert(root == guest_root && at == linear && access == access_bits && result == &found.guest);
    assert(result->address == address && result->rights == rights);
    passes++;
    if (nondet_bool()) {
        turn = TURN_FINAL;
        return WALK_OK;
    }
    if (nondet_bool())
        return any_end();
    if (passes == WALK_ATTEMPTS)
        return end(WALK_CONTENDED, WALK_STAGE_GUEST);
    turn = TURN_GUEST;
    return WALK_CONTENDED;
}

/* SDM vol. 3C 29.3.3.2, table 28-7; APM vol. 2 15.25.5. */
static unsigned final_access(void)
{
    unsigned kind = access_bits & (ACCESS_WRITE | ACCESS_FETCH);

    if (KIND == NPT)
        return access_bits & ~(unsigned)ACCESS_AC;
    if ((kind & ACCESS_FETCH) != 0)
        return ACCESS_FETCH | ((rights & RIGHT_U) != 0 ? ACCESS_USER : 0u);
    return kind |
           ((access_bits & ACCESS_SHADOW_STACK) != 0 ? ACCESS_SHADOW_STACK | (access_bits & ACCESS_USER)
                                                     : 0u);
}

enum walk_status walk_and_mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 at, unsigned access, struct walk *result)
{
    assert(turn == TURN_FINAL && paging == &host && memory == &nowhere && root == host_root);
    assert(at == address && access == final_access() && result == &found.host);
    final = true;
    if (nondet_bool()) {
        answer = nondet_bool() ? WALK_CONTENDED : any_failure();
        blamed = WALK_STAGE_HOST;
    } else {
        answer = WALK_OK;
    }
    final_to = result->address = nondet_u64();
    turn = TURN_OVER;
    return answer;
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 at,
                      unsigned access, struct walk *result)
{
    (void)paging, (void)memory, (void)root, (void)at, (void)access, (void)result;
    assert(false); /* of a walk that sets flags each part does */
    return WALK_FAULT;
}

static void check(enum walk_status status)
{
    const struct spec_second_access to_final = {.linear_user = (rights & RIGHT_U) != 0,
                                                .linear_write = (rights & RIGHT_W) != 0,
                                                .linear_nx = (rights & RIGHT_X) == 0};

    assert(turn == TURN_OVER && status == answer && passes <= WALK_ATTEMPTS);
    if (status == WALK_OK)
        assert(found.address == final_to && found.guest_address == address);
    else
        assert(found.stage == blamed);
    if (status != WALK_OK && final)
        assert(found.host.fault.supplied == second_access_supplied(&to_final));
}

int main(void)
{
    const struct paging_cpu cpu = {.maxphyaddr = MAXPHYADDR};
    const struct walk_2d_tables tables = {&guest, nondet_u64(), &host, nondet_u64()};

    guest.role.bits = nondet_bool() ? PAGING_NONE : PAGING_4LEVEL;
    host.role = KIND == EPT
                    ? paging_role_ept(&cpu, 0x1e | (nondet_u64() & BIT(6)), nondet_bool(), false)
                    : paging_role_npt(&cpu, CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, nondet_bool());
    guest_root = tables.guest_root;
    host_root = tables.host_root;
    linear = nondet_u64();
    access_bits = nondet_unsigned() & (ACCESS_KINDS - 1);
    check(walk_2d_and_mark(&tables, &nowhere, linear, access_bits, &found));
    return 0;
}
