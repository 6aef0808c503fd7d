"""Facts found by trying: a table of probes in, one fact for each probe and view out.

    q = Questions()
    fd = q.need("openat", C.AT_FDCWD, q.string("."), C.O_RDONLY)
    q.ask("fchmod.mode", "fchmod", fd, 0o700)
    SURFACE = ProbeSurface("example", q.probes)

A program has calls that prepare (:meth:`Questions.need`) and calls that decide
(:meth:`Questions.ask`); independent ones share a program, because a process in
a guest costs more than a call. The value of a fact is ``ok``, or the name of
the errno with which the first call that it needs failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial

from hostabi.agent.client import Agent
from hostabi.agent.program import Abi, Children, End, Program, Ran, Sandbox, Scratch
from hostabi.diff import keys
from hostabi.errors import CallError
from hostabi.model import Certainty, Fact, Kind, Variant
from hostabi.model import Value as FactValue
from hostabi.surfaces.reproducers import Language, Needs, Reproducer
from hostabi.surfaces.source import Source
from hostabi.syscalls import sensitive, slices, table
from hostabi.syscalls.builder import ARENA, Builder, Built, Ref, Slot, Value
from hostabi.syscalls.printers import Expected, Side, to_c
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

OWN_NAMESPACES: int = (
    C.CLONE_NEWUSER
    | C.CLONE_NEWNS
    | C.CLONE_NEWPID
    | C.CLONE_NEWIPC
    | C.CLONE_NEWUTS
    | C.CLONE_NEWNET
    | C.CLONE_NEWCGROUP
)
_USER = 1000
_DETAIL = 160
"""Characters of a detail that are kept."""


@dataclasses.dataclass(frozen=True)
class View:
    """Who asks. ``name`` is the aspect that says what they got, "" for the machine's root."""

    name: str
    namespaces: int = 0
    privileged: bool = False
    """Asks as the machine's root; without, as an ordinary user or as root of its own namespace."""

    def sandbox(self, plain: Sandbox, *, euid: int) -> Sandbox:
        """``plain`` for this view, where the agent itself is ``euid``."""
        user = _USER if euid == 0 and not self.privileged else 0
        return dataclasses.replace(
            plain,
            namespaces=plain.namespaces | self.namespaces,
            uid=user,
            gid=user,
            no_new_privs=not self.privileged and not self.namespaces,
        )


HOST = View("", privileged=True)
"""Root of the machine."""
USERNS = View(keys.USERNS, OWN_NAMESPACES)
"""Root of a user namespace that an ordinary user made, with all other namespaces new as well."""
USER = View(keys.USER)
"""An ordinary user without any privileges, and without a way to get some."""
VIEWS = (HOST, USERNS, USER)

Read = Callable[[Trace, Ref], FactValue]
"""The value of a fact from what its call returned and wrote."""


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """One fact to be found: the call ``ref`` of ``built`` decides, if all of ``needs`` work.

    ``given`` are calls of which other facts tell, and without which there is nothing to be
    found: the request itself, where this is one of its forms. ``fine`` are errnos by which
    the kernel shows that it accepts what was asked (EBADF where the flag was the question).
    ``read`` gives another value than ``ok``. ``plain`` is the sandbox to which a view adds.
    """

    key: str
    built: Built
    ref: Ref
    needs: tuple[Ref, ...] = ()
    fine: frozenset[str] = frozenset()
    read: Read | None = None
    kind: Kind = Kind.VALUE
    plain: Sandbox = Sandbox()
    given: tuple[Ref, ...] = ()
    questions: tuple[Ref, ...] = ()
    """All calls of ``built`` that decide something."""

    @property
    def chain(self) -> tuple[Ref, ...]:
        """All calls that have to work, the one that decides at the end."""
        return (*self.given, *self.needs, self.ref)


