"""How long captures and their comparison take, each as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hostabi.diff import captures
from hostabi.errors import HostabiError, PackageError
from hostabi.kernels.build import Build
from hostabi.model import Capture, Provenance, Variant
from hostabi.runs.capture import Looks, assembled
from hostabi.runs.figure import Figure
from hostabi.runs.guests import Guests
from hostabi.runs.looks import Look, Looker, boots
from hostabi.surfaces import registry

_MEMORY = 1024
"""MiB that a command may take on the host's side."""
_TIMES = 3
_NOTHING_BROKE, _SOMETHING_BROKE = 0, 1
# What a process had before it became another program counts as its own: so it
# has to be started by a small one, and not by this.
_WRAPPER = """import resource, subprocess, sys
null = subprocess.DEVNULL
code = subprocess.run(sys.argv[1:], stdin=null, stdout=null, stderr=null).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def looks(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """A look at each variant of each build, and ``hostabi diff`` of the last two as files.

    A look is restored, has one CPU, and all of it is on one of the host's cores. What
    was read of the image and saved of the guest is there before, as it is when a build
    is captured again.
    """
    figures, taken = [], []
    for spec in specs:
        build = guests.build(spec)
        found, seen = _looks(guests, build)
        figures += found
        taken.append(assembled(build.name, build.line, build.release, Looks(seen), Provenance("")))
    if len(taken) > 1:
        figures += _diff(taken[-2:])
    return figures


def _looks(guests: Guests, build: Build) -> tuple[list[Figure], Look]:
    looker = Looker.at(guests, build)
    hardware = Variant()
    looker.still(registry.ALL, hardware)
    whole, figures = Look(hardware), []
    for boot in boots(registry.ALL, hardware):
        with guests.machine(build, boot.variant):
            pass  # saves its state if there is none
        with _one_core():
            began, before = time.perf_counter(), _processor_time()
            seen = looker.boot(boot.surfaces, boot.variant)
            seconds, busy = time.perf_counter() - began, _processor_time() - before
        for name, error in seen.failed.items():
            raise HostabiError(f"{build.name}: {name} could not be captured: {error}")
        slowest = sorted(seen.seconds.items(), key=lambda item: -item[1])[:3]
        shown = ", ".join(f"{name} {spent:.1f}" for name, spent in slowest)
        note = f"{len(seen.seconds)} surfaces, {busy:.1f} s of the processor; {shown} s"
        figures.append(Figure("look", build.name, seconds, "s", 20.0, note=note))
        whole.merge(seen)
    return figures, whole


def _diff(pair: Sequence[Capture]) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="hostabi-bench-") as folder:
        files = [
            captures.save(capture, Path(folder) / f"{number}.json.zst")
            for number, capture in enumerate(pair)
        ]
        best = min((_command("diff", *map(str, files)) for _ in range(_TIMES)), key=_seconds)
    name = " ".join(capture.line for capture in pair)
    note = f"best of {_TIMES}"
    return [Figure("diff", name, best.seconds, "s", 1.0, note=note), best.memory("diff", name)]


def packages(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """``hostabi diff --static`` of the packages of two kernels as files, with nothing cached."""
    pair = [guests.build(spec) for spec in specs[-2:]]
    with tempfile.TemporaryDirectory(prefix="hostabi-bench-") as folder:
        sides = [",".join(_files(guests, build, Path(folder))) for build in pair]
        cache = str(Path(folder) / "cache")
        size = sum(Path(name).stat().st_size for side in sides for name in side.split(","))
        taken = _command("diff", "--static", "--cache", cache, *sides)
    name = " ".join(build.line for build in pair)
    note = f"{size / 1e6:.0f} MB of packages"
    return [
        Figure("packages", name, taken.seconds, "s", 6.0, note=note),
        taken.memory("packages", name),
    ]


@dataclass(frozen=True)
class _Taken:
    seconds: float
    peak: int
    """Resident memory at its highest, in KiB; see getrusage(2)."""

    def memory(self, what: str, name: str) -> Figure:
        return Figure(f"{what}, memory", name, self.peak / 1024, "MiB", _MEMORY)


def _seconds(taken: _Taken) -> float:
    return taken.seconds


def _command(*words: str) -> _Taken:
    """Run hostabi as a process of its own. Raises HostabiError where it does not end in order."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _WRAPPER, sys.executable, "-m", "hostabi.cli", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    code, peak = map(int, done.stdout.split())
    if code not in (_NOTHING_BROKE, _SOMETHING_BROKE):
        raise HostabiError(
            f"hostabi {words[0]} ended with {code}", advice=f"by hand: hostabi {' '.join(words)}"
        )
    return _Taken(seconds, peak)


def _files(guests: Guests, build: Build, folder: Path) -> Iterator[str]:
    """The build's packages under their own names."""
    for name, sha256 in build.packages.items():
        blob = guests.packages.cache.blob(sha256)
        if blob is None:
            raise PackageError(f"{name} is not in the cache", advice="hostabi kernels fetch")
        link = folder / name
        link.symlink_to(blob)
        yield str(link)


def _processor_time() -> float:
    """Seconds that this process and those it has waited for had a processor."""
    return sum(os.times()[:4])


@contextmanager
def _one_core() -> Iterator[None]:
    """This thread, and the processes that it starts, on a single core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
