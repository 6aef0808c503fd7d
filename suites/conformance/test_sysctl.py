"""config-linux.md, "Sysctl": set in the container's namespaces, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config
from hostabi.pytest_plugin import unsupported

# By namespace: ipc, network and uts. Each differs from the kernel's default.
VALUES = {
    "kernel.msgmax": "12345",
    "kernel.sem": "250\t32000\t100\t321",
    "fs.mqueue.queues_max": "77",
    "net.ipv4.ip_forward": "1",
    "net.core.somaxconn": "321",
    "net.ipv4.ping_group_range": "0\t99",
    "kernel.domainname": "sysctl.test",
}


def path(name: str) -> str:
    """Its file, proc_sys(5)."""
    return f"/proc/sys/{name.replace('.', '/')}"


QUESTIONS = tuple(actions.read(path(name)) for name in VALUES)


@pytest.fixture
def settable(runtime: Runtime, look) -> Callable[[str], Config]:
    """A container with all values that the runtime's caller may set, if this is one of them.

    To root of a user namespace only some are open, more with each kernel; so that is tried.
    """

    def config(name: str) -> Config:
        values = VALUES
        if runtime.user:
            held = bundle.capabilities((*bundle.CAPABILITIES, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"))
            bare = bundle.linux(bundle.process(bundle.base(), capabilities=held), readonly_paths=())
            tries = {name: actions.write(path(name), value) for name, value in VALUES.items()}
            answers = look(bare, *tries.values())
            values = {
                name: value for name, value in VALUES.items() if not answers.deed(tries[name]).error
            }
        if name not in values:
            unsupported(f"rootless: this kernel lets no user namespace set {name}")
        return bundle.linux(bundle.base(), sysctl=values)

    return config


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.proves("linux.sysctl")
def test_inside(name: str, look, settable) -> None:
    """ "sysctl ... allows kernel parameters to be modified at runtime for the container"."""
    answers = look(settable(name), *QUESTIONS)
    assert answers.deed(actions.read(path(name))).data.strip() == VALUES[name]


@pytest.mark.parametrize("name", VALUES)
def test_not_outside(name: str, look, settable, runtime: Runtime) -> None:
    """The namespaces are the container's, so the guest's value is another one."""
    answers = look(settable(name), *QUESTIONS)
    assert answers.deed(actions.read(path(name))).data.strip() == VALUES[name]
    assert runtime.agent.read(path(name), 256).decode().strip() != VALUES[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("kernel.panic", "17", id="whole-kernel"),
        pytest.param("vm.swappiness", "17", id="memory"),
        pytest.param("kernel.hostabi_absent", "1", id="unknown"),
    ],
)
@pytest.mark.proves("linux.sysctl")
def test_of_no_namespace(name: str, value: str, refused, runtime: Runtime) -> None:
    """What belongs to no namespace would change the host: an error, and nothing is changed."""
    refused(bundle.linux(bundle.base(), sysctl={name: value}), actions.REPORT)
    if "absent" not in name:
        assert runtime.agent.read(path(name), 256).decode().strip() != value


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [("ipc", "kernel.msgmax", "12345"), ("network", "net.core.somaxconn", "321")],
)
@pytest.mark.proves("linux.sysctl")
def test_of_a_shared_namespace(kind: str, name: str, value: str, refused, runtime: Runtime) -> None:
    """A container that inherits the namespace would change its creator's."""
    shared = bundle.without_namespace(bundle.base(), kind)
    refused(bundle.linux(shared, sysctl={name: value}), actions.REPORT)
    assert runtime.agent.read(path(name), 256).decode().strip() != value


@pytest.mark.proves("linux.sysctl")
def test_value_that_the_kernel_refuses(refused) -> None:
    """EINVAL of the file is an error of the bundle."""
    refused(bundle.linux(bundle.base(), sysctl={"net.core.somaxconn": "many"}), actions.REPORT)
