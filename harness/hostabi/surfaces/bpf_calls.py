"""Calls of bpf(2): what each command is given, by the names of union bpf_attr's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from cffi import FFI

from hostabi.diff import keys
from hostabi.model import Value as FactValue
from hostabi.surfaces.bpf_instructions import SIZE, Instruction, assembled, leave
from hostabi.surfaces.probing import Questions, Read
from hostabi.surfaces.slots import Patch, patched, together
from hostabi.syscalls import types
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

Fields = Mapping[str, Value]
"""Fields of union bpf_attr, those of a struct within it as ``link_create.prog_fd``."""
Asked = tuple[str, int, Slot, int]
"""A call: its name and its arguments."""

ATTRIBUTE = "union bpf_attr"
_ANY = (1 << 64) - 1
"""RLIM64_INFINITY."""
MARK = 0xA5A5A5A5
"""What lies, again and again, where a kernel must not write."""


def questions(
    *, arena: int = 1 << 17, timeout: float = 10.0, namespaces: int = 0, memory: int = _ANY
) -> Questions:
    """A program that may lock ``memory`` bytes: older kernels count BPF's memory as locked."""
    q = Questions(arena=arena, timeout=timeout, namespaces=namespaces)
    limit = q.struct("struct rlimit64", rlim_cur=memory, rlim_max=memory)
    q.call("prlimit64", 0, C.RLIMIT_MEMLOCK, limit, 0)
    return q


@cache
def place(field: str) -> tuple[int, int]:
    """Offset and bytes of a field."""
    path = field.split(".")
    offset = types.ffi.offsetof(types.need(ATTRIBUTE), *path)
    whole = types.ffi.new(f"{ATTRIBUTE} *")
    for name in path[:-1]:
        whole = getattr(whole, name)
    return int(offset), _size(types.ffi.typeof(whole), path[-1])


def _size(kind: FFI.CType, name: str) -> int:
    """Bytes of the field, which may be in one that has no name."""
    for found, field in (kind.item if kind.kind == "pointer" else kind).fields or ():
        if found == name:
            return int(types.ffi.sizeof(types.ffi.getctype(field.type)))
        inner = 0 if found else _size(field.type, name)
        if inner:
            return inner
    return 0


def attribute(q: Questions, fields: Fields, *points_to: Slot) -> Slot:
    """A union bpf_attr. ``points_to`` are slots it leads to that are themselves patched.

    It is as long as the headers' own: an older kernel takes a longer one whose end is zero.
    """
    raw, late = bytearray(types.size(ATTRIBUTE)), list[Patch]()
    for name, value in fields.items():
        offset, length = place(name)
        if isinstance(value, int):
            mask = (1 << 8 * length) - 1
            raw[offset : offset + length] = (value & mask).to_bytes(length, "little")
        else:
            late.append((offset, length, value))
    slots = [value for value in fields.values() if isinstance(value, Slot)]
    shown = ", ".join(f"{name}={_shown(value)}" for name, value in fields.items() if value != 0)
    slot = replace(q.content(bytes(raw)), text=f"{{{shown}}}")
    return together(patched(slot, *late), *slots, *points_to)


def _shown(value: Value) -> int | str:
    if isinstance(value, Ref):
        return f"r{value.call}"
    if isinstance(value, Slot):
        return value.text if isinstance(value.text, str) else "..."
    return value if isinstance(value, int) else value.text


def command(q: Questions, name: str, fields: Fields, *points_to: Slot) -> Asked:
    """A call of bpf(2)."""
    given = attribute(q, fields, *points_to)
    return "bpf", getattr(C, name), given, given.size


def program(
    q: Questions,
    kind: str,
    code: Sequence[Instruction] = (),
    attach: int = 0,
    *,
    flags: int = 0,
    more: Fields | None = None,
) -> Asked:
    """Loads a program of BPF_PROG_TYPE_``kind``; without ``code`` one that returns 1."""
    instructions = assembled(q, code or leave(1))
    fields: dict[str, Value] = {
        "prog_type": getattr(C, f"BPF_PROG_TYPE_{kind}"),
        "insn_cnt": instructions.size // SIZE,
        "insns": instructions,
        "license": q.string("GPL"),
        "prog_flags": flags,
        "expected_attach_type": attach,
    }
    return command(q, "BPF_PROG_LOAD", fields | dict(more or {}))


