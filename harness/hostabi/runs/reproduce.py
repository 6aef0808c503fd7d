"""Run the reproducers of breaks on every kernel, and hold them against the captures.

A reproducer is right when it exits 0 exactly on the kernels whose capture has
the value it is about. What it does not tell the same way is a fault of ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hostabi.agent.client import DEFAULT_ENVIRONMENT
from hostabi.agent.program import Program, Sandbox, Scratch
from hostabi.compiler import run_compiler
from hostabi.diff import keys
from hostabi.diff.compare import by_key, members
from hostabi.errors import CallError, HostabiError, MachineError
from hostabi.kernels.declarations import declares
from hostabi.kernels.static import Static
from hostabi.model import Capture, Fact, Finding, Kind, Variant
from hostabi.progress import SILENT, Progress
from hostabi.runs.exits import Exits
from hostabi.surfaces import registry, reproducers
from hostabi.surfaces.reproducers import (
    AS_EXPECTED,
    NOT_TRIED,
    OTHERWISE,
    Language,
    Needs,
    Reproducer,
    Reproducible,
)

if TYPE_CHECKING:
    from hostabi.agent.client import Agent
    from hostabi.kernels.build import Build
    from hostabi.packages.cache import Cache
    from hostabi.runs.guests import Guests

_FLAGS = ("-target", "x86_64-linux-musl", "-static", "-Os", "-s", "-w")
_COMPILERS = 2
"""Compilers at a time; each holds some 150 MB."""
_PLACE = "/tmp/reproducer"  # noqa: S108 - in the guest
_CONFIG = "/tmp/reproducer.config"  # noqa: S108 - in the guest
_DISK = "/scratch/ext4"
"""Where the agent mounts the ext4 of its disk, harness/agent/scratch.c."""
_DEADLINE = 30.0


@dataclass(frozen=True, eq=False)
class Subject:
    """What a reproducer is about: a fact as the older side of a break had it.

    ``known`` is whether the ledger expects each break that it is lost by.
    """

    surface: str
    fact: Fact
    known: bool = False

    @property
    def name(self) -> str:
        """``sysctls:vm.block_dump``."""
        return f"{self.surface}:{self.fact.key}"

    @property
    def identity(self) -> str:
        """The name and the value: a fact that breaks twice is two subjects of one name."""
        return f"{self.name} {self.fact.value}"


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True)
class Lacking:
    """A break without a reproducer, and why there is none."""

    subject: Subject
    why: str


def subjects(findings: Iterable[Finding]) -> list[Subject]:
    """What the older sides of findings had, each once."""
    found: dict[str, Subject] = {}
    for finding in findings:
        if finding.delta.old is not None:
            one = Subject(finding.delta.surface, finding.delta.old, bool(finding.known))
            before = found.get(one.identity, one)
            found[one.identity] = dataclasses.replace(one, known=one.known and before.known)
    return list(found.values())


def expectations(subject: Subject, captures: Mapping[str, Capture]) -> dict[str, int]:
    """What a reproducer must exit with on each build; builds that do not know are left out."""
    tables = {
        build: by_key(capture.surfaces[subject.surface])
        for build, capture in captures.items()
        if subject.surface in capture.surfaces
    }
    return _expected(subject, tables)


def _expected(subject: Subject, tables: Mapping[str, Mapping[str, Fact]]) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for build, facts in tables.items():
        fact = facts.get(subject.fact.key)
        if fact is not None and fact.value is None:
            continue
        if fact is None and keys.INCOMPLETE in facts:
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
) -> tuple[list[Shown], list[Lacking]]:
    """Run each reproducer on every build; and the subjects for which there is none.

    ``captures`` and ``specs`` (how to resolve it) go by a build's name. What a
    build was already asked with the same text is not run again, unless it
    disagreed.
    """
    tables = {
        surface: {
            build: by_key(capture.surfaces[surface])
            for build, capture in captures.items()
            if surface in capture.surfaces
        }
        for surface in {subject.surface for subject in wanted}
    }
    expected = {each: _expected(each, tables[each.surface]) for each in wanted}
    made, lacking = _make(guests, wanted, expected, tables, specs)
    _compile_all(made.values(), guests.packages.cache, progress)
    shown = _run(guests, made, expected, specs, progress)
    while others := {each.subject: _other(each) for each in shown if _has_other(each)}:
        progress.say(f"{len(others)} programs tell another thing, and are tried in another way")
        _compile_all(others.values(), guests.packages.cache, progress)
        again = {each.subject: each for each in _run(guests, others, expected, specs, progress)}
        shown = [again.get(each.subject, each) for each in shown]
    return shown, lacking


def _has_other(each: Shown) -> bool:
    return bool(each.disagreeing and each.reproducer.others)


def _other(each: Shown) -> Reproducer:
    text, *others = each.reproducer.others
    return dataclasses.replace(each.reproducer, text=text, others=tuple(others))


def _run(
    guests: Guests,
    made: Mapping[Subject, Reproducer],
    expected: Mapping[Subject, Mapping[str, int]],
    specs: Mapping[str, str],
    progress: Progress,
) -> list[Shown]:
    """All of them on every build."""
    exits: dict[Subject, dict[str, int]] = {subject: {} for subject in made}
    with progress.task("reproducers", total=len(specs)) as task:
        for build, spec in specs.items():
            task.note(build)
            wants = {subject: expected[subject].get(build) for subject in made}
            for subject, code in _Runner(guests, spec, progress).run(made, wants).items():
                exits[subject][build] = code
            task.advance()
    shown = []
    for subject, reproducer in made.items():
        told = dict(expected[subject])
        if reproducer.language is Language.DECLARATIONS:
            # headers that cannot be had say nothing about those that can
            told = {b: want for b, want in told.items() if exits[subject][b] != NOT_TRIED}
        shown.append(Shown(subject, reproducer, told, exits[subject]))
    return shown


def _make(
    guests: Guests,
    wanted: Sequence[Subject],
    expected: Mapping[Subject, Mapping[str, int]],
    tables: Mapping[str, Mapping[str, Mapping[str, Fact]]],
    specs: Mapping[str, str],
) -> tuple[dict[Subject, Reproducer], list[Lacking]]:
    """Each on a kernel that has what it is about, as some need another look."""
    surfaces = _reproducible()
    made: dict[Subject, Reproducer | None] = dict.fromkeys(wanted)
    why: dict[Subject, str] = {}
    homes: dict[tuple[str, Variant], list[Subject]] = {}
    for subject in wanted:
        if subject.surface not in surfaces:
            why[subject] = f"nothing makes programs for facts of {subject.surface}"
            continue
        surface = surfaces[subject.surface]
        made[subject] = surface.reproducer(_placed(subject, tables[subject.surface]))
        home = next((b for b, code in expected[subject].items() if code == 0 and b in specs), None)
        if made[subject] is None and home is None:
            why[subject] = "none of these kernels has it"
        elif made[subject] is None:
            homes.setdefault((str(home), _variant(surface)), []).append(subject)
    for (home, variant), there in homes.items():
        with guests.agent(specs[home], variant) as agent:
            for subject in there:
                made[subject] = surfaces[subject.surface].reproducer(subject.fact, agent)
                why[subject] = (
                    f"{home} did not say it again when it was asked once more, or it takes more "
                    "than one program to see, such as a group that was given to a user"
                )
    lacking = [Lacking(subject, why[subject]) for subject, one in made.items() if one is None]
    return {subject: one for subject, one in made.items() if one is not None}, lacking


def _placed(subject: Subject, tables: Mapping[str, Mapping[str, Fact]]) -> Fact:
    """The fact with the detail that it, or what it is an aspect of, has on another kernel."""
    if subject.fact.detail:
        return subject.fact
    thing = keys.subject(subject.fact.key)
    details = (facts[thing].detail for facts in tables.values() if thing in facts)
    return replace(subject.fact, detail=next(filter(None, details), ""))


def _variant(surface: Reproducible) -> Variant:
    variants: Sequence[Variant] = getattr(surface, "variants", ())
    return variants[0] if variants else Variant(cpus=2)


def _reproducible() -> dict[str, Reproducible]:
    every: list[object] = list(registry.ALL)
    return {surface.name: surface for surface in every if isinstance(surface, Reproducible)}


class _Runner:
    """Runs reproducers on one build, and remembers what they exited with."""

    def __init__(self, guests: Guests, spec: str, progress: Progress) -> None:
        self._guests = guests
        self._build: Build = guests.build(spec)
        self._cache = guests.packages.cache
        self._known = Exits.of(self._cache, self._build.image_digest)
        self._progress = progress

    def run(
        self, made: Mapping[Subject, Reproducer], wants: Mapping[Subject, int | None]
    ) -> dict[Subject, int]:
        """What each exits with. What is not as it should be is tried once more, alone.

        Another program may have left something behind, such as a group of the same name.
        """
        exits: dict[Subject, int] = {}
        groups: dict[tuple[Variant, tuple[str, ...]], list[Subject]] = {}
        for subject, reproducer in made.items():
            known = self._known.get(reproducer)
            if known is not None and known == wants[subject]:
                exits[subject] = known
            elif reproducer.language is Language.DECLARATIONS:
                exits[subject] = self._declared(reproducer)
            else:
                place = (reproducer.variant or Variant(cpus=2), reproducer.modules)
                groups.setdefault(place, []).append(subject)
        again: list[list[Subject]] = []
        for several in groups.values():
            exits |= self._together(several, made)
            again += [[one] for one in several if wants[one] not in (None, exits[one])]
        for alone in again:
            exits |= self._together(alone, made)
        return exits

    def _together(
        self, several: Sequence[Subject], made: Mapping[Subject, Reproducer]
    ) -> dict[Subject, int]:
        """In one guest of their variant, or another one where one of them brings it down."""
        exits: dict[Subject, int] = {}
        waiting = list(several)
        while waiting:
            variant = made[waiting[0]].variant or Variant(cpus=2)
            with self._guests.machine(self._build, variant) as machine:
                self._guests.spoil(machine)
                try:
                    while waiting:
                        subject = waiting.pop(0)
                        exits[subject] = NOT_TRIED
                        exits[subject] = self._one(machine.agent, made[subject])
                except MachineError as error:
                    self._progress.say(f"{subject.name} on {self._build.name}: {error}")
        return exits

    def _one(self, agent: Agent, reproducer: Reproducer) -> int:
        config = ""
        if Needs.CONFIG in reproducer.needs:
            config = Static(self._build, self._cache, self._guests.packages).config_text
        code = run_one(agent, reproducer, self._cache, config=config)
        self._known.add(reproducer, code)
        return code

    def _declared(self, reproducer: Reproducer) -> int:
        good = declares(self._build, self._guests.packages, reproducer.text)
        code = NOT_TRIED if good is None else AS_EXPECTED if good else OTHERWISE
        self._known.add(reproducer, code)
        return code


def run_one(agent: Agent, reproducer: Reproducer, cache: Cache, *, config: str = "") -> int:
    """What a reproducer exits with in a guest; NOT_TRIED when it was killed or too slow.

    ``config`` is the configuration of the guest's kernel, for one that needs it.
    """
    if reproducer.modules:
        with contextlib.suppress(CallError):
            agent.command(["modprobe", "-a", *reproducer.modules])
    env = dict(DEFAULT_ENVIRONMENT)
    if Needs.EXT4 in reproducer.needs:
        # the agent mounts its disk for the first program that asks for a folder there
        agent.run([Program(calls=())], Sandbox(scratch=Scratch.EXT4, timeout=10.0))
        env["TMPDIR"] = _DISK
    if config:
        agent.write(_CONFIG, config.encode())
        env[reproducers.CONFIG] = _CONFIG
    agent.write(_PLACE, program(reproducer, cache), mode=0o755)
    argv = [_PLACE] if reproducer.language is Language.C else ["sh", _PLACE]
    try:
        done = agent.command(argv, env=env, timeout=_DEADLINE)
    except CallError:
        return NOT_TRIED
    finally:
        agent.reset()
    return NOT_TRIED if done.timed_out or done.signal else done.status


def _compile_all(made: Iterable[Reproducer], cache: Cache, progress: Progress) -> None:
    """Have the compiler's work done, side by side, before any guest waits for it."""
    programs = [each for each in made if each.language is Language.C]
    with (
        progress.task("compile reproducers", total=len(programs)) as task,
        ThreadPoolExecutor(_COMPILERS) as pool,
    ):
        for _ in pool.map(lambda each: program(each, cache), programs):
            task.advance()


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
