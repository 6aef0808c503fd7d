"""Pipes, and what moves bytes between them: pipe(7), splice(2). None of them waits."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick
from hostabi.syscalls.descriptions.memory import Maybe, Vector, out, raw
from hostabi.syscalls.descriptions.model import Description, Kind, Makes, describe
from hostabi.syscalls.strategies import PAGE
from hostabi.syscalls.table import C

_NONBLOCK = 2
"""SPLICE_F_NONBLOCK, splice(2): the kernel keeps it out of its UAPI headers."""
_MOVE, _MORE = 1, 4
_SPLICE = flags("flags", usual=(_NONBLOCK, _NONBLOCK | _MOVE, _NONBLOCK | _MORE))
_ENDS = (Makes(Kind.READER, out="fildes"), Makes(Kind.WRITER, out="fildes", index=1))
_LENGTH = pick("len", PAGE, 1, 100, 0, 3 * PAGE, odd=(-1,))


def _off(name: str) -> Maybe:
    return Maybe(raw(name, bytes(8), (5).to_bytes(8, "little"), kept=True))


DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "pipe2",
        out("fildes", "int", 2),
        flags(
            "flags",
            "O_CLOEXEC",
            "O_DIRECT",
            usual=(C.O_NONBLOCK, C.O_NONBLOCK | C.O_CLOEXEC, C.O_NONBLOCK | C.O_DIRECT),
        ),
        makes=_ENDS,
    ),
    describe("pipe", out("fildes", "int", 2)),
    describe(
        "pipe2.other",
        out("fildes", "int", 2),
        just("flags", C.O_NONBLOCK),
        makes=(Makes(Kind.OUTLET, out="fildes", index=1),),
    ),
    describe(
        "splice.in",
        fd("fd_in", Kind.FILE, Kind.MEMFD),
        _off("off_in"),
        fd("fd_out", Kind.WRITER),
        Maybe(raw("off_out", bytes(8))),
        _LENGTH,
        _SPLICE,
    ),
    describe(
        "splice.out",
        fd("fd_in", Kind.READER),
        Maybe(raw("off_in", bytes(8))),
        fd("fd_out", Kind.FILE, Kind.PAIRED),
        _off("off_out"),
        _LENGTH,
        _SPLICE,
    ),
    describe(
        "tee", fd("fdin", Kind.READER), fd("fdout", Kind.OUTLET, Kind.WRITER), _LENGTH, _SPLICE
    ),
    describe("vmsplice", fd("fd", Kind.WRITER), Vector("uiov", "nr_segs"), _SPLICE),
)
