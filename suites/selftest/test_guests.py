"""Who gets which guest, how many are alive, and what becomes of one that failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostabi.errors import AgentLostError, GuestHangError, InputError, MachineError
from hostabi.model import Cgroup, Variant
from hostabi.progress import Silent
from hostabi.runs import guests as module
from hostabi.runs.guests import Guests, default_jobs, split_specs


class Agent:
    def __init__(self) -> None:
        self.dead = False

    def reset(self) -> None:
        if self.dead:
            raise AgentLostError("gone")


class Machine:
    accelerator = "tcg"

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = True
        self.agent = Agent()

    def __exit__(self, *_: object) -> None:
        self.open = False


class Fleet:
    """Counts the machines that were started and are alive."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []
        self.starts = 0

    def start(self, build: SimpleNamespace, _variant: Variant, _disks: object) -> Machine:
        self.starts += 1
        if build.line == "6.66":
            raise GuestHangError("no hello")
        self.machines.append(Machine(len(self.machines)))
        return self.machines[-1]

    @property
    def alive(self) -> int:
        return sum(machine.open for machine in self.machines)


def resolve(spec: str) -> SimpleNamespace:
    return SimpleNamespace(line=spec, name=spec, image="/x", image_digest=spec)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def make(fleet: Fleet) -> Callable[[int], Guests]:
    def guests(jobs: int) -> Guests:
        packages = SimpleNamespace(cache=None)
        return Guests(packages, jobs=jobs, start=fleet.start, resolve=resolve)  # type: ignore[arg-type]

    return guests


def test_a_guest_is_kept_for_the_next_user(fleet: Fleet, make: Callable[[int], Guests]) -> None:
    with make(2) as guests:
        for _ in range(3):
            with guests.machine("6.1"):
                pass
        assert (fleet.starts, fleet.alive) == (1, 1)
        assert guests.accelerator == "tcg"
    assert fleet.alive == 0


def test_two_users_at_once_get_two_guests(fleet: Fleet, make: Callable[[int], Guests]) -> None:
    with make(2) as guests, guests.machine("6.1") as one, guests.machine("6.1") as two:
        assert one is not two
        assert fleet.alive == 2


def test_an_idle_guest_makes_room(fleet: Fleet, make: Callable[[int], Guests]) -> None:
    with make(1) as guests:
        for spec in ("5.10", "6.1", "6.12"):
            with guests.machine(spec):
                assert fleet.alive == 1
        with guests.machine("6.12", Variant(cgroup=Cgroup.V1)):
            assert fleet.alive == 1


def stuck(guests: Guests) -> None:
    """Use a guest that fails, and does not answer after that."""
    with guests.machine("6.1") as machine:
        machine.agent.dead = True  # type: ignore[attr-defined]
        raise GuestHangError("stuck")


def test_what_comes_to_light_when_a_guest_is_given_back_is_told(fleet: Fleet) -> None:
    class Told(Silent):
        said: list[str] = []  # noqa: RUF012

        def say(self, text: str) -> None:
            self.said.append(text)

    packages = SimpleNamespace(cache=None)
    guests = Guests(
        packages,  # type: ignore[arg-type]
        jobs=1,
        start=fleet.start,  # type: ignore[arg-type]
        resolve=resolve,  # type: ignore[arg-type, return-value]
        progress=Told(),
    )
    with guests:
        with guests.machine("6.1"):
            pass
        assert Told.said == []
        with guests.machine("6.1") as machine:
            machine.agent.dead = True  # type: ignore[attr-defined]
        assert [line.partition(":")[0] for line in Told.said] == ["6.1"]
        assert "gone" in Told.said[0]
        # its user has told of this one
        with pytest.raises(GuestHangError):
            stuck(guests)
        # and of this one nobody wants to know any more
        with guests.machine("6.1") as machine:
            guests.close()
            machine.agent.dead = True  # type: ignore[attr-defined]
    assert len(Told.said) == 1
    assert fleet.alive == 0


