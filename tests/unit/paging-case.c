/* SPDX-License-Identifier: MIT */
/*
 * Machine states, accesses, memory and tables for the tests of the paging core. A machine state is told as
 * control registers; what it means is derived here for the specification, by SDM vol. 3A 4.1.1, and in mm/ by
 * the role constructors, so that those are under test too.
 */
#include <string.h>

#include "arch/x86.h"
#include "tests/unit/paging-case.h"
#include "tests/unit/random.h"

static enum spec_format format_of(u64 cr0, u64 cr4, u64 efer)
{
    if ((cr0 & CR0_PG) == 0)
        return SPEC_NO_PAGING;
    if ((cr4 & CR4_PAE) == 0)
        return SPEC_32BIT;
    if ((efer & EFER_LMA) == 0)
        return SPEC_PAE;
    return (cr4 & CR4_LA57) != 0 ? SPEC_LONG5 : SPEC_LONG4;
}

void case_guest(struct case_tables *tables, const struct case_machine *machine)
{
    struct spec_paging *spec = &tables->spec;

    *spec = (struct spec_paging){
        .format = format_of(machine->cr0, machine->cr4, machine->efer),
        .pdpte_loaded = machine->pdpte_loaded,
        .maxphyaddr = machine->cpu.maxphyaddr,
        .amd = machine->cpu.amd,
        .page1gb = machine->cpu.page_1g,
        .pse = (machine->cr4 & CR4_PSE) != 0,
        .pse36 = true,
        .wp = (machine->cr0 & CR0_WP) != 0,
        .nxe = (machine->efer & EFER_NXE) != 0,
        .smep = (machine->cr4 & CR4_SMEP) != 0,
        .smap = (machine->cr4 & CR4_SMAP) != 0,
        .pke = (machine->cr4 & CR4_PKE) != 0,
        .pks = (machine->cr4 & CR4_PKS) != 0,
        .cet = (machine->cr4 & CR4_CET) != 0,
        .pkru = machine->pkru,
        .pkrs = machine->pkrs,
    };
    memcpy(spec->pdpte, machine->pdpte, sizeof(spec->pdpte));
    paging_init(&tables->code, paging_role_guest(&machine->cpu, machine->cr0, machine->cr4, machine->efer));
    permission_set_keys(&tables->code.permission, tables->code.role, machine->pkru, machine->pkrs);
    tables->code.pdptes = machine->pdpte_loaded ? spec->pdpte : NULL;
}

void case_npt(struct case_tables *tables, const struct case_machine *host, bool gmet)
{
    case_guest(tables, host);
    tables->spec.gmet = gmet;
    tables->spec.cet = false; /* APM vol. 2 15.25: nothing of it is left in a nested walk */
    paging_init(&tables->code, paging_role_npt(&host->cpu, host->cr0, host->cr4, host->efer, gmet));
}

void case_ept(struct case_tables *tables, const struct case_ept *ept)
{
    tables->spec = (struct spec_paging){
        .format = (ept->eptp >> 3 & 7) == 4 ? SPEC_EPT5 : SPEC_EPT4,
        .maxphyaddr = ept->cpu.maxphyaddr,
        .page1gb = ept->cpu.page_1g,
        .page2mb = true,
        .execute_only = ept->cpu.execute_only,
        .mbec = ept->mbec,
        .ept_ad = (ept->eptp & BIT(6)) != 0,
        .supervisor_shadow_stack = (ept->eptp & BIT(7)) != 0,
    };
    paging_init(&tables->code, paging_role_ept(&ept->cpu, ept->eptp, ept->mbec, ept->spp));
}

static unsigned random_maxphyaddr(void)
{
    static const unsigned widths[] = {36, 39, 40, 46, 48, 52};

    return random_chance(70) ? widths[random_below(ARRAY_SIZE(widths))] : (unsigned)random_below(21) + 32;
}

struct case_machine case_random_machine(enum spec_format format)
{
    const u64 modes = CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS | CR4_CET;
    struct case_machine machine = {
        .cpu = {.maxphyaddr = random_maxphyaddr(), .page_1g = random_chance(80), .amd = random_chance(40)},
        .cr0 = CR0_PE | (random_u64() & CR0_WP),
        .cr4 = random_u64() & modes,
        .efer = random_u64() & EFER_NXE,
        .pkru = (u32)random_u64() & (u32)random_u64(),
        .pkrs = (u32)random_u64() & (u32)random_u64(),
    };

