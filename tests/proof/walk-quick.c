/* SPDX-License-Identifier: MIT */
/*
 * Proof: whatever walk_quick() answers, the specification says, too: the access is allowed, no accessed or
 * dirty flag is missing, and the translation is the one. It reads only aligned entries inside the window,
 * each in the page that the entry before named, at most four of them.
 */
#include "tests/proof/any.h"

static struct paging_memory memory;

/* The window's contents are the stream; it starts at address 0, so that a pointer is an offset. */
static u64 load_entry(const u64 *entry)
{
    u64 offset = (u64)(const void *)entry;

    assert(offset < memory.window_bytes && offset % 8 == 0);
    if (reads != 0)
        assert((memory.window_start + offset & ~PAGE_MASK) == (stream[reads - 1].value & BITS(51, 12)));
    return stream_read(memory.window_start + offset, 8);
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

/* SDM vol. 3A 4.8, vol. 3C 29.3.5. */
static bool owes_no_flag(const struct spec_paging *paging, const struct spec_path *path, bool write)
{
    bool ept = spec_is_ept(paging->format), owes = false;
    u64 accessed = ept ? 0x100 : 0x20, dirty = ept ? 0x200 : 0x40;

    if (ept && !paging->ept_ad)
        return true;
    for (unsigned i = 0; i < path->count; i++)
        owes = owes || (path->step[i].entry & accessed) == 0;
    return !owes && (!write || (path->step[path->count - 1].entry & dirty) != 0);
}

static void check(const struct case_tables *tables, const struct spec_translation *spec, u64 found,
                  unsigned replayed, bool write)
{
    assert(spec->result == SPEC_TRANSLATED);
    assert(spec->address == found);
    assert(replayed == reads);
    assert(owes_no_flag(&tables->spec, &spec->path, write));
}

static void check_guest(void)
{
    struct spec_memory spec_memory;
    struct case_machine machine = any_machine();
    struct spec_access access = any_access();
    struct case_tables tables;
    unsigned replayed = 0;
    u64 address = any_guest(&tables, &machine);
    u64 found = walk_quick(&tables.code, &memory, tables.spec.root, address, case_guest_access(&access));

    if (found == WALK_NOT_QUICK)
        return;
    spec_memory = (struct spec_memory){.context = &replayed, .read = stream_replay};
    struct spec_translation spec = spec_walk_entries(&tables.spec, &spec_memory, address, &access, NULL);
    check(&tables, &spec, found, replayed, access.kind == SPEC_WRITE);
}

static void check_second(void)
{
    struct spec_memory spec_memory;
    struct spec_second second = {.advanced = false};
    struct spec_second_access access = any_second_access();
    struct case_tables tables;
    unsigned replayed = 0;
    u64 address = nondet_u64();

    any_second_tables(&second, &tables);
    unsigned bits = second_access_bits(&second, &access);
    u64 found = walk_quick(&tables.code, &memory, tables.spec.root, address, bits);
    if (found == WALK_NOT_QUICK)
        return;
    spec_memory = (struct spec_memory){.context = &replayed, .read = stream_replay};
    struct spec_translation spec = spec_walk_second(&second, &spec_memory, address, &access, NULL);
    check(&tables, &spec, found, replayed, (bits & ACCESS_WRITE) != 0);
}

int main(void)
{
    u64 start = nondet_u64(), bytes = nondet_u64();

    __CPROVER_assume(start % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
    /* mm/paging.h: the window is RAM. */
    __CPROVER_assume(start <= BIT(MAXPHYADDR) && bytes <= BIT(MAXPHYADDR) - start);
    paging_set_window(&memory, NULL, start, bytes);
    if (KIND == GUEST)
        check_guest();
    else
        check_second();
    return 0;
}
