/* SPDX-License-Identifier: MIT */
/*
 * Rights of L2's own page tables: every combination of present, write, user and no-execute in the last two
 * levels, in every format and page size, for reads, writes and fetches of both privilege levels, under WP,
 * SMEP, SMAP and NXE. What has to happen is computed here from the manual's rules (SDM volume 3,
 * section 4.6), and compared with error code, CR2 and A and D bits.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

L2(access32);
L2(access64);

enum { READ, WRITE, FETCH };
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };
enum { WP = 1, SMEP = 2, SMAP = 4, NXE = 8 };
#define EFLAGS_AC 0x40000u

struct shape {
    const char *name;
    enum format format;
    unsigned level;
    u64 va, pa;
    /* The level whose entry above the leaf is varied too; 0 if there is none with rights. */
    unsigned upper;
    unsigned controls; /* WP, SMEP, SMAP, NXE */
    u64 root[2];       /* for supervisor and user */
};

struct access {
    unsigned kind;
    bool user;
    u64 leaf, upper;
};

/* The #PF error code, or -1 if there must be no fault. */
static int expected(const struct shape *shape, const struct access *access)
{
    u64 all = access->leaf & access->upper, any = access->leaf | access->upper;
    bool fetch = access->kind == FETCH, write = access->kind == WRITE, u = all & PTE_U, nx = any & PTE_NX;
    bool fault;
    int code = (write ? PF_W : 0) | (access->user ? PF_U : 0);
    if (fetch && shape->controls & (SMEP | NXE))
        code |= PF_I;
    if ((all & PTE_P) == 0)
        return code;
    code |= PF_P;
    if (access->user)
        fault = !u || (write && !(all & PTE_W)) || (fetch && nx);
    else if (fetch)
        fault = nx || (shape->controls & SMEP && u);
    else
        fault = (write && shape->controls & WP && !(all & PTE_W)) || (shape->controls & SMAP && u);
    return fault ? code : -1;
}

static void start_access(struct vm *vm, const struct shape *shape, const struct access *access,
                         bool allow_user_data)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    bool wide = shape->format == FORMAT_LONG;
    struct kvm_sregs sregs = get_sregs(vcpu);
    set_segment(&sregs.cs, wide           ? (access->user ? CODE64_USER : CODE64)
                           : access->user ? CODE32_USER
                                          : CODE32);
    set_segment(&sregs.ss, access->user ? DATA3 : DATA0);
    sregs.ds = sregs.es = sregs.ss;
    /* TCG ends with "invalid tss type" at an event from 32-bit user mode if its task is busy, as it is on a
     * CPU. */
    if (on_tcg() && !wide)
        sregs.tr.type = 9;
    sregs.cr3 = shape->root[access->user];
    sregs.cr0 = 0x80000031 | (shape->controls & WP ? BIT(16) : 0);
    /* A change of CR4.PGE makes KVM drop what L2's TLB holds: the client has changed L2's tables. */
    sregs.cr4 = ((sregs.cr4 ^ BIT(7)) & BIT(7)) | (shape->format == FORMAT_32 ? BIT(4) : BIT(5)) | 0x600 |
                (shape->controls & SMEP ? BIT(20) : 0) | (shape->controls & SMAP ? BIT(21) : 0);
    sregs.efer = (wide ? 0x500 : 0) | (shape->controls & NXE ? 0x800 : 0);
    set_sregs(vcpu, &sregs);
    struct kvm_regs regs = {.rip = L2_CODE,
                            .rsp = L2_STACK,
                            .rax = 0xc3,
                            .rdi = shape->va,
                            .rsi = access->kind,
                            .rflags = (access->user ? 0x3002 : 2) | (allow_user_data ? EFLAGS_AC : 0)};
    set_regs(vcpu, &regs);
    record_of(vm)->count = 0;
}