    if ((machine.cr4 & CR4_CET) != 0)
        machine.cr0 |= CR0_WP; /* CR4.CET needs it, SDM vol. 3A 2.5 */
    if (format == SPEC_NO_PAGING)
        return machine;
    machine.cr0 |= CR0_PG;
    if (format != SPEC_32BIT)
        machine.cr4 |= CR4_PAE;
    if (format == SPEC_LONG4 || format == SPEC_LONG5)
        machine.efer |= EFER_LME | EFER_LMA;
    if (format == SPEC_LONG5)
        machine.cr4 |= CR4_LA57;
    machine.pdpte_loaded = format == SPEC_PAE && random_chance(60);
    return machine;
}

struct case_ept case_random_ept(enum spec_format format)
{
    u64 eptp = 6 | (format == SPEC_EPT5 ? 4u << 3 : 3u << 3) | (random_u64() & 0xC0);

    return (struct case_ept){
        .cpu = {.maxphyaddr = random_maxphyaddr(),
                .page_1g = random_chance(80),
                .execute_only = random_chance(50)},
        .eptp = eptp,
        .mbec = random_chance(60),
        .spp = random_chance(30),
        .advanced = random_chance(60),
    };
}

/* --- accesses
 * -------------------------------------------------------------------------------------------------- */

/* SDM vol. 3A 4.6: data, implicit data, fetches, shadow stacks, WRUSS; at CPL 0, 1 and 3. */
unsigned case_accesses(struct spec_access out[CASE_ACCESSES_MAX])
{
    static const unsigned cpls[] = {0, 1, 3};
    unsigned count = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(cpls); i++) {
        for (unsigned ac = 0; ac < 2; ac++) {
            for (unsigned write = 0; write < 2; write++) {
                struct spec_access data = {
                    .kind = write != 0 ? SPEC_WRITE : SPEC_READ, .cpl = cpls[i], .ac = ac != 0};

                out[count++] = data;
                data.implicit = true;
                out[count++] = data;
            }
        }
        out[count++] = (struct spec_access){.kind = SPEC_FETCH, .cpl = cpls[i]};
    }
    out[count++] = (struct spec_access){.kind = SPEC_READ, .cpl = 0, .shadow_stack = true};
    out[count++] = (struct spec_access){.kind = SPEC_WRITE, .cpl = 0, .shadow_stack = true};
    out[count++] = (struct spec_access){.kind = SPEC_READ, .cpl = 3, .shadow_stack = true};
    out[count++] = (struct spec_access){.kind = SPEC_WRITE, .cpl = 3, .shadow_stack = true};
    out[count++] = (struct spec_access){.kind = SPEC_WRITE, .cpl = 0, .shadow_stack = true, .wruss = true};
    return count;
}

static unsigned kind_bits(enum spec_kind kind, bool shadow_stack)
{
    return (kind == SPEC_WRITE ? ACCESS_WRITE : 0u) | (kind == SPEC_FETCH ? ACCESS_FETCH : 0u) |
           (shadow_stack ? ACCESS_SHADOW_STACK : 0u);
}

unsigned case_guest_access(const struct spec_access *access)
{
    bool user = access->wruss || (access->cpl == 3 && !access->implicit);
    bool ac = access->ac && !access->implicit && !user && access->kind != SPEC_FETCH && !access->shadow_stack;

    return kind_bits(access->kind, access->shadow_stack) | (user ? ACCESS_USER : 0u) | (ac ? ACCESS_AC : 0u);
}

/* ACCESS_USER: NPT: CPL 3. EPT: a fetch from a user-mode address, a user's shadow-stack access (mm/rights.h).
 */
unsigned case_second_access(const struct spec_second *second, const struct spec_second_access *access)
{
    unsigned bits = kind_bits(access->kind, access->shadow_stack);

    if (second->kind == SPEC_SECOND_NPT)
        return bits | (access->cpl == 3 ? ACCESS_USER : 0u);
    if (access->kind == SPEC_FETCH)
        return bits | (access->linear_user ? ACCESS_USER : 0u);
    return bits | (access->shadow_stack && !access->supervisor_shadow_stack ? ACCESS_USER : 0u);
}

/* --- memory
 * ----------------------------------------------------------------------------------------------------- */

static bool in_memory(const struct case_memory *memory, u64 address, u64 bytes)
{
    u64 offset = address - memory->base;

    return offset < CASE_BYTES && bytes <= CASE_BYTES - offset;
}

u64 case_peek(const struct case_memory *memory, u64 address, unsigned bytes)
{
    u64 value = 0;

    memcpy(&value, memory->bytes + (address - memory->base), bytes);
    return value;
}

void case_poke(struct case_memory *memory, u64 address, unsigned bytes, u64 value)
{
    memcpy(memory->bytes + (address - memory->base), &value, bytes);
}

