"""config-linux.md, "Network Devices": moved into the container, with all that they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, NetDevice
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls.table import C

pytestmark = pytest.mark.privileged("an interface of the host is not the user's to move")

NAME, INSIDE = "hostabi0", "inside0"
MTU, ADDRESS, HARDWARE = "1234", "10.99.0.1", "02:00:00:00:00:07"
DEVICES = actions.listed("/sys/class/net")


def attribute(interface: str, name: str) -> actions.Action:
    """A file of the interface (sysfs-class-net)."""
    return actions.read(f"/sys/class/net/{interface}/{name}")


def asked(interface: str) -> tuple[actions.Action, ...]:
    """What an interface is, and the addresses of its namespace."""
    files = (attribute(interface, name) for name in ("mtu", "address", "flags"))
    return (DEVICES, *files, actions.read("/proc/net/fib_trie", 65_536))


def moving(**devices: str) -> Config:
    """A container that gets these devices, each under that name."""
    moved = {name: NetDevice(name=inside) for name, inside in devices.items()}
    return bundle.linux(bundle.base(), net_devices=moved)


@pytest.fixture
def device(runtime: Runtime) -> Iterator[str]:
    """A dummy interface of the guest with an address of its own."""
    linux = runtime.features().get("linux")
    if not isinstance(linux, dict) or "netDevices" not in linux:
        unsupported(f"{runtime.name} does not claim network devices")
    script = (
        f"ip link add name {NAME} type dummy && ip link set {NAME} address {HARDWARE}"
        f" && ip link set {NAME} mtu {MTU} && ip addr add {ADDRESS}/24 dev {NAME}"
    )
    made = _shell(runtime, script)
    if made and not outside(runtime):
        unsupported("this kernel has no dummy interfaces")
    assert not made
    yield NAME
    _shell(runtime, f"ip link del {NAME}")


def _shell(runtime: Runtime, script: str) -> int:
    return runtime.agent.command(["/bin/busybox", "sh", "-c", script]).status


def outside(runtime: Runtime) -> bool:
    """Whether the guest itself has the interface."""
    return NAME in runtime.probe(*DEVICES.words).answers.deeds[0].data.split("/")


@pytest.mark.parametrize("inside", ["", INSIDE])
@pytest.mark.proves("linux.netDevices")
def test_moved(inside: str, device: str, runtime: Runtime) -> None:
    """ "name": the name inside, or the same; and the runtime "MUST preserve existing network
    interface attributes, like MTU, MAC and IP addresses", and set it up."""
    name = inside or device
    with runtime.container(moving(**{device: inside}), *asked(name), actions.signal()) as made:
        made.start()
        made.ready()
        answers = made.answers()
        assert name in answers.deed(DEVICES).data.split("/")
        assert not outside(runtime)
    assert answers.deed(attribute(name, "mtu")).data.strip() == MTU
    assert answers.deed(attribute(name, "address")).data.strip() == HARDWARE
    assert int(answers.deed(attribute(name, "flags")).data, 16) & C.IFF_UP
    assert ADDRESS in answers.deed(actions.read("/proc/net/fib_trie", 65_536)).data


def test_gone_with_its_namespace(device: str, runtime: Runtime) -> None:
    """ "Namespace Lifecycle and Container Termination": the runtime does not bring it back, and a
    virtual device is destroyed with the namespace."""
    with runtime.container(moving(**{device: ""}), DEVICES) as made:
        pid = made.state().pid
        made.start()
        made.wait(pid)
        made.delete()
    assert not outside(runtime)


@pytest.mark.proves("linux.netDevices")
def test_absent(device: str, refused) -> None:
    """A device that the runtime's namespace does not have is an error."""
    refused(moving(**{f"{device}-absent": ""}), DEVICES)


TAKEN = "lo"


@pytest.mark.proves("linux.netDevices")
def test_name_that_is_taken(device: str, refused) -> None:
    """A name that the container's namespace has already is an error."""
    refused(moving(**{device: TAKEN}), DEVICES)


def test_error_keeps_the_device(device: str, refused, runtime: Runtime) -> None:
    """runtime.md, "Errors": "MUST leave the state of the environment as if the operation were
    never attempted", so the guest has its device still."""
    refused(moving(**{device: TAKEN}), DEVICES, actions.REPORT)
    assert outside(runtime)
