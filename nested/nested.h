/* SPDX-License-Identifier: MIT */
/* What boot/ needs of nested virtualization: its start. */
#ifndef UMBRA_NESTED_NESTED_H
#define UMBRA_NESTED_NESTED_H

#include "nested/shadow.h"
#include "vcpu/vcpu.h"

/*
 * Shows this vcpu the virtualization of its CPU: once per vcpu, after vendor->prepare(), if machine.nested.
 * NULL, or one sentence that says why it cannot be.
 */
const char *nested_start(struct vcpu *vcpu);

/* What the shadow is made with on both vendors; `owner` of its CPUs is the vcpu. */
struct shadow_config nested_shadow_config(void);

#endif
