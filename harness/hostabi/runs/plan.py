"""A whole run: fetch, boot, capture and test every kernel, and all of them in lockstep.

Kernels are worked on side by side, ``jobs`` at a time, while later ones are
still being fetched. Each result is in the journal before the next is begun, so
a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi import resources
from hostabi.errors import HostabiError
from hostabi.model import Outcome
from hostabi.progress import Progress, Task
from hostabi.runs import capture, child
from hostabi.runs import journal as journals
from hostabi.runs.guests import Guests
from hostabi.runs.journal import Journal
from hostabi.runs.records import Finished, StepError, SuitesDone, members, together

if TYPE_CHECKING:
    from hostabi.kernels.build import Build

SUITES = ("syscalls", "conformance", "surfaces")
"""The suites of a run, in the order they are run in; selftest is about the harness."""


@dataclass(frozen=True)
class Options:
    """What a run measures. ``arguments`` are handed on to pytest."""

    specs: tuple[str, ...]
    suites: tuple[str, ...] = SUITES
    captures: bool = True
    lockstep: bool = True
    arguments: tuple[str, ...] = ()


@dataclass
class Report:
    """What a run did and what it found in the journal."""

    builds: list[Build] = field(default_factory=list)
    captured: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be found out, by kernel and step."""


Suite = Callable[[str, Sequence[str], Sequence[str]], int]
"""Runs pytest with (what to call it, folders, arguments) and returns its exit code."""

_NAME = 40
"""Columns for the name of a test beside a bar."""

_CELL = re.compile(r"(?:.*::(\S+) )?.*\[ *(\d+)/(\d+)\]")
"""The line pytest writes for each test: its name, how it ended, and how many have."""

_STARTING = re.compile(r".*::.*|collect(?:ing|ed) .*|=+ test session starts =+")
"""What else it writes that says nothing: a test that has begun, and the collection's lines."""


