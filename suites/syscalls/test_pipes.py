"""Pipes: order, atomicity, capacity, packets, and both ends' end."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import PAGE, pattern, sizes
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

PIPE_BUF = C.PIPE_BUF
SPLICE_F_NONBLOCK = 2  # splice(2); the kernel keeps it out of its UAPI headers

CAPACITIES = (PAGE, 4 * PAGE)
"""Small, so that full pipes are common."""

size = st.one_of(sizes(2 * PAGE + 1), st.just(3 * PAGE))
which = st.integers(0, 1)

operation = st.one_of(
    st.tuples(st.just("write"), which, size),
    st.tuples(st.just("write"), which, size),
    st.tuples(st.just("read"), which, size),
    st.tuples(st.just("tee"), which, size),
    st.tuples(st.just("splice"), which, size),
    st.tuples(st.just("count"), which),
    st.tuples(st.just("poll"), which),
    st.tuples(st.just("close_writer"), which),
    st.tuples(st.just("close_reader"), which),
    st.tuples(st.just("resize"), which, st.sampled_from([0, 1, PAGE, 2 * PAGE, 4 * PAGE + 1])),
)


class Pipes(Script):
    """Two pipes without blocking. What is in them is followed from what the kernel accepted."""

    def __init__(self, packets: bool) -> None:
        super().__init__(arena=1 << 18)
        self.packets = packets
        self.state: list[tuple] = []
        self.pipes: list[tuple] = []
        ignore = self.struct("struct sigaction", sa_handler=C.SIG_IGN)
        self.returns(0, "rt_sigaction", C.SIGPIPE, ignore, 0, 8)
        flags = C.O_NONBLOCK | C.O_CLOEXEC | (C.O_DIRECT if packets else 0)
        for capacity in CAPACITIES:
            ends = self.buffer(8)
            self.returns(0, "pipe2", ends, flags, out=[ends])
            reader, writer = ends.word(0), ends.word(1)
            self.returns(capacity, "fcntl", writer, C.F_SETPIPE_SZ, capacity)
            self.pipes.append((reader, writer))

    def step(self, what: tuple) -> None:
        self.state.append(what)

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def do_write(self, pipe: int, size: int) -> None:
        data = pattern(len(self), size)
        ref = self.call("write", self.pipes[pipe][1], self.content(data), size)
        self.step(("write", ref, pipe, data))

    def do_read(self, pipe: int, size: int) -> None:
        into = self.buffer(size)
        ref = self.call("read", self.pipes[pipe][0], into, size, out=[into])
        self.step(("read", ref, pipe, into))

    def do_tee(self, pipe: int, size: int) -> None:
        source, target = self.pipes[pipe][0], self.pipes[1 - pipe][1]
        ref = self.call("tee", source, target, size, SPLICE_F_NONBLOCK)
        self.step(("tee", ref, pipe, size))

    def do_splice(self, pipe: int, size: int) -> None:
        source, target = self.pipes[pipe][0], self.pipes[1 - pipe][1]
        ref = self.call("splice", source, 0, target, 0, size, SPLICE_F_NONBLOCK)
        self.step(("splice", ref, pipe, size))

    def do_count(self, pipe: int) -> None:
        count = self.buffer(4)
        ref = self.call("ioctl", self.pipes[pipe][1], C.FIONREAD, count, out=[count])
        self.step(("count", ref, pipe, count))

    def do_poll(self, pipe: int) -> None:
        reader, writer = self.pipes[pipe]
        ends = self.array(
            "struct pollfd",
            [{"fd": reader, "events": C.POLLIN}, {"fd": writer, "events": C.POLLOUT}],
        )
        ref = self.call("poll", ends, 2, 0, out=[ends])
        self.step(("poll", ref, pipe, ends))

    def do_resize(self, pipe: int, size: int) -> None:
        ref = self.call("fcntl", self.pipes[pipe][0], C.F_SETPIPE_SZ, size)
        self.step(("resize", ref, pipe, size))

    def do_close_writer(self, pipe: int) -> None:
        self.step(("close_writer", self.call("close", self.pipes[pipe][1]), pipe))

    def do_close_reader(self, pipe: int) -> None:
        self.step(("close_reader", self.call("close", self.pipes[pipe][0]), pipe))


class Pipe:
    """What a pipe holds, as the trace tells it; each item is what one read may take of."""

    def __init__(self, packets: bool, capacity: int) -> None:
        self.packets = packets
        self.items: deque[bytes] = deque()
        self.reader = self.writer = True
        self.capacity = capacity

    @property
    def content(self) -> bytes:
        return b"".join(self.items)

    def put(self, data: bytes) -> None:
        if not data:
            return
        if self.packets:
            # pipe(2), O_DIRECT: a write beyond PIPE_BUF is split into packets.
            self.items.extend(data[at : at + PIPE_BUF] for at in range(0, len(data), PIPE_BUF))
        else:
            self.items.append(data)

    def take(self, size: int) -> bytes:
        if self.packets and self.items:
            return self.items.popleft()[:size]
        taken, rest = self.content[:size], self.content[size:]
        self.items = deque([rest] if rest else [])
        return taken


@dataclass(frozen=True)
class Seen:
    """One call's answer, and the pipes as they were before it."""

    trace: Trace
    ref: Ref
    result: int
    pipe: Pipe
    other: Pipe


def follow(steps: list[tuple], packets: bool, trace: Trace) -> None:
    """Replays the steps with the kernel's answers; each must be one the model allows."""
    pipes = [Pipe(packets, capacity) for capacity in CAPACITIES]
    for kind, ref, index, *rest in steps:
        FOLLOW[kind](Seen(trace, ref, trace[ref], pipes[index], pipes[1 - index]), *rest)


