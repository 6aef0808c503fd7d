"""The command line: help, exit codes, and errors a person can act on."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hostabi import cli
from hostabi.commands import context, run, shell, test
from hostabi.commands.context import Context
from hostabi.diff import captures
from hostabi.errors import HostabiError, InputError, MachineError, StorageError
from hostabi.model import Capture, Fact, Kind, Provenance, Variant
from hostabi.results.terminal import BarProgress, LineProgress
from hostabi.runs import bench
from hostabi.runs.guests import split_specs


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The cache is the user's: making the agent anew for each test takes a minute.
    monkeypatch.setenv("HOSTABI_RESULTS", str(tmp_path / "results"))


def capture(path: Path, build: str, *facts: Fact) -> Path:
    surfaces = {"sysctls": list(facts)}
    return captures.save(Capture(build, build, build, Variant(), Provenance("t"), surfaces), path)


@pytest.mark.parametrize("command", ["", *(c.__name__.rpartition(".")[2] for c in cli.COMMANDS)])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [command.rstrip("_")] if command else []
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert f"hostabi {command.rstrip('_')}".strip() in out.partition("examples:")[2]


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys; from hostabi import cli; cli.parser();"
        "print([m for m in ('httpx', 'pysequoia', 'cffi', 'qemu.qmp') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["run", "--jobs", "0"],
        ["run", "--jobs", "many"],
        ["run", "--accel", "magic"],
        ["diff", "--json", "--junit", "a", "b"],
    ],
)
def test_bad_usage_is_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no line 9.9", advice="known: 6.1"), 2),
        (StorageError("disk full", advice="free some"), 2),
        (MachineError("it hangs", advice="wait", console="last words"), 3),
        (HostabiError("no mirror answers"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "/x"), 2),
    ],
)
def test_errors_end_with_their_code_and_no_traceback(
    error: BaseException,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_options: argparse.Namespace, _context: Context) -> int:
        raise error

    monkeypatch.setattr("hostabi.commands.cache.size", fail)
    assert cli.main(["cache", "size"]) == code
    out = capsys.readouterr().err
    assert out.startswith("hostabi: ")
    assert "Traceback" not in out
    if isinstance(error, HostabiError) and error.advice:
        assert f"try: {error.advice}" in out
    if isinstance(error, MachineError):
        assert "| last words" in out


def test_common_options_work_before_and_after_the_command() -> None:
    for words in (["--jobs", "3", "cache", "size"], ["cache", "size", "--jobs", "3"]):
        options = cli.parser().parse_args(words)
        assert Context.of(options, LineProgress()).jobs == 3


def test_the_cache_option_reaches_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTABI_CACHE", "/before")
    options = cli.parser().parse_args(["--cache", str(tmp_path / "c"), "cache", "size"])
    Context.of(options, LineProgress())
    assert os.environ["HOSTABI_CACHE"] == str(tmp_path / "c")


def test_a_run_hands_on_to_the_suites_what_they_pair_kernels_with() -> None:
    words = ["run", "--short", "--runtime", "crun", "--engine", "podman", "--rootless", "with"]
    assert run._options(cli.parser().parse_args(words), ("6.1",)).arguments == (
        *("--short", "--runtime", "crun", "--engine", "podman", "--rootless", "with"),
    )


def test_kernels_are_split_at_commas_but_paths_are_not() -> None:
    assert split_specs(["6.1,5.10", "6.1", "./a.deb,./b.deb"]) == ("6.1", "5.10", "./a.deb,./b.deb")


def test_diff_of_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = capture(tmp_path / "old.json", "6.1", Fact("a#mode", 0o644), Fact("b", 1))
    new = capture(tmp_path / "new.json.zst", "6.12", Fact("b", 1), Fact("c", 2))
    assert cli.main(["diff", str(old), str(new)]) == 1
    assert "6.1 -> 6.12" in capsys.readouterr().out
    assert cli.main(["diff", str(old), str(old)]) == 0
    capsys.readouterr()
    assert cli.main(["diff", "--json", str(old), str(new)]) == 1
    (told,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert len(told["findings"]) == 2
    written = tmp_path / "out.xml"
    assert cli.main(["diff", "--junit", "-o", str(written), str(old), str(new)]) == 1
    assert b"<failure" in written.read_bytes()
    assert "6.1 -> 6.12" in capsys.readouterr().out
    assert cli.main(["diff", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "hostabi diff"


def test_files_are_compared_without_guests(tmp_path: Path) -> None:
    old = capture(tmp_path / "old.json", "6.1", Fact("b", 1))
    loaded = "import sys; from hostabi import cli; cli.main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded, "diff", str(old), str(old)],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = done.stdout.split()
    assert "hostabi.diff.verdict" in modules
    assert not {"hostabi.runs.guests", "hostabi.packages.context", "httpx"} & set(modules)


def test_diff_opens_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = capture(tmp_path / "old.json", "6.1", Fact("a#mode", 0o644), Fact("b", 1))
    new = capture(tmp_path / "new.json", "6.12", Fact("a#mode", 0o644))
    assert cli.main(["diff", str(old), str(new), "--open", "1"]) == 1
    assert "removed: The thing is gone." in capsys.readouterr().out
    assert cli.main(["diff", str(old), str(new), "--open", "nobody"]) == 2
    assert "first column" in capsys.readouterr().err


def test_diff_with_a_ledger_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = capture(tmp_path / "old.json", "6.1", Fact("b", 1))
    new = capture(tmp_path / "new.json", "6.12")
    own = tmp_path / "mine.toml"
    own.write_text(
        '[[cause]]\nboundary = "6.1 -> 6.12"\nreason = "we patched it away"\n'
        'citation = "https://example.org/1"\n'
        'facts = [{ surface = "sysctls", key = "b", old = 1 }]\n'
    )
    assert cli.main(["diff", str(old), str(new)]) == 1
    assert cli.main(["diff", str(old), str(new), "--ledger", str(own)]) == 0
    own.write_text(own.read_text().replace('"b"', '"c"'))
    assert cli.main(["diff", str(old), str(new), "--ledger", str(own)]) == 1
    assert "match nothing any more" in (told := capsys.readouterr().out)
    assert "sysctls:c." in told


def test_diff_of_one_surface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = capture(tmp_path / "old.json", "6.1", Fact("b", 1))
    new = capture(tmp_path / "new.json", "6.12")
    assert cli.main(["diff", str(old), str(new), "--surface", "sysctls"]) == 1
    assert cli.main(["diff", str(old), str(new), "--surface", "nets"]) == 2
    assert "another --surface" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["a.json"],
        ["--releases", "6.1", "6.12"],
        ["-o", "x", "a", "b"],
        ["--ledger", "none", "a", "b"],
    ],
)
def test_diff_of_nothing_that_can_be_compared(words: list[str]) -> None:
    assert cli.main(["diff", *words]) == 2


def test_diff_of_one_side_or_of_a_broken_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = capture(tmp_path / "old.json", "6.1", Fact("a", 1, Kind.DEFAULT))
    assert cli.main(["diff", str(old)]) == 2
    (tmp_path / "bad.json").write_text("{")
    assert cli.main(["diff", str(old), str(tmp_path / "bad.json")]) == 2
    assert "bad.json" in capsys.readouterr().err


def test_report_without_a_journal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 2
    assert "hostabi run" in capsys.readouterr().err


def test_a_run_into_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["run", "6.1", "--results", str(tmp_path / "file")]) == 2
    assert "cannot write journal" in capsys.readouterr().err


def test_exec_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["exec", "6.1"]) == 2
    assert "no command" in capsys.readouterr().err


def test_exec_on_the_running_kernel(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"typed\n")))
    assert cli.main(["exec", "running", "--", "/bin/sh", "-c", "cat; exit 7"]) == 7
    assert capfdbinary.readouterr().out == b"typed\n"


@pytest.mark.parametrize(
    "words",
    [
        ["exec", "6.1", "--flavour", "amd64", "--", "ls", "--all", "--", "x"],
        ["--flavour", "amd64", "exec", "6.1", "--", "ls", "--all", "--", "x"],
        ["exec", "6.1", "ls", "--flavour", "amd64", "--", "--all", "--", "x"],
    ],
)
def test_exec_takes_options_before_the_command(words: list[str]) -> None:
    options = cli._parse(words)
    assert options.flavour == "amd64"
    assert options.argv == ["ls", "--all", "--", "x"]


def test_words_after_the_dashes_are_pytests():
    options = cli._parse(["test", "selftest", "lint", "--", "-q", "-k", "journal"])
    assert options.environments == ["selftest", "lint"]
    assert options.arguments == ["-q", "-k", "journal"]


def test_words_after_the_dashes_are_refused_where_nobody_takes_them(capsys):
    with pytest.raises(SystemExit) as left:
        cli._parse(["doctor", "--", "surplus"])
    assert left.value.code == 2
    assert "surplus" in capsys.readouterr().err


def test_shell_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shell", "6.1"]) == 2
    assert "hostabi exec" in capsys.readouterr().err


def test_the_relay_copies_both_ways_until_the_escape() -> None:
    ours, guest = socket.socketpair()
    user, keys = pty.openpty()
    done = threading.Thread(target=shell.relay, args=(ours, keys, keys))
    with ours, guest, shell.raw_terminal(keys):
        done.start()
        guest.sendall(b"hello from the guest")
        assert os.read(user, 100) == b"hello from the guest"
        os.write(user, b"ls\r\x03" + shell.LEAVE + b"not this")
        assert guest.recv(100) == b"ls\r\x03"
        done.join(10)
        assert not done.is_alive()
    os.close(user)
    os.close(keys)


def test_the_default_tests_are_lint_selftest_and_two_kernels() -> None:
    plan = test.plan_of([], [], ["--accel", "tcg"])
    assert [name for name, _ in plan] == ["lint", "selftest", "suites-oldest", "suites-newest"]
    assert plan[-1][1] == ["--short", "--accel", "tcg"]
    assert test.plan_of(["suites-6.1"], ["-k", "x"], []) == [("suites-6.1", ["-k", "x"])]


def test_two_environments_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # each waits until the other has begun: one after the other they would wait in vain
    script = (
        "import pathlib, sys, time\n"
        "mine, other, code = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]\n"
        "mine.touch()\n"
        "until = time.monotonic() + 20\n"
        "while not other.exists() and time.monotonic() < until: time.sleep(0.01)\n"
        "print('out of', mine.name); print('err of', mine.name, file=sys.stderr)\n"
        "sys.exit(int(code) if other.exists() else 9)\n"
    )

    def argv(name: str, arguments: list[str]) -> list[str]:
        return [sys.executable, "-c", script, *arguments]

    monkeypatch.setattr(test, "_tox", argv)
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    steps = test._together([("a", [one, other, "0"]), ("b", [other, one, "1"])])
    assert [(step.name, step.code) for step in steps] == [("a", 0), ("b", 1)]
    told = capfd.readouterr()
    assert told.out.index("== a") < told.out.index("out of one")
    assert told.out.index("== b") < told.out.index("out of other")
    assert told.err == "err of one\n"


def test_the_summary_counts_what_failed() -> None:
    steps = [test.Step("lint", 0, 1.0), test.Step("selftest", 1, 2.0)]
    assert "selftest: FAILED (1)" in test.summary(steps)
    assert "1 failed, 1 passed" in test.summary(steps)
    assert "1 passed" in test.summary(steps[:1])


def test_progress_in_a_log_is_plain_lines() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    with progress.task("quick", total=3) as task:
        task.advance()
        task.note("x")
    progress.say("[a] line")
    assert stream.getvalue() == "[a] line\n"


def test_a_log_is_told_what_takes_long() -> None:
    stream = io.StringIO()
    told = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            told.set()
            return stream.write(text)

    progress = LineProgress(Stream(), silence=0.05)
    with progress.task("fetch x", total=2_000_000, unit="B") as task:
        task.advance(1_000_000)
        assert told.wait(10)
    assert stream.getvalue().startswith("fetch x: 1.0 of 2.0 MB, ")
    assert "so far" in stream.getvalue()


def test_progress_on_a_terminal_keeps_what_is_said() -> None:
    stream = io.StringIO()
    from rich.console import Console

    with BarProgress(Console(file=stream, force_terminal=True, width=80)) as progress:
        with progress.task("fetch", total=1000, unit="B") as task:
            task.advance(500)
            task.note("half")
        progress.say("[bracketed] line")
    assert "[bracketed] line" in stream.getvalue()


def test_defaults_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "hostabi.kernels.catalogue.default_lines", lambda _packages: ("5.10", "6.1")
    )
    packages = object()
    assert context.kernels_wanted([], packages) == ("5.10", "6.1")  # type: ignore[arg-type]
    assert context.kernels_wanted(["all", "6.2"], packages)[-1] == "6.2"  # type: ignore[arg-type]
    assert context.kernels_wanted(["6.2"], packages) == ("6.2",)  # type: ignore[arg-type]


def test_bars_leave_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """With standard output in a file, its text must not be drawn beside the bars."""
    from rich.console import Console

    screen = io.StringIO()
    with BarProgress(Console(file=screen, force_terminal=True, width=80)):
        sys.stdout.write("the result\n")
    assert capsys.readouterr().out == "the result\n"
    assert "the result" not in screen.getvalue()


def measures(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    def broken(_guests: object, _specs: object) -> list[bench.Figure]:
        raise MachineError("it does not boot")

    def fine(_guests: object, _specs: object) -> list[bench.Figure]:
        return [bench.Figure("fine", "6.1", value, "s", 1.0) for value in values]

    monkeypatch.setattr(bench, "MEASURES", {"broken": broken, "fine": fine})


@pytest.mark.parametrize(
    "case",
    [(["--only", "fine"], 0.5, 0), (["--only", "fine"], 2.0, 1), ([], 0.5, 3), ([], 2.0, 3)],
)
def test_bench_tells_every_part_whatever_becomes_of_the_others(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[list[str], float, int],
) -> None:
    words, value, code = case
    measures(monkeypatch, value)
    file = tmp_path / "figures.json"
    assert cli.main(["bench", "6.1", *words, "--json", str(file)]) == code
    out = capsys.readouterr().out
    assert ("FAILED  it does not boot" in out) == (not words)
    assert ("MISSED" in out) == (value > 1)
    assert [figure["value"] for figure in json.loads(file.read_text())] == [value]


def test_bench_knows_its_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measures(monkeypatch)
    assert cli.main(["bench", "6.1", "--only", "hot"]) == 2
    assert "there are broken, fine" in capsys.readouterr().err


def test_a_figure_is_good_on_the_right_side_of_its_goal() -> None:
    def good(value: float, *, higher: bool) -> bool:
        return bench.Figure("x", "6.1", value, "s", 1.0, higher=higher).good

    assert [good(value, higher=False) for value in (0.9, 1.0, 1.1)] == [True, True, False]
    assert [good(value, higher=True) for value in (0.9, 1.0, 1.1)] == [False, True, True]
