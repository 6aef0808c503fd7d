"""Comparing captures: what counts as a delta, and how grave it is."""

from __future__ import annotations

import pytest

from hostabi.diff.classify import RULES, classify, meaning, rule_id
from hostabi.diff.compare import compare, incomparable, missing
from hostabi.diff.impact import NONE, Entry, Impact
from hostabi.diff.ledger import Ledger
from hostabi.diff.verdict import contradictions, judge
from hostabi.errors import InputError
from hostabi.model import Capture, Certainty, Class, Fact, Kind, Provenance, Value, Variant

EMPTY = Ledger()


def capture(
    facts: list[Fact], *, line: str = "1", variant: Variant | None = None, surface: str = "s"
) -> Capture:
    return Capture(
        build=f"{line}.7-1",
        line=line,
        release=line,
        variant=variant or Variant(),
        provenance=Provenance("test"),
        surfaces={surface: facts},
    )


def delta_keys(old: list[Fact], new: list[Fact], boot: Variant | None = None) -> list[str]:
    """The deltas; the newer side is booted as ``boot`` says."""
    return [delta.key for delta in compare(capture(old), capture(new, line="2", variant=boot))]


def graded(old: Fact | None, new: Fact | None, impact: Impact = NONE) -> tuple[Class, str]:
    before = capture([old] if old else [])
    after = capture([new] if new else [], line="2")
    (finding,) = classify(compare(before, after), before, after, impact, EMPTY)
    return finding.grade, finding.rule


def test_equal_captures_have_no_delta() -> None:
    facts = [Fact("a", 1), Fact("b", ["x", "y"], Kind.MEMBERS), Fact("c", "5", Kind.HARDWARE)]
    assert delta_keys(facts, facts) == []


def test_a_list_of_members_has_no_order() -> None:
    old = [Fact("a", ["x", "y"], Kind.MEMBERS)]
    assert delta_keys(old, [Fact("a", ["y", "x"], Kind.MEMBERS)]) == []
    assert delta_keys(old, [Fact("a", ["x"], Kind.MEMBERS)]) == ["a"]


def test_one_name_and_a_list_of_names_compare() -> None:
    old = [Fact("a", "reno", Kind.DEFAULT)]
    assert graded(old[0], Fact("a", ["cubic", "reno"], Kind.MEMBERS))[1] == "member-gained"
    assert graded(old[0], Fact("a", ["cubic", "vegas"], Kind.MEMBERS))[1] == "member-lost"


def test_volatile_values_never_differ_but_their_absence_does() -> None:
    assert delta_keys([Fact("a", "1", Kind.VOLATILE)], [Fact("a", "2", Kind.DEFAULT)]) == []
    assert delta_keys([Fact("a", "1", Kind.VOLATILE)], []) == ["a"]


def test_hardware_values_are_compared_on_equal_hardware_only() -> None:
    old, new = [Fact("a", "1", Kind.HARDWARE)], [Fact("a", "2", Kind.HARDWARE)]
    assert delta_keys(old, new) == ["a"]
    assert delta_keys(old, new, Variant(memory=1024)) == []
    apart = capture(old), capture(new, line="2", variant=Variant(cpus=2))
    assert [delta.key for delta in incomparable(*apart)] == ["a"]
    assert incomparable(capture(old), capture(new)) == []


def test_what_is_there_for_each_cpu_is_compared_on_equal_hardware_only() -> None:
    one = [Fact("cpu0", "file", Kind.HARDWARE)]
    assert delta_keys([], one) == ["cpu0"]
    assert delta_keys([], one, Variant(cpus=2)) == []
    assert delta_keys(one, [], Variant(cpus=2)) == []


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("3783168", "3729056", False),
        ("4096 131072 3783168", "4096 131072 3729056", False),
        ("4096 131072 3783168", "4096 131072 6291456", True),
        ("4096 131072", "4096 131072 6291456", True),
        ("1000", "2000", True),
        ("2", "3", True),
        ("60", "61", True),
        ("ff", "fe", True),
        ("ff", "ff", False),
    ],
)
def test_a_derived_value_may_follow_the_size_of_the_kernel(
    old: str, new: str, differs: bool
) -> None:
    before, after = Fact("a", old, Kind.HARDWARE), Fact("a", new, Kind.HARDWARE)
    assert bool(delta_keys([before], [after])) is differs


