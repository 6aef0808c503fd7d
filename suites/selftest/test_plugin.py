"""The pytest plugin, with guests that are made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostabi.model import Outcome
from hostabi.oci import deviations
from hostabi.oci.deviations import Deviation
from hostabi.runs import journal as journals

CONFTEST = """
import hashlib, types
import pytest
from hostabi import pytest_plugin
from hostabi.errors import AgentLostError, InputError, MachineError
from hostabi.runs.guests import Guests

class Agent:
    def __init__(self, name):
        self.name, self.dead, self.resets = name, False, 0
    def reset(self):
        if self.dead:
            raise AgentLostError("gone")
        self.resets += 1
    def ping(self):
        if self.dead:
            raise AgentLostError("the agent is gone", advice="look at the console")

class Machine:
    made = []
    emulator, accelerator = "QEMU 0", "fake"
    def __init__(self, build, variant):
        self.agent, self.variant, self.open = Agent(build.name), variant, True
        self.number = len(Machine.made)
        Machine.made.append(self)
    def __exit__(self, *_):
        self.open = False

def resolve(spec):
    if spec == "0.1":
        raise InputError("no line is called 0.1", advice="known: 6.1")
    image = None if spec == "running" else "/nowhere"
    return types.SimpleNamespace(
        line=spec, name="running" if spec == "running" else spec + ".9-1", release=spec,
        version=spec, flavour="cloud", suite="s", image=image, image_digest=spec, packages={})

def start(build, variant, disks):
    if build.line == "6.66":
        raise MachineError("it does not boot", advice="try another")
    return Machine(build, variant)

def pytest_configure(config):
    config.stash[pytest_plugin.GUESTS] = Guests(
        types.SimpleNamespace(cache=None), jobs=2, start=start, resolve=resolve)
"""


@pytest.fixture
def inside(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder whose conftest hands out made-up machines."""
    monkeypatch.delenv(journals.ENVIRONMENT, raising=False)
    monkeypatch.setattr(journals.sources, "digest", lambda part: "the same")
    pytester.makeconftest(CONFTEST)
    return pytester


def test_ids_name_kernel_and_runtime(inside: pytest.Pytester) -> None:
    inside.makepyfile(
        """
        import pytest
        def test_one(agent): pass
        @pytest.mark.parametrize("size", ["small", "large"])
        def test_sized(agent, size): pass
        def test_both(runtime_name, agent): pass
        """
    )
    result = inside.runpytest(
        "--collect-only", "-q", "--kernel", "6.1", "--kernel=5.10,6.1", "--runtime=runc"
    )
    result.stdout.fnmatch_lines_random(
        ["*::test_one[[]6.1]", "*::test_one[[]5.10]", "*::test_sized[[]6.1-small]"]
    )
    result.stdout.fnmatch_lines(["*::test_both[[]6.1-runc]"])
    result.stdout.fnmatch_lines(["8 tests collected*"])


def test_a_machine_serves_many_tests_and_is_reset_between(inside: pytest.Pytester) -> None:
    inside.makepyfile(
        """
        def test_a(machine, agent): assert machine.number == 0 and agent.resets == 0
        def test_b(machine, agent): assert machine.number == 0 and agent.resets == 1
        """
    )
    inside.runpytest("--kernel", "6.1").assert_outcomes(passed=2)


def test_a_dead_guest_is_an_error_and_the_next_test_gets_a_fresh_one(
    inside: pytest.Pytester,
) -> None:
    inside.makepyfile(
        """
        def test_a(agent):
            agent.dead = True
            agent.ping()
        def test_b(machine): assert machine.number == 1
        """
    )
    result = inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    result.assert_outcomes(passed=1, errors=1)
    assert outcomes(inside) == {"test_a": Outcome.ERROR, "test_b": Outcome.PASS}
    result.stdout.fnmatch_lines(["*the agent is gone*", "*try: look at the console*"])


def test_variants_have_machines_of_their_own(inside: pytest.Pytester) -> None:
    inside.makepyfile(
        """
        import pytest
        def test_a(machine): assert machine.variant.cpus == 1
        @pytest.mark.variant(cpus=2)
        def test_b(machine): assert machine.variant.cpus == 2
        @pytest.mark.variant(cgroup="v1", memory=1024)
        def test_c(machine): assert machine.variant.memory == 1024
        """
    )
    inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl").assert_outcomes(passed=3)
    variants = {cell.variant for cell in read(inside).cells().values()}
    assert variants == {
        "",
        "cgroup-v2 cpus=2 memory=512",
        "cgroup-v1 cpus=1 memory=1024",
    }


def test_the_tests_of_one_guest_come_together(inside: pytest.Pytester) -> None:
    """With one machine at a time, as each change of the variant is a restore."""
    inside.makepyfile(
        """
        import pytest
        def test_a(machine): pass
        @pytest.mark.variant(cpus=2)
        def test_b(machine): pass
        def test_c(machine): pass
        @pytest.mark.variant(cpus=2)
        def test_d(machine): pass
        """
    )
    result = inside.runpytest("--kernel", "6.1,7.3", "-v")
    result.assert_outcomes(passed=8)
    names = re.findall(r"test_([a-d])\[(\S+)\] PASSED", result.stdout.str())
    assert names == [(test, kernel) for kernel in ("6.1", "7.3") for test in "acbd"]


