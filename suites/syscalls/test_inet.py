"""TCP and UDP over the loopback device of a network of one's own."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from isolation import FEW, own_network
from sockets import LOOPBACK, NOW, SHUT_WR, Talk, address

from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

ANY = {C.AF_INET: bytes(4), C.AF_INET6: bytes(16)}

family = st.sampled_from([C.AF_INET, C.AF_INET6])
sizes = st.lists(st.integers(1, 3000), max_size=5)


class Network(Talk):
    """Sockets of one family, which find each other by the numbers that the kernel gives."""

    def __init__(self, family: int) -> None:
        super().__init__(arena=1 << 18)
        self.family = family
        self.loopback_up()

    def bound(self, kind: int) -> tuple[Ref, Slot]:
        """A socket with a port of the kernel's choice, and its address."""
        fd = self.works("socket", self.family, kind, 0)
        name = self.content(address(self.family, LOOPBACK[self.family], 0))
        self.returns(0, "bind", fd, name, name.size)
        self.name(fd, name)
        return fd, name

    def name(self, fd: Value, into: Slot, call: str = "getsockname") -> Ref:
        length = self.content(into.size.to_bytes(4, "little"))
        return self.returns(0, call, fd, into, length, out=[into])

    def connected(self) -> tuple[Ref, Ref]:
        listener, name = self.bound(C.SOCK_STREAM)
        self.returns(0, "listen", listener, 5)
        client = self.works("socket", self.family, C.SOCK_STREAM, 0)
        self.returns(0, "connect", client, name, name.size)
        return client, self.works("accept4", listener, 0, 0, 0)

    def receive(self, fd: Value, data: bytes, kind: int = 0) -> None:
        """These bytes, for which it is waited."""
        into = self.buffer(len(data))
        flags = kind | C.MSG_WAITALL
        ref = self.returns(len(data), "recvfrom", fd, into, into.size, flags, 0, 0, out=[into])
        self.holds(ref, into, data)


def conversed(family: int, there: list[int], back: list[int], step: int) -> Case:
    script = Network(family)
    client, server = script.connected()
    for one, two, sizes in ((client, server, there), (server, client, back)):
        stream = b""
        for index, size in enumerate(sizes):
            data = pattern(index, size)
            script.returns(size, "sendto", one, script.content(data), size, C.MSG_NOSIGNAL, 0, 0)
            stream += data
        for at in range(0, len(stream), step):
            script.receive(two, stream[at : at + step])
        into = script.buffer(1)
        script.returns(-errno.EAGAIN, "recvfrom", two, into, 1, NOW, 0, 0)
        script.returns(0, "shutdown", one, SHUT_WR)
        script.returns(0, "recvfrom", two, into, 1, 0, 0, 0)
        script.returns(-errno.EPIPE, "sendto", one, into, 1, NOW, 0, 0)
    return script.case(own_network())


talks = st.builds(conversed, family, sizes, sizes, st.sampled_from([100, 1000, 20000]))


@given(batch=batches(talks, FEW))
def test_tcp_keeps_its_bytes(agent, features, batch):
    """What is sent each way comes in order and whole; a half that is shut ends, the other does not.

    tcp(7), shutdown(2), recv(2) on MSG_WAITALL.
    """
    hold(agent, batch, features)


def addressed(family: int, kind: int) -> Case:
    """Each end's name is the other's peer."""
    script = Network(family)
    size = 16 if family == C.AF_INET else 28
    if kind == C.SOCK_STREAM:
        one, two = script.connected()
    else:
        (one, first), (two, second) = script.bound(kind), script.bound(kind)
        script.returns(0, "connect", one, second, size)
        script.returns(0, "connect", two, first, size)
    found = []
    for own, other in ((one, two), (two, one)):
        rooms = script.buffer(size), script.buffer(size)
        name = script.name(own, rooms[0])
        peer = script.name(other, rooms[1], "getpeername")
        found.append((name, rooms[0], peer, rooms[1]))

    def check(trace) -> None:
        names = []
        for name, room, peer, other in found:
            assert trace.bytes(name, room) == trace.bytes(peer, other)
            names.append(trace.bytes(name, room))
            assert LOOPBACK[family] in names[-1]
        assert names[0] != names[1], "two sockets have one name"

    script.ensure(check)
    alone = script.works("socket", family, kind, 0)
    room, length = script.buffer(size), script.content(size.to_bytes(4, "little"))
    script.returns(-errno.ENOTCONN, "getpeername", alone, room, length)
    return script.case(own_network())


kind = st.sampled_from([C.SOCK_STREAM, C.SOCK_DGRAM])


@given(batch=batches(st.builds(addressed, family, kind), FEW))
def test_ends_know_each_other(agent, features, batch):
    """getsockname of one is getpeername of the other; who has no peer gets ENOTCONN.

    getsockname(2), getpeername(2).
    """
    hold(agent, batch, features)


