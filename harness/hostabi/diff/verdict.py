"""Everything there is to say about two captures, in one record."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from hostabi.diff import impact as impacts
from hostabi.diff import ledger as ledgers
from hostabi.diff.classify import classify
from hostabi.diff.compare import compare, incomparable, missing
from hostabi.diff.impact import Impact
from hostabi.diff.ledger import Entry, Ledger
from hostabi.model import Capture, Certainty, Class, Delta, Fact, Finding

_HARM = (Class.BREAK, Class.CHANGE, Class.ADDITION)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The findings between two captures, gravest first, and what could not be judged."""

    old: Capture
    new: Capture
    findings: tuple[Finding, ...]
    incomparable: tuple[Delta, ...]
    """Values that the kernel derives from hardware, where the hardware differs."""
    missing: tuple[str, ...]
    """Surfaces that only one side has."""
    stale: tuple[Entry, ...]
    """Ledger entries for this boundary that match nothing any more."""

    @property
    def label(self) -> str:
        """``6.1.192-2 -> 6.12.117-1``."""
        return f"{self.old.build} -> {self.new.build}"

    def of(self, grade: Class, *, surface: str = "") -> tuple[Finding, ...]:
        """The findings of one class, of one surface or of all."""
        return tuple(
            finding
            for finding in self.findings
            if finding.grade is grade and surface in ("", finding.delta.surface)
        )

    @property
    def open_breaks(self) -> tuple[Finding, ...]:
        """Breaks that the ledger does not expect; they make the exit code 1."""
        return tuple(finding for finding in self.of(Class.BREAK) if not finding.known)


def judge(
    old: Capture, new: Capture, impact: Impact | None = None, ledger: Ledger | None = None
) -> Verdict:
    """Compare two captures and grade what differs.

    ``impact`` and ``ledger`` default to the ones that travel with hostabi.
    """
    impact = impacts.shipped() if impact is None else impact
    ledger = ledgers.shipped() if ledger is None else ledger
    deltas = compare(old, new)
    findings = classify(deltas, old, new, impact, ledger)
    return Verdict(
        old=old,
        new=new,
        findings=tuple(sorted(findings, key=_gravest_first)),
        incomparable=tuple(incomparable(old, new)),
        missing=tuple(missing(old, new)),
        stale=tuple(ledger.stale(deltas, old, new)),
    )


def judge_in_turn(
    captures: Sequence[Capture], impact: Impact | None = None, ledger: Ledger | None = None
) -> list[Verdict]:
    """One verdict for each capture and the one after it."""
    return [judge(old, new, impact, ledger) for old, new in itertools.pairwise(captures)]


def contradictions(capture: Capture) -> list[tuple[str, Fact]]:
    """Facts about which two ways of looking disagree, with their surface."""
    return [
        (surface, fact)
        for surface, facts in sorted(capture.surfaces.items())
        for fact in facts
        if fact.certainty is Certainty.CONTRADICTED
    ]


def _gravest_first(finding: Finding) -> tuple[int, bool, bool, str, str]:
    return (
        _HARM.index(finding.grade),
        bool(finding.known),
        not finding.impact,
        finding.delta.surface,
        finding.delta.key,
    )
