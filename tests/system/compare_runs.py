#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what the test guest's groups `svm-random` and `vmx-random` printed bare and under Umbra: every L2 has to leave in
the same way.

By hand: compare_runs.py amd|intel BARE-LOG UMBRA-LOG
"""

import re
import sys

import comparison

RUN = re.compile(r"^guest: run (.*?)\r*$", re.MULTILINE)
AT_MOST = 5


def compare(bare, umbra, cpu=None):
    del cpu
    pairs = list(zip(RUN.findall(bare), RUN.findall(umbra)))
    if not pairs or len(RUN.findall(bare)) != len(RUN.findall(umbra)):
        return ["%d runs bare, %d under Umbra" % (len(RUN.findall(bare)), len(RUN.findall(umbra)))]
    different = [pair for pair in pairs if pair[0] != pair[1]]
    return ["bare:  %s\numbra: %s" % pair for pair in different[:AT_MOST]]


if __name__ == "__main__":
    sys.exit(comparison.main(sys.argv[1:], __doc__, compare, ("amd", "intel")))
