"""config-linux.md, "Namespaces" and "User namespace mappings"."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime

# The specification's names, and the links of /proc/PID/ns (namespaces(7)).
LINKS = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
}

# A container without a mount namespace would mount over the guest's own tree.
INHERITED = ("network", "ipc", "uts", "cgroup", "pid")

QUESTIONS = (actions.REPORT, actions.listed("/proc"), actions.listed("/sys/class/net"))


# Without a mount namespace of its own a container would mount over the guest: some add it.
@pytest.mark.proves("linux.namespaces.type:{kind}", unless=("mount",))
@pytest.mark.parametrize("kind", LINKS)
def test_listed_is_new(kind: str, look, outside) -> None:
    """ "...without a path, a new namespace of the type MUST be created." """
    inside = look(bundle.base(), *QUESTIONS).report
    assert inside.namespaces[LINKS[kind]] != outside.namespaces[LINKS[kind]]


@pytest.mark.parametrize("kind", INHERITED)
def test_unlisted_is_inherited(kind: str, look, outside) -> None:
    """ "If a namespace type is not specified ... the container MUST inherit the runtime
    namespace of that type." """
    shared = replace(bundle.without_namespace(bundle.base(), *INHERITED), hostname="")
    inside = look(shared, actions.REPORT).report
    assert inside.namespaces[LINKS[kind]] == outside.namespaces[LINKS[kind]]


@pytest.mark.proves("linux.namespaces.type:pid")
def test_pid_hides_others(look) -> None:
    """ "pid: processes inside the container will only be able to see other processes inside
    the same container." """
    answers = look(bundle.base(), *QUESTIONS)
    assert answers.report.pid == 1
    assert answers.report.ppid == 0
    names = answers.deed(actions.listed("/proc")).data.split("/")
    assert [name for name in names if name.isdigit()] == ["1"]


def test_network_has_its_own_stack(look) -> None:
    """ "network: the container will have its own network stack": nothing but a loopback."""
    answers = look(bundle.base(), *QUESTIONS)
    names = answers.deed(actions.listed("/sys/class/net")).data.split("/")
    # Tunnel modules that are loaded add their fallback devices to each new namespace.
    assert "lo" in names
    assert not [name for name in names if name.startswith(("eth", "ens", "enp"))]


@pytest.mark.proves("linux.namespaces.type:cgroup")
def test_cgroup_view_starts_at_own_group(look) -> None:
    """ "cgroup: the container will have an isolated view of the cgroup hierarchy." """
    lines = look(bundle.base(), *QUESTIONS).report.cgroup.splitlines()
    assert lines
    assert {line.split(":", 2)[2] for line in lines} == {"/"}


@pytest.mark.proves("linux.namespaces.path")
def test_joined_by_path(runtime: Runtime) -> None:
    """ "path: namespace file ... the runtime MUST place the container process in the namespace
    associated with that path." """
    joined = ("network", "ipc", "uts")
    with runtime.container(bundle.base("first"), actions.REPORT, actions.signal()) as first:
        first.start()
        pid = first.state().pid
        first.ready()
        theirs = first.answers().report
        second = replace(bundle.base(), hostname="")
        for kind in joined:
            second = bundle.namespace(second, kind, f"/proc/{pid}/ns/{LINKS[kind]}")
        second = runtime.beside(second, pid)
        ours = runtime.run(second, actions.REPORT).answers.report
    for kind in joined:
        assert ours.namespaces[LINKS[kind]] == theirs.namespaces[LINKS[kind]], kind
    assert ours.namespaces["mnt"] != theirs.namespaces["mnt"]
    assert ours.hostname == "first"


USER = bundle.user_namespace(bundle.base(), host=100_000, size=65_536)
OWNER = (
    actions.REPORT,
    actions.stat("/probe"),
    actions.attempt("sethostname", "changed", 7),
    actions.attempt("setresuid", 65_535, 65_535, 65_535),
    actions.attempt("setresuid", 65_536, 65_536, 65_536),
)


@pytest.mark.proves("linux.uidMappings", "linux.namespaces.type:user")
def test_user_ids_are_mapped(look, outside) -> None:
    """ "uidMappings ... containerID, hostID, size": root inside, nobody special outside."""
    inside = look(USER, *OWNER).report
    assert inside.namespaces["user"] != outside.namespaces["user"]
    assert inside.uid_map.split() == ["0", "100000", "65536"]
    assert inside.gid_map.split() == ["0", "100000", "65536"]
    assert inside.uid == (0, 0, 0)


def test_user_ids_outside_the_mapping_do_not_exist(look) -> None:
    """user_namespaces(7): an id without a mapping shows as the overflow id and cannot be taken."""
    answers = look(USER, *OWNER)
    _mode, uid, gid, *_ = answers.deed(actions.stat("/probe")).data.split()
    assert (uid, gid) == ("65534", "65534")
    assert answers.deed(actions.attempt("setresuid", 65_535, 65_535, 65_535)).error == ""
    assert answers.deed(actions.attempt("setresuid", 65_536, 65_536, 65_536)).error == "EINVAL"


@pytest.mark.privileged("its containers are always in a user namespace")
def test_default_has_no_user_namespace(look, outside) -> None:
    """The base lists no user namespace, so the runtime's is inherited."""
    inside = look(bundle.base(), *QUESTIONS).report
    assert inside.namespaces["user"] == outside.namespaces["user"]
