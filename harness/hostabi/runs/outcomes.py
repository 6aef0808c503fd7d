"""Who is to blame for a test that did not pass: the kernel (fail) or the harness (error)."""

from __future__ import annotations

import hypothesis.errors
import pytest

from hostabi.errors import CallError, HostabiError, MachineError
from hostabi.model import Outcome

UNSUPPORTED = "unsupported: "
"""How the reason of a skip begins when a kernel or runtime lacks what a test needs."""


class TestDeadlineError(BaseException):
    """A test took longer than its deadline.

    Not an Exception, so that hypothesis gives up at once instead of trying to
    shrink the wait.
    """

    __test__ = False


def judge(error: BaseException) -> Outcome:
    """The outcome of a test whose body raised ``error``.

    What a test asserts, and a call that the kernel under test refuses, speaks
    about the kernel. A guest that died, a deadline, a package that could not be
    had, or a bug in the test itself does not.
    """
    if isinstance(error, BaseExceptionGroup):
        parts = {judge(part) for part in error.exceptions}
        return Outcome.ERROR if Outcome.ERROR in parts else Outcome.FAIL
    if isinstance(error, (AssertionError, pytest.fail.Exception, CallError)):
        return Outcome.FAIL
    if isinstance(error, hypothesis.errors.Flaky):
        return Outcome.FAIL
    if isinstance(error, pytest.skip.Exception):
        return Outcome.UNSUPPORTED
    return Outcome.ERROR


def guest_lost(error: BaseException) -> bool:
    """Whether the machine that the test used must not be used again."""
    if isinstance(error, BaseExceptionGroup):
        return any(guest_lost(part) for part in error.exceptions)
    return isinstance(error, (MachineError, TestDeadlineError))


def reason(error: BaseException) -> str:
    """One line about ``error`` for a table."""
    text = error.message if isinstance(error, HostabiError) else str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    name = type(error).__name__
    if isinstance(error, pytest.skip.Exception):
        return first.removeprefix(UNSUPPORTED)
    return (f"{name}: {first}" if first else name)[:300]
