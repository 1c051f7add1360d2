/* SPDX-License-Identifier: MIT */
/*
 * What CPUID hides: every bit of every leaf, compared with a list of what may be missing that is written here
 * a second time, from the manuals' bit numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "vcpu/cpuid.h"
#include "vcpu/vcpu.h"

enum reg { EAX, EBX, ECX, EDX };

static const struct hidden {
    u32 leaf;
    int subleaf; /* -1: any */
    enum reg reg;
    u32 bits;
} hidden[] = {
    {1, -1, ECX, 1u << 5 | 1u << 6},
    {6, -1, EAX, 1u << 19 | 1u << 23},
    {6, -1, ECX, 0xff00},
    {6, -1, EDX, ~0u},
    {7, 0, EBX, 1u << 2 | 1u << 25},
    {7, 0, ECX, 1u << 30},
    {7, 0, EDX, 1u << 1 | 1u << 18},
    {7, 1, EAX, 1u << 8 | 1u << 17 | 1u << 27},
    {7, 1, ECX, 1u << 5},
    {7, 1, EDX, 1u << 15},
    {0xd, 1, ECX, 1u << 8},
    {0x80000001, -1, ECX, 1u << 2 | 1u << 12 | 1u << 15},
    {0x80000008, -1, EBX, 1u << 3},
};

/* Leaves, and one subleaf, that read as zero altogether. */
static bool all_hidden(u32 leaf, u32 subleaf)
{
    switch (leaf) {
    case 0x12:
    case 0x14:
    case 0x1b:
    case 0x23:
    case 0x8000000a:
    case 0x8000001c:
    case 0x8000001f:
        return true;
    case 0xd:
        return subleaf == 8;
    default:
        return false;
    }
}

static u32 expected(u32 leaf, u32 subleaf, enum reg reg)
{
    u32 value = all_hidden(leaf, subleaf) ? 0 : ~0u;
    for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
        if (hidden[i].leaf == leaf && hidden[i].reg == reg &&
            (hidden[i].subleaf < 0 || (u32)hidden[i].subleaf == subleaf))
            value &= ~hidden[i].bits;
    }
    return value;
}

/* CR4 has OSXSAVE and PKE set, so that the two mirrored bits stay ones. */
static void check_leaf(u32 leaf, u32 subleaf)
{
    struct cpuid_regs regs = {~0u, ~0u, ~0u, ~0u};
    struct cpuid_regs zero = {0, 0, 0, 0};

    cpuid_correct(leaf, subleaf, CR4_OSXSAVE | CR4_PKE, &regs);
    if (regs.eax != expected(leaf, subleaf, EAX) || regs.ebx != expected(leaf, subleaf, EBX) ||
        regs.ecx != expected(leaf, subleaf, ECX) || regs.edx != expected(leaf, subleaf, EDX))
        fail_msg("leaf %x subleaf %x: %08x %08x %08x %08x", leaf, subleaf, regs.eax, regs.ebx, regs.ecx,
                 regs.edx);

    cpuid_correct(leaf, subleaf, 0, &zero);
    if ((zero.eax | zero.ebx | zero.ecx | zero.edx) != 0)
        fail_msg("leaf %x subleaf %x: a bit is added", leaf, subleaf);
}

static void test_every_bit(void **state)
{
    (void)state;
    static const u32 bases[] = {0, 0x40000000, 0x80000000, 0x8fffff00, 0xc0000000, 0xffffff00};
    for (size_t base = 0; base < ARRAY_SIZE(bases); base++) {
        for (u32 leaf = 0; leaf < 256; leaf++) {
            for (u32 subleaf = 0; subleaf < 34; subleaf++)
                check_leaf(bases[base] + leaf, subleaf);
            check_leaf(bases[base] + leaf, ~0u);
        }
    }
}

static void check_mirror(u32 leaf, u32 bit, u64 cr4_bit)
{
    for (unsigned i = 0; i < 4; i++) {
        struct cpuid_regs regs = {.ecx = (i & 1) != 0 ? ~0u : 0};
        bool on = (i & 2) != 0;
        cpuid_correct(leaf, 0, on ? cr4_bit : ~cr4_bit, &regs);
        assert_int_equal((regs.ecx & bit) != 0, on);
    }
}

static void test_bits_that_mirror_cr4(void **state)
{
    (void)state;
    check_mirror(1, 1u << 27, CR4_OSXSAVE);
    check_mirror(7, 1u << 4, CR4_PKE);
}

/* Only the low halves select, and the high halves are cleared. */
static void test_exit_registers(void **state)
{
    static struct vcpu vcpu;
    struct cpuid_regs real = cpuid(0, 0);
    (void)state;

    memset(vcpu.gpr, 0xff, sizeof(vcpu.gpr));
    vcpu.gpr[GPR_RAX] = 0xffffffff00000000;
    vcpu.gpr[GPR_RCX] = 0xffffffff00000000;
    assert_int_equal(cpuid_exit(&vcpu, 0), EXIT_SKIP);
    assert_int_equal(vcpu.gpr[GPR_RAX], real.eax);
    assert_int_equal(vcpu.gpr[GPR_RBX], real.ebx);
    assert_int_equal(vcpu.gpr[GPR_RCX], real.ecx);
    assert_int_equal(vcpu.gpr[GPR_RDX], real.edx);
    assert_int_equal(vcpu.gpr[GPR_RSI], ~0ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_bits_that_mirror_cr4),
        cmocka_unit_test(test_exit_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
