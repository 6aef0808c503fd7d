"""Interface files of one control group: what their names, modes and contents say.

The same for both versions of control groups. How contents read is the
kernel's cgroup-v2.rst, "Format": one value, values in a line, one value a
line, flat keyed (``KEY VALUE``) or nested keyed (``KEY SUB=VALUE ...``).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping

from hostabi.agent.records import Entry
from hostabi.diff import keys
from hostabi.model import Fact, Kind, Variant
from hostabi.surfaces.reproducers import Reproducer, quoted, shell
from hostabi.syscalls import table

CONTENTS = 16384
"""Bytes read of each file; memory.stat has some 2000."""
LINES = 1000
"""Lines looked at in a file."""

FORMAT, KEYS, FIELDS, VALUE = "format", "keys", "fields", "value"
"""Aspects of a file: its format, the keys of its lines, the names of their sub keys, its value."""

_INTEGER = re.compile(r"-?\d+")
_DEVICE = re.compile(r"\d+:\d+")
_NODE = re.compile(r"N\d+")
_SETS = ("cpus", "mems")
_NUMBERS = re.compile(r"\d+([-,]\d+)*")
_HUGE = re.compile(r"\.\d+[KMG]B\.")
"""The size of a huge page in a file's name: which sizes there are is the CPU's choice."""


def entries_of(entries: Iterable[Entry], folder: str) -> dict[str, Entry]:
    """The regular files right in ``folder``, by name."""
    found = {}
    for entry in entries:
        parent, _, name = entry.path.rpartition("/")
        if parent == folder.rstrip("/") and entry.kind == "f":
            found[name] = entry
    return found


def text_of(entry: Entry | None) -> str:
    """A file's content as text, empty where it could not be read."""
    content = entry.content if entry is not None else None
    return (content or b"").decode(errors="backslashreplace").strip()


def file_facts(
    files: Mapping[str, Entry],
    *,
    prefix: str = "",
    others: Iterable[Mapping[str, Entry]] = (),
    used: Mapping[str, Entry] | None = None,
) -> list[Fact]:
    """Facts ``PREFIX NAME`` and its aspects for each file of a group.

    ``others`` are other looks at the same files, or at those of another group:
    where one says something else, a value depends on what went on. ``used`` are
    the files of a group that had work: some only then have lines, with keys.
    """
    facts: list[Fact] = []
    looks = list(others)
    for name, entry in files.items():
        text = text_of(entry)
        moved = any(name in look and text_of(look[name]) != text for look in looks)
        full = text_of(used.get(name)) if used else ""
        facts += _facts(f"{prefix}{name}", name, entry, full or text, moved=moved)
    return facts


def format_of(text: str, *, settable: bool) -> str:
    """The format's name; empty for no text, which has none."""
    rows = _rows(text)
    if not rows:
        return ""
    if all(len(row) > 1 and all("=" in word for word in row[1:]) for row in rows):
        return "nested keyed"
    keyed = all(len(row) == 2 and not _INTEGER.fullmatch(row[0]) for row in rows)
    if keyed and not (settable and len(rows) == 1):
        return "flat keyed"
    if len(rows) > 1:
        return "lines"
    return "values" if len(rows[0]) > 1 else "value"


def access_facts(files: Iterable[str], inside: Mapping[str, Entry], prefix: str = "") -> list[Fact]:
    """What somebody with fewer privileges may do with each of ``files``."""
    facts = []
    for name in files:
        entry = inside.get(name)
        access = keys.HIDDEN
        if entry is not None and entry.writable:
            access = keys.WRITABLE
        elif entry is not None and entry.error not in (errno.EACCES, errno.EPERM):
            access = keys.READABLE
        facts.append(Fact(f"{prefix}{name}#{keys.ACCESS}", access, presence(name), how="walk"))
    return facts


def with_subject(facts: Iterable[Fact]) -> list[Fact]:
    """The facts by key, without those about a thing that is not there: that is no question."""
    every = sorted(facts, key=lambda fact: fact.key)
    there = {fact.key for fact in every}
    return [fact for fact in every if keys.subject(fact.key) in there]


def presence(name: str) -> Kind:
    """How the presence of a file compares."""
    return Kind.HARDWARE if _HUGE.search(name) else Kind.VALUE


