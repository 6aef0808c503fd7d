"""config-linux.md, "Rootfs Mount Propagation" and that of mounts, from both sides."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, Mount

OUTER = "/work/oci/outer"
CROSSING = {"shared": (True, True), "slave": (True, False), "private": (False, False)}
"""Whether a mount made outside comes inside, and one made inside goes outside."""
OUTSIDE_MOUNTS = pytest.mark.privileged("the outside, where only root may mount, mounts something")
LATE = actions.listed("/mnt/outer/late")
INNER = actions.call("mount", "inner", "/mnt/outer/inner", "tmpfs", 0, 0)


def crossing(root: str, *own: str) -> Config:
    """A container that may mount, with a folder that the outside shares."""
    names = (*bundle.CAPABILITIES, "CAP_SYS_ADMIN")
    config = bundle.process(bundle.base(), capabilities=bundle.capabilities(names))
    outer = Mount(destination="/mnt/outer", source=OUTER, options=("rbind", *own))
    return bundle.linux(bundle.mounted(config, outer), rootfs_propagation=root)


# All in one mount namespace, that of the runtime: its outer folder is a mount that is shared. The
# container waits for a signal, while the outside mounts something more; then it mounts
# something itself, and waits again, while the outside looks.
OUTSIDE = f"""
b=/work/oci/busybox
$b mkdir -p {OUTER}; $b mount -t tmpfs outer {OUTER}; $b mount --make-shared {OUTER}
$b mkdir {OUTER}/late {OUTER}/inner
$RUNTIME create --bundle=$FOLDER $ID < /dev/null > $FOLDER/output 2>&1 || exit 3
$RUNTIME start $ID || exit 4
$b cat $FOLDER/rootfs/ready
$b mount -t tmpfs late {OUTER}/late && $b touch {OUTER}/late/seen
$RUNTIME kill $ID TERM
$b cat $FOLDER/rootfs/ready
$b grep -c ' {OUTER}/inner ' /proc/self/mountinfo
$RUNTIME kill $ID TERM
$b umount {OUTER}/late
$b umount -l {OUTER}
true
"""


def crossed(runtime: Runtime, config: Config) -> tuple[bool, bool]:
    """Which mounts crossed, as CROSSING has it."""
    wait = actions.signal()
    visit = runtime.script(config, OUTSIDE, wait, LATE, INNER, wait)
    assert visit.answers.deed(INNER).error == ""
    came = visit.answers.deed(LATE).data == "seen"
    return came, visit.step.done.stdout.decode().strip() != "0"


@OUTSIDE_MOUNTS
@pytest.mark.proves("linux.rootfsPropagation", unless=("slave", "private"))
@pytest.mark.parametrize("propagation", CROSSING)
def test_root_is_crossed(propagation: str, runtime: Runtime) -> None:
    """ "rootfsPropagation" is that of the mounts too: shared goes both ways, slave comes in only,
    and private neither: mount_namespaces(7)."""
    assert crossed(runtime, crossing(f"r{propagation}")) == CROSSING[propagation]


@OUTSIDE_MOUNTS
@pytest.mark.proves("mounts.options:r{propagation}")
@pytest.mark.parametrize("propagation", ["slave", "private"])
def test_mount_is_crossed(propagation: str, runtime: Runtime) -> None:
    """Below a root that is shared a mount's own option is what counts."""
    assert crossed(runtime, crossing("shared", f"r{propagation}")) == CROSSING[propagation]


@pytest.mark.proves("linux.rootfsPropagation", unless=("private", "slave"))
@pytest.mark.parametrize("propagation", ["shared", "unbindable", "private", "slave"])
def test_root(propagation: str, look) -> None:
    """ "rootfsPropagation": the root's own, as proc_pid_mountinfo(5) tells it.

    The guest's mounts are private, so there is no master that the root could be a slave of.
    """
    config = bundle.linux(bundle.base(), rootfs_propagation=propagation)
    seen = look(config, actions.REPORT).report.mount("/").propagation
    tags = {tag.partition(":")[0] for tag in seen}
    assert tags == ({propagation} if propagation in {"shared", "unbindable"} else set())
