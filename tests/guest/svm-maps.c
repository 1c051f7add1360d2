/* SPDX-License-Identifier: MIT */
/*
 * Group svm-maps: the I/O and the MSR permission map: which accesses exit, with all of EXITINFO, at the edges
 * of the maps too, and that a changed map counts from the next VMRUN on. Source: APM vol. 2 15.10, 15.11.
 */
#include "tests/guest/svm.h"

static u8 data[PAGE_SIZE] __attribute__((aligned(4096)));

/* --- I/O --- */

/* EXITINFO1 of VMEXIT_IOIO, 15.10.2 */
enum {
    IO_IN = 1 << 0,
    IO_STRING = 1 << 2,
    IO_REP = 1 << 3,
    IO_8 = 1 << 4,
    IO_16 = 1 << 5,
    IO_32 = 1 << 6,
    IO_ADDRESS_32 = 1 << 8,
    IO_ADDRESS_64 = 1 << 9,
    IO_ES = 0 << 10,
    IO_DS = 3 << 10,
    IO_FS = 4 << 10,
    IO_ADDRESS = 7 << 7 | 7 << 10, /* the address-size and segment bits */
};

L2_CODE(code_in8, "", "in $0x80, %al");
L2_CODE(code_in16, "", "in $0x80, %ax");
L2_CODE(code_in32, "", "in $0x80, %eax");
L2_CODE(code_out8, "", "out %al, $0x80");
L2_CODE(code_out16, "", "out %ax, $0x80");
L2_CODE(code_out32, "", "out %eax, $0x80");
L2_CODE(code_in8_dx, "", "in %dx, %al");
L2_CODE(code_in16_dx, "", "in %dx, %ax");
L2_CODE(code_in32_dx, "", "in %dx, %eax");
L2_CODE(code_out8_dx, "", "out %al, %dx");
L2_CODE(code_out16_dx, "", "out %ax, %dx");
L2_CODE(code_out32_dx, "", "out %eax, %dx");
L2_CODE(code_insb, "", "insb");
L2_CODE(code_insl, "", "insl");
L2_CODE(code_outsb, "", "outsb");
L2_CODE(code_outsw, "", "outsw");
L2_CODE(code_outsb_fs, "", "fs outsb");
L2_CODE(code_outsb_32, "", "addr32 outsb");
L2_CODE(code_rep_insb, "", "rep insb");
L2_CODE(code_rep_outsl, "", "rep outsl");

static const struct io_case {
    const char *name;
    const struct l2_code *code;
    u64 port, info;
} io_cases[] = {
    {"in8", &code_in8, 0x80, IO_IN | IO_8},
    {"in16", &code_in16, 0x80, IO_IN | IO_16},
    {"in32", &code_in32, 0x80, IO_IN | IO_32},
    {"out8", &code_out8, 0x80, IO_8},
    {"out16", &code_out16, 0x80, IO_16},
    {"out32", &code_out32, 0x80, IO_32},
    {"in8_dx", &code_in8_dx, 0x3ff, IO_IN | IO_8},
    {"in16_dx", &code_in16_dx, 0x84, IO_IN | IO_16},
    {"in32_dx", &code_in32_dx, 0xffff, IO_IN | IO_32},
    {"out8_dx", &code_out8_dx, 0x8000, IO_8},
    {"out16_dx", &code_out16_dx, 0x7fff, IO_16},
    {"out32_dx", &code_out32_dx, 0xfffc, IO_32},
    {"insb", &code_insb, 0x80, IO_IN | IO_STRING | IO_8 | IO_ADDRESS_64 | IO_ES},
    {"insl", &code_insl, 0x84, IO_IN | IO_STRING | IO_32 | IO_ADDRESS_64 | IO_ES},
    {"outsb", &code_outsb, 0x80, IO_STRING | IO_8 | IO_ADDRESS_64 | IO_DS},
    {"outsw", &code_outsw, 0x80, IO_STRING | IO_16 | IO_ADDRESS_64 | IO_DS},
    {"outsb_fs", &code_outsb_fs, 0x80, IO_STRING | IO_8 | IO_ADDRESS_64 | IO_FS},
    {"outsb_32", &code_outsb_32, 0x80, IO_STRING | IO_8 | IO_ADDRESS_32 | IO_DS},
    {"rep_insb", &code_rep_insb, 0x80, IO_IN | IO_STRING | IO_REP | IO_8 | IO_ADDRESS_64 | IO_ES},
    {"rep_outsl", &code_rep_outsl, 0x84, IO_STRING | IO_REP | IO_32 | IO_ADDRESS_64 | IO_DS},
};

