"""Where kernels part ways in a program, and which causes of that are known.

    [[cause]]
    reason = "..."
    citation = "commit 0123456789ab (\\"subject\\")"
    differences = [
      { syscall = "openat2", argument = "how.resolve=0x20", kind = "value",
        outcomes = { "5.10" = "EINVAL", "6.1" = "ok" } },
    ]

An outcome holds from its line on until the next that is named. All of it is pinned:
a difference with another outcome on any kernel, or of another argument, is a new one.
Where one change shows in several ways, a call, an outcome and an argument's number may
be several, with ``|`` between them; what kernels make of a program is the same within a
range, and another in the next. What hangs on the kind of a descriptor, or on anything else
that an earlier call made, names that call: ``after = "eventfd|eventfd2"``.
"""

from __future__ import annotations

import errno
import functools
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.agent.program import End, Ran
from hostabi.diff.data import read_toml
from hostabi.diff.ledger import citable
from hostabi.errors import InputError
from hostabi.syscalls import names, smaller, types
from hostabi.syscalls.builder import Built, Slot
from hostabi.syscalls.descriptions.arguments import Flags, Pick
from hostabi.syscalls.descriptions.groups import all_descriptions
from hostabi.syscalls.state import lines
from hostabi.syscalls.table import result_name
from hostabi.syscalls.trace import View, normalised

FILE = "lockstep.toml"
VALUE, OUT, END, STATE = "value", "out", "end", "state"
"""The kinds of difference, in the order in which they are looked for."""


LACKING = "ENOSYS"
"""The outcome on a kernel that does not have the call."""
THERE = "there"
"""That of one that has it where another lacks it, and of a line of the state that is all name."""
_MISSING = -errno.ENOSYS
_BYTES = 32
"""Those that are shown of what has no fields."""


@dataclass(frozen=True)
class Spot:
    """The first place where kernels differ. ``outcomes`` has what each kernel made of it.

    ``call`` is the number of the call, None where only the end or the state differs;
    ``item`` is which line of the state.
    """

    kind: str
    call: int | None
    syscall: str
    outcomes: Mapping[str, str]
    item: str = ""

    def same_as(self, other: Spot | None) -> bool:
        """Whether the other is the same thing, seen on fewer kernels perhaps."""
        return (
            other is not None
            and (self.kind, self.item) == (other.kind, other.item)
            and (self.call is None or self.syscall == other.syscall)
            and alike(self.kind, self.outcomes, other.outcomes)
        )


def alike(kind: str, outcomes: Mapping[str, str], seen: Mapping[str, str]) -> bool:
    """Whether what was ``seen`` on some kernels is as ``outcomes`` has it.

    Numbers that change with the calls before need not be equal, but have to
    differ between the same kernels: what is returned, and what a field holds.
    """
    if not all(
        name in outcomes and _shape(kind, outcomes[name]) == _shape(kind, each)
        for name, each in seen.items()
    ):
        return False
    first: dict[str, str] = {}
    return all(
        first.setdefault(each, outcomes[name]) == outcomes[name] for name, each in seen.items()
    ) and len({outcomes[name] for name in seen}) == len(first)


def _shape(kind: str, outcome: str) -> str:
    if kind == VALUE:
        return "number" if outcome.isdigit() else outcome
    if kind in {OUT, STATE}:
        return " ".join(word.partition("=")[0] for word in outcome.split() if "=" in word)
    return outcome


def spot(built: Built, rans: Mapping[str, Ran]) -> Spot | None:
    """Where the kernels differ first; None when they do not."""
    views = {name: normalised(built, ran) for name, ran in rans.items()}
    if len(set(views.values())) < 2:
        return None
    for index, step in enumerate(built.steps):
        values = {name: _value(view, index) for name, view in views.items()}
        if len(set(values.values())) > 1:
            return Spot(VALUE, index, step.name, _results(values))
        outputs = {name: _outputs(built, view, index) for name, view in views.items()}
        if len(set(outputs.values())) > 1:
            return Spot(OUT, index, step.name, _contents(built, index, outputs))
    last = built.steps[-1].name if built.steps else ""
    ends = {name: _end(view) for name, view in views.items()}
    if len(set(ends.values())) > 1:
        return Spot(END, None, last, ends)
    item, outcomes = _states({name: view.state for name, view in views.items()})
    return Spot(STATE, None, last, outcomes, item)


def _value(view: View, index: int) -> int | str:
    return view.values[index] if index < len(view.values) else _end(view)


def _end(view: View) -> str:
    if view.end is End.SIGNALLED and view.code in signal.valid_signals():
        return signal.Signals(view.code).name
    return str(view.end) if view.end is End.TIMED_OUT else f"{view.end} {view.code}"


