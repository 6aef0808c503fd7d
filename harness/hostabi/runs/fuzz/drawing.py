"""The programs of a seed, drawn beside the guests' work; the same every time."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from hostabi.agent.program import Program, Report
from hostabi.syscalls.builder import Built
from hostabi.syscalls.cases import Case

Strategy = SearchStrategy[Sequence[Case]]
"""Draws some cases at a time, as an example of hypothesis costs more than a case in it."""

CHUNK = 128
"""Programs of one chunk."""
EARLIER = -1
"""The number of a chunk that was not drawn: programs that earlier finds are shown by."""
_AHEAD = 2
"""Chunks that are drawn before anybody wants them."""


_MOUNTING = frozenset(
    (
        *("mount", "umount2", "move_mount", "open_tree", "fsmount", "mount_setattr"),
        *("pivot_root", "unshare", "setns", "open_tree_attr", "chroot"),
    )
)
"""Calls after which the table of mounts is worth a look."""


class _EnoughError(BaseException):
    """Ends drawing. Not an Exception, so that hypothesis lets it pass."""


@dataclass(frozen=True)
class Chunk:
    """Programs number ``number`` of a seed, for the sandbox of that name."""

    number: int
    sandbox: str
    cases: tuple[Case, ...]


def draw(strategy: Strategy, seed: int, count: int = CHUNK) -> tuple[Case, ...]:
    """``count`` cases: the same for the same seed, whatever was drawn before."""
    drawn: list[Sequence[Case]] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=count + 1,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(cases: Sequence[Case]) -> None:
        drawn.append(cases)
        if sum(map(len, drawn[1:])) >= count:
            raise _EnoughError

    with suppress(_EnoughError):
        collect()
    # the first example is the simplest one, which all seeds have
    return tuple(chain.from_iterable(drawn[1:]))[:count]


def chunk(strategies: Mapping[str, Strategy], seed: int, number: int) -> Chunk:
    """One chunk of a seed; the sandboxes take turns."""
    names = list(strategies)
    name = names[number % len(names)]
    own = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return Chunk(number, name, draw(strategies[name], int.from_bytes(own[:8], "big")))


@contextmanager
def chunks(strategies: Mapping[str, Strategy], seed: int, start: int) -> Iterator[Iterator[Chunk]]:
    """Chunks from number ``start`` on without end, drawn in a thread of their own."""
    ready: queue.Queue[Chunk | BaseException] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def offer(what: Chunk | BaseException) -> None:
        while not ended.is_set():
            try:
                ready.put(what, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        number = start
        try:
            while not ended.is_set():
                offer(chunk(strategies, seed, number))
                number += 1
        except BaseException as error:
            offer(error)

    def taken() -> Iterator[Chunk]:
        while True:
            got = ready.get()
            if isinstance(got, BaseException):
                raise got
            yield got

    worker = threading.Thread(target=work, name="draw", daemon=True)
    worker.start()
    try:
        yield taken()
    finally:
        ended.set()
        worker.join()


def messages(cases: Sequence[Case], most: int) -> Iterator[tuple[int, Sequence[Case]]]:
    """The cases in parts of at most ``most``, each with the index of its first."""
    for first in range(0, len(cases), most):
        yield first, cases[first : first + most]


def reporting(built: Built) -> Built:
    """The program, told to say what it leaves, its mounts too if it may have changed them."""
    mounting = any(step.name in _MOUNTING for step in built.steps)
    report = Report.MOUNTS if mounting else Report.STATE
    if built.program.report is report:
        return built
    program: Program = replace(built.program, report=report)
    return replace(built, program=program)
