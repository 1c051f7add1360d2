/* SPDX-License-Identifier: MIT */
/*
 * The one list of checks that an emulator, not Umbra, fails: each by name, with what the emulator does
 * instead. A check that is named here and fails counts as passed and says so on its line; nothing else is
 * ever forgiven.
 */
#include "tests/guest/guest.h"

enum emulator { BOCHS, TCG };
/* Where a deviation may show: without Umbra only (Umbra hides it, or decides itself), only with it, or in
 * both places. */
enum place { BARE, UNDER_UMBRA, ANYWHERE };

static const struct deviation {
    enum emulator emulator;
    enum place place;
    const char *check; /* a name, or the beginning of one with * at the end */
    const char *what;
} deviations[] = {
    {BOCHS, ANYWHERE, "msrs.microcode_sequence", "no microcode MSRs"},
    {BOCHS, ANYWHERE, "msrs.perf_*", "CPUID tells of a PMU that is not there"},
    {TCG, ANYWHERE, "msrs.pat_*", "any PAT is taken"},
    {TCG, ANYWHERE, "msrs.mtrr_*_bad_type", "any MTRR value is taken"},
    {TCG, ANYWHERE, "msrs.mtrr_*_reserved", "any MTRR value is taken"},
    {TCG, ANYWHERE, "msrs.mtrr_base_too_high", "any MTRR value is taken"},
    {TCG, ANYWHERE, "msrs.mtrr_cap_read_only", "writes are ignored"},
    {TCG, ANYWHERE, "msrs.*_not_canonical", "addresses are not checked"},
    {TCG, BARE, "msrs.efer_*", "reserved bits of EFER are ignored"},
    {TCG, BARE, "msrs.unknown_*", "unknown MSRs read as zero"},
    {TCG, BARE, "msrs.refused_read_changes_nothing", "unknown MSRs read as zero"},
    {TCG, ANYWHERE, "msrs.tsc_msr_agrees", "IA32_TSC is not implemented"},
    {TCG, ANYWHERE, "msrs.tsc_write", "IA32_TSC is not implemented"},
    {TCG, ANYWHERE, "exceptions.ss_not_canonical", "#GP instead of #SS"},
    {TCG, ANYWHERE, "init.still_where_it_was",
     "INIT is not held back while GIF is 0: it takes the CPU out of Umbra"},
    {TCG, ANYWHERE, "exceptions.ac", "no alignment checks"},
    {TCG, ANYWHERE, "exceptions.xm", "no unmasked SIMD exceptions"},
    {BOCHS, ANYWHERE, "paging.four_level_key_*",
     "protection keys go by the CPL of the access, not by U/S of the page"},
    {TCG, ANYWHERE, "paging.four_level_key_and_rights",
     "PK stays 0 in the error code if the rights deny, too"},
    {TCG, ANYWHERE, "paging.four_level_pml4e_bit_8", "bit 8 of a PML4 entry may be set"},
    {BOCHS, UNDER_UMBRA, "second_level.xu_bit_of_data_accesses", "XU is reported in bit 13 instead of 6"},
    {BOCHS, UNDER_UMBRA, "second_level.read_bit_of_walks", "with EPT A/D bit 1 alone, not bits 0 and 1"},
    {BOCHS, BARE, "vmx-ept.mbec_*.user_execute_bit",
     "user-execute permission is told in bit 13 instead of 6"},
    {BOCHS, ANYWHERE, "vmx-ept.walk.flag_denied*",
     "a walk sets flags of L2's tables whether EPT allows it or not"},
    {BOCHS, UNDER_UMBRA, "smp.all_start_by_one_ipi",
     "the VM exit of the first CPU that takes a start-up IPI keeps it from the others"},
    {BOCHS, BARE, "vmx-smp.init_in_root.*", "INIT is lost in VMX root operation"},
    {BOCHS, BARE, "smp-restart.root.init_after_vmxoff", "INIT is lost in VMX root operation"},
    {BOCHS, UNDER_UMBRA, "smp-halt.shoot_down.*", "a VM exit from HLT saves activity state 0"},
    {BOCHS, UNDER_UMBRA, "smp.exiting.*",
     "INIT is lost in VMX root operation, and the CPU spends its time there"},
    {BOCHS, BARE, "vmx-instructions.invept_type_large", "only bits 31:0 of INVEPT's type count"},
    {BOCHS, BARE, "vmx-instructions.vmcall_in_root", "the VMCS is looked at before the missing SMM monitor"},
    {BOCHS, BARE, "vmx-checks.entry_to_smm", "the control is checked with guest state"},
    {BOCHS, BARE, "vmx-checks.debugctl", "reserved bits of IA32_DEBUGCTL are not checked"},
    {BOCHS, BARE, "vmx-checks.activity_event", "any exception may be injected into HLT"},
    {BOCHS, BARE, "vmx-checks.pending_bs*", "BS is not compared with RFLAGS.TF"},
    {BOCHS, BARE, "vmx-events.virtual_nmi.second_refused",
     "an NMI is injected though virtual NMIs are blocked"},
    {BOCHS, BARE, "vmx-shadow.vmlaunch", "a shadow VMCS that is current is an error with a number"},
    {BOCHS, BARE, "vmx-shadow.vmresume", "a shadow VMCS that is current is an error with a number"},
    {BOCHS, BARE, "vmx-functions.ve.eptp_index", "the EPTP index of an earlier VMFUNC stays"},
    {BOCHS, BARE, "vmx-functions.pml.full_not_needed", "a write to a page that is dirty finds the log full"},
    {BOCHS, ANYWHERE, "vmx-events.interrupt.without_if", "RFLAGS.IF blocks interrupts that exit, too"},
    {BOCHS, BARE, "svm-maps.io.outs*.address", "EXITINFO1 lacks the segment"},
    {BOCHS, BARE, "svm-maps.io.rep_outsl.address", "EXITINFO1 lacks the segment"},
    {BOCHS, BARE, "svm-npt.without_nxe.*fetch.info_1", "I/D is always told"},
    {BOCHS, BARE, "svm-npt.reserved.level4_global.*", "bit 8 of a nested PML4 entry may be set"},
    {BOCHS, BARE, "svm-npt-hosts.legacy.*fetch_by_ring0.info_1", "I/D is always told"},
    {BOCHS, BARE, "svm-npt-hosts.legacy.*fetch_by_ring3.info_1", "I/D is always told"},
    {TCG, BARE, "svm-instructions.exit.dr*",
     "#VMEXIT loads DR6 and DR7 from the host save area (APM 2 15.6: DR7 is disabled, DR6 stays)"},
    {TCG, BARE, "svm-checks.*.state", "VMEXIT_INVALID writes the save area"},
    {TCG, BARE, "svm-checks.nested_cr3_*.exit", "nCR3 is not checked"},
    {TCG, BARE, "svm-checks.pat_type_*.exit", "nested paging has no PAT of the guest"},
    {TCG, ANYWHERE, "svm-exits.rdtscp.*", "no intercept of RDTSCP"},
    {TCG, ANYWHERE, "svm-exits.ring3.invd.*", "the intercept comes before the check of CPL"},
    {TCG, ANYWHERE, "svm-exits.ring3.wbinvd.*", "the intercept comes before the check of CPL"},
    {TCG, ANYWHERE, "svm-exits.ring3.xsetbv.*", "the intercept comes before the check of CPL"},
    {TCG, ANYWHERE, "svm-maps.io.*.address", "EXITINFO1 lacks address size and segment (APM 2 15.10.2)"},
    {TCG, ANYWHERE, "svm-exceptions.of.*", "#OF of INTO is not intercepted"},
    {TCG, ANYWHERE, "svm-exceptions.delivery.df_*", "#DF is not intercepted"},
    {TCG, ANYWHERE, "svm-events.virtual.same_priority", "a virtual interrupt of V_TPR's priority is taken"},
    {TCG, BARE, "svm-npt.reserved.level4_global.*", "bit 8 of a nested PML4 entry may be set"},
    {TCG, BARE, "svm-npt-hosts.legacy.*", "32-bit nested tables are not used, all is mapped one to one"},
    {TCG, BARE, "svm-npt-hosts.without_paging.nested", "CR0.PG of the host is not checked"},
    {TCG, ANYWHERE, "svm-events.next_rip.software_*", "nRIP is saved, but not used for an injection"},
    {TCG, BARE, "svm-events.delivery.*.event", "EXITINTINFO calls an interrupt an exception"},
    {TCG, BARE, "svm-events.delivery.virtual.taken", "V_IRQ stays set until the delivery is over"},
    {TCG, ANYWHERE, "svm-modes.v8086.*.vmsave.exit", "#GP instead of #UD in virtual-8086 mode"},
    {TCG, ANYWHERE, "svm-modes.v8086.*.invlpga.exit", "#GP instead of #UD in virtual-8086 mode"},
    {TCG, BARE, "svm-modes.v8086.*.invd.exit", "INVD does not check CPL"},
    {TCG, BARE, "svm-modes.v8086.*.invd.rip", "INVD does not check CPL"},
    /* Umbra cannot walk such tables, and so cannot see the prefix of an instruction that it emulates. */
    {TCG, UNDER_UMBRA, "svm-modes.pae32.segment.*", "accessed flags in PDPTEs, where they are reserved"},
    {TCG, UNDER_UMBRA, "svm-modes.pae32.address.*", "accessed flags in PDPTEs, where they are reserved"},
    {TCG, UNDER_UMBRA, "svm-modes.pae32.operand.*", "accessed flags in PDPTEs, where they are reserved"},
    {TCG, UNDER_UMBRA, "svm-modes.pae32.three.*", "accessed flags in PDPTEs, where they are reserved"},
    {TCG, BARE, "exceptions.invd_ring3", "INVD does not check CPL"},
};

/* `*` stands for any text, once. */
static bool matches(const char *pattern, const char *name)
{
    size_t head = 0, length = strlen(name);
    while (pattern[head] && pattern[head] != '*') {
        if (pattern[head] != name[head])
            return false;
        head++;
    }
    if (!pattern[head])
        return head == length;
    const char *tail = pattern + head + 1;
    size_t tail_length = strlen(tail);
    return length >= head + tail_length && memcmp(name + length - tail_length, tail, tail_length) == 0;
}

const char *deviation_of(const char *check)
{
    enum emulator emulator = on_tcg() ? TCG : BOCHS;
    for (size_t i = 0; i < ARRAY_SIZE(deviations); i++) {
        const struct deviation *deviation = &deviations[i];
        bool place = deviation->place == ANYWHERE || (deviation->place == UNDER_UMBRA) == under_umbra;
        if (deviation->emulator == emulator && place && matches(deviation->check, check))
            return deviation->what;
    }
    return NULL;
}
