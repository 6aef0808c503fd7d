"""Captures of which only the wanted facts are read: to look one fact up in many of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from hostabi.diff import captures, keys
from hostabi.errors import InputError
from hostabi.model import Capture, Fact, Kind, Provenance, Variant

_FACTS = msgspec.json.Decoder(list[Fact])


class _Form(msgspec.Struct, frozen=True):
    build: str
    line: str
    release: str
    variant: Variant
    provenance: Provenance
    surfaces: dict[str, msgspec.Raw]
    moving: dict[str, dict[str, Kind]] = {}


@dataclass(frozen=True)
class Shallow:
    """One capture. ``name`` is what errors call it."""

    form: _Form
    name: str
    _read: dict[str, list[Fact]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: Path) -> Shallow:
        """Read a file as :func:`captures.load` does, without its facts. Raises InputError."""
        name = str(path)
        return cls(captures.read_as(_Form, captures.content(path), name), name)

    @classmethod
    def of(cls, capture: Capture) -> Shallow:
        """A capture that is in memory."""
        about = {name: getattr(capture, name) for name in _Form.__struct_fields__}
        empty = dict.fromkeys(capture.surfaces, msgspec.Raw(b"[]"))
        return cls(_Form(**{**about, "surfaces": empty}), capture.build, dict(capture.surfaces))

    @property
    def build(self) -> str:
        """Name of the build."""
        return self.form.build

    @property
    def line(self) -> str:
        """Its line."""
        return self.form.line

    @cached_property
    def surfaces(self) -> frozenset[str]:
        """Names of the surfaces it holds."""
        return frozenset(self.form.surfaces)

    def facts(self, surface: str) -> list[Fact]:
        """All facts of one surface; none where it was not captured. Raises InputError."""
        raw = self.form.surfaces.get(surface)
        if raw is None:
            return []
        if surface in self._read:
            return self._read[surface]
        try:
            return self._read.setdefault(surface, _FACTS.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.name}, surface {surface}: damaged: {error}") from error

    def mentions(self, surface: str, text: str) -> bool:
        """Whether a key of the surface may have ``text`` in it; false is certain."""
        if surface in self._read:
            return any(text in fact.key for fact in self._read[surface])
        raw = self.form.surfaces.get(surface)
        return raw is not None and msgspec.json.encode(text)[1:-1] in bytes(raw)

    def only(self, surface: str, subjects: Collection[str]) -> Capture:
        """A capture with nothing but the facts about ``subjects``."""
        # what is not known whole has to say so, or what is missing would count as gone
        kept = {*subjects, keys.INCOMPLETE}
        facts = [fact for fact in self.facts(surface) if keys.subject(fact.key) in kept]
        return Capture(
            build=self.form.build,
            line=self.form.line,
            release=self.form.release,
            variant=self.form.variant,
            provenance=self.form.provenance,
            surfaces={surface: facts} if surface in self.form.surfaces else {},
            moving={surface: self.form.moving.get(surface, {})},
        )
