/* SPDX-License-Identifier: MIT */
/*
 * The paging core by example: roles from registers, the three encodings of a fault, flags set in a small set
 * of tables, and the walk that goes on outside the memory window. Every expected value is a literal from the
 * manual or from a hand-built table; the specification's tests do the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "mm/walk.h"

enum { ARENA_BYTES = 0x10000, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, PAGE = 0x5000 };

#define LINEAR 0x0000008040201ABCull /* entry 1 of each table */
#define MODE   (CR0_PE | CR0_PG | CR0_WP)

static const struct paging_cpu cpu = {.maxphyaddr = 46, .page_1g = true, .execute_only = true};
static _Alignas(4096) u8 arena[ARENA_BYTES];
static unsigned loads, races;

static enum memory_status load(const struct paging_memory *memory, gpa_t address, unsigned bytes, u64 *value)
{
    (void)memory;
    loads++;
    if (address.raw > ARENA_BYTES - bytes)
        return MEMORY_NOT_OWNED;
    *value = 0;
    memcpy(value, arena + address.raw, bytes);
    return MEMORY_OK;
}

/* While `races` lasts, another CPU sets a software bit in the entry just before. */
static enum memory_status compare_exchange(const struct paging_memory *memory, gpa_t address, unsigned bytes,
                                           u64 expected, u64 desired)
{
    u64 value = 0;

    (void)memory;
    memcpy(&value, arena + address.raw, bytes);
    if (races != 0) {
        races--;
        value ^= BIT(9);
        memcpy(arena + address.raw, &value, bytes);
    }
    if (value != expected)
        return MEMORY_CHANGED;
    memcpy(arena + address.raw, &desired, bytes);
    return MEMORY_OK;
}

static struct paging_memory memory = {.window = arena, .load = load, .compare_exchange = compare_exchange};

static void put(u64 address, u64 value)
{
    memcpy(arena + address, &value, sizeof(value));
}

static u64 get(u64 address)
{
    u64 value;

    memcpy(&value, arena + address, sizeof(value));
    return value;
}

static struct paging four_levels(u64 cr4, u64 flags)
{
    struct paging paging;

    memset(arena, 0, sizeof(arena));
    put(PML4 + 8, PDPT | flags);
    put(PDPT + 8, PD | flags);
    put(PD + 8, PT | flags);
    put(PT + 8, PAGE | flags);
    memory.window_bytes = ARENA_BYTES;
    loads = races = 0;
    paging_init(&paging, paging_role_guest(&cpu, MODE, cr4 | CR4_PAE, EFER_LMA | EFER_NXE));
    return paging;
}

static void roles(void **state)
{
    struct paging_role role = paging_role_guest(&cpu, 0, CR4_SMEP | CR4_PAE, EFER_NXE);

    (void)state;
    assert_int_equal(role.bits, PAGING_NONE); /* nothing matters without paging */

    /* Keys and 1-GByte pages exist in long mode only, PSE only in 32-bit paging, NXE not there. */
    role = paging_role_guest(&cpu, MODE, CR4_PKE | CR4_PKS | CR4_PSE, EFER_NXE);
    assert_int_equal(role.bits, PAGING_32BIT | 46 << 4 | ROLE_WP | ROLE_PSE);
    role = paging_role_guest(&cpu, MODE, CR4_PAE | CR4_PKE | CR4_PSE, EFER_NXE);
    assert_int_equal(role.bits, PAGING_PAE | 46 << 4 | ROLE_WP | ROLE_NXE);
    role = paging_role_guest(&cpu, CR0_PG, CR4_PAE | CR4_PKE | CR4_LA57, EFER_LMA);
    assert_int_equal(role.bits, PAGING_5LEVEL | 46 << 4 | ROLE_PKU | ROLE_PAGE_1G);

    role = paging_role_npt(&cpu, CR0_PG, CR4_PAE | CR4_SMAP | CR4_PKE | CR4_SMEP, EFER_LMA, true);
    assert_int_equal(role.bits,
                     PAGING_4LEVEL | 46 << 4 | ROLE_WP | ROLE_NPT | ROLE_GMET | ROLE_SMEP | ROLE_PAGE_1G);
    role = paging_role_ept(&cpu, 0x1000 | BIT(7) | BIT(6) | 4 << 3 | 6, true, true);
    assert_int_equal(role.bits, PAGING_EPT5 | 46 << 4 | ROLE_MBEC | ROLE_EXECUTE_ONLY | ROLE_EPT_AD |
                                    ROLE_EPT_SSS | ROLE_SPP | ROLE_PAGE_1G);
}

