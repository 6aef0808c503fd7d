"""The ledger, the evidence of impact, and captures as files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from hostabi import resources
from hostabi.diff import captures, impact, keys, ledger
from hostabi.diff.verdict import judge
from hostabi.errors import InputError, StorageError
from hostabi.model import SCHEMA, Capture, Fact, Provenance, Variant

GOOD = """
[[cause]]
boundary = "1 -> 2"
reason = "it moved to another place"
citation = "https://example.org/1"
surface = "s"
facts = [{ key = "a", old = "file" }]
"""


def capture(line: str, facts: list[Fact]) -> Capture:
    return Capture(
        build=f"{line}.7-1",
        line=line,
        release=line,
        variant=Variant(),
        provenance=Provenance("test"),
        surfaces={"s": facts},
    )


def read(tmp_path: Path, text: str) -> ledger.Ledger:
    path = tmp_path / "l.toml"
    path.write_text(text)
    return ledger.read_ledger([path])


def test_an_entry_makes_its_finding_known(tmp_path: Path) -> None:
    book = read(tmp_path, GOOD)
    verdict = judge(capture("1", [Fact("a", "file")]), capture("2", []), impact.NONE, book)
    assert "it moved" in verdict.findings[0].known
    assert verdict.open_breaks == ()
    assert verdict.stale == ()


@pytest.mark.parametrize(
    "change",
    [('"a"', '"b"'), ('"file"', '"directory"'), ("1 -> 2", "1 -> 3"), ('"s"', '"t"')],
)
def test_an_entry_matches_one_fact_two_values_one_boundary(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    book = read(tmp_path, GOOD.replace(*change))
    verdict = judge(capture("1", [Fact("a", "file")]), capture("2", []), impact.NONE, book)
    assert len(verdict.open_breaks) == 1


def test_one_cause_may_hit_facts_of_several_surfaces(tmp_path: Path) -> None:
    more = 'facts = [{ surface = "t", key = "b", new = true }, '
    book = read(tmp_path, GOOD.replace("facts = [", more))
    assert [(entry.surface, entry.key, entry.old, entry.new) for entry in book.entries] == [
        ("t", "b", None, True),
        ("s", "a", "file", None),
    ]
    assert len({entry.reason for entry in book.entries}) == 1


def test_a_boundary_may_name_builds(tmp_path: Path) -> None:
    book = read(tmp_path, GOOD.replace("1 -> 2", "1.7-1 -> 2"))
    verdict = judge(capture("1", [Fact("a", "file")]), capture("2", []), impact.NONE, book)
    assert verdict.open_breaks == ()


def test_an_entry_that_matches_nothing_is_reported(tmp_path: Path) -> None:
    book = read(tmp_path, GOOD)
    same = [Fact("a", "file")]
    verdict = judge(capture("1", same), capture("2", same), impact.NONE, book)
    assert [entry.key for entry in verdict.stale] == ["a"]
    elsewhere = judge(capture("2", same), capture("3", same), impact.NONE, book)
    assert elsewhere.stale == ()


@pytest.mark.parametrize("unknown", [0, 1])
def test_what_is_not_known_whole_makes_no_entry_stale(tmp_path: Path, unknown: int) -> None:
    sides = [[Fact("a", "file")], [Fact("b", "file")]]
    sides[unknown] = [Fact(keys.INCOMPLETE, None)]
    verdict = judge(
        capture("1", sides[0]), capture("2", sides[1]), impact.NONE, read(tmp_path, GOOD)
    )
    assert (verdict.findings, verdict.stale) == ((), ())


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"a"', '"net.*"', "a pattern as key"),
        ("1 -> 2", "everywhere", "boundary"),
        ("https://example.org/1", "I know it", "cannot be looked up"),
        ("it moved to another place", "moved", "too short"),
        (', old = "file"', "", "are the same"),
        ("reason", "reasons", "unknown field"),
        ("[[cause]]", "[[cause", "not a usable ledger"),
        ('surface = "s"\n', "", "no surface is named"),
    ],
)
def test_an_entry_of_bad_form_is_refused(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=complaint) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert "l.toml" in str(error.value)


def test_the_shipped_ledger_is_of_good_form() -> None:
    book = ledger.read_ledger([resources.kernels() / "ledger"])
    pinned = [(entry.surface, entry.key, entry.boundary) for entry in book.entries]
    assert len(pinned) == len(set(pinned))


def test_the_shipped_evidence_is_of_good_form() -> None:
    shipped = impact.read_impact(resources.kernels() / "impact.toml")
    assert shipped.on("config", "CONFIG_OVERLAY_FS").needed
    assert shipped.on("config", "CONFIG_MEMCG_V1").gates
    assert shipped.on("reach", "clone3#user") == shipped.on("syscalls", "clone3")
    assert "runtime: runc" in shipped.on("config", "CONFIG_MEMCG").who
    assert shipped.on("config", "CONFIG_NOBODY_ASKS") == impact.Dependence()
    assert (
        shipped.on("sysctls", "kernel.shmmax#mode").who
        == shipped.on("sysctls", "kernel.shmmax").who
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('who = ["some: body"]\nevidence = ["https://x/"]', "does not start with"),
        ('who = ["libc: musl"]\nevidence = ["hearsay"]', "neither in"),
        ('who = ["libc: musl"]\nevidence = []', "evidence is empty"),
    ],
)
def test_evidence_of_bad_form_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "i.toml"
    path.write_text(f'[[entry]]\nsurface = "s"\nkeys = ["k"]\n{text}\n')
    with pytest.raises(InputError, match=complaint):
        impact.read_impact(path)


def test_wildcards_in_evidence(tmp_path: Path) -> None:
    path = tmp_path / "i.toml"
    path.write_text(
        '[[entry]]\nsurface = "s"\nkeys = ["net.*.x"]\nwho = ["libc: musl"]\n'
        'evidence = ["https://x/"]\n'
    )
    table = impact.read_impact(path)
    assert table.on("s", "net.a.b.x#mode").who == ("libc: musl",)
    assert table.on("s", "net.a").who == ()


@pytest.mark.parametrize("name", ["c.json", "c.json.zst"])
def test_a_capture_survives_being_saved(tmp_path: Path, name: str) -> None:
    taken = capture("1", [Fact("a", 1), Fact("b", ["x"]), Fact("c", None), Fact("d", True)])
    path = captures.save(taken, tmp_path / "new" / name)
    assert captures.load(path) == taken
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the capture"):
        captures.save(capture("1", []), tmp_path / "file" / "c.json")


def test_a_missing_capture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"c\.json: cannot read"):
        captures.load(tmp_path / "c.json")


def test_a_capture_of_a_newer_schema() -> None:
    data = msgspec.json.encode(capture("1", [])).replace(
        f'"schema":{SCHEMA}'.encode(), f'"schema":{SCHEMA + 1}'.encode()
    )
    with pytest.raises(InputError, match=f"schema {SCHEMA + 1}"):
        captures.decode(data, "c.json")


def test_a_capture_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "LIMIT", 1 << 20)
    bomb = zstandard.ZstdCompressor().compress(b" " * (8 << 20))
    with pytest.raises(InputError, match="larger than a capture can be"):
        captures.decode(bomb, "c.json.zst")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"schema":"x"}', b"\x28\xb5\x2f\xfdgarbage"],
)
def test_what_is_no_capture(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.zst"):
        captures.decode(data, "x.zst")


_PLAIN = msgspec.json.encode(capture("1", [Fact("a", 1), Fact("b", ["x"])]))
_PACKED = zstandard.ZstdCompressor().compress(_PLAIN)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([_PLAIN, _PACKED]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    st.integers(0, 2000),
)
def test_a_damaged_capture_is_bad_input_or_a_capture(
    data: bytes, flips: list[tuple[int, int]], end: int
) -> None:
    damaged = bytearray(data)
    for place, value in flips:
        damaged[place % len(damaged)] = value
    with contextlib.suppress(InputError):
        captures.decode(bytes(damaged[: end or None]), "c")
