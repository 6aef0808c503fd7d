"""config.md, "Root" and "Mounts"; config-linux.md, "Default Filesystems"."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Mount
from hostabi.oci.seen import Answers

Asked = Callable[[], Answers]
NULL_DEVICE = 1 << 8 | 3
CHARACTER = 0o020666


def scratch(name: str, *options: str) -> Mount:
    """A tmpfs at /mnt/NAME."""
    return Mount(destination=f"/mnt/{name}", type="tmpfs", source="tmpfs", options=options)


# Set-uid programs gain nothing under no_new_privs, so it is off here.
MANY = bundle.mounted(
    bundle.process(bundle.base(), no_new_privileges=False),
    scratch("plain", "mode=1777"),
    scratch("ro", "ro"),
    scratch("nosuid", "nosuid", "mode=1777"),
    scratch("nodev", "nodev"),
    scratch("noexec", "noexec"),
    scratch("noatime", "noatime"),
    scratch("sized", "size=64k", "mode=0710"),
    scratch("twice", "size=64k"),
    scratch("twice", "size=128k"),
)
PLACES = ("plain", "ro", "nosuid", "nodev", "noexec")


def node(place: str) -> actions.Action:
    """Make a null device in a mount."""
    return actions.attempt("mknod", f"/mnt/{place}/null", CHARACTER, NULL_DEVICE)


def program(place: str, mode: int = 0o755) -> tuple[actions.Action, actions.Action]:
    """Copy the probe into a mount and execute it as an ordinary user."""
    path = f"/mnt/{place}/probe"
    return actions.copy("/probe", path, mode), actions.execute(path, "identity", uid=1000)


QUESTIONS = (
    actions.REPORT,
    *(actions.write(f"/mnt/{place}/file", "x", create=True) for place in PLACES),
    *(node(place) for place in ("plain", "nodev")),
    *(actions.opened(f"/mnt/{place}/null", "w") for place in ("plain", "nodev")),
    *program("noexec"),
    *program("plain", 0o4755),
    *program("nosuid", 0o4755),
    actions.fill("/mnt/sized/file", 1 << 20),
    actions.stat("/mnt/sized"),
    actions.fill("/mnt/twice/file", 1 << 20),
)


@pytest.fixture
def many(look) -> Asked:
    """The answers of a container with one mount for each option."""
    return lambda: look(MANY, *QUESTIONS)


@pytest.mark.proves("mounts.destination:{target}")
@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup2"),
    ],
)
def test_default_filesystems(target: str, kind: str, look, controllers) -> None:
    """ "The following filesystems SHOULD be made available in each container's filesystem." """
    assert controllers
    mount = look(bundle.base(), actions.REPORT).report.mount(target)
    assert mount.type == kind


@pytest.mark.parametrize(
    ("name", "kind", "numbers"),
    [
        ("null", "c", (1, 3)),
        ("zero", "c", (1, 5)),
        ("full", "c", (1, 7)),
        ("random", "c", (1, 8)),
        ("urandom", "c", (1, 9)),
        ("tty", "c", (5, 0)),
    ],
)
def test_default_devices(name: str, kind: str, numbers: tuple[int, int], look) -> None:
    """config-linux.md, "Default Devices": supplied whatever the configuration lists."""
    device = look(bundle.base(), actions.REPORT).report.device(f"/dev/{name}")
    assert (device.type, (device.major, device.minor)) == (kind, numbers)
    assert device.mode == 0o666


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ],
)
def test_dev_links(name: str, target: str, look) -> None:
    """runtime-linux.md, "Dev symbolic links", and /dev/ptmx of "Default Devices"."""
    device = look(bundle.base(), actions.REPORT).report.device(f"/dev/{name}")
    assert device.type == "l"
    assert device.target.removeprefix("/dev/") == target


def test_rw_mount_can_be_written(many: Asked) -> None:
    """The control of the tests below: without options, all of that works."""
    assert many().deed(actions.write("/mnt/plain/file", "x", create=True)).error == ""
    _copy, execute = program("plain", 0o4755)
    assert many().deed(execute).error == ""


@pytest.mark.proves("mounts.options:ro")
def test_ro(many: Asked) -> None:
    """Mount options, "ro": MS_RDONLY of mount(2)."""
    assert many().deed(actions.write("/mnt/ro/file", "x", create=True)).error == "EROFS"


@pytest.mark.privileged("mknod(2) of a device is for the first user namespace")
@pytest.mark.proves("mounts.options:nodev")
def test_nodev(many: Asked) -> None:
    """Mount options, "nodev": the device can be made, not opened; without it, opened as well."""
    assert many().deed(node("plain")).error == ""
    assert many().deed(actions.opened("/mnt/plain/null", "w")).error == ""
    assert many().deed(node("nodev")).error == ""
    assert many().deed(actions.opened("/mnt/nodev/null", "w")).error == "EACCES"


@pytest.mark.proves("mounts.options:noexec")
def test_noexec(many: Asked) -> None:
    """Mount options, "noexec"."""
    _copy, execute = program("noexec")
    assert many().deed(execute).error == "EACCES"


@pytest.mark.proves("mounts.options:nosuid")
def test_nosuid(many: Asked) -> None:
    """Mount options, "nosuid": the set-uid bit has no effect; without the option it has."""
    users = [deed.value for deed in many().deeds if deed.action == "identity"]
    assert users == [0, 1000]


@pytest.mark.proves("mounts.options:noatime")
def test_noatime(many: Asked) -> None:
    """Mount options, "noatime"."""
    assert "noatime" in many().report.mount("/mnt/noatime").flags


@pytest.mark.proves("mounts.options:size=64k", "mounts.options:mode=0710")
def test_data_reaches_the_filesystem(many: Asked) -> None:
    """ "options ... filesystem-specific": size and mode of a tmpfs, the size enforced."""
    filled = many().deed(actions.fill("/mnt/sized/file", 1 << 20))
    assert (filled.error, filled.value) == ("ENOSPC", 64 << 10)
    assert many().deed(actions.stat("/mnt/sized")).data.split()[0] == "40710"


@pytest.mark.proves("mounts.destination:/mnt/twice")
def test_listed_order(many: Asked) -> None:
    """ "The runtime MUST mount entries in the listed order": the later one is on top."""
    assert many().deed(actions.fill("/mnt/twice/file", 1 << 20)).value == 128 << 10
    targets = [mount.target for mount in many().report.mounts if mount.target.startswith("/mnt/")]
    assert targets == [mount.destination for mount in MANY.mounts[len(bundle.MOUNTS) :]]


READONLY = replace(bundle.base(), root=replace(bundle.base().root, readonly=True))


@pytest.mark.proves("root.readonly")
def test_readonly_root(look) -> None:
    """Root, "readonly": nothing of the root can be written, the mounts in it still can."""
    answers = look(
        READONLY,
        actions.REPORT,
        actions.write("/file", "x", create=True),
        actions.write("/dev/shm/file", "x", create=True),
    )
    assert answers.deed(actions.write("/file", "x", create=True)).error == "EROFS"
    assert answers.deed(actions.write("/dev/shm/file", "x", create=True)).error == ""
    assert "ro" in answers.report.mount("/").flags


def test_root_is_all_there_is(look) -> None:
    """Root, "path": the container sees its own root and nothing of the guest's."""
    answers = look(bundle.base("root"), actions.listed("/"), actions.opened("/runtimes"))
    names = set(answers.deed(actions.listed("/")).data.split("/"))
    assert "probe" in names
    assert not names & {"runtimes", "scratch", "work", "hostabi"}
    assert answers.deed(actions.opened("/runtimes")).error == "ENOENT"


