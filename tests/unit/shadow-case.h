/* SPDX-License-Identifier: MIT */
/*
 * For tests of single cases of the shadow MMU: plans of worlds that are not random, L2 on one of their roots,
 * and short names for what is done there. State is global, made new by world_make().
 */
#ifndef UMBRA_TESTS_UNIT_SHADOW_CASE_H
#define UMBRA_TESTS_UNIT_SHADOW_CASE_H

#include "tests/unit/shadow-world.h"

extern const struct spec_second_access final_read, final_write, kernel_fetch, user_fetch;
extern const struct world_plan ept_plan, npt_plan;
extern struct hardware_use use;     /* what L2 runs on */
extern struct shadow_result result; /* of the last fault */

/*
 * Roots of the world: 0 MBEC or GMET, A/D flags or NX; 1 the same without MBEC; 2 and 3 without A/D. 0 and 1
 * share.
 */
void enter(unsigned root);
/* A world where L2 runs on root 0, which maps its page 0 to GIB(1), and has not touched it yet. */
void start_with_page(const struct world_plan *plan);
/* An access of L2 on the root that was entered. */
enum shadow_outcome run(u64 address, struct spec_second_access access);
/* Where L1's entry of that level for the address is. */
u64 entry_at(unsigned root, u64 address, unsigned level);
/* L1's INVEPT. */
void invalidate(unsigned root);
const struct shadow_statistics *statistics(void);
/* The entry of the shadow that maps an address of L2, and its level; 0 if there is none. */
u64 shadow_leaf(u64 address, unsigned *level);

#endif
