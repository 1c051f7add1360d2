# SPDX-License-Identifier: MIT
"""The nested system tests by name: Linux as L1 runs L2 guests through its KVM. test-nested runs them.

The bare runs are the reference: what the KVM client checks has to hold on the emulated CPU itself before it says anything
about Umbra. The list is apart from cases.py since these runs are long.
"""

import itertools
import os

import cases
import compare_runs

INITRAMFS_KVM = os.path.join(cases.BUILD, "guest", "initramfs-kvm.cpio.gz")
INITRAMFS_L2 = os.path.join(cases.BUILD, "guest", "initramfs-l2.cpio.gz")
INITRAMFS_KEXEC = os.path.join(cases.BUILD, "guest", "initramfs-kexec.cpio.gz")

FILES = (INITRAMFS_KVM, INITRAMFS_L2, INITRAMFS_KEXEC)
TOTALS = r"kvm: \d+ passed, \d+ failed"
ALL_GOOD = r"kvm: [1-9]\d* passed, 0 failed"

# KVM's parameters that have to be on, in the order of the alphabet as init prints them.
FEATURES = {"intel": ("ept=Y", "mbec=Y"), "amd": ("gmet=Y", "npt=Y")}

GROUPS = ("modes", "exits", "exceptions", "events", "memory", "dirty", "backing", "paging", "tables", "state", "debug", "msrs",
          "many", "errors", "bench", "touch")
IRQCHIP_GROUPS = ("irqchip", "apic")

# Bochs refuses a posted-interrupt descriptor that is not page aligned (64 bytes are enough, SDM volume 3, section
# 27.2.1.1), so that with APICv no guest whose interrupt controller is in KVM can be entered.
NO_APICV = {"intel": "enable_apicv=0", "amd": ""}

# L1's KVM with less than the CPU has: its name, the options of the vendor module, and the parameters that then hold.
LESS = {"intel": (("shadow-paging", "ept=0", ("ept=N",)),
                  ("plain", "pml=0,eptad=0,vpid=0,mbec=0", ("eptad=N", "mbec=N", "pml=N", "vpid=N"))),
        "amd": (("shadow-paging", "npt=0", ("npt=N",)),
                ("plain", "gmet=0,vgif=0", ("gmet=N", "vgif=0")))}
# Without "paging": there the client changes L2's page tables, which KVM's shadow paging sees only if L2 does it.
LESS_GROUPS = ("modes", "exceptions", "events", "memory", "dirty", "backing", "tables", "state", "debug", "msrs", "many", "errors")


def kvm_run(cpu, umbra, groups, initramfs=INITRAMFS_KVM, options="", parameters=None, timeout=300, words=()):
    """The KVM client with these groups in Linux, under that image of Umbra or (None) bare: every check has to pass.

    `options` are those of KVM's vendor module, separated by commas; `parameters` what the module then has to report;
    `words` are more for the kernel's command line.
    """
    place = "umbra" if umbra else "bare"
    words = ["console=ttyS0", "quiet", *words, "umbra.test=kvm", "umbra.under=" + place, "umbra.kvm=" + ",".join(groups)]
    if options:
        words.append("umbra.kvm-options=" + options)
    arguments = ["--cpu", cpu, "--guest", cases.linux_kernel(), "--module", initramfs, "--cmdline", " ".join(words)]
    for parameter in parameters or FEATURES[cpu]:
        arguments += ["--expect", r"kvm: parameter kvm_%s\.%s" % (cpu, parameter)]
    for group in groups:
        arguments += ["--expect", "kvm: group %s" % group]
    arguments += ["--expect", ALL_GOOD, "--until", TOTALS, "--forbid", "kvm: FAIL.*", "--timeout", str(timeout)]
    return cases.Run(place, arguments + (["--umbra", umbra] if umbra else ["--bare"]))


def kvm_cases(cpu, umbra, suffix):
    """All runs of the KVM client at one place; `suffix` ends the cases' names."""
    slow = cpu == "intel"
    runs = [("kvm", kvm_run(cpu, umbra, GROUPS), 50 if slow else 25),
            ("kvm-irqchip", kvm_run(cpu, umbra, IRQCHIP_GROUPS, options=NO_APICV[cpu]), 35 if slow else 15),
            ("kvm-linux", kvm_run(cpu, umbra, ("linux",), INITRAMFS_L2, NO_APICV[cpu], timeout=900), 200 if slow else 25)]
    for name, options, parameters in LESS[cpu]:
        runs.append(("kvm-" + name, kvm_run(cpu, umbra, LESS_GROUPS, options=options, parameters=parameters), 50 if slow else 25))
    return [cases.Case(name + suffix, cpu, [run], seconds=seconds) for name, run, seconds in runs]


