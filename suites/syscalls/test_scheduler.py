"""Scheduling: CPUs, policies, nice values and I/O priorities, and who inherits them."""

from __future__ import annotations

import errno

from families import Family
from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

SIZE = 8
WORDS = 128
"""Bytes of a mask that is large enough for every machine here."""


def affinity_story(mask: int, executes: bool) -> Case:
    """What is asked for, among the CPUs there are; nothing of it is EINVAL."""
    script = Family()
    room = script.buffer(WORDS)
    all_ = script.works("sched_getaffinity", 0, WORDS, room, out=[room], opaque=True)
    wanted = script.number(mask)
    done = script.call("sched_setaffinity", 0, 8, wanted)
    after = script.buffer(WORDS)
    seen = script.works("sched_getaffinity", 0, WORDS, after, out=[after], opaque=True)
    with script.child() as pid:
        child = script.buffer(WORDS)
        inherited = script.works("sched_getaffinity", 0, WORDS, child, out=[child], opaque=True)
        if executes:
            with script.execution():
                image = script.buffer(WORDS)
                stays = script.works("sched_getaffinity", 0, WORDS, image, out=[image], opaque=True)
    script.reap(pid)

    def check(trace) -> None:
        there = trace.number(all_, room)
        good = there & mask
        assert trace[done] == (0 if good else -errno.EINVAL)
        want = good or there
        assert trace.number(seen, after) == want
        assert trace.number(inherited, child) == want
        if executes:
            assert trace.number(stays, image) == want

    script.ensure(check)
    script.returns(-errno.EINVAL, "sched_getaffinity", 0, 3, room)
    script.returns(-errno.ESRCH, "sched_getaffinity", 1 << 22, WORDS, room)
    return script.case()


masks = st.one_of(st.sampled_from([0, 1, 3, (1 << 64) - 1]), st.integers(0, (1 << 64) - 1))


@given(batch=batches(st.builds(affinity_story, masks, st.booleans()), 4))
def test_affinity_is_kept_and_inherited(agent, features, batch):
    """The intersection with the CPUs there are, over fork and execve: sched_setaffinity(2)."""
    hold(agent, batch, features)


ORDINARY = (C.SCHED_NORMAL, C.SCHED_BATCH, C.SCHED_IDLE)
REAL = (C.SCHED_FIFO, C.SCHED_RR)


class Policies(Family):
    """A model of one process's policy, priority and nice value, root's."""

    powerful = True

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.priority, self.nice, self.reset = C.SCHED_NORMAL, 0, 0, False

    def do_policy(self, policy: int, priority: int, reset: bool) -> None:
        flag = C.SCHED_RESET_ON_FORK if reset else 0
        value = self.number(priority, 4)
        good = (1 <= priority <= 99) if policy in REAL else priority == 0
        known = policy in (*ORDINARY, *REAL)
        result = 0 if good and known else -errno.EINVAL
        self.returns(result, "sched_setscheduler", 0, policy | flag, value)
        if not result:
            self.policy, self.priority, self.reset = policy, priority, reset

    def do_attribute(self, policy: int, priority: int, nice: int) -> None:
        good = (1 <= priority <= 99) if policy in REAL else priority == 0
        attributes = self.struct(
            "struct sched_attr",
            size=48,
            sched_policy=policy,
            sched_priority=priority,
            sched_nice=nice,
        )
        result = 0 if good and policy in (*ORDINARY, *REAL) else -errno.EINVAL
        self.returns(result, "sched_setattr", 0, attributes, 0)
        if not result:
            self.policy, self.priority, self.reset = policy, priority, False
            if policy not in REAL:
                self.nice = max(-20, min(nice, 19))

    def do_nice(self, nice: int) -> None:
        self.returns(0, "setpriority", C.PRIO_PROCESS, 0, nice)
        self.nice = max(-20, min(nice, 19))

    def look(self) -> None:
        """All ways to ask tell the same."""
        flag = C.SCHED_RESET_ON_FORK if self.reset else 0
        self.returns(self.policy | flag, "sched_getscheduler", 0)
        self.returns(20 - self.nice, "getpriority", C.PRIO_PROCESS, 0)
        room = self.buffer(4)
        ref = self.returns(0, "sched_getparam", 0, room, out=[room])
        self.holds(ref, room, self.priority.to_bytes(4, "little"))
        attributes = self.room("struct sched_attr")
        seen = self.returns(0, "sched_getattr", 0, attributes, attributes.size, 0, out=[attributes])
        policy, priority, nice, reset = self.policy, self.priority, self.nice, self.reset

        def check(trace) -> None:
            found = trace.struct(seen, attributes)
            assert (found.sched_policy, found.sched_priority) == (policy, priority)
            assert bool(found.sched_flags & C.SCHED_FLAG_RESET_ON_FORK) == reset
            if policy not in REAL:
                assert found.sched_nice == nice

        self.ensure(check)

    def inherit(self) -> None:
        """A child has the same, or starts anew where that was asked for."""
        with self.child() as pid:
            mine = (self.policy, self.priority, self.nice, self.reset)
            if self.reset:
                self.nice = 0 if self.policy in REAL else max(self.nice, 0)
                self.policy = C.SCHED_NORMAL if self.policy in REAL else self.policy
                self.priority, self.reset = 0, False
            self.look()
            self.policy, self.priority, self.nice, self.reset = mine
        self.reap(pid)


