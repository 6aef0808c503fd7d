"""What a sitting of lockstep is to do, and what it has done so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostabi.agent.program import Sandbox
from hostabi.runs.fuzz.causes import Known
from hostabi.runs.fuzz.confirmation import TIMES
from hostabi.runs.fuzz.drawing import Strategy
from hostabi.runs.fuzz.journal import Found


@dataclass
class Count:
    """What was done so far in a sitting."""

    programs: int = 0
    calls: int = 0
    fresh: int = 0
    known: Counter[str] = field(default_factory=Counter)
    unsteady: int = 0
    broken: int = 0
    spoilt: int = 0
    """Guests in which a program left no room for others."""
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the sitting began."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Programs a second, each on all kernels."""
        return self.programs / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        rate = f"{self.rate:.1f} programs/s, {self.calls / max(self.seconds, 1e-9):.0f} calls/s"
        return (
            f"{self.programs} programs, {rate}, differences: {self.fresh} new, "
            f"{len(self.known)} known ({self.known.total()} times)"
        )


@dataclass(frozen=True)
class Plan:
    """What a sitting does. ``strategies`` by the name of a sandbox; ``lines`` by kernel."""

    seed: int
    sandboxes: Mapping[str, Sandbox]
    strategies: Mapping[str, Strategy]
    lines: Mapping[str, str]
    folder: Path
    start: int = 0
    """The chunk to go on with."""
    known: Sequence[Known] = ()
    before: Sequence[Found] = ()
    """What earlier sittings found on these kernels."""
    examples: Sequence[Found] = ()
    """What they found on any, whose programs are run before new ones are drawn."""
    times: int = TIMES
    curious: bool = True
    """Whether differences are looked into, not just counted."""
