"""Sockets of virtual machines, over the loopback that a kernel has for itself: vsock(7)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isolation import FEW, PATIENCE
from sockets import NOW, SHUT_WR, Talk

from hostabi.pytest_plugin import unsupported
from hostabi.syscalls import probes
from hostabi.syscalls.builder import Builder, Ref, Slot
from hostabi.syscalls.cases import Case, batches, hold, plain_sandbox
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

ADDRESS = 16
"""Bytes of struct sockaddr_vm: family, nothing, port, context, and four zeros."""
ANY = (1 << 32) - 1
"""VMADDR_CID_ANY and VMADDR_PORT_ANY."""
PRIVILEGED = 1024
"""Ports below this are for CAP_NET_BIND_SERVICE: vsock(7)."""


def address(port: int, context: int) -> bytes:
    head = C.AF_VSOCK.to_bytes(2, "little") + bytes(2)
    return head + port.to_bytes(4, "little") + context.to_bytes(4, "little") + bytes(4)


def _connected(kind: int) -> Callable[[Builder], Ref]:
    """Only who is connected has a peer."""

    def build(b: Builder) -> Ref:
        name = b.content(address(ANY, C.VMADDR_CID_LOCAL))
        listener = b.call("socket", C.AF_VSOCK, kind, 0)
        b.call("bind", listener, name, ADDRESS)
        b.call("listen", listener, 1)
        b.call("getsockname", listener, name, b.content(ADDRESS.to_bytes(4, "little")))
        client = b.call("socket", C.AF_VSOCK, kind | C.SOCK_NONBLOCK, 0)
        b.call("connect", client, name, ADDRESS)
        b.call("poll", b.struct("struct pollfd", fd=client, events=C.POLLOUT), 1, 1000)
        room = b.buffer(ADDRESS)
        return b.call("getpeername", client, room, b.content(ADDRESS.to_bytes(4, "little")))

    return build


PROBES = (
    probes.Probe("vsock", _connected(C.SOCK_STREAM)),
    probes.Probe("vsock:packets", _connected(C.SOCK_SEQPACKET)),
)


@pytest.fixture
def loops(agent, features) -> frozenset[str]:
    """The features, with those of the loopback, for which modules may have to be loaded."""
    sandbox = replace(plain_sandbox(), timeout=PATIENCE)
    return features | probes.features(agent, PROBES, sandbox)


class Looped(Talk):
    """A listener at a port of the kernel's choice, and one who connects to it."""

    def __init__(self, kind: int) -> None:
        super().__init__(arena=1 << 18)
        self.needs.add("vsock" if kind == C.SOCK_STREAM else "vsock:packets")
        self.listener = self.works("socket", C.AF_VSOCK, kind, 0)
        self.place = self.content(address(ANY, C.VMADDR_CID_LOCAL))
        self.returns(0, "bind", self.listener, self.place, ADDRESS)
        self.name(self.listener, self.place)
        self.returns(0, "listen", self.listener, 3)
        self.client = self.works("socket", C.AF_VSOCK, kind, 0)
        self.returns(0, "connect", self.client, self.place, ADDRESS)
        self.server = self.works("accept4", self.listener, 0, 0, 0)

    def name(self, fd: Ref, into: Slot, call: str = "getsockname") -> Ref:
        length = self.content(ADDRESS.to_bytes(4, "little"))
        return self.returns(0, call, fd, into, length, out=[into])

    def send(self, fd: Ref, data: bytes, flags: int = C.MSG_NOSIGNAL) -> None:
        given = (self.content(data), len(data), flags, 0, 0)
        self.returns(len(data), "sendto", fd, *given)

    def receive(self, fd: Ref, data: bytes, room: int, flags: int) -> None:
        into = self.buffer(room)
        ref = self.returns(
            min(len(data), room), "recvfrom", fd, into, room, flags, 0, 0, out=[into]
        )
        self.holds(ref, into, data[:room].ljust(room, b"\0"))


