# SPDX-License-Identifier: MIT
"""The system tests by name: what each boots, and what must come of it. test-boot runs them.

A case is one or more runs of tests/system/run, whose exit status decides, and after them a comparison of their serial
output where one is named. Nothing is found by itself: a case that is not in this table does not exist.
"""

import functools
import itertools
import os
from dataclasses import dataclass

import compare_facts
import compare_linux

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
GUEST = os.path.join(BUILD, "guest", "guest.elf")
GUEST_MB2 = os.path.join(BUILD, "guest", "guest-mb2.elf")
GUEST_FLAT = os.path.join(BUILD, "guest", "guest.bin")
UMBRA = os.path.join(BUILD, "umbra.elf")
UMBRA_TEST = os.path.join(BUILD, "umbra-test.elf")
INITRAMFS = os.path.join(BUILD, "guest", "initramfs.cpio.gz")

# To Bochs unknown MSRs are #GP for small guests, as on a CPU.
STRICT = "ignore_bad_msrs=0"
INTEL_MODEL = "corei7_icelake_u"
AMD_MODEL = "max,+svm,+npt,+gmet"

TOTALS = r"guest: \d+ passed, \d+ failed"
ALL_GOOD = r"guest: [1-9]\d* passed, 0 failed"


@dataclass
class Run:
    """One run of tests/system/run; its serial output is kept under `name`."""

    name: str
    arguments: list


@dataclass
class Case:
    name: str
    cpu: str
    runs: list
    # Called with the runs' serial output, in order; returns sentences that say what is wrong.
    compare: object = None
    # About how long: the longest are started first, so that none of them is left alone at the end.
    seconds: int = 3


def linux_kernel():
    platform = os.environ.get("UMBRA_PLATFORM") or os.path.join(BUILD, "platform")
    return os.path.join(os.path.abspath(platform), "linux", "vmlinuz")


def model_arguments(cpu, model=None):
    if cpu == "intel":
        return ["--cpu", cpu, "--model", "%s,%s" % (model or INTEL_MODEL, STRICT)]
    return ["--cpu", cpu, "--model", model or AMD_MODEL]


def guest_run(cpu, groups, umbra=UMBRA_TEST, model=None, image=GUEST, words="", options=()):
    """The test guest with these groups, under that image of Umbra or (None) bare: every check has to pass."""
    place = "umbra" if umbra else "bare"
    arguments = model_arguments(cpu, model)
    arguments += ["--umbra", umbra] if umbra else ["--bare"]
    arguments += ["--guest", image, "--cmdline", " ".join(filter(None, ["test=" + groups, "under=" + place, words]))]
    for group in groups.split(","):
        arguments += ["--expect", "guest: group %s" % group]
    arguments += [*options, "--expect", ALL_GOOD, "--until", TOTALS, "--forbid", "guest: FAIL.*", "--timeout", "60"]
    return Run(place, arguments)


def guest_case(name, cpu, groups, **more):
    return Case("guest-" + name, cpu, [guest_run(cpu, groups, **more)])


GROUPS = ("paging", "paging-legacy", "cpuid", "hidden", "msrs", "exceptions", "interrupts", "nmi", "modes", "init", "exits", "hostile")


# The guest sees a CPU without virtualization.
NESTED_OFF = ("--umbra-args", "nested=off")


def group_cases(cpu):
    cases = []
    for group in GROUPS:
        # Bare is the reference: a check that does not hold there proves nothing about Umbra.
        cases.append(guest_case(group + "-bare", cpu, group, umbra=None))
        cases.append(guest_case(group, cpu, group, options=NESTED_OFF if group == "hidden" else ()))
    cases.append(guest_case("memory", cpu, "memory"))
    cases.append(guest_case("hostile-2", cpu, "hostile", words="seed=20261121"))
    # The image that users get, without the test hypercalls.
    cases.append(guest_case("release-build", cpu, "boot,memory,exits,hostile", umbra=UMBRA))
    cases.append(guest_case("nested-off", cpu, "cpuid,hidden,msrs,exceptions,exits,hostile", umbra=UMBRA, options=NESTED_OFF))
    for nested, options in (("on", ()), ("off", NESTED_OFF)):
        facts = [guest_run(cpu, "facts", umbra=None), guest_run(cpu, "facts", options=options)]
        cases.append(Case("guest-facts-nested-" + nested, cpu, facts, compare=functools.partial(
            compare_facts.compare, cpu=cpu, nested=nested == "on")))
    return cases


