/* SPDX-License-Identifier: MIT */
/*
 * Proof: a two-dimensional walk, composed of walks of its second stage that are proved by themselves. walk()
 * is replaced by any answer whatever, so this holds for whatever it answers: each entry of the guest's tables
 * is read once, where the newest walk of the second stage has led, and that walk was allowed, for exactly the
 * guest-physical address of this entry, as an access to a table. The result is where the last walk led, for
 * the address that the guest's leaf names, with the access that is due. A fault is of the stage and the entry
 * that failed. No more is asked than the levels and the final address, so it ends.
 *
 * KIND is the second stage's. With MARK = 1 it is a walk that sets flags, in its reading half: none is owed
 * by the guest's entries (tests/proof/walk-2d-mark.c has the others), and the walks of the second stage mark.
 */
#include "mm/walk-general.h"
#include "tests/proof/any.h"

static struct case_tables guest;
static struct paging host;
static struct spec_second second;
static u64 linear, host_root, table, entry;
static unsigned level, asked, owed_reads;
static bool user = true, writable = true, execute_disabled;
static struct {
    u64 address, to;
    unsigned access;
    enum walk_status status;
} newest;

/*
 * The entry that was read last is present, with no reserved bit set: the walk may go on. PDPTEs in registers
 * are not checked for the latter, the load was. True before the first one.
 */
static bool sound(void)
{
    unsigned last = level + 1;

    if (last > spec_levels(FORMAT))
        return true;
    return spec_present(&guest.spec, last, entry) &&
           ((guest.spec.pdpte_loaded && last == 3) ||
            (entry & spec_reserved_bits(&guest.spec, last, entry)) == 0);
}

static bool maps_page(void)
{
    return level != spec_levels(FORMAT) && spec_maps_page(&guest.spec, level + 1, entry);
}

static enum walk_status any_walk(const struct paging *paging, u64 root, u64 address, unsigned access,
                                 struct walk *result)
{
    assert(paging == &host && root == host_root);
    assert(owed_reads == 0 && (asked == 0 || newest.status == WALK_OK) && sound());
    assert(asked <= spec_levels(FORMAT));
    asked++;
    owed_reads++;
    newest.address = address;
    newest.access = access;
    newest.to = result->address = nondet_u64();
    newest.status = nondet_bool()           ? WALK_OK
                    : nondet_bool()         ? WALK_FAULT
                    : MARK && nondet_bool() ? WALK_CONTENDED
                                            : WALK_NOT_MEMORY;
    return newest.status;
}

enum walk_status walk(const struct paging *paging, const struct paging_memory *memory, u64 root, u64 address,
                      unsigned access, struct walk *result)
{
    (void)memory;
    assert(!MARK);
    return any_walk(paging, root, address, access, result);
}

enum walk_status walk_and_mark(const struct paging *paging, const struct paging_memory *memory, u64 root,
                               u64 address, unsigned access, struct walk *result)
{
    (void)memory;
    assert(MARK);
    return any_walk(paging, root, address, access, result);
}

bool walk_owes_flags(const struct paging *paging, const struct walk *walk, unsigned access)
{
    (void)walk, (void)access;
    assert(MARK && paging == &guest.code);
    return false;
}

enum walk_status walk_set_flags(const struct paging *paging, const struct paging_memory *memory,
                                const struct walk_second_stage *stage, u64 root, u64 address, unsigned access,
                                struct walk *result)
{
    (void)paging, (void)memory, (void)stage, (void)root, (void)address, (void)access, (void)result;
    assert(false);
    return WALK_FAULT;
}

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    (void)memory;
    assert(owed_reads == 1 && newest.status == WALK_OK && address.raw == newest.to && !maps_page());
    assert(bytes == spec_entry_bytes(FORMAT) && newest.access == second_table_access(&second));
    assert(newest.address == table + spec_index(FORMAT, level, linear) * bytes);
    owed_reads = 0;
    if (nondet_bool())
        return MEMORY_NOT_OWNED;
    *value = entry = bytes == 4 ? nondet_u64() & BITS(31, 0) : nondet_u64();
    /* A PDPTE of PAE has no rights, SDM vol. 3A table 4-8. */
    user = user && ((entry & 4) != 0 || (FORMAT == SPEC_PAE && level == 3));
    writable = writable && ((entry & 2) != 0 || (FORMAT == SPEC_PAE && level == 3));
    execute_disabled = execute_disabled || (guest.spec.nxe && entry >> 63 != 0);
    table = spec_entry_address(&guest.spec, level, entry);
    level--;
    return MEMORY_OK;
}