@pytest.mark.proves("mounts.options:ro", "mounts.destination:/mnt/write")
def test_bind_mounts(runtime: Runtime) -> None:
    """Mount options, "bind" and "rbind": the same file, and read-only where so asked."""
    runtime.agent.write("/tmp/hostabi-bound", b"from outside", mode=0o666)
    reading = actions.read("/mnt/read")
    changing = actions.write("/mnt/write", "FROM")
    refused = actions.write("/mnt/read", "FROM")
    config = bundle.mounted(
        bundle.base(),
        Mount(destination="/mnt/read", source="/tmp/hostabi-bound", options=("bind", "ro")),
        Mount(destination="/mnt/write", source="/tmp/hostabi-bound", options=("rbind", "rw")),
    )
    answers = runtime.run(config, reading, refused, changing).answers
    assert answers.deed(reading).data == "from outside"
    assert answers.deed(refused).error == "EROFS"
    assert answers.deed(changing).error == ""
    assert runtime.agent.read("/tmp/hostabi-bound") == b"FROM outside"


@pytest.mark.parametrize("option", ["private", "shared", "unbindable"])
def test_propagation(option: str, look) -> None:
    """Mount options "private", "shared" and "unbindable": mount_namespaces(7)."""
    mounts = (
        Mount(destination=f"/mnt/{each}", source="/tmp", options=("bind", each))
        for each in ("private", "shared", "unbindable")
    )
    report = look(bundle.mounted(bundle.base(), *mounts), actions.REPORT).report
    seen = [tag.partition(":")[0] for tag in report.mount(f"/mnt/{option}").propagation]
    assert seen == ([] if option == "private" else [option])
