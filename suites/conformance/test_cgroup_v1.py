"""config-linux.md, "Control groups", on a host whose hierarchies are all of cgroup v1.

These hosts mount each controller for itself (cgroups(7), "Cgroups version 1"), so a container is
in a group of each, and each is a mount of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from hostabi.errors import CallError
from hostabi.model import Cgroup
from hostabi.oci import actions, bundle
from hostabi.oci.driver import Container, Runtime
from hostabi.oci.records import (
    Cpu,
    DeviceRule,
    HugepageLimit,
    Mount,
    Network,
    NetworkPriority,
    Pids,
    Resources,
)
from hostabi.oci.seen import Answers, Deed, Report
from hostabi.pytest_plugin import unsupported

pytestmark = pytest.mark.variant(cgroup=Cgroup.V1)

TOP = "/sys/fs/cgroup"
TASKS = 16
SPIN = actions.spin(600_000)
# Longer than a tick of the clock by which an emulated guest counts.
WAIT_MS = "200"


def file(controller: str, name: str) -> actions.Action:
    """Read a file of the container's group of that controller."""
    return actions.read(f"{TOP}/{controller}/{name}")


def groups(text: str) -> dict[str, str]:
    """The group of each controller, from /proc/PID/cgroup: "number:controllers:path"."""
    found = {}
    for line in text.splitlines():
        _number, controllers, group = line.split(":", 2)
        found.update(dict.fromkeys(filter(None, controllers.split(",")), group))
    return found


@pytest.fixture
def mounted(runtime: Runtime) -> dict[str, str]:
    """The type of each mount below /sys/fs/cgroup of the guest, by its folder."""
    lines = runtime.agent.read("/proc/mounts").decode().splitlines()
    words = [line.split() for line in lines]
    return {target.removeprefix(TOP): kind for _source, target, kind, *_ in words if TOP in target}


LISTED = actions.listed(TOP)
BELOW = actions.attempt("mkdir", f"{TOP}/pids/below", 0o755)
LIMITS = actions.write(f"{TOP}/pids/pids.max", "max")
VIEW = (actions.REPORT, LISTED, BELOW, LIMITS)


@pytest.mark.proves("mounts.destination:/sys/fs/cgroup")
def test_every_hierarchy_is_mounted(look, mounted: dict[str, str]) -> None:
    """ "Mounts", type cgroup: a file system of each hierarchy that the host has, by the same name,
    and the names of controllers that share one lead there."""
    answers = look(bundle.base(), *VIEW)
    wanted = {folder for folder, kind in mounted.items() if kind == "cgroup"}
    seen = {
        mount.target.removeprefix(TOP): mount.type
        for mount in answers.report.mounts
        if mount.target.startswith(f"{TOP}/")
    }
    assert len(wanted) > 4
    assert set(seen) >= wanted
    assert set(seen.values()) == {"cgroup"}
    names = set(answers.deed(LISTED).data.split("/"))
    assert {part for folder in wanted for part in folder[1:].split(",")} <= names


@pytest.mark.proves("mounts.options:ro")
def test_read_only(look, hierarchy: Callable[[str], str]) -> None:
    """The option "ro" reaches each of these mounts, so that no limit can be lifted from inside."""
    hierarchy("pids")
    answers = look(bundle.base(), *VIEW)
    assert answers.deed(BELOW).error == "EROFS"
    assert answers.deed(LIMITS).error == "EROFS"


@pytest.mark.proves("linux.namespaces.type:cgroup")
def test_namespace_hides_where_it_is(look) -> None:
    """ "cgroup: the container will have an isolated view of the cgroup hierarchy": each group of
    its own is the root, of /proc/self/cgroup and of the mounts (cgroup_namespaces(7))."""
    report = look(bundle.base(), *VIEW).report
    assert set(groups(report.cgroup).values()) == {"/"}
    roots = {mount.root for mount in report.mounts if mount.type == "cgroup"}
    assert roots == {"/"}


def test_without_namespace(look) -> None:
    """Without one its groups have their names of the host, and the mounts show them alone."""
    report = look(bundle.without_namespace(bundle.base(), "cgroup"), *VIEW).report
    assert "/" not in {groups(report.cgroup)[name] for name in ("cpu", "devices", "freezer")}
    own = groups(report.cgroup)["cpu"]
    roots = {mount.root for mount in report.mounts if mount.target.endswith("/cpu,cpuacct")}
    assert roots == {own}


