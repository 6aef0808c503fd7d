"""What a journal holds: one small frozen record per line, told apart by its ``record`` field."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hostabi.model import SCHEMA, Outcome

_SEPARATOR = ","
"""Between builds that were measured together; in no version, where ``+`` and ``~`` are common."""

KNOWN = "known: "
"""How the reason of a failure begins that kernels/deviations.toml explains."""


def together(builds: Iterable[str]) -> str:
    """One name for builds that are measured in lockstep."""
    return _SEPARATOR.join(builds)


def members(name: str) -> frozenset[str]:
    """The builds of such a name, or the one build that it is."""
    return frozenset(name.split(_SEPARATOR))


def suite_of(test: str) -> str:
    """``syscalls`` of ``syscalls/test_pipes.py::test_order``."""
    return test.partition("/")[0]


class Session(msgspec.Struct, frozen=True, tag_field="record", tag="session"):
    """One process that measures. Every later record names the session it belongs to."""

    session: str
    started: str
    """UTC, ISO 8601."""
    tool: str
    process: int
    sources: dict[str, str] = {}
    """Digests by part (:mod:`.sources`); what was measured by another is not reused."""
    accelerator: str = "auto"
    host: str = ""
    arguments: tuple[str, ...] = ()
    schema: int = SCHEMA


class BuildUsed(msgspec.Struct, frozen=True, tag_field="record", tag="build"):
    """A build that was booted, with its provenance."""

    session: str
    name: str
    line: str
    release: str
    version: str
    flavour: str
    suite: str
    image: str
    """SHA-256 of the kernel image."""
    packages: dict[str, str] = {}
    emulator: str = ""
    accelerator: str = ""
    note: str = ""


class Features(msgspec.Struct, frozen=True, tag_field="record", tag="features"):
    """What programs of the suites need, and a build has, found by trying: syscalls.probes."""

    session: str
    build: str
    features: tuple[str, ...]


class Planned(msgspec.Struct, frozen=True, tag_field="record", tag="planned"):
    """How many cells a suite has on a build, so that a table can tell part from all."""

    session: str
    build: str
    suite: str
    cells: int


class TestCell(msgspec.Struct, frozen=True, tag_field="record", tag="cell"):
    """The outcome of one test on one build, runtime and variant. ``seconds`` is its duration."""

    session: str
    build: str
    test: str
    outcome: Outcome
    runtime: str = ""
    variant: str = ""
    reason: str = ""
    seconds: float = 0.0
    detail: str = ""
    """The tail of what the test printed about its failure."""
    replay: str = ""
    """Of a failure in a container, the file that tells what was run; relative to the journal's
    folder. See :mod:`hostabi.oci.replay`."""
    measured: dict[str, str] = {}
    """What the test found out besides, by name: pytest's ``record_property``."""

    __test__ = False
    """Not a test class, whatever pytest makes of its name."""

    @property
    def key(self) -> CellKey:
        """What makes two records the same cell."""
        return CellKey(self.build, self.test, self.runtime, self.variant)

    @property
    def known(self) -> bool:
        """Whether it failed as kernels/deviations.toml says it does."""
        return self.outcome is Outcome.FAIL and self.reason.startswith(KNOWN)


class CellKey(msgspec.Struct, frozen=True):
    """The identity of a cell. Lockstep cells name all their builds, see :func:`together`."""

    build: str
    test: str
    runtime: str = ""
    variant: str = ""


class SuitesDone(msgspec.Struct, frozen=True, tag_field="record", tag="suites"):
    """The suites went through, with these arguments. ``build`` as in :class:`CellKey`."""

    session: str
    build: str
    arguments: tuple[str, ...]


class CaptureDone(msgspec.Struct, frozen=True, tag_field="record", tag="capture"):
    """A capture that was saved. ``file`` is relative to the journal's folder."""

    session: str
    build: str
    file: str
    sha256: str
    facts: int
    seconds: float = 0.0


class SurfaceError(msgspec.Struct, frozen=True, tag_field="record", tag="surface-error"):
    """A surface that could not be captured on a build."""

    session: str
    build: str
    surface: str
    reason: str


class StepError(msgspec.Struct, frozen=True, tag_field="record", tag="step-error"):
    """A step (fetch, boot, suites) that failed for a line or build as a whole."""

    session: str
    build: str
    step: str
    reason: str


class Finished(msgspec.Struct, frozen=True, tag_field="record", tag="finished"):
    """A run came to its end; without this record a table says that the run is not complete."""

    session: str
    ended: str
    builds: tuple[str, ...]
    exit_code: int


Record = (
    Session
    | BuildUsed
    | Features
    | Planned
    | TestCell
    | SuitesDone
    | CaptureDone
    | SurfaceError
    | StepError
    | Finished
)
