/* SPDX-License-Identifier: MIT */
/*
 * The memory of the hostile groups: canaries, addresses, and the tables that L2 starts with. What goes into
 * a table entry is chosen so that no entry, whatever its level and whoever reads it, gives L2 a writable way
 * out of the playground.
 */
#include "tests/guest/hostile.h"

#define PAGE_HIDDEN 61 /* of the window */

extern const u8 image_start[], fixups_end[];

/* --- canaries: where neither half an address of the playground leads nor the 4-MByte page around it --- */

enum { CANARY_AREAS = 4 };
static struct {
    u64 start, end;
} canary[CANARY_AREAS];
static u64 umbra_start, umbra_end;

static u64 canary_word(u64 address)
{
    return address * 0x9e3779b97f4a7c15 ^ ~address;
}

/* A copy of the image's constant part: code, constants, fixups. */
static u64 *image_copy(void)
{
    return (u64 *)MIB(16);
}

static size_t image_bytes(void)
{
    return align_down((u64)fixups_end - (u64)image_start, 8);
}

static u64 image_lost(void)
{
    const u64 *now = (const u64 *)(const void *)image_start, *copy = image_copy();
    u64 lost = 0;

    for (size_t i = 0; i < image_bytes() / 8; i++) {
        if (now[i] != copy[i] && lost++ < 8)
            print("guest: code at 0x%lx is 0x%lx, was 0x%lx\n", (u64)&now[i], now[i], copy[i]);
    }
    return lost;
}

bool hostile_memory_init(void)
{
    const u64 beside_umbra = umbra_region(&umbra_start, &umbra_end) ? umbra_start : MIB(64);
    const u64 areas[CANARY_AREAS][2] = {{MIB(20), MIB(21)},
                                        {PLAYGROUND - MIB(4), PLAYGROUND - MIB(3)},
                                        {PLAYGROUND + MIB(2), PLAYGROUND + MIB(3)},
                                        {beside_umbra - KIB(512), beside_umbra}};

    if (!boot_is_ram(PLAYGROUND, MIB(2)) || !boot_is_ram(MIB(16), image_bytes()))
        return false;
    for (unsigned i = 0; i < CANARY_AREAS; i++) {
        canary[i].start = areas[i][0];
        canary[i].end = areas[i][1];
        if (!boot_is_ram(canary[i].start, canary[i].end - canary[i].start))
            return false;
        for (u64 address = canary[i].start; address < canary[i].end; address += 8)
            *(u64 *)address = canary_word(address);
    }
    memcpy(image_copy(), image_start, image_bytes());
    return true;
}

u64 hostile_canaries_lost(void)
{
    u64 lost = image_lost();

    for (unsigned i = 0; i < CANARY_AREAS; i++) {
        for (u64 address = canary[i].start; address < canary[i].end; address += 8) {
            if (*(const u64 *)address == canary_word(address))
                continue;
            if (lost++ < 8)
                print("guest: memory at 0x%lx is 0x%lx\n", address, *(const u64 *)address);
        }
    }
    return lost;
}

static u64 umbra_page(void)
{
    /* Few pages, as Umbra says a line for each, spread over all of the region. */
    return align_down(umbra_start + (umbra_end - umbra_start) / 16 * hostile_below(16), PAGE_SIZE);
}

bool hostile_umbra_hidden(void)
{
    u64 value = 0;

    if (umbra_start == umbra_end)
        return true;
    const u8 *page = window_map(PAGE_HIDDEN, umbra_page(), PTE_P);
    return try_read64((u64)page + 8 * hostile_below(512), &value) == NO_FAULT && value == ~0ull;
}

/* --- addresses --- */

/* Of the first `kinds` kinds: video memory, option ROM, the hole below 4 GByte, firmware; APIC and I/O APIC.
 */
static u64 device_page(unsigned kinds)
{
    static const u64 pages[] = {0xa0000, 0xc0000, 0xe0000000, 0xfffff000, 0xfee00000, 0xfec00000};

    return pages[hostile_below(kinds)];
}

enum { PASSIVE_DEVICES = 4, DEVICES = 6 };

static u64 no_memory(void)
{
    u64 limit = BIT(physical_bits);

    switch (hostile_below(4)) {
    case 0: /* above RAM, but an address that exists */
        return limit / 2 + (hostile_random() & (limit / 4 - 1) & ~PAGE_MASK);
    case 1:
        return limit - PAGE_SIZE;
    case 2:
        return limit << hostile_below(52 - physical_bits);
    default:
        return hostile_random() & ~PAGE_MASK & ~BITS(39, 0);
    }
}

