"""What a surface is, and what it may look at."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

from hostabi.agent.client import Agent
from hostabi.errors import HostabiError
from hostabi.kernels.static import Static
from hostabi.model import Fact, Variant


@dataclasses.dataclass(frozen=True)
class Source:
    """A kernel that runs, an image, or both. Either may be missing."""

    agent: Agent | None
    static: Static | None
    variant: Variant = Variant()

    @property
    def live(self) -> Agent:
        """The agent. Raises HostabiError when there is none."""
        if self.agent is None:
            raise HostabiError(
                "this surface needs a kernel that runs",
                advice="capture without --static, or name the kernel `running`",
            )
        return self.agent


class Surface(Protocol):
    """One aspect of the ABI.

    A module in this package with a ``SURFACE`` of this form is a surface; see
    :mod:`hostabi.surfaces.registry`.
    """

    @property
    def name(self) -> str:
        """Unique, as in captures: ``sysctls``."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """How a build has to be booted; empty when any boot will do."""

    def possible(self, source: Source) -> bool:
        """Whether the source has what this surface looks at."""

    def capture(self, source: Source) -> list[Fact]:
        """All facts, sorted by key. Raises HostabiError when they cannot be had."""


@runtime_checkable
class Loading(Protocol):
    """A surface whose questions have the kernel load modules by itself, or taint it.

    What they bring along (sysctls, files in /proc, devices in each new network
    namespace) would look to other surfaces like the kernel's own.
    """

    @property
    def loads(self) -> bool:
        """Whether it has to be captured after those that do not."""
