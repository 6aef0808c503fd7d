"""What an image and a kernel's symbols tell about its syscalls, before any is tried.

Names here are those of entry points, as the kernel spells them: ``newuname``
where the syscall is ``uname``.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from hostabi.errors import ImageError
from hostabi.kernels.btf import btf_section
from hostabi.kernels.image import vmlinux
from hostabi.kernels.static import Static

_SYMBOL = re.compile(r" [TtDdRr] __x64_sys_(\w+)$")
"""A line of kallsyms; a weak symbol (W) is the stub of a call that is not built in."""

_PREFIX = b"sys_"
_NAME = re.compile(rb"([a-z0-9_]+)\0")
_DESCRIBED = 200
"""Calls that an image with CONFIG_FTRACE_SYSCALLS describes at the very least."""


def kallsyms_names(text: str) -> frozenset[str]:
    """Native entry points in /proc/kallsyms (proc(5)), without the stubs."""
    found = (_SYMBOL.search(line) for line in text.splitlines() if "__x64_sys_" in line)
    return frozenset(match[1] for match in found if match)


def image_names(static: Static, known: Collection[str]) -> tuple[str, frozenset[str]]:
    """How the image tells, and which of the ``known`` entry points it has.

    BTF names most entry points, but also the stubs of some that are not built
    in, and leaves out those without arguments. The names by which calls are
    traced have neither fault, so they decide where the image has them.
    """
    btf = static.syscall_names
    traced = _traced_names(static, btf)
    if len(traced.intersection(known)) >= _DESCRIBED:
        return "tracing", traced
    return "btf", btf


def traced_names(text: bytes, btf: Collection[str]) -> frozenset[str]:
    """Names of calls in an image's strings, which CONFIG_FTRACE_SYSCALLS puts there.

    A string that ends another one is kept once, as its end; such an end counts
    only for a call that BTF names as well.
    """
    found = set()
    # an image has 60 MB: looking for four bytes is many times as fast as an expression
    at = text.find(_PREFIX)
    while at >= 0:
        match = _NAME.match(text, at + len(_PREFIX))
        if match is not None:
            name = match[1].decode()
            if text[at - 1 : at] == b"\0" or name in btf:
                found.add(name)
        at = text.find(_PREFIX, match.end() if match is not None else at + 1)
    return frozenset(found)


def _traced_names(static: Static, btf: frozenset[str]) -> frozenset[str]:
    if static.build.image is None:
        return frozenset()
    elf = vmlinux(static.build.image)
    try:
        section = btf_section(elf, str(static.build.image))
    except ImageError:
        return traced_names(elf, btf)
    start = elf.find(section)
    return traced_names(elf[:start] + elf[start + len(section) :], btf)
