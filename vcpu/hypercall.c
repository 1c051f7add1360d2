/* SPDX-License-Identifier: MIT */
/* The hypercalls that every build answers: they tell the guest's kernel about exits and change nothing. */
#include "vcpu/hypercall.h"

#include "vcpu/hypercall-variant.h"
#include "vcpu/vcpu.h"

static bool may_call(const struct exit_context *context)
{
    switch (machine.hypercalls) {
    case HYPERCALLS_KERNEL:
        return context->cpl == 0;
    case HYPERCALLS_USER:
        return true;
    case HYPERCALLS_OFF:
    default:
        return false;
    }
}

static unsigned features(void)
{
    return hypercall_variant_features |
           (machine.mode_based_execute ? HYPERCALL_FEATURE_MODE_BASED_EXECUTE : 0);
}

enum exit_action hypercall_exit(struct vcpu *vcpu, const struct exit_context *context)
{
    if (!may_call(context) || (u32)vcpu->gpr[GPR_RAX] != HYPERCALL_MAGIC)
        return EXIT_UD;

    switch ((u32)vcpu->gpr[GPR_RCX]) {
    case HYPERCALL_FEATURES:
        hypercall_result(vcpu, context, GPR_RBX, features());
        hypercall_result(vcpu, context, GPR_RCX, HYPERCALL_VERSION);
        break;
    case HYPERCALL_REPORT:
        accounting_print(&vcpu->accounting, (u32)vcpu->gpr[GPR_RDX]);
        break;
    case HYPERCALL_EXITS:
        hypercall_result(vcpu, context, GPR_RBX, vcpu->accounting.exits);
        break;
    default:
        return hypercall_variant(vcpu, context);
    }
    vcpu->gpr[GPR_RAX] = HYPERCALL_OK;
    return EXIT_SKIP;
}