class Questions(Builder):
    """Builds one program that answers several questions; see the module's docstring.

    ``namespaces`` are fresh in every view, for calls that would leave something
    behind (a mount, a changed hostname); ``scratch`` is the file system of the
    folder it runs in.
    """

    def __init__(
        self,
        *,
        namespaces: int = 0,
        scratch: Scratch = Scratch.TMPFS,
        timeout: float = 2.0,
        arena: int = ARENA,
        children: Children = Children.END,
        seccomp: bytes = b"",
        own_proc: bool = False,
        own_sys: bool = False,
    ) -> None:
        super().__init__(arena=arena, children=children)
        self._plain = Sandbox(
            namespaces=namespaces,
            scratch=scratch,
            timeout=timeout,
            seccomp=seccomp,
            own_proc=own_proc,
            own_sys=own_sys,
        )
        self._needs: list[Ref] = []
        self._asked: list[Callable[[Built], Probe]] = []
        self._refs: list[Ref] = []

    def need(
        self,
        name: str | int,
        *arguments: Value,
        out: Sequence[Slot] = (),
        opaque: bool = False,
        abi: Abi = Abi.NATIVE,
    ) -> Ref:
        """A call without which no later question of this program can be answered."""
        ref = self.call(name, *arguments, out=out, opaque=opaque, abi=abi)
        self._needs.append(ref)
        return ref

    def ask(
        self,
        key: str,
        name: str | int,
        *arguments: Value,
        needs: Sequence[Ref] = (),
        given: Sequence[Ref] = (),
        fine: Collection[str] = (),
        read: Read | None = None,
        kind: Kind = Kind.VALUE,
        out: Sequence[Slot] = (),
        opaque: bool = False,
        abi: Abi = Abi.NATIVE,
    ) -> Ref:
        """A call whose success is the fact ``key``; ``needs`` are needed by this question only.

        Where one of ``given`` fails there is nothing to tell.
        """
        ref = self.call(name, *arguments, out=out, opaque=opaque, abi=abi)
        every, before = (*self._needs, *needs), tuple(given)
        accepted, plain = frozenset(fine), self._plain
        self._refs.append(ref)
        self._asked.append(
            lambda built: Probe(
                key, built, ref, every, accepted, read, kind, plain, before, tuple(self._refs)
            )
        )
        return ref

    def probes(self) -> tuple[Probe, ...]:
        """All questions so far, over one program."""
        built = self.build()
        return tuple(make(built) for make in self._asked)


@dataclasses.dataclass(frozen=True)
class ProbeSurface:
    """A surface that is a table of probes, asked from each of ``views``.

    ``make`` gives the probes, without a kernel at hand. ``modules`` are loaded
    before, as the machine's own modprobe would when a container asks for them.
    """

    name: str
    make: Callable[[], Iterable[Probe]]
    views: tuple[View, ...] = VIEWS
    modules: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    loads: bool = False
    """See :class:`hostabi.surfaces.source.Loading`."""

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        load(source.live, self.modules)
        return ask(source.live, list(self.probes.values()), self.views)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """A C program that asks one probe alone; see :class:`Reproducible`."""
        who = keys.view(fact.key)
        view = next((view for view in self.views if view.name == who), None)
        probe = self.probes.get(fact.key.removesuffix(f"#{who}") if who else fact.key)
        if probe is None or view is None:
            return None
        return probe_reproducer(probe, view, fact, agent, self.modules)

    @cached_property
    def probes(self) -> Mapping[str, Probe]:
        """The probes by the key of their fact. Raises ValueError for a key asked twice."""
        found: dict[str, Probe] = {}
        for probe in self.make():
            if probe.key in found:
                raise ValueError(f"{self.name}: {probe.key} is asked twice")
            found[probe.key] = probe
        return found


def probe_reproducer(
    probe: Probe, view: View, fact: Fact, agent: Agent | None, modules: Sequence[str] = ()
) -> Reproducer | None:
    """Shows what ``probe`` got from ``view``; None where that needs an ``agent`` and there is none.

    Where an ordinary user asks, the program is started as root and becomes one.
    """
    # an errno may have come back in memory, as that of an operation of io_uring does
    plain = probe.read is None
    if fact.value is None or (agent is None and not plain):
        return None
    if agent is not None:
        load(agent, modules)
    asked = None if plain else agent
    made = [_program_of(one, view, fact, asked) for one in (_alone(probe), probe)]
    if fact.value == keys.OK and not plain and any(made):
        made.append(_program_of(_alone(probe), view, fact, None))
    text, *others = dict.fromkeys(filter(None, made)) or [""]
    if not text:
        return None
    needs = frozenset((Needs.EXT4,)) if probe.plain.scratch is Scratch.EXT4 else frozenset()
    return Reproducer(Language.C, text, modules=tuple(modules), needs=needs, others=tuple(others))


