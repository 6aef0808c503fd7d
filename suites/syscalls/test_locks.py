"""Locks of files: by the process, by the open file description, whole, and leases."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
END = 24
"""Bytes of the model; the last stands for all from there to the largest offset."""
ACCESS = (C.O_RDWR, C.O_RDWR, C.O_RDONLY, C.O_WRONLY)

which = st.integers(0, 3)
kinds = st.sampled_from([C.F_RDLCK, C.F_WRLCK, C.F_WRLCK, C.F_UNLCK])
span = st.one_of(
    st.tuples(st.integers(0, END - 1), st.integers(0, 5)),
    st.tuples(st.integers(5, END - 1), st.integers(-5, -1)),
)
record = st.one_of(
    st.tuples(st.just("lock"), which, kinds, span, st.booleans()),
    st.tuples(st.just("lock"), which, kinds, span, st.booleans()),
    st.tuples(st.just("lock"), which, kinds, span, st.just(True)),
    st.tuples(st.just("ask"), which, st.sampled_from([C.F_RDLCK, C.F_WRLCK]), span, st.booleans()),
    st.tuples(st.just("reopen"), which),
)


@dataclass
class Owner:
    """What one owner has locked, byte by byte: F_RDLCK, F_WRLCK, or None."""

    held: list[int | None] = field(default_factory=lambda: [None] * END)

    def conflicts(self, kind: int, first: int, last: int) -> bool:
        found = [held for held in self.held[first : last + 1] if held is not None]
        return bool(found) and (kind == C.F_WRLCK or C.F_WRLCK in found)

    def runs(self) -> set[tuple[int, int, int]]:
        """(type, start, length) of each lock; neighbours of one type are one lock."""
        found, begin = set(), 0
        for at in range(1, END + 1):
            if at == END or self.held[at] != self.held[begin]:
                kind = self.held[begin]
                if kind is not None:
                    found.add((kind, begin, 0 if at == END else at - begin))
                begin = at
        return found


class Records(Script):
    """One file under four descriptions; locks are theirs, or all together the process's."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Owner()
        self.owners = [Owner() for _ in ACCESS]
        made = self.works("openat", CWD, self.string("f"), C.O_CREAT | C.O_WRONLY, 0o600)
        self.returns(0, "close", made)
        self.fds = [self.opened(index) for index in range(len(ACCESS))]
        self.pid = self.works("getpid", opaque=True)

    def opened(self, index: int) -> Ref:
        return self.works("openat", CWD, self.string("f"), ACCESS[index], 0)

    def bounds(self, span: tuple[int, int]) -> tuple[int, int]:
        """fcntl(2): a length of 0 is to the end, a negative one is what lies before."""
        start, length = span
        if length < 0:
            return start + length, start - 1
        last = start + length - 1 if length else END - 1
        return start, min(last, END - 1)

    def owner(self, index: int, described: bool) -> Owner:
        return self.owners[index] if described else self.process

    def others(self, owner: Owner) -> list[Owner]:
        return [each for each in (*self.owners, self.process) if each is not owner]

    def wanted(self, kind: int, span: tuple[int, int]):
        start, length = span
        if length >= 0 and start + length >= END:
            length = 0
        return self.struct(
            "struct flock", l_type=kind, l_whence=C.SEEK_SET, l_start=start, l_len=length
        )

    def do_lock(self, index: int, kind: int, span: tuple[int, int], described: bool) -> None:
        owner = self.owner(index, described)
        first, last = self.bounds(span)
        needed = {C.F_RDLCK: C.O_WRONLY, C.F_WRLCK: C.O_RDONLY}.get(kind)
        result = 0
        if ACCESS[index] == needed:
            result = -errno.EBADF
        elif kind != C.F_UNLCK and any(
            other.conflicts(kind, first, last) for other in self.others(owner)
        ):
            result = -errno.EAGAIN
        command = C.F_OFD_SETLK if described else C.F_SETLK
        self.returns(result, "fcntl", self.fds[index], command, self.wanted(kind, span))
        if result == 0:
            value = None if kind == C.F_UNLCK else kind
            owner.held[first : last + 1] = [value] * (last + 1 - first)

    def do_ask(self, index: int, kind: int, span: tuple[int, int], described: bool) -> None:
        """F_GETLK tells one lock that is in the way, or that none is."""
        owner = self.owner(index, described)
        first, last = self.bounds(span)
        asked = self.wanted(kind, span)
        command = C.F_OFD_GETLK if described else C.F_GETLK
        ref = self.returns(0, "fcntl", self.fds[index], command, asked, out=[asked])
        found = {
            (held, start, length, other is self.process)
            for other in self.others(owner)
            for held, start, length in other.runs()
            if C.F_WRLCK in (kind, held)
            and start <= last
            and (not length or start + length > first)
        }
        pid = self.pid

        def check(trace) -> None:
            seen = trace.struct(ref, asked)
            if not found:
                assert seen.l_type == C.F_UNLCK
                return
            assert seen.l_pid in (-1, trace[pid])
            mine = seen.l_pid == trace[pid]
            assert (seen.l_type, seen.l_start, seen.l_len, mine) in found

        self.ensure(check)

    def do_reopen(self, index: int) -> None:
        """To close any descriptor of a file drops all locks that the process has on it."""
        self.returns(0, "close", self.fds[index])
        self.owners[index] = Owner()
        self.process = Owner()
        self.fds[index] = self.opened(index)


