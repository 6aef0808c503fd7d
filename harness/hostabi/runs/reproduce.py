"""Run the reproducers of breaks on every kernel, and hold them against the captures.

A reproducer is right when it exits 0 exactly on the kernels whose capture has
the value it is about. What it does not tell the same way is a fault of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.compiler import run_compiler
from hostabi.diff.compare import by_key, members
from hostabi.errors import CallError, HostabiError
from hostabi.model import Capture, Fact, Finding, Kind, Variant
from hostabi.progress import SILENT, Progress
from hostabi.surfaces import registry
from hostabi.surfaces.reproducers import (
    AS_EXPECTED,
    NOT_TRIED,
    OTHERWISE,
    Language,
    Reproducer,
    Reproducible,
)

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.packages.cache import Cache
    from hostabi.runs.guests import Guests

_FLAGS = ("-target", "x86_64-linux-musl", "-static", "-Os", "-s", "-w")
_PLACE = "/tmp/reproducer"  # noqa: S108 - in the guest
_DEADLINE = 30.0


@dataclass(frozen=True)
class Subject:
    """What a reproducer is about: a fact as the older side of a break had it."""

    surface: str
    fact: Fact

    @property
    def name(self) -> str:
        """``sysctls:vm.block_dump``."""
        return f"{self.surface}:{self.fact.key}"

    @property
    def identity(self) -> str:
        """The name and the value: a fact that breaks twice is two subjects of one name."""
        return f"{self.name} {self.fact.value}"

    def __hash__(self) -> int:
        return hash(self.identity)  # a value may be a list


@dataclass(frozen=True)
class Shown:
    """A reproducer and what it exited with on each build; ``expected`` is what captures say."""

    subject: Subject
    reproducer: Reproducer
    expected: Mapping[str, int]
    exits: Mapping[str, int] = field(default_factory=dict)

    @property
    def disagreeing(self) -> list[str]:
        """Builds on which it says another thing than the capture does."""
        return [build for build, want in self.expected.items() if self.exits.get(build) != want]


def subjects(findings: Iterable[Finding]) -> list[Subject]:
    """What the older sides of findings had, each once."""
    found = (Subject(f.delta.surface, f.delta.old) for f in findings if f.delta.old is not None)
    return list({subject.identity: subject for subject in found}.values())


def expectations(subject: Subject, captures: Mapping[str, Capture]) -> dict[str, int]:
    """What a reproducer must exit with on each build; builds that do not know are left out."""
    wanted: dict[str, int] = {}
    for build, capture in captures.items():
        if subject.surface not in capture.surfaces:
            continue
        facts = by_key(capture.surfaces[subject.surface])
        fact = facts.get(subject.fact.key)
        if fact is not None and fact.value is None:
            continue
        wanted[build] = AS_EXPECTED if fact and _same(fact, subject.fact) else OTHERWISE
    return wanted


def _same(one: Fact, other: Fact) -> bool:
    if Kind.MEMBERS in (one.kind, other.kind):
        return members(one.value) >= members(other.value)
    return one.value == other.value


def reproduce(
    guests: Guests,
    wanted: Sequence[Subject],
    captures: Mapping[str, Capture],
    specs: Mapping[str, str],
    progress: Progress = SILENT,
) -> tuple[list[Shown], list[Subject]]:
    """Run each reproducer on every build; and the subjects for which there is none.

    ``captures`` and ``specs`` (how to resolve it) go by a build's name.
    """
    expected = {subject: expectations(subject, captures) for subject in wanted}
    made = _make(guests, wanted, expected, specs)
    lacking = [subject for subject in wanted if subject not in made]
    exits: dict[Subject, dict[str, int]] = {subject: {} for subject in made}
    with progress.task("reproducers", total=len(specs)) as task:
        for build, spec in specs.items():
            task.note(build)
            _run_on(guests, spec, build, made, exits)
            task.advance()
    shown = [
        Shown(subject, reproducer, expected[subject], exits[subject])
        for subject, reproducer in made.items()
    ]
    return shown, lacking


def _make(
    guests: Guests,
    wanted: Sequence[Subject],
    expected: Mapping[Subject, Mapping[str, int]],
    specs: Mapping[str, str],
) -> dict[Subject, Reproducer]:
    """Each on a kernel that has what it is about, as some need another look."""
    surfaces = _reproducible()
    made: dict[Subject, Reproducer] = {}
    homes: dict[str, list[Subject]] = {}
    for subject in wanted:
        if subject.surface not in surfaces:
            continue
        plain = surfaces[subject.surface].reproducer(subject.fact)
        if plain is not None:
            made[subject] = plain
            continue
        home = next((b for b, code in expected[subject].items() if code == 0), None)
        if home in specs:
            homes.setdefault(str(home), []).append(subject)
    for home, subjects_there in homes.items():
        with guests.agent(specs[home]) as agent:
            for subject in subjects_there:
                seen = surfaces[subject.surface].reproducer(subject.fact, agent)
                if seen is not None:
                    made[subject] = seen
    return made


def _reproducible() -> dict[str, Reproducible]:
    every: list[object] = list(registry.ALL)
    return {surface.name: surface for surface in every if isinstance(surface, Reproducible)}


def _run_on(
    guests: Guests,
    spec: str,
    build: str,
    made: Mapping[Subject, Reproducer],
    exits: Mapping[Subject, dict[str, int]],
) -> None:
    groups: dict[Variant, list[Subject]] = {}
    for subject, reproducer in made.items():
        groups.setdefault(reproducer.variant or Variant(cpus=2), []).append(subject)
    for variant, several in groups.items():
        with guests.machine(spec, variant) as machine:
            guests.spoil(machine)
            for subject in several:
                exits[subject][build] = run_one(machine.agent, made[subject], guests.packages.cache)


def run_one(agent: Agent, reproducer: Reproducer, cache: Cache) -> int:
    """What a reproducer exits with in a guest; NOT_TRIED when it was killed or too slow."""
    if reproducer.modules:
        with contextlib.suppress(CallError):
            agent.command(["modprobe", "-a", *reproducer.modules])
    agent.write(_PLACE, program(reproducer, cache), mode=0o755)
    argv = [_PLACE] if reproducer.language is Language.C else ["sh", _PLACE]
    try:
        done = agent.command(argv, timeout=_DEADLINE)
    except CallError:
        return NOT_TRIED
    finally:
        agent.reset()
    return NOT_TRIED if done.timed_out or done.signal else done.status


def program(reproducer: Reproducer, cache: Cache) -> bytes:
    """What is run in a guest: the script, or the program a compiler makes of the source."""
    if reproducer.language is Language.SHELL:
        return reproducer.text.encode()
    key = hashlib.sha256(f"{_FLAGS}{reproducer.text}".encode()).hexdigest()
    path = cache.file("reproducers", key, lambda path: _compile(reproducer.text, path))
    return path.read_bytes()


def _compile(text: str, output: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hostabi-reproducer-") as folder:
        (Path(folder) / "reproducer.c").write_text(text)
        done = run_compiler(
            (*_FLAGS, "-o", "reproducer", "reproducer.c"), folder=Path(folder), deadline=120
        )
        if done.returncode:
            raise HostabiError(
                f"a reproducer does not compile:\n{done.stderr.strip()[-2000:]}",
                advice="this is a fault of hostabi",
            )
        output.write_bytes((Path(folder) / "reproducer").read_bytes())
