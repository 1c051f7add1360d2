/* SPDX-License-Identifier: MIT */
/*
 * Group vmx-random: thousands of VM entries with random controls, events, state, bitmaps and lists, of one
 * random instruction each (seed=N: others). Prints how L2 left and whatever of its VMCS and of L1's registers
 * is not as at the beginning; tests/system/compare_runs.py wants the same lines without Umbra.
 */
#include "tests/guest/random-l2.h"
#include "tests/guest/vmx-random.h"

enum { SERIES = 600, RUNS = 6, REASONS_AT_LEAST = 35 };

#define VMX_STABLE(X)                                                                                        \
    X(wrmsr, "mov %r8, %rax\nmov %r9, %rdx", "wrmsr")                                                        \
    X(write_cr8, "mov $5, %esi", "mov %rsi, %cr8\nmov %cr8, %rsi")                                           \
    X(clear_vmxe, "mov %cr4, %rsi\nxor $0x2000, %rsi", "mov %rsi, %cr4")                                     \
    X(write_cr4_bit, "mov %cr4, %rsi\nxor %r10, %rsi", "mov %rsi, %cr4")                                     \
    X(write_cr0_bit, "mov %cr0, %rsi\nxor %r11, %rsi", "mov %rsi, %cr0")                                     \
    X(lmsw, "smsw %esi\nxor $0xa, %esi", "lmsw %si")                                                         \
    X(smsw_memory, "", "smsw (%rbx)")                                                                        \
    X(outsb, "lea 64(%rbx), %rsi", "outsb")                                                                  \
    X(rep_outsl, "lea 64(%rbx), %rsi\nmov $2, %ecx", "rep outsl")                                            \
    X(rep_insb, "lea 64(%rbx), %rdi\nmov $2, %ecx", "rep insb")                                              \
    X(lgdt, "sgdt (%rbx)", "lgdt (%rbx)")                                                                    \
    X(str, "", "str %esi")                                                                                   \
    X(str_memory, "", "str 8(%rbx)")                                                                         \
    X(lldt, "xor %esi, %esi", "lldt %si")                                                                    \
    X(ltr, "mov $0x50, %esi", "ltr %si")                                                                     \
    X(load_ds, "mov $0x10, %esi", "mov %esi, %ds")                                                           \
    X(load_ss_ud2, "mov %ss, %esi", "mov %esi, %ss\nud2")                                                    \
    X(load_ss_int, "mov %ss, %esi", "mov %esi, %ss\nint $0x82")                                              \
    X(load_ss_load, "mov %ss, %esi", "mov %esi, %ss\nmov (%rbx), %rsi")                                      \
    X(sti_hlt, "", "sti\nhlt")                                                                               \
    X(sti_ud2, "", "sti\nud2")                                                                               \
    X(sti_cli, "", "sti\ncli\nnop")                                                                          \
    X(popf_if, "push $0x202", "popf\nnop")                                                                   \
    X(send_self, "mov $0xfee00300, %edi\nmov $0x44041, %esi", "mov %esi, (%rdi)\nnop\nnop")                  \
    X(send_nmi, "mov $0xfee00300, %edi\nmov $0x4400, %esi", "mov %esi, (%rdi)\nnop\nnop")                    \
    X(read_apic, "mov $0xfee00080, %edi", "mov (%rdi), %esi")                                                \
    X(write_apic, "mov $0xfee00080, %edi\nxor %esi, %esi", "mov %esi, (%rdi)")                               \
    X(fnop, "", "fnop")                                                                                      \
    X(fault_np, "mov $0x48, %esi", "mov %esi, %es")                                                          \
    X(fault_gp_selector, "mov $0xfff8, %esi", "mov %esi, %es")                                               \
    X(fetch_window, "", "jmp *%rbx")                                                                         \
    X(rdpmc, "xor %ecx, %ecx", "rdpmc")                                                                      \
    X(mwait, "mov %rbx, %rax\nxor %ecx, %ecx\nxor %edx, %edx\nmonitor\nxor %eax, %eax", "mwait")             \
    X(invpcid, "mov $2, %esi", "invpcid (%rbx), %rsi")                                                       \
    X(xsaves, "mov $1, %eax\nxor %edx, %edx", "xsaves (%rbx)")                                               \
    X(getsec, "xor %eax, %eax", "getsec")                                                                    \
    X(rsm, "", "rsm")                                                                                        \
    X(vmcall, "", "vmcall")                                                                                  \
    X(vmfunc, "xor %eax, %eax\nmov $1, %ecx", "vmfunc")                                                      \
    X(vmread, "", "vmread %r12, %rsi")                                                                       \
    X(vmread_memory, "", "vmread %r12, 8(%rbx)\nmov $1, %esi")                                               \
    X(vmwrite, "", "vmwrite %rsi, %r12\nmov $1, %esi")                                                       \
    X(vmwrite_memory, "", "vmwrite 8(%rbx), %r12\nmov $1, %esi")                                             \
    X(vmptrld, "", "vmptrld (%rbx)")                                                                         \
    X(vmptrst, "", "vmptrst 16(%rbx)")                                                                       \
    X(vmclear, "", "vmclear (%rbx,%rbp,4)")                                                                  \
    X(vmlaunch, "", "vmlaunch")                                                                              \
    X(vmresume, "", "vmresume")                                                                              \
    X(vmxoff, "", "vmxoff")                                                                                  \
    X(vmxon, "", "vmxon (%rbx)")                                                                             \
    X(invept, "mov $2, %esi", "invept (%rbx), %rsi")                                                         \
    X(invvpid, "mov $2, %esi", "invvpid (%rbx), %rsi")

