/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and software interrupts in L2, handled by L2: vector, error code, CR2 and return address. Also
 * double faults, delivery through stacks and descriptor tables that L1's KVM has yet to map, and injection by
 * the client.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(fault_de);
L2(fault_bp);
L2(fault_db);
L2(fault_ud);
L2(fault_nm);
L2(fault_gp_canonical);
L2(fault_gp_selector);
L2(fault_gp_int);
L2(fault_ss_canonical);
L2(fault_np);
L2(fault_pf);
L2(fault_int30);
L2(fault_mov_cr4);
L2(fault_mov_cr0);
L2(fault_vmxon);
L2(fault_vmrun);
L2(fault_tf);
L2(tell_twice64);

/* Where the tests put a stack or a table that L2 has never touched. */
enum { FRESH = 0x200000 };

static const struct fault_case {
    const char *name;
    const u8 *begin, *end;
    u64 vector, error;
    u64 cr0;    /* set on top */
    bool trap;  /* the return address is behind the instruction */
    bool fresh; /* the stack is new to L1's KVM */
} cases[] = {
#define CASE(name, vector, error, ...)                                                                       \
    {                                                                                                        \
        "exceptions." #name, l2_fault_##name, l2_fault_##name##_end, vector, error, __VA_ARGS__              \
    }
    CASE(de, 0, 0, 0, false, false),
    CASE(db, 1, 0, 0, true, false),
    CASE(bp, 3, 0, 0, true, false),
    CASE(ud, 6, 0, 0, false, false),
    CASE(nm, 7, 0, 8, false, false),
    CASE(np, 11, NOT_PRESENT_DATA, 0, false, false),
    CASE(ss_canonical, 12, 0, 0, false, false),
    CASE(gp_canonical, 13, 0, 0, false, false),
    CASE(gp_selector, 13, 0x800, 0, false, false),
    CASE(gp_int, 13, 0x81 * 8 + 2, 0, false, false),
    CASE(pf, 14, 2, 0, false, false),
    CASE(int30, 0x30, 0, 0, true, false),
    CASE(mov_cr4, 13, 0, 0, false, false),
    CASE(mov_cr0, 13, 0, 0, false, false),
    CASE(vmxon, 6, 0, 0, false, false),
#undef CASE
    {"exceptions.de_fresh_stack", l2_fault_de, l2_fault_de_end, 0, 0, 0, false, true},
    {"exceptions.bp_fresh_stack", l2_fault_bp, l2_fault_bp_end, 3, 0, 0, true, true},
    {"exceptions.db_fresh_stack", l2_fault_db, l2_fault_db_end, 1, 0, 0, true, true},
    {"exceptions.ud_fresh_stack", l2_fault_ud, l2_fault_ud_end, 6, 0, 0, false, true},
    {"exceptions.gp_fresh_stack", l2_fault_gp_selector, l2_fault_gp_selector_end, 13, 0x800, 0, false, true},
    {"exceptions.pf_fresh_stack", l2_fault_pf, l2_fault_pf_end, 14, 2, 0, false, true},
    {"exceptions.int30_fresh_stack", l2_fault_int30, l2_fault_int30_end, 0x30, 0, 0, true, true},
};

static void one_fault(struct vm *vm, const struct fault_case *test, u64 *fresh)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    vm_code(vm, L2_CODE, test->begin, test->end);
    start_in(vcpu, MODE_LONG, L2_CODE);
    struct kvm_sregs sregs = get_sregs(vcpu);
    sregs.cr0 |= test->cr0;
    set_sregs(vcpu, &sregs);
    if (test->fresh) {
        struct kvm_regs regs = get_regs(vcpu);
        regs.rsp = *fresh;
        *fresh += PAGE_SIZE;
        set_regs(vcpu, &regs);
    }
    bool ended = finishes(vcpu);
    const struct l2_record *record = record_of(vm);
    bool good = ended && record->count == 1 && record->vector == test->vector &&
                record->error == test->error && record->cs == CODE64;
    if (test->vector == 14)
        good &= record->cr2 == 0x123456789000;
    if (!good)
        note("%s: events %u, vector %u, error 0x%x", test->name, (unsigned)record->count,
             (unsigned)record->vector, (unsigned)record->error);
    check(test->name, good);
}

