/* SPDX-License-Identifier: MIT */
/* What each check of a VM entry says, for debug logs. */
#include "nested/vmx-check.h"

static const struct vmx_check_text texts[VMX_CHECKS] = {[VMX_CHECK_OK] = {"27.2", "nothing is wrong"},
#define TEXT(name, section, rule) [VMX_CHECK_##name] = {section, rule},
                                                        VMX_CHECK_LIST(TEXT)
#undef TEXT
};

const struct vmx_check_text *vmx_check_text(enum vmx_check check)
{
    return &texts[check];
}
