"""What changes between kernels, as tables: for the terminal and as Markdown.

First a summary by boundary, then the findings, grouped so that one cause is one
line that can be opened by its number.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from tabulate import tabulate

from hostabi.diff import keys
from hostabi.diff.classify import meaning
from hostabi.diff.groups import describe, group, show
from hostabi.diff.verdict import Verdict, contradictions
from hostabi.model import Capture, Class, Fact, Finding
from hostabi.results.story import Detail, Line, Section, opened, sections

_TITLES = {Class.BREAK: "breaks", Class.CHANGE: "changes", Class.ADDITION: "additions"}
_PUBLISHED = Detail(rows=None, breaks=None, merge=8)
_WIDE = 130
"""Columns from which the rule has one of its own."""
_HINT = "--open N tells a line in full, --open NAME what has a name; --all everything"
_SURFACE = 12
"""Columns for the name of a surface; ``capabilities`` has the longest."""
_HIT = 2
"""How many of those who are hit a line names."""
_NAMED = 8
"""Names in a remark."""


def summary(verdicts: Sequence[Verdict], form: str = "simple") -> str:
    """One row for each boundary: how many facts broke, changed and came."""
    rows = []
    for verdict in verdicts:
        breaks = verdict.of(Class.BREAK)
        rows.append(
            [
                verdict.label,
                len(verdict.open_breaks),
                len(breaks) - len(verdict.open_breaks),
                len(verdict.of(Class.CHANGE)),
                len(verdict.of(Class.ADDITION)),
            ]
        )
    headers = ["boundary", "open breaks", "known", "changes", "additions"]
    return tabulate(rows, headers=headers, tablefmt=form)


def by_surface(verdicts: Sequence[Verdict], form: str = "simple") -> str:
    """Breaks by surface and boundary; a surface in which nothing breaks has no row."""
    names = sorted({item.delta.surface for one in verdicts for item in one.of(Class.BREAK)})
    rows = [[name, *(_breaks_of(verdict, name) for verdict in verdicts)] for name in names]
    headers = ["breaks in", *(_boundary(verdict) for verdict in verdicts)]
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True)


def open_breaks(
    verdicts: Sequence[Verdict], form: str = "simple", *, limit: int | None = None
) -> str:
    """The breaks that the ledger does not expect, one row for each group; empty without any.

    With a ``limit``, only so many of each boundary, the gravest, and how many more there are.
    """
    rows = [
        [_boundary(verdict), ", ".join(item.surfaces), item.title, item.change]
        for verdict in verdicts
        for item in group(verdict.open_breaks)[:limit]
    ]
    if not rows:
        return ""
    if limit is not None:
        rows += [
            [_boundary(verdict), "", f"and {more} more", ""]
            for verdict in verdicts
            if (more := len(group(verdict.open_breaks)) - limit) > 0
        ]
        rows.sort(key=lambda row: [_boundary(verdict) for verdict in verdicts].index(row[0]))
    headers = ["boundary", "surface", "open break", "change"]
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True)


def terminal(verdicts: Sequence[Verdict], width: int = 100, detail: Detail | None = None) -> str:
    """Everything for a terminal of ``width`` columns."""
    detail = detail or Detail(names=3 if width < _WIDE else 6)
    told = sections(verdicts, detail)
    parts = [summary(verdicts)] if len(verdicts) != 1 else []
    for verdict in verdicts:
        parts += ["", verdict.label, "=" * len(verdict.label)]
        for section in told:
            if section.verdict is verdict:
                parts += _section(section, _plain_table(width, detail))
        parts += [line for text in _remarks(verdict) for line in textwrap.wrap(text, width) or [""]]
    if told:
        parts += ["", _HINT]
    return "\n".join(parts).strip() + "\n"


def in_full(verdicts: Sequence[Verdict], what: str, width: int = 100) -> str:
    """The lines that ``what`` means, with every fact, its rule, evidence and ledger; else empty."""
    return "\n\n".join(
        _opened(line, findings, width)
        for line, findings in opened(sections(verdicts, Detail()), what)
    )


def markdown(verdicts: Sequence[Verdict], detail: Detail | None = None) -> str:
    """The same as Markdown; what is merged there is in the JSON one by one."""
    detail = detail or _PUBLISHED
    told = sections(verdicts, detail)
    parts = ["# What changes from kernel to kernel", "", summary(verdicts, "github")]
    if broken := by_surface(verdicts, "github"):
        parts += ["", broken]
    for verdict in verdicts:
        parts += ["", f"## {verdict.label}"]
        for section in told:
            if section.verdict is verdict:
                parts += _section(section, _markdown_table(detail), heading="### ")
        parts += _remarks(verdict, bullet="- ")
    rules = sorted({finding.rule for verdict in verdicts for finding in verdict.findings})
    if rules:
        parts += ["", "## Rules", ""]
        parts += [f"- `{rule}`: {meaning(rule)}" for rule in rules]
    return "\n".join(parts) + "\n"


Table = Callable[[Sequence[Line]], str]


def _boundary(verdict: Verdict) -> str:
    """By line, or by build where both are of one line."""
    if verdict.old.line == verdict.new.line:
        return verdict.label
    return f"{verdict.old.line} -> {verdict.new.line}"


def _breaks_of(verdict: Verdict, surface: str) -> str:
    if surface in (*verdict.missing, *verdict.unlike):
        return "?"
    breaks = verdict.of(Class.BREAK, surface=surface)
    known = sum(bool(item.known) for item in breaks)
    parts = [f"{len(breaks) - known}"] if len(breaks) > known else []
    parts += [f"{known} known"] if known else []
    return " + ".join(parts)


def _section(section: Section, table: Table, heading: str = "") -> list[str]:
    count = section.findings
    title = f"{heading}{count} {_TITLES[section.grade] if count > 1 else section.grade}"
    if section.known:
        title += f", {section.known} of them known"
    parts = ["", title, "", table(section.lines)]
    if section.hidden:
        facts = sum(len(line.group.findings) for line in section.hidden)
        first, last = section.hidden[0].number, section.hidden[-1].number
        parts.append(f"... and {facts} more in {len(section.hidden)} lines ({first} to {last})")
    return parts


def _plain_table(width: int, detail: Detail) -> Table:
    def table(lines: Sequence[Line]) -> str:
        hit = any(line.group.impact for line in lines)
        wide = width >= _WIDE
        # the short columns and the gaps between all of them
        room = max(width - 4 - _SURFACE - 2 * (4 if hit else 3) - (26 if wide else 0), 30)
        shares = (0.42, 0.27, 0.31) if hit else (0.6, 0.4, 0.0)
        widths = [int(room * share) for share in shares]
        rows = [_short(_cells(line, detail), line) for line in lines]
        headers = ["#", "surface", "what", "change", "rule", "hits"]
        limits: list[int | None] = [4, _SURFACE, widths[0], widths[1], 24, widths[2]]
        keep = [0, 1, 2, 3, *([4] if wide else []), *([5] if hit else [])]
        return tabulate(
            [[row[column] for column in keep] for row in rows],
            headers=[headers[column] for column in keep],
            maxcolwidths=[limits[column] for column in keep],
            tablefmt="simple",
            disable_numparse=True,
        )

    return table


def _markdown_table(detail: Detail) -> Table:
    def table(lines: Sequence[Line]) -> str:
        rows = [[cell.replace("|", "\\|") for cell in _cells(line, detail)[1:]] for line in lines]
        headers = ["surface", "what", "change", "rule", "hits"]
        return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)

    return table


def _cells(line: Line, detail: Detail) -> list[str]:
    item = line.group
    known = "(known) " if item.known else ""
    return [
        str(line.number),
        ", ".join(item.surfaces),
        known + item.titled(detail.names),
        item.change,
        ", ".join(item.rules),
        "; ".join(item.impact),
    ]


def _short(cells: list[str], line: Line) -> list[str]:
    """The cells of a line where there is little room."""
    surfaces, impact = line.group.surfaces, line.group.impact
    if len(surfaces) > 1 and len(cells[1]) > _SURFACE:
        cells[1] = f"{len(surfaces)} of them"
    if len(impact) > _HIT:
        cells[-1] = "; ".join([*impact[:_HIT], f"+{len(impact) - _HIT}"])
    return cells


def _opened(line: Line, findings: Sequence[Finding], width: int) -> str:
    item = line.group
    head = f"#{line.number}  {line.verdict.label}  {item.grade}: {item.title}"
    parts = [head, ""]
    parts += [f"  {rule}: {meaning(rule)}" for rule in item.rules]
    parts += [f"  hits {who}" for who in item.impact]
    sources = dict.fromkeys(
        source for finding in findings for source in line.verdict.dependence(finding).evidence
    )
    parts += [f"  see {source}" for source in sources]
    if item.known:
        parts.append(f"  known: {item.known}")
    room = max(width - 4, 40)
    rows = [
        [f"{finding.delta.surface}:{finding.delta.key}", _values(finding), _witness(finding)]
        for finding in findings
    ]
    limits = [int(room * 0.45), int(room * 0.3), int(room * 0.25)]
    headers = ["fact", "change", "known by"]
    parts += [
        "",
        tabulate(
            rows, headers=headers, tablefmt="simple", maxcolwidths=limits, disable_numparse=True
        ),
    ]
    return "\n".join(parts)


def _values(finding: Finding) -> str:
    old, new = finding.delta.old, finding.delta.new
    if old is None or new is None or isinstance(old.value, list):
        return describe(finding)
    return f"{show(old.value, 200)} -> {show(new.value, 200)}"


def _witness(finding: Finding) -> str:
    """How the fact was determined on both sides, and what there is to add."""
    sides: list[Fact] = [
        side for side in (finding.delta.old, finding.delta.new) if side is not None
    ]
    told = dict.fromkeys(f"{side.how or '?'} ({side.certainty})" for side in sides)
    details = dict.fromkeys(side.detail for side in sides if side.detail)
    return "; ".join([*told, *details])


def _remarks(verdict: Verdict, bullet: str = "") -> list[str]:
    remarks = []
    if not verdict.findings:
        remarks.append("No fact differs.")
    if verdict.incomparable:
        remarks.append(
            f"{len(verdict.incomparable)} values not compared: they follow the hardware, and it "
            f"differs ({verdict.old.variant.label} / {verdict.new.variant.label})."
        )
    if verdict.missing:
        remarks.append(f"In one of the two captures only: {_named(verdict.missing)}.")
    for side in (verdict.old, verdict.new):
        remarks += [
            f"What {side.build} lacks in {surface} is not told, as it is not known whole: {why}."
            for surface, why in _incomplete(side)
        ]
    if verdict.unlike:
        remarks.append(
            f"Not compared, as one side was booted and the other was not: {_named(verdict.unlike)}."
        )
    if verdict.stale:
        remarks.append(
            f"{len(verdict.stale)} entries of the ledger match nothing any more: "
            f"{_named([f'{entry.surface}:{entry.key}' for entry in verdict.stale])}."
        )
    disagreeing = [f"{surface}:{fact.key}" for surface, fact in contradictions(verdict.new)]
    if disagreeing:
        remarks.append(
            f"Two ways of looking disagree on {verdict.new.build} about: {_named(disagreeing)}."
        )
    return ["", *(bullet + remark for remark in remarks)] if remarks else []


def _incomplete(capture: Capture) -> list[tuple[str, str]]:
    """Surfaces that a capture does not hold as a whole, with the reason."""
    return [
        (surface, fact.detail)
        for surface, facts in sorted(capture.surfaces.items())
        for fact in facts
        if fact.key == keys.INCOMPLETE
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
