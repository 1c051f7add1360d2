/* SPDX-License-Identifier: MIT */
/*
 * The one list of checks that an emulator, not Umbra, fails: each by name, with what the emulator does
 * instead. A check that is named here and fails counts as passed and says so on its line; nothing else is
 * ever forgiven.
 */
#include <string.h>

#include "tests/system/linux/kvm-client/client.h"

enum emulator { BOCHS, TCG };
/* Where a deviation may show: without Umbra only (Umbra hides it, or decides itself), or with it too. */
enum place { BARE, ANYWHERE };

static const struct deviation {
    enum emulator emulator;
    enum place place;
    const char *check; /* a name, or the beginning of one with * at the end */
    const char *what;
} deviations[] = {
    {TCG, ANYWHERE, "exceptions.ss_canonical", "#GP instead of #SS"},
    {TCG, ANYWHERE, "msrs.not_canonical", "addresses are not checked"},
    {TCG, BARE, "errors.invalid_state_ran_nothing", "VMEXIT_INVALID overwrites the state in the VMCB"},
};

static bool matches(const char *pattern, const char *name)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*')
        return strncmp(pattern, name, length - 1) == 0;
    return strcmp(pattern, name) == 0;
}

const char *deviation_of(const char *check)
{
    enum emulator emulator = on_tcg() ? TCG : BOCHS;
    for (size_t i = 0; i < ARRAY_SIZE(deviations); i++) {
        const struct deviation *deviation = &deviations[i];
        if (deviation->emulator == emulator && (deviation->place == ANYWHERE || !under_umbra) &&
            matches(deviation->check, check))
            return deviation->what;
    }
    return NULL;
}
