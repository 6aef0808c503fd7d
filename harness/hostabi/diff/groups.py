"""Findings of one cause as one group, so that a screen tells the story.

Two findings belong together when the same rule decided them with the same
effect and their keys differ in one component only: the same leaf under several
interfaces, or several leaves of one directory. A tree that went as a whole is
one group.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from hostabi.diff import keys
from hostabi.diff.compare import members
from hostabi.model import Class, Fact, Finding, Value

_CAPITALS = re.compile(r"[A-Z0-9]+_[A-Z0-9]+_")
"""Names in capitals are grouped by their first two words, for example ``CONFIG_NET_``."""
_WIDTH = 60
"""Characters of a value that are shown before it is cut."""

_PARTS = 4
"""Groups that a merged one names."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Findings that are told in one line. ``title`` names them all, ``change`` their effect."""

    surface: str
    grade: Class
    rule: str
    title: str
    change: str
    findings: tuple[Finding, ...]
    merged: bool = False
    """Whether this stands for several groups; its title names them, not the facts."""

    @property
    def impact(self) -> tuple[str, ...]:
        """Everybody who is hit by one of the findings."""
        return tuple(dict.fromkeys(who for finding in self.findings for who in finding.impact))

    @property
    def known(self) -> bool:
        """Whether the ledger expects all of it."""
        return all(finding.known for finding in self.findings)


def group(findings: Sequence[Finding]) -> list[Group]:
    """Groups in the order in which the first finding of each stands in ``findings``."""
    order = {id(finding): index for index, finding in enumerate(findings)}
    groups: list[Group] = []
    for alike in _split(findings, _effect):
        groups += _by_place(alike)
    return sorted(groups, key=lambda item: min(order[id(finding)] for finding in item.findings))


def digest(groups: Sequence[Group], limit: int) -> list[Group]:
    """Merge the groups of one rule where they are more than ``limit`` and hit nobody known.

    The merged group stands where its largest part stood and names its largest parts.
    """
    rules = Counter((item.surface, item.grade, item.rule) for item in groups if not item.impact)
    merged: dict[tuple[str, str, str], list[Group]] = {}
    kept: list[Group] = []
    for item in groups:
        rule = (item.surface, item.grade, item.rule)
        if item.impact or item.known or rules[rule] <= limit:
            kept.append(item)
        else:
            merged.setdefault(rule, []).append(item)
    return kept + [_merged(parts) for parts in merged.values()]


def _merged(parts: Sequence[Group]) -> Group:
    places: Counter[str] = Counter()
    for item in parts:
        if len(item.findings) > 1 and "*" in item.title:
            places[item.title.partition(" ")[0]] += len(item.findings)
    findings = tuple(finding for item in parts for finding in item.findings)
    titles = [f"{place} ({count})" for place, count in places.most_common(_PARTS)]
    titles = titles or [item.title for item in parts[:_PARTS]]
    first = parts[0]
    changes = Counter(item.change for item in parts)
    change = ", ".join(text for text, _ in changes.most_common(2))
    return Group(
        surface=first.surface,
        grade=first.grade,
        rule=first.rule,
        title=f"{len(findings)} of them: {', '.join(titles)} ...",
        change=change if len(changes) <= 2 else f"{change}, ...",
        findings=findings,
        merged=True,
    )


def describe(finding: Finding) -> str:
    """The change in few words: ``gone``, ``0644 -> 0444``, ``without cpuset, memory``."""
    old, new = finding.delta.old, finding.delta.new
    if old is None or new is None:
        side = new if old is None else old
        value = side.value if side is not None else None
        shown = "" if value in (True, keys.OK, "file", None) else f" ({show(value)})"
        return ("new" if old is None else "gone") + shown
    if isinstance(old.value, list) or isinstance(new.value, list):
        return _members_text(old, new)
    return f"{show(old.value)} -> {show(new.value)}"


def show(value: Value) -> str:
    """A value as tables show it, cut to one short line."""
    if value is None:
        return "unknown"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    text = " ".join(text.split()) or "empty"
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _members_text(old: Fact, new: Fact) -> str:
    lost = sorted(members(old.value) - members(new.value))
    gained = sorted(members(new.value) - members(old.value))
    parts = [f"without {show(lost)}"] if lost else []
    parts += [f"with {show(gained)}"] if gained else []
    return "; ".join(parts)


def _effect(finding: Finding) -> tuple[str, ...]:
    """What findings must share to be told together. Known and open ones never mix."""
    delta = finding.delta
    return (
        delta.surface,
        finding.grade,
        finding.rule,
        keys.aspect(delta.key),
        describe(finding),
        str(bool(finding.known)),
        *finding.impact,
    )


def _by_place(findings: Sequence[Finding]) -> list[Group]:
    """Split findings of one effect by where their keys lie: the narrowest place first."""
    groups: list[Group] = []
    rest = list(findings)
    while rest:
        places = Counter(place for finding in rest for place in _places(finding))
        shared = [item for item in places.items() if item[1] > 1]
        if not shared:
            groups += [_made(finding.delta.key, [finding]) for finding in rest]
            break
        place, _ = max(shared, key=lambda item: (item[0].count("."), item[1], item[0]))
        groups.append(_made(place, [item for item in rest if place in _places(item)]))
        rest = [item for item in rest if place not in _places(item)]
    return groups


def _places(finding: Finding) -> list[str]:
    """Patterns with one open component that the key fits: its directories and its siblings."""
    thing, _, aspect = finding.delta.key.partition("#")
    tail = f"#{aspect}" if aspect else ""
    prefix = _CAPITALS.match(thing)
    if prefix:
        return [f"{prefix[0]}*{tail}"]
    parts = thing.split(".")
    if len(parts) < 2:
        return [f"*{tail}"]
    directories = [".".join([*parts[:depth], "*"]) for depth in range(1, len(parts))]
    siblings = [
        ".".join([*parts[:index], "*", *parts[index + 1 :]]) for index in range(1, len(parts) - 1)
    ]
    # the whole top directory says too little about what it holds
    return [place + tail for place in [*directories[1:], *siblings] or directories]


def _made(title: str, findings: Sequence[Finding]) -> Group:
    first = findings[0]
    if len(findings) > 1:
        if title.startswith("*"):  # names without a place: tell the names
            title = ", ".join(finding.delta.key for finding in findings)
        title = f"{title} ({len(findings)})"
    return Group(
        surface=first.delta.surface,
        grade=first.grade,
        rule=first.rule,
        title=title,
        change=describe(first),
        findings=tuple(findings),
    )


def _split(
    findings: Iterable[Finding], key: Callable[[Finding], tuple[str, ...]]
) -> list[list[Finding]]:
    table: defaultdict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        table[key(finding)].append(finding)
    return list(table.values())
