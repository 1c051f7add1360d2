# SPDX-License-Identifier: MIT
"""Starts and stops the emulated machines: Bochs for Intel, QEMU for AMD.

Both get the same machine as far as they can, with a fixed clock, so that a run can be repeated exactly. An
emulator runs in a process group of its own, which is killed whole, whatever ends the run.
"""

import json
import os
import re
import resource
import signal
import socket
import subprocess

BOCHS_MODEL = "corei7_icelake_u"
QEMU_MODEL = "max,+svm,+npt,+gmet"
LINUX_IPS = 50_000_000
SMALL_GUEST_IPS = 4_000_000
# Bochs: how many instructions one CPU executes before it is the next one's turn.
QUANTUM = 32
# 2026-01-01 00:00 UTC: any fixed time makes runs repeatable; a recent one keeps guests from complaining.
CLOCK_EPOCH = 1767225600
CLOCK_TEXT = "2026-01-01T00:00:00"
DEBUG_EXIT_PORT = 0xF4


class EmulatorError(Exception):
    """An emulator is not there or cannot be started; the text says what to do."""


def cpu_seconds(pid):
    """Processor time that a process has used so far, all threads, in seconds; None if it is gone."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waiting_seconds(pid):
    """How long the threads of a process have been ready to run without getting a processor; 0 where nobody counts."""
    total = 0
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/schedstat" % (pid, task), encoding="ascii") as file:
                total += int(file.read().split()[1])
    except (OSError, IndexError):
        pass
    return total / 1e9


class Emulator:
    """A running machine. Subclasses know the emulator; serial output arrives on the terminal given to start()."""

    name = ""

    def __init__(self, options, image, directory):
        self.options = options
        self.image = image
        self.directory = directory
        self.log = os.path.join(directory, self.name.lower() + ".log")
        self.process = None
        self.used = 0.0
        self.waited = 0.0

    def spawn(self, command, **streams):
        limit = int(self.options.timeout) + 30 if self.options.timeout else None

        def limit_cpu():
            # Should this script be killed, a stuck emulator must not burn a processor for ever.
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))

        self.process = subprocess.Popen(command, start_new_session=True, preexec_fn=limit_cpu, **streams)

    def log_text(self):
        """The emulator's log so far; nothing if it never came to write one."""
        try:
            with open(self.log, encoding="latin-1") as file:
                return file.read()
        except OSError:
            return ""

    def cpu_time(self):
        """Processor seconds used so far; the last known value once the emulator is gone."""
        used = cpu_seconds(self.process.pid)
        if used is not None:
            self.used = max(self.used, used)
        return self.used

    def waiting_time(self):
        """Seconds that it would have run, had other programs not had the processors: load is no fault of the machine."""
        self.waited = max(self.waited, waiting_seconds(self.process.pid))
        return self.waited

    def poll(self):
        """None while the machine runs, True when its emulator has ended."""
        self.cpu_time()
        return None if self.process.poll() is None else True

    def stop(self):
        """Ends the emulator and all its children; gives it a moment to write its logs."""
        if self.process is None:
            return
        self.cpu_time()
        for number, patience in ((signal.SIGTERM, 2), (signal.SIGKILL, 5)):
            if self.process.poll() is None:
                try:
                    os.killpg(self.process.pid, number)
                    self.process.wait(patience)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Bochs(Emulator):
    """Bochs 3.0 with its log as the source of what happened to the machine."""

    name = "Bochs"

    def __init__(self, options, image, directory):
        super().__init__(options, image, directory)
        self.log_offset = 0
        self.resets = 0

    def configuration(self, serial):
        options = self.options
        share = os.path.join(options.platform, "bochs", "tree", "usr", "share", "bochs")
        # An unknown MSR is #GP, as it should be, but for Linux: it dies of a microcode MSR that Bochs lacks.
        lenient = options.kind == "linux"
        return "\n".join([
            "cpu: model=%s, count=%d, quantum=%d, ips=%d, reset_on_triple_fault=0, ignore_bad_msrs=%d"
            % (options.model, options.cpus, QUANTUM, options.ips, lenient),
            "memory: guest=%d, host=%d" % (options.memory, min(options.memory, 2048)),
            "romimage: file=%s/BIOS-bochs-latest, options=fastboot" % share,
            "vgaromimage: file=%s/VGABIOS-lgpl-latest" % share,
            "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
            "ata0-master: type=cdrom, path=%s, status=inserted" % self.image,
            "boot: cdrom",
            "display_library: term",
            "com1: enabled=1, mode=term, dev=%s" % serial,
            "clock: sync=none, time0=%d" % CLOCK_EPOCH,
            "log: %s" % self.log,
            "panic: action=fatal",
            "error: action=ignore",
            "",
        ])

    def start(self, serial, screen):
        program = os.path.join(self.options.platform, "bochs", "bochs")
        if not os.access(program, os.X_OK):
            raise EmulatorError("Bochs is not there; run 'tests/platform/setup bochs' first.")
        settings = os.path.join(self.directory, "bochsrc")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(self.configuration(serial))
        # Without a terminal to wait at: Bochs sleeps there a millisecond whenever one of several CPUs is idle.
        self.spawn([program, "-q", "-f", settings], stdin=subprocess.DEVNULL, stdout=screen, stderr=screen,
                   env=dict(os.environ, TERM="xterm"))

    def new_log_lines(self):
        try:
            with open(self.log, "rb") as file:
                file.seek(self.log_offset)
                data = file.read()
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self.log_offset += end
        return data[:end].decode("latin-1").splitlines()

    def poll(self):
        # Bochs starts the machine anew after a reset and would boot the image for ever.
        for line in self.new_log_lines():
            if "bx_pc_system_c::Reset(" in line:
                self.resets += 1
        return True if self.resets > 1 else super().poll()

    def end(self):
        """Returns (whether the guest ended the run itself, what happened)."""
        text = self.log_text()
        if self.resets > 1:
            return True, "the guest reset the machine"
        if re.search(r"soft power off|[Ss]hutdown port|shutdown requested", text):
            return True, "the guest powered off"
        panics = re.findall(r"^\d+p(\[.*)$", text, re.MULTILINE)
        if panics:
            return False, "Bochs panicked: " + panics[0]
        return False, "Bochs ended (status %s)" % self.process.poll()

    def progress(self):
        """How far the machine came, from the time stamps of the log."""
        ticks = re.findall(r"^(\d{11,})", self.log_text(), re.MULTILINE)
        return "%d ticks" % int(ticks[-1]) if ticks else ""


