"""Published captures: what is written is read back, and a text diff tells what moved."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostabi.diff import published
from hostabi.diff.compare import compare
from hostabi.errors import InputError
from hostabi.model import Capture, Certainty, Cgroup, Fact, Kind, Provenance, Variant
from hostabi.results import publication

TEXT = st.text(
    st.one_of(st.sampled_from('ab\t\n\r\\"{}[]*,.#: é\u2028'), st.characters(codec="utf-8")),
    max_size=6,
)
VALUES = st.one_of(
    TEXT, st.integers(-(2**63), 2**64 - 1), st.booleans(), st.none(), st.lists(TEXT, max_size=3)
)
FACTS = st.lists(
    st.builds(Fact, TEXT, VALUES, st.sampled_from(Kind), TEXT, st.sampled_from(Certainty), TEXT),
    max_size=5,
    unique_by=lambda fact: fact.key,
).map(lambda facts: sorted(facts, key=lambda fact: fact.key))
VARIANTS = st.builds(
    Variant, st.sampled_from(Cgroup), st.integers(1, 4), st.integers(1, 4), st.just(("a=b",))
)
SURFACES = st.dictionaries(st.sampled_from(["sysctls", "cgroup1", "a-b"]), FACTS).map(
    lambda surfaces: dict(sorted(surfaces.items()))
)
MOVING = st.dictionaries(TEXT, st.dictionaries(TEXT, st.sampled_from(Kind), max_size=2), max_size=2)
BUILDS = ["5.10.262-1", "6.1.192-2", "6.1.200-1", "7.3.4-1~bpo13+1", "6.1.192-2-amd64"]


@st.composite
def captures(draw: st.DrawFn) -> list[Capture]:
    return [
        Capture(
            build,
            ".".join(build.split(".")[:2]),
            f"{build}-x",
            draw(VARIANTS),
            Provenance("t", {"p.deb": "0a"}, draw(TEXT)),
            draw(SURFACES),
            twin=draw(st.none() | VARIANTS),
            moving=draw(MOVING),
        )
        for build in draw(st.lists(st.sampled_from(BUILDS), unique=True))
    ]


@settings(deadline=None)
@given(captures())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, given_: object) -> None:
    folder = tmp_path_factory.mktemp("facts")
    published.write(folder, given_)  # type: ignore[arg-type]
    assert published.read(folder) == given_
    # Values that are equal and not the same, as 1 and True are.
    assert msgspec.json.encode(published.read(folder)) == msgspec.json.encode(given_)


def capture(line: str, **values: str) -> Capture:
    facts = [Fact(key, value) for key, value in sorted(values.items())]
    return Capture(f"{line}.9-1", line, line, Variant(), Provenance("t"), {"s": facts})


def lines(folder: Path, *given_: Capture) -> list[str]:
    published.write(folder, given_)
    return (folder / "s.tsv").read_text().splitlines()


def test_a_fact_has_a_line_for_each_value(tmp_path: Path) -> None:
    kernels = [capture("5.10", a="1", b="x"), capture("6.1", a="1", b="y"), capture("7.3", a="1")]
    assert lines(tmp_path, *kernels) == [
        "builds\t*",
        'a\t*\tvalue/read\t\t"1"',
        'b\t5.10\tvalue/read\t\t"x"',
        'b\t6.1\tvalue/read\t\t"y"',
    ]


def test_a_build_that_is_like_the_last_one_changes_no_line(tmp_path: Path) -> None:
    kernels = [capture("5.10", a="1"), capture("6.1", a="2"), capture("6.12", a="2")]
    before = lines(tmp_path, *kernels)
    assert 'a\t6.1..\tvalue/read\t\t"2"' in before
    assert lines(tmp_path, *kernels, capture("6.18", a="2")) == before


def test_a_surface_that_is_gone_leaves_no_file(tmp_path: Path) -> None:
    published.write(tmp_path, [capture("1.0", a="1")])
    published.write(tmp_path, [])
    assert (sorted(path.name for path in tmp_path.iterdir()), published.read(tmp_path)) == (
        ["builds.json"],
        [],
    )


def test_one_is_found_by_line_build_or_release(tmp_path: Path) -> None:
    published.write(tmp_path, [capture("5.10", a="1"), capture("6.1", a="1")])
    known = published.read(tmp_path)
    assert published.find(known, "6.1") == published.find(known, "6.1.9-1")
    with pytest.raises(InputError, match=r"no capture of '6.6' is published") as error:
        published.find(known, "6.6")
    assert "5.10 (5.10.9-1), 6.1 (6.1.9-1)" in (error.value.advice or "")


def served(build: str, release: str, value: str, suite: str = "bookworm") -> Capture:
    line = ".".join(release.split(".")[:2])
    facts = {"s": [Fact("a", value)]}
    return Capture(build, line, release, Variant(), Provenance("t", suite=suite), facts)


def test_a_run_replaces_its_own_lines_and_leaves_the_others(tmp_path: Path) -> None:
    old = served("6.1.9-1", "6.1.0-9-cloud-amd64", "1")
    other = served("5.10.262-1", "5.10.0-46-cloud-amd64", "2")
    generic = served("6.1.9-1-amd64", "6.1.0-9-amd64", "4")
    publication.publish(tmp_path, [old, other, generic])
    newer = served("6.1.10-1", "6.1.0-10-cloud-amd64", "3")
    mine = served("local-6.1.0-12345678", "6.1.0-x", "5", "local")
    here = served("running-12345678", "6.1.0-x", "5", "")
    publication.publish(tmp_path, [newer, mine, here])
    known = publication.captures(tmp_path)
    assert known == [other, generic, newer]
    assert published.find(known, "6.1") == newer
    assert publication.publish(tmp_path, [mine]) == []


def test_captures_that_no_name_tells_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="told apart"):
        published.write(tmp_path, [capture("5.10"), capture("5.10")])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "line 1: the first line"),
        ("builds\t9.9\n", "line 1: '9.9' is not among the builds 5.10, 6.1"),
        ("builds\t6.1,5.10\n", "line 1: builds out of order"),
        ("builds\t6.1..5.10\n", "line 1: builds out of order"),
        ("builds\t*\nx\n", "line 2: 1 fields"),
        ("builds\t*\nx\t*\tvalue/read\t\t{\n", "line 2: "),
        ("builds\t*\nx\t*\tvalue/read\t\t1.5\n", "line 2: "),
        ("builds\t*\nx\t*\tsome/read\t\t1\n", "line 2: 'some' is not a valid Kind"),
        ("builds\t*\na\t*\tvalue/read\t\t1\na\t6.1\tvalue/read\t\t2\n", "line 3: a second fact"),
        ("builds\t*\nx\t*\tvalue/read\t\t" + "[" * 9999 + "\n", "line 2: "),
        ("builds\t*\n\udc80\n", "not text"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, text: str, error: str) -> None:
    published.write(tmp_path, [capture("5.10", a="1"), capture("6.1", a="1")])
    (tmp_path / "s.tsv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=f"s.tsv.*{error}"):
        published.read(tmp_path)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_damage_is_an_error_or_other_facts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("facts")
    published.write(folder, [capture("5.10", a="1", b="2"), capture("6.1", a="1")])
    path = folder / data.draw(st.sampled_from(["s.tsv", "builds.json"]))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content)))
    content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        published.read(folder)


def test_six_full_captures_are_small_and_quick(tmp_path: Path) -> None:
    """40 000 facts of each build, of which a tenth differs; bounds leave room for slow hosts."""
    rng = random.Random(1)  # the same facts each time
    kernels = []
    for number in range(6):
        facts = [
            Fact(
                f"group{at // 97:03}.name{at:05}#mode",
                f"{rng.randrange(8) if not at % 10 else 7:04}",
            )
            for at in range(40_000)
        ]
        kernels.append(
            Capture(f"{number}", f"{number}.0", "r", Variant(), Provenance("t"), {"s": facts})
        )
    published.write(tmp_path, kernels)
    began = time.perf_counter()
    read = published.read(tmp_path)
    between = time.perf_counter()
    compare(read[0], read[1])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4_000_000
    assert between - began < 3
    assert time.perf_counter() - between < 2
    assert read == kernels
