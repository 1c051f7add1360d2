/* SPDX-License-Identifier: MIT */
/*
 * State that must survive an exit, and must not leak from one guest into another: general registers, x87, SSE
 * and AVX, debug registers, time-stamp counters; and the client's own debugging of L2.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(registers64);
L2(fpu64);
L2(avx64);
L2(debug_registers64);
L2(watch64);
L2(steps64);
L2(tsc64);
L2(rdtscp64);

static void general_registers(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, registers64, MODE_LONG);
    struct kvm_regs want = get_regs(vcpu), got;
    __u64 *const registers[] = {&want.rax, &want.rbx, &want.rcx, &want.rdx, &want.rsi,
                                &want.rdi, &want.rbp, &want.r8,  &want.r9,  &want.r10,
                                &want.r11, &want.r12, &want.r13, &want.r14, &want.r15};
    for (u64 i = 0; i < ARRAY_SIZE(registers); i++)
        *registers[i] = 0xa5a5000011110000 * (i + 1) + i;
    want.rflags |= 0x8d5; /* CF, PF, AF, ZF, SF, OF */
    set_regs(vcpu, &want);
    bool good = stops_at_port(vcpu, PORT_READY);
    complete(vcpu);
    got = get_regs(vcpu);
    want.rip = L2_CODE + 2;
    check("state.registers_seen", good && memcmp(&got, &want, sizeof(got)) == 0);
    good = finishes(vcpu);
    got = get_regs(vcpu);
    want.rip = L2_CODE + 2 + 2 + 2;
    check("state.registers_kept", good && memcmp(&got, &want, sizeof(got)) == 0);
}

/* An image for FXRSTOR that differs by `seed`: control words, eight x87 and sixteen XMM registers. */
static void fill_fxsave(u8 *area, u8 seed)
{
    memset(area, 0, 512);
    area[0] = 0x7f;
    area[1] = seed & 0xc; /* rounding control */
    area[4] = 0xff;       /* no register empty */
    area[24] = 0x80;
    area[25] = (u8)(0x1f | (seed & 3) << 5);
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 8; j++)
            area[32 + i * 16 + j] = (u8)(seed + i * 8 + j);
        area[32 + i * 16 + 7] |= 0x80;
        area[32 + i * 16 + 9] = 0x3f;
    }
    for (unsigned i = 0; i < 256; i++)
        area[160 + i] = (u8)(seed * 5 + i * 3);
}

/* What FXSAVE and the client's image have in common: not the last instruction's address and opcode. */
static bool same_fpu(const u8 *a, const u8 *b)
{
    return memcmp(a, b, 5) == 0 && memcmp(a + 24, b + 24, 2) == 0 && memcmp(a + 32, b + 32, 384) == 0;
}

static void start_fpu(struct vm *vm, u8 seed)
{
    START(vm, fpu64, MODE_LONG);
    struct kvm_regs regs = get_regs(&vm->vcpu[0]);
    regs.rdi = L2_DATA;
    regs.rsi = L2_DATA + 0x1000;
    set_regs(&vm->vcpu[0], &regs);
    fill_fxsave(vm->memory + L2_DATA, seed);
}

static void fpu(struct vm *vm, struct vm *other)
{
    start_fpu(vm, 0x17);
    start_fpu(other, 0x5a);
    bool good = stops_at_port(&vm->vcpu[0], PORT_READY) && stops_at_port(&other->vcpu[0], PORT_READY);
    /* The client's own registers in between. */
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm7; movdqa %%xmm0, %%xmm15" ::
                         : "xmm0", "xmm7", "xmm15");
    struct kvm_fpu seen;
    must(vm->vcpu[0].fd, KVM_GET_FPU, &seen, "KVM_GET_FPU");
    check("state.xmm_seen", memcmp(seen.xmm, vm->memory + L2_DATA + 160, 256) == 0);
    struct kvm_xsave xsave;
    must(vm->vcpu[0].fd, KVM_GET_XSAVE, &xsave, "KVM_GET_XSAVE");
    check_eq("state.mxcsr_seen", xsave.region[6], 0x1f80 | 0x17 % 4 << 13);
    good &= finishes(&vm->vcpu[0]) & finishes(&other->vcpu[0]);
    check("state.fpu_ends", good);
    check("state.fpu_kept", same_fpu(vm->memory + L2_DATA, vm->memory + L2_DATA + 0x1000));
    check("state.fpu_kept_in_other", same_fpu(other->memory + L2_DATA, other->memory + L2_DATA + 0x1000));
}