def know(script: Looped) -> None:
    """The names of both ends."""
    rooms = [script.buffer(ADDRESS) for _ in range(4)]
    refs = [
        script.name(script.client, rooms[0]),
        script.name(script.server, rooms[1], "getpeername"),
        script.name(script.server, rooms[2]),
        script.name(script.listener, rooms[3]),
    ]

    def check(trace) -> None:
        own, peer, server, listener = (trace.bytes(*each) for each in zip(refs, rooms, strict=True))
        assert own[4:8] == peer[4:8], "the client is another to its server"
        assert server[4:8] == listener[4:8], "the server has another port"
        assert int.from_bytes(peer[8:12], "little") == C.VMADDR_CID_LOCAL
        assert int.from_bytes(own[4:8], "little") >= PRIVILEGED

    script.ensure(check)


def conversed(there: list[int], back: list[int], step: int) -> Case:
    script = Looped(C.SOCK_STREAM)
    know(script)
    for one, two, sizes in (
        (script.client, script.server, there),
        (script.server, script.client, back),
    ):
        stream = b""
        for index, size in enumerate(sizes):
            data = pattern(index, size)
            script.send(one, data)
            stream += data
        for at in range(0, len(stream), step):
            part = stream[at : at + step]
            script.receive(two, part, len(part), C.MSG_WAITALL)
        script.returns(0, "shutdown", one, SHUT_WR)
        into = script.buffer(1)
        script.returns(0, "recvfrom", two, into, 1, 0, 0, 0)
        script.returns(-errno.EPIPE, "sendto", one, into, 1, NOW, 0, 0)
    return script.case()


sizes = st.lists(st.integers(1, 2000), max_size=4)


@given(batch=batches(st.builds(conversed, sizes, sizes, st.sampled_from([100, 3000])), FEW))
def test_vsock_keeps_its_bytes(agent, loops, batch):
    """Bytes come in order and whole both ways, ends are told, and each end knows the other.

    vsock(7) on VMADDR_CID_LOCAL, shutdown(2).
    """
    if "vsock" not in loops:
        unsupported("this kernel has no loopback of vsock")
    hold(agent, batch, loops)


def packets(messages: list[int], room: int) -> Case:
    script = Looped(C.SOCK_SEQPACKET)
    sent = [pattern(index, size) for index, size in enumerate(messages)]
    for data in sent:
        script.send(script.client, data, C.MSG_NOSIGNAL | C.MSG_EOR)
    for data in sent:
        script.receive(script.server, data, room, 0)
    return script.case()


@given(batch=batches(st.builds(packets, sizes, st.sampled_from([1, 100, 3000])), FEW))
def test_vsock_keeps_its_packets(agent, loops, batch):
    """Each message of SOCK_SEQPACKET is received by itself, cut to the room: vsock(7), recv(2)."""
    if "vsock:packets" not in loops:
        unsupported("this kernel has no packets over vsock")
    hold(agent, batch, loops)


def taken(ports: list[int], user: bool) -> Case:
    """A port is one listener's, and a low one a privileged process's."""
    script = Talk()
    script.needs.add("vsock")
    if user:
        script.needs.add("root")
        script.returns(0, "setresuid", 9, 9, 9)
    held: set[int] = set()
    for port in ports:
        fd = script.works("socket", C.AF_VSOCK, C.SOCK_STREAM, 0)
        name = script.content(address(port, ANY))
        result = -errno.EADDRINUSE if port in held else 0
        if user and port < PRIVILEGED:
            result = -errno.EACCES
        script.returns(result, "bind", fd, name, ADDRESS)
        if result == 0:
            held.add(port)
            script.returns(-errno.EINVAL, "bind", fd, name, ADDRESS)
        script.returns(-errno.EINVAL, "bind", fd, name, ADDRESS - 1)
    return script.case()


port = st.sampled_from([80, 1023, 1024, 70000, 70001])


@given(batch=batches(st.builds(taken, st.lists(port, max_size=6), st.booleans())))
def test_vsock_ports_are_taken_once(agent, loops, batch):
    """EADDRINUSE for one that is taken, EACCES below 1024 without privilege: vsock(7)."""
    if "vsock" not in loops:
        unsupported("this kernel has no loopback of vsock")
    hold(agent, batch, loops)
