"""What a runtime's commands, its states and the containers that it ran have said."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import msgspec

from hostabi.agent.records import Completed
from hostabi.oci.records import Config
from hostabi.oci.seen import Answers, decode


class ContainerError(AssertionError):
    """The runtime did not do what the bundle asks.

    An assertion and no harness error: it speaks about the pair under test. The first line
    is what the runtime complained about, for tables have room for no more.
    """

    @classmethod
    def of(cls, step: Step, config: Config, said: str = "") -> ContainerError:
        """About a command of the runtime; ``said`` is what it printed elsewhere."""
        told = f"{step}\n{said}" if said else str(step)
        return cls(f"{step.complaint}\n{told}\nconfig.json:\n{config.encode().decode()}")


class State(msgspec.Struct, frozen=True):
    """runtime.md, "State". ``pid`` is the container's first process as the guest sees it."""

    id: str
    status: str
    bundle: str
    oci_version: str = msgspec.field(name="ociVersion", default="")
    pid: int = 0
    annotations: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the runtime and how it ended."""

    argv: tuple[str, ...]
    done: Completed

    @property
    def ok(self) -> bool:
        """Whether it ended in order."""
        return self.done.status == 0

    @property
    def answers(self) -> Answers:
        """What a probe that this command ran has said."""
        return decode(self.done.stdout)

    @property
    def text(self) -> str:
        """Its standard output."""
        return self.done.stdout.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """The last line of its standard error, else how it ended."""
        said = self.done.stderr.decode("utf-8", "replace").strip()
        return said.rpartition("\n")[2] or self._end

    @property
    def _end(self) -> str:
        return f"signal {self.done.signal}" if self.done.signal else f"status {self.done.status}"

    def __str__(self) -> str:
        lines = [f"$ {shlex.join(self.argv)}", f"  {self._end}"]
        for stream in (self.done.stdout, self.done.stderr):
            text = stream[-3000:].decode("utf-8", "replace")
            lines += [f"  | {line}" for line in text.splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Visit:
    """A container that ran to its end: its bundle, the command, and the probe's answers.

    A refusal by the runtime is kept here and raised when an answer is asked for.
    """

    config: Config
    step: Step
    output: bytes | None = None
    """What the container printed, where the step's output is another's."""

    @property
    def ok(self) -> bool:
        """Whether the runtime ran the container and the probe ended in order."""
        return self.step.ok

    @property
    def error(self) -> str:
        """What the runtime complained about."""
        return self.step.done.stderr.decode("utf-8", "replace")

    @property
    def answers(self) -> Answers:
        """What the probe said. Raises ContainerError, with bundle and command, if it did not."""
        if not self.step.ok:
            raise ContainerError.of(self.step, self.config)
        return self.step.answers if self.output is None else decode(self.output)


class ProcessState(msgspec.Struct, frozen=True, rename="camel"):
    """config-linux.md, "The Container Process State", as a listener gets it."""

    oci_version: str
    fds: tuple[str, ...]
    pid: int
    state: State
    metadata: str = ""