# The test guest as an L1 of its own. With and without VMCS shadowing, L1 sees the same.
VMX_GROUPS = "vmx-instructions,vmx-checks,vmx-controls,vmx-exits,vmx-events,vmx-ept,vmx-shadow,vmx-functions,vmx-lists,vmx-apic,vmx-nmi,vmx-modes"


def vmx_cases():
    found = [cases.guest_case("vmx-bare", "intel", VMX_GROUPS, umbra=None)]
    for name, words in (("vmx", "vmcs-shadowing=on"), ("vmx-without-shadowing", "vmcs-shadowing=off")):
        found.append(cases.guest_case(name, "intel", VMX_GROUPS, umbra=cases.UMBRA, options=("--umbra-args", words)))
    # A VMX abort is the end of the machine: the group does not come back.
    for word, indicator in (("store", 1), ("pdpte", 2), ("load", 4)):
        found.append(cases.Case("vmx-abort-" + word, "intel", [cases.Run("umbra", [
            *cases.model_arguments("intel"), "--umbra", cases.UMBRA, "--guest", cases.GUEST, "--cmdline", "test=vmx-abort-" + word,
            "--expect", "guest: VMX abort follows", "--expect", "VMX abort %d " % indicator, "--expect", r"umbra: exits \d+",
            "--forbid", "guest: FAIL.*", "--timeout", "60"])]))
    for name, words in (("random", "vmcs-shadowing=on"), ("random-without-shadowing", "vmcs-shadowing=off")):
        found.append(cases.Case("guest-vmx-" + name, "intel", compare=compare_runs.compare, seconds=25, runs=[
            cases.guest_run("intel", "vmx-random", umbra=None),
            cases.guest_run("intel", "vmx-random", umbra=cases.UMBRA, options=("--umbra-args", words))]))
    # CPUs with protection keys for supervisors and CET; and without MBEC.
    found.append(cases.guest_case("vmx-newer", "intel", VMX_GROUPS, umbra=cases.UMBRA, model="arrow_lake"))
    found.append(cases.guest_case("vmx-without-mbec", "intel", VMX_GROUPS, umbra=cases.UMBRA, model="broadwell_ult"))
    return found


# Of Linux with several CPUs on a host that is busy: no test of the timer that counts on a moment; and no watchdog, which waits
# with interrupts off for a CPU that stop_machine() holds, for a time that jiffies measure, which then stand still.
UNHURRIED = ("no_timer_check", "tsc=reliable")


def several_cpus(name, cpu, number, group, seconds, **more):
    """A group of the KVM client in Linux with so many CPUs, all of which it has to find."""
    run = kvm_run(cpu, cases.UMBRA, (group,), words=UNHURRIED, **more)
    run.arguments += ["--cpus", number, "--forbid", r"kvm: note (?!%s )\d+ CPUs" % number]
    run.arguments += ("--ips", "15000000") if cpu == "intel" else ()
    return cases.Case(name, cpu, [run], seconds=seconds)


def linux_smp_case(cpu, number, seconds):
    """Linux as L2 with as many CPUs as L1 has."""
    return several_cpus("kvm-linux-smp-" + number, cpu, number, "linux-smp", seconds, initramfs=INITRAMFS_L2, options=NO_APICV[cpu],
                        timeout=1500)


def smp_cases(cpus):
    """Another CPU of L1 interrupts L2; Linux with several CPUs runs an L2 on each, one L2 on all, and every other check."""
    found = [several_cpus("kvm-smp-" + number, cpu, number, "smp", seconds, timeout=400)
             for cpu, number, seconds in (("intel", "2", 80), ("intel", "4", 120), ("amd", "2", 20), ("amd", "4", 30))]
    found += [linux_smp_case("intel", "2", 140), linux_smp_case("amd", "4", 70)]
    # INIT and SIPI with VMX or SVM on and L2 running. QEMU's CPUs are threads: see cases.py.
    for (cpu, count), umbra in itertools.product((("intel", "3"), ("intel", "4"), ("amd", "2")), (cases.UMBRA, None)):
        found.append(cases.guest_case("smp-restart-%s%s" % (count, "" if umbra else "-bare"), cpu, "smp-restart", umbra=umbra,
                                      words="cpus=" + count, options=("--cpus", count)))
    # On Intel it takes several minutes: by hand.
    run = kvm_run("amd", cases.UMBRA, [group for group in GROUPS if group != "bench"], timeout=400, words=UNHURRIED)
    run.arguments += ["--cpus", "4"]
    found.append(cases.Case("kvm-4-cpus", "amd", [run], seconds=55))
    for cpu, group in (("intel", "vmx-smp"), ("amd", "svm-smp")):
        for suffix, umbra in (("", cases.UMBRA), ("-bare", None)):
            found.append(cases.guest_case(group + suffix, cpu, group, umbra=umbra, words="cpus=2", options=("--cpus", "2")))
    return [case for case in found if case.cpu in cpus]


