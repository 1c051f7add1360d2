/* SPDX-License-Identifier: MIT */
/*
 * The pool of 4-KByte frames inside Umbra's own region. It is filled once at boot and never grows. Frames are
 * handed out zeroed. Pure: frames are reached through mm/phys.h.
 * Locking: the pool has its own.
 */
#ifndef UMBRA_MM_FRAME_H
#define UMBRA_MM_FRAME_H

#include "arch/types.h"

/* Gives [start, end), page-aligned host-physical addresses inside the direct map, to the pool. */
void frame_pool_init(hpa_t start, hpa_t end);

/* False if the pool is empty; *frame is the host-physical address of a zeroed frame otherwise. */
bool frame_alloc(hpa_t *frame);

/* `count` physically contiguous zeroed frames; only from the never-used part of the pool, for use at boot. */
bool frame_alloc_contiguous(size_t count, hpa_t *first);

/* The caller guarantees that no CPU can still reach the frame through a TLB. */
void frame_free(hpa_t frame);

size_t frame_free_count(void);

#endif
