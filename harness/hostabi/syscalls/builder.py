"""Programs by name: syscalls, strings, buffers and structs instead of numbers and offsets.

A :class:`Builder` lays strings, buffers and structs out in the program's arena and
collects calls. ``build()`` gives a :class:`Built`: the plain program the agent
runs, and what is needed to read its results: names of calls, types of outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hostabi.agent.program import (
    Abi,
    Argument,
    Call,
    Children,
    Deed,
    Output,
    Pointer,
    Program,
    Result,
    Store,
    Until,
    Word,
)
from hostabi.errors import InputError
from hostabi.syscalls import names, table, types

ARENA = 1 << 16
"""Bytes of arena a program has unless the builder is told otherwise."""


@dataclass(frozen=True, slots=True)
class Ref:
    """What a call returned, to be used by later calls and to find its result in a trace."""

    call: int


@dataclass(frozen=True, slots=True)
class Role:
    """A process, a thread or an image with calls of its own; see :class:`Program`."""

    number: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the arena; as an argument it is its address.

    ``type`` is the cffi type held there, "" for plain bytes. ``stores`` are put
    in place before each call that is given this slot. ``text`` is for people.
    """

    offset: int
    size: int
    type: str = ""
    text: str | bytes = field(default="", compare=False)
    stores: tuple[Store, ...] = ()

    def at(self, offset: int, size: int, type: str = "") -> Slot:  # noqa: A002
        """The part of this slot ``offset`` bytes in, ``size`` bytes long."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise InputError(f"{size} bytes at {offset} lie outside a slot of {self.size} bytes")
        return Slot(self.offset + offset, size, type, f"{_text(self)}+{offset}", self.stores)

    def word(self, index: int = 0, size: int = 4) -> Number:
        """The number of ``size`` bytes found in this slot at run time, e.g. ``pipefd[1]``."""
        return Number(Word(self.offset + index * size, size), f"{_text(self)}[{index}]")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that a kernel wrote into the arena."""

    word: Word
    text: str


Value = int | Ref | Slot | Number
"""What a call's argument or a struct's field may be."""


