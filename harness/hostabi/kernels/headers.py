"""What the headers of a kernel promise to user space: types, enumerators and macros.

A tree of UAPI headers (Debian's linux-libc-dev) is compiled as a whole, for a
target whose compiler writes BTF, so that the types of headers and those of an
image are read by the same code. Nothing is parsed by hand but names: what a
name means, the compiler says.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from hostabi.compiler import run_compiler
from hostabi.errors import InputError
from hostabi.kernels.btf import Btf, btf_section

FOLDERS = ("linux", "asm", "misc", "mtd")
"""Folders of the tree whose headers are taken; drivers' own (drm, sound, rdma) are not."""

_FIRST = (
    "linux/types.h",
    "linux/time.h",
    "linux/socket.h",
    "linux/in.h",
    "linux/in6.h",
    "linux/if.h",
)
"""Headers that others use without including them."""

_OTHER_ABIS = ("_32", "_x32")
"""Ends of the names of asm/ headers that give other values to the same names."""

_LIBC = {
    "stddef.h": "typedef unsigned long size_t;\ntypedef long ptrdiff_t;\n"
    "#define NULL ((void *)0)\n#define offsetof __builtin_offsetof\n",
    "stdint.h": "#include <linux/types.h>\n#include <stddef.h>\n"
    + "".join(
        f"typedef __{sign}{bits} {'u' if sign == 'u' else ''}int{bits}_t;\n"
        for sign in "us"
        for bits in (8, 16, 32, 64)
    )
    + "typedef unsigned long uintptr_t;\ntypedef long ssize_t;\ntypedef long off_t;\n"
    "typedef int pid_t;\ntypedef unsigned uid_t;\ntypedef unsigned gid_t;\ntypedef long time_t;\n",
    "stdbool.h": "#define bool _Bool\n",
    "sys/socket.h": "#include <stdint.h>\ntypedef unsigned short sa_family_t;\n"
    "#include <linux/socket.h>\n#define sockaddr_storage __kernel_sockaddr_storage\n"
    "#define MSG_FIN 0x200\n"
    "struct sockaddr { sa_family_t sa_family; char sa_data[14]; };\n",
    "netinet/in.h": "#include <sys/socket.h>\n#include <linux/in.h>\n#include <linux/in6.h>\n",
    "string.h": "#include <stdint.h>\nvoid *memset(void *, int, size_t);\n"
    "void *memcpy(void *, const void *, size_t);\nsize_t strlen(const char *);\n",
    "limits.h": "#include <linux/limits.h>\n#define INT_MAX 2147483647\n"
    "#define INT_MIN (-INT_MAX - 1)\n",
    "netinet/if_ether.h": "#include <linux/if_ether.h>\n",
    **dict.fromkeys(
        ("sys/types.h", "sys/ioctl.h", "sys/time.h", "errno.h", "time.h", "stdlib.h", "unistd.h",
         "endian.h", "arpa/inet.h"),
        "#include <stdint.h>\n",
    ),
}  # fmt: skip
"""What UAPI headers expect of a C library, and no more: only the kernel's names are wanted."""

_FLAGS = (
    "-target",
    "bpfel-freestanding",
    "-nostdinc",
    "-ferror-limit=0",
    "-w",
    "-D__x86_64__",
    "-D__linux__",
    "-U__bpf__",
)
_ROUNDS = 24
"""Compilations in which what does not compile is left out, before we give up."""
_SOURCE = "roots.c"

_MARKER = re.compile(r'# \d+ "(.*?)"')
"""Where the next lines come from (GNU cpp manual, Preprocessor Output)."""
_DIRECTIVE = re.compile(r"^#.*$", re.MULTILINE)
_MACRO_BODY = re.compile(r"^#define ([A-Za-z_]\w*) +(.+)", re.MULTILINE)
_ALIAS = re.compile(r"^#define ([A-Za-z_]\w*) +\(?([A-Za-z_]\w*)\)?$", re.MULTILINE)
_CONSTANT = re.compile(r"\b_*[A-Z][A-Z0-9_]{2,}\b")
_DEFINED = re.compile(r"^#(?:define|undef) +([A-Za-z_]\w*)", re.MULTILINE)