def _results(values: Mapping[str, int | str]) -> dict[str, str]:
    """Errors by name; where some kernel fails, a value of another that works is just ``ok``.

    Where one does not have the call at all, what the others say is of no matter.
    """
    if _MISSING in values.values():
        return {n: LACKING if v == _MISSING else THERE for n, v in values.items()}
    failing = any(isinstance(value, str) or -4095 <= value < 0 for value in values.values())

    def told(value: int | str) -> str:
        if isinstance(value, str):
            return value
        if -4095 <= value < 0:
            return result_name(value).removeprefix("-")
        return "ok" if failing else str(value)

    return {name: told(value) for name, value in values.items()}


def _outputs(built: Built, view: View, index: int) -> tuple[bytes, ...]:
    pairs = zip(built.program.outputs, view.outputs, strict=False)
    return tuple(raw for output, raw in pairs if output.call == index)


def _contents(built: Built, index: int, outputs: Mapping[str, tuple[bytes, ...]]) -> dict[str, str]:
    """What differs in the first output that does: fields of a struct, or bytes."""
    kinds = [
        kind
        for output, kind in zip(built.program.outputs, built.types, strict=True)
        if output.call == index
    ]
    rows = list(outputs.values())
    which = next(i for i in range(len(rows[0])) if len({row[i] for row in rows}) > 1)
    raws = {name: row[which] for name, row in outputs.items()}
    places = [(0, max(map(len, raws.values())), "")]
    if kinds[which]:
        places = [
            (offset, length, f"{name}=") for name, offset, length in types.fields(kinds[which])
        ] or places
    return {name: _differing(raw, list(raws.values()), places) for name, raw in raws.items()}


def _differing(raw: bytes, every: Sequence[bytes], places: Iterable[tuple[int, int, str]]) -> str:
    parts = []
    for offset, length, title in places:
        end = offset + length
        if len({each[offset:end] for each in every}) > 1:
            own = raw[offset:end]
            number = length <= 8 and title
            parts.append(
                f"{title}{int.from_bytes(own, 'little'):#x}"
                if number
                else title + _shown(own, [each[offset:end] for each in every])
            )
    return " ".join(parts) or "other bytes"


def _shown(raw: bytes, every: Sequence[bytes]) -> str:
    """The first bytes; of those that begin alike for long, from where they differ."""
    length = min(map(len, every))
    alike = next((n for n in range(length) if len({each[n] for each in every}) > 1), length)
    start = alike if alike >= _BYTES else 0
    return f"+{start}:{raw[start:][:_BYTES].hex()}" if start else raw[:_BYTES].hex()


def _states(states: Mapping[str, bytes]) -> tuple[str, dict[str, str]]:
    """The first line that not all have, by its name, and what each has in its place."""
    tables = {name: dict(_split(line) for line in lines(raw)) for name, raw in states.items()}
    keys = dict.fromkeys(key for table in tables.values() for key in table)
    every = list(tables.values())
    key = next((k for k in keys if len({table.get(k) for table in every}) > 1), "order")
    values = {name: table.get(key, "-") or THERE for name, table in tables.items()}
    words = [set(value.split(" ")) for value in values.values()]
    common = set.intersection(*words) if words else set()
    outcomes = {
        name: " ".join(word for word in value.split(" ") if word not in common) or "-"
        for name, value in values.items()
    }
    return _item(key), outcomes


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return (line, "") if name.endswith("mount") else (name, value)


def _item(key: str) -> str:
    """``fd`` for ``fd 7``, ``file`` for ``file /a``; a limit keeps its number."""
    first, _, rest = key.partition(" ")
    return first if first in {"fd", "file", "mount:"} and rest else key


def arguments(built: Built, index: int | None) -> str:
    """What a difference hangs on: flags (``2=0x80``) and choices (``1:0x406``) of a call.

    Those of a struct stand with the field. Descriptors, sizes and offsets are left out:
    they could be others.
    """
    if index is None:
        return ""
    parts = []
    step = built.steps[index]
    for place, value in enumerate(step.values):
        mark = _telling(step.name).get(place)
        if isinstance(value, int) and mark and value:
            parts.append(f"{place}{mark}{value:#x}")
        elif isinstance(value, Slot):
            found = smaller.fields(built, value)
            parts += [
                f"{place}.{name}={number:#x}"
                for name, number in found.items()
                if _TELLING.search(name)
            ]
    return " ".join(parts)


_BITS, _EXACT = "=", ":"
_TELLING = re.compile("flags|resolve|mask|attr|type|family|protocol|cmd|mode|propagation")
"""In the name of a field that says what a call has to do."""


@functools.cache
def _telling(call: str) -> dict[int, str]:
    """The arguments of a call that say what it has to do: flags by their bits, choices exactly."""
    marks = {place: _BITS for name, place in names.FLAGS if name == call}
    marks |= {place: _EXACT for name, place in names.CHOICES if name == call}
    for each in all_descriptions():
        place = 0
        for argument in each.arguments if each.call == call else ():
            if isinstance(argument, Flags):
                marks[place] = _BITS
            elif isinstance(argument, Pick):
                marks[place] = _EXACT
            place += len(argument.registers)
    return marks


