"""What a diff finds, as JSON; ``diff.schema.json`` beside this file tells its form.

The schema is generated from the records here, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from hostabi import __version__
from hostabi.diff.classify import meaning
from hostabi.diff.verdict import Verdict, contradictions
from hostabi.model import SCHEMA, Capture, Certainty, Class, Fact, Finding, Kind, Value, Variant
from hostabi.results.story import Detail, Line, sections

SCHEMA_FILE = Path(__file__).parent / "diff.schema.json"

_MERGED = Detail(merge=None)
"""Nothing is merged in JSON: a reader can count by itself."""


class Side(msgspec.Struct, frozen=True):
    """One of the two captures."""

    build: Annotated[str, Meta(description="Name of the build, such as 6.1.192-2.")]
    line: Annotated[str, Meta(description="Its line, such as 6.1.")]
    release: Annotated[str, Meta(description="What uname -r says.")]
    variant: Annotated[Variant, Meta(description="How it was booted; memory in MiB.")]
    packages: Annotated[dict[str, str], Meta(description="Package file to its SHA-256.")]


class Seen(msgspec.Struct, frozen=True):
    """A fact as one side has it."""

    value: Annotated[Value, Meta(description="ok or an errno's name for what was tried.")]
    kind: Annotated[Kind, Meta(description="How two values of it compare.")]
    how: Annotated[str, Meta(description="How it was determined: probe, btf, package, ...")]
    certainty: Annotated[Certainty, Meta(description="How sure it is.")]
    detail: str = ""


class Expected(msgspec.Struct, frozen=True):
    """The ledger's entry that expects a finding."""

    reason: str
    citation: Annotated[str, Meta(description="A commit with its subject, a document, an address.")]


class Found(msgspec.Struct, frozen=True):
    """One fact that differs."""

    surface: str
    key: Annotated[str, Meta(description="subject or subject#aspect; unique in its surface.")]
    grade: Annotated[Class, Meta(description="What it means for what worked before.")]
    rule: Annotated[str, Meta(description="What decided the class; told under rules.")]
    old: Annotated[Seen | None, Meta(description="null: it was not there.")]
    new: Annotated[Seen | None, Meta(description="null: it is not there.")]
    group: Annotated[int, Meta(description="Number of its group.")]
    impact: Annotated[tuple[str, ...], Meta(description="Who is hit, as CATEGORY: NAME.")] = ()
    evidence: Annotated[tuple[str, ...], Meta(description="Where that is said.")] = ()
    known: Annotated[Expected | None, Meta(description="null: the ledger does not expect it.")] = (
        None
    )


class GroupOf(msgspec.Struct, frozen=True):
    """Findings of one cause."""

    number: int
    grade: Class
    title: str
    change: str
    findings: Annotated[int, Meta(description="How many.")]
    known: bool = False


class Counts(msgspec.Struct, frozen=True):
    """How many findings of each class."""

    open_breaks: Annotated[int, Meta(description="Breaks that the ledger does not expect.")]
    known_breaks: int
    changes: int
    additions: int


class Comparison(msgspec.Struct, frozen=True):
    """One build against another. Findings stand in order of harm."""

    old: Side
    new: Side
    counts: Counts
    groups: tuple[GroupOf, ...]
    findings: tuple[Found, ...]
    incomparable: Annotated[
        tuple[str, ...],
        Meta(description="Facts that follow the hardware, where the hardware differs."),
    ]
    missing: Annotated[tuple[str, ...], Meta(description="Surfaces that only one side has.")]
    unlike: Annotated[
        tuple[str, ...], Meta(description="Surfaces tried on one side only; not compared.")
    ]
    stale: Annotated[
        tuple[str, ...], Meta(description="Facts whose entry in the ledger matches nothing.")
    ]
    contradicted: Annotated[
        tuple[str, ...], Meta(description="Facts about which the new side's witnesses disagree.")
    ]


class Report(msgspec.Struct, frozen=True):
    """What `hostabi diff --json` writes."""

    comparisons: tuple[Comparison, ...]
    rules: Annotated[dict[str, str], Meta(description="What each rule that decided says.")]
    tool: str = __version__
    schema: Annotated[int, Meta(description="Version of this form.")] = SCHEMA


def report(verdicts: Sequence[Verdict]) -> Report:
    """All verdicts as they are written."""
    rules = sorted({item.rule for verdict in verdicts for item in verdict.findings})
    lines: dict[int, list[Line]] = {}
    for section in sections(verdicts, _MERGED):
        both = (*section.lines, *section.hidden)
        lines.setdefault(id(section.verdict), []).extend(both)
    return Report(
        comparisons=tuple(_comparison(item, lines.get(id(item), [])) for item in verdicts),
        rules={rule: meaning(rule) for rule in rules},
    )


def as_json(verdicts: Sequence[Verdict]) -> bytes:
    """A :class:`Report`, indented."""
    return msgspec.json.format(msgspec.json.encode(report(verdicts)), indent=1)


def schema() -> bytes:
    """The JSON Schema of a report, as ``diff.schema.json`` has it."""
    form = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hostabi diff",
        **msgspec.json.schema(Report),
    }
    return msgspec.json.format(msgspec.json.encode(form), indent=1) + b"\n"


def _comparison(verdict: Verdict, lines: Sequence[Line]) -> Comparison:
    numbers = {id(finding): line.number for line in lines for finding in line.group.findings}
    breaks, opened = verdict.of(Class.BREAK), verdict.open_breaks
    return Comparison(
        old=_side(verdict.old),
        new=_side(verdict.new),
        counts=Counts(
            open_breaks=len(opened),
            known_breaks=len(breaks) - len(opened),
            changes=len(verdict.of(Class.CHANGE)),
            additions=len(verdict.of(Class.ADDITION)),
        ),
        groups=tuple(_group(line) for line in lines),
        findings=tuple(_found(verdict, item, numbers[id(item)]) for item in verdict.findings),
        incomparable=tuple(f"{delta.surface}:{delta.key}" for delta in verdict.incomparable),
        missing=verdict.missing,
        unlike=verdict.unlike,
        stale=tuple(f"{entry.surface}:{entry.key}" for entry in verdict.stale),
        contradicted=tuple(f"{name}:{fact.key}" for name, fact in contradictions(verdict.new)),
    )


def _side(capture: Capture) -> Side:
    packages = capture.provenance.packages
    return Side(capture.build, capture.line, capture.release, capture.variant, packages)


def _group(line: Line) -> GroupOf:
    item = line.group
    count = len(item.findings)
    return GroupOf(line.number, item.grade, item.title, item.change, count, bool(item.known))


def _found(verdict: Verdict, finding: Finding, group: int) -> Found:
    entry = verdict.entry(finding)
    evidence = verdict.dependence(finding).evidence if finding.impact else ()
    return Found(
        surface=finding.delta.surface,
        key=finding.delta.key,
        grade=finding.grade,
        rule=finding.rule,
        old=_seen(finding.delta.old),
        new=_seen(finding.delta.new),
        group=group,
        impact=finding.impact,
        evidence=evidence,
        known=Expected(entry.reason, entry.citation) if entry else None,
    )


def _seen(fact: Fact | None) -> Seen | None:
    if fact is None:
        return None
    return Seen(fact.value, fact.kind, fact.how, fact.certainty, fact.detail)
