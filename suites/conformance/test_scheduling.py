"""config.md, "Linux Process": scheduler, ioPriority and execCPUAffinity."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import CpuAffinity, IoPriority, Scheduler
from hostabi.syscalls.table import C

MILLISECOND = 1_000_000
RESET = "SCHED_FLAG_RESET_ON_FORK"

BETTER = pytest.mark.privileged("better than others is for CAP_SYS_NICE of the host")

# The property, and what sched_getattr(2) says then: policy, flags, nice, priority and times.
POLICIES = {
    "other": (Scheduler(policy="SCHED_OTHER", nice=7), (C.SCHED_NORMAL, 0, 7, 0)),
    "batch": (Scheduler(policy="SCHED_BATCH", nice=-5), (C.SCHED_BATCH, 0, -5, 0)),
    "idle": (Scheduler(policy="SCHED_IDLE"), (C.SCHED_IDLE, 0, 0, 0)),
    "fifo": (Scheduler(policy="SCHED_FIFO", priority=10), (C.SCHED_FIFO, 0, 0, 10)),
    "round-robin": (
        Scheduler(policy="SCHED_RR", priority=20, flags=(RESET,)),
        (C.SCHED_RR, C.SCHED_FLAG_RESET_ON_FORK, 0, 20),
    ),
    "deadline": (
        Scheduler(
            policy="SCHED_DEADLINE",
            flags=(RESET,),
            runtime=5 * MILLISECOND,
            deadline=20 * MILLISECOND,
            period=40 * MILLISECOND,
        ),
        (C.SCHED_DEADLINE, C.SCHED_FLAG_RESET_ON_FORK, 0, 0),
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in {"other", "idle"} else [BETTER]) for name in POLICIES],
)
@pytest.mark.proves("process.scheduler", "process.scheduler.policy")
def test_scheduler(name: str, look, since) -> None:
    """ "scheduler": policy, nice, priority, flags and the times of a deadline, as the kernel has
    them for the process."""
    since(1, 1)
    wanted, values = POLICIES[name]
    config = bundle.process(bundle.base(), scheduler=wanted)
    said = look(config, actions.SCHEDULER).deed(actions.SCHEDULER)
    assert said.error == ""
    seen = tuple(int(word) for word in said.data.split())
    assert seen[:4] == values
    if wanted.policy == "SCHED_DEADLINE":
        assert seen[4:] == (wanted.runtime, wanted.deadline, wanted.period)


@pytest.mark.proves("process.scheduler")
def test_unknown_policy(refused, since) -> None:
    """config.md, "Valid values": a policy that does not exist is an error."""
    since(1, 1)
    unknown = Scheduler(policy="SCHED_HOSTABI")
    refused(bundle.process(bundle.base(), scheduler=unknown), actions.REPORT)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        pytest.param("IOPRIO_CLASS_RT", 1, marks=[BETTER]),
        ("IOPRIO_CLASS_BE", 3),
        ("IOPRIO_CLASS_IDLE", 0),
    ],
)
@pytest.mark.proves("process.ioPriority")
def test_io_priority(name: str, level: int, look, since) -> None:
    """ "ioPriority": class and priority, as ioprio_get(2) has them."""
    since(1, 1)
    wanted = IoPriority(io_class=name, priority=level)
    seen = look(bundle.process(bundle.base(), io_priority=wanted), actions.REPORT).report
    number = getattr(C, name)
    assert seen.io_priority == number << C.IOPRIO_CLASS_SHIFT | level


@pytest.mark.variant(cpus=2)
def test_exec_affinity(runtime: Runtime, since) -> None:
    """ "execCPUAffinity", "final": the processors of a process that joins the container, and not
    those of the container's own."""
    since(1, 2, 1)
    with runtime.container(bundle.base(), actions.REPORT, actions.signal()) as made:
        made.start()
        made.ready()
        assert made.answers().report.cpus == (0, 1)
        for processor in (0, 1):
            affinity = CpuAffinity(initial=str(processor), final=str(processor))
            process = bundle.process(bundle.base(), exec_cpu_affinity=affinity).process
            seen = made.execute(process, actions.REPORT).answers.report
            assert seen.cpus == (processor,)
