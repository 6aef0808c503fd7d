"""rtnetlink: each request is answered, and addresses are those that were added; packet sockets."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isolation import FEW, PATIENCE, own_network
from sockets import LOOPBACK, NOW, Talk, address

from hostabi.syscalls import probes
from hostabi.syscalls.builder import Builder, Ref, Slot, Value
from hostabi.syscalls.cases import Case, batches, hold, long_lists
from hostabi.syscalls.strategies import pattern
from hostabi.syscalls.table import C

HEAD = 16
"""Bytes of struct nlmsghdr."""
ROOM = 4096
LOOP = 1
"""The loopback device's index in every network namespace."""


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """struct nlmsghdr and what follows: netlink(7)."""
    head = (HEAD + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little")
    head += (flags | C.NLM_F_REQUEST).to_bytes(2, "little") + sequence.to_bytes(4, "little")
    return head + bytes(4) + body


def attribute(kind: int, value: bytes) -> bytes:
    """struct rtattr: rtnetlink(7)."""
    return (4 + len(value)).to_bytes(2, "little") + kind.to_bytes(2, "little") + value


def messages(raw: bytes) -> list[tuple[int, int, bytes]]:
    """(type, sequence, body) of each message in a datagram."""
    found = []
    while len(raw) >= HEAD:
        length = int.from_bytes(raw[:4], "little")
        assert HEAD <= length <= len(raw), f"a message of {length} bytes"
        kind, sequence = int.from_bytes(raw[4:6], "little"), int.from_bytes(raw[8:12], "little")
        found.append((kind, sequence, raw[HEAD:length]))
        raw = raw[(length + 3) // 4 * 4 :]
    return found


class Routes(Talk):
    """A socket of rtnetlink, and the addresses of the loopback device."""

    def __init__(self, groups: int = 0) -> None:
        super().__init__(arena=1 << 18)
        self.sequence = 0
        self.held: dict[bytes, int] = {}
        self.fd = self.works("socket", C.AF_NETLINK, C.SOCK_RAW, C.NETLINK_ROUTE)
        name = C.AF_NETLINK.to_bytes(2, "little") + bytes(6) + groups.to_bytes(4, "little")
        self.returns(0, "bind", self.fd, self.content(name), 12)

    def ask(self, kind: int, flags: int, body: bytes) -> int:
        self.sequence += 1
        raw = self.content(message(kind, flags, self.sequence, body))
        self.returns(raw.size, "sendto", self.fd, raw, raw.size, 0, 0, 0)
        return self.sequence

    def answer(self) -> tuple[Ref, Slot]:
        into = self.buffer(ROOM)
        return self.works("recvfrom", self.fd, into, ROOM, NOW, 0, 0, out=[into]), into

    def acknowledged(self, result: int, sequence: int) -> None:
        """struct nlmsgerr: the errno, then the header of the request."""
        ref, into = self.answer()

        def check(trace) -> None:
            found = messages(trace.bytes(ref, into)[: trace[ref]])
            assert len(found) == 1, f"{len(found)} answers to one request"
            kind, number, body = found[0]
            assert (kind, number) == (C.NLMSG_ERROR, sequence)
            seen = int.from_bytes(body[:4], "little", signed=True)
            assert seen == result, f"error {seen}, must be {result}"
            assert int.from_bytes(body[12:16], "little") == sequence, "not the request's header"

        self.ensure(check)

    def quiet(self) -> None:
        self.returns(-errno.EAGAIN, "recvfrom", self.fd, self.buffer(1), 1, NOW, 0, 0)


request = st.one_of(
    st.tuples(st.just("link"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("unknown"), st.integers(500, 60000), st.booleans()),
    st.tuples(st.just("nothing"), st.booleans()),
    st.tuples(st.just("short"), st.integers(0, 3), st.booleans()),
)


class Requests(Routes):
    def flags(self, wants: bool) -> int:
        return C.NLM_F_ACK if wants else 0

    def do_link(self, index: int, wants: bool) -> None:
        """RTM_GETLINK of a device by its index; only the loopback device is there."""
        body = bytes(4) + index.to_bytes(4, "little") + bytes(8)
        sequence = self.ask(C.RTM_GETLINK, self.flags(wants), body)
        if index != LOOP:
            self.acknowledged(-errno.ENODEV, sequence)
            self.quiet()
            return
        ref, into = self.answer()

        def check(trace) -> None:
            found = messages(trace.bytes(ref, into)[: trace[ref]])
            kind, number, body = found[0]
            assert (kind, number) == (C.RTM_NEWLINK, sequence)
            assert int.from_bytes(body[4:8], "little") == LOOP
            assert b"lo\0" in body

        self.ensure(check)
        if wants:
            self.acknowledged(0, sequence)
        self.quiet()

    def do_unknown(self, kind: int, wants: bool) -> None:
        self.acknowledged(-errno.EOPNOTSUPP, self.ask(kind, self.flags(wants), bytes(16)))
        self.quiet()

    def do_nothing(self, wants: bool) -> None:
        """NLMSG_NOOP is passed over, and acknowledged where that is asked for."""
        sequence = self.ask(C.NLMSG_NOOP, self.flags(wants), b"")
        if wants:
            self.acknowledged(0, sequence)
        self.quiet()

    def do_short(self, size: int, wants: bool) -> None:
        """A body shorter than the message's own struct; one without a family asks for nothing."""
        family = C.AF_INET.to_bytes(1, "little")
        sequence = self.ask(C.RTM_NEWADDR, self.flags(wants), family.ljust(3, b"\0")[:size])
        if size or wants:
            self.acknowledged(-errno.EINVAL if size else 0, sequence)
        self.quiet()


def requested(operations: list[tuple]) -> Case:
    script = Requests()
    script.play(operations)
    return script.case(own_network())


@given(batch=batches(long_lists(request, 6).map(requested), FEW))
def test_each_request_is_answered(agent, features, batch):
    """One acknowledgement for each that wants one, with its number and its header; errors always.

    netlink(7) on NLM_F_ACK and NLMSG_ERROR, rtnetlink(7).
    """
    hold(agent, batch, features)


host = st.integers(2, 5).map(lambda last: bytes([127, 0, 0, last]))
prefix = st.sampled_from([8, 24, 32])
change = st.one_of(
    st.tuples(st.just("add"), host, prefix),
    st.tuples(st.just("add"), host, prefix),
    st.tuples(st.just("delete"), host, prefix),
    st.tuples(st.just("list")),
)


class Addresses(Routes):
    """Addresses of the loopback device while it is down, when it has none by itself."""

    def __init__(self, groups: int = 0) -> None:
        super().__init__(groups)
        self.there: list[tuple[bytes, int]] = []
        self.told = groups != 0

    def body(self, host: bytes, prefix: int) -> bytes:
        head = bytes([C.AF_INET, prefix, 0, C.RT_SCOPE_HOST]) + LOOP.to_bytes(4, "little")
        return head + attribute(C.IFA_LOCAL, host) + attribute(C.IFA_ADDRESS, host)

    def do_add(self, host: bytes, prefix: int) -> None:
        flags = C.NLM_F_ACK | C.NLM_F_CREATE | C.NLM_F_EXCL
        new = (host, prefix) not in self.there
        sequence = self.ask(C.RTM_NEWADDR, flags, self.body(host, prefix))
        if new:
            self.there.append((host, prefix))
            self.notified(C.RTM_NEWADDR, host, prefix)
        self.acknowledged(0 if new else -errno.EEXIST, sequence)
        self.quiet()

    def do_delete(self, host: bytes, prefix: int) -> None:
        there = (host, prefix) in self.there
        # With an address its secondaries would go as well: only a last one is deleted here.
        if there and len(self.there) > 1:
            return
        sequence = self.ask(C.RTM_DELADDR, C.NLM_F_ACK, self.body(host, prefix))
        if there:
            self.there.remove((host, prefix))
            self.notified(C.RTM_DELADDR, host, prefix)
        self.acknowledged(0 if there else -errno.EADDRNOTAVAIL, sequence)
        self.quiet()

    def notified(self, what: int, host: bytes, prefix: int) -> None:
        if not self.told:
            return
        ref, into = self.answer()

        def check(trace) -> None:
            kind, _, body = messages(trace.bytes(ref, into)[: trace[ref]])[0]
            assert (kind, body[1]) == (what, prefix)
            assert attribute(C.IFA_LOCAL, host) in body

        self.ensure(check)

    def do_list(self) -> None:
        body = bytes([C.AF_INET]) + bytes(7)
        sequence = self.ask(C.RTM_GETADDR, C.NLM_F_DUMP, body)
        answers = [self.answer(), self.answer()] if self.there else [self.answer()]
        meant = sorted((host, prefix) for host, prefix in self.there)

        def check(trace) -> None:
            raw = [trace.bytes(ref, into)[: max(trace[ref], 0)] for ref, into in answers]
            found = [each for part in raw for each in messages(part)]
            assert {number for _, number, _ in found} == {sequence}
            assert found[-1][0] == C.NLMSG_DONE
            seen = []
            for kind, _, body in found[:-1]:
                assert kind == C.RTM_NEWADDR
                at = body.index((8).to_bytes(2, "little") + C.IFA_LOCAL.to_bytes(2, "little")) + 4
                seen.append((body[at : at + 4], body[1]))
            assert sorted(seen) == meant

        self.ensure(check)


def listed(groups: int, operations: list[tuple]) -> Case:
    script = Addresses(groups)
    script.play(operations)
    script.do_list()
    return script.case(own_network())


IFADDR = 1 << (C.RTNLGRP_IPV4_IFADDR - 1)
lists = st.builds(listed, st.sampled_from([0, IFADDR]), long_lists(change, 6))


@given(batch=batches(lists, FEW))
def test_addresses_are_those_that_were_added(agent, features, batch):
    """EEXIST for one that is there, EADDRNOTAVAIL for one that is not; a group hears of each.

    rtnetlink(7) on RTM_NEWADDR, RTM_DELADDR and RTM_GETADDR.
    """
    hold(agent, batch, features)


UDP_HEAD = 28
"""Bytes of the headers of IPv4 and UDP without options."""


def _packet(b: Builder) -> Ref:
    return b.call("socket", C.AF_PACKET, C.SOCK_RAW, 0)


@pytest.fixture
def packets(agent, features) -> frozenset[str]:
    """The features, with that of packet sockets, for which a module may have to be loaded."""
    sandbox = replace(own_network(), timeout=PATIENCE)
    return features | probes.features(agent, [probes.Probe("packet", _packet)], sandbox)


def overheard(kind: int, sizes: list[int], bound: bool) -> Case:
    """What goes over the loopback device is seen going out and coming in."""
    script = Talk(arena=1 << 18)
    script.needs.add("packet")
    script.loopback_up()
    protocol = int.from_bytes(C.ETH_P_ALL.to_bytes(2, "big"), "little")
    ear: Value = script.works("socket", C.AF_PACKET, kind, protocol)
    if bound:
        name = C.AF_PACKET.to_bytes(2, "little") + C.ETH_P_ALL.to_bytes(2, "big")
        name += LOOP.to_bytes(4, "little") + bytes(12)
        script.returns(0, "bind", ear, script.content(name), 20)
    fd = script.works("socket", C.AF_INET, C.SOCK_DGRAM, 0)
    target = script.content(address(C.AF_INET, LOOPBACK[C.AF_INET], 0))
    script.returns(0, "bind", fd, target, target.size)
    length = script.content((16).to_bytes(4, "little"))
    script.returns(0, "getsockname", fd, target, length)
    link = 14 if kind == C.SOCK_RAW else 0
    for index, size in enumerate(sizes):
        data = pattern(index, size)
        script.returns(size, "sendto", fd, script.content(data), size, 0, target, 16)
        for way in (C.PACKET_OUTGOING, C.PACKET_HOST):
            into, place = script.buffer(2100), script.buffer(20)
            room = script.content((20).to_bytes(4, "little"))
            whole = link + UDP_HEAD + size
            ref = script.returns(
                whole, "recvfrom", ear, into, into.size, 0, place, room, out=[into, place]
            )
            script.ensure(
                lambda trace, ref=ref, into=into, place=place, way=way, data=data: heard(
                    trace.bytes(ref, into)[: trace[ref]], trace.bytes(ref, place), way, data
                )
            )
    return script.case(own_network())


def heard(frame: bytes, place: bytes, way: int, data: bytes) -> None:
    assert frame.endswith(data), "another frame"
    family, protocol = int.from_bytes(place[:2], "little"), int.from_bytes(place[2:4], "big")
    assert (family, protocol) == (C.AF_PACKET, C.ETH_P_IP)
    assert int.from_bytes(place[4:8], "little") == LOOP
    assert place[10] == way, "struct sockaddr_ll, sll_pkttype"


kinds = st.sampled_from([C.SOCK_RAW, C.SOCK_DGRAM])
overhearing = st.builds(overheard, kinds, st.lists(st.integers(1, 2000), max_size=3), st.booleans())


@given(batch=batches(overhearing, FEW))
def test_a_packet_socket_sees_both_ways(agent, packets, batch):
    """Each datagram is seen leaving and arriving, with its link's header or without: packet(7)."""
    hold(agent, batch, packets)
