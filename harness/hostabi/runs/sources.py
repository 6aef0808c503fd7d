"""Digests of the sources that decide a result, one for each part of what is measured.

A result is measured again when a source that it depends on was edited, and only
then: a new test of a runtime leaves captures as they are. A file of tests is a part
of its own beside its suite, which is all that the suite's files share: so an edited
test does not ask for the others again. What only compares or renders decides nothing,
and neither does a new rule, ledger entry or deviation.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hostabi import resources

CAPTURES = "captures"
"""The part that is no suite: what ``hostabi capture`` and ``steady`` look at."""

OTHER = "other"
"""The part of tests that are in none of our suites; it depends on everything."""

SHORT = "-short"
"""Ends the digest of a suite that was run with few examples."""

_PACKAGE = Path(__file__).resolve().parent.parent
_NOT_MEASURING = (
    *("cli.py", "commands", "diff", "results", "data", "runs/bench*", "runs/exits.py"),
    *("runs/fuzz", "runs/reproduce.py", "runs/sources.py", "runs/steady.py"),
)
"""Patterns of fnmatch. Also ``data``: what a wheel has in it is looked at where it lies."""
_CONTAINERS = ("oci", "pytest_broken.py", "pytest_engines.py", "pytest_replay.py")
_TOGETHER = ("runs/lockstep.py", "runs/lanes.py", "syscalls/printers.py", "syscalls/smaller.py")
"""Several kernels at once, and how what they differ in is told."""
_WITHOUT = {
    CAPTURES: (*_CONTAINERS, *_TOGETHER, "pytest_plugin.py", "pytest_journal.py"),
    "surfaces": (*_CONTAINERS, *_TOGETHER),
    "syscalls": (*_CONTAINERS, "surfaces"),
    "conformance": ("surfaces", *_TOGETHER, "runs/looks.py", "runs/capture.py"),
}
"""What of the package each does without, as patterns."""
_OF_CALLS = ("data", "filters.py", "names.py", "profiles.py", "seccomp.py", "table.py")
"""What bundles need of ``syscalls``, whose other modules make programs of calls."""
SUITES = tuple(part for part in _WITHOUT if part != CAPTURES)
"""The parts that are suites."""
_PROBE = "probe"
"""How the sources of the program begin that looks from inside containers."""
_ALONE = {
    "conformance/test_engines.py": ("oci/engine*", "pytest_engines.py", "engines.toml"),
    "conformance/test_payloads.py": ("oci/payloads.py", "payloads.toml"),
}
"""What only one file of tests uses, of the package or of kernels/."""
_RUNTIMES = "runtimes.toml"
_NOT_DECIDING = ("conformance/coverage.toml", "conformance/topics.toml")
"""What lies among the tests, and only tells about them."""


@functools.cache
def digest(part: str) -> str:
    """16 hexadecimal digits for the sources of a part."""
    found = hashlib.sha256(sys.version.encode())
    for folder, path in _files(part):
        found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def digests(*, short: bool = False) -> dict[str, str]:
    """Those of all parts; ``short`` marks the suites', as full ones do not reuse short ones."""
    ending = SHORT if short else ""
    suites = {part: digest(part) + ending for part in (*SUITES, OTHER)}
    files = {part: digest(part) for suite in SUITES for part in files_of(suite)}
    return {CAPTURES: digest(CAPTURES), **suites, **files}


def part_of(suite: str) -> str:
    """The part that a suite is, by its folder's name."""
    return suite if suite in SUITES else OTHER


def files_of(suite: str) -> tuple[str, ...]:
    """The parts that a suite's files of tests are, as in ``conformance/test_mounts.py``."""
    folder = resources.suites()
    return tuple(
        str(path.relative_to(folder)) for path in sorted(folder.glob(f"{suite}/test_*.py"))
    )


def parts_of(test: str) -> tuple[str, ...]:
    """The parts that decide a test, which is named as in a journal."""
    part = part_of(test.partition("/")[0])
    return (part,) if part == OTHER else (part, test.partition("::")[0])


def _files(part: str) -> Iterator[tuple[Path, Path]]:
    """Each with the folder that its name is told from."""
    if part.partition("/")[0] in SUITES and part not in SUITES:
        yield from _of_tests(part)
        return
    alone = tuple(name for names in _ALONE.values() for name in names)
    without = (*_NOT_MEASURING, *_WITHOUT.get(part, ()), *(() if part == OTHER else alone))
    for path in _below(_PACKAGE):
        name = path.relative_to(_PACKAGE)
        drawn = name.parts[0] == "syscalls" and name.parts[1] not in _OF_CALLS
        if not (_matches(name, without) or (part == "conformance" and drawn)):
            yield _PACKAGE, path
    agent = resources.agent_sources()
    with_probe = part in ("conformance", OTHER)
    for path in _below(agent):
        if with_probe or not path.name.startswith(_PROBE):
            yield agent, path
    suites = resources.suites()
    shared = () if part == OTHER else (*files_of(part), *_NOT_DECIDING)
    for path in _below(suites if part == OTHER else suites / part):
        if str(path.relative_to(suites)) not in shared:
            yield suites, path
    if with_probe:
        yield from _data((_RUNTIMES, *alone) if part == OTHER else (_RUNTIMES,))


def _of_tests(part: str) -> Iterator[tuple[Path, Path]]:
    suites = resources.suites()
    yield suites, suites / part
    alone = _ALONE.get(part, ())
    for path in _below(_PACKAGE) if alone else ():
        if _matches(path.relative_to(_PACKAGE), alone):
            yield _PACKAGE, path
    yield from _data(alone)


def _matches(path: Path, patterns: Iterable[str]) -> bool:
    """Whether a pattern is of the file, or of the folder that it is in."""
    names = (path.parts[0], "/".join(path.parts[:2]))
    return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)


def _data(names: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    for name in names:
        if (path := resources.kernels() / name).is_file():
            yield path.parent, path


def _below(folder: Path) -> Iterator[Path]:
    """The files that people write, in order."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        made = any(part == "__pycache__" or part.startswith(".") for part in parts)
        if not made and "selftest" not in parts and path.is_file():
            yield path
