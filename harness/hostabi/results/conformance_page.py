"""The pages of the conformance suite, and its part of what a terminal shows."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from hostabi.results import conformance, phrases, tables
from hostabi.results.conformance import MOVES, Grid, Move, Place
from hostabi.runs.records import TestCell

PAGE = f"{conformance.SUITE}.md"
TESTS = f"{conformance.SUITE}-tests.md"

_HEADS = {
    "FAIL": "Failures that are open",
    tables.KNOWN_MARK: "Failures that are known",
    "error": "What the harness failed to find out",
    "n/a": "What kernels or runtimes lack",
}
_OPEN = ("FAIL", "error")
_AXES = (
    "`broke`: passed on the older side and fails on the newer one. `fixed`: the other way round."
    " `lost`: passed, and is n/a now. `gained`: the other way round. `unkept`: was n/a and fails"
    " now. `dropped`: failed, and is n/a now."
)


def write(grid: Grid, marks: str) -> dict[str, str]:
    """The pages by file name. ``marks`` explains how outcomes are written."""
    return {PAGE: _story(grid, marks), TESTS: _tests(grid, marks)}


def lines(grid: Grid, width: int) -> list[str]:
    """What a terminal shows of what did not pass: open failures, and how much the page has."""
    reasons = _reasons(grid)
    told = [
        f"{mark}: {phrases.titles(tests, phrases.FEW)} ({phrases.places(grid, found)}): {reason}"
        for (mark, reason), (tests, found) in reasons.items()
        if mark in _OPEN
    ]
    told = [textwrap.shorten(line, width, placeholder=" ...") for line in told]
    counts = Counter(mark for mark, _ in reasons if mark not in _OPEN)
    if counts:
        parts = " and ".join(f"{count} for {mark}" for mark, count in counts.items())
        told.append(f"{conformance.SUITE}: reasons {parts} are in {PAGE}")
    return told


def _reasons(grid: Grid) -> dict[tuple[str, str], tuple[set[str], set[Place]]]:
    """Tests and places by mark and reason; of one mark, what hits most comes first."""
    tests: dict[tuple[str, str], set[str]] = defaultdict(set)
    found: dict[tuple[str, str], set[Place]] = defaultdict(set)
    hits: Counter[tuple[str, str]] = Counter()
    for cell in grid:
        mark = tables.mark_of(cell)
        if mark in _HEADS:
            key = (mark, conformance.why(cell))
            tests[key].add(conformance.title(cell))
            found[key].add(Place(cell.runtime, cell.build))
            hits[key] += 1
    order = list(_HEADS)
    keys = sorted(hits, key=lambda key: (order.index(key[0]), -hits[key], key[1]))
    return {key: (tests[key], found[key]) for key in keys}


def _story(grid: Grid, marks: str) -> str:
    parts = ["# Conformance", "", marks, "", conformance.matrix(grid), ""]
    parts += [f"[Test by test]({TESTS}).", ""]
    reasons = _reasons(grid)
    for mark, head in _HEADS.items():
        chosen = {key: told for key, told in reasons.items() if key[0] == mark}
        if chosen:
            parts += [f"## {head}", "", *_listed(grid, mark, chosen), ""]
    parts += _axis(grid, "What a newer kernel changes", conformance.between_kernels(grid))
    parts += _axis(grid, "What a newer runtime changes", conformance.between_runtimes(grid))
    return "\n".join(parts).rstrip() + "\n"


def _listed(
    grid: Grid, mark: str, chosen: Mapping[tuple[str, str], tuple[set[str], set[Place]]]
) -> list[str]:
    most = phrases.FEW if mark == "n/a" else 1 << 30
    return [
        f"- **{phrases.titles(tests, most)}** ({phrases.places(grid, found)}): {reason}"
        for (_, reason), (tests, found) in chosen.items()
    ]


def _axis(grid: Grid, head: str, moves: Mapping[tuple[str, str], Sequence[Move]]) -> list[str]:
    """A count of moves for each step of an axis, then what moved and why."""
    if not moves:
        return []
    columns = grid.columns()
    named = {step: " -> ".join(columns.get(side, side) for side in step) for step in moves}
    rows = []
    for step, found in moves.items():
        counts = Counter(move.kind for move in found)
        rows.append([named[step], *(counts[kind] or tables.MISSING for kind in MOVES)])
    table = tabulate(rows, ["step", *MOVES], tablefmt="github", disable_numparse=True)
    parts = [f"## {head}", "", _AXES, "", table, ""]
    for step, found in moves.items():
        if found:
            parts += [f"### {named[step]}", "", *_moved(grid, found), ""]
    return parts


def _moved(grid: Grid, moves: Iterable[Move]) -> list[str]:
    """A line for each kind and reason of moves, in the order of :data:`MOVES`."""
    grouped: dict[tuple[str, str], list[Move]] = defaultdict(list)
    for move in moves:
        grouped[(move.kind, move.reason)].append(move)
    keys = sorted(grouped, key=lambda key: (MOVES.index(key[0]), -len(grouped[key]), key[1]))
    told = []
    for kind, reason in keys:
        found = grouped[(kind, reason)]
        tests = phrases.titles((move.test for move in found), phrases.FEW)
        where = phrases.places(grid, {move.place for move in found})
        told.append(f"- {kind}: **{tests}** ({where}): {reason}")
    return told


def _tests(grid: Grid, marks: str) -> str:
    rows = [
        [test, *(_over_kernels(grid, grid.cells[name].get(test, {})) for name in grid.runtimes)]
        for test in grid.tests
    ]
    table = tabulate(rows, ["test", *grid.runtimes], tablefmt="github", disable_numparse=True)
    return (
        f"# Conformance test by test\n\n{marks} Where kernels differ, each is named.\n\n{table}\n"
    )


def _over_kernels(grid: Grid, cells: Mapping[str, TestCell]) -> str:
    """``pass``, or ``pass (n/a on 5.10)``: what most kernels have, and which have another."""
    marks: dict[str, set[str]] = defaultdict(set)
    for build in grid.builds:
        cell = cells.get(build.name)
        marks[tables.mark_of(cell) if cell else tables.MISSING].add(build.name)
    most, *others = sorted(marks, key=lambda mark: -len(marks[mark]))
    rest = "; ".join(f"{mark} on {phrases.kernels(grid, marks[mark])}" for mark in others)
    return f"{most} ({rest})" if rest else most
