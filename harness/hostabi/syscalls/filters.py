"""Classic BPF as seccomp(2) takes it, with labels in place of offsets."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hostabi.syscalls.table import C

_NEAR = 255
"""How far a conditional jump reaches: its offsets are bytes, struct sock_filter."""


def statement(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    """One struct sock_filter of linux/filter.h."""
    return struct.pack("<HBBI", code, jt, jf, k)


@dataclass(eq=False, slots=True)
class Label:
    """A place in the code, known once it was reached; jumps go forward only."""

    place: int = -1


@dataclass(frozen=True, slots=True)
class _Line:
    code: int
    k: int = 0
    yes: Label | None = None
    no: Label | None = None


@dataclass(slots=True)
class Assembler:
    """Collects statements; every label must be placed before :meth:`assemble`."""

    _lines: list[_Line] = field(default_factory=list)

    def label(self) -> Label:
        """A label to be placed further down."""
        return Label()

    def place(self, label: Label) -> None:
        """The next statement is where ``label`` leads."""
        label.place = len(self._lines)

    def load(self, offset: int) -> None:
        """Load the word at ``offset`` of struct seccomp_data."""
        self._lines.append(_Line(C.BPF_LD | C.BPF_W | C.BPF_ABS, offset))

    def mask(self, bits: int) -> None:
        """Keep only these bits of what is loaded."""
        self._lines.append(_Line(C.BPF_ALU | C.BPF_AND | C.BPF_K, bits))

    def jump(self, comparison: int, k: int, yes: Label, no: Label) -> None:
        """Compare what is loaded with ``k`` (BPF_JEQ, BPF_JGT, BPF_JGE)."""
        self._lines.append(_Line(C.BPF_JMP | comparison | C.BPF_K, k, yes, no))

    def leave(self, value: int) -> None:
        """Return ``value`` (SECCOMP_RET_*)."""
        self._lines.append(_Line(C.BPF_RET | C.BPF_K, value))

    def assemble(self) -> list[bytes]:
        """The statements. A jump too far for its byte goes by an unconditional one after it."""
        long: set[int] = set()
        while True:
            places = self._places(long)
            found = {
                index
                for index, line in enumerate(self._lines)
                if index not in long and self._reach(line, places, index) > _NEAR
            }
            if not found:
                break
            long |= found
        return [made for index in range(len(self._lines)) for made in self._made(index, places)]

    def _places(self, long: set[int]) -> list[int]:
        places = [0]
        for index in range(len(self._lines)):
            places.append(places[-1] + (3 if index in long else 1))
        return places

    def _reach(self, line: _Line, places: list[int], index: int) -> int:
        ends = [label.place for label in (line.yes, line.no) if label]
        return max((places[end] - places[index] - 1 for end in ends), default=0)

    def _made(self, index: int, places: list[int]) -> list[bytes]:
        line = self._lines[index]
        if line.yes is None or line.no is None:
            return [statement(line.code, line.k)]
        here = places[index]
        yes, no = (places[label.place] - here - 1 for label in (line.yes, line.no))
        if places[index + 1] - here == 1:
            return [statement(line.code, line.k, yes, no)]
        go = C.BPF_JMP | C.BPF_JA
        return [
            statement(line.code, line.k, 0, 1),
            statement(go, yes - 1),
            statement(go, no - 2),
        ]
