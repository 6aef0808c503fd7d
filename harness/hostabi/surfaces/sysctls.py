"""Sysctls: what is under /proc/sys, seen from the host and from a container's namespaces."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re

from hostabi.agent.client import Agent
from hostabi.agent.program import Call, Pointer, Program, Result, Sandbox
from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.errors import CallError
from hostabi.model import Fact, Kind, Value, Variant
from hostabi.surfaces import reproducers
from hostabi.surfaces.origins import origins
from hostabi.surfaces.probing import USERNS, Questions, probe_reproducer
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source
from hostabi.syscalls import table
from hostabi.syscalls.table import C

ROOT = "/proc/sys"
_CONTENTS = 4096
"""Bytes read of each file; the kernel writes most values from one buffer of this size."""

_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_NAMESPACES = _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC
_USER = 1000
"""Who owns the user namespace, where the agent may choose: somebody without privileges."""

MODULES = ("br_netfilter", "ip_vs", "nf_conntrack", "sctp")
"""Modules with sysctls among what the check scripts of runc and docker ask for."""

_INTEGER = re.compile(r"-?\d+")
_BITMAP = re.compile(r"[0-9a-f]{1,8}(,[0-9a-f]{8})+")
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)+|\d+-\d+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){15,}")
"""Bytes of a key, as net.core.netdev_rss_key shows them: random once it is used."""
IFACE = "IFACE"
"""Stands for any interface that a machine has besides ``lo``; the first one is told."""
_OF_AN_INTERFACE = re.compile(r"^(net\.[\w-]+\.(?:conf|neigh))\.(?!(?:all|default|lo)\.)[^.]+\.")
_OF_THE_MACHINE = re.compile(rf"\bcpu\d+\b|\.{IFACE}\.")
_OF_EACH = (
    (Kind.VOLATILE, "one for each CPU, and some hold what the kernel measures there"),
    (Kind.HARDWARE, "of one of the machine's own interfaces"),
)
"""How values compare that there are one of for each CPU, and for each interface."""
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_DENIED = (errno.EACCES, errno.EPERM)


class Sysctls:
    """Facts of each sysctl ``NAME``.

    ``NAME`` itself says ``file``; ``NAME#mode``, ``NAME#type`` and ``NAME#value`` are
    the host's view. ``NAME#access`` is what root of an unprivileged user namespace has
    with its own network and IPC namespace (hidden, readable or writable), and
    ``NAME#userns-value`` what such a namespace starts with where that is another value.
    """

    name = "sysctls"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A kernel that runs."""
        return source.agent is not None

    def capture(self, source: Source) -> list[Fact]:
        """Read all twice, with some work for the kernel in between, to tell what moves."""
        agent = source.live
        _load_modules(agent)
        first = _read(agent)
        inside = _read_inside(agent)
        _stir(agent)
        second = _read(agent)
        identity = _identity(agent)
        facts: list[Fact] = []
        for name, entry in first.items():
            kind = _kind_of(name, entry, second.get(name), identity)
            facts += _host_facts(name, entry, kind, unprivileged=agent.hello.euid != 0)
            if inside:
                facts += _inside_facts(name, entry, inside.get(name), kind)
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """A look at one file; see :class:`hostabi.surfaces.reproducers.Reproducible`."""
        path, aspect = path_of(keys.subject(fact.key)), keys.aspect(fact.key)
        if aspect != keys.ACCESS or fact.value == keys.HIDDEN:
            shown = reproducers.of_a_file(path, aspect, fact)
            return dataclasses.replace(shown, modules=MODULES) if shown else None
        opened = Questions()
        name, said = opened.string(path), keys.OK
        if fact.value == keys.READABLE:
            opened.need("openat", C.AT_FDCWD, name, C.O_RDONLY)
            said = "EACCES"
        opened.ask(fact.key, "openat", C.AT_FDCWD, name, C.O_WRONLY)
        wanted = Fact(fact.key, said)
        return probe_reproducer(opened.probes()[0], USERNS, wanted, None, MODULES)


SURFACE = Sysctls()


def container(agent: Agent) -> Sandbox:
    """The namespaces of a rootless container, as far as sysctls go (namespaces(7))."""
    user = _USER if agent.hello.euid == 0 else 0
    return Sandbox(namespaces=_NAMESPACES, uid=user, gid=user, timeout=30.0)


def name_of(path: str) -> str:
    """The sysctl's name: dots between directories; a dot within one becomes a slash (sysctl(8))."""
    parts = path.removeprefix(ROOT).strip("/").split("/")
    return ".".join(part.replace(".", "/") for part in parts)


def path_of(name: str) -> str:
    """The file of a sysctl, the reverse of :func:`name_of`."""
    return f"{ROOT}/" + name.translate(str.maketrans("./", "/."))


def type_of(text: str) -> str:
    """What a value looks like, apart from what it is."""
    if len(text.splitlines()) > 1:
        return "lines"
    words = text.split()
    if words and all(_INTEGER.fullmatch(word) for word in words):
        return "integer" if len(words) == 1 else f"{len(words)} integers"
    for shape, name in ((_BITMAP, "bitmap"), (_RANGES, "text"), (_UUID, "uuid")):
        if len(words) == 1 and shape.fullmatch(words[0]):
            return name
    return "text"


