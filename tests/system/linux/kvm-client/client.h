/* SPDX-License-Identifier: MIT */
/*
 * The KVM client: a static Linux program that runs small guests (L2) through /dev/kvm inside a Linux guest
 * (L1) and checks what they did. It uses the kernel's documented KVM interface only, and it never forgives a
 * failed check that deviations.c does not name.
 */
#ifndef KVM_CLIENT_H
#define KVM_CLIENT_H

#include <linux/kvm.h>

#include "arch/types.h"
#include "tests/system/linux/kvm-client/l2.h"

/* --- L2's memory, the same in every VM: guest-physical and, with the identity tables, linear addresses
 * --------- */

enum {
    L2_RECORD = RECORD, /* struct l2_record, which the exception stubs fill */
    L2_GDT = 0x1000,
    L2_IDT = 0x2000,
    L2_TSS = 0x3000,
    L2_STUBS = 0x4000,
    L2_KERNEL_STACK = 0x6ff0, /* for events from user mode */
    L2_STACK = 0x7ff0,
    L2_CODE = 0x8000,
    L2_PML4 = 0x10000,
    L2_PDPT = 0x11000,
    L2_PD = 0x12000,   /* four of them: 4 GByte in 2-MByte pages */
    L2_PD32 = 0x16000, /* 32-bit paging, 4-MByte pages */
    L2_PDPT_PAE = 0x17000,
    L2_TABLES = 0x20000, /* the tests' own tables grow from here to L2_DATA */
    L2_DATA = 0x100000,
};
/* No memory is ever there: an access ends in KVM_EXIT_MMIO. */
#define L2_HOLE    0xd0000000ull
#define L2_VECTORS 64u
#define SMALL_VM   MIB(4)

enum {
    CODE64 = 0x08,
    DATA0 = 0x10,
    CODE32 = 0x18,
    DATA3 = 0x23,
    CODE64_USER = 0x2b,
    CODE32_USER = 0x33,
    TASK = 0x38,
    NOT_PRESENT_DATA = 0x48,
    CODE16 = 0x50
};

struct l2_record {
    u64 count;                                    /* events so far */
    u64 vector, error, rip, cs, rflags, rsp, cr2; /* of the last one */
    u64 flags;
    u8 log[64]; /* the vectors, in order */
};
_Static_assert(
    offsetof(struct l2_record, vector) == RECORD_VECTOR &&
        offsetof(struct l2_record, error) == RECORD_ERROR && offsetof(struct l2_record, rip) == RECORD_RIP &&
        offsetof(struct l2_record, cs) == RECORD_CS && offsetof(struct l2_record, rflags) == RECORD_RFLAGS &&
        offsetof(struct l2_record, rsp) == RECORD_RSP && offsetof(struct l2_record, cr2) == RECORD_CR2 &&
        offsetof(struct l2_record, flags) == RECORD_FLAGS && offsetof(struct l2_record, log) == RECORD_LOG,
    "the exception stubs know where each field is");

/* --- VMs and vCPUs (vm.c, modes.c)
 * --------------------------------------------------------------------------------- */

struct vcpu {
    int fd;
    struct kvm_run *run;
    struct vm *vm;
};

enum { VCPUS_MAX = 4 };

struct vm {
    int fd;
    u8 *memory; /* slot 0, from guest-physical 0 on */
    u64 bytes;
    unsigned vcpus;
    struct vcpu vcpu[VCPUS_MAX];
    u64 next_table; /* guest-physical, where the tests' next paging structure goes */
};

/* Exit reasons of our own, above KVM's. */
enum { EXIT_TIME_OUT = 1000, EXIT_ERRNO = 2000 /* plus errno */ };

enum vm_kind { VM_PLAIN, VM_IRQCHIP };

/* Creates a VM with memory from guest-physical 0 on, descriptor tables and identity page tables in it, and
 * one vCPU with all CPUID bits that KVM supports. Ends the group if KVM refuses. */
void vm_create(struct vm *vm, u64 bytes, enum vm_kind kind);
void vm_destroy(struct vm *vm);
struct vcpu *vcpu_create(struct vm *vm);
unsigned cpus_of_l1(void); /* that are on line, but not more than a VM may have */
/* Sets, moves or (bytes 0) removes a slot; `memory` is page aligned. */
void vm_slot(struct vm *vm, u32 slot, u64 address, u64 bytes, void *memory, u32 flags);
void *fresh_memory(u64 bytes); /* page aligned, never touched; ends the group if there is none */
void vm_code(struct vm *vm, u64 address, const u8 *begin, const u8 *end);
struct l2_record *record_of(struct vm *vm);

