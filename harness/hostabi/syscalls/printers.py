"""Programs as source text: a C file that reproduces what was seen, and Python that rebuilds it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hostabi.agent.program import (
    Abi,
    Argument,
    Children,
    Pointer,
    Program,
    Ran,
    Result,
    Sandbox,
    Scratch,
    Store,
    Word,
)
from hostabi.errors import InputError
from hostabi.syscalls import table, types
from hostabi.syscalls.builder import Built
from hostabi.syscalls.names import c_string
from hostabi.syscalls.table import errno_number
from hostabi.syscalls.trace import Trace, normalised

TEMPLATE = Path(__file__).parent / "data" / "reproducer.c"

Side = tuple[str, Ran]
"""A name for people, and what was seen there."""

_UNSEEN = "INT64_MIN"
_OPAQUE = "INT64_MAX"
_SHARED = 300
"""Characters from which a part is worth a file of its own."""
_ZEROS = re.compile(rb"(\0{32,})")
"""Bytes of zeros that are told by their number."""
_GAP = 12
"""Zeros that are written down between two others; more are left out."""


@dataclass(frozen=True)
class Expected:
    """What a C program checks: ``chain`` are the calls that have to work, the last one decides.

    ``value`` is ``ok``, the name of an errno or of a signal, ``hangs``, or None
    for the result and the bytes of the deciding call as the first side saw
    them. ``fine`` are errnos that count as working.
    """

    chain: tuple[int, ...]
    value: str | None
    fine: frozenset[str] = frozenset()
    bits: int = -1
    """Those bits of the deciding call's result that matter, where it is compared."""
    masks: tuple[bytes, ...] = ()
    """For each output of the program the bits that matter; by its type where there are none."""


def to_c(
    built: Built,
    *,
    sandbox: Sandbox | None = None,
    sides: Sequence[Side] = (),
    expected: Expected | None = None,
) -> str:
    """A self-contained C program that does what ``built`` does and prints each result.

    With two ``sides`` it exits 0 when it sees what the first saw, 1 for the
    second, 2 for neither; with one, 0 or 2; with none it only prints. With
    ``expected`` it exits 0 when it sees that, 1 when it does not, 3 when it
    could not find out. It needs no headers beyond the C library's and no
    privileges beyond the program's own; where it works on ext4, TMPDIR has to
    name a folder there. Raises InputError for a program of several roles, which
    needs the agent.
    """
    sandbox = sandbox or Sandbox()
    program = built.program
    if program.roles > 1:
        raise InputError(
            "a program of several roles has no C program",
            advice="printers.to_python gives source that an agent can run",
        )
    text = TEMPLATE.read_text()
    parts = {
        "title": _title(built, sides, expected),
        "calls_count": str(len(program.calls)),
        "arena": str(program.arena),
        "data": "".join(_c_piece(*piece) for piece in _pieces(program.data)),
        "calls": "\n".join(_c_call(built, index) for index in range(len(program.calls))),
        "outputs": "".join(f"\t{{ {o.call}, {o.offset}, {o.length} }},\n" for o in program.outputs),
        "outputs_room": str(max(sum(o.length for o in program.outputs), 1)),
        "sides": "".join(
            _c_side(built, name, ran, expected.masks if expected else ()) for name, ran in sides
        ),
        "sides_count": str(len(sides)),
        "children": "2" if program.children is Children.PAUSE else "1",
        "names": "".join(f"\t{c_string(step.name.encode())},\n" for step in built.steps),
        **_c_sandbox(sandbox),
        **_c_expected(expected),
    }
    for name, value in parts.items():
        text = text.replace(f"/*@{name}@*/", value)
    return text


