"""All surfaces. Adding one is adding a module with a ``SURFACE`` to this package."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import time
from collections.abc import Collection, Iterable
from typing import cast

import hostabi.surfaces
from hostabi.errors import HostabiError, InputError
from hostabi.model import Cgroup, Fact, Variant
from hostabi.progress import SILENT, Progress
from hostabi.surfaces.source import Loading, Source, Surface


def _found() -> tuple[Surface, ...]:
    surfaces = []
    for module in pkgutil.iter_modules(hostabi.surfaces.__path__):
        if module.name != "registry":
            content = importlib.import_module(f"hostabi.surfaces.{module.name}")
            surface = getattr(content, "SURFACE", None)
            if surface is not None:
                surfaces.append(cast(Surface, surface))
    return tuple(sorted(surfaces, key=lambda surface: surface.name))


ALL: tuple[Surface, ...] = _found()


@dataclasses.dataclass(frozen=True)
class Measured:
    """What could be captured, and what could not and why."""

    surfaces: dict[str, list[Fact]]
    seconds: dict[str, float]
    failed: dict[str, HostabiError]
    """By surface; a failure of one leaves the others whole."""
    skipped: tuple[str, ...]
    """Surfaces that need what the source lacks, or another variant."""
    asked: set[str]
    """Surfaces that asked the agent; what the others tell does not depend on the boot."""


def named(names: Iterable[str]) -> tuple[Surface, ...]:
    """Surfaces by name. Raises InputError for a name nobody has."""
    known = {surface.name: surface for surface in ALL}
    wanted = list(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(
            f"no surface is called {', '.join(unknown)}", advice=f"known: {', '.join(known)}"
        )
    return tuple(known[name] for name in wanted)


def measure(
    source: Source,
    surfaces: Collection[Surface] = ALL,
    progress: Progress = SILENT,
    label: str = "capture",
) -> Measured:
    """Capture every given surface that this source and its variant allow.

    Those that load modules come last, in whatever order the others are, where all have to do
    with one boot.
    """
    skipped = tuple(item.name for item in surfaces if not _fits(item, source))
    result = Measured({}, {}, {}, skipped, set())
    fitting = sorted((one for one in surfaces if _fits(one, source)), key=loads)
    with progress.task(label, total=len(fitting)) as task:
        for surface in fitting:
            task.note(surface.name)
            began, before = time.monotonic(), _requests(source)
            try:
                result.surfaces[surface.name] = surface.capture(source)
            except HostabiError as error:
                result.failed[surface.name] = error
            result.seconds[surface.name] = time.monotonic() - began
            if _requests(source) != before:
                result.asked.add(surface.name)
            task.advance()
    return result


def needs(variant: Variant) -> tuple[Cgroup, tuple[str, ...]]:
    """What of a variant a surface cannot do without; RAM and CPUs only move its facts."""
    return variant.cgroup, variant.parameters


def loads(surface: Surface) -> bool:
    """Whether a surface has the kernel load modules by itself; see :class:`.source.Loading`."""
    return isinstance(surface, Loading) and surface.loads


def _fits(surface: Surface, source: Source) -> bool:
    wanted = [needs(variant) for variant in surface.variants]
    if source.agent is not None and wanted and needs(source.variant) not in wanted:
        return False
    return surface.possible(source)


def _requests(source: Source) -> int:
    return source.agent.requests if source.agent is not None else 0