static void check_second_stage(const struct walk_2d *found, bool final, const struct spec_access *access)
{
    const struct spec_second_access to_final = {
        .kind = access->kind,
        .linear_user = user,
        .linear_write = writable,
        .linear_nx = execute_disabled,
        .shadow_stack = access->shadow_stack,
        .supervisor_shadow_stack = access->shadow_stack && !spec_user_mode_access(access),
        .cpl = spec_user_mode_access(access) ? 3 : 0,
    };
    const struct spec_second_access to_table = {.guest_table = true, .kind = SPEC_READ};

    assert(newest.access == second_access_bits(&second, final ? &to_final : &to_table));
    if (newest.status != WALK_OK)
        assert(found->host.fault.supplied == second_access_supplied(final ? &to_final : &to_table));
}

/* Of the entry that was read last. */
static void check_guest_fault(const struct fault *fault)
{
    assert(owed_reads == 0 && fault->level == level + 1 && fault->address == linear);
    if (!spec_present(&guest.spec, level + 1, entry))
        assert(fault->reason == FAULT_NOT_PRESENT);
    else if (!sound())
        assert(fault->reason == FAULT_RESERVED);
    else
        assert(fault->reason == FAULT_PERMISSION && maps_page());
}

static void check(enum walk_status status, const struct walk_2d *found, const struct spec_access *access)
{
    if (status == WALK_FAULT && found->stage == WALK_STAGE_GUEST) {
        check_guest_fault(&found->guest.fault);
        return;
    }
    if (status == WALK_NOT_MEMORY && found->stage == WALK_STAGE_GUEST) {
        assert(owed_reads == 0 && found->guest.entry[found->guest.level].address == newest.to);
        return;
    }
    assert(owed_reads == 1 && newest.status == status);
    check_second_stage(found, maps_page(), access);
    if (status != WALK_OK) {
        assert(found->stage == WALK_STAGE_HOST);
        return;
    }
    assert(maps_page() && found->address == newest.to && found->guest_address == newest.address);
    assert(newest.address == (table | (linear & (spec_entry_page_size(FORMAT, level + 1) - 1))));
}

/* SDM vol. 3A 4.4.1: PDPTEs of registers are not read, the walk starts at the entry below. */
static void any_pdptes(struct case_machine *machine)
{
    machine->pdpte_loaded = nondet_bool();
    for (unsigned i = 0; i < 4; i++)
        machine->pdpte[i] = nondet_u64();
}

int main(void)
{
    const struct paging_memory memory = {.load = load};
    struct case_machine machine = any_machine();
    struct spec_access access = any_access();
    struct walk_2d found;

    if (FORMAT == SPEC_PAE)
        any_pdptes(&machine);
    linear = any_guest(&guest, &machine);
    any_second_stage(&second, &host);
    host_root = nondet_u64();
    const struct walk_2d_tables tables = {&guest.code, guest.spec.root, &host, host_root};
    table = spec_root_table(&guest.spec);
    level = spec_levels(FORMAT);
    if (guest.spec.pdpte_loaded) {
        entry = guest.spec.pdpte[linear >> 30 & 3];
        table = spec_entry_address(&guest.spec, level, entry);
        level--;
    }
    check(MARK ? walk_2d_and_mark(&tables, &memory, linear, case_guest_access(&access), &found)
               : walk_2d(&tables, &memory, linear, case_guest_access(&access), &found),
          &found, &access);
    return 0;
}
