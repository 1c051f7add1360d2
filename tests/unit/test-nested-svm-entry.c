/* SPDX-License-Identifier: MIT */
/*
 * VMRUN without a CPU: what is copied from vmcb12 into vmcb02, when, and which clean bits the CPU is given.
 * L1's pages are an array here, and what comes after the copy is a double that counts its calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86.h"
#include "mm/guest-mem.h"
#include "nested/svm-nested.h"
#include "svm/capability.h"

enum { PAGES = 32, MAPS = 16 };

static u8 ram[PAGES][PAGE_SIZE] __attribute__((aligned(4096)));
static struct vmcb vmcb01, vmcb02s[SVM_SLOTS];
static struct nested_svm nested;
static struct svm_vcpu svm;
static struct svm_frame frame;
static struct vcpu vcpu;
static u64 own_map[MSR_MAP_WORDS], merged_map[MSR_MAP_WORDS];
static u64 will_write; /* pages of which the shadow was told, a bit each */
static unsigned refused, translated, flushed, flushed_l1, tlb_control_obeyed;

struct machine machine;
struct svm_features svm_features;
const char svm_enter_guest[1], svm_enter_l2[1];

/* L1 uses no other ratio than 1.0 here. */
bool wrmsr_safe(u32 msr, u64 value)
{
    (void)msr;
    (void)value;
    fail();
    return false;
}

/* No NMI is blocked here. */
void svm_nmi_follow(struct svm_vcpu *of)
{
    (void)of;
    fail();
}

void *guest_page(gpa_t page)
{
    return page.raw % PAGE_SIZE == 0 && page.raw < sizeof(ram) ? ram[page.raw / PAGE_SIZE] : NULL;
}

void shadow_will_write(struct shadow *shadow, struct shadow_cpu *storage, gpa_t address, u64 bytes)
{
    assert_ptr_equal(shadow, nested.shadow);
    assert_ptr_equal(storage, &nested.shadow_cpu);
    assert_int_equal(bytes, PAGE_SIZE);
    will_write |= BIT(address.raw / PAGE_SIZE);
}

void nested_svm_refuse(struct vcpu *of)
{
    assert_ptr_equal(of, &vcpu);
    refused++;
}

bool nested_svm_take_held(struct vcpu *of)
{
    of->nmi_pending = false;
    return true;
}

void nested_svm_obey_tlb_control(struct nested_svm *of, u8 tlb_control)
{
    assert_ptr_equal(of, &nested);
    tlb_control_obeyed = tlb_control;
}

void nested_svm_translate(struct vcpu *of)
{
    assert_true(of->l2_running);
    translated++;
}

void svm_flush_l1(struct svm_vcpu *of)
{
    assert_ptr_equal(of, &svm);
    flushed_l1++;
}

void svm_flush_changes(struct svm_vcpu *of)
{
    assert_ptr_equal(of, &svm);
    flushed++;
}

static struct vmcb *vmcb12_at(u64 address)
{
    return guest_page(gpa(address));
}

static struct vmcb *make_vmcb12(u64 address)
{
    struct vmcb *vmcb12 = vmcb12_at(address);

    memset(vmcb12, 0, sizeof(*vmcb12));
    vmcb12->save.efer = EFER_SVME | EFER_LME | EFER_LMA;
    vmcb12->save.cr0 = CR0_PG | CR0_PE;
    vmcb12->save.cr4 = CR4_PAE;
    vmcb12->save.cr3 = 0x5000;
    vmcb12->save.cs.attributes = SEGMENT_L;
    vmcb12->save.g_pat = 0x0007040600070406ull;
    vmcb12->control.asid = 1;
    vmcb12->control.nested_control = NP_ENABLE;
    vmcb12->control.n_cr3 = 0x6000;
    vmcb12->control.intercept[VMEXIT_VMRUN / 32] = 1u << VMEXIT_VMRUN % 32;
    vmcb12->control.intercept[VMEXIT_MSR / 32] = 1u << VMEXIT_MSR % 32;
    vmcb12->control.msrpm_base_pa = MAPS * PAGE_SIZE;
    return vmcb12;
}

