"""The UAPI headers of a kernel's source tree, made what user space is given of them.

The kernel's own build does this for linux-libc-dev (Documentation/kbuild/headers_install.rst):
words that only the kernel knows are taken out, headers that an architecture shares with all
others are put under its name, and numbers of syscalls are written from their tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hostabi.errors import InputError

_COMMON, _ARCH = "include/uapi", "arch/x86/include/uapi"
_TABLES = "arch/x86/entry/syscalls"
_MADE = ("include/generated/uapi", "arch/x86/include/generated/uapi")

_WORDS = (
    # annotations of sparse, and what include/linux/compiler*.h has
    (re.compile(r"(?<![\w.])(?:__user|__force|__iomem|__attribute_const__)(?!\w)[ \t]*"), ""),
    (re.compile(r"^[ \t]*#[ \t]*include[ \t]*<linux/compiler(?:_types)?\.h>.*$", re.M), ""),
    (re.compile(r"(?<!\w)__packed(?!\w)"), "__attribute__((packed))"),
    # a header's own guard, which others ask for by its public name
    (re.compile(r"^([ \t]*#[ \t]*(?:ifndef|define|undef)[ \t]+)_UAPI(?=\w)", re.M), r"\1"),
)

_KBUILD = re.compile(r"^(?:mandatory|generic)-y\s*\+=\s*(\S+\.h)", re.M)
_ROW = re.compile(r"^(\d+)\s+(\w+)\s+(\w+)", re.M)
_VERSION = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL)[ \t]*=[ \t]*(\d+)", re.M)

_NUMBERS = {
    "unistd_64.h": ("syscall_64.tbl", ("common", "64"), ""),
    "unistd_x32.h": ("syscall_64.tbl", ("common", "x32"), "__X32_SYSCALL_BIT + "),
    "unistd_32.h": ("syscall_32.tbl", ("i386",), ""),
}
"""The table of each header, the ABIs of its rows, and what a number begins with (arch/x86/entry/
syscalls/Makefile)."""


def wanted(path: str) -> bool:
    """Whether :func:`export` has a use for ``path``, relative to the top of a source tree."""
    return path == "Makefile" or path.startswith(
        tuple(f"{folder}/" for folder in (_COMMON, _ARCH, _TABLES, *_MADE))
    )


def export(sources: Sequence[Path], into: Path) -> Path:
    """Write what a kernel's source has for user space on x86 to the folder ``into``.

    ``sources`` are trees that make one up together; only what is :func:`wanted` has to be
    there. What a build has made of it already is taken as it is. Returns ``into``, a folder
    as ``-I`` takes it. Raises InputError when there is no header.
    """
    if not any((source / _COMMON / "linux").is_dir() for source in sources):
        raise InputError(
            f"no {_COMMON} in {', '.join(map(str, sources))}",
            advice="name the tree of a kernel's source",
        )
    for source in sources:
        for top in (_COMMON, _ARCH, *_MADE):
            for header in sorted((source / top).rglob("*.h")):
                _write(into / header.relative_to(source / top), public(_text(header)))
    for source in sources:
        made = (*_numbers(source), *_shared(source), ("linux/version.h", _version(source)))
        for name, text in made:
            if text and not (into / name).exists():
                _write(into / name, text)
    return into


def public(text: str) -> str:
    """A header's text without what only the kernel's build knows.

    Parts below ``#ifdef __KERNEL__`` stay: a program's compiler does not see them either.
    """
    for pattern, instead in _WORDS:
        text = pattern.sub(instead, text)
    return text


def _shared(source: Path) -> Iterator[tuple[str, str]]:
    """Headers that an architecture without its own takes from all (asm-generic/)."""
    for folder in (f"{_COMMON}/asm-generic", f"{_ARCH}/asm"):
        for name in _KBUILD.findall(_text(source / folder / "Kbuild")):
            yield f"asm/{name}", f"#include <asm-generic/{name}>\n"


def _numbers(source: Path) -> Iterator[tuple[str, str]]:
    for header, (table, abis, base) in _NUMBERS.items():
        rows = _ROW.findall(_text(source / _TABLES / table))
        lines = [
            f"#define __NR_{name} {f'({base}{number})' if base else number}\n"
            for number, abi, name in rows
            if abi in abis
        ]
        yield f"asm/{header}", "#pragma once\n" * bool(lines) + "".join(lines)


def _version(source: Path) -> str:
    """linux/version.h, as the top Makefile's filechk_version.h writes it."""
    makefile = _text(source / "Makefile")
    found = {name: int(digits) for name, digits in _VERSION.findall(makefile)}
    if len(found) < 3:
        return ""
    major, minor, point = (found[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    code = (major << 16) + (minor << 8) + min(point, 255)
    lines = {"CODE": code, "MAJOR": major, "PATCHLEVEL": minor, "SUBLEVEL": point}
    return "".join(
        f"#define LINUX_VERSION_{name} {value}\n"
        for name, value in lines.items()
        if f"LINUX_VERSION_{name}" in makefile
    )


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
