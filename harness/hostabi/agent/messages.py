"""Requests as bytes and answers as records; the only place that knows both."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from hostabi.agent.program import (
    Abi,
    Alteration,
    Altered,
    Argument,
    Children,
    End,
    Pointer,
    Program,
    Ran,
    Report,
    Result,
    Sandbox,
    Scratch,
)
from hostabi.agent.records import Completed, Entry, Hello
from hostabi.agent.wire import LIMIT, VERSION, Reader, constants, ffi, layout, pack, pad, text
from hostabi.errors import InputError, ProtocolError

_WORD = 0xFFFF_FFFF_FFFF_FFFF
_NUMBER: int = constants.WIRE_NUMBER
_RESULT: int = constants.WIRE_RESULT
_FOUND: int = constants.WIRE_WORD
_POINTER: int = constants.WIRE_POINTER
_SCRATCH = {
    Scratch.TMPFS: constants.WIRE_SCRATCH_TMPFS,
    Scratch.EXT4: constants.WIRE_SCRATCH_EXT4,
    Scratch.OVERLAY: constants.WIRE_SCRATCH_OVERLAY,
}
_ABIS: dict[Abi, int] = {
    Abi.NATIVE: constants.WIRE_NATIVE,
    Abi.X32: constants.WIRE_X32,
    Abi.IA32: constants.WIRE_IA32,
    Abi.DEED: constants.WIRE_DEED,
}
_ENDS = {
    constants.WIRE_EXITED: End.EXITED,
    constants.WIRE_SIGNALLED: End.SIGNALLED,
    constants.WIRE_TIMED_OUT: End.TIMED_OUT,
    constants.WIRE_REFUSED: End.REFUSED,
}
_REPORTS: dict[Report, int] = {
    Report.NOTHING: 0,
    Report.STATE: constants.WIRE_REPORT_STATE,
    Report.MOUNTS: constants.WIRE_REPORT_STATE | constants.WIRE_REPORT_MOUNTS,
}
_ALTERED: dict[Altered, int] = {
    Altered.NOTHING: constants.WIRE_ALTER_NOTHING,
    Altered.ERROR: constants.WIRE_ALTER_ERROR,
    Altered.RESULT: constants.WIRE_ALTER_RESULT,
    Altered.FLAG: constants.WIRE_ALTER_FLAG,
    Altered.OUT: constants.WIRE_ALTER_OUT,
}
_STATE = 1 << 16
"""Bytes that the text of what a program left may have."""
_FEATURES = {
    "cgroup2": constants.WIRE_HAS_CGROUP2,
    "cgroup1": constants.WIRE_HAS_CGROUP1,
    "tracefs": constants.WIRE_HAS_TRACEFS,
    "debugfs": constants.WIRE_HAS_DEBUGFS,
    "modules": constants.WIRE_HAS_MODULES,
}
_KINDS = frozenset(b"fdlcbps")
_OTHER_BUILD = (
    "the guest's agent is of another build; clear saved states with `hostabi cache prune`"
)


def milliseconds(seconds: float) -> int:
    """For a time-out field: at least 1, at most a day."""
    return max(1, min(math.ceil(seconds * 1000), 86_400_000))


def path_bytes(path: str) -> bytes:
    """A path with its NUL. Raises InputError for a NUL within."""
    raw = os.fsencode(path)
    if b"\0" in raw or not raw:
        raise InputError(f"not a path: {path!r}")
    return raw + b"\0"


def _value(argument: Argument) -> tuple[int, int, int]:
    if isinstance(argument, int):
        return (_NUMBER, 0, argument & _WORD)
    if isinstance(argument, Pointer):
        return (_POINTER, 0, argument.offset & _WORD)
    if isinstance(argument, Result):
        return (_RESULT, 0, argument.call & _WORD)
    return (_FOUND, argument.size, argument.offset & _WORD)


def encode_program(program: Program) -> bytes:
    """One program as the agent reads it. Raises InputError for what the wire cannot say."""
    calls, stores = [], []
    for call in program.calls:
        arguments = [_value(argument) for argument in call.arguments]
        counts = len(arguments), len(call.stores)
        who = call.role, call.starts
        calls.append((call.number, *counts, _ABIS[call.abi], *who, arguments))
        if call.stores:
            stores += [(store.offset, store.size, _value(store.value)) for store in call.stores]
    outputs = [(output.call, output.offset, output.length) for output in program.outputs]
    flags = constants.WIRE_PAUSE_CHILDREN if program.children is Children.PAUSE else 0
    flags |= _REPORTS[program.report]
    sizes = len(calls), len(stores), len(outputs), len(program.data)
    head = (*sizes, program.arena, flags, program.roles)
    try:
        parts = [
            ffi.buffer(ffi.new("struct wire_program *", head)),
            ffi.buffer(ffi.new("struct wire_call[]", calls)),
            ffi.buffer(ffi.new("struct wire_store[]", stores)),
            ffi.buffer(ffi.new("struct wire_output[]", outputs)),
        ]
    except (OverflowError, IndexError, ValueError) as error:
        raise InputError(f"a program that cannot be sent: {error}") from error
    return b"".join((*parts, pad(program.data)))


def encode_sandbox(sandbox: Sandbox, scale: float = 1.0) -> dict[str, object]:
    """The fields of a sandbox; ``scale`` stretches its time-out. The filter is sent apart."""
    flags = constants.WIRE_MAP_ROOT if sandbox.map_root else 0
    flags |= constants.WIRE_NO_NEW_PRIVS if sandbox.no_new_privs else 0
    flags |= constants.WIRE_OWN_PROC if sandbox.own_proc else 0
    flags |= constants.WIRE_OWN_SYS if sandbox.own_sys else 0
    return {
        "namespaces": sandbox.namespaces,
        "uid": sandbox.uid,
        "gid": sandbox.gid,
        "flags": flags,
        "scratch": _SCRATCH[sandbox.scratch],
        "timeout": milliseconds(sandbox.timeout * scale),
        "filter": len(sandbox.seccomp),
    }


def encode_run(programs: Sequence[Program], sandbox: Sandbox, scale: float) -> bytes:
    """Programs that run one after another in a sandbox each."""
    head = pack("wire_run", sandbox=encode_sandbox(sandbox, scale), programs=len(programs))
    return b"".join((head, pad(sandbox.seccomp), *map(encode_program, programs)))


def encode_alteration(alteration: Alteration) -> bytes:
    """How a call is to differ."""
    return pack(
        "wire_alter",
        number=alteration.number,
        kind=_ALTERED[alteration.how],
        argument=alteration.argument,
        match=alteration.match,
        value=alteration.value,
        offset=alteration.offset,
    )


def decode_ran(reader: Reader, program: Program) -> Ran:
    """The record of one program."""
    ran = reader.struct("wire_ran")
    if ran.values > len(program.calls) or ran.outputs != len(program.outputs):
        raise ProtocolError("an answer counts more calls or outputs than its program has")
    if ran.end not in _ENDS:
        raise ProtocolError(f"a program ended in an unknown way: {ran.end}")
    values = tuple(reader.array("int64_t", ran.values))
    outputs: tuple[bytes, ...] = ()
    if program.outputs:
        taken = reader.array("uint32_t", ran.outputs)
        reader.align()
        outputs = tuple(
            _output(reader, output.length) if one else b""
            for one, output in zip(taken, program.outputs, strict=True)
        )
    detail = text(ran.step) if ran.end == constants.WIRE_REFUSED else ""
    if ran.state > _STATE:
        raise ProtocolError(f"a program left {ran.state} bytes of state, more than is ever told")
    state = _output(reader, ran.state) if ran.state else b""
    return Ran(_ENDS[ran.end], ran.code, values, outputs, detail, state)


def _output(reader: Reader, length: int) -> bytes:
    kept = reader.bytes(length, "an output")
    reader.align()
    return kept


def decode_hello(payload: bytes) -> Hello:
    """Who answers. Raises ProtocolError unless both sides mean the same by every struct."""
    reader = Reader(payload)
    # Only the version's place is sure before it has been compared.
    version = int(ffi.cast("uint32_t *", ffi.from_buffer(payload))[0]) if len(payload) >= 4 else 0
    if version != VERSION:
        raise ProtocolError(
            f"the agent speaks version {version} of the protocol, the host {VERSION}",
            advice=_OTHER_BUILD,
        )
    hello = reader.struct("wire_hello")
    if hello.layouts != len(layout()):
        raise ProtocolError(
            f"the agent lists {hello.layouts} structs and fields, the host {len(layout())}",
            advice=_OTHER_BUILD,
        )
    for _ in range(hello.layouts):
        row = reader.struct("wire_layout")
        name, place = text(row.name), (row.offset, row.size)
        if layout().get(name) != place:
            raise ProtocolError(
                f"the agent lays out {name!r} as {place}, the host as {layout().get(name)}",
                advice=_OTHER_BUILD,
            )
    missing = reader.bytes(hello.missing, "missing paths")
    failed = reader.bytes(hello.failed, "what failed")
    return Hello(
        release=text(hello.release),
        machine=text(hello.machine),
        pid1=bool(hello.pid1),
        euid=hello.euid,
        cpus=hello.cpus,
        memory=hello.memory,
        missing=_texts(missing),
        failed=_texts(failed),
        features=frozenset(name for name, bit in _FEATURES.items() if hello.features & bit),
    )


def _texts(raw: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(each) for each in raw.split(b"\0") if each)


def encode_command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: bytes,
    timeout: float,
    root: str,
    cwd: str,
    limit: int,
) -> bytes:
    """One command; ``timeout`` in seconds, ``limit`` in bytes of each stream."""
    strings = [root, cwd, *argv, *(f"{name}={value}" for name, value in env.items())]
    if not argv or any("\0" in string for string in strings):
        raise InputError(f"not a command: {list(argv)!r}")
    raw = b"".join(os.fsencode(string) + b"\0" for string in strings)
    head = pack(
        "wire_command",
        timeout=milliseconds(timeout),
        limit=min(limit, LIMIT // 2 - 4096),
        arguments=len(argv),
        environment=len(env),
        text=len(raw),
        input=len(stdin),
    )
    return head + raw + stdin


def decode_completed(payload: bytes) -> Completed:
    """A command's end."""
    reader = Reader(payload)
    completed = reader.struct("wire_completed")
    return Completed(
        status=completed.status,
        signal=completed.signal,
        stdout=reader.bytes(completed.output, "standard output"),
        stderr=reader.bytes(completed.error, "standard error"),
        timed_out=bool(completed.timed_out),
        truncated=bool(completed.truncated),
    )


