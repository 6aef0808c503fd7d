"""The engine of lockstep: what differs is found, made small, named, and met again as known."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostabi import resources
from hostabi.agent.build import binary
from hostabi.agent.client import Agent
from hostabi.agent.local import local_agent
from hostabi.agent.program import AS_IT_IS, Alteration, Altered, End, Sandbox
from hostabi.errors import AgentLostError, CallError, InputError
from hostabi.packages.cache import Cache
from hostabi.runs.fuzz import drawing, journal
from hostabi.runs.fuzz.causes import (
    VALUE,
    Spot,
)
from hostabi.runs.fuzz.confirmation import confirm
from hostabi.runs.fuzz.examples import Example, keep, restored
from hostabi.runs.fuzz.journal import Broke, Found, Records, Went
from hostabi.runs.fuzz.plan import Plan
from hostabi.runs.fuzz.sandboxes import OWN
from hostabi.runs.fuzz.sitting import Fuzz
from hostabi.runs.fuzz.witness import witness
from hostabi.runs.lockstep import Lockstep
from hostabi.syscalls import smaller
from hostabi.syscalls.builder import Builder
from hostabi.syscalls.cases import Case, Script
from hostabi.syscalls.descriptions.programs import programs
from hostabi.syscalls.table import C, number

NAMES = ("6.1", "6.12")


class Locals:
    """A team of agents on this kernel; ``altered`` is how the second one differs."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.cache = Cache(resources.cache())
        self.program = binary("agent", self.cache, alterable=True)
        self.altered = AS_IT_IS
        self.replaced: list[str] = []
        self.agents = {name: self.fresh(name) for name in NAMES}

    def fresh(self, name: str) -> Agent:
        agent = self.stack.enter_context(local_agent(self.program))
        if name == NAMES[1]:
            agent.alter(self.altered)
        return agent

    def alter(self, alteration: Alteration) -> None:
        self.altered = alteration
        self.agents[NAMES[1]].alter(alteration)

    def replace(self, name: str) -> None:
        self.replaced.append(name)
        self.agents[name] = self.fresh(name)

    @contextmanager
    def beside(self, names):
        yield {name: self.fresh(name) for name in names}


@pytest.fixture(scope="module")
def shared_team() -> Iterator[Locals]:
    team = Locals()
    with team.stack:
        yield team


@pytest.fixture
def team(shared_team: Locals) -> Iterator[Locals]:
    shared_team.replaced.clear()
    yield shared_team
    shared_team.alter(AS_IT_IS)


def case(operations) -> Case:
    script = Script()
    for name, first, second in operations:
        if name == "openat":
            script.call(name, C.AT_FDCWD, script.string("f"), C.O_CREAT | C.O_RDWR | first, 0o600)
        elif name == "pipe2":
            room = script.buffer(8)
            script.call(name, room, first << 9, out=[room])
        else:
            script.call(name, first, second)
    return script.case()


CASES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["dup", "dup2", "close", "openat", "pipe2", "umask", "lseek"]),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        min_size=4,
        max_size=12,
    ).map(case),
    min_size=1,
    max_size=3,
)


def plan(tmp_path: Path, **rest) -> Plan:
    usual = {
        "seed": 7,
        "sandboxes": {"bare": Sandbox()},
        "strategies": {"bare": CASES},
        "lines": {name: name for name in NAMES},
        "folder": tmp_path,
        "times": 0,
    }
    return Plan(**{**usual, **rest})


def explore(team: Locals, made: Plan, programs: int = 600) -> Fuzz:
    with Records(made.folder / "journal.jsonl") as records:
        fuzz = Fuzz(team, made, records, team.cache)
        fuzz.run(120, lambda each: each.count.programs >= programs or bool(each.found))
    return fuzz


ALTERED = [
    (Alteration(number("dup"), Altered.ERROR, match=errno.EBADF, value=errno.EIO), "dup", 1),
    (Alteration(number("umask"), Altered.RESULT, value=1), "umask", 1),
    (Alteration(number("openat"), Altered.FLAG, 2, match=4, value=errno.EINVAL), "openat", 1),
    (Alteration(number("pipe2"), Altered.OUT, 0, value=1, offset=4), "pipe2", 1),
    (Alteration(number("lseek"), Altered.ERROR, match=errno.ESPIPE, value=errno.EIO), "lseek", 3),
]


