"""What a delta means: the first rule that applies decides its class.

Every rule is a small pure function of one delta and its context. Its name,
with dashes, is the id that tables and JSON show. Rules know kinds, aspects and
the shape of values, never a surface or a single fact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from hostabi.diff import keys
from hostabi.diff.compare import by_key, members
from hostabi.diff.impact import Dependence, Impact
from hostabi.diff.ledger import Ledger
from hostabi.model import Capture, Class, Delta, Fact, Finding, Kind


@dataclasses.dataclass(frozen=True)
class Context:
    """What a rule may ask besides the delta itself."""

    dependence: Dependence
    """What is known about who depends on the fact's subject."""
    after: Mapping[str, Fact]
    """The newer capture's facts of the same surface."""


_ENUMERATOR = " = "
"""Between a name of an enum and its number; members of structs have their name last."""

Rule = Callable[[Delta, Context], Class | None]


def _is_setting(delta: Delta) -> bool:
    side = delta.old or delta.new
    return side is not None and side.kind is Kind.DEFAULT


def _off(fact: Fact | None) -> bool:
    return fact is None or fact.value == keys.OFF


def setting_superseded(delta: Delta, context: Context) -> Class | None:
    """A switch went, and one that takes its place is on."""
    if not _is_setting(delta) or _off(delta.old) or not _off(delta.new):
        return None
    heirs = (context.after.get(key) for key in context.dependence.superseded_by)
    return Class.CHANGE if any(not _off(heir) for heir in heirs) else None


def needed_setting_lost(delta: Delta, context: Context) -> Class | None:
    """A switch that something depends on is off or gone."""
    lost = _is_setting(delta) and not _off(delta.old) and _off(delta.new)
    return Class.BREAK if lost and context.dependence.needed else None


def feature_gated_off(delta: Delta, context: Context) -> Class | None:
    """What worked without a switch moved behind a new one, and that is off."""
    closed = _is_setting(delta) and delta.old is None and delta.new is not None and _off(delta.new)
    return Class.BREAK if closed and context.dependence.gates else None


def switch_without_effect(delta: Delta, context: Context) -> Class | None:
    """A switch that is off came or went."""
    both_off = _is_setting(delta) and _off(delta.old) and _off(delta.new)
    return Class.CHANGE if both_off else None


def setting_lost(delta: Delta, context: Context) -> Class | None:
    """A setting nothing is known to depend on is off or gone."""
    return Class.CHANGE if _is_setting(delta) and _off(delta.new) else None


def setting_gained(delta: Delta, context: Context) -> Class | None:
    """A setting is there or on, and was not."""
    return Class.ADDITION if _is_setting(delta) and _off(delta.old) else None


def failure_only(delta: Delta, context: Context) -> Class | None:
    """What came or went was an operation that fails."""
    side = delta.new if delta.old is None else delta.old if delta.new is None else None
    return Class.CHANGE if side is not None and keys.failed(side.value) else None


def declaration_gone(delta: Delta, context: Context) -> Class | None:
    """Nothing declares it any more; what was compiled with it goes on."""
    declared = delta.old is not None and delta.old.how.split("+")[0] in keys.DECLARED
    return Class.CHANGE if declared and delta.new is None else None


def removed(delta: Delta, context: Context) -> Class | None:
    """The thing is gone."""
    return Class.BREAK if delta.new is None else None


def added(delta: Delta, context: Context) -> Class | None:
    """The thing is new."""
    return Class.ADDITION if delta.old is None else None


def works_no_more(delta: Delta, context: Context) -> Class | None:
    """An operation that worked fails."""
    before, after = _failed(delta)
    return Class.BREAK if after and not before else None


def refusal_relied_on(delta: Delta, context: Context) -> Class | None:
    """What was refused is allowed, and somebody is known to count on the refusal."""
    lifted = _failed(delta) == (True, False) or _access_gained(delta)
    return Class.BREAK if lifted and context.dependence.refusal else None


def works_now(delta: Delta, context: Context) -> Class | None:
    """An operation that failed works."""
    before, after = _failed(delta)
    return Class.ADDITION if before and not after else None


