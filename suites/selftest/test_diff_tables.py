"""The tables of deltas: grouped by cause, within the terminal's width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from junitparser import JUnitXml

from hostabi.diff import impact, keys
from hostabi.diff.groups import describe, digest, group
from hostabi.diff.ledger import Entry, Ledger
from hostabi.diff.verdict import Verdict, judge
from hostabi.model import Capture, Certainty, Class, Fact, Kind, Provenance, Value, Variant
from hostabi.results import deltas, findings, junit, story


def verdict(
    old: dict[str, Value],
    new: dict[str, Value],
    kind: Kind = Kind.VALUE,
    surface: str = "sysctls",
    *,
    ledger: Ledger | None = None,
    evidence: impact.Impact = impact.NONE,
) -> Verdict:
    def capture(line: str, values: dict[str, Value], variant: Variant) -> Capture:
        facts = [Fact(key, value, kind) for key, value in values.items()]
        return Capture(line, line, line, variant, Provenance("t"), {surface: facts})

    return judge(
        capture("1", old, Variant()), capture("2", new, Variant()), evidence, ledger or Ledger()
    )


def files(*names: str) -> dict[str, Value]:
    return dict.fromkeys(names, "file")


def titles(found: Verdict) -> list[str]:
    return [item.title.partition(":")[0] for item in group(found.findings)]


def test_a_removed_directory_is_one_line() -> None:
    gone = files(*(f"kernel.sched_domain.cpu0.domain0.v{i}" for i in range(20)))
    assert titles(verdict({**gone, **files("kernel.x")}, files("kernel.x"))) == [
        "kernel.sched_domain.cpu0.domain0.* (20)"
    ]


def test_one_leaf_under_many_interfaces_is_one_line() -> None:
    gone = files("net.ipv4.conf.all.x", "net.ipv4.conf.default.x", "net.ipv4.conf.lo.x")
    assert titles(verdict(gone, {})) == ["net.ipv4.conf.*.x (3)"]


def test_groups_that_hit_the_same_are_merged_where_their_effect_is_the_same() -> None:
    who = impact.Entry("sysctls", ("a.*",), ("runtime: runc",), ("https://x/",))
    evidence = impact.Impact({}, {}, (("sysctls", "a.*", who),))
    gone = files(*(f"a.{n}.x{n}.{leaf}" for n in range(4) for leaf in "pq"))
    old = {**gone, "a.mode": "ok"}
    found = verdict(old, {"a.mode": "EINVAL"}, evidence=evidence)
    told = digest(group(found.findings), 3)
    assert [(len(item.findings), item.impact) for item in told] == [
        (8, ("runtime: runc",)),
        (1, ("runtime: runc",)),
    ]
    assert len(digest(group(found.findings), 4)) == 5


def test_what_one_thing_accepts_is_one_line() -> None:
    old = {f"a.max#accepts:{value}": "ok" for value in ("1", "1.5", "4M")}
    new = dict.fromkeys(old, "EINVAL")
    assert [item.title for item in group(verdict(old, new).findings)] == [
        "a.max#accepts:* (3): 1, 1.5, 4M"
    ]


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


def test_open_breaks_beyond_a_limit_are_counted() -> None:
    two = verdict(files("fs.alone", "kernel.kept", "vm.block_dump"), files("kernel.kept"))
    rows = deltas.open_breaks([two], limit=1).splitlines()[2:]
    assert [row.split()[-1] for row in rows] == ["gone", "more"]
    assert len(deltas.open_breaks([two], limit=2).splitlines()[2:]) == 2


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
    text = deltas.terminal([verdict(old, {}, Kind.DEFAULT)], 100, story.Detail(rows=5, merge=None))
    assert "... and 35 more in 35 lines (6 to 40)" in text
    assert "more in" not in deltas.terminal([verdict(old, {}, Kind.DEFAULT)], 100, story.ALL)


def test_markdown_keeps_its_columns() -> None:
    text = deltas.markdown([verdict({"a": "x|y"}, {"a": "z"})])
    assert "x\\|y" in text
    assert "## 1 -> 2" in text
    assert "`value-changed`" in text


def test_json_holds_every_finding() -> None:
    found = verdict(files("a", "b"), files("b", "c"))
    read = msgspec.json.decode(findings.as_json([found]), type=findings.Report)
    (told,) = read.comparisons
    assert [(item.key, item.grade, item.group) for item in told.findings] == [
        ("a", Class.BREAK, 1),
        ("c", Class.ADDITION, 2),
    ]
    assert [(item.number, item.findings) for item in told.groups] == [(1, 1), (2, 1)]
    assert told.findings[0].old is not None
    assert told.findings[0].new is None
    assert told.counts == findings.Counts(1, 0, 0, 1)
    assert told.old.build == "1"
    assert read.rules["removed"] == "The thing is gone."


def test_the_schema_is_that_of_the_records() -> None:
    """Where this fails: write findings.schema() to the file, and raise SCHEMA if readers break."""
    assert findings.SCHEMA_FILE.read_bytes() == findings.schema()


def test_json_has_no_field_that_the_schema_does_not_describe() -> None:
    told = msgspec.json.decode(findings.as_json([verdict(files("a", "b"), files("b", "c"))]))
    schema = msgspec.json.decode(findings.SCHEMA_FILE.read_bytes())
    checked = list(against_schema(told, schema, schema["$defs"]))
    assert {"Report", "Comparison", "Side", "Variant", "Found", "Seen", "GroupOf"} <= set(checked)


def against_schema(value: Any, form: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    """Check a value as far as our schema goes, and name the records on the way."""
    if "$ref" in form:
        name = form["$ref"].rpartition("/")[2]
        yield name
        form = defs[name]
    if "anyOf" in form:
        forms = [one for one in form["anyOf"] if (one == {"type": "null"}) == (value is None)]
        if isinstance(value, dict):
            yield from against_schema(value, forms[0], defs)
    elif form.get("type") == "object" and "properties" in form:
        assert set(form["required"]) <= value.keys() <= form["properties"].keys()
        for key, item in value.items():
            yield from against_schema(item, form["properties"][key], defs)
    elif form.get("type") == "array":
        assert isinstance(value, list)
        for item in value:
            yield from against_schema(item, form["items"], defs)
    elif "enum" in form:
        assert value in form["enum"]
    else:
        kinds = {"string": str, "integer": int, "object": dict, "boolean": bool}
        assert isinstance(value, kinds[form["type"]])


def test_junit_fails_for_open_breaks_and_skips_known_ones() -> None:
    entry = Entry("sysctls", "b", "1 -> 2", "moved elsewhere, as told", "https://x/", old="file")
    found = verdict(files("a\x1b", "b", "c"), files("c"), ledger=Ledger((entry,)))
    quiet = verdict(files("a"), files("a"))
    xml = JUnitXml.fromstring(junit.as_junit([found, quiet]))
    first, second = list(xml)
    cases = {case.name: case for case in first}
    assert cases["a?"].is_failure
    assert cases["b"].is_skipped
    assert "moved elsewhere, as told [https://x/]" in str(cases["b"].result[0].message)
    assert (first.tests, first.failures, first.skipped) == (2, 1, 1)
    assert [(case.name, case.is_passed) for case in second] == [("nothing breaks", True)]


def test_a_line_opens_by_its_number_and_by_name() -> None:
    gone = files(*(f"kernel.sched_domain.cpu0.domain0.v{i}" for i in range(20)))
    found = verdict({**gone, **files("kernel.x", "vm.y")}, files("kernel.x"))
    text = deltas.in_full([found], "1")
    assert text.count("kernel.sched_domain.cpu0.domain0.v") == 20
    assert "removed: The thing is gone." in text
    assert "vm.y" not in text
    assert "sysctls:vm.y" in deltas.in_full([found], "vm.")
    assert deltas.in_full([found], "sysctls:vm.y").startswith("#2  1 -> 2  break: vm.y")
    assert "#2" in deltas.in_full([found], "sysctls")
    assert deltas.in_full([found], "99") == deltas.in_full([found], "nobody") == ""


def test_one_fact_in_several_views_is_one_line() -> None:
    def views(*names: str) -> dict[str, Value]:
        return {f"{name}{view}": "ok" for name in names for view in ("", "#userns", "#user")}

    old = {**views("f.A", "f.B"), "f.C": "ok", "f.C#userns": "ok"}
    new = {**dict.fromkeys(views("f.A", "f.B"), "EINVAL"), "f.C": "ok", "f.C#userns": "EPERM"}
    shown = [(item.title, item.change) for item in group(verdict(old, new).findings)]
    assert shown == [
        ("f.* (2): A, B", "ok -> EINVAL (also user, userns)"),
        ("f.C", "ok -> EPERM (userns)"),
    ]


def test_what_one_entry_explains_is_one_line_wherever_it_lies() -> None:
    names = ("a.x", "b.y", "b.z")
    entries = [
        Entry("sysctls", name, "1 -> 2", "one and the same", "https://x/", "file") for name in names
    ]
    found = verdict(files(*names, "c"), {}, ledger=Ledger(tuple(entries)))
    told = [(item.title, bool(item.known)) for item in group(found.findings)]
    assert told == [("c", False), ("3: a.x, b.y, b.z", True)]


def test_nothing_to_tell_is_said() -> None:
    assert "No fact differs." in deltas.terminal([verdict(files("a"), files("a"))])


def test_disagreeing_witnesses_are_said() -> None:
    torn = Fact("nr", "ENOSYS", certainty=Certainty.CONTRADICTED)
    taken = Capture("1", "1", "1", Variant(), Provenance("t"), {"syscalls": [torn]})
    assert "disagree on 1 about: syscalls:nr" in deltas.terminal(
        [judge(taken, taken, impact.NONE, Ledger())]
    )


def test_a_surface_that_is_not_whole_is_said() -> None:
    part = Fact(keys.INCOMPLETE, None, detail="no index lists its headers")
    sides = [
        Capture(line, line, line, Variant(), Provenance("t"), {"types": facts})
        for line, facts in (("1", [Fact("A", 1)]), ("2", [part]))
    ]
    told = " ".join(deltas.terminal([judge(*sides, impact.NONE, Ledger())], 100).split())
    assert "What 2 lacks in types is not told" in told
    assert "no index lists its headers" in told