static void start_avx(struct vm *vm, u8 seed)
{
    START(vm, avx64, MODE_LONG);
    struct vcpu *vcpu = &vm->vcpu[0];
    struct kvm_sregs sregs = get_sregs(vcpu);
    sregs.cr4 |= BIT(18);
    set_sregs(vcpu, &sregs);
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 7}}};
    must(vcpu->fd, KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS");
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = L2_DATA;
    regs.rsi = L2_DATA + 0x1000;
    set_regs(vcpu, &regs);
    memset(vm->memory + L2_DATA + 0x1000, 0, 64);
    for (unsigned i = 0; i < 64; i++)
        vm->memory[L2_DATA + i] = (u8)(seed + i);
}

static void avx(struct vm *vm, struct vm *other)
{
    if ((supported_cpuid_register(1, 0, 2) & BIT(28)) == 0) {
        skip("state.avx", "KVM does not offer it");
        return;
    }
    start_avx(vm, 1);
    start_avx(other, 101);
    bool good = stops_at_port(&vm->vcpu[0], PORT_READY) && stops_at_port(&other->vcpu[0], PORT_READY);
    good &= finishes(&vm->vcpu[0]) & finishes(&other->vcpu[0]);
    check("state.avx_ends", good);
    check("state.avx_kept", memcmp(vm->memory + L2_DATA, vm->memory + L2_DATA + 0x1000, 64) == 0);
    check("state.avx_kept_in_other",
          memcmp(other->memory + L2_DATA, other->memory + L2_DATA + 0x1000, 64) == 0);
    check_eq("state.xcr0", get_regs(&vm->vcpu[0]).rax, 7);
}

static void start_debug_registers(struct vm *vm, u64 seed)
{
    START(vm, debug_registers64, MODE_LONG);
    struct kvm_regs regs = get_regs(&vm->vcpu[0]);
    regs.r8 = 0x1000 + seed;
    regs.r9 = 0x2000 + seed;
    regs.r10 = 0x3000 + seed;
    regs.r11 = 0x4000 + seed;
    regs.r12 = 0x400 | 1; /* DR0 on: KVM then has to switch the registers */
    set_regs(&vm->vcpu[0], &regs);
}

static bool debug_registers_are(struct vm *vm, u64 seed)
{
    struct kvm_regs regs = get_regs(&vm->vcpu[0]);
    return regs.r8 == 0x1000 + seed && regs.r9 == 0x2000 + seed && regs.r10 == 0x3000 + seed &&
           regs.r11 == 0x4000 + seed && regs.r12 == 0x401;
}

static void time_stamps(struct vm *vm, struct vm *other)
{
    struct vcpu *vcpu = &vm->vcpu[0], *second = &other->vcpu[0];
    const u64 base = 0x100000000000, other_base = 0x5000;
    START(vm, tsc64, MODE_LONG);
    START(other, tsc64, MODE_LONG);
    u64 started = time_stamp();
    check("state.tsc_set", set_msr(vcpu, 0x10, base) && set_msr(second, 0x10, other_base));
    bool good = stops_at_port(vcpu, PORT_READY) && stops_at_port(second, PORT_READY);
    good &= finishes(vcpu) & finishes(second);
    u64 passed = time_stamp() - started;
    check("state.tsc_ends", good);
    struct kvm_regs a = get_regs(vcpu), b = get_regs(second);
    check("state.tsc_offset", a.rbx >= base && a.rbx <= base + passed);
    check("state.tsc_offset_of_other", b.rbx >= other_base && b.rbx <= other_base + passed);
    check("state.tsc_goes_on", a.rsi > a.rbx && a.rsi <= base + passed && b.rsi > b.rbx);
    if ((supported_cpuid_register(0x80000001, 0, 3) & BIT(27)) == 0) {
        skip("state.rdtscp", "KVM does not offer it");
        return;
    }
    START(vm, rdtscp64, MODE_LONG);
    START(other, rdtscp64, MODE_LONG);
    good = set_msr(vcpu, 0xc0000103, 0x1234) && set_msr(second, 0xc0000103, 0x5678);
    good &= finishes(vcpu) & finishes(second);
    check("state.rdtscp_ends", good);
    check_eq("state.tsc_aux", get_regs(vcpu).rcx, 0x1234);
    check_eq("state.tsc_aux_of_other", get_regs(second).rcx, 0x5678);
}

