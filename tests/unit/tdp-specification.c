/* SPDX-License-Identifier: MIT */
/*
 * The walk over EPT or NPT, one rule of the manual after the other. It may be slow; it may not be clever.
 */
#include "mm/phys.h"
#include "tests/unit/tdp-specification.h"

static bool bit(u64 entry, unsigned n)
{
    return (entry >> n & 1) != 0;
}

static bool any_of(u64 entry, unsigned high, unsigned low)
{
    for (unsigned n = low; n <= high; n++) {
        if (bit(entry, n))
            return true;
    }
    return false;
}

static u64 span_of(unsigned level)
{
    return level == 4 ? GIB(512) : level == 3 ? GIB(1) : level == 2 ? MIB(2) : KIB(4);
}

static u64 index_of(u64 gpa, unsigned level)
{
    return gpa / span_of(level) % 512;
}

/* SDM vol. 3C 29.3.2: not present if bits 2:0 are 0 and, while MBEC is on, bit 10 too. APM: bit 0. */
bool spec_present(const struct tdp_config *controls, u64 entry)
{
    if (controls->format == TDP_NPT)
        return bit(entry, 0);
    return bit(entry, 0) || bit(entry, 1) || bit(entry, 2) ||
           (controls->mode_based_execute && bit(entry, 10));
}

static bool is_page(unsigned level, u64 entry)
{
    return level == 1 || ((level == 2 || level == 3) && bit(entry, 7));
}

static u64 address_in(u64 entry)
{
    return entry & 0x000ffffffffff000ull;
}

/* SDM vol. 3C 29.3.3.1 and tables 29-1 to 29-7; NULL if the entry is in order. */
static const char *ept_misconfiguration(const struct tdp_config *controls, unsigned level, u64 entry)
{
    bool execute = bit(entry, 2) || (controls->mode_based_execute && bit(entry, 10));
    unsigned type = entry >> 3 & 7;

    if (!bit(entry, 0) && bit(entry, 1))
        return "writable but not readable";
    if (!bit(entry, 0) && execute && !controls->execute_only)
        return "executable but not readable, without execute-only support";
    if (controls->maxphyaddr <= 51 && any_of(entry, 51, controls->maxphyaddr))
        return "address bits above MAXPHYADDR";
    if (!is_page(level, entry)) {
        if (any_of(entry, 6, 3))
            return "bits 6:3 of an entry that refers to a table";
        return level == 4 && bit(entry, 7) ? "bit 7 of a PML4 entry" : NULL;
    }
    if (type == 2 || type == 3 || type == 7)
        return "reserved memory type";
    if (level == 3 && !controls->page_1g)
        return "bit 7 of a PDPT entry, without 1-GByte pages";
    if (level == 3 && any_of(entry, 29, 12))
        return "low address bits of a 1-GByte page";
    return level == 2 && any_of(entry, 20, 12) ? "low address bits of a 2-MByte page" : NULL;
}

/* APM vol. 2 figures 5-17 to 5-27: fields marked MBZ. Bit 12 of a large page is PAT, not address. */
static const char *npt_reserved(const struct tdp_config *controls, unsigned level, u64 entry)
{
    if (controls->maxphyaddr <= 51 && any_of(entry, 51, controls->maxphyaddr))
        return "address bits above the physical-address size";
    if (level == 4 && (bit(entry, 7) || bit(entry, 8)))
        return "bit 7 or 8 of a PML4 entry";
    if (level == 3 && bit(entry, 7) && !controls->page_1g)
        return "bit 7 of a PDP entry, without 1-GByte pages";
    if (level == 3 && bit(entry, 7) && any_of(entry, 29, 13))
        return "low address bits of a 1-GByte page";
    return level == 2 && bit(entry, 7) && any_of(entry, 20, 13) ? "low address bits of a 2-MByte page" : NULL;
}

static void combine(struct spec_bits *bits, u64 entry)
{
    bits->r = bits->r && bit(entry, 0);
    bits->w = bits->w && bit(entry, 1);
    bits->x = bits->x && bit(entry, 2);
    bits->xu = bits->xu && bit(entry, 10);
    bits->rw = bits->rw && bit(entry, 1);
    bits->us = bits->us && bit(entry, 2);
    bits->nx = bits->nx || bit(entry, 63);
}

