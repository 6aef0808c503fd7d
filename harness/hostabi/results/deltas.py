"""What changes between kernels, as tables: for the terminal, as Markdown, as JSON.

First a summary by boundary and surface, then the findings, grouped so that one
cause is one line; breaks in full, the rest as far as a screen goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import msgspec
from tabulate import tabulate

from hostabi.diff.classify import meaning
from hostabi.diff.groups import Group, digest, group
from hostabi.diff.verdict import Verdict, contradictions
from hostabi.model import SCHEMA, Class, Finding, Variant

_MINOR_ROWS = 12
"""Groups of changes and of additions that the terminal shows for one boundary."""

_TITLES = {Class.BREAK: "breaks", Class.CHANGE: "changes", Class.ADDITION: "additions"}
_NAMES_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Detail:
    """How much to show of each boundary. None stands for no limit."""

    rows: int | None = _MINOR_ROWS
    """Groups of changes and of additions."""
    merge: int | None = 3
    """Groups of one rule that hit nobody are merged where they are more than this."""
    opened: bool = False
    """Name every fact of a group instead of the first few."""


ALL = Detail(rows=None, merge=None, opened=True)
"""Every group by itself, every fact by name."""


class Side(msgspec.Struct, frozen=True):
    """One of the two captures, as JSON tells it."""

    build: str
    line: str
    release: str
    variant: Variant
    packages: dict[str, str]


class Record(msgspec.Struct, frozen=True):
    """One boundary as JSON: the findings whole, the rest counted or named."""

    old: Side
    new: Side
    findings: tuple[Finding, ...]
    incomparable: tuple[str, ...]
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    schema: int = SCHEMA


def as_json(verdicts: Sequence[Verdict]) -> bytes:
    """A list of :class:`Record`, one for each boundary, indented."""
    return msgspec.json.format(msgspec.json.encode([record(item) for item in verdicts]), indent=1)


def record(verdict: Verdict) -> Record:
    """One verdict as it is written to JSON."""
    sides = [
        Side(item.build, item.line, item.release, item.variant, item.provenance.packages)
        for item in (verdict.old, verdict.new)
    ]
    return Record(
        old=sides[0],
        new=sides[1],
        findings=verdict.findings,
        incomparable=tuple(f"{delta.surface}: {delta.key}" for delta in verdict.incomparable),
        missing=verdict.missing,
        stale=tuple(f"{entry.surface}: {entry.key}" for entry in verdict.stale),
    )


def summary(verdicts: Sequence[Verdict], form: str = "simple") -> str:
    """One row for each boundary and surface: how many facts broke, changed and came."""
    rows: list[list[str | int]] = []
    for verdict in verdicts:
        label = verdict.label
        for surface in sorted(verdict.old.surfaces.keys() & verdict.new.surfaces.keys()):
            breaks = verdict.of(Class.BREAK, surface=surface)
            known = sum(bool(finding.known) for finding in breaks)
            rows.append(
                [
                    label,
                    surface,
                    len(breaks),
                    known,
                    len(verdict.of(Class.CHANGE, surface=surface)),
                    len(verdict.of(Class.ADDITION, surface=surface)),
                ]
            )
            label = ""
    headers = ["boundary", "surface", "breaks", "known", "changes", "additions"]
    return tabulate(rows, headers=headers, tablefmt=form)


def open_breaks(verdicts: Sequence[Verdict], form: str = "simple") -> str:
    """The breaks that the ledger does not expect, one row for each group; empty without any."""
    rows = [
        [f"{verdict.old.line} -> {verdict.new.line}", item.surface, item.title, item.change]
        for verdict in verdicts
        for item in group(verdict.open_breaks)
    ]
    if not rows:
        return ""
    headers = ["boundary", "surface", "open break", "change"]
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True)


def terminal(verdicts: Sequence[Verdict], width: int = 100, detail: Detail | None = None) -> str:
    """Everything for a terminal of ``width`` columns."""
    detail = detail or Detail()
    parts = [summary(verdicts)] if len(verdicts) != 1 else []
    for verdict in verdicts:
        parts += ["", verdict.label, "=" * len(verdict.label)]
        for grade in Class:
            parts += _section(verdict, grade, detail, _plain_table(width))
        parts += _remarks(verdict)
    return "\n".join(parts).strip() + "\n"


def markdown(verdicts: Sequence[Verdict], detail: Detail | None = None) -> str:
    """The same as Markdown; what is merged there is in the JSON one by one."""
    detail = detail or Detail(rows=None, merge=8)
    parts = ["# What changes from kernel to kernel", "", summary(verdicts, "github")]
    for verdict in verdicts:
        parts += ["", f"## {verdict.label}"]
        for grade in Class:
            parts += _section(verdict, grade, detail, _markdown_table, heading="### ")
        parts += _remarks(verdict, bullet="- ")
    rules = sorted({finding.rule for verdict in verdicts for finding in verdict.findings})
    if rules:
        parts += ["", "## Rules", ""]
        parts += [f"- `{rule}`: {meaning(rule)}" for rule in rules]
    return "\n".join(parts) + "\n"


Table = Callable[[Sequence[Group], Detail], str]


def _section(
    verdict: Verdict, grade: Class, detail: Detail, table: Table, heading: str = ""
) -> list[str]:
    findings = verdict.of(grade)
    if not findings:
        return []
    groups = group(findings)
    if grade is not Class.BREAK:
        if detail.merge is not None:
            groups = digest(groups, detail.merge)
        groups = sorted(groups, key=lambda item: (item.known, not item.impact, -len(item.findings)))
    shown = groups if grade is Class.BREAK else groups[: detail.rows]
    title = f"{heading}{len(findings)} {_TITLES[grade] if len(findings) > 1 else grade}"
    parts = ["", title, "", table(shown, detail)]
    hidden = groups[len(shown) :]
    if hidden:
        count = sum(len(item.findings) for item in hidden)
        parts.append(f"... and {count} more in {len(hidden)} groups (all of them with --all)")
    return parts


def _plain_table(width: int) -> Table:
    def table(groups: Sequence[Group], detail: Detail) -> str:
        hit = any(item.impact for item in groups)
        # what the three short columns and the gaps between all of them take
        room = max(width - 9 - 24 - 8, 30)
        shares = (0.4, 0.28, 0.32) if hit else (0.58, 0.42, 0.0)
        widths = [int(room * share) for share in shares]
        headers = ["surface", "what", "change", "rule", "hits"]
        rows = [_row(item, detail) for item in groups]
        limits: list[int | None] = [9, widths[0], widths[1], 24, widths[2]]
        if not hit:
            headers, rows, limits = headers[:4], [row[:4] for row in rows], limits[:4]
        return tabulate(
            rows, headers=headers, tablefmt="simple", maxcolwidths=limits, disable_numparse=True
        )

    return table


def _markdown_table(groups: Sequence[Group], detail: Detail) -> str:
    rows = [[cell.replace("|", "\\|") for cell in _row(item, detail)] for item in groups]
    headers = ["surface", "what", "change", "rule", "hits"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _row(item: Group, detail: Detail) -> list[str]:
    known = "(known) " if item.known else ""
    hits = "; ".join(item.impact)
    return [item.surface, known + _what(item, detail), item.change, item.rule, hits]


def _what(item: Group, detail: Detail) -> str:
    """The group's title, and the names behind a pattern."""
    if len(item.findings) == 1 or item.merged or "*" not in item.title:
        return item.title
    names = [finding.delta.key.partition("#")[0] for finding in item.findings]
    prefix = item.title.partition("*")[0]
    names = [name.removeprefix(prefix) for name in names]
    if not detail.opened and len(names) > _NAMES_SHOWN:
        names = [*names[:_NAMES_SHOWN], "..."]
    return f"{item.title}: {', '.join(names)}"


def _remarks(verdict: Verdict, bullet: str = "") -> list[str]:
    remarks = []
    if not verdict.findings:
        remarks.append("No fact differs.")
    if verdict.incomparable:
        remarks.append(
            f"{len(verdict.incomparable)} values not compared: they follow the hardware, and it "
            f"differs ({verdict.old.variant.label} / {verdict.new.variant.label})."
        )
    remarks += [f"Surface {name} is in one of the two captures only." for name in verdict.missing]
    remarks += [
        f"The ledger's entry for {entry.key} ({entry.boundary}) matches nothing any more."
        for entry in verdict.stale
    ]
    disagreeing = contradictions(verdict.new)
    if disagreeing:
        names = ", ".join(fact.key for _, fact in disagreeing)
        remarks.append(f"Two ways of looking disagree on {verdict.new.build} about: {names}.")
    return ["", *(bullet + remark for remark in remarks)] if remarks else []
