/* SPDX-License-Identifier: MIT */
/* Fuzz target: Umbra's command line, and the sentences about what is wrong in it. */
#include "tests/fuzz/fuzz.h"

#include "boot/options.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct boot_options options;
    char sentence[200];
    char *line = malloc(bytes + 1); /* so that AddressSanitizer sees one byte too many */

    if (line == NULL)
        fuzz_crash("no memory");
    if (bytes != 0)
        memcpy(line, data, bytes);
    line[bytes] = '\0';
    options_parse(&options, options_skip_file_name(line));
    for (unsigned i = 0; i < options.complaint_count && i < OPTION_COMPLAINTS_MAX; i++) {
        options_complaint_text(&options.complaint[i], sentence, sizeof(sentence));
        if (strlen(sentence) == 0 || strlen(sentence) == sizeof(sentence) - 1)
            fuzz_crash("a sentence that is empty or cut off");
    }
    free(line);
    return 0;
}
