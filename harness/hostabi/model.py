"""The words of the project as records: facts, captures, deltas, findings, outcomes.

How two values of a fact compare is the fact's :class:`Kind`, kept here and
not with the surfaces, so that old capture files stay comparable.
"""

from __future__ import annotations

import enum

import msgspec

SCHEMA = 1
"""Version of every record written to disk; readers refuse a newer one."""

Value = str | int | bool | list[str] | None


class Kind(enum.StrEnum):
    """How two values of a fact compare."""

    VALUE = "value"
    """Any difference is a delta (a mode, a type, an errno, a layout)."""
    MEMBERS = "members"
    """A list of names; a lost member is a break, a new one an addition."""
    DEFAULT = "default"
    """A setting's value at boot; a difference is a change."""
    HARDWARE = "hardware"
    """Derived from RAM or CPUs; compared only between captures of equal hardware."""
    VOLATILE = "volatile"
    """Differs from boot to boot; its presence is compared, its value never."""


class Certainty(enum.StrEnum):
    """How sure a fact is."""

    PROBED = "probed"
    """The operation itself was tried."""
    READ = "read"
    """Read from the running kernel's own account of itself."""
    DERIVED = "derived"
    """Read from the image, its BTF or the package, without booting."""
    CONTRADICTED = "contradicted"
    """Two ways disagree; ``detail`` tells them."""


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key and its typed value within a surface.

    ``key`` is unique within its surface, for example ``net.core.somaxconn#mode``.
    ``how`` names the way it was determined (``btf``, ``kallsyms``, ``probe``).
    """

    key: str
    value: Value
    kind: Kind = Kind.VALUE
    how: str = ""
    certainty: Certainty = Certainty.READ
    detail: str = ""


class Cgroup(enum.StrEnum):
    """Which cgroup hierarchy a machine is booted with."""

    V1 = "v1"
    V2 = "v2"


class Variant(msgspec.Struct, frozen=True):
    """How a build is booted. ``memory`` in MiB, ``parameters`` for the kernel's command line."""

    cgroup: Cgroup = Cgroup.V2
    cpus: int = 1
    memory: int = 512
    parameters: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Short and unique: ``cgroup-v2 cpus=1 memory=512``."""
        return " ".join(
            (
                f"cgroup-{self.cgroup}",
                f"cpus={self.cpus}",
                f"memory={self.memory}",
                *self.parameters,
            )
        )


class Provenance(msgspec.Struct, frozen=True):
    """Where a measurement comes from. ``packages`` maps a package file's name to its SHA-256."""

    tool: str
    packages: dict[str, str] = {}
    suite: str = ""
    emulator: str = ""
    accelerator: str = ""
    taken: str = ""
    """UTC, ISO 8601."""


class Capture(msgspec.Struct, frozen=True):
    """All facts of one build, by surface name."""

    build: str
    line: str
    release: str
    variant: Variant
    provenance: Provenance
    surfaces: dict[str, list[Fact]]
    schema: int = SCHEMA
    twin: Variant | None = None
    """The other hardware on which kinds were settled; None when there was one look only."""
    moving: dict[str, dict[str, Kind]] = {}
    """Keys whose very presence moves, by surface: HARDWARE where it follows RAM or CPUs,
    VOLATILE where it differs from boot to boot. They need not be among the facts."""


class Class(enum.StrEnum):
    """What a delta means for something that worked before."""

    BREAK = "break"
    CHANGE = "change"
    ADDITION = "addition"


class Delta(msgspec.Struct, frozen=True):
    """One fact that differs between two captures; absent sides are ``present=False``."""

    surface: str
    key: str
    old: Fact | None
    new: Fact | None


class Finding(msgspec.Struct, frozen=True):
    """A delta with its class, the rule that decided it, and who is hit."""

    delta: Delta
    grade: Class
    rule: str
    impact: tuple[str, ...] = ()
    known: str = ""
    """Reason and citation from the ledger, when the delta is expected."""


class Outcome(enum.StrEnum):
    """The end of one test cell. ``error`` is the harness's failure, never the kernel's."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNSUPPORTED = "unsupported"
    ERROR = "error"
