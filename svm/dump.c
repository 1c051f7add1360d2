/* SPDX-License-Identifier: MIT */
/*
 * The guest's state in words, for fatal reports.
 */
#include "arch/print.h"
#include "svm/exit-name.h"
#include "svm/svm.h"

static void dump_segment(const char *name, const struct vmcb_segment *segment)
{
    log_error("  %-4s %04x base %016lx limit %08x attributes %03x", name, segment->selector, segment->base,
              segment->limit, segment->attributes);
}

static void dump_registers(struct vcpu *vcpu, const struct vmcb_save *save)
{
    vcpu->gpr[GPR_RSP] = save->rsp;
    log_error("  rip %016lx  rflags %08lx  cpl %u", save->rip, save->rflags, save->cpl);
    log_registers(vcpu->gpr);
    log_error("  cr0 %lx  cr2 %lx  cr3 %lx  cr4 %lx  efer %lx", save->cr0, save->cr2, save->cr3, save->cr4,
              save->efer);
    log_error("  dr6 %lx  dr7 %lx", save->dr6, save->dr7);
}

void svm_dump(struct vcpu *vcpu)
{
    const struct svm_vcpu *svm = svm_of(vcpu);

    if (svm == NULL) {
        log_error("there is no VMCB yet");
        return;
    }
    const struct vmcb_control *control = &svm->vmcb->control;
    const struct vmcb_save *save = &svm->vmcb->save;

    log_error("guest of CPU %u, last exit %s (%lx)", vcpu->index,
              svm_exit_name(svm_exit_index(control->exit_code)), control->exit_code);
    log_error("  exitinfo1 %lx  exitinfo2 %lx  exitintinfo %lx  eventinj %lx", control->exit_info_1,
              control->exit_info_2, control->exit_int_info, control->event_inj);
    log_error("  shadow %lx  v_intr %lx  asid %x  np %lx  ncr3 %lx  stepping %s", control->interrupt_state,
              control->v_intr, control->asid, control->nested_control, control->n_cr3,
              (svm->unusual & SVM_STEPPING) != 0 ? "yes" : "no");
    dump_registers(vcpu, save);
    dump_segment("cs", &save->cs);
    dump_segment("ss", &save->ss);
    dump_segment("ds", &save->ds);
    dump_segment("es", &save->es);
    dump_segment("fs", &save->fs);
    dump_segment("gs", &save->gs);
    dump_segment("tr", &save->tr);
    dump_segment("ldtr", &save->ldtr);
    dump_segment("gdtr", &save->gdtr);
    dump_segment("idtr", &save->idtr);
}