/* Which accesses succeed: SDM vol. 3C 29.3.3.2. */
static void permit_ept(const struct tdp_config *controls, const struct spec_bits *bits,
                       struct spec_walk *walk)
{
    walk->read = bits->r;
    walk->write = bits->w;
    walk->fetch_supervisor = bits->x;
    walk->fetch_user = controls->mode_based_execute ? bits->xu : bits->x;
}

/* APM vol. 2 15.25.5 (nested accesses are user accesses) and, with GMET, 15.25.13. */
static void permit_npt(const struct tdp_config *controls, const struct spec_bits *bits,
                       struct spec_walk *walk)
{
    if (controls->mode_based_execute) {
        walk->read = true;
        walk->write = bits->rw;
        walk->fetch_supervisor = !bits->nx && !bits->us;
        walk->fetch_user = !bits->nx;
        return;
    }
    walk->read = bits->us;
    walk->write = bits->us && bits->rw;
    walk->fetch_supervisor = bits->us && !bits->nx;
    walk->fetch_user = walk->fetch_supervisor;
}

struct spec_start spec_root(u64 root)
{
    struct spec_bits all = {.r = true, .w = true, .x = true, .xu = true, .rw = true, .us = true, .nx = false};
    return (struct spec_start){root, 4, all};
}

struct spec_walk spec_walk_from(const struct tdp_config *controls, struct spec_start at, u64 gpa)
{
    struct spec_walk walk = {.result = SPEC_NOT_PRESENT};

    for (;; at.level--) {
        u64 *table = phys_to_virt(hpa(at.table));
        u64 entry = table[index_of(gpa, at.level)];

        walk.path[walk.depth] = at;
        walk.slot[walk.depth++] = &table[index_of(gpa, at.level)];
        walk.size = span_of(at.level);
        if (!spec_present(controls, entry))
            return walk;
        walk.reason = controls->format == TDP_EPT ? ept_misconfiguration(controls, at.level, entry)
                                                  : npt_reserved(controls, at.level, entry);
        if (walk.reason) {
            walk.result = SPEC_MISCONFIGURED;
            return walk;
        }
        combine(&at.bits, entry);
        at.table = address_in(entry);
        if (is_page(at.level, entry))
            break;
    }

    u64 last = *walk.slot[walk.depth - 1];
    walk.result = SPEC_TRANSLATED;
    walk.target = at.table / walk.size * walk.size + gpa % walk.size;
    walk.type = controls->format == TDP_EPT ? (unsigned)(last >> 3 & 7) : MT_WB;
    if (controls->format == TDP_EPT)
        permit_ept(controls, &at.bits, &walk);
    else
        permit_npt(controls, &at.bits, &walk);
    return walk;
}

struct spec_walk spec_walk(const struct tdp_config *controls, u64 root, u64 gpa)
{
    return spec_walk_from(controls, spec_root(root), gpa);
}

/* SDM vol. 3C 29.3.5 (only while enabled in the EPTP), APM vol. 2 5.4.2: A in each entry used, D in the one
 * that maps the page. */
void spec_set_accessed_dirty(const struct tdp_config *controls, const struct spec_walk *walk, bool write)
{
    bool ept = controls->format == TDP_EPT;

    if (ept && !controls->accessed_dirty)
        return;
    for (unsigned i = 0; i < walk->depth; i++)
        *walk->slot[i] |= ept ? BIT(8) : BIT(5);
    if (write)
        *walk->slot[walk->depth - 1] |= ept ? BIT(9) : BIT(6);
}

bool spec_is_dirty(const struct tdp_config *controls, const struct spec_walk *walk)
{
    return bit(*walk->slot[walk->depth - 1], controls->format == TDP_EPT ? 9 : 6);
}

static void visit_tables(const struct tdp_config *controls, struct spec_start at, u64 gpa,
                         spec_visitor *visit, void *context)
{
    const u64 *table = phys_to_virt(hpa(at.table));

    visit(context, at, gpa);
    for (u64 i = 0; i < 512; i++) {
        struct spec_start below = {address_in(table[i]), at.level - 1, at.bits};
        if (spec_present(controls, table[i]) && !is_page(at.level, table[i])) {
            combine(&below.bits, table[i]);
            visit_tables(controls, below, gpa + i * span_of(at.level), visit, context);
        }
    }
}

void spec_each_table(const struct tdp_config *controls, u64 root, spec_visitor *visit, void *context)
{
    visit_tables(controls, spec_root(root), 0, visit, context);
}
