"""All descriptions, by group: one table module each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from types import MappingProxyType

from hostabi.errors import InputError
from hostabi.syscalls.descriptions import (
    bpf,
    confinement,
    control,
    credentials,
    descriptors,
    files,
    folders,
    ipc,
    keyrings,
    limits,
    mapping,
    mounts,
    namespaces,
    pipes,
    polling,
    processes,
    rings,
    scheduling,
    signals,
    sockets,
    times,
    xattrs,
)
from hostabi.syscalls.descriptions.model import Description

GROUPS: Mapping[str, tuple[Description, ...]] = MappingProxyType(
    {
        "files": files.DESCRIPTIONS,
        "folders": folders.DESCRIPTIONS,
        "descriptors": descriptors.DESCRIPTIONS,
        "xattrs": xattrs.DESCRIPTIONS,
        "mounts": mounts.DESCRIPTIONS,
        "namespaces": namespaces.DESCRIPTIONS,
        "processes": processes.DESCRIPTIONS,
        "signals": signals.DESCRIPTIONS,
        "credentials": credentials.DESCRIPTIONS,
        "control": control.DESCRIPTIONS,
        "limits": limits.DESCRIPTIONS,
        "scheduling": scheduling.DESCRIPTIONS,
        "mapping": mapping.DESCRIPTIONS,
        "polling": polling.DESCRIPTIONS,
        "pipes": pipes.DESCRIPTIONS,
        "sockets": sockets.DESCRIPTIONS,
        "ipc": ipc.DESCRIPTIONS,
        "keyrings": keyrings.DESCRIPTIONS,
        "confinement": confinement.DESCRIPTIONS,
        "bpf": bpf.DESCRIPTIONS,
        "rings": rings.DESCRIPTIONS,
        "times": times.DESCRIPTIONS,
    }
)
"""Name of a group -> what it describes."""


@cache
def all_descriptions() -> tuple[Description, ...]:
    """Every description, in the order of the groups."""
    return tuple(each for group in GROUPS.values() for each in group)


def grouped(names: Collection[str]) -> tuple[Description, ...]:
    """The descriptions of some groups, of all where none is named.

    Raises InputError for a name that no group has.
    """
    unknown = sorted(set(names) - set(GROUPS))
    if unknown:
        raise InputError(
            f"no group of descriptions is called {', '.join(unknown)}",
            advice=f"groups are {', '.join(GROUPS)}",
        )
    return tuple(each for name in names or GROUPS for each in GROUPS[name])


def group_of(description: Description) -> str:
    """The group that a description is in."""
    return next(name for name, group in GROUPS.items() if description in group)
