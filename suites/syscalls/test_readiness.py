"""What poll, select and epoll say is ready, and in which order."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Number, Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

IN, OUT = C.EPOLLIN, C.EPOLLOUT
COUNTERS = 3
FULL = (1 << 64) - 2
"""The largest count of an eventfd(2), at which it is not writable."""

which = st.integers(0, COUNTERS - 1)
interest = st.builds(
    lambda events, how: events | how,
    st.sampled_from([IN, OUT, IN | OUT, 0]),
    st.sampled_from([0, C.EPOLLET, C.EPOLLET, C.EPOLLONESHOT]),
)
operation = st.one_of(
    st.tuples(st.just("add"), which, interest),
    st.tuples(st.just("add"), which, interest),
    st.tuples(st.just("modify"), which, interest),
    st.tuples(st.just("delete"), which),
    st.tuples(st.just("write"), which, st.sampled_from([0, 1, FULL])),
    st.tuples(st.just("write"), which, st.just(1)),
    st.tuples(st.just("read"), which),
    st.tuples(st.just("wait"), st.integers(1, COUNTERS + 1)),
    st.tuples(st.just("wait"), st.just(COUNTERS)),
)


@dataclass
class Watched:
    """A counter, what is wanted of it, and whether the set may still report it."""

    count: int = 0
    events: int | None = None
    disarmed: bool = False

    @property
    def ready(self) -> int:
        if self.events is None or self.disarmed:
            return 0
        able = (IN if self.count else 0) | (OUT if self.count < FULL else 0)
        return able & self.events


class Edges(Script):
    """Counters in one epoll set; what is ready waits in a queue, epoll(7)."""

    def __init__(self) -> None:
        super().__init__()
        self.fds = [self.works("eventfd2", 0, C.EFD_NONBLOCK) for _ in range(COUNTERS)]
        self.set = self.works("epoll_create1", 0)
        self.watched = [Watched() for _ in range(COUNTERS)]
        self.queue: list[int] = []

    def control(self, result: int, how: int, index: int, events: int) -> None:
        event = self.struct("struct epoll_event", events=events, data=index)
        self.returns(result, "epoll_ctl", self.set, how, self.fds[index], event)

    def wake(self, index: int) -> None:
        if index not in self.queue:
            self.queue.append(index)

    def do_add(self, index: int, events: int) -> None:
        there = self.watched[index].events is not None
        self.control(-errno.EEXIST if there else 0, C.EPOLL_CTL_ADD, index, events)
        if not there:
            self.interested(index, events)

    def do_modify(self, index: int, events: int) -> None:
        there = self.watched[index].events is not None
        self.control(0 if there else -errno.ENOENT, C.EPOLL_CTL_MOD, index, events)
        if there:
            self.interested(index, events)

    def interested(self, index: int, events: int) -> None:
        self.watched[index].events, self.watched[index].disarmed = events, False
        if self.watched[index].ready:
            self.wake(index)

    def do_delete(self, index: int) -> None:
        there = self.watched[index].events is not None
        self.control(0 if there else -errno.ENOENT, C.EPOLL_CTL_DEL, index, 0)
        self.watched[index].events = None
        if index in self.queue:
            self.queue.remove(index)

    def do_write(self, index: int, amount: int) -> None:
        watched = self.watched[index]
        data = self.content(amount.to_bytes(8, "little"))
        if watched.count + amount > FULL:
            self.returns(-errno.EAGAIN, "write", self.fds[index], data, 8)
            return
        self.returns(8, "write", self.fds[index], data, 8)
        watched.count += amount
        self.happened(index, IN)

    def do_read(self, index: int) -> None:
        watched = self.watched[index]
        into = self.buffer(8)
        self.returns(8 if watched.count else -errno.EAGAIN, "read", self.fds[index], into, 8)
        if watched.count:
            watched.count = 0
            self.happened(index, OUT)

    def happened(self, index: int, what: int) -> None:
        watched = self.watched[index]
        if watched.events is not None and not watched.disarmed and watched.events & what:
            self.wake(index)

    def do_wait(self, most: int) -> None:
        """What is reported goes to the end of the queue; edge-triggered it leaves it."""
        found, again = [], []
        while self.queue and len(found) < most:
            index = self.queue.pop(0)
            watched = self.watched[index]
            if not watched.ready:
                continue
            found.append((watched.ready, index))
            if watched.events & C.EPOLLONESHOT:
                watched.disarmed = True
            elif not watched.events & C.EPOLLET:
                again.append(index)
        self.queue += again
        into = self.buffer(12 * (COUNTERS + 1))
        ref = self.returns(len(found), "epoll_wait", self.set, into, most, 0, out=[into])
        raw = b"".join(e.to_bytes(4, "little") + i.to_bytes(8, "little") for e, i in found)
        self.holds(ref, into, raw.ljust(into.size, b"\0"))


def edges(operations: list[tuple]) -> Case:
    script = Edges()
    script.play(operations)
    script.do_wait(COUNTERS)
    script.do_wait(COUNTERS)
    return script.case()


@given(batch=batches(long_lists(operation, 20).map(edges)))
def test_epoll_reports_edges_once_and_levels_in_turn(agent, features, batch):
    """Edge-triggered once for each change, one-shot once, level-triggered round robin.

    epoll(7), epoll_ctl(2); epoll_wait(2), notes, on more that is ready than is asked for.
    """
    hold(agent, batch, features)


SETS = 4
link = st.tuples(st.integers(0, SETS - 1), st.integers(0, SETS - 1))


def nested(links: list[tuple[int, int]], leaf: int, count: int) -> Case:
    """Sets within sets: no cycles, and what is ready below is ready above."""
    script = Script()
    sets = [script.works("epoll_create1", 0) for _ in range(SETS)]
    below: dict[int, set[int]] = {index: set() for index in range(SETS)}

    def reaches(start: int, goal: int) -> bool:
        return start == goal or any(reaches(each, goal) for each in below[start])

    event = script.struct("struct epoll_event", events=IN, data=1)
    for outer, inner in links:
        if outer == inner:
            result = -errno.EINVAL
        elif inner in below[outer]:
            result = -errno.EEXIST
        elif reaches(inner, outer):
            result = -errno.ELOOP
        else:
            result = 0
            below[outer].add(inner)
        script.returns(result, "epoll_ctl", sets[outer], C.EPOLL_CTL_ADD, sets[inner], event)
    counter = script.works("eventfd2", count, C.EFD_NONBLOCK)
    script.returns(0, "epoll_ctl", sets[leaf], C.EPOLL_CTL_ADD, counter, event)
    for index, fd in enumerate(sets):
        ready = int(bool(count) and reaches(index, leaf))
        polled = script.struct("struct pollfd", fd=fd, events=C.POLLIN)
        ref = script.returns(ready, "poll", polled, 1, 0, out=[polled])
        script.fields(ref, polled, revents=ready * C.POLLIN)
    return script.case()


@given(batch=batches(st.builds(nested, st.lists(link, max_size=8), which, st.integers(0, 1))))
def test_nested_sets_pass_on_readiness(agent, features, batch):
    """A cycle is ELOOP, a set in itself EINVAL, and a set is readable when something in it is.

    epoll_ctl(2), epoll(7), questions and answers.
    """
    hold(agent, batch, features)


def exclusive(events: int, how: str) -> Case:
    """EPOLLEXCLUSIVE is for adding, for few events, and not for sets: epoll_ctl(2)."""
    script = Script()
    outer = script.works("epoll_create1", 0)
    counter = script.works("eventfd2", 1, C.EFD_NONBLOCK)
    allowed = IN | OUT | C.EPOLLWAKEUP | C.EPOLLET | C.EPOLLERR | C.EPOLLHUP
    target = script.works("epoll_create1", 0) if how == "set" else counter
    wanted = script.struct("struct epoll_event", events=events | C.EPOLLEXCLUSIVE, data=1)
    plain = script.struct("struct epoll_event", events=events, data=1)
    refused = events & ~allowed or how == "set"
    result = -errno.EINVAL if refused else 0
    script.returns(result, "epoll_ctl", outer, C.EPOLL_CTL_ADD, target, wanted)
    if result == 0:
        for event in (wanted, plain):
            script.returns(-errno.EINVAL, "epoll_ctl", outer, C.EPOLL_CTL_MOD, target, event)
        found = script.buffer(12)
        ref = script.returns(
            int(events & (IN | OUT) != 0), "epoll_wait", outer, found, 1, 0, out=[found]
        )
        seen = events & (IN | OUT)
        raw = seen.to_bytes(4, "little") + (1).to_bytes(8, "little") if seen else bytes(12)
        script.holds(ref, found, raw)
    return script.case()


events = st.lists(
    st.sampled_from([IN, OUT, C.EPOLLET, C.EPOLLERR, C.EPOLLHUP, C.EPOLLRDHUP, C.EPOLLPRI]),
    max_size=3,
).map(lambda found: sum(set(found)))


@given(batch=batches(st.builds(exclusive, events, st.sampled_from(["counter", "counter", "set"]))))
def test_exclusive_interest_is_bounded(agent, features, batch):
    """It cannot be modified, nor have events beyond input and output: epoll_ctl(2)."""
    hold(agent, batch, features)


SMALL = 2 * 4096
"""Bytes of a pipe of two pages, of which one byte takes up the first."""
state = st.lists(
    st.sampled_from(["empty", "data", "full", "no writer", "data, no writer", "no reader"]),
    min_size=1,
    max_size=4,
)


@dataclass
class End:
    """One end of a pipe, its number, and what poll(2) must say of it; 0 is a closed number."""

    number: int
    fd: Number
    revents: int = field(default=0)


def pipe(script: Script, index: int, state: str) -> list[End]:
    ends = script.buffer(8)
    script.returns(0, "pipe2", ends, C.O_NONBLOCK)
    reader, writer = End(3 + 2 * index, ends.word(0)), End(4 + 2 * index, ends.word(1), C.POLLOUT)
    script.returns(SMALL, "fcntl", writer.fd, C.F_SETPIPE_SZ, SMALL)
    if state != "empty" and not state.startswith("no"):
        size = SMALL if state == "full" else 1
        script.returns(size, "write", writer.fd, script.buffer(size), size)
        reader.revents = C.POLLIN
        writer.revents = 0 if state == "full" else C.POLLOUT
    return [reader, writer]


def close(script: Script, reader: End, writer: End, state: str) -> None:
    """Take an end away, once all pipes have their numbers."""
    if "no writer" in state:
        script.returns(0, "close", writer.fd)
        reader.revents |= C.POLLHUP
        writer.revents = C.POLLNVAL
    elif state == "no reader":
        script.returns(0, "close", reader.fd)
        reader.revents = C.POLLNVAL
        writer.revents = C.POLLOUT | C.POLLERR


def agreed(states: list[str], wanted: int) -> Case:
    """poll and select over the same descriptors, and a set of epoll with those that are open."""
    script = Script(arena=1 << 17)
    ends = [end for index, state in enumerate(states) for end in pipe(script, index, state)]
    for index, state in enumerate(states):
        close(script, *ends[2 * index : 2 * index + 2], state)
    always = C.POLLERR | C.POLLHUP | C.POLLNVAL
    meant = [end.revents & (wanted | always) for end in ends]
    rows = [{"fd": end.number, "events": wanted} for end in ends]
    polled = script.array("struct pollfd", [*rows, {"fd": -1, "events": wanted}])
    ready = sum(1 for each in meant if each)
    ref = script.returns(ready, "poll", polled, len(ends) + 1, 0, out=[polled])

    def check(trace) -> None:
        raw = trace.bytes(ref, polled)
        found = [int.from_bytes(raw[at + 6 : at + 8], "little") for at in range(0, len(raw), 8)]
        assert found == [*meant, 0]

    script.ensure(check)
    selected(script, ends)
    live = [end for end in ends if end.revents != C.POLLNVAL]
    reported(script, live, wanted)
    return script.case()


def selected(script: Script, ends: list[End]) -> None:
    """select(2), notes: which events of poll make a descriptor readable and writable."""
    live = [end for end in ends if end.revents != C.POLLNVAL]
    every = sum(1 << end.number for end in live)
    reads, writes = (script.content(every.to_bytes(16, "little")) for _ in range(2))
    now = script.struct("struct __kernel_timespec")
    readable = sum(1 << e.number for e in live if e.revents & (C.POLLIN | C.POLLHUP | C.POLLERR))
    writable = sum(1 << e.number for e in live if e.revents & (C.POLLOUT | C.POLLERR))
    count = readable.bit_count() + writable.bit_count()
    ref = script.returns(count, "pselect6", 64, reads, writes, 0, now, 0, out=[reads, writes])
    script.holds(ref, reads, readable.to_bytes(16, "little"))
    script.holds(ref, writes, writable.to_bytes(16, "little"))
    for end in ends:
        if end not in live:
            one = script.content((1 << end.number).to_bytes(16, "little"))
            script.returns(-errno.EBADF, "pselect6", 64, one, 0, 0, now, 0)


def reported(script: Script, live: list[End], wanted: int) -> None:
    instance: Ref = script.works("epoll_create1", 0)
    meant = {end.number: end.revents & (wanted | C.POLLERR | C.POLLHUP) for end in live}
    for end in live:
        event = script.struct("struct epoll_event", events=wanted, data=end.number)
        script.returns(0, "epoll_ctl", instance, C.EPOLL_CTL_ADD, end.fd, event)
    found = script.buffer(12 * 8)
    ready = {number: events for number, events in meant.items() if events}
    ref = script.returns(len(ready), "epoll_wait", instance, found, 8, 0, out=[found])

    def check(trace) -> None:
        raw = trace.bytes(ref, found)
        rows = [raw[12 * index : 12 * index + 12] for index in range(len(ready))]
        number = int.from_bytes
        seen = {number(row[4:], "little"): number(row[:4], "little") for row in rows}
        assert seen == ready

    script.ensure(check)


wants = st.sampled_from([C.POLLIN, C.POLLOUT, C.POLLIN | C.POLLOUT, 0])


@given(batch=batches(st.builds(agreed, state, wants), 8))
def test_poll_select_and_epoll_agree(agent, features, batch):
    """Pipes that are empty, full or without another end look the same to all three.

    poll(2), select(2) with its notes on poll's events, epoll_ctl(2), pipe(7).
    """
    hold(agent, batch, features)


@given(batch=batches(long_lists(operation, 20).map(edges)))
def test_readiness_agrees(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