def _number(built: Built, index: int, place: str) -> int:
    """The number that such a place has in a call."""
    where, _, name = place.partition(".")
    values = built.steps[index].values
    value = values[int(where)] if int(where) < len(values) else 0
    if isinstance(value, Slot):
        return smaller.fields(built, value).get(name, 0)
    return value if isinstance(value, int) else 0


_OR = "|"


class Difference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One difference, pinned. ``argument`` and ``item`` are as :func:`arguments` and a spot say.

    ``syscall``, an outcome and a number in ``argument`` are one or several of which any may be.
    """

    syscall: str
    kind: str
    outcomes: dict[str, str]
    argument: str = ""
    item: str = ""
    after: str = ""
    """Calls of which the program has one."""

    def explains(self, built: Built, found: Spot, lines_of: Mapping[str, str]) -> bool:
        """Whether this is what was found in a program, however large that still is.

        ``lines_of`` has the line of each kernel.
        """
        if (self.kind, self.item) != (found.kind, found.item):
            return False
        if self.after and {step.name for step in built.steps}.isdisjoint(self.after.split(_OR)):
            return False
        if found.call is None:
            if self.calls.isdisjoint(step.name for step in built.steps):
                return False
        elif found.syscall not in self.calls:
            return False
        if not self._as_expected(found.outcomes, lines_of):
            return False
        return found.call is None or self._argument_in(built, found.call)

    def _as_expected(self, seen: Mapping[str, str], lines_of: Mapping[str, str]) -> bool:
        ranges: dict[str, str] = {}
        expected: dict[str, str] = {}
        for name, outcome in seen.items():
            several = self.expected(lines_of[name])
            # the same all over a range, so that no other change hides in it
            chosen = _chosen(several, outcome)
            if _OR in several and ranges.setdefault(several, chosen) != chosen:
                return False
            expected[name] = chosen
        return len(set(expected.values())) > 1 and alike(self.kind, expected, seen)

    @property
    def calls(self) -> frozenset[str]:
        """The calls that it may be seen at."""
        return frozenset(self.syscall.split(_OR))

    def expected(self, line: str) -> str:
        """What a kernel of that line makes of it, in one of several ways perhaps."""
        if line in self.outcomes:
            return self.outcomes[line]
        wanted = _order(line)
        before = [key for key in self.outcomes if _order(key) <= wanted]
        return self.outcomes[max(before, key=_order)] if before else ""

    def _argument_in(self, built: Built, index: int) -> bool:
        """Whether the call has the numbers, among other bits perhaps."""
        for part in self.argument.split():
            place, mark, numbers = re.split("([=:])", part, maxsplit=1)
            own = _number(built, index, place)
            if not any(_has(own, int(number, 16), mark) for number in numbers.split(_OR)):
                return False
        return True


def _has(own: int, wanted: int, mark: str) -> bool:
    """Whether a number is the one that is wanted, or has its bits."""
    return own == wanted or (mark == _BITS and own & wanted == wanted and min(own, wanted) >= 0)


def _chosen(outcomes: str, seen: str) -> str:
    """Of several outcomes the one that was seen; the first where none was."""
    several = outcomes.split(_OR)
    return seen if seen in several else several[0]


class _Cause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: str
    citation: str
    differences: tuple[Difference, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cause: tuple[_Cause, ...] = ()


@dataclass(frozen=True)
class Known:
    """A difference that was looked into: why it is there, and who says so."""

    difference: Difference
    reason: str
    citation: str


def cause(
    known: Iterable[Known], built: Built, found: Spot, lines_of: Mapping[str, str]
) -> Known | None:
    """The first that explains what was found in a program; None where nothing does."""
    return next((each for each in known if each.difference.explains(built, found, lines_of)), None)


def read_known(path: Path) -> tuple[Known, ...]:
    """The file of known differences. Raises InputError for one that is not of this form."""
    content = read_toml(
        path, _File, what="ledger", advice="see the head of hostabi/runs/fuzz/causes.py"
    )
    found = []
    for cause in content.cause:
        if not citable(cause.citation):
            raise InputError(f"{path}: citation {cause.citation!r} cannot be looked up")
        if len(cause.reason) < 15:
            raise InputError(f"{path}: the reason {cause.reason!r} is too short to tell anything")
        for difference in cause.differences:
            if len(set(difference.outcomes.values())) < 2:
                raise InputError(f"{path}: {difference.syscall}: all outcomes are the same")
            found.append(Known(difference, cause.reason, cause.citation))
    return tuple(found)


@functools.cache
def shipped() -> tuple[Known, ...]:
    """The known differences that travel with hostabi."""
    path = resources.kernels() / FILE
    return read_known(path) if path.is_file() else ()


def _order(line: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", line)))
