"""What travels with messages: flags of send(2) and recv(2), descriptors, credentials, TLS."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.model import Value as FactValue
from hostabi.surfaces.probing import Probe, Questions, Read
from hostabi.surfaces.slots import Patch, control, controls, message, patched, words
from hostabi.syscalls.builder import Number, Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_SCM_PIDFD = 4
"""unix(7); in no header of the user interface."""
_SEND = ("OOB", "DONTROUTE", "DONTWAIT", "EOR", "NOSIGNAL", "MORE", "ZEROCOPY")
_RECEIVE = ("PEEK", "DONTWAIT", "TRUNC", "WAITALL", "CMSG_CLOEXEC", "ERRQUEUE", "CTRUNC")
_KINDS = ("STREAM", "DGRAM", "SEQPACKET")
_NUMBERED = C.SOF_TIMESTAMPING_OPT_ID | C.SOF_TIMESTAMPING_TX_SOFTWARE
_PORT = (0x1F90).to_bytes(2, "big")
_HERE = bytes((127, 0, 0, 1))
_DATAGRAM = (
    ("MSG_DONTROUTE", C.MSG_DONTROUTE),
    ("MSG_CONFIRM", 0x800),
    ("MSG_MORE", C.MSG_MORE),
    ("MSG_ZEROCOPY", C.MSG_ZEROCOPY),
    ("MSG_PROBE", 0x10),
)
"""send(2); two of them are in no header of the user interface."""
_SENT = (
    ("IP_TTL", C.SOL_IP, C.IP_TTL, words(9)),
    ("IP_TOS", C.SOL_IP, C.IP_TOS, words(8)),
    ("IP_PKTINFO", C.SOL_IP, C.IP_PKTINFO, words(1, 0, 0)),
    ("IP_PROTOCOL", C.SOL_IP, C.IP_PROTOCOL, words(17)),
    ("UDP_SEGMENT", C.SOL_UDP, C.UDP_SEGMENT, words(1, size=2)),
    ("SO_MARK", C.SOL_SOCKET, C.SO_MARK, words(1)),
    ("SO_PRIORITY", C.SOL_SOCKET, C.SO_PRIORITY, words(1)),
    ("SCM_TXTIME", C.SOL_SOCKET, C.SO_TXTIME, bytes(8)),
    ("SCM_TS_OPT_ID", C.SOL_SOCKET, C.SCM_TS_OPT_ID, words(1)),
    ("SO_TIMESTAMPING", C.SOL_SOCKET, C.SO_TIMESTAMPING_OLD, words(2)),
)
"""Control messages of a datagram: name, level, type, data."""
_ASKED = (
    (C.SOL_IP, "IP_PKTINFO IP_RECVTTL IP_RECVTOS IP_RECVORIGDSTADDR"),
    (C.SOL_SOCKET, "SO_TIMESTAMP_OLD SO_RXQ_OVFL SO_RCVMARK SO_RCVPRIORITY"),
)
_CAME = (
    ("IP_PKTINFO", C.SOL_IP, C.IP_PKTINFO),
    ("IP_TTL", C.SOL_IP, C.IP_TTL),
    ("IP_ORIGDSTADDR", C.SOL_IP, C.IP_RECVORIGDSTADDR),
    ("SO_MARK", C.SOL_SOCKET, C.SO_MARK),
    ("SO_PRIORITY", C.SOL_SOCKET, C.SO_PRIORITY),
    ("SO_TIMESTAMP", C.SOL_SOCKET, C.SO_TIMESTAMP_OLD),
)
_CIPHERS = (
    ("AES_GCM_128", 8, 16, 4, 8),
    ("AES_GCM_256", 8, 32, 4, 8),
    ("AES_CCM_128", 8, 16, 4, 8),
    ("CHACHA20_POLY1305", 12, 32, 0, 8),
)
"""Sizes of initialisation vector, key, salt and number of the record: linux/tls.h."""


def messages() -> Iterator[Probe]:
    """All questions."""
    for kind in _KINDS:
        yield from _flags(kind)
    yield from _udp()
    yield from _passed()
    yield from _received()
    yield from _tcp()


def ciphers() -> Iterator[Probe]:
    """What the kernel's TLS knows; its ciphers have modules."""
    for cipher in _CIPHERS:
        yield from _tls(*cipher)


def _pair(q: Questions, kind: str) -> tuple[Number, Number]:
    pair = q.buffer(8)
    q.need("socketpair", C.AF_UNIX, getattr(C, f"SOCK_{kind}"), 0, pair)
    return pair.word(0), pair.word(1)