static void double_fault(struct vm *vm)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, fault_gp_selector, MODE_LONG);
    /* #GP's gate is not present: #NP while #GP is delivered. */
    vm->memory[L2_IDT + 13 * 16 + 5] = 0x0e;
    check("exceptions.df_ends", finishes(vcpu));
    check_eq("exceptions.df", record_of(vm)->vector, 8);
    check_eq("exceptions.df_error", record_of(vm)->error, 0);
    check_eq("exceptions.df_once", record_of(vm)->count, 1);

    START(vm, fault_de, MODE_LONG);
    vm->memory[L2_IDT + 5] = 0x0e;
    vm->memory[L2_IDT + 11 * 16 + 5] = 0x0e;
    check("exceptions.df_of_de_ends", finishes(vcpu));
    check_eq("exceptions.df_of_de", record_of(vm)->vector, 8);
}

/* The descriptor table itself is in memory that L1's KVM has not mapped yet. */
static void fresh_idt(struct vm *vm, u64 address)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, fault_ud, MODE_LONG);
    struct kvm_sregs sregs = get_sregs(vcpu);
    memcpy(vm->memory + address, vm->memory + L2_IDT, 0x1000);
    sregs.idt.base = address;
    set_sregs(vcpu, &sregs);
    check("exceptions.fresh_idt_ends", finishes(vcpu));
    check_eq("exceptions.fresh_idt", record_of(vm)->vector, 6);
    check_eq("exceptions.fresh_idt_once", record_of(vm)->count, 1);
}

static void trap_flag(struct vm *vm)
{
    START(vm, fault_tf, MODE_LONG);
    check("exceptions.tf_ends", finishes(&vm->vcpu[0]));
    check_eq("exceptions.tf_traps", record_of(vm)->count, 5);
    check_eq("exceptions.tf_vector", record_of(vm)->vector, 1);
}

static void injected(struct vm *vm, u8 vector, bool has_error, u32 error, u64 rsp, const char *end,
                     const char *name)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    START(vm, tell_twice64, MODE_LONG);
    struct kvm_regs regs = get_regs(vcpu);
    regs.r15 = L2_CODE + 3; /* behind the NOP */
    regs.rsp = rsp;
    set_regs(vcpu, &regs);
    bool ready = stops_at_port(vcpu, PORT_READY);
    complete(vcpu);
    struct kvm_vcpu_events events;
    must(vcpu->fd, KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
    events.exception.injected = 1;
    events.exception.nr = vector;
    events.exception.has_error_code = has_error;
    events.exception.error_code = error;
    must(vcpu->fd, KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
    check(end, ready & finishes(vcpu));
    const struct l2_record *record = record_of(vm);
    check_eq(name, record->count << 32 | record->vector << 24 | record->error,
             1ull << 32 | (u64)vector << 24 | error);
}

void group_exceptions(void)
{
    struct vm vm;
    u64 fresh = FRESH;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        one_fault(&vm, &cases[i], &fresh);
    struct fault_case vmrun = {"exceptions.vmrun", l2_fault_vmrun, l2_fault_vmrun_end, 6, 0, 0, false, false};
    one_fault(&vm, &vmrun, &fresh);
    trap_flag(&vm);
    double_fault(&vm);
    fresh_idt(&vm, fresh);
    fresh += PAGE_SIZE;
    injected(&vm, 13, true, 0x18, L2_STACK, "exceptions.injected_gp_ends", "exceptions.injected_gp");
    injected(&vm, 6, false, 0, L2_STACK, "exceptions.injected_ud_ends", "exceptions.injected_ud");
    injected(&vm, 11, true, 0x48, fresh + 0x800, "exceptions.injected_np_fresh_stack_ends",
             "exceptions.injected_np_fresh_stack");
    vm_destroy(&vm);
}
