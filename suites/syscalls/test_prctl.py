"""Attributes of a process that prctl sets: read back, bounded, and inherited or not."""

from __future__ import annotations

import errno

from families import THREAD, Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

SIZE = 8


def name_story(name: bytes, thread: bool) -> Case:
    """A name of up to fifteen bytes for each thread; a child begins with its maker's."""
    script = Family()
    room = script.buffer(16)
    script.returns(0, "prctl", C.PR_SET_NAME, script.string(name))

    def named(want: bytes) -> None:
        ref = script.returns(0, "prctl", C.PR_GET_NAME, room, out=[room])
        script.holds(ref, room, want[:15].ljust(16, b"\0"))

    named(name)
    if thread:
        role, _ = script.spawn(THREAD)
        with script.by(role):
            named(name)
            last = script.returns(0, "prctl", C.PR_SET_NAME, script.string(b"other"))
        script.wait_for(last)
    else:
        with script.child() as pid:
            named(name)
            script.returns(0, "prctl", C.PR_SET_NAME, script.string(b"other"))
        script.reap(pid)
    named(name)
    return script.case()


names = st.binary(max_size=30).map(lambda raw: raw.replace(b"\0", b"x"))


@given(batch=batches(st.builds(name_story, names, st.booleans()), SIZE))
def test_a_thread_has_a_name(agent, features, batch):
    """Cut to 15 bytes, copied by clone, and of one thread: PR_SET_NAME(2const)."""
    hold(agent, batch, features)


def death_story(number: int, late: bool) -> Case:
    """The signal for the death of the parent comes when it dies, and is not inherited."""
    script = Family()
    script.needs.add("orphans")
    room = script.number(-1, 4)
    with script.child() as parent:
        with script.child():
            script.returns(0, "prctl", C.PR_SET_PDEATHSIG, number)
            script.block()
            with script.child() as grandchild:
                ref = script.returns(0, "prctl", C.PR_GET_PDEATHSIG, room, out=[room])
                script.holds(ref, room, bytes(4))
            ready = script.reap(grandchild)
            info = script.room("struct siginfo")
            mask = script.number(1 << (number - 1))
            got = script.returns(number, "rt_sigtimedwait", mask, info, 0, 8, out=[info])
        script.wait_for(ready)
    script.reap(parent)
    script.wait_for(got)
    script.ensure(lambda trace: number_is(trace.struct(got, info).si_signo, number))
    script.returns(-errno.EINVAL, "prctl", C.PR_SET_PDEATHSIG, 65 + late)
    return script.case()


def number_is(found: int, want: int) -> None:
    assert found == want


signals = st.sampled_from([C.SIGHUP, C.SIGTERM, C.SIGUSR1, C.SIGCHLD, 40, 64])


@given(batch=batches(st.builds(death_story, signals, st.booleans()), 3))
def test_the_death_of_the_parent_is_told(agent, features, batch):
    """PR_SET_PDEATHSIG: when the parent ends, to who asked only: PR_SET_PDEATHSIG(2const)."""
    hold(agent, batch, features)


SETTINGS = {
    # attribute: (set, get, good values, bad values, inherited)
    "keepcaps": (C.PR_SET_KEEPCAPS, C.PR_GET_KEEPCAPS, (0, 1), (2, 99), True),
    "dumpable": (C.PR_SET_DUMPABLE, C.PR_GET_DUMPABLE, (0, 1), (2, 3, -1), True),
    "timerslack": (C.PR_SET_TIMERSLACK, C.PR_GET_TIMERSLACK, (1, 1000, 50000, 1 << 30), (), True),
    "thp": (C.PR_SET_THP_DISABLE, C.PR_GET_THP_DISABLE, (0, 1), (), True),
    "no_new_privs": (C.PR_SET_NO_NEW_PRIVS, C.PR_GET_NO_NEW_PRIVS, (1,), (0, 2), True),
    "timing": (C.PR_SET_TIMING, C.PR_GET_TIMING, (0,), (1,), True),
    "memory_merge": (C.PR_SET_MEMORY_MERGE, C.PR_GET_MEMORY_MERGE, (0, 1), (), True),
}


