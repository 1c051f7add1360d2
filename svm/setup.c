/* SPDX-License-Identifier: MIT */
/*
 * SVM on this CPU, and the VMCB of its guest; see svm/setup.h. Source: APM vol. 2 15.4, 15.5, 15.25.
 */
#include "svm/setup.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/percpu.h"
#include "arch/string.h"
#include "mm/frame.h"
#include "mm/phys.h"
#include "svm/capability.h"
#include "svm/controls.h"
#include "svm/efer.h"
#include "svm/halt.h"
#include "svm/nmi.h"
#include "svm/startup.h"
#include "svm/svm.h"
#include "vcpu/msr-policy.h"

/* Two bits for each of 3 * 2000h MSRs, and a reserved rest: APM vol. 2 15.11. */
enum { MSR_MAP_PAGES = 2 };

#define DR6_INIT 0xffff0ff0ull
#define DR7_INIT 0x400ull

static const char no_memory[] =
    "Umbra's memory pool is too small for the VMCB: give the machine more memory and report it";

/*
 * The EFER bits that CPUID promises and the CPU accepts, each tried on the real EFER. LMSLE has no CPUID bit
 * on old CPUs, and QEMU's TCG has none of the newer ones, but accepts and forgets them.
 */
static u64 find_writable_efer(void)
{
    struct efer_features features = {
        .leaf_80000001_ecx = cpuid(0x80000001, 0).ecx,
        .leaf_80000001_edx = cpuid(0x80000001, 0).edx,
        .leaf_80000008_ebx = cpuid(0x80000008, 0).ebx,
        .leaf_80000021_eax = cpuid(0x80000000, 0).eax >= 0x80000021 ? cpuid(0x80000021, 0).eax : 0,
    };
    u64 promised = svm_efer_writable(&features);
    u64 efer = rdmsr(MSR_EFER);
    u64 accepted = promised & efer; /* LME and NXE, which Umbra itself runs on */

    for (unsigned bit = 0; bit < 64; bit++) {
        u64 mask = promised & ~efer & BIT(bit);
        if (mask != 0 && wrmsr_safe(MSR_EFER, efer | mask))
            accepted |= rdmsr(MSR_EFER) & mask;
    }
    wrmsr(MSR_EFER, efer);
    return accepted;
}

const char *svm_enable(struct vcpu *vcpu)
{
    hpa_t frame, host_save;
    struct svm_vcpu *svm;
    u64 vm_cr;

    if (!frame_alloc(&frame) || !frame_alloc(&host_save))
        return no_memory;
    svm = phys_to_virt(frame);
    svm->vcpu = vcpu;
    memset(svm->site, 0xff, sizeof(svm->site)); /* SVM_SITE_NONE */
    svm->clean = svm_features.clean_bits ? CLEAN_KNOWN : 0;
    if (!frame_alloc(&svm->vmcb_frame) || !frame_alloc(&svm->host_vmcb_frame))
        return no_memory;
    svm->vmcb = svm->vmcb01 = phys_to_virt(svm->vmcb_frame);
    svm->exceptions = svm_controls_exceptions();
    svm->efer_writable = find_writable_efer();
    vcpu->vendor = svm;

    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, host_save.raw);
    /* An intercepted INIT stays pending; R_INIT lets Umbra swallow it as #SX instead of being reset. QEMU's
     * TCG has no VM_CR. */
    if (rdmsr_safe(MSR_VM_CR, &vm_cr))
        (void)wrmsr_safe(MSR_VM_CR, vm_cr | VM_CR_R_INIT);
    /* Umbra's own branches are not recorded where the guest could read them. */
    if (svm_features.lbr_virtualization)
        (void)wrmsr_safe(MSR_IA32_DEBUGCTL, 0);
    svm->tsc_ratio = TSC_RATIO_ONE;
    if (svm_features.tsc_ratio)
        (void)wrmsr_safe(MSR_TSC_RATIO, TSC_RATIO_ONE);
    this_cpu()->nmi_hook = svm_nmi_hook;
    svm_clgi();
    return NULL;
}

static struct vmcb_segment segment(u16 selector, u64 base, u32 limit, u64 attributes)
{
    return (struct vmcb_segment){
        .selector = selector, .attributes = (u16)attributes, .limit = limit, .base = base};
}

/* Segment types, APM vol. 2 4.7 and 4.8.3: read/write data, read/execute code, both accessed. */
#define DATA_SEGMENT (SEGMENT_P | SEGMENT_S | 3)
#define CODE_SEGMENT (SEGMENT_P | SEGMENT_S | 11)
#define FLAT_32      (SEGMENT_G | SEGMENT_DB)
#define LDT_SEGMENT  (SEGMENT_P | 2)
#define BUSY_TSS     (SEGMENT_P | 11)

static void load_real_mode(struct vmcb_save *save, const struct start_state *start)
{
    save->cs = segment(start->cs_selector, start->cs_base, 0xffff, CODE_SEGMENT);
    save->ds = segment(start->data_selector, (u64)start->data_selector << 4, 0xffff, DATA_SEGMENT);
    save->idtr = segment(0, 0, 0xffff, 0);
    save->cr0 = CR0_ET;
}

