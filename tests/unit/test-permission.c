/* SPDX-License-Identifier: MIT */
/*
 * The permission engine against the specification, exhaustively: every role, every access and every set of
 * rights by look-up, with every protection key; and every combination of permission bits in two and three
 * levels of real tables, through the walker, with the encoding of each fault.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "tests/unit/paging-case.h"

static struct case_memory memory;
static struct spec_access accesses[CASE_ACCESSES_MAX];
static unsigned access_count;

enum { SECOND_ACCESSES = 24 };
static struct spec_second_access second_accesses[SECOND_ACCESSES];
static unsigned second_access_count;

/* Final accesses to a guest-physical address: what EPT or NPT can tell apart. */
static void make_second_accesses(void)
{
    for (unsigned cpl = 0; cpl < 4; cpl += 3) {
        for (unsigned user = 0; user < 2; user++) {
            struct spec_second_access access = {.cpl = cpl, .linear_user = user != 0};

            for (access.kind = SPEC_READ; access.kind <= SPEC_FETCH; access.kind++)
                second_accesses[second_access_count++] = access;
            access.shadow_stack = true;
            access.supervisor_shadow_stack = user == 0;
            access.kind = SPEC_READ;
            second_accesses[second_access_count++] = access;
            access.kind = SPEC_WRITE;
            second_accesses[second_access_count++] = access;
        }
    }
}

static int set_up(void **state)
{
    (void)state;
    case_memory_init(&memory);
    access_count = case_accesses(accesses);
    make_second_accesses();
    return 0;
}

/* Bits of `n` choose the modes; false for a state that no CPU can be in: CR4.CET without CR0.WP. */
enum { GUEST_MODES = 1 << 7 };
static bool guest_machine(unsigned n, enum spec_format format, struct case_machine *machine)
{
    *machine = (struct case_machine){.cpu = {.maxphyaddr = 46, .page_1g = true}, .cr0 = CR0_PE | CR0_PG};
    machine->cr0 |= (n & 1) != 0 ? CR0_WP : 0;
    machine->efer |= (n & 2) != 0 ? EFER_NXE : 0;
    machine->cr4 |= (n & 4) != 0 ? CR4_SMEP : 0;
    machine->cr4 |= (n & 8) != 0 ? CR4_SMAP : 0;
    machine->cr4 |= (n & 16) != 0 ? CR4_PKE : 0;
    machine->cr4 |= (n & 32) != 0 ? CR4_PKS : 0;
    machine->cr4 |= (n & 64) != 0 ? CR4_CET : 0;
    machine->cr4 |= format == SPEC_32BIT ? 0 : CR4_PAE;
    machine->cr4 |= format == SPEC_LONG5 ? CR4_LA57 : 0;
    machine->efer |= format == SPEC_LONG4 || format == SPEC_LONG5 ? EFER_LME | EFER_LMA : 0;
    return (n & 64) == 0 || (n & 1) != 0;
}

enum { EPT_MODES = 1 << 5 };
static struct case_ept ept_machine(unsigned n, enum spec_format format)
{
    return (struct case_ept){
        .cpu = {.maxphyaddr = 46, .page_1g = true, .execute_only = (n & 1) != 0},
        .eptp = 6u | (format == SPEC_EPT5 ? 4u << 3 : 3u << 3) | ((n & 2) != 0 ? BIT(6) : 0) |
                ((n & 4) != 0 ? BIT(7) : 0),
        .mbec = (n & 8) != 0,
        .advanced = (n & 16) != 0,
    };
}

/* --- the look-up
 * ----------------------------------------------------------------------------------------------------- */

/*
 * Two entries, of level 2 and of level 1, that together have exactly these rights. False: none have: a
 * shadow-stack page is not writable in guest tables, and in EPT it is readable.
 */
static bool path_of_rights(const struct spec_paging *spec, unsigned rights, unsigned key,
                           struct spec_path *path)
{
    bool ept = spec_is_ept(spec->format);
    u64 top = ept ? 0x407 : 0x7, leaf;

