"""A further process in a container that runs: exec, on which engines build.

The specification names no such operation, but its "process" object is what describes the
process, and config-linux.md's namespaces and control group are the container's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hostabi.kernels.build import Build
from hostabi.oci import actions, bundle
from hostabi.oci.actions import attempt
from hostabi.oci.driver import Container, Runtime
from hostabi.oci.records import Capabilities, Process, Rlimit, User
from hostabi.oci.seen import Answers, Report
from hostabi.pytest_plugin import unsupported

TASKS = 50
CONTAINER = bundle.pids(bundle.base("executed"), TASKS)
BEYOND = actions.fork(TASKS + 10)
SET_ID = attempt("setresuid", 5, 5, 5)
PROCESS = bundle.process(
    bundle.base(),
    user=User(uid=1000, gid=1001, additional_gids=(7, 9), umask=0o027),
    cwd="/var/tmp",
    env=("ONLY=here", "PATH=/bin"),
    capabilities=Capabilities(),
    rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=33, hard=44),),
    oom_score_adj=456,
).process


@contextmanager
def running(runtime: Runtime) -> Iterator[Container]:
    """A container whose process waits."""
    with runtime.container(CONTAINER, actions.REPORT, actions.signal()) as made:
        made.start()
        made.ready()
        yield made


@pytest.fixture(scope="session")
def told() -> dict[tuple[str, str, str], tuple[Report, Answers, Report]]:
    """By kernel and runtime: the container's report, the joined process's answers, and what a
    joined process of the container's own description sees."""
    return {}


@pytest.fixture
def joined(runtime: Runtime, kernel: Build, told) -> tuple[Report, Answers, Report]:
    """As ``told``, for this pair."""
    key = (kernel.name, runtime.name, runtime.drops)
    with runtime.agent.once(("exec", *key)):
        if key not in told:
            with running(runtime) as made:
                answers = made.execute(PROCESS, actions.REPORT, SET_ID, BEYOND).answers
                own = made.execute(CONTAINER.process, actions.REPORT).answers.report
                told[key] = (made.answers().report, answers, own)
    return told[key]


def test_namespaces(joined) -> None:
    """It is in every namespace of the container, and sees its root."""
    container, answers, _own = joined
    seen = answers.report
    assert seen.namespaces == container.namespaces
    assert seen.hostname == "executed"
    assert seen.mount("/").device == container.mount("/").device
    assert seen.pid > 1


@pytest.mark.proves("exec.user.uid", "exec.user.gid", "exec.user.additionalGids", "exec.user.umask")
def test_user(joined) -> None:
    """Its own uid, gid, additional groups and umask, not the container's."""
    seen = joined[1].report
    assert (seen.uid, seen.gid) == ((1000,) * 3, (1001,) * 3)
    assert {7, 9} <= set(seen.groups)
    assert seen.umask == 0o027


@pytest.mark.proves("exec.env")
def test_folder_and_environment(joined) -> None:
    """Its own cwd, args and env."""
    seen = joined[1].report
    assert seen.cwd == "/var/tmp"
    assert {"ONLY=here", "PATH=/bin"} <= set(seen.environment)
    assert not [each for each in seen.environment if each.startswith("PATH=/usr")]
    assert seen.arguments[:2] == ("/probe", "report")


@pytest.mark.proves("exec.rlimits", "exec.oomScoreAdj")
def test_limits(joined) -> None:
    """Its own rlimits and oomScoreAdj."""
    seen = joined[1].report
    assert seen.rlimits["RLIMIT_NOFILE"] == (33, 44)
    assert seen.oom_score_adj.strip() == "456"


@pytest.mark.proves("exec.noNewPrivileges")
def test_capabilities(joined) -> None:
    """Its own sets, enforced; and those of the container when it is described like it."""
    container, answers, own = joined
    assert answers.report.capabilities.bounding == 0
    assert answers.deed(SET_ID).error == "EPERM"
    assert own.capabilities == container.capabilities
    assert own.no_new_privs


def test_control_group(joined) -> None:
    """It is in the container's control group, under its limits."""
    container, answers, _own = joined
    assert answers.report.cgroup == container.cgroup
    if "pids.max" not in container.cgroup_files:
        unsupported("this kernel has no pids controller for cgroup v2")
    assert answers.deed(BEYOND).error == "EAGAIN"
    assert answers.deed(BEYOND).value < TASKS


@pytest.mark.proves("exec.args")
def test_status_is_passed_on(runtime: Runtime) -> None:
    """The end of the process is the end of the command."""
    with running(runtime) as made:
        step = made.execute(CONTAINER.process, actions.leave(42), check=False)
        assert step.done.status == 42
        assert made.state().status == "running"


def test_needs_a_running_container(runtime: Runtime) -> None:
    """Before start it may be possible; after the end there is nothing to join."""
    with runtime.container(bundle.base(), actions.REPORT) as made:
        pid = made.state().pid
        made.start()
        made.wait(pid)
        assert not made.execute(CONTAINER.process, actions.REPORT, check=False).ok


def test_program_that_is_absent(runtime: Runtime) -> None:
    """An error, and the container goes on."""
    absent = Process(args=("/no/such/program",), cwd="/", user=User(uid=0, gid=0))
    with running(runtime) as made:
        assert not made.execute(absent, check=False).ok
        assert made.state().status == "running"
