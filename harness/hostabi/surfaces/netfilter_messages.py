"""Messages to the packet filter by netlink, and how they are answered: linux/netlink.h.

A message is bytes, and so is an attribute of it. Most numbers are in the order of
bytes that packets have, :func:`big`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hostabi.diff import keys
from hostabi.model import Value as FactValue
from hostabi.surfaces import netlink_messages
from hostabi.surfaces.netlink_messages import HEAD, raw
from hostabi.surfaces.probing import Questions
from hostabi.surfaces.slots import Patch, patched, together
from hostabi.syscalls import table
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C, errno_number
from hostabi.syscalls.trace import Trace

REQUEST = C.NLM_F_REQUEST | C.NLM_F_ACK
"""Flags of a message that is answered, whether it works or not."""
DUMP = C.NLM_F_REQUEST | C.NLM_F_DUMP
"""Flags of a message that is answered with all there is."""
_ROOM = 8192
_DATAGRAMS = 16
"""Answers that are fetched at once; only the first is looked at."""
_VECTOR = 64
"""Bytes of struct mmsghdr, recvmmsg(2): a struct msghdr of 56, and the length."""


def attribute(kind: int, content: bytes = b"") -> bytes:
    """One struct nlattr with its content."""
    return netlink_messages.attribute(kind, raw(content)).raw


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that consists of attributes."""
    return netlink_messages.nest(kind, *map(raw, parts)).raw


def byte(kind: int, value: int) -> bytes:
    """An attribute that is a number of one byte."""
    return attribute(kind, bytes((value,)))


def big(kind: int, value: int, size: int = 4) -> bytes:
    """An attribute that is a number in the order of bytes that packets have."""
    return attribute(kind, (value & (1 << 8 * size) - 1).to_bytes(size, "big"))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string with its NUL."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, *parts: bytes, flags: int = REQUEST) -> bytes:
    """One struct nlmsghdr, and the parts after it."""
    return netlink_messages.message(kind, flags, *map(raw, parts)).raw


class Netlink:
    """A netlink socket of a program, and questions that are asked through it.

    Each message is answered before the next is sent, and one datagram is one
    answer. Netlink tells errors in messages. So that they are seen, needed and
    reproduced as those of other calls, the code of an answer is given to lseek(2) on
    /proc/self/mem, which returns what it is told, also if that is negative. Where the
    answer is data, a struct nfgenmsg is in that place, and that is no errno.
    """

    def __init__(self, q: Questions, protocol: int = C.NETLINK_NETFILTER) -> None:
        self._q = q
        self._memory = q.need("openat", C.AT_FDCWD, q.string("/proc/self/mem"), C.O_RDONLY)
        self.fd = q.need("socket", C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, protocol, opaque=True)
        self._room = q.buffer(_ROOM)
        self._unanswered = patched(self._room, (HEAD, 4, -errno_number("ENODATA")))
        self._datagrams = self._fetching()

    def say(self, sent: bytes) -> Ref:
        """Send what later questions need; the call tells whether it was answered well."""
        self._exchange(sent)
        return self._q.call("lseek", *self._told(), opaque=True)

    def ask(
        self, key: str, sent: bytes, *, needs: Sequence[Ref] = (), fine: Collection[str] = ()
    ) -> Ref:
        """Send ``sent``, one message or several; the first answer is the fact ``key``."""
        self._exchange(sent)
        return self._q.ask(key, "lseek", *self._told(), needs=needs, fine=fine, opaque=True)

    def ask_private(self, key: str, sent: bytes, *, needs: Sequence[Ref] = ()) -> Ref:
        """The same of a subsystem that has errors of its own, above those that calls return."""
        self._exchange(sent)
        return self._q.ask(key, "lseek", *self._told(), needs=needs, read=_private)

    def _exchange(self, sent: bytes) -> None:
        q = self._q
        content = together(q.content(sent), self._unanswered)
        q.call("sendto", self.fd, content, len(sent), 0, 0, 0)
        q.call("recvmmsg", self.fd, self._datagrams, _DATAGRAMS, C.MSG_DONTWAIT, 0, opaque=True)

    def _told(self) -> tuple[Value, ...]:
        return (self._memory, self._room.at(HEAD, 4).word(0), C.SEEK_SET)

    def _fetching(self) -> Slot:
        """Room for all answers there are; those behind the first are cut off."""
        q = self._q
        first = q.struct("struct iovec", iov_base=self._room, iov_len=_ROOM)
        others = q.struct("struct iovec", iov_base=q.buffer(HEAD), iov_len=HEAD)
        places: list[Patch] = []
        for index in range(_DATAGRAMS):
            at = index * _VECTOR
            places += [(at + 16, 8, others if index else first), (at + 24, 8, 1)]
        slot = q.buffer(_VECTOR * _DATAGRAMS)
        # put in place once, as the kernel leaves it for the next call
        q.call(
            "recvmmsg",
            self.fd,
            together(patched(slot, *places), first, others),
            1,
            C.MSG_DONTWAIT,
            0,
        )
        return slot


def _private(trace: Trace, ref: Ref) -> FactValue:
    return table.errno_name(-trace[ref]) if trace[ref] < 0 else keys.OK
