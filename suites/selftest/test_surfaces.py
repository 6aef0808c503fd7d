"""Surfaces on an agent that only pretends, and on the kernel we are on."""

from __future__ import annotations

import dataclasses
import errno
import gzip
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from kernelfakes import make_bzimage, make_elf

from hostabi.agent.client import Agent
from hostabi.agent.program import End, Program, Ran, Sandbox
from hostabi.agent.records import Completed, Entry, Hello
from hostabi.diff.compare import by_key
from hostabi.errors import CallError, HostabiError, InputError
from hostabi.kernels.build import Build
from hostabi.kernels.static import Static
from hostabi.model import Certainty, Cgroup, Fact, Kind, Variant
from hostabi.packages.cache import Cache
from hostabi.surfaces import config, registry, syscalls, sysctls, witnesses
from hostabi.surfaces.origins import origins
from hostabi.surfaces.source import Source
from hostabi.syscalls import table

FORMAT = """name: sys_enter_openat
ID: 690
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
\tfield:umode_t mode;\toffset:40;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] __filename_val;\toffset:48;\tsize:4;\tsigned:0;

print fmt: "dfd: 0x%08lx"
"""

KALLSYMS = """ffffffff81000000 T __x64_sys_openat
ffffffff81000010 t __x64_sys_newfstat
0000000000000000 T __x64_sys_uselib
0000000000000000 T __ia32_sys_openat
0000000000000000 W __x64_sys_io_setup
0000000000000000 t _eil_addr___x64_sys_close
0000000000000000 t helper\t[some_module]
"""


def sysctl(name: str, content: bytes | None, *, mode: int = 0o644, **more: object) -> Entry:
    entry = Entry(f"/proc/sys/{name}", "f", mode, 0, 0, 0, 0, "", content, 0, True)
    return dataclasses.replace(entry, **more)  # type: ignore[arg-type]


@dataclasses.dataclass
class FakeAgent:
    """Answers what the surfaces ask; ``looks`` are what one walk after another finds."""

    working: frozenset[int] = frozenset()
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    looks: list[list[Entry]] = dataclasses.field(default_factory=list)
    inside: list[Entry] | None = None
    euid: int = 0
    ends: dict[int, Ran] = dataclasses.field(default_factory=dict)
    commands: list[list[str]] = dataclasses.field(default_factory=list)
    requests: int = 0

    @property
    def hello(self) -> Hello:
        return Hello("6.1.0-x", "x86_64", True, self.euid, 1, 1 << 29, (), (), frozenset())

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        if path not in self.files:
            raise CallError(f"{path}: no such file", errno=errno.ENOENT)
        return self.files[path][:limit]

    def walk(self, path: str, *, contents: int = 0, sandbox: Sandbox | None = None) -> list[Entry]:
        if sandbox is None:
            return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if self.inside is None:
            raise CallError("no namespaces here", errno=errno.EPERM)
        return self.inside

    def command(self, argv: Sequence[str], *, limit: int = 0) -> Completed:
        self.commands.append(list(argv))
        said = b"".join(self.files.get(word, b"") for word in argv)
        return Completed(0, 0, said[:limit], b"", timed_out=False, truncated=False)

    def run(self, programs: Sequence[Program], sandbox: Sandbox = Sandbox()) -> list[Ran]:
        return [self._ran(program) for program in programs]

    def _ran(self, program: Program) -> Ran:
        numbers = [call.number for call in program.calls]
        values = tuple(-(errno.EBADF if n in self.working else errno.ENOSYS) for n in numbers)
        ended = (self.ends[number] for number in numbers if number in self.ends)
        return next(ended, Ran(End.EXITED, 0, values))


def source(agent: FakeAgent, static: object = None) -> Source:
    return Source(cast(Agent, agent), cast(Static, static) if static else None)


def captured(agent: FakeAgent) -> dict[str, Fact]:
    return by_key(sysctls.SURFACE.capture(source(agent)))


def test_every_surface_is_registered_once() -> None:
    names = [surface.name for surface in registry.ALL]
    assert {"config", "syscalls", "sysctls"} <= set(names)
    assert len(names) == len(set(names))
    with pytest.raises(InputError, match="no surface is called weather"):
        registry.named(["config", "weather"])


def test_a_surface_that_fails_leaves_the_others() -> None:
    agent = FakeAgent(looks=[[sysctl("vm/x", b"1\n")]])
    measured = registry.measure(source(agent), registry.named(["config", "syscalls", "sysctls"]))
    assert set(measured.failed) == {"config"}
    assert set(measured.surfaces) == {"syscalls", "sysctls"}


