"""What travels beside the bytes of a unix socket: descriptors and credentials."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st
from sockets import NOW, Talk

from hostabi.syscalls.builder import Ref
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

CWD = C.AT_FDCWD
FIRST = 3
"""A program's first descriptor; a pair has it and the next."""
HEAD = 16
"""Bytes of struct cmsghdr."""


def passed(count: int, room: int, cloexec: bool, closes: bool, kind: int) -> Case:
    """Files are sent, at times closed meanwhile, and some of them arrive."""
    script = Talk()
    one, two = script.pair(kind)
    files = []
    for index in range(count):
        flags = C.O_CREAT | C.O_RDWR
        fd = script.works("openat", CWD, script.string(f"f{index}"), flags, 0o600)
        data = pattern(index, 20)
        script.returns(20, "write", fd, script.content(data), 20)
        files.append((fd, data))
    numbers = b"".join((FIRST + 2 + i).to_bytes(4, "little") for i in range(count))
    byte = script.content(b"x")
    control = script.control(C.SCM_RIGHTS, numbers)
    script.returns(1, "sendmsg", one, script.message([byte], control), NOW)
    if closes:
        for fd, _ in files:
            script.returns(0, "close", fd)
    arrived = min(count, room)
    into, space = script.buffer(1), script.buffer(HEAD + 4 * room + 4)
    header = script.message([into], space, HEAD + 4 * room)
    how = NOW | (C.MSG_CMSG_CLOEXEC if cloexec else 0)
    ref = script.returns(1, "recvmsg", two, header, how, out=[header, space])
    first = FIRST + 2 + (0 if closes else count)
    rows = b"".join((first + i).to_bytes(4, "little") for i in range(arrived))
    if arrived:
        whole = (HEAD + len(rows)).to_bytes(8, "little") + C.SOL_SOCKET.to_bytes(4, "little")
        whole += C.SCM_RIGHTS.to_bytes(4, "little") + rows
        script.holds(ref, space, whole.ljust(space.size, b"\0"))

    def check(trace) -> None:
        cut = trace.struct(ref, header).msg_flags & C.MSG_CTRUNC
        assert bool(cut) == (room < count), "MSG_CTRUNC says whether some are lost"

    script.ensure(check)
    for index in range(arrived):
        same(script, first + index, files[index], cloexec, closes)
    script.returns(-errno.EBADF, "fcntl", first + arrived, C.F_GETFD)
    return script.case()


def same(script: Talk, number: int, file: tuple[Ref, bytes], cloexec: bool, closes: bool) -> None:
    """One open file: its offset moves for both."""
    fd, data = file
    script.returns(int(cloexec), "fcntl", number, C.F_GETFD)
    script.returns(20, "lseek", number, 0, C.SEEK_CUR)
    script.returns(7, "lseek", number, 7, C.SEEK_SET)
    if not closes:
        script.returns(7, "lseek", fd, 0, C.SEEK_CUR)
    into = script.buffer(20)
    ref = script.returns(13, "read", number, into, 20, out=[into])
    script.holds(ref, into, data[7:] + bytes(7))


kind = st.sampled_from([C.SOCK_STREAM, C.SOCK_DGRAM, C.SOCK_SEQPACKET])
rights = st.builds(passed, st.integers(1, 5), st.integers(0, 6), st.booleans(), st.booleans(), kind)


@given(batch=batches(rights))
def test_passed_descriptors_are_the_same_open_file(agent, features, batch):
    """Each that fits arrives as a new descriptor that shares its offset, also if it was closed.

    unix(7) on SCM_RIGHTS, recv(2) on MSG_CTRUNC and MSG_CMSG_CLOEXEC.
    """
    hold(agent, batch, features)


