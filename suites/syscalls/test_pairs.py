"""Pairs of unix sockets: streams of bytes, and records with their bounds."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st
from sockets import NOW, SHUT_RD, SHUT_RDWR, SHUT_WR, Talk

from hostabi.syscalls.builder import Number
from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

end = st.integers(0, 1)
size = st.one_of(st.integers(1, 30), st.sampled_from([100, 1000]))
shutdown = st.tuples(st.just("shutdown"), end, st.sampled_from([SHUT_RD, SHUT_WR, SHUT_RDWR]))
sending = st.tuples(st.just("send"), end, size)
stream = st.one_of(
    sending,
    sending,
    sending,
    st.tuples(st.just("receive"), end, size, st.booleans()),
    st.tuples(st.just("receive"), end, size, st.booleans()),
    st.tuples(st.just("look"), end),
    shutdown,
)
counting = st.one_of(
    sending,
    sending,
    st.tuples(st.just("receive"), end, size, st.booleans()),
    st.tuples(st.just("count"), end),
    st.tuples(st.just("count"), end),
)


@dataclass
class End:
    fd: Number
    queue: bytearray = field(default_factory=bytearray)
    records: list[tuple[bytes, bool]] = field(default_factory=list)
    reads: bool = True
    writes: bool = True


class Pair(Talk):
    """Two ends; what is sent at one is received at the other."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self.kind = kind
        self.ends = [End(fd) for fd in self.pair(kind)]

    def do_shutdown(self, index: int, how: int) -> None:
        """shutdown(2): the other end learns of it, unless it has datagrams."""
        own, other = self.ends[index], self.ends[1 - index]
        self.returns(0, "shutdown", own.fd, how)
        if how != SHUT_WR:
            own.reads = False
            if self.kind != C.SOCK_DGRAM:
                other.writes = False
        if how != SHUT_RD:
            own.writes = False
            if self.kind != C.SOCK_DGRAM:
                other.reads = False
        self.returns(-errno.EINVAL, "shutdown", own.fd, 3)

    def do_look(self, index: int) -> None:
        """poll(2): hung up when nothing more comes, nor goes."""
        own = self.ends[index]
        wanted = C.POLLIN | C.POLLRDHUP | C.POLLOUT
        meant = C.POLLOUT | (C.POLLIN if own.queue or own.records or not own.reads else 0)
        if not own.reads:
            meant |= C.POLLRDHUP | (0 if own.writes else C.POLLHUP)
        polled = self.struct("struct pollfd", fd=own.fd, events=wanted)
        ref = self.returns(1, "poll", polled, 1, 0, out=[polled])
        self.fields(ref, polled, revents=meant)

    def do_count(self, index: int) -> None:
        own, count = self.ends[index], self.buffer(4)
        ref = self.returns(0, "ioctl", own.fd, C.SIOCINQ, count, out=[count])
        self.holds(ref, count, len(own.queue).to_bytes(4, "little"))


class Stream(Pair):
    def __init__(self) -> None:
        super().__init__(C.SOCK_STREAM)

    def do_send(self, index: int, size: int) -> None:
        own, other = self.ends[index], self.ends[1 - index]
        data = pattern(len(self), size)
        able = own.writes and other.reads
        result = size if able else -errno.EPIPE
        self.returns(result, "sendto", own.fd, self.content(data), size, NOW, 0, 0)
        if able:
            other.queue += data

    def do_receive(self, index: int, size: int, peek: bool) -> None:
        own, into = self.ends[index], self.buffer(size)
        data = bytes(own.queue[:size])
        result = len(data) or (-errno.EAGAIN if own.reads else 0)
        flags = NOW | (C.MSG_PEEK if peek else 0)
        ref = self.returns(result, "recvfrom", own.fd, into, size, flags, 0, 0, out=[into])
        self.holds(ref, into, data.ljust(size, b"\0"))
        if not peek:
            del own.queue[: len(data)]


def streamed(operations: list[tuple]) -> Case:
    script = Stream()
    script.play(operations)
    for index in (0, 1):
        script.do_receive(index, 4000, True)
        script.do_receive(index, 4000, False)
        script.do_look(index)
    return script.case()


@given(batch=batches(long_lists(stream, 15).map(streamed)))
def test_a_stream_keeps_its_bytes(agent, features, batch):
    """Bytes come in order, once, however they are cut, until an end is shut.

    unix(7), recv(2) on MSG_PEEK, shutdown(2), send(2) on EPIPE.
    """
    hold(agent, batch, features)


@given(batch=batches(long_lists(counting, 12).map(streamed)))
def test_a_stream_counts_its_bytes(agent, features, batch):
    """SIOCINQ is what has been sent and not yet been received: unix(7)."""
    hold(agent, batch, features)


record = st.one_of(
    st.tuples(st.just("send"), end, st.one_of(st.just(0), size), st.booleans()),
    st.tuples(st.just("send"), end, size, st.booleans()),
    st.tuples(st.just("receive"), end, size, st.booleans(), st.booleans()),
    st.tuples(st.just("receive"), end, size, st.booleans(), st.booleans()),
    st.tuples(st.just("look"), end),
    shutdown,
)