/* Only where L2 is in 64-bit mode. The first returns to the code after it, with NMIs open; not so its second.
 */
#define VMX_STABLE_64(X)                                                                                     \
    X(iret,                                                                                                  \
      "mov %ss, %esi\npush %rsi\nlea 8(%rsp), %rsi\npush %rsi\npushfq\nmov %cs, %esi\npush %rsi\n"           \
      "lea 1f(%rip), %rsi\npush %rsi",                                                                       \
      "iretq\n1: nop\nnop")                                                                                  \
    X(iret_fault, "push $0\npush $0\npush $0\npush $0\npush $0", "iretq")

#define VMX_UNSTABLE(X)                                                                                      \
    X(rdtscp, "", "rdtscp")                                                                                  \
    X(rdrand, "mov %esi, %r8d", "rdrand %eax")                                                               \
    X(rdseed, "mov %esi, %r8d", "rdseed %eax")                                                               \
    X(load_ss_cpuid_tf, "pushf\norq $0x100, (%rsp)\npopf\nmov %ss, %esi\nmov %esi, %ss", "cpuid\nnop")

RANDOM_STABLE(RANDOM_DEFINE)
RANDOM_UNSTABLE(RANDOM_DEFINE)
VMX_STABLE(RANDOM_DEFINE)
VMX_UNSTABLE(RANDOM_DEFINE)
VMX_STABLE_64(RANDOM_DEFINE)
static const struct random_code codes[] = {RANDOM_STABLE(RANDOM_LIST) RANDOM_UNSTABLE(RANDOM_LIST) VMX_STABLE(
    RANDOM_LIST) VMX_UNSTABLE(RANDOM_LIST) VMX_STABLE_64(RANDOM_LIST)};
enum { CODES_64 = 2, STI = 0xfb };

/* --- what is printed --- */

