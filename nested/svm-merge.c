/* SPDX-License-Identifier: MIT */
/* Merging for vmcb02; see nested/svm-merge.h. */
#include "nested/svm-merge.h"

#include "svm/controls.h"

void svm_merge_intercepts(const struct vmcb_control *control12, u32 merged[VMCB_INTERCEPT_WORDS])
{
    svm_controls_set_intercepts(merged);
    merged[VMCB_INTERCEPT_EXCEPTIONS] = 0;
    /* With a virtual GIF these two touch nothing but vmcb02's V_GIF. */
    if ((control12->v_intr & V_GIF_ENABLE) != 0)
        merged[VMEXIT_STGI / 32] &= ~(1u << VMEXIT_STGI % 32 | 1u << VMEXIT_CLGI % 32);
    for (unsigned i = 0; i < VMCB_INTERCEPT_WORDS; i++)
        merged[i] |= control12->intercept[i];
}

void svm_msr_merge_init(struct svm_msr_merge *merge, const u64 *own)
{
    merge->own = own;
    merge->count = 0;
    for (unsigned i = 0; i < MSR_MAP_WORDS; i++) {
        if (own[i] != ~0ull)
            merge->word[merge->count++] = (u16)i;
    }
}

void svm_msr_merge(const struct svm_msr_merge *merge, const u64 *l1, u64 *merged)
{
    for (unsigned i = 0; i < merge->count; i++) {
        unsigned word = merge->word[i];
        merged[word] = merge->own[word] | __atomic_load_n(&l1[word], __ATOMIC_RELAXED);
    }
}

/* 15.11: three ranges of 2000h MSRs, two bits each, read below write. */
bool svm_msr_intercepted(const u64 *map, u32 msr, bool write)
{
    static const u32 base[] = {0, 0xc0000000, 0xc0010000};

    for (unsigned range = 0; range < ARRAY_SIZE(base); range++) {
        u32 bit = 2 * (msr - base[range]) + write;
        if (msr - base[range] >= 0x2000)
            continue;
        bit += range * 2 * 0x2000;
        return (__atomic_load_n(&map[bit / 64], __ATOMIC_RELAXED) >> bit % 64 & 1) != 0;
    }
    return true;
}
