"""One look at a build: booted as its surfaces need it, under given hardware, and measured.

A capture is made of several looks; see :mod:`hostabi.runs.capture`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hostabi.errors import HostabiError
from hostabi.kernels.identity import is_running
from hostabi.kernels.static import Static
from hostabi.model import Cgroup, Fact, Variant
from hostabi.surfaces import registry
from hostabi.surfaces.source import Source, Surface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostabi.agent.client import Agent
    from hostabi.kernels.build import Build
    from hostabi.machine.machine import Machine
    from hostabi.runs.guests import Guests


@dataclasses.dataclass
class Look:
    """What was seen, and how. ``variant`` is how the last machine was booted."""

    variant: Variant
    facts: dict[str, list[Fact]] = dataclasses.field(default_factory=dict)
    asked: set[str] = dataclasses.field(default_factory=set)
    """Surfaces that asked a running kernel."""
    failed: dict[str, HostabiError] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """By surface."""
    machine: Machine | None = None

    def add(self, measured: registry.Measured) -> None:
        """Take in what one source told."""
        self.facts.update(measured.surfaces)
        self.asked |= measured.asked
        self.failed.update(measured.failed)
        self.seconds.update(measured.seconds)

    def merge(self, other: Look) -> None:
        """Take in what was seen of other surfaces in another boot."""
        self.facts |= other.facts
        self.asked |= other.asked
        self.failed |= other.failed
        self.seconds |= other.seconds
        self.machine = self.machine or other.machine


@dataclasses.dataclass(frozen=True)
class Looker:
    """Takes looks at one build. Safe for several threads."""

    guests: Guests
    build: Build
    static: Static

    @classmethod
    def at(cls, guests: Guests, build: Build) -> Looker:
        """Ready to look; the image is read once for all looks."""
        return cls(guests, build, Static(build, guests.packages.cache, guests.packages))

    def still(self, surfaces: Sequence[Surface], variant: Variant) -> Look:
        """What the image tells; nothing is booted."""
        look = Look(variant)
        label = f"{self.build.name}: capture"
        source = Source(None, self.static, variant)
        look.add(registry.measure(source, surfaces, self.guests.progress, label))
        return look

    def here(self, surfaces: Sequence[Surface]) -> Look:
        """What the kernel we are on tells an unprivileged process."""
        with self.guests.agent(self.build) as agent:
            look = Look(here(agent))
            source = Source(agent, self.static, look.variant)
            label = f"{self.build.name}: capture"
            look.add(registry.measure(source, surfaces, self.guests.progress, label))
        return look

    def boot(
        self,
        surfaces: Sequence[Surface],
        variant: Variant,
        *,
        cold: bool = False,
        label: str = "capture",
        booted: threading.Event | None = None,
        later: Callable[[], Sequence[Surface]] = tuple,
    ) -> Look:
        """Boot once and measure ``surfaces``, then those that ``later`` gives.

        ``booted`` is set when there is a machine, or when there will be none.
        Raises MachineError when the build cannot be booted so.
        """
        look = Look(variant)
        with _set_at_last(booted), self.guests.machine(self.build, variant, cold=cold) as machine:
            # surfaces load modules and try every syscall: nobody else's guest afterwards
            self.guests.spoil(machine)
            if booted is not None:
                booted.set()
            look.machine = machine
            source = Source(machine.agent, self.static, variant)
            name = f"{self.build.name}: {label}"
            look.add(registry.measure(source, surfaces, self.guests.progress, name))
            if rest := later():
                look.add(registry.measure(source, rest, self.guests.progress, name))
        return look

    @property
    def running(self) -> bool:
        """Whether the build is the kernel we are on, which cannot be booted otherwise."""
        return is_running(self.build.name)


@dataclasses.dataclass(frozen=True)
class Boot:
    """Surfaces that look at one machine, and how it is booted.

    ``own`` is one that only these surfaces need: where it fails, the others have theirs.
    """

    variant: Variant
    surfaces: tuple[Surface, ...]
    own: bool


def boots(surfaces: Sequence[Surface], hardware: Variant) -> list[Boot]:
    """How a build is booted for these surfaces, as often as that takes.

    ``hardware`` gives RAM and CPUs, and what is booted where any boot will do. Surfaces that have
    modules loaded are kept apart from those that look at the kernel as it comes.
    """
    groups: dict[tuple[Variant, bool], list[Surface]] = {}
    for surface in surfaces:
        wanted = {registry.needs(variant): variant for variant in surface.variants}
        chosen = hardware
        if wanted and registry.needs(hardware) not in wanted:
            chosen = replace(
                next(iter(wanted.values())), cpus=hardware.cpus, memory=hardware.memory
            )
        groups.setdefault((chosen, registry.loads(surface)), []).append(surface)
    return [
        Boot(variant, tuple(chosen), own=loads or variant != hardware)
        for (variant, loads), chosen in groups.items()
    ]


def other_hardware(variant: Variant) -> Variant:
    """The twin's: another amount of RAM and another number of CPUs, and all else the same."""
    return replace(
        variant,
        cpus=1 if variant.cpus > 1 else 2,
        memory=1024 if variant.memory == 512 else 512,
    )


def here(agent: Agent) -> Variant:
    """How the machine we are on is booted, as far as facts depend on it."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Variant(
        cgroup=Cgroup.V2 if unified else Cgroup.V1,
        cpus=agent.hello.cpus,
        memory=agent.hello.memory >> 20,
    )


@contextmanager
def _set_at_last(event: threading.Event | None) -> Iterator[None]:
    try:
        yield
    finally:
        if event is not None:
            event.set()
