/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the instruction decoder, on exactly as many bytes as the input has. What it says of an
 * instruction must not depend on the bytes behind it, and every shorter string must ask for more.
 */
#include "tests/fuzz/fuzz.h"

#include "arch/decode.h"

static enum decode_status decode_exactly(const u8 *bytes, size_t count, enum decode_mode mode,
                                         struct instruction *insn)
{
    u8 *block = malloc(count != 0 ? count : 1); /* so that AddressSanitizer sees one byte too many */
    enum decode_status status;

    if (block == NULL)
        fuzz_crash("no memory");
    memcpy(block, bytes, count);
    memset(insn, 0, sizeof(*insn));
    status = decode_instruction(block, count, mode, insn);
    free(block);
    return status;
}

static void check_instruction(const u8 *bytes, size_t count, enum decode_mode mode,
                              const struct instruction *insn)
{
    struct instruction again;

    if (insn->length == 0 || insn->length > count || insn->length > INSTRUCTION_MAX_BYTES)
        fuzz_crash("length");
    if (decode_exactly(bytes, insn->length, mode, &again) != DECODE_OK ||
        memcmp(insn, &again, sizeof(again)) != 0)
        fuzz_crash("bytes behind the instruction matter");
    for (size_t shorter = 0; shorter < insn->length; shorter++)
        if (decode_exactly(bytes, shorter, mode, &again) != DECODE_NEED_MORE)
            fuzz_crash("a part of an instruction is one");
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    struct instruction insn;
    enum decode_mode mode;

    if (bytes == 0)
        return 0;
    mode = (enum decode_mode)(data[0] % (DECODE_MODE_64 + 1u));
    if (decode_exactly(data + 1, bytes - 1, mode, &insn) == DECODE_OK)
        check_instruction(data + 1, bytes - 1, mode, &insn);
    else if (bytes - 1 >= INSTRUCTION_MAX_BYTES &&
             decode_exactly(data + 1, bytes - 1, mode, &insn) == DECODE_NEED_MORE)
        fuzz_crash("more bytes than any instruction has are not enough");
    return 0;
}