    if (ept) {
        leaf = (rights & (RIGHT_R | RIGHT_W)) | ((rights & RIGHT_X) != 0 ? 0x4 : 0) |
               ((rights & RIGHT_XU) != 0 ? 0x400 : 0) | ((rights & RIGHT_SS) != 0 ? BIT(60) : 0);
        if ((rights & RIGHT_SS) != 0 && ((rights & RIGHT_R) == 0 || !spec->supervisor_shadow_stack))
            return false;
        if ((rights & RIGHT_XU) != 0 && !spec->mbec)
            return false;
    } else {
        leaf = 1 | (u64)key << 59;
        leaf |= (rights & RIGHT_W) != 0 ? 0x2 : 0;
        leaf |= (rights & RIGHT_U) != 0 ? 0x4 : 0;
        leaf |= (rights & RIGHT_SS) != 0 ? 0x40 : 0;
        leaf |= (rights & RIGHT_X) != 0 ? 0 : BIT(63);
        if ((rights & (RIGHT_SS | RIGHT_W)) == (RIGHT_SS | RIGHT_W) ||
            (rights & (RIGHT_R | RIGHT_XU)) != RIGHT_R)
            return false;
    }
    *path = (struct spec_path){.count = 2, .step = {{.entry = top, .level = 2}, {.entry = leaf, .level = 1}}};
    return true;
}

static void fail_lookup(const struct spec_paging *spec, unsigned access, unsigned rights, unsigned key,
                        bool allowed)
{
    printf("access %#x, rights %#x, key %u: the specification %s it\n", access, rights, key,
           allowed ? "allows" : "forbids");
    case_print_tables("tables", spec);
    fail();
}

/* All rights for one guest role and one value of the key's two bits. */
static u64 lookups_guest(const struct case_tables *tables, unsigned key)
{
    u64 cases = 0;

    for (unsigned a = 0; a < access_count; a++) {
        unsigned access = case_guest_access(&accesses[a]);

        for (unsigned rights = 0; rights < RIGHTS_COMBINATIONS; rights++) {
            struct spec_path path;
            bool allowed, key_denies;

            if (!path_of_rights(&tables->spec, rights, key, &path))
                continue;
            allowed = spec_permission_guest(&tables->spec, &accesses[a], &path);
            key_denies = spec_key_denies(&tables->spec, &accesses[a], &path);
            if (permission_faults(&tables->code.permission, access, rights, key) == allowed ||
                permission_key_faults(&tables->code.permission, access, rights, key) != key_denies ||
                (permission_rights_fault(&tables->code.permission, access, rights) || key_denies) == allowed)
                fail_lookup(&tables->spec, access, rights, key, allowed);
            cases++;
        }
    }
    return cases;
}

static void guest_lookups(void **state)
{
    u64 cases = 0;

    (void)state;
    for (enum spec_format format = SPEC_32BIT; format <= SPEC_LONG5; format++) {
        for (unsigned n = 0; n < GUEST_MODES; n++) {
            struct case_machine machine;
            struct case_tables tables;

            if (!guest_machine(n, format, &machine))
                continue;
            /* Each key in turn with each of its four values, all other keys with the opposite value. */
            for (unsigned key = 0; key < (format >= SPEC_LONG4 ? 16 : 1); key++) {
                for (u32 value = 0; value < 16; value++) {
                    machine.pkru = (0x55555555u * ((value ^ 3) & 3) & ~(3u << 2 * key)) | (value & 3)
                                                                                              << 2 * key;
                    machine.pkrs = (0x55555555u * ((value >> 2) ^ 3) & ~(3u << 2 * key)) | (value >> 2)
                                                                                               << 2 * key;
                    case_guest(&tables, &machine);
                    cases += lookups_guest(&tables, key);
                }
            }
        }
    }
    printf("  %llu look-ups for guest tables compared\n", (unsigned long long)cases);
    assert_true(cases > 1000000);
}

