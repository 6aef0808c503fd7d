"""The probe, built and run here: its lines decode, and its deeds tell the truth."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hostabi import resources
from hostabi.agent.build import binary
from hostabi.oci import actions, seen
from hostabi.packages.cache import Cache

NASTY = b'a\xff\xc3\xbc"\\\n\x01\x7f\xe2\x82b'


@pytest.fixture(scope="session")
def probe() -> Path:
    """The probe's binary."""
    return binary("probe", Cache(resources.cache()))


def ask(probe: Path, *asked: actions.Action, **options) -> seen.Answers:
    """Run the probe here and decode what it says."""
    words = actions.command(asked)[1:]
    done = subprocess.run(
        [str(probe), *words], capture_output=True, timeout=60, check=True, **options
    )
    return seen.decode(done.stdout)


def test_report_of_this_process(probe: Path, tmp_path: Path) -> None:
    """Every field that can be compared with what Python sees here."""
    report = ask(probe, actions.REPORT, cwd=tmp_path, stdin=subprocess.DEVNULL).report
    assert report.hostname == socket.gethostname()
    assert report.uid == os.getresuid()
    assert report.cwd == str(tmp_path)
    assert report.namespaces["uts"] == str(Path("/proc/self/ns/uts").readlink())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert report.rlimits["RLIMIT_NOFILE"] == (soft % (1 << 64), hard % (1 << 64))
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    assert [mount.id for mount in report.mounts] == [int(line.split()[0]) for line in lines]
    held = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapBnd:")
    )
    assert report.capabilities.bounding == int(held, 16)
    assert [each.number for each in report.descriptors] == [0, 1, 2]
    assert not report.terminal
    mask = os.umask(0o022)
    os.umask(mask)
    assert report.umask == mask
    null = report.device("/dev/null")
    assert (null.type, null.major, null.minor) == ("c", 1, 3)


def test_any_bytes_survive(probe: Path) -> None:
    """Environment and arguments that are no UTF-8 come back as they were."""
    answers = ask(probe, actions.REPORT, env={b"KEY": NASTY})
    assert answers.report.environment == (os.fsdecode(b"KEY=" + NASTY),)
    words = [os.fsencode(probe), b"open", b"/" + NASTY, b"r"]
    done = subprocess.run(words, capture_output=True, timeout=60, check=True)
    [deed] = seen.decode(done.stdout).deeds
    assert os.fsencode(deed.arguments[0]) == b"/" + NASTY
    assert deed.error == "ENOENT"


def test_files(probe: Path, tmp_path: Path) -> None:
    """Reading, writing, listing and copying, with the errno where it cannot be done."""
    file, absent, program = tmp_path / "file", tmp_path / "no/file", tmp_path / "probe"
    asked = (
        actions.write(str(file), "hello", create=True),
        actions.read(str(file)),
        actions.opened(str(absent)),
        actions.copy(str(probe), str(program), 0o755),
        actions.listed(str(tmp_path)),
        actions.execute(str(program), "identity", uid=os.geteuid()),
        actions.fill(str(file), 10_000),
    )
    answers = ask(probe, *asked)
    assert answers.deed(asked[1]).data == "hello"
    assert answers.deed(asked[2]).error == "ENOENT"
    assert answers.deed(asked[4]).data == "file/probe"
    assert [deed.value for deed in answers.deeds if deed.action == "identity"] == [os.geteuid()]
    assert answers.deed(asked[6]).value >= 10_000