def encode_walk(
    path: str,
    contents: int,
    entries: int,
    *,
    sandbox: Sandbox,
    scale: float,
    follow_mounts: bool = False,
    skip_numbers: bool = False,
    depth: int = 0,
) -> bytes:
    """A walk of the tree at ``path``."""
    raw = path_bytes(path)
    flags = constants.WIRE_FOLLOW_MOUNTS if follow_mounts else 0
    flags |= constants.WIRE_SKIP_NUMBERS if skip_numbers else 0
    head = pack(
        "wire_walk",
        sandbox=encode_sandbox(sandbox, scale),
        path=len(raw),
        contents=contents,
        entries=entries,
        flags=flags,
        depth=depth,
    )
    return head + pad(sandbox.seccomp) + raw


def _entry(reader: Reader) -> Entry:
    entry: Any = reader.struct("wire_entry")
    path = reader.bytes(entry.path, "a path")
    target = reader.bytes(entry.target, "a target")
    content = reader.bytes(entry.content, "content") if entry.content >= 0 else None
    reader.align()
    return Entry(
        path=os.fsdecode(path),
        kind=chr(entry.kind) if entry.kind in _KINDS else "?",
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        rdev=entry.rdev,
        target=os.fsdecode(target),
        content=content,
        error=entry.error,
        writable=None if entry.writable < 0 else bool(entry.writable),
    )


def decode_walked(payload: bytes) -> tuple[list[Entry], bool]:
    """The entries, and whether there were more than fits the limits."""
    reader = Reader(payload)
    walked = reader.struct("wire_walked")
    if walked.entries > len(payload) // ffi.sizeof("struct wire_entry"):
        raise ProtocolError("a walk counts more entries than its answer can hold")
    return [_entry(reader) for _ in range(walked.entries)], bool(walked.truncated)
