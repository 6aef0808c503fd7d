"""Options of sockets: what was set is got, within the bounds that their pages give."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from sockets import Talk

from hostabi.syscalls.cases import Case, batches, hold
from hostabi.syscalls.table import C

UDP, TCP = C.SOCK_DGRAM, C.SOCK_STREAM


@dataclass(frozen=True)
class Option:
    """An option and the values it takes; a switch is only ever 0 or 1 when it is got."""

    level: int
    name: int
    low: int = 0
    high: int = 1
    switch: bool = False


def switches(level: int, *names: str) -> list[Option]:
    return [Option(level, getattr(C, name), 0, 100, True) for name in names]


SOCKET = [
    *switches(C.SOL_SOCKET, "SO_KEEPALIVE", "SO_BROADCAST", "SO_REUSEADDR", "SO_REUSEPORT",
              "SO_OOBINLINE", "SO_DONTROUTE", "SO_TIMESTAMP", "SO_NO_CHECK", "SO_RXQ_OVFL"),
    Option(C.SOL_SOCKET, C.SO_PRIORITY, 0, 6),
    Option(C.SOL_SOCKET, C.SO_RCVLOWAT, 1, 1000),
]  # fmt: skip
IPV4 = [
    *switches(C.SOL_IP, "IP_PKTINFO", "IP_RECVTTL", "IP_RECVTOS", "IP_FREEBIND", "IP_RECVERR"),
    Option(C.SOL_IP, C.IP_TTL, 1, 255),
    Option(C.SOL_IP, C.IP_MTU_DISCOVER, 0, 5),
    Option(C.SOL_IP, C.IP_MULTICAST_TTL, 0, 255),
    Option(C.SOL_IP, C.IP_MULTICAST_LOOP, 0, 100, True),
]
IPV6 = [
    *switches(C.SOL_IPV6, "IPV6_V6ONLY", "IPV6_RECVPKTINFO", "IPV6_RECVHOPLIMIT", "IPV6_RECVTCLASS",
              "IPV6_RECVERR"),
    Option(C.SOL_IPV6, C.IPV6_UNICAST_HOPS, 0, 255),
    Option(C.SOL_IPV6, C.IPV6_TCLASS, 0, 255),
    Option(C.SOL_IPV6, C.IPV6_MULTICAST_HOPS, 0, 255),
]  # fmt: skip
OF_TCP = [
    *switches(C.SOL_TCP, "TCP_NODELAY"),
    Option(C.SOL_TCP, C.TCP_CORK, 0, 1, True),
    Option(C.SOL_TCP, C.TCP_KEEPIDLE, 1, 32767),
    Option(C.SOL_TCP, C.TCP_KEEPINTVL, 1, 32767),
    Option(C.SOL_TCP, C.TCP_KEEPCNT, 1, 127),
    Option(C.SOL_TCP, C.TCP_SYNCNT, 1, 127),
    Option(C.SOL_TCP, C.TCP_USER_TIMEOUT, 0, 10**6),
    Option(C.SOL_TCP, C.TCP_DEFER_ACCEPT, 0, 0),
]
INTERNET = {C.SO_RCVLOWAT, C.SO_REUSEPORT, C.SO_NO_CHECK}
"""Options that a unix socket has no use for."""
BY_KIND = {
    (C.AF_UNIX, TCP): [each for each in SOCKET if each.name not in INTERNET],
    (C.AF_INET, UDP): [*SOCKET, *[each for each in IPV4 if each.name != C.IP_MULTICAST_LOOP]],
    (C.AF_INET, TCP): [*[each for each in SOCKET if each.name != C.SO_BROADCAST], *OF_TCP],
    (C.AF_INET6, UDP): [*SOCKET, *IPV6],
    (C.AF_INET6, TCP): OF_TCP,
}


@st.composite
def settings(draw) -> tuple[tuple[int, int], list[tuple[Option, int]]]:
    kind = draw(st.sampled_from(sorted(BY_KIND)))
    chosen = draw(st.lists(st.sampled_from(BY_KIND[kind]), max_size=8))
    return kind, [(each, draw(st.integers(each.low, each.high))) for each in chosen]


def get(script: Talk, fd, option: Option, value: int, size: int = 4) -> None:
    room, length = script.buffer(8), script.content(size.to_bytes(4, "little"))
    ref = script.returns(
        0, "getsockopt", fd, option.level, option.name, room, length, out=[room, length]
    )
    meant = value.to_bytes(4, "little", signed=True)
    script.holds(ref, room, meant.ljust(8, b"\0"))
    script.holds(ref, length, (4).to_bytes(4, "little"))


def kept(made: tuple[tuple[int, int], list[tuple[Option, int]]]) -> Case:
    (family, kind), chosen = made
    script = Talk()
    fd = script.works("socket", family, kind, 0)
    held: dict[Option, int] = {}
    for option, value in chosen:
        script.option(fd, option.level, option.name, value)
        held[option] = int(bool(value)) if option.switch else value
        get(script, fd, option, held[option])
        short = script.content(bytes(4))
        refused = (fd, option.level, option.name, short)
        if option.level == C.SOL_SOCKET:
            script.returns(-errno.EINVAL, "setsockopt", *refused, 3)
    for option, value in held.items():
        get(script, fd, option, value, 8)
    return script.case()


@given(batch=batches(settings().map(kept)))
def test_options_are_kept(agent, features, batch):
    """A number is got as it was set, a switch as 0 or 1, and none touches another.

    socket(7), ip(7), ipv6(7), tcp(7), getsockopt(2) on the length.
    """
    hold(agent, batch, features)


def told(family: int, kind: int, flags: int) -> Case:
    """What a socket is cannot be set."""
    script = Talk()
    fd = script.works("socket", family, kind | flags, 0)
    protocol = 0
    if family in (C.AF_INET, C.AF_INET6):
        protocol = {TCP: C.IPPROTO_TCP, UDP: C.IPPROTO_UDP}[kind]
    meant = {
        "SO_TYPE": kind, "SO_DOMAIN": family, "SO_PROTOCOL": protocol, "SO_ERROR": 0,
        "SO_ACCEPTCONN": 0,
    }  # fmt: skip
    for name, value in meant.items():
        option = Option(C.SOL_SOCKET, getattr(C, name))
        get(script, fd, option, value)
        script.returns(
            -errno.ENOPROTOOPT, "setsockopt", fd, C.SOL_SOCKET, option.name, script.buffer(4), 4
        )
    script.returns(
        C.O_RDWR | (C.O_NONBLOCK if flags & C.SOCK_NONBLOCK else 0), "fcntl", fd, C.F_GETFL
    )
    script.returns(int(bool(flags & C.SOCK_CLOEXEC)), "fcntl", fd, C.F_GETFD)
    script.returns(-errno.ENOPROTOOPT, "setsockopt", fd, C.SOL_SOCKET, 999, script.buffer(4), 4)
    script.returns(-errno.EINVAL, "socket", family, kind | 1 << 20, 0)
    return script.case()


families = st.sampled_from([C.AF_UNIX, C.AF_INET, C.AF_INET6])
flags = st.sampled_from([0, C.SOCK_NONBLOCK, C.SOCK_CLOEXEC, C.SOCK_NONBLOCK | C.SOCK_CLOEXEC])


@given(batch=batches(st.builds(told, families, st.sampled_from([TCP, UDP]), flags)))
def test_a_socket_says_what_it_is(agent, features, batch):
    """Domain, type and protocol are those of socket(2), and nobody sets them: socket(7)."""
    hold(agent, batch, features)


LEAST = 256
"""Bytes of the smallest receive buffer that socket(7) allows, before it is doubled."""


def sized(family: int, asked: int, name: str) -> Case:
    """socket(7): the kernel doubles the value, within the limits of sysctl."""
    script = Talk()
    fd = script.works("socket", family, UDP, 0)
    script.option(fd, C.SOL_SOCKET, getattr(C, name), asked)
    room, length = script.buffer(4), script.content((4).to_bytes(4, "little"))
    ref = script.returns(
        0, "getsockopt", fd, C.SOL_SOCKET, getattr(C, name), room, length, out=[room]
    )
    limited = "rmem_max" if name == "SO_RCVBUF" else "wmem_max"
    where = script.string(f"/proc/sys/net/core/{limited}")
    limit = script.works("openat", C.AT_FDCWD, where, C.O_RDONLY, 0)
    text = script.buffer(32)
    got = script.works("read", limit, text, 32, out=[text])

    def check(trace) -> None:
        most = int(trace.bytes(got, text).split(b"\0")[0])
        found = trace.number(ref, room)
        if 4096 <= asked <= most:
            assert found == 2 * asked
        elif asked > most:
            assert found == 2 * most
        else:
            assert found >= LEAST, "a buffer has a least size"

    script.ensure(check)
    return script.case()


sizes = st.one_of(st.integers(0, 100), st.integers(4096, 200000), st.integers(10**7, 10**9))
names = st.sampled_from(["SO_RCVBUF", "SO_SNDBUF"])


@given(batch=batches(st.builds(sized, families, sizes, names)))
def test_buffers_are_doubled_within_limits(agent, features, batch):
    """Twice what was asked for, at most twice the host's limit, and never nothing: socket(7)."""
    hold(agent, batch, features)