static void page_fault_error_codes(void **state)
{
    struct paging paging = four_levels(0, PTE_P | PTE_W);
    struct walk result;

    (void)state;
    assert_int_equal(walk(&paging, &memory, PML4, LINEAR, ACCESS_USER | ACCESS_FETCH, &result), WALK_FAULT);
    assert_int_equal(fault_pf_error_code(paging.role, &result.fault), 0x15); /* I/D, U, P */
    assert_int_equal(walk(&paging, &memory, PML4, LINEAR + MIB(2), ACCESS_WRITE, &result), WALK_FAULT);
    assert_int_equal(fault_pf_error_code(paging.role, &result.fault), 0x2);
    assert_int_equal(result.fault.level, 2);
    put(PD + 8, PT | PTE_P | BIT(50));
    assert_int_equal(walk(&paging, &memory, PML4, LINEAR, ACCESS_READ, &result), WALK_FAULT);
    assert_int_equal(fault_pf_error_code(paging.role, &result.fault), 0x9); /* RSVD, P */
}

/* APM vol. 2 15.25.6: not present, U/S, NX, GMET, and a write to a read-only guest table. */
static void nested_page_fault_info(void **state)
{
    struct paging_role role = paging_role_npt(&cpu, MODE, CR4_PAE, EFER_LMA | EFER_NXE, false);
    struct paging_role gmet = paging_role_npt(&cpu, MODE, CR4_PAE, EFER_LMA | EFER_NXE, true);
    struct fault fault = {.reason = FAULT_NOT_PRESENT, .supplied = FAULT_LINEAR_VALID | FAULT_FINAL};

    (void)state;
    assert_int_equal(fault_npf_exit_info_1(role, &fault), 0x100000004);
    fault.reason = FAULT_PERMISSION;
    assert_int_equal(fault_npf_exit_info_1(role, &fault), 0x100000005);
    fault.access = ACCESS_FETCH;
    assert_int_equal(fault_npf_exit_info_1(role, &fault), 0x100000015);
    assert_int_equal(fault_npf_exit_info_1(gmet, &fault), 0x100000011);
    fault = (struct fault){
        .reason = FAULT_PERMISSION, .access = ACCESS_WRITE | ACCESS_USER, .supplied = FAULT_LINEAR_VALID};
    assert_int_equal(fault_npf_exit_info_1(gmet, &fault), 0x200000007);

    /* Erratum 1218: U/S of a fetch is the VMCB's CPL, whatever bit 2 says. */
    assert_int_equal(fault_npf_access(0x100000015, 0, true), ACCESS_FETCH);
    assert_int_equal(fault_npf_access(0x100000011, 3, true), ACCESS_FETCH | ACCESS_USER);
    assert_int_equal(fault_npf_access(0x200000007, 0, true), ACCESS_WRITE | ACCESS_USER);
}

static void ept_qualifications(void **state)
{
    struct paging_role role = paging_role_ept(&cpu, 3 << 3 | 6 | BIT(6), true, false);
    struct fault fault = {.reason = FAULT_PERMISSION,
                          .access = ACCESS_WRITE,
                          .rights = RIGHT_R | RIGHT_XU,
                          .supplied = FAULT_LINEAR_VALID | FAULT_LINEAR_USER};

    (void)state;
    assert_int_equal(fault_ept_qualification(role, &fault, true), 0xCB); /* with A/D a table is read, too */
    /* Without, it is a flag of a guest's entry that is to be written: a read-modify-write. */
    assert_int_equal(fault_ept_qualification(paging_role_ept(&cpu, 3 << 3 | 6, true, false), &fault, true),
                     0xCB);
    fault.supplied |= FAULT_FINAL;
    assert_int_equal(fault_ept_qualification(role, &fault, true), 0x3CA);
    assert_int_equal(fault_ept_qualification(role, &fault, false), 0x1CA);
    fault.reason = FAULT_NOT_PRESENT;
    assert_int_equal(fault_ept_qualification(role, &fault, false), 0x182);
}

