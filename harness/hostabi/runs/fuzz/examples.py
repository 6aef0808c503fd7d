"""Programs as records: what a find is shown by, kept so that later sittings can run it first."""

from __future__ import annotations

import msgspec

from hostabi.agent.program import (
    Abi,
    Argument,
    Call,
    Children,
    Output,
    Pointer,
    Program,
    Report,
    Result,
    Store,
    Word,
)
from hostabi.syscalls import table
from hostabi.syscalls.builder import Built, Number, Ref, Slot, Step, Value


class _Returned(msgspec.Struct, frozen=True, tag="returned", array_like=True):
    call: int


class _Address(msgspec.Struct, frozen=True, tag="address", array_like=True):
    offset: int


class _Memory(msgspec.Struct, frozen=True, tag="memory", array_like=True):
    """``raw`` and ``text`` are a slot's text, as bytes or as a string."""

    offset: int
    size: int
    kind: str = ""
    text: str = ""
    raw: bytes | None = None


class _Word(msgspec.Struct, frozen=True, tag="word", array_like=True):
    offset: int
    size: int
    text: str = ""


class _Store(msgspec.Struct, frozen=True, array_like=True):
    offset: int
    value: int | _Returned | _Address | _Word
    size: int


class _Call(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    number: int
    values: tuple[int | _Returned | _Memory | _Word, ...]
    stores: tuple[_Store, ...] = ()
    opaque: bool = False
    abi: Abi = Abi.NATIVE
    role: int = 0
    starts: int = 0


class _Output(msgspec.Struct, frozen=True, array_like=True):
    call: int
    offset: int
    length: int
    kind: str = ""


class Example(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A program and how it reads; see :func:`keep` and :func:`restored`."""

    calls: tuple[_Call, ...]
    data: bytes
    arena: int
    outputs: tuple[_Output, ...] = ()
    children: Children = Children.END
    report: Report = Report.NOTHING


def keep(built: Built) -> Example:
    """The record of a program."""
    program = built.program
    return Example(
        calls=tuple(
            _Call(
                call.number,
                tuple(map(_kept, step.values)),
                tuple(_Store(s.offset, _kept_argument(s.value), s.size) for s in call.stores),
                step.opaque,
                call.abi,
                call.role,
                call.starts,
            )
            for call, step in zip(program.calls, built.steps, strict=True)
        ),
        data=program.data,
        arena=program.arena,
        outputs=tuple(
            _Output(output.call, output.offset, output.length, kind)
            for output, kind in zip(program.outputs, built.types, strict=True)
        ),
        children=program.children,
        report=program.report,
    )


def restored(example: Example) -> Built:
    """The program of a record; equal to the one that was kept, as far as running it goes."""
    calls, steps = [], []
    for each in example.calls:
        stores = tuple(Store(s.offset, _argument(s.value), s.size) for s in each.stores)
        who = each.abi, each.role, each.starts
        arguments = tuple(map(_argument, each.values))
        calls.append(Call(each.number, arguments, stores, *who))
        values = tuple(_value(value, stores) for value in each.values)
        steps.append(Step(table.name(each.number, each.abi), values, each.opaque, *who))
    program = Program(
        tuple(calls),
        example.data,
        example.arena,
        tuple(Output(each.call, each.offset, each.length) for each in example.outputs),
        example.children,
        example.report,
    )
    return Built(program, tuple(steps), tuple(each.kind for each in example.outputs))


def _kept(value: Value) -> int | _Returned | _Memory | _Word:
    match value:
        case Ref(call):
            return _Returned(call)
        case Slot(offset, size, kind, bytes() as raw):
            return _Memory(offset, size, kind, raw=raw)
        case Slot(offset, size, kind, str() as text):
            return _Memory(offset, size, kind, text)
        case Number(word, text):
            return _Word(word.offset, word.size, text)
    assert isinstance(value, int)
    return value


def _kept_argument(value: Argument) -> int | _Returned | _Address | _Word:
    match value:
        case Result(call):
            return _Returned(call)
        case Pointer(offset):
            return _Address(offset)
        case Word(offset, size):
            return _Word(offset, size)
    return value


def _argument(value: int | _Returned | _Address | _Memory | _Word) -> Argument:
    match value:
        case _Returned():
            return Result(value.call)
        case _Address() | _Memory():
            return Pointer(value.offset)
        case _Word():
            return Word(value.offset, value.size)
    return value


def _value(value: int | _Returned | _Memory | _Word, stores: tuple[Store, ...]) -> Value:
    match value:
        case _Returned():
            return Ref(value.call)
        case _Memory():
            inside = range(value.offset, value.offset + value.size)
            text = value.text if value.raw is None else value.raw
            own = tuple(store for store in stores if store.offset in inside)
            return Slot(value.offset, value.size, value.kind, text, own)
        case _Word():
            return Number(Word(value.offset, value.size), value.text)
    return value