@dataclasses.dataclass(frozen=True)
class Named:
    name: str
    loads: bool = False
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        return True

    def capture(self, source: Source) -> list[Fact]:
        return [Fact(self.name, 1)]


def test_surfaces_that_load_modules_come_last() -> None:
    surfaces = [Named("a"), Named("b", loads=True), Named("c"), Named("d", loads=True)]
    here = source(FakeAgent())
    assert list(registry.measure(here, surfaces).surfaces) == ["a", "c", "b", "d"]
    assert list(registry.measure(here, surfaces[::-1]).surfaces) == ["c", "a", "d", "b"]


def test_a_surface_is_skipped_in_a_variant_it_is_not_for() -> None:
    class Picky:
        name = "picky"
        variants = (Variant(cgroup=Cgroup.V1),)

        def possible(self, source: Source) -> bool:
            return True

        def capture(self, source: Source) -> list[Fact]:
            return [Fact("a", 1)]

    here = Source(cast(Agent, FakeAgent()), None, Variant())
    assert registry.measure(here, [Picky()]).skipped == ("picky",)
    there = dataclasses.replace(here, variant=Variant(cgroup=Cgroup.V1, cpus=2))
    assert registry.measure(there, [Picky()]).surfaces == {"picky": [Fact("a", 1)]}


def test_argument_types() -> None:
    assert syscalls.argument_types(FORMAT) == ["int", "const char*", "umode_t"]
    assert syscalls.argument_types("garbage") == []


def test_symbols_without_stubs() -> None:
    assert witnesses.kallsyms_names(KALLSYMS) == {"newfstat", "openat", "uselib"}


def test_names_that_are_traced() -> None:
    text = b"x\0sys_openat\0sys_read\0bpf_sys_close\0not_sys_uselib\0sys_broken"
    assert witnesses.traced_names(text, {"close"}) == {"openat", "read", "close"}


class FakeBuild:
    image = None


class FakeStatic:
    build = FakeBuild()
    syscall_names = frozenset({"openat", "close", "newfstat"})


def test_the_probe_decides_and_disagreement_is_told() -> None:
    openat, fstat, close, uselib = map(table.number, ("openat", "fstat", "close", "uselib"))
    folder = "/sys/kernel/tracing/events/syscalls"
    agent = FakeAgent(
        working=frozenset({openat, fstat, close}),
        files={
            "/proc/kallsyms": KALLSYMS.encode(),
            f"{folder}/sys_enter_openat/format": FORMAT.encode(),
            f"{folder}/sys_enter_close/format": FORMAT.replace("openat", "unknown").encode(),
        },
    )
    facts = by_key(syscalls.SURFACE.capture(source(agent, FakeStatic())))
    assert facts["openat"].value == "ok"
    assert facts["openat"].how == "probe+btf+kallsyms"
    assert facts["openat"].certainty is Certainty.PROBED
    assert facts["openat#arguments"].value == "int, const char*, umode_t"
    assert facts["fstat"].certainty is Certainty.PROBED  # its entry point is newfstat
    assert facts["uselib"].value == "ENOSYS"
    assert facts["uselib"].certainty is Certainty.CONTRADICTED
    assert "kallsyms" in facts["uselib"].detail
    assert "read" not in facts
    assert uselib not in agent.working


def test_a_number_without_a_name_is_a_fact() -> None:
    agent = FakeAgent(working=frozenset({699}), files={"/proc/kallsyms": b""})
    facts = by_key(syscalls.SURFACE.capture(source(agent)))
    assert list(facts) == ["syscall_699"]


@pytest.mark.parametrize(
    "ran",
    [Ran(End.TIMED_OUT, 0, ()), Ran(End.SIGNALLED, 11, ()), Ran(End.EXITED, 255, ())],
)
def test_a_call_that_does_not_return_is_implemented(ran: Ran) -> None:
    answers = syscalls.probe(cast(Agent, FakeAgent(ends={34: ran})))
    assert answers[34]
    assert not answers[35]


def test_one_that_ends_its_process_does_not_hide_the_others() -> None:
    leaves = table.number("exit")
    neighbours = frozenset({leaves - 1, leaves + 1})
    fake = FakeAgent(working=neighbours, ends={leaves: Ran(End.EXITED, 255, ())})
    answers = syscalls.probe(cast(Agent, fake))
    assert {number for number, there in answers.items() if there} == {*neighbours, leaves}


def test_a_sandbox_that_is_refused_is_the_harness_s_failure() -> None:
    refused = Ran(End.REFUSED, errno.EPERM, (), (), "clone")
    with pytest.raises(HostabiError, match="could not be probed: clone"):
        syscalls.probe(cast(Agent, FakeAgent(ends={5: refused})))