def _program_of(probe: Probe, view: View, fact: Fact, agent: Agent | None) -> str:
    """C that expects the fact; with an ``agent`` what is seen there, empty if that is not it."""
    chain = tuple(ref.call for ref in probe.chain)
    expected = Expected(chain, str(fact.value), probe.fine)
    sides: list[Side] = []
    if agent is not None:
        ran = agent.run([probe.built.program], view.sandbox(probe.plain, euid=agent.hello.euid))[0]
        if outcome(probe, ran)[0] != fact.value:
            return ""
        if all(_worked(ran, ref) for ref in probe.chain):
            said = partial(_read, probe)
            bits, masks = sensitive.bits(probe.built, probe.ref, ran, said)
            expected = Expected(chain, None, probe.fine, bits, masks)
            sides = [("the kernel it was made on", ran)]
    sandbox = view.sandbox(probe.plain, euid=0)
    return to_c(probe.built, sandbox=sandbox, sides=sides, expected=expected)


def _worked(ran: Ran, ref: Ref) -> bool:
    return ref.call < len(ran.values) and not -4095 <= ran.values[ref.call] < 0


def _alone(probe: Probe) -> Probe:
    """The probe without the questions that only share its program."""
    built, numbers = slices.part(probe.built, probe.chain, probe.questions)
    *before, last = map(Ref, numbers)
    given, needs = before[: len(probe.given)], before[len(probe.given) :]
    return dataclasses.replace(
        probe, built=built, ref=last, needs=tuple(needs), given=tuple(given), questions=()
    )


def load(agent: Agent, modules: Sequence[str]) -> None:
    """Load modules where we may; one that is built in or not there is no error."""
    if modules and agent.hello.euid == 0:
        with contextlib.suppress(CallError):
            agent.command(["modprobe", "-a", *modules])


def ask(agent: Agent, probes: Sequence[Probe], views: Sequence[View] = VIEWS) -> list[Fact]:
    """One fact for each probe and view, sorted by key.

    A view the agent cannot take (the machine's root, for an agent without
    privileges; namespaces where there are none to be had) gives facts without a
    value: not determined.
    """
    facts: list[Fact] = []
    for view in views:
        if view.privileged and agent.hello.euid != 0:
            facts += [Fact(_key(p, view), None, p.kind, how="not tried") for p in probes]
            continue
        answers = _run(agent, probes, view)
        facts += [_fact(probe, view, answers[id(probe.built)]) for probe in probes]
    return sorted(facts, key=lambda fact: fact.key)


def outcome(probe: Probe, ran: Ran) -> tuple[FactValue, str]:
    """The value of a probe's fact, and a detail where it needs one; None is not determined."""
    if ran.end is End.REFUSED:
        return None, f"no sandbox: {ran.detail} {table.errno_name(ran.code)}"
    for ref in probe.chain:
        if ref.call >= len(ran.values):
            first = ref.call == len(ran.values) and ran.end is not End.EXITED
            return (_ended(ran), _said(probe, ref)) if first else (None, "not reached")
        value = ran.values[ref.call]
        if -4095 <= value < 0:
            name = table.errno_name(-value)
            if ref in probe.given:
                return None, f"{name} {_said(probe, ref)}"
            accepted = ref == probe.ref and name in probe.fine
            return keys.OK if accepted else name, "" if ref == probe.ref else _said(probe, ref)
    return _read(probe, ran), ""


def _read(probe: Probe, ran: Ran) -> FactValue:
    """The value where all calls worked."""
    return probe.read(Trace(probe.built, ran), probe.ref) if probe.read else keys.OK


def _run(agent: Agent, probes: Sequence[Probe], view: View) -> dict[int, Ran]:
    """Each program once, by its identity."""
    groups: dict[Sandbox, dict[int, Program]] = {}
    for probe in probes:
        sandbox = view.sandbox(probe.plain, euid=agent.hello.euid)
        groups.setdefault(sandbox, {})[id(probe.built)] = probe.built.program
    answers: dict[int, Ran] = {}
    for sandbox, programs in groups.items():
        ran = agent.run(list(programs.values()), sandbox)
        answers.update(zip(programs, ran, strict=True))
    return answers


def _fact(probe: Probe, view: View, ran: Ran) -> Fact:
    value, detail = outcome(probe, ran)
    return Fact(_key(probe, view), value, probe.kind, "probe", Certainty.PROBED, detail[:_DETAIL])


def _key(probe: Probe, view: View) -> str:
    return f"{probe.key}#{view.name}" if view.name else probe.key


def _ended(ran: Ran) -> str:
    if ran.end is End.TIMED_OUT:
        return "hangs"
    if ran.end is End.SIGNALLED:
        return signal.Signals(ran.code).name if 0 < ran.code < 32 else f"signal {ran.code}"
    return "ends"


def _said(probe: Probe, ref: Ref) -> str:
    return f"at {probe.built.steps[ref.call]}"