def smp_cases():
    """Several CPUs, in xAPIC and x2APIC mode."""
    cases = []
    for cpu, cpus, umbra in itertools.product(("intel", "amd"), ("2", "4"), (UMBRA_TEST, None)):
        cases.append(guest_case("smp-%s%s" % (cpus, "" if umbra else "-bare"), cpu, "smp", umbra=umbra,
                                words="cpus=" + cpus, options=("--cpus", cpus)))
    for cpu, umbra in itertools.product(("intel", "amd"), (UMBRA_TEST, None)):
        cases.append(guest_case("smp-start%s" % ("" if umbra else "-bare"), cpu, "smp-start", umbra=umbra, words="cpus=3",
                                options=("--cpus", "3")))
    for cpu, umbra in itertools.product(("intel", "amd"), (UMBRA_TEST, None)):
        cases.append(guest_case("smp-halt%s" % ("" if umbra else "-bare"), cpu, "smp-halt", umbra=umbra, words="cpus=2",
                                options=("--cpus", "2")))
    # Umbra finds the end of the HLT itself.
    cases.append(guest_case("smp-halt-of-older-cpu", "amd", "smp-halt", umbra=UMBRA_TEST, words="cpus=2", options=("--cpus", "2"),
                            model="max,+svm,+npt,+gmet,-nrip-save"))
    words = ["--expect", "umbra: 4 CPUs", "--expect", "guest: init reached"]
    for line in ("cpus 4", "8 jobs, 1 result", "on-line 0$", "on-line again 0-3", "8 jobs, 1 result", "reboots"):
        words += ["--expect", "guest: " + line]
    # It ends by resetting the machine.
    for cpu in ("intel", "amd"):
        linux = Run("umbra", ["--cpu", cpu, "--cpus", "4", *(("--ips", "15000000") if cpu == "intel" else ()), "--umbra", UMBRA,
                              "--guest", linux_kernel(), "--module", INITRAMFS, "--cmdline", "console=ttyS0 umbra.test=smp",
                              "--timeout", "300", *words])
        cases.append(Case("linux-smp", cpu, [linux], seconds=200 if cpu == "intel" else 40))
    return cases


def stopped_by_fatal(text):
    """The other CPUs send tildes until Umbra's last words begin."""
    before, fatal, after = text.partition("umbra: fatal:")
    if "~" not in before or not fatal:
        return ["no CPU sends anything before the fatal report"]
    return ["a CPU runs on after the fatal report has begun"] if "~" in after else []


def fatal_cases():
    return [Case("fatal-stops-all-cpus", cpu, [Run("umbra", [
        *model_arguments(cpu), "--umbra", UMBRA_TEST, "--cpus", "3", "--guest", GUEST, "--cmdline", "test=fatal cpus=3",
        "--expect", "umbra: fatal: a test hypercall", "--until", "umbra: last exits", "--forbid", "guest: FAIL.*", "--timeout", "20"])],
                 compare=stopped_by_fatal) for cpu in ("intel", "amd")]


def execute_cases():
    """Mode-based execute control, and the same on CPUs that lack it."""
    cases = [guest_case("mbec", "intel", "mbec", words="mode-based-execute=yes"),
             guest_case("gmet", "amd", "gmet", words="mode-based-execute=yes"),
             guest_case("gmet-missing", "amd", "gmet,memory", model="max,+svm,+npt,-gmet", words="mode-based-execute=no"),
             guest_case("without-nrip-save", "amd", "cpuid,exceptions,exits,hostile,memory",
                        model="max,+svm,+npt,+gmet,-nrip-save,-vgif,-v-vmsave-vmload"),
             guest_case("second-level", "intel", "second-level"),
             guest_case("second-level-without-mbec", "intel", "paging,second-level", model="broadwell_ult"),
             guest_case("second-level", "amd", "second-level"),
             guest_case("second-level-without-gmet", "amd", "second-level", model="max,+svm,+npt,-gmet")]
    for model in ("tigerlake", "corei7_skylake_x"):
        cases.append(guest_case("mbec-" + model, "intel", "mbec,memory", model=model, words="mode-based-execute=yes"))
    for model in ("broadwell_ult", "corei7_ivy_bridge_3770k"):
        cases.append(guest_case("mbec-missing-" + model, "intel", "mbec,memory", model=model,
                                words="mode-based-execute=no"))
        cases.append(guest_case("nested-off-" + model, "intel", "hidden", model=model, options=NESTED_OFF))
    cases.append(guest_case("xapic", "intel", "interrupts,nmi", model=INTEL_MODEL + ",exclude_features=x2apic"))
    return cases


