"""config.md, "Linux Process", capabilities: the sets as given, and what each one allows."""

from __future__ import annotations

import socket

import pytest

from hostabi.oci import actions, bundle
from hostabi.oci.actions import Action, attempt
from hostabi.oci.records import Capabilities, User

# Numbers of linux/capability.h.
NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_MKNOD": 27,
    "CAP_AUDIT_WRITE": 29,
    "CAP_SETFCAP": 31,
}
PR_CAPBSET_DROP = 24

# One operation for each capability that has one which leaves no trace: capabilities(7).
OPERATIONS: dict[str, Action] = {
    "CAP_CHOWN": attempt("chown", "/tmp", 1000, 1000),
    "CAP_SETUID": attempt("setresuid", 1000, 1000, 1000),
    "CAP_SETGID": attempt("setresgid", 1000, 1000, 1000),
    "CAP_SETPCAP": attempt("prctl", PR_CAPBSET_DROP, NUMBERS["CAP_CHOWN"], 0, 0, 0),
    "CAP_MKNOD": attempt("mknod", "/tmp/node", 0o020600, 1 << 8 | 3),
    "CAP_NET_RAW": attempt("socket", socket.AF_INET, socket.SOCK_RAW, 1),
    "CAP_SYS_CHROOT": attempt("chroot", "/tmp"),
    "CAP_SYS_ADMIN": attempt("sethostname", "changed", 7),
    "CAP_SYS_NICE": attempt("setpriority", 0, 0, (1 << 64) - 5),
}
# What counts in the first user namespace alone, so that a container's root cannot have it.
OF_THE_HOST = {
    "CAP_MKNOD": "mknod(2) of a device is for the first user namespace",
    "CAP_SYS_NICE": "setpriority(2) asks for the capability in the first user namespace",
}
# setpriority(2) has an errno of its own for a nice value that may not be lowered.
ERRORS = {"CAP_SYS_NICE": "EACCES"}
HELD = (*bundle.CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_NICE")


def mask(names: tuple[str, ...]) -> int:
    """The set as a bit mask."""
    return sum(1 << NUMBERS[name] for name in names)


# Of root, execve(2) makes the other sets from the bounding one: capabilities(7).
@pytest.mark.proves("process.capabilities.bounding:{name}")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.privileged(OF_THE_HOST[name])] if name in OF_THE_HOST else (),
        )
        for name in OPERATIONS
    ],
)
def test_operation_needs_it(name: str, look) -> None:
    """Held, the operation works; not held, it is EPERM, although the user is root."""
    operations = tuple(OPERATIONS.values())
    holder = bundle.process(bundle.base(), capabilities=bundle.capabilities(HELD))
    bare = bundle.process(bundle.base(), capabilities=Capabilities())
    assert look(holder, actions.REPORT, *operations).deed(OPERATIONS[name]).error == ""
    assert look(bare, actions.REPORT, *operations).deed(OPERATIONS[name]).error == ERRORS.get(
        name, "EPERM"
    )


@pytest.mark.proves("process.capabilities.bounding")
@pytest.mark.parametrize("kind", ["effective", "permitted", "bounding"])
def test_sets_are_exact(kind: str, look) -> None:
    """Each of the sets holds what its array names and nothing else."""
    assert set(bundle.CAPABILITIES) <= set(NUMBERS)
    seen = look(bundle.base(), actions.REPORT).report.capabilities
    assert getattr(seen, kind) == mask(bundle.CAPABILITIES)


def test_empty_sets(look) -> None:
    """Arrays that are not there leave nothing in any set."""
    bare = bundle.process(bundle.base(), capabilities=Capabilities())
    seen = look(bare, actions.REPORT, *OPERATIONS.values()).report.capabilities
    held = (seen.effective, seen.permitted, seen.inheritable, seen.bounding, seen.ambient)
    assert held == (0, 0, 0, 0, 0)


@pytest.mark.proves("process.capabilities.ambient")
def test_ambient_survives_for_a_user(look) -> None:
    """An ambient capability is effective in a process that is not root: capabilities(7)."""
    only = ("CAP_NET_RAW",)
    user = bundle.process(
        bundle.base(),
        user=User(uid=1000, gid=1000, additional_gids=(7, 9), umask=0o027),
        capabilities=Capabilities(
            bounding=only, effective=only, permitted=only, inheritable=only, ambient=only
        ),
    )
    answers = look(user, actions.REPORT, OPERATIONS["CAP_NET_RAW"], OPERATIONS["CAP_CHOWN"])
    seen = answers.report.capabilities
    assert (seen.ambient, seen.effective, seen.inheritable) == (mask(only),) * 3
    assert answers.deed(OPERATIONS["CAP_NET_RAW"]).error == ""
    assert answers.deed(OPERATIONS["CAP_CHOWN"]).error == "EPERM"


@pytest.mark.proves("process.user.uid", "process.user.gid", "process.user.additionalGids")
def test_user(look) -> None:
    """config.md, "User": uid, gid and additionalGids are those of the process."""
    user = bundle.process(bundle.base(), user=User(uid=1000, gid=1001, additional_gids=(7, 9)))
    seen = look(user, actions.REPORT).report
    assert seen.uid == (1000, 1000, 1000)
    assert seen.gid == (1001, 1001, 1001)
    assert {7, 9} <= set(seen.groups)
    # Not root and nothing ambient: execve(2) leaves no capability to use.
    assert seen.capabilities.effective == 0


@pytest.mark.proves("process.noNewPrivileges")
def test_no_new_privileges(look) -> None:
    """config.md, "noNewPrivileges": the bit is set when asked for, and only then."""
    off = bundle.process(bundle.base(), no_new_privileges=False)
    assert look(bundle.base(), actions.REPORT).report.no_new_privs
    assert not look(off, actions.REPORT).report.no_new_privs