@pytest.mark.parametrize(("alteration", "syscall", "calls"), ALTERED)
def test_an_alteration_is_found_and_made_small(team, tmp_path, alteration, syscall, calls):
    team.alter(alteration)
    fuzz = explore(team, plan(tmp_path))
    assert fuzz.found
    for found, built, _ in fuzz.found.values():
        assert syscall in {step.name for step in built.steps}
        assert len(built.steps) <= calls
        assert (tmp_path / "findings" / f"{found.name}.txt").is_file()


def test_one_answer_of_enosys_is_no_call_that_lacks(team, tmp_path):
    """Else a kernel would sit out the programs that could tell more of it."""
    team.alter(Alteration(number("dup"), Altered.ERROR, match=errno.EBADF, value=errno.ENOSYS))
    fuzz = explore(team, plan(tmp_path))
    ((found, _, _),) = fuzz.found.values()
    assert found.outcomes == {"6.1": "there", "6.12": "ENOSYS"}
    assert fuzz.lacking == {"dup": {"6.12"}}
    team.alter(Alteration(number("lseek"), Altered.ERROR, match=errno.ESPIPE, value=errno.ENOSYS))
    fuzz = explore(team, plan(tmp_path / "other"))
    assert fuzz.found
    assert fuzz.lacking == {}


def test_equal_kernels_do_not_differ(team, tmp_path):
    fuzz = explore(team, plan(tmp_path))
    assert fuzz.count.programs >= 600
    assert fuzz.count.calls > 3000
    assert (fuzz.found, fuzz.count.unsteady, fuzz.count.broken) == ({}, 0, 0)


def test_what_was_found_before_is_known(team, tmp_path):
    team.alter(ALTERED[0][0])
    first = explore(team, plan(tmp_path))
    finds = [each for each in journal.read(tmp_path / "journal.jsonl") if is_find(each)]
    assert [each.name for each in finds] == list(first.found)
    again = explore(team, plan(tmp_path, before=finds), programs=300)
    assert not again.found
    assert again.count.known[finds[0].name] > 10


def test_what_was_not_confirmed_before_is_confirmed(team, tmp_path):
    team.alter(ALTERED[0][0])
    explore(team, plan(tmp_path))
    (find,) = filter(is_find, journal.read(tmp_path / "journal.jsonl"))
    fuzz = explore(team, plan(tmp_path, before=[find], times=2, strategies={"bare": NEVER}), 1)
    ((found, _, _),) = fuzz.found.values()
    assert (found.name, found.confirmed, found.tried) == (find.name, 2, 2)
    fuzz = explore(team, plan(tmp_path, before=[found], times=2, strategies={"bare": NEVER}), 1)
    assert not fuzz.found


def test_a_find_is_what_it_is_on_some_of_its_kernels():
    find = found_on({"5.10": "EBADF", "6.1": "ok", "6.12": "ok"})
    assert find.among({"5.10", "6.1"}).outcomes == {"5.10": "EBADF", "6.1": "ok"}
    assert find.among({"6.1", "6.12"}) is None


def found_on(outcomes: dict[str, str], **rest) -> Found:
    plain = Found("dup-1", tuple(outcomes), 1, 0, 0, "bare", VALUE, "dup", outcomes)
    return msgspec.structs.replace(plain, example=keep(dups(2)), **rest)


def test_the_call_that_differs_is_recorded():
    outcomes = {"6.1": "EBADF", "6.12": "ok"}
    assert found_on(outcomes, call=0).shown()[1].call == 0
    assert found_on(outcomes).shown()[1].call == 1  # a journal that does not have it