def pattern(seed, size):
    return bytes((seed + 7 * i) % 251 for i in range(size))


MODULES = (("first.bin", pattern(5, 5000), "pattern=5,5000 the first module"),
           ("second.bin", pattern(77, 123457), "pattern=77,123457"))


def module_options(files):
    options = []
    for (name, _, text), number in zip(MODULES, range(len(MODULES))):
        options += ["--module", "%s:%s" % (files(name), text)]
        options += ["--expect", 'boot.module%d "%s"' % (number, text)]
    return options


def boot_cases(cpu, files):
    """Each kind of guest with two modules, under Umbra (itself loaded both ways) and bare."""
    cases = []
    for kind, image, protocol in (("mb1", GUEST, "multiboot1"), ("mb2", GUEST_MB2, "multiboot2"),
                                  ("flat", GUEST_FLAT, "multiboot1")):
        words = "modules=2 protocol=%s" % protocol
        for umbra in (UMBRA_TEST, None):
            name = "boot-%s%s" % (kind, "" if umbra else "-bare")
            cases.append(guest_case(name, cpu, "boot", umbra=umbra, image=image, words=words,
                                    options=module_options(files)))
    cases.append(guest_case("boot-umbra-by-mb1", cpu, "boot", words="modules=2 protocol=multiboot1",
                            options=["--loader", "mb1", *module_options(files)]))
    cases.append(guest_case("boot-256-mbyte", cpu, "boot,memory", options=["--memory", "256"]))
    large = "2560" if cpu == "intel" else "6144"
    cases.append(guest_case("boot-%s-mbyte" % large, cpu, "boot,memory,hostile", options=["--memory", large]))
    return cases


def sentence_run(name, cpu, sentence, arguments, model=None):
    """A run that has to end in Umbra's own words."""
    return Case(name, cpu, [Run("umbra", [*model_arguments(cpu, model), "--umbra", UMBRA, "--expect", sentence, "--until",
                                          sentence, "--timeout", "20", *arguments])])


def complaint_run(name, cpu, complaint, words):
    """Umbra complains about a word of its command line, and goes on without it."""
    return Case(name, cpu, [Run("umbra", [
        *model_arguments(cpu), "--umbra", UMBRA, "--guest", GUEST, "--cmdline", "test=exits", "--umbra-args", words,
        "--expect", complaint, "--expect", ALL_GOOD, "--until", TOTALS, "--timeout", "60"])])


def refusal_cases(cpu, files):
    """What Umbra cannot start is refused with a sentence that says what was found."""
    def guest(name):
        return ["--guest", files(name)]

    return [
        sentence_run("refuse-no-guest", cpu, r"umbra: fatal: there is no guest", ["--no-guest"]),
        sentence_run("refuse-garbage", cpu, r"umbra: fatal: the guest module is neither a Linux bzImage nor a multiboot kernel",
                     guest("garbage.bin")),
        sentence_run("refuse-tiny-module", cpu, r"umbra: fatal: the guest module ", guest("tiny.bin")),
        sentence_run("refuse-truncated-linux", cpu, r"umbra: fatal: the guest's Linux image is cut short",
                     guest("truncated-linux.bin")),
        sentence_run("refuse-truncated-elf", cpu, r"umbra: fatal: .*cut short", guest("truncated-elf.bin")),
        sentence_run("refuse-truncated-flat", cpu, r"umbra: fatal: ", guest("truncated-flat.bin")),
        sentence_run("refuse-bad-checksum", cpu, r"umbra: fatal: .*checksum", guest("bad-checksum.bin")),
        complaint_run("unknown-option", cpu, "umbra: .*option frobnicate=7 is not known and ignored", "frobnicate=7 loglevel=info"),
        complaint_run("bad-option-value", cpu, "umbra: .*option loglevel=loud is ignored", "loglevel=loud"),
        Case("triple-fault", cpu, [Run("umbra", [
            *model_arguments(cpu), "--umbra", UMBRA, "--guest", GUEST, "--cmdline", "test=triple", "--timeout", "60",
            "--expect", "guest: triple fault follows", "--expect", "umbra: guest triple fault", "--expect", r"umbra: exits \d+"])]),
    ]


