"""The real agent as a process on this kernel: fixtures and what tests of it share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostabi.agent.client import Agent
from hostabi.agent.local import local_agent
from hostabi.agent.program import Abi, Argument, Call, Program, Ran, Sandbox, Store


@pytest.fixture(scope="module")
def shared() -> Iterator[Agent]:
    """One agent for a module's tests."""
    with local_agent() as agent:
        yield agent


@pytest.fixture
def agent(shared: Agent) -> Agent:
    """The module's agent, with nothing left of the test before."""
    shared.reset()
    return shared


def call(
    number: int, *arguments: Argument, stores: tuple[Store, ...] = (), abi: Abi = Abi.NATIVE
) -> Call:
    """One call of a program."""
    return Call(number, arguments, stores, abi)


def run(agent: Agent, *calls: Call, sandbox: Sandbox = Sandbox(), **rest: object) -> Ran:
    """What one program did."""
    return agent.run([Program(calls, **rest)], sandbox)[0]  # type: ignore[arg-type]


def children_of(pid: int) -> list[str]:
    """Processes below a process, however deep: each agent is a subreaper."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return text.split()


def agent_pid(agent: Agent) -> int:
    """The agent's process id."""
    return int(agent.command(["sh", "-c", "echo $PPID"]).stdout)


def command_lines() -> Iterator[bytes]:
    """The command line of each process that we may look at."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes()
        except OSError:
            continue


def user_namespaces() -> bool:
    """Whether this machine gives us user namespaces."""
    return subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode == 0  # noqa: PLW1510
