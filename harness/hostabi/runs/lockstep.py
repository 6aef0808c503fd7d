"""The same programs on several kernels at once, and where the kernels differ."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hostabi.agent.client import Agent
from hostabi.agent.messages import encode_run
from hostabi.agent.program import Program, Ran, Sandbox
from hostabi.errors import InputError
from hostabi.syscalls import printers, probes
from hostabi.syscalls.builder import Built
from hostabi.syscalls.cases import Case, by_sandbox, runnable
from hostabi.syscalls.trace import Trace, View, normalised


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


class Lockstep:
    """Several agents, one for each kernel, given the same programs.

    All agents are sent a batch before any answer is awaited, so that their
    kernels work at the same time. ``programs`` and ``seconds`` count what was
    run and how long that took, the host's part included; ``unsteady`` counts
    differences that did not come again.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        if not agents:
            raise InputError("lockstep needs at least one kernel", advice="name one with --kernel")
        self.agents = dict(agents)
        self.programs = 0
        self.seconds = 0.0
        self.unsteady = 0
        self._features: frozenset[str] | None = None

    @property
    def features(self) -> frozenset[str]:
        """What all the kernels have, found by trying once."""
        if self._features is None:
            found = [probes.features(agent) for agent in self.agents.values()]
            self._features = frozenset.intersection(*found)
        return self._features

    @property
    def rate(self) -> float:
        """Programs a second so far, each on all kernels; 0.0 before the first."""
        return self.programs / self.seconds if self.seconds else 0.0

    def run(
        self, programs: Sequence[Program], sandbox: Sandbox = Sandbox()
    ) -> dict[str, list[Ran]]:
        """What each kernel did with each program, in order."""
        start = time.perf_counter()
        scales = {agent.timeout_scale for agent in self.agents.values()}
        payloads = {scale: encode_run(programs, sandbox, scale) for scale in scales}
        pending = {
            name: agent.submit(programs, sandbox, payload=payloads[agent.timeout_scale])
            for name, agent in self.agents.items()
        }
        answers = {name: self.agents[name].collect(sent) for name, sent in pending.items()}
        self.seconds += time.perf_counter() - start
        self.programs += len(programs)
        return answers

    def compare(self, programs: Sequence[Built], sandbox: Sandbox = Sandbox()) -> list[Difference]:
        """Run programs and tell those that do not do the same everywhere, in order."""
        if not programs:
            return []
        answers = self.run([built.program for built in programs], sandbox)
        found = (
            _difference(built, sandbox, {name: rans[index] for name, rans in answers.items()})
            for index, built in enumerate(programs)
        )
        return [difference for difference in found if difference]

    def agree(self, cases: Iterable[Case]) -> int:
        """Run the cases that every kernel has the features for; how many ran.

        Raises DisagreementError for the first that does not do the same
        everywhere, also when it is run again: that is what hypothesis shrinks.
        One that came once only is counted in ``unsteady``.
        """
        ran = 0
        for sandbox, group in by_sandbox(runnable(cases, self.features)):
            for difference in self.compare([case.built for case in group], sandbox):
                for again in self.compare([difference.built], sandbox):
                    raise DisagreementError(again)
                self.unsteady += 1
            ran += len(group)
        return ran


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
