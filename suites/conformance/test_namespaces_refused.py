"""config-linux.md, "Namespaces": lists and paths that must be an error, and joining by path."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Namespace

# The first process of the guest has a namespace of every type.
OWN = "/proc/1/ns/"


@pytest.mark.parametrize("kind", ["network", "pid", "ipc", "uts", "mount"])
def test_twice(kind: str, refused) -> None:
    """ "If a namespaces field contains duplicated namespaces with same type, the runtime MUST
    generate an error." """
    config = bundle.base()
    doubled = (*config.linux.namespaces, Namespace(type=kind))
    refused(bundle.linux(config, namespaces=doubled), actions.REPORT)


@pytest.mark.parametrize(
    ("kind", "link"), [("network", "ipc"), ("ipc", "uts"), ("uts", "net"), ("pid", "net")]
)
@pytest.mark.proves("linux.namespaces.path")
def test_path_of_another_type(kind: str, link: str, refused) -> None:
    """ "The runtime MUST generate an error if path is not associated with a namespace of type." """
    config = bundle.namespace(replace(bundle.base(), hostname=""), kind, OWN + link)
    refused(config, actions.REPORT)


@pytest.mark.parametrize("path", ["/proc/1/ns/absent", "/etc/passwd", "proc/1/ns/net"])
@pytest.mark.proves("linux.namespaces.path")
def test_path_of_no_namespace(path: str, refused) -> None:
    """ "path ... MUST be an absolute path", and a namespace file."""
    refused(bundle.namespace(bundle.base(), "network", path), actions.REPORT)


def test_unknown_type(refused) -> None:
    """config.md, "Valid values": no such type of namespace."""
    refused(bundle.namespace(bundle.base(), "hostabi"), actions.REPORT)


def test_hostname_needs_a_namespace(visit, outside, runtime: Runtime) -> None:
    """config.md, "Hostname", in the runtime's own uts namespace: an error or that one's name, but
    here it must not become the guest's without being told."""
    config = bundle.without_namespace(bundle.base("intruder"), "uts")
    seen = visit(config, actions.REPORT)
    try:
        assert not seen.ok or seen.answers.report.hostname == "intruder"
    finally:
        runtime.agent.write("/proc/sys/kernel/hostname", outside.hostname.encode())


@pytest.mark.parametrize(("kind", "link"), [("pid", "pid"), ("cgroup", "cgroup")])
@pytest.mark.proves("linux.namespaces.path")
def test_joined(kind: str, link: str, runtime: Runtime) -> None:
    """ "path": the process is placed in the namespace of another container; in a pid namespace it
    sees that one's processes."""
    with runtime.container(bundle.base("first"), actions.REPORT, actions.signal()) as first:
        first.start()
        pid = first.state().pid
        first.ready()
        theirs = first.answers().report
        second = bundle.namespace(bundle.base("second"), kind, f"/proc/{pid}/ns/{link}")
        second = runtime.beside(second, pid)
        ours = runtime.run(second, actions.REPORT).answers.report
    assert ours.namespaces[link] == theirs.namespaces[link]
    assert ours.namespaces["mnt"] != theirs.namespaces["mnt"]
    if kind == "pid":
        assert ours.pid > 1
