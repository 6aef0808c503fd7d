"""Sparse files: where SEEK_DATA and SEEK_HOLE say that something is."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

PAGE = 4096
PAGES = 12

page = st.integers(0, PAGES - 1)
change = st.one_of(
    st.tuples(st.just("write"), page, st.integers(0, PAGE - 1), st.integers(1, 2 * PAGE)),
    st.tuples(st.just("write"), page, st.integers(0, PAGE - 1), st.integers(1, 2 * PAGE)),
    st.tuples(st.just("punch"), page, st.integers(1, 4)),
    st.tuples(st.just("resize"), st.integers(0, PAGES * PAGE)),
)


class Sparse(Script):
    """A file and its bytes; a byte that was written is never 0."""

    def __init__(self) -> None:
        super().__init__(arena=1 << 18)
        self.held = bytearray()
        flags = C.O_RDWR | C.O_CREAT
        self.fd = self.works("openat", C.AT_FDCWD, self.string("f"), flags, 0o600)

    def do_write(self, page: int, into: int, size: int) -> None:
        at, data = page * PAGE + into, pattern(len(self), size)
        self.returns(size, "pwrite64", self.fd, self.content(data), size, at)
        self.held += bytes(max(at + size - len(self.held), 0))
        self.held[at : at + size] = data

    def do_punch(self, page: int, pages: int) -> None:
        self.needs.add("fallocate:punch")
        mode = C.FALLOC_FL_PUNCH_HOLE | C.FALLOC_FL_KEEP_SIZE
        begin, end = page * PAGE, min((page + pages) * PAGE, len(self.held))
        self.returns(0, "fallocate", self.fd, mode, begin, pages * PAGE)
        self.held[begin:end] = bytes(max(end - begin, 0))

    def do_resize(self, length: int) -> None:
        self.returns(0, "ftruncate", self.fd, length)
        del self.held[length:]
        self.held += bytes(length - len(self.held))

    def seek(self, at: int, whence: int) -> Ref:
        if at < len(self.held):
            return self.call("lseek", self.fd, at, whence)
        return self.returns(-errno.ENXIO, "lseek", self.fd, at, whence)


def sought(operations: list[tuple], places: list[int]) -> Case:
    """Every answer is held against the bytes; how fine holes are is the file system's."""
    script = Sparse()
    script.play(operations)
    held = bytes(script.held)
    for at in [*places, 0, len(held), len(held) - 1]:
        if at < 0:
            continue
        data, hole = script.seek(at, C.SEEK_DATA), script.seek(at, C.SEEK_HOLE)
        if at >= len(held):
            continue

        def check(trace, at=at, data=data, hole=hole) -> None:
            first = trace[data] if trace[data] != -errno.ENXIO else len(held)
            assert at <= first <= len(held), f"data at {first}"
            assert not any(held[at:first]), f"SEEK_DATA from {at} passes over what was written"
            last = trace[hole]
            assert at <= last <= len(held), f"a hole at {last}"
            if last < len(held):
                edge = last // PAGE * PAGE + PAGE
                assert not any(held[last:edge]), f"SEEK_HOLE from {at} finds one in what is written"
            assert (first == at) != (last == at), f"{at} must be in data or in a hole"

        script.ensure(check)
    return script.case()


places = st.lists(st.integers(0, PAGES * PAGE), max_size=6)


@given(batch=batches(st.builds(sought, long_lists(change, 5), places)))
def test_seek_finds_data_and_holes(agent, features, batch):
    """What was written is data, a hole reads as zeros, the end is a hole, and beyond is ENXIO.

    lseek(2) on SEEK_DATA and SEEK_HOLE.
    """
    hold(agent, batch, features)


def walked(operations: list[tuple]) -> Case:
    """Data and holes in turns lead through the file from its begin to its end."""
    script = Sparse()
    script.play(operations)
    held = bytes(script.held)
    refs = []
    at: int | Ref = 0
    for _ in range(PAGES + 1):
        data = script.call("lseek", script.fd, at, C.SEEK_DATA)
        at = script.call("lseek", script.fd, data, C.SEEK_HOLE)
        refs.append((data, at))

    def check(trace) -> None:
        done = 0
        for data, hole in refs:
            if trace[data] == -errno.ENXIO:
                break
            assert done <= trace[data] < trace[hole] <= len(held)
            assert not any(held[done : trace[data]]), f"bytes are lost from {done} on"
            done = trace[hole]
        else:
            raise AssertionError("more data than there are pages")
        assert not any(held[done:]), f"bytes are lost from {done} on"

    script.ensure(check)
    return script.case()


@given(batch=batches(long_lists(change, 6).map(walked)))
def test_a_walk_over_data_loses_nothing(agent, features, batch):
    """A copy that only reads what SEEK_DATA and SEEK_HOLE name has every byte: lseek(2)."""
    hold(agent, batch, features)


def reserved(page: int, pages: int, keep: bool, operations: list[tuple]) -> Case:
    """Space that was allocated is counted, holds zeros, and nothing that is there changes."""
    script = Sparse()
    script.play(operations)
    mode = C.FALLOC_FL_KEEP_SIZE if keep else 0
    script.needs.add("fallocate:keep" if keep else "fallocate")
    at, length = page * PAGE, pages * PAGE
    stat = script.room("struct stat")
    script.returns(0, "fallocate", script.fd, mode, at, length)
    looked = script.returns(0, "fstat", script.fd, stat, out=[stat])
    size = len(script.held) if keep else max(len(script.held), at + length)
    script.fields(looked, stat, st_size=size)

    def check(trace) -> None:
        assert trace.struct(looked, stat).st_blocks * 512 >= length

    script.ensure(check)
    script.held += bytes(size - len(script.held))
    into = script.buffer(size + 1)
    ref = script.returns(size, "pread64", script.fd, into, into.size, 0, out=[into])
    script.holds(ref, into, bytes(script.held) + b"\0")
    return script.case()


reservations = st.builds(reserved, page, st.integers(1, 4), st.booleans(), long_lists(change, 5))


@given(batch=batches(reservations))
def test_allocated_space_is_there(agent, features, batch):
    """Blocks are counted, the size grows unless it is to be kept, and bytes stay: fallocate(2)."""
    hold(agent, batch, features)


def shared_hole(operations: list[tuple], page: int, pages: int) -> Case:
    """Memory mapped from a hole reads as zeros, and MADV_REMOVE makes one."""
    script = Sparse()
    script.play(operations)
    script.do_resize(PAGES * PAGE)
    script.needs.add("fallocate:punch")
    at, length = page * PAGE, min(pages, PAGES - page) * PAGE
    protection = C.PROT_READ | C.PROT_WRITE
    where = script.works("mmap", 0, length, protection, C.MAP_SHARED, script.fd, at, opaque=True)
    script.returns(0, "madvise", where, length, C.MADV_REMOVE)
    script.held[at : at + length] = bytes(length)
    into = script.buffer(len(script.held))
    ref = script.returns(into.size, "pread64", script.fd, into, into.size, 0, out=[into])
    script.holds(ref, into, bytes(script.held))
    return script.case()


removals = st.builds(shared_hole, long_lists(change, 5), page, st.integers(1, 4))


@given(batch=batches(removals))
def test_madvise_remove_punches(agent, features, batch):
    """MADV_REMOVE frees pages of a shared mapping in the file below: madvise(2)."""
    hold(agent, batch, features)
