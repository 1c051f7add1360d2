/* SPDX-License-Identifier: MIT */
/*
 * Proof: accessed and dirty flags of one entry, a word in memory that an adversary changes whenever he likes.
 * walk() is replaced by one that reads the word and is content with it, or not. walk_and_mark() then writes
 * the word only while it holds what the newest walk has read and allowed; what it writes differs in the
 * accessed flag and, in the entry that maps the page and for a write, the dirty flag alone, which change from
 * 0 to 1. It ends; with WALK_OK the flags are there and the result says what was written; WALK_CONTENDED
 * comes only after WALK_ATTEMPTS changes by the adversary.
 *
 * FORMAT, KIND: the tables. The entry maps the page, or refers to the table of one that owes nothing.
 */
#include "mm/walk-general.h"
#include "tests/proof/any.h"

enum { ENTRY_AT = 0x1000, SETTLED_AT = 0x2000 };

static struct paging paging;
static u64 word, newest_read, flags_due;
static unsigned access_bits, entry_level, changes;
static bool newest_allowed;

static void adversary(void)
{
    u64 before = word;

    if (nondet_bool())
        word = FORMAT == SPEC_32BIT ? nondet_u64() & BITS(31, 0) : nondet_u64();
    changes += word != before;
}

/* The entry as it is now; below it, if it refers to a table, another one with all its flags. */
enum walk_status walk(const struct paging *of, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result)
{
    (void)memory, (void)root, (void)address;
    assert(of == &paging && access == access_bits);
    adversary();
    newest_read = word;
    newest_allowed = nondet_bool();
    result->level = 1;
    result->root_level = (u8)entry_level;
    result->entry[1] = (struct walk_entry){SETTLED_AT, BITS(9, 8) | BITS(6, 5)};
    result->entry[entry_level] = (struct walk_entry){ENTRY_AT, word};
    result->leaf = result->entry[1].value;
    result->deviations = (nondet_u64() & ~paging.accessed) | (paging.accessed & ~word);
    return newest_allowed ? WALK_OK : nondet_bool() ? WALK_FAULT : WALK_NOT_MEMORY;
}

enum walk_status walk_host(const struct walk_second_stage *second, const struct paging_memory *memory,
                           u64 address, unsigned access, u64 supplied)
{
    (void)second, (void)memory, (void)address, (void)access, (void)supplied;
    assert(false);
    return WALK_FAULT;
}

enum walk_status walk_not_memory(const struct paging *of, struct walk *result, unsigned level, u64 address)
{
    (void)result;
    assert(of == &paging && level == entry_level && address == ENTRY_AT);
    return WALK_NOT_MEMORY;
}

static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    (void)memory;
    assert(address.raw == ENTRY_AT && bytes == spec_entry_bytes(FORMAT));
    assert(newest_allowed && expected == newest_read);
    assert(desired == (expected | flags_due) && desired != expected);
    adversary();
    if (nondet_bool())
        return MEMORY_NOT_OWNED;
    if (word != expected)
        return MEMORY_CHANGED;
    word = newest_read = desired;
    return MEMORY_OK;
}

static void mark_entry(unsigned level, u64 accessed, u64 dirty)
{
    static const enum paging_format_id formats[] = {
        [SPEC_32BIT] = PAGING_32BIT,  [SPEC_PAE] = PAGING_PAE,   [SPEC_LONG4] = PAGING_4LEVEL,
        [SPEC_LONG5] = PAGING_5LEVEL, [SPEC_EPT4] = PAGING_EPT4, [SPEC_EPT5] = PAGING_EPT5};
    const struct paging_memory memory = {.compare_exchange = compare_exchange};
    bool write = (access_bits & (ACCESS_WRITE | ACCESS_FETCH)) == ACCESS_WRITE;
    struct walk result;

    paging.role.bits = formats[FORMAT];
    paging.accessed = accessed;
    paging.dirty = dirty;
    entry_level = level;
    flags_due = accessed | (level == 1 && write ? dirty : 0);
    enum walk_status status =
        walk_and_mark(&paging, &memory, nondet_u64(), nondet_u64(), access_bits, &result);
    if (status == WALK_OK)
        assert(newest_allowed && result.entry[level].value == newest_read && (flags_due & ~newest_read) == 0);
    if (status == WALK_FAULT)
        assert(!newest_allowed);
    if (status == WALK_CONTENDED)
        assert(changes >= WALK_ATTEMPTS);
}

int main(void)
{
    access_bits = nondet_unsigned() & (ACCESS_KINDS - 1);
    word = nondet_u64();
    if (KIND == EPT && nondet_bool()) /* EPTP bit 6 is 0 */
        mark_entry(1, 0, 0);
    else if (nondet_bool())
        mark_entry(1, KIND == EPT ? BIT(8) : BIT(5), KIND == EPT ? BIT(9) : BIT(6));
    else
        mark_entry(2, KIND == EPT ? BIT(8) : BIT(5), KIND == EPT ? BIT(9) : BIT(6));
    return 0;
}