_FAULT = re.compile(rf"^(?:In file included from )?{_SOURCE}:(\d+)", re.MULTILINE)
_MACRO = re.compile(r"^#define ([A-Za-z_]\w*) +\S", re.MULTILINE)
_TAGGED = re.compile(r"\b(struct|union|enum)\s+(?:__attribute__\(\(.*?\)\)\s*)?([A-Za-z_]\w*)\s*\{")
_ENUM = re.compile(r"\benum\b[^{};()]*\{([^{}]*)\}")
_ENUMERATOR = re.compile(r"(?:^|,)\s*([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Headers:
    """What a tree of headers defines.

    ``values`` are macros and enumerators that are integer constants, ``types``
    the tagged types as C spells them (``struct open_how``), ``btf`` has their
    layouts. ``places`` names the header of each value and type that is in the tree.
    ``aliases`` are macros that are another name and no more, with that name;
    ``derived`` are macros that other constants make up: ``A | B``, ``A_MAX + 1``.
    ``left_out`` are headers that do not compile beside the others.
    """

    btf: Btf
    section: bytes
    types: tuple[str, ...]
    values: dict[str, int]
    enumerators: frozenset[str]
    places: dict[str, str]
    aliases: dict[str, str]
    derived: frozenset[str]
    left_out: tuple[str, ...]


def read_headers(include: Sequence[Path], names: Iterable[str] | None = None) -> Headers:
    """Compile headers below ``include``: folders as ``-I`` takes them, the arch's own first.

    ``names`` are those to take (``linux/openat2.h``), by default all. Raises
    InputError when there are none, or when the compiler refuses them.
    """
    names = header_names(include) if names is None else list(names)
    if not names:
        raise InputError(
            f"no headers in {', '.join(map(str, include))}",
            advice="is it the folder of an unpacked linux-libc-dev?",
        )
    with tempfile.TemporaryDirectory(prefix="hostabi-headers-") as name:
        return _Tree(Path(name), include).read(names)


def compiles(include: Sequence[Path], source: str) -> bool:
    """Whether C that only declares compiles with the headers below ``include``."""
    with tempfile.TemporaryDirectory(prefix="hostabi-headers-") as name:
        return _Tree(Path(name), include).accepts(source)


class _Tree:
    """Compilations in one working folder."""

    def __init__(self, folder: Path, include: Sequence[Path]) -> None:
        self._folder = folder
        for name, text in _LIBC.items():
            path = folder / "libc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#pragma once\n{text}")
        folders = [folder / "libc", *(path.absolute() for path in include)]
        self._include = tuple(str(path.absolute()) for path in include)
        self._flags = (*_FLAGS, *(part for path in folders for part in ("-I", str(path))))

    def read(self, names: Sequence[str]) -> Headers:
        start = [f"#include <{name}>" for name in ("stdint.h", "sys/socket.h", *_FIRST)]
        lines = self._sound([*start, *(f"#include <{name}>" for name in names)])
        left_out = tuple(name for name in names if f"#include <{name}>" not in lines)
        parts = list(self._preprocessed(lines))
        macros = self._macros(lines) - self._macros(())
        enumerators = frozenset(name for _, text in parts for name in _enumerators(text)) - macros
        wanted = sorted(macros | enumerators)
        types = list(dict.fromkeys(name for _, text in parts for name in _tagged(text)))
        uses = [f"enum {{ hostabi_{name} = ({name}) }};" for name in wanted]
        uses += [f"{spelt} hostabi_{i};" for i, spelt in enumerate(types)]
        whole = self._sound([*lines, *uses])
        kept = set(whole)
        good = [name for name in wanted if f"enum {{ hostabi_{name} = ({name}) }};" in kept]
        pairs = (f"(long long)hostabi_{name}, hostabi_{name} < 0" for name in good)
        elf = self._object([*whole, f"long long hostabi_values[] = {{ {', '.join(pairs)} }};"])
        section = btf_section(elf, "the compiled headers")
        return Headers(
            btf=Btf.parse(section),
            section=section,
            types=tuple(spelt for i, spelt in enumerate(types) if f"{spelt} hostabi_{i};" in kept),
            values=dict(zip(good, _values(elf, len(good)), strict=True)),
            enumerators=enumerators,
            places=_places(parts),
            aliases={name: to for _, text in parts for name, to in _ALIAS.findall(text)},
            derived=_derived(text for _, text in parts),
            left_out=left_out,
        )

    def accepts(self, source: str) -> bool:
        return not self._compile(source.splitlines(), "-c", "-o", "checked")

    def _sound(self, lines: Sequence[str]) -> list[str]:
        """The lines that compile together. What came first stays."""
        left = list(lines)
        said = ""
        for _ in range(_ROUNDS):
            said = self._compile(left, "-c", "-o", "checked")
            faulty = {int(number) for number in _faults(said)}
            if not faulty:
                break
            left = [line for number, line in enumerate(left, 1) if number not in faulty]
        else:
            raise InputError(
                f"the C compiler refuses the kernel's headers: {said.strip()[-2000:]}",
                advice="is the folder an unpacked linux-libc-dev?",
            )
        return left

    def _compile(self, lines: Iterable[str], *extra: str) -> str:
        (self._folder / _SOURCE).write_text("\n".join(lines) + "\n")
        done = run_compiler((*self._flags, *extra, _SOURCE), folder=self._folder)
        return done.stderr if done.returncode else ""

    def _output(self, lines: Iterable[str], *extra: str) -> bytes:
        path = self._folder / "output"
        said = self._compile(lines, *extra, "-o", path.name)
        if said or not path.is_file():
            raise InputError(f"the C compiler refuses the kernel's headers: {said.strip()[-2000:]}")
        return path.read_bytes()

    def _preprocessed(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Preprocessed text with its macros, in parts, each with its header.

        The header is empty for what no header of the tree says.
        """
        header, part = "", []
        for line in self._output(lines, "-E", "-dD").decode(errors="replace").splitlines():
            marker = _MARKER.match(line)
            if marker is None:
                part.append(line)
                continue
            top = next((top for top in self._include if marker[1].startswith(f"{top}/")), "")
            place = marker[1].removeprefix(f"{top}/") if top else ""
            if place != header:
                yield header, "\n".join(part)
                header, part = place, []
        yield header, "\n".join(part)

    def _macros(self, lines: Iterable[str]) -> frozenset[str]:
        return frozenset(_MACRO.findall(self._output(lines, "-E", "-dM").decode(errors="replace")))

    def _object(self, lines: Iterable[str]) -> bytes:
        return self._output(lines, "-g", "-c")


def header_names(include: Sequence[Path]) -> list[str]:
    """Every header of a tree for the native ABI, as ``#include`` names it."""
    return [
        str(path.relative_to(top))
        for top in include
        for folder in FOLDERS
        for path in sorted((top / folder).rglob("*.h"))
        if not path.stem.endswith(_OTHER_ABIS)
    ]


def _faults(said: str) -> Iterator[str]:
    """Line numbers of our own source behind errors: an error follows where it was included from."""
    included = ""
    for line in said.splitlines():
        if match := _FAULT.match(line):
            included = match[1]
        if " error: " in line and included:
            yield included


def _places(parts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The header where each name is defined first."""
    found: dict[str, str] = {}
    for header, text in parts:
        if header:
            for name in (*_DEFINED.findall(text), *_enumerators(text), *_tagged(text)):
                found.setdefault(name, header)
    return found


def _tagged(text: str) -> Iterator[str]:
    return (f"{kind} {name}" for kind, name in _TAGGED.findall(_DIRECTIVE.sub("", text)))


def _derived(texts: Iterable[str]) -> frozenset[str]:
    """Macros that other constants make up, or that are computed from such macros."""
    uses = {
        name: (frozenset(_CONSTANT.findall(body)), "|" in body)
        for text in texts
        for name, body in _MACRO_BODY.findall(text)
    }
    found = {
        name
        for name, (used, joins) in uses.items()
        if (joins and len(used) > 1) or any(one.endswith("_MAX") for one in used)
    }
    return frozenset(found | {name for name, (used, _) in uses.items() if used & found})


def _enumerators(text: str) -> Iterator[str]:
    for body in _ENUM.findall(_DIRECTIVE.sub("", text)):
        # a value may hold commas only in parentheses, and those hold no enumerators
        plain = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", body))
        yield from _ENUMERATOR.findall(plain)


def _values(elf: bytes, count: int) -> Iterator[int]:
    section = ELFFile(io.BytesIO(elf)).get_section_by_name(".data")
    raw: bytes = section.data() if section is not None else b""
    for at in range(0, 16 * count, 16):
        negative = raw[at + 8] == 1
        yield int.from_bytes(raw[at : at + 8], "little", signed=negative)
