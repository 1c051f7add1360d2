/* SPDX-License-Identifier: MIT */
/*
 * A frame pool for tests that stands in for mm/frame.c: it hands out frames in random order from an arena,
 * keeps account of each, fills what comes back with a present-looking pattern, and can fail on demand. A
 * frame that is freed twice, or was never handed out, ends the test.
 */
#ifndef UMBRA_TESTS_UNIT_CHECKED_FRAMES_H
#define UMBRA_TESTS_UNIT_CHECKED_FRAMES_H

#include "arch/types.h"

enum { CHECKED_FRAMES = 384 };

/* All frames free, no failures ordered; the direct map leads to the arena. */
void checked_frames_reset(void);

/* From now on `count` more allocations succeed; SIZE_MAX: all. */
void checked_frames_limit(size_t count);

/* Was an allocation refused since the limit was set? */
bool checked_frames_refused(void);

size_t checked_frames_in_use(void);
/* False also for addresses that are no frame of the arena. */
bool checked_frame_in_use(u64 address);

#endif