def lasting(seconds: int, micro: int, linger: tuple[int, int]) -> Case:
    script = Talk()
    fd = script.works("socket", C.AF_UNIX, TCP, 0)
    for name in (C.SO_RCVTIMEO, C.SO_SNDTIMEO):
        raw = seconds.to_bytes(8, "little") + micro.to_bytes(8, "little")
        script.returns(0, "setsockopt", fd, C.SOL_SOCKET, name, script.content(raw), 16)
        wrong = script.content(bytes(8) + (10**6).to_bytes(8, "little"))
        script.returns(-errno.EDOM, "setsockopt", fd, C.SOL_SOCKET, name, wrong, 16)
        room, length = script.buffer(16), script.content((16).to_bytes(4, "little"))
        ref = script.returns(0, "getsockopt", fd, C.SOL_SOCKET, name, room, length, out=[room])

        def check(trace, ref=ref, room=room) -> None:
            found = trace.bytes(ref, room)
            whole, part = (int.from_bytes(found[at : at + 8], "little") for at in (0, 8))
            total, meant = whole * 10**6 + part, seconds * 10**6 + micro
            # Kept in ticks of at least 100 Hz, of which a part counts as one.
            assert meant <= total < meant + 20000

        script.ensure(check)
    raw = b"".join(each.to_bytes(4, "little") for each in linger)
    room, length = script.buffer(8), script.content((8).to_bytes(4, "little"))
    script.returns(0, "setsockopt", fd, C.SOL_SOCKET, C.SO_LINGER, script.content(raw), 8)
    ref = script.returns(0, "getsockopt", fd, C.SOL_SOCKET, C.SO_LINGER, room, length, out=[room])
    on, time = linger
    script.ensure(lambda trace: lingers(trace.bytes(ref, room), on, time))
    return script.case()


def lingers(raw: bytes, on: int, time: int) -> None:
    found = [int.from_bytes(raw[at : at + 4], "little") for at in (0, 4)]
    assert found[0] == int(bool(on))
    if on:
        assert found[1] == time


durations = st.builds(
    lasting, st.integers(0, 1000), st.integers(0, 10**6 - 1),
    st.tuples(st.integers(0, 2), st.integers(0, 1000)),
)  # fmt: skip


@given(batch=batches(durations))
def test_time_outs_are_kept(agent, features, batch):
    """SO_RCVTIMEO and SO_SNDTIMEO up to a tick, SO_LINGER in seconds; EDOM for a bad fraction.

    socket(7).
    """
    hold(agent, batch, features)
