"""Types as BTF describes them (Documentation/bpf/btf.rst).

Type ids are those of the file: 0 is ``void``. Sizes are in bytes, member
offsets and bit-field sizes in bits.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.IntEnum):
    """The kinds of ``enum`` BTF_KIND in include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    POINTER = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FORWARD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNCTION = 12
    PROTOTYPE = 13
    VARIABLE = 14
    SECTION = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a struct or union. ``bits`` is 0 unless it is a bit field."""

    name: str
    type: int
    offset: int
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a prototype; type 0 with no name stands for ``...``."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class Type:
    """One type. Which fields mean something depends on ``kind``.

    ``target`` is the pointed-to, modified, aliased, element or returned type,
    a function's prototype, or the type of a variable. ``count`` is an array's
    length. ``flag`` is BTF's kind_flag: a signed enum, a forward union.
    ``encoding`` of an INT: 1 signed, 2 char, 4 bool.
    """

    id: int
    kind: Kind
    name: str = ""
    size: int = 0
    target: int = 0
    count: int = 0
    encoding: int = 0
    flag: bool = False
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Syscall:
    """A syscall entry point named in BTF.

    ``name`` is the kernel's (``newuname``), which may differ from the table's
    (``uname``). ``parameters`` are pairs of name and C type, known only where
    the compiler kept a typed ``__do_sys_*``; None means unknown, not none.
    """

    name: str
    entry: str
    parameters: tuple[tuple[str, str], ...] | None = None
