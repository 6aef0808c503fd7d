"""Reproducers are run: on this kernel, on headers of our own, and on files; and are published."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from test_diff import capture

from hostabi.agent.client import Agent
from hostabi.agent.program import Sandbox, Scratch
from hostabi.diff import keys
from hostabi.errors import MachineError
from hostabi.kernels.headers import compiles
from hostabi.model import Class as Grade
from hostabi.model import Delta, Fact, Finding, Kind, Value
from hostabi.packages.cache import Cache
from hostabi.progress import SILENT
from hostabi.results import reproducers as published
from hostabi.runs import reproduce
from hostabi.runs.exits import Exits
from hostabi.runs.guests import Guests
from hostabi.runs.reproduce import Lacking, Shown, Subject, program, run_one, subjects
from hostabi.surfaces import config, formats, probing, reproducers, trees, type_declarations
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions, probe_reproducer
from hostabi.surfaces.reproducers import Language, Needs, Reproducer
from hostabi.syscalls import sensitive, slices
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

pytest_plugins = ("localagent",)

CONTENTS = {
    "number": "17\n",
    "text": "(null)\n",
    "choice": "always [madvise] never\n",
    "keyed": "Name:\tsh\nUmask:\t0022\n",
    "flat keyed": "nr_free 12\nnr_dirty 3\n",
    "names": "nodev\tproc\n\text4\n",
    "named pairs": "Ip: A B\nIp: 1 2\n",
    "fields": "1 2 3\n4 5 6\n",
    "mounts": "22 1 0:20 / /proc rw shared:5 - proc proc rw\n",
}


def status(made: Reproducer | None, **environment: str) -> int:
    assert made is not None
    assert made.language is Language.SHELL
    env = {**os.environ, **environment}
    return subprocess.run(["sh", "-c", made.text], check=False, env=env).returncode


@pytest.mark.parametrize("name", CONTENTS)
def test_a_format_is_told_from_others(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    made = formats.file_has_format(str(file), name)
    assert status(made) == 1, "there is no file"
    file.write_text(CONTENTS[name])
    assert status(made) == 0
    others = {"number": "one two\n", "text": "17\n"}
    file.write_text(others.get(name, "17\n"))
    assert status(made) == 1


def test_a_table_takes_more_than_a_line() -> None:
    assert formats.file_has_format("/proc/net/dev", "table") is None


@pytest.mark.parametrize(
    ("aspect", "value", "other"),
    [
        ("target", "N/b", "N/c"),
        ("size", 3, 4),
        ("format", "fields", "number"),
        ("mode", "0644", "0600"),
    ],
)
def test_aspects_of_a_file(aspect: str, value: Value, other: Value, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if aspect == "target":
        path.symlink_to("12/b")
    else:
        path.write_text("1 2 3\n")
        path.chmod(0o644)
    for said, code in ((value, 0), (other, 1)):
        made = trees.reproducer(str(path), aspect, Fact(f"x#{aspect}", said))
        assert status(made) == code


def test_whose_a_file_is(tmp_path: Path) -> None:
    mine = "root" if os.geteuid() == 0 else "nobody"
    (tmp_path / "file").write_text("")
    made = trees.reproducer("/proc/version", "owner", Fact("x#owner", "root"))
    assert status(made) == 0
    made = trees.reproducer("/proc/version", "owner", Fact("x#owner", "nobody"))
    assert status(made) == 1
    assert trees.reproducer("/x", "owner", Fact("x#owner", f"{mine}'s")) is None


def test_the_first_of_several_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "file").write_text("1")
    assert status(reproducers.file_is_there(f"{tmp_path}/*/file")) == 0
    assert status(reproducers.file_is_there(f"{tmp_path}/*/none")) == 1
    assert status(reproducers.file_is_there("/proc/$$/task/$$/status")) == 0


def test_a_line_of_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text('CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x.y"\n')
    for key, value, code in (
        ("CONFIG_A", "y", 0),
        ("CONFIG_A", "m", 1),
        ("CONFIG_B", keys.OFF, 0),
        ("CONFIG_A", keys.OFF, 1),
        ("CONFIG_C", "x.y", 0),
        ("CONFIG_C", "x-y", 1),
    ):
        made = config.SURFACE.reproducer(Fact(key, value, Kind.DEFAULT))
        assert made is not None
        assert made.needs == {Needs.CONFIG}
        assert status(made, **{reproducers.CONFIG: str(file)}) == code
        assert status(made, **{reproducers.CONFIG: ""}) == 3


HEADER = """#define FLAG 8
enum colour { RED = 1, BLUE = -2 };
struct pair { unsigned first; unsigned long second[2]; unsigned low : 3; };
"""


@pytest.mark.parametrize(
    ("key", "value", "other"),
    [
        ("FLAG", 8, 9),
        ("enum colour", ["RED = 1", "BLUE = -2"], ["RED = 1", "BLUE = 2"]),
        ("struct pair", ["0 u:4 first", "8 u[]:16 second"], ["0 u:4 first", "8 u[]:8 second"]),
        ("struct pair", ["24.0 bits:3 low"], ["24.0 bits:3 high"]),
        ("struct pair#size", 32, 24),
    ],
)
def test_declarations(key: str, value: Value, other: Value, tmp_path: Path) -> None:
    folder = tmp_path / "linux"
    folder.mkdir()
    (folder / "types.h").write_text("typedef unsigned __u32;\n")
    for name in ("socket", "in", "in6"):
        (folder / f"{name}.h").write_text("")
    (folder / "thing.h").write_text(HEADER)
    for said, good in ((value, True), (other, False)):
        made = type_declarations.reproducer(Fact(key, said, detail="linux/thing.h: and more"))
        assert made is not None
        assert made.language is Language.DECLARATIONS
        source = made.text.replace("#include <stdint.h>\n#include <sys/socket.h>\n", "")
        assert compiles([tmp_path], source) is good
    assert type_declarations.reproducer(Fact(key, value)) is None


def _probes() -> dict[str, Probe]:
    q = Questions()
    q.call("mkdir", q.string("mine"), 0o755)
    q.call("mkdir", q.string("theirs"), 0o755)
    other = q.call("openat", C.AT_FDCWD, q.string("theirs"), C.O_RDONLY)
    q.ask("theirs", "fchmod", other, 0o700)
    fd = q.need("openat", C.AT_FDCWD, q.string("mine"), C.O_RDONLY)
    q.ask("works", "fchmod", fd, 0o700)
    q.ask("fails", "write", fd, q.string("x"), 1)
    room = q.buffer(8)
    q.ask("reads", "getcwd", room, 8, read=lambda trace, ref: trace[ref], out=[room])
    return {probe.key: probe for probe in q.probes()}


def test_the_part_that_one_question_needs() -> None:
    probe = _probes()["works"]
    made, numbers = slices.part(probe.built, (*probe.needs, probe.ref), probe.questions)
    assert [str(step) for step in made.steps] == [
        'mkdir("mine", 493)',
        'openat(AT_FDCWD, "mine", 0)',
        "fchmod(r1, 448)",
    ]
    assert numbers == [1, 2]
    assert b"theirs" not in made.program.data


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("works", "ok", 0), ("works", "EPERM", 1), ("fails", "EBADF", 0), ("fails", "ok", 1)],
)
def test_a_program_that_asks_one_question(
    agent: Agent, tmp_path: Path, key: str, value: str, expected: int
) -> None:
    surface = ProbeSurface("s", lambda: _probes().values(), (HOST,))
    made = surface.reproducer(Fact(key, value))
    assert made is not None
    assert made.others
    for text in (made.text, *made.others):
        one = dataclasses.replace(made, text=text, others=())
        assert run_one(agent, one, Cache(tmp_path)) == expected


def test_a_program_on_ext4_asks_for_it(tmp_path: Path) -> None:
    probe = dataclasses.replace(
        _probes()["works"],
        plain=dataclasses.replace(_probes()["works"].plain, scratch=Scratch.EXT4),
    )
    made = probe_reproducer(probe, HOST, Fact("works", "ok"), None)
    assert made is not None
    assert made.needs == {Needs.EXT4}
    binary = tmp_path / "program"
    binary.write_bytes(program(made, Cache(tmp_path / "cache")))
    binary.chmod(0o755)
    done = subprocess.run(
        [binary], env={"TMPDIR": "/proc"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "TMPDIR has to be on ext4" in done.stderr


def test_exits_are_remembered(tmp_path: Path) -> None:
    made = reproducers.file_is_there("/a")
    known = Exits.of(Cache(tmp_path), "image")
    assert known.get(made) is None
    known.add(made, 1)
    with known.path.open("ab") as file:
        file.write(b'{"program":"torn')
    again = Exits.of(Cache(tmp_path), "image")
    assert again.get(made) == 1
    assert again.get(dataclasses.replace(made, modules=("x",))) is None
    assert Exits.of(Cache(tmp_path), "other").get(made) is None


def _shown(key: str, text: str, *, known: bool = False, got: int = 0) -> Shown:
    subject = Subject("s", Fact(key, "ok"), known)
    return Shown(subject, Reproducer(Language.C, text), {"one": 0}, {"one": got})


def test_reproducers_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = _probes()["works"]
    made = probe_reproducer(probe, HOST, Fact("works", "ok"), None)
    assert made is not None
    shown = [_shown("works", made.text), _shown("known", "int main;\n", known=True, got=1)]
    lacking = [Lacking(Subject("s", Fact("none", "ok")), "nobody knows how")]
    page = published.write(tmp_path, shown, lacking, ["one"])
    assert "`s:none`: nobody knows how" in page.read_text()
    assert "DISAGREES on one" in page.read_text()
    first, second = published.measured(tmp_path)
    assert (first.key, first.exits, first.disagreeing) == ("works", {"one": 0}, ())
    assert second.disagreeing == ("one",)
    assert published.source(tmp_path, first) == made.text
    assert len((tmp_path / first.file).read_text()) < len(made.text) / 2

    monkeypatch.setattr(published, "_ROOM", 0)
    published.write(tmp_path, shown, [], ["one"])
    first, second = published.measured(tmp_path)
    assert first.file
    assert not second.file, "the ledger explains it"

    page = published.write(tmp_path, shown[1:], [], ["one"])
    assert "there are none" in page.read_text()
    assert not list(page.parent.rglob("*.h")), "no program would include it"


def test_a_break_is_known_where_each_of_its_losses_is() -> None:
    def finding(new: str, known: str) -> Finding:
        return Finding(
            Delta("s", "a", Fact("a", "ok"), Fact("a", new)), Grade.BREAK, "r", (), known
        )

    assert [each.known for each in subjects([finding("x", "why"), finding("y", "")])] == [False]
    assert [each.known for each in subjects([finding("x", "why"), finding("y", "so")])] == [True]
    assert capture([]).surfaces == {"s": []}


class Machines:
    """Stands in for guests: machines that count themselves."""

    def __init__(self, cache: Cache) -> None:
        self.packages = SimpleNamespace(cache=cache)
        self.started = 0

    def build(self, spec: str) -> SimpleNamespace:
        return SimpleNamespace(name=spec, image_digest="image")

    @contextlib.contextmanager
    def machine(self, build: object, variant: object) -> Iterator[SimpleNamespace]:
        self.started += 1
        yield SimpleNamespace(agent=None)

    def spoil(self, machine: object) -> None:
        """It is not used again anyway."""


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = Machines(Cache(tmp_path))
    ran: list[str] = []

    def one(agent: object, made: Reproducer, cache: Cache, *, config: str = "") -> int:
        ran.append(made.text)
        if made.text == "panics":
            raise MachineError("it is gone")
        return 0 if made.text == "yes" else 1

    monkeypatch.setattr(reproduce, "run_one", one)
    texts = ("yes", "panics", "no")
    made = {
        Subject("s", Fact(text, "ok")): Reproducer(Language.C, text, others=("another",))
        for text in texts
    }
    wants: dict[Subject, int | None] = {each: int(each.fact.key != "yes") for each in made}

    def run() -> dict[str, int]:
        runner = reproduce._Runner(cast(Guests, machines), "6.1", SILENT)
        return {each.fact.key: code for each, code in runner.run(made, wants).items()}

    assert run() == {"yes": 0, "panics": 3, "no": 1}
    assert ran == ["yes", "panics", "no", "panics"], "what disagrees is tried again, alone"
    assert machines.started == 3
    ran.clear()
    assert run() == {"yes": 0, "panics": 3, "no": 1}
    assert ran == ["panics", "panics"], "the others are known"


@pytest.mark.parametrize(
    ("value", "call", "expected"),
    [("writable", '"openat"', "WORKS"), ("readable", '"faccessat"', "FAILS")],
)
def test_what_a_user_may_do_with_a_file(value: str, call: str, expected: str) -> None:
    made = trees.reproducer("/sys/x", "access#userns", Fact("x#access#userns", value), ("tun",))
    assert made is not None
    assert made.language is Language.C
    assert made.modules == ("tun",)
    assert call in made.text
    assert f"expect = {expected};" in made.text
    assert "#define OWN_SYS 1" in made.text
    assert trees.reproducer("/sys/*/x", "access#user", Fact("x#access#user", value)) is None
    assert trees.reproducer("/sys/x", "access#user", Fact("x#access#user", keys.HIDDEN)) is None


def test_only_bits_that_decide_are_compared(agent: Agent, tmp_path: Path) -> None:
    def probe(bit: int) -> Probe:
        q = Questions()
        room = q.buffer(16)
        q.ask(
            "k",
            "clock_gettime",
            C.CLOCK_MONOTONIC,
            room,
            out=[room],
            read=lambda trace, ref: trace.bytes(ref, room)[11] >> 7 == bit,
        )
        return q.probes()[0]

    ours = dataclasses.replace(HOST, privileged=False)
    made = probe_reproducer(probe(0), ours, Fact("k", True), agent)
    assert made is not None
    assert "expect = SEEN;" in made.text
    built = probe(0).built
    ran = agent.run([built.program], ours.sandbox(Sandbox(), euid=agent.hello.euid))[0]
    said = partial(probing._read, probe(0))
    assert sensitive.bits(built, Ref(0), ran, said) == (0, (bytes(11) + b"\x80" + bytes(4),))
    text = made.text.replace("ID 1000", "ID 0")
    one = dataclasses.replace(made, others=(), text=text)
    assert run_one(agent, one, Cache(tmp_path)) == 0
    assert probe_reproducer(probe(1), ours, Fact("k", True), agent) is None


def test_an_errno_that_something_needed_got_is_expected_of_it(agent: Agent) -> None:
    q = Questions()
    refused = q.call("close", 999)
    room = q.buffer(8)
    q.ask("k", "getcwd", room, 8, needs=(refused,), read=lambda trace, ref: trace[ref], out=[room])
    ours = dataclasses.replace(HOST, privileged=False)
    made = probe_reproducer(q.probes()[0], ours, Fact("k", "EBADF"), agent)
    assert made is not None
    assert "expect = FAILS;" in made.text