def test_guests_that_a_find_brings_down_do_not_speak_against_it(team, tmp_path, monkeypatch):
    @contextmanager
    def dying(names):
        raise AgentLostError("gone")
        yield names

    monkeypatch.setattr(team, "beside", dying, raising=False)
    cache = Cache(tmp_path)
    spot = Spot(VALUE, 0, "dup", {"6.1": "EBADF", "6.12": "ok"})
    done = confirm(team, cache, dups(1), Sandbox(), spot, times=2)
    assert (done.times, done.tried, done.note) == (0, 0, "gone")
    assert found_on({"6.1": "EBADF", "6.12": "ok"}, confirmed=0, tried=done.tried).stands


def is_find(record) -> bool:
    return isinstance(record, Found)


NEVER = st.integers(0, 9).map(lambda mask: [case([("umask", mask, 0)])])
"""Programs without the call that is altered."""


def test_the_programs_of_earlier_finds_are_run_first(team, tmp_path):
    team.alter(ALTERED[0][0])
    explore(team, plan(tmp_path))
    finds = [each for each in journal.read(tmp_path / "journal.jsonl") if is_find(each)]
    later = plan(tmp_path / "later", strategies={"bare": NEVER}, examples=finds)
    fuzz = explore(team, later)
    ((found, built, _),) = fuzz.found.values()
    assert (found.batch, found.name) == (drawing.EARLIER, finds[0].name)
    assert built.steps == restored(finds[0].example).steps
    assert fuzz.count.programs == 1
    team.alter(AS_IT_IS)
    assert not explore(team, later, programs=150).found
    told = list(filter(is_find, journal.read(tmp_path / "later" / "journal.jsonl")))[-1]
    assert (told.name, told.stands, told.note) == (finds[0].name, False, "its program agrees now")


@settings(max_examples=60, deadline=None, database=None)
@given(programs(sandbox=Sandbox(namespaces=OWN), together=1))
def test_a_program_is_kept_whole(cases):
    (drawn,) = cases
    text = msgspec.json.encode(keep(drawn.built))
    again = restored(msgspec.json.decode(text, type=Example))
    assert again.program == drawn.built.program
    assert (str(again), again.types) == (str(drawn.built), drawn.built.types)
    assert plainer(again) == plainer(drawn.built)


def plainer(built):
    changed = [smaller.edited(built, [edit]) for edit in smaller.edits(built)]
    return [(each.program, str(each)) for each in changed]


def test_it_is_confirmed_in_fresh_guests_and_as_a_program(team, tmp_path):
    """The program runs on the kernel itself, which is not altered: it says so on both sides."""
    team.alter(ALTERED[0][0])
    fuzz = explore(team, plan(tmp_path, times=3))
    ((found, _, _),) = fuzz.found.values()
    assert (found.confirmed, found.tried) == (3, 3)
    text = (tmp_path / "findings" / f"{found.name}.c").read_text()
    included = re.findall(r'#include "(.+)"', text)
    assert included
    assert all((tmp_path / "findings" / name).is_file() for name in included)
    assert found.exits == {"6.1": 0, "6.12": 0}, found.note
    assert not found.whole


def test_the_ordinary_agent_cannot_be_altered():
    with local_agent() as agent, pytest.raises(CallError) as caught:
        agent.alter(ALTERED[0][0])
    assert caught.value.errno == errno.ENOSYS


def test_a_seed_gives_the_same_programs():
    one = [drawing.chunk({"a": CASES, "b": CASES}, 3, index) for index in range(3)]
    for each in reversed(one):
        again = drawing.chunk({"a": CASES, "b": CASES}, 3, each.number)
        assert [c.built.program for c in again.cases] == [c.built.program for c in each.cases]
        assert again.sandbox == each.sandbox == "ab"[each.number % 2]
    with drawing.chunks({"a": CASES, "b": CASES}, 3, 1) as drawn:
        assert next(drawn).cases[:5] == one[1].cases[:5]
    other = drawing.chunk({"a": CASES}, 4, 0)
    assert [c.built.program for c in other.cases] != [c.built.program for c in one[0].cases]