def _flags(kind: str) -> tuple[Probe, ...]:
    """Flags of a message to a local socket, and of fetching it."""
    q = Questions()
    one, other = _pair(q, kind)
    text, room = q.string("ab"), q.buffer(64)
    for name in _SEND:
        flag = getattr(C, f"MSG_{name}") | C.MSG_DONTWAIT
        q.ask(f"unix.{kind}.send.MSG_{name}", "sendto", one, text, 1, flag, 0, 0)
    for name in _RECEIVE:
        q.call("sendto", one, text, 2, C.MSG_DONTWAIT, 0, 0)
        flag = getattr(C, f"MSG_{name}") | C.MSG_DONTWAIT
        q.ask(f"unix.{kind}.receive.MSG_{name}", "recvfrom", other, room, 1, flag, 0, 0)
    head = message(q, room, 64)
    q.ask(f"unix.{kind}.recvmsg", "recvmsg", other, head, C.MSG_DONTWAIT)
    q.ask(f"unix.{kind}.SIOCINQ", "ioctl", other, C.SIOCINQ, room)
    q.ask(f"unix.{kind}.SIOCOUTQ", "ioctl", one, C.SIOCOUTQ, room)
    q.ask(f"unix.{kind}.SIOCATMARK", "ioctl", other, C.SIOCATMARK, room)
    q.ask(f"unix.{kind}.SIOCUNIXFILE", "ioctl", one, C.SIOCUNIXFILE, 0, opaque=True)
    q.ask(f"unix.{kind}.FIONREAD", "ioctl", other, C.FIONREAD, room)
    return q.probes()


def _udp() -> tuple[Probe, ...]:
    """Datagrams over the loopback device: flags, and control messages, ip(7), udp(7)."""
    q = Questions()
    name = q.content(words(C.AF_INET, size=2) + _PORT + _HERE + bytes(8))
    fd = q.need("socket", C.AF_INET, C.SOCK_DGRAM | C.SOCK_NONBLOCK, 0, opaque=True)
    _loopback(q, fd)
    one = q.content(words(1))
    q.need("setsockopt", fd, C.SOL_SOCKET, C.SO_REUSEADDR, one, 4)
    q.need("bind", fd, name, 16)
    text = q.string("ab")
    for flag, number in _DATAGRAM:
        q.ask(f"udp.send.{flag}", "sendto", fd, text, 2, number, name, 16)
    q.call("sendto", fd, text, 2, 0, name, 16)
    timed, numbered = q.content(words(C.CLOCK_MONOTONIC, 0)), q.content(words(_NUMBERED))
    q.call("setsockopt", fd, C.SOL_SOCKET, C.SO_TXTIME, timed, 8)
    q.call("setsockopt", fd, C.SOL_SOCKET, C.SO_TIMESTAMPING_OLD, numbered, 4)
    for kind, level, option, data in _SENT:
        head = message(q, text, 2, control=control(q, level, option, data), name=name)
        q.ask(f"udp.sendmsg.{kind}", "sendmsg", fd, head, 0)
    room = q.buffer(64)
    for _ in range(len(_DATAGRAM) + len(_SENT) + 2):
        q.call("recvfrom", fd, room, 64, C.MSG_DONTWAIT, 0, 0)
    for layer, options in _ASKED:
        for asked in options.split():
            q.call("setsockopt", fd, layer, getattr(C, asked), one, 4)
    q.call("sendto", fd, text, 2, 0, name, 16)
    q.call("poll", q.struct("struct pollfd", fd=fd, events=C.POLLIN), 1, 1000)
    got = q.buffer(512)
    head = message(q, room, 64, control=got)
    length, where = head.at(40, 8), (fd, head, C.MSG_PEEK | C.MSG_DONTWAIT)
    for kind, level, option in _CAME:
        read = _brings(got, head, level, option)
        q.ask(f"udp.recvmsg.{kind}", "recvmsg", *where, read=read, out=[got, length])
    return q.probes()


def _loopback(q: Questions, fd: Ref) -> None:
    """Bring the loopback device up, as it is not in a new network namespace; netdevice(7)."""
    request = q.content(b"lo".ljust(16, b"\0") + words(C.IFF_UP, size=2) + bytes(22))
    q.call("ioctl", fd, C.SIOCSIFFLAGS, request)