def test_a_user_waits_for_a_place(fleet: Fleet, make: Callable[[int], Guests]) -> None:
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with guests.machine("6.1"):
            order.append("second")

    with make(1) as guests:
        thread = threading.Thread(target=second)
        with guests.machine("5.10"):
            thread.start()
            entered.wait(10)
            order.append("first")
        thread.join(10)
        assert order == ["first", "second"]
        assert fleet.alive == 1


@pytest.mark.parametrize("how", ["raised", "dead", "spoiled"])
def test_a_guest_that_failed_is_not_used_again(
    how: str, fleet: Fleet, make: Callable[[int], Guests]
) -> None:
    with make(1) as guests:
        try:
            with guests.machine("6.1") as machine:
                if how == "raised":
                    raise MachineError("broken")
                if how == "dead":
                    machine.agent.dead = True  # type: ignore[attr-defined]
                if how == "spoiled":
                    guests.spoil(machine)
        except MachineError:
            assert how == "raised"
        assert fleet.alive == 0
        with guests.machine("6.1") as machine:
            assert machine is fleet.machines[1]


def test_a_failing_test_does_not_cost_the_guest(
    fleet: Fleet, make: Callable[[int], Guests]
) -> None:
    with make(1) as guests:
        with pytest.raises(AssertionError), guests.machine("6.1"):
            raise AssertionError
        assert fleet.alive == 1


def test_a_build_that_does_not_boot_is_given_up(
    fleet: Fleet, make: Callable[[int], Guests]
) -> None:
    with make(1) as guests:
        for _ in range(5):
            with pytest.raises(GuestHangError), guests.machine("6.66"):
                pass
        assert fleet.starts == 2
        with guests.machine("6.1"):
            pass


def test_lockstep_has_all_at_once_whatever_the_limit(
    fleet: Fleet, make: Callable[[int], Guests]
) -> None:
    with make(1) as guests:
        with guests.agents(["5.10", "6.1", "6.12"]) as agents:
            assert list(agents) == ["5.10", "6.1", "6.12"]
            assert fleet.alive == 3
        with guests.machine("6.18"):
            assert fleet.alive == 1


def test_lockstep_that_does_not_fit_into_memory(
    make: Callable[[int], Guests], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    with (
        make(2) as guests,
        pytest.raises(InputError, match="2 guests at once need"),
        guests.agents(["5.10", "6.1"]),
    ):
        pass


def test_abort_closes_what_is_in_use(fleet: Fleet, make: Callable[[int], Guests]) -> None:
    with make(2) as guests, guests.machine("6.1"):
        guests.abort()
        assert fleet.alive == 0
        with pytest.raises(MachineError), guests.machine("5.10"):
            pass


def test_jobs_are_bounded_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _who: set(range(64)))
    monkeypatch.setattr(module, "available_memory", lambda: 3 * (512 + 192))
    assert default_jobs() == 3
    monkeypatch.setattr(module, "available_memory", lambda: 10)
    assert default_jobs() == 1


def test_specs_are_told_apart_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may be named without a slash, and next to each other they are one kernel."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bzImage").touch()
    given = ["6.1,7.3", "a.deb,b.deb", "bzImage,6.1", "./x,./y", "stable, 6.12", ","]
    assert split_specs(given) == (
        "6.1", "7.3", "a.deb,b.deb", "bzImage", "./x,./y", "stable", "6.12",
    )  # fmt: skip


def test_an_image_without_a_slash_gets_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bzImage").touch()
    seen: list[object] = []

    def resolve_it(spec: str, _packages: object, **options: object) -> SimpleNamespace:
        seen.append((spec, options["modules"]))
        return resolve(spec)

    monkeypatch.setattr("hostabi.kernels.resolve.resolve", resolve_it)
    packages = SimpleNamespace(cache=None)
    guests = Guests(packages, modules=tmp_path)  # type: ignore[arg-type]
    guests.build("bzImage")
    guests.build("6.1")
    assert seen == [("bzImage", tmp_path), ("6.1", None)]
