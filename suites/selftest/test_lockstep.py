"""Lockstep: what differs on one kernel only is found and shrunk."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hostabi import resources
from hostabi.agent.local import local_agent
from hostabi.agent.program import End, Ran, Sandbox
from hostabi.errors import GuestHangError, InputError, SandboxError
from hostabi.model import Outcome
from hostabi.runs import journal as journals
from hostabi.runs import lanes, outcomes
from hostabi.runs.lockstep import Difference, DisagreementError, Lockstep
from hostabi.syscalls import budget, counting, probes
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.cases import Case, Script, batches, hold, long_lists
from hostabi.syscalls.table import C, number


class Altered:
    """An agent as of a kernel on which one syscall's error or value is another."""

    def __init__(self, agent, syscall: str, old: int, new: int) -> None:
        self.agent, self.number, self.old, self.new = agent, number(syscall), old, new

    @property
    def timeout_scale(self) -> float:
        return self.agent.timeout_scale

    def submit(self, programs, sandbox=Sandbox(), *, payload=None):
        return self.agent.submit(programs, sandbox, payload=payload)

    def collect(self, pending):
        answers = self.agent.collect(pending)
        return [
            self.alter(program, ran) for program, ran in zip(pending.programs, answers, strict=True)
        ]

    def run(self, programs, sandbox=Sandbox()):
        return self.collect(self.submit(programs, sandbox))

    def alter(self, program, ran: Ran) -> Ran:
        values = tuple(
            self.new if call.number == self.number and value == self.old else value
            for call, value in zip(program.calls, ran.values, strict=False)
        )
        return replace(ran, values=values)


@pytest.fixture(scope="module")
def agents():
    with local_agent() as first, local_agent() as second:
        yield first, second


@pytest.fixture
def another():
    with local_agent() as agent:
        yield agent


descriptor = st.integers(0, 6)
operation = st.one_of(
    st.tuples(st.just("dup"), descriptor),
    st.tuples(st.just("dup3"), descriptor, descriptor, st.sampled_from([0, C.O_CLOEXEC])),
    st.tuples(st.just("close"), descriptor),
    st.tuples(st.just("lseek"), descriptor, st.integers(0, 9), st.integers(0, 2)),
)


def story(operations) -> Case:
    script = Script()
    for name, *arguments in operations:
        script.call(name, *arguments)
    return script.case()


SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def smallest_difference(lockstep: Lockstep) -> Difference:
    @SETTINGS
    @given(batch=batches(long_lists(operation, 10).map(story)))
    def explore(batch):
        lockstep.agree(batch)

    with pytest.raises(DisagreementError) as caught:
        explore()
    return caught.value.difference


@pytest.mark.parametrize(
    ("syscall", "old", "new", "calls"),
    [
        ("dup3", -errno.EINVAL, -errno.EBADF, 1),
        ("close", 0, 1, 1),
        ("dup", 3, 4, 1),
        ("dup", 4, 5, 2),
    ],
)
def test_an_altered_result_is_found_and_shrunk(agents, syscall, old, new, calls):
    odd = Altered(agents[1], syscall, old, new)
    difference = smallest_difference(Lockstep({"6.1": agents[0], "6.12": odd, "6.18": agents[0]}))
    assert len(difference.built.steps) == calls
    assert difference.built.steps[-1].name == syscall
    assert difference.call == calls - 1
    assert [names for names, _ in difference.sides] == [("6.1", "6.18"), ("6.12",)]
    assert difference.sides[0][1].values[-1] == old
    assert difference.sides[1][1].values[-1] == new


def test_shrinking_ends_with_the_smallest_found_in_time(agents):
    def failing(calls: int) -> Case:
        script = Script()
        for _ in range(calls):
            script.returns(1, "getpid")
        return script.case()

    def search() -> None:
        for calls in (4, 2, 3):
            with pytest.raises(AssertionError):
                hold(agents[0], [failing(calls)], frozenset())
        time.sleep(1)
        hold(agents[0], [failing(1)], frozenset())

    for seconds, calls in ((0.5, 2), (60, 1)):
        with pytest.raises(AssertionError) as caught, budget.bounded(seconds):
            search()
        assert caught.value.__notes__[0].count("getpid") == calls


def test_a_kernel_agrees_with_itself(agents):
    lockstep = Lockstep({"one": agents[0], "two": agents[1]})

    @SETTINGS
    @given(batch=batches(long_lists(operation, 10).map(story)))
    def explore(batch):
        lockstep.agree(batch)

    explore()
    assert lockstep.programs > 300
    assert lockstep.rate > 0


def test_a_difference_reads_as_traces_c_and_python(agents):
    b = Builder()
    b.call("dup3", 1, 1, 0)
    odd = Altered(agents[1], "dup3", -errno.EINVAL, -errno.EBADF)
    (difference,) = Lockstep({"6.1": agents[0], "6.12": odd}).compare([b.build()])
    text = str(difference)
    assert "6.1:\n  r0 = dup3(1, 1, 0) = -EINVAL" in text
    assert "6.12:\n  r0 = dup3(1, 1, 0) = -EBADF" in text
    assert 'Call(number("dup3"), (1, 1, 0,))' in text
    assert '{ "6.1", { -22LL }' in difference.to_c()


def test_a_difference_that_does_not_come_again_is_not_one(agents):
    class Once(Altered):
        def alter(self, program, ran):
            changed = super().alter(program, ran)
            if changed != ran:
                self.old = 12345
            return changed

    b = Builder()
    b.call("dup3", 1, 1, 0)
    odd = Once(agents[1], "dup3", -errno.EINVAL, -errno.EBADF)
    lockstep = Lockstep({"6.1": agents[0], "6.12": odd})
    assert lockstep.agree([Case(b.build())]) == 1
    assert lockstep.unsteady == 1