@pytest.mark.proves("linux.cgroupsPath")
def test_path(runtime: Runtime, outside: Report) -> None:
    """ "cgroupsPath ... absolute: relative to the cgroups mount point", in every hierarchy: there
    while the container is, and gone after delete."""
    path = "/hostabi/of-version-1"
    config = bundle.linux(bundle.base(), cgroups_path=path)
    with runtime.container(config, actions.REPORT, actions.signal()) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        found = groups(runtime.agent.read(f"/proc/{pid}/cgroup").decode())
        # What runtimes know of; a later controller may be left alone.
        for name in ("cpu", "cpuacct", "devices", "freezer", "net_cls", "pids"):
            assert found[name] == path, name
        assert str(pid) in runtime.agent.read(f"{TOP}/freezer{path}/tasks").decode().split()
        made.kill("KILL")
        made.wait(pid)
        made.delete()
    for name in found:
        assert absent(runtime, f"{TOP}/{name.removeprefix('name=')}{path}"), name
    assert outside.cgroup


def absent(runtime: Runtime, folder: str) -> bool:
    """Whether the guest has no such folder."""
    return runtime.agent.command(["/bin/busybox", "test", "-d", folder]).status == 1


@pytest.mark.proves("linux.cgroupsPath")
def test_relative_path(runtime: Runtime) -> None:
    """ "relative: the runtime MAY interpret the path relative to a runtime-determined location",
    the same for the same value, with the limits there."""
    config = bundle.resources(
        bundle.linux(bundle.base(), cgroups_path="hostabi-relative/v1"),
        pids=Pids(limit=TASKS),
        network=Network(class_id=0x10001),
        cpu=Cpu(shares=512),
    )
    found = []
    for _ in range(2):
        with runtime.container(config, actions.signal()) as made:
            made.start()
            made.ready()
            text = runtime.agent.read(f"/proc/{made.state().pid}/cgroup").decode()
            found.append(groups(text))
            for controller, name, value in (
                ("pids", "pids.max", str(TASKS)),
                ("net_cls", "net_cls.classid", str(0x10001)),
                ("cpu", "cpu.shares", "512"),
            ):
                group = found[-1][controller]
                assert group.endswith("hostabi-relative/v1")
                seen = runtime.agent.read(f"{TOP}/{controller}{group}/{name}").decode()
                assert seen.strip() == value, name
    assert found[0] == found[1]


FEW = bundle.pids(bundle.base(), TASKS)
FORKS = (
    actions.fork(4),
    actions.fork(32),
    file("pids", "pids.max"),
    file("pids", "pids.events"),
)


@pytest.mark.proves("linux.resources.pids.limit")
def test_pids(look, hierarchy: Callable[[str], str]) -> None:
    """ "limit: specifies the maximum number of tasks in the cgroup": EAGAIN beyond it."""
    hierarchy("pids")
    answers = look(FEW, *FORKS)
    assert answers.deed(file("pids", "pids.max")).data.strip() == str(TASKS)
    assert answers.deed(actions.fork(4)).error == ""
    beyond = answers.deed(actions.fork(32))
    # The probe and the child that forks are tasks as well.
    assert (beyond.error, beyond.value) == ("EAGAIN", TASKS - 2)
    assert answers.deed(file("pids", "pids.events")).data.split() != ["max", "0"]


NODES = "/tmp/hostabi-v1-nodes"
MAJOR = 239
"""Of the range that is for local use, and of no driver: an open that is allowed is ENXIO."""


def rule(minor: int, access: str, *, allow: bool = True) -> DeviceRule:
    """A rule for one character device."""
    return DeviceRule(allow=allow, type="c", major=MAJOR, minor=minor, access=access)


RULES = (
    DeviceRule(allow=False, access="rwm"),
    rule(1, "r"),
    rule(2, "w"),
    rule(3, "m"),
    rule(4, "rwm"),
    rule(4, "w", allow=False),
)
OPENED = {
    "r-as-listed": (1, "r", "ENXIO"),
    "r-not-w": (1, "w", "EPERM"),
    "w-as-listed": (2, "w", "ENXIO"),
    "m-not-r": (3, "r", "EPERM"),
    "denied-later": (4, "w", "EPERM"),
    "denied-later-in-part": (4, "r", "ENXIO"),
    "unlisted": (5, "r", "EPERM"),
}


