"""Capture a build: look at it on two kinds of hardware, settle what moves, keep the facts.

The first look has the hardware that the capture is for. Its twin has other RAM
and CPUs, another boot, and the surfaces in the other order. Where they differ,
a third look, a boot from power-on with the first one's hardware, tells what
follows the hardware from what moves by itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.diff import captures
from hostabi.diff.settle import doubtful, settle
from hostabi.errors import HostabiError, MachineError
from hostabi.model import Capture, Fact, Kind, Provenance, Variant
from hostabi.runs.journal import Journal
from hostabi.runs.looks import Boot, Look, Looker, boots, other_hardware
from hostabi.runs.provenance import provenance, used
from hostabi.runs.records import CaptureDone, SurfaceError
from hostabi.surfaces import registry
from hostabi.surfaces.source import Source, Surface

if TYPE_CHECKING:
    from hostabi.kernels.build import Build
    from hostabi.machine.machine import Machine
    from hostabi.runs.guests import Guests

VARIANT = Variant(cpus=2)
"""How a build is booted for surfaces that accept any boot: with one CPU,
affinity and cpuset facts would stay invisible."""

TWIN = "twin"
"""Under this name a capture tells why it has no twin."""


@dataclass(frozen=True)
class Taken:
    """A capture, what could not be captured, the machine it ran on, and how many seconds."""

    capture: Capture
    failed: dict[str, HostabiError]
    """By surface, or :data:`TWIN`."""
    machine: Machine | None
    seconds: float
    by_surface: dict[str, float] = field(default_factory=dict)
    """Seconds that the first look took."""


def take(
    guests: Guests,
    build: Build,
    surfaces: Sequence[Surface] = registry.ALL,
    *,
    static: bool = False,
    twin: bool = True,
    hardware: Variant = VARIANT,
) -> Taken:
    """Capture ``build``; ``static`` boots nothing and captures what the image tells.

    Without ``twin`` one look has to do, and kinds are what the surfaces say. A
    surface that fails leaves the others whole, and so does a twin. Raises
    MachineError when the build cannot be booted at all.
    """
    began = time.monotonic()
    looker = Looker.at(guests, build)
    if static:
        looks = Looks(looker.still(surfaces, hardware))
    elif looker.running:
        looks = _here(looker, surfaces, twin=twin)
    else:
        looks = _booted(looker, surfaces, hardware, twin=twin)
    source = provenance(build, looks.first.machine)
    capture = assembled(build.name, build.line, build.release, looks, source)
    seconds = time.monotonic() - began
    return Taken(capture, looks.failed, looks.first.machine, seconds, looks.first.seconds)


@dataclass
class Looks:
    """The looks at one build that make a capture."""

    first: Look
    twin: Look | None = None
    third: Look | None = None
    failure: HostabiError | None = None
    """Why there is no twin, or no third look."""

    @property
    def failed(self) -> dict[str, HostabiError]:
        """What could not be found out in any of them."""
        failed = {TWIN: self.failure} if self.failure else {}
        for look in (self.third, self.twin, self.first):
            failed |= look.failed if look else {}
        return failed

    def doubtful(self) -> set[str]:
        """Surfaces of which only a third look can tell what moves."""
        if self.twin is None:
            return set()
        seen = self.first.facts.keys() & self.twin.facts.keys()
        return {name for name in seen if doubtful(self.first.facts[name], self.twin.facts[name])}

    def settled(self) -> tuple[dict[str, list[Fact]], dict[str, dict[str, Kind]]]:
        """Facts by surface, and the keys whose presence moves, as a capture has them."""
        facts: dict[str, list[Fact]] = {}
        moving: dict[str, dict[str, Kind]] = {}
        for name, seen in sorted(self.first.facts.items()):
            if self.twin is None or name not in self.twin.facts:
                facts[name] = seen
                continue
            again = self.third.facts.get(name) if self.third else None
            variant = self.twin.variant
            hardware = f"cpus={variant.cpus} memory={variant.memory}"
            result = settle(seen, self.twin.facts[name], again, twin_is=hardware)
            facts[name] = result.facts
            if result.moving:
                moving[name] = result.moving
        return facts, moving


def assembled(build: str, line: str, release: str, looks: Looks, source: Provenance) -> Capture:
    """The capture that ``looks`` at a build come to."""
    facts, moving = looks.settled()
    return Capture(
        build=build,
        line=line,
        release=release,
        variant=looks.first.variant,
        provenance=source,
        surfaces=dict(sorted(facts.items())),
        twin=looks.twin.variant if looks.twin else None,
        moving=moving,
    )


def _here(looker: Looker, surfaces: Sequence[Surface], *, twin: bool) -> Looks:
    """Two looks at the kernel we are on: what differs moves by itself, for the hardware is one."""
    looks = Looks(looker.here(surfaces))
    if twin:
        again = [surface for surface in reversed(surfaces) if surface.name in looks.first.asked]
        looks.twin = looker.here(again)
    return looks


def _booted(looker: Looker, surfaces: Sequence[Surface], hardware: Variant, *, twin: bool) -> Looks:
    """As many boots at a time as there may be guests."""
    planned = boots(surfaces, hardware)
    workers = max(1, min(looker.guests.jobs, 2 * len(planned)))
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="look") as pool:
        try:
            return _in_turn(looker, planned, hardware, pool, twin=twin)
        except KeyboardInterrupt:
            looker.guests.abort()
            raise


def _in_turn(
    looker: Looker,
    planned: Sequence[Boot],
    hardware: Variant,
    pool: ThreadPoolExecutor,
    *,
    twin: bool,
) -> Looks:
    firsts: dict[Boot, Future[Look]] = {}
    twins: dict[Boot, Future[Look]] = {}
    for boot in planned:
        booted = threading.Event()
        firsts[boot] = pool.submit(looker.boot, boot.surfaces, boot.variant, booted=booted)
        if twin:
            twins[boot] = pool.submit(_twin, looker, boot, firsts[boot], booted)
    looks = Looks(_joined(firsts, hardware))
    try:
        if twins:
            looks.twin = _joined(twins, hardware)
            looks.twin.variant = other_hardware(hardware)
        if unsure := looks.doubtful():
            looks.third = _third(looker, planned, unsure, pool, hardware)
    except MachineError as error:
        looks.failure = error
    return looks


def _twin(looker: Looker, boot: Boot, first: Future[Look], booted: threading.Event) -> Look:
    """The same surfaces from the last to the first, booted from power-on on other hardware.

    It waits until the first look has its machine, for two twins that held the
    last places while their first looks wait for one would wait for ever. What the
    image alone may tell comes last, when the first look knows whether it does.
    """
    booted.wait()
    backwards = list(reversed(boot.surfaces))
    image = Source(None, looker.static, boot.variant)
    live = [surface for surface in backwards if not surface.possible(image)]

    def rest() -> list[Surface]:
        asked = first.result().asked
        return [one for one in backwards if one not in live and one.name in asked]

    return looker.boot(live, other_hardware(boot.variant), cold=True, label=TWIN, later=rest)


def _third(
    looker: Looker,
    planned: Sequence[Boot],
    unsure: set[str],
    pool: ThreadPoolExecutor,
    hardware: Variant,
) -> Look:
    futures: dict[Boot, Future[Look]] = {}
    for boot in planned:
        again = [surface for surface in reversed(boot.surfaces) if surface.name in unsure]
        if again:
            futures[boot] = pool.submit(
                looker.boot, again, boot.variant, cold=True, label="third look"
            )
    return _joined(futures, hardware)


def _joined(futures: dict[Boot, Future[Look]], hardware: Variant) -> Look:
    """One look of several boots. A boot of its own that failed only costs the surfaces it is for.

    Raises MachineError when the boot that any surface accepts failed.
    """
    whole = Look(hardware)
    for boot, future in futures.items():
        try:
            look = future.result()
        except MachineError as error:
            if not boot.own:
                raise
            failed: dict[str, HostabiError] = {each.name: error for each in boot.surfaces}
            look = Look(boot.variant, failed=failed)
        whole.merge(look)
    return whole


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