static int set_up(void **state)
{
    (void)state;
    memset(ram, 0, sizeof(ram));
    memset(vmcb02s, 0, sizeof(vmcb02s));
    memset(&nested, 0, sizeof(nested));
    memset(&vmcb01, 0, sizeof(vmcb01));
    memset(merged_map, 0xff, sizeof(merged_map));
    machine.tdp.flush_pending = false;
    svm = (struct svm_vcpu){.vcpu = &vcpu, .vmcb = &vmcb01, .vmcb01 = &vmcb01, .frame = &frame};
    svm.clean = CLEAN_KNOWN;
    svm.tsc_ratio = TSC_RATIO_ONE;
    vcpu = (struct vcpu){.vendor = &svm, .nested = &nested};
    vmcb01.save.cr0 = CR0_PG | CR0_PE;
    vmcb01.save.cr4 = CR4_PAE;
    vmcb01.save.efer = EFER_SVME | EFER_LME | EFER_LMA;
    for (unsigned i = 0; i < SVM_SLOTS; i++) {
        nested.slots[i].address = SVM_SLOT_FREE;
        nested.slots[i].io_map.base = nested.slots[i].looked_up_msr_map.base = SVM_SLOT_FREE;
        nested.slots[i].vmcb02 = &vmcb02s[i];
        nested.slots[i].vmcb02_address = hpa(0x100000 + i * PAGE_SIZE);
    }
    nested.slot = nested.other = &nested.slots[0];
    nested.facts = (struct svm_check_facts){
        .physical_limit = BIT(40), .efer_valid = EFER_SVME | EFER_LME | EFER_LMA, .cr4_valid = BITS(12, 0)};
    nested.msr_merge = (struct svm_msr_merge){.own = own_map, .merged = merged_map};
    nested.msr_map02 = hpa(0x200000);
    nested.all_ones = hpa(0x300000);
    svm_own_intercepts(nested.own_intercepts);
    nested.v_intr_for_l2 = svm_v_intr_for_l2(true, false);
    refused = translated = flushed = flushed_l1 = tlb_control_obeyed = 0;
    return 0;
}

/* A VMRUN; then, if L2 ran, an exit that L1 sees, before which the CPU has used all of vmcb02. */
static struct svm_slot *run(u64 address)
{
    struct svm_slot *slot = nested_svm_slot(&nested, address);

    assert_non_null(slot);
    assert_true((will_write >> address / PAGE_SIZE & 1) != 0);
    nested_svm_enter(&vcpu, slot);
    if (vcpu.l2_running) {
        svm.vmcb = &vmcb01;
        vcpu.l2_running = false;
        slot->loaded = true;
    }
    return slot;
}

static struct svm_slot *run_again(u64 address)
{
    nested_svm_slot(&nested, address)->vmcb02->control.clean = svm.clean;
    return run(address);
}

static void test_first_run_reads_all(void **state)
{
    struct vmcb *vmcb12 = make_vmcb12(0x1000);
    struct svm_slot *slot;

    (void)state;
    vmcb12->control.clean = ~0u;
    vmcb12->save.rip = 0x1234;
    vmcb12->save.rax = 0x77;
    vmcb12->save.ds.base = 0x55;
    vmcb12->control.tsc_offset = 9;
    vmcb12->control.tlb_control = TLB_CONTROL_FLUSH_GUEST;
    slot = run(0x1000);
    assert_int_equal(refused, 0);
    assert_int_equal(translated, 1);
    assert_int_equal(slot->vmcb02->save.rip, 0x1234);
    assert_int_equal(slot->vmcb02->save.rax, 0x77);
    assert_int_equal(slot->vmcb02->save.ds.base, 0x55);
    assert_int_equal(slot->vmcb02->save.cr3, 0x5000);
    assert_int_equal(slot->vmcb02->control.tsc_offset, 9);
    assert_int_equal(slot->vmcb02->control.clean, 0);
    assert_int_equal(slot->vmcb02->control.msrpm_base_pa, nested.msr_map02.raw);
    assert_int_equal(slot->vmcb02->control.iopm_base_pa, nested.all_ones.raw);
    assert_ptr_equal(slot->msr_map, ram[MAPS]);
    assert_int_equal(tlb_control_obeyed, TLB_CONTROL_FLUSH_GUEST);
    assert_int_equal(flushed_l1, 0);
    assert_int_equal(frame.l2_vmcb, slot->vmcb02_address.raw);
    assert_int_equal(frame.next, (uintptr_t)svm_enter_l2);
}

/* Each group: what is in it is used as it was while L1 calls it clean, and as it is when L1 does not. */
static const struct {
    u32 group;
    size_t in_vmcb; /* of vmcb12 and vmcb02 alike */
    u64 value;
} groups[] = {
    {CLEAN_INTERCEPTS, offsetof(struct vmcb, control.tsc_offset), 0x1000},
    {CLEAN_CRX, offsetof(struct vmcb, save.cr3), 0x7000},
    {CLEAN_DRX, offsetof(struct vmcb, save.dr7), 0x400},
    {CLEAN_DT, offsetof(struct vmcb, save.idtr.base), 0x8000},
    {CLEAN_SEGMENTS, offsetof(struct vmcb, save.ss.base), 0x9000},
    {CLEAN_NP, offsetof(struct vmcb, save.g_pat), 0x0606060606060606ull},
};

