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


class IdMap(Record, frozen=True):
    """config-linux.md, "User namespace mappings"."""

    container: int = msgspec.field(name="containerID")
    host: int = msgspec.field(name="hostID")
    size: int = msgspec.field()


class Mount(Record, frozen=True):
    """config.md, "Mounts"; the mappings ask for other owners in this mount alone."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()


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


class ConsoleSize(Record, frozen=True):
    """config.md, "Process", consoleSize; characters."""

    height: int
    width: int


class Scheduler(Record, frozen=True):
    """config.md, "Linux Process", scheduler: sched_setattr(2); times in nanoseconds."""

    policy: str
    nice: int | None = None
    priority: int | None = None
    flags: tuple[str, ...] = ()
    runtime: int | None = None
    deadline: int | None = None
    period: int | None = None


class IoPriority(Record, frozen=True):
    """config.md, "Linux Process", ioPriority; ``io_class`` such as ``IOPRIO_CLASS_BE``."""

    io_class: str = msgspec.field(name="class")
    priority: int


class CpuAffinity(Record, frozen=True):
    """config.md, "Linux Process", execCPUAffinity: lists of processors, as "0-3,7"."""

    initial: str = ""
    final: str = ""


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
    console_size: ConsoleSize | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = msgspec.field(name="execCPUAffinity", default=None)
    apparmor_profile: str = ""
    selinux_label: str = ""

    def encode(self) -> bytes:
        """The file that ``exec --process`` reads."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


class Namespace(Record, frozen=True):
    """config-linux.md, "Namespaces". With ``path`` the container joins instead of creating."""

    type: str
    path: str = ""


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


class Memory(
    Record,
    frozen=True,
    rename={
        "kernel_tcp": "kernelTCP",
        "disable_oom_killer": "disableOOMKiller",
        "use_hierarchy": "useHierarchy",
        "check_before_update": "checkBeforeUpdate",
    },
):
    """config-linux.md, "Memory"; bytes. ``swap`` is memory and swap together.

    ``kernel``, ``kernel_tcp``, ``swappiness``, ``disable_oom_killer`` and ``use_hierarchy`` are of
    cgroup v1 alone.
    """

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool = False
    use_hierarchy: bool = False
    check_before_update: bool = False


class Cpu(Record, frozen=True):
    """config-linux.md, "CPU"; ``quota``, ``period`` and ``burst`` in microseconds."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    burst: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Record, frozen=True):
    """config-linux.md, "PIDs"."""

    limit: int


class WeightDevice(Record, frozen=True):
    """config-linux.md, "Block IO", a device's weight, from 10 to 1000."""

    major: int
    minor: int
    weight: int


class Throttle(Record, frozen=True):
    """config-linux.md, "Block IO", a device's limit; bytes or operations in a second."""

    major: int
    minor: int
    rate: int


class BlockIO(
    Record,
    frozen=True,
    rename={
        "weight_device": "weightDevice",
        "read_iops": "throttleReadIOPSDevice",
        "write_iops": "throttleWriteIOPSDevice",
        "read_bps": "throttleReadBpsDevice",
        "write_bps": "throttleWriteBpsDevice",
    },
):
    """config-linux.md, "Block IO"; ``weight`` from 10 to 1000."""

    weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    read_bps: tuple[Throttle, ...] = ()
    write_bps: tuple[Throttle, ...] = ()
    read_iops: tuple[Throttle, ...] = ()
    write_iops: tuple[Throttle, ...] = ()


class HugepageLimit(Record, frozen=True):
    """config-linux.md, "Huge page limits"; ``page_size`` such as ``2MB``, ``limit`` in bytes."""

    page_size: str
    limit: int


class NetworkPriority(Record, frozen=True):
    """config-linux.md, "Network", the priority of what leaves by an interface."""

    name: str
    priority: int


class Network(Record, frozen=True):
    """config-linux.md, "Network", of cgroup v1 alone."""

    class_id: int | None = msgspec.field(name="classID", default=None)
    priorities: tuple[NetworkPriority, ...] = ()


class Resources(Record, frozen=True):
    """config-linux.md, "Control groups"; ``unified`` holds cgroup v2 files by name."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(name="blockIO", default=None)
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    unified: dict[str, str] = {}

    def encode(self) -> bytes:
        """As ``update`` reads it."""
        return msgspec.json.encode(self)


class Argument(Record, frozen=True):
    """config-linux.md, "Seccomp", a condition on an argument; ``op`` such as ``SCMP_CMP_EQ``."""

    index: int
    value: int
    op: str
    value_two: int | None = None


class SyscallRule(Record, frozen=True):
    """config-linux.md, "Seccomp", what happens to these system calls."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[Argument, ...] = ()


class Seccomp(Record, frozen=True):
    """config-linux.md, "Seccomp"."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SyscallRule, ...] = ()


class MemoryPolicy(Record, frozen=True):
    """config-linux.md, "Memory policy"; ``nodes`` as in "0-1,3"."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


class Personality(Record, frozen=True):
    """config-linux.md, "Personality"."""

    domain: str


class TimeOffset(Record, frozen=True):
    """config-linux.md, "Offset for Time Namespace"."""

    secs: int = 0
    nanosecs: int = 0


class NetDevice(Record, frozen=True):
    """config-linux.md, "Network Devices": the name inside, the same one when empty."""

    name: str = ""


class Linux(Record, frozen=True):
    """config-linux.md."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    seccomp: Seccomp | None = None
    memory_policy: MemoryPolicy | None = None
    mount_label: str = ""
    rootfs_propagation: str = ""
    sysctl: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] = {}
    net_devices: dict[str, NetDevice] = {}


class Hook(Record, frozen=True):
    """config.md, "POSIX-platform Hooks"; ``timeout`` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(Record, frozen=True):
    """config.md, "POSIX-platform Hooks", in the order of their turns."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Config(Record, frozen=True):
    """A config.json (config.md)."""

    oci_version: str
    root: Root
    process: Process
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    domainname: str = ""
    annotations: dict[str, str] = {}
    hooks: Hooks = Hooks()
    linux: Linux = Linux()

    def encode(self) -> bytes:
        """The file's content, indented for whoever reads a failing bundle."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