def test_limits(probe: Path) -> None:
    """What a limit does is what the probe tells: here under limits that we set ourselves."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        resource.setrlimit(resource.RLIMIT_CPU, (1, 2))

    asked = (actions.descriptors(50), actions.descriptors(5), actions.spin(3000))
    answers = ask(probe, *asked, preexec_fn=limit)
    assert answers.deed(asked[0]).error == "EMFILE"
    assert answers.deed(asked[0]).value == 20 - 3
    assert (answers.deed(asked[1]).error, answers.deed(asked[1]).value) == ("", 5)
    assert answers.deed(asked[2]).signal == signal.SIGXCPU


def test_system_calls(probe: Path) -> None:
    """A call in a child leaves nothing behind; one in the probe itself lasts."""
    tried, done = actions.attempt("umask", 0o077), actions.call("umask", 0o055)
    answers = ask(probe, tried, actions.REPORT, done, umask=0o022)
    assert answers.deed(tried).value == 0o022
    assert answers.report.umask == 0o022
    assert answers.deed(done).value == 0o022
    refused = actions.attempt("open", "/nowhere/at/all", 0)
    assert ask(probe, refused).deed(refused).error == "ENOENT"


def test_children(probe: Path) -> None:
    """Children come to be and are gone afterwards."""
    asked = (actions.fork(5), actions.touch(2))
    answers = ask(probe, *asked)
    assert (answers.deed(asked[0]).value, answers.deed(asked[0]).error) == (5, "")
    assert answers.deed(asked[1]).value == 2


def test_unknown_action(probe: Path) -> None:
    """A misspelt action is an error and no silence."""
    done = subprocess.run([probe, "reprot"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"reprot" in done.stderr


def test_detached_output(probe: Path, tmp_path: Path) -> None:
    """What is detached writes to the file, not to our pipe."""
    file = tmp_path / "output"
    done = subprocess.run(
        [probe, "detach", file, probe, "identity"], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b""
    assert seen.decode(file.read_bytes()).deeds[0].value == os.geteuid()


@pytest.mark.parametrize(
    "output",
    [
        b"not json\n",
        b'{"action": "report"}\n',
        b'{"action": 5}\n',
        b'{"action": "read", "data": "\\u0100"}\n',
        b"[" * 100_000 + b"\n",
        b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n",
        b'{"action": "read", "data": "cut o',
        b'{"action": "x"}\n' * (seen.LINES + 1),
        b"\xff\xfe\n",
    ],
)
def test_hostile_output(output: bytes) -> None:
    """What a container prints is not trusted: one error, that quotes little."""
    with pytest.raises(seen.ProbeOutputError) as caught:
        seen.decode(output)
    assert len(str(caught.value)) < 1000


def test_missing_answers_are_told() -> None:
    """An answer that is not there is an error, not an empty value."""
    answers = seen.decode(b'{"action": "open", "arguments": ["/x", "r"], "errno": 2}\n')
    assert answers.deed(actions.opened("/x")).error == "ENOENT"
    with pytest.raises(seen.ProbeOutputError, match="open /y"):
        answers.deed(actions.opened("/y"))
    with pytest.raises(seen.ProbeOutputError, match="no report"):
        _ = answers.report


def test_what_no_filter_stops(probe: Path) -> None:
    """Without a filter each way of making a call tells that it came back."""
    asked = (
        actions.in_thread("getppid"),
        actions.trapped("getppid"),
        actions.traced("getppid"),
        actions.interrupted("getppid"),
    )
    answers = ask(probe, *asked)
    assert [answers.deed(each).value for each in asked[:3]] == [2, -1, -1]
    assert answers.deed(asked[3]).value > 0


def test_what_is_shared_out(probe: Path) -> None:
    """Processor time takes at least as long as it is, and memory that is held stays."""
    asked = (actions.pace(30), actions.hold(3), actions.pull("/no-such-disk", 4096))
    answers = ask(probe, *asked)
    assert answers.deed(asked[0]).value >= 29
    assert answers.deed(asked[1]).value == 3
    assert answers.deed(asked[2]).error == "ENOENT"


def test_listener_that_cannot_listen(probe: Path, tmp_path: Path) -> None:
    """A socket that is there already is an error, and no process is left."""
    path = tmp_path / "socket"
    path.write_text("")
    done = subprocess.run(
        [probe, "listen", path, tmp_path / "state"], capture_output=True, timeout=60, check=True
    )
    assert seen.decode(done.stdout).deeds[0].error == "EADDRINUSE"


def test_answers_into_a_file(probe: Path, tmp_path: Path) -> None:
    """What comes after is appended to the file, and ends with the status asked for."""
    file = tmp_path / "log"
    words = actions.command((actions.into(str(file)), actions.stdin(), actions.leave(7)))[1:]
    for text in (b"first\n", b""):
        done = subprocess.run(
            [probe, *words], input=text, capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (7, b"")
    deeds = seen.decode(file.read_bytes()).deeds
    assert [(each.action, each.data) for each in deeds if each.action == "stdin"] == [
        ("stdin", "first\n"),
        ("stdin", ""),
    ]
    refused = actions.into("/no/such/folder/log")
    assert ask(probe, refused).deed(refused).error == "ENOENT"


def test_clocks_and_scheduling(probe: Path) -> None:
    """The same as Python is told by the kernel."""
    clock = actions.clock(time.CLOCK_MONOTONIC)
    before = time.clock_gettime(time.CLOCK_MONOTONIC) * 1000
    answers = ask(probe, clock, actions.SCHEDULER, preexec_fn=lambda: os.nice(3))
    after = time.clock_gettime(time.CLOCK_MONOTONIC) * 1000
    assert before - 1 <= answers.deed(clock).value <= after
    policy, flags, nice, priority, *_ = answers.deed(actions.SCHEDULER).data.split()
    assert (int(policy), int(flags), int(nice), int(priority)) == (
        os.sched_getscheduler(0),
        0,
        os.nice(0) + 3,
        0,
    )
    assert ask(probe, actions.WINDOW, stdin=subprocess.DEVNULL).deed(actions.WINDOW).error


def test_terminal_from_a_socket(probe: Path, tmp_path: Path) -> None:
    """What the one who sends a terminal shows on it goes to the file."""
    socket_path, output = tmp_path / "console", tmp_path / "output"
    sender = (
        "import array, fcntl, os, pty, socket, struct, termios\n"
        "master, slave = os.openpty()\n"
        "fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('4H', 12, 34, 0, 0))\n"
        f"ours = socket.socket(socket.AF_UNIX); ours.connect({str(socket_path)!r})\n"
        "socket.send_fds(ours, [b'pty'], [master])\n"
        "os.close(master)\n"
        "os.setsid(); os.dup2(slave, 0); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.dup2(slave, 1)\n"
        f"os.execv({str(probe)!r}, ['probe', 'window'])\n"
    )
    words = [probe, "terminal", socket_path, output, sys.executable, "-c", sender]
    done = subprocess.run(words, capture_output=True, timeout=60, check=True)
    assert done.stdout == b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (output.exists() and output.read_bytes()):
        time.sleep(0.01)
    assert seen.decode(output.read_bytes()).deed(actions.WINDOW).data == "12 34 1"


def beside(probe: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Have the probe make or remove a bundle."""
    argv = [str(probe), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A root to be copied."""
    folder = tmp_path / "source"
    (folder / "bin").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    (folder / "bin/tool").write_bytes(b"x" * 10_000)
    (folder / "bin/tool").chmod(0o755)
    (folder / "bin/sh").symlink_to("tool")
    (folder / "hosts").write_text("localhost\n")
    return folder


def test_bundle(probe: Path, source: Path, tmp_path: Path) -> None:
    """A root like the source, whose programs all bundles share until one is changed."""
    bundles = tmp_path / "bundles"
    for name in ("one", "two"):
        assert beside(probe, "bundle", source, bundles / name).returncode == 0
    first, second = (bundles / name / "rootfs" for name in ("one", "two"))
    assert (first / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (first / "ready").is_fifo()
    assert (first / "bin/sh").readlink() == Path("tool")
    assert (first / "bin/tool").read_bytes() == (source / "bin/tool").read_bytes()
    assert (first / "bin/tool").samefile(second / "bin/tool")
    assert not (first / "hosts").samefile(second / "hosts")
    (second / "bin/tool").chmod(0o700)
    assert beside(probe, "bundle", source, bundles / "three").returncode == 0
    assert (bundles / "three/rootfs/bin/tool").stat().st_mode & 0o777 == 0o755


def test_bundle_that_cannot_be_made(probe: Path, source: Path, tmp_path: Path) -> None:
    """The folder is there already, or the source is not: the status tells."""
    bundles = tmp_path / "bundles"
    assert beside(probe, "bundle", source, bundles / "one").returncode == 0
    assert "exists" in beside(probe, "bundle", source, bundles / "one").stderr
    assert beside(probe, "bundle", source / "none", bundles / "two").returncode == 1


def test_discard(probe: Path, source: Path, tmp_path: Path) -> None:
    """The folder goes with all that is in it, and what its links name stays."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (source / "link").symlink_to(tmp_path / "kept")
    assert beside(probe, "bundle", source, tmp_path / "bundles/one").returncode == 0
    assert beside(probe, "discard", tmp_path / "bundles/one", tmp_path / "kept").returncode == 0
    assert not (tmp_path / "bundles/one").exists()
    assert (tmp_path / "kept/file").exists()
