"""BPF: what bpf(2) takes, what its programs are able to do, and what they stop.

``prog.TYPE`` and ``map.TYPE`` are what can be loaded and made, ``helpers.TYPE``
the functions that a type's programs may call, ``cgroup.ATTACH`` and ``link.ATTACH``
where programs go, ``instruction`` and ``verifier`` what they consist of,
``filter`` the older kind that sockets have, ``kernel``, ``iterator`` and ``kfunc`` what the
kernel's own types are needed for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.errors import ImageError
from hostabi.model import Fact, Kind, Value
from hostabi.surfaces.bpf_btf import kinds
from hostabi.surfaces.bpf_cgroups import cgroups
from hostabi.surfaces.bpf_filters import filters
from hostabi.surfaces.bpf_helpers import helpers, one
from hostabi.surfaces.bpf_kernel import of_functions
from hostabi.surfaces.bpf_links import links
from hostabi.surfaces.bpf_maps import maps
from hostabi.surfaces.bpf_objects import commands, objects, tokens
from hostabi.surfaces.bpf_types import types
from hostabi.surfaces.bpf_unprivileged import unprivileged
from hostabi.surfaces.bpf_verifier import verifier
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import (
    HOST,
    USERNS,
    Probe,
    ProbeSurface,
    ask,
    probe_reproducer,
)
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source


def _everybody() -> Iterator[Probe]:
    yield from commands()
    yield from filters()


def _machine() -> Iterator[Probe]:
    yield from types()
    yield from maps()
    yield from kinds()
    yield from cgroups()
    yield from links()
    yield from objects()
    yield from verifier()
    yield from unprivileged()
    yield from helpers()


class Bpf(Joined):
    """What is asked about a thing is told where the thing is there."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        facts = super().capture(source)
        if source.static is not None:
            # an image without types has nothing that these could be attached to
            with contextlib.suppress(ImageError):
                facts += ask(source.live, list(of_functions(source.static.btf)), (HOST,))
        return sorted(of_what_is_there(facts), key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """Of helpers, those alone that the fact names: another kernel may have more."""
        if fact.kind is Kind.MEMBERS and isinstance(fact.value, list):
            kind = fact.key.removeprefix("helpers.")
            return probe_reproducer(one(kind, fact.value), HOST, fact, agent)
        return super().reproducer(fact, agent)


def of_what_is_there(facts: list[Fact]) -> list[Fact]:
    """The facts; ``THING.MORE`` and ``THING#ASPECT`` have no value where THING failed."""
    values = {fact.key: fact.value for fact in facts}
    return [replace(fact, value=None) if _lacks(fact.key, values) else fact for fact in facts]


def _lacks(key: str, values: Mapping[str, Value]) -> bool:
    view = keys.view(key)
    end = f"#{view}" if view else ""
    name = key.removesuffix(end)
    while name:
        name = name.rpartition("#")[0] or name.rpartition(".")[0]
        if keys.failed(values.get(name + end)):
            return True
    return False


SURFACE = Bpf(
    "bpf",
    (
        ProbeSurface("bpf", _everybody),
        ProbeSurface("bpf", tokens, (HOST, USERNS)),
        ProbeSurface("bpf", _machine, (HOST,)),
    ),
)
