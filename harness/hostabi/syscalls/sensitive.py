"""Which bits of what a call returned and wrote an answer depends on, found by changing them.

A program that is to see the same again would else compare times, addresses and
counters, which are others each time, with what nobody asked about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hostabi.agent.program import Ran
from hostabi.syscalls.builder import Built, Ref

_MOST = 1024
"""Bytes of one output that are tried bit by bit; longer ones are texts, and matter whole."""
_RESULT = 63


def bits(
    built: Built, ref: Ref, ran: Ran, answer: Callable[[Ran], object]
) -> tuple[int, tuple[bytes, ...]]:
    """The bits of the result of ``ref``, and of each output, without which it is another answer.

    Outputs of other calls have none.
    """
    wanted = answer(ran)

    def differs(other: Ran) -> bool:
        try:
            return answer(other) != wanted
        except (ValueError, IndexError, KeyError, ArithmeticError):
            return True

    result = sum(1 << bit for bit in range(_RESULT) if differs(_with_result(ran, ref, 1 << bit)))
    masks = []
    for index, output in enumerate(built.program.outputs):
        raw = ran.outputs[index] if index < len(ran.outputs) else b""
        mask = bytearray(output.length)
        if output.call == ref.call and len(raw) > _MOST:
            mask = bytearray(b"\xff" * output.length)
        elif output.call == ref.call:
            for bit in range(8 * len(raw)):
                if differs(_with_output(ran, index, bit)):
                    mask[bit // 8] |= 1 << bit % 8
        masks.append(bytes(mask))
    return result, tuple(masks)


def _with_result(ran: Ran, ref: Ref, flip: int) -> Ran:
    values = list(ran.values)
    values[ref.call] ^= flip
    return dataclasses.replace(ran, values=tuple(values))


def _with_output(ran: Ran, index: int, bit: int) -> Ran:
    raw = bytearray(ran.outputs[index])
    raw[bit // 8] ^= 1 << bit % 8
    outputs = (*ran.outputs[:index], bytes(raw), *ran.outputs[index + 1 :])
    return dataclasses.replace(ran, outputs=outputs)
