/* SPDX-License-Identifier: MIT */
/*
 * Second-level violations: the guest touched what machine.tdp does not let it. Umbra's own memory is played
 * by a scratch page of ones for one instruction; device memory is mapped at its first touch; whatever else is
 * not explained ends in a report that says what the guest did. No address from the guest is used before it is
 * compared with the region and the limit.
 */
#include "arch/print.h"
#include "arch/string.h"
#include "mm/memmap.h"
#include "mm/phys.h"
#include "vcpu/hypercall-variant.h"
#include "vcpu/shootdown.h"

#define FETCH (TDP_XS | TDP_XU)

enum {
    REPEAT_LIMIT = 1000, /* so often in a row the same violation may be answered by re-entering */
    REGION_PAGES_MAX = 96 * 1024 / 4, /* 96 MByte: image, pool and alignment at their largest */
};

/* One bit per page of the region: it was logged. Two CPUs that race for it print a line twice. */
static u8 logged_pages[REGION_PAGES_MAX / 8];

static const char *access_name(unsigned access)
{
    return (access & FETCH) != 0 ? "fetch" : (access & TDP_W) != 0 ? "write" : "read";
}

static _Noreturn void report(const char *problem, const struct violation *violation,
                             const struct exit_context *context)
{
    fatal("%s: guest %s at guest-physical %lx, linear %s%lx, RIP %lx, CPL %u, qualification or EXITINFO1 %lx",
          problem, access_name(violation->access), violation->gpa.raw, violation->gva_valid ? "" : "unknown ",
          violation->gva.raw, context->rip, context->cpl, violation->raw);
}

/* Counts answers to one violation that change nothing, so that an endless loop becomes a report. */
static void count_repeat(struct vcpu *vcpu, const struct violation *violation,
                         const struct exit_context *context)
{
    u64 page = align_down(violation->gpa.raw, PAGE_SIZE);

    if (vcpu->repeated.page != page || vcpu->repeated.rip != context->rip ||
        vcpu->repeated.access != violation->access || vcpu->repeated.exit + 1 != vcpu->accounting.exits) {
        vcpu->repeated.page = page;
        vcpu->repeated.rip = context->rip;
        vcpu->repeated.access = violation->access;
        vcpu->repeated.count = 0;
    }
    vcpu->repeated.exit = vcpu->accounting.exits;
    if (++vcpu->repeated.count > REPEAT_LIMIT)
        report("the same violation again and again, though its cause was removed", violation, context);
}

static void log_page_once(u64 page)
{
    u64 index = (page - umbra_region.start) / PAGE_SIZE;
    u8 bit = (u8)(1u << index % 8);

    if (index >= REGION_PAGES_MAX || (logged_pages[index / 8] & bit) != 0)
        return;
    logged_pages[index / 8] |= bit;
    log_info("guest access to Umbra's memory at gpa %lx (reads as ones, writes are dropped)", page);
}

static bool is_lent(const struct vcpu *vcpu, u64 page)
{
    unsigned i = 0;
    while (i < vcpu->scratch_count && vcpu->scratch_page[i] != page)
        i++;
    return i < vcpu->scratch_count;
}

/* machine_lock() is held: it guards these lists, too. */
static bool is_lent_to_another(const struct vcpu *vcpu, u64 page)
{
    unsigned i = 0;
    while (i < machine.cpus && (machine.vcpu[i] == vcpu || !is_lent(machine.vcpu[i], page)))
        i++;
    return i < machine.cpus;
}

/*
 * All CPUs see a page that is lent to one, and share it while several step over accesses to it, so that none
 * takes it away from another. What they find there instead of ones is what one of them has just written: the
 * guest's own bytes. All lent pages are the same frame, so an instruction that reads back through a second
 * page what it wrote through the first may see its own bytes; it never sees Umbra's.
 */
