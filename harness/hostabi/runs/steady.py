"""Steadiness: captures of one build do not differ, however it was booted.

A pool of looks is taken at each build: from power-on and restored, with one CPU
and two, 512 and 1024 MiB. Pairs of captures are then put together from them,
each with a twin and a third look of its own as `hostabi capture` takes them, so
that no boot has a part in both captures of a pair. A look is a file, so that
what was interrupted goes on; another state of the sources begins anew.
"""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.diff import captures
from hostabi.diff.compare import compare
from hostabi.errors import HostabiError, InputError
from hostabi.model import Capture, Delta, Kind, Variant
from hostabi.runs import capture
from hostabi.runs.capture import Looks
from hostabi.runs.looks import Look, Looker, boots, other_hardware
from hostabi.runs.provenance import provenance
from hostabi.runs.sources import CAPTURES, digest
from hostabi.surfaces import registry

if TYPE_CHECKING:
    from hostabi.kernels.build import Build
    from hostabi.runs.guests import Guests
    from hostabi.surfaces.source import Surface

PAIRS = 20
"""How many pairs of each build are compared unless told otherwise."""

_COLD_ROUNDS = 3
"""Boots from power-on of each hardware: with these, two captures on equal hardware find a
first and a third look each. Every other round goes through the surfaces backwards."""
_HARDWARE = tuple(
    Variant(cpus=cpus, memory=memory) for cpus, memory in itertools.product((1, 2), (512, 1024))
)


@dataclass(frozen=True)
class Condition:
    """One boot of the pool. ``round`` is 0 for the restored one: a saved state is one boot."""

    variant: Variant
    round: int

    @property
    def cold(self) -> bool:
        """Whether it is booted from power-on."""
        return self.round > 0

    @property
    def label(self) -> str:
        """Short and unique: ``cold1-cpus1-memory512``."""
        start = f"cold{self.round}" if self.cold else "restored"
        return f"{start}-cpus{self.variant.cpus}-memory{self.variant.memory}"


POOL = tuple(
    Condition(variant, number)
    for number, variant in itertools.product(range(_COLD_ROUNDS + 1), _HARDWARE)
)


@dataclass(frozen=True)
class Parts:
    """The looks that one capture is put together from."""

    first: Condition
    twin: Condition
    third: Condition


Pair = tuple[Parts, Parts]


@dataclass(frozen=True)
class Compared:
    """What two captures of a build differ in: nothing, if all is well."""

    pair: Pair
    deltas: tuple[Delta, ...]

    @property
    def label(self) -> str:
        """``cold1-cpus1-memory512 and restored-cpus2-memory512``."""
        return " and ".join(parts.first.label for parts in self.pair)

    @property
    def equal_hardware(self) -> bool:
        """Whether also what follows the hardware was compared."""
        return self.pair[0].first.variant == self.pair[1].first.variant


@dataclass(frozen=True)
class Steadiness:
    """All pairs of one build. ``facts``, ``hardware`` and ``volatile`` count those of a capture."""

    build: str
    pairs: tuple[Compared, ...]
    facts: int
    hardware: int
    volatile: int

    @property
    def deltas(self) -> int:
        """Those of all pairs together."""
        return sum(len(pair.deltas) for pair in self.pairs)


def pairs(count: int) -> list[Pair]:
    """``count`` pairs whose conditions are as different as equal in turn.

    Raises InputError when the pool does not have as many.
    """
    kinds: dict[tuple[object, ...], list[Pair]] = {}
    for one, other in itertools.combinations(POOL, 2):
        pair = _completed(one, other)
        if pair is not None:
            same = (
                one.variant.cpus == other.variant.cpus,
                one.variant.memory == other.variant.memory,
            )
            kinds.setdefault((one.cold, other.cold, *same), []).append(pair)
    total = sum(len(kind) for kind in kinds.values())
    if not 0 < count <= total:
        raise InputError(f"{count} pairs cannot be put together", advice=f"ask for 1 to {total}")
    used: Counter[Condition] = Counter()
    found: list[Pair] = []
    for kind in itertools.cycle(kinds.values()):
        if len(found) == count:
            break
        if kind:
            # Of each kind in turn the pair whose boots have served least.
            pair = min(kind, key=lambda pair: sum(used[look] for look in _firsts(pair)))
            kind.remove(pair)
            used.update(_firsts(pair))
            found.append(pair)
    return found


def _firsts(pair: Pair) -> list[Condition]:
    return [parts.first for parts in pair]


def needed(chosen: Iterable[Pair]) -> list[Condition]:
    """The looks that pairs are made from, each once."""
    looks = [look for pair in chosen for parts in pair for look in _of(parts)]
    return list(dict.fromkeys(looks))