def shared() -> list[str]:
    """The parts of a C program that are in every one, whole functions each."""
    pieces = re.split(r"/\*@\w+@\*/", TEMPLATE.read_text())
    found = []
    for piece in pieces:
        start = piece.find("*/\n") + 3 if piece.startswith("\n *") else piece.find("\n\n") + 2
        end = len(piece) if piece is pieces[-1] else piece.rfind("\n\n") + 1
        if end - start > _SHARED:
            found.append(piece[start:end])
    return found


def shared_files() -> dict[str, str]:
    """Headers with those parts, by name, for programs that lie in one folder."""
    return {f"shared-{number}.h": text for number, text in enumerate(shared(), 1)}


def including(text: str, headers: Mapping[str, str]) -> str:
    """A C program that includes the headers in place of what they have."""
    for name, part in headers.items():
        text = text.replace(part, f'#include "{name}"\n', 1)
    return text


def _c_sandbox(sandbox: Sandbox) -> dict[str, str]:
    return {
        "namespaces": f"{sandbox.namespaces:#x}L",
        "uid": str(sandbox.uid),
        "gid": str(sandbox.gid),
        "map_root": str(int(sandbox.map_root)),
        "no_new_privs": str(int(sandbox.no_new_privs)),
        "own_proc": str(int(sandbox.own_proc)),
        "own_sys": str(int(sandbox.own_sys)),
        "overlay": str(int(sandbox.scratch is Scratch.OVERLAY)),
        "ext4": str(int(sandbox.scratch is Scratch.EXT4)),
        "seconds": str(max(1, round(sandbox.timeout)) * 5),
        "filter": _c_bytes(sandbox.seccomp),
    }


def _c_expected(expected: Expected | None) -> dict[str, str]:
    if expected is None:
        return {"chain": "", "fine": "", "expect": "NOTHING", "expected": "0", "bits": "-1"}
    kind, number = "FAILS", 0
    value = expected.value
    if value is None:
        kind = "SEEN"
    elif value == "ok":
        kind = "WORKS"
    elif value == "hangs":
        kind = "HANGS"
    elif value in signal.Signals.__members__:
        kind, number = "SIGNALLED", signal.Signals[value].value
    else:
        number = errno_number(value)
    return {
        "chain": "".join(f"{call}, " for call in expected.chain),
        "fine": "".join(f"{errno_number(name)}, " for name in sorted(expected.fine)),
        "bits": _c_value(expected.bits),
        "expect": kind,
        "expected": str(number),
    }


def _title(built: Built, sides: Sequence[Side], expected: Expected | None) -> str:
    lines = []
    if expected is not None:
        wanted = "as it was seen" if expected.value is None else expected.value
        last = expected.chain[-1]
        lines = [f"exits 0 where r{last} is {wanted}, 1 where it is not:", f"{built.steps[last]}"]
        return _comment([*lines, ""])
    for (name, ran), code in zip(sides, (0, 1), strict=False):
        lines += [f"exits {code} where it sees what {name} did:", *Trace(built, ran).lines(), ""]
    if not sides:
        lines = [str(step) for step in built.steps]
    return _comment(lines)


def _comment(lines: Iterable[str]) -> str:
    safe = (line.replace("*/", "*\\/").replace("/*", "/\\*") for line in lines)
    return "\n".join(f" * {line}".rstrip() for line in safe)


def _c_bytes(raw: bytes) -> str:
    rows = [raw[at : at + 24] for at in range(0, len(raw), 24)]
    return "\n".join("\t" + c_string(row) for row in rows) or '\t""'


def _pieces(raw: bytes) -> Iterable[tuple[int, bytes]]:
    """What is not zero, with its offset; short gaps are kept."""
    start = end = 0
    for at, byte in enumerate(raw):
        if byte and at - end > _GAP:
            yield start, raw[start:end]
            start = at
        if byte:
            end = at + 1
    yield start, raw[start:end]


def _c_piece(offset: int, raw: bytes) -> str:
    return f"\t{{ {offset}, {len(raw)},\n{_c_bytes(raw)} }},\n" if raw else ""


