"""Tables of a run: which kernels, what was measured on each, and what did not pass.

They read the journal and nothing else, and never show part of a run as all of
it: cells that were announced but have no outcome are counted as missing.
"""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from hostabi.kernels.build import DEFAULT_FLAVOUR
from hostabi.model import Outcome
from hostabi.runs.journal import Contents
from hostabi.runs.records import (
    KNOWN,
    BuildUsed,
    Features,
    Finished,
    Planned,
    StepError,
    SurfaceError,
    TestCell,
    members,
    suite_of,
)
from hostabi.syscalls.probes import PROBES

MARKS = {
    Outcome.PASS: "pass",
    Outcome.FAIL: "FAIL",
    Outcome.UNSUPPORTED: "n/a",
    Outcome.ERROR: "error",
}
"""How an outcome is written in a table."""

KNOWN_MARK = "known"
"""How a failure is written that kernels/deviations.toml explains."""

_ORDER = ("pass", "FAIL", KNOWN_MARK, "error", "n/a")

MISSING = "-"
"""A cell that was not measured."""


@dataclass(frozen=True)
class Results:
    """A journal, arranged for rendering. ``builds`` are the columns, oldest line first."""

    contents: Contents
    builds: tuple[BuildUsed, ...]
    cells: tuple[TestCell, ...]

    @classmethod
    def of(cls, contents: Contents, names: Iterable[str] | None = None) -> Results:
        """What concerns the builds named, else those of the last run, also if it did not end."""
        known = contents.builds()
        run, end = contents.last_run()
        wanted = tuple(names) if names is not None else end.builds if end else tuple(run.builds())
        wanted = wanted or tuple(known)
        builds = [known[name] for name in dict.fromkeys(wanted) if name in known]
        chosen = {build.name for build in builds}
        cells = [cell for key, cell in contents.cells().items() if members(key.build) <= chosen]
        return cls(contents, tuple(sorted(builds, key=_age)), tuple(cells))

    @property
    def ended(self) -> Finished | None:
        """How the last run ended; None when it was stopped or goes on."""
        return self.contents.last_run()[1]

    def column(self, build: BuildUsed) -> str:
        """The head of a build's column: its line, for versions are long, or its name."""
        heads = [_head(other) for other in self.builds]
        return _head(build) if heads.count(_head(build)) == 1 else build.name

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites with cells, sorted."""
        return tuple(sorted({suite_of(cell.test) for cell in self.cells}))

    def planned(self) -> Counter[tuple[str, str]]:
        """How many cells were announced last, by build and suite."""
        return Counter({(plan.build, plan.suite): plan.cells for plan in self.contents.of(Planned)})

    def failures(self) -> list[str]:
        """What could not be found out in the last run, one line each."""
        run, end = self.contents.last_run()
        surfaces = {(error.build, error.surface): error for error in self.contents.of(SurfaceError)}
        tested = {cell.build for cell in self.cells}
        lines = [
            f"{step.build}: {step.step}: {step.reason}"
            for step in run.of(StepError)
            if (end is None or step.session == end.session)
            and (step.build, step.step) not in surfaces
            and not (step.step == "suites" and step.build in tested)  # its cells tell
        ]
        lines += [
            f"{error.build}: surface {error.surface}: {error.reason}"
            for error in surfaces.values()
            if self._is_of_last_capture(error)
        ]
        return list(dict.fromkeys(lines))

    def _is_of_last_capture(self, error: SurfaceError) -> bool:
        done = self.contents.captures().get(error.build)
        shown = any(build.name == error.build for build in self.builds)
        return shown and (done is None or done.session == error.session)


def _head(build: BuildUsed) -> str:
    plain = build.suite and build.flavour == DEFAULT_FLAVOUR
    return build.line if plain and build.line else build.name


def kernels(results: Results, form: str = "simple") -> str:
    """One row for each build with its provenance; checksums in full in Markdown only."""
    short = form == "simple"
    rows = []
    captures = results.contents.captures()
    for build in results.builds:
        digest = next(iter(build.packages.values()), build.image)
        capture = captures.get(build.name)
        rows.append(
            [
                results.column(build),
                build.name,
                build.suite or "local",
                digest[:12] if short else f"`{digest}`",
                build.emulator.partition(" ")[0] if short else build.emulator,
                build.accelerator,
                capture.facts if capture else MISSING,
            ]
        )
    headers = ["line", "build", "suite", "SHA-256", "QEMU", "accelerator", "facts"]
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True)


def packages(results: Results) -> str:
    """Every package file that was used, with its checksum, as Markdown."""
    rows = [
        [build.line, name, f"`{digest}`"]
        for build in results.builds
        for name, digest in sorted(build.packages.items())
    ]
    return tabulate(
        rows, headers=["line", "package", "SHA-256"], tablefmt="github", disable_numparse=True
    )


def matrix(results: Results, form: str = "simple", width: int = 0) -> str:
    """Suites by kernels: how many cells passed, failed, were unsupported or are missing.

    What is wider than ``width`` is made narrow by lines within its cells.
    """
    rows = [
        [f"{suite} {runtime}".strip(), *(tally(counts[build.name]) for build in results.builds)]
        for (suite, runtime), counts in groups(results).items()
    ]
    heads = ["suite", *map(results.column, results.builds)]
    parts = [_table(rows, heads, form)] if rows else []
    if parts and width and len(parts[0].partition("\n")[0]) > width:
        rows = [[cell.replace(", ", "\n") for cell in row] for row in rows]
        parts = [_table(rows, heads, form)]
    together = lockstep(results)
    if together:
        parts.append(f"in lockstep on several kernels: {tally(together)}")
    gaps = missing(results)
    if gaps:
        parts.append("\n".join(gaps))
    return "\n\n".join(parts) if parts else "No test was run."


def groups(results: Results) -> dict[tuple[str, str], dict[str, Counter[str]]]:
    """Cells of one kernel by suite and runtime, sorted; then by build, counted by mark."""
    counts: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for cell in results.cells:
        if not _joint(cell):
            row = counts.setdefault((suite_of(cell.test), cell.runtime), defaultdict(Counter))
            row[cell.build][mark_of(cell)] += 1
    return dict(sorted(counts.items()))


def lockstep(results: Results) -> Counter[str]:
    """Cells of several kernels, counted by mark."""
    return Counter(mark_of(cell) for cell in results.cells if _joint(cell))


def features(results: Results, form: str = "github") -> str:
    """What not all of the builds were found to have; empty when they have everything."""
    having = {record.build: set(record.features) for record in results.contents.of(Features)}
    builds = [build for build in results.builds if build.name in having]
    rows = [
        [feature, *("yes" if feature in having[build.name] else "-" for build in builds)]
        for feature in (probe.name for probe in PROBES)
        if any(feature not in having[build.name] for build in builds)
    ]
    return _table(rows, ["feature", *map(results.column, builds)], form) if rows else ""


def missing(results: Results) -> list[str]:
    """A line for each build and suite whose cells are not all there."""
    have = Counter((cell.build, suite_of(cell.test)) for cell in results.cells)
    names = {build.name for build in results.builds}
    return [
        f"not complete: {suite} on {build}: {have[(build, suite)]} of {planned} cells"
        for (build, suite), planned in sorted(results.planned().items())
        if members(build) <= names and have[(build, suite)] < planned
    ]


def by_test(results: Results, suite: str, form: str = "github") -> str:
    """Tests by kernels for one suite, with a note for each cell that did not pass."""
    cells: dict[tuple[str, str], dict[str, TestCell]] = defaultdict(dict)
    for cell in results.cells:
        if suite_of(cell.test) == suite:
            cells[(cell.test, _how(cell))][cell.build] = cell
    rows = []
    for (test, how), by_build in sorted(cells.items()):
        together = [cell for cell in by_build.values() if _joint(cell)]
        marks = (
            [mark_of(together[0])] * len(results.builds)
            if together
            else [
                mark_of(by_build[build.name]) if build.name in by_build else MISSING
                for build in results.builds
            ]
        )
        rows.append([short_name(test), how, *marks])
    return _table(rows, ["test", "how", *map(results.column, results.builds)], form)


def remarks(results: Results, suite: str = "", width: int = 0, *, without: str = "") -> list[str]:
    """What did not pass, and why; kernels and runtimes with the same reason share a line.

    ``suite`` asks for one suite only, ``without`` leaves one out.
    """
    asked = {name for name in results.suites if name != without and suite in {"", name}}
    heads = {build.name: results.column(build) for build in results.builds}
    grouped: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for cell in results.cells:
        if cell.outcome is Outcome.PASS or suite_of(cell.test) not in asked:
            continue
        place = heads.get(cell.build, "lockstep")
        reason = cell.reason.removeprefix(KNOWN) if cell.known else cell.reason
        grouped[(mark_of(cell), short_name(cell.test), reason, _how(cell))].append(place)
    joined: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for (mark, test, reason, how), found in grouped.items():
        places = ", ".join(sorted(set(found), key=_number))
        joined[(mark, test, reason, places)].append(how)
    lines = [
        f"{mark}: {' '.join([test, ', '.join(sorted(hows))]).strip()} on {places}: {reason}"
        for (mark, test, reason, places), hows in sorted(
            joined.items(), key=lambda item: (_ORDER.index(item[0][0]), item[0][1:])
        )
    ]
    return [textwrap.shorten(line, width, placeholder=" ...") for line in lines] if width else lines


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str], form: str) -> str:
    return tabulate(rows, headers=list(headers), tablefmt=form, disable_numparse=True)


def mark_of(cell: TestCell) -> str:
    """How the cell's outcome is written; see :data:`MARKS`."""
    return KNOWN_MARK if cell.known else MARKS[cell.outcome]


def tally(counts: Counter[str]) -> str:
    """``9 pass, 1 n/a``."""
    parts = [f"{counts[mark]} {mark}" for mark in _ORDER if counts[mark]]
    return ", ".join(parts) or MISSING


def _how(cell: TestCell) -> str:
    parts = [cell.runtime, cell.variant, "lockstep" if _joint(cell) else ""]
    return " ".join(part for part in parts if part)


def _joint(cell: TestCell) -> bool:
    """Whether the cell was measured on several builds in lockstep."""
    return len(members(cell.build)) > 1


def short_name(test: str) -> str:
    """``pipes: order`` of ``syscalls/test_pipes.py::test_order``."""
    path, _, name = test.partition("::")
    topic = path.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    name, bracket, case = name.removeprefix("test_").partition("[")
    return f"{topic}: {name.replace('_', ' ')}{bracket}{case}"


def _age(build: BuildUsed) -> tuple[list[int], str]:
    return (_number(build.line), build.name)


def _number(line: str) -> list[int]:
    return [int(part) if part.isdigit() else 1 << 30 for part in line.split(".")]
