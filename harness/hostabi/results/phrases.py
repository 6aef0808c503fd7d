"""Sets of kernels, runtimes and tests as short phrases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from hostabi.oci.runtimes import FAMILIES
from hostabi.results.conformance import Grid, Place, families

FEW = 4
"""Names of one kind that a short phrase tells before it counts the others."""


def places(grid: Grid, found: Iterable[Place]) -> str:
    """``every crun on all kernels; runc on 5.10 to 6.12``."""
    builds: dict[str, set[str]] = defaultdict(set)
    for place in found:
        builds[place.runtime].add(place.build)
    hits: dict[str, list[str]] = defaultdict(list)
    for name in grid.runtimes:
        if name in builds:
            hits[kernels(grid, builds[name])].append(name)
    return "; ".join(f"{several(names, grid.runtimes)} on {where}" for where, names in hits.items())


def kernels(grid: Grid, names: Collection[str]) -> str:
    """``all kernels``, ``5.10 to 6.12``, or a list."""
    columns = grid.columns()
    if len(names) == len(columns) > 1:
        return "all kernels"
    order = list(columns)
    runs: list[list[str]] = []
    for at, name in enumerate(order):
        if name in names:
            if at and order[at - 1] in names:
                runs[-1].append(columns[name])
            else:
                runs.append([columns[name]])
    told = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else run for run in runs]
    return ", ".join(part for run in told for part in run)


def several(names: Sequence[str], of: Sequence[str]) -> str:
    """``every runtime``, ``every runc``, or the names; ``of`` are all that could be meant."""
    known = families()
    all_runtimes = [name for name in of if known.get(name) in FAMILIES]
    if list(names) == all_runtimes and len(names) > 1:
        return "every runtime"
    parts: list[str] = []
    for family in dict.fromkeys(known.get(name, name) for name in names):
        every = [name for name in of if known.get(name) == family]
        hit = [name for name in names if name in every] or [family]
        parts.append(f"every {family}" if len(hit) == len(every) > 1 else ", ".join(hit))
    return ", ".join(parts)


def titles(names: Iterable[str], most: int = 1 << 30) -> str:
    """``cgroups: memory values, pids value; paths: it is masked (10 cases)``.

    Of more than ``most`` of one kind the others are only counted.
    """
    topics: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(set(names)):
        topic, _, rest = name.partition(": ")
        base, bracket, case = rest.partition("[")
        topics[topic][base].append(bracket + case)
    told = [f"{topic}: {_cases(bases, most)}" for topic, bases in topics.items()]
    return _some(told, most, "; ", "topics")


def _cases(bases: Mapping[str, Sequence[str]], most: int) -> str:
    told = [
        f"{base} ({len(cases)} cases)"
        if len(cases) > 2
        else ", ".join(base + case for case in cases)
        for base, cases in bases.items()
    ]
    return _some(told, most, ", ")


def _some(told: Sequence[str], most: int, separator: str, what: str = "") -> str:
    more = len(told) - most
    if more < 2:
        return separator.join(told)
    return separator.join([*told[:most], f"{more} more {what}".strip()])
