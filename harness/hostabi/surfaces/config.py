"""The kernel's build configuration."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from hostabi.diff import keys
from hostabi.errors import CallError, HostabiError
from hostabi.kernels.config import config_text
from hostabi.model import Certainty, Fact, Kind, Variant
from hostabi.surfaces.source import Source

_LIMIT = 4 << 20
"""Bytes of text; configurations have about 250 KB."""

_SET = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)
_UNSET = re.compile(r"^# (CONFIG_\w+) is not set$", re.MULTILINE)


class Config:
    """Facts: ``CONFIG_X`` is ``y``, ``m``, ``n`` or its value.

    A symbol that is off is a fact as well: that a symbol exists and is off tells
    that a feature moved behind it.
    """

    name = "config"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """A build with its configuration, or a kernel that shows its own."""
        return source.agent is not None or _file(source) is not None

    def capture(self, source: Source) -> list[Fact]:
        """Read it from the package, else from /proc/config.gz of the kernel that runs."""
        file = _file(source)
        if file is not None:
            return facts(config_text(file), how="package", certainty=Certainty.DERIVED)
        return facts(_running(source), how="/proc/config.gz", certainty=Certainty.READ)


SURFACE = Config()


def facts(text: str, *, how: str, certainty: Certainty) -> list[Fact]:
    """One fact for each symbol of a .config (kernel: kbuild/kconfig.rst), on or off."""
    values = dict.fromkeys(_UNSET.findall(text), keys.OFF)
    values |= {name: _plain(value) for name, value in _SET.findall(text)}
    return [
        Fact(name, values[name], Kind.DEFAULT, how=how, certainty=certainty)
        for name in sorted(values)
    ]


def _plain(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def _file(source: Source) -> Path | None:
    return source.static.build.config if source.static is not None else None


def _running(source: Source) -> str:
    try:
        packed = source.live.read("/proc/config.gz", _LIMIT)
    except CallError as error:
        raise HostabiError(
            "the kernel does not show its configuration in /proc/config.gz",
            advice="it needs CONFIG_IKCONFIG_PROC; name the file with --config",
        ) from error
    try:
        return zlib.decompressobj(wbits=31).decompress(packed, _LIMIT).decode(errors="replace")
    except zlib.error as error:
        raise HostabiError(f"/proc/config.gz is damaged: {error}") from error