def value_of(text: str) -> tuple[Value, Kind]:
    """A value without its white space, and how it compares: several words are members of a list."""
    words = text.split()
    if len(words) > 1 and len(text.splitlines()) == 1 and all(map(_WORD.fullmatch, words)):
        return sorted(words), Kind.MEMBERS
    return " ".join(words), Kind.DEFAULT


def _read(agent: Agent, sandbox: Sandbox | None = None) -> dict[str, Entry]:
    entries = agent.walk(ROOT, contents=_CONTENTS, sandbox=sandbox)
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind == "f":
            found.setdefault(_OF_AN_INTERFACE.sub(rf"\1.{IFACE}.", name_of(entry.path)), entry)
    return found


def _read_inside(agent: Agent) -> dict[str, Entry]:
    """What the root of a rootless container finds; empty where we are given no namespaces."""
    try:
        return _read(agent, container(agent))
    except CallError:
        return {}


def _load_modules(agent: Agent) -> None:
    """Load what container engines load, for many sysctls only come with their module."""
    if agent.hello.euid == 0:
        with contextlib.suppress(CallError):  # without modprobe all is built in, or not there
            agent.command(["modprobe", "-a", *MODULES])


def _stir(agent: Agent) -> None:
    """Make files, processes and terminals, so that what counts them moves between two looks."""
    names = b"f\0".ljust(16, b"\0") + b"/dev/ptmx\0"
    calls = (
        Call(table.number("creat"), (Pointer(0), 0o600)),
        *(Call(table.number("dup"), (Result(0),)) for _ in range(50)),
        Call(table.number("open"), (Pointer(16), 2)),
        Call(table.number("sync")),
    )
    agent.run([Program(calls=calls, data=names) for _ in range(20)])


def _identity(agent: Agent) -> frozenset[str]:
    """Texts that only say which build this is."""
    try:
        version = agent.read("/proc/version", _CONTENTS).decode(errors="replace")
    except CallError:
        version = ""
    return frozenset({agent.hello.release, version.strip()} - {""})


def _kind_of(
    name: str, first: Entry, second: Entry | None, identity: frozenset[str]
) -> tuple[Kind | None, str]:
    """The kind that overrides what the value looks like, with the reason; None for none."""
    text = _text(first)
    origin = origins().get(name)
    if origin is not None:
        return origin.kind, f"{origin.reason} ({origin.source})"
    if _OF_THE_MACHINE.search(name):
        return _OF_EACH[IFACE in name]
    if second is None or _text(second) != text:
        return Kind.VOLATILE, "two looks at one boot differ"
    if _UUID.fullmatch(text.strip()) or _KEY.fullmatch(text.strip()):
        return Kind.VOLATILE, "a random identifier or key"
    stripped = text.strip()
    if any(stripped and (stripped == known or _within(stripped, known)) for known in identity):
        return Kind.VOLATILE, "names the build"
    return None, ""


def _within(text: str, known: str) -> bool:
    return len(text) > 20 and text in known


def _host_facts(
    name: str, entry: Entry, kind: tuple[Kind | None, str], *, unprivileged: bool
) -> list[Fact]:
    presence = Kind.HARDWARE if _OF_THE_MACHINE.search(name) else Kind.VALUE
    facts = [
        Fact(name, "file", presence),
        Fact(f"{name}#{keys.MODE}", f"{entry.mode & 0o7777:04o}"),
    ]
    if entry.content is None:
        if entry.error in _DENIED and (unprivileged or not entry.mode & 0o444):
            return facts  # we may not look, or nobody may: neither says what it is
        return [*facts, Fact(f"{name}#{keys.TYPE}", errno.errorcode.get(entry.error, "unreadable"))]
    # one CPU is an integer, two are a range: such a type follows the hardware as well
    shape = Kind.HARDWARE if kind[0] is Kind.HARDWARE else Kind.VALUE
    return [
        *facts,
        Fact(f"{name}#{keys.TYPE}", type_of(_text(entry)), shape),
        _value_fact(f"{name}#value", entry, kind),
    ]


def _inside_facts(
    name: str, outside: Entry, inside: Entry | None, kind: tuple[Kind | None, str]
) -> list[Fact]:
    how = "user+net+ipc namespace"
    if inside is None:
        return [Fact(f"{name}#{keys.ACCESS}", keys.HIDDEN, how=how)]
    access = keys.WRITABLE if inside.writable else keys.READABLE
    facts = [Fact(f"{name}#{keys.ACCESS}", access, how=how)]
    if inside.content is not None and inside.content != outside.content:
        fact = _value_fact(f"{name}#userns-value", inside, kind)
        # of a value that changes by itself, being another one says nothing
        if fact.kind is not Kind.VOLATILE:
            facts.append(fact)
    return facts


def _value_fact(key: str, entry: Entry, override: tuple[Kind | None, str]) -> Fact:
    value, kind = value_of(_text(entry))
    stronger, why = override
    if stronger is Kind.VOLATILE:
        return Fact(key, None, Kind.VOLATILE, detail=why)
    if stronger is not None:
        return Fact(key, value, stronger, detail=why)
    return Fact(key, value, kind)


def _text(entry: Entry) -> str:
    return (entry.content or b"").decode(errors="backslashreplace")
