"""Trees of files that the kernel makes: one set of facts for each file, and who may use it.

Facts of a file ``NAME``: itself (``file``, ``directory``, ``link`` ...), ``#mode``,
``#owner``, ``#format``, ``#key.KEY`` for each name in it, ``#size`` for
fields without names, ``#target`` of a link, ``#value`` of a
setting, and ``#access#VIEW``: hidden, readable or writable for somebody with fewer privileges.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from hostabi.agent.client import Agent
from hostabi.agent.program import Sandbox
from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.errors import CallError
from hostabi.model import Fact, Kind
from hostabi.surfaces.formats import file_has_fields, file_has_format
from hostabi.surfaces.probing import USER, USERNS, Questions, View, probe_reproducer
from hostabi.surfaces.reproducers import (
    Reproducer,
    file_has_mode,
    file_is_there,
    file_matches,
    file_passes,
    quoted,
    shell,
    word_of,
)
from hostabi.surfaces.shapes import shape_of
from hostabi.syscalls.table import C

OWNER, FORMAT, TARGET, KEY, VALUE = "owner", "format", "target", "key", "value"
TIMEOUT = 30.0
"""Seconds that one walk may take."""

_TYPES = {
    "f": "file",
    "d": "directory",
    "l": "link",
    "c": "character device",
    "b": "block device",
    "p": "pipe",
    "s": "socket",
}
_NOBODY = 65534
_W_OK = 2
"""access(2); the C library's, as no header of the kernel has it."""
_OWNERS = {"root": 0, "nobody": _NOBODY}
_OF_EACH = re.compile(r"(?i)(cpu|node|domain|(in|out)type)N$")
"""Names of which there is one for each processor, or none where there is but one; and for each
type of message that came or went over the machine's network (net/ipv4/proc.c, icmpmsg_put)."""
_DIGITS = re.compile(r"\d+")

Tree = dict[str, Entry]
"""Entries by the name that facts give them."""


def sandbox(agent: Agent, view: View, *, own_proc: bool = False, own_sys: bool = False) -> Sandbox:
    """Where ``view`` looks from; mounts of its own only where it has namespaces of its own."""
    plain = Sandbox(
        timeout=TIMEOUT,
        own_proc=own_proc and bool(view.namespaces),
        own_sys=own_sys and bool(view.namespaces),
    )
    return view.sandbox(plain, euid=agent.hello.euid)


def look(
    agent: Agent,
    path: str,
    box: Sandbox,
    *,
    contents: int = 0,
    depth: int = 0,
    skip_numbers: bool = False,
) -> list[Entry]:
    """The entries of a tree, itself first; none where it is not there or not to be had."""
    try:
        return agent.walk(
            path, sandbox=box, contents=contents, depth=depth, skip_numbers=skip_numbers
        )
    except CallError:
        return []


def entry_facts(
    name: str, entry: Entry, kind: Kind = Kind.VALUE, *, shape: bool = True
) -> list[Fact]:
    """What is told of one entry by whoever looked at it; ``kind`` is how its presence compares."""
    facts = [Fact(name, _TYPES.get(entry.kind, "unknown"), kind, how="walk")]
    if entry.kind == "l":
        if entry.target and not entry.target.startswith("/"):
            target = _DIGITS.sub("N", entry.target)
            facts.append(Fact(f"{name}#{TARGET}", target, kind, how="walk"))
    else:
        facts.append(Fact(f"{name}#{keys.MODE}", f"{entry.mode & 0o7777:04o}", kind, how="walk"))
    if entry.content is not None and shape:
        facts += shape_facts(name, entry.content, kind)
    return facts


def shape_facts(name: str, content: bytes, kind: Kind = Kind.VALUE) -> list[Fact]:
    """The format of a file and the names in it."""
    shape = shape_of(content)
    if not shape.format:
        return []
    facts = [Fact(f"{name}#{FORMAT}", shape.format, kind, how="read")]
    if shape.fields:
        facts.append(Fact(f"{name}#{keys.SIZE}", shape.fields, kind, how="read"))
    for each in shape.names:
        looser = Kind.HARDWARE if _OF_EACH.search(each) else kind
        facts.append(Fact(f"{name}#{KEY}.{each}", "there", looser, how="read"))
    return facts


def owner_fact(name: str, entry: Entry, process: int = -1, kind: Kind = Kind.VALUE) -> Fact:
    """Whose an entry is; ``process`` is the user of the process that it belongs to."""
    known = {number: name for name, number in _OWNERS.items()}
    value = "process" if entry.uid == process else known.get(entry.uid, str(entry.uid))
    return Fact(f"{name}#{OWNER}", value, kind, how="walk")


