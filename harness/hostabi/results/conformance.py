"""The conformance suite's outcomes: kernels by runtimes, and where two neighbours differ.

Both axes have an order: kernels from the oldest line to the newest, and the
runtimes of one family as kernels/runtimes.toml lists them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tabulate import tabulate

from hostabi.model import Outcome
from hostabi.oci import engines, runtimes
from hostabi.results import tables
from hostabi.results.tables import Results
from hostabi.runs.records import KNOWN, BuildUsed, TestCell, suite_of

SUITE = "conformance"

MOVES = ("broke", "fixed", "lost", "gained", "unkept", "dropped")
"""What a newer neighbour does to a test: pass to FAIL and back, pass to n/a and back, and what
is had now but fails (n/a to FAIL), or failed and is not had any more."""

_MOVES = {
    (Outcome.PASS, Outcome.FAIL): "broke",
    (Outcome.FAIL, Outcome.PASS): "fixed",
    (Outcome.PASS, Outcome.UNSUPPORTED): "lost",
    (Outcome.UNSUPPORTED, Outcome.PASS): "gained",
    (Outcome.UNSUPPORTED, Outcome.FAIL): "unkept",
    (Outcome.FAIL, Outcome.UNSUPPORTED): "dropped",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One pair under test: a runtime on a build, by their names."""

    runtime: str
    build: str


@dataclass(frozen=True, slots=True)
class Move:
    """A test whose outcome a newer kernel or runtime changes, at ``place``, the newer side.

    ``test`` names its variant, too; ``reason`` is the newer side's, or the older's of a pass.
    """

    kind: str
    test: str
    place: Place
    reason: str


class Grid:
    """The cells of the suite by runtime, test and build."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.cells: dict[str, dict[str, dict[str, TestCell]]] = {}
        for cell in results.cells:
            if suite_of(cell.test) == SUITE and cell.runtime:
                tests = self.cells.setdefault(cell.runtime, {})
                tests.setdefault(title(cell), {})[cell.build] = cell

    @cached_property
    def builds(self) -> tuple[BuildUsed, ...]:
        """Those of the results that have a cell, oldest line first."""
        used = {cell.build for cell in self}
        return tuple(build for build in self.results.builds if build.name in used)

    @cached_property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes and engines with a cell: those of the catalogues in their order, then
        others by name."""
        listed = [name for name in families() if name in self.cells]
        return (*listed, *sorted(set(self.cells).difference(listed)))

    @cached_property
    def tests(self) -> tuple[str, ...]:
        """Every test with a cell, sorted."""
        return tuple(sorted({test for tests in self.cells.values() for test in tests}))

    def __iter__(self) -> Iterator[TestCell]:
        for tests in self.cells.values():
            for by_build in tests.values():
                yield from by_build.values()

    def columns(self) -> dict[str, str]:
        """How the head of each build's column reads, oldest first."""
        return {build.name: self.results.column(build) for build in self.builds}

    def at(self, place: Place) -> dict[str, TestCell]:
        """The cells of one pair by test."""
        tests = self.cells.get(place.runtime, {})
        return {
            test: by_build[place.build]
            for test, by_build in tests.items()
            if place.build in by_build
        }

    def total(self, build: str) -> Counter[str]:
        """The cells of one build over all runtimes, by mark."""
        return Counter(tables.mark_of(cell) for cell in self if cell.build == build)


def families() -> dict[str, str]:
    """The families of runtimes and engines by name, in the order of their catalogues.

    Those that an ordinary user calls are families of their own, after those that root calls.
    """
    of_runtimes = {
        name + mode: entry.family + mode
        for mode in ("", runtimes.SUFFIX)
        for name, entry in runtimes.catalogue().items()
    }
    return of_runtimes | {name: entry.family for name, entry in engines.catalogue().items()}


def title(cell: TestCell) -> str:
    """``cgroups: memory values``, with the variant where it is not the usual one."""
    return (
        f"{tables.short_name(cell.test)} ({cell.variant})"
        if cell.variant
        else tables.short_name(cell.test)
    )


def why(cell: TestCell) -> str:
    """The reason of a cell, without what differs though its cause does not: its runtime's name."""
    if cell.known:
        return cell.reason.removeprefix(KNOWN)
    return runtimes.anonymous(cell.reason, cell.runtime)


def matrix(grid: Grid, form: str = "github") -> str:
    """One row for each runtime, one column for each kernel: how many cells ended how."""
    rows = [
        [
            name,
            *(
                tables.tally(
                    Counter(map(tables.mark_of, grid.at(Place(name, build.name)).values()))
                )
                for build in grid.builds
            ),
        ]
        for name in grid.runtimes
    ]
    headers = ["runtime or engine", *grid.columns().values()]
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True)


def between_kernels(grid: Grid) -> dict[tuple[str, str], list[Move]]:
    """What each kernel changes that the one before it did not, with the same runtime."""
    return {
        (older.name, newer.name): [
            move
            for name in grid.runtimes
            for move in _moves(grid, Place(name, older.name), Place(name, newer.name))
        ]
        for older, newer in pairwise(grid.builds)
    }


def between_runtimes(grid: Grid) -> dict[tuple[str, str], list[Move]]:
    """What each runtime changes that the one before it of its family did not, on equal kernels."""
    return {
        (older, newer): [
            move
            for build in grid.builds
            for move in _moves(grid, Place(older, build.name), Place(newer, build.name))
        ]
        for older, newer in pairs(grid.runtimes)
    }


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Neighbours of one family, in the order of ``names``. A local binary has none."""
    known = families()
    return [
        pair
        for family in dict.fromkeys(known[name] for name in names if name in known)
        for pair in pairwise(name for name in names if known.get(name) == family)
    ]


def _moves(grid: Grid, older: Place, newer: Place) -> Iterable[Move]:
    before, after = grid.at(older), grid.at(newer)
    for test in sorted(before.keys() & after.keys()):
        # What the harness failed to find out is no move.
        kind = _MOVES.get((before[test].outcome, after[test].outcome))
        if kind:
            ended = after[test] if after[test].outcome is not Outcome.PASS else before[test]
            yield Move(kind, test, newer, why(ended))
