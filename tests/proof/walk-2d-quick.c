/* SPDX-License-Identifier: MIT */
/*
 * Proof: whatever walk_2d_quick() answers, the specification says, too. walk_host(), the quick half of the
 * second stage (tests/proof/walk-quick.c), is replaced by any answer that it may give: a translation with the
 * page offset of what was asked, or none. Each guest entry is read once, inside the window, where the newest
 * of these walks led, which was one of an address that the second stage translates, for exactly this entry,
 * as an access to a table; the answer is where the last one led, for the address of the guest's leaf, with
 * the access that is due; the guest's tables allow it and lack no flag.
 *
 * KIND is the second stage's.
 */
#include "tests/proof/any.h"

static struct case_tables guest;
static struct paging host;
static struct spec_second second;
static struct paging_memory memory;
static u64 host_root;
static unsigned asked;
static struct {
    u64 address, to;
    unsigned access;
} newest;

/* The window's contents are the stream; it starts at address 0, so that a pointer is an offset. */
static u64 load_entry(const u64 *entry)
{
    u64 offset = (u64)(const void *)entry;

    assert(asked == reads + 1 && newest.to != ~0ull && newest.access == second_table_access(&second));
    assert(offset < memory.window_bytes && offset % 8 == 0 && memory.window_start + offset == newest.to);
    return stream_read(newest.address, 8);
}

static u64 shift_in(u64 value, u64 below, unsigned count)
{
    return value << count | below >> (64 - count);
}

static u64 opaque(u64 value)
{
    return value;
}

#define QUICK_IN_C
#include "mm/walk-quick.c"

/* In the place of walk_host(). */
u64 any_host(const struct paging *paging, const struct paging_memory *of, u64 root, u64 address, u64 access)
{
    assert(paging == &host && of == &memory && root == (host_root & BITS(51, 0)));
    assert((address & host.input_reserved) == 0 && asked == reads);
    assert(asked <= spec_levels(FORMAT) && (asked == 0 || newest.to != WALK_NOT_QUICK));
    asked++;
    newest.address = address;
    newest.access = (unsigned)access;
    newest.to = nondet_u64();
    if (newest.to != WALK_NOT_QUICK) {
        __CPROVER_assume(newest.to < BIT(MAXPHYADDR));
        __CPROVER_assume((newest.to & ~PAGE_MASK) == newest.to - (address & (PAGE_SIZE - 1)));
    }
    return newest.to;
}

/* SDM vol. 3A 4.8. */
static bool owes_no_flag(const struct spec_path *path, bool write)
{
    bool owes = false;

    for (unsigned i = 0; i < path->count; i++)
        owes = owes || (path->step[i].entry & 0x20) == 0;
    return !owes && (!write || (path->step[path->count - 1].entry & 0x40) != 0);
}

static void check(u64 linear, u64 found, const struct spec_access *access)
{
    unsigned replayed = 0;
    struct spec_memory spec_memory = {.context = &replayed, .read = stream_replay};
    struct spec_translation first = spec_walk_entries(&guest.spec, &spec_memory, linear, access, NULL);
    const struct spec_second_access final = {
        .kind = access->kind,
        .linear_user = first.user_address,
        .shadow_stack = access->shadow_stack,
        .supervisor_shadow_stack = access->shadow_stack && !spec_user_mode_access(access),
        .cpl = spec_user_mode_access(access) ? 3 : 0,
    };

    assert(first.result == SPEC_TRANSLATED && replayed == reads && asked == reads + 1);
    assert(owes_no_flag(&first.path, access->kind == SPEC_WRITE));
    assert(newest.address == first.address && newest.to == found);
    assert(newest.access == second_access_bits(&second, &final));
}

int main(void)
{
    struct case_machine machine = any_machine();
    struct spec_access access = any_access();
    u64 start = nondet_u64(), bytes = nondet_u64(), linear = any_guest(&guest, &machine);

    host_root = nondet_u64();
    const struct walk_2d_tables tables = {&guest.code, guest.spec.root, &host, host_root};

    __CPROVER_assume(start % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
    /* mm/paging.h: the window is RAM. */
    __CPROVER_assume(start <= BIT(MAXPHYADDR) && bytes <= BIT(MAXPHYADDR) - start);
    paging_set_window(&memory, NULL, start, bytes);
    any_second_stage(&second, &host);
    host.input_reserved = BITS(63, 48);
    host.quick.format = nondet_bool() ? QUICK_HOST : nondet_bool() ? QUICK_GUEST : QUICK_NONE;
    u64 found = walk_2d_quick(&tables, &memory, linear, case_guest_access(&access));
    if (found != WALK_NOT_QUICK)
        check(linear, found, &access);
    return 0;
}