def recorded(operations: list[tuple]) -> Case:
    script = Records()
    script.play(operations)
    for index in range(len(ACCESS)):
        script.do_ask(index, C.F_WRLCK, (0, 0), True)
        script.do_ask(index, C.F_WRLCK, (0, 0), False)
    return script.case()


@given(batch=batches(long_lists(record, 15).map(recorded)))
def test_record_locks_follow_their_owners(agent, features, batch):
    """Ranges are split, joined and refused byte by byte; a description and the process are owners.

    fcntl(2) on F_SETLK, F_GETLK and F_OFD_SETLK; the process's locks end with any close.
    """
    hold(agent, batch, features)


whole = st.one_of(
    st.tuples(st.just("flock"), which, st.sampled_from([C.LOCK_SH, C.LOCK_EX, C.LOCK_UN])),
    st.tuples(st.just("flock"), which, st.sampled_from([C.LOCK_SH, C.LOCK_EX])),
    st.tuples(st.just("dup"), which),
    st.tuples(st.just("close"), which),
    st.tuples(st.just("wrong"), which, st.sampled_from([0, 3, 7, 16])),
)


class Whole(Script):
    """One file under some descriptions, each with descriptors that share its lock."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: dict[int, int] = {}
        self.fds: list[tuple[Ref, int]] = []
        for index in range(3):
            self.opened(index)

    def opened(self, index: int) -> None:
        flags = C.O_CREAT | C.O_RDWR if index % 2 else C.O_CREAT | C.O_RDONLY
        self.fds.append((self.works("openat", CWD, self.string("f"), flags, 0o600), index))

    def do_flock(self, index: int, kind: int) -> None:
        """flock(2): a conversion first gives up the lock that is there."""
        fd, owner = self.fds[index % len(self.fds)]
        others = [held for each, held in self.locks.items() if each != owner]
        if kind == C.LOCK_UN:
            self.locks.pop(owner, None)
            self.returns(0, "flock", fd, kind)
            return
        result = 0
        if self.locks.get(owner) != kind:
            self.locks.pop(owner, None)
            if others and (kind == C.LOCK_EX or C.LOCK_EX in others):
                result = -errno.EWOULDBLOCK
            else:
                self.locks[owner] = kind
        self.returns(result, "flock", fd, kind | C.LOCK_NB)

    def do_dup(self, index: int) -> None:
        fd, owner = self.fds[index % len(self.fds)]
        self.fds.append((self.works("dup", fd), owner))

    def do_close(self, index: int) -> None:
        fd, owner = self.fds.pop(index % len(self.fds))
        self.returns(0, "close", fd)
        if all(each != owner for _, each in self.fds):
            self.locks.pop(owner, None)
        if not self.fds:
            self.opened(len(self))

    def do_wrong(self, index: int, kind: int) -> None:
        fd, _ = self.fds[index % len(self.fds)]
        self.returns(-errno.EINVAL, "flock", fd, kind)


def flocked(operations: list[tuple]) -> Case:
    script = Whole()
    script.play(operations)
    for index in range(len(script.fds)):
        script.do_flock(index, C.LOCK_EX)
    return script.case()


@given(batch=batches(long_lists(whole, 12).map(flocked)))
def test_whole_file_locks_follow_the_description(agent, features, batch):
    """Shared or exclusive, one for a description, kept by its last descriptor: flock(2)."""
    hold(agent, batch, features)


lease = st.one_of(
    st.tuples(st.just("lease"), which, st.sampled_from([C.F_RDLCK, C.F_WRLCK, C.F_UNLCK])),
    st.tuples(st.just("lease"), which, st.sampled_from([C.F_RDLCK, C.F_WRLCK])),
    st.tuples(st.just("close"), which),
    st.tuples(st.just("open"), st.sampled_from([C.O_RDONLY, C.O_RDWR, C.O_WRONLY])),
)


class Leased(Script):
    """A file that is opened again and again, at times under a lease."""

    def __init__(self) -> None:
        super().__init__()
        every = self.content(b"\xff" * 8)
        self.returns(0, "rt_sigprocmask", C.SIG_SETMASK, every, 0, 8)
        made = self.works("openat", CWD, self.string("f"), C.O_CREAT | C.O_WRONLY, 0o600)
        self.returns(0, "close", made)
        self.fds: list[tuple[Ref, int]] = []
        self.leases: dict[int, int] = {}
        """By the call that opened the file: the type of its lease."""

    def do_open(self, access: int) -> None:
        """What a lease forbids breaks it: this open is refused, the holder gets SIGIO."""
        arguments = ("openat", CWD, self.string("f"), access | C.O_NONBLOCK, 0)
        writes = access != C.O_RDONLY
        held = set(self.leases.values())
        if C.F_WRLCK not in held and not (writes and held):
            self.fds.append((self.works(*arguments), access))
            return
        self.returns(-errno.EWOULDBLOCK, *arguments)
        pending = self.buffer(8)
        ref = self.returns(0, "rt_sigpending", pending, 8, out=[pending])
        self.ensure(lambda trace: has_signal(trace.number(ref, pending), C.SIGIO))
        for fd, _ in self.fds:
            broken = C.F_UNLCK
            if fd.call in self.leases:
                if not writes and self.leases[fd.call] == C.F_WRLCK:
                    broken = C.F_RDLCK  # reading only wants it made less
                self.returns(broken, "fcntl", fd, C.F_GETLEASE)
                self.returns(0, "fcntl", fd, C.F_SETLEASE, C.F_UNLCK)
        self.leases.clear()
        self.fds.append((self.works(*arguments), access))

    def do_lease(self, index: int, kind: int) -> None:
        """Reading wants no writer, writing nobody else at all: fcntl(2) on F_SETLEASE."""
        if not self.fds:
            return
        fd, _ = self.fds[index % len(self.fds)]
        if kind == C.F_UNLCK:
            result = 0 if fd.call in self.leases else -errno.EAGAIN
            self.leases.pop(fd.call, None)
        elif kind == C.F_RDLCK:
            result = -errno.EAGAIN if any(a != C.O_RDONLY for _, a in self.fds) else 0
        else:
            result = -errno.EAGAIN if len(self.fds) > 1 else 0
        self.returns(result, "fcntl", fd, C.F_SETLEASE, kind)
        if result == 0 and kind != C.F_UNLCK:
            self.leases[fd.call] = kind
        self.returns(self.leases.get(fd.call, C.F_UNLCK), "fcntl", fd, C.F_GETLEASE)

    def do_close(self, index: int) -> None:
        if self.fds:
            fd, _ = self.fds.pop(index % len(self.fds))
            self.leases.pop(fd.call, None)
            self.returns(0, "close", fd)


def has_signal(pending: int, number: int) -> None:
    assert pending >> (number - 1) & 1, f"signal {number} is not pending"


def leased(first: int, operations: list[tuple]) -> Case:
    script = Leased()
    script.do_open(first)
    script.play(operations)
    script.do_open(C.O_RDONLY)
    return script.case()


leases = st.builds(leased, st.sampled_from([C.O_RDONLY, C.O_RDWR]), long_lists(lease, 10))


@given(batch=batches(leases))
def test_leases_are_given_and_broken(agent, features, batch):
    """Who reads alone or is alone gets a lease; another's open breaks it and tells the holder.

    fcntl(2) on F_SETLEASE and F_GETLEASE; EWOULDBLOCK of an open with O_NONBLOCK.
    """
    hold(agent, batch, features)


@given(batch=batches(st.one_of(long_lists(whole, 12).map(flocked), leases)))
def test_locks_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