static void prepare(u32 intercept, u64 port)
{
    svm_reset();
    svm_intercept(intercept);
    l2.rdx = port;
    l2.rsi = (u64)data;
    l2.rdi = (u64)data + 64;
    l2.rcx = 3;
}

static void set_bit(u8 *map, u64 bit, bool set)
{
    map[bit / 8] = (u8)((map[bit / 8] & ~(1u << bit % 8)) | (unsigned)set << bit % 8);
}

static void check_io_exit(const struct io_case *test)
{
    char prefix[64];

    print_to(prefix, sizeof(prefix), "svm-maps.io.%s", test->name);
    prepare(VMEXIT_IOIO, test->port);
    set_bit(svm_io_map, test->port, true);
    check_part(prefix, "exit", svm_run(test->code), VMEXIT_IOIO);
    check_part(prefix, "info_1", vmcb.control.exit_info_1 & ~(u64)IO_ADDRESS,
               (test->port << 16 | test->info) & ~(u64)IO_ADDRESS);
    if ((test->info & IO_STRING) != 0)
        check_part(prefix, "address", vmcb.control.exit_info_1 & IO_ADDRESS, test->info & IO_ADDRESS);
    check_part(prefix, "info_2", vmcb.control.exit_info_2, (u64)test->code->next);
    check_part(prefix, "rip", vmcb.save.rip, (u64)test->code->at);
    check_part(prefix, "rcx", l2.rcx, 3);
    check_part(prefix, "rsi", l2.rsi, (u64)data);
    check_part(prefix, "rdi", l2.rdi, (u64)data + 64);
}

/* Of each byte of the access one bit counts, beyond the last port the bits behind it. */
static void check_io_map(void)
{
    static const struct {
        const char *name;
        const struct l2_code *code;
        u64 port, bit;
        bool exits;
    } cases[] = {
        {"byte_below", &code_in8_dx, 0x81, 0x80, false},
        {"byte_above", &code_in8_dx, 0x81, 0x82, false},
        {"word_second", &code_in16_dx, 0x81, 0x82, true},
        {"word_above", &code_in16_dx, 0x81, 0x83, false},
        {"word_across", &code_in16_dx, 0x87, 0x88, true},
        {"long_last", &code_in32_dx, 0x84, 0x87, true},
        {"long_above", &code_in32_dx, 0x84, 0x88, false},
        {"long_across", &code_in32_dx, 0x86, 0x89, true},
        {"page_across", &code_in16_dx, 0x7fff, 0x8000, true},
        {"wraps_16", &code_in16_dx, 0xffff, 0x10000, true},
        {"wraps_32", &code_in32_dx, 0xfffd, 0x10000, true},
        {"wraps_not_to_0", &code_in16_dx, 0xffff, 0, false},
    };
    char prefix[64];

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        print_to(prefix, sizeof(prefix), "svm-maps.io_map.%s", cases[i].name);
        prepare(VMEXIT_IOIO, cases[i].port);
        set_bit(svm_io_map, cases[i].bit, true);
        check_part(prefix, "exit", svm_run(cases[i].code), cases[i].exits ? VMEXIT_IOIO : VMEXIT_VMMCALL);
        set_bit(svm_io_map, cases[i].bit, false);
        l2.rdx = cases[i].port;
        check_part(prefix, "opened", svm_run(cases[i].code), VMEXIT_VMMCALL);
    }
    prepare(VMEXIT_IOIO, 0x80);
    check_eq("svm-maps.io_map.closed", svm_run(&code_out8_dx), VMEXIT_VMMCALL);
    set_bit(svm_io_map, 0x80, true);
    check_eq("svm-maps.io_map.then_set", svm_run(&code_out8_dx), VMEXIT_IOIO);
    svm_allow(VMEXIT_IOIO);
    check_eq("svm-maps.io_map.without_intercept", svm_run(&code_out8_dx), VMEXIT_VMMCALL);
    /* In ring 3 the TSS comes first. */
    prepare(VMEXIT_IOIO, 0x80);
    set_bit(svm_io_map, 0x80, true);
    check_eq("svm-maps.io_map.ring3", svm_run_user(&code_in8_dx), VMEXIT_EXCP0 + EXC_GP);
    vmcb.save.rflags |= BITS(13, 12);
    check_eq("svm-maps.io_map.ring3_iopl", svm_run_user(&code_in8_dx), VMEXIT_IOIO);
    check_eq("svm-maps.io_map.ring3_iopl_info_2", vmcb.control.exit_info_2,
             svm_at_user(&code_in8_dx, code_in8_dx.next));
}

