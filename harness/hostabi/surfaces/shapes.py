"""What a file of the kernel looks like, whatever it says: its format and the names in it.

Formats are told apart by structure, not by the file's name: proc(5) and
sysfs(5) have a handful of them that most files follow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

LINES = 2000
"""Lines of a file that are looked at."""
NAMES = 600
"""Names that are taken from one file; what is longer is no list of keys."""

_NUMBER = re.compile(r"[-+]?(0x)?[0-9a-fA-F]+(\.\d+)?%?|\d[\d,./:-]*")
_INTEGER = re.compile(r"[-+]?\d+|0x[0-9a-f]+")
_WORD = re.compile(r"[A-Za-z_][\w.()-]*")
_KEYED = re.compile(r"\s*([\w#.][\w .()/_-]{0,40}?)\s*:(?:\s+(.*)|$)")
_RANGE = re.compile(r"[0-9a-f]+-[0-9a-f]+|[0-9a-f]{8,}")
_HEADER = re.compile(r"[A-Za-z#][\w.<>()#/:-]*")
_TITLE = re.compile(r"[A-Z][a-z]+( [a-z-]+)+")
_APART = re.compile(r"[A-Z]|\s{2,}|\t")
_CHOICE = re.compile(r"[\w+-]+")
_ORDINAL = re.compile(r"(?i)(cpu|node|type|domain|clock |base |_order_)\d+(?=_|$)")
"""Names that are numbered by what a machine has or met, such as ``cpu0``."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """``format`` is empty for an empty file; ``names`` are keys or columns, in order.

    ``fields`` is how many there are in each line, where all are numbers without names.
    """

    format: str
    names: tuple[str, ...] = ()
    fields: int = 0


def shape_of(content: bytes) -> Shape:
    """The shape of a file's content; bounded, and defined for any bytes."""
    if not content.strip():
        return Shape("")
    if b"\0" in content:
        return Shape("binary")
    lines = content.decode(errors="backslashreplace").splitlines()[:LINES]
    rows = [line for line in _of_each_record(lines) if line.strip()]
    if not rows:
        return Shape("binary")  # separators of records, which bytes do not count as white space
    for look in (_choice, _pairs, _counted, _table, _keyed, _optional, _flat, _names):
        shape = look(rows)
        if shape is not None:
            return dataclasses.replace(shape, names=_distinct(shape.names))
    # how many lines a text has says what went on, not what it is
    return Shape("number" if _INTEGER.fullmatch("".join(rows).strip()) else "text")


def _of_each_record(lines: Sequence[str]) -> Sequence[str]:
    """The lines of a list of records that have a counterpart in each of them.

    A record ends with a blank line, and begins with the same key as all others, as in
    /proc/crypto. What only some have tells which records there are, not what they look like.
    """
    records: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            records[-1].append(line)
        elif records[-1]:
            records.append([])
    *records, _cut = records
    keyed = [[match and match[1] for match in map(_KEYED.match, record)] for record in records]
    if len(keyed) < 2 or keyed[0][0] is None or {keys[0] for keys in keyed} != {keyed[0][0]}:
        return lines
    common = set(keyed[0]).intersection(*keyed[1:])
    return [
        line
        for record, keys in zip(records, keyed, strict=True)
        for line, key in zip(record, keys, strict=True)
        if key in common
    ]


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_ORDINAL.sub(r"\1N", name) for name in names))[:NAMES]


def _choice(rows: Sequence[str]) -> Shape | None:
    """``always [madvise] never``: what can be chosen, and what is (kernel: mm/transhuge.rst)."""
    words = rows[0].split()
    chosen = [word for word in words if word[0] == "[" and word[-1] == "]"]
    if len(rows) != 1 or len(chosen) != 1:
        return None
    names = [word.strip("[]") for word in words]
    return Shape("choice", tuple(names)) if all(map(_CHOICE.fullmatch, names)) else None


def _numeric(words: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(word) for word in words)


def _pairs(rows: Sequence[str]) -> Shape | None:
    """``Ip: A B`` above ``Ip: 1 2``, as in /proc/net/snmp."""
    found: list[str] = []
    for names, values in zip(rows[::2], rows[1::2], strict=False):
        head, *columns = names.split()
        first, *numbers = values.split()
        if head != first or not head.endswith(":") or len(columns) != len(numbers):
            return None
        if not _numeric(numbers) or _numeric(columns):
            return None
        found += [f"{head[:-1]}.{column}" for column in columns]
    return Shape("named pairs", tuple(found)) if found and len(rows) % 2 == 0 else None


