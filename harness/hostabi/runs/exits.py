"""What reproducers exited with, by the kernel's image and by their own text.

Kept in the cache as JSON Lines, one file for each image: an exit is a fact
about two files, whoever asks again. It is written as it happens, so that a
run that is killed goes on from there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hostabi.packages.cache import Cache, storage_errors
from hostabi.surfaces.reproducers import Reproducer

_KIND = "exits"


class _Exit(msgspec.Struct, frozen=True):
    program: str
    code: int


_DECODER = msgspec.json.Decoder(_Exit)


@dataclass(frozen=True)
class Exits:
    """The exits on one image, read from ``path`` and added to it."""

    path: Path
    codes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, cache: Cache, image: str) -> Exits:
        """What is known of the image with this digest. A line that was torn is passed over."""
        path = cache.file(_KIND, image, Path.touch)
        codes: dict[str, int] = {}
        with storage_errors(cache.root):
            lines = path.read_bytes().splitlines()
        for line in lines:
            try:
                one = _DECODER.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            codes[one.program] = one.code
        return cls(path, codes)

    def get(self, reproducer: Reproducer) -> int | None:
        """The last exit of a reproducer with the same text and needs; None where it never ran."""
        return self.codes.get(digest(reproducer))

    def add(self, reproducer: Reproducer, code: int) -> None:
        """Remember an exit."""
        program = digest(reproducer)
        self.codes[program] = code
        with storage_errors(self.path.parent), self.path.open("ab") as file:
            file.write(msgspec.json.encode(_Exit(program, code)) + b"\n")


def digest(reproducer: Reproducer) -> str:
    """SHA-256 of the text and of how the machine has to be."""
    label = reproducer.variant.label if reproducer.variant else ""
    parts = (reproducer.language, label, *reproducer.modules, *sorted(reproducer.needs), "")
    whole = "\0".join((*parts, reproducer.text))
    return hashlib.sha256(whole.encode()).hexdigest()
