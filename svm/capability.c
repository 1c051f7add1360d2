/* SPDX-License-Identifier: MIT */
/*
 * The checks before SVM is switched on; each refusal is one sentence that says what to do.
 */
#include "svm/capability.h"

#include "arch/cpu.h"
#include "arch/msr.h"
#include "arch/string.h"
#include "svm/vmcb.h"

#define CPUID_EXTENDED_FEATURES  0x80000001u
#define CPUID_EXTENDED_ADDRESSES 0x80000008u
#define CPUID_SVM                0x8000000au

#define CPUID_EXT_ECX_SVM        BIT(2)
#define CPUID_EXT_EDX_NX         BIT(20)
#define CPUID_EXT_EDX_PAGE1G     BIT(26)

struct svm_features svm_features;

/* APM vol. 2 15.4: SVMDIS keeps EFER.SVME from being set; with SVML a key could clear it, but only firmware
 * has that key. */
static const char *check_firmware(u32 svm_edx)
{
    u64 vm_cr;

    if (!rdmsr_safe(MSR_VM_CR, &vm_cr) || (vm_cr & VM_CR_SVMDIS) == 0)
        return NULL;
    if ((vm_cr & VM_CR_LOCK) != 0 || (svm_edx & SVM_EDX_SVML) != 0)
        return "SVM is switched off and locked by the firmware (VM_CR.SVMDIS): enable SVM, also called "
               "AMD-V, in the firmware's set-up and boot again";
    return "SVM is switched off (VM_CR.SVMDIS) though not locked: enable SVM, also called AMD-V, in the "
           "firmware's set-up and boot again";
}

const char *svm_probe(struct tdp_config *config)
{
    if (cpuid(0x80000000, 0).eax < CPUID_SVM ||
        (cpuid(CPUID_EXTENDED_FEATURES, 0).ecx & CPUID_EXT_ECX_SVM) == 0)
        return "this CPU does not offer SVM (CPUID 8000_0001 ECX bit 2): use a CPU with AMD-V and enable it "
               "in the firmware";

    struct cpuid_regs extended = cpuid(CPUID_EXTENDED_FEATURES, 0);
    struct cpuid_regs svm = cpuid(CPUID_SVM, 0);
    const char *refusal = check_firmware(svm.edx);

    if (refusal != NULL)
        return refusal;
    if ((svm.edx & SVM_EDX_NP) == 0)
        return "this CPU's SVM has no nested paging (CPUID 8000_000A EDX bit 0), which Umbra cannot do "
               "without: use an AMD CPU of family 10h or later, or an emulated one with npt";
    if ((extended.edx & CPUID_EXT_EDX_NX) == 0)
        return "this CPU has no NX (CPUID 8000_0001 EDX bit 20): enable no-execute protection in the "
               "firmware's set-up";
    if (svm.ebx <= ASID_GUEST)
        return "this CPU's SVM has no ASID for a guest (CPUID 8000_000A EBX): report it to whoever emulates "
               "this CPU";

    svm_features = (struct svm_features){
        .lbr_virtualization = (svm.edx & SVM_EDX_LBR) != 0,
        .nrip_save = (svm.edx & SVM_EDX_NRIPS) != 0,
        .clean_bits = (svm.edx & SVM_EDX_VMCB_CLEAN) != 0,
        .flush_by_asid = (svm.edx & SVM_EDX_FLUSH_BY_ASID) != 0,
        .decode_assists = (svm.edx & SVM_EDX_DECODE_ASSISTS) != 0,
        .tsc_ratio = (svm.edx & SVM_EDX_TSC_RATIO) != 0,
        .virtual_vmload = (svm.edx & SVM_EDX_VIRTUAL_VMLOAD) != 0,
        .virtual_gif = (svm.edx & SVM_EDX_VGIF) != 0,
        .virtual_nmi = (svm.edx & SVM_EDX_VNMI) != 0,
        .gmet = (svm.edx & SVM_EDX_GMET) != 0,
    };
    *config = (struct tdp_config){
        .format = TDP_NPT,
        .mode_based_execute = svm_features.gmet,
        .execute_only = false,
        .accessed_dirty = true,
        .page_1g = (extended.edx & CPUID_EXT_EDX_PAGE1G) != 0,
        .maxphyaddr = cpuid(CPUID_EXTENDED_ADDRESSES, 0).eax & 0xff,
    };
    return NULL;
}

/* APM vol. 2 15.28: INIT becomes #SX where it is not intercepted; else it would reset the CPU under Umbra. */
static bool can_redirect_init(void)
{
    u64 vm_cr;

    return rdmsr_safe(MSR_VM_CR, &vm_cr) && wrmsr_safe(MSR_VM_CR, vm_cr | VM_CR_R_INIT) &&
           (rdmsr(MSR_VM_CR) & VM_CR_R_INIT) != 0;
}

const char *svm_match(void)
{
    struct svm_features first = svm_features;
    struct tdp_config config;
    const char *refusal = svm_probe(&config);

    if (refusal != NULL)
        return refusal;
    if (memcmp(&first, &svm_features, sizeof(first)) != 0)
        return "its SVM is not that of the boot CPU: all CPUs of a machine have to be alike";
    if (!can_redirect_init())
        return "it cannot redirect INIT (VM_CR.R_INIT), which Umbra needs with more than one CPU: the "
               "hypervisor below has to offer it, or to give the machine one CPU";
    return NULL;
}