static u64 *field(struct vmcb *vmcb, unsigned group)
{
    return (u64 *)(void *)((u8 *)vmcb + groups[group].in_vmcb);
}

static void test_clean_groups(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(groups); i++) {
        assert_int_equal(set_up(state), 0);
        struct vmcb *vmcb12 = make_vmcb12(0x1000);
        struct svm_slot *slot = run(0x1000);
        u64 before = *field(slot->vmcb02, i);
        u32 read = (u32)(CLEAN_TPR | CLEAN_CR2 | CLEAN_LBR);

        *field(vmcb12, i) = groups[i].value;
        vmcb12->save.rip = 0x4242;
        vmcb12->control.clean = ~0u;
        run_again(0x1000);
        assert_int_equal(*field(slot->vmcb02, i), before);
        assert_int_equal(slot->vmcb02->save.rip, 0x4242);
        assert_int_equal(slot->vmcb02->control.clean, CLEAN_KNOWN & ~read);
        vmcb12->control.clean = ~groups[i].group;
        run_again(0x1000);
        assert_int_equal(*field(slot->vmcb02, i), groups[i].value);
        assert_int_equal(slot->vmcb02->control.clean, CLEAN_KNOWN & ~(read | groups[i].group));
        assert_int_equal(refused, 0);
    }
}

/* ... and that of others is read all the same: what has no clean bit, and what Umbra marked itself. */
static void test_never_clean(void **state)
{
    struct vmcb *vmcb12 = make_vmcb12(0x1000);
    struct svm_slot *slot = run(0x1000);

    (void)state;
    vmcb12->control.clean = ~0u;
    vmcb12->control.v_intr = V_INTR_MASKING | V_IRQ | BIT(62);
    vmcb12->control.interrupt_state = ~0ull;
    vmcb12->control.event_inj = EVENT_VALID | EVENT_TYPE_INTR | 0x30;
    vmcb12->save.cr2 = 0x99;
    vmcb01.save.rflags = RFLAGS_IF;
    slot->vmcb02->control.clean = svm.clean & ~(u32)CLEAN_DRX;
    run(0x1000);
    assert_int_equal(slot->vmcb02->control.v_intr, V_INTR_MASKING | V_IRQ);
    assert_int_equal(slot->vmcb02->control.interrupt_state, INTERRUPT_SHADOW | GUEST_INTERRUPT_MASK);
    assert_int_equal(slot->vmcb02->control.event_inj, EVENT_VALID | EVENT_TYPE_INTR | 0x30);
    assert_int_equal(nested.injected.event, slot->vmcb02->control.event_inj);
    assert_int_equal(slot->vmcb02->save.cr2, 0x99);
    assert_int_equal(slot->vmcb02->control.clean & CLEAN_DRX, 0);
    assert_true(frame.l2_interrupts);
    vmcb12->control.event_inj = EVENT_VALID | 1ull << 8;
    run(0x1000);
    assert_int_equal(refused, 1);
}

/* All ASIDs: also the one that is L1's own, 0 in its eyes. */
static void test_flush_of_all(void **state)
{
    (void)state;
    make_vmcb12(0x1000)->control.tlb_control = TLB_CONTROL_FLUSH_ALL;
    run(0x1000);
    assert_int_equal(tlb_control_obeyed, TLB_CONTROL_FLUSH_ALL);
    assert_int_equal(flushed_l1, 1);
}

static void change_cr3(struct vmcb *vmcb12, u64 value)
{
    vmcb12->save.cr3 = value;
    vmcb12->control.clean = ~0u;
}

/* What makes L1's word about clean groups worthless. */
static void test_all_is_read_again(void **state)
{
    struct vmcb *vmcb12 = make_vmcb12(0x1000);
    struct svm_slot *slot = run(0x1000);

    (void)state;
    change_cr3(vmcb12, 0x10000);
    vmcb01.save.cr4 ^= CR4_PGE;
    run(0x1000);
    assert_int_equal(slot->vmcb02->save.cr3, 0x10000);
    change_cr3(vmcb12, 0x11000);
    vmcb12->control.nested_control = 0;
    vmcb01.save.g_pat = 0x42;
    run(0x1000);
    assert_int_equal(slot->vmcb02->save.cr3, 0x11000);
    assert_int_equal(slot->vmcb02->save.g_pat, 0x42);
    change_cr3(vmcb12, 0x12000);
    svm.l1_svme_change = true;
    run(0x1000);
    assert_int_equal(slot->vmcb02->save.cr3, 0x12000);
    change_cr3(vmcb12, 0x13000);
    vmcb12->control.v_intr = V_GIF_ENABLE;
    run(0x1000);
    assert_int_equal(slot->vmcb02->save.cr3, 0x13000);
    assert_false(svm_intercepts_code(&slot->vmcb02->control, VMEXIT_CLGI));
    /* Nor is L1's word for it that the CPU has a virtual GIF. */
    nested.v_intr_for_l2 = svm_v_intr_for_l2(false, false);
    vmcb12->control.clean = 0;
    run(0x1000);
    assert_true(svm_intercepts_code(&slot->vmcb02->control, VMEXIT_CLGI));
    assert_int_equal(slot->vmcb02->control.v_intr, 0);
}

