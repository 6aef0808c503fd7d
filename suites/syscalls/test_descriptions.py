"""Programs made of descriptions reach what they are about, and each description works."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hostabi.agent.program import Report, Sandbox
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.descriptions.groups import all_descriptions, group_of
from hostabi.syscalls.descriptions.programs import RECORD, Composer
from hostabi.syscalls.table import C, errno_name
from hostabi.syscalls.trace import ran_at_all

NAMESPACES = (
    C.CLONE_NEWNS
    | C.CLONE_NEWPID
    | C.CLONE_NEWIPC
    | C.CLONE_NEWUTS
    | C.CLONE_NEWNET
    | C.CLONE_NEWCGROUP
)
OWN = Sandbox(namespaces=NAMESPACES)
ROOTLESS = Sandbox(namespaces=NAMESPACES | C.CLONE_NEWUSER, uid=1000, gid=1000)
SHALLOW = {"EBADF", "EFAULT", "EINVAL"}
"""What a call says that did not get far: it was not given what it takes."""
PROGRAMS = 64
TRIES = 12


def drawn(seed: object) -> Iterator[list[bytes]]:
    chance = random.Random(str(seed))
    while True:
        yield [chance.randbytes(RECORD) for _ in range(10)]


@pytest.mark.parametrize(
    "sandbox", [Sandbox(), OWN, ROOTLESS], ids=["root", "namespaces", "userns"]
)
def test_programs_go_deep(agent, sandbox):
    """Of programs of ten calls, nine in ten get seven at least past the checks of arguments."""
    if agent.hello.euid != 0:
        if sandbox is not ROOTLESS:
            unsupported("what is described for root is not for others")
        sandbox = replace(sandbox, uid=0, gid=0)  # who may not become another stays who he is
    composer, source = Composer.of((), sandbox), drawn(1)
    cases = [composer.compose(next(source)) for _ in range(PROGRAMS)]
    answers = agent.run([case.built.program for case in cases], sandbox)
    deep = 0
    for case, ran in zip(cases, answers, strict=True):
        values = ran_at_all(case.built, ran).values
        names = [errno_name(-value) if -4095 <= value < 0 else "" for value in values]
        deep += sum(name not in SHALLOW for name in names) >= 7
    assert deep >= 0.9 * PROGRAMS, f"{deep} of {PROGRAMS}"


def test_each_description_works_somewhere(lockstep):
    """On some kernel, at the end of some program of its group; or it says why it never does."""
    left = {each for each in all_descriptions() if not each.last}
    hopeless = {each for each in left if each.unsuccessful}
    assert {each.name for each in worked(lockstep, hopeless, 0)} == set(), "needs no reason"
    left -= hopeless
    for index in range(TRIES):
        left -= worked(lockstep, left, index)
    assert sorted(each.name for each in left) == []


def worked(lockstep, descriptions, index):
    """Those that did what they should as the last call of a program.

    The first one is nothing but what the call needs, all of which has to work too: memory that
    could not be sealed can be changed. A child has ended before the next call, as in ``fuzz``,
    because what becomes of it is told as well.
    """
    composers = {}
    asked = []
    for each in sorted(descriptions, key=lambda each: each.name):
        group = group_of(each)
        composer = composers.setdefault(group, Composer.of((group,), OWN))
        records = next(drawn(f"{each.name} {index}")) if index else []
        asked.append((each, composer.compose(records, last=each)))
    programs = [replace(case.built.program, report=Report.STATE) for _, case in asked]
    answers = lockstep.run(programs, OWN)
    return {
        each
        for (each, case), rans in zip(asked, answers, strict=True)
        for ran in rans.values()
        if len(ran.values) == len(case.built.steps)
        and not any(-4095 <= value < 0 for value in ran.values[-1 if index else 0 :])
    }
