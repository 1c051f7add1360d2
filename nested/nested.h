/* SPDX-License-Identifier: MIT */
/* What boot/ needs of nested virtualization: its start. */
#ifndef UMBRA_NESTED_NESTED_H
#define UMBRA_NESTED_NESTED_H

#include "vcpu/vcpu.h"

/*
 * Shows this vcpu the virtualization of its CPU: once per vcpu, after vendor->prepare(), if machine.nested.
 * NULL, or one sentence that says why it cannot be.
 */
const char *nested_start(struct vcpu *vcpu);

/* struct shadow_config's shoot_down; `owner` is the vcpu. */
void nested_shoot_down(void *owner);

#endif
