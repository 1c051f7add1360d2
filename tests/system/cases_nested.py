# SPDX-License-Identifier: MIT
"""The nested system tests by name: Linux as L1 runs L2 guests through its KVM. test-nested runs them.

The bare runs are the reference: what the KVM client checks has to hold on the emulated CPU itself before it says anything
about Umbra. The list is apart from cases.py since these runs are long.
"""

import os

import cases

INITRAMFS_KVM = os.path.join(cases.BUILD, "guest", "initramfs-kvm.cpio.gz")
INITRAMFS_L2 = os.path.join(cases.BUILD, "guest", "initramfs-l2.cpio.gz")

FILES = (INITRAMFS_KVM, INITRAMFS_L2)
TOTALS = r"kvm: \d+ passed, \d+ failed"
ALL_GOOD = r"kvm: [1-9]\d* passed, 0 failed"

# KVM's parameters that have to be on: the second-level tables, and what they are for.
FEATURES = {"intel": ("kvm_intel.ept=Y", "kvm_intel.mbec=Y"), "amd": ("kvm_amd.npt=Y", "kvm_amd.gmet=Y")}

# Groups of the KVM client in parts of similar length, so that two can run side by side.
PARTS = (("cpu", ("modes", "exits", "exceptions", "events", "state", "debug", "msrs", "errors")),
         ("memory", ("memory", "dirty", "backing", "paging", "tables")),
         ("cost", ("many", "bench", "touch")),
         ("irqchip", ("irqchip", "apic")))
# Bochs refuses a posted-interrupt descriptor that is not page aligned (SDM volume 3, section 27.2.1.1: 64 bytes), so that
# with APICv no guest with an interrupt controller in KVM can be entered.
NO_APICV = {"intel": "enable_apicv=0", "amd": ""}


def kvm_run(cpu, umbra, groups, initramfs=INITRAMFS_KVM, timeout=300, options=""):
    """The KVM client with these groups in Linux, under that image of Umbra or (None) bare: every check has to pass.

    `options` are those of KVM's vendor module, separated by commas.
    """
    place = "umbra" if umbra else "bare"
    arguments = ["--cpu", cpu, "--guest", cases.linux_kernel(), "--module", initramfs, "--cmdline",
                 "console=ttyS0 quiet umbra.test=kvm umbra.under=%s umbra.kvm=%s umbra.kvm-options=%s" % (place, ",".join(groups), options)]
    for feature in FEATURES[cpu]:
        arguments += ["--expect", "kvm: parameter " + feature.replace(".", r"\.")]
    for group in groups:
        arguments += ["--expect", "kvm: group %s" % group]
    arguments += ["--expect", ALL_GOOD, "--until", TOTALS, "--forbid", "kvm: FAIL.*", "--timeout", str(timeout)]
    return cases.Run(place, arguments + (["--umbra", umbra] if umbra else ["--bare"]))


def all_cases(cpus, _files):
    found = []
    for cpu in cpus:
        for name, groups in PARTS:
            options = NO_APICV[cpu] if name == "irqchip" else ""
            found.append(cases.Case("kvm-%s-bare" % name, cpu, [kvm_run(cpu, None, groups, options=options)], seconds=60))
        linux = kvm_run(cpu, None, ("linux",), INITRAMFS_L2, 600, NO_APICV[cpu])
        found.append(cases.Case("kvm-linux-bare", cpu, [linux], seconds=100))
    return found