def access_facts(tree: Tree, seen: Tree, view: View, kinds: Mapping[str, Kind]) -> list[Fact]:
    """What ``view`` may do with each entry of ``tree``; nothing when it could not look at all."""
    if not seen:
        return []
    return [
        Fact(
            f"{name}#{keys.ACCESS}#{view.name}",
            access_of(seen.get(name)),
            kinds.get(name, Kind.VALUE),
            how="walk",
        )
        for name in tree
    ]


def access_of(entry: Entry | None) -> str:
    """From whether it could be opened and read; a folder or link is readable when it was read."""
    if entry is None:
        return keys.HIDDEN
    if entry.writable:
        return keys.WRITABLE
    if entry.kind == "f":
        return keys.HIDDEN if entry.content is None else keys.READABLE
    return keys.HIDDEN if entry.error else keys.READABLE


def reproducer(
    path: str, aspect: str, fact: Fact, modules: tuple[str, ...] = ()
) -> Reproducer | None:
    """Shell lines for what root sees of the file ``path``; None for what it takes more to see.

    ``modules`` were loaded when it was looked at.
    """
    what, _, who = aspect.partition("#")
    view = next((view for view in (USERNS, USER) if view.name == who), None)
    if what == keys.ACCESS and view is not None:
        return _access_reproducer(path, view, fact, modules)
    made = _reproducer(path, aspect, fact)
    return made and dataclasses.replace(made, modules=modules)


def _access_reproducer(
    path: str, view: View, fact: Fact, modules: tuple[str, ...]
) -> Reproducer | None:
    """A C program that opens the file, or reads from it and may not write."""
    if fact.value == keys.HIDDEN or any(special in path for special in "*$"):
        return None
    namespaces = bool(view.namespaces)
    q = Questions(own_proc=namespaces, own_sys=namespaces and path.startswith("/sys/"))
    name, said = q.string(path), keys.OK
    if fact.value == keys.WRITABLE:
        q.ask(fact.key, "openat", C.AT_FDCWD, name, C.O_WRONLY | C.O_NONBLOCK)
    else:
        fd = q.need("openat", C.AT_FDCWD, name, C.O_RDONLY | C.O_NONBLOCK)
        q.ask("reads", "read", fd, q.buffer(1), 1)
        # a folder cannot be opened for writing, whoever may write to it
        said = "EACCES"
        q.ask(fact.key, "faccessat", C.AT_FDCWD, name, _W_OK)
    probe = q.probes()[-1]
    return probe_reproducer(probe, view, Fact(fact.key, said), None, modules)


def _reproducer(path: str, aspect: str, fact: Fact) -> Reproducer | None:
    if not aspect:
        return file_is_there(path)
    file, value = word_of(path), fact.value
    match aspect, value:
        case keys.MODE, str(mode):
            return file_has_mode(path, mode)
        case "owner", ("root" | "nobody") as owner:
            test = f'test "$(stat -c %u {file})" = {_OWNERS[owner]}'
            return file_passes(path, test, f"belongs to {owner}")
        case "target", str(target):
            leads = f"readlink {file} | sed 's/[0-9][0-9]*/N/g'"
            return shell(f'test "$({leads})" = {quoted(target)}', about=f"{path} leads to {target}")
        case "value", str(text):
            return _has_value(path, text)
    return _shape_reproducer(path, aspect, fact)


def _has_value(path: str, text: str) -> Reproducer:
    """A setting has a value, or it is what is chosen: ``[madvise]``."""
    word = quoted(text)
    chosen = f'case "$value" in *"["{word}"]"*) true;; *) false;; esac'
    test = f'value=$(cat {word_of(path)}) || exit 3\ntest "$value" = {word} || {chosen}'
    return file_passes(path, test, f"is {text}")


def _shape_reproducer(path: str, aspect: str, fact: Fact) -> Reproducer | None:
    if aspect == FORMAT:
        return file_has_format(path, str(fact.value))
    if aspect == keys.SIZE and isinstance(fact.value, int):
        return file_has_fields(path, fact.value)
    if aspect.startswith(f"{KEY}."):
        name = aspect.partition(".")[2]
        return file_matches(path, _pattern(name), f"has {name}")
    return None


def _pattern(name: str) -> str:
    """Finds a name that :mod:`hostabi.surfaces.shapes` found, wherever its format has names."""
    if name.startswith("row."):
        return f"^{_literal(name.removeprefix('row.'))}[[:space:]]"
    whole = f"(^|[[:space:]#|[]){_literal(name)}([[:space:]:=(|]|[]]|$)"
    head, _, last = name.partition(".")
    if not last:
        return whole
    return f"{whole}|^{_literal(head)}[: ](.*[[:space:]])?{_literal(last)}([[:space:]:=]|$)"


def _literal(name: str) -> str:
    text = "".join(each if each.isalnum() or each in "_- " else f"[{each}]" for each in name)
    return re.sub(r"(?<=[a-z_ ])N(?=_|$)", "[0-9]+", text)
