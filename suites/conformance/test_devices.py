"""config-linux.md, "Devices" and "Default Devices": made as asked, and usable."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.records import Device, DeviceRule

MADE = {
    "null": Device(
        type="c", path="/dev/hostabi-null", major=1, minor=3, file_mode=0o640, uid=12, gid=34
    ),
    "unbuffered": Device(
        type="u", path="/dev/below/zero", major=1, minor=5, file_mode=0o604, uid=0, gid=0
    ),
    "block": Device(
        type="b", path="/dev/hostabi-loop", major=7, minor=0, file_mode=0o660, uid=0, gid=6
    ),
    "fifo": Device(type="p", path="/dev/hostabi-fifo", file_mode=0o622, uid=7, gid=0),
    "outside-dev": Device(type="c", path="/opt/full", major=1, minor=7, file_mode=0o642),
}
NODES = pytest.mark.privileged("mknod(2) of a device is for the first user namespace")
KINDS = {"c": "020", "u": "020", "b": "060", "p": "010"}
CONFIG = bundle.linux(bundle.base(), devices=tuple(MADE.values()))

ZERO, FULL = actions.read("/dev/zero", 16), actions.write("/dev/full", "x")
RANDOM = actions.read("/dev/urandom", 16)
MASTER = actions.opened("/dev/ptmx", "+")
DEFAULTS = (actions.REPORT, ZERO, FULL, RANDOM, MASTER)
WRITTEN, WRITTEN_FULL = (
    actions.write("/dev/hostabi-null", "x"),
    actions.write("/opt/full", "x"),
)
QUESTIONS = (
    actions.REPORT,
    *(actions.stat(device.path) for device in MADE.values()),
    *(WRITTEN, WRITTEN_FULL),
)


@NODES
@pytest.mark.parametrize("name", MADE)
@pytest.mark.proves("linux.devices", "linux.devices.fileMode")
def test_made(name: str, look) -> None:
    """ "devices": type, numbers, mode and owner of each node, wherever its path lies."""
    device = MADE[name]
    said = look(CONFIG, *QUESTIONS).deed(actions.stat(device.path))
    assert said.error == ""
    mode, uid, gid, major, minor, _size = said.data.split()
    assert int(mode, 8) == int(KINDS[device.type], 8) << 9 | (device.file_mode or 0)
    assert (int(uid), int(gid)) == (device.uid or 0, device.gid or 0)
    if device.type != "p":
        assert (int(major), int(minor)) == (device.major, device.minor)


@NODES
@pytest.mark.proves("linux.devices")
def test_made_can_be_used(look) -> None:
    """A node is its device, also outside of /dev: what null takes, full refuses."""
    answers = look(CONFIG, *QUESTIONS)
    assert answers.deed(WRITTEN).error == ""
    assert answers.deed(WRITTEN_FULL).error == "ENOSPC"


def test_default_can_be_used(look) -> None:
    """Zeroes, no space, random bytes, and a terminal's master."""
    answers = look(bundle.base(), *DEFAULTS)
    assert answers.deed(ZERO).data == "\0" * 16
    assert answers.deed(FULL).error == "ENOSPC"
    assert answers.deed(RANDOM).value == 16
    assert answers.deed(MASTER).error == ""


def test_no_console_without_terminal(look) -> None:
    """ "/dev/console is set up if terminal is enabled in the config"."""
    paths = {device.path for device in look(bundle.base(), *DEFAULTS).report.devices}
    assert "/dev/console" not in paths


@NODES
@pytest.mark.proves("linux.resources.devices")
def test_node_does_not_open_what_the_list_denies(look, controllers) -> None:
    """A node is no right to use it: "Allowed Device list" decides, with EPERM."""
    assert controllers
    denied = bundle.resources(
        CONFIG,
        devices=(
            DeviceRule(allow=False, access="rwm"),
            DeviceRule(allow=True, type="c", major=1, minor=3, access="rw"),
        ),
    )
    loop = actions.opened("/dev/hostabi-loop", "r")
    answers = look(denied, loop, WRITTEN)
    assert answers.deed(loop).error == "EPERM"
    assert answers.deed(WRITTEN).error == ""


@pytest.mark.proves("linux.devices")
def test_unknown_type(refused) -> None:
    """config.md, "Valid values": no such type of device."""
    odd = Device(type="x", path="/dev/odd", major=1, minor=3)
    refused(bundle.linux(bundle.base(), devices=(odd,)), actions.REPORT)
