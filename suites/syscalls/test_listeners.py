"""Names of unix sockets, and connections to those that listen."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from sockets import NOW, Talk

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
FAMILY = C.AF_UNIX.to_bytes(2, "little")
LONGEST = 110
"""Bytes of struct sockaddr_un: the family and 108 of a path."""

kind = st.sampled_from([C.SOCK_STREAM, C.SOCK_DGRAM, C.SOCK_SEQPACKET])


def named(script: Talk, fd: Ref, name: bytes | None) -> None:
    """What getsockname says: the family alone for a socket without a name."""
    room, length = script.buffer(LONGEST + 1), script.content((LONGEST + 1).to_bytes(4, "little"))
    ref = script.returns(0, "getsockname", fd, room, length, out=[room, length])
    whole = FAMILY + (name or b"")
    script.holds(ref, length, len(whole).to_bytes(4, "little"))
    script.holds(ref, room, whole.ljust(room.size, b"\0"))


def abstract(names: list[bytes], kind: int) -> Case:
    """Names of any bytes, all of them counting, each for one socket at a time."""
    script = Talk()
    taken: dict[bytes, Ref] = {}
    for name in names:
        fd = script.works("socket", C.AF_UNIX, kind, 0)
        named(script, fd, None)
        raw = script.content(FAMILY + b"\0" + name)
        result = -errno.EADDRINUSE if name in taken else 0
        script.returns(result, "bind", fd, raw, raw.size)
        if result == 0:
            taken[name] = fd
            named(script, fd, b"\0" + name)
            script.returns(-errno.EINVAL, "bind", fd, raw, raw.size)
        else:
            named(script, fd, None)
            script.returns(0, "close", taken.pop(name))
            script.returns(0, "bind", fd, raw, raw.size)
            taken[name] = fd
    return script.case()


raw = st.one_of(
    st.binary(min_size=1, max_size=107),
    st.sampled_from([b"a", b"a\0", b"a\0\0", b"\0", b"a" * 107]),
)


@given(batch=batches(st.builds(abstract, st.lists(raw, max_size=6), kind)))
def test_abstract_names_are_all_their_bytes(agent, features, batch):
    """Zeros count, a name is taken until its socket is closed, and getsockname gives it back.

    unix(7) on abstract names; bind(2) on EADDRINUSE and EINVAL.
    """
    hold(agent, batch, features)


def automatic(count: int, kind: int) -> Case:
    script = Talk()
    found = []
    for _ in range(count):
        fd = script.works("socket", C.AF_UNIX, kind, 0)
        script.returns(0, "bind", fd, script.content(FAMILY), 2)
        room, length = script.buffer(LONGEST), script.content(LONGEST.to_bytes(4, "little"))
        ref = script.returns(0, "getsockname", fd, room, length, out=[room, length])
        script.holds(ref, length, (8).to_bytes(4, "little"))
        found.append((ref, room))

    def check(trace) -> None:
        names = [trace.bytes(ref, room)[2:8] for ref, room in found]
        assert len(set(names)) == len(names), "two sockets have one name"
        for name in names:
            assert name[0] == 0
            assert set(name[1:]) <= set(b"0123456789abcdef")

    script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(automatic, st.integers(1, 5), kind)))
def test_sockets_name_themselves(agent, features, batch):
    """Bound to the family alone, each gets a zero and five digits of its own: unix(7), autobind."""
    hold(agent, batch, features)


def by_path(mode: int, mask: int, kind: int, remains: bool) -> Case:
    """A path makes a file, which stays when the socket is gone."""
    script = Talk()
    fd = script.works("socket", C.AF_UNIX, kind, 0)
    where, raw = script.string("s"), script.content(FAMILY + b"s\0")
    script.works("umask", mask)
    script.returns(0, "fchmod", fd, mode)
    script.returns(0, "bind", fd, raw, raw.size)
    named(script, fd, b"s\0")
    stat = script.room("struct stat")
    ref = script.returns(0, "newfstatat", CWD, where, stat, 0, out=[stat])
    script.fields(ref, stat, st_mode=C.S_IFSOCK | mode & ~mask & 0o777)
    other = script.works("socket", C.AF_UNIX, kind, 0)
    script.returns(-errno.EADDRINUSE, "bind", other, raw, raw.size)
    script.returns(0, "fchmodat", CWD, where, 0o600)
    script.returns(-errno.ENXIO, "openat", CWD, where, C.O_RDONLY, 0)
    if remains:
        script.returns(0, "close", fd)
        script.returns(-errno.ECONNREFUSED, "connect", other, raw, raw.size)
    script.returns(0, "unlinkat", CWD, where, 0)
    script.returns(-errno.ENOENT, "connect", other, raw, raw.size)
    made = script.works("openat", CWD, where, C.O_CREAT | C.O_WRONLY, 0o600)
    script.returns(0, "fchmod", made, 0o600)  # whatever the umask took
    script.returns(0, "close", made)
    script.returns(-errno.ECONNREFUSED, "connect", other, raw, raw.size)
    return script.case()


mode = st.integers(0, 0o777)


@given(batch=batches(st.builds(by_path, mode, mode, kind, st.booleans())))
def test_a_path_names_a_socket(agent, features, batch):
    """The file has the socket's mode less the umask, outlives it, and a plain file is refused.

    unix(7) on pathname sockets, bind(2), connect(2) on ECONNREFUSED.
    """
    hold(agent, batch, features)


waiting = st.one_of(
    st.tuples(st.just("connect")),
    st.tuples(st.just("connect")),
    st.tuples(st.just("connect")),
    st.tuples(st.just("accept")),
    st.tuples(st.just("accept")),
    st.tuples(st.just("listen"), st.integers(0, 4)),
)


class Listener(Talk):
    """One socket that listens, and those that connect to it."""

    def __init__(self, kind: int, backlog: int) -> None:
        super().__init__()
        self.kind, self.waiting, self.sent = kind, [], 0
        self.name = self.content(FAMILY + b"\0listener")
        self.fd = self.works("socket", C.AF_UNIX, kind | C.SOCK_NONBLOCK, 0)
        self.returns(0, "bind", self.fd, self.name, self.name.size)
        other = self.works("socket", C.AF_UNIX, kind, 0)
        self.returns(-errno.ECONNREFUSED, "connect", other, self.name, self.name.size)
        self.returns(-errno.EINVAL, "accept4", self.fd, 0, 0, 0)
        self.do_listen(backlog)

    def do_listen(self, backlog: int) -> None:
        self.backlog = backlog
        self.returns(0, "listen", self.fd, backlog)

    def do_connect(self) -> None:
        """One more than the backlog waits, as Linux counts: listen(2), unix(7)."""
        fd = self.works("socket", C.AF_UNIX, self.kind | C.SOCK_NONBLOCK, 0)
        full = len(self.waiting) > self.backlog
        result = -errno.EAGAIN if full else 0
        self.returns(result, "connect", fd, self.name, self.name.size)
        if not full:
            self.sent += 1
            mark = self.sent.to_bytes(4, "little")
            self.returns(4, "sendto", fd, self.content(mark), 4, NOW, 0, 0)
            self.waiting.append(mark)

    def do_accept(self) -> None:
        """The one that has waited longest, with what it has sent."""
        if not self.waiting:
            self.returns(-errno.EAGAIN, "accept4", self.fd, 0, 0, 0)
            return
        fd = self.works("accept4", self.fd, 0, 0, C.SOCK_CLOEXEC)
        into: Slot = self.buffer(4)
        ref = self.returns(4, "recvfrom", fd, into, 4, NOW, 0, 0, out=[into])
        self.holds(ref, into, self.waiting.pop(0))
        self.returns(1, "fcntl", fd, C.F_GETFD)
        self.returns(C.O_RDWR, "fcntl", fd, C.F_GETFL)
        named(self, fd, b"\0listener")
        room, length = self.buffer(LONGEST), self.content(LONGEST.to_bytes(4, "little"))
        ref = self.returns(0, "getpeername", fd, room, length, out=[length])
        self.holds(ref, length, (2).to_bytes(4, "little"))


def listened(kind: int, backlog: int, operations: list[tuple]) -> Case:
    script = Listener(kind, backlog)
    script.play(operations)
    for _ in range(len(script.waiting) + 1):
        script.do_accept()
    return script.case()


connected = st.sampled_from([C.SOCK_STREAM, C.SOCK_SEQPACKET])
listeners = st.builds(listened, connected, st.integers(0, 4), long_lists(waiting, 12))


@given(batch=batches(listeners))
def test_connections_wait_in_order(agent, features, batch):
    """They are accepted in the order they came, and no more wait than the backlog allows.

    listen(2), accept(2), connect(2) on EAGAIN of a socket that does not block.
    """
    hold(agent, batch, features)


@given(batch=batches(listeners))
def test_listeners_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