/* Runs one access; whether exactly the wanted fault came, or none. */
static bool one_access(struct vm *vm, const struct shape *shape, const struct access *access, int want)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    start_access(vm, shape, access, false);
    bool ended = finishes(vcpu);
    const struct l2_record *record = record_of(vm);
    int got = record->count == 0 ? -1 : (int)record->error;
    bool done = get_regs(vcpu).rbx == 1;
    if (ended && got == want && done == (want < 0) &&
        (want < 0 || (record->count == 1 && record->vector == 14 && record->cr2 == shape->va)))
        return true;
    note("%s: leaf 0x%llx upper 0x%llx access %u user %u controls %u: error code %d, want %d; vector %u cr2 "
         "0x%llx; %u events, the last at %llx:%llx, done %d",
         shape->name, (unsigned long long)access->leaf, (unsigned long long)access->upper, access->kind,
         access->user, shape->controls, got, want, (unsigned)record->vector, (unsigned long long)record->cr2,
         (unsigned)record->count, (unsigned long long)record->cs, (unsigned long long)record->rip, done);
    return false;
}

/* A and D as they must be afterwards: all A and, for a write, D after success; never D after a fault. */
static bool marked(u64 leaf, u64 upper, bool has_upper, bool success, bool write)
{
    if (!success)
        return (leaf & PTE_D) == 0;
    return leaf & PTE_A && (!has_upper || upper & PTE_A) && ((leaf & PTE_D) != 0) == write;
}

static void all_rights(struct vm *vm, struct shape *shape, bool nx)
{
    u64 leaf_at[2], upper_at[2] = {0};
    bool good = true, marks = true;
    unsigned uppers = !shape->upper ? 1 : nx ? 5 : 4;
    const u64 upper_flags[] = {7, PTE_P | PTE_U, PTE_P | PTE_W, PTE_W | PTE_U, 7 | PTE_NX};
    for (int user = 0; user < 2; user++) {
        leaf_at[user] = entry_of(vm, shape->format, shape->root[user], shape->va, shape->level);
        if (shape->upper)
            upper_at[user] = entry_of(vm, shape->format, shape->root[user], shape->va, shape->upper);
    }
    for (unsigned i = 0; i < (nx ? 16u : 8u) * uppers * 6; i++) {
        unsigned rights = i / 6 / uppers;
        struct access access = {i % 3, i / 3 % 2, (rights & 7) | (rights & 8 ? PTE_NX : 0),
                                upper_flags[i / 6 % uppers]};
        u64 at = leaf_at[access.user], above = upper_at[access.user], old = 0;
        set_entry(vm, shape->format, at, shape->pa | access.leaf | (shape->level > 1 ? PTE_PS : 0));
        if (shape->upper) {
            old = get_entry(vm, shape->format, above);
            set_entry(vm, shape->format, above, (old & BITS(51, 12)) | access.upper);
        }
        int want = expected(shape, &access);
        good &= one_access(vm, shape, &access, want);
        u64 leaf = get_entry(vm, shape->format, at),
            upper = shape->upper ? get_entry(vm, shape->format, above) : 0;
        bool right = marked(leaf, upper, shape->upper, want < 0, access.kind == WRITE);
        if (!right)
            note("%s: A/D: leaf 0x%llx upper 0x%llx access %u", shape->name, (unsigned long long)leaf,
                 (unsigned long long)upper, access.kind);
        marks &= right;
        if (shape->upper)
            set_entry(vm, shape->format, above, old);
        if (!good || !marks)
            break;
    }
    char name[64];
    strcpy(name, shape->name);
    check(name, good);
    check(strcat(name, "_marks"), marks);
}

static bool offered(unsigned controls)
{
    u32 leaf7 = supported_cpuid_register(7, 0, 1);
    return (!(controls & SMEP) || leaf7 & BIT(7)) && (!(controls & SMAP) || leaf7 & BIT(20));
}

static void run_shape(struct vm *vm, struct shape shape)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    bool wide = shape.format == FORMAT_LONG;
    if (!offered(shape.controls)) {
        skip(shape.name, "KVM does not offer it");
        return;
    }
    start_in(vcpu, wide ? MODE_LONG : shape.format == FORMAT_PAE ? MODE_PAE : MODE_PAGED32, L2_CODE);
    if (wide)
        vm_code(vm, L2_CODE, l2_access64, l2_access64_end);
    else
        vm_code(vm, L2_CODE, l2_access32, l2_access32_end);
    vm->next_table = L2_TABLES;
    for (int user = 0; user < 2; user++) {
        shape.root[user] = new_root(vm, shape.format, user);
        map(vm, shape.format, shape.root[user], shape.va, shape.pa, shape.level, PTE_P);
    }
    all_rights(vm, &shape, shape.controls & NXE);
}

