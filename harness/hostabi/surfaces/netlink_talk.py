"""Conversations over netlink in a program, where the kernel's answer is what a call returns.

Netlink reports errors in messages. So that they are seen, needed and reproduced as those of
any other call, the code of an answer is given to lseek(2) on /proc/self/mem, which returns
what it is told, also a negative number: ``-EPERM`` for the answer that says EPERM, and
``-ENODATA`` where none came.

Whether an answer has an attribute, and which value, is decided by a filter on the socket,
socket(7), which lets pass nothing but errors and what has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostabi.model import Kind
from hostabi.surfaces.netlink_messages import HEAD, Piece
from hostabi.surfaces.probing import Questions, Read
from hostabi.surfaces.slots import patched, together, words
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C, errno_number

ROOM = 8192
"""Bytes for one answer; what is longer is cut off, and dumps go on in further ones."""
_NOTHING = -errno_number("ENODATA")
_LOAD = C.BPF_LD | C.BPF_ABS
_IMMEDIATE = C.BPF_LD | C.BPF_IMM
_INDEX = C.BPF_LDX | C.BPF_IMM
_INDIRECT = C.BPF_LD | C.BPF_IND
_EQUAL = C.BPF_JMP | C.BPF_JEQ
_RETURN = C.BPF_RET
_TO_INDEX = C.BPF_MISC | C.BPF_TAX
_ALL = 0xFFFF
_HALF = 0x08
"""BPF_H of linux/bpf_common.h; our tables take it for the guard of a header."""
_WIDTHS = {1: C.BPF_B, 2: _HALF, 4: C.BPF_W}
_TYPE, _FLAGS, _SEQUENCE = 4, 6, 8
"""Where a message has its type, its flags and its number, in bytes from its start."""

Filter = list[tuple[int, int, int, int]]


class Talk:
    """A socket of one protocol of netlink, and questions asked through it.

    ``given`` and ``needs`` of questions are answers to other ones, as
    :class:`hostabi.surfaces.probing.Probe` says. All are asked, whatever comes back.
    """

    def __init__(self, q: Questions, protocol: int) -> None:
        self.q = q
        self.room = q.buffer(ROOM)
        """Where answers are put."""
        self._memory = q.call("openat", C.AT_FDCWD, q.string("/proc/self/mem"), C.O_RDONLY)
        self._protocol = protocol
        self._sent = 0
        self.socket = self._new()

    def renew(self) -> None:
        """A new socket, for one that is still busy with a dump."""
        self.q.call("close", self.socket)
        self.socket = self._new()

    def option(self, name: str, value: int = 1) -> Ref:
        """Set an option of the socket."""
        number = self.q.content(words(value))
        return self.q.call("setsockopt", self.socket, C.SOL_NETLINK, getattr(C, name), number, 4)

    def do(self, message: Piece) -> Ref:
        """Send a message; the result is the code of its answer."""
        self._exchange(message)
        return self.q.call("lseek", self._memory, self.room.word(HEAD // 4), 0, opaque=True)

    def ask(
        self, key: str, message: Piece, given: Sequence[Ref] = (), needs: Sequence[Ref] = ()
    ) -> Ref:
        """Send a message; the code of its answer is the fact ``key``."""
        sent = self._exchange(message)
        return self.code(key, given, (*needs, sent))

    def dump(self, key: str, message: Piece, given: Sequence[Ref] = ()) -> Ref:
        """Ask for a list. The socket is new afterwards."""
        asked = self.ask(key, message, given)
        self.renew()
        return asked

    def told(
        self,
        key: str,
        message: Piece,
        at: int,
        path: Sequence[int],
        value: tuple[int, int] | None = None,
        *,
        given: Sequence[Ref] = (),
        needs: Sequence[Ref] = (),
    ) -> Ref:
        """Whether the first answer has an attribute, else ENODATA.

        ``at`` is where its attributes start, from the message's start, ``path``
        leads to it from the outermost; ``value`` are the bytes and the number
        that it must have. Until :meth:`all_pass`, nothing else is heard.
        """
        self._filter(having(self._sent + 1, at, path, value))
        return self.ask(key, message, given, needs)

    def all_pass(self) -> None:
        """Hear all answers again."""
        number = self.q.content(words(0))
        self.q.call("setsockopt", self.socket, C.SOL_SOCKET, C.SO_DETACH_FILTER, number, 4)

    def flagged(self, key: str, message: Piece, flag: int, needs: Sequence[Ref] = ()) -> None:
        """Whether the first answer's header has a flag."""
        sent = self._exchange(message)
        self.number(key, _FLAGS, 2, lambda trace, ref: bool(trace[ref] & flag), (*needs, sent))

    def send(self, message: Piece) -> Ref:
        """Send a message. In the room then is the code for: nothing has come yet."""
        self._sent += 1
        raw = message.raw[:_SEQUENCE] + words(self._sent) + message.raw[_SEQUENCE + 4 :]
        slot = patched(self.q.content(raw), *message.late)
        slot = together(slot, patched(self.room, (HEAD, 4, _NOTHING)))
        return self.q.call("sendto", self.socket, slot, slot.size, 0, 0, 0)

    def receive(self, key: str, read: Read, kind: Kind, needs: Sequence[Ref] = ()) -> Ref:
        """The next answer, of which ``read`` tells something."""
        where = (self.socket, self.room, self.room.size, C.MSG_DONTWAIT, 0, 0)
        return self.q.ask(
            key,
            "recvfrom",
            *where,
            given=self._open,
            needs=needs,
            read=read,
            kind=kind,
            out=[self.room],
            opaque=True,
        )

    def code(self, key: str, given: Sequence[Ref] = (), needs: Sequence[Ref] = ()) -> Ref:
        """The code of the answer in the room is the fact ``key``."""
        seek = (self._memory, self.room.word(HEAD // 4), 0)
        under = (*self._open, *given)
        return self.q.ask(key, "lseek", *seek, given=under, needs=needs, opaque=True)

    def number(self, key: str, at: int, size: int, read: Read, given: Sequence[Ref] = ()) -> Ref:
        """A number in the answer in the room, ``at`` a multiple of its ``size``."""
        seek = (self._memory, self.room.word(at // size, size=size), 0)
        return self.q.ask(key, "lseek", *seek, given=(*self._open, *given), read=read)

    @property
    def _open(self) -> tuple[Ref, Ref]:
        return self._memory, self.socket

    def _new(self) -> Ref:
        kind = C.SOCK_RAW | C.SOCK_CLOEXEC
        return self.q.call("socket", C.AF_NETLINK, kind, self._protocol, opaque=True)

    def _exchange(self, message: Piece) -> Ref:
        sent = self.send(message)
        self.q.call("recvfrom", self.socket, self.room, self.room.size, C.MSG_DONTWAIT, 0, 0)
        return sent

    def _filter(self, program: Filter) -> None:
        raw = b"".join(
            words(code, size=2) + words(yes, no, size=1) + words(number)
            for code, yes, no, number in program
        )
        head = patched(self.q.content(words(len(program), 0, size=8)), (8, 8, self.q.content(raw)))
        where = (self.socket, C.SOL_SOCKET, C.SO_ATTACH_FILTER, head, head.size)
        self.q.call("setsockopt", *where)


def having(
    number: int, at: int, path: Sequence[int], value: tuple[int, int] | None = None
) -> Filter:
    """A filter, networking/filter.rst, that lets errors pass, and messages with an attribute.

    These have to answer, or to tell of, the request of that ``number``: a group
    hears as well what the kernel does by itself, and when it gets to it.
    """
    # numbers are loaded as they travel, and the kernel's own are little-endian
    error = int.from_bytes(words(C.NLMSG_ERROR, size=2), "big")
    made: Filter = [
        (_LOAD | _HALF, 0, 0, _TYPE),
        (_EQUAL | C.BPF_K, 0, 1, error),
        (_RETURN | C.BPF_K, 0, 0, _ALL),
        (_LOAD | C.BPF_W, 0, 0, _SEQUENCE),
        (_EQUAL | C.BPF_K, 1, 0, int.from_bytes(words(number), "big")),
        (_RETURN | C.BPF_K, 0, 0, 0),
        (_IMMEDIATE, 0, 0, at),
    ]
    for depth, kind in enumerate(path):
        look = C.SKF_AD_NLATTR_NEST if depth else C.SKF_AD_NLATTR
        made += [
            (_INDEX, 0, 0, kind),
            (_LOAD | C.BPF_W, 0, 0, C.SKF_AD_OFF + look),
            (_EQUAL | C.BPF_K, 0, 1, 0),
            (_RETURN | C.BPF_K, 0, 0, 0),
        ]
    if value is not None:
        size, number = value
        wanted = int.from_bytes(words(number, size=size), "big")
        made += [
            (_TO_INDEX, 0, 0, 0),
            (_INDIRECT | _WIDTHS[size], 0, 0, 4),
            (_EQUAL | C.BPF_K, 1, 0, wanted),
            (_RETURN | C.BPF_K, 0, 0, 0),
        ]
    return [*made, (_RETURN | C.BPF_K, 0, 0, _ALL)]