def judge(chosen: Sequence[Pair], looks: dict[Condition, Capture]) -> Steadiness:
    """Put captures together and compare them."""
    compared = []
    last: Capture | None = None
    for pair in chosen:
        one, last = (_assembled(parts, looks) for parts in pair)
        compared.append(Compared(pair, tuple(compare(one, last))))
    assert last is not None
    kinds = [fact.kind for facts in last.surfaces.values() for fact in facts]
    return Steadiness(
        build=last.build,
        pairs=tuple(compared),
        facts=len(kinds),
        hardware=kinds.count(Kind.HARDWARE),
        volatile=kinds.count(Kind.VOLATILE),
    )


@dataclass
class Pool:
    """Takes the looks, and keeps them in ``folder`` until the sources change."""

    guests: Guests
    folder: Path
    surfaces: Sequence[Surface] = registry.ALL

    def fill(
        self, builds: Sequence[Build], conditions: Sequence[Condition]
    ) -> Iterator[tuple[Build, dict[Condition, Capture] | HostabiError]]:
        """Each build when all its looks are there, or why one cannot be had."""
        self._forget_others()
        with ThreadPoolExecutor(self.guests.jobs, thread_name_prefix="look") as workers:
            try:
                for build in builds:
                    looker = Looker.at(self.guests, build)  # what it read goes with the build
                    futures = {workers.submit(self.look, looker, one): one for one in conditions}
                    try:
                        done = {futures[one]: one.result() for one in as_completed(futures)}
                    except HostabiError as error:
                        for future in futures:
                            future.cancel()
                        yield build, error
                    else:
                        yield build, done
            except BaseException:
                workers.shutdown(wait=False, cancel_futures=True)
                self.guests.abort()
                raise

    def look(self, looker: Looker, condition: Condition) -> Capture:
        """One look, from its file if it was taken before. Raises HostabiError."""
        path = self._place / looker.build.name / f"{condition.label}.json.zst"
        with suppress(InputError):
            return captures.load(path)
        whole = Look(condition.variant)
        order = -1 if condition.round % 2 else 1
        for boot in boots(self.surfaces, condition.variant):
            label, chosen = f"look {condition.label}", boot.surfaces[::order]
            whole.merge(looker.boot(chosen, boot.variant, cold=condition.cold, label=label))
        for surface, error in whole.failed.items():
            raise HostabiError(f"surface {surface}: {error.message}") from error
        taken = Capture(
            build=looker.build.name,
            line=looker.build.line,
            release=looker.build.release,
            variant=condition.variant,
            provenance=provenance(looker.build, whole.machine),
            surfaces=dict(sorted(whole.facts.items())),
        )
        captures.save(taken, path)
        return taken

    @property
    def _place(self) -> Path:
        names = "".join(sorted(surface.name for surface in self.surfaces))
        whole = names == "".join(sorted(surface.name for surface in registry.ALL))
        return self.folder / (digest(CAPTURES) if whole else f"{digest(CAPTURES)}-{names}")

    def _forget_others(self) -> None:
        for folder in self.folder.glob("*") if self.folder.is_dir() else ():
            if not folder.name.startswith(digest(CAPTURES)):
                shutil.rmtree(folder, ignore_errors=True)


def _completed(one: Condition, other: Condition) -> Pair | None:
    """A pair with these first looks whose six looks are six boots; None if there is none."""
    choices = [*_beside(one), *_beside(other)]
    for twin, third, other_twin, other_third in itertools.product(*choices):
        if len({one, other, twin, third, other_twin, other_third}) == 6:
            return Parts(one, twin, third), Parts(other, other_twin, other_third)
    return None


def _beside(first: Condition) -> tuple[list[Condition], list[Condition]]:
    """What can be the twin of a look, boots from power-on before others, and its third look."""
    order = sorted(POOL, key=lambda look: not look.cold)
    twins = [look for look in order if look.variant == other_hardware(first.variant)]
    thirds = [look for look in order if look.variant == first.variant and look != first]
    return twins, thirds


def _of(parts: Parts) -> tuple[Condition, Condition, Condition]:
    return parts.first, parts.twin, parts.third


def _assembled(parts: Parts, looks: dict[Condition, Capture]) -> Capture:
    first, twin, third = (Look(looks[one].variant, facts=looks[one].surfaces) for one in _of(parts))
    whole = Looks(first, twin)
    if whole.doubtful():
        whole.third = third
    source = looks[parts.first]
    return capture.assembled(source.build, source.line, source.release, whole, source.provenance)