static const enum vmcs_field state_fields[] = {
    VMCS_GUEST_RIP,
    VMCS_GUEST_RSP,
    VMCS_GUEST_RFLAGS,
    VMCS_GUEST_INTERRUPTIBILITY,
    VMCS_GUEST_ACTIVITY,
    VMCS_GUEST_PENDING_DEBUG,
    VMCS_GUEST_CR0,
    VMCS_GUEST_CR3,
    VMCS_GUEST_CR4,
    VMCS_GUEST_DR7,
    VMCS_GUEST_EFER,
    VMCS_GUEST_PAT,
    VMCS_GUEST_SYSENTER_CS,
    VMCS_GUEST_SYSENTER_ESP,
    VMCS_GUEST_SYSENTER_EIP,
    VMCS_GUEST_GDTR_BASE,
    VMCS_GUEST_GDTR_LIMIT,
    VMCS_GUEST_IDTR_BASE,
    VMCS_GUEST_IDTR_LIMIT,
    VMCS_GUEST_ES_SELECTOR,
    VMCS_GUEST_CS_SELECTOR,
    VMCS_GUEST_SS_SELECTOR,
    VMCS_GUEST_DS_SELECTOR,
    VMCS_GUEST_FS_SELECTOR,
    VMCS_GUEST_GS_SELECTOR,
    VMCS_GUEST_LDTR_SELECTOR,
    VMCS_GUEST_TR_SELECTOR,
    VMCS_GUEST_ES_RIGHTS,
    VMCS_GUEST_CS_RIGHTS,
    VMCS_GUEST_SS_RIGHTS,
    VMCS_GUEST_DS_RIGHTS,
    VMCS_GUEST_FS_RIGHTS,
    VMCS_GUEST_GS_RIGHTS,
    VMCS_GUEST_LDTR_RIGHTS,
    VMCS_GUEST_TR_RIGHTS,
    VMCS_GUEST_ES_LIMIT,
    VMCS_GUEST_CS_LIMIT,
    VMCS_GUEST_SS_LIMIT,
    VMCS_GUEST_DS_LIMIT,
    VMCS_GUEST_TR_LIMIT,
    VMCS_GUEST_FS_BASE,
    VMCS_GUEST_GS_BASE,
    VMCS_GUEST_TR_BASE,
    VMCS_ENTRY_CONTROLS,
    VMCS_ENTRY_INTERRUPTION,
    VMCS_ENTRY_ERROR_CODE,
    VMCS_ENTRY_INSTRUCTION_LENGTH,
    VMCS_CR0_SHADOW,
    VMCS_CR4_SHADOW,
};
static const u32 own_msrs[] = {MSR_STAR,    MSR_LSTAR,    MSR_CSTAR,
                               MSR_FMASK,   MSR_TSC_AUX,  MSR_KERNEL_GS_BASE,
                               MSR_FS_BASE, MSR_GS_BASE,  MSR_IA32_SYSENTER_CS,
                               MSR_EFER,    MSR_IA32_PAT, MSR_IA32_SYSENTER_ESP};

static u64 plain_state[ARRAY_SIZE(state_fields)], plain_msr[ARRAY_SIZE(own_msrs)], plain_cr0;
static u8 seen[EXIT_REASONS];

