"""What a failing conformance test leaves behind, and that it can be run again from that."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_agent_kernels import heard
from test_oci_runtimes import Guest, completed

from hostabi.commands.replaying import Chosen, chosen, lay
from hostabi.errors import CallError, InputError
from hostabi.kernels.resolve import resolve
from hostabi.machine.machine import start
from hostabi.model import Variant
from hostabi.oci import actions, bundle
from hostabi.oci.deviations import known
from hostabi.oci.disk import runtimes_disk
from hostabi.oci.driver import Runtime, runtime
from hostabi.oci.log import Command, Log, Read, Written
from hostabi.oci.records import Process, User
from hostabi.oci.replay import PLACE, SCRIPT, Replay, load, prune
from hostabi.oci.runtimes import find
from hostabi.packages.context import Packages

SPEC = os.environ.get("HOSTABI_SELFTEST_KERNEL", "6.12")
DEVIATION = "conformance/test_operations.py::test_version_that_is_not_supported"


def failure(*events: Command | Written | Read) -> Replay:
    return Replay("6.12.1-1", "crun", "conformance/test_x.py::test_y[a/b]", Variant(), events)


def test_a_log_has_what_was_asked_and_how_it_ended() -> None:
    log = Log(Guest(run=completed(3, b"out", b"err")))
    log.write("/a", b"text")
    log.write("/b", b"\xff")
    log.command(["crun", "run"], root="/tree", env={"A": "b"})
    log.read("/a")
    with contextlib.suppress(CallError):
        log.read("/none")
    assert log.events == [
        Written("/a", "text"),
        Written("/b", data=b"\xff"),
        Command(("crun", "run"), "/tree", env={"A": "b"}, status=3, stdout="out", stderr="err"),
        Read("/a", "text"),
        Read("/none", error="/none: none"),
    ]


def test_what_tests_share_is_in_the_log_of_each() -> None:
    kept: dict[object, tuple[Command | Written | Read, ...]] = {}
    for _ in range(2):
        log = Log(Guest(), kept)
        for _ in range(2):
            with log.once("key"):
                if not kept:
                    log.command(["one"])
        log.command(["two"])
        with log.aside():
            log.command(["tidy"])
        assert [event.argv for event in log.events if isinstance(event, Command)] == [
            ("one",),
            ("two",),
        ]


def test_tidying_up_is_no_part_of_it() -> None:
    bound = Runtime(find("crun"), Log(Guest(run=completed(1))))
    bound.run(bundle.base())
    text = str(failure(*bound.agent.events))
    assert " run --bundle=" in text
    assert '"hostname": "base"' in text
    assert "delete" not in text
    assert "rm -rf" not in text


def test_a_large_bundle_is_told_in_part() -> None:
    told = str(failure(Written("/config.json", "\n".join(["x" * 1000] * 1000))))
    assert len(told) < 300_000
    assert told.endswith("and 700 lines more, which are in its file")


def test_exec_goes_without_what_is_dropped() -> None:
    guest = Guest()
    bound = Runtime(find("crun"), Log(guest), drops="exec.user.umask")
    process = Process(args=("/probe",), cwd="/", user=User(uid=0, gid=0, umask=0o27))
    with bound.container(bundle.process(bundle.base(), user=process.user)) as made:
        made.execute(process)
    [told] = [text for name, text in guest.files.items() if name.endswith("process.json")]
    [config] = [text for name, text in guest.files.items() if name.endswith("config.json")]
    assert b"umask" not in told
    assert b"umask" in config


def test_a_failure_is_found_again(tmp_path: Path) -> None:
    one = failure(Written("/a", data=b"\xff"), Command(("x",), stdin=b"in"))
    path = one.save(tmp_path / "failures")
    assert re.fullmatch(r"6\.12\.1-1-crun-test-x\.py-test-y-a-b-[0-9a-f]{6}\.json", path.name)
    assert load(path) == one
    path.write_text('{"build": 3}')
    with pytest.raises(InputError, match="is no failure of a conformance test"):
        load(path)
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "none")
    prune(path.parent, 0)
    assert not path.exists()


def test_what_a_replay_needs(tmp_path: Path) -> None:
    """The disk with its runtime or its engine, and a guest that is booted the same way."""
    crun = failure(Command(("x",)))
    podman = replace(crun, runtime="", engine="podman", variant=Variant(memory=256))
    for one, wanted in (
        (crun, Chosen(("crun",), None, Variant(), crun)),
        (podman, Chosen(None, ("podman",), Variant(memory=256), podman)),
    ):
        path = one.save(tmp_path)
        assert chosen(argparse.Namespace(replay=path, runtimes=False)) == wanted
    assert chosen(argparse.Namespace(replay=None, runtimes=False)) == Chosen(None)
    assert chosen(argparse.Namespace(replay=None, runtimes=True)) == Chosen(())


def test_the_script_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a shell of our own, and paths that we may write."""
    monkeypatch.setattr("hostabi.oci.replay.PLACE", str(tmp_path))
    target = tmp_path / "it's"
    one = failure(
        Written(str(target), "some text", mode=0o640),
        Command(("cat",), stdin=b"from a pipe", status=0),
        Command(("sh", "-c", "echo $A; exit 3"), env={"A": "a b", "PATH": os.environ["PATH"]}),
        Read(str(target)),
    )
    for path, content in one.files().items():
        (tmp_path / Path(path).name).write_bytes(content)
    text = one.script().replace("/bin/busybox sh", "/bin/sh")
    done = subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "from a pipe  status 0 (before: status 0)" in done.stdout
    assert "a b\n  status 3 (before: status 0)" in done.stdout
    assert done.stdout.endswith("some text")
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.kernels
@pytest.mark.slow
def test_a_deviation_is_seen_again_in_the_shell(packages: Packages, tmp_path: Path) -> None:
    """A bundle of a version that crun must refuse, which runs, and runs again from its file."""
    assert any(each.test == DEVIATION and "crun" in each.runtimes for each in known())
    build = resolve(SPEC, packages)
    disks = (runtimes_disk(packages),)
    with start(build, packages, accel="tcg", disks=disks) as machine:
        bound = runtime("crun", machine.agent)
        config = replace(bundle.base("again"), oci_version="99.0.0")
        visit = bound.run(config, actions.identity())
        assert visit.ok, "crun refuses it now: take another deviation"
    events = tuple(bound.agent.events)
    path = Replay(build.name, "crun", DEVIATION, Variant(), events).save(tmp_path)
    with start(build, packages, accel="tcg", disks=disks) as machine:
        typed = lay(machine.agent, Chosen(("crun",), replay=load(path)))
        assert typed.decode() == f"sh {SCRIPT}\n"
        machine.agent.shell()
        machine.shell_socket.sendall(typed + b"ls /work/oci; exit\n")
        said = heard(machine.shell_socket, b"").decode()
    assert '"action":"identity"' in said
    assert said.count("status 0 (before: status 0)") == 2
    assert "not found" not in said
    assert f"{PLACE}/enter" not in said
