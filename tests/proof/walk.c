/* SPDX-License-Identifier: MIT */
/*
 * Proof: for every role of one format, every access, every address and every content of memory, walk() does
 * what the specification says: the same entries in the same order, the same translation, rights and key, or
 * the same fault in the same encoding. It ends, it reads only 8- (or 4-) byte aligned entries inside the
 * table that the entry before named, each once, and the translation lies in the page that a validated leaf
 * names. With WINDOW = 1 memory has any window, and every load is of the kind that its address asks for.
 */
#include "arch/types.h"

/* A load from the window, which starts at pointer 0, so that a pointer is an offset. */
static u64 load_offset(u64 offset, unsigned bytes);
#define __atomic_load_n(entry, order) load_offset((u64)(const void *)(entry), sizeof(*(entry)))

#include "mm/walk-general.c"
#include "mm/walk.c"
#include "tests/proof/any.h"

static struct paging_memory memory;

static u64 load_anything(u64 address, unsigned bytes)
{
    assert(bytes == 4 || bytes == 8);
    assert(address % bytes == 0);
    /* Every table but the first is a whole page: the entry lies in the page that the entry before named. */
    if (reads != 0) {
        u64 table = stream[reads - 1].value & (bytes == 4 ? BITS(31, 12) : BITS(51, 12));
        assert((address & ~PAGE_MASK) == table);
    }
    return stream_read(address, bytes);
}

static u64 load_offset(u64 offset, unsigned bytes)
{
    assert(offset < memory.window_bytes);
    return load_anything(memory.window_start + offset, bytes);
}

static enum memory_status load_by_call(const struct paging_memory *of, gpa_t address, unsigned bytes,
                                       u64 *value)
{
    assert(of == &memory && address.raw - memory.window_start >= memory.window_bytes);
    *value = load_anything(address.raw, bytes);
    return MEMORY_OK;
}

/* mm/paging.h: whole pages, RAM. */
static void any_window(void)
{
    u64 start = WINDOW ? nondet_u64() : 0, bytes = WINDOW ? nondet_u64() : 0;

    __CPROVER_assume(start % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0);
    __CPROVER_assume(start <= BIT(MAXPHYADDR) && bytes <= BIT(MAXPHYADDR) - start);
    paging_set_window(&memory, NULL, start, bytes);
    memory.load = load_by_call;
}

/* What mm/walk-mark.c relies on: `deviations` tells whether any entry lacks the accessed flag. */
static bool accessed_told(const struct paging *paging, const struct walk *walked)
{
    bool lacks = false;

    for (unsigned level = walked->level; level <= walked->root_level; level++) {
        if (FORMAT != SPEC_PAE || level != 3)
            lacks = lacks || (walked->entry[level].value & paging->accessed) != paging->accessed;
    }
    return lacks == ((walked->deviations & paging->accessed) != 0) &&
           walked->leaf == walked->entry[walked->level].value;
}

static void check_result(const struct case_tables *tables, enum walk_status status, const struct walk *walked)
{
    if (status != WALK_OK)
        return;
    assert(walked->address >> (FORMAT == SPEC_32BIT && MAXPHYADDR < 40 ? 40 : MAXPHYADDR) == 0);
    assert(accessed_told(&tables->code, walked));
}

static void check_guest(void)
{
    struct spec_memory spec_memory;
    struct spec_flag_sets flags = {0};
    struct case_machine machine = any_machine();
    struct spec_access access = any_access();
    struct case_tables tables;
    struct walk walked;
    unsigned replayed = 0;
    u64 address = any_guest(&tables, &machine);

    enum walk_status status =
        walk(&tables.code, &memory, tables.spec.root, address, case_guest_access(&access), &walked);
    spec_memory = (struct spec_memory){.context = &replayed, .read = stream_replay};
    struct spec_translation spec = spec_walk_entries(&tables.spec, &spec_memory, address, &access, &flags);
    assert(case_compare_walk(&tables, &spec, status, &walked) == NULL);
    assert(replayed == reads);
    check_result(&tables, status, &walked);
}

static void check_second(void)
{
    struct spec_memory spec_memory;
    struct spec_second second = {.advanced = nondet_bool()};
    struct spec_second_access access = any_second_access();
    struct case_tables tables;
    struct walk walked;
    unsigned replayed = 0;
    u64 address = nondet_u64();

    any_second_tables(&second, &tables);
    enum walk_status status =
        walk(&tables.code, &memory, tables.spec.root, address, second_access_bits(&second, &access), &walked);
    /* What the first stage knows is its caller's to add. */
    if (status == WALK_FAULT)
        walked.fault.supplied = second_access_supplied(&access);
    spec_memory = (struct spec_memory){.context = &replayed, .read = stream_replay};
    struct spec_translation spec = spec_walk_second(&second, &spec_memory, address, &access, NULL);
    assert(case_compare_second(&second, &tables, &spec, status, &walked) == NULL);
    assert(replayed == reads);
    check_result(&tables, status, &walked);
}

int main(void)
{
    any_window();
    if (KIND == GUEST)
        check_guest();
    else
        check_second();
    return 0;
}
