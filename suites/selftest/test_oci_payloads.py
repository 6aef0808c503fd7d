"""Payloads: their catalogue and root file systems, and what is read of the calls they made."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hostabi import resources
from hostabi.agent.build import binary
from hostabi.oci import payloads, seen
from hostabi.oci.actions import Action, command
from hostabi.packages.cache import Cache
from hostabi.packages.tree import Tree
from hostabi.syscalls import table

CHILDREN = """
import os, subprocess, threading
thread = threading.Thread(target=os.getsid, args=(0,))
thread.start(), thread.join()
subprocess.run(["true"])
if not os.fork():
    os.getpgid(0), os.kill(os.getpid(), 9)
os.wait()
"""


@pytest.fixture(scope="module")
def probe() -> Path:
    """The probe's binary."""
    return binary("probe", Cache(resources.cache()))


def follow(probe: Path, *words: str) -> payloads.Followed:
    """A program run under the probe, here."""
    action = Action(("calls", *words))
    done = subprocess.run(
        [str(probe), *command([action])[1:]], capture_output=True, timeout=60, check=True
    )
    return payloads.followed(seen.decode(done.stdout).deed(action))


def test_catalogue() -> None:
    """Four generations, the oldest first."""
    assert payloads.names() == ("bullseye", "bookworm", "trixie", "sid")


def test_bundle() -> None:
    """The payload is the root, which nobody can write to; there is room below /tmp."""
    config = payloads.config("sid")
    assert config.root.path == f"{payloads.MOUNT}/sid"
    assert config.root.readonly
    assert {mount.destination: mount.type for mount in config.mounts}["/tmp"] == "tmpfs"


def test_root_file_system(tmp_path: Path) -> None:
    """The packages' files, what a container needs beside them, and nothing that nobody reads."""
    for folder in ("usr/bin", "usr/share/doc/x", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "usr/bin/dash").write_bytes(b"dash")
    (tmp_path / "usr/share/doc/x/copyright").write_bytes(b"text")
    (tmp_path / "etc/passwd").write_bytes(b"theirs")
    probe = tmp_path / "probe"
    listed = list(payloads.root_entries(Tree(tmp_path, (), "key"), probe))
    entries = {entry.name: entry for entry in listed}
    assert len(entries) == len(listed)
    assert stat.S_ISLNK(entries["bin"].mode)
    assert entries["etc/passwd"].source == tmp_path / "etc/passwd"
    assert {"proc", "dev", "tmp", "etc/group", "usr/bin/dash"} <= set(entries)
    assert not any(name.startswith("usr/share/") for name in entries)


def test_a_program_that_ends_in_order(probe: Path) -> None:
    """Its status and its calls, with what they got; what it starts is followed as well."""
    found = follow(probe, sys.executable, "-I", "-S", "-c", CHILDREN)
    assert (found.status, found.signal) == (0, 0)
    assert found.calls["getsid"] == {"ok": 1}, "a call of its thread"
    assert found.calls["getpgid"] == {"ok": 1}, "a call of its child"
    assert found.calls["execve"]["ok"] >= 2, "its own and that of a program that it starts"
    assert "exit_group" not in found.calls, "a call that does not end"
    assert found.calls["openat"]["ok"] > 1


def test_a_program_that_fails(probe: Path) -> None:
    """Its status or its signal, and errnos by name."""
    script = "import os; os.path.exists('/no/such'); os.sched_getparam(1 << 30)"
    found = follow(probe, sys.executable, "-I", "-S", "-c", script)
    assert found.status == 1
    assert found.calls["sched_getparam"] == {"ESRCH": 1}
    killed = follow(probe, "/bin/sh", "-c", "kill -TERM $$")
    assert killed.signal == 15
    assert killed.calls["kill"] == {"ok": 1}
    absent = follow(probe, "/no/such/program")
    assert absent.status == 127
    assert absent.calls["execve"] == {"ENOENT": 1}


def test_ends_of_calls() -> None:
    """Which calls ended in a way that was asked for, as text in a fixed order."""
    calls = {"read": {"ok": 3}, "clone3": {"ENOSYS": 2}, "access": {"ok": 1, "EPERM": 1}}
    found = payloads.ended(calls, "ENOSYS", "EPERM", "ok")
    assert payloads.text(found) == "access=EPERM,ok clone3=ENOSYS read=ok"
    assert payloads.text(payloads.ended(calls, "ENOSYS")) == "clone3=ENOSYS"
    assert payloads.parse(payloads.text(found)) == found


@pytest.mark.parametrize("data", ["1 2", "1 2 3 4", "one 0 1"])
def test_lines_that_are_no_calls(data: str) -> None:
    """A guest's words are read with care."""
    with pytest.raises(seen.ProbeOutputError, match="no system call"):
        payloads.followed(seen.Deed("calls", data=data))


def test_calls_that_were_not_all_seen() -> None:
    """Part is never shown as all."""
    deed = seen.Deed("calls", errno=75, data=f"{table.number('read')} 0 1\n")
    with pytest.raises(seen.ProbeOutputError, match="EOVERFLOW"):
        payloads.followed(deed)