@dataclass(frozen=True, slots=True)
class Step:
    """How one call reads: its name, its arguments as text, and whether its value is opaque.

    An opaque value (an address, a pid, a time) is compared between kernels only
    by whether it is an error, and which.
    """

    name: str
    values: tuple[Value, ...]
    opaque: bool = False
    abi: Abi = Abi.NATIVE
    role: int = 0
    starts: int = 0

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments as text."""
        return tuple(
            names.argument(self.name, index, _text(value))
            for index, value in enumerate(self.values)
        )

    def __str__(self) -> str:
        prefix = f"[{self.role}] " if self.role else ""
        prefix += "" if self.abi is Abi.NATIVE else f"{self.abi}:"
        starts = f" starts [{self.starts}]" if self.starts else ""
        return f"{prefix}{self.name}({', '.join(self.arguments)}){starts}"


@dataclass(frozen=True, slots=True)
class Built:
    """A program and how to read it. ``types`` has the type of each output, in order."""

    program: Program
    steps: tuple[Step, ...]
    types: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{index}: {step}" for index, step in enumerate(self.steps))

    __repr__ = __str__


class Builder:
    """Collects calls; see the module's docstring. Not safe for several threads.

    ``children`` says what a process does that a call makes.
    """

    def __init__(self, *, arena: int = ARENA, children: Children = Children.END) -> None:
        self._arena = arena
        self._children = children
        self._data = bytearray()
        self._top = arena
        self._known: dict[bytes, Slot] = {}
        self._calls: list[Call] = []
        self._steps: list[Step] = []
        self._outputs: list[Output] = []
        self._types: list[str] = []
        self._role = Role(0)
        self._roles = 1

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def free(self) -> int:
        """Bytes of the arena that nothing has taken yet."""
        return self._top - len(self._data)

    def string(self, text: str | bytes) -> Slot:
        """``text`` with its NUL; equal strings share a place, so pass no writable buffer so."""
        raw = text.encode() if isinstance(text, str) else text
        if raw not in self._known:
            self._known[raw] = self._bottom(raw + b"\0", text=raw)
        return self._known[raw]

    def content(self, raw: bytes) -> Slot:
        """``raw`` as it is."""
        return self._bottom(raw, text=raw)

    def buffer(self, size: int, type: str = "") -> Slot:  # noqa: A002
        """``size`` bytes of zeros, for a kernel to write into."""
        top = (self._top - size) & ~15
        if top < len(self._data):
            raise InputError(
                f"a program's arena of {self._arena} bytes is full",
                advice="give the builder a larger arena",
            )
        self._top = top
        return Slot(top, size, type, type or f"buffer_{top:x}")

    def room(self, type: str) -> Slot:  # noqa: A002
        """Zeros for one cffi type, e.g. ``room("struct stat")``."""
        return self.buffer(types.size(type), type)

    def struct(self, type: str, **fields: Value) -> Slot:  # noqa: A002
        """One struct; a field may be a number, a slot's address or what a call returned."""
        return self.array(type, [fields])

    def array(self, type: str, rows: Sequence[Mapping[str, Value]]) -> Slot:  # noqa: A002
        """Structs one after another, as ``iovec`` wants them."""
        size = types.size(type)
        values = types.ffi.new(f"{types.need(type)}[]", max(len(rows), 1))
        places = {name: (offset, length) for name, offset, length in types.fields(type)}
        late: list[tuple[int, int, Argument]] = []
        for index, row in enumerate(rows):
            for name, value in row.items():
                offset, length = places[name]
                if isinstance(value, int):
                    cast = types.ffi.cast("void *", value) if _is_pointer(type, name) else value
                    setattr(values[index], name, cast)
                else:
                    late.append((index * size + offset, length, _argument(value)))
        slot = self._bottom(bytes(types.ffi.buffer(values))[: size * len(rows)], text="")
        shown = "; ".join(_fields_text(row) for row in rows)
        return Slot(
            slot.offset,
            slot.size,
            type,
            f"{{{shown}}}",
            tuple(Store(slot.offset + offset, value, length) for offset, length, value in late),
        )

    def call(
        self,
        name: str | int,
        *arguments: Value,
        out: Sequence[Slot] = (),
        opaque: bool = False,
        abi: Abi = Abi.NATIVE,
        starts: Role = Role(0),
    ) -> Ref:
        """Add a syscall; ``out`` are the slots to bring back as they are right after it.

        A name stands for its number in the table of ``abi``. ``starts`` is the role of
        what a call forks, or of the agent that it executes. Raises InputError for
        a name that is not there, or for more than six arguments.
        """
        number = name if isinstance(name, int) else table.number(name, abi)
        if len(arguments) > 6:
            raise InputError(f"{name} is given {len(arguments)} arguments; a syscall takes six")
        stores = tuple(s for value in arguments if isinstance(value, Slot) for s in value.stores)
        made = tuple(_argument(value) for value in arguments)
        who = self._role.number, starts.number
        self._calls.append(Call(number, made, stores, abi, *who))
        self._steps.append(Step(table.name(number, abi), arguments, opaque, abi, *who))
        ref = Ref(len(self._calls) - 1)
        for slot in out:
            self._outputs.append(Output(ref.call, slot.offset, slot.size))
            self._types.append(slot.type)
        return ref

    def role(self) -> Role:
        """A new role; no call may start it twice."""
        self._roles += 1
        return Role(self._roles - 1)

    @contextmanager
    def by(self, role: Role) -> Iterator[None]:
        """The calls that are added inside are made by ``role``."""
        before, self._role = self._role, role
        try:
            yield
        finally:
            self._role = before

    def wait_for(self, ref: Ref, until: Until = Until.MADE) -> Ref:
        """Hold the role back until another one's call is as ``until`` says."""
        return self.call(Deed.AWAIT, ref.call, until, abi=Abi.DEED)

    def image(self, role: Role, name: str = "agent") -> Slot:
        """The argument vector with which the agent's program goes on as ``role``."""
        return self.vector(*map(self.string, (name, "--resume", str(role.number))))

    def vector(self, *values: Value) -> Slot:
        """Pointers or numbers of 8 bytes each, and a NULL: what ``execve`` wants."""
        slot = self._bottom(bytes(8 * (len(values) + 1)), text="")
        stores = tuple(
            Store(slot.offset + 8 * index, _argument(value)) for index, value in enumerate(values)
        )
        shown = ", ".join(str(_text(value)) for value in values)
        return Slot(slot.offset, slot.size, "", f"{{{shown}}}", stores)

    def build(self) -> Built:
        """The program so far."""
        program = Program(
            tuple(self._calls),
            bytes(self._data),
            self._arena,
            tuple(self._outputs),
            self._children,
        )
        return Built(program, tuple(self._steps), tuple(self._types))

    def _bottom(self, raw: bytes, *, text: str | bytes) -> Slot:
        offset = (len(self._data) + 15) & ~15
        if offset + len(raw) > self._top:
            raise InputError(
                f"a program's arena of {self._arena} bytes is full",
                advice="give the builder a larger arena",
            )
        self._data += bytes(offset - len(self._data)) + raw
        return Slot(offset, len(raw), "", text)


def _argument(value: Value) -> Argument:
    match value:
        case Ref(call):
            return Result(call)
        case Slot():
            return Pointer(value.offset)
        case Number(word):
            return word
    return int(value)


def _text(value: Value) -> int | str:
    match value:
        case Ref(call):
            return f"r{call}"
        case Slot():
            text = names.quoted(value.text) if isinstance(value.text, bytes) else value.text
            return text or f"arena+{value.offset}"
        case Number():
            return value.text
    return value


def _fields_text(row: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in row.items())


def _is_pointer(type_name: str, field_name: str) -> bool:
    described = dict(types.ffi.typeof(types.need(type_name)).fields or ())
    return bool(described[field_name].type.kind == "pointer")
