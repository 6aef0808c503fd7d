"""Digests of the sources that decide a result, one for each part of what is measured.

A result is measured again when a source that it depends on was edited, and only
then: a new test of a runtime leaves captures as they are. What only compares or
renders decides nothing, and neither does a new rule, ledger entry or deviation.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import sys
from collections.abc import Iterator
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
    *("cli.py", "commands", "diff", "results", "data"),
    *("runs/bench*", "runs/exits.py", "runs/fuzz*", "runs/reproduce.py", "runs/steady.py"),
)
"""Patterns of fnmatch. Also ``data``: what a wheel has in it is looked at where it lies."""
_CONTAINERS = ("oci", "pytest_broken.py", "pytest_engines.py", "pytest_replay.py")
_WITHOUT = {
    CAPTURES: (*_CONTAINERS, "pytest_plugin.py", "pytest_journal.py"),
    "surfaces": _CONTAINERS,
    "syscalls": (*_CONTAINERS, "surfaces"),
    "conformance": ("surfaces", "syscalls/descriptions"),
}
"""What of the package each does without, as patterns."""
SUITES = tuple(part for part in _WITHOUT if part != CAPTURES)
"""The parts that are suites."""
_PROBE = "probe"
"""How the sources of the program begin that looks from inside containers."""
_PAIRED = ("runtimes.toml", "engines.toml")
"""What kernels are paired with."""


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
    return {CAPTURES: digest(CAPTURES), **suites}


def part_of(suite: str) -> str:
    """The part that a suite is, by its folder's name."""
    return suite if suite in SUITES else OTHER


def _files(part: str) -> Iterator[tuple[Path, Path]]:
    """Each with the folder that its name is told from."""
    without = (*_NOT_MEASURING, *_WITHOUT.get(part, ()))
    for path in _below(_PACKAGE):
        parts = path.relative_to(_PACKAGE).parts
        names = (parts[0], "/".join(parts[:2]))
        if not any(fnmatch.fnmatch(name, pattern) for name in names for pattern in without):
            yield _PACKAGE, path
    agent = resources.agent_sources()
    with_probe = part in ("conformance", OTHER)
    for path in _below(agent):
        if with_probe or not path.name.startswith(_PROBE):
            yield agent, path
    suites = resources.suites()
    for path in _below(suites if part == OTHER else suites / part):
        yield suites, path
    for name in _PAIRED if with_probe else ():
        if (data := resources.kernels() / name).is_file():
            yield data.parent, data


def _below(folder: Path) -> Iterator[Path]:
    """The files that people write, in order."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        made = any(part == "__pycache__" or part.startswith(".") for part in parts)
        if not made and "selftest" not in parts and path.is_file():
            yield path