static bool spec_read_memory(void *context, u64 address, unsigned bytes, u64 *value)
{
    const struct case_memory *memory = context;

    if (!in_memory(memory, address, bytes))
        return false;
    *value = case_peek(memory, address, bytes);
    return true;
}

static enum memory_status code_load(const struct paging_memory *code, gpa_t address, unsigned bytes,
                                    u64 *value)
{
    const struct case_memory *memory = (const struct case_memory *)(const void *)code;

    if (!in_memory(memory, address.raw, bytes))
        return MEMORY_NOT_OWNED;
    *value = case_peek(memory, address.raw, bytes);
    return MEMORY_OK;
}

/* Another CPU changes the entry: a bit that no format heeds, or present or not, a right, an address bit. */
static void disturb(struct case_memory *memory, u64 address, unsigned bytes)
{
    static const u64 bits[] = {BIT(11), BIT(0), BIT(1), BIT(2), BIT(13)};
    u64 bit = bits[memory->disturb_nothing ? 0 : random_below(ARRAY_SIZE(bits))];

    case_poke(memory, address, bytes, case_peek(memory, address, bytes) ^ bit);
    memory->disturbances++;
}

static enum memory_status code_compare_exchange(const struct paging_memory *code, gpa_t address,
                                                unsigned bytes, u64 expected, u64 desired)
{
    struct case_memory *memory = (struct case_memory *)(uintptr_t)code;

    if (!in_memory(memory, address.raw, bytes))
        return MEMORY_NOT_OWNED;
    if (memory->disturb_percent != 0 && random_chance(memory->disturb_percent))
        disturb(memory, address.raw, bytes);
    if (case_peek(memory, address.raw, bytes) != expected)
        return MEMORY_CHANGED;
    case_poke(memory, address.raw, bytes, desired);
    if (memory->writes < CASE_JOURNAL) {
        memory->journal[memory->writes].address = address.raw;
        memory->journal[memory->writes].bytes = bytes;
        memory->journal[memory->writes].before = expected;
        memory->journal[memory->writes].after = desired;
    }
    memory->writes++;
    return MEMORY_OK;
}

static enum memory_status code_read(const struct paging_memory *code, gpa_t address, void *dst, size_t bytes)
{
    const struct case_memory *memory = (const struct case_memory *)(const void *)code;

    if (!in_memory(memory, address.raw, bytes))
        return MEMORY_NOT_OWNED;
    memcpy(dst, memory->bytes + (address.raw - memory->base), bytes);
    return MEMORY_OK;
}

static enum memory_status code_write(const struct paging_memory *code, gpa_t address, const void *src,
                                     size_t bytes)
{
    struct case_memory *memory = (struct case_memory *)(uintptr_t)code;

    if (!in_memory(memory, address.raw, bytes))
        return MEMORY_NOT_OWNED;
    memcpy(memory->bytes + (address.raw - memory->base), src, bytes);
    if (memory->data_writes < ARRAY_SIZE(memory->data_write)) {
        memory->data_write[memory->data_writes].address = address.raw;
        memory->data_write[memory->data_writes].bytes = bytes;
    }
    memory->data_writes++;
    return MEMORY_OK;
}

static bool code_writable(const struct paging_memory *code, gpa_t address, size_t bytes)
{
    return in_memory((const struct case_memory *)(const void *)code, address.raw, bytes);
}

void case_memory_init(struct case_memory *memory)
{
    memset(memory, 0, sizeof(*memory));
    memory->code.load = code_load;
    memory->code.compare_exchange = code_compare_exchange;
    memory->code.read = code_read;
    memory->code.write = code_write;
    memory->code.writable = code_writable;
    memory->spec = (struct spec_memory){.context = memory, .read = spec_read_memory};
    for (u64 offset = 0; offset < CASE_BYTES; offset += 8)
        case_poke(memory, offset, 8, random_u64());
}

void case_memory_place(struct case_memory *memory, u64 base)
{
    memory->base = base;
    memory->writes = 0;
    memory->data_writes = 0;
    memory->disturbances = 0;
    u64 frames = random_chance(50) ? CASE_FRAMES : random_below(CASE_FRAMES + 1);

    paging_set_window(&memory->code, memory->bytes, base, random_chance(40) ? 0 : frames * PAGE_SIZE);
}

/* --- tables
 * ------------------------------------------------------------------------------------------------------ */

unsigned case_random_leaf_level(const struct spec_paging *spec)
{
    unsigned highest = spec->format == SPEC_32BIT || spec->format == SPEC_PAE ? 2 : 3;

    if (random_chance(60))
        return 1;
    return random_chance(60) ? 2 : highest;
}

