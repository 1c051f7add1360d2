/* SPDX-License-Identifier: MIT */
/*
 * CPUID for the guest. Only the leaves named here differ from the CPU's own; bits are cleared by position
 * without a question after the vendor, because each is reserved on the other's CPUs. Nothing is ever added
 * but OSXSAVE and OSPKE.
 */
#include "vcpu/cpuid.h"

#include "vcpu/nested.h"
#include "vcpu/vcpu.h"

/* SDM vol. 2A CPUID; APM vol. 3 appendix E. */
#define LEAF1_ECX_VMX     BIT(5)
#define LEAF1_ECX_SMX     BIT(6)
#define LEAF1_ECX_OSXSAVE BIT(27)

/* The hardware feedback table is written to a physical address that the guest would choose. */
#define LEAF6_EAX_HFI             BIT(19)
#define LEAF6_EAX_THREAD_DIRECTOR BIT(23)
#define LEAF6_ECX_CLASSES         BITS(15, 8)

/* Processor trace and PEBS write to memory past the second-level tables; SGX and PCONFIG are not virtualized.
 */
#define LEAF7_EBX_SGX      BIT(2)
#define LEAF7_EBX_PT       BIT(25)
#define LEAF7_ECX_OSPKE    BIT(4)
#define LEAF7_ECX_SGX_LC   BIT(30)
#define LEAF7_EDX_SGX_KEYS BIT(1)
#define LEAF7_EDX_PCONFIG  BIT(18)

/*
 * Subleaf 1: features whose use in a guest needs controls that Umbra does not set (FRED, MSR lists, immediate
 * and user MSR access), and the leaf of the new PMU, whose registers mix counters with PEBS.
 */
#define LEAF7_1_EAX_ARCH_PERFMON_EXT BIT(8)
#define LEAF7_1_EAX_FRED             BIT(17)
#define LEAF7_1_EAX_MSRLIST          BIT(27)
#define LEAF7_1_ECX_MSR_IMM          BIT(5)
#define LEAF7_1_EDX_USER_MSR         BIT(15)

/* XSAVES state component 8 holds the processor-trace MSRs: XRSTORS would write them past the MSR bitmap. */
#define XSAVE_COMPONENT_PT  8u

#define LEAF8001_ECX_SVM    BIT(2)
#define LEAF8001_ECX_SKINIT BIT(12)
#define LEAF8001_ECX_LWP    BIT(15)

/* INVLPGB and TLBSYNC are #UD in a guest unless the VMCB enables them (APM vol. 3). */
#define LEAF8008_EBX_INVLPGB BIT(3)

static void hide(u32 *reg, u64 bits)
{
    *reg &= ~(u32)bits;
}

static void mirror(u32 *reg, u64 bit, bool set)
{
    *reg = (*reg & ~(u32)bit) | (set ? (u32)bit : 0);
}

static void correct_leaf7(u32 subleaf, u64 guest_cr4, struct cpuid_regs *regs)
{
    if (subleaf == 0) {
        hide(&regs->ebx, LEAF7_EBX_SGX | LEAF7_EBX_PT);
        hide(&regs->ecx, LEAF7_ECX_SGX_LC);
        hide(&regs->edx, LEAF7_EDX_SGX_KEYS | LEAF7_EDX_PCONFIG);
        mirror(&regs->ecx, LEAF7_ECX_OSPKE, (guest_cr4 & CR4_PKE) != 0);
    } else if (subleaf == 1) {
        hide(&regs->eax, LEAF7_1_EAX_ARCH_PERFMON_EXT | LEAF7_1_EAX_FRED | LEAF7_1_EAX_MSRLIST);
        hide(&regs->ecx, LEAF7_1_ECX_MSR_IMM);
        hide(&regs->edx, LEAF7_1_EDX_USER_MSR);
    }
}

/* The sizes need no care: they follow XCR0 and IA32_XSS, which are the guest's own while it runs and in
 * Umbra. */
