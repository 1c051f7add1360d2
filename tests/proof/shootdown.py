# SPDX-License-Identifier: MIT
"""A model of nested/shadow-sync.c and nested/shadow-lay.c, not the code: a CPU installs one shadow entry again and again while two
others change L1's entry and execute INVEPT. Every state that their steps can lead to is visited, in any order of steps, with
sequentially consistent memory, as the code's atomic operations make it.

Property: once the INVEPT of a CPU has returned, no version of L1's entry from before it can be reached. Without the first wait, the
shoot-down or the second wait it has to fail, or the model says nothing.
"""
from collections import namedtuple

# l1: version of L1's entry. dirty: the flag in Umbra's own map. slot: version in the shadow, or None. fault: step of the faulting
# CPU (1 to 3: in its section), and what it has read. seen: up to where writes are compared; None: there is no shadow page yet.
# cpus: the two others.
State = namedtuple("State", "l1 dirty slot fault read writes written seen cpus")
# cached: its TLB has the table as dirty, so that its writes set no flag.
Cpu = namedtuple("Cpu", "step floor noticed cached")
DONE = 10


def fault(s):
    step = (s.fault + 1) % 4
    if s.fault == 1:
        return s._replace(fault=step, read=s.l1)
    if s.fault == 2:
        seen = -1 if s.seen is None else s.seen  # a new page is compared in any case
        return s._replace(fault=step, read=None, seen=seen, slot=s.read if s.slot is None else s.slot)
    return s._replace(fault=step)


def note(s):
    return s._replace(writes=s.writes + 1, written=s.writes + 1)


def synchronise(s, who, first_wait, shoot_down, second_wait):
    """The state after one step of that CPU, or None if it has to wait or is done."""
    cpu = s.cpus[who]

    def go_on(state, **changes):
        cpus = list(state.cpus)
        cpus[who] = cpus[who]._replace(**{"step": cpu.step + 1, **changes})
        return state._replace(cpus=tuple(cpus))

    if cpu.step == 0:  # L1 writes
        return go_on(s._replace(dirty=s.dirty or not cpu.cached), cached=True)
    if cpu.step == 1:
        return go_on(s._replace(l1=s.l1 + 1))
    if cpu.step == 2:  # INVEPT
        return go_on(s, floor=s.l1)
    if cpu.step == 3:
        return None if first_wait and s.fault in (1, 2, 3) else go_on(s)
    if cpu.step == 4:  # the look
        if s.seen is None:
            return go_on(s, step=DONE)
        if s.dirty:
            return go_on(note(s))
        return go_on(s, step=7 if s.written > s.seen else DONE)
    if cpu.step == 5:
        return go_on(s._replace(dirty=False))
    if cpu.step == 6:
        return go_on(note(s))
    if cpu.step == 7:
        if shoot_down and any(other.step == 1 for other in s.cpus):  # it is in its guest, and will leave it
            return None
        if shoot_down:
            s = s._replace(cpus=tuple(other._replace(cached=False) for other in s.cpus))
        return go_on(s, noticed=s.writes)
    if cpu.step == 8:
        return None if second_wait and s.fault in (1, 2, 3) else go_on(s)
    if cpu.step == 9:  # the comparison
        if s.written > s.seen:
            s = s._replace(seen=cpu.noticed, slot=s.slot if s.slot == s.l1 else None)
        return go_on(s)
    return None


def start_states():
    for dirty in (False, True):
        for cached in range(4 if dirty else 1):
            cpus = tuple(Cpu(0, 0, 0, bool(cached >> i & 1)) for i in range(2))
            for slot, seen in ((None, None), (None, 0), (0, 0)):
                yield State(0, dirty, slot, 0, None, 0, 0, seen, cpus)


def holds(s):
    return all(cpu.step != DONE or s.slot is None or s.slot >= cpu.floor for cpu in s.cpus)


def search(first_wait=True, shoot_down=True, second_wait=True):
    """(Does the property hold, number of states)."""
    todo = list(start_states())
    seen = set(todo)
    while todo:
        s = todo.pop()
        if not holds(s):
            return False, len(seen)
        steps = [fault(s)] + [synchronise(s, who, first_wait, shoot_down, second_wait) for who in range(2)]
        for after in steps:
            if after is not None and after not in seen:
                seen.add(after)
                todo.append(after)
    return True, len(seen)


def prove():
    """(problem or None, number of states)"""
    ok, states = search()
    if not ok:
        return "an old permission can be reached after INVEPT has returned", states
    for part in ("first_wait", "shoot_down", "second_wait"):
        if search(**{part: False})[0]:
            return f"the model does not need {part}", states
    return None, states


if __name__ == "__main__":
    print(prove())
    for part in ("first_wait", "shoot_down", "second_wait"):
        print(part, search(**{part: False}))
