"""Which topics of the OCI runtime specification have tests: suites/conformance/coverage.toml.

Topics are the tests of the specification's own validation suite, the integration tests of runc
and the properties that config-linux.md and features-linux.md name; topics.toml lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from hostabi import resources
from hostabi.errors import InputError

NOT_YET = "not covered yet"
"""What an untested topic starts with when nothing keeps it from being tested."""


class Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topics of each source, by name."""

    validation: tuple[str, ...]
    runc: tuple[str, ...]
    linux: tuple[str, ...]


class _Covered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    validation: dict[str, str | tuple[str, ...]]
    runc: dict[str, str | tuple[str, ...]]
    linux: dict[str, str | tuple[str, ...]]


_Kind = TypeVar("_Kind", Sources, _Covered)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with its tests (``file.py`` or ``file.py::function`` of suites/conformance), or
    with the reason why it has none."""

    source: str
    name: str
    tests: tuple[str, ...]
    reason: str = ""

    @property
    def state(self) -> str:
        """``tested``, ``open`` or ``untestable``."""
        if self.tests:
            return "tested"
        return "open" if self.reason.startswith(NOT_YET) else "untestable"


def folder() -> Path:
    """Where the tests and both files are."""
    return resources.suites() / "conformance"


@cache
def sources() -> Sources:
    """The topics that there are. Raises InputError when the file cannot be read."""
    return _read("topics.toml", Sources)


@cache
def topics() -> tuple[Topic, ...]:
    """The topics of coverage.toml, in its order. Raises InputError when it cannot be read."""
    covered = _read("coverage.toml", _Covered)
    return tuple(
        Topic(source, name, (), said) if isinstance(said, str) else Topic(source, name, said)
        for source in covered.__struct_fields__
        for name, said in getattr(covered, source).items()
    )


def _read(name: str, kind: type[_Kind]) -> _Kind:
    path = folder() / name
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the topics in {path}: {error}") from error
