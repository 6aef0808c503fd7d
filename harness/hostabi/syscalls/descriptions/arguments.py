"""Arguments of calls: descriptors, names, flags, numbers. Memory is in :mod:`.memory`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from operator import or_

from hostabi.syscalls import table
from hostabi.syscalls.builder import Value
from hostabi.syscalls.descriptions.model import DESCRIPTORS, Kind, Register, Role
from hostabi.syscalls.descriptions.writer import Writer
from hostabi.syscalls.table import C

BAD_DESCRIPTORS = (-1, 999, 1 << 30)
"""Numbers that no descriptor of a program has."""
ODD_NAMES = ("missing", "", "missing/..", "missing/x", ".", "x" * 256)
"""Names that mostly are refused: nothing, too long, a directory where none is wanted. None is of
what lies above the program's own folder, as later programs would find it changed."""
_MORE = (1, 1, 2, 3)
"""Bits that are tried together: most calls refuse most unions."""


@dataclass(frozen=True, slots=True)
class Fd:
    """A descriptor of one of ``kinds``, of any where none is named. ``ends``: it is closed."""

    name: str
    kinds: tuple[Kind, ...] = DESCRIPTORS
    ends: bool = False
    also: tuple[int, ...] = ()
    """Numbers that may stand for it, such as -1 for none."""
    only: bool = False
    """Never one of another kind. Older kernels have a single inode for all that has no name, such
    as an eventfd: what is changed there stays for the programs that come after."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.DESCRIPTOR),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kinds."""
        return self.kinds

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One at hand; rarely of another kind, or a number that is none."""
        if self.also and writer.choices.byte() >= 192:
            return (writer.choices.one(self.also),)
        if writer.choices.odd():
            if writer.choices.often():
                return (writer.choices.one(BAD_DESCRIPTORS),)
            hand = [held for kind in DESCRIPTORS for held in writer.held.get(kind, ())]
            if hand and not self.only:
                return (writer.choices.one(hand).value,)
        held = writer.take(self.kinds, self.name, ends=self.ends)
        return (held.value if held else BAD_DESCRIPTORS[0],)


def fd(
    name: str,
    *kinds: Kind,
    ends: bool = False,
    also: tuple[int, ...] = (),
    only: bool = False,
) -> Fd:
    """A descriptor; see :class:`Fd`."""
    return Fd(name, kinds or DESCRIPTORS, ends, also, only)


@dataclass(frozen=True, slots=True)
class Path:
    """A name of something of one of ``kinds``.

    With ``new`` a name that nothing has yet, and that something of that kind has after the
    call. ``ends``: it is gone after the call.
    """

    name: str
    kinds: tuple[Kind, ...] = ()
    new: Kind | None = None
    ends: bool = False

    @property
    def registers(self) -> tuple[Register, ...]:
        """The name's address."""
        return (Register(self.name, Role.POINTER, leaves=self.new),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kinds."""
        return self.kinds

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """The name as a string."""
        return (writer.builder.string(self.text(writer)),)

    def text(self, writer: Writer) -> str:
        """The name."""
        if writer.choices.odd():
            return writer.choices.one(ODD_NAMES)
        if not self.kinds:
            name = writer.fresh_name()
            writer.note(name=name)
            if self.new is not None:
                writer.hold(self.new, 0, name)
            return name
        held = writer.take(self.kinds, self.name, ends=self.ends)
        if held is None:
            return ODD_NAMES[0]
        writer.note(name=held.name)
        return held.name


@dataclass(frozen=True, slots=True)
class At:
    """A folder's descriptor and a :class:`Path` from there: openat(2) and its kin."""

    folder: str
    path: Path

    @property
    def registers(self) -> tuple[Register, ...]:
        """The descriptor and the name's address."""
        return (Register(self.folder, Role.FOLDER), *self.path.registers)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What the path takes; AT_FDCWD is always there."""
        return self.path.takes

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Mostly AT_FDCWD, else the folder itself once more, or a number that is none."""
        byte = writer.choices.byte()
        if byte < 224 or writer.choices.tame:
            where: Value = C.AT_FDCWD
        elif byte < 248:
            held = writer.take((Kind.FOLDER,))
            where = held.value if held else C.AT_FDCWD
        else:
            writer.choices.strange = True
            where = writer.choices.one(BAD_DESCRIPTORS)
        return (where, *self.path.values(writer))


def at(
    *kinds: Kind,
    new: Kind | None = None,
    ends: bool = False,
    folder: str = "dfd",
    path: str = "filename",
) -> At:
    """A folder and a path from there; see :class:`Path`."""
    return At(folder, Path(path, kinds, new, ends))


def path(name: str, *kinds: Kind, new: Kind | None = None, ends: bool = False) -> Path:
    """A path; see :class:`Path`."""
    return Path(name, kinds, new, ends)


@dataclass(frozen=True, slots=True)
class Flags:
    """A word of flags: mostly one of ``usual``, else with any real ones, or an unknown bit.

    ``of`` are beginnings of the names of the real ones; a name whole stands for itself.
    """

    name: str
    usual: tuple[int, ...] = (0,)
    of: tuple[str, ...] = ()
    width: int = 32
    ignored: bool = False
    """The call does not look at bits it does not know."""
    known: tuple[str, ...] = ()
    """Beginnings of the names of real ones that no program is to try, but for ``usual``."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.FLAGS, 0 if self.ignored else self.unknown),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    @property
    def unknown(self) -> int:
        """The mask of bits that no header names."""
        known = reduce(or_, (*self.usual, *_bits((*self.of, *self.known))), 0)
        return (1 << self.width) - 1 & ~known

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """Half of them usual, some with up to three more or alone, few with an unknown bit."""
        choices, bits = writer.choices, _bits(self.of)
        byte = choices.byte()
        if byte < 160 or choices.tame or not bits:
            return (self.usual[min(byte, 159) * len(self.usual) // 160],)
        choices.strange = True
        word = choices.one(self.usual) if choices.often() else 0
        word = reduce(or_, (choices.one(bits) for _ in range(choices.one(_MORE))), word)
        if byte >= 248 and self.unknown:
            unknown = self.unknown
            strange = [1 << bit for bit in range(self.width) if unknown >> bit & 1]
            word |= choices.one(strange)
        return (word,)


@cache
def _bits(prefixes: tuple[str, ...]) -> tuple[int, ...]:
    found = {value: None for prefix in prefixes for value in table.constants(prefix).values()}
    return tuple(value for value in found if value > 0)


def flags(
    name: str,
    *of: str,
    usual: tuple[int, ...] = (0,),
    width: int = 32,
    ignored: bool = False,
    known: tuple[str, ...] = (),
) -> Flags:
    """A word of flags; see :class:`Flags`."""
    return Flags(name, usual, of, width, ignored, known)


@dataclass(frozen=True, slots=True)
class Pick:
    """A number: one of ``usual``, or now and then one of ``odd``."""

    name: str
    usual: tuple[int, ...]
    odd: tuple[int, ...] = ()

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.NUMBER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Nothing."""
        return ()

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One of them."""
        return (writer.choices.mostly(self.usual, self.odd),)


def pick(name: str, *usual: int, odd: tuple[int, ...] = (-1, 1 << 31)) -> Pick:
    """A number; see :class:`Pick`."""
    return Pick(name, usual, odd)


def just(name: str, value: int) -> Pick:
    """A number that is always the same: the request of a multiplexer such as fcntl(2)."""
    return Pick(name, (value,))


@dataclass(frozen=True, slots=True)
class Takes:
    """A number that another call made: a pid, a key, an address."""

    name: str
    kinds: tuple[Kind, ...]
    ends: bool = False
    also: tuple[int, ...] = ()
    """Numbers that may stand for it, as 0 for oneself; the usual ones, where there are some."""
    odd: tuple[int, ...] = (-1, 1 << 30)

    @property
    def registers(self) -> tuple[Register, ...]:
        """One."""
        return (Register(self.name, Role.NUMBER),)

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kinds."""
        return self.kinds

    def values(self, writer: Writer) -> tuple[Value, ...]:
        """One at hand, or one of those that may stand for it."""
        if self.odd and writer.choices.odd():
            return (writer.choices.one(self.odd),)
        if self.also and writer.choices.byte() < 128:
            return (writer.choices.one(self.also),)
        held = writer.take(self.kinds, self.name, ends=self.ends)
        if held is None:
            return (self.odd[0] if self.odd else 0,)
        writer.note(name=held.name, size=held.size)
        return (held.value,)


def takes(
    name: str,
    *kinds: Kind,
    ends: bool = False,
    also: tuple[int, ...] = (),
    odd: tuple[int, ...] = (-1, 1 << 30),
) -> Takes:
    """A number that another call made; see :class:`Takes`."""
    return Takes(name, kinds, ends, also, odd)
