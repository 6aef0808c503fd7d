"""config.md, "Mounts": what options and mappings do, beyond test_mounts.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from hostabi.errors import CallError
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, IdMap, Mount
from hostabi.oci.seen import Answers
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls import table

Asked = Callable[[], Answers]
TREE = "/tmp/hostabi-tree"
O_RDWR, O_CREAT = 2, 0o100


def replaced(config: Config, destination: str, *options: str) -> Config:
    """``config`` whose mount at ``destination`` has these options."""
    mounts = (
        replace(mount, options=options) if mount.destination == destination else mount
        for mount in config.mounts
    )
    return replace(config, mounts=tuple(mounts))


PTS = replaced(
    bundle.base(), "/dev/pts", "newinstance", "ptmxmode=0644", "mode=0640", "gid=7", "nosuid"
)
SPECIAL = bundle.mounted(
    replaced(PTS, "/proc", "nosuid", "noexec", "nodev", "hidepid=2"),
    Mount(destination="/etc", type="tmpfs", source="tmpfs", options=("tmpcopyup", "size=64k")),
    Mount(destination="/mnt/queues", type="mqueue", source="mqueue", options=("nosuid",)),
    Mount(destination="/mnt/made/on/the/way", type="tmpfs", source="tmpfs", options=("ro",)),
)
# Linux gives the new file of a queue the name without a slash before it.
QUEUE = actions.call("mq_open", "hostabi", O_CREAT | O_RDWR, 0o600, 0)
QUESTIONS = (
    actions.REPORT,
    actions.read("/etc/group"),
    actions.fill("/etc/filled", 1 << 20),
    QUEUE,
    actions.listed("/mnt/queues"),
    actions.listed("/dev/mqueue"),
    actions.call("open", "/dev/pts/ptmx", O_RDWR),
    actions.stat("/dev/pts/ptmx"),
    actions.stat("/dev/pts/0"),
    actions.opened("/sys/kernel/rcu_expedited", "w"),
    actions.write("/mnt/made/on/the/way/file", "x", create=True),
    actions.execute("/probe", "open", "/proc/1/status", uid=1000),
)


@pytest.fixture
def special(look) -> Asked:
    """The answers of a container with options that file systems of their own kind have."""
    return lambda: look(SPECIAL, *QUESTIONS)


@pytest.mark.proves("mounts.options:tmpcopyup")
def test_tmpcopyup(special: Asked, runtime: Runtime) -> None:
    """ "tmpcopyup: copy up the contents to a tmpfs"."""
    mount = special().report.mount("/etc")
    assert mount.type == "tmpfs"
    assert special().deed(actions.read("/etc/group")).data.startswith("root:"), runtime.name
    assert special().deed(actions.fill("/etc/filled", 1 << 20)).error == "ENOSPC"


@pytest.mark.proves("mounts.type:mqueue")
def test_mqueue(special: Asked) -> None:
    """A mount of type mqueue shows the queues of the container's ipc namespace."""
    assert special().deed(QUEUE).error == ""
    assert special().deed(actions.listed("/mnt/queues")).data == "hostabi"
    assert special().deed(actions.listed("/dev/mqueue")).data == "hostabi"


@pytest.mark.proves(
    "mounts.options:ptmxmode=0644", "mounts.options:mode=0640", "mounts.options:gid=7"
)
def test_devpts_options(special: Asked) -> None:
    """ "newinstance", "ptmxmode", "mode" and "gid" of devpts: the first terminal is number 0."""
    mode, *_ = special().deed(actions.stat("/dev/pts/ptmx")).data.split()
    assert mode == "20644"
    mode, _uid, gid, *_ = special().deed(actions.stat("/dev/pts/0")).data.split()
    assert (mode, gid) == ("20640", "7")


@pytest.mark.proves("mounts.options:hidepid=2")
def test_proc_options(special: Asked) -> None:
    """ "hidepid=2": an ordinary user sees no processes of others."""
    opened = [deed for deed in special().deeds if deed.arguments[:1] == ("/proc/1/status",)]
    assert [deed.error for deed in opened] == ["ENOENT"]