/* A refused VMRUN leaves nothing behind that a later one takes for good. */
static void test_refused(void **state)
{
    struct vmcb *vmcb12 = make_vmcb12(0x1000);
    struct svm_slot *slot = run(0x1000);

    (void)state;
    vmcb12->save.cr0 = CR0_NW;
    vmcb12->control.clean = ~(u32)CLEAN_CRX;
    run(0x1000);
    assert_int_equal(refused, 1);
    assert_int_equal(translated, 1);
    vmcb12->control.clean = ~0u;
    run(0x1000);
    assert_int_equal(refused, 2);
    vmcb12->save.cr0 = CR0_PG | CR0_PE;
    run(0x1000);
    assert_int_equal(refused, 2);
    assert_int_equal(slot->vmcb02->save.cr0, CR0_PG | CR0_PE);
}

/* Two VMCBs never evict each other; a third of the same set takes the place of the one that did not run last.
 */
static void test_slots(void **state)
{
    const u64 a = 0x1000, b = 0x5000, c = 0x9000;

    (void)state;
    for (u64 at = a; at <= c; at += 0x4000)
        make_vmcb12(at)->save.cr3 = at;
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(run(a)->vmcb02->save.cr3, a);
        assert_int_equal(run(b)->vmcb02->save.cr3, b);
        change_cr3(vmcb12_at(a), 0x20000);
        change_cr3(vmcb12_at(b), 0x21000);
    }
    struct svm_slot *last = nested.slot;
    assert_int_equal(run(c)->vmcb02->save.cr3, c);
    assert_ptr_not_equal(nested.slot, last);
    assert_int_equal(last->address, b);
    /* The other one's is gone, so all of it is read. */
    assert_int_equal(run(a)->vmcb02->save.cr3, 0x20000);
    assert_null(nested_svm_slot(&nested, 0x1001));
    assert_null(nested_svm_slot(&nested, sizeof(ram)));
    assert_null(nested_svm_slot(&nested, ~PAGE_MASK));
}

static void test_maps_elsewhere(void **state)
{
    struct vmcb *vmcb12 = make_vmcb12(0x1000);
    struct svm_slot *slot;

    (void)state;
    vmcb12->control.intercept[VMEXIT_IOIO / 32] |= 1u << VMEXIT_IOIO % 32;
    vmcb12->control.iopm_base_pa = (PAGES - 2) * PAGE_SIZE; /* its third page is no RAM */
    vmcb12->control.msrpm_base_pa = (PAGES - 1) * PAGE_SIZE;
    slot = run(0x1000);
    assert_int_equal(slot->vmcb02->control.iopm_base_pa, nested.all_ones.raw);
    assert_int_equal(slot->vmcb02->control.msrpm_base_pa, nested.all_ones.raw);
    assert_null(slot->msr_map);
    vmcb12->control.iopm_base_pa = (PAGES - 3) * PAGE_SIZE + 0xabc;
    vmcb12->control.intercept[VMEXIT_MSR / 32] &= ~(1u << VMEXIT_MSR % 32);
    vmcb01.control.msrpm_base_pa = 0x400000;
    run(0x1000);
    assert_int_equal(slot->vmcb02->control.iopm_base_pa, (PAGES - 3) * PAGE_SIZE);
    assert_int_equal(slot->vmcb02->control.msrpm_base_pa, 0x400000);
}

static void test_what_waits(void **state)
{
    (void)state;
    make_vmcb12(0x1000);
    machine.tdp.flush_pending = true;
    vcpu.nmi_pending = true;
    run(0x1000);
    assert_false(vcpu.nmi_pending);
    assert_int_equal(flushed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_first_run_reads_all, set_up),
        cmocka_unit_test_setup(test_clean_groups, set_up),
        cmocka_unit_test_setup(test_never_clean, set_up),
        cmocka_unit_test_setup(test_flush_of_all, set_up),
        cmocka_unit_test_setup(test_all_is_read_again, set_up),
        cmocka_unit_test_setup(test_refused, set_up),
        cmocka_unit_test_setup(test_slots, set_up),
        cmocka_unit_test_setup(test_maps_elsewhere, set_up),
        cmocka_unit_test_setup(test_what_waits, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