def _facts(key: str, name: str, entry: Entry, full: str, *, moved: bool) -> list[Fact]:
    facts = [
        Fact(key, "file", presence(name), how="walk"),
        Fact(f"{key}#{keys.MODE}", f"{entry.mode & 0o7777:04o}", presence(name), how="walk"),
    ]
    settable = bool(entry.mode & 0o222)
    layout = format_of(full, settable=settable)
    if layout:
        facts.append(Fact(f"{key}#{FORMAT}", layout, presence(name), how="read"))
    if layout in ("flat keyed", "nested keyed"):
        facts += _keyed(key, full, layout)
    else:
        facts += _value(key, name, entry, text_of(entry), moved=moved)
    return facts


def _rows(text: str) -> list[list[str]]:
    """The words of each line, without lines that count something of one device."""
    rows = [line.split() for line in text.splitlines()[:LINES] if line.strip()]
    return [row for row in rows if not (_DEVICE.fullmatch(row[0]) and "=" not in row[-1])]


def _keyed(key: str, text: str, layout: str) -> list[Fact]:
    rows = _rows(text)
    names = sorted({row[0] for row in rows if not _DEVICE.fullmatch(row[0])})
    facts = []
    if layout == "nested keyed":
        subs = {word.partition("=")[0] for row in rows for word in row[1:]}
        fields = sorted(sub for sub in subs if not _NODE.fullmatch(sub))
        # keys with values of their own, as in "total=0 N0=0", are sub keys of no line
        names = [each for each in names if "=" not in each]
        if fields:
            facts.append(Fact(f"{key}#{FIELDS}", fields, Kind.MEMBERS, how="read"))
    if names:
        facts.append(Fact(f"{key}#{KEYS}", names, Kind.MEMBERS, how="read"))
    return facts


def _value(key: str, name: str, entry: Entry, text: str, *, moved: bool) -> list[Fact]:
    key = f"{key}#{VALUE}"
    if entry.content is None:
        # what is written and never read, as cgroup.kill, has no value
        why = table.errno_name(entry.error)
        return [Fact(key, why, how="read")] if entry.mode & 0o444 else []
    words = text.split()
    kind, detail = _kind(name, entry, text, moved=moved)
    if kind is Kind.VOLATILE:
        return [Fact(key, None, kind, how="read", detail=detail)]
    if kind is Kind.MEMBERS:
        return [Fact(key, sorted(words), kind, how="read")]
    return [Fact(key, " ".join(words), kind, how="read", detail=detail)]


def _kind(name: str, entry: Entry, text: str, *, moved: bool) -> tuple[Kind, str]:
    """How a value compares, and why it is not compared like others."""
    rows, words = text.splitlines(), text.split()
    if len(rows) > 1 and all(map(_INTEGER.fullmatch, rows)):
        return Kind.VOLATILE, "processes in the group"
    if name.startswith("cpuset.") and any(s in name for s in _SETS) and _NUMBERS.fullmatch(text):
        return Kind.HARDWARE, "CPUs and memory nodes of the machine"
    if moved:
        return Kind.VOLATILE, "depends on what went on"
    numbers = len(words) > 1 and all(map(_INTEGER.fullmatch, words))
    if not entry.mode & 0o222 and (numbers or len(rows) > 1):
        return Kind.HARDWARE, "one number or line for each CPU"
    if len(rows) == 1 and len(words) > 1 and all(map(str.isalpha, words)):
        return Kind.MEMBERS, ""
    return Kind.DEFAULT, ""


def reproducer(
    fact: Fact, path: str, *prepare: str, variant: Variant | None = None
) -> Reproducer | None:
    """Shell lines that show what a fact says of the file at ``path``; None for what they cannot.

    ``prepare`` are lines before, that make the group it is in.
    """
    file, about = quoted(path), f"{fact.key} is {fact.value}"
    match keys.aspect(fact.key), fact.value:
        case "", "file":
            test = f"test -e {file}"
        case keys.MODE, str(mode):
            test = f'test "$(stat -c %a {file})" = {quoted(mode.lstrip("0") or "0")}'
        case "value", str(value) if value and value not in table.errno_names():
            test = f'test "$(echo $(cat {file}))" = {quoted(value)}'
        case "keys", list(names):
            # others may have come since: a list that only got longer has lost nothing
            test = " && ".join(f"grep -q {quoted(f'^{_literal(name)} ')} {file}" for name in names)
        case _:
            return None
    return shell("set -f", *prepare, test, about=about, variant=variant)


def _literal(name: str) -> str:
    return name.replace(".", "[.]")