/* Reserved bits, and AC under SMAP: the few that the combinations above leave out. */
static void special(struct vm *vm, struct shape shape, u64 leaf, bool ac, int want, const char *name)
{
    struct vcpu *vcpu = &vm->vcpu[0];
    if (!offered(shape.controls)) {
        skip(name, "KVM does not offer it");
        return;
    }
    START(vm, access64, MODE_LONG);
    vm->next_table = L2_TABLES;
    shape.root[0] = new_root(vm, shape.format, false);
    map(vm, shape.format, shape.root[0], shape.va, shape.pa, shape.level, leaf);
    const struct access access = {READ, false, leaf, 7};
    start_access(vm, &shape, &access, ac);
    bool ended = finishes(vcpu);
    int got = record_of(vm)->count ? (int)record_of(vm)->error : -1;
    check_eq(name, ended ? (u64)got : 0x1000, (u64)want);
}

#define VA_LONG 0x7f4041201000ull
#define VA_2M   0x7f4041200000ull
#define VA_1G   0x7f4040000000ull
#define PA      0x300000ull
#define PA_2M   0x200000ull

void group_paging(void)
{
    struct vm vm;
    vm_create(&vm, SMALL_VM, VM_PLAIN);
    /* What a fetch finds: RET, at the start of each page that is mapped. */
    vm.memory[PA] = vm.memory[PA_2M] = vm.memory[0] = 0xc3;
    const struct shape shapes[] = {
        {"paging.4k", FORMAT_LONG, 1, VA_LONG, PA, 2, WP | NXE, {0}},
        {"paging.4k_no_wp", FORMAT_LONG, 1, VA_LONG, PA, 2, NXE, {0}},
        {"paging.4k_no_nxe", FORMAT_LONG, 1, VA_LONG, PA, 2, WP, {0}},
        {"paging.4k_smep", FORMAT_LONG, 1, VA_LONG, PA, 2, WP | SMEP | NXE, {0}},
        {"paging.4k_smap", FORMAT_LONG, 1, VA_LONG, PA, 4, WP | SMEP | SMAP | NXE, {0}},
        {"paging.2m", FORMAT_LONG, 2, VA_2M, PA_2M, 3, WP | SMEP | NXE, {0}},
        {"paging.1g", FORMAT_LONG, 3, VA_1G, 0, 4, WP | NXE, {0}},
        {"paging.pae_4k", FORMAT_PAE, 1, 0x41201000, PA, 2, WP | NXE, {0}},
        {"paging.pae_4k_smep", FORMAT_PAE, 1, 0x41201000, PA, 2, SMEP, {0}},
        {"paging.pae_2m", FORMAT_PAE, 2, 0x41200000, PA_2M, 0, WP | SMAP | NXE, {0}},
        {"paging.32_4k", FORMAT_32, 1, 0x41201000, PA, 2, WP, {0}},
        {"paging.32_4k_smep", FORMAT_32, 1, 0x41201000, PA, 2, SMEP, {0}},
        {"paging.32_4m", FORMAT_32, 2, 0x41000000, 0, 0, WP, {0}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
        run_shape(&vm, shapes[i]);

    const struct shape plain = {"", FORMAT_LONG, 1, VA_LONG, PA, 2, WP, {0}},
                       large = {"", FORMAT_LONG, 2, VA_2M, PA_2M, 3, WP, {0}};
    const struct shape smap = {"", FORMAT_LONG, 1, VA_LONG, PA, 2, WP | SMAP, {0}};
    special(&vm, plain, 7 | PTE_NX, false, PF_P | PF_RSVD, "paging.reserved_nx");
    special(&vm, large, 7 | BIT(13), false, PF_P | PF_RSVD, "paging.reserved_2m_bit_13");
    if ((supported_cpuid_register(0x80000008, 0, 0) & 0xff) < 52)
        special(&vm, plain, 7 | BIT(51), false, PF_P | PF_RSVD, "paging.reserved_address");
    special(&vm, smap, 7, false, PF_P, "paging.smap_without_ac");
    special(&vm, smap, 7, true, -1, "paging.smap_with_ac");
    vm_destroy(&vm);
}
