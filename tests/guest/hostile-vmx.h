/* SPDX-License-Identifier: MIT */
/*
 * The two halves of group `hostile-vmx`: hostile-vmx-state.c knows the fields of a VMCS, which values can be
 * entered with and which are random; group-hostile-vmx.c does things with them.
 */
#ifndef UMBRA_TESTS_GUEST_HOSTILE_VMX_H
#define UMBRA_TESTS_GUEST_HOSTILE_VMX_H

#include "tests/guest/hostile.h"
#include "tests/guest/vmx.h"

/* What a field is to L1: what values it may get. */
enum field_use {
    USE_CONTROL, /* a control word: some bits are turned */
    USE_POINTER, /* of a page */
    USE_COUNT,   /* small numbers, or edges */
    USE_STATE,   /* L2's own: anything */
    USE_GUARD,   /* L1 itself depends on it: what vmx_reset() wrote, or a value that must be refused */
    FIELD_USES,
};

enum { FIELDS_MAX = 160 };
struct hostile_fields {
    unsigned count;
    u32 encoding[FIELDS_MAX];
    enum field_use use[FIELDS_MAX];
    u64 plain[FIELDS_MAX];  /* as vmx_reset() writes them */
    u64 wanted[FIELDS_MAX]; /* what the current episode starts from: can be entered */
};
extern struct hostile_fields fields;

/* Takes the fields that there are from the current VMCS, which vmx_reset() has written. */
void hostile_fields_init(void);
unsigned hostile_field_index(u32 encoding);
/* The page lists and bitmaps that fields point to; L2's I/O and MSRs are decided by pages of L1's own. */
void hostile_write_lists(void);
/* A new state to start from, in fields.wanted. */
void hostile_want_state(void);
/* Writes it to the current VMCS; or only what L1 depends on and what keeps L2 in the playground. */
void hostile_write_wanted(bool guards_only);
/* The same for one field, if a random VMWRITE has been at it. */
void hostile_restore_field(u64 encoding);
/* For a field that is no guard: random, but of a kind that L1 outlives. */
u64 hostile_field_value(unsigned index);
/* Gives a field of the host state a value that the entry must refuse; returns the field's index. */
unsigned hostile_spoil_host(void);

#endif