def test_without_a_kernel_the_entry_points_decide() -> None:
    facts = by_key(syscalls.SURFACE.capture(Source(None, cast(Static, FakeStatic()))))
    assert set(facts) == {"openat", "close", "fstat"}
    assert facts["fstat"].certainty is Certainty.DERIVED


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1\n", "integer"),
        ("-1\n", "integer"),
        ("4096\t131072\t6291456\n", "3 integers"),
        ("0000ffff,ffffffff\n", "bitmap"),
        ("1024-2048,8080\n", "text"),
        ("", "text"),
        ("cubic reno\n", "text"),
        ("a\nb\n", "lines"),
        ("6f1e0fd5-9b0f-4b5e-a1a6-5d1a0f0e7c11\n", "uuid"),
    ],
)
def test_types(text: str, shape: str) -> None:
    assert sysctls.type_of(text) == shape


def test_values() -> None:
    assert sysctls.value_of("reno cubic\n") == (["cubic", "reno"], Kind.MEMBERS)
    assert sysctls.value_of("60 \t 5\n") == ("60 5", Kind.DEFAULT)
    assert sysctls.value_of("core\n") == ("core", Kind.DEFAULT)


def test_names() -> None:
    assert sysctls.name_of("/proc/sys/net/core/somaxconn") == "net.core.somaxconn"
    assert sysctls.name_of("/proc/sys/net/ipv4/conf/eth0.5/x") == "net.ipv4.conf.eth0/5.x"


def test_a_sysctl_s_facts() -> None:
    look = [sysctl("vm/x", b"5\n"), sysctl("vm/drop", None, mode=0o200, error=errno.EACCES)]
    facts = captured(FakeAgent(looks=[look], inside=[dataclasses.replace(look[0], writable=False)]))
    assert {key: fact.value for key, fact in facts.items()} == {
        "vm.drop": "file",
        "vm.drop#mode": "0200",
        "vm.drop#access": "hidden",
        "vm.x": "file",
        "vm.x#access": "readable",
        "vm.x#mode": "0644",
        "vm.x#type": "integer",
        "vm.x#value": "5",
    }
    assert facts["vm.x#value"].kind is Kind.DEFAULT


def test_what_a_namespace_starts_with_is_told_where_it_differs() -> None:
    look = [sysctl("net/x", b"5\n"), sysctl("net/y", b"5\n")]
    inside = [sysctl("net/x", b"7\n"), sysctl("net/y", b"5\n")]
    facts = captured(FakeAgent(looks=[look], inside=inside))
    assert facts["net.x#access"].value == "writable"
    assert facts["net.x#userns-value"].value == "7"
    assert "net.y#userns-value" not in facts


def test_a_value_that_changes_by_itself_is_not_another_one_inside() -> None:
    """Else the fact would come and go with the moment of the two looks."""
    looks = [[sysctl("net/x", b"5\n")], [sysctl("net/x", b"6\n")]]
    facts = captured(FakeAgent(looks=looks, inside=[sysctl("net/x", b"7\n")]))
    assert facts["net.x#value"].kind is Kind.VOLATILE
    assert "net.x#userns-value" not in facts


def test_modules_are_loaded_by_root_only() -> None:
    look = [[sysctl("vm/x", b"5\n")]]
    root, nobody = FakeAgent(looks=look), FakeAgent(looks=look, euid=65534)
    captured(root)
    captured(nobody)
    assert root.commands == [["modprobe", "-a", *sysctls.MODULES]]
    assert nobody.commands == []


def test_without_namespaces_nothing_is_said_about_them() -> None:
    facts = captured(FakeAgent(looks=[[sysctl("vm/x", b"5\n")]]))
    assert not [key for key in facts if "userns" in key or "access" in key]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"1\n", b"2\n"),
        (b"6f1e0fd5-9b0f-4b5e-a1a6-5d1a0f0e7c11\n", b"6f1e0fd5-9b0f-4b5e-a1a6-5d1a0f0e7c11\n"),
        (b":".join([b"00"] * 52), b":".join([b"00"] * 52)),
        (b"6.1.0-x\n", b"6.1.0-x\n"),
        (b"#1 SMP PREEMPT_DYNAMIC D 6.1\n", b"#1 SMP PREEMPT_DYNAMIC D 6.1\n"),
    ],
)
def test_what_moves_or_names_the_build_has_no_value(first: bytes, second: bytes) -> None:
    version = b"Linux version 6.1.0-x (gcc) #1 SMP PREEMPT_DYNAMIC D 6.1\n"
    looks = [[sysctl("kernel/x", first)], [sysctl("kernel/x", second)]]
    facts = captured(FakeAgent(looks=looks, files={"/proc/version": version}))
    assert facts["kernel.x#value"].kind is Kind.VOLATILE
    assert facts["kernel.x#value"].value is None
    assert facts["kernel.x#value"].detail