static u64 play_address(void)
{
    return play_page(hostile_below(PLAYGROUND_PAGES));
}

u64 hostile_page(void)
{
    unsigned choice = hostile_below(100);

    if (choice < 70)
        return play_address();
    if (choice < 80 && umbra_start != umbra_end)
        return umbra_page();
    if (choice < 87)
        return device_page(DEVICES);
    if (choice < 97)
        return no_memory();
    return choice < 99 ? 0 : ~0ull;
}

u64 hostile_pointer(void)
{
    u64 page = hostile_page();

    return hostile_chance(12) ? page + (BIT(hostile_below(12)) | hostile_below(64)) : page;
}

/* --- second-level entries --- */

enum { ENTRY_R = 1, ENTRY_W = 2, ENTRY_PS = 128 };

/* Where a leaf may lead, and what it may allow there. */
struct target {
    u64 address;
    bool writable, executable, large;
};

bool hostile_may_execute(u64 page)
{
    return is_intel || page < play_page(PAGE_L2_TABLES) || page >= play_page(PAGE_CONTROL);
}

/*
 * Devices are not for writing, and the APICs not even for reading: L2 would send INIT to L1, or read across a
 * register, at which Bochs ends itself, as it does at fetches from what is no memory. TCG ends itself when
 * an event is delivered through either, so there it is in no table, but for addresses that do not exist.
 */
static struct target no_ram(void)
{
    if (!is_intel)
        return (struct target){BIT(physical_bits) << hostile_below(52 - physical_bits), true, false, false};
    if (hostile_chance(50))
        return (struct target){device_page(PASSIVE_DEVICES), false, false, false};
    return (struct target){no_memory() & BITS(51, 12), true, false, hostile_chance(50)};
}

/* Large pages lead to what is no memory, or are misaligned, but for the playground itself. */
static struct target random_target(void)
{
    u64 page = play_address();

    switch (hostile_below(10)) {
    case 0:
    case 1:
        return no_ram();
    case 2:
        return (struct target){umbra_start != umbra_end ? umbra_page() : 0, true, true, false};
    case 3:
        return (struct target){PLAYGROUND, true, is_intel, true};
    case 4:
        page = play_page(PAGE_NESTED + hostile_below(NESTED_PAGES));
        return (struct target){page, true, hostile_may_execute(page), hostile_chance(20)};
    default:
        return (struct target){page, true, hostile_may_execute(page), false};
    }
}

/* Any one bit besides the address and what a target decides. */
static u64 stray_bit(void)
{
    return hostile_chance(3) ? BIT(hostile_below(64)) & ~(BITS(39, 12) | ENTRY_W | ENTRY_PS) : 0;
}

u64 hostile_ept_entry(void)
{
    struct target target = random_target();
    u64 entry = hostile_below(8) | (hostile_random() & (BITS(11, 8) | BIT(57) | BIT(60) | BIT(61) | BIT(63)));

    if (hostile_chance(50))
        entry |= 7;
    if (target.large)
        entry |= ENTRY_PS;
    /* Memory type and IPAT of a leaf; of a table these bits have to be 0. */
    if (target.large || hostile_chance(60))
        entry |= hostile_chance(85) ? 6 << 3 : (u64)hostile_below(16) << 3;
    entry |= stray_bit();
    if (!target.writable)
        entry &= ~(u64)ENTRY_W;
    if (!target.executable)
        entry &= ~(BIT(2) | BIT(10));
    return entry | target.address;
}

u64 hostile_npt_entry(void)
{
    struct target target = random_target();
    u64 entry = (hostile_below(8) & ~1u) | (hostile_random() & (BITS(6, 3) | BITS(9, 8)));

    if (hostile_chance(90))
        entry |= 1;
    if (hostile_chance(50))
        entry |= 7;
    if (target.large)
        entry |= ENTRY_PS;
    entry |= stray_bit();
    if (!target.writable)
        entry &= ~(u64)ENTRY_W;
    if (!target.executable || hostile_chance(20))
        entry |= BIT(63);
    return entry | target.address;
}

/* --- what L2 starts with --- */

static bool tables_reachable;

