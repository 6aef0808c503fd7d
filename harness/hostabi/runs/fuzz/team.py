"""The guests of a lockstep run: one of each kernel, replaced by a fresh one when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hostabi.closing import Closing
from hostabi.kernels.identity import is_running
from hostabi.runs.lanes import pin

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.runs.guests import Guests

SPARE = 2
"""Guests beside the team, in which a difference is confirmed."""


class Team(Closing):
    """``members`` are kernels by the name each goes by; a context manager that owns the guests.

    Each fresh guest is handed to ``prepare`` first, by its member's name.
    """

    def __init__(
        self,
        guests: Guests,
        members: Mapping[str, str],
        prepare: Callable[[str, Agent], None] = lambda _name, _agent: None,
    ) -> None:
        self._guests = guests
        self._prepare = prepare
        self.members = dict(members)
        self.agents: dict[str, Agent] = {}
        """Of each member, by its name; the same object for as long as the team lives."""
        self._open: dict[str, ExitStack] = {}
        self._room = ExitStack()
        try:
            self._room.enter_context(guests.room(len(members) + SPARE))
            for name in members:
                self.replace(name)
        except BaseException:
            self.close()
            raise

    def replace(self, name: str) -> None:
        """Have a fresh guest in the place of one that failed."""
        if name in self._open:
            self._open.pop(name).close()
        stack = ExitStack()
        self._open[name] = stack
        place = list(self.members).index(name)
        self.agents[name] = stack.enter_context(self._fresh(name, place))

    @contextmanager
    def beside(self, names: Sequence[str]) -> Iterator[dict[str, Agent]]:
        """Freshly restored guests of some members, gone after the block."""
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(self._fresh(name, place))
                for place, name in enumerate(names)
            }

    @contextmanager
    def _fresh(self, name: str, place: int) -> Iterator[Agent]:
        """A guest of a member, on the CPU that the lane of guest number ``place`` has."""
        spec = self.members[name]
        if is_running(spec):
            with self._guests.agent(spec) as agent:
                self._prepare(name, agent)
                yield agent
            return
        with self._guests.machine(spec) as machine:
            # nobody is given what random programs have run in
            self._guests.spoil(machine)
            pin(machine.run.process.pid, place)
            self._prepare(name, machine.agent)
            yield machine.agent

    def close(self) -> None:
        """End all guests."""
        for stack in self._open.values():
            stack.close()
        self._open.clear()
        self._room.close()