static void remember_plain(void)
{
    plain_cr0 = read_cr0();
    for (unsigned i = 0; i < ARRAY_SIZE(state_fields); i++)
        plain_state[i] = vmread(state_fields[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(own_msrs); i++)
        plain_msr[i] = rdmsr(own_msrs[i]);
}

static void print_value(const char *name, u64 value)
{
    print(" %s %lx", name, value);
}

/* Exits whose instruction length or instruction information is defined: SDM vol. 3C 28.2.5. */
#define HAS_LENGTH                                                                                           \
    (BITS(32, 10) | BIT(REASON_MWAIT) | BIT(REASON_MONITOR) | BIT(REASON_PAUSE) | BIT(REASON_GDTR_IDTR) |    \
     BIT(REASON_LDTR_TR) | BIT(REASON_INVEPT) | BIT(REASON_RDTSCP) | BIT(REASON_INVVPID) |                   \
     BIT(REASON_WBINVD) | BIT(REASON_XSETBV) | BIT(REASON_RDRAND) | BIT(REASON_INVPCID) |                    \
     BIT(REASON_VMFUNC) | BIT(REASON_RDSEED) | BIT(REASON_XSAVES))
#define HAS_INFORMATION                                                                                      \
    (BIT(REASON_GDTR_IDTR) | BIT(REASON_LDTR_TR) | BIT(REASON_INVEPT) | BIT(REASON_INVVPID) |                \
     BIT(REASON_INVPCID) | BIT(REASON_RDRAND) | BIT(REASON_RDSEED) | BIT(REASON_XSAVES) |                    \
     BIT(REASON_VMCLEAR) | BIT(REASON_VMPTRLD) | BIT(REASON_VMPTRST) | BIT(REASON_VMREAD) |                  \
     BIT(REASON_VMWRITE) | BIT(REASON_VMXON))
#define IO_STRING        BIT(4)
#define REGISTER_OPERAND BIT(10)
#define NMI_UNBLOCKED    BIT(12)

static bool is_software(u64 interruption)
{
    return (interruption & INTERRUPTION_VALID) != 0 &&
           (interruption & INTERRUPTION_TYPE) >= INTERRUPTION_SOFTWARE;
}

/* Whether "NMI unblocking due to IRET" is defined: SDM vol. 3C 28.2.3. */
static bool tells_of_iret(u64 vectoring)
{
    u64 pin = vmread(VMCS_PIN_CONTROLS) & (PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);

    return (vectoring & INTERRUPTION_VALID) == 0 && pin != PIN_NMI_EXITING;
}

static void print_interruptions(u64 interruption, u64 vectoring)
{
    if ((interruption & INTERRUPTION_VALID) != 0)
        print_value("int", tells_of_iret(vectoring) ? interruption : interruption & ~NMI_UNBLOCKED);
    if ((interruption & (INTERRUPTION_VALID | INTERRUPTION_ERROR_CODE)) ==
        (INTERRUPTION_VALID | INTERRUPTION_ERROR_CODE))
        print_value("code", vmread(VMCS_EXIT_ERROR_CODE));
    if ((vectoring & INTERRUPTION_VALID) != 0)
        print_value("vectoring", vectoring);
    if ((vectoring & (INTERRUPTION_VALID | INTERRUPTION_ERROR_CODE)) ==
        (INTERRUPTION_VALID | INTERRUPTION_ERROR_CODE))
        print_value("code", vmread(VMCS_VECTORING_ERROR_CODE));
}

/* What the exit says of itself, as far as it is defined. */
static void print_exit(u64 reason)
{
    u64 qualification = vmread(VMCS_EXIT_QUALIFICATION), interruption = vmread(VMCS_EXIT_INTERRUPTION),
        vectoring = vmread(VMCS_VECTORING), bit = BIT(reason & 63);

    if (reason == REASON_EPT_VIOLATION) {
        print_value("physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
        if ((qualification & BIT(7)) != 0)
            print_value("linear", vmread(VMCS_GUEST_LINEAR_ADDRESS));
        qualification &= EPT_VIOLATION_COMPARED | (tells_of_iret(vectoring) ? NMI_UNBLOCKED : 0);
    }
    if (reason == REASON_EPT_MISCONFIGURATION)
        print_value("physical", vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
    /* Bochs tells of a displacement where there is none; the manual wants 0. */
    if ((HAS_INFORMATION & bit) != 0 && (vmread(VMCS_EXIT_INSTRUCTION_INFORMATION) & REGISTER_OPERAND) != 0)
        qualification = 0;
    print_value("q", qualification);
    print_interruptions(interruption, vectoring);
    if ((HAS_LENGTH & bit) != 0 || is_software(interruption) || is_software(vectoring))
        print_value("length", vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
    bool string = reason == REASON_IO && (qualification & IO_STRING) != 0;
    if ((HAS_INFORMATION & bit) != 0 || string)
        print_value("information", vmread(VMCS_EXIT_INSTRUCTION_INFORMATION));
    if (string)
        print_value("linear", vmread(VMCS_GUEST_LINEAR_ADDRESS));
}

static void print_state(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(state_fields); i++) {
        u64 value = vmread(state_fields[i]);
        if (value != plain_state[i])
            print(" %x=%lx", (u32)state_fields[i], value);
    }
}

/* L1's own registers after an exit, which are then what they were. */
static void print_own(void)
{
    /* No entry and no exit loads these bits. */
    u64 cr0 = read_cr0();

    if (cr0 != plain_cr0) {
        print_value("cr0", cr0);
        write_cr0(plain_cr0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(own_msrs); i++) {
        u64 value = rdmsr(own_msrs[i]);
        if (value == plain_msr[i])
            continue;
        print(" msr_%x=%lx", own_msrs[i], value);
        wrmsr(own_msrs[i], plain_msr[i]);
    }
}

/* What was pushed last, if the stack is where it was. */
static void print_stack(void)
{
    u64 rsp = vmread(VMCS_GUEST_RSP), end = (u64)l2_stack + PAGE_SIZE;

    if (rsp < (u64)l2_stack || rsp + 32 > end || (rsp & 7) != 0)
        return;
    /* Bochs saves RF at an exit in the middle of a delivery, as if there were none: the event that Umbra then
     * delivers again pushes it, with an error code as the fourth word, without as the third. */
    for (u64 at = rsp; at < rsp + 32; at += 8)
        print(" %lx", *(const u64 *)at & ~(at >= rsp + 16 ? (u64)RFLAGS_RF : 0));
}

static void print_run(unsigned series, const char *name, u64 reason, bool state)
{
    print("guest: run %u %s reason %lx left %u %u", series, name, reason, random_interrupts, random_nmis);
    if (reason < EXIT_REASONS) {
        seen[reason] = 1;
        print_exit(reason);
    } else if ((reason & EXIT_REASON_ENTRY_FAILURE) != 0 && vmread(VMCS_LINK_POINTER) == ~0ull) {
        /* Of several things that are wrong the CPU tells any one, and only a bad link pointer has a number.
         */
        print_value("q", vmread(VMCS_EXIT_QUALIFICATION));
    }
    if (reason < EXIT_REASONS || (reason & EXIT_REASON_ENTRY_FAILURE) != 0) {
        print(" rip %lx rsi %lx", vmread(VMCS_GUEST_RIP), l2.rsi);
        if (state) {
            print_stack();
            print_state();
        }
        print_own();
        random_print_memory();
    }
    print("\n");
}

/* With from=N, to see what differs: what L2 is entered with. */
static void print_entry(void)
{
    static const enum vmcs_field fields[] = {VMCS_PIN_CONTROLS,
                                             VMCS_PRIMARY_CONTROLS,
                                             VMCS_SECONDARY_CONTROLS,
                                             VMCS_EXIT_CONTROLS,
                                             VMCS_EXCEPTION_BITMAP,
                                             VMCS_PAGE_FAULT_MASK,
                                             VMCS_PAGE_FAULT_MATCH,
                                             VMCS_GUEST_PREEMPTION_TIMER,
                                             VMCS_CR0_MASK,
                                             VMCS_CR4_MASK,
                                             VMCS_TPR_THRESHOLD,
                                             VMCS_ENTRY_MSR_LOAD_COUNT,
                                             VMCS_VPID,
                                             VMCS_EPT_POINTER,
                                             VMCS_LINK_POINTER};

    print("guest: entry");
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        u64 value = 0;
        (void)try_vmread(fields[i], &value);
        print(" %x=%lx", (u32)fields[i], value);
    }
    print(" state");
    print_state();
    print("\n");
}

/* --- runs --- */

static u64 reason_now;
static const struct random_code *code_now;
static bool goes_on, traced;

static void enter(void)
{
    reason_now = goes_on ? vmx_resume() : vmx_run(code_now->code);
}

static bool in_64_bit_mode(void)
{
    return (vmread(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG) != 0 &&
           (vmread(VMCS_ENTRY_CONTROLS) & ENTRY_IA32E_GUEST) != 0;
}

static void choose_code(unsigned run)
{
    unsigned which = hostile_below(ARRAY_SIZE(codes));
    bool long_mode = in_64_bit_mode();

    goes_on = hostile_chance(15) && long_mode && run != 0;
    if (which >= ARRAY_SIZE(codes) - CODES_64 && !long_mode)
        which = 0;
    code_now = &codes[which];
}

/*
 * Bochs does not save the activity state of HLT; sets RF at the exit of an NMI, and at one in the middle of a
 * delivery; and when L2 has taken a real interrupt or NMI, it lets an instruction of the handler pass before
 * it looks for what else there is.
 */
static void forget_deviations(void)
{
    u64 rip = vmread(VMCS_GUEST_RIP), handlers = (u64)l2_vectors, nmi_handler = handlers + 16 * EXC_NMI;
    bool vectoring = (vmread(VMCS_VECTORING) & INTERRUPTION_VALID) != 0;
    bool nmi = reason_now == REASON_EXCEPTION_OR_NMI &&
               (vmread(VMCS_EXIT_INTERRUPTION) & INTERRUPTION_TYPE) == INTERRUPTION_NMI;

    if (reason_now >= EXIT_REASONS)
        return;
    vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
    if (vectoring || nmi)
        vmwrite(VMCS_GUEST_RFLAGS, vmread(VMCS_GUEST_RFLAGS) & ~(u64)RFLAGS_RF);
    if (rip - nmi_handler < 16 || (reason_now == REASON_MONITOR_TRAP_FLAG && rip - handlers < 16ull * 256))
        vmwrite(VMCS_GUEST_RIP, rip - (rip - handlers) % 16);
}

static bool run(unsigned series, unsigned number)
{
    bool nmi = hostile_chance(12), interrupt = hostile_chance(20), state = hostile_chance(60) || traced;

    choose_code(number);
    u64 shadow = vmread(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_STI,
        event = vmread(VMCS_ENTRY_INTERRUPTION);
    /* It is the CPU's choice whether NMIs wait for the instruction after STI (SDM vol. 3C table 25-3). */
    if (*code_now->code->start == STI || *code_now->code->at == STI || shadow != 0)
        nmi = false;
    /* To Bochs, code breakpoints come before NMIs, and an MTF exit that is injected does not, with MTF on. */
    if ((vmread(VMCS_GUEST_DR7) & 3) != 0 || (event & INTERRUPTION_TYPE) == INTERRUPTION_OTHER)
        nmi = false;
    if (!goes_on)
        random_registers((u64)random_data + 2048);
    random_prepare(code_now->code->at);
    if (!goes_on)
        vmwrite(VMCS_GUEST_RSP, (u64)l2_stack + PAGE_SIZE - 64);
    if (traced)
        print_entry();
    random_events_begin();
    if (interrupt)
        apic_send_self(VECTOR_SELF);
    if (nmi)
        random_with_nmi(enter);
    else
        enter();
    random_events_drain();
    forget_deviations();
    print_run(series, goes_on ? "on" : code_now->name, reason_now, state);
    return reason_now < EXIT_REASONS;
}

void group_vmx_random(void)
{
    const char *from = option(boot.command_line, "from");
    unsigned different = 0;

    if (!vmx_start("vmx-random"))
        return;
    traced = from != NULL;
    random_begin();
    /* The firmware may leave caches off, and an exit makes descriptor tables larger. */
    write_cr0(read_cr0() & ~(CR0_CD | CR0_NW));
    (void)vmx_run(codes[0].code);
    vmx_reset();
    remember_plain();
    for (unsigned series = from != NULL ? (unsigned)number(from, NULL) : 0; series < SERIES; series++) {
        random_begin_series(series);
        random_reset();
        for (unsigned i = 0; i < RUNS; i++) {
            for (unsigned changes = hostile_below(6); changes > 0; changes--)
                random_change();
            if (!run(series, i))
                random_reset();
        }
    }
    for (unsigned i = 0; i < sizeof(seen); i++)
        different += seen[i];
    check("vmx-random.reasons", from != NULL || different >= REASONS_AT_LEAST);
    random_end();
    vmx_stop();
}
