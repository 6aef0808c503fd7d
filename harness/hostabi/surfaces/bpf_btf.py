"""Types that a program describes to the kernel (kernel: bpf/btf.rst)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hostabi.surfaces.bpf_calls import Asked, command, questions
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.builder import Value
from hostabi.syscalls.table import C

_HEADER = 24
"""Bytes of struct btf_header."""


@dataclasses.dataclass(frozen=True)
class Described:
    """A struct btf_type and what follows it. Types are numbered from 1, in their order.

    ``size`` is the number of another type where the kind has no size. ``rest``
    are numbers of 32 bits; a text among them is a name.
    """

    kind: str
    name: str = ""
    size: int = 0
    count: int = 0
    flag: bool = False
    rest: tuple[int | str, ...] = ()


INT = Described("INT", "int", 4, rest=(C.BTF_INT_SIGNED << 24 | 32,))
LONG = Described("INT", "long", 8, rest=(C.BTF_INT_SIGNED << 24 | 64,))
NOTHING = Described("FUNC_PROTO", size=1)
"""The prototype of a function without arguments that returns the first type."""
MAIN = Described("FUNC", "main", 2, C.BTF_FUNC_GLOBAL)

_STRUCT = Described("STRUCT", "s", 4, 1, rest=("m", 1, 0))
_VAR = Described("VAR", "v", 1, rest=(C.BTF_VAR_GLOBAL_ALLOCATED,))
_KINDS: dict[str, tuple[Described, ...]] = {
    "INT": (),
    "PTR": (Described("PTR", size=1),),
    "ARRAY": (Described("ARRAY", rest=(1, 1, 4)),),
    "STRUCT": (_STRUCT,),
    "STRUCT.bitfield": (Described("STRUCT", "s", 4, 1, True, ("m", 1, 3 << 24)),),
    "UNION": (Described("UNION", "u", 4, 1, rest=("m", 1, 0)),),
    "ENUM": (Described("ENUM", "e", 4, 1, rest=("a", 7)),),
    "ENUM.signed": (Described("ENUM", "e", 4, 1, True, ("a", -7)),),
    "ENUM.bytes": (Described("ENUM", "e", 1, 1, rest=("a", 7)),),
    "FWD": (Described("FWD", "f"),),
    "TYPEDEF": (Described("TYPEDEF", "t", 1),),
    "VOLATILE": (Described("VOLATILE", size=1),),
    "CONST": (Described("CONST", size=1),),
    "RESTRICT": (Described("PTR", size=1), Described("RESTRICT", size=2)),
    "FUNC_PROTO": (NOTHING,),
    "FUNC": (NOTHING, Described("FUNC", "f", 2)),
    "FUNC.global": (NOTHING, MAIN),
    "FUNC.extern": (NOTHING, Described("FUNC", "f", 2, C.BTF_FUNC_EXTERN)),
    "VAR": (_VAR,),
    "VAR.extern": (dataclasses.replace(_VAR, rest=(C.BTF_VAR_GLOBAL_EXTERN,)),),
    "DATASEC": (_VAR, Described("DATASEC", ".data", 4, 1, rest=(2, 0, 4))),
    "FLOAT": (Described("FLOAT", "float", 4),),
    "DECL_TAG": (_STRUCT, Described("DECL_TAG", "tag", 2, rest=(-1,))),
    "DECL_TAG.member": (_STRUCT, Described("DECL_TAG", "tag", 2, rest=(0,))),
    "DECL_TAG.typedef": (
        Described("TYPEDEF", "t", 1),
        Described("DECL_TAG", "tag", 2, rest=(-1,)),
    ),
    "DECL_TAG.attribute": (_STRUCT, Described("DECL_TAG", "tag", 2, 0, True, (-1,))),
    "TYPE_TAG": (Described("TYPE_TAG", "tag", 1), Described("PTR", size=2)),
    "TYPE_TAG.attribute": (Described("TYPE_TAG", "tag", 1, 0, True), Described("PTR", size=2)),
    "ENUM64": (Described("ENUM64", "e", 8, 1, rest=("a", 7, 1)),),
}
"""Types of each kind, after a first one that is an int."""


def btf(*types: Described) -> bytes:
    """The types and their names as the kernel reads them."""
    names, raw = b"\0", b""
    places: dict[str, int] = {"": 0}
    for each in types:
        for name in (each.name, *(part for part in each.rest if isinstance(part, str))):
            if name not in places:
                places[name] = len(names)
                names += name.encode() + b"\0"
        kind = getattr(C, f"BTF_KIND_{each.kind}")
        info = int(each.flag) << 31 | kind << 24 | each.count
        rest = (places[part] if isinstance(part, str) else part for part in each.rest)
        raw += words(places[each.name], info, each.size, *rest)
    head = words(C.BTF_MAGIC | C.BTF_VERSION << 16, _HEADER, 0, len(raw), len(raw), len(names))
    return head + raw + names


def loaded(q: Questions, raw: bytes) -> Asked:
    """Has the kernel take types."""
    return command(q, "BPF_BTF_LOAD", {"btf": q.content(raw), "btf_size": len(raw)})


def functions(q: Questions, *starts: int) -> dict[str, Value]:
    """What BPF_PROG_LOAD is told of functions that start at these instructions, main first."""
    others = [Described("FUNC", f"f{at}", 2) for at in starts[1:]]
    types = q.call(*loaded(q, btf(INT, NOTHING, MAIN, *others)), opaque=True)
    rows = q.content(b"".join(words(at, 3 + index) for index, at in enumerate(starts)))
    return {
        "prog_btf_fd": types,
        "func_info": rows,
        "func_info_cnt": len(starts),
        "func_info_rec_size": 8,
    }


def kinds() -> Iterator[Probe]:
    """Which kinds of types there can be."""
    q = questions()
    for name, types in _KINDS.items():
        q.ask(f"btf.{name}", *loaded(q, btf(INT, *types)), opaque=True)
    log = q.buffer(4096)
    good = btf(INT)
    fields: dict[str, Value] = {"btf": q.content(good), "btf_size": len(good), "btf_log_level": 1}
    logged = command(q, "BPF_BTF_LOAD", fields | {"btf_log_buf": log, "btf_log_size": log.size})
    q.ask("btf.log", *logged, opaque=True)
    yield from q.probes()