static u64 guest_rights(const struct spec_paging *spec, unsigned level)
{
    u64 bits = 0x6; /* R/W, U/S */

    if (spec->format == SPEC_PAE && level == 3)
        return random_u64() & 0xE18; /* PWT, PCD, ignored */
    if (random_chance(25))
        bits ^= random_u64() & 0x6;
    if (spec->nxe && random_chance(10))
        bits |= BIT(63);
    return bits | (random_u64() & 0x78 & random_u64()); /* PWT, PCD, A, D */
}

static u64 ept_rights(const struct spec_paging *spec)
{
    u64 bits = 0x407;

    if (random_chance(30))
        bits &= ~(random_u64() & 0x405); /* R, X or XU away */
    if (random_chance(20) || (bits & 1) == 0)
        bits &= ~0x2ull;
    if (!spec->execute_only && (bits & 1) == 0)
        bits |= 1;
    return bits | (random_u64() & 0x300 & random_u64());
}

u64 case_ordinary_entry(const struct spec_paging *spec, unsigned level, bool leaf, u64 address)
{
    static const u64 memory_types[] = {0, 1, 4, 5, 6};
    u64 size = spec_entry_page_size(spec->format, level);
    u64 entry = leaf ? address - address % size : address & 0x000FFFFFFFFFF000u;

    if (spec->format == SPEC_32BIT)
        entry = leaf && level == 2 ? (entry & 0xFFC00000u) | (entry >> 32 & 0xFF) << 13 : entry & 0xFFFFF000u;
    if (leaf && level > 1)
        entry |= 0x80;
    if (spec_is_ept(spec->format)) {
        entry |= ept_rights(spec);
        if (leaf)
            entry |= memory_types[random_below(5)] << 3 | (random_u64() & 0x40) | (random_u64() & BIT(60));
        return entry | (random_u64() & (BIT(63) | BIT(61) | BIT(52) | BIT(11)));
    }
    entry |= 1 | guest_rights(spec, level);
    if (spec->format == SPEC_32BIT)
        return entry;
    if (leaf && level > 1)
        entry |= random_u64() & BIT(12); /* PAT */
    if (spec->format != SPEC_PAE)
        entry |= random_u64() & BITS(62, 52); /* ignored, or the protection key */
    return entry;
}

static u64 all_rights(const struct spec_paging *spec, unsigned level, u64 entry)
{
    if (spec_is_ept(spec->format))
        return entry | 0x407;
    if (spec->format == SPEC_PAE && level == 3)
        return entry;
    return (entry | 0x6) & ~(spec->format == SPEC_32BIT ? 0 : BIT(63));
}

static u64 settled(const struct spec_paging *spec, unsigned level, bool leaf, u64 entry)
{
    if (spec_is_ept(spec->format))
        return (leaf ? (entry & ~0x38ull) | 6u << 3 : entry) | 0x300;
    return spec->format == SPEC_PAE && level == 3 ? entry : entry | 0x60;
}

u64 case_spoil_entry(const struct spec_paging *spec, unsigned level, u64 entry)
{
    switch (random_below(8)) {
    case 0:
        return entry & ~0x407ull; /* not present */
    case 1:
        return entry & ~0x7ull; /* not present; in EPT perhaps user-execute only */
    case 2:
        return entry ^ BIT(random_below(spec_entry_bytes(spec->format) * 8));
    case 3:
        return entry | BIT(7);
    case 4:
        return entry | (spec_reserved_bits(spec, level, entry) & random_u64());
    case 5:
        return entry ^ (random_u64() & random_u64() & random_u64());
    case 6:
        return spec_is_ept(spec->format) ? entry ^ (random_u64() & 0x43F) : entry ^ (random_u64() & 0x1FF);
    default:
        return random_u64();
    }
}

void case_build_chain(struct case_memory *memory, const struct case_chain *chain)
{
    const struct spec_paging *spec = chain->spec;
    unsigned bytes = spec_entry_bytes(spec->format);

    for (unsigned level = spec_levels(spec->format); level >= chain->leaf_level; level--) {
        bool leaf = level == chain->leaf_level;
        u64 entry =
            case_ordinary_entry(spec, level, leaf, leaf ? chain->target : chain->table_address[level - 1]);
        u64 where = chain->table_host[level] + spec_index(spec->format, level, chain->address) * bytes;

        if (random_chance(chain->plain_percent))
            entry = all_rights(spec, level, entry);
        if (chain->settled)
            entry = settled(spec, level, leaf, entry);
        if (random_chance(chain->odd_percent))
            entry = case_spoil_entry(spec, level, entry);
        if (in_memory(memory, where, bytes))
            case_poke(memory, where, bytes, entry);
    }
}
