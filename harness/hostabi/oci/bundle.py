"""Bundles from a base: pure functions from one config.json to the next.

The base is what container engines ask for today: every namespace but user and
time of its own, the usual mounts, few capabilities, no new privileges. A test changes
the one property it is about.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from hostabi.oci.records import (
    Argument,
    Capabilities,
    Config,
    IdMap,
    Linux,
    Memory,
    Mount,
    Namespace,
    Pids,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    SyscallRule,
    User,
)
from hostabi.syscalls.profiles import Profile

VERSION = "1.0.2"
"""The oldest version of the specification that has all the base uses (cgroup v2, 2020)."""

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
"""What the base asks for, by the names of config-linux.md, "Namespaces"."""

CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""The set that container engines grant by default."""

MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
"""What container engines hide by default; not every kernel has all of these."""

READONLY = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""What container engines let nobody write to by default."""

MOUNTS = (
    Mount(destination="/proc", type="proc", source="proc", options=("nosuid", "noexec", "nodev")),
    Mount(
        destination="/dev",
        type="tmpfs",
        source="tmpfs",
        options=("nosuid", "strictatime", "mode=755", "size=65536k"),
    ),
    Mount(
        destination="/dev/pts",
        type="devpts",
        source="devpts",
        options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
    ),
    Mount(
        destination="/dev/shm",  # noqa: S108
        type="tmpfs",
        source="shm",
        options=("nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
    ),
    Mount(
        destination="/dev/mqueue",
        type="mqueue",
        source="mqueue",
        options=("nosuid", "noexec", "nodev"),
    ),
    Mount(
        destination="/sys",
        type="sysfs",
        source="sysfs",
        options=("nosuid", "noexec", "nodev", "ro"),
    ),
    Mount(
        destination="/sys/fs/cgroup",
        type="cgroup",
        source="cgroup",
        options=("nosuid", "noexec", "nodev", "relatime", "ro"),
    ),
)
"""config-linux.md, "Default Filesystems", and what engines add to it."""


def capabilities(names: Iterable[str] = CAPABILITIES) -> Capabilities:
    """The same set as bounding, effective and permitted, as engines do for root."""
    held = tuple(names)
    return Capabilities(effective=held, permitted=held, bounding=held)


def base(name: str = "base") -> Config:
    """The bundle most tests start from; ``name`` becomes the hostname."""
    return Config(
        oci_version=VERSION,
        root=Root(path="rootfs"),
        process=Process(
            args=("/probe", "report"),
            cwd="/",
            user=User(uid=0, gid=0),
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
            capabilities=capabilities(),
            no_new_privileges=True,
        ),
        mounts=MOUNTS,
        hostname=name,
        linux=Linux(
            namespaces=tuple(Namespace(type=kind) for kind in NAMESPACES),
            masked_paths=MASKED,
            readonly_paths=READONLY,
        ),
    )


def process(config: Config, **changes: object) -> Config:
    """``config`` with other properties of its process."""
    return replace(config, process=replace(config.process, **changes))


def linux(config: Config, **changes: object) -> Config:
    """``config`` with other properties of its ``linux`` object."""
    return replace(config, linux=replace(config.linux, **changes))


def args(config: Config, *words: str) -> Config:
    """``config`` running another program."""
    return process(config, args=words)


def mounted(config: Config, *mounts: Mount) -> Config:
    """``config`` with more mounts, after those it has."""
    return replace(config, mounts=(*config.mounts, *mounts))


def without_namespace(config: Config, *kinds: str) -> Config:
    """``config`` sharing these namespaces with the runtime (config-linux.md, "Namespaces")."""
    kept = (one for one in config.linux.namespaces if one.type not in kinds)
    return linux(config, namespaces=tuple(kept))


def namespace(config: Config, kind: str, path: str = "") -> Config:
    """``config`` with a namespace of its own, or joining the one at ``path``."""
    rest = without_namespace(config, kind).linux.namespaces
    return linux(config, namespaces=(*rest, Namespace(type=kind, path=path)))


def rlimit(config: Config, kind: str, soft: int, hard: int) -> Config:
    """``config`` with this limit; replaces an earlier one of the same kind."""
    kept = tuple(one for one in config.process.rlimits if one.type != kind)
    return process(config, rlimits=(*kept, Rlimit(type=kind, soft=soft, hard=hard)))


def resources(config: Config, **changes: object) -> Config:
    """``config`` with other control group resources."""
    return linux(config, resources=replace(config.linux.resources or Resources(), **changes))


def memory(config: Config, limit: int, swap: int | None = None) -> Config:
    """``config`` limited to ``limit`` bytes of memory."""
    return resources(config, memory=Memory(limit=limit, swap=swap))


def pids(config: Config, limit: int) -> Config:
    """``config`` limited to ``limit`` tasks."""
    return resources(config, pids=Pids(limit=limit))


def seccomp(config: Config, *rules: SyscallRule, **changes: object) -> Config:
    """``config`` under a filter that allows all but what ``rules`` say."""
    asked = Seccomp(
        default_action="SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_X86_64",), syscalls=rules
    )
    return linux(config, seccomp=replace(asked, **changes))


def profiled(config: Config, profile: Profile) -> Config:
    """``config`` under an engine's profile, as it is for the container's bounding set."""
    held = config.process.capabilities
    policy = profile.policy(held.bounding if held else ())
    rules = tuple(
        SyscallRule(
            names=rule.names,
            action=rule.action,
            errno_ret=rule.errno,
            args=tuple(
                Argument(
                    index=each.index,
                    value=each.value,
                    op=each.operator,
                    value_two=each.second or None,
                )
                for each in rule.conditions
            ),
        )
        for rule in policy.rules
    )
    record = Seccomp(
        default_action=policy.default,
        default_errno_ret=policy.default_errno,
        architectures=policy.architectures,
        syscalls=rules,
    )
    return linux(config, seccomp=record)


def user_namespace(config: Config, *, host: int = 100_000, size: int = 65_536) -> Config:
    """``config`` in a user namespace whose ids 0 to ``size`` are ``host`` and up outside."""
    mapping = (IdMap(container=0, host=host, size=size),)
    return linux(namespace(config, "user"), uid_mappings=mapping, gid_mappings=mapping)
