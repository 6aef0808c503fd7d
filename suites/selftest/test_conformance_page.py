"""The conformance suite's pages: the matrix, reasons told once, and what neighbours differ in."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_tables import NEW, OLD, cell, results

from hostabi.model import Outcome
from hostabi.oci import deviations
from hostabi.results import conformance, conformance_page, pages, phrases, publication, readme
from hostabi.results.conformance import Grid, Place, between_kernels, between_runtimes
from hostabi.runs.records import Finished, TestCell

BOTH = (OLD, NEW)
CGROUPS = "conformance/test_cgroups.py::test_memory"
EXEC = "conformance/test_exec.py::test_user"
LACKS = "runc-bullseye does not claim version 1.1 of the specification"


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deviations, "known", lambda: ())


def over(
    runtime: str, test: str = CGROUPS, outcome: Outcome = Outcome.PASS, **more: str
) -> list[TestCell]:
    """The same outcome on both kernels."""
    return [cell(name, test, outcome, runtime=runtime, **more) for name in BOTH]


def grid(*cells: TestCell) -> Grid:
    return Grid(results(*cells, Finished("s", "2030-01-02", BOTH, 0)))


def test_the_matrix_counts_each_pair() -> None:
    shown = grid(
        *over("runc"), *over("runc-bullseye"), cell(NEW, EXEC, Outcome.FAIL, runtime="runc"),
        cell(NEW, "syscalls/test_pipes.py::test_order"),
    )  # fmt: skip
    rows = [line.split("|")[1:4] for line in conformance.matrix(shown).splitlines()]
    assert [[part.strip() for part in row] for row in rows[::2]] == [
        ["runtime or engine", "5.10", "6.1"],
        ["runc-bullseye", "1 pass", "1 pass"],
    ]
    assert [part.strip() for part in rows[3]] == ["runc", "1 pass", "1 pass, 1 FAIL"]
    assert shown.total(NEW) == {"pass": 2, "FAIL": 1}


def test_one_reason_is_one_line(tmp_path: Path) -> None:
    lacks = Outcome.UNSUPPORTED
    cells = over("runc-bullseye", EXEC, lacks, reason=LACKS)
    cells += over("runc-bullseye", CGROUPS, lacks, reason=LACKS)
    cells += over("crun-bullseye", CGROUPS, lacks, reason=LACKS.replace("runc", "crun"))
    shown = results(*cells, *over("crun"), Finished("s", "2030-01-02", BOTH, 0))
    pages.write(tmp_path, shown, [])
    page = (tmp_path / "conformance.md").read_text()
    assert (
        "- **cgroups: memory; exec: user** (runc-bullseye, crun-bullseye on all kernels): "
        "the runtime does not claim version 1.1 of the specification\n"
    ) in page
    assert page.count("does not claim") == 2  # and once where crun has gained it
    assert "[conformance](conformance.md)" in (tmp_path / "README.md").read_text()
    assert conformance_page.lines(Grid(shown), 100, tmp_path) == [
        "conformance: reasons 1 for n/a are in conformance.md"
    ]


def test_the_names_of_containers_make_no_reason_another() -> None:
    first = cell(OLD, EXEC, Outcome.FAIL, runtime="runc", reason="runc: runc-17 runc-sid: no")
    second = cell(OLD, EXEC, Outcome.FAIL, runtime="crun", reason="crun: crun-4 runc-sid: no")
    assert conformance.why(first) == conformance.why(second) == "the runtime: ID runc-sid: no"


def test_a_newer_kernel_that_breaks() -> None:
    shown = grid(
        *over("runc"),
        cell(OLD, CGROUPS, runtime="crun"),
        cell(NEW, CGROUPS, Outcome.FAIL, runtime="crun", reason="1 != 2"),
        cell(OLD, EXEC, runtime="crun"),
        cell(NEW, EXEC, Outcome.ERROR, runtime="crun", reason="lost"),
    )
    [(step, [move])] = between_kernels(shown).items()
    assert step == BOTH
    assert (move.kind, move.test, move.place) == ("broke", "cgroups: memory", Place("crun", NEW))
    assert move.reason == "1 != 2"


def test_a_newer_runtime_that_fixes_and_gains() -> None:
    shown = grid(
        *over("runc-bullseye", CGROUPS, Outcome.FAIL, reason="known: a bug (https://a.bug)"),
        *over("runc-bullseye", EXEC, Outcome.UNSUPPORTED, reason="none"),
        *over("runc"), *over("runc", EXEC),
        *over("runc-sid"), *over("runc-sid", EXEC, Outcome.FAIL, reason="2"), *over("crun"),
    )  # fmt: skip
    moves = between_runtimes(shown)
    assert list(moves) == [("runc-bullseye", "runc"), ("runc", "runc-sid")]
    kinds = {step: {(move.kind, move.reason) for move in found} for step, found in moves.items()}
    assert kinds["runc-bullseye", "runc"] == {
        ("fixed", "a bug (https://a.bug)"),
        ("gained", "none"),
    }
    assert kinds["runc", "runc-sid"] == {("broke", "2")}
    page = conformance_page.write(shown, "")[conformance_page.PAGE]
    assert "- fixed: **cgroups: memory** (runc on all kernels): a bug" in page
    assert "runc-bullseye -> runc" in page


def test_what_only_reads_alike_is_told_apart() -> None:
    reason = "AssertionError: assert 0 == 1"
    shown = grid(
        *over("runc", CGROUPS, Outcome.FAIL, reason=reason),
        *over("runc", EXEC, Outcome.FAIL, reason=reason),
    )
    assert len(conformance_page.lines(shown, 100, Path())) == 2


def test_a_failure_of_each_kind_can_be_run_again(tmp_path: Path) -> None:
    (tmp_path / "failures").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "failures" / name).write_text("{}")
    shown = grid(
        cell(OLD, EXEC, Outcome.FAIL, runtime="runc", reason="no", replay="failures/a.json"),
        cell(NEW, EXEC, Outcome.FAIL, runtime="runc", reason="no", replay="failures/b.json"),
    )
    page = conformance_page.write(shown, "")[conformance_page.PAGE]
    assert "(runc on all kernels): no ([replay](replays/a.json))" in page
    again = f"  hostabi shell {OLD} --replay {tmp_path}/replays/a.json"
    assert conformance_page.lines(shown, 100, tmp_path)[1:] == [again]
    (tmp_path / "replays").mkdir()
    (tmp_path / "replays" / "old.json").write_text("{}")
    linked = [tmp_path / name for name in conformance_page.replays(shown)]
    publication.replays(tmp_path / "replays", linked)
    assert [path.name for path in (tmp_path / "replays").iterdir()] == ["a.json"]


def test_phrases() -> None:
    shown = grid(*over("runc"), *over("runc-sid"), *over("crun"))
    everywhere = {Place(name, build) for name in ("runc", "runc-sid") for build in BOTH}
    assert phrases.places(shown, everywhere) == "every runc on all kernels"
    assert phrases.places(shown, {Place("crun", OLD)}) == "crun on 5.10"
    also = everywhere | {Place("crun", OLD)}
    assert phrases.places(shown, also) == "every runc on all kernels; crun on 5.10"
    named = ["a: x[1]", "a: x[2]", "a: x[3]", "a: y", "b: z[1]", "b: z[2]"]
    assert phrases.titles(named) == "a: x (3 cases), y; b: z[1], z[2]"
    assert phrases.titles([f"a: {name}" for name in "abcd"], 2) == "a: a, b, 2 more"


def test_engines_come_after_runtimes_and_are_compared_with_their_own_kind() -> None:
    failing = over("podman", "conformance/test_engines.py::test_run", Outcome.FAIL, reason="no")
    shown = grid(*failing, *over("podman-sid", failing[0].test), *over("runc"), *over("crun"))
    assert shown.runtimes == ("runc", "crun", "podman", "podman-sid")
    [(step, moves)] = between_runtimes(shown).items()
    assert step == ("podman", "podman-sid")
    assert {move.kind for move in moves} == {"fixed"}
    both = {Place(name, NEW) for name in ("runc", "crun")}
    assert phrases.places(shown, both) == "every runtime on 6.1"


def test_test_by_test() -> None:
    shown = grid(*over("runc"), cell(OLD, CGROUPS, Outcome.UNSUPPORTED, runtime="crun"))
    page = conformance_page.write(shown, "")[conformance_page.TESTS]
    row = [part.strip() for part in page.splitlines()[-1].split("|")[1:4]]
    assert row[:2] == ["cgroups: memory", "pass"]
    assert row[2] == "n/a (- on 6.1)"


def test_the_readme_has_one_column_for_all_runtimes() -> None:
    shown = results(*over("runc"), *over("crun"), Finished("s", "2030-01-02", BOTH, 0))
    lines = readme.text(shown, [], "results/README.md").splitlines()
    heads = [part.strip() for part in lines[0].split("|")[1:-1]]
    assert heads == [
        "line",
        "build",
        "facts",
        "conformance, 2 runtimes and engines",
        "breaks to the next",
    ]
    assert "| 2 pass " in lines[2]


def test_what_payloads_were_refused() -> None:
    """Programs and runtimes are taken together; no profile and the oldest payload come first."""

    def ran(name: str, payload: str, profile: str, refused: str, runtime: str) -> TestCell:
        test = f"conformance/test_payloads.py::test_python[{payload}-{profile}]"
        measured = {"payload": payload, "profile": profile, "refused": refused}
        return TestCell("s", name, test, Outcome.PASS, runtime=runtime, measured=measured)

    shown = grid(
        ran(OLD, "sid", "bookworm", "vmsplice=EPERM", "runc"),
        ran(OLD, "sid", "none", "clone3=ENOSYS openat=EACCES", "runc"),
        ran(OLD, "sid", "none", "clone3=EPERM", "crun"),
        ran(NEW, "sid", "none", "", "runc"),
        ran(OLD, "bullseye", "sid", "statx=ENOSYS", "runc"),
        *over("runc"),
    )
    page = conformance_page.write(shown, "")[conformance_page.PAGE]
    table = page.partition("## What payloads were refused")[2].partition("##")[0]
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in table.splitlines()]
    assert [row for row in rows if len(row) == 5][2:] == [
        ["bullseye", "sid", "statx", "ENOSYS", "-"],
        ["sid", "none", "clone3", "ENOSYS, EPERM", ""],
        ["sid", "none", "openat", "EACCES", ""],
        ["sid", "bookworm", "vmsplice", "EPERM", "-"],
    ]
    assert (
        "What payloads were refused"
        not in conformance_page.write(grid(*over("runc")), "")[conformance_page.PAGE]
    )