def bounded(sent: list[tuple[int, bool]], rooms: list[int]) -> Case:
    """unix(7): descriptors come with the first byte of theirs, and end what is read with it."""
    script = Talk()
    one, two = script.pair(C.SOCK_STREAM)
    queue: list[tuple[bytes, bool]] = []
    for index, (size, brings) in enumerate(sent):
        data = pattern(index, size)
        control = script.control(C.SCM_RIGHTS, FIRST.to_bytes(4, "little")) if brings else None
        message = script.message([script.content(data)], control)
        script.returns(size, "sendmsg", one, message, NOW)
        queue.append((data, brings))
    for room in [*rooms, 1000, 1000]:
        got, brought = b"", False
        while queue and len(got) < room and not brought:
            data, brought = queue.pop(0)
            part = data[: room - len(got)]
            got += part
            if part != data:
                queue.insert(0, (data[len(part) :], False))
        into, space = script.buffer(room), script.buffer(24)
        header = script.message([into], space)
        result = len(got) or -errno.EAGAIN
        ref = script.returns(result, "recvmsg", two, header, NOW, out=[into, header])
        script.holds(ref, into, got.ljust(room, b"\0"))
        if got:
            script.fields(ref, header, msg_controllen=24 if brought else 0)
    return script.case()


messages = st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=5)
rooms = st.lists(st.sampled_from([5, 20, 60, 200]), max_size=8)


@given(batch=batches(st.builds(bounded, messages, rooms)))
def test_descriptors_bound_what_is_read(agent, features, batch):
    """Nothing sent after them is read with them, and what was sent before may be.

    unix(7), on ancillary data as a barrier in a stream.
    """
    hold(agent, batch, features)


def claimed(ids: tuple[int, int, int], claim: int | None, asked: bool) -> Case:
    """A user may only claim what he is; nothing claimed, the kernel fills in what is true."""
    script = Talk()
    script.needs.add("root")
    one, two = script.pair(C.SOCK_DGRAM)
    script.option(two, C.SOL_SOCKET, C.SO_PASSCRED, int(asked))
    real, effective, saved = ids
    script.returns(0, "setresgid", real, effective, saved)
    script.returns(0, "setresuid", real, effective, saved)
    pid = script.works("getpid", opaque=True)
    byte, control = script.content(b"x"), None
    if claim is not None:
        value = claim.to_bytes(4, "little")
        control = script.control(C.SCM_CREDENTIALS, bytes(4) + value + value)
        control = script.with_result(control, HEAD, pid)
    told = script.message([byte], control)
    able = claim is None or claim in ids or effective == 0
    script.returns(1 if able else -errno.EPERM, "sendmsg", one, told, NOW)
    if not able:
        return script.case()
    space, into = script.buffer(32), script.buffer(1)
    header = script.message([into], space)
    ref = script.returns(1, "recvmsg", two, header, NOW, out=[header, space])
    if not asked:
        script.fields(ref, header, msg_controllen=0)
        return script.case()
    who = real if claim is None else claim

    def check(trace) -> None:
        raw = trace.bytes(ref, space)
        found = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, 28, 4)]
        assert found == [C.SOL_SOCKET, C.SCM_CREDENTIALS, trace[pid], who, who]

    script.ensure(check)
    return script.case()


user = st.sampled_from([0, 5, 6, 7])
claims = st.builds(
    claimed,
    st.tuples(user, user, user),
    st.one_of(st.none(), user),
    st.sampled_from([True, True, False]),
)


@given(batch=batches(claims))
def test_credentials_are_true(agent, features, batch):
    """Real ids unless others are claimed, which only their holder or a privileged process may.

    unix(7) on SCM_CREDENTIALS and SO_PASSCRED.
    """
    hold(agent, batch, features)


def of_peer(before: int, after: int, kind: int) -> Case:
    """SO_PEERCRED is who made the pair, whoever asks later."""
    script = Talk()
    script.needs.add("root")
    script.returns(0, "setresgid", before, before, 0)
    script.returns(0, "setresuid", before, before, 0)
    one, two = script.pair(kind)
    pid = script.works("getpid", opaque=True)
    if before == 0:
        script.returns(0, "setresuid", after, after, 0)
    room, length = script.buffer(12), script.content((12).to_bytes(4, "little"))
    for fd in (one, two):
        ref = script.returns(
            0, "getsockopt", fd, C.SOL_SOCKET, C.SO_PEERCRED, room, length, out=[room]
        )

        def check(trace, ref=ref) -> None:
            raw = trace.bytes(ref, room)
            found = [int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8)]
            assert found == [trace[pid], before, before]

        script.ensure(check)
    return script.case()


@given(batch=batches(st.builds(of_peer, user, user, kind)))
def test_a_pair_knows_who_made_it(agent, features, batch):
    """The credentials are those of the moment of socketpair(2): unix(7) on SO_PEERCRED."""
    hold(agent, batch, features)