def test_what_was_not_determined_differs_from_nothing() -> None:
    assert delta_keys([Fact("a", None)], [Fact("a", 3)]) == []


def test_what_was_tried_is_not_compared_with_what_was_only_read() -> None:
    tried = [Fact("a", "ok", certainty=Certainty.PROBED), Fact("b", 1)]
    derived = [Fact("a", "ok", certainty=Certainty.DERIVED)]
    verdict = judge(capture(tried), capture(derived, line="2"), NONE, EMPTY)
    assert (verdict.unlike, verdict.findings) == (("s",), ())
    read = [Fact("a", "ok", certainty=Certainty.READ)]
    assert judge(capture(tried), capture(read, line="2"), NONE, EMPTY).unlike == ()
    assert judge(capture(derived), capture([], line="2"), NONE, EMPTY).unlike == ()


def test_aspects_of_a_thing_that_went_are_not_told_again() -> None:
    old = [Fact("a", "file"), Fact("a#mode", "0644"), Fact("b", "file"), Fact("b#mode", "0644")]
    assert delta_keys(old, [Fact("b", "file")]) == ["a", "b#mode"]


def test_only_surfaces_of_both_are_compared() -> None:
    old, new = capture([Fact("a", 1)]), capture([Fact("a", 2)], surface="other")
    assert compare(old, new) == []
    assert missing(old, new) == ["other", "s"]


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'a' is there twice"):
        compare(capture([Fact("a", 1), Fact("a", 2)]), capture([]))


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (Fact("a", 1), None, "removed"),
        (None, Fact("a", 1), "added"),
        (Fact("a", "ok"), Fact("a", "ENOSYS"), "works-no-more"),
        (Fact("a", "EINVAL"), Fact("a", "ok"), "works-now"),
        (Fact("a", "EACCES"), Fact("a", "EPERM"), "errno-changed"),
        (Fact("a", "EPERM"), Fact("a", "EINVAL"), "errno-changed"),
        (Fact("a", "EINVAL"), Fact("a", "ENOSYS"), "errno-changed"),
        (Fact("a", "ok"), Fact("a", "EOPNOTSUPP"), "works-no-more"),
        (Fact("a", "ENOTSUPP"), Fact("a", "ok"), "works-now"),
        (Fact("a", "ENOTSUPP"), Fact("a", "EINVAL"), "internal-errno-gone"),
        (Fact("a", "EPERM"), Fact("a", "ENOTSUPP"), "errno-changed"),
        (Fact("a", "ok"), Fact("a", "errno 525"), "works-no-more"),
        (Fact("a", "EINVAL"), Fact("a", "EPERM"), "known-and-refused"),
        (Fact("a", "ENOSYS"), Fact("a", "EINVAL"), "known-and-refused"),
        (Fact("a", "EPROTONOSUPPORT"), Fact("a", "ENOPROTOOPT"), "known-and-refused"),
        (Fact("a", "ENOTTY"), Fact("a", "EINVAL"), "known-and-refused"),
        (Fact("a", "EINVAL"), Fact("a", "EOPNOTSUPP"), "known-and-refused"),
        (Fact("a", "EOPNOTSUPP"), Fact("a", "EINVAL"), "errno-changed"),
        (Fact("a", "EINVAL"), Fact("a", "ENODEV"), "errno-changed"),
        (Fact("a", "EINVAL"), Fact("a", "ENOTTY"), "errno-changed"),
        (Fact("a", "ok"), Fact("a", "hangs"), "works-no-more"),
        (Fact("a", "ok"), Fact("a", "SIGSYS"), "works-no-more"),
        (Fact("a", 253), Fact("a", "EINVAL"), "works-no-more"),
        (Fact("a", "ok"), Fact("a", "not shown"), "works-no-more"),
        (Fact("a", "reads 5"), Fact("a", "ok"), "works-now"),
        (Fact("a", "reads 5"), Fact("a", "reads 6"), "value-changed"),
        (Fact("a", "ENOTTY"), Fact("a", "0x50494446"), "works-now"),
        (Fact("a#userns", "ok"), Fact("a#userns", "EPERM"), "works-no-more"),
        (Fact("a#limit", 253), Fact("a#limit", 64), "measure-shrank"),
        (Fact("a#version", "3"), Fact("a#version", "4"), "measure-grew"),
        (Fact("a#size", 16), Fact("a#size", "EINVAL"), "works-no-more"),
        (Fact("a#mode#userns", "0644"), Fact("a#mode#userns", "0444"), "permission-lost"),
        (Fact("a", True), Fact("a", False), "ability-lost"),
        (Fact("a", False), Fact("a", True), "ability-gained"),
        (Fact("A", 1, how="headers"), None, "declaration-gone"),
        (Fact("A", 1, how="headers+btf"), Fact("A", 2, how="headers"), "value-changed"),
        (Fact("a", "ENOSYS"), None, "failure-only"),
        (None, Fact("a", "ENOSYS"), "failure-only"),
        (Fact("a#access", "writable"), Fact("a#access", "readable"), "access-lost"),
        (Fact("a#access", "hidden"), Fact("a#access", "readable"), "access-gained"),
        (Fact("a#mode", "0644"), Fact("a#mode", "0444"), "permission-lost"),
        (Fact("a#mode", "0600"), Fact("a#mode", "0644"), "permission-gained"),
        (Fact("a#mode", "0644"), Fact("a#mode", "0464"), "permission-lost"),
        (Fact("a#type", "integer"), Fact("a#type", "text"), "value-changed"),
        (Fact("a#arguments", "int"), Fact("a#arguments", "long"), "signature-changed"),
        (Fact("a#value", "0", Kind.DEFAULT), Fact("a#value", "1", Kind.DEFAULT), "setting-changed"),
        (Fact("a", "5", Kind.HARDWARE), Fact("a", "9", Kind.HARDWARE), "hardware-default-changed"),
        (Fact("C", "y", Kind.DEFAULT), None, "setting-lost"),
        (Fact("C", "m", Kind.DEFAULT), Fact("C", "n", Kind.DEFAULT), "setting-lost"),
        (None, Fact("C", "y", Kind.DEFAULT), "setting-gained"),
        (Fact("C", "n", Kind.DEFAULT), Fact("C", "m", Kind.DEFAULT), "setting-gained"),
        (None, Fact("C", "n", Kind.DEFAULT), "switch-without-effect"),
        (Fact("C", "y", Kind.DEFAULT), Fact("C", "m", Kind.DEFAULT), "setting-changed"),
    ],
)
def test_rules(old: Fact | None, new: Fact | None, rule: str) -> None:
    assert graded(old, new)[1] == rule


