"""The kernel's build configuration."""

from __future__ import annotations

import re

from hostabi.agent.client import Agent
from hostabi.diff import keys
from hostabi.errors import CallError, HostabiError
from hostabi.kernels.config import LIMIT, unpacked_text
from hostabi.model import Certainty, Fact, Kind, Variant
from hostabi.surfaces.reproducers import CONFIG, Needs, Reproducer, literal, quoted, shell
from hostabi.surfaces.source import Source

_SHOWN = "/proc/config.gz"
"""Where a kernel with CONFIG_IKCONFIG_PROC shows its own (kernel/configs.c)."""

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
        """A build with its configuration or an image, or a kernel that shows its own."""
        return source.agent is not None or _is_known(source) or _has_image(source)

    def capture(self, source: Source) -> list[Fact]:
        """Read it from the package, else from the kernel that runs, else from the image."""
        if source.static is not None and (_is_known(source) or source.agent is None):
            how = "package" if _is_known(source) else "image"
            return facts(source.static.config_text, how=how, certainty=Certainty.DERIVED)
        return facts(_running(source), how=_SHOWN, certainty=Certainty.READ)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """A line of the configuration, which says nothing of itself to a program that runs."""
        value = str(fact.value)
        plain = re.escape(fact.key)
        line = f'^{plain}="?{literal(value)}"?$'
        if value == keys.OFF:
            line = f"^# {plain} is not set$"
        return shell(
            f'test -r "${CONFIG}" || exit 3',
            f'grep -Eq {quoted(line)} "${CONFIG}"',
            about=f"{fact.key} is {value}; {CONFIG} names the file, as in /boot",
            needs=frozenset((Needs.CONFIG,)),
        )


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


def _is_known(source: Source) -> bool:
    return source.static is not None and source.static.build.config is not None


def _has_image(source: Source) -> bool:
    return source.static is not None and source.static.build.image is not None


def _running(source: Source) -> str:
    try:
        packed = source.live.read(_SHOWN, LIMIT)
    except CallError as error:
        raise HostabiError(
            f"the kernel does not show its configuration in {_SHOWN}",
            advice="it needs CONFIG_IKCONFIG_PROC; name the file with --config",
        ) from error
    return unpacked_text(packed, _SHOWN)
