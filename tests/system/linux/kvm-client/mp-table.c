/* SPDX-License-Identifier: MIT */
/*
 * The table by which a Linux in L2 without ACPI finds its CPUs and its I/O APIC: Intel's MultiProcessor
 * Specification, version 1.4, chapter 4. It is written to the last KByte of base memory, where that system
 * looks for it, and tells what KVM's interrupt controllers are: ISA line N is input N of both of them.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

enum { LAST_KBYTE = 639 * 1024, IO_APIC = 0xfec00000, LOCAL_APIC = 0xfee00000 };
enum { PROCESSOR, BUS, IO_APIC_ENTRY, INTERRUPT, LOCAL_INTERRUPT };
enum { KIND_INT = 0, KIND_NMI = 1, KIND_EXTINT = 3 };
enum { ENABLED = 1, BOOT_PROCESSOR = 2, LOCAL_APIC_VERSION = 0x14, IO_APIC_VERSION = 0x11, ALL_CPUS = 0xff };
enum { ISA_LINES = 16, CASCADE = 2 };

struct floating_pointer {
    char signature[4];
    u32 table;
    u8 paragraphs, revision, checksum, features[5];
};

struct table_header {
    char signature[4];
    u16 length;
    u8 revision, checksum;
    char maker[8], product[12];
    u32 maker_table;
    u16 maker_length, entries;
    u32 local_apic;
    u16 extended_length;
    u8 extended_checksum, reserved;
};

struct processor {
    u8 type, apic_id, apic_version, flags;
    u32 signature, features, reserved[2];
};

struct bus {
    u8 type, id;
    char name[6];
};

struct io_apic {
    u8 type, id, version, flags;
    u32 address;
};

struct interrupt {
    u8 type, kind;
    u16 flags; /* polarity and trigger mode as the bus has them */
    u8 bus, line, apic, input;
};

_Static_assert(sizeof(struct floating_pointer) == 16 && sizeof(struct table_header) == 44 &&
                   sizeof(struct processor) == 20 && sizeof(struct bus) == 8 && sizeof(struct io_apic) == 8 &&
                   sizeof(struct interrupt) == 8,
               "entries are as long as the specification says");

static void append(struct table_header *table, const void *entry, u16 bytes)
{
    memcpy((u8 *)table + table->length, entry, bytes);
    table->length = (u16)(table->length + bytes);
    table->entries++;
}

/* What makes the bytes add up to 0. */
static u8 checksum(const void *bytes, u64 length)
{
    u8 sum = 0;
    for (u64 i = 0; i < length; i++)
        sum = (u8)(sum + ((const u8 *)bytes)[i]);
    return (u8)-sum;
}

static void append_interrupts(struct table_header *table, u8 io_apic)
{
    for (u8 line = 0; line < ISA_LINES; line++) {
        if (line != CASCADE)
            append(table, &(struct interrupt){INTERRUPT, KIND_INT, 0, 0, line, io_apic, line},
                   sizeof(struct interrupt));
    }
    append(table, &(struct interrupt){LOCAL_INTERRUPT, KIND_EXTINT, 0, 0, 0, 0, 0}, sizeof(struct interrupt));
    append(table, &(struct interrupt){LOCAL_INTERRUPT, KIND_NMI, 0, 0, 0, ALL_CPUS, 1},
           sizeof(struct interrupt));
}

void write_mp_table(struct vm *vm)
{
    struct floating_pointer *pointer = (struct floating_pointer *)(void *)(vm->memory + LAST_KBYTE);
    struct table_header *table = (struct table_header *)(void *)(pointer + 1);
    u8 io_apic = (u8)vm->vcpus;

    *table = (struct table_header){.length = sizeof(*table), .revision = 4, .local_apic = LOCAL_APIC};
    memcpy(table->signature, "PCMP", 4);
    memcpy(table->maker, "UMBRA   ", 8);
    memcpy(table->product, "KVM CLIENT  ", 12);
    for (u8 i = 0; i < vm->vcpus; i++)
        append(table,
               &(struct processor){PROCESSOR,
                                   i,
                                   LOCAL_APIC_VERSION,
                                   i ? ENABLED : ENABLED | BOOT_PROCESSOR,
                                   supported_cpuid_register(1, 0, 0),
                                   supported_cpuid_register(1, 0, 3),
                                   {0}},
               sizeof(struct processor));
    append(table, &(struct bus){BUS, 0, {'I', 'S', 'A', ' ', ' ', ' '}}, sizeof(struct bus));
    append(table, &(struct io_apic){IO_APIC_ENTRY, io_apic, IO_APIC_VERSION, ENABLED, IO_APIC},
           sizeof(struct io_apic));
    append_interrupts(table, io_apic);
    table->checksum = checksum(table, table->length);
    *pointer =
        (struct floating_pointer){.table = LAST_KBYTE + sizeof(*pointer), .paragraphs = 1, .revision = 4};
    memcpy(pointer->signature, "_MP_", 4);
    pointer->checksum = checksum(pointer, sizeof(*pointer));
}
