/* SPDX-License-Identifier: MIT */
/* What each check of a VM entry says, for debug logs. */
#include "nested/vmx-check.h"

static const struct vmx_check_name names[VMX_CHECKS] = {[VMX_CHECK_OK] = {"OK", "27.2", "nothing is wrong"},
#define NAMED(name, section, text) [VMX_CHECK_##name] = {#name, section, text},
                                                        VMX_CHECK_LIST(NAMED)
#undef NAMED
};

const struct vmx_check_name *vmx_check_name(enum vmx_check check)
{
    return &names[check];
}
