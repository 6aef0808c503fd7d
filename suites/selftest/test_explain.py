"""One fact told whole, and facts found by part of their name."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from hostabi import cli
from hostabi.diff import captures, documented, published
from hostabi.diff.ledger import Entry, Ledger
from hostabi.diff.shallow import Shallow
from hostabi.errors import InputError
from hostabi.model import Capture, Certainty, Class, Fact, Provenance, Variant
from hostabi.results.explained import Library, is_about, listing, text
from hostabi.results.reproducers import Measured


def capture(line: str, **surfaces: list[Fact]) -> Capture:
    return Capture(f"{line}.7-1", line, line, Variant(), Provenance("t"), surfaces)


def probed(key: str, value: str) -> Fact:
    return Fact(key, value, how="probe", certainty=Certainty.PROBED)


OLD = capture("1", net=[probed("udp.lite", "ok"), probed("udp.lite#user", "ok")], vm=[Fact("a", 1)])
MIDDLE = capture("2", net=[probed("udp.lite", "ok"), probed("udp.lite#user", "EPERM")])
NEW = capture("3", net=[probed("udp.lite", "EINVAL"), probed("udp.lite#user", "EPERM")])
LIBRARY = Library(tuple(map(Shallow.of, (OLD, MIDDLE, NEW))))


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("net:udp.lite", [("net", "udp.lite")]),
        ("udp.lite", [("net", "udp.lite")]),
        ("udp.lite#user", [("net", "udp.lite#user")]),
        ("udp", [("net", "udp.lite")]),
        ("lite", [("net", "udp.lite")]),
        ("vm:", [("vm", "a")]),
    ],
)
def test_a_fact_is_found_by_its_name_or_a_part(what: str, found: list[tuple[str, str]]) -> None:
    assert LIBRARY.find(what) == found


def test_a_name_that_is_in_two_surfaces_is_two() -> None:
    both = Library((Shallow.of(capture("1", a=[Fact("x", 1)], b=[Fact("x", 1), Fact("xy", 2)])),))
    assert both.find("x") == [("a", "x"), ("b", "x")]
    assert both.find("b:x") == [("b", "x")]
    told = listing(both, both.find("x"))
    assert "a:x" in told
    assert "b:x" in told


def test_a_name_that_nothing_has() -> None:
    with pytest.raises(InputError, match="called 'tcp'") as caught:
        LIBRARY.find("tcp")
    assert "net, vm" in caught.value.advice


def test_all_that_is_known_of_a_fact() -> None:
    entry = Entry("net", "udp.lite", "2 -> 3", "it was removed", "https://x/", "ok", "EINVAL")
    told = LIBRARY.explain(("net", "udp.lite"), Ledger((entry,)))
    assert list(told.seen) == ["udp.lite", "udp.lite#user"]
    assert [step.boundary for step in told.steps] == ["1.7-1 -> 2.7-1", "2.7-1 -> 3.7-1"]
    assert [step.reason for step in told.steps] == ["", "it was removed"]
    shown = text(told)
    assert "ok from 1 to 2; EINVAL since 3" in shown
    assert "probe (probed)" in shown
    assert "#user ok -> EPERM" in shown
    assert "works-no-more: An operation that worked fails." in shown
    assert "open: the ledger does not expect it" in shown
    assert "see https://x/" in shown


def test_a_surface_that_was_not_captured_is_no_absence() -> None:
    told = LIBRARY.explain(("vm", "a"))
    assert [one.captured for one in told.seen["a"]] == [True, False, False]
    assert told.steps == ()
    assert "since" not in text(told)


def test_an_explanation_fits_a_narrow_terminal() -> None:
    wide = [capture(str(n), s=[Fact("k", "x" * 20), Fact("k#type", "y" * 20)]) for n in range(8)]
    told = Library(tuple(map(Shallow.of, wide))).explain(("s", "k"))
    assert max(map(len, text(told, 80).splitlines())) <= 80


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(captures.save(one, tmp_path / f"{one.line}.json.zst")) for one in (OLD, NEW)]
    assert cli.main(["explain", "net:udp.lite", "--capture", *files]) == 0
    assert "EINVAL since 3" in capsys.readouterr().out
    assert cli.main(["explain", "net:udp.lite", "--json", "--capture", *files]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"][0]["finding"]["grade"] == "break"
    assert cli.main(["explain", "nobody", "--capture", *files]) == 2


def test_published_facts_serve_where_there_was_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTABI_RESULTS", str(tmp_path))
    published.write(tmp_path / "facts", [OLD, NEW])
    assert cli.main(["explain", "udp.lite"]) == 0
    assert "EINVAL since 3" in capsys.readouterr().out


def test_a_damaged_surface_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(captures.content(captures.save(OLD, path)).replace(b'"udp.lite"', b"17", 1))
    with pytest.raises(InputError, match=r"c\.json, surface net: damaged"):
        Shallow.load(path).facts("net")


def test_documented_breaks_are_of_good_form() -> None:
    assert len({entry.id for entry in documented.shipped()}) == len(documented.shipped())
    some = documented.shipped()[0]
    surface, key = next(iter(some.facts()))
    assert some in documented.about(documented.shipped(), surface, f"{key}#mode")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('"https://x/"', '"hearsay"'), "must be addresses"),
        (('"1 -> 2"', '"1"'), "boundary"),
        (("expect", "unknown"), "unknown field"),
        (('"break"', '"pity"'), "Invalid enum"),
        (("\nexpect", "\n#"), "says neither"),
    ],
)
def test_documented_breaks_of_bad_form(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    path = tmp_path / "k.toml"
    good = (
        '[[break]]\nid = "a"\nsummary = "s"\nchanged = "1"\nhits = ["x"]\nsources = ["https://x/"]\n'
        'expect = [{ surface = "s", key = "k", boundary = "1 -> 2", grade = "break" }]\n'
    )
    path.write_text(good)
    assert documented.read_documented(path)[0].expect[0].grade is Class.BREAK
    path.write_text(good.replace(*change))
    with pytest.raises(InputError, match=complaint):
        documented.read_documented(path)


def test_what_a_reproducer_exited_with_is_told() -> None:
    told = LIBRARY.explain(("net", "udp.lite"))
    ours = Measured("net", "udp.lite#user", "ok", {"1.7-1": 0, "2.7-1": 1}, ("2.7-1",), "r/x.c")
    theirs = Measured("vm", "udp.lite", "ok", {"1.7-1": 0})
    shown = tuple(each for each in (ours, theirs) if is_about(told, each))
    said = text(msgspec.structs.replace(told, reproducers=shown), 100)
    assert "#user reproducer for ok: exits 0 on 1.7-1; 1 on 2.7-1" in said
    assert "see r/x.c" in said
    assert "which the captures of 2.7-1 do not say" in said
