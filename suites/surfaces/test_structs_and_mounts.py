"""What holds of structs that grow, of flags and of mounts on every kernel."""

from __future__ import annotations

import pytest

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.model import Fact, Value
from hostabi.pytest_plugin import unsupported
from hostabi.surfaces import filesystems, flags, structs
from hostabi.surfaces.probing import HOST, ask, load
from hostabi.surfaces.source import Source


@pytest.fixture
def sizes(source: Source) -> dict[str, Value]:
    """Every size that was tried, and what became of it."""
    return {fact.key: fact.value for fact in structs.SURFACE.capture(source)}


@pytest.fixture
def rooted(agent: Agent) -> Agent:
    """An agent that may mount."""
    if agent.hello.euid != 0:
        unsupported("mounts are for root")
    return agent


@pytest.mark.parametrize("struct", structs.STRUCTS, ids=lambda struct: struct.call)
def test_a_struct_may_be_larger_as_long_as_it_ends_in_zeros(
    sizes: dict[str, Value], struct: structs.Sized
) -> None:
    """openat2(2): callers of newer headers work, and learn of what the kernel does not know."""
    plain = sizes[f"{struct.call}.{struct.first}"]
    if plain != keys.OK:
        unsupported(f"{struct.call} is {plain} here")
    larger = [size for size in struct.sizes() if struct.first < size <= 4096]
    assert {sizes[f"{struct.call}.{size}"] for size in larger} == {keys.OK}
    assert sizes[f"{struct.call}.4104"] in ("E2BIG", "EINVAL")


def test_sizes_that_a_kernel_knows_come_first(sizes: dict[str, Value]) -> None:
    """From the first size whose last byte is refused on, all larger ones' are."""
    for struct in structs.STRUCTS:
        if struct.call in ("file_getattr", "sched_getattr"):
            continue  # these are written by the kernel, and not read
        told = [sizes.get(f"{struct.call}.{size}.last") for size in struct.sizes()]
        refused = [value == "E2BIG" for value in told if value is not None]
        assert refused == sorted(refused), struct.call


def test_bits_that_nobody_knows_are_refused(rooted: Agent) -> None:
    """Newer calls are strict, so that a bit can be given a meaning later."""
    strict = ("openat2", "clone3", "mount_setattr", "open_tree", "fsmount", "fsopen", "statx")
    probes = [
        probe
        for part in flags.SURFACE.parts
        for key, probe in part.probes.items()
        if key.endswith(".unknown") and key.startswith(strict)
    ]
    assert len(probes) > 6
    answers = {fact.key: fact.value for fact in ask(rooted, probes, (HOST,))}
    assert {key: value for key, value in answers.items() if value == keys.OK} == {}


def test_an_option_that_nobody_knows_makes_no_mount(rooted: Agent) -> None:
    """Of the types that look at their options."""
    strict = ("tmpfs", "proc", "devpts", "overlay", "hugetlbfs", "fuse")
    load(rooted, filesystems.MODULES)
    probes = [
        probe
        for part in filesystems.SURFACE.parts
        for key, probe in part.probes.items()
        if key.split(".")[0] in strict and key.split(".")[1:2] in ([], ["nosuch"], ["fsmount"])
    ]
    facts: list[Fact] = ask(rooted, probes, (HOST,))
    for fact in facts:
        expected = "EINVAL" if ".nosuch" in fact.key else keys.OK
        assert fact.value == expected, fact.key
