"""Benchmarks: a command is measured as a user runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostabi.diff import captures
from hostabi.errors import HostabiError
from hostabi.model import Capture, Fact, Provenance, Variant
from hostabi.runs import bench_captures


def capture(path: Path, value: int) -> str:
    facts = [Fact("a", value)]
    taken = Capture("6.1", "6.1", "6.1", Variant(), Provenance("test"), {"sysctls": facts})
    return str(captures.save(taken, path))


def test_a_command_is_timed_and_its_memory_is_its_own(tmp_path: Path) -> None:
    one, other = capture(tmp_path / "1.json", 1), capture(tmp_path / "2.json", 2)
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    taken = bench_captures._command("diff", one, other)
    assert 0.05 < taken.seconds < 60
    assert 20 << 10 < taken.peak < 250 << 10  # KiB
    assert ballast


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(HostabiError, match="ended with 2"):
        bench_captures._command("diff", str(tmp_path / "none.json"))


def test_one_core_and_all_again() -> None:
    before = os.sched_getaffinity(0)
    with bench_captures._one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