/* What comes from a port that is open is the device's. */
static void check_io_values(void)
{
    out8(0x70, 0x0f);
    u8 value = in8(0x71);

    prepare(VMEXIT_IOIO, 0x71);
    l2.rax = ~0ull;
    check_eq("svm-maps.io.value_exit", svm_run(&code_in8_dx), VMEXIT_VMMCALL);
    check_eq("svm-maps.io.value", l2.rax, ~0ull << 8 | value);
}

/* --- MSRs --- */

L2_CODE(code_rdmsr, "", "rdmsr");
L2_CODE(code_wrmsr, "", "wrmsr");

static const struct msr_case {
    const char *name;
    u32 msr, bit; /* of the map; the second is for writes */
    bool usable;  /* where the map is open, and zero may be written */
} msr_cases[] = {
    {"sysenter_cs", 0x174, 2 * 0x174, true},
    {"sysenter_eip", 0x176, 2 * 0x176, true},
    {"first", 0, 0, false},
    {"last_low", 0x1fff, 2 * 0x1fff, false},
    {"lstar", 0xc0000082, 2 * (0x2000 + 0x82), true},
    {"fmask", 0xc0000084, 2 * (0x2000 + 0x84), true},
    {"first_middle", 0xc0000000, 2 * 0x2000, false},
    {"last_middle", 0xc0001fff, 2 * (0x2000 + 0x1fff), false},
    {"vm_hsave_pa", 0xc0010117, 2 * (0x4000 + 0x117), false},
    {"first_high", 0xc0010000, 2 * 0x4000, false},
    {"last_high", 0xc0011fff, 2 * (0x4000 + 0x1fff), false},
};

static void expect_msr(const char *prefix, const char *what, const struct msr_case *test, bool write,
                       bool exits)
{
    const struct l2_code *code = write ? &code_wrmsr : &code_rdmsr;

    l2.rcx = test->msr;
    l2.rax = l2.rdx = 0;
    check_part(prefix, what, svm_run(code), exits ? VMEXIT_MSR : VMEXIT_VMMCALL);
    if (!exits)
        return;
    check_part(prefix, "info_1", vmcb.control.exit_info_1, write);
    check_part(prefix, "rip", vmcb.save.rip, (u64)code->at);
}

static void check_msr(const struct msr_case *test)
{
    for (unsigned write = 0; write < 2; write++) {
        char prefix[64];
        print_to(prefix, sizeof(prefix), "svm-maps.msr.%s.%s", test->name, write ? "write" : "read");
        prepare(VMEXIT_MSR, 0);
        set_bit(svm_msr_map, test->bit + write, true);
        expect_msr(prefix, "its_bit", test, write, true);
        memset(svm_msr_map, 0xff, sizeof(svm_msr_map));
        expect_msr(prefix, "all_bits", test, write, true);
        if (!test->usable)
            continue;
        set_bit(svm_msr_map, test->bit + write, false);
        expect_msr(prefix, "all_others", test, write, false);
        svm_allow(VMEXIT_MSR);
        set_bit(svm_msr_map, test->bit + write, true);
        expect_msr(prefix, "without_intercept", test, write, false);
    }
}

