/* SPDX-License-Identifier: MIT */
/*
 * L2's code for the hostile groups: random instructions out of a table of those that matter to a hypervisor,
 * operands loaded right before them, and sometimes plain random bytes. That none of it reaches a dangerous
 * port or MSR is up to L1's intercepts, that it reaches no memory of L1's to its tables.
 */
#include "tests/guest/hostile.h"

/* A page address would be the key to any memory: only those of the playground, and what is no address. */
u64 hostile_l2_value(void)
{
    switch (hostile_below(13)) {
    case 0:
        return 0;
    case 9:
        return play_page(PAGE_APIC) + 16 * hostile_below(64) + (hostile_chance(10) ? 4 : 0);
    case 1:
        return ~0ull;
    case 2:
        return BIT(hostile_below(64));
    case 3:
        return hostile_random() | BIT(62);
    case 4: /* an entry of L1's tables, or of its own */
        return play_page(PAGE_NESTED + hostile_below(NESTED_PAGES)) + 8 * hostile_below(512);
    case 5:
        return play_page(PAGE_L2_TABLES + hostile_below(6)) + 8 * hostile_below(64);
    case 6:
        return is_intel ? hostile_ept_entry() : hostile_npt_entry();
    case 7: /* over the end of a page */
        return play_page(1 + hostile_below(PLAYGROUND_PAGES)) - 1 - hostile_below(15);
    case 8:
        return play_page(PAGE_CODE) + hostile_below(CODE_PAGES * PAGE_SIZE);
    default:
        return play_page(hostile_below(PLAYGROUND_PAGES)) + hostile_below(PAGE_SIZE);
    }
}

#define I(text)                                                                                              \
    {                                                                                                        \
        sizeof(text) - 1, text                                                                               \
    }

/* With RBX or RSI as the address and RAX, RCX, RDX as data, where operands are needed. */
static const struct {
    u8 size;
    char bytes[9];
} instructions[] = {
    I("\x0f\xa2") /* CPUID */,
    I("\xf4") /* HLT */,
    I("\xf3\x90") /* PAUSE */,
    I("\x0f\x31") /* RDTSC */,
    I("\x0f\x01\xf9") /* RDTSCP */,
    I("\x0f\x33") /* RDPMC */,
    I("\x0f\x09") /* WBINVD */,
    I("\x0f\x08") /* INVD */,
    /* MOV from and to CR0, CR2, CR3, CR4, CR8; CLTS, LMSW, SMSW */
    I("\x0f\x20\xc0"),
    I("\x0f\x20\xd0"),
    I("\x0f\x20\xd8"),
    I("\x0f\x20\xe0"),
    I("\x44\x0f\x20\xc0"),
    I("\x0f\x22\xc0"),
    I("\x0f\x22\xd0"),
    I("\x0f\x22\xd8"),
    I("\x0f\x22\xe0"),
    I("\x44\x0f\x22\xc0"),
    I("\x0f\x06"),
    I("\x0f\x01\xf0"),
    I("\x0f\x01\xe0"),
    /* A bit of CR0 or CR4 changes */
    I("\x0f\x20\xc0\x0f\xbb\xc8"),
    I("\x0f\x20\xe0\x0f\xbb\xc8"),
    /* MOV from and to DR7, DR6, DR0 */
    I("\x0f\x21\xf8"),
    I("\x0f\x23\xf8"),
    I("\x0f\x23\xf0"),
    I("\x0f\x23\xc0"),
    /* INVLPG, INVPCID, INVLPGA */
    I("\x0f\x01\x3b"),
    I("\x66\x0f\x38\x82\x03"),
    I("\x0f\x01\xdf"),
    /* VMX and SVM */
    I("\x0f\x01\xc1"),
    I("\x0f\x01\xc2"),
    I("\x0f\x01\xc3"),
    I("\x0f\x01\xc4"),
    I("\x0f\x01\xd4"),
    I("\x31\xc0\x31\xc9\x0f\x01\xd4") /* EPTP switching, entry 0 */,
    I("\x31\xc0\x83\xe1\x07\x0f\x01\xd4"),
    I("\x0f\x78\xc3"),
    I("\x0f\x79\xc3"),
    I("\x0f\xc7\x33"),
    I("\x66\x0f\xc7\x33"),
    I("\xf3\x0f\xc7\x33"),
    I("\x0f\xc7\x3b"),
    I("\x66\x0f\x38\x80\x03"),
    I("\x66\x0f\x38\x81\x03"),
    I("\x0f\x01\xd8"),
    I("\x0f\x01\xd9"),
    I("\x0f\x01\xda"),
    I("\x0f\x01\xdb"),
    I("\x0f\x01\xdc"),
    I("\x0f\x01\xdd"),
    I("\x0f\x01\xde"),
    /* XSETBV, XGETBV, XSAVES, XRSTORS, XSAVE, FXSAVE, FXRSTOR */
    I("\x0f\x01\xd1"),
    I("\x0f\x01\xd0"),
    I("\x0f\xc7\x2b"),
    I("\x0f\xc7\x1b"),
    I("\x0f\xae\x23"),
    I("\x0f\xae\x03"),
    I("\x0f\xae\x0b"),
    /* MONITOR, MWAIT, TPAUSE, RDRAND, RDSEED, GETSEC, ENCLS, RSM, CLFLUSH, WRPKRU, RDFSBASE, SERIALIZE, STAC
     */
    I("\x0f\x01\xc8"),
    I("\x0f\x01\xc9"),
    I("\x66\x0f\xae\xf1"),
    I("\x0f\xc7\xf0"),
    I("\x0f\xc7\xf8"),
    I("\x0f\x37"),
    I("\x0f\x01\xcf"),
    I("\x0f\xaa"),
    I("\x0f\xae\x3b"),
    I("\x0f\x01\xef"),
    I("\xf3\x48\x0f\xae\xc0"),
    I("\x0f\x01\xe8"),
    I("\x0f\x01\xcb"),
    /* Descriptor tables: LGDT, LIDT, SGDT, SIDT, SLDT, STR, LLDT, LTR */
    I("\x0f\x01\x13"),
    I("\x0f\x01\x1b"),
    I("\x0f\x01\x03"),
    I("\x0f\x01\x0b"),
    I("\x0f\x00\xc0"),
    I("\x0f\x00\xc8"),
    I("\x0f\x00\xd0"),
    I("\x0f\x00\xd8"),
    /* Interrupts and returns */
    I("\xcd\x20"),
    I("\xcd\x80"),
    I("\xcc"),
    I("\xf1"),
    I("\x0f\x0b"),
    I("\x48\xcf"),
    I("\xcf"),
    I("\xfb"),
    I("\xfa"),
    I("\x9d"),
    I("\x9c"),
    I("\x9c\x80\x4c\x24\x01\x01\x9d") /* TF */,
    I("\x8c\xd0\x8e\xd0") /* MOV SS */,
    I("\x8e\xd8"),
    I("\x50"),
    I("\x58"),
    I("\xc3"),
    I("\x48\xcb"),
    I("\x0f\x05"),
    I("\x0f\x34"),
    I("\x0f\x35"),
    I("\x48\x0f\x07"),
    I("\x0f\x01\xf8"),
    /* Memory */
    I("\x48\x89\x03"),
    I("\x48\x8b\x03"),
    I("\x48\x01\x03"),
    I("\xf0\x48\x0f\xc7\x0b"),
    I("\xf0\x48\x0f\xc1\x03"),
    I("\xff\xe3"),
    I("\xff\xd3"),
    I("\xa4"),
    I("\x48\xab"),
    I("\xf3\xa4"),
    I("\xf3\x48\xab"),
    I("\x0f\x0d\x0b"),
    I("\x66\x89\x03"),
    I("\x88\x03"),
    I("\x0f\xc3\x03"),
    /* MSRs and ports */
    I("\x0f\x32"),
    I("\x0f\x30"),
    I("\xe4\x80"),
    I("\xe6\x80"),
    I("\xec"),
    I("\xee"),
    I("\x6c"),
    I("\x6e"),
    I("\xf3\x6c"),
    I("\xf3\x6e"),
    /* Loops */
    I("\xeb\xfe"),
    I("\xeb\x80"),
    I("\xe2\xf0"),
    I("\xeb\x10"),
};

