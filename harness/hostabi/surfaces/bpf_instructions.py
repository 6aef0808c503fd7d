"""Instructions of BPF programs, as the kernel's bpf/standardization/instruction-set has them."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

from hostabi.surfaces.slots import Patch, patched
from hostabi.syscalls.builder import Builder, Slot, Value
from hostabi.syscalls.table import C

SIZE = 8
"""Bytes of an instruction; one that is wide takes the place of two."""
R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)


@dataclasses.dataclass(frozen=True)
class Wide:
    """A number of 64 bits, of which ``value`` is the lower half.

    ``source`` says what it is: 0 a number, BPF_PSEUDO_MAP_FD a map.
    """

    register: int
    source: int
    value: Value
    upper: int = 0


Instruction = bytes | Wide


def instruction(code: int, to: int = 0, by: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """One struct bpf_insn of linux/bpf.h."""
    return struct.pack("<BBhI", code, by << 4 | to, offset, number & 0xFFFFFFFF)


def put(register: int, number: int) -> bytes:
    """``register = number``."""
    return instruction(C.BPF_ALU64 | C.BPF_MOV | C.BPF_K, register, number=number)


def copy(register: int, by: int) -> bytes:
    """``register = by``."""
    return instruction(C.BPF_ALU64 | C.BPF_MOV | C.BPF_X, register, by)


def reckon(operation: int, register: int, number: int, offset: int = 0) -> bytes:
    """``register = register OPERATION number``, of 64 bits."""
    return instruction(C.BPF_ALU64 | operation | C.BPF_K, register, 0, offset, number)


def call(number: int, kind: int = 0) -> bytes:
    """A helper; of another ``kind`` (BPF_PSEUDO_CALL) a function so many instructions ahead."""
    return instruction(C.BPF_JMP | C.BPF_CALL, by=kind, number=number)


def jump(operation: int, register: int, number: int, offset: int) -> bytes:
    """``if register OPERATION number`` go so many instructions ahead."""
    return instruction(C.BPF_JMP | operation | C.BPF_K, register, 0, offset, number)


def load(register: int, by: int, offset: int, size: int, mode: int | None = None) -> bytes:
    """``register = *(by + offset)``."""
    way = C.BPF_MEM if mode is None else mode
    return instruction(C.BPF_LDX | way | size, register, by, offset)


def store(to: int, offset: int, number: int, size: int) -> bytes:
    """``*(to + offset) = number``."""
    return instruction(C.BPF_ST | C.BPF_MEM | size, to, 0, offset, number)


def atomic(operation: int, size: int, register: int = R1) -> bytes:
    """``operation`` on what lies at the end of the stack, with ``register``."""
    return instruction(C.BPF_STX | C.BPF_ATOMIC | size, FP, register, -8, operation)


def leave(number: int | None = None) -> list[bytes]:
    """Return ``number``, else what is in R0."""
    end = instruction(C.BPF_JMP | C.BPF_EXIT)
    return [end] if number is None else [put(R0, number), end]


def assembled(q: Builder, code: Sequence[Instruction]) -> Slot:
    """The instructions in a program's arena."""
    raw, late = b"", list[Patch]()
    for each in code:
        if isinstance(each, bytes):
            raw += each
            continue
        late.append((len(raw) + 4, 4, each.value))
        raw += instruction(C.BPF_LD | C.BPF_IMM | C.BPF_DW, each.register, each.source)
        raw += instruction(0, number=each.upper)
    slot = dataclasses.replace(q.content(raw), text=f"{len(raw) // SIZE} instructions")
    return patched(slot, *late)