def _counted(rows: Sequence[str]) -> Shape | None:
    """Lines of as many numbers each, at most a few words among them."""
    if any(":" in row.split()[0] for row in rows):
        return None
    widths = {len(row.split()) for row in rows}
    words = [word for row in rows for word in row.split()]
    strange = [word for word in words if not _NUMBER.fullmatch(word)]
    if len(widths) != 1 or len(strange) > 2 * len(rows) or not _NUMBER.fullmatch(words[0]):
        return None
    width = widths.pop()
    few = len(strange) <= len(words) / 3
    return Shape("fields", fields=width) if width > 1 and few else None


def _table(rows: Sequence[str]) -> Shape | None:
    """A line of column names above all others; rows with names of their own are told as well."""
    head, rest = rows[0], rows[1:]
    if "|" in head and rest and "|" in rest[0]:
        return Shape("table", tuple(rest[0].replace("|", " ").split()))
    words = head.lstrip("#").split()
    if not _are_columns(head, words, rest):
        return None
    titled = [re.split(r"\s{2,}", row.strip())[0] for row in rest]
    if titled and all(_TITLE.fullmatch(title) for title in titled):
        columns = re.split(r"\s{2,}", head.strip())
        return Shape("table", (*columns, *(f"row.{title}" for title in titled)))
    if rest and not any(_NUMBER.fullmatch(word) for word in rest[0].split()[1:]):
        return None
    named = [row.split()[0] for row in rest] if head.startswith("#") else []
    return Shape("table", (*words, *(f"row.{name}" for name in named)))


def _are_columns(head: str, words: Sequence[str], rest: Sequence[str]) -> bool:
    """Whether a first line can be the names of columns of those below it."""
    if len(words) < 3 or ":" in words[0] or not all(map(_HEADER.fullmatch, words)):
        return False
    if not rest:
        # column names stand apart or are capitalised; a plain list of words has neither
        return bool(_APART.search(head.strip()))
    first = _KEYED.fullmatch(rest[0])
    return first is None or first[1].isdigit() or bool(_RANGE.fullmatch(first[1]))


def _keyed(rows: Sequence[str]) -> Shape | None:
    """``KEY: VALUE``; where values are ``NAME NUMBER`` in turn, those are names too."""
    matches = [match for row in rows if (match := _KEYED.match(row))]
    if len(matches) * 2 < len(rows):
        return None
    found: list[str] = []
    for match in matches:
        key, words = match[1], (match[2] or "").split()
        if not re.search("[A-Za-z]", key) or _RANGE.fullmatch(key) or not key[0].isalpha():
            continue
        subs, values = words[::2], words[1::2]
        nested = len(subs) == len(values) and len(subs) > 1 and _numeric(values)
        if nested and not any(_NUMBER.fullmatch(sub) for sub in subs):
            found += [f"{key}.{sub}" for sub in subs]
        else:
            found.append(key)
    return Shape("keyed", tuple(found))


def _optional(rows: Sequence[str]) -> Shape | None:
    """Mounts, proc_pid_mountinfo(5): optional fields stand before a lone dash."""
    split = [row.partition(" - ")[0].split() for row in rows if " - " in row]
    if len(split) != len(rows) or any(len(words) < 6 for words in split):
        return None
    tags = [word.partition(":")[0] for words in split for word in words[6:]]
    return Shape("mounts", tuple(tags))


def _flat(rows: Sequence[str]) -> Shape | None:
    """``KEY NUMBER ...`` or ``KEY NAME=VALUE ...``, but for a few with one word among them."""
    found: list[str] = []
    odd = 0
    for row in rows:
        key, *words = row.split()
        key = key.removesuffix(":")
        if not words or not _WORD.fullmatch(key):
            return None
        if all("=" in word for word in words):
            found += [f"{key}.{word.partition('=')[0]}" for word in words]
            continue
        found.append(key)
        strange = sum(not _NUMBER.fullmatch(word) for word in words)
        if strange > 1:
            return None
        odd += strange
    return Shape("flat keyed", tuple(found)) if odd * 2 <= len(rows) else None


def _names(rows: Sequence[str]) -> Shape | None:
    """One name a line, with or without the same word before it, as in /proc/filesystems."""
    split = [row.split() for row in rows]
    before = {words[0] for words in split if len(words) == 2}
    alone = [words[-1] for words in split if len(words) <= 2 and _WORD.fullmatch(words[-1])]
    if len(alone) != len(rows) or len(rows) < 2 or len(before) > 1:
        return None
    return Shape("names", tuple(alone))
