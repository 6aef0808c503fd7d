"""How many cases of a test were run, and for want of what the others were not.

A test whose every case needs what a kernel lacks runs nothing, and must not pass
for that. hypothesis calls the body of a test many times, so the sum is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Count:
    """The cases of one test."""

    asked: int = 0
    ran: int = 0
    lacking: set[str] = field(default_factory=set)

    @property
    def nothing(self) -> str:
        """Why nothing was run of what was asked; empty when something was."""
        if self.ran or not self.asked:
            return ""
        return f"no case could be run without {', '.join(sorted(self.lacking)) or 'two kernels'}"


_CURRENT: ContextVar[Count | None] = ContextVar("count", default=None)


@contextmanager
def counted() -> Iterator[Count]:
    """Count what is run inside."""
    count = Count()
    token = _CURRENT.set(count)
    try:
        yield count
    finally:
        _CURRENT.reset(token)


def note(*, asked: int, ran: int, lacking: Iterable[str] = ()) -> None:
    """Add cases to the sum, if somebody counts."""
    count = _CURRENT.get()
    if count is not None:
        count.asked += asked
        count.ran += ran
        count.lacking.update(lacking)
