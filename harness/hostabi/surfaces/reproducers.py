"""Reproducers: C or shell that shows one fact by itself, without hostabi.

Each exits 0 where a kernel has the value the fact is about, 1 where it has
another, and 3 where that could not be found out. It does the thing itself and
never asks which kernel it is on.
"""

from __future__ import annotations

import dataclasses
import enum
import shlex
from typing import Protocol, runtime_checkable

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.model import Fact, Kind, Variant

AS_EXPECTED, OTHERWISE, NOT_TRIED = 0, 1, 3
"""What a reproducer exits with."""


class Language(enum.StrEnum):
    """What a reproducer is written in."""

    C = "c"
    SHELL = "sh"
    DECLARATIONS = "decl.c"
    """C that is not run: that it compiles with a kernel's own headers is the answer."""


class Needs(enum.StrEnum):
    """What a reproducer cannot make for itself."""

    EXT4 = "ext4"
    """``TMPDIR`` is a folder on ext4."""
    CONFIG = "config"
    """The environment's :data:`CONFIG` names the file with the kernel's configuration."""


CONFIG = "KERNEL_CONFIG"
"""Names the configuration as its package has it, for reproducers about it."""


@dataclasses.dataclass(frozen=True)
class Reproducer:
    """A program for people, and what the machine it runs on needs.

    ``variant`` is how that has to be booted (None: any way), ``modules`` are to
    be loaded before.
    """

    language: Language
    text: str
    variant: Variant | None = None
    modules: tuple[str, ...] = ()
    needs: frozenset[Needs] = frozenset()
    others: tuple[str, ...] = ()
    """Other programs for the same, one by one for where ``text`` proves to tell another thing: it
    may have lost what it needs, or compare what differs from run to run."""


@runtime_checkable
class Reproducible(Protocol):
    """A surface whose facts can be shown one by one."""

    @property
    def name(self) -> str:
        """As in captures."""

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """Shows that a kernel has ``fact``; None where nothing can.

        ``agent`` runs on a kernel that has it: a fact whose value was read from
        what a call wrote has to be looked at once more.
        """


def shell(
    *lines: str,
    about: str,
    variant: Variant | None = None,
    modules: tuple[str, ...] = (),
    needs: frozenset[Needs] = frozenset(),
) -> Reproducer:
    """A POSIX shell script whose last line decides."""
    head = ["#!/bin/sh", f"# {about}", "# Exits 0 where this is so, 1 where it is not."]
    return Reproducer(Language.SHELL, "\n".join([*head, *lines, ""]), variant, modules, needs)


def quoted(text: str) -> str:
    """``text`` as one word of the shell."""
    return shlex.quote(text)


def word_of(path: str) -> str:
    """A path as one word of the shell.

    ``$$`` in it is the shell's own process. One with a star is the first that
    there is of several.
    """
    if "*" in path:
        return f'"$(ls -d {path} 2>/dev/null | head -n 1)"'
    return f'"{path}"' if "$$" in path else quoted(path)


def file_is_there(path: str) -> Reproducer:
    """A file, of whatever type, is there."""
    return shell(f"test -e {word_of(path)}", about=f"{path} is there")


def file_has_mode(path: str, mode: str) -> Reproducer:
    """A file's permission bits are ``mode``, in octal as facts spell it."""
    plain = mode.lstrip("0") or "0"
    return shell(
        f'test "$(stat -c %a {word_of(path)})" = {quoted(plain)}', about=f"{path} has mode {mode}"
    )


def file_has_word(path: str, word: str) -> Reproducer:
    """A word stands in a file, between white space, colons or at a line's end."""
    return file_matches(path, _word_pattern(word), f"names {word}")


def file_matches(path: str, pattern: str, what: str) -> Reproducer:
    """A line of a file matches an extended regular expression; ``what`` says it in words."""
    return file_passes(path, f"grep -Eq {quoted(pattern)} {word_of(path)}", what)


def file_passes(path: str, test: str, what: str) -> Reproducer:
    """A file can be read and passes a ``test``, lines of shell; ``what`` says it in words."""
    name = word_of(path)
    there = (f"test -e {name} || exit 1", f"test -r {name} || exit 3")
    return shell(*there, test, about=f"{path}: {what}")


def of_a_file(path: str, aspect: str, fact: Fact) -> Reproducer | None:
    """What an aspect that all files have says about the one at ``path``; None for others."""
    value = fact.value
    if not aspect:
        return file_is_there(path)
    if aspect == keys.MODE and isinstance(value, str):
        return file_has_mode(path, value)
    if aspect == keys.TYPE and isinstance(value, str):
        return _file_has_type(path, value)
    if fact.kind is Kind.MEMBERS and isinstance(value, list):
        words = " && ".join(
            f"grep -Eq {quoted(_word_pattern(word))} {word_of(path)}" for word in sorted(value)
        )
        return shell(words, about=f"{path} names {', '.join(sorted(value))}") if words else None
    return None


def _file_has_type(path: str, kind: str) -> Reproducer | None:
    count, _, rest = kind.partition(" ")
    number = "[[:space:]]*-?[0-9]+"
    if kind == "integer" or (rest == "integers" and count.isdigit()):
        wanted = 1 if kind == "integer" else int(count)
        return file_matches(path, f"^({number}){{{wanted}}}[[:space:]]*$", f"reads as {kind}")
    if kind == "text":
        numbers = quoted(f"^({number})+[[:space:]]*$")
        test = f"! grep -Eq {numbers} {word_of(path)}"
        return file_passes(path, test, "reads as text, not as numbers")
    return None


def _word_pattern(word: str) -> str:
    return "(^|[[:space:]:=,])" + literal(word) + "([[:space:]:=,]|$)"


def literal(word: str) -> str:
    return "".join(char if char.isalnum() or char in "_- /" else f"[{char}]" for char in word)
