"""A surface of several tables of probes, each asked from views of its own."""

from __future__ import annotations

import dataclasses

from hostabi.agent.client import Agent
from hostabi.model import Fact, Variant
from hostabi.surfaces.probing import ProbeSurface
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source


@dataclasses.dataclass(frozen=True)
class Joined:
    """The facts of all ``parts``, under one name. No two parts may ask for the same key."""

    name: str
    parts: tuple[ProbeSurface, ...]
    variants: tuple[Variant, ...] = ()
    loads: bool = False
    """See :class:`hostabi.surfaces.source.Loading`."""

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        facts = [fact for part in self.parts for fact in part.capture(source)]
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """That of the part that asks for the fact."""
        found = (part.reproducer(fact, agent) for part in self.parts)
        return next((each for each in found if each is not None), None)