def declared(*names: str, how: str = "headers+btf") -> Fact:
    return Fact("a", list(names), Kind.MEMBERS, how)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (declared("0 u:4 a", "0 u:4 b"), declared("0 u:4 a"), "only-names-lost"),
        (declared("0 u:4 a"), declared("0 u:4 b", "4 u:4 c"), "only-names-lost"),
        (declared("0 u:4 a"), declared("0 u:4 a", "4 u:4 b"), "member-gained"),
        (declared("0 u:4 a", "4 u:4 b"), declared("0 u:4 a"), "member-lost"),
        (declared("0 u:4 a"), declared("0 u:8 a"), "member-lost"),
        (declared("0 u:4 a"), declared("4 u:4 a"), "member-lost"),
        (declared("0 u:4 a", "4 u:4 b"), declared("0 u:4 b", "4 u:4 a"), "member-lost"),
        (declared("0 u:4 a"), declared("0 u:4 b", how="read"), "member-lost"),
        (declared("A = 1", "B = 2"), declared("A = 1"), "only-names-lost"),
        (declared("A = 1", "B = 2"), declared("A = 1", "C = 2"), "member-lost"),
        (declared("A = 1", "B = 2"), declared("A = 2", "B = 1"), "member-lost"),
        (declared("A = 1", "B = 2"), declared("A = 3", "B = 2"), "member-lost"),
    ],
)
def test_a_declaration_may_lose_names(old: Fact, new: Fact, rule: str) -> None:
    assert graded(old, new)[1] == rule


def test_every_rule_has_a_meaning() -> None:
    assert all(meaning(rule_id(rule)) for rule in RULES)
    assert meaning("no-such-rule") == ""


