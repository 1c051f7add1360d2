#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares a Linux guest's cpuinfo, iomem and kernel log under Umbra with the bare run on the same emulated CPU.

Every difference has to be one that Umbra means to make, listed here by name. The same works by hand:
compare_linux.py intel|amd BARE-LOG UMBRA-LOG
"""

import re
import sys

import comparison

# /proc/cpuinfo: flags that go because Umbra keeps that hardware to itself, or cannot offer it to a guest's guest.
HIDDEN_FLAGS = {
    "intel": {"smx", "ept_violation_ve", "pebs"},
    "amd": {"vnmi", "x2avic", "avic", "pausefilter", "pfthreshold", "tsc_scale", "v_vmsave_vmload", "lbrv", "skinit"},
}
# Those that may come although the CPU lacks them, since Umbra emulates them exactly.
EMULATED_FLAGS = {"intel": set(), "amd": {"nrip_save", "flushbyasid", "vmcb_clean", "svm_lock"}}
# What the guest must find: virtualization, with execute permissions by mode.
SHOWN_FLAGS = {"intel": "vmx", "amd": "svm"}
# Of the line `vmx flags`: what the guest cannot have for its guests.
HIDDEN_VMX_FLAGS = {"shadow_vmcs"}

# Kernel log: what makes a line suspicious.
SUSPICIOUS = re.compile(r"WARN|BUG|unchecked MSR|Call Trace|Oops|panic|general protection|lockup|RCU|rcu.*stall|hung|"
                        r"[Ff]irmware [Bb]ug|\bfail|\berror|invalid|Unable|unstable|mismatch|not responding|timed? ?out|"
                        r"conflict|corrupt|bad ", re.IGNORECASE)
# Suspicious lines that need not be in the bare log, by name.
ALLOWED_LINES = {
    "intel": [],
    "amd": [
        # QEMU's clocks are the host's: now and then a short calibration loop is interrupted too long, bare as well.
        ("TCG clock jitter", r"tsc: Fast TSC calibration failed|tsc: Unable to calibrate against PIT|"
                             r"clocksource: timekeeping watchdog|clocksource: .*(wd|read-back) delay.*|"
                             r"hrtimer: interrupt took|Could not refine"),
    ],
}


def lines_of(text):
    return [line.rstrip() for line in text.replace("\r", "").split("\n")]


def block(text, name):
    """The lines between `guest: begin NAME` and `guest: end`; None if they are not there."""
    found = re.search(r"guest: begin %s\n(.*?)\nguest: end" % name, text.replace("\r", ""), re.DOTALL)
    return found.group(1).split("\n") if found else None


def compare_cpuinfo(bare, umbra, cpu):
    def fields(lines):
        pairs = [line.partition(":")[::2] for line in lines if ":" in line]
        return {key.strip(): value.strip() for key, value in pairs}

    before, after = fields(bare), fields(umbra)
    problems = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if key == "flags" and old is not None and new is not None:
            gone, come = set(old.split()) - set(new.split()), set(new.split()) - set(old.split())
            gone, come = gone - HIDDEN_FLAGS[cpu], come - EMULATED_FLAGS[cpu]
            if gone or come:
                problems.append("cpuinfo flags: gone %s, new %s" % (sorted(gone), sorted(come)))
            if SHOWN_FLAGS[cpu] not in new.split():
                problems.append("cpuinfo does not show %s" % SHOWN_FLAGS[cpu])
        elif key == "vmx flags" and old is not None and new is not None:
            gone, come = set(old.split()) - set(new.split()) - HIDDEN_VMX_FLAGS, set(new.split()) - set(old.split())
            if gone or come:
                problems.append("cpuinfo vmx flags: gone %s, new %s" % (sorted(gone), sorted(come)))
        elif old != new:
            problems.append("cpuinfo %s: bare '%s', under Umbra '%s'" % (key, old, new))
    return problems


def resources(lines):
    """Top-level ranges as (start, end, name), end exclusive, and all nested lines but the kernel's own sections."""
    top, nested = [], set()
    for line in lines:
        found = re.fullmatch(r"( *)([0-9a-f]+)-([0-9a-f]+) : (.*)", line)
        if not found:
            continue
        start, end = int(found.group(2), 16), int(found.group(3), 16) + 1
        if not found.group(1):
            top.append((start, end, found.group(4)))
        elif not found.group(4).startswith("Kernel "):
            nested.add(line.strip())
    return top, nested