#undef I

/* MOV of 64 bits to RAX, RCX, RDX, RBX, RSI, RDI, RSP or R8. */
static unsigned put_load(u8 *at)
{
    static const u8 registers[] = {0, 1, 2, 3, 3, 6, 7, 4};
    u64 value = hostile_l2_value();

    at[0] = 0x48;
    at[1] = (u8)(0xb8 + registers[hostile_below(ARRAY_SIZE(registers))]);
    memcpy(at + 2, &value, 8);
    return 10;
}

static unsigned put_msr(u8 *at)
{
    u32 msr = hostile_msr();

    at[0] = 0xb9;
    memcpy(at + 1, &msr, 4);
    at[5] = 0x0f;
    at[6] = hostile_chance(50) ? 0x30 : 0x32;
    return 7;
}

/* Bochs ends itself at a string instruction in 64-bit mode with this one. */
enum { ADDRESS_SIZE_PREFIX = 0x67 };

static unsigned put_bytes(u8 *at)
{
    u64 bytes = hostile_random();
    unsigned size = 1 + hostile_below(8);

    memcpy(at, &bytes, 8);
    for (unsigned i = 0; i < size; i++)
        at[i] = at[i] == ADDRESS_SIZE_PREFIX ? 0x66 : at[i];
    return size;
}

static unsigned put_instruction(u8 *at)
{
    unsigned index = hostile_below(ARRAY_SIZE(instructions)), size = 0;
    static const u8 prefixes[] = {0x66, 0xf0, 0xf2, 0xf3, 0x2e, 0x48, 0x41};

    if (hostile_chance(6))
        at[size++] = prefixes[hostile_below(ARRAY_SIZE(prefixes))];
    memcpy(at + size, instructions[index].bytes, instructions[index].size);
    return size + instructions[index].size;
}

enum { LONGEST = 16 };
static u16 starts[CODE_PAGES][PAGE_SIZE / 4];
static unsigned start_count[CODE_PAGES];

u64 hostile_code_address(void)
{
    unsigned page = hostile_below(CODE_PAGES);
    u64 offset = hostile_below(PAGE_SIZE);

    if (start_count[page] != 0 && hostile_chance(85))
        offset = starts[page][hostile_below(start_count[page])];
    return play_page(PAGE_CODE + page) + offset;
}

void hostile_write_code(unsigned page)
{
    u8 *at = (u8 *)play_page(PAGE_CODE + page), *end = at + PAGE_SIZE;

    start_count[page] = 0;
    while (at + LONGEST <= end) {
        if (start_count[page] < ARRAY_SIZE(starts[page]))
            starts[page][start_count[page]++] = (u16)((u64)at & PAGE_MASK);
        unsigned choice = hostile_below(100);
        if (choice < 40)
            at += put_load(at);
        else if (choice < 45)
            at += put_msr(at);
        else if (choice < 50)
            at += put_bytes(at);
        else
            at += put_instruction(at);
    }
    memset(at, 0xf4, (size_t)(end - at));
}