bool hostile_l2_tables_reachable(void)
{
    return tables_reachable;
}

/* For an entry of L2's last table. */
static u64 l2_leaf(u64 address, u64 rights)
{
    if (!tables_reachable && address - play_page(PAGE_L2_TABLES) < L2_TABLES * PAGE_SIZE)
        return 0;
    return address | rights;
}

void hostile_write_l2_tables(bool reachable)
{
    enum {
        USER_RW = PTE_P | PTE_W | PTE_U,
        PML4 = PAGE_L2_TABLES,
        PDPT,
        DIRECTORY,
        TABLE,
        PAE_PDPT,
        LEGACY,
        LEGACY_TABLE
    };
    u64 *table = (u64 *)play_page(TABLE);
    u32 *legacy = (u32 *)play_page(LEGACY) + (PLAYGROUND >> 22);

    tables_reachable = reachable;
    memset((void *)play_page(PML4), 0, L2_TABLES * PAGE_SIZE);
    *(u64 *)play_page(PML4) = play_page(PDPT) | USER_RW;
    *(u64 *)play_page(PDPT) = play_page(DIRECTORY) | USER_RW;
    ((u64 *)play_page(DIRECTORY))[PLAYGROUND >> 21] = play_page(TABLE) | USER_RW;
    for (unsigned i = 0; i < 512; i++) {
        table[i] = l2_leaf(play_page(i), PTE_P | PTE_W | (hostile_chance(50) ? PTE_U : 0));
        ((u32 *)play_page(LEGACY_TABLE))[(PLAYGROUND >> PAGE_SHIFT) % 1024 + i] = (u32)table[i];
    }
    *(u64 *)play_page(PAE_PDPT) = play_page(DIRECTORY) | PTE_P;
    /* The 4-MByte page around the playground, or its pages. */
    *legacy = (u32)(reachable ? align_down(PLAYGROUND, MIB(4)) | PTE_PS : play_page(LEGACY_TABLE)) | USER_RW;
    /* Some linear pages lead to other guest-physical ones, most of which L1's tables do not map. */
    for (unsigned i = 0; i < 8; i++)
        table[PAGE_DATA + hostile_below(4)] = l2_leaf(hostile_page() & BITS(38, 12), PTE_P | PTE_U);
}

static void write_gate(u64 *idt, unsigned vector)
{
    static const u8 kinds[] = {0x8e, 0x8e, 0x8e, 0x8f, 0xee, 0x85, 0x0e};
    u64 target = play_page(PAGE_HANDLERS) + 16 * (u64)vector,
        kind = kinds[hostile_below(vector < 32 ? 4 : ARRAY_SIZE(kinds))];

    idt[2 * vector] = (target & 0xffff) | (u64)SEL_CODE64 << 16 | kind << 40 | (target >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = target >> 32;
}

void hostile_write_descriptors(void)
{
    static const u8 endings[][4] = {{0x0f, 0x01, 0xc1, 0xf4},  /* VMCALL; HLT */
                                    {0x0f, 0x01, 0xd9, 0xf4},  /* VMMCALL */
                                    {0x48, 0xcf, 0x90, 0x90},  /* IRETQ */
                                    {0x58, 0x48, 0xcf, 0x90},  /* POP; IRETQ */
                                    {0x0f, 0x0b, 0x90, 0x90},  /* UD2 */
                                    {0xeb, 0xfe, 0x90, 0x90},  /* JMP to itself */
                                    {0xf4, 0xeb, 0xfd, 0x90},  /* HLT; JMP back */
                                    {0x0f, 0xa2, 0xeb, 0xfc}}; /* CPUID; JMP back */
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) table;
    u64 *idt = (u64 *)play_page(PAGE_IDT);

    __asm__ volatile("sgdt %0" : "=m"(table));
    memset((void *)play_page(PAGE_GDT), 0, PAGE_SIZE);
    memcpy((void *)play_page(PAGE_GDT), (const void *)table.base,
           SEL_TSS + 16); /* a VM exit sets the limit to 64 KByte */
    for (unsigned vector = 0; vector < 256; vector++) {
        write_gate(idt, vector);
        memset((void *)(play_page(PAGE_HANDLERS) + 16 * vector), 0x90, 16);
        memcpy((void *)(play_page(PAGE_HANDLERS) + 16 * vector), endings[hostile_below(ARRAY_SIZE(endings))],
               4);
    }
}