def without(ranges, hole):
    """The ranges with the bytes of `hole` taken away, and neighbours of the same name joined."""
    cut = []
    for start, end, name in ranges:
        for piece_start, piece_end in ((start, min(end, hole[0])), (max(start, hole[1]), end)):
            if piece_start < piece_end:
                cut.append((piece_start, piece_end, name))
    joined = []
    for start, end, name in sorted(cut):
        if joined and joined[-1][1] == start and joined[-1][2] == name:
            joined[-1] = (joined[-1][0], end, name)
        else:
            joined.append((start, end, name))
    return joined


def compare_iomem(bare, umbra, umbra_text):
    found = re.search(r"umbra: .*memory is ([0-9a-f]+) to ([0-9a-f]+)", umbra_text)
    if not found:
        return ["Umbra's own line about its memory is missing"]
    region = int(found.group(1), 16), int(found.group(2), 16)
    (old, old_nested), (new, new_nested) = resources(bare), resources(umbra)
    problems = []
    if not any(name == "Reserved" and start <= region[0] and region[1] <= end for start, end, name in new):
        problems.append("iomem: Umbra's memory %x to %x is not reserved" % region)
    if without(old, region) != without(new, region):
        problems.append("iomem differs outside of Umbra's memory: bare %s, under Umbra %s"
                        % (without(old, region), without(new, region)))
    if old_nested != new_nested:
        problems.append("iomem: nested resources differ: %s" % sorted(old_nested ^ new_nested))
    return problems


def normalized(line):
    """The line without its time stamp and without numbers, which differ with addresses and timing."""
    return re.sub(r"(0x)?\b[0-9a-f]*\d[0-9a-f]*\b", "N", re.sub(r"^\[[^]]*\] ", "", line))


def compare_log(bare, umbra, cpu):
    known = {normalized(line) for line in bare}
    problems = []
    for line in umbra:
        if not SUSPICIOUS.search(line) or normalized(line) in known:
            continue
        if any(re.search(pattern, line) for _, pattern in ALLOWED_LINES[cpu]):
            continue
        problems.append("kernel log, not in the bare run: %s" % line)
    return problems


def work_done(text):
    """What the guest's own work printed: the same everywhere."""
    return [line for line in lines_of(text) if re.match(r"guest: (sha256|processes|pipe|gzip)", line)]


def compare(bare_text, umbra_text, cpu):
    problems = []
    blocks = {}
    for name in ("cpuinfo", "iomem", "dmesg"):
        blocks[name] = block(bare_text, name), block(umbra_text, name)
        for lines, place in zip(blocks[name], ("bare", "under Umbra")):
            if not lines or len(lines) < 10:
                problems.append("%s of the run %s is missing or empty" % (name, place))
    if problems:
        return problems
    problems += compare_cpuinfo(*blocks["cpuinfo"], cpu)
    problems += compare_iomem(*blocks["iomem"], umbra_text)
    problems += compare_log(*blocks["dmesg"], cpu)
    work = work_done(bare_text), work_done(umbra_text)
    if work[0] != work[1] or len(work[0]) < 4:
        problems.append("the guest's work gave %s bare and %s under Umbra" % work)
    return problems


if __name__ == "__main__":
    sys.exit(comparison.main(sys.argv[1:], __doc__, compare, HIDDEN_FLAGS))
