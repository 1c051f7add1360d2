/* SPDX-License-Identifier: MIT */
/*
 * Proof: for every role of one format, every access, every address and every content of memory, walk() does
 * what the specification says: the same entries in the same order, the same translation, rights and key, or
 * the same fault in the same encoding. It ends, it reads only 8- (or 4-) byte aligned entries inside the
 * table that the entry before named, each once, and the translation lies in the page that a validated leaf
 * names.
 */
#include "tests/proof/any.h"

static enum memory_status load_anything(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                        u64 *value)
{
    (void)memory;
    assert(bytes == 4 || bytes == 8);
    assert(address.raw % bytes == 0);
    /* Every table but the first is a whole page: the entry lies in the page that the entry before named. */
    if (reads != 0) {
        u64 table = stream[reads - 1].value & (bytes == 4 ? BITS(31, 12) : BITS(51, 12));
        assert((address.raw & ~PAGE_MASK) == table);
    }
    *value = stream_read(address.raw, bytes);
    return MEMORY_OK;
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
    struct paging_memory memory = {.load = load_anything};
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
    struct paging_memory memory = {.load = load_anything};
    struct spec_memory spec_memory;
    struct spec_second second = {.kind = KIND == EPT ? SPEC_SECOND_EPT : SPEC_SECOND_NPT,
                                 .advanced = nondet_bool()};
    struct spec_second_access access = any_second_access();
    struct case_tables tables;
    struct walk walked;
    unsigned replayed = 0;
    u64 address = nondet_u64();

    if (KIND == EPT) {
        struct case_ept ept = any_ept(FORMAT == SPEC_EPT5);
        case_ept(&tables, &ept);
        tables.spec.root = ept.eptp;
    } else {
        struct case_machine machine = any_machine();
        case_npt(&tables, &machine, nondet_bool());
        tables.spec.root = nondet_u64();
    }
    second.tables = tables.spec;
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
    if (KIND == GUEST)
        check_guest();
    else
        check_second();
    return 0;
}