static u64 lookups_second(const struct spec_second *second, const struct case_tables *tables)
{
    u64 cases = 0;

    for (unsigned a = 0; a < second_access_count; a++) {
        unsigned access = case_second_access(second, &second_accesses[a]);

        for (unsigned rights = 0; rights < RIGHTS_COMBINATIONS; rights++) {
            struct spec_path path;
            bool allowed;

            if (!path_of_rights(&tables->spec, rights, 0, &path))
                continue;
            allowed = second->kind == SPEC_SECOND_EPT
                          ? spec_permission_ept(&tables->spec, &second_accesses[a], &path)
                          : spec_permission_npt(&tables->spec, &second_accesses[a], &path);
            if (permission_rights_fault(&tables->code.permission, access, rights) == allowed)
                fail_lookup(&tables->spec, access, rights, 0, allowed);
            cases++;
        }
    }
    return cases;
}

static void second_level_lookups(void **state)
{
    struct spec_second second = {.kind = SPEC_SECOND_NPT};
    struct case_machine machine;
    struct case_tables tables;
    u64 cases = 0;

    (void)state;
    for (enum spec_format format = SPEC_32BIT; format <= SPEC_LONG5; format++) {
        for (unsigned n = 0; n < GUEST_MODES * 2; n++) {
            if (!guest_machine(n % GUEST_MODES, format, &machine))
                continue;
            case_npt(&tables, &machine, n >= GUEST_MODES);
            cases += lookups_second(&second, &tables);
        }
    }
    second.kind = SPEC_SECOND_EPT;
    for (enum spec_format format = SPEC_EPT4; format <= SPEC_EPT5; format++) {
        for (unsigned n = 0; n < EPT_MODES; n++) {
            struct case_ept ept = ept_machine(n, format);

            case_ept(&tables, &ept);
            cases += lookups_second(&second, &tables);
        }
    }
    printf("  %llu look-ups for NPT and EPT compared\n", (unsigned long long)cases);
    assert_true(cases > 100000);
}

/* The excluded combinations of access bits answer like the nearest real one (mm/permission.h). */
static void excluded_accesses(void **state)
{
    struct case_machine machine;
    struct case_tables tables;

    (void)state;
    for (unsigned n = 0; n < GUEST_MODES; n++) {
        if (!guest_machine(n, SPEC_LONG4, &machine))
            continue;
        case_guest(&tables, &machine);
        for (unsigned access = 0; access < ACCESS_KINDS; access++) {
            unsigned real = access;

            if ((access & ACCESS_FETCH) != 0)
                real &= (unsigned)(ACCESS_FETCH | ACCESS_USER);
            if ((access & ACCESS_USER) != 0)
                real &= ~(unsigned)ACCESS_AC;
            assert_true(tables.code.permission.faults[access] == tables.code.permission.faults[real]);
            assert_true(tables.code.permission.key_bits[access] == tables.code.permission.key_bits[real]);
        }
    }
}

/* --- combinations through the levels
 * ------------------------------------------------------------------------------ */

enum { FRAME_OF_LEVEL = 2 }; /* the table of level n lies in frame n + FRAME_OF_LEVEL */

static u64 table_at(unsigned level)
{
    return (u64)(level + FRAME_OF_LEVEL) * PAGE_SIZE;
}

/* The lowest bits of `combination` become permission bits of an entry. Returns how many were used. */
static unsigned guest_combination(const struct spec_paging *spec, bool leaf, u64 combination, u64 *bits)
{
    unsigned used = 2;

    *bits = 1 | (combination & 3) << 1; /* R/W, U/S */
    if (spec->format != SPEC_32BIT && spec->nxe)
        *bits |= (combination >> used++ & 1) << 63;
    if (leaf)
        *bits |= (combination >> used++ & 1) << 6; /* D */
    return used;
}

static unsigned ept_combination(bool leaf, u64 combination, u64 *bits)
{
    *bits = (combination & 7) | (combination >> 3 & 1) << 10;
    if (!leaf)
        return 4;
    *bits |= (combination >> 4 & 1) << 60;
    return 5;
}

