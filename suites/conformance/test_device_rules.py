"""config-linux.md, "Allowed Device list": each rule as its order says, enforced by open and mknod.

No driver answers to the numbers that are used, so an open that is allowed ends with ENXIO, and
one that is not with EPERM.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.actions import Action
from hostabi.oci.driver import Runtime
from hostabi.oci.records import Config, DeviceRule, Mount
from hostabi.oci.seen import Answers

pytestmark = pytest.mark.privileged("rules about devices are a program that only root may attach")

FOLDER = "/tmp/hostabi-nodes"
CHARACTER = 0o020600
MAJOR, OTHER = 239, 238
"""Of the range that is for local use: Documentation/admin-guide/devices.txt."""
ALLOWED, DENIED = "ENXIO", "EPERM"


def rule(minor: int | None, access: str, *, major: int = MAJOR, allow: bool = True) -> DeviceRule:
    """A rule for character devices."""
    return DeviceRule(allow=allow, type="c", major=major, minor=minor, access=access)


RULES = (
    DeviceRule(allow=False, access="rwm"),
    rule(1, "r"),
    rule(2, "w"),
    rule(3, "m"),
    rule(4, "rwm"),
    rule(None, "rw", major=OTHER),
    rule(8, "rwm"),
    rule(8, "w", allow=False),
    rule(9, "rw", allow=False),
    rule(9, "rw"),
)
NODES = (("c", MAJOR, (1, 2, 3, 4, 5, 8, 9)), ("c", OTHER, (1, 200)), ("b", MAJOR, (4,)))


def node(kind: str, major: int, minor: int) -> str:
    """Where that node is in the container."""
    return f"/mnt/nodes/{kind}-{major}-{minor}"


def opened(minor: int, mode: str, *, kind: str = "c", major: int = MAJOR) -> Action:
    """Open it for reading (r), writing (w) or both (+)."""
    return actions.opened(node(kind, major, minor), mode)


def made(minor: int) -> Action:
    """Make such a node."""
    return actions.attempt("mknod", f"/tmp/made-{minor}", CHARACTER, MAJOR << 8 | minor)


OPENED = {
    "r-as-listed": (opened(1, "r"), ALLOWED),
    "r-not-w": (opened(1, "w"), DENIED),
    "r-not-rw": (opened(1, "+"), DENIED),
    "w-as-listed": (opened(2, "w"), ALLOWED),
    "w-not-r": (opened(2, "r"), DENIED),
    "m-not-r": (opened(3, "r"), DENIED),
    "rwm-as-listed": (opened(4, "+"), ALLOWED),
    "unlisted": (opened(5, "r"), DENIED),
    "every-minor": (opened(200, "+", major=OTHER), ALLOWED),
    "every-minor-too": (opened(1, "r", major=OTHER), ALLOWED),
    "another-type": (opened(4, "r", kind="b"), DENIED),
    "denied-later": (opened(8, "w"), DENIED),
    "denied-later-in-part": (opened(8, "r"), ALLOWED),
    "allowed-later": (opened(9, "+"), ALLOWED),
}
QUESTIONS = (
    *(action for action, _end in OPENED.values()),
    made(3),
    made(5),
    actions.opened("/dev/null", "+"),
)


def config(*rules: DeviceRule) -> Config:
    """A container with these rules, and with nodes that others have made."""
    nodes = Mount(destination="/mnt/nodes", source=FOLDER, options=("bind",))
    return bundle.resources(bundle.mounted(bundle.base(), nodes), devices=rules)


@pytest.fixture
def ruled(runtime: Runtime, look) -> Callable[..., Answers]:
    """The answers of a container under these rules."""
    script = "".join(
        f"[ -e {FOLDER}/{kind}-{major}-{minor} ] ||"
        f" mknod {FOLDER}/{kind}-{major}-{minor} {kind} {major} {minor};"
        for kind, major, minors in NODES
        for minor in minors
    )
    runtime.agent.command(["/bin/busybox", "sh", "-c", f"mkdir -p {FOLDER};{script}"])
    return lambda *rules: look(config(*rules), *QUESTIONS)


@pytest.mark.parametrize("name", OPENED)
def test_open(name: str, ruled: Callable[..., Answers]) -> None:
    """ "access: r (read), w (write)", "entries are applied in the listed order"."""
    action, end = OPENED[name]
    assert ruled(*RULES).deed(action).error == end


@pytest.mark.proves("linux.resources.devices")
def test_what_is_not_allowed(ruled: Callable[..., Answers]) -> None:
    """All that no entry allows, or a later one denies, at once."""
    answers = ruled(*RULES)
    denied = {name for name, (_action, end) in OPENED.items() if end == DENIED}
    refused = {name for name in OPENED if answers.deed(OPENED[name][0]).error == DENIED}
    assert denied - {"r-not-rw"} <= refused


def test_mknod_as_listed(ruled: Callable[..., Answers]) -> None:
    """ "access: m (mknod)"."""
    assert ruled(*RULES).deed(made(3)).error == ""


def test_mknod_unlisted(ruled: Callable[..., Answers]) -> None:
    """What no entry allows cannot be made."""
    assert ruled(*RULES).deed(made(5)).error == DENIED


def test_default_devices_stay(ruled: Callable[..., Answers]) -> None:
    """ "Default Devices" can be used whatever the list denies."""
    assert ruled(*RULES).deed(actions.opened("/dev/null", "+")).error == ""


def test_allow_all(ruled: Callable[..., Answers]) -> None:
    """ "type: a (all)": one entry without type and numbers means every device."""
    answers = ruled(DeviceRule(allow=True, type="a", access="rwm"))
    assert answers.deed(opened(5, "r")).error == ALLOWED
    assert answers.deed(made(5)).error == ""
