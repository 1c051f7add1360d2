/* SPDX-License-Identifier: MIT */
/*
 * Group `hidden`, for nested=off: virtualization and its relatives, as a CPU without them behaves. A bare CPU
 * answers the same as long as CR4.VMXE, CR4.SMXE and EFER.SVME are clear, so every check holds bare and under
 * Umbra.
 */
#include "tests/guest/guest.h"

enum {
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_EFER = 0xc0000080,
    MSR_VM_CR = 0xc0010114,
    MSR_VM_HSAVE_PA = 0xc0010117
};

static u8 operand[4096] __attribute__((aligned(4096)));

static const struct {
    const char *name, *bytes;
    size_t size;
} instructions[] = {
    {"vmcall", "\x0f\x01\xc1", 3},
    {"vmlaunch", "\x0f\x01\xc2", 3},
    {"vmresume", "\x0f\x01\xc3", 3},
    {"vmxoff", "\x0f\x01\xc4", 3},
    {"vmfunc", "\x0f\x01\xd4", 3},
    {"vmread", "\x0f\x78\xd8", 3},
    {"vmwrite", "\x0f\x79\xd8", 3},
    {"vmptrld", "\x0f\xc7\x36", 3},
    {"vmptrst", "\x0f\xc7\x3e", 3},
    {"vmclear", "\x66\x0f\xc7\x36", 4},
    {"vmxon", "\xf3\x0f\xc7\x36", 4},
    {"invept", "\x66\x0f\x38\x80\x06", 5},
    {"invvpid", "\x66\x0f\x38\x81\x06", 5},
    {"getsec", "\x0f\x37", 2},
    {"rsm", "\x0f\xaa", 2},
    {"encls", "\x0f\x01\xcf", 3},
    {"enclv", "\x0f\x01\xc0", 3},
    {"pconfig", "\x0f\x01\xc5", 3},
    {"vmrun", "\x0f\x01\xd8", 3},
    {"vmmcall", "\x0f\x01\xd9", 3},
    {"vmload", "\x0f\x01\xda", 3},
    {"vmsave", "\x0f\x01\xdb", 3},
    {"stgi", "\x0f\x01\xdc", 3},
    {"clgi", "\x0f\x01\xdd", 3},
    {"skinit", "\x0f\x01\xde", 3},
    {"invlpga", "\x0f\x01\xdf", 3},
};

static u64 run_instruction(size_t index, enum code_mode mode, u64 rax)
{
    const struct code code = {.bytes = instructions[index].bytes,
                              .size = instructions[index].size,
                              .rax = rax,
                              .rbx = 1,
                              .rcx = HYPERCALL_EXITS,
                              .rsi = (u64)operand,
                              .rdi = (u64)operand};
    return execute(mode, &code);
}

static void instructions_are_undefined(void)
{
    char name[64];
    for (size_t i = 0; i < ARRAY_SIZE(instructions); i++) {
        for (enum code_mode mode = RING0_64; mode <= RING3_32; mode++) {
            u64 vector = run_instruction(i, mode, (u64)operand);
            print_to(name, sizeof(name), "hidden.%s_%s", instructions[i].name, code_mode_name[mode]);
            check(name, vector == EXC_UD && fault.frame.rip == execute_address(mode));
        }
    }
}

/* Umbra's hypercalls exist for CPL 0 only, and only with their magic number. */
static void hypercalls_of_others(void)
{
    struct code code = {CODE("\x0f\x01\xc1"), .rax = HYPERCALL_MAGIC, .rcx = HYPERCALL_EXITS};
    if (!is_intel)
        code.bytes = "\x0f\x01\xd9";
    check_eq("hidden.hypercall_ring3-64", execute(RING3_64, &code), EXC_UD);
    check_eq("hidden.hypercall_ring3-32", execute(RING3_32, &code), EXC_UD);
    check_eq("hidden.hypercall_ring0-32", execute(RING0_32, &code), under_umbra ? VECTOR_DONE : EXC_UD);
    code.rcx = 0xdead;
    check_eq("hidden.hypercall_unknown_function", execute(RING0_64, &code), EXC_UD);
    code.rcx = HYPERCALL_EXITS;
    code.rax++;
    check_eq("hidden.hypercall_wrong_magic", execute(RING0_64, &code), EXC_UD);
}

static void control_bits(void)
{
    u64 cr4 = read_cr4(), value;
    if (under_umbra && !reserved_cr4_is_deadly()) {
        check_eq("hidden.cr4_vmxe", try_write_cr4(cr4 | CR4_VMXE), EXC_GP);
        check_eq("hidden.cr4_after_vmxe", read_cr4(), cr4);
        check_eq("hidden.cr4_smxe", try_write_cr4(cr4 | CR4_SMXE), EXC_GP);
    }
    if (is_intel || under_umbra) {
        check_eq("hidden.efer_svme", try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME), EXC_GP);
        check_eq("hidden.efer_after_svme", rdmsr(MSR_EFER) & EFER_SVME, 0);
    }
    if (!under_umbra)
        return;
    if (is_intel) {
        /* Either not there at all, or locked with VMX off. */
        u64 vector = try_rdmsr(MSR_FEATURE_CONTROL, &value);
        check("hidden.feature_control", vector == EXC_GP || (vector == NO_FAULT && (value & 7) == 1));
        check_eq("hidden.feature_control_write", try_wrmsr(MSR_FEATURE_CONTROL, 5), EXC_GP);
        for (u32 msr = 0x480; msr <= 0x493; msr++) {
            if (try_rdmsr(msr, &value) != EXC_GP)
                check("hidden.vmx_capability_msrs", false);
        }
    } else {
        u64 vector = try_rdmsr(MSR_VM_CR, &value);
        check("hidden.vm_cr", vector == EXC_GP || (vector == NO_FAULT && (value & 0x18) == 0x18));
        check_eq("hidden.vm_hsave_pa", try_rdmsr(MSR_VM_HSAVE_PA, &value), EXC_GP);
        check_eq("hidden.vm_hsave_pa_write", try_wrmsr(MSR_VM_HSAVE_PA, 0x1000), EXC_GP);
    }
}

static void hidden_features(void)
{
    if (!under_umbra)
        return;
    check("hidden.cpuid_vmx", !(cpuid(1, 0).ecx & BIT(5)));
    check("hidden.cpuid_svm", !(cpuid(0x80000001, 0).ecx & BIT(2)));
    struct cpuid svm = cpuid(0x8000000a, 0);
    if (!is_intel)
        check("hidden.cpuid_svm_leaf", !(svm.eax | svm.ebx | svm.ecx | svm.edx));
}

void group_hidden(void)
{
    instructions_are_undefined();
    hypercalls_of_others();
    control_bits();
    hidden_features();
}
