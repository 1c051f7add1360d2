/* SPDX-License-Identifier: MIT */
/* The ordinary build: no hypercall can change what the guest may access. */
#include "vcpu/hypercall-variant.h"

const unsigned hypercall_variant_features = 0;

enum exit_action hypercall_variant(struct vcpu *vcpu, const struct exit_context *context)
{
    (void)vcpu;
    (void)context;
    return EXIT_UD;
}

bool hypercall_variant_violation(struct vcpu *vcpu, const struct violation *violation,
                                 const struct exit_context *context)
{
    (void)vcpu;
    (void)violation;
    (void)context;
    return false;
}
