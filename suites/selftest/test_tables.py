"""Tables and pages out of a journal."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from hostabi import resources
from hostabi.diff.verdict import judge_in_turn
from hostabi.errors import InputError, StorageError
from hostabi.model import Capture, Fact, Outcome, Provenance, Variant
from hostabi.results import pages, readme, tables
from hostabi.results.tables import Results
from hostabi.runs.journal import Contents
from hostabi.runs.records import (
    BuildUsed,
    CaptureDone,
    Features,
    Finished,
    Planned,
    Record,
    Session,
    StepError,
    SurfaceError,
    TestCell,
    together,
)

OLD, NEW = "5.10.262-1", "6.1.192-2~bpo12+1"


def build(name: str, line: str) -> BuildUsed:
    return BuildUsed(
        session="s",
        name=name,
        line=line,
        release=line,
        version=name,
        flavour="cloud-amd64",
        suite="bookworm",
        image="ab" * 32,
        packages={f"linux-image-{line}.deb": "cd" * 32},
        emulator="7.2.22",
        accelerator="tcg",
    )


def cell(name: str, test: str, outcome: Outcome = Outcome.PASS, **more: str) -> TestCell:
    return TestCell("s", name, test, outcome, **more)


def results(*records: Record) -> Results:
    session = Session("s", "2030-01-01", "0.1.0", 1, accelerator="tcg", host="Linux")
    builds = (build(NEW, "6.1"), build(OLD, "5.10"))
    return Results.of(Contents((session, *builds, *records)))


PIPES = "syscalls/test_pipes.py::test_order"


def test_columns_go_from_the_oldest_line_to_the_newest() -> None:
    assert [item.line for item in results().builds] == ["5.10", "6.1"]


def test_only_the_builds_of_the_last_run_are_shown() -> None:
    shown = results(Finished("s", "t", (NEW,), 0), cell(OLD, PIPES, Outcome.FAIL))
    assert [item.name for item in shown.builds] == [NEW]
    assert "FAIL" not in tables.matrix(shown)


def test_a_cell_that_was_not_measured_is_not_a_pass() -> None:
    text = tables.by_test(results(cell(NEW, PIPES)), "syscalls")
    assert text.splitlines()[-1].split("|")[1:5] == [" pipes: order ", "       ", " -      ",
                                                      " pass  "]  # fmt: skip


def test_the_case_of_a_test_is_told_as_it_is() -> None:
    masked = "conformance/test_paths.py::test_it_is_masked[/proc/sched_debug]"
    text = tables.by_test(results(cell(NEW, masked)), "conformance")
    assert "| paths: it is masked[/proc/sched_debug] |" in text


def test_missing_cells_are_counted() -> None:
    shown = results(
        Planned("s", NEW, "syscalls", 3), cell(NEW, PIPES), Planned("s", OLD, "syscalls", 1),
        cell(OLD, PIPES),
    )  # fmt: skip
    assert tables.missing(shown) == [f"not complete: syscalls on {NEW}: 1 of 3 cells"]
    assert "not complete" in tables.matrix(shown)


def test_a_later_outcome_replaces_an_earlier_one() -> None:
    shown = results(cell(NEW, PIPES, Outcome.ERROR), cell(NEW, PIPES))
    assert "1 pass" in tables.matrix(shown)
    assert "error" not in tables.matrix(shown)


def test_reasons_are_told_once_for_all_kernels_that_share_them() -> None:
    shown = results(
        cell(OLD, PIPES, Outcome.UNSUPPORTED, reason="no splice"),
        cell(NEW, PIPES, Outcome.UNSUPPORTED, reason="no splice"),
        cell(NEW, "syscalls/t.py::test_x", Outcome.FAIL, reason="2 != 3", runtime="runc"),
        cell(NEW, "syscalls/t.py::test_x", Outcome.FAIL, reason="2 != 3", runtime="crun"),
    )
    assert tables.remarks(shown) == [
        "FAIL: t: x crun, runc on 6.1: 2 != 3",
        "n/a: pipes: order on 5.10, 6.1: no splice",
    ]


def test_a_known_failure_is_told_apart() -> None:
    known = cell(NEW, PIPES, Outcome.FAIL, reason="known: a bug (https://a.mail)")
    shown = results(known, cell(OLD, PIPES, Outcome.FAIL, reason="2 != 3"))
    assert "1 FAIL" in tables.matrix(shown)
    assert "1 known" in tables.matrix(shown)
    assert tables.remarks(shown) == [
        "FAIL: pipes: order on 5.10: 2 != 3",
        "known: pipes: order on 6.1: a bug (https://a.mail)",
    ]


def test_features_that_differ_are_told() -> None:
    shown = results(
        Features("s", OLD, ("openat2",)), Features("s", NEW, ("memfd:noexec", "openat2"))
    )
    rows = [line.split("|")[1:4] for line in tables.features(shown).splitlines()]
    told = {row[0].strip(): [mark.strip() for mark in row[1:]] for row in rows}
    assert told["memfd:noexec"] == ["-", "yes"]
    assert told["close_range"] == ["-", "-"]
    assert "openat2" not in told
    assert tables.features(results()) == ""


def test_lockstep_is_told_apart() -> None:
    shown = results(cell(together([OLD, NEW]), PIPES, Outcome.FAIL, reason="they differ"))
    assert "in lockstep on several kernels: 1 FAIL" in tables.matrix(shown)
    assert tables.remarks(shown) == ["FAIL: pipes: order lockstep on lockstep: they differ"]


def test_failures_of_steps_are_told() -> None:
    shown = results(
        StepError("s", "7.3", "fetch", "gone"),
        CaptureDone("s", NEW, "f", "00", 3),
        SurfaceError("s", NEW, "sysctls", "no /proc/sys"),
    )
    assert shown.failures() == ["7.3: fetch: gone", f"{NEW}: surface sysctls: no /proc/sys"]


def test_a_run_that_was_killed_after_one_that_ended_is_a_part(tmp_path: Path) -> None:
    """The end of an earlier run is no end of this one, and its builds are not what is shown."""
    again = Session("t", "2030-02-02", "0.1.0", 2)
    records = [Finished("s", "2030-01-02", (NEW,), 0), again]
    pages.write(tmp_path, results(*records, build(OLD, "5.10")), [])
    assert "not finished" in (tmp_path / "README.md").read_text()
    killed = results(*records, build(OLD, "5.10"))
    assert [item.name for item in killed.builds] == [OLD]
    assert killed.ended is None
    assert len(results(*records).builds) == 2  # killed before it had one
    ended = results(*records, Finished("t", "2030-02-03", (NEW,), 0))
    assert ended.ended is not None
    assert [item.name for item in ended.builds] == [NEW]


def test_failures_of_an_earlier_run_are_not_told_again() -> None:
    later = Session("t", "2030-02-02", "0.1.0", 2)
    old = [StepError("s", "7.3", "fetch", "gone"), Finished("s", "2030-01-02", (NEW,), 3), later]
    assert results(*old, Finished("t", "2030-02-03", (NEW,), 0)).failures() == []
    kept = StepError("t", NEW, "suites", "pytest ended with 3")
    shown = results(*old, kept, Finished("t", "2030-02-03", (NEW,), 3))
    assert shown.failures() == [f"{NEW}: suites: pytest ended with 3"]
    shown = results(*old, kept, cell(NEW, PIPES, Outcome.ERROR), Finished("t", "x", (NEW,), 3))
    assert shown.failures() == []  # its cells tell


def test_a_surface_that_failed_is_told_once_and_without_its_capture() -> None:
    records = [SurfaceError("s", NEW, "sysctls", "no"), StepError("s", NEW, "sysctls", "no")]
    expected = [f"{NEW}: surface sysctls: no"]
    assert results(*records).failures() == expected
    assert results(CaptureDone("s", NEW, "f", "00", 3), *records).failures() == expected
    assert results(*records, CaptureDone("t", NEW, "f", "00", 3)).failures() == []


def test_two_builds_of_a_line_have_two_columns() -> None:
    shown = Results.of(Contents((build(NEW, "6.1"), build("6.1.190-1", "6.1"))))
    assert {shown.column(item) for item in shown.builds} == {NEW, "6.1.190-1"}


def test_provenance_is_in_the_table() -> None:
    text = tables.kernels(results(), "github")
    for part in ("5.10.262-1", "cd" * 32, "7.2.22", "tcg", "bookworm"):
        assert part in text


def test_pages_say_whether_the_run_ended(tmp_path: Path) -> None:
    pages.write(tmp_path, results(cell(NEW, PIPES)), [])
    assert "not finished" in (tmp_path / "README.md").read_text()
    written = pages.write(
        tmp_path, results(cell(NEW, PIPES), Finished("s", "2030-01-02", (NEW, OLD), 0)), []
    )
    assert {path.name for path in written} == {"README.md", "kernels.md", "syscalls.md"}
    assert "not finished" not in (tmp_path / "README.md").read_text()


def test_pages_that_other_commands_made_are_led_to(tmp_path: Path) -> None:
    pages.write(tmp_path, results(cell(NEW, PIPES)), [])
    assert "steadiness" not in (tmp_path / "README.md").read_text()
    (tmp_path / "steadiness.md").touch()
    pages.write(tmp_path, results(cell(NEW, PIPES)), [])
    assert "](steadiness.md)" in (tmp_path / "README.md").read_text()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write the tables"):
        pages.write(tmp_path / "file", results(), [])


def test_the_readme_has_a_row_for_each_kernel(tmp_path: Path) -> None:
    shown = results(
        CaptureDone("s", NEW, "f", "00", 9574),
        cell(OLD, PIPES, Outcome.UNSUPPORTED, reason="no splice"),
        cell(NEW, PIPES),
        cell(together([OLD, NEW]), PIPES),
        Finished("s", "2030-01-02", (NEW, OLD), 0),
    )
    facts = {"sysctls": [Fact("a", 1), Fact("b", 1)]}
    sides = [
        Capture(name, name, name, Variant(), Provenance("t"), kept)
        for name, kept in ((OLD, facts), (NEW, {"sysctls": facts["sysctls"][:1]}))
    ]
    (tmp_path / "README.md").write_text("# a\n<!-- results -->\nold\n<!-- /results -->\nb\n")
    page = readme.text(shown, judge_in_turn(sides), "results/README.md")
    readme.put(tmp_path / "README.md", page)
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[:2] == ["# a", "<!-- results -->"]
    assert lines[-2:] == ["<!-- /results -->", "b"]
    assert "old" not in lines
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert rows[2] == ["5.10", OLD, "-", "1 n/a", "1 open, 0 known"]
    assert rows[3] == ["6.1", NEW, "9574", "1 pass", "-"]
    assert "In lockstep over these kernels: 1 pass." in page
    (tmp_path / "README.md").write_text("# a")
    with pytest.raises(InputError, match="no place for results"):
        readme.put(tmp_path / "README.md", page)


@pytest.mark.skipif(resources.checkout() is None, reason="a wheel has no README")
def test_links_in_the_readme_lead_somewhere() -> None:
    checkout = resources.checkout()
    assert checkout is not None
    text = (checkout / "README.md").read_text()
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert links
    broken = [link for link in links if "://" not in link and not (checkout / link).exists()]
    assert broken == []
    assert readme.BEGIN in text
    assert readme.END in text


def test_a_terminal_of_100_columns_holds_six_kernels() -> None:
    used = tuple(build(f"{number}.1-1", f"{number}") for number in range(6))
    outcomes = [Outcome.PASS] * 110 + [Outcome.UNSUPPORTED] * 10 + [Outcome.FAIL] * 2
    cells = [
        cell(item.name, f"conformance/t.py::{number}", outcome, runtime="crun")
        for item in used
        for number, outcome in enumerate(outcomes)
    ]
    text = tables.matrix(Results.of(Contents((*used, *cells))), width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("110 pass") == text.count("10 n/a") == 6


def test_a_terminal_of_100_columns_holds_the_kernels() -> None:
    names = ("6.12.117-1~bpo13+1", "7.3~rc2-1~exp1")
    used = [msgspec.structs.replace(build(name, name[:4]), emulator="7.2.22 (Debian 1:7.2+dfsg)",
                                    suite="bookworm-security") for name in names]  # fmt: skip
    text = tables.kernels(Results.of(Contents(tuple(used))))
    assert max(map(len, text.splitlines())) <= 100
