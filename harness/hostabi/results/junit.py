"""A diff as JUnit XML, the form in which a CI shows tests.

A suite is one build against another. Each break is a failing case, one that
the ledger expects is skipped with its reason, and a surface in which nothing
breaks is a case that passes.
"""

from __future__ import annotations

from collections.abc import Sequence

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from hostabi.diff.classify import meaning
from hostabi.diff.groups import describe
from hostabi.diff.verdict import Verdict
from hostabi.model import Class, Finding

_NO_BREAK = "nothing breaks"


def as_junit(verdicts: Sequence[Verdict]) -> bytes:
    """The whole file."""
    xml = JUnitXml("hostabi diff")
    for verdict in verdicts:
        xml.append(_suite(verdict))
    xml.update_statistics()
    text: bytes = xml.tostring()
    return text


def _suite(verdict: Verdict) -> TestSuite:
    suite = TestSuite(_plain(verdict.label))
    for side, capture in (("old", verdict.old), ("new", verdict.new)):
        suite.add_property(side, _plain(capture.build))
        suite.add_property(f"{side} release", _plain(capture.release))
    breaks = verdict.of(Class.BREAK)
    broken = {finding.delta.surface for finding in breaks}
    for surface in sorted(verdict.old.surfaces.keys() & verdict.new.surfaces.keys()):
        if surface not in broken and surface not in verdict.unlike:
            suite.add_testcase(TestCase(_NO_BREAK, classname=_plain(surface)))
    for finding in breaks:
        suite.add_testcase(_case(finding))
    suite.update_statistics()
    return suite


def _case(finding: Finding) -> TestCase:
    case = TestCase(_plain(finding.delta.key), classname=_plain(finding.delta.surface))
    change = _plain(describe(finding))
    if finding.known:
        case.result = [Skipped(f"{change}: {finding.known}", finding.rule)]
        return case
    failure = Failure(change, finding.rule)
    told = [meaning(finding.rule), *(f"hits {who}" for who in finding.impact)]
    failure.text = "\n".join(told)
    case.result = [failure]
    return case


def _plain(text: str) -> str:
    """Text that XML can hold: a guest may put anything into a fact."""
    return "".join(char if char.isprintable() else "?" for char in text)
