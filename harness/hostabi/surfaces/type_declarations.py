"""Declarations as C that compiles only with headers that have them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.surfaces.reproducers import Language, Reproducer

_BEFORE = ("stdint.h", "sys/socket.h", "linux/types.h")
"""What many headers of the kernel use without including it."""
_HEADER = re.compile(r"[\w./-]+\.h")
_FIELD = re.compile(r"(\d+)(?:\.\d)? (u|ptr|struct|bits)(?:\[\])?(?::(\d+))? ([\w.]+)")
_ENUMERATOR = re.compile(r"(\w+) = (-?\d+)")
_TOP = 1 << 63


def reproducer(fact: Fact, header: str = "") -> Reproducer | None:
    """Shows a type, an enumeration or a constant; None where no ``header`` is known.

    The header is what the fact's detail begins with, unless it is given.
    """
    named = _HEADER.match(header or fact.detail)
    checks = list(_checks(fact))
    if named is None or not checks:
        return None
    lines = [
        "/*",
        f" * compiles where {keys.subject(fact.key)} is as it was, and does not elsewhere:",
        " * cc -fsyntax-only -x c -I HEADERS FILE, where HEADERS are those of a kernel",
        " * (make headers_install, or a package such as linux-libc-dev). Made by hostabi.",
        " */",
        *(f"#include <{name}>" for name in (*_BEFORE, named[0])),
        "",
        *checks,
        "",
    ]
    return Reproducer(Language.DECLARATIONS, "\n".join(lines))


def _checks(fact: Fact) -> Iterator[str]:
    subject, aspect = keys.subject(fact.key), keys.aspect(fact.key)
    match fact.value:
        case int(number) if aspect == keys.SIZE:
            yield _assert(f"sizeof({subject}) == {number}")
        case int(number):
            yield _assert(f"{subject} == {_number(number)}")
        case list(words) if subject.startswith("enum "):
            for word in words:
                if found := _ENUMERATOR.fullmatch(word):
                    yield _assert(f"{found[1]} == {_number(int(found[2]))}")
        case list(words):
            for word in words:
                if found := _FIELD.fullmatch(word):
                    yield from _field(subject, *found.groups())


def _field(spelt: str, offset: str, form: str, size: str | None, name: str) -> Iterator[str]:
    """A bit field has neither an address nor a size of its own: it is there."""
    member = f"(({spelt} *)0)->{name}"
    if form == "bits":
        yield _assert(f"sizeof({member} + 0)")
        return
    yield _assert(f"__builtin_offsetof({spelt}, {name}) == {offset}")
    if size:
        yield _assert(f"sizeof({member}) == {size}")


def _assert(claim: str) -> str:
    return f'_Static_assert({claim}, "");'


def _number(value: int) -> str:
    return f"{value}ULL" if value >= _TOP else f"({value}LL)" if value < 0 else f"{value}LL"