def saw_write(seen: Seen, data: bytes) -> None:
    pipe, result = seen.pipe, seen.result
    if not pipe.writer:
        assert result == -errno.EBADF
    elif not data:
        # write(2): a count of zero on other than a regular file is not specified to
        # look at errors.
        assert result in (0, -errno.EPIPE)
    elif not pipe.reader:
        assert result == -errno.EPIPE
    elif not pipe.items:
        assert result == min(len(data), pipe.capacity)
    elif len(data) <= PIPE_BUF:
        assert result in (len(data), -errno.EAGAIN), "PIPE_BUF bytes or less are all or nothing"
    else:
        assert result == -errno.EAGAIN or 0 < result <= len(data)
    if result > 0:
        pipe.put(data[:result])
    assert len(pipe.content) <= pipe.capacity


def saw_read(seen: Seen, into) -> None:
    pipe, result = seen.pipe, seen.result
    if not pipe.reader:
        assert result == -errno.EBADF
    elif not into.size:
        assert result == 0
    elif not pipe.items:
        assert result == (-errno.EAGAIN if pipe.writer else 0)
    else:
        data = pipe.take(into.size)
        assert result == len(data)
        assert seen.trace.bytes(seen.ref, into) == data.ljust(into.size, b"\0")


def moved(seen: Seen, size: int) -> bool:
    """Whether a tee or splice moved something; else its errno must be one the model allows."""
    source, target, result = seen.pipe, seen.other, seen.result
    if size == 0:
        assert result in (0, -errno.EBADF)
        return False
    if not source.reader or not target.writer:
        assert result == -errno.EBADF
        return False
    if not target.reader:
        assert result in (-errno.EPIPE, -errno.EAGAIN, 0)
        return False
    if not source.items:
        # A full target is waited for before the source's end is seen.
        assert result == -errno.EAGAIN or (result == 0 and not source.writer)
        return False
    assert result == -errno.EAGAIN or 0 < result <= min(size, len(source.content))
    return result > 0


def saw_tee(seen: Seen, size: int) -> None:
    if moved(seen, size):
        duplicate(seen.pipe, seen.other, seen.result)


def saw_splice(seen: Seen, size: int) -> None:
    if moved(seen, size):
        duplicate(seen.pipe, seen.other, seen.result)
        consume(seen.pipe, seen.result)


def duplicate(source: Pipe, target: Pipe, count: int) -> None:
    for item in source.items:
        target.put(item[:count])
        count -= min(count, len(item))


def consume(source: Pipe, count: int) -> None:
    while count:
        item = source.items.popleft()
        if len(item) > count:
            source.items.appendleft(item[count:])
        count -= min(count, len(item))


def saw_count(seen: Seen, count) -> None:
    if seen.pipe.writer:
        assert seen.result == 0
        assert seen.trace.number(seen.ref, count) == len(seen.pipe.content)
    else:
        assert seen.result == -errno.EBADF


def saw_poll(seen: Seen, ends) -> None:
    pipe, result = seen.pipe, seen.result
    raw = seen.trace.bytes(seen.ref, ends)
    reader, writer = (int.from_bytes(raw[at : at + 2], "little") for at in (6, 14))
    if pipe.reader:
        assert bool(reader & C.POLLIN) == bool(pipe.items)
        assert bool(reader & C.POLLHUP) == (not pipe.writer)
    else:
        assert reader == C.POLLNVAL
    if pipe.writer:
        assert bool(writer & C.POLLERR) == (not pipe.reader)
        if pipe.reader and not pipe.items:
            assert writer & C.POLLOUT
    else:
        assert writer == C.POLLNVAL
    assert result == bool(reader) + bool(writer)


def saw_resize(seen: Seen, size: int) -> None:
    pipe, result = seen.pipe, seen.result
    if not pipe.reader:
        assert result == -errno.EBADF
        return
    if result == -errno.EBUSY:
        assert len(pipe.items) > 1 or len(pipe.content) > size
        return
    if result == -errno.EPERM:
        return  # the user's pages for pipes are used up (pipe(7), pipe-user-pages-soft)
    # fcntl(2): rounded up to a power of two pages.
    assert result >= max(size, PAGE)
    assert result & (result - 1) == 0
    pipe.capacity = result


def saw_close_writer(seen: Seen) -> None:
    assert seen.result == (0 if seen.pipe.writer else -errno.EBADF)
    seen.pipe.writer = False


def saw_close_reader(seen: Seen) -> None:
    assert seen.result == (0 if seen.pipe.reader else -errno.EBADF)
    seen.pipe.reader = False


FOLLOW = {name.removeprefix("saw_"): f for name, f in globals().items() if name[:4] == "saw_"}


def story(packets: bool, operations: list[tuple]) -> Case:
    script = Pipes(packets)
    for step in operations:
        script.add(step)
    for pipe in (0, 1):
        script.do_count(pipe)
        script.do_read(pipe, 5 * PAGE)
    steps = script.state
    script.ensure(lambda trace: follow(steps, packets, trace))
    return script.case()


cases = st.builds(story, st.booleans(), long_lists(operation, 10))


@given(batch=batches(cases))
def test_pipes_keep_order_and_bounds(agent, features, batch):
    """Bytes come out in the order they went in, none lost, none twice.

    Writes up to PIPE_BUF are atomic, an empty pipe takes up to its capacity, packets keep
    their bounds, readiness and FIONREAD tell the truth: pipe(7), pipe(2) on O_DIRECT, tee(2),
    splice(2), fcntl(2) on F_SETPIPE_SZ.
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_pipes_agree(lockstep, batch):
    """Every kernel answers alike, also on how much a full pipe takes."""
    lockstep.agree(batch)
