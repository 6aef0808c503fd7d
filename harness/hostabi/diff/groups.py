"""Findings of one cause as one group, so that a screen tells the story.

Two open findings belong together when the same rule decided them with the same
effect and their keys differ in one component only: the same leaf under several
interfaces, or several leaves of one directory. A tree that went as a whole is
one group. Findings that the ledger explains alike belong together wherever they lie.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import TypeVar

from hostabi.diff import keys
from hostabi.diff.compare import members
from hostabi.model import Class, Delta, Fact, Finding, Value

_CAPITALS = re.compile(r"[A-Z0-9]+_[A-Z0-9]+_")
"""Names in capitals are grouped by their first two words, for example ``CONFIG_NET_``."""
_SEPARATORS = re.compile(r"([./:])")
"""What divides a key's levels."""
_WIDTH = 60
"""Characters of a value that are shown before it is cut."""
_PART = 40
"""Characters of a merged group's change, of which it tells two."""
_PARTS = 4
"""Groups that a merged one names."""
_NAMES = 6
"""Facts that a group names."""
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Group:
    """Findings that are told in one line, with a pattern for their keys and their effect.

    ``parts`` are the groups that a merged one stands for.
    """

    pattern: str
    change: str
    findings: tuple[Finding, ...]
    parts: tuple[Group, ...] = ()

    @property
    def grade(self) -> Class:
        """The class of all of them."""
        return self.findings[0].grade

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        """Where they lie."""
        return tuple(dict.fromkeys(finding.delta.surface for finding in self.findings))

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """What decided."""
        return tuple(dict.fromkeys(finding.rule for finding in self.findings))

    @cached_property
    def impact(self) -> tuple[str, ...]:
        """Everybody who is hit by one of the findings."""
        return tuple(dict.fromkeys(who for finding in self.findings for who in finding.impact))

    @property
    def known(self) -> str:
        """Reason and citation from the ledger; empty when the ledger does not expect them."""
        return self.findings[0].known

    @property
    def title(self) -> str:
        """What it is about, in one line of some hundred characters at most."""
        return self.titled(_NAMES)

    def titled(self, names: int | None) -> str:
        """What it is about, naming so many of the facts; None names all."""
        things = list(dict.fromkeys(_thing(finding) for finding in self.findings))
        if self.parts and names is not None:
            return f"{len(self.findings)} of them: {self._largest()}"
        if len(things) == 1:
            return things[0]
        # a pattern without a place says nothing: the names alone do
        prefix = self.pattern.partition("*")[0]
        shown = [_remainder(thing, self.pattern) for thing in things]
        shown = [*shown[:names], "..."] if names is not None and len(shown) > names else shown
        head = f"{self.pattern} ({len(things)}): " if prefix else f"{len(things)}: "
        return head + ", ".join(shown)

    def _largest(self) -> str:
        """The largest parts of a merged group, by the place where they lie."""
        sizes: Counter[str] = Counter()
        for part in self.parts:
            sizes[part.pattern if part.pattern.partition("*")[0] else ""] += len(part.findings)
        sizes.pop("", None)
        named = [
            f"{place} ({size})" if "*" in place else place
            for place, size in sizes.most_common(_PARTS)
        ]
        named = named or [_thing(part.findings[0]) for part in self.parts[:_PARTS]]
        return ", ".join(named) + (", ..." if len(self.parts) > len(named) else "")


@dataclasses.dataclass(frozen=True)
class _Unit:
    """What one fact says, to whoever looks: the same effect in one view or several."""

    findings: tuple[Finding, ...]

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(sorted(keys.view(finding.delta.key) for finding in self.findings))

    @cached_property
    def places(self) -> list[str]:
        return _places(_thing(self.findings[0]))


def group(findings: Sequence[Finding]) -> list[Group]:
    """Groups in the order in which the first finding of each stands in ``findings``."""
    order = {id(finding): index for index, finding in enumerate(findings)}
    open_, known = _halves(findings)
    units = [_Unit(tuple(same)) for same in _split(open_, _unit)]
    groups = [item for alike in _split(units, _effect) for item in _by_place(alike)]
    groups += [_explained(alike) for alike in _split(known, lambda item: (item.grade, item.known))]
    return sorted(groups, key=lambda item: min(order[id(finding)] for finding in item.findings))


def digest(groups: Sequence[Group], limit: int) -> list[Group]:
    """Merge open groups of one rule that hit the same where they are more than ``limit``.

    Those that hit somebody are merged only where their effect is the same too. What
    hits nobody known stands behind all others when it is merged.
    """
    sizes = Counter(_kin(item) for item in groups)
    merged: dict[Hashable, list[Group]] = {}
    for number, item in enumerate(groups):
        alone = item.known or sizes[_kin(item)] <= limit
        merged.setdefault(number if alone else _kin(item), []).append(item)
    told = [parts[0] if len(parts) == 1 else _merged(parts) for parts in merged.values()]
    return sorted(told, key=lambda item: bool(item.parts) and not item.impact)


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


def show(value: Value, width: int = _WIDTH) -> str:
    """A value as tables show it, cut to one short line."""
    if value is None:
        return "unknown"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    text = " ".join(text.split()) or "empty"
    return text if len(text) <= width else text[: width - 3] + "..."


