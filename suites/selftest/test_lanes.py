"""Lanes: work for guests, a CPU's worth at a time."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from hostabi.runs import lanes


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_guest_is_kept_on_the_cpu_of_its_lane(sleeper):
    own = lanes.cpus()
    for index in range(len(own) + 1):
        lanes.pin(sleeper.pid, index)
        assert os.sched_getaffinity(sleeper.pid) == {own[index % len(own)]}


def test_a_process_that_has_ended_is_left(sleeper):
    sleeper.kill()
    sleeper.wait()
    lanes.pin(sleeper.pid, 0)


def test_work_of_one_lane_is_done_in_order(monkeypatch):
    monkeypatch.setattr(lanes, "cpus", lambda: (0, 1))
    made, done, go = lanes.Lanes(), [], threading.Event()
    slow = made.submit(0, lambda: go.wait(10) and done.append("slow"))
    after = made.submit(2, lambda: done.append("after"))
    made.submit(1, lambda: done.append("beside")).result(10)
    assert done == ["beside"]
    go.set()
    after.result(10)
    assert done == ["beside", "slow", "after"]
    assert slow.done()


def test_what_work_raises_is_raised_where_it_is_awaited():
    with pytest.raises(ZeroDivisionError):
        lanes.Lanes().submit(0, lambda: 1 // 0).result(10)
