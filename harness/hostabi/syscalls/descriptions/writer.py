"""Writes calls as their descriptions say, and keeps what each leaves to the next ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from hostabi.syscalls.builder import Builder, Ref, Slot, Value
from hostabi.syscalls.descriptions.choices import Choices
from hostabi.syscalls.descriptions.model import NAMES, Description, Kind, Makes

MOST = 8
"""Calls that are made to have one resource, at most; more would be a circle of descriptions."""


@dataclass(eq=False, slots=True)
class Held:
    """A resource at hand. ``name`` is the path it has, ``size`` its bytes, where that is known."""

    kind: Kind
    value: Value
    name: str = ""
    size: int = 0


@dataclass(slots=True)
class _Call:
    """What arguments tell of the call that is being written."""

    out: list[Slot] = field(default_factory=list)
    places: dict[str, Slot] = field(default_factory=dict)
    """Memory that the call writes to, by the argument's name."""
    description: Description | None = None
    taken: dict[str, Held] = field(default_factory=dict)
    ended: list[Held] = field(default_factory=list)
    made: list[Held] = field(default_factory=list)
    name: str = ""
    size: int = 0


Make = Callable[..., Ref]
"""Adds a call to the program, as :meth:`Builder.call` does."""


class Writer:
    """Adds described calls to a program.

    ``makers`` are the descriptions that make a kind, the usual one first. ``make`` adds a
    call, ``builder.call`` unless told otherwise. ``pids``: the program's PID namespace is
    fresh, so pids are compared as they are. Not safe for several threads.
    """

    def __init__(
        self,
        builder: Builder,
        makers: Mapping[Kind, Sequence[Description]],
        *,
        make: Make | None = None,
        pids: bool = False,
    ) -> None:
        self.builder = builder
        self.choices = Choices(b"")
        self.held: dict[Kind, list[Held]] = {}
        self.written: list[Description] = []
        """The description of each call so far, in order."""
        self._makers = makers
        self._make = make or builder.call
        self._pids = pids
        self._call = _Call()
        self._depth = 0
        self._reserved: list[Held] = []
        """What calls have taken that wait for what they need beside it."""
        self._names = 0

    def add(self, description: Description, choices: Choices) -> Ref:
        """Add one call, and before it what makes the resources it needs."""
        strange, choices.strange = choices.strange, False
        with self._writing(choices, description):
            values = [v for argument in description.arguments for v in argument.values(self)]
            opaque = description.opaque and not (description.pid and self._pids)
            ref = self._make(description.call, *values, out=self._call.out, opaque=opaque)
            self.written.append(description)
            self._keep(description, ref, trusted=not choices.strange)
        choices.strange = strange
        return ref

    def arguments(self, description: Description) -> tuple[Value, ...]:
        """The values that a call would be given, made ready but for the call itself."""
        with self._writing(Choices(b"", tame=True), description):
            return tuple(v for argument in description.arguments for v in argument.values(self))

    def take(self, kinds: Sequence[Kind], name: str = "", *, ends: bool = False) -> Held | None:
        """A resource of one of ``kinds``, the newest at first; made if there is none.

        None where none can be made. One that the call ``ends`` is not at hand afterwards.
        """
        hand = [held for kind in kinds for held in reversed(self.held.get(kind, ()))]
        if ends or self._changes(name):
            hand = [held for held in hand if held not in self._reserved]
        found = self.choices.one(hand) if hand else self._maker(kinds)
        if found is not None:
            self._call.taken[name] = found
            if ends:
                self._call.ended.append(found)
        return found

    def out(self, name: str, slot: Slot, *, shown: bool = True) -> Slot:
        """Memory that the call writes to; ``shown`` if what it writes is to be compared."""
        self._call.places[name] = slot
        if shown:
            self._call.out.append(slot)
        return slot

    def fresh_name(self) -> str:
        """A name that nothing has yet; in a directory at hand now and then."""
        self._names += 1
        name = f"n{self._names}"
        folders = self.held.get(Kind.FOLDER_NAME)
        if folders and self.choices.byte() >= 160:
            return f"{self.choices.one(folders).name}/{name}"
        return name

    def hold(self, kind: Kind, value: Value, name: str = "") -> None:
        """After the call, have a resource that its arguments alone tell of."""
        self._call.made.append(Held(kind, value, name))

    def note(self, *, name: str = "", size: int = 0) -> None:
        """What the resource that the call makes is called, and how many bytes it has."""
        self._call.name = name or self._call.name
        self._call.size = size or self._call.size

    @contextmanager
    def _writing(self, choices: Choices, description: Description) -> Iterator[None]:
        before = self.choices, self._call
        self.choices, self._call = choices, _Call(description=description)
        try:
            yield
        finally:
            self.choices, self._call = before

    def _changes(self, name: str) -> bool:
        """Whether the resource of an argument is another kind after the call."""
        written = self._call.description
        made = written.makes if written else ()
        return bool(name) and any(each.of == name and not each.besides for each in made)

    def _maker(self, kinds: Sequence[Kind]) -> Held | None:
        """A resource from a call that is added for it."""
        makers = [maker for kind in kinds[:1] for maker in self._makers.get(kind, ())]
        if not makers:
            makers = [maker for kind in kinds for maker in self._makers.get(kind, ())]
        if not makers or self._depth >= MOST:
            return None
        self._depth += 1
        reserved = len(self._reserved)
        self._reserved += self._call.taken.values()
        tame, self.choices.tame = self.choices.tame, True
        try:
            self.add(self.choices.one(makers), self.choices)
        finally:
            self.choices.tame = tame
            self._depth -= 1
            del self._reserved[reserved:]
        return next((self.held[kind][-1] for kind in kinds if self.held.get(kind)), None)

    def _keep(self, description: Description, ref: Ref, *, trusted: bool) -> None:
        """What is at hand after the call; nothing new after one that was given odd values."""
        call = self._call
        for held in call.ended:
            self._drop(held)
        for kind in description.forgets:
            self.held.pop(kind, None)
        if trusted:
            for made in description.makes:
                # what nothing could be made for, in a circle of descriptions, becomes nothing
                if not made.of or made.of in call.taken:
                    self._hold(self._from(made, call, ref))
            for held in call.made:
                self._hold(held)

    def _from(self, made: Makes, call: _Call, ref: Ref) -> Held:
        if made.of:
            held = call.taken[made.of]
            if made.kind not in NAMES and not made.besides:
                self._drop(held)
            return replace(held, kind=made.kind, name=call.name or held.name)
        value: Value = ref
        if made.out and made.out in call.places:
            value = call.places[made.out].word(made.index, made.width)
        return Held(made.kind, value, call.name, call.size)

    def _hold(self, held: Held) -> None:
        self.held.setdefault(held.kind, []).append(held)

    def _drop(self, held: Held) -> None:
        for hand in self.held.values():
            hand[:] = [other for other in hand if other is not held and not _same(other, held)]


def _same(one: Held, other: Held) -> bool:
    """Whether both are the same descriptor, or the same name."""
    if one.kind in NAMES or other.kind in NAMES:
        return (
            bool(one.name) and one.name == other.name and one.kind in NAMES and other.kind in NAMES
        )
    return one.value == other.value and one.kind == other.kind


def makers(descriptions: Iterable[Description]) -> dict[Kind, list[Description]]:
    """Descriptions by the kind that they make, in order; not those that take what they make."""
    found: dict[Kind, list[Description]] = {}
    for each in descriptions:
        for kind in each.leaves:
            if any(kind in argument.takes[:1] for argument in each.arguments):
                continue
            found.setdefault(kind, []).append(each)
    return found