def sent(family: int, messages: list[tuple[int, bool]], room: int) -> Case:
    """From two senders to one; connected to one of them, it hears only that."""
    script = Network(family)
    target, name = script.bound(C.SOCK_DGRAM)
    friend, its = script.bound(C.SOCK_DGRAM)
    stranger, _ = script.bound(C.SOCK_DGRAM)
    for connects in (False, True):
        if connects:
            script.returns(0, "connect", target, its, its.size)
        due = []
        for index, (size, known) in enumerate(messages):
            data = pattern(index, size)
            sender = friend if known else stranger
            script.returns(size, "sendto", sender, script.content(data), size, 0, name, name.size)
            if known or not connects:
                due.append(data)
        for data in due:
            into = script.buffer(room)
            header = script.message([into])
            ref = script.returns(
                min(len(data), room), "recvmsg", target, header, 0, out=[into, header]
            )
            script.holds(ref, into, data[:room].ljust(room, b"\0"))
            cut = C.MSG_TRUNC if len(data) > room else 0
            script.fields(ref, header, msg_flags=cut)
        script.returns(-errno.EAGAIN, "recvfrom", target, script.buffer(1), 1, NOW, 0, 0)
    return script.case(own_network())


messages = st.lists(st.tuples(st.integers(0, 2000), st.booleans()), max_size=6)


@given(batch=batches(st.builds(sent, family, messages, st.sampled_from([1, 100, 4000])), FEW))
def test_udp_keeps_bounds_and_peers(agent, features, batch):
    """Each datagram comes once and by itself, and a connected socket hears its peer alone.

    udp(7), connect(2), recv(2) on MSG_TRUNC.
    """
    hold(agent, batch, features)


def unreachable(family: int, kind: int, size: int) -> Case:
    """Nobody listens at a port that was given up."""
    script = Network(family)
    gone, name = script.bound(kind)
    script.returns(0, "close", gone)
    fd = script.works("socket", family, kind, 0)
    if kind == C.SOCK_STREAM:
        script.returns(-errno.ECONNREFUSED, "connect", fd, name, name.size)
        return script.case(own_network())
    script.returns(0, "connect", fd, name, name.size)
    data = script.content(pattern(1, size))
    script.returns(size, "sendto", fd, data, size, 0, 0, 0)
    # udp(7): an error of the network is passed to the next call.
    polled = script.struct("struct pollfd", fd=fd, events=0)
    ref = script.returns(1, "poll", polled, 1, 1000, out=[polled])
    script.fields(ref, polled, revents=C.POLLERR)
    script.returns(-errno.ECONNREFUSED, "recvfrom", fd, script.buffer(1), 1, NOW, 0, 0)
    script.returns(-errno.EAGAIN, "recvfrom", fd, script.buffer(1), 1, NOW, 0, 0)
    return script.case(own_network())


@given(batch=batches(st.builds(unreachable, family, kind, st.integers(0, 100)), FEW))
def test_a_port_without_a_socket_refuses(agent, features, batch):
    """ECONNREFUSED at once for a connection, with the next call for a datagram.

    connect(2), udp(7).
    """
    hold(agent, batch, features)


@dataclass(frozen=True)
class Wanted:
    """What a socket is to be bound to, and what it allows others."""

    family: int
    host: bytes
    port: int
    address: bool
    only: bool

    def overlaps(self, other: Wanted) -> bool:
        """Whether there is an address that both are bound to."""
        if self.family == other.family:
            free = ANY[self.family]
            return self.host == other.host or free in (self.host, other.host)
        wide = self if self.family == C.AF_INET6 else other
        return wide.host == ANY[C.AF_INET6] and not wide.only

    def clashes(self, other: Wanted) -> bool:
        """socket(7) on SO_REUSEADDR: both sockets must allow it."""
        both = self.address and other.address
        return self.port == other.port and self.overlaps(other) and not both


hosts = st.sampled_from(
    [
        (C.AF_INET, ANY[C.AF_INET]),
        (C.AF_INET, LOOPBACK[C.AF_INET]),
        (C.AF_INET, bytes([127, 0, 0, 2])),
        (C.AF_INET6, ANY[C.AF_INET6]),
        (C.AF_INET6, LOOPBACK[C.AF_INET6]),
    ]
)
wanted = st.builds(
    lambda host, *rest: Wanted(*host, *rest),
    hosts, st.sampled_from([5000, 5001]), st.booleans(), st.booleans(),
)  # fmt: skip


def claimed(kind: int, shared: bool, all_wanted: list[Wanted]) -> Case:
    """With SO_REUSEPORT all may; where only some have it, it is not said who is compared."""
    script = Talk()
    script.loopback_up()
    held: list[Wanted] = []
    for each in all_wanted:
        fd = script.works("socket", each.family, kind, 0)
        script.option(fd, C.SOL_SOCKET, C.SO_REUSEADDR, int(each.address))
        script.option(fd, C.SOL_SOCKET, C.SO_REUSEPORT, int(shared))
        if each.family == C.AF_INET6:
            script.option(fd, C.SOL_IPV6, C.IPV6_V6ONLY, int(each.only))
        name = script.content(address(each.family, each.host, each.port))
        taken = not shared and any(each.clashes(other) for other in held)
        script.returns(-errno.EADDRINUSE if taken else 0, "bind", fd, name, name.size)
        if not taken:
            held.append(each)
    return script.case(own_network())


claims = st.builds(
    claimed, kind, st.sampled_from([False, False, True]), st.lists(wanted, min_size=2, max_size=6)
)


@given(batch=batches(claims, FEW))
def test_an_address_is_one_sockets(agent, features, batch):
    """EADDRINUSE where two overlap, also of both families, unless both allow it.

    bind(2), ip(7), ipv6(7) on IPV6_V6ONLY, socket(7) on SO_REUSEADDR and SO_REUSEPORT.
    """
    hold(agent, batch, features)


@given(batch=batches(claims, FEW))
def test_addresses_agree(lockstep, batch):
    """Every kernel answers alike."""
    lockstep.agree(batch)
