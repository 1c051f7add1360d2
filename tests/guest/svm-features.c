/* SPDX-License-Identifier: MIT */
/*
 * Group svm-features: what L1 may hand to the CPU to do for L2, where the CPU can: the TSC ratio. Source: APM
 * vol. 2 15.30.5.
 */
#include "tests/guest/svm.h"

enum { SVM_HAS_TSC_RATIO = 1 << 4 };

#define SAVE_TSC "shl $32, %rdx\nor %rdx, %rax\nmov %rax, %rsi"
L2_CODE(code_rdtsc, "rdtsc", SAVE_TSC);
L2_CODE(code_rdtscp, "rdtscp", SAVE_TSC);
L2_CODE(code_cpuid_rdtsc, "cpuid\nrdtsc", SAVE_TSC);
L2_CODE(code_wrmsr_rdtsc, "wrmsr\nrdtsc", SAVE_TSC);

/* --- TSC ratio --- */

static u64 scaled(u64 tsc, u64 ratio)
{
    return (u64)((unsigned __int128)tsc * ratio >> 32);
}

/* L2's time is between those of L1 before and after, as L2 should see them. */
static void expect_time(const char *name, const struct l2_code *code, u64 ratio, u64 offset)
{
    char prefix[64];
    u64 before, after;

    print_to(prefix, sizeof(prefix), "svm-features.tsc_ratio.%s", name);
    vmcb.control.tsc_offset = offset;
    vmcb.control.clean = 0;
    before = rdtsc();
    check_part(prefix, "exit", svm_run(code), VMEXIT_VMMCALL);
    after = rdtsc();
    check_part(prefix, "not_before", l2.rsi - offset >= scaled(before, ratio), true);
    check_part(prefix, "not_after", l2.rsi - offset <= scaled(after, ratio), true);
}

static void check_tsc_msr(void)
{
    check_eq("svm-features.tsc_ratio.first", rdmsr(MSR_TSC_RATIO), TSC_RATIO_ONE);
    for (unsigned bit = 40; bit < 64; bit++)
        check_eq("svm-features.tsc_ratio.reserved", try_wrmsr(MSR_TSC_RATIO, TSC_RATIO_ONE | BIT(bit)),
                 EXC_GP);
    check_eq("svm-features.tsc_ratio.kept", rdmsr(MSR_TSC_RATIO), TSC_RATIO_ONE);
    check_eq("svm-features.tsc_ratio.write", try_wrmsr(MSR_TSC_RATIO, BITS(39, 0)), NO_FAULT);
    check_eq("svm-features.tsc_ratio.read", rdmsr(MSR_TSC_RATIO), BITS(39, 0));
}

static void check_tsc_ratio(void)
{
    static const u64 ratios[] = {
        TSC_RATIO_ONE, TSC_RATIO_ONE / 2, 2 * TSC_RATIO_ONE, 10 * TSC_RATIO_ONE + 12345, 0, 1000,
    };
    u64 before;

    if (!svm_has(SVM_HAS_TSC_RATIO)) {
        note_skipped("svm-features.tsc_ratio", "not offered");
        return;
    }
    check_tsc_msr();
    svm_reset();
    for (unsigned i = 0; i < ARRAY_SIZE(ratios); i++) {
        wrmsr(MSR_TSC_RATIO, ratios[i]);
        expect_time("rdtsc", &code_rdtsc, ratios[i], 0);
        expect_time("offset", &code_rdtsc, ratios[i], 0x123456789abcdef0);
        expect_time("rdtscp", &code_rdtscp, ratios[i], ~0ull);
        /* An exit that L1 does not see in between. */
        expect_time("cpuid", &code_cpuid_rdtsc, ratios[i], 5);
    }
    /* The host's is never scaled. */
    before = rdtsc();
    wrmsr(MSR_TSC_RATIO, 0);
    check_eq("svm-features.tsc_ratio.of_l1", rdtsc() > before, true);
    svm_intercept(EXIT_RDTSC);
    vmcb.control.clean = 0;
    check_eq("svm-features.tsc_ratio.intercepted", svm_run(&code_rdtsc), EXIT_RDTSC);
    svm_allow(EXIT_RDTSC);
    /* L2 may be given the MSR itself, which is L1's. */
    l2.rcx = MSR_TSC_RATIO;
    l2.rax = 0;
    l2.rdx = 3;
    expect_time("of_l2", &code_wrmsr_rdtsc, 3 * TSC_RATIO_ONE, 0);
    check_eq("svm-features.tsc_ratio.left_by_l2", rdmsr(MSR_TSC_RATIO), 3 * TSC_RATIO_ONE);
    check_eq("svm-features.tsc_ratio.of_l1_after", rdtsc() - before < before, true);
    wrmsr(MSR_TSC_RATIO, TSC_RATIO_ONE);
}

void group_svm_features(void)
{
    if (!svm_start("svm-features"))
        return;
    check_tsc_ratio();
    svm_stop();
}
