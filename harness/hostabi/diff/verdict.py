"""Everything there is to say about two captures, in one record."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from msgspec.structs import replace

from hostabi.diff import impact as impacts
from hostabi.diff import ledger as ledgers
from hostabi.diff.classify import classify
from hostabi.diff.compare import compare, incomparable, missing
from hostabi.diff.impact import CATEGORIES, Dependence, Impact, category
from hostabi.diff.ledger import Entry, Ledger
from hostabi.model import Capture, Certainty, Class, Delta, Fact, Finding

_HARM = (Class.BREAK, Class.CHANGE, Class.ADDITION)
_SURENESS = (Certainty.PROBED, Certainty.READ, Certainty.DERIVED, Certainty.CONTRADICTED)
_ALTERED = frozenset(("value-changed", "errno-changed", "hardware-default-changed"))
"""Rules about what is there and works, or does not, as before, only otherwise."""


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
    unlike: tuple[str, ...]
    """Surfaces that were tried on one side, and on the other only read from the image."""
    stale: tuple[Entry, ...]
    """Ledger entries for this boundary that match nothing any more."""
    impact: Impact
    ledger: Ledger

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

    def dependence(self, finding: Finding) -> Dependence:
        """Who depends on what the finding is about, and the evidence for it."""
        return self.impact.on(finding.delta.surface, finding.delta.key)

    def entry(self, finding: Finding) -> Entry | None:
        """The ledger's entry that expects the finding."""
        return self.ledger.entry_for(finding.delta, self.old, self.new)

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
    whole = (old, new)
    unlike = _unlike(old, new)
    old, new = (_without(side, unlike) for side in whole)
    deltas = compare(old, new)
    findings = classify(deltas, old, new, impact, ledger)
    return Verdict(
        old=whole[0],
        new=whole[1],
        findings=tuple(sorted(findings, key=_gravest_first)),
        incomparable=tuple(incomparable(old, new)),
        missing=tuple(missing(old, new)),
        unlike=unlike,
        stale=tuple(ledger.stale(deltas, old, new)),
        impact=impact,
        ledger=ledger,
    )


def judge_in_turn(
    captures: Sequence[Capture], impact: Impact | None = None, ledger: Ledger | None = None
) -> list[Verdict]:
    """One verdict for each capture and the one after it."""
    return [judge(old, new, impact, ledger) for old, new in itertools.pairwise(captures)]


def _unlike(old: Capture, new: Capture) -> tuple[str, ...]:
    """Surfaces in which absence on one side means only that nothing was booted there."""
    return tuple(
        name
        for name in sorted(old.surfaces.keys() & new.surfaces.keys())
        if {_tried(old.surfaces[name]), _tried(new.surfaces[name])} == {True, False}
    )


def _tried(facts: Sequence[Fact]) -> bool | None:
    """True where something was tried, False where all was read from an image, else None."""
    sure = {fact.certainty for fact in facts}
    if Certainty.PROBED in sure:
        return True
    return False if sure and sure <= {Certainty.DERIVED} else None


def _without(capture: Capture, names: Sequence[str]) -> Capture:
    kept = {name: facts for name, facts in capture.surfaces.items() if name not in names}
    return replace(capture, surfaces=kept) if names else capture


def contradictions(capture: Capture) -> list[tuple[str, Fact]]:
    """Facts about which two ways of looking disagree, with their surface."""
    return [
        (surface, fact)
        for surface, facts in sorted(capture.surfaces.items())
        for fact in facts
        if fact.certainty is Certainty.CONTRADICTED
    ]


def _gravest_first(finding: Finding) -> tuple[int, bool, int, int, bool, str, str]:
    """Order of harm: class, open before known, who is hit, how sure it is, what is lost."""
    return (
        _HARM.index(finding.grade),
        bool(finding.known),
        reach(finding.impact),
        sureness(finding),
        finding.rule in _ALTERED,
        finding.delta.surface,
        finding.delta.key,
    )


def reach(impact: Sequence[str]) -> int:
    """How much hangs on the first of those who are hit: 0 for a runtime, most for nobody known."""
    return min(map(category, impact), default=len(CATEGORIES))


def sureness(finding: Finding) -> int:
    """How sure a finding is: as its weaker side, 0 for what was tried on both."""
    sides = (finding.delta.old, finding.delta.new)
    return max(_SURENESS.index(side.certainty) for side in sides if side is not None)
