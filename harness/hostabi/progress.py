"""How long work tells what it does, without knowing who listens.

The lower layers take a :class:`Progress` and report to it; the command line
decides whether that becomes bars on a terminal or plain lines in a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running step."""

    def advance(self, amount: int = 1) -> None:
        """``amount`` more units are done."""

    def note(self, text: str) -> None:
        """Say in a few words what is going on inside the step."""


class Progress(Protocol):
    """Where steps are announced. Safe to call from several threads."""

    def task(
        self, label: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]:
        """Open a step of ``total`` units (``unit`` is "B" for bytes); it ends with the block."""

    def say(self, text: str) -> None:
        """Print one line that should stay."""


class _SilentTask:
    def advance(self, amount: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Silent:
    """A :class:`Progress` that tells nobody."""

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield _SilentTask()

    def say(self, text: str) -> None:
        pass


SILENT: Progress = Silent()