def _brings(got: Slot, head: Slot, level: int, kind: int) -> Read:
    """Whether a control message of this kind came."""

    def read(trace: Trace, ref: Ref) -> FactValue:
        length = trace.number(ref, head.at(40, 8))
        found = {(at, type_) for at, type_, _ in controls(trace.bytes(ref, got), length)}
        return keys.OK if (level, kind) in found else "nothing came"

    return read


def _passed() -> tuple[Probe, ...]:
    """Descriptors and credentials that a sender gives, unix(7)."""
    q = Questions()
    one, _ = _pair(q, "DGRAM")
    null = q.need("openat", C.AT_FDCWD, q.string("/dev/null"), C.O_RDWR)
    me = q.need("getpid", opaque=True)
    user, group = q.need("getuid"), q.need("getgid")
    mine: tuple[Patch, ...] = ((0, 4, me), (4, 4, user), (8, 4, group))
    text = q.string("a")
    pidfd = q.call("pidfd_open", me, 0)
    epoll = q.call("epoll_create1", 0)
    ring = q.call("io_uring_setup", 1, q.buffer(120))
    for key, fds in (
        ("SCM_RIGHTS", [null]),
        ("SCM_RIGHTS.several", [null, null, null]),
        ("SCM_RIGHTS.pidfd", [pidfd]),
        ("SCM_RIGHTS.epoll", [epoll]),
        ("SCM_RIGHTS.io_uring", [ring]),
    ):
        patches = [(4 * at, 4, fd) for at, fd in enumerate(fds)]
        passed = control(q, C.SOL_SOCKET, C.SCM_RIGHTS, bytes(4 * len(fds)), *patches)
        head = message(q, text, 1, control=passed)
        q.ask(f"unix.{key}.send", "sendmsg", one, head, C.MSG_DONTWAIT, needs=tuple(fds))
    claims: tuple[tuple[str, tuple[Patch, ...]], ...] = (
        ("own", mine),
        ("pid-1", ((0, 4, 1), *mine[1:])),
        ("uid-0", (mine[0], (4, 4, 0), mine[2])),
        ("uid-1", (mine[0], (4, 4, 1), mine[2])),
    )
    for key, claim in claims:
        passed = control(q, C.SOL_SOCKET, C.SCM_CREDENTIALS, bytes(12), *claim)
        head = message(q, text, 1, control=passed)
        q.ask(f"unix.SCM_CREDENTIALS.{key}", "sendmsg", one, head, C.MSG_DONTWAIT)
    return q.probes()


def _received() -> Iterator[Probe]:
    """What the kernel adds where the receiver asked for it, unix(7)."""
    for option, kind in (
        ("SO_PASSCRED", C.SCM_CREDENTIALS),
        ("SO_PASSPIDFD", _SCM_PIDFD),
        ("SO_TIMESTAMP_OLD", C.SO_TIMESTAMP_OLD),
    ):
        q = Questions()
        one, other = _pair(q, "DGRAM")
        text, on = q.string("a"), q.content(words(1))
        q.need("setsockopt", other, C.SOL_SOCKET, getattr(C, option), on, 4)
        q.need("sendto", one, text, 1, C.MSG_DONTWAIT, 0, 0)
        got = q.buffer(512)
        head = message(q, q.buffer(16), 16, control=got)
        read = _brings(got, head, C.SOL_SOCKET, kind)
        where = (other, head, C.MSG_DONTWAIT)
        q.ask(f"unix.{option}.received", "recvmsg", *where, read=read, out=[got, head.at(40, 8)])
        yield from q.probes()


def _connected(q: Questions) -> tuple[Ref, Ref]:
    """Two ends of a TCP connection over the loopback device."""
    name = q.buffer(16)
    listening = q.need("socket", C.AF_INET, C.SOCK_STREAM, 0, opaque=True)
    _loopback(q, listening)
    address = q.content(words(C.AF_INET, 0, size=2) + _HERE + bytes(8))
    q.need("bind", listening, address, 16)
    q.need("listen", listening, 1)
    q.need("getsockname", listening, name, patched(q.buffer(4), (0, 4, 16)))
    one = q.need("socket", C.AF_INET, C.SOCK_STREAM, 0, opaque=True)
    q.need("connect", one, name, 16)
    other = q.need("accept4", listening, 0, 0, C.SOCK_NONBLOCK, opaque=True)
    return one, other


