"""How many random programs lockstep runs a second, beside what the guests alone could do.

Both are measured in the same guests, one after the other: where others use the machine
too, only their ratio says something.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.agent.program import Call, Program, Sandbox
from hostabi.runs.figure import Figure
from hostabi.runs.fuzz.journal import FILE, Records
from hostabi.runs.fuzz.plan import Plan
from hostabi.runs.fuzz.sandboxes import OWN
from hostabi.runs.fuzz.sitting import MESSAGE, Fuzz
from hostabi.runs.fuzz.team import Team
from hostabi.syscalls.descriptions.programs import programs
from hostabi.syscalls.table import C, number

if TYPE_CHECKING:
    from hostabi.runs.guests import Guests

_SECONDS = 10.0
_START = 1 << 10
"""The first chunk that is measured; those that warm up are before it."""
_GOALS = (
    ("bare", Sandbox(timeout=0.5), 100.0),
    ("namespaces", Sandbox(namespaces=OWN | C.CLONE_NEWUSER, timeout=0.5), 40.0),
    ("network", Sandbox(namespaces=OWN | C.CLONE_NEWUSER | C.CLONE_NEWNET, timeout=0.5), 15.0),
)
"""A bare child, fresh user, mount, pid, ipc, uts and cgroup namespaces, and a network too."""


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
            with Records(Path(folder) / FILE) as records:
                cache = guests.packages.cache
                # the first programs make each guest load what later ones find loaded
                Fuzz(team, plan, records, cache).run(_SECONDS)
                made = Fuzz(team, replace(plan, start=_START), records, cache)
                first = _bound(made, sandbox)
                rate = made.run(_SECONDS).rate
                bound = (first + _bound(made, sandbox)) / 2
            note = (
                f"on {len(specs)} kernels; the guests alone {bound:.0f}, of which this is "
                f"{rate / bound:.0%}"
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
    while time.perf_counter() - began < _SECONDS / 4:
        count += len(made.lockstep.run(message, sandbox))
    return count / (time.perf_counter() - began)
