"""A bound on the time that goes into making a failure smaller.

A failing example is one of a batch, and every step of shrinking runs a batch.
So hypothesis may take minutes over what was found in a second. Within
:func:`bounded` the smallest failure so far is raised once the time is up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

SECONDS = 10.0
"""From the first failure to the last try at a smaller one."""


class EnoughError(BaseException):
    """The time is up. Not an Exception, so that hypothesis lets it pass."""


@dataclass
class _Search:
    """What was found so far; ``size`` is that of the smallest failure."""

    until: float
    size: int
    smallest: AssertionError


@dataclass
class _Budget:
    seconds: float
    search: _Search | None = None


_CURRENT: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """Raise the smallest failure inside when ``seconds`` have passed since the first one."""
    budget = _Budget(seconds)
    token = _CURRENT.set(budget)
    try:
        yield
    except EnoughError:
        assert budget.search is not None
        raise budget.search.smallest from None
    finally:
        _CURRENT.reset(token)


def failed(error: AssertionError, size: int) -> AssertionError:
    """Note a failure of a program of ``size`` calls; returns it, to be raised."""
    budget = _CURRENT.get()
    if budget is not None:
        if budget.search is None:
            budget.search = _Search(time.monotonic() + budget.seconds, size, error)
        elif size < budget.search.size:
            budget.search.size, budget.search.smallest = size, error
    return error


def check() -> None:
    """Before a batch is run: raises EnoughError when the time is up."""
    budget = _CURRENT.get()
    if budget is not None and budget.search is not None and time.monotonic() > budget.search.until:
        raise EnoughError
