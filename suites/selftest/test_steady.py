"""Steadiness: which boots are compared with which, and what a difference looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostabi.errors import HostabiError, InputError, MachineError
from hostabi.model import Capture, Fact, Provenance, Variant
from hostabi.packages.cache import Cache
from hostabi.progress import SILENT
from hostabi.results import steadiness
from hostabi.runs import steady
from hostabi.runs.steady import POOL, Condition, Pool, needed, pairs


def test_no_two_captures_of_a_pair_share_a_boot() -> None:
    for one, other in pairs(100):
        boots = needed([(one, other)])
        assert len(boots) == 6
        for parts in (one, other):
            assert parts.third.variant == parts.first.variant
            assert parts.twin.variant.cpus != parts.first.variant.cpus
            assert parts.twin.variant.memory != parts.first.variant.memory


def test_twenty_pairs_try_every_condition_against_others() -> None:
    found = pairs(20)
    assert set(needed(found)) == set(POOL)
    firsts = [(one.first, other.first) for one, other in found]
    assert {look for pair in firsts for look in pair} == set(POOL)
    assert sum(one.variant == other.variant for one, other in firsts) >= 3
    assert sum(one.cold != other.cold for one, other in firsts) >= 5
    assert len(set(firsts)) == 20


@pytest.mark.parametrize("count", [0, -1, 1000])
def test_pairs_that_the_pool_does_not_have_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="cannot be put together"):
        pairs(count)


def look(condition: Condition, **values: str) -> Capture:
    cpus = f"{condition.variant.cpus}"
    facts = [Fact("cpus", cpus), *(Fact(key, value) for key, value in sorted(values.items()))]
    return Capture("6.1", "6.1", "6.1", condition.variant, Provenance("t"), {"s": facts})


def test_what_follows_the_hardware_is_no_delta() -> None:
    looks = {condition: look(condition, still="1") for condition in POOL}
    result = steady.judge(pairs(20), looks)
    assert (result.deltas, result.hardware, result.volatile, result.facts) == (0, 1, 0, 2)


def test_a_boot_that_is_unlike_the_others_shows_that_a_value_moves() -> None:
    odd = Condition(Variant(cpus=1), 1)
    looks = {one: look(one, name="odd" if one == odd else "even") for one in POOL}
    assert steady.judge(pairs(100), looks).deltas == 0


def test_what_no_look_of_a_capture_could_see_is_told(tmp_path: Path) -> None:
    """A value that is the same in all boots of one capture, and another in all of the other."""
    (pair,) = pairs(1)
    looks = {one: look(one, name="x") for one in needed([(pair[0], pair[0])])}
    looks |= {one: look(one, name="y") for one in needed([(pair[1], pair[1])])}
    result = steady.judge([pair], looks)
    assert result.deltas == 1
    told = "6.1: restored-cpus1-memory512 and restored-cpus1-memory1024: 1 deltas: s:name"
    assert steadiness.unsteady([result]) == [told]
    assert told in steadiness.write(tmp_path, [result]).read_text()


class Boots:
    """Stands in for guests; counts what is booted."""

    def __init__(self, fail: str = "") -> None:
        self.jobs = 2
        self.progress = SILENT
        self.packages = SimpleNamespace(cache=Cache(Path("/nowhere")))
        self.booted: list[tuple[Variant, bool]] = []
        self.aborted = False
        self.fail = fail

    @contextlib.contextmanager
    def machine(self, build: object, variant: Variant, *, cold: bool) -> Iterator[object]:
        if self.fail:
            raise MachineError(self.fail)
        self.booted.append((variant, cold))
        agent = SimpleNamespace(requests=0)
        yield SimpleNamespace(agent=agent, emulator="", accelerator="tcg")

    def spoil(self, machine: object) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


BUILD = SimpleNamespace(
    name="6.1.9-1", line="6.1", release="6.1.0", packages={}, suite="s", image=None, btf=None
)


class Surface:
    name = "s"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: object) -> bool:
        return True

    def capture(self, source: object) -> list[Fact]:
        return [Fact("a", "1")]


def fill(guests: Boots, folder: Path) -> list[object]:
    pool = Pool(guests, folder, [Surface()])  # type: ignore[arg-type, list-item]
    return [result for _, result in pool.fill([BUILD], needed(pairs(20)))]  # type: ignore[list-item]


def test_looks_that_were_taken_are_not_taken_again(tmp_path: Path) -> None:
    guests = Boots()
    (looks,) = fill(guests, tmp_path)
    assert isinstance(looks, dict)
    assert len(guests.booted) == len(POOL) == len(looks)
    assert sorted(cold for _, cold in guests.booted).count(False) == 4
    (stale := tmp_path / "older sources").mkdir()
    one = next(tmp_path.rglob("cold1-*.json.zst"))
    one.write_bytes(b"torn")
    again = Boots()
    assert fill(again, tmp_path) == [looks]
    assert len(again.booted) == 1
    assert not stale.exists()


def test_a_build_that_does_not_boot_is_told(tmp_path: Path) -> None:
    guests = Boots("it does not boot")
    (error,) = fill(guests, tmp_path)
    assert isinstance(error, HostabiError)
    assert not guests.aborted


def test_a_table_counts_what_was_compared() -> None:
    looks = {condition: look(condition) for condition in POOL}
    text = steadiness.table([steady.judge(pairs(20), looks)])
    assert text.splitlines()[-1].split() == ["6.1", "1", "1", "0", "16", "20", "3", "0"]