class Run:
    """One run over ``options``; :meth:`execute` does it."""

    def __init__(
        self,
        options: Options,
        guests: Guests,
        journal: Journal,
        progress: Progress,
        *,
        suite: Suite | None = None,
        take: Callable[[Guests, Build], capture.Taken] = capture.take,
    ) -> None:
        self.options = options
        self.guests = guests
        self.journal = journal
        self.progress = progress
        self.report = Report()
        self._suite = suite or self._pytest
        self._take = take
        self._children: set[subprocess.Popen[str]] = set()
        self._stopping = False

    def execute(self) -> Report:
        """Do everything that the journal does not have. Raises KeyboardInterrupt when stopped."""
        fetchers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="fetch")
        workers = ThreadPoolExecutor(
            max_workers=max(1, self.guests.jobs), thread_name_prefix="measure"
        )
        with self.progress.task("kernels", total=len(self.options.specs)) as task:
            try:
                builds = self._overlapped(fetchers, workers, task)
            except BaseException:
                self._stop()
                raise
            finally:
                fetchers.shutdown(wait=True, cancel_futures=True)
                workers.shutdown(wait=True, cancel_futures=True)
        order = {spec: number for number, spec in enumerate(self.options.specs)}
        self.report.builds = [builds[spec] for spec in sorted(builds, key=order.__getitem__)]
        if self.options.lockstep and len(self.report.builds) > 1 and self.options.suites:
            self._step("all", "lockstep", lambda: self._run_lockstep(self.report.builds))
        return self.report

    def finish(self, exit_code: int) -> None:
        """Record that the run came to its end."""
        names = tuple(build.name for build in self.report.builds)
        self.journal.append(Finished(self.journal.session, journals.now(), names, exit_code))

    def _overlapped(
        self, fetchers: ThreadPoolExecutor, workers: ThreadPoolExecutor, task: Task
    ) -> dict[str, Build]:
        """Fetch and measure at the same time; the builds that could be had, by spec."""
        fetching = {fetchers.submit(self.guests.build, spec): spec for spec in self.options.specs}
        measuring: list[Future[None]] = []
        builds: dict[str, Build] = {}
        for future in as_completed(fetching):
            spec = fetching[future]
            try:
                builds[spec] = future.result()
            except HostabiError as error:
                self._fail(spec, "fetch", error)
                task.advance()
                continue
            if [build.name for build in builds.values()].count(builds[spec].name) > 1:
                self.progress.say(f"{spec} is {builds[spec].name}, which is measured already")
                del builds[spec]
                task.advance()
                continue
            measuring.append(workers.submit(self._measure, builds[spec], task))
        for done in as_completed(measuring):
            done.result()
        return builds

    def _measure(self, build: Build, task: Task) -> None:
        task.note(build.name)
        if self.options.captures:
            self._step(build.name, "capture", lambda: self._capture(build))
        if self.options.suites:
            self._step(build.name, "suites", lambda: self._run_suites(build))
        task.advance()

    def _capture(self, build: Build) -> None:
        if self.journal.capture(build.name):
            self.report.reused.append(build.name)
            self.progress.say(f"{build.name}: its capture is in {self.journal.path} already")
            return
        taken = self._take(self.guests, build)
        capture.record(self.journal, build, taken)
        self.report.captured.append(build.name)
        for surface, error in taken.failed.items():
            self._fail(build.name, surface, error)
        facts = sum(len(facts) for facts in taken.capture.surfaces.values())
        self.progress.say(f"{build.name}: {facts} facts captured in {taken.seconds:.1f} s")

    def _run_suites(self, build: Build) -> None:
        arguments = ["--kernel", build.name, "--lockstep", "without", "--jobs", "1"]
        self._through(build.name, build.name, arguments)

    def _run_lockstep(self, builds: Sequence[Build]) -> None:
        self.guests.close_idle()  # their memory is needed by the machines in lockstep
        arguments = ["--lockstep", "only"]
        for build in builds:
            arguments += ["--kernel", build.name]
        self._through("lockstep", together(build.name for build in builds), arguments)

    def _through(self, label: str, name: str, arguments: Sequence[str]) -> None:
        """Run the suites, unless they went through before and left nothing to repeat."""
        folders = self._folders()
        given = (*self.options.suites, *self.options.arguments, *arguments)
        contents = self.journal.contents().since(self.journal.digests)
        errors = any(
            cell.outcome is Outcome.ERROR and key.build == name
            for key, cell in contents.cells().items()
        )
        done = {(record.build, record.arguments) for record in contents.of(SuitesDone)}
        if (name, given) in done and not errors:
            self.progress.say(f"{label}: the suites' results are in {self.journal.path} already")
            return
        code = self._suite(label, folders, arguments)
        # A failing test is in the journal; anything else means that the suites did not run.
        if code not in (0, 1, 5):
            raise HostabiError(
                f"{label}: pytest ended with {code}", advice="its output above says why"
            )
        self.journal.append(SuitesDone(self.journal.session, name, given))

    def _folders(self) -> list[str]:
        base = resources.suites()
        return [str(base / name) for name in self.options.suites if (base / name).is_dir()]

    def _pytest(self, label: str, folders: Sequence[str], arguments: Sequence[str]) -> int:
        """Run pytest as a child that writes into our journal and dies with us."""
        builds = child.hand_over(self.guests.resolved)
        descriptor = self.journal.descriptor
        try:
            process = subprocess.Popen(
                child.argv(
                    self.guests,
                    self.journal.path,
                    f"/proc/self/fd/{builds}",
                    [*self.options.arguments, *arguments],
                    folders,
                ),
                cwd=Path.cwd(),
                env=child.environment(descriptor),
                pass_fds=[descriptor, builds],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        finally:
            os.close(builds)
        self._children.add(process)
        if self._stopping:
            process.terminate()
        try:
            assert process.stdout is not None
            self._follow(label, process.stdout)
            return process.wait()
        finally:
            self._children.discard(process)

    def _follow(self, label: str, output: Iterable[str]) -> None:
        """Turn pytest's line for each test into progress, and say the others."""
        done = 0
        with ExitStack() as steps:
            task = steps.enter_context(self.progress.task(f"{label}: start of the suites"))
            for line in map(str.strip, output):
                if cell := _CELL.fullmatch(line):
                    if not done:
                        steps.close()
                        name, total = f"{label}: suites", int(cell[3])
                        task = steps.enter_context(self.progress.task(name, total=total))
                    task.advance(int(cell[2]) - done)
                    done = int(cell[2])
                    task.note(_name(cell[1] or "", label))
                elif line and not _STARTING.fullmatch(line):
                    self.progress.say(f"{label}: {line.strip(' =')}")

    def _stop(self) -> None:
        """End the suites' processes and our guests; what was recorded stays recorded."""
        self._stopping = True
        self.guests.abort()
        for process in list(self._children):
            process.terminate()

    def _step(self, name: str, step: str, action: Callable[[], None]) -> None:
        if self._stopping:
            return
        try:
            action()
        except HostabiError as error:
            self._fail(name, step, error)

    def _fail(self, name: str, step: str, error: HostabiError) -> None:
        if self._stopping:
            return
        self.report.failed[f"{name}: {step}"] = error.message
        self.journal.append(StepError(self.journal.session, name, step, error.message))
        self.progress.say(f"{name}: {step} failed: {error}")


def _name(test: str, kernel: str) -> str:
    """A test's name, short, for the kernel stands before it already."""
    name = test.removeprefix("test_").replace(f"[{kernel}]", "").replace(f"[{kernel}-", "[")
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def exit_code(report: Report, contents: journals.Contents, open_breaks: int) -> int:
    """3 when something could not be found out, else 1 for a break or a new failure, else 0."""
    names = {build.name for build in report.builds}
    cells = [cell for key, cell in contents.cells().items() if members(key.build) <= names]
    if report.failed or any(cell.outcome is Outcome.ERROR for cell in cells) or not names:
        return 3
    if open_breaks or any(cell.outcome is Outcome.FAIL and not cell.known for cell in cells):
        return 1
    return 0
