/* SPDX-License-Identifier: MIT */
#include "drivers/acpi.h"

#include "arch/string.h"

#define EBDA_SEGMENT_POINTER 0x40eu
#define BIOS_AREA_START      0xe0000u
#define BIOS_AREA_END        0x100000u
#define EBDA_SEARCH_BYTES    1024u

/* Offsets: ACPI 6.5 tables 5.3 (RSDP), 5.4 (header), 5.19 to 5.21 and 5.29 (MADT). */
enum {
    RSDP_REVISION = 15,
    RSDP_RSDT = 16,
    RSDP_XSDT = 24,
    RSDP_XSDT_BYTES = 36,
    HEADER_LENGTH = 4,
    HEADER_BYTES = 36,
    MADT_ENTRIES = 44,
    MADT_TYPE_LOCAL_APIC = 0,
    MADT_TYPE_X2APIC = 9,
    MADT_LOCAL_APIC_ID = 3,
    MADT_LOCAL_APIC_FLAGS = 4,
    MADT_LOCAL_APIC_BYTES = 8,
    MADT_X2APIC_ID = 4,
    MADT_X2APIC_FLAGS = 8,
    MADT_X2APIC_BYTES = 16,
    MADT_FLAG_ENABLED = 1,
};

/* Tables larger than this are damage, not tables. */
#define TABLE_BYTES_MAX MIB(1)

static u64 read_le(const u8 *bytes, unsigned count)
{
    u64 value = 0;
    for (unsigned i = count; i-- != 0;)
        value = value << 8 | bytes[i];
    return value;
}

static bool checksum_ok(const u8 *bytes, u64 count)
{
    u8 sum = 0;
    for (u64 i = 0; i < count; i++)
        sum = (u8)(sum + bytes[i]);
    return sum == 0;
}

static const u8 *window_at(const struct acpi_window *window, u64 address, u64 bytes)
{
    if (address == 0 || bytes > window->limit || address > window->limit - bytes)
        return NULL;
    return window->base + address;
}

static u64 search_rsdp(const struct acpi_window *window, u64 start, u64 end)
{
    for (u64 at = align_up(start, 16); at + ACPI_RSDP_MIN_BYTES <= end; at += 16) {
        const u8 *bytes = window_at(window, at, ACPI_RSDP_MIN_BYTES);
        if (bytes != NULL && memcmp(bytes, "RSD PTR ", 8) == 0 && checksum_ok(bytes, ACPI_RSDP_MIN_BYTES))
            return at;
    }
    return 0;
}

u64 acpi_find_rsdp(const struct acpi_window *window)
{
    const u8 *segment = window_at(window, EBDA_SEGMENT_POINTER, 2);
    if (segment != NULL) {
        u64 ebda = read_le(segment, 2) << 4;
        u64 found = ebda == 0 ? 0 : search_rsdp(window, ebda, ebda + EBDA_SEARCH_BYTES);
        if (found != 0)
            return found;
    }
    return search_rsdp(window, BIOS_AREA_START, BIOS_AREA_END);
}

/* A whole table with its length in *bytes, or NULL. */
static const u8 *table_at(const struct acpi_window *window, u64 address, u64 *bytes)
{
    const u8 *header = window_at(window, address, HEADER_BYTES);
    if (header == NULL)
        return NULL;
    *bytes = read_le(header + HEADER_LENGTH, 4);
    if (*bytes < HEADER_BYTES || *bytes > TABLE_BYTES_MAX)
        return NULL;
    const u8 *table = window_at(window, address, *bytes);
    return table != NULL && checksum_ok(table, *bytes) ? table : NULL;
}

/* Firmware may list one CPU as local APIC and as x2APIC. */
static void add_cpu(struct acpi_cpus *cpus, u32 apic_id, u64 flags)
{
    if ((flags & MADT_FLAG_ENABLED) == 0)
        return;
    for (unsigned i = 0; i < cpus->count && i < ACPI_CPUS_MAX; i++) {
        if (cpus->apic_id[i] == apic_id)
            return;
    }
    if (cpus->count < ACPI_CPUS_MAX)
        cpus->apic_id[cpus->count] = apic_id;
    cpus->count++;
}

static void read_madt(const u8 *madt, u64 bytes, struct acpi_cpus *cpus)
{
    for (u64 at = MADT_ENTRIES; at + 2 <= bytes;) {
        const u8 *entry = madt + at;
        u8 length = entry[1];
        if (length < 2 || at + length > bytes)
            break;
        if (entry[0] == MADT_TYPE_LOCAL_APIC && length >= MADT_LOCAL_APIC_BYTES)
            add_cpu(cpus, entry[MADT_LOCAL_APIC_ID], read_le(entry + MADT_LOCAL_APIC_FLAGS, 4));
        else if (entry[0] == MADT_TYPE_X2APIC && length >= MADT_X2APIC_BYTES)
            add_cpu(cpus, (u32)read_le(entry + MADT_X2APIC_ID, 4), read_le(entry + MADT_X2APIC_FLAGS, 4));
        at += length;
    }
}

void acpi_find_cpus(const struct acpi_window *window, const u8 *rsdp, size_t rsdp_bytes,
                    struct acpi_cpus *cpus)
{
    cpus->count = 0;
    if (rsdp_bytes < ACPI_RSDP_MIN_BYTES)
        return;
    bool extended = rsdp[RSDP_REVISION] >= 2 && rsdp_bytes >= RSDP_XSDT_BYTES;
    unsigned pointer_bytes = extended ? 8 : 4;
    u64 bytes;
    const u8 *root =
        table_at(window, extended ? read_le(rsdp + RSDP_XSDT, 8) : read_le(rsdp + RSDP_RSDT, 4), &bytes);
    if (root == NULL)
        return;

    for (u64 at = HEADER_BYTES; at + pointer_bytes <= bytes; at += pointer_bytes) {
        u64 table_bytes;
        const u8 *table = table_at(window, read_le(root + at, pointer_bytes), &table_bytes);
        if (table != NULL && memcmp(table, "APIC", 4) == 0) {
            read_madt(table, table_bytes, cpus);
            return;
        }
    }
}