def known_and_refused(delta: Delta, context: Context) -> Class | None:
    """What the kernel did not know it knows now, and refuses: the request gets further."""
    if not all(_failed(delta)):
        return None
    old, new = _both(delta)
    return Class.CHANGE if keys.progress(old.value) < keys.progress(new.value) else None


def internal_errno_gone(delta: Delta, context: Context) -> Class | None:
    """It failed with an errno that the kernel keeps to itself, and that nobody asks for by name."""
    if not all(_failed(delta)):
        return None
    old, _ = _both(delta)
    return Class.CHANGE if old.value in keys.INTERNAL else None


def errno_changed(delta: Delta, context: Context) -> Class | None:
    """An operation fails in another way; callers choose their fallback by errno."""
    return Class.BREAK if all(_failed(delta)) else None


def ability_lost(delta: Delta, context: Context) -> Class | None:
    """What was possible is not (true to false)."""
    old, new = _both(delta)
    return Class.BREAK if old.value is True and new.value is False else None


def ability_gained(delta: Delta, context: Context) -> Class | None:
    """What was not possible is (false to true)."""
    old, new = _both(delta)
    return Class.ADDITION if old.value is False and new.value is True else None


def measure_shrank(delta: Delta, context: Context) -> Class | None:
    """There is less of it: a size, a limit or a version went down."""
    pair = _measures(delta)
    return Class.BREAK if pair and pair[1] < pair[0] else None


def measure_grew(delta: Delta, context: Context) -> Class | None:
    """There is more of it: a size, a limit or a version went up."""
    return Class.ADDITION if _measures(delta) else None


def access_lost(delta: Delta, context: Context) -> Class | None:
    """Somebody may do less with it."""
    levels = _access_levels(delta)
    return Class.BREAK if levels and levels[1] < levels[0] else None


def access_gained(delta: Delta, context: Context) -> Class | None:
    """Somebody may do more with it."""
    return Class.ADDITION if _access_levels(delta) else None


def permission_lost(delta: Delta, context: Context) -> Class | None:
    """A permission bit of the mode is gone."""
    bits = _mode_bits(delta)
    return Class.BREAK if bits and bits[0] & ~bits[1] else None


def permission_gained(delta: Delta, context: Context) -> Class | None:
    """The mode only got wider."""
    return Class.CHANGE if _mode_bits(delta) else None


def signature_changed(delta: Delta, context: Context) -> Class | None:
    """The kernel spells the argument types of a call in another way."""
    return Class.CHANGE if keys.aspect(delta.key) == keys.SIGNATURE else None


def only_names_lost(delta: Delta, context: Context) -> Class | None:
    """A declaration lost names, and what they stood for is as before: what was compiled goes on.

    Where a struct had a member it has one of that size still, and a number of an enum has got no
    other name.
    """
    old, new = _both(delta)
    declared = all(side.how.split("+")[0] in keys.DECLARED for side in (old, new))
    if not declared or Kind.MEMBERS not in (old.kind, new.kind):
        return None
    lost = dict(map(_named, members(old.value) - members(new.value)))
    gained = dict(map(_named, members(new.value) - members(old.value)))
    if not lost or lost.keys() & gained.keys():
        return None
    if all(_ENUMERATOR in member for member in members(old.value)):
        as_before = not {*lost.values()} & {*gained.values()}
    else:
        as_before = {*lost.values()} <= {place for _, place in map(_named, members(new.value))}
    return Class.CHANGE if as_before else None


def member_lost(delta: Delta, context: Context) -> Class | None:
    """A name is gone from a list."""
    old, new = _both(delta)
    if Kind.MEMBERS not in (old.kind, new.kind):
        return None
    return Class.BREAK if members(old.value) - members(new.value) else None


def member_gained(delta: Delta, context: Context) -> Class | None:
    """A list only got longer."""
    old, new = _both(delta)
    return Class.ADDITION if Kind.MEMBERS in (old.kind, new.kind) else None


def setting_changed(delta: Delta, context: Context) -> Class | None:
    """A setting's value at boot is another."""
    return Class.CHANGE if _is_setting(delta) else None


def hardware_default_changed(delta: Delta, context: Context) -> Class | None:
    """On equal hardware the kernel derives another value."""
    old, new = _both(delta)
    return Class.CHANGE if Kind.HARDWARE in (old.kind, new.kind) else None


