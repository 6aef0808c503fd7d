"""A difference seen again: in guests that nothing ran in, and by a C program on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hostabi.agent.program import Ran, Sandbox, Scratch
from hostabi.errors import HostabiError, MachineError
from hostabi.runs.fuzz.causes import STATE, Spot, spot
from hostabi.runs.fuzz.shrinker import refused, sides
from hostabi.runs.fuzz.witness import witness
from hostabi.runs.lockstep import Lockstep
from hostabi.runs.reproduce import run_one
from hostabi.surfaces.reproducers import Language, Needs, Reproducer
from hostabi.syscalls import printers
from hostabi.syscalls.builder import Built
from hostabi.syscalls.state import lines

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.packages.cache import Cache
    from hostabi.runs.fuzz.team import Team

TIMES = 3
"""Fresh guests of each side in which a difference has to come again."""
_PATIENCE = 4
"""How much longer than usual a program may take there."""


@dataclass(frozen=True)
class Confirmed:
    """How often it came again; the C program, and what that exited with on each side.

    ``tried`` counts the guests that answered: one that it brought down tells nothing yet.
    """

    times: int
    tried: int
    text: str = ""
    exits: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


def confirm(
    team: Team, cache: Cache, built: Built, sandbox: Sandbox, found: Spot, *, times: int = TIMES
) -> Confirmed:
    """Try a program in freshly restored guests, and as a C program in the last of them."""
    names = sides(found)
    # a program that is slow in a guest that has just begun does not differ
    sandbox = replace(sandbox, timeout=sandbox.timeout * _PATIENCE)
    came, tried, text, exits, note = 0, 0, "", dict[str, int](), ""
    for turn in range(times):
        try:
            with team.beside(names) as agents:
                together = Lockstep(agents)
                shown = _shown(together, built, sandbox, found)
                tried += 1
                came += shown is not None
                if shown is not None and turn == times - 1:
                    text = shown.to_c()
                    exits = _run(agents, shown, text, cache)
                    note = "" if exits else "no call shows what was left"
        except MachineError as error:
            note = error.message
        except HostabiError as error:
            note = f"no C program: {error.message}"
    return Confirmed(came, tried, text, exits, note)


@dataclass(frozen=True)
class _Shown:
    """The program that tells two kernels apart, and what each did; ``names`` in their order."""

    built: Built
    sandbox: Sandbox
    names: tuple[str, ...]
    rans: Mapping[str, Ran]
    visible: bool = True

    def to_c(self) -> str:
        """The C program: exits 0 on the first kernel and 1 on the second."""
        told = tuple((name, self.rans[name]) for name in self.names)
        return printers.to_c(self.built, sandbox=self.sandbox, sides=told) if self.visible else ""


def _shown(together: Lockstep, built: Built, sandbox: Sandbox, found: Spot) -> _Shown | None:
    """What shows the difference in these guests; None when it did not come again."""
    names = sides(found)
    (rans,) = together.run([built.program], sandbox)
    if refused(rans.values()):
        return None
    place = spot(built, rans)
    wanted = Spot(
        found.kind,
        found.call,
        found.syscall,
        {name: found.outcomes[name] for name in names},
        found.item,
    )
    if place is None or not place.same_as(wanted):
        return None
    if found.kind != STATE:
        return _Shown(built, sandbox, names, rans)
    texts = [set(lines(ran.state)) for ran in rans.values()]
    for line in sorted(set.symmetric_difference(*texts)):
        longer = witness(built, line)
        if longer is None:
            continue
        (rans,) = together.run([longer.program], sandbox)
        place = spot(longer, rans)
        if place is not None and place.call is not None and place.call >= len(built.steps):
            return _Shown(longer, sandbox, names, rans)
    return _Shown(built, sandbox, names, rans, visible=False)


def _run(agents: Mapping[str, Agent], shown: _Shown, text: str, cache: Cache) -> dict[str, int]:
    """What the C program exits with on each kernel."""
    if not text:
        return {}
    needs = frozenset({Needs.EXT4} if shown.sandbox.scratch is Scratch.EXT4 else ())
    program = Reproducer(Language.C, text, needs=needs)
    return {name: run_one(agents[name], program, cache) for name in shown.names}
