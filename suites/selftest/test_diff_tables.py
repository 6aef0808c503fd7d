"""The tables of deltas: grouped by cause, within the terminal's width."""

from __future__ import annotations

import msgspec

from hostabi.diff.groups import describe, digest, group
from hostabi.diff.impact import NONE
from hostabi.diff.ledger import Ledger
from hostabi.diff.verdict import Verdict, judge
from hostabi.model import Capture, Certainty, Class, Fact, Kind, Provenance, Value, Variant
from hostabi.results import deltas


def verdict(
    old: dict[str, Value], new: dict[str, Value], kind: Kind = Kind.VALUE, surface: str = "sysctls"
) -> Verdict:
    def capture(line: str, values: dict[str, Value], variant: Variant) -> Capture:
        facts = [Fact(key, value, kind) for key, value in values.items()]
        return Capture(line, line, line, variant, Provenance("t"), {surface: facts})

    return judge(capture("1", old, Variant()), capture("2", new, Variant()), NONE, Ledger())


def files(*names: str) -> dict[str, Value]:
    return dict.fromkeys(names, "file")


def titles(found: Verdict) -> list[str]:
    return [item.title for item in group(found.findings)]


def test_a_removed_directory_is_one_line() -> None:
    gone = files(*(f"kernel.sched_domain.cpu0.domain0.v{i}" for i in range(20)))
    assert titles(verdict({**gone, **files("kernel.x")}, files("kernel.x"))) == [
        "kernel.sched_domain.cpu0.domain0.* (20)"
    ]


def test_one_leaf_under_many_interfaces_is_one_line() -> None:
    gone = files("net.ipv4.conf.all.x", "net.ipv4.conf.default.x", "net.ipv4.conf.lo.x")
    assert titles(verdict(gone, {})) == ["net.ipv4.conf.*.x (3)"]


def test_what_has_nothing_in_common_stays_apart() -> None:
    assert titles(verdict(files("kernel.a", "net.core.b"), {})) == ["kernel.a", "net.core.b"]


def test_other_effects_are_other_lines() -> None:
    found = verdict({"vm.a.x": "1", "vm.a.y": "1"}, {"vm.a.x": "2", "vm.a.y": "3"})
    assert len(group(found.findings)) == 2


def test_every_finding_is_in_exactly_one_group() -> None:
    gone = files(*(f"net.{a}.{b}.{c}" for a in "pq" for b in "rst" for c in "uv"), "k", "l.m")
    found = verdict(gone, {})
    grouped = [finding for item in group(found.findings) for finding in item.findings]
    assert sorted(f.delta.key for f in grouped) == sorted(gone)
    merged = [finding for item in digest(group(found.findings), 0) for finding in item.findings]
    assert sorted(f.delta.key for f in merged) == sorted(gone)


def test_changes_in_words() -> None:
    found = verdict({"a": "1", "b": "ok"}, {"a": "2", "c": "ok"})
    assert {f.delta.key: describe(f) for f in found.findings} == {
        "a": "1 -> 2",
        "b": "gone",
        "c": "new",
    }
    lists = verdict({"a": ["x", "y"]}, {"a": ["y", "z"]}, Kind.MEMBERS)
    assert describe(lists.findings[0]) == "without x; with z"


def test_open_breaks_are_told_by_boundary() -> None:
    gone = verdict(files("vm.block_dump", "kernel.kept"), files("kernel.kept"))
    rows = deltas.open_breaks([gone]).splitlines()[2:]
    assert [row.split() for row in rows] == [["1", "->", "2", "sysctls", "vm.block_dump", "gone"]]
    assert deltas.open_breaks([verdict(files("a"), files("a", "b"))]) == ""


def test_the_terminal_is_wide_enough() -> None:
    old = {f"CONFIG_{a}_{b}": "y" for a in ("NET", "CRYPTO", "SND", "USB") for b in range(30)}
    found = verdict(dict(old), {}, Kind.DEFAULT, surface="config")
    long = verdict(files("net.ipv4." + "very_long_name_" * 8), {})
    for width in (80, 100, 160):
        text = deltas.terminal([found, long], width)
        assert max(map(len, text.splitlines())) <= width
    assert "120 changes" in deltas.terminal([found, long])


def test_what_is_left_out_is_counted() -> None:
    old = {f"top{i}.a": str(i) for i in range(40)}
    text = deltas.terminal([verdict(old, {}, Kind.DEFAULT)], 100, deltas.Detail(rows=5, merge=None))
    assert "... and 35 more" in text
    assert "more in" not in deltas.terminal([verdict(old, {}, Kind.DEFAULT)], 100, deltas.ALL)


def test_markdown_keeps_its_columns() -> None:
    text = deltas.markdown([verdict({"a": "x|y"}, {"a": "z"})])
    assert "x\\|y" in text
    assert "## 1 -> 2" in text
    assert "`value-changed`" in text


def test_json_holds_every_finding() -> None:
    found = verdict(files("a", "b"), files("b", "c"))
    (record,) = msgspec.json.decode(deltas.as_json([found]), type=list[deltas.Record])
    assert [(f.delta.key, f.grade) for f in record.findings] == [
        ("a", Class.BREAK),
        ("c", Class.ADDITION),
    ]
    assert record.old.build == "1"


def test_nothing_to_tell_is_said() -> None:
    assert "No fact differs." in deltas.terminal([verdict(files("a"), files("a"))])


def test_disagreeing_witnesses_are_said() -> None:
    torn = Fact("nr", "ENOSYS", certainty=Certainty.CONTRADICTED)
    taken = Capture("1", "1", "1", Variant(), Provenance("t"), {"syscalls": [torn]})
    assert "disagree on 1 about: nr" in deltas.terminal([judge(taken, taken, NONE, Ledger())])