def cpu_cases(cpu):
    """CPUs that Umbra cannot use."""
    if cpu == "amd":
        rows = [("no-svm", "max,-svm", r"umbra: fatal: this CPU offers neither VMX nor SVM"),
                ("no-npt", "max,+svm,-npt", r"umbra: fatal: .*nested paging")]
    else:
        rows = [("no-vmx", "p4_prescott_celeron_336", r"umbra: fatal: this CPU offers neither VMX nor SVM"),
                ("no-ept", "core2_penryn_t9600", r"umbra: fatal: this CPU .*(EPT|VM-execution control)"),
                ("no-unrestricted-guest", "corei5_lynnfield_750", r"umbra: fatal: .*unrestricted guest"),
                ("no-long-mode", "p3_katmai", r"umbra: fatal: this CPU has no 64-bit mode")]
    return [sentence_run("refuse-" + name, cpu, sentence, ["--guest", GUEST, "--cmdline", "test=boot"], model)
            for name, model, sentence in rows]


def linux_run(cpu, umbra, word, until, options=()):
    arguments = ["--cpu", cpu, "--guest", linux_kernel(), "--module", INITRAMFS, "--cmdline",
                 "console=ttyS0 umbra.test=" + word, "--expect", "guest: init reached", "--expect", until, "--until", until,
                 "--timeout", "240", *options]
    return Run("umbra" if umbra else "bare", arguments + (["--umbra", umbra] if umbra else ["--bare"]))


def linux_cases(cpu):
    facts = [linux_run(cpu, None, "facts", "guest: work done"), linux_run(cpu, UMBRA, "facts", "guest: work done")]
    without = ["--loader", "mb1", *NESTED_OFF, "--forbid", r"flags.*: .*\b(vmx|svm)\b"]
    return [
        Case("linux-facts", cpu, facts, compare=functools.partial(compare_linux.compare, cpu=cpu),
             seconds=150 if cpu == "intel" else 40),
        Case("linux-shell-nested-off", cpu, [linux_run(cpu, UMBRA, "shell", "guest: shell", without)],
             seconds=60 if cpu == "intel" else 15),
    ]


def make_files(directory):
    """Writes the modules and the damaged guests; returns a function from a file's name to its path."""
    def path(name):
        return os.path.join(directory, name)

    def read(source):
        with open(source, "rb") as file:
            return file.read()

    os.makedirs(directory, exist_ok=True)
    contents = {name: data for name, data, _ in MODULES}
    guest, flat, linux = read(GUEST), read(GUEST_FLAT), read(linux_kernel())
    magic = guest.index(b"\x02\xb0\xad\x1b")
    contents["garbage.bin"] = pattern(99, 20000)
    contents["tiny.bin"] = b"\x7fELF"
    contents["truncated-linux.bin"] = linux[:2000000]
    contents["truncated-elf.bin"] = guest[:len(guest) // 2]
    contents["truncated-flat.bin"] = flat[:len(flat) // 2]
    contents["bad-checksum.bin"] = guest[:magic + 8] + bytes([guest[magic + 8] ^ 1]) + guest[magic + 9:]
    for name, data in contents.items():
        with open(path(name), "wb") as file:
            file.write(data)
    return path


def all_cases(cpus, files):
    cases = []
    for cpu in cpus:
        cases += group_cases(cpu) + boot_cases(cpu, files) + refusal_cases(cpu, files) + cpu_cases(cpu) + linux_cases(cpu)
    cases += [case for case in execute_cases() + smp_cases() + fatal_cases() if case.cpu in cpus]
    names = [(case.cpu, case.name) for case in cases]
    assert len(set(names)) == len(names), "two cases share a name"
    return cases
