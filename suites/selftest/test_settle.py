"""Settling: what follows the hardware, and what moves by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostabi.diff.compare import compare, differs
from hostabi.diff.settle import doubtful, settle
from hostabi.model import Capture, Fact, Kind, Provenance, Value, Variant


def one(first: Value, twin: Value, third: Value, kind: Kind = Kind.VALUE) -> Fact:
    (fact,) = settle(
        [Fact("a", first, kind)], [Fact("a", twin, kind)], [Fact("a", third, kind)], twin_is="X"
    ).facts
    return fact


def test_what_never_differs_is_as_the_surface_says() -> None:
    facts = [Fact("a", "1"), Fact("b", ["x"], Kind.MEMBERS), Fact("c", "2", Kind.DEFAULT)]
    assert settle(facts, facts, None).facts == facts
    assert not doubtful(facts, facts)


def test_a_value_that_only_the_twin_has_otherwise_follows_the_hardware() -> None:
    fact = one("3000", "6000", "3000")
    assert (fact.value, fact.kind) == ("3000", Kind.HARDWARE)
    assert fact.detail == "another one with X"
    members = one(["cpu0", "cpu1"], ["cpu0"], ["cpu1", "cpu0"], Kind.MEMBERS)
    assert members.kind is Kind.HARDWARE


def test_a_value_that_differs_on_equal_hardware_moves_by_itself() -> None:
    for fact in (one("17", "17", "18"), one("17", "18", "19"), one("ok", "EIO", "EBUSY")):
        assert (fact.value, fact.kind) == (None, Kind.VOLATILE)


def test_an_amount_derived_from_ram_is_never_quite_the_same() -> None:
    assert one("3000", "6000", "3010").kind is Kind.HARDWARE
    assert one("3000", "3020", "3010").kind is Kind.VOLATILE
    assert one("3000", "3000", "3010", Kind.HARDWARE).kind is Kind.HARDWARE
    assert one("3000", "3000", "9000", Kind.HARDWARE).kind is Kind.VOLATILE


def test_without_a_third_look_a_difference_is_no_promise() -> None:
    (fact,) = settle([Fact("a", "1")], [Fact("a", "2")], None).facts
    assert (fact.value, fact.kind) == (None, Kind.VOLATILE)


def test_a_surface_that_calls_a_value_volatile_is_believed() -> None:
    (fact,) = settle([Fact("a", "1")], [Fact("a", None, Kind.VOLATILE)], None).facts
    assert (fact.value, fact.kind) == (None, Kind.VOLATILE)


@pytest.mark.parametrize(
    ("first", "twin", "third", "presence"),
    [
        (True, True, True, None),
        (True, False, True, Kind.HARDWARE),
        (False, True, False, Kind.HARDWARE),
        (True, True, False, Kind.VOLATILE),
        (True, False, False, Kind.VOLATILE),
        (False, True, True, Kind.VOLATILE),
        (False, False, True, Kind.VOLATILE),
    ],
)
def test_presence(first: bool, twin: bool, third: bool, presence: Kind | None) -> None:
    looks = [[Fact("a", "1")] if seen else [] for seen in (first, twin, third)]
    settled = settle(*looks)
    assert settled.moving.get("a") is presence
    assert len(settled.facts) == first


def test_a_thing_that_its_surface_ties_to_the_hardware_needs_no_third_look() -> None:
    both = [Fact("cpu1", "file", Kind.HARDWARE), Fact("cpu1#mode", "0444")]
    assert not doubtful(both, [])
    assert settle(both, [], None).moving == {"cpu1": Kind.HARDWARE}
    assert doubtful(both, [Fact("else", "1")])


def capture(facts: list[Fact], moving: dict[str, Kind], variant: Variant) -> Capture:
    surfaces, keys = {"s": facts}, {"s": moving} if moving else {}
    return Capture("b", "1", "1", variant, Provenance("t"), surfaces, moving=keys)


KINDS = st.sampled_from([Kind.VALUE, Kind.DEFAULT, Kind.MEMBERS])
NATURES = st.sampled_from(["still", "hardware", "still", "there on some", "comes and goes"])


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(NATURES, KINDS)), st.data())
def test_captures_of_one_build_are_equal_whatever_moves(
    natures: dict[str, tuple[str, Kind]], data: st.DataObject
) -> None:
    """On equal and on other hardware, from looks in which each fact behaves as its nature is."""
    boots = [Variant(cpus=2), Variant(cpus=1, memory=1024)]

    def look(variant: Variant) -> list[Fact]:
        facts = []
        for key, (nature, kind) in sorted(natures.items()):
            value = f"v{variant.cpus}" if nature == "hardware" else "v"
            there = nature != "there on some" or variant.cpus == 2
            if nature == "comes and goes":
                there = data.draw(st.booleans())
            if there:
                facts.append(Fact(key, value, kind))
        return facts

    def take(variant: Variant, twin: Variant) -> Capture:
        first, other, third = look(variant), look(twin), look(variant)
        third_or_none = third if doubtful(first, other) else None
        settled = settle(first, other, third_or_none, twin_is=twin.label)
        return capture(settled.facts, settled.moving, variant)

    one, two = take(*boots), take(*reversed(boots))
    again = take(*boots)
    steady = {key for key, (nature, _) in natures.items() if nature != "comes and goes"}
    for pair in ((one, two), (one, again), (two, one)):
        assert {delta.key for delta in compare(*pair)} & steady == set()


LOOK = st.lists(
    st.builds(Fact, st.sampled_from("abc"), st.sampled_from(["1", "900", "2000", None, "x"])),
    unique_by=lambda fact: fact.key,
)


@given(LOOK, LOOK, LOOK)
def test_what_is_settled_explains_every_look(
    first: list[Fact], twin: list[Fact], third: list[Fact]
) -> None:
    """Nothing is lost, and no look differs from the settled facts on its own hardware."""
    settled = settle(first, twin, third)
    assert [fact.key for fact in settled.facts] == sorted(fact.key for fact in first)
    here = capture(settled.facts, settled.moving, Variant())
    assert compare(here, capture(third, {}, Variant())) == []
    assert compare(here, capture(twin, {}, Variant(cpus=2))) == []
    for fact in settled.facts:
        before = next(old for old in first if old.key == fact.key)
        assert fact.kind is Kind.VOLATILE or not differs(fact, before, hardware=True)
