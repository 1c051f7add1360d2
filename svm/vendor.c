/* SPDX-License-Identifier: MIT */
/*
 * SVM behind the vendor interface.
 */
#include "vcpu/vendor.h"

#include "svm/capability.h"
#include "svm/exit-name.h"
#include "svm/setup.h"
#include "svm/svm.h"

const struct vendor svm_vendor = {
    .name = "SVM",
    .probe = svm_probe,
    .match = svm_match,
    .enable = svm_enable,
    .prepare = svm_prepare,
    .run = svm_run,
    .flush = svm_flush_guests,
    .reason_name = svm_exit_name,
    .dump = svm_dump,
};
