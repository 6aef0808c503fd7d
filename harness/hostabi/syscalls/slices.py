"""The part of a program that one of its calls needs.

Questions that do not depend on each other share a program, because a process
costs more than a call. Who wants to see one answer has no use for the others.
What a call needs beyond the results it is given cannot be read from a program
for sure (a folder, a changed limit), so all is kept but what clearly belongs to
other questions; that the part answers as the whole does has to be tried.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence

from hostabi.agent.program import Argument, Call, Output, Pointer, Result, Store, Word
from hostabi.syscalls.builder import Built, Ref, Slot, Step, Value

_MAKERS = frozenset(("mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat"))
"""Calls that matter only to those that name what they made."""
_LASTING = _MAKERS | frozenset(
    (
        *("link", "linkat", "rename", "renameat", "renameat2", "mount", "umount2", "move_mount"),
        *(
            "ptrace",
            "epoll_ctl",
            "unshare",
            "setns",
            "prctl",
            "chdir",
            "fchdir",
            "chroot",
            "pivot_root",
            "capset",
        ),
        *("setresuid", "setresgid", "setgroups", "setrlimit", "prlimit64", "seccomp"),
    )
)
"""Calls after which others may find something else, whoever asked."""
_NEAR = 4096
"""Bytes before a word of memory in which the buffer begins that a call wrote it to."""


def part(built: Built, chain: Sequence[Ref], questions: Collection[Ref]) -> tuple[Built, list[int]]:
    """The program up to the last of ``chain``, without what only other ``questions`` need.

    Returns it with the numbers that the calls of ``chain`` have there.
    """
    calls = built.program.calls[: chain[-1].call + 1]
    kept = _without_others(built, calls, chain, {ref.call for ref in questions})
    new = {old: index for index, old in enumerate(kept)}
    outputs = [
        (Output(new[output.call], output.offset, output.length), kind)
        for output, kind in zip(built.program.outputs, built.types, strict=True)
        if output.call in new
    ]
    program = dataclasses.replace(
        built.program,
        calls=tuple(_renumbered(calls[old], new) for old in kept),
        data=used(built, kept),
        outputs=tuple(output for output, _ in outputs),
    )
    steps = tuple(_told(built.steps[old], new) for old in kept)
    made = Built(program, steps, tuple(kind for _, kind in outputs))
    return made, [new[ref.call] for ref in chain]


def _without_others(
    built: Built, calls: Sequence[Call], chain: Sequence[Ref], questions: set[int]
) -> list[int]:
    needed = _closure(calls, {ref.call for ref in chain})
    users: dict[int, set[int]] = {}
    for index, call in enumerate(calls):
        for used in _results(call):
            users.setdefault(used, set()).add(index)
    lasting = {n for n, step in enumerate(built.steps) if step.name in _LASTING}
    gone = {number for number in questions - lasting if number < len(calls)} - needed
    while True:
        more = set(gone)
        for made, by in users.items():
            if made in needed:
                continue
            # what another question asks about is its own, unless ours needs it too
            if made in gone or (by & gone and not by & needed):
                more |= {made} | (by - needed)
        if more == gone:
            break
        gone = more
    left = [number for number in range(len(calls)) if number not in gone]
    return [number for number in left if number in needed or not _is_idle(built, number, left)]


def _closure(calls: Sequence[Call], wanted: set[int]) -> set[int]:
    """Those calls, and all whose results or memory they are given."""
    found: set[int] = set()
    waiting = list(wanted)
    while waiting:
        number = waiting.pop()
        if number in found:
            continue
        found.add(number)
        waiting += _results(calls[number])
        for word in _words(calls[number]):
            waiting += [
                index
                for index, call in enumerate(calls[:number])
                if any(0 <= word.offset - at < _NEAR for at in _addresses(call))
            ]
    return found


def _is_idle(built: Built, number: int, left: Sequence[int]) -> bool:
    """Whether a call only makes something that none of the others names."""
    step = built.steps[number]
    names = _texts(step)
    if step.name not in _MAKERS or not names:
        return False
    others = [text for other in left if other != number for text in _texts(built.steps[other])]
    return not any(names[-1] in text for text in others)


def _texts(step: Step) -> list[bytes]:
    return [
        value.text
        for value in step.values
        if isinstance(value, Slot) and isinstance(value.text, bytes)
    ]


def _arguments(call: Call) -> Iterator[Argument]:
    yield from call.arguments
    yield from (store.value for store in call.stores)


def _results(call: Call) -> list[int]:
    return [each.call for each in _arguments(call) if isinstance(each, Result)]


def _words(call: Call) -> list[Word]:
    return [each for each in _arguments(call) if isinstance(each, Word)]


def _addresses(call: Call) -> list[int]:
    return [each.offset for each in _arguments(call) if isinstance(each, Pointer)]


def used(built: Built, kept: Sequence[int]) -> bytes:
    """The data that the calls kept can reach; zeros for the rest."""
    data = built.program.data
    sizes: dict[int, int] = {}
    starts = {at for call in built.program.calls for at in _addresses(call)}
    for step in built.steps:
        for value in step.values:
            if isinstance(value, Slot):
                sizes[value.offset] = max(sizes.get(value.offset, 0), value.size)
    ends = sorted({*starts, *sizes, len(data)})
    found = bytearray(len(data))
    for number in kept:
        for start in _addresses(built.program.calls[number]):
            following = next((end for end in ends if end > start), len(data))
            end = max(following, start + sizes.get(start, 0))
            found[start:end] = data[start:end]
    return bytes(found).rstrip(b"\0")


def _renumbered(call: Call, new: dict[int, int]) -> Call:
    return dataclasses.replace(
        call,
        arguments=tuple(_moved(each, new) for each in call.arguments),
        stores=tuple(Store(s.offset, _moved(s.value, new), s.size) for s in call.stores),
    )


def _moved(value: Argument, new: dict[int, int]) -> Argument:
    return Result(new[value.call]) if isinstance(value, Result) else value


def _told(step: Step, new: dict[int, int]) -> Step:
    def moved(value: Value) -> Value:
        if isinstance(value, Ref):
            return Ref(new[value.call])
        if isinstance(value, Slot) and isinstance(value.text, str):
            # a struct's text names the results that are put into it
            text = re.sub(
                r"(?<==)r(\d+)\b", lambda each: f"r{new.get(int(each[1]), each[1])}", value.text
            )
            return dataclasses.replace(value, text=text)
        return value

    return dataclasses.replace(step, values=tuple(map(moved, step.values)))