def policy_story(operations: list[tuple]) -> Case:
    script = Policies()
    for name, *arguments in operations:
        getattr(script, f"do_{name}")(*arguments)
        script.look()
    script.inherit()
    script.look()
    return script.case()


policies = st.sampled_from([*ORDINARY, *REAL, 77])
priorities = st.one_of(st.just(0), st.integers(1, 99), st.sampled_from([100, -1]))
changing = st.one_of(
    st.tuples(st.just("policy"), policies, priorities, st.booleans()),
    st.tuples(st.just("policy"), st.sampled_from(ORDINARY), st.just(0), st.booleans()),
    st.tuples(st.just("attribute"), policies, st.integers(0, 99), st.integers(-20, 19)),
    st.tuples(st.just("nice"), st.integers(-30, 30)),
)


@given(batch=batches(st.builds(policy_story, long_lists(changing, 4)), SIZE))
def test_policies_are_kept_and_inherited(agent, features, batch):
    """Policy, priority and nice value by every call that sets or tells them, and in a child with
    SCHED_RESET_ON_FORK and without: sched_setscheduler(2), sched_setattr(2), setpriority(2),
    sched(7)."""
    hold(agent, batch, features)


def bounds_story(policy: int) -> Case:
    """The bounds of priorities are those that are accepted."""
    script = Family()
    low, high = (1, 99) if policy in REAL else (0, 0)
    known = policy in (*ORDINARY, *REAL, 6)
    script.returns(low if known else -errno.EINVAL, "sched_get_priority_min", policy)
    script.returns(high if known else -errno.EINVAL, "sched_get_priority_max", policy)
    if policy in REAL:
        script.needs.add("root")
        for value, result in (
            (low, 0),
            (high, 0),
            (low - 1, -errno.EINVAL),
            (high + 1, -errno.EINVAL),
        ):
            script.returns(result, "sched_setscheduler", 0, policy, script.number(value, 4))
    span = script.room("struct __kernel_timespec")
    script.returns(0, "sched_rr_get_interval", 0, span)
    return script.case()


@given(batch=batches(st.builds(bounds_story, st.one_of(policies, st.integers(8, 100)))))
def test_priorities_have_the_bounds_told(agent, features, batch):
    """1 to 99 for real-time policies, 0 for others, EINVAL for unknown ones:
    sched_get_priority_max(2), sched(7)."""
    hold(agent, batch, features)


IOPRIO_PROCESS = 1  # ioprio_set(2); linux/ioprio.h


def io_story(steps: list[tuple[int, int]], able: bool) -> Case:
    """Class and level come back, and a child has them."""
    script = Family()
    script.needs.add("root")
    if not able:
        script.returns(0, "setresuid", 1000, 1000, 1000)
    now = 0
    for kind, level in steps:
        value = kind << 13 | level
        result = 0
        if kind > 3 or (kind == 0 and level):
            result = -errno.EINVAL
        elif kind == 1 and not able:
            result = -errno.EPERM
        script.returns(result, "ioprio_set", IOPRIO_PROCESS, 0, value)
        if not result:
            now = value
        if now:
            script.returns(now, "ioprio_get", IOPRIO_PROCESS, 0)
    if now:
        with script.child() as pid:
            script.returns(now, "ioprio_get", IOPRIO_PROCESS, 0)
        script.reap(pid)
    return script.case()


levels = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 7)), max_size=4)


@given(batch=batches(st.builds(io_story, levels, st.booleans())))
def test_io_priorities_are_kept(agent, features, batch):
    """Class and level, the real-time class for CAP_SYS_NICE or CAP_SYS_ADMIN: ioprio_set(2)."""
    hold(agent, batch, features)


def group_story(nices: list[int], lowered: int) -> Case:
    """setpriority of a group reaches all of it; getpriority tells the most favoured."""
    script = Family()
    script.needs.add("root")
    pids = []
    for nice in nices:
        role, pid = script.spawn()
        with script.by(role):
            ready = script.returns(0, "setpriority", C.PRIO_PROCESS, 0, nice)
        script.wait_for(ready)
        pids.append((role, pid))
    script.returns(20 - min([0, *nices]), "getpriority", C.PRIO_PGRP, 0)
    done = script.returns(0, "setpriority", C.PRIO_PGRP, 0, lowered)
    for role, pid in pids:
        with script.by(role):
            script.wait_for(done)
            script.returns(20 - lowered, "getpriority", C.PRIO_PROCESS, 0)
        script.reap(pid)
    script.returns(20 - lowered, "getpriority", C.PRIO_PGRP, 0)
    return script.case()


@given(
    batch=batches(
        st.builds(group_story, st.lists(st.integers(-20, 19), max_size=3), st.integers(-20, 19)), 3
    )
)
def test_a_group_has_its_nice_values_together(agent, features, batch):
    """PRIO_PGRP sets all and tells the lowest: setpriority(2)."""
    hold(agent, batch, features)