def _tcp() -> tuple[Probe, ...]:
    """A connection: flags of its messages, repair, upper layers, tcp(7)."""
    q = Questions(timeout=10.0)
    one, other = _connected(q)
    text, room = q.string("ab"), q.buffer(256)
    for name in ("OOB", "DONTROUTE", "DONTWAIT", "EOR", "MORE", "ZEROCOPY", "FASTOPEN"):
        flag = getattr(C, f"MSG_{name}") | C.MSG_DONTWAIT
        q.ask(f"tcp.send.MSG_{name}", "sendto", one, text, 2, flag, 0, 0)
    q.call("sendto", one, text, 2, 0, 0, 0)
    # what was sent arrives some time later
    q.call("poll", q.struct("struct pollfd", fd=other, events=C.POLLIN), 1, 1000)
    for name in ("PEEK", "TRUNC", "WAITALL", "ERRQUEUE"):
        flag = getattr(C, f"MSG_{name}") | C.MSG_DONTWAIT
        q.ask(f"tcp.receive.MSG_{name}", "recvfrom", other, room, 1, flag, 0, 0)
    for name in ("SIOCINQ", "SIOCOUTQ", "SIOCOUTQNSD", "SIOCATMARK"):
        q.ask(f"tcp.{name}", "ioctl", one, getattr(C, name), room)
    q.ask("tcp.SIOCGSKNS", "ioctl", one, C.SIOCGSKNS, 0, opaque=True)
    length = patched(q.buffer(4), (0, 4, 256))
    for name in ("TCP_ZEROCOPY_RECEIVE", "TCP_CC_INFO", "TCP_TIMESTAMP"):
        number = getattr(C, name)
        q.ask(f"tcp.connected.{name}.get", "getsockopt", one, C.SOL_TCP, number, room, length)
    for name in ("espintcp", "mptcp", "smc", "tls"):
        where = (other, C.SOL_TCP, C.TCP_ULP, q.string(name), len(name))
        q.ask(f"tcp.TCP_ULP.{name}", "setsockopt", *where)
    value = q.content(words(1))
    repair = q.call("setsockopt", one, C.SOL_TCP, C.TCP_REPAIR, value, 4)
    for name in ("TCP_REPAIR_QUEUE", "TCP_TIMESTAMP"):
        number = getattr(C, name)
        where = (one, C.SOL_TCP, number, value, 4)
        q.ask(f"tcp.repair.{name}.set", "setsockopt", *where, needs=(repair,))
    window = (one, C.SOL_TCP, C.TCP_REPAIR_WINDOW, room, patched(q.buffer(4), (0, 4, 20)))
    q.ask("tcp.repair.TCP_REPAIR_WINDOW.get", "getsockopt", *window, needs=(repair,))
    return q.probes()


def _tls(cipher: str, vector: int, key_size: int, salt: int, record: int) -> tuple[Probe, ...]:
    """Ciphers of the kernel's TLS, kernel document networking/tls.rst."""
    q = Questions(timeout=10.0)
    one, other = _connected(q)
    layer = (C.SOL_TCP, C.TCP_ULP, q.string("tls"), 3)
    layered = {end: q.call("setsockopt", end, *layer) for end in (one, other)}
    number = getattr(C, f"TLS_CIPHER_{cipher}")
    rest = bytes(vector + key_size + salt + record)
    for end, name in ((one, "1.2"), (other, "1.3")):
        version = getattr(C, f"TLS_{name.replace('.', '_')}_VERSION")
        info = q.content(words(version, number, size=2) + rest)
        for way in ("TX", "RX"):
            where = (end, C.SOL_TLS, getattr(C, f"TLS_{way}"), info, info.size)
            q.ask(f"tls.{cipher}.{way}.{name}", "setsockopt", *where, given=(layered[end],))
    if cipher == "AES_GCM_128":
        on = q.content(words(1))
        for name in ("TLS_TX_ZEROCOPY_RO", "TLS_RX_EXPECT_NO_PAD", "TLS_TX_MAX_PAYLOAD_LEN"):
            length = patched(q.buffer(4), (0, 4, 2 if name.endswith("LEN") else 4))
            option = (C.SOL_TLS, getattr(C, name), q.buffer(4), length)
            q.ask(f"tls.{name}.get", "getsockopt", other, *option, given=(layered[other],))
        switch = (C.SOL_TLS, C.TLS_TX_ZEROCOPY_RO, on, 4)
        q.ask("tls.TLS_TX_ZEROCOPY_RO.set", "setsockopt", other, *switch, given=(layered[other],))
    return q.probes()