class Dying:
    """An agent that is lost whenever a program calls lseek."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def __getattr__(self, name: str):
        return getattr(self.agent, name)

    def run(self, programs, sandbox=Sandbox()):
        return self.collect(self.submit(programs, sandbox))

    def collect(self, pending):
        answers = self.agent.collect(pending)
        if any(call.number == number("lseek") for p in pending.programs for call in p.calls):
            raise AgentLostError("gone", console="BUG")
        return answers


def test_a_guest_that_fails_is_a_find_and_the_run_goes_on(team, tmp_path):
    team.agents["6.12"] = Dying(team.agents["6.12"])
    team.fresh, before = lambda name: Dying(Locals.fresh(team, name)), team.fresh
    try:
        fuzz = explore(team, plan(tmp_path), programs=200)
    finally:
        team.fresh = before
        team.replace("6.12")
    assert fuzz.count.programs >= 200
    assert fuzz.count.broken > 0
    broke = [each for each in journal.read(tmp_path / "journal.jsonl") if is_broke(each)]
    assert all("lseek(" in each.text and each.kernel == "6.12" for each in broke)
    assert broke[0].console == "BUG"
    assert not fuzz.found


class Gone(Dying):
    """An agent that does not even take what it is sent."""

    def submit(self, programs, sandbox=Sandbox(), *, payload=None):
        if len(programs) > 1:
            raise AgentLostError("gone before")
        return self.agent.submit(programs, sandbox, payload=payload)

    def collect(self, pending):
        return self.agent.collect(pending)


def test_a_guest_that_failed_before_it_was_asked_is_replaced(team, tmp_path):
    team.agents["6.12"] = Gone(team.agents["6.12"])
    fuzz = explore(team, plan(tmp_path), programs=100)
    assert team.replaced == ["6.12"]
    assert (fuzz.count.broken, fuzz.found) == (1, {})
    broke = [each for each in journal.read(tmp_path / "journal.jsonl") if is_broke(each)]
    assert [(each.kernel, each.text) for each in broke] == [("6.12", "")]


class Lost(Dying):
    """An agent that is lost for good."""

    def collect(self, pending):
        self.agent.collect(pending)
        raise AgentLostError("gone")


class Counting(Dying):
    """An agent that counts what it has run."""

    ran = 0

    def collect(self, pending):
        Counting.ran += len(pending.programs)
        return self.agent.collect(pending)


def test_what_was_behind_a_guest_that_failed_runs_in_a_fresh_one(team, tmp_path):
    team.agents["6.12"] = Lost(team.agents["6.12"])
    team.fresh, before = lambda name: Counting(Locals.fresh(team, name)), team.fresh
    Counting.ran = 0
    try:
        fuzz = explore(team, plan(tmp_path), programs=128)
    finally:
        team.fresh = before
        team.replace("6.12")
    assert (fuzz.count.broken, team.replaced[0]) == (1, "6.12")
    learnt = 1  # what an empty program leaves is asked of each guest
    assert Counting.ran == fuzz.count.programs + learnt


def is_broke(record) -> bool:
    return isinstance(record, Broke)


def test_a_journal_that_was_cut_off_is_mended(tmp_path):
    path = tmp_path / "journal.jsonl"
    record = Went(seed=1, next=2, programs=3, calls=4, seconds=5.0)
    with Records(path) as records:
        records.add(record)
        with pytest.raises(InputError, match="another run writes"):
            Records(path)
    path.write_bytes(path.read_bytes() + b'{"record":"we')
    assert list(journal.read(path)) == [record]
    with Records(path) as records:
        records.add(record)
    assert list(journal.read(path)) == [record, record]
    path.write_text('{"record":"other"}\n')
    with pytest.raises(InputError, match="not a record"):
        list(journal.read(path))


def dups(count: int):
    b = Builder()
    for _ in range(count):
        b.call("dup", 0)
    return b.build()


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("fd 3: x", "fcntl"),
        ("file /a: x", "newfstatat"),
        ("Umask: 0", "umask"),
        ("limit 7: 1", "prlimit64"),
    ],
)
def test_what_is_left_is_seen_by_calls(team, line, call):
    built = witness(dups(1), line)
    assert built.steps[1].name == call
    (rans,) = Lockstep(team.agents).run([built.program])
    assert all(each.end is End.EXITED for each in rans.values())
    assert witness(dups(1), "mount: / /x") is None
