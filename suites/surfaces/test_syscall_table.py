"""The syscall table as seen by its three witnesses."""

from __future__ import annotations

from hostabi.kernels.static import Static
from hostabi.model import Certainty, Fact
from hostabi.surfaces import syscalls, witnesses
from hostabi.syscalls import table

NEEDED = (
    # runtime-spec, config-linux.md: namespaces, and joining them by path
    "clone",
    "unshare",
    "setns",
    # config.md: root, mounts, hostname
    "mount",
    "umount2",
    "pivot_root",
    "sethostname",
    # config.md: process (user, capabilities, rlimits, noNewPrivileges, terminal)
    "setuid",
    "setgid",
    "setgroups",
    "capget",
    "capset",
    "prctl",
    "prlimit64",
    "ioctl",
    # config-linux.md: devices, seccomp, personality
    "mknodat",
    "seccomp",
    "personality",
    # runtime.md: start, kill, delete
    "execve",
    "kill",
    "wait4",
)
"""Calls without which no OCI runtime can do what the specification asks of it."""


def test_what_every_container_needs_is_implemented(syscall_facts: dict[str, Fact]) -> None:
    """The calls behind each property of the runtime-spec answer anything but ENOSYS."""
    working = {name for name, fact in syscall_facts.items() if fact.value == "ok"}
    assert [name for name in NEEDED if name not in working] == []


def test_probe_agrees_with_the_image(syscall_facts: dict[str, Fact], static: Static) -> None:
    """A call that the image has answers.

    A call may still answer ENOSYS because it was switched off at boot
    (memfd_secret(2)) or because its body is configured away (ioperm(2)); such a
    call has to be marked as contradicted, and never silently absent or present.
    """
    known = {name: syscalls.entry_name(name) for name in table.tables().syscalls}
    how, entries = witnesses.image_names(static, known.values())
    for name in (name for name, entry in known.items() if entry in entries):
        fact = syscall_facts.get(name)
        assert fact is not None, f"{name} is in the image ({how}) and left out"
        assert fact.value == "ok" or fact.certainty is Certainty.CONTRADICTED, name


def test_nothing_answers_beyond_the_table(syscall_facts: dict[str, Fact]) -> None:
    """No number answers that the newest headers do not name: else they are too old for it."""
    assert [name for name in syscall_facts if name.startswith("syscall_")] == []