def _c_value(argument: Argument) -> str:
    match argument:
        case Result(call):
            return f"R({call})"
        case Pointer(offset):
            return f"AT({offset})"
        case Word(offset, size):
            return f"word({offset}, {size})"
    return f"{argument}" if abs(argument) < 1 << 63 else f"{argument % (1 << 64)}ULL"


def _c_call(built: Built, index: int) -> str:
    call = built.program.calls[index]
    step = str(built.steps[index]).replace("*/", "*\\/").replace("/*", "/\\*")
    lines = [f"\t/* r{index} = {step} */"]
    lines += [f"\tstore({s.offset}, {s.size}, {_c_value(s.value)});" for s in call.stores]
    values = [_c_value(argument) for argument in call.arguments]
    padded = values + ["0"] * (6 - len(values))
    lines.append(f"\tdo_call({index}, {call.number}, {call.abi.name}, {', '.join(padded)});")
    return "\n".join(lines)


def _c_side(built: Built, name: str, ran: Ran, given: Sequence[bytes]) -> str:
    view = normalised(built, ran)
    seen = ran if given else view
    shown = [
        _OPAQUE if step.opaque and not -4095 <= value < 0 else f"{value}LL"
        for step, value in zip(built.steps, view.values, strict=False)
    ]
    shown += [_UNSEEN] * (len(built.steps) - len(shown))
    masks = b"".join(given or map(partial(_mask, built), range(len(built.program.outputs))))
    room = b"".join(
        raw.ljust(o.length, b"\0")
        for raw, o in zip(seen.outputs, built.program.outputs, strict=True)
    )
    return (
        f"\t{{ {c_string(name.encode())}, {{ {', '.join(shown)} }},\n"
        f"{_c_bytes(room)},\n{_c_bytes(masks)} }},\n"
    )


def _mask(built: Built, index: int) -> bytes:
    length = built.program.outputs[index].length
    kind = built.types[index]
    return types.normalised(kind, b"\xff" * length) if kind in types.VOLATILE else b"\xff" * length


def to_python(program: Program) -> str:
    """Python source that makes ``program`` anew; numbers of syscalls are given by name."""
    calls = ",\n".join(f"        {_py_call(program, index)}" for index in range(len(program.calls)))
    words = "Abi, Call, Children, Output, Pointer, Program, Result, Store, Word"
    lines = [
        f"from hostabi.agent.program import {words}",
        "from hostabi.syscalls.table import number",
        "",
        "program = Program(",
        f"    calls=(\n{calls},\n    ),",
        f"    data={_py_bytes(program.data)},",
        f"    arena={program.arena},",
        f"    outputs={program.outputs!r},",
        f"    children=Children.{program.children.name},",
        ")",
    ]
    return "\n".join(lines) + "\n"


def _py_call(program: Program, index: int) -> str:
    call = program.calls[index]
    name = table.name(call.number, call.abi)
    known = table.numbers(call.abi).get(name) == call.number
    abi = "" if call.abi is Abi.NATIVE else f", Abi.{call.abi.name}"
    number = f'number("{name}"{abi})' if known else str(call.number)
    stores = f", {_py_tuple(call.stores)}" if call.stores or abi else ""
    role = f", role={call.role}" if call.role else ""
    role += f", starts={call.starts}" if call.starts else ""
    return f"Call({number}, {_py_tuple(call.arguments)}{stores}{abi}{role})"


def _py_bytes(raw: bytes) -> str:
    """The bytes, with long runs of zeros as what makes them."""
    parts = [part for part in _ZEROS.split(raw) if part]
    told = [f"bytes({len(part)})" if _ZEROS.fullmatch(part) else repr(part) for part in parts]
    return " + ".join(told) or "b''"


def _py_tuple(values: Sequence[Argument | Store]) -> str:
    return "(" + "".join(f"{value!r}, " for value in values).rstrip() + ")"
