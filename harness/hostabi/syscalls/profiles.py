"""The seccomp profiles that container engines start containers under: kernels/profiles.toml.

A profile is a file of a distribution's package. It becomes a policy for a container
by the rules of the engines' library (containers-seccomp.json(5)): parts hold for some
architectures only, or with or without some capability in the bounding set.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from hostabi import resources
from hostabi.errors import InputError
from hostabi.packages.archives import unpack_deb
from hostabi.packages.context import Packages
from hostabi.syscalls.seccomp import NATIVE, Condition, Policy, Rule

_ARCH = "amd64"
"""What profiles call the architecture of our kernels."""

_LARGEST = 1 << 20
"""Bytes of a profile; those of today have 18,000."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    suite: str
    package: str
    path: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    profile: tuple[_Row, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a profile comes from: the file ``path`` in ``package`` of ``suite``."""

    name: str
    suite: str
    package: str
    path: str


class _Filter(msgspec.Struct, frozen=True, rename="camel"):
    arches: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()
    min_kernel: str = ""


class _Argument(msgspec.Struct, frozen=True, rename="camel"):
    index: int
    value: int
    op: str
    value_two: int = 0


class _Call(msgspec.Struct, frozen=True, rename="camel"):
    action: str
    names: tuple[str, ...] = ()
    name: str = ""
    errno_ret: int | None = None
    args: tuple[_Argument, ...] | None = None
    includes: _Filter = _Filter()
    excludes: _Filter = _Filter()


class _Architecture(msgspec.Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """A profile as its file has it. What only people read in it is left out."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    arch_map: tuple[_Architecture, ...] = ()
    syscalls: tuple[_Call, ...] = ()

    def policy(self, capabilities: Collection[str] = ()) -> Policy:
        """What it means for a process whose bounding set holds ``capabilities`` (CAP_CHOWN)."""
        mapped = next((each for each in self.arch_map if each.architecture == NATIVE), None)
        more = (mapped.architecture, *(mapped.sub_architectures or ())) if mapped else ()
        return Policy(
            default=self.default_action,
            default_errno=self.default_errno_ret,
            architectures=tuple(dict.fromkeys((*self.architectures, *more))) or (NATIVE,),
            rules=tuple(_rule(call) for call in self.syscalls if _holds(call, capabilities)),
        )


@cache
def _load(path: Path) -> _File:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the seccomp profiles in {path}: {error}") from error


def catalogue() -> dict[str, Entry]:
    """Every profile by name, the oldest first. Raises InputError."""
    rows = _load(resources.kernels() / "profiles.toml").profile
    return {row.name: Entry(row.name, row.suite, row.package, row.path) for row in rows}


def fetch(packages: Packages, name: str) -> Profile:
    """The profile called ``name``, out of its package, which is kept in the cache.

    Raises InputError for an unknown name, or a profile that is none, and PackageError.
    """
    entries = catalogue()
    if name not in entries:
        raise InputError(
            f"no seccomp profile is called {name!r}", advice=f"one of {', '.join(entries)}"
        )
    entry = entries[name]
    package = packages.suite(entry.suite).newest(entry.package)
    if package is None:
        raise InputError(
            f"suite {entry.suite} has no package {entry.package!r}",
            advice="correct its entry in kernels/profiles.toml",
        )

    def build(folder: Path) -> None:
        unpack_deb(packages.fetch(package), folder, members=lambda path: path == entry.path)

    root = packages.cache.folder("profiles", package.sha256[:24], build, label=f"profile {name}")
    try:
        with (root / entry.path).open("rb") as file:
            return decode(file.read(_LARGEST + 1))
    except (OSError, InputError) as error:
        raise InputError(f"{entry.path} of {package.name} {package.version}: {error}") from error


def decode(raw: bytes) -> Profile:
    """Read a profile. Raises InputError for what is none.

    A part that holds from some kernel release on is refused: the same program would meet
    another filter on another kernel. The engines of Debian ship none.
    """
    if len(raw) > _LARGEST:
        raise InputError(f"a seccomp profile of more than {_LARGEST} bytes")
    try:
        profile = msgspec.json.decode(raw, type=Profile)
    except msgspec.DecodeError as error:
        raise InputError(f"no seccomp profile: {error}") from error
    for call in profile.syscalls:
        if call.includes.min_kernel or call.excludes.min_kernel:
            raise InputError(f"the rule for {_names(call)[0]} depends on the kernel's release")
    return profile


def _rule(call: _Call) -> Rule:
    conditions = tuple(
        Condition(each.index, each.op, each.value, each.value_two) for each in call.args or ()
    )
    return Rule(_names(call), call.action, call.errno_ret, conditions)


def _names(call: _Call) -> tuple[str, ...]:
    return call.names or (call.name,)


def _holds(call: _Call, capabilities: Collection[str]) -> bool:
    """Whether a part is for our architecture and these capabilities; see the module."""
    only, never = call.includes, call.excludes
    return (
        _ARCH not in never.arches
        and (not only.arches or _ARCH in only.arches)
        and not any(name in capabilities for name in never.caps)
        and all(name in capabilities for name in only.caps)
    )