@pytest.mark.proves("mounts.options:ro")
def test_sysfs_read_only(special: Asked, runtime: Runtime) -> None:
    """The option "ro" on sysfs: nothing of the kernel can be set."""
    assert "ro" in special().report.mount("/sys").flags
    # Whoever is not root is refused before that is looked at.
    refusal = "EACCES" if runtime.user else "EROFS"
    assert special().deed(actions.opened("/sys/kernel/rcu_expedited", "w")).error == refusal


@pytest.mark.proves("mounts.options:ro", "mounts.destination:/mnt/made/on/the/way")
def test_destination_is_made(special: Asked) -> None:
    """ "The runtime MUST create" a destination that is not there, with the folders above."""
    wanted = actions.write("/mnt/made/on/the/way/file", "x", create=True)
    assert special().deed(wanted).error == "EROFS"


@pytest.mark.proves("mounts.source:/tmp/hostabi-no-such")
def test_missing_source(visit) -> None:
    """A bind mount of what does not exist is an error, and nothing runs."""
    mount = Mount(destination="/mnt/x", source="/tmp/hostabi-no-such", options=("bind",))
    seen = visit(bundle.mounted(bundle.base(), mount), actions.identity())
    assert not seen.ok
    assert b'"action"' not in seen.step.done.stdout


@pytest.mark.proves("mounts.destination:/absolute/one", "mounts.destination:/srv/climbing/two")
def test_symlinked_destination(runtime: Runtime) -> None:
    """A link in the root is followed within the root, also one that is absolute or climbs."""
    setup = "ln -s /mnt rootfs/absolute; ln -s ../../../../../../opt rootfs/srv/climbing"
    marks = [
        Mount(destination=place, type="tmpfs", source="tmpfs", options=("mode=0711",))
        for place in ("/absolute/one", "/srv/climbing/two")
    ]
    asked = actions.stat("/mnt/one"), actions.stat("/opt/two")
    config = bundle.mounted(bundle.base(), *marks)
    answers = runtime.run(config, *asked, setup=setup).answers
    modes = [answers.deed(each).data.partition(" ")[0] for each in asked]
    assert modes == ["40711", "40711"]
    outside = runtime.probe("stat", "/opt/two").done.stdout
    assert b'"errno":2' in outside


@pytest.fixture
def tree(runtime: Runtime) -> Iterator[str]:
    """A folder of the guest with a mount in it."""
    shell = ["/bin/busybox", "sh", "-c"]
    below = f"{TREE}/below"
    runtime.agent.command([*shell, f"mkdir -p {below}; mount -t tmpfs below {below}"])
    yield TREE
    runtime.agent.command([*shell, f"umount {below}"])


def known_options(runtime: Runtime) -> frozenset[str]:
    """The options that ``features`` names."""
    listed = runtime.features().get("mountOptions", ())
    return frozenset(map(str, listed)) if isinstance(listed, list) else frozenset()


@pytest.mark.privileged("a bind without what is mounted below may uncover: mount_namespaces(7)")
@pytest.mark.proves("mounts.options:rbind")
def test_rbind_takes_what_is_below(tree: str, runtime: Runtime) -> None:
    """ "rbind" brings the mounts below, and "bind" does not."""
    config = bundle.mounted(
        bundle.base(),
        Mount(destination="/mnt/one", source=tree, options=("bind",)),
        Mount(destination="/mnt/all", source=tree, options=("rbind",)),
    )
    targets = {mount.target for mount in runtime.run(config, actions.REPORT).answers.report.mounts}
    assert "/mnt/all/below" in targets
    assert "/mnt/one/below" not in targets