class Meeting:
    """An agent that answers only while another one is at work as well."""

    timeout_scale = 1.0

    def __init__(self, met: threading.Barrier, log: list[str], name: str) -> None:
        self.met, self.log, self.name = met, log, name

    def submit(self, programs, sandbox=Sandbox(), *, payload=None):
        self.log.append(f"ask {self.name}")
        return programs

    def collect(self, pending):
        self.met.wait(10)
        self.log.append(f"hear {self.name}")
        return [Ran(End.EXITED, 0) for _ in pending]


def test_as_many_kernels_work_at_a_time_as_there_are_cpus(monkeypatch):
    monkeypatch.setattr(lanes, "cpus", lambda: (0, 1))
    met, log = threading.Barrier(2), []
    Lockstep({name: Meeting(met, log, name) for name in "abcd"}).compare([Builder().build()])
    for first, second in ("ac", "bd"):
        own = [line for line in log if line.endswith((first, second))]
        assert own == [f"ask {first}", f"hear {first}", f"ask {second}", f"hear {second}"]


def test_lockstep_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one kernel"):
        Lockstep({})


def test_features_are_found_by_trying(agents):
    assert "close_range" in probes.features(agents[0])
    without = Altered(agents[0], "close_range", 0, -errno.ENOSYS)
    assert "close_range" not in probes.features(without)
    together = Lockstep({"new": agents[0], "old": without})
    assert together.differing_features()["close_range"] == {"new"}
    assert "close_range: on new; 0 cases ran there only" in together.features_text()
    assert "close_range" not in Lockstep({"a": agents[0], "b": agents[1]}).features_text()


def test_a_case_runs_where_its_feature_is(agents, another):
    """Also when not every kernel has it; and never on a kernel that lacks it."""
    without = Altered(another, "close_range", 0, -errno.ENOSYS)
    odd = Altered(agents[1], "dup3", -errno.EINVAL, -errno.EBADF)
    script = Script()
    script.call("dup3", 1, 1, 0)
    script.needs.add("close_range")
    together = Lockstep({"a": agents[0], "old": without, "b": odd})
    plain = Script()
    plain.call("getpid", opaque=True)
    with pytest.raises(DisagreementError) as caught:
        together.agree([plain.case(), script.case()])
    assert caught.value.difference.kernels == {"a", "b"}
    assert together.sat_out == {"close_range": 1}
    assert Lockstep({"old": without, "b": odd}).agree([plain.case(), script.case()]) == 1


def test_cases_that_need_more_than_there_is_are_left_out(agents):
    script = Script()
    script.returns(1, "getpid")
    script.needs.add("time travel")
    assert hold(agents[0], [script.case()], frozenset()) == 0
    with pytest.raises(AssertionError, match=r"r0 is .*, must be 1") as caught:
        hold(agents[0], [script.case()], frozenset({"time travel"}))
    assert "getpid() = " in caught.value.__notes__[0]


class Ending:
    """An agent whose programs all end in the same way."""

    timeout_scale = 1.0

    def __init__(self, ran: Ran) -> None:
        self.ran = ran

    def submit(self, programs, _sandbox=Sandbox(), *, payload=None):
        del payload
        return programs

    def collect(self, programs):
        return [self.ran] * len(programs)

    def run(self, programs, sandbox=Sandbox()):
        return self.collect(self.submit(programs, sandbox))


def test_a_sandbox_that_could_not_be_made_is_the_harness_failing():
    """On one kernel and in lockstep, also when all kernels agree about it."""
    refused = Ending(Ran(End.REFUSED, errno.ENOMEM, (), (), "scratch"))
    script = Script()
    script.call("getpid", opaque=True)
    case = script.case()
    together = Lockstep({"a": refused, "b": refused})
    vars(together)["features"] = {"a": frozenset(), "b": frozenset()}
    tries = [
        lambda: hold(refused, [case], frozenset()),
        lambda: together.agree([case]),
        lambda: probes.features(refused),
    ]
    for ask in tries:
        with pytest.raises(SandboxError, match="scratch failed with ENOMEM") as caught:
            ask()
        assert outcomes.judge(caught.value) is Outcome.ERROR
    hanging = Ending(Ran(End.TIMED_OUT, 0, (), (), ""))
    with pytest.raises(GuestHangError, match="the probe for openat2 did not end"):
        probes.features(hanging)


def test_what_ran_is_counted_over_a_whole_test(agents):
    script = Script()
    script.call("getpid", opaque=True)
    script.needs.add("time travel")
    plain = Script()
    plain.call("getpid", opaque=True)
    together = Lockstep({"a": agents[0], "b": agents[1]})
    for ask in (
        lambda case: hold(agents[0], [case], frozenset()),
        lambda case: together.agree([case]),
    ):
        with counting.counted() as count:
            assert not count.nothing  # a test that asks for no case
            ask(script.case())
            ask(script.case())
            assert count.nothing == "no case could be run without time travel"
            ask(plain.case())
            assert (count.asked, count.ran, count.nothing) == (3, 1, "")


def test_a_test_that_ran_nothing_is_unsupported(pytester, monkeypatch):
    monkeypatch.delenv(journals.ENVIRONMENT, raising=False)
    pytester.makeconftest((resources.suites() / "syscalls" / "conftest.py").read_text())
    pytester.makepyfile(
        """
        from hostabi.syscalls.cases import Script, hold
        def script(*needs):
            made = Script()
            made.needs.update(needs)
            return made.case()
        def test_nothing(): hold(None, [script("time travel")], frozenset())
        def test_plain(): pass
        """
    )
    result = pytester.runpytest_subprocess("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*unsupported: no case could be run without time travel*"])