def evidence(**flags: bool | tuple[str, ...]) -> Impact:
    entry = Entry("s", ("C",), ("runtime: runc",), ("https://example.org/",), **flags)  # type: ignore[arg-type]
    return Impact({}, {("s", "C"): (entry,)}, ())


def test_a_switch_is_a_break_only_where_somebody_needs_it() -> None:
    on, off = Fact("C", "y", Kind.DEFAULT), Fact("C", "n", Kind.DEFAULT)
    assert graded(on, off)[0] is Class.CHANGE
    assert graded(on, off, evidence(needed=True)) == (Class.BREAK, "needed-setting-lost")
    assert graded(on, None, evidence(needed=True)) == (Class.BREAK, "needed-setting-lost")
    assert graded(on, off, evidence())[0] is Class.CHANGE


def test_a_new_switch_that_is_off_breaks_what_moved_behind_it() -> None:
    off, on = Fact("C", "n", Kind.DEFAULT), Fact("C", "y", Kind.DEFAULT)
    assert graded(None, off, evidence(gates=True)) == (Class.BREAK, "feature-gated-off")
    assert graded(None, on, evidence(gates=True))[0] is Class.ADDITION
    assert graded(None, off, evidence(needed=True))[0] is Class.CHANGE


def test_a_switch_whose_successor_is_on_is_no_break() -> None:
    impact = evidence(needed=True, superseded_by=("D",))
    lost = Fact("C", "y", Kind.DEFAULT)
    for heir, grade in (("y", Class.CHANGE), ("n", Class.BREAK)):
        before = capture([lost, Fact("D", heir, Kind.DEFAULT)])
        after = capture([Fact("D", heir, Kind.DEFAULT)], line="2")
        (finding,) = classify(compare(before, after), before, after, impact, EMPTY)
        assert finding.grade is grade


def test_verdict_puts_the_gravest_first() -> None:
    def facts(value: Value) -> list[Fact]:
        return [Fact("a", value), Fact("b#value", value, Kind.DEFAULT)]

    old, new = capture([*facts("1"), Fact("z", 1)]), capture([*facts("2"), Fact("c", 1)], line="2")
    verdict = judge(old, new, NONE, EMPTY)
    assert [finding.delta.key for finding in verdict.findings] == ["z", "a", "b#value", "c"]
    assert len(verdict.open_breaks) == 2
    assert verdict.label == "1.7-1 -> 2.7-1"


def test_harm_is_who_is_hit_and_how_sure_it_is() -> None:
    def hit(key: str, who: str) -> tuple[tuple[str, str], tuple[Entry, ...]]:
        return ("s", key), (Entry("s", (key,), (who,), ("https://example.org/",)),)

    impact = Impact({}, dict([hit("w", "workload: x"), hit("r", "runtime: runc")]), ())
    facts = [
        Fact("derived", "ok", certainty=Certainty.DERIVED),
        Fact("probed", "ok", certainty=Certainty.PROBED),
        Fact("probed.errno", "EPERM", certainty=Certainty.PROBED),
        Fact("w", "ok", certainty=Certainty.DERIVED),
        Fact("r", "ok", certainty=Certainty.CONTRADICTED),
    ]
    errno = Fact("probed.errno", "EACCES", certainty=Certainty.PROBED)
    verdict = judge(capture(facts), capture([errno], line="2"), impact, EMPTY)
    keys = [finding.delta.key for finding in verdict.findings]
    assert keys == ["r", "w", "probed", "probed.errno", "derived"]
    assert verdict.dependence(verdict.findings[0]).evidence == ("https://example.org/",)


def test_a_refusal_that_somebody_counts_on() -> None:
    relied = evidence(refusal=True)
    refused, allowed = Fact("C", "EPERM"), Fact("C", "ok")
    assert graded(refused, allowed)[0] is Class.ADDITION
    assert graded(refused, allowed, relied) == (Class.BREAK, "refusal-relied-on")
    assert graded(allowed, refused, relied)[1] == "works-no-more"
    wider = Fact("C#access", "readable"), Fact("C#access", "writable")
    assert graded(*wider, relied) == (Class.BREAK, "refusal-relied-on")


def test_contradictions_are_told() -> None:
    torn = Fact("a", "ENOSYS", certainty=Certainty.CONTRADICTED)
    assert contradictions(capture([Fact("b", 1), torn])) == [("s", torn)]
