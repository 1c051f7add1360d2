# SPDX-License-Identifier: MIT
"""Runs spin on the models *.pml: all states of the sizes and roles below; and again without one part of the protocol at a time, which has
to break the property named, or the model says nothing of that part."""
import os
import re
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS_MAX = 1800
NAMES = ("STALE", "MISSED", "OWN", "REUSED", "TWO_SIZES", "LISTED", "LOST")

INVALIDATION = {"DOES": "INVALIDATES", "OTHERS_DO": 0}
ROOM = {"DOES": "EVICTS+RECLAIMS", "OTHERS_DO": 0}
WRITES = {"DOES": "INVALIDATES", "OTHERS_DO": "STORES+FAULTS"}
OWN_MAP = {"DOES": "STORES+INVALIDATES", "OTHERS_DO": "FAULTS+CHANGES"}
# Of each model: what the first CPU does and what the others do, besides running L2, its own masks; and the mutants.
MODELS = {
    "installation": ((
        {"DOES": "INVALIDATES", "OTHERS_DO": "EVICTS+RECLAIMS"},
        {"DOES": "EVICTS+RECLAIMS", "VERSIONS": 0},
        {**INVALIDATION, "CPUS": 3},
    ), (
        ("WITHOUT_SECTIONS", ROOM, "REUSED"),
        ("WITHOUT_FIRST_WAIT", INVALIDATION, "STALE"),
        ("WITHOUT_OWN_FLUSH", INVALIDATION, "STALE"),
        ("WITHOUT_COLLECT_WAIT", ROOM, "LOST"),
        ("WITHOUT_FREE_SHOOTDOWN", ROOM, "REUSED"),
        ("WITHOUT_FREE_WAIT", {"DOES": "EVICTS+RECLAIMS"}, "REUSED"),
        ("WITHOUT_OWED", ROOM, "TWO_SIZES"),
        ("WITHOUT_BUSY", INVALIDATION, "TWO_SIZES"),
    )),
    "sleep": ((
        {"DOES": "STORES+INVALIDATES+FAULTS"},
        {**WRITES, "CPUS": 3},
        {"DOES": "INVALIDATES+FAULTS", "OTHERS_DO": "WROTE+MARKS"},
        {"DOES": "WROTE+INVALIDATES+FAULTS"},
        {"DOES": "INVALIDATES", "OTHERS_DO": "WROTE+FAULTS", "CPUS": 3},
        {"DOES": "STORES+INVALIDATES+FAULTS", "OTHERS_DO": "FAULTS+CHANGES"},
    ), (
        ("WITHOUT_SECOND_LOOK", WRITES, "MISSED"),
        ("WITHOUT_SLEEP_SHOOTDOWN", WRITES, "MISSED"),
        ("LATE_REMEMBERED", WRITES, "MISSED"),
        ("LATE_WAKES", {"DOES": "STORES+INVALIDATES+FAULTS", "OTHERS_DO": "STORES"}, "MISSED"),
        ("WITHOUT_EVENTS", {"DOES": "INVALIDATES+FAULTS", "OTHERS_DO": "WROTE"}, "MISSED"),
        ("LATE_MARK", {"DOES": "INVALIDATES+FAULTS", "OTHERS_DO": "WROTE"}, "MISSED"),
        ("WITHOUT_MARK_SECTION", {"DOES": "WROTE+INVALIDATES", "OTHERS_DO": "WROTE+FAULTS"}, "MISSED"),
        ("EARLY_NEWS", {"DOES": "WROTE+INVALIDATES", "OTHERS_DO": "WROTE+FAULTS"}, "STALE"),
        ("LATE_NOTE", {"DOES": "INVALIDATES+FAULTS", "OTHERS_DO": "MARKS"}, "MISSED"),
        ("WITHOUT_NOTE_SECTION", {"DOES": "INVALIDATES", "OTHERS_DO": "MARKS+FAULTS"}, "MISSED"),
        ("WITHOUT_CHANGES", OWN_MAP, "MISSED"),
        ("EARLY_CHANGES", OWN_MAP, "MISSED"),
        ("WITHOUT_COUNT_BEFORE", OWN_MAP, "MISSED"),
        ("WITHOUT_COUNT_AFTER", {"DOES": "INVALIDATES+FAULTS", "OTHERS_DO": "CHANGES"}, "OWN"),
        ("WITHOUT_FOLLOWING", OWN_MAP, "STALE"),
        ("WITHOUT_REREADING", {"DOES": "STORES+INVALIDATES", "OTHERS_DO": "FAULTS"}, "MISSED"),
    )),
}


def search(model, sizes):
    """(the property that does not hold or None, number of states); RuntimeError if the search did not come to its end."""
    def run(*command):
        done = subprocess.run(command, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              timeout=SECONDS_MAX)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-500:]}")
        return done.stdout

    source = model + ".pml"
    macros = [f"-D{key}={value}" for key, value in sizes.items()]
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(os.path.join(HERE, source), scratch)
        run("spin", "-a", *macros, source)
        run("gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=512", "-DMEMLIM=4000", "-o", "pan", "pan.c")
        output = run("./pan", "-E", "-m2000000")
        violated = re.search(r"pan:1: assertion violated", output)
        states = re.search(r"(\d+) states, stored", output)
        if states is None or "too small" in output or ("errors: 0" in output) == bool(violated):
            raise RuntimeError(output[-500:])
        if violated is None:
            if "Search not completed" in output:
                raise RuntimeError("the search was not completed")
            return None, int(states.group(1))
        return name_of_violation(source, run("spin", "-t", *macros, source)), int(states.group(1))


def name_of_violation(source, trail):
    """The property of the assertion at whose line the trail ends."""
    line = int(re.search(re.escape(source) + r":(\d+), Error: assertion violated", trail).group(1))
    with open(os.path.join(HERE, source), encoding="utf-8") as file:
        text = file.read().split("\n")
    names = [name for name in NAMES if f"/* {name} */" in text[line - 1]]
    if not names and "SAME(" in text[line - 1]:
        names = ["REUSED"]
    return names[0] if names else "line %d" % line


def prove(model):
    """(problem or None, number of states)"""
    runs, mutants = MODELS[model]
    total = 0
    try:
        for sizes in runs:
            broken, states = search(model, sizes)
            total += states
            if broken is not None:
                return f"{broken} does not hold with {sizes}", total
        for part, sizes, wanted in mutants:
            broken, _ = search(model, {part: 1, **sizes})
            if broken != wanted:
                return f"{part} does not break {wanted} but {broken}", total
    except FileNotFoundError as error:
        return f"{error}: run tests/platform/setup host-tools", total
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return str(error), total
    return None, total


if __name__ == "__main__":
    for name in MODELS:
        print(name, prove(name))