/* Writes the `depth` lowest levels' entries down to a leaf of `leaf_level`; all others allow all. Returns
 * false when `combination` is used up.
 */
static bool build_combination(const struct case_tables *tables, unsigned leaf_level, unsigned depth,
                              u64 combination, u64 key)
{
    const struct spec_paging *spec = &tables->spec;
    bool ept = spec_is_ept(spec->format);

    for (unsigned level = leaf_level; level <= spec_levels(spec->format); level++) {
        bool leaf = level == leaf_level;
        u64 bits = ept ? 0x407 : spec->format == SPEC_PAE && level == 3 ? 1 : 7;
        u64 entry = (leaf ? 0 : table_at(level - 1)) | (leaf && level > 1 ? 0x80 : 0);

        if (level < leaf_level + depth) {
            unsigned used = ept ? ept_combination(leaf, combination, &bits)
                                : guest_combination(spec, leaf, combination, &bits);

            combination >>= used;
        }
        entry |= bits | (leaf ? key << 59 : 0);
        case_poke(&memory, table_at(level), spec_entry_bytes(spec->format), entry);
    }
    return combination == 0;
}

static void fail_levels(const struct case_tables *tables, const char *what,
                        const struct spec_translation *spec, enum walk_status status, const struct walk *code)
{
    printf("%s differs\n", what);
    case_print_tables("tables", &tables->spec);
    case_print_translation("specification", spec);
    case_print_walk("walk", status, code);
}

static u64 compare_guest_levels(struct case_tables *tables)
{
    for (unsigned a = 0; a < access_count; a++) {
        struct spec_translation spec = spec_walk(&tables->spec, &memory.spec, 0, &accesses[a], NULL);
        struct walk code;
        enum walk_status status =
            walk(&tables->code, &memory.code, tables->spec.root, 0, case_guest_access(&accesses[a]), &code);
        const char *wrong = case_compare_walk(tables, &spec, status, &code);

        if (wrong != NULL) {
            case_print_access(&accesses[a]);
            fail_levels(tables, wrong, &spec, status, &code);
            fail();
        }
    }
    return access_count;
}

static u64 compare_second_levels(struct spec_second *second, struct case_tables *tables)
{
    second->tables = tables->spec;
    for (unsigned a = 0; a < second_access_count; a++) {
        const struct spec_second_access *access = &second_accesses[a];
        struct spec_translation spec = spec_walk_second(second, &memory.spec, 0, access, NULL);
        struct walk code;
        enum walk_status status = walk(&tables->code, &memory.code, tables->spec.root, 0,
                                       case_second_access(second, access), &code);
        const char *wrong;

        code.fault.supplied =
            (u32)(FAULT_LINEAR_VALID | FAULT_FINAL | (access->linear_user ? FAULT_LINEAR_USER : 0));
        wrong = case_compare_second(second, tables, &spec, status, &code);
        if (wrong != NULL) {
            printf("access kind %u cpl %u user %d ss %d supervisor ss %d\n", access->kind, access->cpl,
                   access->linear_user, access->shadow_stack, access->supervisor_shadow_stack);
            fail_levels(tables, wrong, &spec, status, &code);
            fail();
        }
    }
    return second_access_count;
}

/* Leaves of a format: the level of the leaf, and how many levels above and with it carry combinations. */
static const struct {
    enum spec_format format;
    unsigned leaf_level, depth;
} shapes[] = {
    {SPEC_32BIT, 1, 2}, {SPEC_32BIT, 2, 1}, {SPEC_PAE, 1, 2},   {SPEC_PAE, 2, 2},   {SPEC_LONG4, 3, 2},
    {SPEC_LONG4, 2, 3}, {SPEC_LONG4, 1, 2}, {SPEC_LONG5, 3, 3}, {SPEC_LONG5, 1, 2},
};

static void start_tables(struct case_tables *tables)
{
    case_memory_place(&memory, 0);
    tables->spec.root = table_at(spec_levels(tables->spec.format));
}

