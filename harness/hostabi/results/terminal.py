"""Progress as a person sees it: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.progress import Task as BarTask
from rich.text import Text

from hostabi.progress import Progress, Task

_QUIET = 2.0
"""Seconds that a step may take before its end is worth a line in a log."""

_SILENCE = 8.0
"""Seconds without a line after which a log is told what is going on."""

_AT_ONCE = 3
"""Steps in such a line, the newest ones."""


class _Amount(ProgressColumn):
    """Bytes for downloads, ``3/6`` for counted steps, nothing for the rest."""

    _bytes = DownloadColumn()
    _count = MofNCompleteColumn()

    def render(self, task: BarTask) -> Text:
        """The amount of one task."""
        if task.total is None:
            return Text("")
        return (self._bytes if task.fields.get("unit") == "B" else self._count).render(task)


class _BarStep:
    def __init__(self, bars: Bars, identity: TaskID) -> None:
        self._bars = bars
        self._identity = identity

    def advance(self, amount: int = 1) -> None:
        self._bars.advance(self._identity, amount)

    def note(self, text: str) -> None:
        self._bars.update(self._identity, note=text)


class BarProgress:
    """Bars at the bottom of a terminal, and lines that stay above them."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Amount(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            # What goes to a file or a pipe must not end up on the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """One bar, gone when the step ends."""
        identity = self._bars.add_task(label, total=total, unit=unit, note="")
        try:
            yield _BarStep(self._bars, identity)
        finally:
            self._bars.remove_task(identity)

    def say(self, text: str) -> None:
        """Print one line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _LineStep:
    """A step, and how far it is."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.began = time.monotonic()
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._note = ""

    def advance(self, amount: int = 1) -> None:
        self._done += amount

    def note(self, text: str) -> None:
        self._note = text

    def ended(self) -> str:
        """The line when the step is over."""
        size = f" {self._total / 1e6:.1f} MB," if self._total and self._unit == "B" else ""
        return f"{self._label}:{size} {time.monotonic() - self.began:.1f} s"

    def running(self) -> str:
        """The line while it goes on."""
        if self._total and self._unit == "B":
            amount = f" {self._done / 1e6:.1f} of {self._total / 1e6:.1f} MB,"
        else:
            amount = f" {self._done} of {self._total}," if self._total else ""
        note = f" {self._note}," if self._note else ""
        return f"{self._label}:{amount}{note} {time.monotonic() - self.began:.0f} s so far"


class LineProgress:
    """One line when a long step has ended, nothing for a short one.

    While steps are open and no line comes for a while, a line tells what goes
    on: whoever reads the log is not left to guess whether it hangs.
    """

    def __init__(self, stream: TextIO | None = None, *, silence: float = _SILENCE) -> None:
        self._stream = stream or sys.stderr
        self._silence = silence
        self._changed = threading.Condition()
        self._open: list[_LineStep] = []
        self._watching = False
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """Time a step."""
        step = _LineStep(label, total, unit)
        with self._changed:
            # What came before is no reason to tell of a step that has just begun.
            self._spoke = max(self._spoke, step.began - self._silence + _QUIET)
            self._open.append(step)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="progress", daemon=True).start()
        ended = False
        try:
            yield step
            ended = True
        finally:
            with self._changed:
                self._open.remove(step)
                if ended and time.monotonic() - step.began >= _QUIET:
                    self._write(step.ended())
                self._changed.notify_all()

    def say(self, text: str) -> None:
        """Print one line."""
        with self._changed:
            self._write(text)

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()
        self._spoke = time.monotonic()

    def _watch(self) -> None:
        with self._changed:
            while self._open:
                left = self._spoke + self._silence - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    self._write("; ".join(step.running() for step in self._open[-_AT_ONCE:]))
            self._watching = False


def progress() -> BarProgress | LineProgress:
    """What suits standard error: bars on a terminal, else lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def width(stream: TextIO | None = None) -> int:
    """Columns to fill: the terminal's, or 100 in a log."""
    return Console(file=stream or sys.stdout).width if sys.stdout.isatty() else 100


_: type[Progress] = BarProgress
_ = LineProgress
