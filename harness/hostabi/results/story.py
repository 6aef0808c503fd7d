"""What a diff tells, line by line: groups in sections, each line with a number to open it by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from hostabi.diff.groups import Group, digest, group
from hostabi.diff.verdict import Verdict
from hostabi.model import Class, Finding


@dataclasses.dataclass(frozen=True)
class Detail:
    """How much to show of each boundary. None stands for no limit."""

    rows: int | None = 12
    """Lines of changes and of additions."""
    breaks: int | None = 40
    """Lines of breaks."""
    merge: int | None = 3
    """Groups of one rule that hit nobody known are merged where they are more than this."""
    names: int | None = 6
    """Facts that a line names."""


ALL = Detail(rows=None, breaks=None, merge=None, names=None)
"""Every group by itself, every fact by name."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One group under its number, which counts through all boundaries of a diff."""

    number: int
    verdict: Verdict
    group: Group


@dataclasses.dataclass(frozen=True)
class Section:
    """The lines of one class at one boundary; those that are hidden have numbers as well."""

    verdict: Verdict
    grade: Class
    lines: tuple[Line, ...]
    hidden: tuple[Line, ...] = ()

    @property
    def findings(self) -> int:
        """Facts in all lines."""
        return sum(len(line.group.findings) for line in (*self.lines, *self.hidden))

    @property
    def known(self) -> int:
        """Those of them that the ledger expects."""
        lines = (*self.lines, *self.hidden)
        return sum(len(line.group.findings) for line in lines if line.group.known)


def sections(verdicts: Sequence[Verdict], detail: Detail) -> list[Section]:
    """All that is to be told, in order of harm within each boundary. Empty sections are left out.

    Numbers do not depend on how much is shown, only on what is merged.
    """
    numbers = iter(range(1, 1 << 30))
    found = [_section(verdict, grade, detail, numbers) for verdict in verdicts for grade in Class]
    return [section for section in found if section.lines]


def opened(told: Sequence[Section], what: str) -> list[tuple[Line, tuple[Finding, ...]]]:
    """The line of that number, or the findings whose surface or key ``what`` names.

    A key may be given with its surface (``sysctls:kernel.shmmax``), and only as
    far as it tells what is meant.
    """
    lines = [line for section in told for line in (*section.lines, *section.hidden)]
    if what.isdecimal():
        return [(line, line.group.findings) for line in lines if line.number == int(what)]
    found = []
    for line in lines:
        meant = tuple(item for item in line.group.findings if _is_meant(item, what))
        if meant:
            found.append((line, meant))
    return found


def _is_meant(finding: Finding, what: str) -> bool:
    surface, key = finding.delta.surface, finding.delta.key
    return what == surface or key.startswith(what) or f"{surface}:{key}".startswith(what)


def _section(verdict: Verdict, grade: Class, detail: Detail, numbers: Iterator[int]) -> Section:
    groups = group(verdict.of(grade))
    if detail.merge is not None:
        groups = digest(groups, detail.merge)
    if grade is not Class.BREAK:
        groups = sorted(
            groups, key=lambda item: (bool(item.known), not item.impact, -len(item.findings))
        )
    groups = sorted(groups, key=lambda item: bool(item.known))
    lines = tuple(
        Line(number, verdict, item) for item, number in zip(groups, numbers, strict=False)
    )
    shown = detail.breaks if grade is Class.BREAK else detail.rows
    cut = len(lines) if shown is None else shown
    return Section(verdict, grade, lines[:cut], lines[cut:])
