# SPDX-License-Identifier: MIT
"""Makes the GRUB boot image of a test run: tells what kind of guest a file is and writes the matching grub.cfg.

It only arranges files; what the machine does with them is the emulator's business (emulator.py).
"""

import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, field

GRUB_PLATFORM = "/usr/lib/grub/i386-pc"
GRUB_FAILED = "run: GRUB could not load what it was asked to"
LINUX, MULTIBOOT1, MULTIBOOT2, UNKNOWN = "linux", "multiboot1", "multiboot2", "unknown"
# The command that loads the kernel, and the one for each further file, by the way GRUB is to start it.
COMMANDS = {LINUX: ("linux", "initrd"), MULTIBOOT1: ("multiboot", "module"), MULTIBOOT2: ("multiboot2", "module2")}


class ImageError(Exception):
    """A boot image cannot be made; the text says why."""


@dataclass
class Load:
    """What GRUB is to load: the kernel first, each file with its command line or string."""

    kind: str
    files: list = field(default_factory=list)


def guest_kind(path):
    """Tells a guest's kind by content, as a boot loader would."""
    with open(path, "rb") as file:
        head = file.read(32768)
    if head[0x202:0x206] == b"HdrS":
        return LINUX
    for offset in range(0, min(len(head), 8192) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", head, offset)
        if magic == 0x1BADB002 and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return MULTIBOOT1
    for offset in range(0, len(head) - 15, 8):
        magic, arch, length, checksum = struct.unpack_from("<IIII", head, offset)
        if magic == 0xE85250D6 and (magic + arch + length + checksum) & 0xFFFFFFFF == 0:
            return MULTIBOOT2
    return UNKNOWN


def quote(text):
    """Each word quoted for GRUB's shell: a quoted whole line would reach the kernel in quotes."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in text.split())


def config(commands):
    """A grub.cfg that boots at once.

    If that fails it tries again with GRUB's messages on the serial line. Before that the port is left alone, so
    that the guest finds it as the firmware left it.
    """
    nested = "\n".join("if %s; then" % command for command in commands)
    return "\n".join([
        "set timeout=0",
        "set gfxpayload=text",
        nested,
        "boot",
        *["fi"] * len(commands),
        "serial --unit=0 --speed=115200",
        "terminal_output serial",
        *commands,
        "boot",
        "echo '%s'" % GRUB_FAILED,
        "sleep --interruptible 1000",
        "",
    ])


def write(load, directory):
    """Makes directory/boot.iso and returns its path. Loading order is the order of load.files."""
    if shutil.which("grub-mkrescue") is None or not os.path.isdir(GRUB_PLATFORM):
        raise ImageError("grub-mkrescue or %s is missing; run 'tests/platform/setup host-tools' first."
                         % GRUB_PLATFORM)
    tree = os.path.join(directory, "iso")
    os.makedirs(os.path.join(tree, "boot", "grub"))
    commands = []
    first, further = COMMANDS[load.kind]
    for number, (path, text) in enumerate(load.files):
        base = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path))
        name = "/boot/%d-%s" % (number, base)
        shutil.copyfile(path, tree + name)
        commands.append(" ".join([further if number else first, name, quote(text)]).strip())
    with open(os.path.join(tree, "boot", "grub", "grub.cfg"), "w", encoding="utf-8") as file:
        file.write(config(commands))
    image = os.path.join(directory, "boot.iso")
    # Few modules and no decoration: in an emulator each of them costs seconds.
    command = ["grub-mkrescue", "-d", GRUB_PLATFORM, "-o", image, "--compress=no", "--fonts=", "--locales=",
               "--themes=", "--install-modules=normal linux multiboot multiboot2 serial terminal echo sleep test",
               tree]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, errors="replace", check=False)
    with open(os.path.join(directory, "grub-mkrescue.log"), "w", encoding="utf-8") as file:
        file.write(result.stdout)
    if result.returncode != 0:
        raise ImageError("grub-mkrescue failed:\n" + result.stdout)
    shutil.rmtree(tree)
    return image
