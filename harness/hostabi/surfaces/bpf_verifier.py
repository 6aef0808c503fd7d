"""What the verifier lets pass; what it passes is run, and has to return what it should.

``instruction.NAME`` is one of bpf/standardization/instruction-set, and
``verifier.NAME`` what programs are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hostabi.surfaces.bpf_btf import INT, Described, btf, functions, loaded
from hostabi.surfaces.bpf_calls import Fields, command, program, questions, run, table
from hostabi.surfaces.bpf_helpers import HELPERS
from hostabi.surfaces.bpf_instructions import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    Instruction,
    Wide,
    atomic,
    call,
    copy,
    instruction,
    jump,
    leave,
    load,
    put,
    reckon,
    store,
)
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import patched, words
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

_TYPE = "SCHED_CLS"
_PACKET = 64

_Code = Sequence[Instruction]
_Codes = Mapping[str, tuple[int, _Code]]
"""Programs by name, each with what it should return."""


def verifier() -> Iterator[Probe]:
    """All questions."""
    q = questions()
    for name, (wanted, code) in (_plain() | _atomics()).items():
        _run(q, f"instruction.{name}", wanted, code)
    yield from q.probes()
    q = questions()
    _control(q)
    yield from q.probes()
    q = questions()
    _maps(q)
    _spin_lock(q)
    yield from q.probes()


def _run(q: Questions, key: str, wanted: int, code: _Code, more: Fields | None = None) -> None:
    """Load a program and run it with an empty packet."""
    packet = q.content(bytes(_PACKET))
    prog = q.call(*program(q, _TYPE, code, more=more), opaque=True)
    run(q, key, prog, wanted, {"data_in": packet, "data_size_in": packet.size})
    q.call("close", prog)


def _plain() -> dict[str, tuple[int, _Code]]:
    alu, minus, end = C.BPF_ALU64, [put(R0, -7)], leave()
    byte = store(FP, -8, -2, C.BPF_B)
    swapped = instruction(alu | C.BPF_END, R0, number=16)
    extended = instruction(alu | C.BPF_MOV | C.BPF_X, R0, R1, 8)
    half = instruction(C.BPF_ALU | C.BPF_MOV | C.BPF_K, R0, number=-1)
    equal = instruction(C.BPF_JMP32 | C.BPF_JEQ, R0, 0, 1, 1)
    far, back = (instruction(C.BPF_JMP32 | C.BPF_JA, number=number) for number in (1, -3))
    return {
        "add": (-4, [*minus, reckon(C.BPF_ADD, R0, 3), *end]),
        "div": (3, [put(R0, 7), reckon(C.BPF_DIV, R0, 2), *end]),
        "sdiv": (-3, [*minus, reckon(C.BPF_DIV, R0, 2, 1), *end]),
        "smod": (-1, [*minus, reckon(C.BPF_MOD, R0, 2, 1), *end]),
        "movsx": (-1, [put(R1, 255), extended, *end]),
        "memsx": (-2, [byte, load(R0, FP, -8, C.BPF_B, C.BPF_MEMSX), *end]),
        "bswap": (0x0201, [put(R0, 0x0102), swapped, *end]),
        "alu32": (1, [half, reckon(C.BPF_RSH, R0, 31), *end]),
        "jmp32": (1, [put(R0, 1), equal, *leave(2)]),
        "gotol": (1, [far, *end, put(R0, 1), back]),
        "ld_abs": (0, [copy(R6, R1), instruction(C.BPF_LD | C.BPF_ABS | C.BPF_B), *end]),
        "ld_imm64": (9, [Wide(R0, 0, 9), *end]),
    }


def _atomics() -> dict[str, tuple[int, _Code]]:
    """What is done to a 5 in one step, with a 3."""
    five, three, end = store(FP, -8, 5, C.BPF_DW), put(R1, 3), leave()
    now, before = load(R0, FP, -8, C.BPF_DW), copy(R0, R1)
    codes: dict[str, tuple[int, _Code]] = {}
    for name, operation, after in (
        ("add", C.BPF_ADD, 8),
        ("or", C.BPF_OR, 7),
        ("and", C.BPF_AND, 1),
        ("xor", C.BPF_XOR, 6),
    ):
        key, fetch = f"atomic.{name}", operation | C.BPF_FETCH
        codes[key] = after, [five, three, atomic(operation, C.BPF_DW), now, *end]
        codes[f"{key}.fetch"] = 5, [five, three, atomic(fetch, C.BPF_DW), before, *end]
    for name, size in (("", C.BPF_DW), (".32", C.BPF_W)):
        exchanged = [five, three, atomic(C.BPF_XCHG, size), before, *end]
        codes[f"atomic.xchg{name}"] = 5, exchanged
        compared = [five, put(R0, 5), three, atomic(C.BPF_CMPXCHG, size), *end]
        codes[f"atomic.cmpxchg{name}"] = 5, compared
    released = atomic(C.BPF_STORE_REL, C.BPF_DW)
    codes["atomic.store-release"] = 3, [five, three, released, now, *end]
    acquired = instruction(C.BPF_STX | C.BPF_ATOMIC | C.BPF_DW, R0, FP, -8, C.BPF_LOAD_ACQ)
    codes["atomic.load-acquire"] = 5, [five, acquired, *end]
    return codes


def _control(q: Questions) -> None:
    """Loops, functions, the stack, and how long a program may be."""
    back, self = (instruction(C.BPF_JMP | C.BPF_JA, offset=offset) for offset in (-2, -1))
    maybe = instruction(C.BPF_JMP | C.BPF_JCOND, offset=1)
    less = jump(C.BPF_JLT, R0, 10, -2)
    codes: dict[str, tuple[int, _Code]] = {
        "loop": (10, [put(R0, 0), reckon(C.BPF_ADD, R0, 1), less, *leave()]),
        "loop.endless": (0, [put(R0, 0), self, *leave()]),
        "loop.may_goto": (3, [put(R0, 3), maybe, back, *leave()]),
        "function": (5, [call(1, C.BPF_PSEUDO_CALL), *leave(), *leave(5)]),
        "stack.512": (0, [store(FP, -512, 1, C.BPF_DW), *leave(0)]),
        "stack.520": (0, [store(FP, -520, 1, C.BPF_DW), *leave(0)]),
        "stack.uninitialised": (7, [load(R0, FP, -8, C.BPF_DW), *leave(7)]),
        "register.uninitialised": (0, [copy(R0, R2), *leave()]),
        "unreachable": (0, [*leave(0), *leave(0)]),
    }
    for name, (wanted, code) in codes.items():
        _run(q, f"verifier.{name}", wanted, code)
    looped: list[Instruction] = [put(R1, 3), Wide(R2, C.BPF_PSEUDO_FUNC, 5), put(R3, 0), put(R4, 0)]
    code = [*looped, call(HELPERS["loop"]), *leave(), *leave(0)]
    _run(q, "verifier.callback", 3, code, functions(q, 0, 7))
    _run(q, "verifier.function.described", 0, leave(0), functions(q, 0))
    many = [put(R0, 0)] * C.BPF_MAXINSNS + leave()
    q.ask(f"verifier.instructions.{len(many)}", *program(q, _TYPE, many), opaque=True)


def _looked_up(fd: Ref) -> list[Instruction]:
    """The address of an element in R0, or an end with 9."""
    key = [store(FP, -4, 1, C.BPF_W), copy(R2, FP), reckon(C.BPF_ADD, R2, -4)]
    found = call(HELPERS["map_lookup_elem"])
    return [*key, Wide(R1, C.BPF_PSEUDO_MAP_FD, fd), found, jump(C.BPF_JNE, R0, 0, 2), *leave(9)]


def _maps(q: Questions) -> None:
    """Elements, global data, and programs that go on in another one."""
    fd = q.need(*table(q, "ARRAY"), opaque=True)
    value = load(R0, R0, 0, C.BPF_W)
    looked_up = _looked_up(fd)
    _run(q, "verifier.map.lookup", 0, [*looked_up, value, *leave()])
    # without asking whether it was found
    _run(q, "verifier.map.lookup.unchecked", 0, [*looked_up[:5], value, *leave()])
    only = q.call(*table(q, "ARRAY", {"max_entries": 1}), opaque=True)
    rest = [load(R0, R1, 0, C.BPF_W), *leave()]
    for name, offset in (("value", 4), ("value.beyond", 8)):
        direct: _Code = [Wide(R1, C.BPF_PSEUDO_MAP_VALUE, only, offset), *rest]
        _run(q, f"verifier.map.{name}", 0, direct)
    several = patched(q.content(bytes(4)), (0, 4, only))
    indexed: _Code = [Wide(R1, C.BPF_PSEUDO_MAP_IDX_VALUE, 0, 4), *rest]
    _run(q, "verifier.map.fd_array", 0, indexed, {"fd_array": several})
    programs = q.call(*table(q, "PROG_ARRAY", {"value_size": 4}), opaque=True)
    other = q.call(*program(q, _TYPE, leave(6)), opaque=True)
    there = patched(q.content(bytes(4)), (0, 4, other))
    element: Fields = {"map_fd": programs, "key": q.content(words(0)), "value": there}
    q.call(*command(q, "BPF_MAP_UPDATE_ELEM", element))
    tail: _Code = [Wide(R2, C.BPF_PSEUDO_MAP_FD, programs), put(R3, 0), call(HELPERS["tail_call"])]
    _run(q, "verifier.tail_call", 6, [*tail, *leave(7)])
    within = [call(1, C.BPF_PSEUDO_CALL), *leave(), *tail, *leave(7)]
    # its types have to be described
    _run(q, "verifier.tail_call.within-function", 6, within, functions(q, 0, 2))


def _spin_lock(q: Questions) -> None:
    """A value that has a lock in it, as the map's types tell."""
    lock = Described("STRUCT", "bpf_spin_lock", 4, 1, rest=("val", 1, 0))
    value = Described("STRUCT", "value", 8, 2, rest=("lock", 2, 0, "number", 1, 32))
    described = q.call(*loaded(q, btf(INT, lock, value)), opaque=True)
    types: Fields = {"btf_fd": described, "btf_key_type_id": 1, "btf_value_type_id": 3}
    fd = q.ask("map.bpf_spin_lock", *table(q, "ARRAY", types), needs=(described,), opaque=True)
    locked = [copy(R6, R0), copy(R1, R0), call(HELPERS["spin_lock"])]
    unlocked = [copy(R1, R6), call(HELPERS["spin_unlock"])]
    looked_up = _looked_up(fd)
    _run(q, "verifier.spin_lock", 4, [*looked_up, *locked, *unlocked, *leave(4)])
    _run(q, "verifier.spin_lock.kept", 4, [*looked_up, *locked, *leave(4)])
