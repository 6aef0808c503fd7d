"""How many random programs lockstep runs a second, beside what the guests alone could do.

Both are measured in the same guests, one after the other. Where others use the machine
too, seconds say little: so the note also has the processor time that a program costs,
here and in the guests.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.agent.program import Call, Program, Sandbox
from hostabi.runs.figure import Figure
from hostabi.runs.fuzz import MESSAGE, Fuzz, Plan
from hostabi.runs.fuzz_records import Records
from hostabi.runs.fuzz_sandboxes import OWN
from hostabi.runs.fuzz_team import Team
from hostabi.syscalls.descriptions.programs import programs
from hostabi.syscalls.table import C, number

if TYPE_CHECKING:
    from hostabi.runs.guests import Guests

_SECONDS = 10.0
_GOALS = (
    ("bare", Sandbox(timeout=0.5), 100.0),
    ("namespaces", Sandbox(namespaces=OWN | C.CLONE_NEWUSER, timeout=0.5), 40.0),
    ("network", Sandbox(namespaces=OWN | C.CLONE_NEWUSER | C.CLONE_NEWNET, timeout=0.5), 15.0),
)
"""A bare child, fresh user, mount, pid, ipc, uts and cgroup namespaces, and a network too."""
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Spent:
    """Processor seconds so far, and the time."""

    host: float
    guests: float
    now: float

    @classmethod
    def read(cls) -> _Spent:
        """Of this process and of its children, which are the emulators."""
        return cls(time.process_time(), sum(map(_ticks, _children())), time.perf_counter())


def _children() -> list[str]:
    own = Path(f"/proc/{os.getpid()}/task")
    return [pid for task in own.iterdir() for pid in (task / "children").read_text().split()]


def _ticks(pid: str) -> float:
    """User and system seconds of a process: fields 14 and 15 of /proc/pid/stat, proc(5)."""
    with suppress(OSError):
        fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK
    return 0.0


def fuzz(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """Programs a second of ``hostabi fuzz``, drawn, run, and compared with what they left."""
    figures = []
    with (
        tempfile.TemporaryDirectory(prefix="hostabi-bench-") as folder,
        Team(guests, {spec: spec for spec in specs}) as team,
    ):
        for name, sandbox, goal in _GOALS:
            plan = Plan(
                seed=1,
                sandboxes={name: sandbox},
                strategies={name: programs(sandbox=sandbox)},
                lines={},
                folder=Path(folder),
                curious=False,
            )
            with Records(Path(folder) / "journal.jsonl") as records:
                made = Fuzz(team, plan, records, guests.packages.cache)
                bound = _bound(made, sandbox)
                before = _Spent.read()
                made.run(_SECONDS)
                after = _Spent.read()
            count = max(made.count.programs, 1)
            host = (after.host - before.host) / count
            inside = (after.guests - before.guests) / count
            rate = count / (after.now - before.now)
            free = len(os.sched_getaffinity(0)) / max(host + inside, 1e-9)
            note = (
                f"on {len(specs)} kernels; the guests alone {bound:.0f}; processor time of one "
                f"{host * 1e3:.1f} ms here, {inside * 1e3:.1f} ms there: {free:.0f}/s alone here"
            )
            figures.append(
                Figure(f"fuzz {name}", "all", rate, "programs/s", goal, higher=True, note=note)
            )
    return figures


def _bound(made: Fuzz, sandbox: Sandbox) -> float:
    """Programs a second of ten calls that say nothing, of one message sent over and over."""
    message = [Program(calls=(Call(number("getppid")),) * 10)] * MESSAGE
    made.lockstep.run(message, sandbox)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS / 2:
        count += len(made.lockstep.run(message, sandbox))
    return count / (time.perf_counter() - began)