/* MSRs that the map has no bits for always exit. */
static void check_msrs_beyond(void)
{
    static const struct msr_case beyond[] = {
        {"2000", 0x2000, 0, false},         {"bfffffff", 0xbfffffff, 0, false},
        {"c0002000", 0xc0002000, 0, false}, {"c000ffff", 0xc000ffff, 0, false},
        {"c0012000", 0xc0012000, 0, false}, {"40000000", 0x40000000, 0, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(beyond); i++) {
        char prefix[64];
        print_to(prefix, sizeof(prefix), "svm-maps.msr.beyond.%s", beyond[i].name);
        prepare(VMEXIT_MSR, 0);
        expect_msr(prefix, "read", &beyond[i], false, true);
        expect_msr(prefix, "write", &beyond[i], true, true);
    }
}

/* L2 has those that it may use from L1, and leaves them to it. */
static void check_msr_values(void)
{
    const u64 value = 0x7654321000;
    u64 before = rdmsr(MSR_LSTAR);

    wrmsr(MSR_LSTAR, value);
    prepare(VMEXIT_MSR, 0);
    l2.rcx = MSR_LSTAR;
    check_eq("svm-maps.msr.value_exit", svm_run(&code_rdmsr), VMEXIT_VMMCALL);
    check_eq("svm-maps.msr.value", l2.rdx << 32 | l2.rax, value);
    l2.rax = 0x9000;
    l2.rdx = 0;
    check_eq("svm-maps.msr.write_exit", svm_run(&code_wrmsr), VMEXIT_VMMCALL);
    check_eq("svm-maps.msr.written", rdmsr(MSR_LSTAR), 0x9000);
    wrmsr(MSR_LSTAR, before);
}

/* What L1 leaves to L2 goes as for L1 itself: the same values, the same refusals. */
static void check_msrs_of_l1(void)
{
    static const u32 msrs[] = {0x1b,       0xfe,       0x174,      0x179,      0x1d9,
                               0x200,      0x277,      0x2ff,      0xc0000080, 0xc0000081,
                               0xc0000100, 0xc0000103, 0xc0010010, 0xc0010015, 0xc001001a,
                               0xc0010111, 0xc0010112, 0xc0010113, 0xc0010114, 0xc0010117};

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        char prefix[64];
        u64 value = 0;
        print_to(prefix, sizeof(prefix), "svm-maps.as_l1.%x", msrs[i]);
        u64 read = try_rdmsr(msrs[i], &value);
        prepare(VMEXIT_MSR, 0);
        l2.rcx = msrs[i];
        check_part(prefix, "read", svm_run(&code_rdmsr),
                   read == NO_FAULT ? VMEXIT_VMMCALL : VMEXIT_EXCP0 + read);
        if (read != NO_FAULT)
            continue;
        check_part(prefix, "value", l2.rdx << 32 | l2.rax, value);
        u64 written = try_wrmsr(msrs[i], value);
        l2.rax = (u32)value;
        l2.rdx = value >> 32;
        check_part(prefix, "write", svm_run(&code_wrmsr),
                   written == NO_FAULT ? VMEXIT_VMMCALL : VMEXIT_EXCP0 + written);
    }
}

void group_svm_maps(void)
{
    if (!svm_start("svm-maps"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(io_cases); i++)
        check_io_exit(&io_cases[i]);
    check_io_map();
    check_io_values();
    for (unsigned i = 0; i < ARRAY_SIZE(msr_cases); i++)
        check_msr(&msr_cases[i]);
    check_msrs_beyond();
    check_msr_values();
    check_msrs_of_l1();
    svm_stop();
}