def test_hardware_values_keep_their_value() -> None:
    facts = captured(FakeAgent(looks=[[sysctl("kernel/threads-max", b"3000\n")]]))
    assert facts["kernel.threads-max#value"] == Fact(
        "kernel.threads-max#value",
        "3000",
        Kind.HARDWARE,
        detail=facts["kernel.threads-max#value"].detail,
    )
    assert "Documentation/" in facts["kernel.threads-max#value"].detail


def test_what_is_there_for_each_cpu_follows_the_hardware() -> None:
    facts = captured(FakeAgent(looks=[[sysctl("kernel/sched_domain/cpu0/x", b"3000\n")]]))
    name = "kernel.sched_domain.cpu0.x"
    assert facts[name].kind is Kind.HARDWARE
    assert facts[f"{name}#value"].kind is Kind.VOLATILE


def test_a_read_that_fails_is_the_type_unless_we_may_not_read() -> None:
    look = [sysctl("net/x", None, error=errno.EIO), sysctl("net/y", None, error=errno.EACCES)]
    assert captured(FakeAgent(looks=[look]))["net.x#type"].value == "EIO"
    assert captured(FakeAgent(looks=[look]))["net.y#type"].value == "EACCES"
    assert "net.y#type" not in captured(FakeAgent(looks=[look], euid=65534))


def test_documented_origins_have_a_reason() -> None:
    table = origins()
    assert {origin.kind for origin in table.values()} == {Kind.HARDWARE, Kind.VOLATILE}
    assert all(origin.reason and origin.source for origin in table.values())


def test_configuration() -> None:
    text = '# comment\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D="x"\nCONFIG_E=5\n'
    facts = config.facts(text, how="package", certainty=Certainty.DERIVED)
    assert {fact.key: fact.value for fact in facts} == {
        "CONFIG_A": "y",
        "CONFIG_B": "m",
        "CONFIG_C": "n",
        "CONFIG_D": "x",
        "CONFIG_E": "5",
    }
    assert {fact.kind for fact in facts} == {Kind.DEFAULT}


def test_a_packed_configuration_is_unpacked(tmp_path: Path) -> None:
    """As /proc/config.gz of the kernel that runs is; nothing in it is no surface at all."""
    packed = tmp_path / "config.gz"
    packed.write_bytes(gzip.compress(b"CONFIG_A=y\n# CONFIG_B is not set\n"))
    build = cast(Build, SimpleNamespace(config=packed))
    static = Static(build, Cache(tmp_path))
    found = {fact.key: fact.value for fact in config.SURFACE.capture(source(FakeAgent(), static))}
    assert found == {"CONFIG_A": "y", "CONFIG_B": "n"}
    packed.write_bytes(gzip.compress(b"# nothing\n"))
    with pytest.raises(HostabiError, match="no CONFIG_ setting"):
        config.SURFACE.capture(source(FakeAgent(), Static(build, Cache(tmp_path))))


def test_a_configuration_from_the_kernel_that_runs_or_the_image(tmp_path: Path) -> None:
    shown = FakeAgent(files={"/proc/config.gz": gzip.compress(b"CONFIG_A=m\n")})
    (fact,) = config.SURFACE.capture(source(shown))
    assert (fact.value, fact.how, fact.certainty) == ("m", "/proc/config.gz", Certainty.READ)
    image = tmp_path / "bzImage"
    kept = b"IKCFG_ST" + gzip.compress(b"CONFIG_A=y\n") + b"IKCFG_ED"
    image.write_bytes(make_bzimage(make_elf({".rodata": kept})))
    build = cast(Build, SimpleNamespace(config=None, image=image, name="x"))
    alone = Source(None, Static(build, Cache(tmp_path)))
    assert config.SURFACE.possible(alone)
    (fact,) = config.SURFACE.capture(alone)
    assert (fact.value, fact.how, fact.certainty) == ("y", "image", Certainty.DERIVED)


def test_a_kernel_without_its_configuration() -> None:
    with pytest.raises(HostabiError, match="does not show its configuration"):
        config.SURFACE.capture(source(FakeAgent()))
    with pytest.raises(HostabiError, match="corrupt"):
        config.SURFACE.capture(
            source(FakeAgent(files={"/proc/config.gz": b"\x1f\x8b\x08nonsense"}))
        )
