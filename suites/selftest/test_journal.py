"""The journal: append-only, locked, and safe to resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hostabi.errors import InputError, StorageError
from hostabi.model import SCHEMA, Outcome
from hostabi.oci import deviations
from hostabi.oci.deviations import Deviation
from hostabi.runs import journal as journals
from hostabi.runs import sources
from hostabi.runs.journal import Journal
from hostabi.runs.records import CaptureDone, CellKey, Session, TestCell

DIGEST = sources.digest


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(journals.ENVIRONMENT, raising=False)
    # Sources that are edited while the tests run must not look like another hostabi.
    monkeypatch.setattr(sources, "digest", lambda part: "the same")


def cell(session: str, test: str, outcome: Outcome = Outcome.PASS) -> TestCell:
    return TestCell(session, "6.1.1-1", test, outcome)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    with Journal.open(path) as journal:
        session = journal.begin(accelerator="tcg", arguments=["run"])
        journal.append(cell(session, "a"))
    contents = journals.read(path)
    assert [type(record) for record in contents.records] == [Session, TestCell]
    assert next(contents.of(Session)).process == os.getpid()
    assert contents.cells()[CellKey("6.1.1-1", "a")].outcome is Outcome.PASS


def test_errors_are_repeated_and_nothing_else(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as journal:
        session = journal.begin()
        for outcome in Outcome:
            journal.append(cell(session, outcome.value, outcome))
    with Journal.open(tmp_path / "j") as journal:
        known = {outcome for outcome in Outcome if journal.has(CellKey("6.1.1-1", outcome.value))}
    assert known == set(Outcome) - {Outcome.ERROR}


def test_results_of_another_source_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(tmp_path / "j") as journal:
        journal.append(cell(journal.begin(), "a"))
    monkeypatch.setattr(sources, "digest", lambda part: "another")
    with Journal.open(tmp_path / "j") as journal:
        assert not journal.has(CellKey("6.1.1-1", "a"))


def test_an_edited_file_of_tests_is_run_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited, left = "syscalls/test_files.py::a", "syscalls/test_pipes.py::a"
    with Journal.open(tmp_path / "j") as journal:
        session = journal.begin()
        for test in (edited, left):
            journal.append(cell(session, test))
    monkeypatch.setattr(sources, "digest", lambda part: "new" * ("files" in part) or "the same")
    with Journal.open(tmp_path / "j") as journal:
        assert journal.has(CellKey("6.1.1-1", left))
        assert not journal.has(CellKey("6.1.1-1", edited))


def test_results_of_a_short_session_are_not_reused_by_a_full_one(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j", short=True) as journal:
        journal.append(cell(journal.begin(), "a"))
    with Journal.open(tmp_path / "j", short=True) as journal:
        assert journal.has(CellKey("6.1.1-1", "a"))
    with Journal.open(tmp_path / "j") as journal:
        assert not journal.has(CellKey("6.1.1-1", "a"))


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        journal.append(cell(journal.begin(), "a"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:30])
    assert journals.read(path).torn == whole[:30]
    with Journal.open(path) as journal:
        assert "30 bytes of a last record" in journal.damage
        journal.append(cell("s", "b"))
    assert [item.test for item in journals.read(path).of(TestCell)] == ["a", "b"]


def test_a_record_torn_in_the_middle_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        journal.append(cell(journal.begin(), "a"))
        with path.open("ab") as child:  # killed in the middle of its record
            child.write(b'{"record":"cell","ses')
        journal.append(cell("s", "b"))
        journal.append(cell("s", "c"))
    contents = journals.read(path)
    assert [item.test for item in contents.of(TestCell)] == ["a", "b", "c"]
    assert (contents.torn, contents.skipped) == (b"", 1)
    with Journal.open(path) as journal:
        assert "1 lines that are no records" in journal.damage


@pytest.mark.parametrize(
    "line",
    [b"hello", b"{}", b'{"record":"future"}', b'{"record":"cell","session":1}', b"\xff\xfe", b"[]"],
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(line + b"\n")
    with pytest.raises(InputError, match="line 1"):
        Journal.open(path)
    assert path.read_bytes() == line + b"\n"


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        journal.begin()
    record = json.loads(path.read_text())
    record["schema"] = SCHEMA + 1
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match=f"schema {SCHEMA + 1}"):
        Journal.open(path)


def test_two_runs_at_once_get_a_clear_error(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as journal:
        journal.begin()
        with pytest.raises(InputError, match=f"another run .process {os.getpid()}."):
            Journal.open(tmp_path / "j")
    Journal.open(tmp_path / "j").close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write journal"):
        Journal.open(tmp_path / "file" / "j")


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with Journal.open(tmp_path / "j") as journal:
        session = journal.begin()
        before = journal.path.read_bytes()
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(StorageError, match="No space"):
            journal.append(cell(session, "a"))
    assert journal.path.read_bytes() == before


def test_a_device_is_not_a_journal() -> None:
    with pytest.raises(InputError, match="not a regular file"):
        Journal.open(Path("/dev/null"))


CHILD = """
import sys
from pathlib import Path
from hostabi.runs.journal import Journal
from hostabi.runs.records import TestCell
journal = Journal.open(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    journal.append(TestCell("c", "6.1.1-1", f"child {number}", "pass"))
"""


def test_children_write_under_their_parents_lock(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        session = journal.begin()
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), "200"],
            env={**os.environ, journals.ENVIRONMENT: str(journal.descriptor)},
            pass_fds=[journal.descriptor],
        )
        for number in range(200):
            journal.append(cell(session, f"parent {number}"))
        assert child.wait(60) == 0
        assert len(journal.contents().cells()) == 400


def test_children_go_by_their_parents_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(tmp_path / "j") as journal:
        journal.append(cell(journal.begin(), "a"))
        monkeypatch.setenv(journals.ENVIRONMENT, str(journal.descriptor))
        monkeypatch.setattr(sources, "digest", lambda part: "edited meanwhile")
        child = Journal.open(tmp_path / "j")
        assert child.has(CellKey("6.1.1-1", "a"))
        assert child.digests == journal.digests


def test_a_descriptor_of_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "j").touch()
    monkeypatch.setenv(journals.ENVIRONMENT, "0")
    with pytest.raises(InputError, match="not an open descriptor"):
        Journal.open(tmp_path / "j")


def test_what_is_recorded_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "j"
    program = CHILD + "print('written', flush=True)\nimport signal; signal.pause()\n"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path), "3"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
    assert len(list(journals.read(path).of(TestCell))) == 3
    Journal.open(path).close()


def test_a_capture_counts_only_while_its_file_is_unharmed(tmp_path: Path) -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of "hello"
    (tmp_path / "c").write_text("hello")
    with Journal.open(tmp_path / "j") as journal:
        journal.append(CaptureDone(journal.begin(), "6.1.1-1", "c", digest, 5))
    with Journal.open(tmp_path / "j", short=True) as journal:
        assert journal.capture("6.1.1-1") == tmp_path / "c"
        assert journal.capture("5.10.1-1") is None
        (tmp_path / "c").write_text("hellO")
        assert journal.capture("6.1.1-1") is None
        (tmp_path / "c").unlink()
        assert journal.capture("6.1.1-1") is None


def test_the_digest_goes_over_every_file_that_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(part: str = sources.OTHER) -> str:
        DIGEST.cache_clear()
        return DIGEST(part)

    for name in ("suites", "agent", "kernels"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sources.resources, "suites", lambda: tmp_path / "suites")
    monkeypatch.setattr(sources.resources, "agent_sources", lambda: tmp_path / "agent")
    monkeypatch.setattr(sources.resources, "kernels", lambda: tmp_path / "kernels")
    seen = [digest()]
    for name in ("suites/cases.toml", "agent/table.inc", "suites/syscalls/expected.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        assert digest() not in seen
        seen.append(digest())
    for name in ("suites/__pycache__/a.pyc", "suites/selftest/t.py", "suites/.hypothesis/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        assert digest() == seen[-1]
    (tmp_path / "suites/conformance").mkdir()
    engines = "conformance/test_engines.py"
    for file in (engines, "conformance/test_a.py"):
        (tmp_path / "suites" / file).touch()
    parts = (sources.CAPTURES, *sources.SUITES, *sources.files_of("conformance"))
    before = {part: digest(part) for part in parts}
    for name, decides in (
        ("suites/conformance/t.py", {"conformance"}),
        ("suites/conformance/test_a.py", {"conformance/test_a.py"}),
        ("suites/conformance/coverage.toml", set()),
        ("kernels/runtimes.toml", {"conformance"}),
        ("kernels/engines.toml", {engines}),
        ("agent/probe_report.c", {"conformance"}),
        ("suites/syscalls/t.py", {"syscalls"}),
        ("agent/program.c", {sources.CAPTURES, *sources.SUITES}),
    ):
        (tmp_path / name).write_text("x")
        changed = {part for part, known in before.items() if digest(part) != known}
        assert changed == decides, name
        before = {part: digest(part) for part in before}
    DIGEST.cache_clear()


def test_runs_of_several_sources_make_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source, test in (("old", "syscalls/a"), ("new", "conformance/b")):
        monkeypatch.setattr(sources, "digest", lambda part, source=source: source)
        with Journal.open(tmp_path / "j") as journal:
            journal.append(cell(journal.begin(), test))
    contents = journals.read(tmp_path / "j")
    assert contents.latest() == {"syscalls": "old", "conformance": "new"}
    kept = contents.since(contents.latest())
    assert {key.test for key in kept.cells()} == {"syscalls/a", "conformance/b"}
    assert {key.test for key in contents.since(sources.digests()).cells()} == {"conformance/b"}


def test_a_failure_is_known_by_the_deviations_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Deviation("conformance/test_a.py::test_x", "a bug", "https://a", ("crun",), case="r-w")
    monkeypatch.setattr(deviations, "known", lambda: (one,))

    def known(test: str, outcome: Outcome = Outcome.FAIL, runtime: str = "crun") -> bool:
        made = TestCell(
            "s", "6.1.1-1", f"conformance/test_a.py::{test}", outcome, runtime, reason="no"
        )
        (found,) = journals.Contents((made,)).cells().values()
        return found.known

    assert known("test_x[r-w]")
    assert known("test_x[all-r-w]")
    assert not known("test_x[r-wx]")
    assert not known("test_x")
    assert not known("test_x[r-w]", Outcome.PASS)
    assert not known("test_x[r-w]", runtime="runc")
