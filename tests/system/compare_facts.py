#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what the test guest's group `facts` printed bare and under Umbra: CPUID leaves, MSRs, control registers.

Every difference has to be one that Umbra means to make, listed here by name. The same works by hand:
compare_facts.py intel|amd BARE-LOG UMBRA-LOG (of a run with nested=on)
"""

import re
import sys

import comparison

FACT = re.compile(r"guest: fact (\S+) (.*?)\r*$", re.MULTILINE)

# CPUID bits that Umbra clears: fact, register, bit, and what it is.
HIDDEN_BITS = {
    "intel": [("cpuid.00000001.0", "ecx", 6, "SMX")],
    "amd": [("cpuid.80000001.0", "ecx", 12, "SKINIT"), ("cpuid.80000001.0", "ecx", 27, "PERFTSC")],
}

# Those that go besides with nested=off.
VIRTUALIZATION_BITS = {"intel": [("cpuid.00000001.0", "ecx", 5, "VMX")], "amd": [("cpuid.80000001.0", "ecx", 2, "SVM")]}

# Virtualization's own leaves: with nested=off there bare and all zero (not printed) under Umbra, with nested=on there
# as well, with what is implemented; that nothing more is offered is shown by unit tests.
VIRTUALIZATION_LEAVES = {"intel": [], "amd": ["cpuid.8000000a.0"]}

# MSRs by name, with the value they have to have under Umbra with nested=off and with nested=on.
HIDDEN_MSRS = {
    "intel": [(0x3A, 0x3A, r"1", r"5", "IA32_FEATURE_CONTROL: locked, VMX off or on"),
              (0x480, 0x493, r"#GP", r"[0-9a-f]+", "VMX capabilities: what is implemented")],
    "amd": [(0xC0010114, 0xC0010114, r"18", r"8", "VM_CR: locked, SVM disabled or not"),
            (0xC0010115, 0xC0010116, r"#GP", r"#GP", "IGNNE, SMM_CTL: parts of SMM"),
            (0xC0010117, 0xC0010117, r"#GP", r"0", "VM_HSAVE_PA"),
            (0xC0010118, 0xC0010119, r"#GP", r"#GP", "SVM_KEY")],
}

# TCG reads an MSR that no AMD CPU has as zero (or has Intel's), where an AMD CPU and Umbra have #GP.
TCG_INVENTS = [
    (0x0, 0x1), (0x17, 0x17), (0x34, 0x34), (0x3A, 0x3A), (0x79, 0x79), (0x9B, 0x9B), (0xC1, 0xC8), (0xCE, 0xCF), (0xE1, 0xE2),
    (0x122, 0x123), (0x186, 0x1B2), (0x1C8, 0x1C9), (0x1DA, 0x1DA), (0x1DF, 0x1FC), (0x210, 0x213), (0x280, 0x283),
    (0x309, 0x3F1), (0x480, 0x493), (0x4C1, 0x611), (0x6A1, 0x6A1), (0x6A3, 0x6A3), (0x770, 0x7A5), (0xC80, 0xC81),
    (0xD90, 0xD90), (0x1200, 0x17D4), (0xC0000104, 0xC0000108), (0xC001001B, 0xC001001C), (0xC001001E, 0xC001001E),
    (0xC0010020, 0xC0010020), (0xC0010130, 0xC0010131), (0xC0011000, 0xC0011026), (0xC001102B, 0xC001102D),
]

# Control registers: what the loader leaves behind.
CR0_CACHES = 0x60000000


def registers(text):
    return {name: int(value, 16) for name, value in re.findall(r"(e[abcd]x)=([0-9a-f]+)", text)}


def hidden_bits(cpu, nested):
    return HIDDEN_BITS[cpu] + ([] if nested else VIRTUALIZATION_BITS[cpu])


def leaf_allowed(name, bare, umbra, cpu, nested):
    """True if only hidden bits differ, and only by being cleared."""
    if nested and name in VIRTUALIZATION_LEAVES[cpu]:
        return True
    want = registers(bare)
    for fact, register, bit, _ in hidden_bits(cpu, nested):
        if fact == name:
            want[register] &= ~(1 << bit)
    return want == registers(umbra)


def msr_allowed(name, bare, umbra, cpu, nested):
    number = int(name.split(".")[1], 16)
    for first, last, off, on, _ in HIDDEN_MSRS[cpu]:
        if first <= number <= last:
            return re.fullmatch(on if nested else off, umbra) is not None
    return cpu == "amd" and umbra == "#GP" and bare != "#GP" and any(first <= number <= last for first, last in TCG_INVENTS)


def allowed(name, bare, umbra, cpu, nested):
    if umbra is None:
        return not nested and name in VIRTUALIZATION_LEAVES[cpu]
    if bare is None:
        return False
    if name.startswith("cpuid."):
        return leaf_allowed(name, bare, umbra, cpu, nested)
    if name.startswith("msr."):
        return msr_allowed(name, bare, umbra, cpu, nested)
    if name == "cr0":
        return int(bare, 16) & ~CR0_CACHES == int(umbra, 16)
    return False


def compare(bare_text, umbra_text, cpu, nested=True):
    bare, umbra = dict(FACT.findall(bare_text)), dict(FACT.findall(umbra_text))
    problems = []
    if len(bare) < 200 or len(umbra) < 200:
        problems.append("too few facts to compare: %d bare, %d under Umbra" % (len(bare), len(umbra)))
    for name in sorted(set(bare) | set(umbra)):
        values = bare.get(name), umbra.get(name)
        if values[0] != values[1] and not allowed(name, *values, cpu, nested):
            problems.append("%s: bare %s, under Umbra %s" % (name, *values))
    for fact, register, bit, what in hidden_bits(cpu, nested):
        if registers(umbra.get(fact, "")).get(register, 0) >> bit & 1:
            problems.append("%s shows %s under Umbra" % (fact, what))
    for fact in VIRTUALIZATION_LEAVES[cpu]:
        if (fact in umbra) != nested:
            problems.append("%s is %s under Umbra" % (fact, "there" if fact in umbra else "missing"))
    return problems


if __name__ == "__main__":
    sys.exit(comparison.main(sys.argv[1:], __doc__, compare, HIDDEN_BITS))