def value_changed(delta: Delta, context: Context) -> Class | None:
    """A property of the interface itself is another."""
    return Class.BREAK


RULES: tuple[Rule, ...] = (
    setting_superseded,
    needed_setting_lost,
    feature_gated_off,
    switch_without_effect,
    setting_lost,
    setting_gained,
    failure_only,
    declaration_gone,
    removed,
    added,
    works_no_more,
    refusal_relied_on,
    works_now,
    known_and_refused,
    internal_errno_gone,
    errno_changed,
    ability_lost,
    ability_gained,
    measure_shrank,
    measure_grew,
    access_lost,
    access_gained,
    permission_lost,
    permission_gained,
    signature_changed,
    only_names_lost,
    member_lost,
    member_gained,
    setting_changed,
    hardware_default_changed,
    value_changed,
)


def rule_id(rule: Rule) -> str:
    """The rule's name as output shows it: ``needed-setting-lost``."""
    return rule.__name__.replace("_", "-")


def meaning(identifier: str) -> str:
    """One sentence on what the rule with this id says; empty for an id that is not known."""
    for rule in RULES:
        if rule_id(rule) == identifier:
            return (rule.__doc__ or "").strip()
    return ""


def classify(
    deltas: Sequence[Delta], old: Capture, new: Capture, impact: Impact, ledger: Ledger
) -> list[Finding]:
    """Grade each delta, name who is hit, and mark what the ledger expects."""
    after = {name: by_key(facts, where=name) for name, facts in new.surfaces.items()}

    def graded(delta: Delta) -> Finding:
        dependence = impact.on(delta.surface, delta.key)
        grade, rule = decide(delta, Context(dependence, after.get(delta.surface, {})))
        entry = ledger.entry_for(delta, old, new)
        known = f"{entry.reason} [{entry.citation}]" if entry else ""
        # a switch that is off on both sides is nothing that somebody could lose
        hit = () if rule == rule_id(switch_without_effect) else dependence.who
        return Finding(delta, grade, rule, hit, known)

    return [graded(delta) for delta in deltas]


def decide(delta: Delta, context: Context) -> tuple[Class, str]:
    """The class of one delta, and the id of the rule that decided it."""
    for rule in RULES:
        grade = rule(delta, context)
        if grade is not None:
            return grade, rule_id(rule)
    raise AssertionError("the last rule applies to every delta")


def _both(delta: Delta) -> tuple[Fact, Fact]:
    """Both sides; the rules above saw to it that there are two."""
    assert delta.old is not None
    assert delta.new is not None
    return delta.old, delta.new


def _failed(delta: Delta) -> tuple[bool, bool]:
    """Whether each side says that an operation does not work.

    Where one side says that it does, the other one does not, whatever it says instead.
    """
    old, new = _both(delta)
    works = keys.OK in (old.value, new.value)
    return (
        keys.failed(old.value) or (works and old.value != keys.OK),
        keys.failed(new.value) or (works and new.value != keys.OK),
    )


def _named(member: str) -> tuple[str, str]:
    """The name of a declaration's member, and what it stands for: a place, or a number."""
    name, enumerator, number = member.partition(_ENUMERATOR)
    if enumerator:
        return name, number
    place, _, name = member.rpartition(" ")
    return name, place


def _measures(delta: Delta) -> tuple[int, int] | None:
    if keys.aspect(delta.key) not in keys.MEASURES:
        return None
    old, new = _both(delta)
    try:
        return int(str(old.value)), int(str(new.value))
    except ValueError:
        return None


def _access_gained(delta: Delta) -> bool:
    levels = _access_levels(delta)
    return levels is not None and levels[1] > levels[0]


def _access_levels(delta: Delta) -> tuple[int, int] | None:
    if keys.aspect(delta.key) != keys.ACCESS:
        return None
    old, new = _both(delta)
    if old.value not in keys.ACCESSES or new.value not in keys.ACCESSES:
        return None
    return keys.ACCESSES.index(str(old.value)), keys.ACCESSES.index(str(new.value))


def _mode_bits(delta: Delta) -> tuple[int, int] | None:
    if keys.aspect(delta.key) != keys.MODE:
        return None
    old, new = _both(delta)
    try:
        return int(str(old.value), 8), int(str(new.value), 8)
    except ValueError:
        return None