def _halves(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    return [item for item in findings if not item.known], [item for item in findings if item.known]


def _kin(item: Group) -> Hashable:
    """What groups that may be merged share."""
    effect = item.change if item.impact else ""
    return item.surfaces, item.rules, item.impact, effect, bool(item.known)


def _merged(parts: Sequence[Group]) -> Group:
    changes = Counter(item.change for item in parts)
    change = ", ".join(show(text, _PART) for text, _ in changes.most_common(2))
    findings = tuple(finding for item in parts for finding in item.findings)
    return Group("*", change + (", ..." if len(changes) > 2 else ""), findings, tuple(parts))


def _explained(findings: Sequence[Finding]) -> Group:
    """What one entry of the ledger says of several facts."""
    effects = list(dict.fromkeys(describe(finding) for finding in findings))
    change = ", ".join(effects[:2]) + (", ..." if len(effects) > 2 else "")
    things = {_thing(finding) for finding in findings}
    shared = set.intersection(*(set(_places(thing)) for thing in things))
    return Group(max(shared, key=len, default="*"), change, tuple(findings))


def _members_text(old: Fact, new: Fact) -> str:
    lost = sorted(members(old.value) - members(new.value))
    gained = sorted(members(new.value) - members(old.value))
    parts = [f"without {show(lost)}"] if lost else []
    parts += [f"with {show(gained)}"] if gained else []
    return "; ".join(parts)


def _thing(finding: Finding) -> str:
    """The key without the view."""
    key = finding.delta.key
    aspect = keys.aspect(key)
    return keys.subject(key) + (f"#{aspect}" if aspect else "")


def _unit(finding: Finding) -> Hashable:
    """What findings of one fact in several views share."""
    return (_thing(finding), *_told_alike(finding))


def _told_alike(finding: Finding) -> tuple[Hashable, ...]:
    delta = finding.delta
    return delta.surface, finding.grade, finding.rule, finding.impact, *_values(delta)


def _values(delta: Delta) -> tuple[Hashable, ...]:
    """Both values, or what two lists lost and gained."""
    old, new = (None if side is None else side.value for side in (delta.old, delta.new))
    if isinstance(old, list) or isinstance(new, list):
        before, after = members(old), members(new)
        return before - after, after - before
    return old, new


def _effect(unit: _Unit) -> Hashable:
    """What facts must share to be told together."""
    first = unit.findings[0]
    return _family(keys.aspect(first.delta.key)), unit.views, *_told_alike(first)


def _by_place(units: Sequence[_Unit]) -> list[Group]:
    """Split facts of one effect by where their keys lie: the narrowest place first."""
    groups: list[Group] = []
    rest = list(units)
    while rest:
        places = Counter(place for unit in rest for place in unit.places)
        shared = [item for item in places.items() if item[1] > 1]
        if not shared:
            groups += [_made(_thing(unit.findings[0]), [unit]) for unit in rest]
            break
        place, _ = max(shared, key=lambda item: (_depth(item[0]), item[1], item[0]))
        groups.append(_made(place, [unit for unit in rest if place in unit.places]))
        rest = [unit for unit in rest if place not in unit.places]
    return groups


def _family(aspect: str) -> str:
    """What aspects share that differ in their argument only: ``accepts`` of ``accepts:0``."""
    return aspect.partition(":")[0]


def _depth(place: str) -> int:
    return len(_SEPARATORS.findall(place))


def _places(thing: str) -> list[str]:
    """Patterns with one open component that the key fits: its directories and its siblings."""
    subject, _, aspect = thing.partition("#")
    family = _family(aspect)
    if family != aspect:
        return [f"{subject}#{family}:*", *_places(f"{subject}#{family}")]
    tail = f"#{aspect}" if aspect else ""
    prefix = _CAPITALS.match(subject)
    if prefix:
        return [f"{prefix[0]}*{tail}"]
    parts = _SEPARATORS.split(subject)
    if len(parts) < 3:
        return [f"*{tail}"]
    # every second part is a separator
    directories = ["".join(parts[: 2 * depth]) + "*" for depth in range(1, len(parts) // 2 + 1)]
    siblings = [
        "".join([*parts[:index], "*", *parts[index + 1 :]]) for index in range(2, len(parts) - 1, 2)
    ]
    # the whole top directory says too little about what it holds
    return [place + tail for place in [*directories[1:], *siblings] or directories]


def _made(pattern: str, units: Sequence[_Unit]) -> Group:
    findings = tuple(finding for unit in units for finding in unit.findings)
    return Group(pattern, describe(findings[0]) + _seen_by(units[0].views), findings)


def _remainder(thing: str, pattern: str) -> str:
    """What of a key a pattern leaves open, or the whole subject."""
    head, _, tail = pattern.partition("*")
    rest = thing.removeprefix(head)
    return rest.removesuffix(tail) if tail else rest


def _seen_by(views: tuple[str, ...]) -> str:
    """Who sees it, unless it is the machine's root alone."""
    others = ", ".join(view for view in views if view)
    if not others:
        return ""
    return f" (also {others})" if "" in views else f" ({others})"


def _split(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    table: defaultdict[Hashable, list[_T]] = defaultdict(list)
    for item in items:
        table[key(item)].append(item)
    return list(table.values())
