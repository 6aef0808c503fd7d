"""Bytes that the kernel moves itself: sendfile, splice, vmsplice and copy_file_range."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern, sizes
from hostabi.syscalls.table import C

PAGE = 4096
LIMIT = 3 * PAGE
SPLICE_F_NONBLOCK = 2  # splice(2); the kernel keeps it out of its UAPI headers

size = sizes(LIMIT)
place = st.one_of(st.none(), st.integers(0, LIMIT), st.integers(0, 40))
copy = st.tuples(st.just("copy"), place, place, size)
sent = st.one_of(
    st.tuples(st.just("send"), place, size),
    st.tuples(st.just("send"), place, size),
    st.tuples(st.just("source"), st.integers(0, LIMIT)),
    st.tuples(st.just("target"), st.integers(0, LIMIT)),
)
through = st.tuples(st.just("through"), place, place, size, st.integers(1, 3 * PAGE))


class Copies(Script):
    """A file that bytes come from, another they go to, each with an offset of its own."""

    def __init__(self, length: int, flags: int = 0) -> None:
        super().__init__(arena=1 << 19)
        self.source = pattern(1, length)
        self.target = bytearray()
        self.at = self.to = 0
        self.appends = bool(flags)
        self.reader = self.opened("f", 0)
        self.writer = self.opened("g", flags)
        self.returns(length, "pwrite64", self.reader, self.content(self.source), length, 0)

    def opened(self, name: str, flags: int) -> Ref:
        flags |= C.O_RDWR | C.O_CREAT
        return self.works("openat", C.AT_FDCWD, self.string(name), flags, 0o600)

    def put(self, at: int, data: bytes) -> None:
        if data:
            self.target += bytes(max(at - len(self.target), 0))
            self.target[at : at + len(data)] = data

    def taken(self, at: int | None, size: int) -> bytes:
        """The bytes of the source, and the file offset moved if it is what they begin at."""
        begin = self.at if at is None else at
        data = self.source[begin : begin + size]
        if at is None:
            self.at += len(data)
        return data

    def given(self, to: int | None, data: bytes) -> None:
        self.put(self.to if to is None else to, data)
        if to is None:
            self.to += len(data)

    def offsets(self) -> None:
        self.returns(self.at, "lseek", self.reader, 0, C.SEEK_CUR)
        self.returns(self.to, "lseek", self.writer, 0, C.SEEK_CUR)

    def do_source(self, to: int) -> None:
        self.at = to
        self.returns(to, "lseek", self.reader, to, C.SEEK_SET)

    def do_target(self, to: int) -> None:
        self.to = to
        self.returns(to, "lseek", self.writer, to, C.SEEK_SET)

    def do_send(self, at: int | None, size: int) -> None:
        pointer = 0 if at is None else self.content(at.to_bytes(8, "little"))
        if self.appends:
            self.returns(-errno.EINVAL, "sendfile", self.writer, self.reader, pointer, size)
            return
        data = self.taken(at, size)
        out = [] if at is None else [pointer]
        ref = self.returns(len(data), "sendfile", self.writer, self.reader, pointer, size, out=out)
        if at is not None:
            self.holds(ref, pointer, (at + len(data)).to_bytes(8, "little"))
        self.given(None, data)
        self.offsets()

    def do_copy(self, at: int | None, to: int | None, size: int) -> None:
        pointers = [0 if x is None else self.content(x.to_bytes(8, "little")) for x in (at, to)]
        data = self.taken(at, size)
        ref = self.returns(
            len(data), "copy_file_range", self.reader, pointers[0], self.writer, pointers[1],
            size, 0, out=[pointer for pointer in pointers if pointer],
        )  # fmt: skip
        self.given(to, data)
        for pointer, begin in zip(pointers, (at, to), strict=True):
            if pointer:
                self.holds(ref, pointer, (begin + len(data)).to_bytes(8, "little"))
        self.offsets()

    def do_through(self, at: int | None, to: int | None, size: int, step: int) -> None:
        """From the file into a pipe, and from there into the other in steps."""
        ends = self.buffer(8)
        self.returns(0, "pipe2", ends, 0)
        pointers = [0 if x is None else self.content(x.to_bytes(8, "little")) for x in (at, to)]
        data = self.taken(at, size)
        self.returns(len(data), "splice", self.reader, pointers[0], ends.word(1), 0, size, 0)
        for begin in range(0, len(data), step):
            part = min(step, len(data) - begin)
            self.returns(part, "splice", ends.word(0), 0, self.writer, pointers[1], step, 0)
        self.given(to, data)
        self.offsets()
        for end in (0, 1):
            self.returns(0, "close", ends.word(end))

    def whole(self) -> None:
        into = self.buffer(len(self.target) + 1)
        ref = self.returns(len(self.target), "pread64", self.writer, into, into.size, 0, out=[into])
        self.holds(ref, into, bytes(self.target) + b"\0")


def story(length: int, flags: int, operations: list[tuple]) -> Case:
    script = Copies(length, flags)
    script.play(operations)
    script.whole()
    return script.case()


lengths = st.sampled_from([0, 100, PAGE, LIMIT - 1])
sends = st.builds(story, lengths, st.sampled_from([0, 0, 0, C.O_APPEND]), long_lists(sent, 5))
ranges = st.builds(story, lengths, st.just(0), long_lists(copy, 5))
pipes = st.builds(story, lengths, st.just(0), long_lists(through, 5))


@given(batch=batches(sends))
def test_sendfile_copies(agent, features, batch):
    """Bytes arrive at the target's offset; a given source offset moves instead of the file's.

    sendfile(2): with an offset the file offset of the source is not changed; EINVAL for a
    target opened to append.
    """
    hold(agent, batch, features)


@given(batch=batches(ranges))
def test_copy_file_range_uses_given_offsets(agent, features, batch):
    """Each end moves its own offset: the one given, or the file's.

    copy_file_range(2) on off_in and off_out.
    """
    hold(agent, batch, features)


@given(batch=batches(pipes))
def test_splice_keeps_bytes(agent, features, batch):
    """From a file through a pipe into a file nothing is lost, whatever the steps: splice(2)."""
    hold(agent, batch, features)


@given(batch=batches(st.one_of(sends, ranges, pipes)))
def test_copies_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)


def mapped(parts: list[int], back: list[int]) -> Case:
    """vmsplice puts memory into a pipe; the other way it takes it out again."""
    script = Script(arena=1 << 18)
    ends = script.buffer(8)
    script.returns(0, "pipe2", ends, C.O_NONBLOCK)
    pieces = [pattern(index, part) for index, part in enumerate(parts)]
    rows = [{"iov_base": script.content(piece), "iov_len": len(piece)} for piece in pieces]
    data = b"".join(pieces)
    vector = script.array("struct iovec", rows)
    script.returns(len(data), "vmsplice", ends.word(1), vector, len(rows), 0)
    done = 0
    for size in back:
        left = script.buffer(4)
        ref = script.returns(0, "ioctl", ends.word(0), C.FIONREAD, left, out=[left])
        script.holds(ref, left, (len(data) - done).to_bytes(4, "little"))
        got = data[done : done + size]
        done += len(got)
        room = script.buffer(size)
        row = script.array("struct iovec", [{"iov_base": room, "iov_len": size}])
        ref = script.returns(
            len(got) or -errno.EAGAIN, "vmsplice", ends.word(0), row, 1, SPLICE_F_NONBLOCK,
            out=[room],
        )  # fmt: skip
        script.holds(ref, room, got.ljust(size, b"\0"))
    return script.case()


few = st.lists(st.one_of(st.integers(1, 40), st.just(PAGE)), min_size=1, max_size=4)


@given(batch=batches(st.builds(mapped, few, few)))
def test_vmsplice_keeps_bytes(agent, features, batch):
    """What goes into a pipe from memory comes out of it into memory: vmsplice(2)."""
    hold(agent, batch, features)
