/* SPDX-License-Identifier: MIT */
/*
 * The test build: hypercalls with which a test guest takes access away from its own pages and sees what the
 * hardware then reports. They refuse Umbra's own memory; a page opens again at its first violation.
 */
#include "vcpu/hypercall.h"

#include "arch/print.h"
#include "mm/memmap.h"
#include "vcpu/hypercall-variant.h"
#include "vcpu/shootdown.h"

enum { PROTECTED_MAX = 32 };

const unsigned hypercall_variant_features = HYPERCALL_FEATURE_TEST_BUILD;

/* What test hypercalls have changed; pages inside may be open again. Under machine_lock(). */
static struct mem_range protected_ranges[PROTECTED_MAX];
static unsigned protected_count;

static bool is_protected(u64 page)
{
    unsigned i = 0;
    while (i < protected_count && (page < protected_ranges[i].start || page >= protected_ranges[i].end))
        i++;
    return i < protected_count;
}

/* Drops the ranges that lie inside [start, end), whose access is now another. */
static void forget_inside(u64 start, u64 end)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < protected_count; i++) {
        if (protected_ranges[i].start < start || protected_ranges[i].end > end)
            protected_ranges[kept++] = protected_ranges[i];
    }
    protected_count = kept;
}

static enum hypercall_status protect(u64 start, u64 end, u64 access)
{
    if (((start | end) & PAGE_MASK) != 0 || start >= end || end > machine.physical_limit || access > TDP_RWX)
        return HYPERCALL_BAD_ARGUMENT;
    if (umbra_region_overlaps(start, end - start))
        return HYPERCALL_REFUSED;

    forget_inside(start, end);
    if (protected_count == PROTECTED_MAX)
        return HYPERCALL_REFUSED;
    /* Recorded first: should only a part succeed, its violations are known for what they are. */
    protected_ranges[protected_count++] = (struct mem_range){.start = start, .end = end};
    return machine_map(start, end, (unsigned)access) == TDP_OK ? HYPERCALL_OK : HYPERCALL_REFUSED;
}

static u64 argument(const struct vcpu *vcpu, const struct exit_context *context, enum gpr_index reg)
{
    return context->code64 ? vcpu->gpr[reg] : (u32)vcpu->gpr[reg];
}

static enum hypercall_status call_protect(struct vcpu *vcpu, const struct exit_context *context)
{
    machine_lock(vcpu);
    enum hypercall_status status = protect(argument(vcpu, context, GPR_RDX), argument(vcpu, context, GPR_RSI),
                                           argument(vcpu, context, GPR_RDI));
    machine_unlock(vcpu);
    return status;
}

static void call_last_violation(struct vcpu *vcpu, const struct exit_context *context)
{
    hypercall_result(vcpu, context, GPR_RBX, vcpu->last_violation.count);
    hypercall_result(vcpu, context, GPR_RDX, vcpu->last_violation.raw);
    hypercall_result(vcpu, context, GPR_RSI, vcpu->last_violation.gpa);
    hypercall_result(vcpu, context, GPR_RDI, vcpu->last_violation.gva);
}

enum exit_action hypercall_variant(struct vcpu *vcpu, const struct exit_context *context)
{
    enum hypercall_status status = HYPERCALL_OK;

    switch ((u32)vcpu->gpr[GPR_RCX]) {
    case HYPERCALL_TEST_PROTECT:
        status = call_protect(vcpu, context);
        break;
    case HYPERCALL_TEST_LAST_VIOLATION:
        call_last_violation(vcpu, context);
        break;
    case HYPERCALL_TEST_REGION:
        hypercall_result(vcpu, context, GPR_RDX, umbra_region.start);
        hypercall_result(vcpu, context, GPR_RSI, umbra_region.end);
        break;
    case HYPERCALL_TEST_MEMORY_ACCESSES:
        hypercall_result(vcpu, context, GPR_RBX, vcpu->accounting.umbra_memory_accesses);
        break;
    case HYPERCALL_TEST_FATAL:
        fatal("a test hypercall asked for this report");
    default:
        return EXIT_UD;
    }
    vcpu->gpr[GPR_RAX] = status;
    return EXIT_SKIP;
}

bool hypercall_variant_violation(struct vcpu *vcpu, const struct violation *violation,
                                 const struct exit_context *context)
{
    u64 page = align_down(violation->gpa.raw, PAGE_SIZE);
    struct tdp_leaf leaf = tdp_lookup(&machine.tdp, violation->gpa);

    if (!is_protected(page) || (leaf.present && (violation->access & ~leaf.access) == 0))
        return false;
    vcpu->last_violation.count++;
    vcpu->last_violation.raw = violation->raw;
    vcpu->last_violation.gpa = violation->gpa.raw;
    vcpu->last_violation.gva = violation->gva_valid ? violation->gva.raw : 0;
    vcpu->last_violation.rip = context->rip;
    if (machine_map(page, page + PAGE_SIZE, TDP_RWX) != TDP_OK)
        fatal("no memory is left to open page %lx again, which a test hypercall had closed", page);
    return true;
}