static void flags_are_set(void **state)
{
    struct paging paging = four_levels(0, PTE_P | PTE_W | PTE_U);
    struct walk result;

    (void)state;
    assert_int_equal(walk(&paging, &memory, PML4, LINEAR, ACCESS_WRITE, &result), WALK_OK);
    assert_int_equal(get(PT + 8), 0x5007);
    assert_int_equal(walk_and_mark(&paging, &memory, PML4, LINEAR, ACCESS_READ, &result), WALK_OK);
    assert_int_equal(get(PML4 + 8), 0x2027);
    assert_int_equal(get(PT + 8), 0x5027);
    assert_int_equal(walk_and_mark(&paging, &memory, PML4, LINEAR, ACCESS_WRITE, &result), WALK_OK);
    assert_int_equal(get(PD + 8), 0x4027);
    assert_int_equal(get(PT + 8), 0x5067);
    assert_int_equal(result.address, PAGE | 0xABC);
    assert_int_equal(result.entry[1].address, PT + 8);
    assert_int_equal(result.entry[1].value, 0x5067);
    assert_int_equal(result.entry[2].value, 0x4027);
}

static void no_flags_for_a_fault(void **state)
{
    struct paging paging = four_levels(0, PTE_P | PTE_U);
    struct walk result;

    (void)state;
    assert_int_equal(walk_and_mark(&paging, &memory, PML4, LINEAR, ACCESS_WRITE, &result), WALK_FAULT);
    assert_int_equal(get(PML4 + 8), 0x2005);
}

static void races_are_bounded(void **state)
{
    struct paging paging = four_levels(0, PTE_P | PTE_W | PTE_U);
    struct walk result;

    (void)state;
    races = WALK_ATTEMPTS - 1;
    assert_int_equal(walk_and_mark(&paging, &memory, PML4, LINEAR, ACCESS_WRITE, &result), WALK_OK);
    assert_int_equal(get(PML4 + 8), 0x2227);
    paging = four_levels(0, PTE_P | PTE_W | PTE_U);
    races = WALK_ATTEMPTS;
    assert_int_equal(walk_and_mark(&paging, &memory, PML4, LINEAR, ACCESS_WRITE, &result), WALK_CONTENDED);
}

/* What is not in the window is loaded by call, entry by entry, each once. */
static void outside_the_window(void **state)
{
    struct paging paging = four_levels(0, PTE_P | PTE_W | PTE_U);
    struct walk result;

    (void)state;
    memory.window_bytes = PD; /* holds the first two tables */
    assert_int_equal(walk(&paging, &memory, PML4, LINEAR, ACCESS_READ, &result), WALK_OK);
    assert_int_equal(result.address, PAGE | 0xABC);
    assert_int_equal(loads, 2);

    put(PD + 8, 0x123456000 | PTE_P);
    assert_int_equal(walk(&paging, &memory, PML4, LINEAR, ACCESS_READ, &result), WALK_NOT_MEMORY);
    assert_int_equal(result.level, 1);
    assert_int_equal(result.entry[1].address, 0x123456008);
}

static void loaded_pdptes(void **state)
{
    const u64 registers[4] = {0, PD | PTE_P, 0, 0};
    struct paging paging = four_levels(0, PTE_P | PTE_W | PTE_U);
    struct walk result;

    (void)state;
    paging_init(&paging, paging_role_guest(&cpu, MODE, CR4_PAE, 0));
    paging.pdptes = registers;
    assert_int_equal(walk_and_mark(&paging, &memory, ~0ull, 0x40201ABC, ACCESS_WRITE, &result), WALK_OK);
    assert_int_equal(result.address, PAGE | 0xABC);
    assert_int_equal(result.entry[3].address, ~0ull);
    assert_int_equal(walk(&paging, &memory, ~0ull, 0x201ABC, ACCESS_READ, &result), WALK_FAULT);
    assert_int_equal(result.fault.level, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles),
        cmocka_unit_test(page_fault_error_codes),
        cmocka_unit_test(nested_page_fault_info),
        cmocka_unit_test(ept_qualifications),
        cmocka_unit_test(flags_are_set),
        cmocka_unit_test(no_flags_for_a_fault),
        cmocka_unit_test(races_are_bounded),
        cmocka_unit_test(outside_the_window),
        cmocka_unit_test(loaded_pdptes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