class Records(Pair):
    """Datagrams, or packets in sequence."""

    def do_send(self, index: int, size: int, marked: bool) -> None:
        own, other = self.ends[index], self.ends[1 - index]
        data = self.content(pattern(len(self), size))
        able = own.writes and other.reads
        flags = NOW | (C.MSG_EOR if marked else 0)
        result = size if able else -errno.EPIPE
        self.returns(result, "sendmsg", own.fd, self.message([data]), flags)
        if able:
            assert isinstance(data.text, bytes)
            other.records.append((data.text, marked))

    def do_receive(self, index: int, size: int, peek: bool, whole: bool) -> None:
        """One record at a time; what does not fit of it is lost, and MSG_TRUNC says so."""
        own, into = self.ends[index], self.buffer(size)
        header = self.message([into])
        flags = NOW | (C.MSG_PEEK if peek else 0) | (C.MSG_TRUNC if whole else 0)
        if not own.records:
            ends = self.kind == C.SOCK_SEQPACKET and not own.reads
            self.returns(0 if ends else -errno.EAGAIN, "recvmsg", own.fd, header, flags)
            return
        data, _ = own.records[0] if peek else own.records.pop(0)
        result = len(data) if whole else min(len(data), size)
        ref = self.returns(result, "recvmsg", own.fd, header, flags, out=[into, header])
        self.holds(ref, into, data[:size].ljust(size, b"\0"))
        cut = C.MSG_TRUNC if len(data) > size else 0
        seen = C.MSG_TRUNC | C.MSG_CTRUNC

        def check(trace) -> None:
            assert trace.struct(ref, header).msg_flags & seen == cut

        self.ensure(check)


def recorded(kind: int) -> Callable[[list[tuple]], Case]:
    def story(operations: list[tuple]) -> Case:
        script = Records(kind)
        script.play(operations)
        for index in (0, 1):
            for _ in range(len(script.ends[index].records) + 1):
                script.do_receive(index, 1000, False, False)
        return script.case()

    return story


records = long_lists(record, 15)


@given(batch=batches(records.map(recorded(C.SOCK_DGRAM))))
def test_datagrams_keep_their_bounds(agent, features, batch):
    """Each comes once, in order, by itself; one that is cut says so: unix(7), recv(2)."""
    hold(agent, batch, features)


@given(batch=batches(records.map(recorded(C.SOCK_SEQPACKET))))
def test_packets_keep_their_sequence(agent, features, batch):
    """The same for a connection of packets, which also ends: unix(7) on SOCK_SEQPACKET."""
    hold(agent, batch, features)


MMSG = 64
"""Bytes of struct mmsghdr: a struct msghdr, the length at byte 56, and padding."""


def many(sizes: list[int], room: int, wanted: int) -> Case:
    """sendmmsg and recvmmsg are as many sendmsg and recvmsg."""
    script = Talk(arena=1 << 17)
    one, two = script.pair(C.SOCK_DGRAM)
    data = [pattern(index, size) for index, size in enumerate(sizes)]
    headers, stores = multiple(script, [script.content(each) for each in data])
    sent = script.content(headers)
    source = replace(sent, text="messages", stores=stores(sent.offset))
    ref = script.returns(len(sizes), "sendmmsg", one, source, len(sizes), NOW, out=[source])
    script.ensure(lambda trace: lengths(trace.bytes(ref, source), sizes))
    rooms = [script.buffer(room) for _ in range(wanted)]
    headers, stores = multiple(script, rooms)
    empty = script.content(headers)
    target = replace(empty, text="rooms", stores=stores(empty.offset))
    count = min(wanted, len(sizes))
    got = script.returns(
        count or -errno.EAGAIN if wanted else 0, "recvmmsg", two, target, wanted, NOW, 0,
        out=[target, *rooms],
    )  # fmt: skip
    for each, into in zip(data[:count], rooms, strict=False):
        script.holds(got, into, each[:room].ljust(room, b"\0"))
    cut = [min(size, room) for size in sizes[:count]]
    script.ensure(lambda trace: lengths(trace.bytes(got, target), cut))
    return script.case()


def multiple(script: Talk, parts: list):
    """Rows of struct mmsghdr, and what is to be stored in them once their place is known."""
    messages = [script.message([part]) for part in parts]

    def stores(offset: int) -> tuple:
        found: list = []
        for index, message in enumerate(messages):
            for store in message.stores:
                inside = message.offset <= store.offset < message.offset + message.size
                at = offset + index * MMSG + store.offset - message.offset
                found.append(replace(store, offset=at) if inside else store)
        return tuple(found)

    raw = b"".join(bytes(24) + (1).to_bytes(8, "little") + bytes(MMSG - 32) for _ in messages)
    return raw, stores


def lengths(raw: bytes, meant: list[int]) -> None:
    found = [int.from_bytes(raw[at + 56 : at + 60], "little") for at in range(0, len(raw), MMSG)]
    assert found[: len(meant)] == meant


several = st.lists(st.integers(0, 60), min_size=1, max_size=5)


@given(batch=batches(st.builds(many, several, st.sampled_from([1, 20, 80]), st.integers(1, 6))))
def test_many_messages_go_at_once(agent, features, batch):
    """As many are sent and received as there are, each with its length.

    sendmmsg(2), recvmmsg(2).
    """
    hold(agent, batch, features)


@given(batch=batches(st.one_of(long_lists(stream, 15).map(streamed),
                               records.map(recorded(C.SOCK_SEQPACKET)))))  # fmt: skip
def test_pairs_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
