"""config-linux.md, "User namespace mappings": several ranges, each enforced."""

from __future__ import annotations

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.driver import Runtime
from hostabi.oci.records import IdMap, User

pytestmark = pytest.mark.privileged("newuidmap(1) maps the ids of subuid(5) and no others")

UIDS = (
    IdMap(container=0, host=100_000, size=1000),
    IdMap(container=1000, host=300_000, size=10),
    IdMap(container=5000, host=70_000, size=1),
)
GIDS = (
    IdMap(container=0, host=200_000, size=2000),
    IdMap(container=5000, host=90_000, size=5),
)
CONFIG = bundle.linux(bundle.namespace(bundle.base(), "user"), uid_mappings=UIDS, gid_mappings=GIDS)
IDS = {1000: "", 1009: "", 1010: "EINVAL", 5000: "", 5001: "EINVAL", 70_000: "EINVAL"}
QUESTIONS = (
    actions.REPORT,
    *(actions.attempt("setresuid", uid, uid, uid) for uid in IDS),
    *(actions.attempt("setresgid", gid, gid, gid) for gid in (1999, 2000, 5004, 5005)),
)


def lines(mapping: tuple[IdMap, ...]) -> list[list[str]]:
    """The mapping as /proc/PID/uid_map has it (user_namespaces(7))."""
    return [[str(each.container), str(each.host), str(each.size)] for each in mapping]


@pytest.mark.proves("linux.uidMappings", "linux.gidMappings")
def test_all_ranges_are_mapped(look) -> None:
    """ "uidMappings" and "gidMappings" are arrays, and need not be alike."""
    report = look(CONFIG, *QUESTIONS).report
    assert [line.split() for line in report.uid_map.splitlines()] == lines(UIDS)
    assert [line.split() for line in report.gid_map.splitlines()] == lines(GIDS)


@pytest.mark.parametrize("uid", IDS)
def test_user_ids(uid: int, look) -> None:
    """Each range ends where its size says; an id between ranges does not exist."""
    assert (
        look(CONFIG, *QUESTIONS).deed(actions.attempt("setresuid", uid, uid, uid)).error
        == (IDS[uid])
    )


@pytest.mark.parametrize(
    ("gid", "error"), [(1999, ""), (2000, "EINVAL"), (5004, ""), (5005, "EINVAL")]
)
def test_group_ids(gid: int, error: str, look) -> None:
    """The groups have ranges of their own."""
    asked = actions.attempt("setresgid", gid, gid, gid)
    assert look(CONFIG, *QUESTIONS).deed(asked).error == error


@pytest.mark.proves("process.user.uid")
def test_owner_outside(runtime: Runtime) -> None:
    """ "hostID": the ids that the guest sees, of the process and of what it creates."""
    config = bundle.process(CONFIG, user=User(uid=1003, gid=5002, additional_gids=(7,)))
    file = actions.write("/tmp/owned", "x", create=True)
    with runtime.container(config, actions.REPORT, file, actions.signal()) as made:
        made.start()
        pid = made.state().pid
        # The fifo is root's, so this one only waits; its answers say when it is there.
        made.wait(pid)
        answers = made.answers()
        seen = runtime.probe("stat", f"{made.folder}/rootfs/tmp/owned").answers.deeds[0]
    assert answers.report.uid == (1003, 1003, 1003)
    assert answers.deed(file).error == ""
    assert seen.data.split()[1:3] == ["300003", "90002"]


@pytest.mark.parametrize(("uid", "gid"), [(1010, 0), (0, 2000)])
def test_user_outside_the_ranges(uid: int, gid: int, refused) -> None:
    """User, "uid" and "gid" are ids of the container's namespace: one without a mapping is an
    error."""
    refused(bundle.process(CONFIG, user=User(uid=uid, gid=gid)), actions.REPORT)


@pytest.mark.parametrize(
    "mapping",
    [
        pytest.param(
            (IdMap(container=0, host=100_000, size=10), IdMap(container=5, host=200_000, size=10)),
            id="overlapping",
        ),
        pytest.param((IdMap(container=0, host=100_000, size=0),), id="empty-range"),
    ],
)
def test_mappings_that_the_kernel_refuses(mapping: tuple[IdMap, ...], refused) -> None:
    """user_namespaces(7): ranges may not overlap or be empty."""
    config = bundle.linux(CONFIG, uid_mappings=mapping, gid_mappings=mapping)
    refused(config, actions.REPORT)