static void load_protected_mode(struct vmcb_save *save, const struct start_state *start)
{
    save->cs = segment(start->cs_selector, 0, 0xffffffff, CODE_SEGMENT | FLAT_32);
    save->ds = segment(start->data_selector, 0, 0xffffffff, DATA_SEGMENT | FLAT_32);
    save->idtr = segment(0, 0, 0, 0);
    save->cr0 = CR0_PE | CR0_ET;
}

static void load_long_mode(struct vmcb_save *save, const struct start_state *start)
{
    load_protected_mode(save, start);
    save->cs = segment(start->cs_selector, 0, 0xffffffff, CODE_SEGMENT | SEGMENT_G | SEGMENT_L);
    save->cr0 |= CR0_PG;
    save->cr3 = start->cr3;
    save->cr4 = CR4_PAE;
    save->efer |= EFER_LME | EFER_LMA;
}

void svm_load_start(struct svm_vcpu *svm, const struct start_state *start)
{
    struct vmcb_save *save = &svm->vmcb->save;

    /* SVME is required by VMRUN's consistency check, whatever the guest sees. */
    save->efer = EFER_SVME;
    save->cr2 = save->cr3 = save->cr4 = 0;
    switch (start->mode) {
    case START_REAL:
        load_real_mode(save, start);
        break;
    case START_PROTECTED32:
        load_protected_mode(save, start);
        break;
    case START_LONG64:
        load_long_mode(save, start);
        break;
    }
    save->es = save->ss = save->fs = save->gs = save->ds;
    save->gdtr = segment(0, start->gdt_base, start->gdt_limit, 0);
    save->ldtr = segment(0, 0, 0xffff, LDT_SEGMENT);
    save->tr = segment(0, 0, 0xffff, BUSY_TSS);
    save->cpl = 0;
    save->dr6 = DR6_INIT;
    save->dr7 = DR7_INIT;
    save->rflags = RFLAGS_RESERVED1;
    save->rip = start->rip;
    save->rax = start->gpr[GPR_RAX];
    save->rsp = start->gpr[GPR_RSP];
    memcpy(svm->vcpu->gpr, start->gpr, sizeof(start->gpr));
    svm->vmcb->control.interrupt_state = 0;
    svm->vmcb->control.event_inj = 0;
    svm_flush_guest(svm);
    svm_changed(svm, CLEAN_KNOWN);
}

const char *svm_prepare(struct vcpu *vcpu, const struct start_state *start)
{
    struct svm_vcpu *svm = svm_of(vcpu);
    struct vmcb_control *control = &svm->vmcb->control;
    struct start_state init;
    hpa_t msr_map;

    if (!frame_alloc_contiguous(MSR_MAP_PAGES, &msr_map))
        return no_memory;
    memset(phys_to_virt(msr_map), 0xff, MSR_MAP_PAGES * PAGE_SIZE);
    msr_policy_fill_svm_map(phys_to_virt(msr_map));

    svm_controls_set_intercepts(control->intercept);
    if (svm_nmi_intercepted()) {
        control->intercept[VMEXIT_NMI / 32] |= 1u << VMEXIT_NMI % 32 | 1u << VMEXIT_HLT % 32;
        svm_halt_prepare(svm);
    }
    control->msrpm_base_pa = msr_map.raw;
    control->asid = ASID_GUEST;
    control->nested_control = NP_ENABLE | (machine.mode_based_execute ? GMET_ENABLE : 0);
    control->n_cr3 = machine.tdp.root.raw;
    control->lbr_control = svm_features.lbr_virtualization ? LBR_VIRTUALIZATION_ENABLE : 0;
    /*
     * The guest's PAT MSR is this field, or the live MSR on QEMU's TCG, which has no gPAT. Both hold the same
     * value when the guest starts.
     */
    svm->vmcb->save.g_pat = rdmsr(MSR_IA32_PAT);
    if (start == NULL) {
        start_state_init(&init);
        svm_startup_expect(svm);
    }
    svm_load_start(svm, start == NULL ? &init : start);
    /* Nothing of this ASID was ever cached, but firmware may have used it. */
    control->tlb_control = TLB_CONTROL_FLUSH_ALL;
    return NULL;
}

void svm_run(struct vcpu *vcpu)
{
    struct svm_vcpu *svm = svm_of(vcpu);

    /* What came while Umbra started was for the firmware's world. */
    vcpu->nmi_pending = false;
    svm->frame = (struct svm_frame *)(uintptr_t)(this_cpu()->stack_top - sizeof(struct svm_frame));
    svm_vmsave(svm->host_vmcb_frame.raw);
    if (vcpu->index == 0)
        svm_startup_begin();
    svm_startup_wait(svm);
    svm_run_loop(vcpu, svm->vmcb_frame.raw, svm->host_vmcb_frame.raw, this_cpu()->stack_top);
}
