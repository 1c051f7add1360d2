/* SPDX-License-Identifier: MIT */
/*
 * Where the test build differs: implemented by vcpu/hypercall-test.c there and by vcpu/hypercall-none.c
 * elsewhere, one of which is linked. Nothing but vcpu/ includes it.
 */
#ifndef UMBRA_VCPU_HYPERCALL_VARIANT_H
#define UMBRA_VCPU_HYPERCALL_VARIANT_H

#include "vcpu/vcpu.h"

/* enum hypercall_feature bits of this variant. */
extern const unsigned hypercall_variant_features;

/* A function that hypercall.c does not know, of a caller that may: EXIT_SKIP if it was done, else EXIT_UD. */
enum exit_action hypercall_variant(struct vcpu *vcpu, const struct exit_context *context);

/* True if a test hypercall brought this violation about: it is recorded, and the page has been opened again.
 */
bool hypercall_variant_violation(struct vcpu *vcpu, const struct violation *violation,
                                 const struct exit_context *context);

/* A result register: all of it in 64-bit mode, else its low half. */
static inline void hypercall_result(struct vcpu *vcpu, const struct exit_context *context, enum gpr_index reg,
                                    u64 value)
{
    vcpu->gpr[reg] = context->code64 ? value : (u32)value;
}

#endif