static void correct_xsave(u32 subleaf, struct cpuid_regs *regs)
{
    if (subleaf == 1)
        hide(&regs->ecx, BIT(XSAVE_COMPONENT_PT));
    else if (subleaf == XSAVE_COMPONENT_PT)
        *regs = (struct cpuid_regs){0};
}

static void correct_basic(u32 leaf, u32 subleaf, u64 guest_cr4, struct cpuid_regs *regs)
{
    switch (leaf) {
    case 0x1:
        hide(&regs->ecx, LEAF1_ECX_VMX | LEAF1_ECX_SMX);
        mirror(&regs->ecx, LEAF1_ECX_OSXSAVE, (guest_cr4 & CR4_OSXSAVE) != 0);
        break;
    case 0x6:
        hide(&regs->eax, LEAF6_EAX_HFI | LEAF6_EAX_THREAD_DIRECTOR);
        hide(&regs->ecx, LEAF6_ECX_CLASSES);
        regs->edx = 0; /* describes the feedback table only */
        break;
    case 0x7:
        correct_leaf7(subleaf, guest_cr4, regs);
        break;
    case 0xd:
        correct_xsave(subleaf, regs);
        break;
    default: /* 12H SGX, 14H processor trace, 1BH PCONFIG, 23H the new PMU */
        *regs = (struct cpuid_regs){0};
        break;
    }
}

static void correct_extended(u32 leaf, struct cpuid_regs *regs)
{
    switch (leaf - CPUID_EXTENDED_FIRST) {
    case 0x1:
        hide(&regs->ecx, LEAF8001_ECX_SVM | LEAF8001_ECX_SKINIT | LEAF8001_ECX_LWP);
        break;
    case 0x8:
        hide(&regs->ebx, LEAF8008_EBX_INVLPGB);
        break;
    default: /* 0AH SVM, 1CH lightweight profiling, 1FH memory encryption */
        *regs = (struct cpuid_regs){0};
        break;
    }
}

void cpuid_correct(u32 leaf, u32 subleaf, u64 guest_cr4, struct cpuid_regs *regs)
{
    if (!cpuid_is_corrected(leaf))
        return;
    if (leaf < CPUID_EXTENDED_FIRST)
        correct_basic(leaf, subleaf, guest_cr4, regs);
    else
        correct_extended(leaf, regs);
}

/* The answer of the real CPUID is in the guest's registers already. Kept out of the common path, which needs
 * no stack. */
static __attribute__((noinline)) enum exit_action correct_in_place(struct vcpu *vcpu, u32 leaf, u32 subleaf,
                                                                   u64 guest_cr4)
{
    u64 *gpr = vcpu->gpr;
    struct cpuid_regs regs = {(u32)gpr[GPR_RAX], (u32)gpr[GPR_RBX], (u32)gpr[GPR_RCX], (u32)gpr[GPR_RDX]};

    cpuid_correct(leaf, subleaf, guest_cr4, &regs);
    if (nested_hooks != NULL)
        nested_hooks->cpuid(leaf, subleaf, &regs);
    gpr[GPR_RAX] = regs.eax;
    gpr[GPR_RBX] = regs.ebx;
    gpr[GPR_RCX] = regs.ecx;
    gpr[GPR_RDX] = regs.edx;
    return EXIT_SKIP;
}

enum exit_action cpuid_exit(struct vcpu *vcpu, u64 guest_cr4)
{
    u32 leaf = (u32)vcpu->gpr[GPR_RAX];
    u32 subleaf = (u32)vcpu->gpr[GPR_RCX];
    struct cpuid_regs regs = cpuid(leaf, subleaf);

    vcpu->gpr[GPR_RAX] = regs.eax;
    vcpu->gpr[GPR_RBX] = regs.ebx;
    vcpu->gpr[GPR_RCX] = regs.ecx;
    vcpu->gpr[GPR_RDX] = regs.edx;
    /* Most leaves are the CPU's own; this exit is the one whose length a guest notices. */
    if (cpuid_is_corrected(leaf))
        return correct_in_place(vcpu, leaf, subleaf, guest_cr4);
    return EXIT_SKIP;
}
