"""Programs made smaller: without some calls, or with a plainer argument.

What is left of a program need not mean what the whole one did; whether it still
shows what it is wanted for has to be tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator

from hostabi.agent.program import Argument, Call, Output, Result, Store
from hostabi.syscalls import slices, types
from hostabi.syscalls.builder import Built, Ref, Slot, Step, Value

_NOTHING = -1
"""What is given in place of the result of a call that is gone: no descriptor and no pid."""


def without(built: Built, gone: Collection[int]) -> Built:
    """The program without the calls of those numbers."""
    kept = [index for index in range(len(built.steps)) if index not in gone]
    new = {old: index for index, old in enumerate(kept)}
    outputs = [
        (Output(new[output.call], output.offset, output.length), kind)
        for output, kind in zip(built.program.outputs, built.types, strict=True)
        if output.call in new
    ]
    program = dataclasses.replace(
        built.program,
        calls=tuple(_renumbered(built.program.calls[old], new) for old in kept),
        outputs=tuple(output for output, _ in outputs),
    )
    steps = tuple(_told(built.steps[old], new) for old in kept)
    return Built(program, steps, tuple(kind for _, kind in outputs))


def upto(built: Built, last: int) -> Built:
    """The program as far as the call of that number, it included."""
    return without(built, range(last + 1, len(built.steps)))


def tidy(built: Built) -> Built:
    """The program without data that none of its calls can reach."""
    data = slices.used(built, range(len(built.steps)))
    return dataclasses.replace(built, program=dataclasses.replace(built.program, data=data))


def needed(built: Built, last: int) -> frozenset[int]:
    """The calls whose results the one of that number is given, directly or through others."""
    found: set[int] = set()
    waiting = [last]
    while waiting:
        call = built.program.calls[waiting.pop()]
        values = [*call.arguments, *(store.value for store in call.stores)]
        more = {each.call for each in values if isinstance(each, Result)} - found
        found |= more
        waiting += more
    return frozenset(found | {last})


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """One number without some of its bits: an argument of a call, or a field of a struct there."""

    index: int
    place: int
    bits: int
    """Those that are cleared; -1 for all."""
    field: str = ""


def edits(built: Built) -> Iterator[Edit]:
    """The ways to make one number plainer: 0, or without one of its bits."""
    for index, step in enumerate(built.steps):
        for place, value in enumerate(step.values):
            if isinstance(value, int):
                yield from (Edit(index, place, bits) for bits in _droppable(value))
            elif isinstance(value, Slot) and value.type:
                for name, number in fields(built, value).items():
                    yield from (Edit(index, place, bits, name) for bits in _droppable(number))


def edited(built: Built, changes: Iterable[Edit]) -> Built:
    """The program after all of those changes."""
    for each in changes:
        value = built.steps[each.index].values[each.place]
        if isinstance(value, int):
            built = with_argument(built, each.index, each.place, value & ~each.bits)
        elif isinstance(value, Slot):
            built = _with_field(built, each, value)
    return built


def with_argument(built: Built, index: int, place: int, value: int) -> Built:
    """The program with a number for an argument of the call ``index``."""
    call, step = built.program.calls[index], built.steps[index]
    arguments = (*call.arguments[:place], value, *call.arguments[place + 1 :])
    values = (*step.values[:place], value, *step.values[place + 1 :])
    return _with_step(
        built,
        index,
        dataclasses.replace(call, arguments=arguments),
        dataclasses.replace(step, values=values),
    )


def fields(built: Built, slot: Slot) -> dict[str, int]:
    """The fields of a struct that a program starts with, as far as they are numbers and not 0."""
    if not slot.type or slot.size < types.size(slot.type):
        return {}
    # what data leaves out at its end is zero
    raw = built.program.data[slot.offset : slot.offset + slot.size].ljust(slot.size, b"\0")
    late = {store.offset - slot.offset for store in slot.stores}
    found = {
        name: int.from_bytes(raw[offset : offset + length], "little")
        for name, offset, length in types.fields(slot.type)
        if length <= 8 and offset not in late
    }
    return {name: value for name, value in found.items() if value}


def _with_field(built: Built, edit: Edit, slot: Slot) -> Built:
    offset, length = next(
        (offset, length) for name, offset, length in types.fields(slot.type) if name == edit.field
    )
    data = bytearray(built.program.data)
    start = slot.offset + offset
    number = int.from_bytes(data[start : start + length], "little") & ~edit.bits
    data[start : start + length] = number.to_bytes(length, "little")
    program = dataclasses.replace(built.program, data=bytes(data))
    return _retold(dataclasses.replace(built, program=program), edit.index, slot)


def _retold(built: Built, index: int, slot: Slot) -> Built:
    """The program with the text of a struct as it is now."""
    shown = ", ".join(f"{name}={value:#x}" for name, value in fields(built, slot).items())
    told = dataclasses.replace(slot, text=f"{{{shown}}}")
    step = built.steps[index]
    values = tuple(told if value is slot else value for value in step.values)
    return _with_step(
        built, index, built.program.calls[index], dataclasses.replace(step, values=values)
    )


def _with_step(built: Built, index: int, call: Call, step: Step) -> Built:
    calls = (*built.program.calls[:index], call, *built.program.calls[index + 1 :])
    steps = (*built.steps[:index], step, *built.steps[index + 1 :])
    return Built(dataclasses.replace(built.program, calls=calls), steps, built.types)


def _droppable(value: int) -> Iterator[int]:
    if not value:
        return
    yield -1
    if value > 0 and value & (value - 1):
        yield from (1 << bit for bit in range(value.bit_length()) if value >> bit & 1)


def _renumbered(call: Call, new: dict[int, int]) -> Call:
    return dataclasses.replace(
        call,
        arguments=tuple(_moved(each, new) for each in call.arguments),
        stores=tuple(Store(s.offset, _moved(s.value, new), s.size) for s in call.stores),
    )


def _moved(value: Argument, new: dict[int, int]) -> Argument:
    if not isinstance(value, Result):
        return value
    return Result(new[value.call]) if value.call in new else _NOTHING


def _told(step: Step, new: dict[int, int]) -> Step:
    def moved(value: Value) -> Value:
        if not isinstance(value, Ref):
            return value
        return Ref(new[value.call]) if value.call in new else _NOTHING

    return dataclasses.replace(step, values=tuple(map(moved, step.values)))
