"""The pages of the conformance suite, and its part of what a terminal shows."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from hostabi.results import conformance, payloads, phrases, tables
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
REPLAYS = "replays"
"""The folder beside the pages with what a failure of each kind ran."""

_AGAIN = (
    "A replay has the bundles, the command lines and the outputs of one such failure."
    " `hostabi shell KERNEL --replay FILE` runs it again in a guest, of any kernel."
)
_REFUSED = (
    "The libc, shell and Python of each generation, as they are and under the default seccomp"
    " profile of engines of each generation: the calls that were refused at least once, and how."
    " Whether the payload got along without is in its tests."
)
_AXES = (
    "`broke`: passed on the older side and fails on the newer one. `fixed`: the other way round."
    " `lost`: passed, and is n/a now. `gained`: the other way round. `unkept`: was n/a and fails"
    " now. `dropped`: failed, and is n/a now."
)


def write(grid: Grid, marks: str) -> dict[str, str]:
    """The pages by file name. ``marks`` explains how outcomes are written."""
    return {PAGE: _story(grid, marks), TESTS: _tests(grid, marks)}


def lines(grid: Grid, width: int, folder: Path) -> list[str]:
    """What a terminal shows of what did not pass: open failures, and how much the page has.

    Below each failure is the command that runs it again; ``folder`` is where the pages lie.
    """
    reasons = _reasons(grid)
    told = []
    for reason, cells in reasons.items():
        if reason.mark in _OPEN:
            titles = phrases.titles(map(conformance.title, cells), phrases.FEW)
            line = f"{reason.mark}: {titles} ({_where(grid, cells)}): {reason.text}"
            told.append(textwrap.shorten(line, width, placeholder=" ..."))
            told += _again(cells, folder)
    counts = Counter(reason.mark for reason in reasons if reason.mark not in _OPEN)
    if counts:
        parts = " and ".join(f"{count} for {mark}" for mark, count in counts.items())
        told.append(f"{conformance.SUITE}: reasons {parts} are in {PAGE}")
    return told


def _again(cells: Iterable[TestCell], folder: Path) -> list[str]:
    example = _example(cells)
    if example is None:
        return []
    path = folder / REPLAYS / Path(example.replay).name
    return [f"  {shlex.join(['hostabi', 'shell', example.build, '--replay', str(path)])}"]


@dataclass(frozen=True)
class _Reason:
    """Cells that did not pass for one reason. ``topic`` keeps apart what only reads alike."""

    mark: str
    text: str
    topic: str = ""


def _reasons(grid: Grid) -> dict[_Reason, list[TestCell]]:
    """The cells that did not pass by reason; of one mark, what hits most comes first."""
    found: dict[_Reason, list[TestCell]] = defaultdict(list)
    for cell in grid:
        mark = tables.mark_of(cell)
        if mark in _HEADS:
            text = conformance.why(cell)
            # "assert 0 == 1" says something only beside the test that says it.
            alone = text.startswith(AssertionError.__name__)
            topic = conformance.title(cell).partition("[")[0] if alone else ""
            found[_Reason(mark, text, topic)].append(cell)
    order = list(_HEADS)

    def rank(reason: _Reason) -> tuple[int, int, str, str]:
        return order.index(reason.mark), -len(found[reason]), reason.text, reason.topic

    return {reason: found[reason] for reason in sorted(found, key=rank)}


def replays(grid: Grid) -> list[str]:
    """The files of the failures that the page links, as the journal names them."""
    examples = (_example(cells) for cells in _reasons(grid).values())
    return [example.replay for example in examples if example]


def _example(cells: Iterable[TestCell]) -> TestCell | None:
    return next((cell for cell in cells if cell.replay), None)


def _where(grid: Grid, cells: Iterable[TestCell]) -> str:
    return phrases.places(grid, {Place(cell.runtime, cell.build) for cell in cells})


def _story(grid: Grid, marks: str) -> str:
    parts = ["# Conformance", "", marks, "", conformance.matrix(grid), ""]
    parts += [f"[Test by test]({TESTS}).", ""]
    reasons = _reasons(grid)
    if any(map(_example, reasons.values())):
        parts += [_AGAIN, ""]
    for mark, head in _HEADS.items():
        listed = [
            _line(grid, reason, cells) for reason, cells in reasons.items() if reason.mark == mark
        ]
        if listed:
            parts += [f"## {head}", "", *listed, ""]
    refused = payloads.table(grid, grid.columns())
    if refused:
        parts += ["## What payloads were refused", "", _REFUSED, "", refused, ""]
    parts += _axis(grid, "What a newer kernel changes", conformance.between_kernels(grid))
    parts += _axis(grid, "What a newer runtime changes", conformance.between_runtimes(grid))
    return "\n".join(parts).rstrip() + "\n"


def _line(grid: Grid, reason: _Reason, cells: Sequence[TestCell]) -> str:
    most = phrases.FEW if reason.mark == "n/a" else 1 << 30
    titles = phrases.titles(map(conformance.title, cells), most)
    example = _example(cells)
    link = ""
    if example:
        link = f" ([replay]({REPLAYS}/{Path(example.replay).name}))"
    return f"- **{titles}** ({_where(grid, cells)}): {reason.text}{link}"


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
