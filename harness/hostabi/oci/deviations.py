"""Known deviations of runtimes from the specification: kernels/deviations.toml."""

from __future__ import annotations

import msgspec

from hostabi import resources
from hostabi.errors import InputError


class Deviation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test that is expected to fail with these runtimes, why, and who says so."""

    test: str
    runtimes: tuple[str, ...]
    reason: str
    reference: str
    case: str = ""

    def covers(self, test: str, runtime: str, cases: frozenset[str]) -> bool:
        """Whether a cell is meant. ``test`` is ``file.py::function``."""
        return (
            self.test == test and runtime in self.runtimes and (not self.case or self.case in cases)
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    deviation: tuple[Deviation, ...] = ()


def known() -> tuple[Deviation, ...]:
    """All of the file. Raises InputError when it cannot be read."""
    path = resources.kernels() / "deviations.toml"
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File).deviation
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the deviations in {path}: {error}") from error