OUTCOMES = """
    import pytest
    from hostabi.errors import CallError
    from hostabi.pytest_plugin import unsupported
    def test_pass(kernel): pass
    def test_fail(kernel): assert 1 == 2
    def test_refused(kernel): raise CallError("open: EACCES", errno=13)
    def test_bug(kernel): {}["missing"]
    def test_unsupported(kernel): unsupported("no openat2 (ENOSYS)")
    @pytest.fixture
    def broken(): assert 0
    def test_fixture(kernel, broken): pass
    @pytest.mark.xfail(raises=AssertionError, reason="crun has no such option")
    def test_known(kernel): assert 0
"""


def test_each_outcome_is_recorded_with_its_reason(inside: pytest.Pytester) -> None:
    inside.makepyfile(OUTCOMES)
    inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    assert outcomes(inside) == {
        "test_pass": Outcome.PASS,
        "test_fail": Outcome.FAIL,
        "test_refused": Outcome.FAIL,
        "test_bug": Outcome.ERROR,
        "test_unsupported": Outcome.UNSUPPORTED,
        "test_fixture": Outcome.ERROR,
        "test_known": Outcome.FAIL,
    }
    cells = {cell.test.partition("::")[2]: cell for cell in read(inside).cells().values()}
    assert cells["test_unsupported"].reason == "no openat2 (ENOSYS)"
    assert not cells["test_known"].known, "only deviations explain a failure"
    assert "assert 1 == 2" in cells["test_fail"].detail
    assert {cell.build for cell in cells.values()} == {"6.1.9-1"}


def test_what_a_test_measured_is_kept_beside_its_outcome(inside: pytest.Pytester) -> None:
    inside.makepyfile("""
        def test_pass(kernel, record_property): record_property("refused", "clone3=ENOSYS")
        def test_fail(kernel, record_property):
            record_property("count", 7)
            assert 0
    """)
    inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    kept = {cell.test.partition("::")[2]: cell.measured for cell in read(inside).cells().values()}
    assert kept == {"test_pass": {"refused": "clone3=ENOSYS"}, "test_fail": {"count": "7"}}


def test_what_a_build_is_known_for_fails_without_failing_the_run(
    inside: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = f"{inside.path.name}/test_odd.py::test_odd"
    known = Deviation(test, "a bug", "https://a.mail", builds=("6.1.9-1",))
    monkeypatch.setattr(deviations, "known", lambda: (known,))
    inside.makepyfile(test_odd="def test_odd(kernel): assert kernel.line == '0'")
    passed = inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    passed.assert_outcomes(xfailed=1)
    (cell,) = read(inside).cells().values()
    assert (cell.outcome, cell.known) == (Outcome.FAIL, True)
    assert cell.reason == "known: a bug (https://a.mail)"
    inside.runpytest("--kernel", "6.12").assert_outcomes(failed=1)


def test_a_second_session_repeats_errors_only(inside: pytest.Pytester) -> None:
    inside.makepyfile(OUTCOMES)
    inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    again = inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    again.assert_outcomes(errors=2, deselected=5)
    again.stdout.fnmatch_lines(["*5 cells are in *j.jsonl already*"])


def test_a_session_with_nothing_left_passes(inside: pytest.Pytester) -> None:
    inside.makepyfile("def test_a(agent): pass")
    inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl")
    assert inside.runpytest("--kernel", "6.1", "--journal", "j.jsonl").ret == 0


def test_a_deadline_interrupts_a_test(inside: pytest.Pytester) -> None:
    inside.makepyfile(
        """
        import threading
        def test_a(machine): threading.Event().wait()
        def test_b(machine): assert machine.number == 1
        """
    )
    result = inside.runpytest("--kernel", "6.1", "--deadline", "0.2", "--journal", "j.jsonl")
    result.assert_outcomes(passed=1, errors=1)
    assert outcomes(inside)["test_a"] is Outcome.ERROR


def test_a_kernel_that_does_not_boot_is_an_error_of_its_cells_only(
    inside: pytest.Pytester,
) -> None:
    inside.makepyfile("def test_a(agent): pass")
    inside.runpytest("--kernel", "6.66,6.1").assert_outcomes(passed=1, errors=1)


def test_an_unknown_line_is_a_usage_error(inside: pytest.Pytester) -> None:
    inside.makepyfile("def test_a(agent): pass")
    result = inside.runpytest("--kernel", "0.1", "--journal", "j.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no line is called 0.1*"])


def test_lockstep_needs_two_kernels(inside: pytest.Pytester) -> None:
    inside.makepyfile("def test_a(lockstep): pass\ndef test_b(agent): pass")
    inside.runpytest("--kernel", "6.1").assert_outcomes(passed=1, deselected=1)
    only = inside.runpytest("--collect-only", "-q", "--kernel", "6.1,5.10", "--lockstep=only")
    only.stdout.fnmatch_lines(["*::test_a", "1/3 tests collected*"])


def test_a_test_of_all_kernels_runs_once(inside: pytest.Pytester) -> None:
    inside.makepyfile("def test_a(kernels): assert len(kernels) == 2\ndef test_b(agent): pass")
    inside.runpytest("--kernel", "6.1").assert_outcomes(passed=1, deselected=1)
    words = ("--kernel", "6.1,5.10", "--journal", "j.jsonl")
    inside.runpytest(*words, "--lockstep=only").assert_outcomes(passed=1, deselected=2)
    assert [key.build for key in read(inside).cells()] == ["6.1.9-1,5.10.9-1"]


def read(inside: pytest.Pytester) -> journals.Contents:
    return journals.read(Path(inside.path) / "j.jsonl")


def outcomes(inside: pytest.Pytester) -> dict[str, Outcome]:
    return {key.test.partition("::")[2]: cell.outcome for key, cell in read(inside).cells().items()}
