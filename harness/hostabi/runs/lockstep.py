"""The same programs on several kernels at once, and where the kernels differ."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import cached_property, partial

from hostabi.agent.client import Agent
from hostabi.agent.messages import encode_run
from hostabi.agent.program import Program, Ran, Report, Sandbox
from hostabi.errors import InputError, MachineError
from hostabi.runs.lanes import Lanes
from hostabi.syscalls import budget, counting, printers, probes
from hostabi.syscalls.builder import Built
from hostabi.syscalls.cases import Case, by_sandbox
from hostabi.syscalls.state import Usual, left
from hostabi.syscalls.trace import Trace, View, normalised, ran_at_all


@dataclass(frozen=True)
class Difference:
    """A program that does not do the same everywhere.

    ``sides`` groups the kernels' names by what they did, the largest group
    first; all in a group behave alike as far as comparison goes.
    """

    built: Built
    sandbox: Sandbox
    sides: tuple[tuple[tuple[str, ...], Ran], ...]

    @property
    def kernels(self) -> frozenset[str]:
        """All that ran it."""
        return frozenset(name for names, _ in self.sides for name in names)

    @property
    def call(self) -> int | None:
        """The first call whose value differs; None when only outputs or the end do."""
        values = [normalised(self.built, ran).values for _, ran in self.sides]
        for index in range(len(self.built.steps)):
            if len({value[index] if index < len(value) else None for value in values}) > 1:
                return index
        return None

    def to_c(self) -> str:
        """A C program that exits 0 on the first side's kernels and 1 on the second's."""
        (first, ran), (second, other) = self.sides[:2]
        return printers.to_c(
            self.built,
            sandbox=self.sandbox,
            sides=((", ".join(first), ran), (", ".join(second), other)),
        )

    def __str__(self) -> str:
        parts = [
            f"{', '.join(names)}:\n"
            + "\n".join(f"  {line}" for line in Trace(self.built, ran).lines())
            for names, ran in self.sides
        ]
        return "\n".join([*parts, "as Python:", printers.to_python(self.built.program)])


class DisagreementError(AssertionError):
    """Kernels differ. ``difference`` is the record."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(f"the kernels differ\n{difference}")
        self.difference = difference


@dataclass(frozen=True, slots=True)
class Sent:
    """Programs that were handed on; ``pending`` has by kernel which of them, and its answers."""

    programs: tuple[Program, ...]
    sandbox: Sandbox
    pending: Mapping[str, tuple[tuple[int, ...], Future[list[Ran]]]]


