"""The conformance suite's coverage as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from hostabi.oci.coverage import Topic

_NAMES = {
    "validation": "the specification's validation suite",
    "runc": "runc's integration tests",
    "linux": "config-linux.md and features-linux.md",
}
_STATES = ("tested", "untestable", "open")


def table(topics: Iterable[Topic]) -> str:
    """One row for each topic: its source, its name, and its tests or the reason for none."""
    rows = [(topic.source, topic.name, "\n".join(topic.tests) or topic.reason) for topic in topics]
    return tabulate(
        rows, headers=("source", "topic", "tests"), tablefmt="plain", disable_numparse=True
    )


def summary(topics: Sequence[Topic]) -> str:
    """How many topics of each source are tested, cannot be, and are open."""
    rows: list[tuple[str | int, ...]] = []
    for source in dict.fromkeys(topic.source for topic in topics):
        states = Counter(topic.state for topic in topics if topic.source == source)
        rows.append((_NAMES.get(source, source), *(states[state] for state in _STATES)))
    return tabulate(rows, headers=("topics of", *_STATES), tablefmt="plain")
