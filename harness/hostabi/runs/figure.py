"""What a measurement of the harness comes to."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One measurement. ``higher``: more is better. ``note`` tells what it was made from."""

    what: str
    kernel: str
    value: float
    unit: str
    goal: float
    higher: bool = False
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether the goal is met."""
        return self.value >= self.goal if self.higher else self.value <= self.goal
