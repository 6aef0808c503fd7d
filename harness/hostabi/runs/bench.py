"""How fast the harness is, measured against what it promises.

Where something can be compared, both sides are measured in the same run and
the figure is their ratio: seconds depend on the machine, ratios hardly do.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hostabi.agent.program import Call, Program
from hostabi.errors import GuestHangError
from hostabi.guest import cpio, image
from hostabi.kernels.static import Static
from hostabi.machine import argv, emulator, machine
from hostabi.packages.cache import Cache
from hostabi.runs import bench_captures, bench_fuzz
from hostabi.runs.figure import Figure
from hostabi.runs.guests import Guests
from hostabi.runs.lockstep import Lockstep
from hostabi.syscalls.cases import Case, Script
from hostabi.syscalls.table import number

if TYPE_CHECKING:
    from hostabi.agent.client import Agent

_BATCH = 16
_LOCKSTEP_SECONDS = 5.0
_PINGS = 200
_PROGRAMS = 50
_BARE_DEADLINE = 60.0
_MARK = b"bare-busybox-is-up"


def static(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """BTF, syscall names and configuration of one build, with nothing cached."""
    build = guests.build(specs[-1])
    with tempfile.TemporaryDirectory(prefix="hostabi-bench-") as folder:
        began = time.perf_counter()
        read = Static(build, Cache(Path(folder)))
        names, options = len(read.syscall_names), len(read.config)
        seconds = time.perf_counter() - began
    note = f"{names} syscalls, {options} options"
    return [Figure("static", build.name, seconds, "s", 1.5, note=note)]


def cold(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """Power-on to hello, as a ratio to the same kernel that boots busybox alone."""
    figures = []
    for spec in specs:
        build = guests.build(spec)
        ours, bare = [], []
        for _ in range(2):
            with machine.start(
                build, guests.packages, accel=guests.accel, warm=False, progress=guests.progress
            ) as booted:
                ours.append(booted.started_in)
                taken = booted.accelerator
            bare.append(_bare_boot(guests, spec, taken))
        note = f"{min(ours):.2f} s; busybox alone {min(bare):.2f} s; {taken}"
        figures.append(Figure("cold", build.name, min(ours) / min(bare), "x", 1.3, note=note))
    return figures


def _bare_boot(guests: Guests, spec: str, accelerator: str) -> float:
    """Seconds from power-on until busybox, as init of a bare initramfs, prints a line."""
    build = guests.build(spec)
    assert build.image is not None
    script = f"#!/bin/busybox sh\n/bin/busybox echo {_MARK.decode()}\n/bin/busybox sleep 1000\n"
    content = cpio.archive(
        [
            cpio.directory("dev"),
            cpio.node("dev/console", 5, 1),
            cpio.file("bin/busybox", image.busybox(guests.packages), 0o755),
            cpio.file("init", script.encode(), 0o755),
        ]
    )
    found = emulator.find(guests.packages)
    with tempfile.TemporaryDirectory(prefix="hostabi-bench-") as folder:
        initramfs = Path(folder) / "initramfs"
        initramfs.write_bytes(content)
        options = argv.Options(kernel=build.image, initramfs=initramfs, accelerator=accelerator)
        command = [*found.command, *argv.machine(options), *argv.boot(options), "-serial", "stdio"]
        began = time.perf_counter()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **found.environment},
        ) as process:
            try:
                assert process.stdout is not None
                _await_mark(process.stdout.fileno(), build.name)
                return time.perf_counter() - began
            finally:
                process.kill()


def _await_mark(console: int, name: str) -> None:
    seen = b""
    deadline = time.monotonic() + _BARE_DEADLINE
    while _MARK not in seen:
        left = deadline - time.monotonic()
        ready = select.select([console], [], [], max(left, 0))[0]
        data = os.read(console, 65536) if ready else b""
        if not data:
            raise GuestHangError(
                f"{name}: busybox alone printed nothing in {_BARE_DEADLINE:g} s",
                console=seen.decode(errors="replace"),
            )
        seen = (seen + data)[-65536:]


def warm(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """Restore, with the saved state checked, to the first answered program."""
    figures = []
    for spec in specs:
        build = guests.build(spec)

        def start() -> float:
            began = time.perf_counter()
            with machine.start(
                build,  # noqa: B023 - called in this turn of the loop only
                guests.packages,
                accel=guests.accel,
                progress=guests.progress,
            ) as restored:
                restored.agent.run([_ten_calls()])
                return time.perf_counter() - began

        start()  # makes the saved state if there is none
        times = [start() for _ in range(3)]
        note = f"best of {len(times)}, slowest {max(times):.2f} s"
        figures.append(Figure("warm", build.name, min(times), "s", 0.5, note=note))
    return figures


def wire(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """A ping, and a program of ten syscalls in a fresh child."""
    figures = []
    for spec in specs:
        with guests.agent(spec) as agent:
            pings = [agent.ping() * 1e3 for _ in range(_PINGS)]
            programs = [_run_once(agent) * 1e3 for _ in range(_PROGRAMS)]
        name = guests.build(spec).name
        figures.append(Figure("ping", name, statistics.median(pings), "ms", 1.0))
        note = f"95 % under {statistics.quantiles(programs, n=20)[-1]:.2f} ms"
        figures.append(
            Figure("ten syscalls", name, statistics.median(programs), "ms", 4.0, note=note)
        )
    return figures


def _ten_calls() -> Program:
    return Program(calls=(Call(number("getppid"), ()),) * 10)


def _run_once(agent: Agent) -> float:
    program = _ten_calls()
    began = time.perf_counter()
    agent.run([program])
    return time.perf_counter() - began


def lockstep(guests: Guests, specs: Sequence[str]) -> list[Figure]:
    """Examples a second, each a program of ten calls that hypothesis drew, on every kernel.

    Each runs in a bare forked child. Beside it the bound: what the guests
    themselves can run in the same batches when nothing is drawn or compared.
    """
    with guests.agents(specs) as agents:
        together = Lockstep(agents)
        together.run([_ten_calls()] * _BATCH)
        _explore(together, _LOCKSTEP_SECONDS / 10)
        bound = _bound(together)
        began, before = time.perf_counter(), together.programs
        _explore(together, _LOCKSTEP_SECONDS)
        rate = (together.programs - before) / (time.perf_counter() - began)
    note = f"on {len(specs)} kernels, {_BATCH} programs a message; the guests alone {bound:.0f}"
    return [Figure("lockstep", "all", rate, "programs/s", 60.0, higher=True, note=note)]


def _bound(together: Lockstep) -> float:
    """Programs a second of one message sent over and over."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < _LOCKSTEP_SECONDS / 2:
        count += len(together.run([_ten_calls()] * _BATCH))
    return count / (time.perf_counter() - began)


def _explore(together: Lockstep, seconds: float) -> None:
    """Let hypothesis draw batches of programs and compare them, for about ``seconds``."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        _agree(together, until)


def _agree(together: Lockstep, until: float) -> None:
    @settings(
        max_examples=10,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(_CASES, min_size=_BATCH, max_size=_BATCH))
    def batch(cases: list[Case]) -> None:
        if time.perf_counter() < until:
            together.agree(cases)

    batch()


def _case(values: list[tuple[str, int, int]]) -> Case:
    script = Script()
    for name, first, second in values:
        script.call(name, first, second)
    return script.case()


_CASES = st.lists(
    st.tuples(st.sampled_from(["dup", "dup2", "close"]), st.integers(0, 9), st.integers(0, 9)),
    min_size=10,
    max_size=10,
).map(_case)
"""Programs of ten calls on descriptors; the same everywhere, and cheap in a kernel."""


MEASURES: dict[str, Callable[[Guests, Sequence[str]], list[Figure]]] = {
    "static": static,
    "cold": cold,
    "warm": warm,
    "wire": wire,
    "lockstep": lockstep,
    "fuzz": bench_fuzz.fuzz,
    "looks": bench_captures.looks,
    "packages": bench_captures.packages,
}
"""Every measurement by name."""
