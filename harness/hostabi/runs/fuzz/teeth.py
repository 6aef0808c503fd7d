"""Whether lockstep finds what differs: kernels that are made to differ in one call.

The agent's build for tests alters one call on one of two guests of the same build. Which
is drawn at random: a description that a sandbox allows, then one of the ways in which its
call was seen to answer, an errno, a result, a flag that is taken or a field that is
written. A result that is the machine's own, such as an address, is nothing that kernels
could differ in, so a call that tells no more is not drawn.
"""

from __future__ import annotations

import dataclasses
import errno
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hostabi.agent.program import Alteration, Altered, Ran
from hostabi.runs.fuzz import drawing, journal
from hostabi.runs.fuzz.journal import Records
from hostabi.runs.fuzz.plan import Plan
from hostabi.runs.fuzz.shrinker import SMALL
from hostabi.runs.fuzz.sitting import Fuzz
from hostabi.runs.fuzz.team import Team
from hostabi.runs.lockstep import Lockstep
from hostabi.syscalls import table, types
from hostabi.syscalls.builder import Built, Slot
from hostabi.syscalls.descriptions.groups import grouped
from hostabi.syscalls.descriptions.model import Role
from hostabi.syscalls.descriptions.programs import allowed

if TYPE_CHECKING:
    from collections.abc import Collection

    from hostabi.agent.client import Agent
    from hostabi.packages.cache import Cache
    from hostabi.runs.guests import Guests
    from hostabi.syscalls.descriptions.model import Description

FILE = "teeth.jsonl"
PROGRAMS = 4800
"""Programs within which it has to be found: those of two minutes at 40 a second."""
_SAMPLE = 12
"""Chunks that are looked at for how calls answer."""


class Tooth(msgspec.Struct, frozen=True, tag_field="record", tag="tooth"):
    """One alteration and what became of it. ``calls`` of the smallest program that showed it."""

    seed: int
    index: int
    what: str
    found: bool
    calls: int = 0
    programs: int = 0
    seconds: float = 0.0
    others: int = 0
    """Differences that were found beside it, of other calls."""

    @property
    def good(self) -> bool:
        """Found, and small."""
        return self.found and self.calls <= SMALL


_DECODER = msgspec.json.Decoder(Tooth)


@dataclass
class Habits:
    """How one call was seen to answer."""

    errors: set[int] = field(default_factory=set)
    worked: int = 0
    flags: dict[int, int] = field(default_factory=dict)
    """Bits that were set in calls that worked, by argument."""
    outs: set[tuple[int, int]] = field(default_factory=set)
    """Bytes that are compared after it worked: argument, and offset in what it points to."""

    @property
    def telling(self) -> bool:
        """Whether it told anything that can be altered."""
        return bool(self.errors or self.worked or self.flags or self.outs)


def watch(habits: dict[str, Habits], built: Built, ran: Ran, roles: Mapping[str, set[int]]) -> None:
    """Add what one program did. ``roles`` has by call which arguments are flags."""
    for index, (step, value) in enumerate(zip(built.steps, ran.values, strict=False)):
        seen = habits.setdefault(step.name, Habits())
        if -4095 <= value < 0:
            seen.errors.add(-value)
            continue
        seen.worked += not step.opaque
        for place in roles.get(step.name, ()):
            given = step.values[place] if place < len(step.values) else 0
            if isinstance(given, int) and given > 0:
                seen.flags[place] = seen.flags.get(place, 0) | given
        seen.outs.update(_compared(built, index))


def _compared(built: Built, index: int) -> Iterator[tuple[int, int]]:
    for output, kind in zip(built.program.outputs, built.types, strict=True):
        if output.call != index:
            continue
        for place, value in enumerate(built.steps[index].values):
            if isinstance(value, Slot) and value.offset == output.offset:
                mask = b"\xff" * output.length
                mask = types.normalised(kind, mask) if kind in types.VOLATILE else mask
                yield from ((place, at) for at, byte in enumerate(mask[:256]) if byte)


def alteration(
    chance: random.Random, habits: Mapping[str, Habits], calls: Sequence[str]
) -> tuple[str, Alteration]:
    """One at random, and its text; of a call that was seen to answer."""
    call = chance.choice([each for each in calls if each in habits and habits[each].telling])
    seen = habits[call]
    ways: list[Callable[[], tuple[str, Alteration]]] = []
    number = table.number(call)

    def error() -> tuple[str, Alteration]:
        old = chance.choice(sorted(seen.errors))
        new = chance.choice(sorted({errno.EPERM, errno.EIO, errno.EINVAL, errno.ENOSYS} - {old}))
        text = f"{call}: {errno.errorcode.get(old, old)} is told as {errno.errorcode[new]}"
        return text, Alteration(number, Altered.ERROR, match=old, value=new)

    def result() -> tuple[str, Alteration]:
        return f"{call}: returns 1 more", Alteration(number, Altered.RESULT, value=1)

    def flag() -> tuple[str, Alteration]:
        place = chance.choice(sorted(seen.flags))
        bits = [1 << bit for bit in range(63) if seen.flags[place] >> bit & 1]
        bit = chance.choice(bits)
        text = f"{call}: argument {place} with {bit:#x} is refused"
        made = Alteration(number, Altered.FLAG, place, match=bit, value=errno.EINVAL)
        return text, made

    def out() -> tuple[str, Alteration]:
        place, at = chance.choice(sorted(seen.outs))
        text = f"{call}: byte {at} of argument {place} is another"
        return text, Alteration(number, Altered.OUT, place, value=1, offset=at)

    ways += [error] if seen.errors else []
    ways += [result] if seen.worked else []
    ways += [flag] if seen.flags else []
    ways += [out] if seen.outs else []
    return chance.choice(ways)()


