"""The emulator's process: what starts with us ends with us."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time

import pytest

from hostabi.machine import process
from hostabi.machine.process import Process


def test_nothing_survives_the_death_of_the_parent() -> None:
    code = (
        "import sys\nfrom hostabi.machine.process import Process\n"
        "p = Process(['sleep', '1000'])\nprint(p.pid, flush=True)\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    watched = os.pidfd_open(pid)
    parent.kill()
    parent.communicate()
    ready, _, _ = select.select([watched], [], [], 30)
    os.close(watched)
    assert ready, "the emulator outlived the one that started it"


@pytest.mark.parametrize("setpriv", [True, False])
def test_a_parent_that_died_before_the_signal_was_set(
    monkeypatch: pytest.MonkeyPatch, setpriv: bool
) -> None:
    if not setpriv:
        monkeypatch.setattr(process, "_setpriv", lambda: "")
    words = [*process.death_signal(), "/bin/echo", "it", "runs"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "it runs\n"
    # Below a shell it has another parent than it was told of, as if that had died.
    orphan = ["/bin/sh", "-c", '"$@"; true', "sh", *words]
    assert subprocess.run(orphan, capture_output=True, text=True, check=True).stdout == ""


def test_a_process_started_by_a_thread_that_ends_lives_on() -> None:
    made: list[Process] = []
    thread = threading.Thread(target=lambda: made.append(Process(["sleep", "1000"])))
    thread.start()
    thread.join()
    with made[0] as process:
        assert process.wait(0.3) is None
    assert process.describe_end() == "was killed by SIGKILL"


def test_what_it_says_is_bounded_and_its_end_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOOK", 0.02)
    monkeypatch.setattr(process, "_MOST", 64 << 10)
    talk = "for i in $(seq 40); do head -c 20000 /dev/zero | tr '\\0' x; sleep 0.02; done"
    with Process(["sh", "-c", f"{talk} >&2; echo the end >&2; sleep 1000"]) as talking:
        deadline = time.monotonic() + 60
        while not talking.errors().endswith("the end"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)
        kept = os.fstat(talking._errors.fileno()).st_size
        assert kept < 200_000, "40 times 20,000 bytes were written"
        talking.close()