class Qemu(Emulator):
    """QEMU with TCG; its machine protocol tells how the guest ended."""

    name = "QEMU"

    def __init__(self, options, image, directory):
        super().__init__(options, image, directory)
        self.control = None
        self.received = b""

    def arguments(self, control):
        options = self.options
        arguments = [
            "-L", os.path.join(options.platform, "qemu", "firmware"), "-nodefaults", "-no-user-config",
            "-accel", "tcg", "-machine", "q35", "-cpu", options.model, "-smp", str(options.cpus),
            "-m", str(options.memory),
            "-display", "none", "-vga", "std", "-global", "apic.vapic=off", "-boot", "d",
            "-cdrom", self.image, "-no-reboot",
            "-rtc", "base=%s,clock=%s" % (CLOCK_TEXT, "host" if options.interactive else "vm"),
            "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
            "-chardev", "socket,id=control,fd=%d" % control, "-mon", "chardev=control,mode=control",
            "-device", "isa-debug-exit,iobase=%#x,iosize=4" % DEBUG_EXIT_PORT,
            "-d", "cpu_reset", "-D", self.log,
        ]
        if options.icount:
            arguments += ["-icount", "shift=0,sleep=off"]
        return arguments

    def start(self, serial, screen):
        program = os.path.join(self.options.platform, "qemu", "qemu-system-x86_64")
        if not os.access(program, os.X_OK):
            raise EmulatorError("QEMU is not there; run 'tests/platform/setup qemu' first.")
        self.control, theirs = socket.socketpair()
        # Not as our own terminal, whose end would then be ours, too, if we lead a session (setsid).
        with theirs, open(os.open(serial, os.O_RDWR | os.O_NOCTTY), "r+b", buffering=0) as line:
            self.spawn([program, *self.arguments(theirs.fileno())], stdin=line, stdout=line, stderr=screen,
                       pass_fds=[theirs.fileno()])
        self.control.settimeout(0.2)
        self.control.sendall(b'{"execute": "qmp_capabilities"}\n')

    def end(self):
        """Returns (whether the guest ended the run itself, what happened)."""
        status = self.process.poll()
        reasons = self.reasons()
        if self.triple_fault():
            return False, "a triple fault"
        if "guest-shutdown" in reasons:
            if status:
                return True, "the guest wrote %#x to the debug exit port" % (status >> 1)
            return True, "the guest powered off"
        if "guest-reset" in reasons:
            return True, "the guest reset the machine"
        return False, "QEMU ended (status %s)%s" % (status, "".join(", " + reason for reason in reasons))

    def triple_fault(self):
        return "Triple fault" in self.log_text()

    def reasons(self):
        """The reasons of the SHUTDOWN events that QEMU has sent."""
        try:
            while True:
                data = self.control.recv(65536)
                if not data:
                    break
                self.received += data
        except OSError:
            pass
        found = []
        for line in self.received.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "SHUTDOWN":
                found.append(event["data"]["reason"])
        return found

    def progress(self):
        return ""


def make(options, image, directory):
    return (Bochs if options.cpu == "intel" else Qemu)(options, image, directory)
