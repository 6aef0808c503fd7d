"""The descriptor table: lowest free number, shared descriptions, flags of their own."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

CEILING = 24
"""RLIMIT_NOFILE of the programs: descriptors are numbers below it."""

number = st.one_of(st.integers(0, 12), st.integers(0, CEILING + 2), st.just(-1))
status = st.sampled_from([0, C.O_APPEND, C.O_NONBLOCK, C.O_APPEND | C.O_NONBLOCK])

operation = st.one_of(
    st.tuples(st.just("open"), st.booleans()),
    st.tuples(st.just("open"), st.booleans()),
    st.tuples(st.just("dup"), number),
    st.tuples(st.just("dup2"), number, number),
    st.tuples(st.just("dup3"), number, number, st.sampled_from([0, C.O_CLOEXEC, C.O_APPEND])),
    st.tuples(st.just("fdup"), number, number, st.booleans()),
    st.tuples(st.just("setfd"), number, st.integers(0, 3)),
    st.tuples(st.just("getfd"), number),
    st.tuples(st.just("setfl"), number, status),
    st.tuples(st.just("getfl"), number),
    st.tuples(st.just("seek"), number, st.integers(0, 100)),
    st.tuples(st.just("close"), number),
    st.tuples(st.just("close_range"), number, number, st.sampled_from(["", "", "cloexec", "?"])),
)


@dataclass
class Description:
    offset: int = 0
    status: int = 0


@dataclass
class Entry:
    description: Description
    cloexec: bool = False


class Table(Script):
    """The program, and the table it must lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[int, Entry] = {}
        limit = self.struct("struct rlimit64", rlim_cur=CEILING, rlim_max=CEILING)
        self.returns(0, "prlimit64", 0, C.RLIMIT_NOFILE, limit, 0)
        # The three descriptors a program starts with share one file; ours do not.
        for fd in range(3):
            self.returns(0, "close", fd)
        for _ in range(4):
            self.do_open(False)

    def add(self, operation: tuple) -> None:
        getattr(self, f"do_{operation[0]}")(*operation[1:])

    def lowest(self, start: int = 0) -> int | None:
        free = (fd for fd in range(start, CEILING) if fd not in self.entries)
        return next(free, None)

    def install(self, entry: Entry, start: int = 0) -> int:
        fd = self.lowest(start)
        if fd is None:
            return -errno.EMFILE
        self.entries[fd] = entry
        return fd

    def do_open(self, cloexec: bool) -> None:
        flags = C.O_RDWR | C.O_CREAT | (C.O_CLOEXEC if cloexec else 0)
        result = self.install(Entry(Description(), cloexec))
        self.returns(result, "openat", C.AT_FDCWD, self.string("f"), flags, 0o600)

    def do_dup(self, fd: int) -> None:
        old = self.entries.get(fd)
        result = self.install(Entry(old.description)) if old else -errno.EBADF
        self.returns(result, "dup", fd)

    def do_dup2(self, fd: int, new: int) -> None:
        old = self.entries.get(fd)
        if not old or not 0 <= new < CEILING:
            result = -errno.EBADF
        else:
            result = new
            if new != fd:
                self.entries[new] = Entry(old.description)
        self.returns(result, "dup2", fd, new)

    def do_dup3(self, fd: int, new: int, flags: int) -> None:
        old = self.entries.get(fd)
        if flags & ~C.O_CLOEXEC or fd == new:
            result = -errno.EINVAL
        elif not old or not 0 <= new < CEILING:
            result = -errno.EBADF
        else:
            result = new
            self.entries[new] = Entry(old.description, bool(flags))
        self.returns(result, "dup3", fd, new, flags)

    def do_fdup(self, fd: int, start: int, cloexec: bool) -> None:
        old = self.entries.get(fd)
        if not old:
            result = -errno.EBADF
        elif not 0 <= start < CEILING:
            result = -errno.EINVAL
        else:
            result = self.install(Entry(old.description, cloexec), start)
        command = C.F_DUPFD_CLOEXEC if cloexec else C.F_DUPFD
        self.returns(result, "fcntl", fd, command, start)

    def do_setfd(self, fd: int, value: int) -> None:
        entry = self.entries.get(fd)
        if entry:
            entry.cloexec = bool(value & C.FD_CLOEXEC)
        self.returns(0 if entry else -errno.EBADF, "fcntl", fd, C.F_SETFD, value)

    def do_getfd(self, fd: int) -> None:
        entry = self.entries.get(fd)
        result = int(entry.cloexec) if entry else -errno.EBADF
        self.returns(result, "fcntl", fd, C.F_GETFD)

    def do_setfl(self, fd: int, status: int) -> None:
        entry = self.entries.get(fd)
        if entry:
            entry.description.status = status
        self.returns(0 if entry else -errno.EBADF, "fcntl", fd, C.F_SETFL, status)

    def do_getfl(self, fd: int) -> None:
        entry = self.entries.get(fd)
        result = -errno.EBADF
        if entry:
            # O_LARGEFILE is set by the kernel on 64 bits.
            result = C.O_RDWR | C.O_LARGEFILE | entry.description.status
        self.returns(result, "fcntl", fd, C.F_GETFL)

    def do_seek(self, fd: int, by: int) -> None:
        entry = self.entries.get(fd)
        result = -errno.EBADF
        if entry:
            entry.description.offset += by
            result = entry.description.offset
        self.returns(result, "lseek", fd, by, C.SEEK_CUR)

    def do_close(self, fd: int) -> None:
        known = self.entries.pop(fd, None)
        self.returns(0 if known else -errno.EBADF, "close", fd)

    def do_close_range(self, first: int, last: int, how: str) -> None:
        flags = {"": 0, "cloexec": C.CLOSE_RANGE_CLOEXEC, "?": 1 << 20}[how]
        self.needs.add("close_range:cloexec" if how == "cloexec" else "close_range")
        # Both numbers are unsigned: -1 is beyond every descriptor.
        low, high = first % (1 << 32), last % (1 << 32)
        if how == "?" or low > high:
            result = -errno.EINVAL
        else:
            result = 0
            for fd in [fd for fd in self.entries if low <= fd <= high]:
                if how == "cloexec":
                    self.entries[fd].cloexec = True
                else:
                    del self.entries[fd]
        self.returns(result, "close_range", first, last, flags)


def story(operations: list[tuple]) -> Case:
    script = Table()
    for step in operations:
        script.add(step)
    for fd in range(CEILING):
        script.do_getfd(fd)
    for fd in sorted(script.entries):
        script.do_seek(fd, 0)
    return script.case()


cases = long_lists(operation, 15).map(story)


@given(batch=batches(cases))
def test_descriptors_follow_the_table(agent, features, batch):
    """Numbers, close-on-exec flags, shared offsets and status flags follow the model exactly.

    open(2) (the lowest number not in use), dup(2), fcntl(2), close_range(2), getrlimit(2) on
    RLIMIT_NOFILE.
    """
    hold(agent, batch, features)


@given(batch=batches(cases))
def test_descriptors_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