/* ioctl that has to succeed: the group ends with a failed check if not. Returns its result. */
int must(int fd, unsigned long request, const void *argument, const char *what);
int may(int fd, unsigned long request, const void *argument);
int kvm_fd(void);
bool kvm_has(long capability);
struct kvm_cpuid2 *supported_cpuid(void);
/* Register `reg` (0 EAX, 1 EBX, 2 ECX, 3 EDX) of the leaf as KVM supports it; 0 without the leaf. */
u32 supported_cpuid_register(u32 leaf, u32 subleaf, unsigned reg);

/* One KVM_RUN. Returns KVM's exit reason or one of our own. */
u32 vcpu_run(struct vcpu *vcpu);
/* Runs once; whether it left for that reason, or by an OUT to that port. Says what happened if not. */
bool stops(struct vcpu *vcpu, u32 reason);
bool stops_at_port(struct vcpu *vcpu, u16 port);
/* Runs until the OUT to PORT_END and past it, so that registers can be set again. */
bool finishes(struct vcpu *vcpu);
void complete(struct vcpu *vcpu);
u64 io_value(const struct vcpu *vcpu);
void answer_io(struct vcpu *vcpu, u64 value);
u64 mmio_value(const struct vcpu *vcpu);

struct kvm_regs get_regs(struct vcpu *vcpu);
void set_regs(struct vcpu *vcpu, const struct kvm_regs *regs);
struct kvm_sregs get_sregs(struct vcpu *vcpu);
void set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs);
u64 get_msr(struct vcpu *vcpu, u32 msr);
bool set_msr(struct vcpu *vcpu, u32 msr, u64 value);

enum mode { MODE_REAL, MODE_FLAT32, MODE_PAGED32, MODE_PAE, MODE_LONG, MODE_LONG_USER };
/* Registers as for a fresh start in that mode at `rip`, with a stack, interrupts off. */
void start_in(struct vcpu *vcpu, enum mode mode, u64 rip);
void set_segment(struct kvm_segment *segment, u16 selector);
void write_l2_tables(struct vm *vm);
void write_identity_tables(struct vm *vm);

/* --- L2's own page tables (paging.c)
 * ---------------------------------------------------------------------------------- */

enum format { FORMAT_32, FORMAT_PAE, FORMAT_LONG };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX BIT(63)

/* A new root whose low 2 MByte are L2's own memory, in 4-KByte pages; code and stack are for user mode if
 * `user`. */
u64 new_root(struct vm *vm, enum format format, bool user);
/* Maps `va` to `pa` by an entry of `level` (1: 4 KByte, 2: 2 or 4 MByte, 3: 1 GByte) with these flags, the
 * tables above with all rights. */
void map(struct vm *vm, enum format format, u64 root, u64 va, u64 pa, unsigned level, u64 flags);
/* Guest-physical address of the entry for `va` at `level`, whose tables are there. */
u64 entry_of(struct vm *vm, enum format format, u64 root, u64 va, unsigned level);
u64 get_entry(struct vm *vm, enum format format, u64 entry);
void set_entry(struct vm *vm, enum format format, u64 entry, u64 value);

/* Copies the snippet l2_NAME to L2_CODE and starts it. */
#define START(vm, name, mode)                                                                                \
    do {                                                                                                     \
        vm_code(vm, L2_CODE, l2_##name, l2_##name##_end);                                                    \
        start_in(&(vm)->vcpu[0], mode, L2_CODE);                                                             \
    } while (0)
#define L2(name) extern const u8 l2_##name[], l2_##name##_end[]

/* --- checks (check.c, deviations.c)
 * --------------------------------------------------------------------------------- */

void check(const char *name, bool good);
void check_eq(const char *name, u64 got, u64 want);
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void skip(const char *name, const char *reason);
_Noreturn void end_group(const char *what);
void bench(const char *name, u64 count, u64 ticks, const char *unit);
const char *deviation_of(const char *check);
extern bool under_umbra;
bool on_amd(void);
bool on_tcg(void);
u64 time_stamp(void);

/* --- groups
 * ----------------------------------------------------------------------------------------------------------
 */

void group_modes(void);
void group_exits(void);
void group_exceptions(void);
void group_events(void);
void group_irqchip(void);
void group_apic(void);
void group_memory(void);
void group_dirty(void);
void group_backing(void);
void group_paging(void);
void group_tables(void);
void group_state(void);
void group_debug(void);
void group_msrs(void);
void group_many(void);
void group_errors(void);
void group_bench(void);
void group_touch(void);
void group_smp(void);
void group_kexec(void);
void group_linux(void);
void group_linux_smp(void);

/* --- Linux in L2 (mp-table.c, l2-init.c)
 * ---------------------------------------------------------------------------------- */

/* Tells L2 of all vCPUs that the VM has now. */
void write_mp_table(struct vm *vm);
/* The program as first process of Linux in L2: has all CPUs work, says how many did, and ends that Linux. */
_Noreturn void l2_init(void);
#define L2_DONE "kvm-client: init of L2 reached, CPUs that worked: %u"

#endif
