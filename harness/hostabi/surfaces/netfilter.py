"""What filters packets: nftables, the tables of iptables, and what is asked by nfnetlink.

``nft.FAMILY.EXPRESSION.FORM`` is a rule that was taken into a table of a fresh
network namespace, ``nft.FAMILY.chain.TYPE.HOOK`` a chain, and so on. Where a
thing is not there, one fact says so, and nothing is said about its forms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from msgspec.structs import replace

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.errors import CallError
from hostabi.model import Fact
from hostabi.surfaces import (
    netfilter_chains,
    netfilter_conntrack,
    netfilter_expressions,
    netfilter_ipset,
    netfilter_queues,
    netfilter_sets,
    netfilter_statements,
    netfilter_xtables,
)
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.netfilter_chains import Ruleset
from hostabi.surfaces.netfilter_compat import rules
from hostabi.surfaces.netfilter_expressions import Form
from hostabi.surfaces.netfilter_modules import BY_IPTABLES, wanted
from hostabi.surfaces.netfilter_nft import rule
from hostabi.surfaces.probing import HOST, USER, USERNS, Probe, ProbeSurface, Questions
from hostabi.surfaces.source import Source
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_ARENA = 1 << 20
_EXPEDITED = "/sys/kernel/rcu_expedited"
_ADDRESSED = ("ip", "ip6", "inet")
"""Families in which packets have addresses."""


def _questions() -> Questions:
    return Questions(namespaces=C.CLONE_NEWNET, timeout=60.0, arena=_ARENA)


def everything() -> Iterator[Probe]:
    """All of nftables."""
    yield from _whole()
    yield from _kept()
    for family in _ADDRESSED:
        q = _questions()
        r = Ruleset(q, family, silent=family == "inet")
        made = r.chains()
        if family == "inet":
            _prepare(r)
        else:
            rules(q, r)
        r.silent = False
        _ask(r, made, _all_forms(family))
        yield from q.probes()
    yield from _linked()


def firsts() -> Iterator[Probe]:
    """Of nftables, what tells whether a thing is there at all."""
    yield from _whole()
    q = _questions()
    for family in _ADDRESSED:
        r = Ruleset(q, family)
        made = r.chains()
        if family == "inet":
            _prepare(r)
        _ask(r, made, [form for form in _all_forms(family) if "." not in form.name])
    yield from q.probes()


def _whole() -> tuple[Probe, ...]:
    q = _questions()
    netfilter_chains.tables(q)
    return q.probes()


def _all_forms(family: str) -> list[Form]:
    makers = (netfilter_expressions.forms, netfilter_statements.forms)
    return [form for make in makers for form in make(family)]


def _kept() -> tuple[Probe, ...]:
    """All that a table can hold, whatever its family."""
    q = _questions()
    r = Ruleset(q, "inet")
    made = r.chains()
    netfilter_chains.changes(r, made)
    netfilter_chains.rules(r, made)
    netfilter_chains.flowtables(r)
    objects = netfilter_sets.objects(r)
    netfilter_sets.set_elements(r, netfilter_sets.sets(r), objects)
    return q.probes()


def _prepare(r: Ruleset) -> None:
    """What some expressions refer to."""
    netfilter_chains.flowtables(r)
    netfilter_sets.objects(r)
    netfilter_sets.sets(r)


def _ask(r: Ruleset, made: dict[str, Ref], forms: list[Form]) -> None:
    for form in forms:
        new = rule(r.family, form.chain, *form.expressions)
        r.ask(form.name, new, after=[made[form.chain]])


def _linked() -> tuple[Probe, ...]:
    """Families in which packets are frames."""
    q = _questions()
    for family in ("bridge", "arp", "netdev"):
        r = Ruleset(q, family)
        made = r.chains()
        forms: list[Form] = []
        if family == "bridge":
            forms += netfilter_expressions.bridge_forms()
            forms += netfilter_statements.bridge_forms()
        if family == "netdev":
            netfilter_chains.devices(r)
            forms += netfilter_statements.device_forms()
        _ask(r, made, forms)
    return q.probes()


def older() -> Iterator[Probe]:
    """The tables of iptables, and rules in them."""
    q = _questions()
    netfilter_xtables.tables(q)
    netfilter_xtables.revisions(q)
    yield from q.probes()
    for family in ("ip", "ip6"):
        q = _questions()
        netfilter_xtables.rules(q, family)
        yield from q.probes()


def others() -> Iterator[Probe]:
    """The other subsystems of nfnetlink."""
    for several in (
        (netfilter_conntrack.conntrack,),
        (netfilter_conntrack.expectations,),
        (
            netfilter_queues.queues,
            netfilter_queues.logs,
            netfilter_queues.accounts,
            netfilter_queues.hooks,
            netfilter_queues.shared,
        ),
        (netfilter_ipset.ipset,),
    ):
        q = _questions()
        for ask in several:
            ask(q)
        yield from q.probes()


def doors() -> Iterator[Probe]:
    """What is asked first of each subsystem; who is refused that gets no further."""
    for make in (_whole, others, older):
        yield from (probe for probe in make() if _is_door(probe.key))


def _is_door(key: str) -> bool:
    return "." not in key or key.endswith(".table.filter")


class Netfilter(Joined):
    """Nothing is said about the forms of what is not there."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        with _hurried(source.live):
            return of_what_is_there(super().capture(source))


@contextlib.contextmanager
def _hurried(agent: Agent) -> Iterator[None]:
    """Have the kernel wait less for its readers: kernel document RCU/whatisRCU.rst.

    Each transaction that fails waits for them, which is most of the time all this takes.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(CallError):
            before = agent.read(_EXPEDITED)
            agent.write(_EXPEDITED, b"1")
            stack.callback(agent.write, _EXPEDITED, before)
        yield


def of_what_is_there(facts: list[Fact]) -> list[Fact]:
    """The facts, without a value where one that is about the whole says that it is not there."""
    failed = {fact.key for fact in facts if keys.failed(fact.value)}
    return [replace(fact, value=None) if _part_of(fact.key, failed) else fact for fact in facts]


def _part_of(key: str, failed: set[str]) -> bool:
    subject, mark, view = key.partition("#")
    parts = subject.split(".")
    return any(".".join(parts[:end]) + mark + view in failed for end in range(1, len(parts)))


SURFACE = Netfilter(
    "netfilter",
    (
        ProbeSurface("netfilter", everything, (HOST,), modules=wanted()),
        ProbeSurface("netfilter", firsts, (USERNS,)),
        ProbeSurface("netfilter", older, (HOST, USERNS), modules=BY_IPTABLES),
        ProbeSurface("netfilter", others, (HOST, USERNS)),
        ProbeSurface("netfilter", doors, (USER,)),
    ),
    loads=True,
)
