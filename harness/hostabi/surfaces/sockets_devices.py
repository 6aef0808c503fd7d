"""Requests about network devices by ioctl(2) on a socket: netdevice(7)."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import patched, words
from hostabi.syscalls.table import C

_READ = (
    "SIOCGIFINDEX SIOCGIFFLAGS SIOCGIFADDR SIOCGIFNETMASK SIOCGIFBRDADDR SIOCGIFDSTADDR "
    "SIOCGIFMETRIC SIOCGIFMTU SIOCGIFHWADDR SIOCGIFMAP SIOCGIFTXQLEN SIOCGIFPFLAGS SIOCGIFNAME "
    "SIOCGHWTSTAMP SIOCGIFMEM SIOCGIFSLAVE SIOCGIFBR SIOCGIFCOUNT SIOCGIFENCAP"
)
_SET = (
    ("SIOCSIFMTU", words(40000)),
    ("SIOCSIFTXQLEN", words(100)),
    ("SIOCSIFFLAGS", words(C.IFF_UP, size=2)),
    ("SIOCSIFADDR", words(C.AF_INET, 0, size=2) + bytes((10, 0, 0, 1))),
    ("SIOCSIFNETMASK", words(C.AF_INET, 0, size=2) + bytes((255, 0, 0, 0))),
    ("SIOCSIFBRDADDR", words(C.AF_INET, 0, size=2) + bytes((10, 255, 255, 255))),
    ("SIOCSIFHWADDR", words(C.ARPHRD_LOOPBACK, size=2)),
    ("SIOCSIFMETRIC", words(1)),
    ("SIOCSIFNAME", b"lo1\0"),
)
_ETHTOOL = (
    ("ETHTOOL_GDRVINFO", 0x03),
    ("ETHTOOL_GLINK", 0x0A),
    ("ETHTOOL_GTXCSUM", 0x16),
    ("ETHTOOL_GSTRINGS", 0x1B),
    ("ETHTOOL_GTSO", 0x1E),
    ("ETHTOOL_GPERMADDR", 0x20),
    ("ETHTOOL_GGSO", 0x23),
    ("ETHTOOL_GGRO", 0x2B),
    ("ETHTOOL_GSSET_INFO", 0x37),
    ("ETHTOOL_GFEATURES", 0x3A),
    ("ETHTOOL_GET_TS_INFO", 0x41),
    ("ETHTOOL_GLINKSETTINGS", 0x4C),
)
"""linux/ethtool.h, which our tables of constants do not have."""
_LO = b"lo".ljust(16, b"\0")


def devices() -> Iterator[Probe]:
    """All questions, about devices of a network namespace that nobody else uses."""
    q = Questions(namespaces=C.CLONE_NEWNET)
    fd = q.need("socket", C.AF_INET, C.SOCK_DGRAM, 0, opaque=True)
    for name in _READ.split():
        request = q.content(_LO + words(1) + bytes(20))
        q.ask(name, "ioctl", fd, getattr(C, name), request)
    room = q.buffer(256)
    several = patched(q.buffer(16), (0, 4, 256), (8, 8, room))
    q.ask("SIOCGIFCONF", "ioctl", fd, C.SIOCGIFCONF, several)
    for name, number in _ETHTOOL:
        asked = q.content(words(number) + bytes(508))
        request = patched(q.content(_LO + bytes(24)), (16, 8, asked))
        q.ask(f"SIOCETHTOOL.{name}", "ioctl", fd, C.SIOCETHTOOL, request)
    for name, value in _SET:
        request = q.content(_LO + value.ljust(24, b"\0"))
        q.ask(name, "ioctl", fd, getattr(C, name), request)
    q.ask("SIOCBRADDBR", "ioctl", fd, C.SIOCBRADDBR, q.string("br0"), opaque=True)
    yield from q.probes()
