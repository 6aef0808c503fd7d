"""The rootless mode: an ordinary user calls the runtime, in control groups that were handed to it.

What a login of systemd prepares for a user is made here by hand: a control group that belongs to
the user (Documentation/admin-guide/cgroup-v2.rst, "Delegation"), a folder for what lives as long
as the session (XDG_RUNTIME_DIR of the Base Directory Specification), and a range of subordinate
ids (subuid(5)). A bundle gets what it then needs: a user namespace of its own, mapped by
newuidmap(1) where the runtime's tree has it, else the user's own id alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from hostabi.errors import MachineError
from hostabi.oci import bundle
from hostabi.oci.log import Commander
from hostabi.oci.records import Config, IdMap, Mount

_SECONDS = 30.0

UID = 1000
"""The user's id, and that of its group."""

NAME = "hostabi"
FIRST, COUNT = 100_000, 65_536
"""The subordinate ids, as useradd(8) hands them out to the first user."""

HOME = f"/run/user/{UID}"
SERVICE = f"/user.slice/user-{UID}.slice/user@{UID}.service"
"""The group that belongs to the user, a path below /sys/fs/cgroup."""
SESSION = f"/sys/fs/cgroup{SERVICE}/session"
"""Where the runtime itself is: a group with controllers has no processes of its own."""

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "USER": NAME,
    "XDG_RUNTIME_DIR": HOME,
}

FILES = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\n{NAME}:x:{UID}:{UID}::{HOME}:/bin/sh\n",
    "etc/group": f"root:x:0:\n{NAME}:x:{UID}:\n",
    "etc/subuid": f"{NAME}:{FIRST}:{COUNT}\n",
    "etc/subgid": f"{NAME}:{FIRST}:{COUNT}\n",
}
"""What newuidmap(1) looks into, in a runtime's tree."""

SET_UID = ("usr/bin/newuidmap", "usr/bin/newgidmap")
"""Programs of a tree that are set-uid root, which unpacking takes away."""

DELEGATE = f"""
cd /sys/fs/cgroup && [ -e cgroup.controllers ] || exit 3
[ -d {SESSION} ] && exit 0
mkdir -p {HOME} {SESSION} && chown {UID}:{UID} {HOME} && chmod 700 {HOME} || exit 4
group=/sys/fs/cgroup
for name in user.slice user-{UID}.slice user@{UID}.service; do
    for each in $(cat $group/cgroup.controllers); do
        echo +$each > $group/cgroup.subtree_control
    done 2>/dev/null
    group=$group/$name
done
for each in $(cat $group/cgroup.controllers); do
    echo +$each > $group/cgroup.subtree_control
done 2>/dev/null
for folder in $group {SESSION}; do
    chown {UID}:{UID} $folder
    for file in $(cat /sys/kernel/cgroup/delegate); do
        [ ! -e $folder/$file ] || chown {UID}:{UID} $folder/$file
    done
done
"""
"""Shell: hand a group to the user, with the files that the kernel names for that. Its status is
3 where there is no cgroup v2."""


def prepare(agent: Commander, tree: str, probe: str, work: str) -> bool:
    """Make a guest ready for the user; whether the runtime's ``tree`` maps subordinate ids.

    ``probe`` is copied to ``work``, which becomes the user's. Raises MachineError where that
    cannot be done.
    """
    script = (
        f"({DELEGATE}) && mkdir -p {work} && cp -f {probe} {work}/ && chown {UID}:{UID} {work}"
        f" && {{ [ -u {tree}/{SET_UID[0]} ] && echo subordinate || :; }}"
    )
    made = agent.command(["/bin/busybox", "sh", "-c", script], timeout=_SECONDS)
    if made.status:
        said = made.stderr.decode("utf-8", "replace").strip()
        raise MachineError(f"the guest cannot be made ready for a user: {said or made.status}")
    return b"subordinate" in made.stdout


@dataclass(frozen=True, slots=True)
class User:
    """Who calls the runtime. ``subordinate`` is whether ids other than its own can be mapped."""

    subordinate: bool

    def argv(self, probe: str) -> tuple[str, ...]:
        """What stands before a command so that ``probe`` runs it as the user."""
        return (probe, "become", str(UID), SESSION)

    @staticmethod
    def owns(path: str) -> list[str]:
        """The command that gives the user what lies at ``path``."""
        return ["/bin/busybox", "chown", "-R", f"{UID}:{UID}", path]

    @staticmethod
    def options(family: str) -> tuple[str, ...]:
        """What the runtime has to be told of its mode."""
        return ("--rootless=true",) if family == "runc" else ()

    def config(self, config: Config) -> Config:
        """``config`` as this user can run it: in a user namespace, unless it has one, and with its
        control group below the user's."""
        path = config.linux.cgroups_path
        if path.startswith("/") and not path.startswith(SERVICE):
            config = bundle.linux(config, cgroups_path=SERVICE + path)
        if any(each.type == "user" for each in config.linux.namespaces):
            return config
        others = (IdMap(container=1, host=FIRST, size=COUNT),) if self.subordinate else ()
        mapping = (IdMap(container=0, host=UID, size=1), *others)
        made = replace(bundle.namespace(config, "user"), mounts=_mounts(config))
        return bundle.linux(made, uid_mappings=mapping, gid_mappings=mapping)


def _mounts(config: Config) -> tuple[Mount, ...]:
    """A new sysfs is of a network namespace, a new proc of a pid namespace and a new mqueue of an
    ipc namespace, and nobody may mount that of another user namespace. The outside's is bound,
    as engines do; of queues it has none."""
    kinds = {each.type for each in config.linux.namespaces}
    owners = {"sysfs": "network", "proc": "pid"}
    bound = {name for name, owner in owners.items() if owner not in kinds}
    return tuple(
        replace(mount, type="none", source=mount.destination, options=("rbind", *mount.options))
        if mount.type in bound
        else mount
        for mount in config.mounts
        if mount.type != "mqueue" or "ipc" in kinds
    )