static void guest_levels(void **state)
{
    struct case_machine machine;
    struct case_tables tables;
    u64 cases = 0;

    (void)state;
    for (unsigned s = 0; s < ARRAY_SIZE(shapes); s++) {
        for (unsigned n = 0; n < GUEST_MODES; n++) {
            bool keys = shapes[s].format >= SPEC_LONG4 && (n & (16 | 32)) != 0;

            if (!guest_machine(n, shapes[s].format, &machine))
                continue;
            machine.cr4 |= CR4_PSE;
            machine.pkru = 0xE4; /* keys 0 to 3: allow, AD, WD, both */
            machine.pkrs = 0x1B; /* both, WD, AD, allow */
            case_guest(&tables, &machine);
            start_tables(&tables);
            for (u64 combination = 0; build_combination(&tables, shapes[s].leaf_level, shapes[s].depth,
                                                        combination, keys ? combination % 4 : 0);
                 combination++)
                cases += compare_guest_levels(&tables);
        }
    }
    printf("  %llu walks of guest tables, every combination of permission bits, compared\n",
           (unsigned long long)cases);
    assert_true(cases > 1000000);
}

static void second_levels(void **state)
{
    struct spec_second second = {.kind = SPEC_SECOND_NPT};
    struct case_machine machine;
    struct case_tables tables;
    u64 cases = 0;

    (void)state;
    for (unsigned s = 0; s < ARRAY_SIZE(shapes); s++) {
        for (unsigned n = 0; n < 16; n++) { /* WP, NXE, SMEP; GMET */
            (void)guest_machine(n % 8, shapes[s].format, &machine);
            machine.cr4 |= CR4_PSE;
            case_npt(&tables, &machine, n >= 8);
            start_tables(&tables);
            for (u64 combination = 0;
                 build_combination(&tables, shapes[s].leaf_level, shapes[s].depth, combination, 0);
                 combination++)
                cases += compare_second_levels(&second, &tables);
        }
    }
    second.kind = SPEC_SECOND_EPT;
    for (unsigned n = 0; n < EPT_MODES; n++) {
        struct case_ept ept = ept_machine(n, (n & 16) != 0 ? SPEC_EPT5 : SPEC_EPT4);

        second.advanced = ept.advanced;
        for (unsigned leaf_level = 1; leaf_level <= 3; leaf_level++) {
            unsigned depth = leaf_level == 2 ? 3 : 2;

            case_ept(&tables, &ept);
            start_tables(&tables);
            for (u64 combination = 0; build_combination(&tables, leaf_level, depth, combination, 0);
                 combination++)
                cases += compare_second_levels(&second, &tables);
        }
    }
    printf("  %llu walks of NPT and EPT, every combination of permission bits, compared\n",
           (unsigned long long)cases);
    assert_true(cases > 1000000);
}

/*
 * From EXITINFO1 back to the access, as hardware reports it: under GMET with bit 2 right and, by erratum
 * 1218, wrong for a fetch.
 */
static void accesses_from_exit_info(void **state)
{
    struct spec_paging npt = {.format = SPEC_LONG4, .nxe = true, .maxphyaddr = 48};

    (void)state;
    for (unsigned gmet = 0; gmet < 2; gmet++) {
        npt.gmet = gmet != 0;
        for (unsigned a = 0; a < second_access_count; a++) {
            const struct spec_second_access *access = &second_accesses[a];
            u64 info = spec_npf_exitinfo1(&npt, access, true, false);
            bool fetch = access->kind == SPEC_FETCH;
            unsigned bits = fault_npf_access(info, access->cpl, gmet != 0);

            assert_int_equal((bits & ACCESS_WRITE) != 0, access->kind == SPEC_WRITE);
            assert_int_equal((bits & ACCESS_FETCH) != 0, fetch);
            assert_int_equal((bits & ACCESS_SHADOW_STACK) != 0, access->shadow_stack);
            if (gmet != 0)
                assert_int_equal((bits & ACCESS_USER) != 0, access->cpl == 3);
            if (gmet != 0 && fetch)
                assert_int_equal(fault_npf_access(info ^ 0x4, access->cpl, true), bits);
        }
        /* A write to a read-only guest table: APM vol. 2 15.25.6. */
        assert_int_equal(fault_npf_access(0x200000007, 0, gmet != 0), ACCESS_WRITE | ACCESS_USER);
    }
}

