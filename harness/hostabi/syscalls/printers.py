"""Programs as source text: a C file that reproduces what was seen, and Python that rebuilds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hostabi.agent.program import Argument, Pointer, Program, Ran, Result, Sandbox, Store, Word
from hostabi.errors import InputError
from hostabi.syscalls import table, types
from hostabi.syscalls.builder import Built
from hostabi.syscalls.names import c_string
from hostabi.syscalls.trace import Trace, normalised

TEMPLATE = Path(__file__).parent / "data" / "reproducer.c"

Side = tuple[str, Ran]
"""A name for people, and what was seen there."""

_UNSEEN = "INT64_MIN"
_OPAQUE = "INT64_MAX"


def to_c(built: Built, *, sandbox: Sandbox | None = None, sides: Sequence[Side] = ()) -> str:
    """A self-contained C program that does what ``built`` does and prints each result.

    With two ``sides`` it exits 0 when it sees what the first saw, 1 for the
    second, 2 for neither; with one, 0 or 2; with none it only prints. It needs
    no headers beyond the C library's and no privileges beyond the program's own.
    """
    sandbox = sandbox or Sandbox()
    if sandbox.seccomp:
        raise InputError("a program under a seccomp filter cannot be printed as C yet")
    program = built.program
    parts = {
        "title": _title(built, sides),
        "calls_count": str(len(program.calls)),
        "arena": str(program.arena),
        "data": _c_bytes(program.data),
        "calls": "\n".join(_c_call(built, index) for index in range(len(program.calls))),
        "outputs": "".join(f"\t{{ {o.call}, {o.offset}, {o.length} }},\n" for o in program.outputs),
        "outputs_room": str(max(sum(o.length for o in program.outputs), 1)),
        "sides": "".join(_c_side(built, name, ran) for name, ran in sides),
        "sides_count": str(len(sides)),
        "namespaces": hex(sandbox.namespaces),
        "uid": str(sandbox.uid),
        "gid": str(sandbox.gid),
        "map_root": str(int(sandbox.map_root)),
        "no_new_privs": str(int(sandbox.no_new_privs)),
        "names": "".join(f"\t{c_string(step.name.encode())},\n" for step in built.steps),
    }
    text = TEMPLATE.read_text()
    for name, value in parts.items():
        text = text.replace(f"/*@{name}@*/", value)
    return text


def _title(built: Built, sides: Sequence[Side]) -> str:
    lines = []
    for (name, ran), code in zip(sides, (0, 1), strict=False):
        lines += [f"exits {code} where it sees what {name} did:", *Trace(built, ran).lines(), ""]
    if not sides:
        lines = [str(step) for step in built.steps]
    safe = (line.replace("*/", "*\\/").replace("/*", "/\\*") for line in lines)
    return "\n".join(f" * {line}".rstrip() for line in safe)


def _c_bytes(raw: bytes) -> str:
    rows = [raw[at : at + 24] for at in range(0, len(raw), 24)]
    return "\n".join("\t" + c_string(row) for row in rows) or '\t""'


def _c_value(argument: Argument) -> str:
    match argument:
        case Result(call):
            return f"(uint64_t)seen->values[{call}]"
        case Pointer(offset):
            return f"(uint64_t)(uintptr_t)(arena + {offset})"
        case Word(offset, size):
            return f"word({offset}, {size})"
    return f"(uint64_t){argument}LL" if abs(argument) < 1 << 63 else f"{argument}ULL"


def _c_call(built: Built, index: int) -> str:
    call = built.program.calls[index]
    step = str(built.steps[index]).replace("*/", "*\\/").replace("/*", "/\\*")
    lines = [f"\t/* r{index} = {step} */"]
    lines += [f"\tstore({s.offset}, {s.size}, {_c_value(s.value)});" for s in call.stores]
    values = [_c_value(argument) for argument in call.arguments]
    padded = values + ["0"] * (6 - len(values))
    lines.append(f"\tdo_call({index}, {call.number}, {', '.join(padded)});")
    return "\n".join(lines)


def _c_side(built: Built, name: str, ran: Ran) -> str:
    view = normalised(built, ran)
    shown = [
        _OPAQUE if step.opaque and not -4095 <= value < 0 else f"{value}LL"
        for step, value in zip(built.steps, view.values, strict=False)
    ]
    shown += [_UNSEEN] * (len(built.steps) - len(shown))
    masks = b"".join(_mask(built, index) for index in range(len(built.program.outputs)))
    room = b"".join(
        raw.ljust(o.length, b"\0")
        for raw, o in zip(view.outputs, built.program.outputs, strict=True)
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
    lines = [
        "from hostabi.agent.program import Call, Output, Pointer, Program, Result, Store, Word",
        "from hostabi.syscalls.table import number",
        "",
        "program = Program(",
        f"    calls=(\n{calls},\n    ),",
        f"    data={program.data!r},",
        f"    arena={program.arena},",
        f"    outputs={program.outputs!r},",
        ")",
    ]
    return "\n".join(lines) + "\n"


def _py_call(program: Program, index: int) -> str:
    call = program.calls[index]
    name = table.name(call.number)
    known = table.tables().syscalls.get(name) == call.number
    number = f'number("{name}")' if known else str(call.number)
    stores = f", {_py_tuple(call.stores)}" if call.stores else ""
    return f"Call({number}, {_py_tuple(call.arguments)}{stores})"


def _py_tuple(values: Sequence[Argument | Store]) -> str:
    return "(" + "".join(f"{value!r}, " for value in values).rstrip() + ")"
