"""Machines without QEMU: a program that acts it out, in all the ways it can go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hostabi.errors import (
    AgentLostError,
    EmulatorExitError,
    GuestHangError,
    GuestOopsError,
    GuestPanicError,
    HostabiError,
    InputError,
    MachineError,
    MissingFeatureError,
    ProtocolError,
    StorageError,
    VerificationError,
)
from hostabi.guest.disk import Disk
from hostabi.guest.image import GuestImage
from hostabi.kernels.build import Build
from hostabi.machine import accelerator, argv, console, states
from hostabi.machine import machine as machines
from hostabi.machine.emulator import Emulator, find, installed, parse_version
from hostabi.machine.machine import Plan, boot, restore
from hostabi.machine.run import Run
from hostabi.model import Variant
from hostabi.packages.cache import Cache
from hostabi.packages.context import Packages
from hostabi.packages.sources import Mirror
from hostabi.progress import Silent

FAKE = Path(__file__).parent / "fake_qemu.py"


class Said(Silent):
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan whose QEMU is the fake."""
    kernel = tmp_path / "bzImage"
    kernel.write_bytes(b"kernel")
    build = Build(
        "6.1", "6.1.0-1", "6.1.0-fake", "1", "cloud", {"a.deb": "0"}, "bookworm", kernel, None,
        None, "d" * 64,
    )  # fmt: skip
    options = argv.Options(kernel, kernel, "kvm")  # so that deadlines are not multiplied
    emulator = Emulator((sys.executable, str(FAKE)), "7.2.0 (fake)", "key", "test")
    return Plan(build, Variant(), emulator, GuestImage(kernel, (), None, "image"), options)


