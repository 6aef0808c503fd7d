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
    def advance(self, amount: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class LineProgress:
    """One line when a long step has ended, nothing for a short one."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """Time a step."""
        began = time.monotonic()
        yield _LineStep()
        seconds = time.monotonic() - began
        if seconds >= _QUIET:
            size = f" {total / 1e6:.1f} MB," if total and unit == "B" else ""
            self.say(f"{label}:{size} {seconds:.1f} s")

    def say(self, text: str) -> None:
        """Print one line."""
        with self._mutex:
            self._stream.write(f"{text}\n")
            self._stream.flush()


def progress() -> BarProgress | LineProgress:
    """What suits standard error: bars on a terminal, else lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def width(stream: TextIO | None = None) -> int:
    """Columns to fill: the terminal's, or 100 in a log."""
    return Console(file=stream or sys.stdout).width if sys.stdout.isatty() else 100


_: type[Progress] = BarProgress
_ = LineProgress
