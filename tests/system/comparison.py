# SPDX-License-Identifier: MIT
"""What the comparisons share when they are used by hand: reading two serial logs and printing what differs."""

import sys


def main(arguments, usage, compare, cpus):
    """`compare(bare, umbra, cpu)` returns sentences; the exit status is 0 without any, 1 with some, 2 for bad usage."""
    if len(arguments) != 3 or arguments[0] not in cpus:
        print(usage, file=sys.stderr)
        return 2
    texts = []
    for path in arguments[1:]:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            texts.append(file.read())
    problems = compare(*texts, arguments[0])
    print("\n".join(problems) or "no difference but the listed ones")
    return 1 if problems else 0
