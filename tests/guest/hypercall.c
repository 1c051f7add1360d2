/* SPDX-License-Identifier: MIT */
/* The guest's side of vcpu/hypercall.h, and what is known of Umbra without it. */
#include "tests/guest/guest.h"

bool under_umbra, test_build, mode_based_execute;

struct hypercall hypercall(u32 function, u64 rdx, u64 rsi, u64 rdi)
{
    struct hypercall out = {.rbx = 0, .rcx = function, .rdx = rdx, .rsi = rsi, .rdi = rdi};
    u64 rax = HYPERCALL_MAGIC;
    fault.vector = NO_FAULT;
    if (is_intel)
        __asm__ volatile(FAULTABLE("vmcall")
                         : "+a"(rax), "+b"(out.rbx), "+c"(out.rcx), "+d"(out.rdx), "+S"(out.rsi),
                           "+D"(out.rdi)::"memory");
    else
        __asm__ volatile(FAULTABLE("vmmcall")
                         : "+a"(rax), "+b"(out.rbx), "+c"(out.rcx), "+d"(out.rdx), "+S"(out.rsi),
                           "+D"(out.rdi)::"memory");
    out.status = (u32)rax;
    out.vector = fault.vector;
    return out;
}

void hypercall_init(void)
{
    struct hypercall features = hypercall(HYPERCALL_FEATURES, 0, 0, 0);
    under_umbra = features.vector == NO_FAULT && features.status == HYPERCALL_OK;
    if (!under_umbra)
        return;
    mode_based_execute = features.rbx & HYPERCALL_FEATURE_MODE_BASED_EXECUTE;
    test_build = features.rbx & HYPERCALL_FEATURE_TEST_BUILD;
}

/* Without the test hypercall: the largest reserved range that lies between RAM ranges or right after one. */
static bool largest_reserved(u64 *start, u64 *end)
{
    *start = *end = 0;
    for (unsigned i = 0; i < boot.range_count; i++) {
        const struct boot_range *range = &boot.range[i];
        bool after_ram = range->start >= MIB(1) && boot_is_ram(range->start - 1, 1);
        if (range->type == 2 && after_ram && range->bytes > *end - *start) {
            *start = range->start;
            *end = range->start + range->bytes;
        }
    }
    return *start != *end;
}

bool umbra_region(u64 *start, u64 *end)
{
    if (!under_umbra)
        return false;
    if (!test_build)
        return largest_reserved(start, end);
    struct hypercall region = hypercall(HYPERCALL_TEST_REGION, 0, 0, 0);
    *start = region.rdx;
    *end = region.rsi;
    return region.vector == NO_FAULT && region.status == HYPERCALL_OK;
}