def opened(minor: int, mode: str) -> actions.Action:
    """Open the node of that number."""
    return actions.opened(f"/mnt/nodes/{minor}", mode)


def node(minor: int) -> actions.Action:
    """Make such a node."""
    return actions.attempt("mknod", f"/tmp/made-{minor}", 0o020600, MAJOR << 8 | minor)


ACCESS = (
    *(opened(minor, mode) for minor, mode, _end in OPENED.values()),
    *(node(3), node(5), actions.opened("/dev/null", "+"), file("devices", "devices.list")),
)


@pytest.fixture
def ruled(runtime: Runtime, look, hierarchy: Callable[[str], str]) -> Callable[[], Answers]:
    """The answers of a container under these rules."""
    hierarchy("devices")
    script = "".join(
        f"[ -e {NODES}/{minor} ] || mknod {NODES}/{minor} c {MAJOR} {minor};"
        for minor, _mode, _end in OPENED.values()
    )
    runtime.agent.command(["/bin/busybox", "sh", "-c", f"mkdir -p {NODES};{script}"])
    nodes = Mount(destination="/mnt/nodes", source=NODES, options=("bind",))
    config = bundle.resources(bundle.mounted(bundle.base(), nodes), devices=RULES)
    return lambda: look(config, *ACCESS)


@pytest.mark.parametrize("name", OPENED)
def test_device_access(name: str, ruled: Callable[[], Answers]) -> None:
    """ "Allowed Device list", by the controller of v1 and not by a program of BPF."""
    minor, mode, end = OPENED[name]
    assert ruled().deed(opened(minor, mode)).error == end


@pytest.mark.proves("linux.resources.devices")
def test_devices_denied(ruled: Callable[[], Answers]) -> None:
    """All that no entry allows or a later one denies, at once; and devices.list, which tells the
    rules, is not "all"."""
    answers = ruled()
    for minor, mode, end in OPENED.values():
        assert end == "ENXIO" or answers.deed(opened(minor, mode)).error == end
    listed = answers.deed(file("devices", "devices.list")).data.splitlines()
    assert f"c {MAJOR}:1 r" in listed
    assert "a *:* rwm" not in listed


def test_mknod_as_listed(ruled: Callable[[], Answers]) -> None:
    """ "access: m (mknod)"."""
    assert ruled().deed(node(3)).error == ""


def test_mknod_unlisted(ruled: Callable[[], Answers]) -> None:
    """What no entry allows cannot be made."""
    assert ruled().deed(node(5)).error == "EPERM"


def test_default_devices_stay(ruled: Callable[[], Answers]) -> None:
    """ "Default Devices" can be used whatever the list denies."""
    assert ruled().deed(actions.opened("/dev/null", "+")).error == ""


PRIORITY = Network(class_id=0x100001, priorities=(NetworkPriority(name="lo", priority=7),))
NETWORK = (file("net_cls", "net_cls.classid"), file("net_prio", "net_prio.ifpriomap"))


@pytest.mark.proves("linux.resources.network.classID")
def test_network_class(look, hierarchy: Callable[[str], str]) -> None:
    """ "classID: the network class identifier the cgroup's network packets will be tagged with"."""
    hierarchy("net_cls")
    answers = look(bundle.resources(bundle.base(), network=PRIORITY), *NETWORK)
    assert answers.deed(NETWORK[0]).data.strip() == str(0x100001)
    assert look(bundle.base(), *NETWORK).deed(NETWORK[0]).data.strip() == "0"


@pytest.mark.proves("linux.resources.network.priorities")
def test_network_priorities(look, hierarchy: Callable[[str], str]) -> None:
    """ "priorities: the priority of ... traffic ... on the interface": net_prio.ifpriomap."""
    hierarchy("net_prio")
    answers = look(bundle.resources(bundle.base(), network=PRIORITY), *NETWORK)
    assert "lo 7" in answers.deed(NETWORK[1]).data.splitlines()
    assert "lo 0" in look(bundle.base(), *NETWORK).deed(NETWORK[1]).data.splitlines()


MIB = 1 << 20
PAGES = "/proc/sys/vm/nr_hugepages"


