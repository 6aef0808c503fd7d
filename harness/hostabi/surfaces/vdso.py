"""The vDSO's symbols: what the C library and language runtimes call without entering the kernel."""

from __future__ import annotations

import struct

from hostabi.agent.client import Agent
from hostabi.agent.program import End
from hostabi.errors import CallError, HostabiError
from hostabi.kernels import vdso
from hostabi.kernels.vdso import Vdso
from hostabi.model import Certainty, Fact, Variant
from hostabi.surfaces.source import Source
from hostabi.syscalls.builder import Builder

_NATIVE = "x86-64"
_AT_SYSINFO_EHDR = 33
"""getauxval(3): where the vDSO lies."""
_AUXV = 4096
"""Bytes of the auxiliary vector; it has some 20 entries of 16."""
_COPIED = 32 << 10
"""Bytes asked for; the copy ends where the mapping does."""


class VdsoSymbols:
    """Facts: ``SYMBOL`` is its version (``LINUX_2.6``), ``soname`` the library's name.

    Those of other ways to call the kernel have them before the name:
    ``ia32:__kernel_vsyscall``. The native one is read from the image and from the
    memory of a process; a symbol that only one of them has is a contradiction.
    """

    name = "vdso"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """An image or a kernel that runs."""
        return source.agent is not None or _has_image(source)

    def capture(self, source: Source) -> list[Fact]:
        """Ask both witnesses, if there are two."""
        built: dict[str, Vdso] = {}
        if source.static is not None and _has_image(source):
            built = source.static.vdsos
        facts = []
        for abi, one in built.items():
            if abi != _NATIVE:
                symbols = {"soname": one.soname, **one.symbols}
                facts += [_fact(f"{abi}:{key}", value, "image") for key, value in symbols.items()]
        mapped = _mapped(source.agent) if source.agent is not None else None
        facts += native_facts(built.get(_NATIVE), mapped)
        if not facts:
            raise HostabiError(
                "the vDSO cannot be read from this process", advice="it is switched off by vdso=0"
            )
        return sorted(facts, key=lambda fact: fact.key)


SURFACE = VdsoSymbols()


def native_facts(built: Vdso | None, mapped: Vdso | None) -> list[Fact]:
    """What the image and a process say of the native vDSO; None for a witness that is missing."""
    said = {
        how: {"soname": one.soname, **one.symbols} if one.symbols else {}
        for how, one in (("image", built), ("memory", mapped))
        if one is not None
    }
    facts = []
    for key in sorted({key for symbols in said.values() for key in symbols}):
        answers = {how: symbols.get(key) for how, symbols in said.items()}
        if len(set(answers.values())) == 1:
            facts.append(_fact(key, str(answers.popitem()[1]), "+".join(said)))
            continue
        # what a process has decides, as it is what programs call
        detail = ", ".join(f"{how}: {value or 'not there'}" for how, value in answers.items())
        facts.append(
            Fact(
                key,
                answers["memory"] or "ENOENT",
                how="+".join(said),
                certainty=Certainty.CONTRADICTED,
                detail=detail,
            )
        )
    return facts


def address(auxv: bytes) -> int:
    """Where an auxiliary vector (getauxval(3)) says the vDSO lies, 0 when it does not."""
    for kind, value in struct.iter_unpack("<QQ", auxv[: len(auxv) & ~15]):
        if kind == _AT_SYSINFO_EHDR:
            return int(value)
    return 0


def _mapped(agent: Agent) -> Vdso | None:
    """The vDSO in the agent's memory, without symbols where none is mapped; None for unknown.

    Its children have it at the same address, as they are forked and execute nothing.
    """
    try:
        at = address(agent.read("/proc/self/auxv", _AUXV))
    except CallError:
        return None
    if not at:
        return Vdso(_NATIVE, "", {})
    builder = Builder()
    pipe = builder.buffer(8)
    copy = builder.buffer(_COPIED)
    builder.call("pipe2", pipe, 0)
    # a write stops before memory that is not there (write(2), partial writes)
    builder.call("write", pipe.word(1), at, _COPIED)
    builder.call("read", pipe.word(0), copy, _COPIED, out=[copy])
    (ran,) = agent.run([builder.build().program])
    if ran.end is not End.EXITED or len(ran.values) < 3 or ran.values[2] <= 0:
        return None
    return vdso.parse(ran.outputs[0][: ran.values[2]], "the vDSO in memory")


def _fact(key: str, value: str, how: str) -> Fact:
    sure = Certainty.READ if "memory" in how else Certainty.DERIVED
    return Fact(key, value or "no version", how=how, certainty=sure)


def _has_image(source: Source) -> bool:
    return source.static is not None and source.static.build.image is not None