def table(q: Questions, kind: str, fields: Fields | None = None) -> Asked:
    """Makes a map of BPF_MAP_TYPE_``kind``, by default of 4 longs with numbers as keys."""
    plain: dict[str, Value] = {
        "map_type": getattr(C, f"BPF_MAP_TYPE_{kind}"),
        "key_size": 4,
        "value_size": 8,
        "max_entries": 4,
    }
    return command(q, "BPF_MAP_CREATE", plain | dict(fields or {}))


def attach(
    q: Questions, target: Value, prog: Value, kind: int, more: Fields | None = None
) -> Asked:
    """BPF_PROG_ATTACH."""
    fields = {"target_fd": target, "attach_bpf_fd": prog, "attach_type": kind}
    return command(q, "BPF_PROG_ATTACH", fields | dict(more or {}))


def detach(q: Questions, target: Value, prog: Value, kind: int) -> Asked:
    """BPF_PROG_DETACH."""
    fields = {"target_fd": target, "attach_bpf_fd": prog, "attach_type": kind}
    return command(q, "BPF_PROG_DETACH", fields)


def link(q: Questions, target: Value, prog: Value, kind: int, more: Fields | None = None) -> Asked:
    """BPF_LINK_CREATE; ``more`` are fields of ``link_create``."""
    fields = {"target_fd": target, "prog_fd": prog, "attach_type": kind}
    return command(q, "BPF_LINK_CREATE", within("link_create", fields | dict(more or {})))


def within(struct: str, fields: Fields) -> Fields:
    """Fields of a struct in the union."""
    return {f"{struct}.{name}": value for name, value in fields.items()}


def run(
    q: Questions,
    key: str,
    prog: Ref,
    wanted: int | None,
    data: Fields | None = None,
    *,
    needs: Sequence[Ref] = (),
) -> Ref:
    """Ask whether a program runs, and returns what it should (BPF_PROG_TEST_RUN).

    ``data`` are fields of ``test``; without ``wanted`` it may return anything.
    """
    fields: dict[str, Value] = {"prog_fd": prog}
    asked = command(q, "BPF_PROG_TEST_RUN", within("test", fields | dict(data or {})))
    answer = part(asked, "test.retval")
    read = None if wanted is None else _returned(answer, wanted)
    return q.ask(key, *asked, needs=(*needs, prog), read=read, out=[answer])


def part(asked: Asked, field: str) -> Slot:
    """The place of a field that a kernel writes, in what a command is given."""
    return asked[2].at(*place(field))


def number(slot: Slot) -> Read:
    """The number that a kernel wrote."""
    return lambda trace, ref: trace.number(ref, slot)


def _returned(answer: Slot, wanted: int) -> Read:
    def read(trace: Trace, ref: Ref) -> FactValue:
        got = int.from_bytes(trace.bytes(ref, answer), "little", signed=True)
        return keys.OK if got == wanted else f"returns {got}"

    return read


def ask_within(
    q: Questions, key: str, asked: Asked, size: int, *, needs: Sequence[Ref] = ()
) -> None:
    """Ask whether a command leaves alone what lies behind the first ``size`` bytes it is given."""
    name, command_, given, length = asked
    marked = patched(given, *((at, 4, MARK) for at in range(size, length, 4)))
    behind = given.at(size, length - size)
    q.ask(key, name, command_, marked, size, needs=needs, read=untouched(behind), out=[behind])


def untouched(marked: Slot) -> Read:
    """``ok`` where nothing was written to a slot full of marks."""

    def read(trace: Trace, ref: Ref) -> FactValue:
        raw = trace.bytes(ref, marked)
        return keys.OK if raw == MARK.to_bytes(4, "little") * (len(raw) // 4) else "writes beyond"

    return read
