"""Guests that take turns: as many work at a time as there are CPUs, each on its own.

Six emulated guests that share two CPUs cost each other their caches: a program takes twice
the CPU time then that it takes alone. So guests are dealt out to lanes, and in one lane one
works after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def cpus() -> tuple[int, ...]:
    """The CPUs that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def pin(pid: int, index: int) -> None:
    """Keep all threads of a process on the CPU of the lane that guest number ``index`` is in.

    A virtual CPU and the thread that serves its devices wake each other all the time, which
    is dear between two CPUs. A process that has ended meanwhile, or may not be moved, is left.
    """
    own = cpus()
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), {own[index % len(own)]})


class Lanes:
    """Work for numbered guests: that of one lane is done in the order in which it is given."""

    def __init__(self) -> None:
        self._workers = [
            ThreadPoolExecutor(1, thread_name_prefix=f"hostabi-lane-{cpu}") for cpu in cpus()
        ]

    def submit(self, index: int, work: Callable[[], T]) -> Future[T]:
        """Have work done in the lane of guest number ``index``."""
        return self._workers[index % len(self._workers)].submit(work)
