"""Who is to blame when an engine fails: the kernel, its configuration, or the engine itself.

What engines need is tried without them, one need at a time. Where all of it works, the
engine is what does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostabi.oci.log import Commander

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Need:
    """A shell script that succeeds where ``name`` is there, and the module that may bring it."""

    name: str
    script: str
    module: str = ""


_NEEDS = (
    _Need(
        "overlay mounts",
        "d=/tmp/blame; mkdir -p $d/l $d/u $d/w $d/m && cd $d && "
        "mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m && umount m; "
        "s=$?; rm -rf $d; exit $s",
        "overlay",
    ),
    _Need(
        "namespaces", "unshare -m -u -i -n -p -f -C true 2>/dev/null || unshare -m -u -i -n -p true"
    ),
    _Need(
        "memory controller",
        "grep -qw memory /sys/fs/cgroup/cgroup.controllers || [ -d /sys/fs/cgroup/memory ]",
    ),
    _Need(
        "pids controller",
        "grep -qw pids /sys/fs/cgroup/cgroup.controllers || [ -d /sys/fs/cgroup/pids ]",
    ),
    _Need("seccomp filters", "grep -q '^Seccomp_filters\\|^Seccomp:' /proc/self/status"),
)


def blame(agent: Commander) -> str:
    """``configuration``, ``kernel`` or ``engine``, with what is lacking."""
    for need in _NEEDS:
        if _ok(agent, need.script):
            continue
        if need.module and not _ok(agent, f"modprobe {need.module}"):
            return f"configuration: no {need.name}, as there is no module {need.module}"
        return f"kernel: no {need.name}"
    return "engine"


def _ok(agent: Commander, script: str) -> bool:
    done = agent.command(["/bin/busybox", "sh", "-c", script], timeout=_SECONDS)
    return done.status == 0 and not done.timed_out
