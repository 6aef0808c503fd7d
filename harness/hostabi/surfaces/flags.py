"""Which flags, commands and modes calls accept: ``CALL.FLAG``, one by one.

Names are those of the newest headers, so that what they add is asked without new
code. ``unknown`` is a bit or a number that no header names. Where a flag needs
another one to mean anything, it is given with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces import (
    flags_descriptors,
    flags_memory,
    flags_mounts,
    flags_paths,
    flags_processes,
)
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, USERNS, Probe, ProbeSurface


def for_root() -> Iterator[Probe]:
    """What is the same for everybody, or a matter of the machine's root."""
    yield from flags_paths.probes()
    yield from flags_descriptors.probes()
    yield from flags_processes.for_root()
    yield from flags_memory.for_root()
    yield from flags_mounts.for_root()


def for_containers() -> Iterator[Probe]:
    """What the root of a user namespace may be told otherwise."""
    yield from flags_processes.for_containers()
    yield from flags_memory.for_containers()
    yield from flags_mounts.for_containers()


SURFACE = Joined(
    "flags",
    (
        ProbeSurface("flags", for_root, (HOST,)),
        ProbeSurface("flags", for_containers, (HOST, USERNS)),
    ),
)
