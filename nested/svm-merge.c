/* SPDX-License-Identifier: MIT */
/* Merging for vmcb02; see nested/svm-merge.h. */
#include "nested/svm-merge.h"

#include "svm/controls.h"

void svm_own_intercepts(u32 own[VMCB_INTERCEPT_WORDS])
{
    svm_controls_set_intercepts(own);
    own[VMCB_INTERCEPT_EXCEPTIONS] = 0;
}

#define GIF_INTERCEPTS    (1u << VMEXIT_STGI % 32 | 1u << VMEXIT_CLGI % 32)
#define VMLOAD_INTERCEPTS (1u << VMEXIT_VMLOAD % 32 | 1u << VMEXIT_VMSAVE % 32)

void svm_merge_intercepts(const struct vmcb_control *control12, const u32 own[VMCB_INTERCEPT_WORDS],
                          bool virtual_gif, u32 merged[VMCB_INTERCEPT_WORDS])
{
    for (unsigned i = 0; i < VMCB_INTERCEPT_WORDS; i++)
        merged[i] = own[i] | control12->intercept[i];
    /* With a virtual GIF these two touch nothing but vmcb02's V_GIF, and those nothing but L2's memory. */
    if (virtual_gif)
        merged[VMEXIT_STGI / 32] &= ~GIF_INTERCEPTS | control12->intercept[VMEXIT_STGI / 32];
    if (svm_virtual_vmload(control12))
        merged[VMEXIT_VMLOAD / 32] &= ~VMLOAD_INTERCEPTS | control12->intercept[VMEXIT_VMLOAD / 32];
}

/* 15.11: three ranges of 2000h MSRs, two bits each, read below write. The number of the bit, or past all
 * maps. */
static u32 msr_bit(u32 msr, bool write)
{
    static const u32 base[] = {0, 0xc0000000, 0xc0010000};

    for (u32 range = 0; range < ARRAY_SIZE(base); range++) {
        if (msr - base[range] < 0x2000)
            return 2 * (msr - base[range]) + write + range * 2 * 0x2000;
    }
    return 64 * MSR_MAP_WORDS;
}

static bool bit_is_set(const u64 *map, u32 bit)
{
    return bit >= 64 * MSR_MAP_WORDS ||
           (__atomic_load_n(&map[bit / 64], __ATOMIC_RELAXED) >> bit % 64 & 1) != 0;
}

bool svm_msr_intercepted(const u64 *map, u32 msr, bool write)
{
    return bit_is_set(map, msr_bit(msr, write));
}

bool svm_msr_learn(struct svm_msr_merge *merge, const u64 *l1, u32 msr, bool write)
{
    u32 bit = msr_bit(msr, write);
    unsigned place = 0;

    if (bit_is_set(merge->own, bit))
        return false;
    while (place < merge->count && merge->word[place] != bit / 64)
        place++;
    if (place == SVM_MSR_WORDS) {
        for (place = SVM_MSR_WORDS; place > 0; place--)
            merge->merged[merge->word[place - 1]] = ~0ull;
        merge->count = 0;
    }
    merge->word[place] = (u16)(bit / 64);
    if (place == merge->count)
        merge->count++;
    svm_msr_merge(merge, l1);
    return true;
}