def setting_story(name: str, steps: list[tuple[bool, int]]) -> Case:
    """What was set is told, what cannot be set is EINVAL and changes nothing."""
    set_, get, good, bad, inherited = SETTINGS[name]
    script = Family()
    if name == "memory_merge":
        script.needs.add("prctl:memory-merge")
    current = None
    for fine, index in steps:
        values = good if fine or not bad else bad
        value = values[index % len(values)]
        result = 0 if value in good else -errno.EINVAL
        script.returns(result, "prctl", set_, value, 0, 0, 0)
        current = value if not result else current
        if current is not None:
            script.returns(current, "prctl", get, 0, 0, 0, 0)
    if current is not None:
        with script.child() as pid:
            script.returns(current if inherited else 0, "prctl", get, 0, 0, 0, 0)
        script.reap(pid)
    return script.case()


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=5)


@given(batch=batches(st.builds(setting_story, st.sampled_from(sorted(SETTINGS)), steps)))
def test_attributes_are_told_as_set(agent, features, batch):
    """Read back, refused without an effect, and inherited: prctl(2) and its pages on each
    attribute."""
    hold(agent, batch, features)


def subreaper_story(values: list[int]) -> Case:
    """Any number but 0 sets the attribute, which a child does not have."""
    script = Family()
    room = script.number(-1, 4)
    for value in values:
        script.returns(0, "prctl", C.PR_SET_CHILD_SUBREAPER, value)
        ref = script.returns(0, "prctl", C.PR_GET_CHILD_SUBREAPER, room, out=[room])
        script.holds(ref, room, int(bool(value)).to_bytes(4, "little"))
    with script.child() as pid:
        ref = script.returns(0, "prctl", C.PR_GET_CHILD_SUBREAPER, room, out=[room])
        script.holds(ref, room, bytes(4))
    script.reap(pid)
    return script.case()


@given(batch=batches(st.builds(subreaper_story, st.lists(st.integers(0, 1 << 20), max_size=4))))
def test_a_subreaper_says_so_itself(agent, features, batch):
    """Set by any number, told as 0 or 1, not inherited by fork: PR_SET_CHILD_SUBREAPER(2const)."""
    hold(agent, batch, features)


def exec_story(value: int) -> Case:
    """PR_SET_MDWE: no mapping is or becomes executable that was writable."""
    script = Family()
    script.needs.add("prctl:mdwe")
    flags = C.MAP_PRIVATE | C.MAP_ANONYMOUS
    before = script.works("mmap", 0, 4096, C.PROT_READ | C.PROT_EXEC, flags, -1, 0, opaque=True)
    script.returns(0, "prctl", C.PR_SET_MDWE, C.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    script.returns(C.PR_MDWE_REFUSE_EXEC_GAIN, "prctl", C.PR_GET_MDWE, 0, 0, 0, 0)
    script.returns(-errno.EPERM, "prctl", C.PR_SET_MDWE, 0, 0, 0, 0)
    writable = bool(value & C.PROT_WRITE)
    both = writable and value & C.PROT_EXEC
    if both:
        script.returns(-errno.EACCES, "mmap", 0, 4096, value, flags, -1, 0)
    else:
        ref = script.works("mmap", 0, 4096, value, flags, -1, 0, opaque=True)
        gains = not value & C.PROT_EXEC
        script.returns(
            -errno.EACCES if gains else 0, "mprotect", ref, 4096, C.PROT_READ | C.PROT_EXEC
        )
    script.returns(0, "mprotect", before, 4096, C.PROT_READ | C.PROT_EXEC)
    return script.case()


@given(batch=batches(st.builds(exec_story, st.integers(0, 7))))
def test_memory_gains_no_execution(agent, features, batch):
    """EACCES for what would gain it, and there is no way back: PR_SET_MDWE(2const)."""
    hold(agent, batch, features)
