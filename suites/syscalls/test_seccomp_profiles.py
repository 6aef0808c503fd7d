"""The default profiles of container engines as filters of a kernel: seccomp(2)."""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence
from itertools import product

import pytest

from hostabi.agent.client import Agent
from hostabi.agent.program import Abi, Call, End, Program, Ran, Sandbox
from hostabi.oci.bundle import CAPABILITIES
from hostabi.packages.context import Packages
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls import profiles, seccomp, table
from hostabi.syscalls.profiles import Profile
from hostabi.syscalls.seccomp import Policy
from hostabi.syscalls.table import C

IN_ONE = 100
"""Calls of one program."""

PERSONAS = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 1, 0x28, 0x40000, 1 << 32, 1 << 32 | 8)
FAMILIES = (C.AF_UNIX, C.AF_INET, C.AF_NETLINK, C.AF_VSOCK)
PROTOCOLS = (0, C.NETLINK_AUDIT, 1 << 32 | C.NETLINK_AUDIT)
CONDITIONAL = (
    *(("personality", (persona,)) for persona in PERSONAS),
    *(
        ("socket", (family, C.SOCK_RAW, number))
        for family, number in product(FAMILIES, PROTOCOLS)
    ),
)  # fmt: skip
ALLOWED = (
    ("getpid", ()),
    ("openat", (C.AT_FDCWD, 0, 0, 0)),
    ("clone3", (0, 0)),
    ("futex", (0, -1, 0)),
    ("statx", (C.AT_FDCWD, 0, 0, 0, 0)),
    ("close_range", (9, 8, 0)),
    ("sched_yield", ()),
    ("epoll_create1", (-1,)),
    ("unshare", (0,)),
    ("umask", (0o22,)),
)
"""Calls that every profile allows, and that do no harm."""

UNFILTERED = frozenset({"uprobe", "uretprobe"})
"""Calls of the kernel's own trampolines. Who has them lets them past every filter, since "seccomp:
passthrough uretprobe systemcall without filtering" (cf6cb56ef244), and ends any other caller."""


@pytest.fixture(params=profiles.catalogue())
def profile(request: pytest.FixtureRequest, packages: Packages) -> Profile:
    """Each generation."""
    return profiles.fetch(packages, request.param)


@pytest.fixture
def policy(profile: Profile) -> Policy:
    """For the bounding set that engines leave to a container."""
    return profile.policy(CAPABILITIES)


def values(agent: Agent, calls: Sequence[Call], filter_: bytes = b"") -> list[int]:
    """What the calls returned."""
    chunks = [tuple(calls[first : first + IN_ONE]) for first in range(0, len(calls), IN_ONE)]
    # A socket of a family that nobody asked for before has its module loaded.
    box = Sandbox(no_new_privs=True, timeout=10.0, seccomp=filter_)
    found: list[int] = []
    for ran in agent.run([Program(chunk) for chunk in chunks], box):
        assert ran.end is End.EXITED, ran
        found += ran.values
    return found


def compare(
    agent: Agent, policy: Policy, asked: Sequence[tuple[str, tuple[int, ...]]]
) -> tuple[list[str], set[str]]:
    """Where the filtered kernel is not as the policy says, and which calls were refused."""
    calls = [Call(table.number(name), arguments) for name, arguments in asked]
    free = values(agent, calls)
    filtered = values(agent, calls, seccomp.compiled(policy))
    wrong: list[str] = []
    refused: set[str] = set()
    for (name, arguments), without, value in zip(asked, free, filtered, strict=True):
        said = seccomp.verdict(policy, table.number(name), arguments)
        expected = without
        if said != C.SECCOMP_RET_ALLOW:
            expected = -(said & C.SECCOMP_RET_DATA)
            refused.add(name)
        if (value < 0 or expected < 0) and value != expected:
            wrong.append(f"{name}{arguments}: {value}, not {expected}")
    return wrong, refused


def test_allowed_calls_work(agent: Agent, policy: Policy) -> None:
    """SECCOMP_RET_ALLOW: the kernel's own answer."""
    assert compare(agent, policy, ALLOWED) == ([], set())


@pytest.mark.parametrize("abi", list(seccomp.ARCHITECTURES.values()))
def test_refused_calls_give_the_errno(agent: Agent, policy: Policy, abi: Abi) -> None:
    """SECCOMP_RET_ERRNO: of each call of the table that the profile refuses, its errno."""
    [ran] = agent.run([Program((Call(table.number("getpid", abi), (), (), abi),))])
    if abi is Abi.IA32 and ran.end is not End.EXITED:
        unsupported("this kernel runs no calls of i386")
    numbers = sorted(
        {number for name, number in table.numbers(abi).items() if name not in UNFILTERED}
    )
    said = {number: seccomp.verdict(policy, number, (), abi) for number in numbers}
    refused = [number for number in numbers if said[number] != C.SECCOMP_RET_ALLOW]
    calls = [Call(number, (), (), abi) for number in refused]
    found = values(agent, calls, seccomp.compiled(policy))
    expected = [-(said[number] & C.SECCOMP_RET_DATA) for number in refused]
    assert {-errno.EPERM, -errno.ENOSYS} <= set(expected)
    assert found == expected


def test_conditions_on_arguments(agent: Agent, policy: Policy) -> None:
    """All 64 bits of an argument count: personality(2)."""
    wrong, refused = compare(agent, policy, CONDITIONAL)
    assert wrong == []
    assert "personality" in refused


def test_conditions_on_arguments_without_capabilities(agent: Agent, profile: Profile) -> None:
    """Without CAP_AUDIT_WRITE a profile has two conditions on one call: socket(2)."""
    wrong, refused = compare(agent, profile.policy(), CONDITIONAL)
    assert wrong == []
    assert refused == {"personality", "socket"}


def test_an_architecture_that_is_not_listed_ends_the_caller(agent: Agent) -> None:
    """SECCOMP_RET_KILL_THREAD, and SIGSYS: seccomp(2)."""
    policy = Policy("SCMP_ACT_ALLOW")
    box = Sandbox(no_new_privs=True, seccomp=seccomp.compiled(policy))

    def end(abi: Abi) -> Ran:
        number = table.number("getpid", abi)
        return agent.run([Program((Call(number, (), (), abi),))], box)[0]

    assert end(Abi.NATIVE).end is End.EXITED
    ended = end(Abi.X32)
    assert (ended.end, ended.code) == (End.SIGNALLED, signal.SIGSYS)
