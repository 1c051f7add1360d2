/* SPDX-License-Identifier: MIT */
/*
 * EXITINFO1 of VMEXIT_NPF, for the paging core, which writes it, and for the CPU's exits, in which it is
 * read. APM vol. 2 15.25.6.
 */
#ifndef UMBRA_MM_NPF_INFO_H
#define UMBRA_MM_NPF_INFO_H

#include "arch/types.h"

#define NPF_PRESENT    BIT(0)
#define NPF_WRITE      BIT(1)
#define NPF_USER       BIT(2)
#define NPF_RESERVED   BIT(3)
#define NPF_FETCH      BIT(4)
#define NPF_FINAL      BIT(32) /* the access to the final address faulted */
#define NPF_TABLE_WALK BIT(33) /* an access to a guest paging structure faulted */

#endif
