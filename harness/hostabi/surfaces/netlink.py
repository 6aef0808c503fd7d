"""netlink(7): families, devices, routes, traffic control, IPsec, generic netlink.

The value of an operation is ``ok`` or the errno in the kernel's answer. ENODATA says that
there was an answer without what was asked for: an attribute that the kernel does not know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from hostabi.agent.client import Agent
from hostabi.errors import CallError
from hostabi.model import Fact, Kind
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.netlink_devices import moved, settings
from hostabi.surfaces.netlink_generic import commands, families, services, statistics
from hostabi.surfaces.netlink_links import forms, kinds
from hostabi.surfaces.netlink_routes import lists, routes, tunnels
from hostabi.surfaces.netlink_security import security
from hostabi.surfaces.netlink_sockets import (
    audit,
    connector,
    diagnosed,
    events,
    groups,
    open_families,
    options,
)
from hostabi.surfaces.netlink_traffic import traffic
from hostabi.surfaces.probing import HOST, USERNS, Probe, ProbeSurface, Questions
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source
from hostabi.syscalls.table import C

_SERVICES, _FAMILIES = ("fou", "ip_vs", "ovpn"), ("fou", "ip_vs", "psample")
"""Modules that are not asked for by a name, or only by other surfaces, before or after."""
_FALLBACK = "/proc/sys/net/core/fb_tunnels_only_for_init_net"
"""Who gets a device of each kind of tunnel in each new network namespace, sysctl/net.rst."""
_NOBODY = b"2"
_TUNNELS = ("ip6_gre", "ip6_vti", "ip6_tunnel", "ip_gre", "ip_vti", "ipip", "sit")
_LABELLING = "openvswitch"
"""Gives each network namespace labels of connections, which else the first rule for them does."""

Part = Callable[[Questions], None]


def _together(parts: Sequence[Part], namespaces: int = C.CLONE_NEWNET) -> Iterator[Probe]:
    """One program: a network namespace costs as much as fifty questions."""
    q = Questions(namespaces=namespaces, timeout=30.0, arena=1 << 18)
    for part in parts:
        part(q)
    yield from q.probes()


def _everybody() -> Iterator[Probe]:
    here: tuple[Part, ...] = (open_families, connector, statistics, lambda q: audit(q, "audit"))
    yield from _together(here, namespaces=0)
    yield from _together((options, groups, lambda q: audit(q, "audit.netns"), events))
    yield from _together((diagnosed, commands, lists))


def _networks() -> Iterator[Probe]:
    yield from _together((routes,))
    yield from _together((settings,))
    yield from _together((moved,))
    yield from _together((traffic,))
    yield from _together((services, security))
    yield from _together((kinds,))


def _machine() -> Iterator[Probe]:
    yield from _together((tunnels,))
    yield from _together((forms,))
    yield from families()


class Netlink(Joined):
    """Tunnels are not given to each network namespace meanwhile, and are gone afterwards.

    Each of nine kinds would be made and taken away with every namespace, by us
    and by the surfaces after us. Whatever else changes new namespaces goes as well.
    """

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        with without_fallback(source.live):
            return super().capture(source)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """None for lists: what they were read from has numbers of a kernel's own choice."""
        return None if fact.kind is Kind.MEMBERS else super().reproducer(fact, agent)


@contextlib.contextmanager
def without_fallback(agent: Agent) -> Iterator[None]:
    """Tunnels of which no new network namespace gets one, where we may say so."""
    if agent.hello.euid != 0:
        yield
        return
    before = agent.read(_FALLBACK)
    agent.write(_FALLBACK, _NOBODY)
    try:
        yield
    finally:
        for name in (_LABELLING, *_TUNNELS):
            with contextlib.suppress(CallError):
                agent.command(["modprobe", "-r", name])
        agent.write(_FALLBACK, before)


SURFACE = Netlink(
    "netlink",
    (
        ProbeSurface("netlink", _everybody),
        ProbeSurface("netlink", _networks, (HOST, USERNS), _SERVICES),
        ProbeSurface("netlink", _machine, (HOST,), _FAMILIES),
    ),
    loads=True,
)
