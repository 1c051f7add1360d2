/* SPDX-License-Identifier: MIT */
/*
 * Intervals: cut at both ends of a change, changed one by one, joined again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/tdp-model.h"

void model_init(struct model *model)
{
    model->interval[0] = (struct model_interval){.start = 0, .end = BIT(48)};
    model->count = 1;
}

static unsigned index_at(const struct model *model, u64 gpa)
{
    unsigned low = 0, high = model->count - 1;

    assert_true(gpa < BIT(48));
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (model->interval[middle].end <= gpa)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct model_interval *model_at(const struct model *model, u64 gpa)
{
    return &model->interval[index_at(model, gpa)];
}

static void cut(struct model *model, u64 at)
{
    if (at == 0 || at == BIT(48) || model_at(model, at)->start == at)
        return;
    assert_true(model->count < MODEL_INTERVALS);
    unsigned i = index_at(model, at);
    memmove(&model->interval[i + 1], &model->interval[i], (model->count - i) * sizeof(model->interval[0]));
    model->count++;
    model->interval[i].end = at;
    model->interval[i + 1].start = at;
}

static bool alike(const struct model_interval *a, const struct model_interval *b)
{
    return a->access == b->access && a->type == b->type && a->displacement == b->displacement;
}

static void join(struct model *model)
{
    unsigned count = 1;
    for (unsigned i = 1; i < model->count; i++) {
        if (alike(&model->interval[count - 1], &model->interval[i]))
            model->interval[count - 1].end = model->interval[i].end;
        else
            model->interval[count++] = model->interval[i];
    }
    model->count = count;
}

void model_map(struct model *model, u64 start, u64 end, unsigned access, unsigned type, u64 displacement)
{
    cut(model, start);
    cut(model, end);
    for (unsigned i = index_at(model, start); i < model->count && model->interval[i].start < end; i++) {
        struct model_interval *interval = &model->interval[i];
        interval->access = access;
        interval->type = access == 0 ? 0 : type;
        interval->displacement = access == 0 ? 0 : displacement;
    }
    join(model);
}

void model_protect(struct model *model, u64 start, u64 end, unsigned access)
{
    cut(model, start);
    cut(model, end);
    for (unsigned i = index_at(model, start); i < model->count && model->interval[i].start < end; i++) {
        struct model_interval *interval = &model->interval[i];
        if (interval->access == 0)
            continue;
        if (access == 0)
            *interval = (struct model_interval){.start = interval->start, .end = interval->end};
        else
            interval->access = access;
    }
    join(model);
}

void model_retype(struct model *model, u64 start, u64 end, unsigned type)
{
    cut(model, start);
    cut(model, end);
    for (unsigned i = index_at(model, start); i < model->count && model->interval[i].start < end; i++) {
        if (model->interval[i].access != 0)
            model->interval[i].type = type;
    }
    join(model);
}

bool model_is_hole(const struct model *model, u64 start, u64 end)
{
    const struct model_interval *interval = model_at(model, start);
    return interval->access == 0 && interval->end >= end;
}

bool model_has_hole(const struct model *model, u64 start, u64 end)
{
    for (unsigned i = index_at(model, start); i < model->count && model->interval[i].start < end; i++) {
        if (model->interval[i].access == 0)
            return true;
    }
    return false;
}
