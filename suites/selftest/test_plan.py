"""A run: what it measures, what it reuses, and what a killed one leaves behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostabi.errors import InputError, MachineError, PackageError
from hostabi.kernels import local
from hostabi.model import Capture, Fact, Outcome, Provenance, Variant
from hostabi.packages.cache import Cache
from hostabi.packages.sources import Mirror
from hostabi.progress import SILENT, Silent
from hostabi.runs import capture, child, plan
from hostabi.runs import journal as journals
from hostabi.runs.capture import Taken
from hostabi.runs.guests import Guests
from hostabi.runs.journal import Journal
from hostabi.runs.records import Finished, StepError, TestCell, together

SPECS = ("5.10", "6.1", "7.3")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(journals.ENVIRONMENT, raising=False)
    # Sources that are edited while the tests run must not look like another hostabi.
    monkeypatch.setattr(journals.sources, "digest", lambda part: "the same")


def resolve(spec: str) -> SimpleNamespace:
    if spec == "0.1":
        raise PackageError("0.1 is gone")
    return SimpleNamespace(
        line=spec,
        name=f"{spec}.9-1~bpo13+1",
        release=spec,
        version=spec,
        flavour="cloud-amd64",
        suite="s",
        image="/nowhere",
        image_digest=spec,
        packages={},
    )


def take(_guests: Guests, build: SimpleNamespace) -> Taken:
    if build.line == "6.66":
        raise MachineError("it does not boot")
    facts = [Fact("a", 1), Fact("b", "two")]
    capture = Capture(
        build.name, build.line, build.release, Variant(), Provenance("t"), {"s": facts}
    )
    return Taken(capture, {}, None, 0.1)


def guests() -> Guests:
    packages = SimpleNamespace(cache=None)
    return Guests(packages, jobs=2, resolve=resolve, start=None)  # type: ignore[arg-type]


class Suite:
    """Stands in for pytest: records one passing cell for each kernel it is given."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.calls: list[list[str]] = []

    def __call__(self, _label: str, _folders: Sequence[str], arguments: Sequence[str]) -> int:
        self.calls.append(list(arguments))
        names = [arguments[at + 1] for at, word in enumerate(arguments) if word == "--kernel"]
        self.journal.append(
            TestCell(self.journal.session, together(names), "syscalls/t.py::t", Outcome.PASS)
        )
        return 0


def test_the_suites_get_what_the_run_was_given(tmp_path: Path) -> None:
    packages = SimpleNamespace(cache=None, mirror=Mirror("http://mirror.test/debian"))
    pool = Guests(packages, accel="tcg", resolve=resolve)  # type: ignore[arg-type]
    words = child.argv(pool, tmp_path / "j", "/builds", ["--short"], ["suites/syscalls"])
    text = " ".join(words)
    assert f"--journal {tmp_path / 'j'} --builds /builds --accel tcg" in text
    assert text.endswith("--mirror http://mirror.test/debian --short suites/syscalls")
    pool = Guests(packages, resolve=resolve)  # type: ignore[arg-type]
    assert "--accel auto" in " ".join(child.argv(pool, tmp_path, "", [], []))
    pool.accelerator = "tcg"
    assert "--accel tcg" in " ".join(child.argv(pool, tmp_path, "", [], []))
    assert child.environment(7)[child.PARENT] == str(os.getpid())


class Lines(Silent):
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[str, int | None]] = []
        self.done = 0

    @contextlib.contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Lines]:
        self.steps.append((label, total))
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def note(self, text: str) -> None:
        self.said.append(f"note: {text}")

    def say(self, text: str) -> None:
        self.said.append(text)


