"""The table of steadiness: pairs of captures of one build, and what they differ in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from hostabi import __version__
from hostabi.errors import StorageError
from hostabi.runs.journal import now
from hostabi.runs.sources import CAPTURES, digest
from hostabi.runs.steady import Compared, Steadiness, needed

PAGE = "steadiness.md"
_NAMED = 5
"""Deltas of a pair that are named; the others are counted."""

_TEXT = """\
# Steadiness

Captures of one build, compared with each other: each from boots of its own, from power-on and
restored, with one CPU and two, 512 and 1024 MiB. A capture has a twin and a third look, which
tell what follows the hardware and what moves by itself; no two captures of a pair share a boot.
On equal hardware also what follows it is compared.
"""


def table(builds: Sequence[Steadiness], form: str = "simple") -> str:
    """A row for each build."""
    headers = ["build", "facts", "follow hardware", "move", "boots", "pairs", "equal hw", "deltas"]
    rows = [
        [
            steady.build,
            steady.facts,
            steady.hardware,
            steady.volatile,
            len(needed(pair.pair for pair in steady.pairs)),
            len(steady.pairs),
            sum(pair.equal_hardware for pair in steady.pairs),
            steady.deltas,
        ]
        for steady in builds
    ]
    return tabulate(rows, headers=headers, tablefmt=form)


def unsteady(builds: Sequence[Steadiness]) -> list[str]:
    """A line for each pair that differs."""
    return [
        f"{steady.build}: {pair.label}: {len(pair.deltas)} deltas: {_names(pair)}"
        for steady in builds
        for pair in steady.pairs
        if pair.deltas
    ]


def write(folder: Path, builds: Sequence[Steadiness]) -> Path:
    """Write the page. StorageError when it cannot be written."""
    parts = [_TEXT, table(builds, "github"), ""]
    if lines := unsteady(builds):
        parts += ["## What differs", "", *(f"- {line}" for line in lines), ""]
    parts += ["## Pairs", "", _pairs(builds), ""]
    parts.append(f"Made by hostabi {__version__} (sources {digest(CAPTURES)}), ended {now()}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PAGE).write_text("\n".join(parts) + "\n")
    except OSError as error:
        raise StorageError(
            f"cannot write {folder / PAGE}: {error.strerror}",
            advice="name another folder with --results",
        ) from error
    return folder / PAGE


def _pairs(builds: Sequence[Steadiness]) -> str:
    """Each pair, and how many deltas it has on each build."""
    counts: dict[str, dict[str, int]] = {}
    for steady in builds:
        for pair in steady.pairs:
            counts.setdefault(pair.label, {})[steady.build] = len(pair.deltas)
    names = [steady.build for steady in builds]
    rows = [[label, *(found.get(name, "-") for name in names)] for label, found in counts.items()]
    return tabulate(rows, headers=["captures", *names], tablefmt="github")


def _names(pair: Compared) -> str:
    names = [f"{delta.surface}:{delta.key}" for delta in pair.deltas]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])