class Lockstep:
    """Several agents, one for each kernel, given the same programs.

    As many kernels work at the same time as there are CPUs, the others after
    them; nothing is awaited until their answers are asked for. ``programs``
    and ``seconds`` count what was run and how long that took, the host's part
    included; ``unsteady`` counts differences that did not come again;
    ``sat_out`` counts, by feature, the cases that a kernel could not take part
    in for want of it.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        if not agents:
            raise InputError("lockstep needs at least one kernel", advice="name one with --kernel")
        self.agents = dict(agents)
        each = list(agents.values())
        self._numbers = {name: each.index(agent) for name, agent in agents.items()}
        self._lanes = Lanes()
        self.programs = 0
        self.seconds = 0.0
        self.unsteady = 0
        self.sat_out: Counter[str] = Counter()
        self._usual: dict[tuple[str, Sandbox, Report], Usual] = {}

    @cached_property
    def features(self) -> dict[str, frozenset[str]]:
        """What each kernel has, found by trying once."""
        return {name: probes.features(agent) for name, agent in self.agents.items()}

    def differing_features(self) -> dict[str, frozenset[str]]:
        """The features that not every kernel has, each with the kernels that have it."""
        having = {
            probe.name: frozenset(name for name, has in self.features.items() if probe.name in has)
            for probe in probes.PROBES
        }
        return {
            name: kernels for name, kernels in having.items() if len(kernels) < len(self.agents)
        }

    def features_text(self) -> str:
        """The differing features as lines of text; empty when the kernels have the same."""
        return "\n".join(
            f"{feature}: on {', '.join(n for n in self.agents if n in names) or 'none'}; "
            f"{self.sat_out[feature]} cases ran there only"
            for feature, names in self.differing_features().items()
        )

    @property
    def rate(self) -> float:
        """Programs a second so far, each on all kernels; 0.0 before the first."""
        return self.programs / self.seconds if self.seconds else 0.0

    def run(
        self,
        programs: Sequence[Program],
        sandbox: Sandbox = Sandbox(),
        on: Sequence[Set[str]] | None = None,
    ) -> list[dict[str, Ran]]:
        """What each kernel did with each program, in order; ``on`` names each one's kernels.

        Of what a program left only that is kept which an empty one does not leave there.
        """
        start = time.perf_counter()
        sent = self.submit(programs, sandbox, on)
        answers = self.collect(sent)
        self.seconds += time.perf_counter() - start
        return answers

    def submit(
        self,
        programs: Sequence[Program],
        sandbox: Sandbox = Sandbox(),
        on: Sequence[Set[str]] | None = None,
    ) -> Sent:
        """Hand programs on to their kernels, behind what these have to do; see :meth:`collect`.

        Nobody else may use the agents until all that was handed on has been collected.
        """
        places = on or [self.agents.keys()] * len(programs)
        payloads: dict[tuple[float, tuple[int, ...]], bytes] = {}
        pending: dict[str, tuple[tuple[int, ...], Future[list[Ran]]]] = {}
        for name, agent in self.agents.items():
            chosen = tuple(index for index, names in enumerate(places) if name in names)
            if not chosen:
                continue
            mine = [programs[index] for index in chosen]
            key = (agent.timeout_scale, chosen)
            if key not in payloads:
                payloads[key] = encode_run(mine, sandbox, agent.timeout_scale)
            work = partial(self._work, name, agent, mine, sandbox, payloads[key])
            pending[name] = chosen, self._lanes.submit(self._numbers[name], work)
        return Sent(tuple(programs), sandbox, pending)

    def _work(
        self, name: str, agent: Agent, mine: Sequence[Program], sandbox: Sandbox, payload: bytes
    ) -> list[Ran]:
        """What one kernel did with programs, in a lane's own thread."""
        for report in {program.report for program in mine} - {Report.NOTHING}:
            self._learn(name, agent, sandbox, report)
        rans = agent.collect(agent.submit(mine, sandbox, payload=payload))
        return [
            replace(ran, state=left(ran.state, self._usual[name, sandbox, program.report]))
            if ran.state
            else ran
            for program, ran in zip(mine, rans, strict=True)
        ]

    def collect(
        self, sent: Sent, broken: dict[str, MachineError] | None = None
    ) -> list[dict[str, Ran]]:
        """What each kernel did with each program that was handed on, in order.

        With ``broken``, a machine that fails is put there and the others are heard.
        """
        answers: list[dict[str, Ran]] = [{} for _ in sent.programs]
        wait([pending for _, pending in sent.pending.values()])
        failed: dict[str, MachineError] = {} if broken is None else broken
        for name, (chosen, pending) in sent.pending.items():
            try:
                rans = pending.result()
            except MachineError as error:
                failed[name] = error
                continue
            for index, ran in zip(chosen, rans, strict=True):
                answers[index][name] = ran
        if broken is None and failed:
            raise next(iter(failed.values()))
        self.programs += len(sent.programs)
        return answers

    def replace(self, name: str, agent: Agent) -> None:
        """Have another agent of a kernel, of which it is not known yet what programs leave."""
        self.agents[name] = agent
        self._usual = {key: usual for key, usual in self._usual.items() if key[0] != name}

    def _learn(self, name: str, agent: Agent, sandbox: Sandbox, report: Report) -> None:
        """See what an empty program leaves in a sandbox on a kernel, once."""
        key = (name, sandbox, report)
        if key not in self._usual:
            ran = agent.run([Program(calls=(), report=report)], sandbox)[0]
            self._usual[key] = Usual.of(ran.state)

    def compare(
        self,
        programs: Sequence[Built],
        sandbox: Sandbox = Sandbox(),
        on: Sequence[Set[str]] | None = None,
    ) -> list[Difference]:
        """Run programs and tell those that do not do the same everywhere, in order."""
        if not programs:
            return []
        answers = self.run([built.program for built in programs], sandbox, on)
        for built, rans in zip(programs, answers, strict=True):
            for ran in rans.values():
                ran_at_all(built, ran)
        found = (
            _difference(built, sandbox, rans) for built, rans in zip(programs, answers, strict=True)
        )
        return [difference for difference in found if difference]

    def agree(self, cases: Iterable[Case]) -> int:
        """Run each case on the kernels that have the features it needs; how many ran.

        A case that fewer than two of several kernels could run is left out.
        Raises DisagreementError for the first that does not do the same
        everywhere, also when it is run again: that is what hypothesis shrinks.
        One that came once only is counted in ``unsteady``. SandboxError for a
        program that a kernel could not begin.
        """
        budget.check()
        least = min(2, len(self.agents))
        ran = 0
        for sandbox, group in by_sandbox(cases):
            able = [(case, self.able(case)) for case in group]
            lacking = frozenset().union(*(self._lacking(case) for case in group))
            counting.note(asked=len(able), ran=0, lacking=lacking)
            able = [(case, names) for case, names in able if len(names) >= least]
            counting.note(asked=0, ran=len(able))
            programs = [case.built for case, _ in able]
            for difference in self.compare(programs, sandbox, [names for _, names in able]):
                for again in self.compare([difference.built], sandbox, [difference.kernels]):
                    raise budget.failed(DisagreementError(again), len(again.built.steps))
                self.unsteady += 1
            ran += len(able)
        return ran

    def _lacking(self, case: Case) -> frozenset[str]:
        """What the case needs and some kernel has not."""
        return frozenset().union(*(case.needs - has for has in self.features.values()))

    def able(self, case: Case) -> frozenset[str]:
        """The kernels that have all that the case needs."""
        lacking = {name: case.needs - has for name, has in self.features.items()}
        self.sat_out.update(frozenset().union(*lacking.values()))
        return frozenset(name for name, missing in lacking.items() if not missing)


def _difference(built: Built, sandbox: Sandbox, rans: Mapping[str, Ran]) -> Difference | None:
    first = next(iter(rans.values()))
    if all(ran == first for ran in rans.values()):
        return None
    sides: dict[View, tuple[list[str], Ran]] = {}
    for name, ran in rans.items():
        sides.setdefault(normalised(built, ran), ([], ran))[0].append(name)
    if len(sides) == 1:
        return None
    ordered = sorted(sides.values(), key=lambda side: -len(side[0]))
    return Difference(built, sandbox, tuple((tuple(names), ran) for names, ran in ordered))