void group_state(void)
{
    struct vm vm, other;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    vm_create(&other, SMALL_VM, VM_PLAIN);
    general_registers(&vm);
    fpu(&vm, &other);
    avx(&vm, &other);
    time_stamps(&vm, &other);
    vm_destroy(&vm);
    vm_destroy(&other);
}

/* --- debugging
 * -------------------------------------------------------------------------------------------------------- */

static void debug_registers(struct vm *vm, struct vm *other)
{
    start_debug_registers(vm, 0x11);
    start_debug_registers(other, 0x22);
    bool good = stops_at_port(&vm->vcpu[0], PORT_READY) && stops_at_port(&other->vcpu[0], PORT_READY);
    struct kvm_debugregs seen;
    must(vm->vcpu[0].fd, KVM_GET_DEBUGREGS, &seen, "KVM_GET_DEBUGREGS");
    check("debug.registers_seen", seen.db[0] == 0x1011 && seen.db[3] == 0x4011 && seen.dr7 == 0x401);
    good &= finishes(&vm->vcpu[0]) & finishes(&other->vcpu[0]);
    check("debug.registers_end", good);
    check("debug.registers_kept", debug_registers_are(vm, 0x11));
    check("debug.registers_kept_in_other", debug_registers_are(other, 0x22));
}

static void watchpoint(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, watch64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    regs.rdi = L2_DATA;
    set_regs(vcpu, &regs);
    check("debug.watch_ends", finishes(vcpu));
    check_eq("debug.watch_traps", record_of(vm)->count, 1);
    check_eq("debug.watch_vector", record_of(vm)->vector, 1);
    check_eq("debug.watch_dr6", get_regs(vcpu).rbx & 0xf, 1);
    check_eq("debug.watch_stored", vm->memory[L2_DATA], 1);
}

static void control(struct vcpu *vcpu, u32 flags, u64 address)
{
    struct kvm_guest_debug debug = {.control = flags,
                                    .arch = {.debugreg = {[0] = address, [7] = address ? 0x402 : 0x400}}};
    must(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug, "KVM_SET_GUEST_DEBUG");
}

/* Lengths of the instructions of steps64, up to its OUT. */
static const u64 lengths[] = {1, 5, 2, 1, 5, 1};

static void single_steps(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, steps64, MODE_LONG);
    control(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, 0);
    bool stepped = true, placed = true;
    u64 rip = L2_CODE;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        stepped &= stops(vcpu, KVM_EXIT_DEBUG);
        rip += lengths[i];
        placed &= get_regs(vcpu).rip == rip && vcpu->run->debug.arch.exception == 1;
    }
    control(vcpu, 0, 0);
    check("debug.steps", stepped);
    check("debug.step_addresses", placed);
    check("debug.steps_end", finishes(vcpu));
    check_eq("debug.steps_unseen_by_l2", record_of(vm)->count, 0);
    check_eq("debug.steps_rflags", get_regs(vcpu).rflags & 0x100, 0);
}

static void breakpoints(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, steps64, MODE_LONG);
    control(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, L2_CODE + 8);
    check("debug.hardware_breakpoint", stops(vcpu, KVM_EXIT_DEBUG));
    check_eq("debug.hardware_breakpoint_rip", get_regs(vcpu).rip, L2_CODE + 8);
    check_eq("debug.hardware_breakpoint_dr6", vcpu->run->debug.arch.dr6 & 0xf, 1);
    control(vcpu, 0, 0);
    check("debug.hardware_breakpoint_ends", finishes(vcpu));

    START(vm, steps64, MODE_LONG);
    vm->memory[L2_CODE + 8] = 0xcc;
    control(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0);
    check("debug.software_breakpoint", stops(vcpu, KVM_EXIT_DEBUG));
    check_eq("debug.software_breakpoint_rip", get_regs(vcpu).rip, L2_CODE + 8);
    vm->memory[L2_CODE + 8] = l2_steps64[8];
    control(vcpu, 0, 0);
    check("debug.software_breakpoint_ends", finishes(vcpu));
    check_eq("debug.breakpoints_unseen_by_l2", record_of(vm)->count, 0);
}

void group_debug(void)
{
    struct vm vm, other;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    vm_create(&other, SMALL_VM, VM_PLAIN);
    debug_registers(&vm, &other);
    watchpoint(&vm);
    single_steps(&vm);
    breakpoints(&vm);
    vm_destroy(&vm);
    vm_destroy(&other);
}