@pytest.fixture
def huge_pages(runtime: Runtime, hierarchy: Callable[[str], str]) -> Iterator[None]:
    """Some huge pages of 2 MiB in the guest."""
    hierarchy("hugetlb")
    try:
        runtime.agent.write(PAGES, b"4", create=False)
        got = int(runtime.agent.read(PAGES))
    except CallError as error:
        unsupported(f"this kernel has no huge pages: {error}")
    if got < 4:
        unsupported("this machine's memory has no room for huge pages")
    yield
    runtime.agent.write(PAGES, b"0", create=False)


@pytest.mark.proves("linux.resources.hugepageLimits")
def test_hugepage_limit(huge_pages: None, runtime: Runtime) -> None:
    """ "limit in bytes of hugepagesize": the second page is refused, and counted."""
    del huge_pages
    limit = HugepageLimit(page_size="2MB", limit=2 * MIB)
    one, two = actions.huge(1), actions.huge(2)
    value = file("hugetlb", "hugetlb.2MB.limit_in_bytes")
    failed = file("hugetlb", "hugetlb.2MB.failcnt")
    config = bundle.resources(bundle.base(), hugepage_limits=(limit,))
    answers = runtime.run(config, one, two, value, failed).answers
    assert answers.deed(value).data.strip() == str(2 * MIB)
    assert (answers.deed(one).value, answers.deed(one).signal) == (1, 0)
    beyond: Deed = answers.deed(two)
    assert beyond.value == 1
    assert beyond.signal == signal.SIGBUS or beyond.error == "ENOMEM"
    free = runtime.run(bundle.base(), two).answers.deed(two)
    assert (free.value, free.signal) == (2, 0)


def used(made: Container) -> int:
    """Processor time of the container in nanoseconds: cpuacct.usage."""
    return int(made.runtime.agent.read(f"{TOP}/cpuacct{made.cgroup}/cpuacct.usage"))


def pass_time(made: Container) -> None:
    """Let others have the processor for a while."""
    assert made.runtime.probe("spin", WAIT_MS).ok


def test_freezer(runtime: Runtime, hierarchy: Callable[[str], str]) -> None:
    """pause and resume, which engines build on: freezer.state, and no processor time is used."""
    for needed in ("freezer", "cpuacct"):
        hierarchy(needed)
    with runtime.container(bundle.base(), SPIN) as made:
        made.start()
        state = f"{TOP}/freezer{made.cgroup}/freezer.state"
        pass_time(made)
        made.verb("pause", made.id)
        assert made.state().status == "paused"
        assert runtime.agent.read(state).decode().strip() == "FROZEN"
        before = used(made)
        pass_time(made)
        assert used(made) == before
        made.verb("resume", made.id)
        assert made.state().status == "running"
        assert runtime.agent.read(state).decode().strip() == "THAWED"
        pass_time(made)
        pass_time(made)
        assert used(made) > before
        made.kill("KILL")


def test_update(runtime: Runtime, hierarchy: Callable[[str], str]) -> None:
    """update of a running container: new values are in place, and hold."""
    for needed in ("pids", "cpu"):
        hierarchy(needed)
    with runtime.container(FEW, actions.signal(), actions.fork(12)) as made:
        made.start()
        pid = made.state().pid
        made.ready()
        path = f"{made.folder}/resources.json"
        resources = Resources(pids=Pids(limit=8), cpu=Cpu(shares=2048))
        runtime.agent.write(path, resources.encode())
        made.verb("update", "--resources", path, made.id)
        assert value(made, "pids", "pids.max") == "8"
        assert value(made, "cpu", "cpu.shares") == "2048"
        made.kill("TERM")
        made.wait(pid)
        beyond = made.answers().deed(actions.fork(12))
    assert (beyond.error, beyond.value) == ("EAGAIN", 6)


def value(made: Container, controller: str, name: str) -> str:
    """A file of the container's group, from outside."""
    return made.runtime.agent.read(f"{TOP}/{controller}{made.cgroup}/{name}").decode().strip()


def test_features(runtime: Runtime) -> None:
    """features-linux.md, "cgroup": "v1" is what these tests ran on."""
    linux = runtime.features().get("linux")
    if not isinstance(linux, dict) or "cgroup" not in linux:
        unsupported(f"{runtime.name} does not tell which control groups it knows")
    assert linux["cgroup"].get("v1") is True
