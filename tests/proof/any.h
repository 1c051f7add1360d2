/* SPDX-License-Identifier: MIT */
/*
 * What the proofs of the walkers share: machine states, accesses and tables of which nothing is known but the
 * format, and memory that is a stream: every read gives an arbitrary value, which is noted, so that the
 * specification, which walks second, must ask for the same addresses in the same order.
 *
 * FORMAT is an enum spec_format, KIND a stage: guest tables, NPT or EPT.
 */
#ifndef UMBRA_TESTS_PROOF_ANY_H
#define UMBRA_TESTS_PROOF_ANY_H

#include <assert.h>

#include "arch/x86.h"
#include "tests/unit/paging-case.h"

enum { GUEST, NPT, EPT };

u64 nondet_u64(void);
unsigned nondet_unsigned(void);
_Bool nondet_bool(void);

static struct {
    u64 address, value;
    unsigned bytes;
} stream[SPEC_LEVELS_MAX];
static unsigned reads;

static inline u64 stream_read(u64 address, unsigned bytes)
{
    assert(reads < SPEC_LEVELS_MAX);
    stream[reads].address = address;
    stream[reads].bytes = bytes;
    stream[reads].value = bytes == 4 ? nondet_u64() & BITS(31, 0) : nondet_u64();
    return stream[reads++].value;
}

static inline bool stream_replay(void *context, u64 address, unsigned bytes, u64 *value)
{
    unsigned *next = context;
    assert(*next < reads);
    assert(stream[*next].address == address && stream[*next].bytes == bytes);
    *value = stream[*next].value;
    (*next)++;
    return true;
}

static inline struct case_machine any_machine(void)
{
    struct case_machine machine = {
        .cpu = {.maxphyaddr = MAXPHYADDR, .page_1g = nondet_bool(), .amd = nondet_bool()},
        .cr0 = CR0_PE | CR0_PG | (nondet_u64() & CR0_WP),
        .cr4 = nondet_u64() & (CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS | CR4_CET),
        .efer = nondet_u64() & EFER_NXE,
        .pkru = (u32)nondet_u64(),
        .pkrs = (u32)nondet_u64(),
    };
    if (FORMAT == SPEC_PAE && KIND == GUEST) {
        machine.pdpte_loaded = nondet_bool();
        for (unsigned i = 0; i < 4; i++)
            machine.pdpte[i] = nondet_u64();
    }
    if (FORMAT != SPEC_32BIT)
        machine.cr4 |= CR4_PAE;
    if (FORMAT == SPEC_LONG4 || FORMAT == SPEC_LONG5)
        machine.efer |= EFER_LME | EFER_LMA;
    if (FORMAT == SPEC_LONG5)
        machine.cr4 |= CR4_LA57;
    if (FORMAT == SPEC_NO_PAGING)
        machine.cr0 = CR0_PE;
    /* CR4.CET needs CR0.WP, SDM vol. 3A 2.5. */
    __CPROVER_assume((machine.cr4 & CR4_CET) == 0 || (machine.cr0 & CR0_WP) != 0);
    return machine;
}

/* CR3 included; a linear address for these tables. */
static inline u64 any_guest(struct case_tables *tables, struct case_machine *machine)
{
    u64 address = nondet_u64();

    __CPROVER_assume(FORMAT == SPEC_LONG5 || FORMAT == SPEC_LONG4 || FORMAT == SPEC_NO_PAGING ||
                     address < BIT(32));
    __CPROVER_assume(FORMAT != SPEC_LONG4 || spec_canonical(address, false));
    __CPROVER_assume(FORMAT != SPEC_LONG5 || spec_canonical(address, true));
    case_guest(tables, machine);
    tables->spec.root = nondet_u64();
    return address;
}

static inline struct case_ept any_ept(bool five_levels)
{
    return (struct case_ept){
        .cpu = {.maxphyaddr = MAXPHYADDR, .page_1g = nondet_bool(), .execute_only = nondet_bool()},
        .eptp = 6 | (five_levels ? 4u << 3 : 3u << 3) | (nondet_u64() & 0xc0) | (nondet_u64() & BITS(51, 12)),
        .mbec = nondet_bool(),
        .spp = nondet_bool(),
    };
}