@pytest.mark.proves("mounts.options:r{option}", "mounts.options:{option}")
@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec"])
def test_recursive_option(option: str, tree: str, runtime: Runtime) -> None:
    """ "rro", "rnosuid", "rnodev", "rnoexec": for the mounts below too: mount_setattr(2)."""
    if f"r{option}" not in known_options(runtime):
        unsupported(f"{runtime.name} does not know r{option}, by its features")
    needs_mount_setattr(runtime)
    config = bundle.mounted(
        bundle.base(),
        Mount(destination="/mnt/all", source=tree, options=("rbind", f"r{option}")),
        Mount(destination="/mnt/top", source=tree, options=("rbind", option)),
    )
    asked = [actions.write(f"/mnt/{name}/below/f", "x", create=True) for name in ("all", "top")]
    answers = runtime.run(config, actions.REPORT, *asked).answers
    assert option in answers.report.mount("/mnt/all/below").flags
    assert option in answers.report.mount("/mnt/top").flags
    assert option not in answers.report.mount("/mnt/top/below").flags
    errors = [answers.deed(each).error for each in asked]
    assert errors == ["EROFS" if option == "ro" else "", ""]


def needs_mount_setattr(runtime: Runtime) -> None:
    """Unsupported where the kernel has no mount_setattr(2)."""
    number = str(table.number("mount_setattr"))
    if b'"errno":38' in runtime.probe("try", number, "-1", "=", "0", "0", "0").done.stdout:
        unsupported("this kernel has no mount_setattr(2)")


@pytest.mark.privileged("mount_setattr(2) gives other owners only to who owns the file system")
@pytest.mark.proves("{given}")
@pytest.mark.parametrize("given", ["mounts.uidMappings", "mounts.options:idmap"])
def test_idmapped(given: str, runtime: Runtime) -> None:
    """ "uidMappings", "gidMappings": other owners in this mount alone; with "idmap" and none of
    those, the ones of the container's user namespace."""
    source = "/usr"  # of the runtime's own tree, on a disk
    if b'"errno":0' not in runtime.probe("idmap", f"{runtime.entry.root}{source}").done.stdout:
        unsupported("this kernel cannot mount a tree with other owners")
    needs_idmap(runtime)
    mapping = (IdMap(container=0, host=100_000, size=65_536),)
    own = given == "mounts.uidMappings"
    mount = Mount(
        destination="/mnt/mapped",
        source=source,
        options=("bind",) if own else ("bind", "idmap"),
        uid_mappings=mapping if own else (),
        gid_mappings=mapping if own else (),
    )
    plain = Mount(destination="/mnt/plain", source=source, options=("bind",))
    config = bundle.mounted(bundle.user_namespace(bundle.base()), mount, plain)
    asked = actions.stat("/mnt/mapped"), actions.stat("/mnt/plain")
    # Its root belongs to nobody in the container, who so cannot make a folder.
    made = "mkdir rootfs/mnt/mapped rootfs/mnt/plain"
    answers = runtime.run(config, *asked, setup=made).answers
    mapped, other = (answers.deed(each).data.split()[1:3] for each in asked)
    assert mapped == ["0", "0"]
    assert other == ["65534", "65534"]


def needs_idmap(runtime: Runtime) -> None:
    """Unsupported where ``features`` does not say that idmap mounts are there."""
    said = runtime.features().get("linux")
    extensions = said.get("mountExtensions") if isinstance(said, dict) else None
    if not isinstance(extensions, dict) or "idmap" not in extensions:
        unsupported(f"{runtime.name} does not claim idmap mounts")


@pytest.mark.proves("linux.mountLabel")
def test_mount_label(runtime: Runtime) -> None:
    """config-linux.md, "Mount Label": the context of SELinux for the container's mounts."""
    try:
        runtime.agent.read("/sys/fs/selinux/enforce")
    except CallError:
        unsupported("this machine has no SELinux, whose contexts mountLabel sets")
    label = "system_u:object_r:container_file_t:s0"
    config = bundle.linux(bundle.base(), mount_label=label)
    report = runtime.run(config, actions.REPORT).answers.report
    assert label in report.mount("/dev/shm").super