static void lend_page(struct vcpu *vcpu, u64 page, const struct violation *violation,
                      const struct exit_context *context)
{
    if (vcpu->scratch_count == SCRATCH_MAX)
        report("one guest instruction uses too many pages of Umbra's memory", violation, context);
    /* Not when it is taken back: who shared it may write to it after that. */
    if (vcpu->scratch_count == 0)
        memset(phys_to_virt(vcpu->scratch), 0xff, PAGE_SIZE);
    if (!is_lent_to_another(vcpu, page) &&
        tdp_map_to(&machine.tdp, page, page + PAGE_SIZE, vcpu->scratch.raw, TDP_R | TDP_W, MT_WB) != TDP_OK)
        report("no memory is left to answer an access to Umbra's memory", violation, context);
    vcpu->scratch_page[vcpu->scratch_count++] = page;
}

static enum exit_action region_access(struct vcpu *vcpu, const struct violation *violation,
                                      const struct exit_context *context)
{
    u64 page = align_down(violation->gpa.raw, PAGE_SIZE);

    vcpu->accounting.umbra_memory_accesses++;
    log_page_once(page);
    if ((violation->access & FETCH) != 0)
        return EXIT_UD;
    if (is_lent(vcpu, page)) {
        count_repeat(vcpu, violation, context);
        machine.tdp.flush_pending = true;
    } else {
        lend_page(vcpu, page, violation, context);
    }
    return EXIT_STEP;
}

static void take_back(struct vcpu *vcpu)
{
    while (vcpu->scratch_count != 0) {
        u64 page = vcpu->scratch_page[--vcpu->scratch_count];
        if (is_lent_to_another(vcpu, page))
            continue;
        ASSERT(tdp_unmap(&machine.tdp, page, page + PAGE_SIZE) == TDP_OK,
               "a 4-KByte page is unmapped without a split, so without memory");
    }
}

void violation_step_done(struct vcpu *vcpu)
{
    if (vcpu->scratch_count == 0)
        return;
    machine_lock(vcpu);
    take_back(vcpu);
    machine_unlock(vcpu);
}

/* The largest of 1 GByte, 2 MByte and 4 KByte around gpa, inside the hole, that Umbra's region does not reach
 * into. */
static u64 hole_part(u64 gpa, u64 hole_size)
{
    u64 size = min_u64(hole_size, GIB(1));
    while (size > PAGE_SIZE && umbra_region_overlaps(align_down(gpa, size), size))
        size = size > MIB(2) ? MIB(2) : PAGE_SIZE;
    return size;
}

static void map_hole(const struct violation *violation, const struct exit_context *context, u64 hole_size)
{
    u64 size = hole_part(violation->gpa.raw, hole_size);
    u64 start = align_down(violation->gpa.raw, size);
    u64 end = min_u64(start + size, machine.physical_limit);

    log_debug("device memory %lx to %lx mapped", start, end);
    if (machine_map(start, end, TDP_RWX) != TDP_OK)
        report("no memory is left to map device memory", violation, context);
}

static enum exit_action handle(struct vcpu *vcpu, const struct violation *violation,
                               const struct exit_context *context)
{
    if (umbra_region_overlaps(violation->gpa.raw, 1))
        return region_access(vcpu, violation, context);
    if (violation->gpa.raw >= machine.physical_limit)
        report("no such guest-physical address", violation, context);

    if (hypercall_variant_violation(vcpu, violation, context))
        return EXIT_RESUME;
    count_repeat(vcpu, violation, context);

    struct tdp_leaf leaf = tdp_lookup(&machine.tdp, violation->gpa);
    if (!leaf.present)
        map_hole(violation, context, leaf.size);
    else if ((violation->access & ~leaf.access) == 0)
        machine.tdp.flush_pending = true; /* a translation from before the table was changed */
    else
        report("denied by Umbra's second-level tables", violation, context);
    return EXIT_RESUME;
}

enum exit_action violation_exit(struct vcpu *vcpu, const struct violation *violation,
                                const struct exit_context *context)
{
    if ((violation->access & TDP_W) != 0 && tdp_wake(&machine.tdp, violation->gpa))
        return EXIT_RESUME;
    machine_lock(vcpu);
    enum exit_action action = handle(vcpu, violation, context);
    machine_unlock(vcpu);
    return action;
}
