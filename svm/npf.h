/* SPDX-License-Identifier: MIT */
/*
 * What an access was that nested paging refused. Pure.
 */
#ifndef UMBRA_SVM_NPF_H
#define UMBRA_SVM_NPF_H

#include "mm/tdp.h"
#include "svm/vmcb.h"

/*
 * EXITINFO1 of VMEXIT_NPF as enum tdp_access. I/D is reported because Umbra runs with EFER.NXE set. Whether a
 * fetch is a user's is told by the VMCB's CPL and not by the U bit, which is 1 without GMET and which erratum
 * 1218 makes unreliable with it. A walk of the guest's own tables reads them, and writes accessed and dirty
 * flags; it never fetches.
 */
static inline unsigned svm_npf_access(u64 exit_info_1, unsigned cpl, bool gmet)
{
    unsigned write = (exit_info_1 & NPF_WRITE) != 0 ? TDP_W : 0;

    if ((exit_info_1 & NPF_TABLE_WALK) != 0)
        return TDP_R | write;
    if ((exit_info_1 & NPF_FETCH) != 0) {
        if (!gmet)
            return TDP_XS | TDP_XU;
        return cpl == 3 ? TDP_XU : TDP_XS;
    }
    return write != 0 ? write : TDP_R;
}

#endif
