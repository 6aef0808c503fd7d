"""Capture a build: boot it as its surfaces need it, and keep the facts as one file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.diff import captures
from hostabi.errors import HostabiError
from hostabi.kernels.identity import is_running
from hostabi.kernels.static import Static
from hostabi.model import Capture, Cgroup, Fact, Variant
from hostabi.runs.guests import Guests
from hostabi.runs.journal import Journal
from hostabi.runs.provenance import provenance, used
from hostabi.runs.records import CaptureDone, SurfaceError
from hostabi.surfaces import registry
from hostabi.surfaces.source import Source, Surface

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.kernels.build import Build
    from hostabi.machine.machine import Machine

VARIANT = Variant(cpus=2)
"""How a build is booted for surfaces that accept any boot: with one CPU,
affinity and cpuset facts would stay invisible."""


@dataclass(frozen=True)
class Taken:
    """A capture, what could not be captured, the machine it ran on, and how many seconds."""

    capture: Capture
    failed: dict[str, HostabiError]
    machine: Machine | None
    seconds: float


def take(
    guests: Guests,
    build: Build,
    surfaces: Sequence[Surface] = registry.ALL,
    *,
    static: bool = False,
) -> Taken:
    """Capture ``build``; ``static`` boots nothing and captures what the image tells.

    A surface that fails leaves the others whole. Raises MachineError when the
    build cannot be booted at all.
    """
    began = time.monotonic()
    facts: dict[str, list[Fact]] = {}
    failed: dict[str, HostabiError] = {}
    machine: Machine | None = None
    booted = VARIANT
    for variant, chosen in _by_variant(surfaces).items():
        with ExitStack() as stack:
            agent = None
            if is_running(build.name) and not static:
                agent = stack.enter_context(guests.agent(build))
                booted = here(agent)
            elif not static:
                machine = stack.enter_context(guests.machine(build, variant))
                # surfaces load modules and try every syscall: nobody else's guest afterwards
                guests.spoil(machine)
                agent = machine.agent
            source = Source(agent, Static(build, guests.packages.cache), variant)
            label = f"{build.name}: capture"
            measured = registry.measure(source, chosen, guests.progress, label)
            facts.update(measured.surfaces)
            failed.update(measured.failed)
    capture = Capture(
        build=build.name,
        line=build.line,
        release=build.release,
        variant=booted,
        provenance=provenance(build, machine),
        surfaces=dict(sorted(facts.items())),
    )
    return Taken(capture, failed, machine, time.monotonic() - began)


def here(agent: Agent) -> Variant:
    """How the machine we are on is booted, as far as facts depend on it."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Variant(
        cgroup=Cgroup.V2 if unified else Cgroup.V1,
        cpus=agent.hello.cpus,
        memory=agent.hello.memory >> 20,
    )


def record(journal: Journal, build: Build, taken: Taken) -> Path:
    """Save a capture beside the journal and record it there. Returns the file."""
    relative = Path("captures") / f"{build.name}.json.zst"
    path = captures.save(taken.capture, journal.path.parent / relative)
    journal.append(used(journal.session, build, taken.machine))
    for surface, error in taken.failed.items():
        journal.append(SurfaceError(journal.session, build.name, surface, error.message))
    journal.append(
        CaptureDone(
            session=journal.session,
            build=build.name,
            file=str(relative),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            facts=sum(len(facts) for facts in taken.capture.surfaces.values()),
            seconds=round(taken.seconds, 2),
        )
    )
    return path


def _by_variant(surfaces: Sequence[Surface]) -> dict[Variant, list[Surface]]:
    """Surfaces by how they need the build booted, as few boots as that takes."""
    groups: dict[Variant, list[Surface]] = {}
    for surface in surfaces:
        fits = not surface.variants or VARIANT in surface.variants
        groups.setdefault(VARIANT if fits else surface.variants[0], []).append(surface)
    return groups