static inline struct spec_access any_access(void)
{
    struct spec_access all[CASE_ACCESSES_MAX];
    unsigned count = case_accesses(all), chosen = nondet_unsigned();
    __CPROVER_assume(chosen < count);
    return all[chosen];
}

/* To a final address, or to a table of the guest. */
static inline struct spec_second_access any_second_access(void)
{
    struct spec_second_access access = {
        .kind = nondet_bool()   ? SPEC_READ
                : nondet_bool() ? SPEC_WRITE
                                : SPEC_FETCH,
        .linear_user = nondet_bool(),
        .linear_write = nondet_bool(),
        .linear_nx = nondet_bool(),
        .shadow_stack = nondet_bool(),
        .cpl = nondet_bool() ? 3 : 0,
    };
    /* A fetch is no shadow-stack access, which in turn is a supervisor's or a user's. */
    if (access.kind == SPEC_FETCH)
        access.shadow_stack = false;
    access.supervisor_shadow_stack = access.shadow_stack && !access.linear_user;
    if (nondet_bool())
        access = (struct spec_second_access){.guest_table = true,
                                             .kind = access.kind == SPEC_FETCH ? SPEC_READ : access.kind,
                                             .cpl = access.cpl};
    return access;
}

/* As mm/rights.h names it: SDM vol. 3C 29.3.3.2, APM vol. 2 15.25.5 for guest tables. */
static inline unsigned second_access_bits(const struct spec_second *second,
                                          const struct spec_second_access *access)
{
    if (!access->guest_table)
        return case_second_access(second, access);
    if (second->kind == SPEC_SECOND_NPT)
        return ACCESS_WRITE | ACCESS_USER;
    return access->kind == SPEC_WRITE || second->tables.ept_ad ? ACCESS_WRITE : ACCESS_READ;
}

/* Of a walk that sets no flag, to a guest's table. */
static inline unsigned second_table_access(const struct spec_second *second)
{
    const struct spec_second_access access = {.guest_table = true, .kind = SPEC_READ};

    return second_access_bits(second, &access);
}

/* Tables of the second stage, which KIND is. */
static inline void any_second_tables(struct spec_second *second, struct case_tables *tables)
{
    second->kind = KIND == EPT ? SPEC_SECOND_EPT : SPEC_SECOND_NPT;
    if (KIND == EPT) {
        struct case_ept ept = any_ept(FORMAT == SPEC_EPT5);
        case_ept(tables, &ept);
        tables->spec.root = ept.eptp;
    } else {
        struct case_machine machine = any_machine();
        case_npt(tables, &machine, nondet_bool());
        tables->spec.root = nondet_u64();
    }
    second->tables = tables->spec;
}

/* A second stage, which KIND is, whose walks are not what is proved: its role. */
static inline void any_second_stage(struct spec_second *second, struct paging *host)
{
    second->kind = KIND == EPT ? SPEC_SECOND_EPT : SPEC_SECOND_NPT;
    if (KIND == EPT) {
        struct case_ept ept = any_ept(nondet_bool());
        host->role = paging_role_ept(&ept.cpu, ept.eptp, ept.mbec, ept.spp);
        second->tables.ept_ad = (ept.eptp & BIT(6)) != 0;
    } else {
        const struct paging_cpu cpu = {.maxphyaddr = MAXPHYADDR, .amd = true};
        host->role = paging_role_npt(&cpu, CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, nondet_bool());
    }
}

/* Bits 7 to 11 of the exit qualification, which the first stage knows. */
static inline u32 second_access_supplied(const struct spec_second_access *access)
{
    if (access->guest_table)
        return FAULT_LINEAR_VALID;
    return (u32)(FAULT_LINEAR_VALID | FAULT_FINAL | (access->linear_user ? FAULT_LINEAR_USER : 0) |
                 (access->linear_write ? FAULT_LINEAR_WRITE : 0) | (access->linear_nx ? FAULT_LINEAR_XD : 0));
}

#endif
