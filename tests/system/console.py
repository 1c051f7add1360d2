# SPDX-License-Identifier: MIT
"""The serial line of a test run: records it, shows it, passes the keyboard on, and watches for expected lines.

The emulator's end is a pseudo-terminal in raw mode, so that bytes pass unchanged in both directions and at once.
"""

import os
import re
import select
import sys
import termios
import tty

ESCAPE = 1  # Ctrl-A, then x: leave an interactive run
# Bochs' text screen is a pseudo-terminal that it makes itself and names on the terminal that it was started with.
OWN_SCREEN = re.compile(rb'connected to screen "(/dev/pts/\d+)"')


class Expectations:
    """Looks through the growing serial text for lines expected in order, forbidden ones, and the last one."""

    def __init__(self, expected, forbidden, until):
        self.expected = [re.compile(pattern, re.MULTILINE) for pattern in expected]
        self.forbidden = [re.compile(pattern, re.MULTILINE) for pattern in forbidden]
        self.until = re.compile(until, re.MULTILINE) if until else None
        self.text = ""
        self.seen = 0
        self.position = 0
        self.line_start = 0
        self.violation = None
        self.finished = False

    def feed(self, text):
        self.text += text
        while self.seen < len(self.expected):
            match = self.expected[self.seen].search(self.text, self.position)
            if not match:
                break
            self.position = match.end()
            self.seen += 1
        if self.violation is None:
            for pattern in self.forbidden:
                match = pattern.search(self.text, self.line_start)
                if match:
                    self.violation = match.group(0)
                    break
        if self.until and not self.finished:
            self.finished = self.until.search(self.text, self.line_start) is not None
        self.line_start = self.text.rfind("\n") + 1

    def missing(self):
        """The first expected or awaited pattern that has not been seen, or None."""
        if self.seen < len(self.expected):
            return self.expected[self.seen].pattern
        return self.until.pattern if self.until and not self.finished else None


class Pty:
    """A pseudo-terminal: we hold the master, an emulator gets the slave by name or by descriptor."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        termios.tcsetwinsize(self.slave, (60, 132))
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)

    def read(self):
        try:
            return os.read(self.master, 65536)
        except (BlockingIOError, OSError):
            return b""

    def write(self, data):
        while data:
            select.select([], [self.master], [])
            data = data[os.write(self.master, data):]

    def close(self):
        os.close(self.master)
        os.close(self.slave)


class OwnScreen:
    """The terminal that Bochs draws on. Somebody has to read it: Bochs blocks in a write once its buffer is full."""

    def __init__(self):
        self.seen = b""
        self.slave = None

    def look_for(self, data):
        """Opens the terminal as soon as what the emulator said, so far and now, names it."""
        self.seen = (self.seen + data)[-4096:]
        match = OWN_SCREEN.search(self.seen)
        if self.slave is None and match:
            self.seen = b""
            try:
                self.slave = os.open(match.group(1).decode("ascii"), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
                tty.setraw(self.slave)
            except (OSError, termios.error):
                self.close()

    def discard(self):
        try:
            while os.read(self.slave, 65536):
                pass
            self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self):
        if self.slave is not None:
            os.close(self.slave)
            self.slave = None


class Console:
    """Serial line and emulator screen of one run."""

    def __init__(self, serial_path, screen_path, show, interactive):
        self.serial = Pty()
        self.screen = Pty()
        self.own_screen = OwnScreen()
        self.record = open(serial_path, "wb", buffering=0)
        self.screen_record = open(screen_path, "wb", buffering=0)
        self.show = show
        self.keyboard = sys.stdin.fileno() if interactive else None
        self.saved = None
        self.escape = False
        self.left = False

    def open_keyboard(self):
        """Gives the guest the keyboard, raw; close() gives it back."""
        if self.keyboard is not None and os.isatty(self.keyboard):
            self.saved = termios.tcgetattr(self.keyboard)
            tty.setraw(self.keyboard)

    def close(self):
        if self.saved is not None:
            termios.tcsetattr(self.keyboard, termios.TCSADRAIN, self.saved)
            self.saved = None
        self.serial.close()
        self.screen.close()
        self.own_screen.close()
        self.record.close()
        self.screen_record.close()

    def type(self):
        data = os.read(self.keyboard, 4096)
        if not data:
            self.keyboard = None
            return
        out = bytearray()
        for byte in data:
            if self.escape:
                self.escape = False
                if byte in b"xX":
                    self.left = True
                    return
                out.append(byte)
            elif byte == ESCAPE and self.saved is not None:
                self.escape = True
            else:
                out.append(byte)
        self.serial.write(bytes(out))

    def turn(self, seconds):
        """Waits up to so many seconds for traffic, passes it on, and returns the new serial text."""
        sources = [self.serial.master, self.screen.master]
        if self.keyboard is not None:
            sources.append(self.keyboard)
        if self.own_screen.slave is not None:
            sources.append(self.own_screen.slave)
        ready = select.select(sources, [], [], seconds)[0]
        if self.screen.master in ready:
            self.look_at_screen()
        if self.own_screen.slave in ready:
            self.own_screen.discard()
        if self.keyboard in ready:
            self.type()
        return self.take() if self.serial.master in ready else ""

    def look_at_screen(self):
        data = self.screen.read()
        self.screen_record.write(data)
        self.own_screen.look_for(data)

    def take(self):
        data = self.serial.read()
        if not data:
            return ""
        self.record.write(data)
        if self.show:
            sys.stdout.buffer.write(data if self.saved is not None else data.replace(b"\r", b""))
            sys.stdout.flush()
        return data.decode("latin-1").replace("\r", "")

    def complaint(self):
        """The last lines that the emulator itself wrote to its terminal, for when it would not run."""
        self.screen_record.write(self.screen.read())
        with open(self.screen_record.name, encoding="latin-1") as file:
            text = re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]|[^\x20-\x7e\n]", "", file.read())
        noise = re.compile(r"[ =]*$|ALSA lib|\d+[ei]\[")
        return [line.strip() for line in text.splitlines() if not noise.match(line)][-4:]

    def drain(self):
        """What is left on the serial line after the emulator has gone."""
        rest = ""
        while select.select([self.serial.master], [], [], 0.05)[0]:
            text = self.take()
            if not text:
                break
            rest += text
        return rest
