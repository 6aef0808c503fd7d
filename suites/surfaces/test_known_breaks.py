"""Breaks that people met are found by capture and diff, and classified as they were told."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hostabi.diff import captures as capture_files
from hostabi.diff import documented
from hostabi.diff.compare import by_key
from hostabi.diff.documented import Documented, Expected
from hostabi.diff.verdict import Verdict, judge_in_turn
from hostabi.kernels.build import Build
from hostabi.kernels.catalogue import line_order
from hostabi.model import Capture, Fact
from hostabi.pytest_plugin import unsupported
from hostabi.runs import capture, journal, sources
from hostabi.runs.guests import Guests
from hostabi.surfaces import registry

ENTRIES = documented.shipped()
NAMES = sorted({surface for entry in ENTRIES for surface, _ in entry.facts()})


@pytest.fixture(scope="session")
def captures(
    kernels: tuple[Build, ...], guests: Guests, request: pytest.FixtureRequest
) -> list[Capture]:
    """One capture of each line, oldest first: the run's own, or of the surfaces that matter."""
    path: Path | None = request.config.getoption("--journal")
    known = journal.read(path).since(sources.digests()) if path else None
    surfaces = [surface for surface in registry.ALL if surface.name in NAMES]
    found = []
    for build in sorted(kernels, key=lambda build: line_order(build.line)):
        file = journal.recorded_capture(path, known, build.name) if path and known else None
        if file is not None:
            found.append(capture_files.load(file))
        else:
            found.append(capture.take(guests, build, surfaces, twin=False).capture)
    return found


@pytest.fixture(scope="session")
def verdicts(captures: list[Capture]) -> dict[str, Verdict]:
    """What each line changes against the one before it, by boundary."""
    return {
        f"{verdict.old.line} -> {verdict.new.line}": verdict for verdict in judge_in_turn(captures)
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_documented_breaks_are_found(
    kernels: tuple[Build, ...],
    captures: list[Capture],
    verdicts: dict[str, Verdict],
    entry: Documented,
) -> None:
    """Each at its boundary and in its class; what the sources call no difference is silent."""
    between = [one for one in entry.expect if one.boundary in verdicts]
    if not between and not entry.silent:
        unsupported(entry.unseen or "it does not lie between any two of these kernels")
    missed = [text for one in between for text in _missed(one, verdicts[one.boundary])]
    for silent in entry.silent:
        for one in captures:
            fact = _fact(one, silent.surface, silent.key)
            if fact is None or fact.value != silent.value:
                seen = "is not there" if fact is None else f"is {fact.value!r}"
                missed.append(f"{one.build}: {silent.surface}:{silent.key} {seen}")
    assert not missed, "\n".join([f"{entry.id}: {entry.summary}", *missed])


def test_breaks_are_expected_where_two_lines_meet() -> None:
    """A boundary that nobody boots would never be looked at."""
    from hostabi.kernels.catalogue import default_lines

    pairs = {f"{old} -> {new}" for old, new in itertools.pairwise(default_lines())}
    assert {one.boundary for entry in ENTRIES for one in entry.expect} <= pairs


def _missed(expected: Expected, verdict: Verdict) -> list[str]:
    name = f"{expected.boundary}: {expected.surface}:{expected.key}"
    for finding in verdict.findings:
        if (finding.delta.surface, finding.delta.key) == (expected.surface, expected.key):
            if finding.grade is expected.grade:
                return []
            return [f"{name} is a {finding.grade} by rule {finding.rule}, not a {expected.grade}"]
    sides = [_fact(one, expected.surface, expected.key) for one in (verdict.old, verdict.new)]
    values = " and ".join("not there" if fact is None else repr(fact.value) for fact in sides)
    return [f"{name} was not found: it is {values}"]


def _fact(one: Capture, surface: str, key: str) -> Fact | None:
    return by_key(one.surfaces.get(surface, [])).get(key)
