"""The records of an OCI config.json, as far as a bundle here uses them.

Field names, types and defaults follow the OCI runtime specification
(config.md and config-linux.md, version 1.0.2 and later); what is None or empty is left out
of the file, as an absent property means "the runtime's choice".
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True):
    """What all records share: camelCase in the file, absent when not set."""


class Root(Record, frozen=True):
    """config.md, "Root". ``path`` is relative to the bundle."""

    path: str
    readonly: bool = False


class Mount(Record, frozen=True):
    """config.md, "Mounts"."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()


class User(Record, frozen=True):
    """config.md, "POSIX-platform User". The two ids are required, so always written."""

    uid: int
    gid: int
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Record, frozen=True):
    """config.md, "Linux Process", capabilities; names such as ``CAP_CHOWN``."""

    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    bounding: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record, frozen=True):
    """config.md, "POSIX process", rlimits; setrlimit(2) gives the units."""

    type: str
    soft: int
    hard: int


class Process(Record, frozen=True):
    """config.md, "Process"."""

    args: tuple[str, ...]
    cwd: str
    user: User
    terminal: bool = False
    env: tuple[str, ...] = ()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None


class Namespace(Record, frozen=True):
    """config-linux.md, "Namespaces". With ``path`` the container joins instead of creating."""

    type: str
    path: str = ""


class IdMap(Record, frozen=True):
    """config-linux.md, "User namespace mappings"."""

    container: int = msgspec.field(name="containerID")
    host: int = msgspec.field(name="hostID")
    size: int = msgspec.field()


class Device(Record, frozen=True):
    """config-linux.md, "Devices"; ``type`` is c, b, u or p."""

    type: str
    path: str
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(Record, frozen=True):
    """config-linux.md, "Allowed Device list"."""

    allow: bool
    type: str = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(Record, frozen=True):
    """config-linux.md, "Memory"; bytes. ``swap`` is memory and swap together."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None


class Cpu(Record, frozen=True):
    """config-linux.md, "CPU"; ``quota`` and ``period`` in microseconds."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str = ""
    mems: str = ""


class Pids(Record, frozen=True):
    """config-linux.md, "PIDs"."""

    limit: int


class Resources(Record, frozen=True):
    """config-linux.md, "Control groups"; ``unified`` holds cgroup v2 files by name."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    unified: dict[str, str] = {}


class Linux(Record, frozen=True):
    """config-linux.md."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    sysctl: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()


class Config(Record, frozen=True):
    """A config.json (config.md)."""

    oci_version: str
    root: Root
    process: Process
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    domainname: str = ""
    annotations: dict[str, str] = {}
    linux: Linux = Linux()

    def encode(self) -> bytes:
        """The file's content, indented for whoever reads a failing bundle."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