/*
 * Whatever a fault holds, the encodings set no bit that is reserved, and no bit that another bit rules out:
 * table 28-7 (9 to 11 only with 7 and 8), SDM vol. 3A 4.7 (no RSVD without P), APM vol. 2 15.25.6 (32 or 33).
 */
static void check_encodings(struct paging_role role, const struct fault *fault)
{
    bool not_present = fault->reason == FAULT_NOT_PRESENT;
    u32 code = fault_pf_error_code(role, fault);
    u64 info = fault_npf_exit_info_1(role, fault);

    assert_true((code & ~0x7Fu) == 0 && (info & ~0x30000007Full) == 0);
    assert_true(((code & 1) == 0) == not_present && ((info & 1) == 0) == not_present);
    assert_true((code & 0x28) == 0 || (code & 1) != 0);
    assert_true((code & 0x12) != 0x12 && (info & 0x12) != 0x12);
    assert_true((info >> 32 == 1) == ((fault->supplied & BIT(8)) != 0) &&
                (info >> 32 == 1 || info >> 32 == 2));
    for (unsigned advanced = 0; advanced < 2; advanced++) {
        u64 qualification = fault_ept_qualification(role, fault, advanced != 0);

        assert_true((qualification & ~0x1FFFFull) == 0);
        assert_true((qualification & 0xE00) == 0 || (advanced != 0 && (qualification & 0x180) == 0x180));
        assert_true((qualification & 0x180) != 0x100);
        assert_true((qualification & 0x78) == 0 || fault->reason == FAULT_PERMISSION);
        if (fault->reason == FAULT_RESERVED)
            assert_true(qualification == 0);
    }
}

static void encodings_set_no_reserved_bits(void **state)
{
    struct case_machine machine;
    struct paging_role roles[4];
    u64 cases = 0;

    (void)state;
    (void)guest_machine(GUEST_MODES - 1, SPEC_LONG4, &machine);
    roles[0] = paging_role_guest(&machine.cpu, machine.cr0, machine.cr4, machine.efer);
    roles[1] = paging_role_npt(&machine.cpu, machine.cr0, machine.cr4, machine.efer, true);
    for (unsigned i = 2; i < 4; i++) {
        struct case_ept ept = ept_machine(i == 2 ? 0 : EPT_MODES - 1, SPEC_EPT4);

        roles[i] = paging_role_ept(&ept.cpu, ept.eptp, ept.mbec, ept.spp);
    }
    for (u32 n = 0; n < 1u << 21; n++) {
        struct fault fault = {.reason = (u8)(n % 3 + FAULT_NOT_PRESENT),
                              .access = (u8)(n & (ACCESS_KINDS - 1)),
                              .supplied = n >> 5 << 7,
                              .key = (n & 0x200) != 0,
                              .ss_entry = (n & 0x400) != 0 && n % 3 + FAULT_NOT_PRESENT == FAULT_PERMISSION};

        if (fault.reason == FAULT_PERMISSION)
            fault.rights = (u8)(n >> 15);
        for (unsigned i = 0; i < ARRAY_SIZE(roles); i++, cases++)
            check_encodings(roles[i], &fault);
    }
    printf("  %llu faults encoded without a reserved bit\n", (unsigned long long)cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_lookups),
        cmocka_unit_test(second_level_lookups),
        cmocka_unit_test(excluded_accesses),
        cmocka_unit_test(guest_levels),
        cmocka_unit_test(second_levels),
        cmocka_unit_test(accesses_from_exit_info),
        cmocka_unit_test(encodings_set_no_reserved_bits),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
