/* SPDX-License-Identifier: MIT */
/*
 * EVENTINJ and EXITINTINFO; see svm/event.h. Source: APM vol. 2 8.2, 15.7.2, 15.20.
 */
#include "svm/event.h"

#include "arch/x86.h"
#include "svm/controls.h"

enum { EXC_VC = 29, VECTOR_FIRST_NO_EXCEPTION = 31 };

/* How events combine, APM vol. 2 table 8-3. #DF itself stands apart. */
enum event_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT };

static enum event_class event_class(unsigned vector)
{
    switch (vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP:
    case EXC_CP:
        return CLASS_CONTRIBUTORY;
    case EXC_PF:
        return CLASS_PAGE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

/* APM vol. 2 table 8-1. */
static bool has_error_code(unsigned vector)
{
    const u64 with_error_code = BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) |
                                BIT(EXC_PF) | BIT(EXC_AC) | BIT(EXC_CP) | BIT(EXC_VC) | BIT(EXC_SX);
    return vector < 32 && (with_error_code & BIT(vector)) != 0;
}

/*
 * The type of the event in flight, corrected for QEMU's TCG, which calls an NMI and a directly delivered
 * interrupt an exception. A vector that no exception has is an interrupt's.
 */
static u64 event_type(u64 exit_int_info)
{
    u64 type = exit_int_info & EVENT_TYPE_MASK;
    u64 vector = exit_int_info & EVENT_VECTOR_MASK;

    if (type == EVENT_TYPE_EXCEPTION && vector == EXC_NMI)
        return EVENT_TYPE_NMI;
    if (type == EVENT_TYPE_EXCEPTION && vector >= VECTOR_FIRST_NO_EXCEPTION)
        return EVENT_TYPE_INTR;
    return type;
}

enum svm_delivery svm_event_combine(u64 in_flight, unsigned vector)
{
    if ((in_flight & EVENT_VALID) == 0 || event_type(in_flight) != EVENT_TYPE_EXCEPTION)
        return SVM_DELIVER_IT;

    unsigned first = (unsigned)(in_flight & EVENT_VECTOR_MASK);
    enum event_class first_class = event_class(first), second_class = event_class(vector);

    if (first == EXC_DF)
        return second_class == CLASS_BENIGN ? SVM_DELIVER_IT : SVM_DELIVER_SHUTDOWN;
    if (first_class == CLASS_CONTRIBUTORY && second_class == CLASS_CONTRIBUTORY)
        return SVM_DELIVER_DOUBLE_FAULT;
    if (first_class == CLASS_PAGE_FAULT && second_class != CLASS_BENIGN)
        return SVM_DELIVER_DOUBLE_FAULT;
    return SVM_DELIVER_IT;
}

u64 svm_event_in_flight(u64 exit_int_info)
{
    if ((exit_int_info & EVENT_VALID) == 0)
        return 0;
    return (exit_int_info & ~EVENT_TYPE_MASK) | event_type(exit_int_info);
}

u64 svm_event_reinjection(u64 exit_int_info)
{
    u64 type = event_type(exit_int_info);
    u64 vector = exit_int_info & EVENT_VECTOR_MASK;

    if ((exit_int_info & EVENT_VALID) == 0 || type == EVENT_TYPE_SOFTWARE)
        return 0;
    if (type != EVENT_TYPE_EXCEPTION)
        return EVENT_VALID | type | vector;
    /* INT3 and INTO; RIP still points to them. */
    if (vector == EXC_BP || vector == EXC_OF)
        return 0;
    return exit_int_info & (BITS(63, EVENT_ERROR_SHIFT) | EVENT_VALID | EVENT_ERROR_VALID | EVENT_TYPE_MASK |
                            EVENT_VECTOR_MASK);
}

void svm_event_inject(struct svm_vcpu *svm, u64 event)
{
    unsigned vector = (unsigned)(event & EVENT_VECTOR_MASK);

    svm->vmcb->control.event_inj = event;
    if ((event & EVENT_VALID) == 0 || event_type(event) != EVENT_TYPE_EXCEPTION ||
        (vector != EXC_DF && event_class(vector) == CLASS_BENIGN))
        return;
    svm->unusual |= SVM_WATCHING;
    svm->vmcb->control.intercept[VMCB_INTERCEPT_EXCEPTIONS] =
        svm->exceptions | svm_controls_delivery_exceptions();
    svm_changed(svm, CLEAN_INTERCEPTS);
}

void svm_event_delivery_over(struct svm_vcpu *svm)
{
    svm->unusual &= ~(u32)SVM_WATCHING;
    svm->vmcb->control.intercept[VMCB_INTERCEPT_EXCEPTIONS] = svm->exceptions;
    svm_changed(svm, CLEAN_INTERCEPTS);
}

void svm_event_second_exception(struct svm_vcpu *svm, unsigned vector)
{
    const struct vmcb_control *control = &svm->vmcb->control;

    if ((control->exit_int_info & EVENT_VALID) == 0)
        return;
    if (vector == EXC_PF)
        svm_event_set_cr2(svm, control->exit_info_2);
    svm_event_raise(svm, vector, (u32)control->exit_info_1);
}

void svm_event_set_cr2(struct svm_vcpu *svm, u64 address)
{
    svm->vmcb->save.cr2 = address;
    svm_changed(svm, CLEAN_CR2);
}

static void inject_exception(struct svm_vcpu *svm, unsigned vector, u32 error_code)
{
    u64 event = EVENT_VALID | EVENT_TYPE_EXCEPTION | vector;

    /* Real mode has no error codes, APM vol. 2 8.9. */
    if (has_error_code(vector) && (svm->vmcb->save.cr0 & CR0_PE) != 0)
        event |= EVENT_ERROR_VALID | (u64)error_code << EVENT_ERROR_SHIFT;
    svm_event_inject(svm, event);
}

void svm_event_raise(struct svm_vcpu *svm, unsigned vector, u32 error_code)
{
    switch (svm_event_combine(svm->vmcb->control.exit_int_info, vector)) {
    case SVM_DELIVER_SHUTDOWN:
        svm_guest_shutdown(svm, "an exception during the delivery of #DF");
    case SVM_DELIVER_DOUBLE_FAULT:
        vector = EXC_DF;
        error_code = 0;
        break;
    case SVM_DELIVER_IT:
        break;
    }
    /* A fault pushes RFLAGS with RF set (APM vol. 2 8.2): injection pushes what is there. */
    svm->vmcb->save.rflags |= RFLAGS_RF;
    inject_exception(svm, vector, error_code);
}

void svm_event_debug_trap(struct svm_vcpu *svm)
{
    inject_exception(svm, EXC_DB, 0);
}

void svm_event_init_redirected(struct svm_vcpu *svm)
{
    inject_exception(svm, EXC_SX, SX_INIT);
}

void svm_event_nmi(struct svm_vcpu *svm)
{
    svm->vmcb->control.event_inj = EVENT_VALID | EVENT_TYPE_NMI | EXC_NMI;
}
