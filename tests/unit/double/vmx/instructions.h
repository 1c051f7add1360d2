/* SPDX-License-Identifier: MIT */
/* vmx/instructions.h for the simulated CPU; see tests/unit/double/vmx/vmcs.h. */
#ifndef UMBRA_TESTS_UNIT_DOUBLE_INSTRUCTIONS_H
#define UMBRA_TESTS_UNIT_DOUBLE_INSTRUCTIONS_H

#include "arch/types.h"

bool vmclear(hpa_t vmcs);
bool vmptrld(hpa_t vmcs);

#endif