def kexec_cases(cpus):
    """
    Linux starts another Linux in its place while its KVM runs VMs, which never end, on all CPUs; there KVM runs VMs again.

    Linux leaves its other CPUs in HLT for the next one, which wants their code's memory, too. Bochs wakes them up when they take
    an NMI of a shoot-down, as a write to MTRRs causes one: the next kernel leaves MTRRs alone there. On AMD each start of a CPU
    but the last is one, too.
    """
    found = []
    for cpu, cpus_in, more, next_words, seconds in (("intel", "2", ("--ips", "15000000"), ("clearcpuid=mtrr",), 170),
                                                    ("amd", "4", (), (), 60)):
        words = ("console=ttyS0", "quiet", *UNHURRIED)
        after = ";".join((*words, *next_words, "umbra.test=kvm", "umbra.under=umbra", "umbra.kvm=smp"))
        found.append(cases.Case("linux-kexec", cpu, [cases.Run("umbra", [
            "--cpu", cpu, "--cpus", cpus_in, *more, "--umbra", cases.UMBRA, "--guest", cases.linux_kernel(), "--module", INITRAMFS_KEXEC,
            "--cmdline", " ".join((*words, "umbra.test=kexec", "umbra.next=" + after)),
            "--expect", "kvm: group kexec", "--expect", "kvm: note %s CPUs" % cpus_in, "--expect", "kvm: PASS kexec.vms_run",
            "--expect", "guest: init reached", "--expect", "kvm: group smp", "--expect", "kvm: note %s CPUs" % cpus_in, "--expect", ALL_GOOD,
            "--until", TOTALS, "--forbid", "kvm: FAIL.*", "--timeout", "900"])], seconds=seconds))
    return [case for case in found if case.cpu in cpus]


# An L1 that does its worst: name, CPU, words for the guest and for Umbra. A million steps take a quarter of an hour on Bochs; these
# are to see that nothing of it is broken.
HOSTILE = (("vmx", "intel", "seed=1 steps=12000", ("--umbra-args", "vmcs-shadowing=on")),
           ("vmx-without-shadowing", "intel", "seed=2 steps=8000", ("--umbra-args", "vmcs-shadowing=off")),
           # The timer that ends L2s counts instructions, so that the run repeats.
           ("svm", "amd", "seed=1 steps=20000", ("--icount",)))


def hostile_cases(cpus):
    return [cases.guest_case("hostile-" + name, cpu, "hostile-" + name[:3], umbra=cases.UMBRA, words=words,
                             options=options)
            for name, cpu, words, options in HOSTILE if cpu in cpus]


# The same on AMD, with and without GMET.
SVM_GROUPS = "svm-instructions,svm-checks,svm-exits,svm-maps,svm-exceptions,svm-events,svm-npt,svm-npt-walks,svm-npt-hosts,svm-state,svm-modes,svm-features"


def svm_cases():
    # Bare on Bochs, too, as far as its SVM goes: two emulators with one mind are nearer to the manual.
    found = [cases.guest_case("svm-bare", "amd", SVM_GROUPS, umbra=None),
             cases.guest_case("svm-bare-bochs", "intel", "svm-maps,svm-npt,svm-npt-walks,svm-npt-hosts", umbra=None, model="ryzen")]
    for name, model in (("svm", None), ("svm-without-gmet", "max,+svm,+npt,-gmet"),
                        ("svm-of-older-cpu", "max,+svm,+npt,+gmet,-nrip-save,-vgif,-v-vmsave-vmload,-tsc-scale,-vnmi")):
        found.append(cases.guest_case(name, "amd", SVM_GROUPS, umbra=cases.UMBRA, model=model,
                                      options=("--umbra-args", "nested=on")))
        found.append(cases.Case("guest-%s-random" % name, "amd", compare=compare_runs.compare, runs=[
            cases.guest_run("amd", "svm-random", umbra=None, model=model),
            cases.guest_run("amd", "svm-random", umbra=cases.UMBRA, model=model, options=("--umbra-args", "nested=on"))]))
    return found


# The vendors whose nested virtualization Umbra has.
NESTED = ("intel", "amd")


def all_cases(cpus, _files):
    bare = [case for cpu in cpus for case in kvm_cases(cpu, None, "-bare")]
    guest = (vmx_cases() if "intel" in cpus else []) + (svm_cases() if "amd" in cpus else [])
    guest += smp_cases(cpus) + kexec_cases(cpus) + hostile_cases(cpus)
    return guest + bare + [case for cpu in cpus if cpu in NESTED for case in kvm_cases(cpu, cases.UMBRA, "")]