def test_the_suites_lines_become_progress(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = pytester.mkdir("suites") / "syscalls"
    suites.mkdir()
    (suites / "test_a.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_a(kernel, n): assert n\n"
        "def test_b(request):\n"
        "    from hostabi import pytest_plugin\n"
        "    pytest_plugin._progress(request.config).say('a word')\n"
        "    pytest.skip('why')\n"
    )
    monkeypatch.setattr(plan.resources, "suites", lambda: suites.parent)
    packages = SimpleNamespace(cache=None, mirror=Mirror())
    pool = Guests(packages, resolve=lambda _: local.running())  # type: ignore[arg-type]
    lines = Lines()
    with Journal.open(pytester.path / "j") as journal:
        journal.begin()
        options = plan.Options(("running",), suites=("syscalls",), captures=False)
        plan.Run(options, pool, journal, lines).execute()
    name = local.running().name
    assert lines.steps == [
        ("kernels", 1), (f"{name}: start of the suites", None), (f"{name}: suites", 4)
    ]  # fmt: skip
    assert [line for line in lines.said if line.startswith("note: a")] == [
        "note: a[0]", "note: a[1]", "note: a[2]"
    ]  # fmt: skip
    assert lines.done == 4 + 1
    said = [line for line in lines.said if not line.startswith("note: ")]
    assert said[0] == f"{name}: hostabi: a word"
    assert said[1].startswith(f"{name}: 1 failed, 2 passed, 1 skipped in ")
    assert len(said) == 2


def test_builds_are_handed_over_whole(tmp_path: Path) -> None:
    build = local.running()
    descriptor = child.hand_over({build.name: build})
    assert child.handed(Path(f"/proc/self/fd/{descriptor}")) == {build.name: build}
    os.close(descriptor)
    (tmp_path / "bad").write_text('{"a": 1}')
    for name in ("bad", "absent"):
        with pytest.raises(InputError, match=f"{name}: no builds can be read"):
            child.handed(tmp_path / name)


def test_the_suites_do_not_look_kernels_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real child: its build is known to the parent only."""
    (tmp_path / "suites" / "syscalls").mkdir(parents=True)
    (tmp_path / "suites" / "syscalls" / "test_a.py").write_text(
        "def test_a(kernel): assert kernel.release == 'made-up'"
    )
    monkeypatch.setattr(plan.resources, "suites", lambda: tmp_path / "suites")
    build = dataclasses.replace(local.running(), name="6.1.9-1", release="made-up")
    packages = SimpleNamespace(cache=None, mirror=Mirror("http://mirror.test/debian"))
    pool = Guests(packages, resolve=lambda _: build)  # type: ignore[arg-type]
    with Journal.open(tmp_path / "j") as journal:
        journal.begin()
        options = plan.Options(("6.1",), suites=("syscalls",), captures=False)
        report = plan.Run(options, pool, journal, SILENT).execute()
    assert not report.failed
    cells = journals.read(tmp_path / "j").cells()
    assert [(key.build, cell.outcome) for key, cell in cells.items()] == [("6.1.9-1", Outcome.PASS)]


def test_the_suites_end_when_their_run_is_gone(pytester: pytest.Pytester) -> None:
    """Also when it was killed before they could ask to be told."""
    pytester.makepyfile("def test_a(kernel): pass")
    journal = pytester.path / "j"
    with Journal.open(journal) as parent:
        environment = {**child.environment(parent.descriptor), child.PARENT: "1"}
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "--journal", str(journal)],
            env=environment,
            pass_fds=[parent.descriptor],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "the run that started these suites is gone" in ended.stderr


def test_one_build_by_two_names_is_measured_once(tmp_path: Path) -> None:
    packages = SimpleNamespace(cache=None)
    pool = Guests(packages, resolve=lambda _: resolve("6.1"))  # type: ignore[arg-type, return-value]
    with Journal.open(tmp_path / "j") as journal:
        journal.begin()
        suite = Suite(journal)
        options = plan.Options(("6.1", "6.1.9-1"))
        report = plan.Run(options, pool, journal, SILENT, suite=suite, take=take).execute()
    assert (len(report.builds), len(report.captured), len(suite.calls)) == (1, 1, 1)


def test_a_capture_of_this_machine_has_its_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that follow the hardware must not be compared with those of a guest."""
    hello = SimpleNamespace(cpus=24, memory=64 << 30)
    build = local.running()
    pool = guests()
    monkeypatch.setattr(
        pool, "agent", lambda _: contextlib.nullcontext(SimpleNamespace(hello=hello, requests=1))
    )
    pool.packages.cache = Cache(Path("/nowhere"))  # type: ignore[misc]
    surface = SimpleNamespace(
        name="s", variants=(), possible=lambda _: True, capture=lambda _: [Fact("a", 1)]
    )
    taken = capture.take(pool, build, [surface])
    assert (taken.capture.variant.cpus, taken.capture.variant.memory) == (24, 64 << 10)


def execute(
    path: Path,
    specs: Sequence[str] = SPECS,
    take: Callable[[Guests, SimpleNamespace], Taken] = take,
) -> tuple[plan.Report, Suite]:
    with Journal.open(path) as journal:
        journal.begin()
        suite = Suite(journal)
        one = plan.Run(
            plan.Options(tuple(specs)), guests(), journal, SILENT, suite=suite, take=take
        )
        report = one.execute()
        one.finish(0)
        return report, suite


def test_each_kernel_is_captured_and_tested_and_then_all_together(tmp_path: Path) -> None:
    report, suite = execute(tmp_path / "j")
    assert [build.line for build in report.builds] == list(SPECS)
    assert sorted(report.captured) == ["5.10.9-1~bpo13+1", "6.1.9-1~bpo13+1", "7.3.9-1~bpo13+1"]
    assert not report.failed
    assert len(suite.calls) == 4
    assert suite.calls[-1].count("--kernel") == 3
    assert "only" in suite.calls[-1]
    contents = journals.read(tmp_path / "j")
    assert len(list(contents.of(Finished))) == 1
    assert (tmp_path / "captures" / "6.1.9-1~bpo13+1.json.zst").is_file()


def test_a_second_run_captures_nothing_again(tmp_path: Path) -> None:
    execute(tmp_path / "j")
    report, suite = execute(tmp_path / "j")
    assert sorted(report.reused) == ["5.10.9-1~bpo13+1", "6.1.9-1~bpo13+1", "7.3.9-1~bpo13+1"]
    assert not report.captured
    assert not suite.calls


def test_a_capture_in_which_a_surface_failed_is_taken_again(tmp_path: Path) -> None:
    def partly(guests: Guests, build: SimpleNamespace) -> Taken:
        failed = {"sysctls": MachineError("it died")}
        return dataclasses.replace(take(guests, build), failed=failed)

    report, _ = execute(tmp_path / "j", ["6.1"], partly)
    assert report.failed == {"6.1.9-1~bpo13+1: sysctls": "it died"}
    report, _ = execute(tmp_path / "j", ["6.1"])
    assert (len(report.captured), report.reused, report.failed) == (1, [], {})
    report, _ = execute(tmp_path / "j", ["6.1"])
    assert (report.captured, len(report.reused)) == ([], 1)


def test_a_run_over_other_kernels_or_with_errors_runs_the_suites_again(tmp_path: Path) -> None:
    execute(tmp_path / "j")
    with Journal.open(tmp_path / "j") as journal:
        session = journal.begin()
        journal.append(TestCell(session, "6.1.9-1~bpo13+1", "syscalls/t.py::t", Outcome.ERROR))
    _, suite = execute(tmp_path / "j", ["5.10", "6.1"])
    assert [words[:2] for words in suite.calls] == [
        ["--kernel", "6.1.9-1~bpo13+1"],
        ["--lockstep", "only"],
    ]


def test_what_fails_for_one_kernel_leaves_the_others_whole(tmp_path: Path) -> None:
    report, _ = execute(tmp_path / "j", ["0.1", "6.66", "6.1"])
    assert report.failed == {
        "0.1: fetch": "0.1 is gone",
        "6.66.9-1~bpo13+1: capture": "it does not boot",
    }
    assert report.captured == ["6.1.9-1~bpo13+1"]
    steps = {(step.build, step.step) for step in journals.read(tmp_path / "j").of(StepError)}
    assert steps == {("0.1", "fetch"), ("6.66.9-1~bpo13+1", "capture")}
    assert plan.exit_code(report, journals.read(tmp_path / "j"), 0) == 3


@pytest.mark.parametrize(
    ("outcomes", "breaks", "code"),
    [
        ([], 0, 0),
        ([Outcome.PASS, Outcome.UNSUPPORTED], 0, 0),
        ([Outcome.PASS, Outcome.FAIL], 0, 1),
        ([Outcome.PASS], 2, 1),
        ([Outcome.FAIL, Outcome.ERROR], 1, 3),
    ],
)
def test_exit_codes(outcomes: list[Outcome], breaks: int, code: int) -> None:
    cells = [
        TestCell("s", "6.1.9-1~bpo13+1", str(at), outcome) for at, outcome in enumerate(outcomes)
    ]
    report = plan.Report(builds=[resolve("6.1")])  # type: ignore[list-item]
    known = TestCell("s", "6.1.9-1~bpo13+1", "known", Outcome.FAIL, reason="known: a bug")
    assert plan.exit_code(report, journals.Contents((known, *cells)), breaks) == code


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_plan
from hostabi.progress import SILENT
from hostabi.runs import capture, child, plan
from hostabi.runs import journal as journals
from hostabi.runs.journal import Journal
import threading

journals.sources.digest = lambda part: "the same"

class Blocking(test_plan.Suite):
    def __call__(self, label, folders, arguments):
        super().__call__(label, folders, arguments)
        print("one suite is done", flush=True)
        threading.Event().wait()

journal = Journal.open(Path(sys.argv[2]))
journal.begin()
run = plan.Run(plan.Options(("6.1",)), test_plan.guests(), journal, SILENT,
               suite=None, take=test_plan.take)
run._suite = Blocking(journal)
run.execute()
"""


def test_a_run_killed_in_the_middle_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED,
         str(Path(__file__).parent), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "one suite is done\n"
        child.send_signal(signal.SIGKILL)
    contents = journals.read(path)
    assert len(contents.cells()) == 1
    assert not list(contents.of(Finished))
    report, _ = execute(path, ["6.1"])
    assert report.reused == ["6.1.9-1~bpo13+1"]
    assert not report.captured
