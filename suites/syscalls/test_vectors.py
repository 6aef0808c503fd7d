"""Vectors of buffers: scattered and gathered bytes, and the flags of pwritev2."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.builder import Slot
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import offsets, pattern, sizes
from hostabi.syscalls.table import C

LIMIT = 2 * 4096
UNKNOWN = 1 << 30
CURRENT = -1
"""As an offset of preadv2 and pwritev2: that of the file."""

parts = st.lists(sizes(LIMIT // 2), max_size=4)
where = offsets(LIMIT)
scatter = st.one_of(
    st.tuples(st.just("write"), parts),
    st.tuples(st.just("write"), parts),
    st.tuples(st.just("read"), parts),
    st.tuples(st.just("pwrite"), parts, where),
    st.tuples(st.just("pread"), parts, where),
    st.tuples(st.just("seek"), st.integers(0, LIMIT)),
)
special = st.one_of(
    st.tuples(st.just("append"), parts, st.one_of(where, st.just(CURRENT))),
    st.tuples(st.just("plain"), parts, st.one_of(where, st.just(CURRENT))),
    st.tuples(st.just("seek"), st.integers(0, LIMIT)),
)
unappended = st.one_of(
    st.tuples(st.just("noappend"), parts, st.one_of(where, st.just(CURRENT))),
    special,
)


class Vectors(Script):
    """One file, read and written in parts through one descriptor."""

    def __init__(self, flags: int = 0) -> None:
        super().__init__(arena=1 << 19)
        self.held = bytearray()
        self.offset = 0
        self.appends = bool(flags & C.O_APPEND)
        opening = C.O_RDWR | C.O_CREAT | flags
        self.fd = self.works("openat", C.AT_FDCWD, self.string("f"), opening, 0o600)

    def sources(self, parts: list[int]) -> tuple[Slot, bytes]:
        pieces = [pattern(len(self) + index, size) for index, size in enumerate(parts)]
        rows = [{"iov_base": self.content(piece), "iov_len": len(piece)} for piece in pieces]
        return self.array("struct iovec", rows), b"".join(pieces)

    def rooms(self, parts: list[int]) -> tuple[Slot, list[Slot]]:
        rooms = [self.buffer(size) for size in parts]
        rows = [{"iov_base": room, "iov_len": room.size} for room in rooms]
        return self.array("struct iovec", rows), rooms

    def put(self, at: int, data: bytes) -> None:
        if data:
            self.held += bytes(max(at - len(self.held), 0))
            self.held[at : at + len(data)] = data

    def do_seek(self, to: int) -> None:
        self.offset = to
        self.returns(to, "lseek", self.fd, to, C.SEEK_SET)

    def do_write(self, parts: list[int]) -> None:
        vector, data = self.sources(parts)
        self.returns(len(data), "writev", self.fd, vector, len(parts))
        self.put(self.offset, data)
        self.offset += len(data)

    def do_pwrite(self, parts: list[int], at: int) -> None:
        vector, data = self.sources(parts)
        result = len(data) if at >= 0 else -errno.EINVAL
        self.returns(result, "pwritev", self.fd, vector, len(parts), at, 0)
        if at >= 0:
            self.put(at, data)

    def do_read(self, parts: list[int]) -> None:
        self.offset += self.scattered(parts, self.offset, "readv")

    def do_pread(self, parts: list[int], at: int) -> None:
        if at < 0:
            vector, _ = self.rooms(parts)
            self.returns(-errno.EINVAL, "preadv", self.fd, vector, len(parts), at, 0)
        else:
            self.scattered(parts, at, "preadv", at, 0)

    def scattered(self, parts: list[int], at: int, name: str, *rest: int) -> int:
        vector, rooms = self.rooms(parts)
        data = bytes(self.held[at : at + sum(parts)])
        ref = self.returns(len(data), name, self.fd, vector, len(parts), *rest, out=rooms)
        done = 0
        for room in rooms:
            self.holds(ref, room, data[done : done + room.size].ljust(room.size, b"\0"))
            done += room.size
        return len(data)

    def do_append(self, parts: list[int], at: int) -> None:
        self.flagged(parts, at, C.RWF_APPEND, appends=True)

    def do_noappend(self, parts: list[int], at: int) -> None:
        self.needs.add("pwritev2:noappend")
        self.flagged(parts, at, C.RWF_NOAPPEND, appends=False)

    def do_plain(self, parts: list[int], at: int) -> None:
        self.flagged(parts, at, 0, appends=self.appends)

    def flagged(self, parts: list[int], at: int, flags: int, *, appends: bool) -> None:
        """pwritev2(2): -1 stands for the file's own offset, which then moves."""
        vector, data = self.sources(parts)
        self.returns(len(data), "pwritev2", self.fd, vector, len(parts), at, 0, flags)
        begin = len(self.held) if appends else (self.offset if at == CURRENT else at)
        self.put(begin, data)
        if at == CURRENT and data:
            self.offset = begin + len(data)
        self.returns(self.offset, "lseek", self.fd, 0, C.SEEK_CUR)

    def whole(self) -> None:
        self.scattered([len(self.held) // 2, len(self.held) // 2 + 2], 0, "preadv2", 0, 0, 0)


def scattering(operations: list[tuple]) -> Case:
    script = Vectors()
    script.play(operations)
    script.whole()
    return script.case()


@given(batch=batches(long_lists(scatter, 10).map(scattering)))
def test_vectors_keep_bytes_in_order(agent, features, batch):
    """What is gathered from some buffers is scattered over others in the same order.

    readv(2): the data of the buffers is one piece, whose parts are filled one after another.
    """
    hold(agent, batch, features)


@given(batch=batches(long_lists(scatter, 10).map(scattering)))
def test_vectors_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)


def appending(flags: int, operations: list[tuple]) -> Case:
    script = Vectors(flags)
    script.play(operations)
    script.whole()
    return script.case()


appends = st.builds(appending, st.sampled_from([0, C.O_APPEND]), long_lists(special, 10))


@given(batch=batches(appends))
def test_pwritev2_appends_once(agent, features, batch):
    """RWF_APPEND makes one write append as O_APPEND makes all; -1 is the file's own offset.

    pwritev2(2): RWF_APPEND ignores the offset, and with -1 the file offset is updated.
    """
    hold(agent, batch, features)


overruled = st.builds(appending, st.just(C.O_APPEND), long_lists(unappended, 10))


@given(batch=batches(overruled))
def test_pwritev2_keeps_from_appending(agent, features, batch):
    """RWF_NOAPPEND lets one write of a file opened to append keep its offset.

    pwritev2(2); "vfs: add RWF_NOAPPEND flag for pwritev2" (73fa7547c70b).
    """
    if "pwritev2:noappend" not in features:
        unsupported("this kernel has no RWF_NOAPPEND")
    hold(agent, batch, features)


def refused(parts: list[int], bad: int, flags: int) -> Case:
    """Nothing is read or written of a vector that is refused."""
    script = Vectors()
    data = pattern(1, 100)
    script.returns(100, "write", script.fd, script.content(data), 100)
    script.put(0, data)
    vector, _ = script.sources(parts)
    for name in ("preadv2", "pwritev2"):
        script.returns(-errno.EINVAL, name, script.fd, vector, C.UIO_MAXIOV + bad, 0, 0, 0)
        script.returns(-errno.EINVAL, name, script.fd, vector, -bad, 0, 0, 0)
        script.returns(-errno.EINVAL, name, script.fd, vector, len(parts), -1 - bad, 0, 0)
        script.returns(-errno.EOPNOTSUPP, name, script.fd, vector, len(parts), 0, 0, flags)
    rows = [{"iov_base": script.buffer(8), "iov_len": length} for length in (8, -bad % (1 << 64))]
    negative = script.array("struct iovec", rows)
    for name in ("readv", "writev"):
        script.returns(-errno.EINVAL, name, script.fd, negative, 2)
    script.whole()
    return script.case()


filled = st.lists(st.integers(1, 40), min_size=1, max_size=4)
refusals = st.builds(refused, filled, st.integers(1, 9), st.integers(20, 30).map(lambda n: 1 << n))


@given(batch=batches(refusals))
def test_vectors_are_refused_whole(agent, features, batch):
    """Too many parts, negative lengths and offsets, and unknown flags move no byte.

    readv(2): EINVAL for a sum that overflows and for a count out of range; EOPNOTSUPP for an
    unknown flag.
    """
    hold(agent, batch, features)
