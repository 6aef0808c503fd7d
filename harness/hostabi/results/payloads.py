"""What the payloads of containers were refused and did without, as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tabulate import tabulate

from hostabi.oci import payloads
from hostabi.results import tables
from hostabi.runs.records import TestCell
from hostabi.syscalls import profiles


def table(cells: Iterable[TestCell], columns: dict[str, str]) -> str:
    """A row for each payload, profile and call that was refused; a column for each build.

    ``columns`` are the heads by build. Empty when no cell tells of a payload.
    """
    found: dict[tuple[str, str, str], dict[str, set[str]]] = defaultdict(dict)
    asked: set[tuple[str, str, str]] = set()
    for cell in cells:
        seen = cell.measured
        if not {"payload", "profile", "refused"} <= seen.keys():
            continue
        asked.add((seen["payload"], seen["profile"], cell.build))
        for name, ends in payloads.parse(seen["refused"]).items():
            row = found[(seen["payload"], seen["profile"], name)]
            row.setdefault(cell.build, set()).update(ends)
    rows = []
    for payload, profile, name in sorted(found, key=_rank):
        by_build = found[(payload, profile, name)]
        marks = (
            ", ".join(sorted(by_build.get(build, ())))
            if (payload, profile, build) in asked
            else tables.MISSING
            for build in columns
        )
        rows.append([payload, profile, name, *marks])
    heads = ["payload", "profile", "call", *columns.values()]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True) if rows else ""


def _rank(row: tuple[str, str, str]) -> tuple[int, int, str]:
    """The oldest payload and the profile of the oldest engine first, no profile before that."""
    payload, profile, name = row
    generations, engines = payloads.names(), tuple(profiles.catalogue())
    return (
        generations.index(payload) if payload in generations else len(generations),
        engines.index(profile) if profile in engines else -1,
        name,
    )
