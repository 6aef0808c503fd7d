"""The table of the last published run, between two marks in the project's README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from hostabi.diff.verdict import Verdict
from hostabi.errors import InputError, StorageError
from hostabi.model import Class
from hostabi.results import conformance, deltas, tables
from hostabi.results.conformance import Grid
from hostabi.results.tables import MISSING, Results

BEGIN = "<!-- results -->"
END = "<!-- /results -->"

_OPEN = 5
"""Open breaks of each boundary that are listed; the page of deltas has all."""


def text(results: Results, verdicts: Sequence[Verdict], link: str) -> str:
    """One row for each kernel, and where the rest is: ``link`` is the page with all of it."""
    rows = {row: cells for row, cells in tables.groups(results).items() if not row[1]}
    grid = Grid(results)
    lines = [
        [
            results.column(build),
            build.name,
            _facts(results, build.name),
            *(tables.tally(rows[row][build.name]) for row in rows),
            *([tables.tally(grid.total(build.name))] if grid.runtimes else []),
            _breaks(verdicts, build.name),
        ]
        for build in results.builds
    ]
    heads = [suite for suite, _ in rows]
    if grid.runtimes:
        heads.append(f"{conformance.SUITE}, {len(grid.runtimes)} runtimes and engines")
    headers = ["line", "build", "facts", *heads, "breaks to the next"]
    state = f"Measured until {results.ended.ended}" if results.ended else "Part of a run"
    accelerators = sorted({build.accelerator for build in results.builds} - {""})
    parts = [tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True), ""]
    together: Counter[str] = tables.lockstep(results)
    parts.append(
        f"{state} ({', '.join(accelerators)}). In lockstep over these kernels:"
        f" {tables.tally(together)}. A `known` failure or break is explained in kernels/ with its"
        f" source. [All tables]({link}): test by test, finding by finding, with the packages'"
        " checksums."
    )
    if opened := deltas.open_breaks(verdicts, "github", limit=_OPEN):
        parts += ["", "Breaks that are open, which no source known here explains:", "", opened]
    return "\n".join(parts)


def put(path: Path, content: str) -> None:
    """Replace what is between the marks in ``path``.

    Raises InputError when it has no marks, StorageError when it cannot be written.
    """
    try:
        whole = path.read_text()
        before, begin, rest = whole.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise InputError(
                f"{path} has no place for results", advice=f"put {BEGIN} and {END} into it"
            )
        path.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _facts(results: Results, name: str) -> str:
    done = results.contents.captures().get(name)
    return str(done.facts) if done else MISSING


def _breaks(verdicts: Sequence[Verdict], name: str) -> str:
    for verdict in verdicts:
        if verdict.old.build == name:
            known = len(verdict.of(Class.BREAK)) - len(verdict.open_breaks)
            return f"{len(verdict.open_breaks)} open, {known} known"
    return MISSING
