"""Security modules: which are active, what they say they can do, what a process can ask of them.

``active.NAME`` for each module; files of securityfs by their path below
/sys/kernel/security, with ``#key.WORD`` for each word of a list of features and
``#value`` for a single one, or ``#version`` where it is a number that a file with that
name counts up; calls and files of /proc/self/attr by trying them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from hostabi.agent.client import Agent
from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.model import Fact, Variant
from hostabi.surfaces import trees
from hostabi.surfaces.answers import returned
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions, Read
from hostabi.surfaces.reproducers import Reproducer, file_has_word
from hostabi.surfaces.source import Source
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C, constants
from hostabi.syscalls.trace import Trace

_ROOT = "/sys/kernel/security"
_TREES = (("", 2), ("/apparmor/features", 6))
"""Folders and how many levels below them are told: names below are those of loaded policy."""
_FEATURES = "/apparmor/features/"
_BYTES = 4096
"""Of a file's content."""
_NUMBER = re.compile(r"0x[0-9a-f]{1,16}")
"""As AppArmor writes all of its numbers."""
_ACTIVE = "active."
_ATTRIBUTES = (
    "current",
    "prev",
    "exec",
    "fscreate",
    "keycreate",
    "sockcreate",
    "apparmor/current",
    "apparmor/exec",
    "smack/current",
)
"""Files of /proc/PID/attr, proc_pid_attr(5)."""


def probes() -> Iterator[Probe]:
    """What a process asks about itself."""
    yield from _calls()
    yield from _attributes()


_ASKED = ProbeSurface("lsm", probes)


@dataclasses.dataclass(frozen=True)
class Lsm:
    """The surface; see the module's docstring."""

    name: str = "lsm"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Read securityfs, and ask."""
        facts = [*_files(source.live), *_ASKED.capture(source)]
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """A word in a file, a file, or a call."""
        if fact.key.startswith(_ACTIVE):
            return file_has_word(f"{_ROOT}/lsm", fact.key.removeprefix(_ACTIVE))
        if fact.key.startswith("/"):
            path, _, aspect = fact.key.partition("#")
            return trees.reproducer(_ROOT + path, aspect, fact)
        return _ASKED.reproducer(fact, agent)


SURFACE = Lsm()


def _files(agent: Agent) -> Iterator[Fact]:
    if agent.hello.euid != 0:
        return
    box = trees.sandbox(agent, HOST)
    seen: dict[str, Entry] = {}
    for below, depth in _TREES:
        for entry in trees.look(agent, _ROOT + below, box, contents=_BYTES, depth=depth):
            seen.setdefault(entry.path.removeprefix(_ROOT), entry)
    for path, entry in seen.items():
        if path:
            yield from trees.entry_facts(path, entry, shape=False)
            yield from told(path, entry.content or b"")


def told(path: str, content: bytes) -> Iterator[Fact]:
    """What stands in a file of securityfs, where it is the kernel's own and not its policy's."""
    text = content.decode("ascii", "replace").strip()
    if path == "/lsm":
        for name in sorted(set(text.split(",")) - {""}):
            yield Fact(f"{_ACTIVE}{name}", keys.OK, how="read")
    elif path == "/lockdown":
        chosen = text.partition("[")[2].partition("]")[0]
        yield Fact(f"{path}#{trees.VALUE}", chosen or text, how="read")
    elif path.startswith(_FEATURES) and content:
        words = text.split()
        if path.endswith(keys.VERSION) and _NUMBER.fullmatch(text):
            yield Fact(f"{path}#{keys.VERSION}", int(text, 0), how="read")
        elif len(words) == 1 and not path.endswith("mask"):
            yield Fact(f"{path}#{trees.VALUE}", text, how="read")
        else:
            for word in sorted(set(words)):
                yield Fact(f"{path}#{trees.KEY}.{word}", "there", how="read")


def _calls() -> tuple[Probe, ...]:
    """lsm_list_modules(2), lsm_get_self_attr(2), lsm_set_self_attr(2)."""
    q = Questions()
    size, ids = q.content((128).to_bytes(4, "little")), q.buffer(128)
    listed = (ids, size, 0)
    q.ask("lsm_list_modules", "lsm_list_modules", *listed)
    for name, number in sorted(constants("LSM_ID_").items()):
        if number:
            room = q.buffer(128)
            length = q.content((128).to_bytes(4, "little"))
            given, read = (room, length, 0), _has_id(room, number)
            q.ask(f"lsm_list_modules.{name}", "lsm_list_modules", *given, out=[room], read=read)
    for name, number in sorted(constants("LSM_ATTR_").items()):
        if number:
            length, room = q.content((1024).to_bytes(4, "little")), q.buffer(1024)
            get = (number, room, length, 0)
            q.ask(f"lsm_get_self_attr.{name}", "lsm_get_self_attr", *get, read=returned)
    text = b"changeprofile unconfined\0"
    head = C.LSM_ID_APPARMOR, 0, 32 + len(text), len(text)
    context = q.content(b"".join(word.to_bytes(8, "little") for word in head) + text)
    put = (C.LSM_ATTR_CURRENT, context, context.size, 0)
    q.ask("lsm_set_self_attr.LSM_ATTR_CURRENT", "lsm_set_self_attr", *put)
    return q.probes()


def _has_id(room: Slot, number: int) -> Read:
    def read(trace: Trace, ref: Ref) -> bool:
        raw = trace.bytes(ref, room)[: 8 * max(trace[ref], 0)]
        ids = {int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)}
        return number in ids

    return read


def _attributes() -> tuple[Probe, ...]:
    """Files of /proc/self/attr: what is in them, and changes of profile that change nothing."""
    q = Questions()
    for name in _ATTRIBUTES:
        path, room = q.string(f"/proc/self/attr/{name}"), q.buffer(128)
        fd = q.call("openat", C.AT_FDCWD, path, C.O_RDONLY)
        got = (fd, room, 128)
        q.ask(f"attr.{name}", "read", *got, needs=(fd,), out=[room], read=_text(room))
    for name, file, order in (
        ("changeprofile", "current", "changeprofile unconfined"),
        ("stack", "current", "stack unconfined"),
        ("exec", "exec", "exec unconfined"),
        ("exec.stack", "exec", "stack unconfined"),
    ):
        fd = q.call("openat", C.AT_FDCWD, q.string(f"/proc/self/attr/{file}"), C.O_WRONLY)
        written = (fd, q.string(order), len(order))
        q.ask(f"apparmor.{name}", "write", *written, needs=(fd,))
    return q.probes()


def _text(room: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> str:
        raw = trace.bytes(ref, room)[: max(trace[ref], 0)]
        return raw.decode("ascii", "replace").strip("\0\n")

    return read