def act(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("HOSTABI_FAKE", mode)


def children() -> set[int]:
    """Processes whose parent we are, dead ones that nobody collected included."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    return {int(pid) for pid in found.stdout.split()}


def test_a_machine_serves_and_leaves_nothing(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    act(monkeypatch, "serve")
    with boot(plan) as machine:
        assert machine.agent.hello.release == "6.1.0-fake"
        assert machine.agent.ping() < 5
        assert "a kernel begins" in machine.console_tail
        assert machine.console.read_bytes().startswith(b"[    0.0]")
        pid = machine.run.process.pid
        assert os.getsid(pid) == pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("exit", EmulatorExitError, "I will not start"),
        ("die", EmulatorExitError, "exited with status 3"),
        ("panic", GuestPanicError, "panicked"),
        ("reset", EmulatorExitError, "reset itself"),
        ("close", AgentLostError, "channel closed"),
        ("garbage", ProtocolError, "."),
        ("hang", GuestHangError, "does not answer"),
        ("small", InputError, "lacks /hostabi/boot"),
        ("lacking", MachineError, "not complete: disk modules at /lib/modules: gone"),
    ],
)
def test_failures_are_told_apart(
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    kind: type[HostabiError],
    words: str,
) -> None:
    act(monkeypatch, mode)
    monkeypatch.setattr("hostabi.machine.run._SETTLE", 0.5)
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        boot(plan, deadline=1.5 if mode == "hang" else 20)
    assert time.monotonic() - began < 10
    assert type(caught.value) is kind
    assert caught.value.advice
    if isinstance(caught.value, MachineError) and mode != "exit":
        assert "a kernel begins" in caught.value.console
    if mode == "panic":
        assert "Kernel panic - not syncing: acted out" in str(caught.value)
    assert caught.value.exit_code == (2 if kind in (ProtocolError, InputError) else 3)


def test_a_monitor_that_never_greets(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    act(monkeypatch, "mute")
    monkeypatch.setattr("hostabi.machine.run._SETTLE", 0.2)
    with pytest.raises(GuestHangError, match="does not talk"):
        Run(plan.emulator, plan.options, spawn_deadline=1.0)


def test_a_qemu_that_is_not_there(plan: Plan) -> None:
    missing = Emulator(("/nonexistent/qemu",), "", "", "")
    with pytest.raises(EmulatorExitError):
        Run(missing, plan.options)


def test_a_killed_qemu_is_noticed(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    act(monkeypatch, "serve")
    with boot(plan) as machine:
        os.kill(machine.run.process.pid, signal.SIGKILL)
        with pytest.raises(EmulatorExitError, match="killed by SIGKILL"):
            machine.agent.ping()


@pytest.mark.parametrize("mode", ["serve", "oops"])
def test_an_oops_that_does_not_panic(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    act(monkeypatch, mode)
    with boot(plan) as machine:
        machine.agent.reset()
        if mode == "serve":
            assert machine.agent.command(["a"]).signal == signal.SIGKILL, "who killed it is its own"
            machine.agent.reset()
            return
        with pytest.raises(GuestOopsError, match="Oops: int3") as caught:
            machine.agent.command(["a"])
        assert "a kernel begins" in caught.value.console
        assert caught.value.advice
        with pytest.raises(GuestOopsError):
            machine.agent.ping()  # what such a kernel says is worth nothing


def test_trouble_on_the_console(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"[1] fine\n[2] Memory cgroup out of memory: Killed process 7\n[3] watchdog: BU"
    )
    line, at = console.trouble(log, 0)
    assert (line, at) == ("", log.read_bytes().rindex(b"[3]"))
    with log.open("ab") as file:
        file.write(b"G: soft lockup\n[4] Out of memory: Killed process 8\n")
    line, at = console.trouble(log, at)
    assert line == "[3] watchdog: BUG: soft lockup"
    assert console.trouble(log, at) == ("", at), "it is told once"
    log.write_bytes(b"Out of memory: Killed process 9\n")
    assert console.trouble(log, at)[0] == "Out of memory: Killed process 9", "the log was cut"
    assert console.trouble(tmp_path / "none", 3) == ("", 3)


def test_a_console_is_bounded(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:  # as QEMU writes
        writer.write(b"x" * 1000 + b"\nthe end\n")
        console.bound(log, 2000, 20)
        assert log.stat().st_size == 1009
        console.bound(log, 1000, 20)
        writer.write(b"and on\n")
    assert log.read_text().splitlines() == [
        "... (the beginning was dropped)",
        "x" * 11,
        "the end",
        "and on",
    ]
    console.bound(tmp_path / "none")
    act(monkeypatch, "serve")
    monkeypatch.setattr("hostabi.machine.run._LOOK", 0.01)
    looked = threading.Event()
    monkeypatch.setattr(console, "bound", lambda _: looked.set())
    with boot(plan):
        assert looked.wait(10)
        assert looked.clear() is None
        assert looked.wait(10), "again and again"
    looked.clear()
    assert not looked.wait(0.1), "until the machine is closed"


def saved(plan: Plan, cache: Cache) -> states.Saved:
    def make(path: Path) -> None:
        with boot(plan) as machine:
            machines._save(machine, path)

    return states.obtain(cache, plan.state_key, make, "fake")


def test_a_saved_machine_wakes(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    act(monkeypatch, "serve")
    state = saved(plan, Cache(tmp_path / "cache"))
    with restore(plan, state) as machine:
        assert machine.restored
        assert machine.agent.hello.release == "6.1.0-fake"


@pytest.mark.parametrize("harm", ["flip", "cut", "note"])
def test_a_damaged_state_is_not_used(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: str
) -> None:
    act(monkeypatch, "serve")
    cache = Cache(tmp_path / "cache")
    state = saved(plan, cache)
    harmed(state.path, harm)
    with pytest.raises(VerificationError):
        restore(plan, saved(plan, cache))


def harmed(state: Path, harm: str) -> None:
    """Damage a saved state in one of three ways."""
    data = bytearray(state.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        state.write_bytes(data)
    elif harm == "cut":
        state.write_bytes(data[:-100])
    else:
        state.with_name("note.json").write_bytes(b"{")


@pytest.mark.parametrize("harm", ["flip", "cut", "note"])
def test_start_boots_when_the_state_is_damaged(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: str
) -> None:
    act(monkeypatch, "serve")
    packages = Packages(Cache(tmp_path / "cache"), Mirror(None))
    monkeypatch.setattr(machines, "guest_image", lambda *_, **__: plan.image)
    monkeypatch.setattr(machines.emulator, "find", lambda _: plan.emulator)

    def start(said: Said) -> bool:
        with machines.start(plan.build, packages, accel="tcg", progress=said) as machine:  # type: ignore[arg-type]
            return machine.restored

    said = Said()
    assert start(said)
    (state,) = (tmp_path / "cache" / "states").glob("*/state")
    harmed(state, harm)
    assert not start(said)
    assert any("damaged" in line or "cut off" in line for line in said.lines)
    assert start(said), "the damaged state is made anew"
    act(monkeypatch, "cut")
    assert not start(said)
    act(monkeypatch, "die")
    with pytest.raises(EmulatorExitError):
        start(said)


@pytest.mark.parametrize("mode", ["small", "lacking"])
def test_a_guest_that_is_not_complete_is_not_saved(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    act(monkeypatch, mode)
    packages = Packages(Cache(tmp_path / "cache"), Mirror(None))
    monkeypatch.setattr(machines, "guest_image", lambda *_, **__: plan.image)
    monkeypatch.setattr(machines.emulator, "find", lambda _: plan.emulator)
    said = Said()
    with pytest.raises(InputError if mode == "small" else MachineError):
        machines.start(plan.build, packages, accel="tcg", progress=said)  # type: ignore[arg-type]
    assert not list((tmp_path / "cache" / "states").glob("*/state"))
    assert not said.lines, "booting again would only fail again"


def test_what_a_state_depends_on() -> None:
    base = ["image", "guest", "qemu", "tcg", ["-m", "512M"]]
    keys = {states.key_of(*base)}  # type: ignore[arg-type]
    for index, other in enumerate(["x", "x", "x", "kvm", ["-m", "1G"]]):
        changed = [*base]
        changed[index] = other
        keys.add(states.key_of(*changed))  # type: ignore[arg-type]
    assert len(keys) == 6


def test_identity_has_no_folder_in_it(tmp_path: Path) -> None:
    def made(folder: Path) -> list[str]:
        return argv.identity(
            argv.Options(folder / "k", folder / "i", "tcg", disks=(Disk("a", folder / "d", "/a"),))
        )

    assert made(tmp_path / "one") == made(tmp_path / "two")


def test_arguments() -> None:
    options = argv.Options(
        Path("/k,1"), Path("/i"), "tcg", memory=256, cpus=2, parameters=("foo=1",),
        disks=(Disk("modules", Path("/m,x"), "/lib/modules"),), scratch=Path("/s"),
    )  # fmt: skip
    words = argv.arguments(options, argv.Descriptors(5, 6, 7, 8))
    line = " ".join(words)
    assert "tcg,thread=single" in words
    assert words[words.index("-smp") + 1] == "2"
    assert words[words.index("-m") + 1] == "256M"
    assert words[words.index("-nic") + 1] == "none"
    assert words[words.index("-kernel") + 1] == "/k,1"
    assert words[words.index("-append") + 1].endswith(" foo=1")
    assert "mitigations" not in line
    assert "readonly=on,file=/m,,x" in line
    assert "snapshot=on,file=/s" in line
    assert "-incoming" not in words
    assert "-incoming" in argv.arguments(options, argv.Descriptors(5, 6, 7, 8), restore=True)


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_emulation_is_never_threaded(cpus: int) -> None:
    options = argv.Options(Path("k"), Path("i"), "tcg", cpus=cpus)
    assert "thread=single" in argv.machine(options)[argv.machine(options).index("-accel") + 1]


def test_console_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\x1b[0m\r\n" % n for n in range(100)))
    assert console.tail(log, 3) == "line 97\nline 98\nline 99"
    assert console.tail(tmp_path / "none") == ""
    with log.open("ab") as file:
        file.write(b"Kernel panic - not syncing: x\n" + b"call\n" * 50 + b"the end\n")
    shown = console.tail(log, 20).splitlines()
    assert shown[0].startswith("Kernel panic")
    assert shown[-1] == "the end"
    assert len(shown) == 20
    assert console.panicked(log)
    log.write_bytes(b"\xff" * (1 << 20))
    assert len(console.tail(log)) <= 40 << 10


def test_versions() -> None:
    assert parse_version("7.2.22 (Debian 1:7.2+dfsg)") == (7, 2)
    assert parse_version("10.0.13") == (10, 0)
    assert parse_version("none") == (0, 0)


def test_a_named_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Packages(Cache(tmp_path / "cache"), Mirror(None))
    script = tmp_path / "qemu"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("HOSTABI_QEMU", str(script))
    assert find(packages).version == "7.2.0 (fake)"
    script.write_text("#!/bin/sh\nexit 1\n")
    os.utime(script, (1, 1))
    assert installed(script) is None
    with pytest.raises(InputError, match="HOSTABI_QEMU"):
        find(packages)


def test_choice_of_accelerator(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    tries: list[str] = []

    def fails() -> None:
        tries.append("failed")
        raise GuestHangError("nothing on the console\nand more")

    said = Said()

    def choose(choice: str, boots: object = fails, *, lasting: bool = True) -> str:
        return accelerator.choose(
            choice,
            plan.emulator,
            cache,
            boots,
            lasting=lasting,
            progress=Progressing(said),  # type: ignore[arg-type]
        )

    with pytest.raises(InputError):
        choose("hvf")
    assert choose("tcg") == "tcg"
    monkeypatch.setattr(accelerator, "openable", lambda: "no such file")
    assert choose("auto") == "tcg"
    with pytest.raises(MachineError, match="no such file"):
        choose("kvm")
    monkeypatch.setattr(accelerator, "openable", lambda: "")
    assert choose("kvm") == "kvm"
    assert not tries
    assert choose("auto", lasting=False) == "tcg"
    assert choose("auto") == "tcg"
    assert choose("auto") == "tcg"
    assert tries == ["failed", "failed"], "a lasting verdict is remembered"
    assert said.lines == ["emulating, as KVM does not run kernels here: nothing on the console"], (
        "and it is said once"
    )
    monkeypatch.setattr(accelerator, "_told", set())
    assert choose("auto") == "tcg"
    assert len(said.lines) == 2, "what is remembered is said too"
    verdict = accelerator.remembered(cache, plan.emulator)
    assert verdict is not None
    assert (verdict.works, verdict.why) == (False, "nothing on the console\nand more")
    monkeypatch.setattr(accelerator.time, "time", lambda: verdict.when + 86_401)
    assert accelerator.remembered(cache, plan.emulator) is None
    assert choose("auto", lambda: None) == "kvm", "a bad verdict does not last for ever"
    monkeypatch.setattr(accelerator.time, "time", lambda: verdict.when + 1e9)
    assert choose("auto") == "kvm", "a good one does"
    assert len(tries) == 2


@pytest.mark.parametrize(
    "error", [StorageError("full"), InputError("no"), MissingFeatureError("CONFIG_X")]
)
def test_what_has_nothing_to_do_with_kvm_is_no_verdict(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: HostabiError
) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr(accelerator, "openable", lambda: "")

    def fails() -> None:
        raise error

    with pytest.raises(type(error)):
        accelerator.choose("auto", plan.emulator, cache, fails)
    assert accelerator.remembered(cache, plan.emulator) is None


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("serve", ""),
        ("kvm-die", "exited with status 3"),
        ("kvm-exit", "I will not start"),
        ("kvm-hang", "does not answer"),
    ],
)
def test_a_kvm_that_does_not_run_kernels(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, words: str
) -> None:
    act(monkeypatch, mode)
    packages = Packages(Cache(tmp_path / "cache"), Mirror(None))
    seen: list[Variant] = []

    def made(
        _build: Build, _packages: Packages, variant: Variant, *_: object, **__: object
    ) -> GuestImage:
        seen.append(variant)
        return plan.image

    monkeypatch.setattr(machines, "guest_image", made)
    monkeypatch.setattr(machines.emulator, "find", lambda _: plan.emulator)
    monkeypatch.setattr(accelerator, "openable", lambda: "")
    monkeypatch.setattr(accelerator, "_told", set())
    monkeypatch.setattr(accelerator, "PROBE_DEADLINE", 1.5 if mode == "kvm-hang" else 20)
    monkeypatch.setattr("hostabi.machine.run._SETTLE", 0.5)
    said = Said()
    odd = Variant(parameters=("init=/nothing",))
    for _ in range(2):
        with machines.start(
            plan.build,
            packages,
            variant=odd,
            warm=False,
            progress=Progressing(said),  # type: ignore[arg-type]
        ) as machine:
            assert machine.accelerator == ("tcg" if words else "kvm")
    assert seen == [odd, Variant(), odd], "the probe boots a plain guest, once"
    assert len(said.lines) == (1 if words else 0)
    assert all(words in line for line in said.lines)


class Progressing:
    """A full progress around one that remembers."""

    def __init__(self, said: Said) -> None:
        self.say = said.say

    def task(self, label: str, total: int | None = None, unit: str = "") -> object:
        from contextlib import nullcontext

        return nullcontext()
