/* SPDX-License-Identifier: MIT */
/* Where the hooks of nested/ are found; see vcpu/nested.h. */
#include "vcpu/nested.h"

const struct nested_hooks *nested_hooks;
