"""What a measurement was made with, as records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostabi import __version__
from hostabi.model import Provenance
from hostabi.runs.journal import now
from hostabi.runs.records import BuildUsed

if TYPE_CHECKING:
    from hostabi.kernels.build import Build
    from hostabi.machine.machine import Machine


def used(session: str, build: Build, machine: Machine | None) -> BuildUsed:
    """The journal's record of ``build``; without a machine it ran on the kernel we are on."""
    return BuildUsed(
        session=session,
        name=build.name,
        line=build.line,
        release=build.release,
        version=build.version,
        flavour=build.flavour,
        suite=build.suite,
        image=build.image_digest,
        packages=dict(build.packages),
        emulator=machine.emulator if machine else "",
        accelerator=machine.accelerator if machine else "none",
    )


def provenance(build: Build, machine: Machine | None) -> Provenance:
    """The same for a capture file."""
    return Provenance(
        tool=__version__,
        packages=dict(build.packages),
        suite=build.suite,
        emulator=machine.emulator if machine else "",
        accelerator=machine.accelerator if machine else "none",
        taken=now(),
    )
