/* SPDX-License-Identifier: MIT */
/* Placement and ordering of a guest's pieces. Only plan_execute() changes memory. */
#include "boot/guest-plan.h"

#include "arch/print.h"
#include "arch/string.h"
#include "mm/phys.h"

/* What a place keeps clear of, besides everything taken. The later ones are tried when memory is short. */
enum avoid {
    AVOID_ALL_SOURCES,   /* can be moved to at once */
    AVOID_OTHER_SOURCES, /* may slide over its own old place */
    AVOID_TAKEN,         /* the schedule has to see how */
    AVOID_LEVELS,
};

enum guest_status plan_refuse(struct guest_plan *plan, enum guest_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    format_va(plan->sentence, plan->sentence_bytes, fmt, args);
    va_end(args);
    return status;
}

static bool overlaps(u64 a, u64 a_bytes, u64 b, u64 b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

bool plan_take(struct guest_plan *plan, u64 start, u64 bytes)
{
    if (!memmap_covers(plan->memory, start, bytes, MEM_RAM))
        return false;
    for (unsigned i = 0; i < plan->taken_count; i++) {
        const struct mem_range *taken = &plan->taken[i];
        if (overlaps(start, bytes, taken->start, taken->end - taken->start))
            return false;
    }
    ASSERT(plan->taken_count < PLAN_TAKEN_MAX, "segments and modules are limited before");
    plan->taken[plan->taken_count++] = (struct mem_range){start, start + bytes, MEM_RAM};
    return true;
}

static bool find(const struct guest_plan *plan, const struct plan_request *request, enum avoid avoid,
                 u64 *start)
{
    static struct mem_range range[PLAN_TAKEN_MAX + BOOT_MODULES_MAX];
    size_t count = plan->taken_count;
    memcpy(range, plan->taken, count * sizeof(range[0]));
    for (unsigned i = 0; i < plan->info->module_count && avoid != AVOID_TAKEN; i++) {
        const struct boot_module *module = &plan->info->module[i];
        if (avoid == AVOID_ALL_SOURCES || i != request->module)
            range[count++] = (struct mem_range){module->start, module->end, MEM_RAM};
    }
    enum memmap_status status = request->highest
                                    ? memmap_find_highest(plan->memory, request->bytes, request->alignment,
                                                          request->limit, range, count, start)
                                    : memmap_find_lowest(plan->memory, request->bytes, request->alignment,
                                                         request->floor, request->limit, range, count, start);
    return status == MEMMAP_OK && *start >= request->floor;
}

bool plan_place(struct guest_plan *plan, const struct plan_request *request, u64 *start)
{
    for (enum avoid avoid = AVOID_ALL_SOURCES; avoid < AVOID_LEVELS; avoid++) {
        if (find(plan, request, avoid, start))
            return plan_take(plan, *start, request->bytes);
    }
    return false;
}

void plan_move(struct guest_plan *plan, u64 source, u64 destination, u64 bytes)
{
    if (bytes == 0 || source == destination)
        return;
    ASSERT(plan->move_count < PLAN_MOVES_MAX, "segments and modules are limited before");
    plan->move[plan->move_count++] = (struct guest_move){source, destination, bytes};
}

void plan_zero(struct guest_plan *plan, u64 start, u64 bytes)
{
    if (bytes == 0)
        return;
    ASSERT(plan->zero_count < PLAN_MOVES_MAX, "segments are limited before");
    plan->zero[plan->zero_count++] = (struct mem_range){start, start + bytes, MEM_RAM};
}

/* Would move `i` overwrite bytes that move `j` has yet to read? A move may overlap itself. */
static bool destroys(const struct guest_plan *plan, unsigned i, unsigned j)
{
    const struct guest_move *a = &plan->move[i], *b = &plan->move[j];
    return i != j && overlaps(a->destination, a->bytes, b->source, b->bytes);
}

static bool is_blocked(const struct guest_plan *plan, unsigned i)
{
    for (unsigned j = 0; j < plan->move_count; j++) {
        if (destroys(plan, i, j))
            return true;
    }
    return false;
}

static bool is_obstacle(const struct guest_plan *plan, unsigned j)
{
    for (unsigned i = 0; i < plan->move_count; i++) {
        if (destroys(plan, i, j))
            return true;
    }
    return false;
}

/* Appends every move that can be made now; false if there was none. */
static bool schedule_free_moves(struct guest_plan *plan)
{
    bool progress = false;
    for (unsigned i = 0; i < plan->move_count;) {
        if (is_blocked(plan, i)) {
            i++;
            continue;
        }
        plan->step[plan->step_count++] = plan->move[i];
        plan->move[i] = plan->move[--plan->move_count];
        progress = true;
    }
    return progress;
}

/*
 * Moves wait for each other: takes the smallest obstacle out of the way. It lands where no move goes, so it
 * is an obstacle only once, and the number of steps is at most twice that of the moves.
 */
static bool schedule_detour(struct guest_plan *plan)
{
    static struct mem_range avoid[PLAN_TAKEN_MAX + PLAN_MOVES_MAX + 1];
    struct guest_move *smallest = NULL;
    size_t count = plan->taken_count;

    memcpy(avoid, plan->taken, count * sizeof(avoid[0]));
    avoid[count++] = (struct mem_range){0, PAGE_SIZE, MEM_RAM}; /* the BIOS data area */
    for (unsigned i = 0; i < plan->move_count; i++) {
        struct guest_move *move = &plan->move[i];
        avoid[count++] = (struct mem_range){move->source, move->source + move->bytes, MEM_RAM};
        if (is_obstacle(plan, i) && (smallest == NULL || move->bytes < smallest->bytes))
            smallest = move;
    }
    if (smallest == NULL)
        return false; /* cannot be: a blocked move has an obstacle */
    u64 detour;
    if (memmap_find_highest(plan->memory, smallest->bytes, PAGE_SIZE, ~0ull, avoid, count, &detour) !=
        MEMMAP_OK)
        return false;
    plan->step[plan->step_count++] = (struct guest_move){smallest->source, detour, smallest->bytes};
    smallest->source = detour;
    return true;
}

bool plan_schedule(struct guest_plan *plan)
{
    while (plan->move_count != 0) {
        if (!schedule_free_moves(plan) && !schedule_detour(plan))
            return false;
    }
    return true;
}

void plan_execute(const struct guest_plan *plan)
{
    for (unsigned i = 0; i < plan->step_count; i++) {
        const struct guest_move *step = &plan->step[i];
        memmove(phys_to_virt(hpa(step->destination)), phys_to_virt(hpa(step->source)), step->bytes);
    }
    for (unsigned i = 0; i < plan->zero_count; i++)
        memset(phys_to_virt(hpa(plan->zero[i].start)), 0, plan->zero[i].end - plan->zero[i].start);
}

struct span plan_image(const struct guest_plan *plan)
{
    const struct boot_module *module = &plan->info->module[0];
    return (struct span){phys_to_virt(hpa(module->start)), module->end - module->start};
}
