"""Known deviations of runtimes and kernels from what is specified: kernels/deviations.toml."""

from __future__ import annotations

from functools import cache

import msgspec

from hostabi import resources
from hostabi.errors import InputError
from hostabi.oci.runtimes import split


class Deviation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test that is expected to fail with these runtimes or builds, why, and who says so.

    ``test`` is ``folder/file.py::function``. An empty field says nothing; of
    ``runtimes`` and ``builds`` one at least is given. A runtime with the suffix of the rootless
    mode is meant in that mode alone. ``builds`` are exact names, for the next build of a line may
    be repaired.
    """

    test: str
    reason: str
    reference: str
    runtimes: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    case: str = ""

    def __post_init__(self) -> None:
        if not self.runtimes and not self.builds:
            raise ValueError(f"the deviation of {self.test} names no runtimes and no builds")

    def covers(self, test: str, *, runtime: str, build: str) -> bool:
        """Whether a cell is meant; ``test`` ends with its parameters in brackets, if it has any.

        What a runtime does not keep, it does not keep for an ordinary user either.
        """
        names = {runtime, split(runtime)[0]}
        name, _, parameters = test.removesuffix("]").partition("[")
        return (
            self.test == name
            and (not self.runtimes or not names.isdisjoint(self.runtimes))
            and (not self.builds or build in self.builds)
            and (not self.case or f"-{self.case}-" in f"-{parameters}-")
        )

    def __str__(self) -> str:
        return f"{self.reason} ({self.reference})"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    deviation: tuple[Deviation, ...] = ()


@cache
def known() -> tuple[Deviation, ...]:
    """All of the file. Raises InputError when it cannot be read."""
    path = resources.kernels() / "deviations.toml"
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File).deviation
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the deviations in {path}: {error}") from error


def explanation(test: str, *, runtime: str, build: str) -> str:
    """Why a cell is known to fail, with the reference; empty when it is not."""
    every = (one for one in known() if one.covers(test, runtime=runtime, build=build))
    return next(map(str, every), "")
