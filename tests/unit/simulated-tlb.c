/* SPDX-License-Identifier: MIT */
/*
 * The TLB of tests/unit/simulated-tlb.h. Only complete walks are cached as translations, and only present
 * entries in order as tables: nothing is cached of an entry that is not present or misconfigured (SDM vol.
 * 3C 29.4.2).
 */
#include "tests/unit/checked-frames.h"
#include "tests/unit/random.h"
#include "tests/unit/simulated-tlb.h"

/* What a table of that level stands for. */
static u64 table_span(unsigned level)
{
    return BIT(12 + 9 * level);
}

void tlb_init(struct simulated_tlb *tlb, const struct tdp_config *controls, u64 root)
{
    tlb->controls = *controls;
    tlb->root = root;
    tlb->met_garbage = false;
    tlb_flush(tlb);
}

void tlb_flush(struct simulated_tlb *tlb)
{
    tlb->translation_count = 0;
    tlb->table_count = 0;
}

static void keep_table(struct simulated_tlb *tlb, u64 gpa, struct spec_start start)
{
    u64 first = align_down(gpa, table_span(start.level));

    for (unsigned i = 0; i < tlb->table_count; i++) {
        if (tlb->table[i].gpa == first && tlb->table[i].start.table == start.table &&
            tlb->table[i].start.level == start.level)
            return;
    }
    unsigned slot = tlb->table_count < TLB_TABLES ? tlb->table_count++ : (unsigned)random_below(TLB_TABLES);
    tlb->table[slot].gpa = first;
    tlb->table[slot].start = start;
}

static bool same_translation(const struct spec_walk *a, const struct spec_walk *b)
{
    return a->target / a->size == b->target / b->size && a->size == b->size && a->type == b->type &&
           a->read == b->read && a->write == b->write && a->fetch_supervisor == b->fetch_supervisor &&
           a->fetch_user == b->fetch_user;
}

static void keep_translation(struct simulated_tlb *tlb, u64 gpa, struct spec_walk walk, bool dirty)
{
    walk.target -= gpa % walk.size;
    gpa -= gpa % walk.size;
    for (unsigned i = 0; i < tlb->translation_count; i++) {
        if (tlb->translation[i].gpa == gpa && same_translation(&tlb->translation[i].walk, &walk)) {
            tlb->translation[i].dirty |= dirty;
            return;
        }
    }
    unsigned slot = tlb->translation_count < TLB_TRANSLATIONS ? tlb->translation_count++
                                                              : (unsigned)random_below(TLB_TRANSLATIONS);
    tlb->translation[slot].gpa = gpa;
    tlb->translation[slot].walk = walk;
    tlb->translation[slot].dirty = dirty;
}

static void walk_and_keep(struct simulated_tlb *tlb, struct spec_start start, u64 gpa, bool write)
{
    struct spec_walk walk = spec_walk_from(&tlb->controls, start, gpa);

    for (unsigned i = 0; i < walk.depth; i++) {
        if (walk.path[i].level < 4)
            keep_table(tlb, gpa, walk.path[i]);
    }
    if (walk.result == SPEC_MISCONFIGURED)
        tlb->met_garbage = true;
    if (walk.result == SPEC_TRANSLATED) {
        spec_set_accessed_dirty(&tlb->controls, &walk, write && walk.write);
        keep_translation(tlb, gpa, walk, write && walk.write);
    }
}

void tlb_access(struct simulated_tlb *tlb, u64 gpa, bool write)
{
    unsigned known = tlb->table_count;

    for (unsigned i = 0; i < known; i++) {
        u64 span = table_span(tlb->table[i].start.level);
        if (align_down(gpa, span) == tlb->table[i].gpa)
            walk_and_keep(tlb, tlb->table[i].start, gpa, write);
    }
    walk_and_keep(tlb, spec_root(tlb->root), gpa, write);
}

void tlb_write(struct simulated_tlb *tlb, u64 gpa)
{
    for (unsigned i = 0; i < tlb->translation_count; i++) {
        if (tlb->translation[i].dirty && gpa - tlb->translation[i].gpa < tlb->translation[i].walk.size)
            return;
    }
    tlb_access(tlb, gpa, true);
}

bool tlb_tables_sound(const struct simulated_tlb *tlb)
{
    for (unsigned i = 0; i < tlb->table_count; i++) {
        if (!checked_frame_in_use(tlb->table[i].start.table))
            return false;
    }
    return !tlb->met_garbage;
}

/* `cached` is a complete walk for `gpa`. */
static const char *compare(const struct simulated_tlb *tlb, const struct spec_walk *cached, u64 gpa)
{
    struct spec_walk now = spec_walk(&tlb->controls, tlb->root, gpa);

    if (now.result != SPEC_TRANSLATED)
        return "a cached page is not mapped any more";
    if (cached->target / cached->size * cached->size + gpa % cached->size != now.target)
        return "a cached page goes elsewhere";
    if ((cached->read && !now.read) || (cached->write && !now.write) ||
        (cached->fetch_supervisor && !now.fetch_supervisor) || (cached->fetch_user && !now.fetch_user))
        return "a cached page permits more";
    if (cached->type != now.type)
        return "a cached page has another memory type";
    return cached->size != now.size ? "a cached page has another size" : NULL;
}

static const char *translation_staleness(const struct simulated_tlb *tlb, unsigned i)
{
    u64 size = tlb->translation[i].walk.size;
    u64 inside[] = {0, size - PAGE_SIZE, align_down(random_below(size), PAGE_SIZE)};
    const char *wrong = NULL;

    for (size_t k = 0; k < ARRAY_SIZE(inside) && !wrong; k++)
        wrong = compare(tlb, &tlb->translation[i].walk, tlb->translation[i].gpa + inside[k]);
    return wrong;
}

/* Every entry of a table at its first address, or every 37th from a random one on. */
static const char *table_staleness(const struct simulated_tlb *tlb, unsigned i)
{
    struct spec_start start = tlb->table[i].start;
    u64 span = table_span(start.level - 1);
    u64 step = random_chance(5) ? 1 : 37;
    const char *wrong = NULL;

    for (u64 k = random_below(step); k < 512 && !wrong; k += step) {
        u64 gpa = tlb->table[i].gpa + k * span;
        struct spec_walk walk = spec_walk_from(&tlb->controls, start, gpa);
        if (walk.result == SPEC_MISCONFIGURED)
            return "a cached table has become garbage";
        if (walk.result == SPEC_TRANSLATED)
            wrong = compare(tlb, &walk, gpa);
    }
    return wrong;
}

const char *tlb_staleness(const struct simulated_tlb *tlb)
{
    const char *wrong = tlb_tables_sound(tlb) ? NULL : "a cached table was freed or overwritten";

    for (unsigned i = 0; i < tlb->translation_count && !wrong; i++)
        wrong = translation_staleness(tlb, i);
    for (unsigned i = 0; i < tlb->table_count && !wrong; i++)
        wrong = table_staleness(tlb, i);
    return wrong;
}