class Teeth:
    """Alterations one after another, on two guests of one build."""

    def __init__(
        self, guests: Guests, spec: str, plan: Plan, cache: Cache, groups: Collection[str]
    ) -> None:
        self._guests = guests
        self._plan = plan
        self._cache = cache
        self._names = spec, f"{spec} altered"
        self._spec = spec
        self._now = Alteration()
        self._descriptions = [
            each
            for each in grouped(groups)
            if not each.last and any(allowed(each, box) for box in plan.sandboxes.values())
        ]

    def run(self, path: Path, count: int, most: int = PROGRAMS) -> Iterator[Tooth]:
        """The results of the first ``count`` alterations; those in the file are not tried anew."""
        done = {each.index: each for each in read(path) if each.seed == self._plan.seed}
        yield from (done[index] for index in range(count) if index in done)
        if all(index in done for index in range(count)):
            return
        members = dict.fromkeys(self._names, self._spec)
        with Team(self._guests, members, self._prepare) as team:
            habits = self._habits(team)
            for index in range(count):
                if index in done:
                    continue
                tooth = self._one(team, habits, index, most)
                _append(path, tooth)
                yield tooth

    def _prepare(self, name: str, agent: Agent) -> None:
        if name == self._names[1]:
            agent.alter(self._now)

    def _habits(self, team: Team) -> dict[str, Habits]:
        habits: dict[str, Habits] = {}
        roles = _flag_places(self._descriptions)
        first = self._names[0]
        together = Lockstep({first: team.agents[first]})
        for number in range(_SAMPLE):
            chunk = drawing.chunk(self._plan.strategies, self._plan.seed - 1, number)
            box = self._plan.sandboxes[chunk.sandbox]
            for _, cases in drawing.messages(chunk.cases, 32):
                rans = together.run([case.built.program for case in cases], box)
                for case, ran in zip(cases, rans, strict=True):
                    watch(habits, case.built, ran[first], roles)
        return habits

    def _one(self, team: Team, habits: Mapping[str, Habits], index: int, most: int) -> Tooth:
        chance = random.Random(f"{self._plan.seed} {index}")  # noqa: S311 - not a secret
        calls = [each.call for each in self._descriptions]
        text, self._now = alteration(chance, habits, calls)
        call = text.partition(":")[0]
        self._prepare(self._names[1], team.agents[self._names[1]])
        plan = dataclasses.replace(
            self._plan, seed=self._plan.seed + 1 + index, start=0, times=0, known=(), before=()
        )
        folder = self._plan.folder / "teeth"
        began = time.monotonic()
        with Records(folder / journal.FILE) as records:
            fuzz = Fuzz(team, dataclasses.replace(plan, folder=folder), records, self._cache)

            def enough(fuzz: Fuzz) -> bool:
                return fuzz.count.programs >= most or min(_ours(fuzz, call), default=99) <= SMALL

            fuzz.run(3600.0, enough)
        ours = _ours(fuzz, call)
        return Tooth(
            seed=self._plan.seed,
            index=index,
            what=text,
            found=bool(ours),
            calls=min(ours, default=0),
            programs=fuzz.count.programs,
            seconds=time.monotonic() - began,
            others=len(fuzz.found) - len(ours),
        )


def _ours(fuzz: Fuzz, call: str) -> list[int]:
    """How many calls the programs have that show the altered one."""
    return [
        found.calls
        for found, built, _ in fuzz.found.values()
        if call in {step.name for step in built.steps}
    ]


def _flag_places(descriptions: Sequence[Description]) -> dict[str, set[int]]:
    places: dict[str, set[int]] = {}
    for each in descriptions:
        flags = {n for n, register in enumerate(each.registers) if register.role is Role.FLAGS}
        places.setdefault(each.call, set()).update(flags)
    return places


def read(path: Path) -> Iterator[Tooth]:
    """What was tried before. Raises InputError for what is no record of it."""
    return journal.decoded(path, _DECODER, "an alteration")


def _append(path: Path, tooth: Tooth) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(tooth) + b"\n")
