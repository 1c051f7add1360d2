/* SPDX-License-Identifier: MIT */
/* Finding the RSDP and the CPUs, in tables made by hand, whole and damaged. */
#include "drivers/acpi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    MEMORY = 0x110000,
    RSDP = 0xf5000,
    RSDT = 0x100000,
    XSDT = 0x101000,
    MADT = 0x102000,
    OTHER = 0x103000
};

static u8 *memory;

static void put(u64 at, u64 value, unsigned bytes)
{
    memcpy(memory + at, &value, bytes);
}

static void seal(u64 table, u64 bytes, u64 checksum_at)
{
    u8 sum = 0;
    memory[table + checksum_at] = 0;
    for (u64 i = 0; i < bytes; i++)
        sum = (u8)(sum + memory[table + i]);
    memory[table + checksum_at] = (u8)-sum;
}

static void make_table(u64 at, const char *signature, u32 bytes)
{
    memcpy(memory + at, signature, 4);
    put(at + 4, bytes, 4);
    seal(at, bytes, 9);
}

/* Two enabled local APICs, a disabled one (of them online-capable), an I/O APIC, an enabled x2APIC, and the
 * second CPU once more. */
static void make_machine(u8 revision)
{
    static const u8 entries[] = {
        0, 8, 0,  0, 1, 0, 0, 0,  0, 8, 1, 1, 1, 0, 0,  0, 0, 8, 2, 2, 2, 0, 0,
        0, 1, 12, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 9, 16, 0, 0, 3, 1, 0, 0, 1, 0,
        0, 0, 0,  0, 0, 0, 9, 16, 0, 0, 1, 0, 0, 0, 1,  0, 0, 0, 7, 0, 0, 0,
    };
    memset(memory, 0, MEMORY);
    memcpy(memory + MADT + 44, entries, sizeof(entries));
    make_table(MADT, "APIC", 44 + sizeof(entries));
    make_table(OTHER, "FACP", 64);
    put(RSDT + 36, OTHER, 4);
    put(RSDT + 40, MADT, 4);
    make_table(RSDT, "RSDT", 44);
    put(XSDT + 36, MADT, 8);
    make_table(XSDT, "XSDT", 44);
    memcpy(memory + RSDP, "RSD PTR ", 8);
    memory[RSDP + 15] = revision;
    put(RSDP + 16, RSDT, 4);
    put(RSDP + 20, 36, 4);
    put(RSDP + 24, XSDT, 8);
    seal(RSDP, 20, 8);
}

static unsigned count_cpus(const struct acpi_window *w, const u8 *rsdp, size_t bytes)
{
    struct acpi_cpus cpus;
    memset(&cpus, 0xa5, sizeof(cpus));
    acpi_find_cpus(w, rsdp, bytes, &cpus);
    return cpus.count;
}

static struct acpi_window window(void)
{
    return (struct acpi_window){memory, MEMORY};
}

static void test_find_and_count(void **state)
{
    (void)state;
    for (u8 revision = 0; revision <= 2; revision = (u8)(revision + 2)) {
        struct acpi_window w = window();
        make_machine(revision);
        assert_int_equal(acpi_find_rsdp(&w), RSDP);
        assert_int_equal(count_cpus(&w, memory + RSDP, 36), 3);
    }
}

static void test_ids(void **state)
{
    (void)state;
    struct acpi_window w = window();
    struct acpi_cpus cpus;
    make_machine(2);
    acpi_find_cpus(&w, memory + RSDP, 36, &cpus);
    assert_int_equal(cpus.count, 3);
    assert_int_equal(cpus.apic_id[0], 0);
    assert_int_equal(cpus.apic_id[1], 1);
    assert_int_equal(cpus.apic_id[2], 0x103);
}

/* More CPUs than there is room for are counted, not stored. */
static void test_many(void **state)
{
    (void)state;
    struct acpi_window w = window();
    struct {
        struct acpi_cpus cpus;
        u32 beyond;
    } guarded = {.beyond = 0x5a5a5a5a};
    const unsigned many = 200;
    make_machine(0);
    for (unsigned i = 0; i < many; i++) {
        const u8 entry[8] = {0, 8, (u8)i, (u8)i, 1, 0, 0, 0};
        memcpy(memory + MADT + 44 + (size_t)i * 8, entry, 8);
    }
    make_table(MADT, "APIC", 44 + many * 8);
    acpi_find_cpus(&w, memory + RSDP, 20, &guarded.cpus);
    assert_int_equal(guarded.cpus.count, many);
    assert_int_equal(guarded.cpus.apic_id[ACPI_CPUS_MAX - 1], ACPI_CPUS_MAX - 1);
    assert_int_equal(guarded.beyond, 0x5a5a5a5a);
}

static void test_ebda_comes_first(void **state)
{
    (void)state;
    struct acpi_window w = window();
    make_machine(0);
    put(0x40e, 0x9fc0, 2);
    memcpy(memory + 0x9fc10, memory + RSDP, 20);
    assert_int_equal(acpi_find_rsdp(&w), 0x9fc10);
    memory[0x9fc10 + 9] ^= 1;
    assert_int_equal(acpi_find_rsdp(&w), RSDP);
}

static void test_damage(void **state)
{
    (void)state;
    struct acpi_window w = window();
    make_machine(0);
    memory[MADT + 50] ^= 1;
    assert_int_equal(count_cpus(&w, memory + RSDP, 20), 0);
    make_machine(0);
    assert_int_equal(count_cpus(&w, memory + RSDP, 19), 0);
    put(MADT + 4, 0xffffffff, 4);
    assert_int_equal(count_cpus(&w, memory + RSDP, 20), 0);
    make_machine(0);
    memory[MADT + 45] = 0; /* an entry of length zero must not loop */
    seal(MADT, 44 + 68, 9);
    assert_int_equal(count_cpus(&w, memory + RSDP, 20), 0);

    srand(1);
    for (unsigned run = 0; run < 300; run++) {
        make_machine(rand() % 2 ? 2 : 0);
        for (unsigned i = 0; i < 4; i++) {
            static const u64 tables[] = {RSDT, XSDT, MADT, RSDP};
            u64 table = tables[rand() % 4];
            memory[table + (u64)(rand() % 64)] = (u8)rand();
            u32 length;
            memcpy(&length, memory + table + 4, 4);
            seal(table, table == RSDP ? 20 : length % 4096, table == RSDP ? 8 : 9);
        }
        (void)count_cpus(&w, memory + RSDP, 36);
    }
}

static int set_up(void **state)
{
    (void)state;
    memory = malloc(MEMORY);
    return memory == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_and_count),   cmocka_unit_test(test_ids),    cmocka_unit_test(test_many),
        cmocka_unit_test(test_ebda_comes_first), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
