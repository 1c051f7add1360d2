/* SPDX-License-Identifier: MIT */
/*
 * What a second-level map should be, as a list of intervals over the whole guest-physical address space. It
 * knows nothing of tables, page sizes or formats.
 */
#ifndef UMBRA_TESTS_UNIT_TDP_MODEL_H
#define UMBRA_TESTS_UNIT_TDP_MODEL_H

#include "arch/types.h"

enum { MODEL_INTERVALS = 4096 };

struct model_interval {
    u64 start, end;
    unsigned access; /* 0: a hole, and then the rest is 0 too */
    unsigned type;
    u64 displacement; /* host-physical minus guest-physical */
};

/* Ordered, without gaps, from 0 to 2^48; neighbours differ in more than their addresses. */
struct model {
    struct model_interval interval[MODEL_INTERVALS];
    unsigned count;
};

void model_init(struct model *model);
const struct model_interval *model_at(const struct model *model, u64 gpa);

/* Access 0 makes a hole. */
void model_map(struct model *model, u64 start, u64 end, unsigned access, unsigned type, u64 displacement);
/* These change what is mapped; holes stay. */
void model_protect(struct model *model, u64 start, u64 end, unsigned access);
void model_retype(struct model *model, u64 start, u64 end, unsigned type);

bool model_is_hole(const struct model *model, u64 start, u64 end);
bool model_has_hole(const struct model *model, u64 start, u64 end);

#endif
