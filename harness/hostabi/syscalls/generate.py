"""Makes the tables of syscall numbers and constants from Debian's linux-libc-dev.

The tables are kept in ``data/x86_64.json``. To renew them, unpack the newest
linux-libc-dev and name its folder, its version and the SHA-256 of the .deb::

    dpkg-deb -x linux-libc-dev_VERSION_all.deb tree
    python -m hostabi.syscalls.generate tree VERSION SHA256

Only the preprocessor sees the headers (``zig cc -E``): nothing is run, and no
header is parsed by hand.
"""

from __future__ import annotations

import ast
import operator
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from hostabi.errors import InputError
from hostabi.syscalls import types
from hostabi.syscalls.table import DATA, Tables

HEADERS = (
    "asm/fcntl.h",
    "asm/ioctls.h",
    "asm/mman.h",
    "asm/poll.h",
    "asm/signal.h",
    "asm/siginfo.h",
    "asm/stat.h",
    "asm/unistd_64.h",
    "linux/close_range.h",
    "linux/eventfd.h",
    "linux/eventpoll.h",
    "linux/falloc.h",
    "linux/fcntl.h",
    "linux/fs.h",
    "linux/futex.h",
    "linux/inotify.h",
    "linux/limits.h",
    "linux/memfd.h",
    "linux/mman.h",
    "linux/mount.h",
    "linux/openat2.h",
    "linux/pidfd.h",
    "linux/prctl.h",
    "linux/resource.h",
    "linux/sched.h",
    "linux/signalfd.h",
    "linux/stat.h",
    "linux/time.h",
    "linux/timerfd.h",
    "linux/uio.h",
    "linux/wait.h",
    "linux/xattr.h",
    "linux/magic.h",
)
"""Headers whose object-like macros with an integer value are taken."""

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_CAST = re.compile(r"\(\s*(?:__force\s+)?(?:(?:unsigned|signed|int|long|char|__\w+)\s*)+\)")
_NUMBER = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*\b")


def evaluate(expression: str) -> int | None:
    """The value of a C constant expression of integers; None when it is something else."""
    if "sizeof" in expression:
        return None
    text = _NUMBER.sub(_literal, _CAST.sub("", expression)).replace("/", "//").strip()
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _literal(match: re.Match[str]) -> str:
    digits = match.group(1)
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
    return "0o" + digits if octal else digits


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.Invert(), operand=inner):
            return ~_value(inner)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError(ast.dump(node))


def compiler(include: Iterable[Path], *extra: str, source: str) -> str:
    """Run the C compiler over ``source`` with only ``include`` to search; its output.

    Raises InputError with what the compiler said.
    """
    # -I, for the compiler searches headers of its own before -isystem, -nostdinc or not
    folders = [part for folder in include for part in ("-I", str(folder))]
    argv = [
        *(sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-nostdinc"),
        *folders,
        *extra,
        *("-x", "c", "-"),
    ]
    done = subprocess.run(argv, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the C compiler refused the kernel's headers: {done.stderr.strip()[-2000:]}",
            advice="is the folder an unpacked linux-libc-dev?",
        )
    return done.stdout


def generate(tree: Path, *, version: str, sha256: str) -> Tables:
    """The tables from an unpacked linux-libc-dev in ``tree``; holds the cffi types against it."""
    include = (tree / "usr/include", tree / "usr/include/x86_64-linux-gnu")
    includes = "".join(f"#include <{header}>\n" for header in HEADERS)
    macros = compiler(include, "-E", "-dM", source=includes)
    names = sorted(set(re.findall(r"^#define ([A-Z]\w*|__NR_\w+) +\S", macros, re.MULTILINE)))
    marked = "".join(f"@{index}@ {name}\n" for index, name in enumerate(names))
    expanded = compiler(include, "-E", source=includes + marked)
    values = {
        names[int(index)]: value
        for index, text in re.findall(r"^@(\d+)@ (.*)$", expanded, re.MULTILINE)
        if (value := evaluate(text)) is not None
    }
    check_layouts(include)
    return Tables(
        package="linux-libc-dev",
        version=version,
        sha256=sha256,
        syscalls={k.removeprefix("__NR_"): v for k, v in values.items() if k.startswith("__NR_")},
        constants={k: v for k, v in values.items() if not k.startswith("__NR_")},
    )


def check_layouts(include: Iterable[Path]) -> None:
    """Compile :func:`layout_checks` and throw the object away. Raises InputError on a mismatch."""
    with tempfile.TemporaryDirectory() as folder:
        compiler(include, "-c", "-o", f"{folder}/layout.o", source=layout_checks())


def layout_checks() -> str:
    """C source that compiles only where the headers lay structs out as our cffi types do."""
    lines = [f"#include <{header}>" for header in sorted({h for h, _ in types.HEADERS.values()})]
    for name, (_, there) in types.HEADERS.items():
        lines.append(f'_Static_assert(sizeof({there}) == {types.size(name)}, "{name}");')
        lines += [
            f'_Static_assert(__builtin_offsetof({there}, {field}) == {offset}, "{name}.{field}");'
            for field, offset, _ in types.fields(name)
            if field not in types.OWN_FIELDS and not (name == "struct siginfo" and "va" in field)
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the tables; arguments are the tree, its version and the package's SHA-256."""
    tree, version, sha256 = sys.argv[1:]
    tables = generate(Path(tree), version=version, sha256=sha256)
    DATA.write_bytes(msgspec.json.format(msgspec.json.encode(tables, order="sorted"), indent=1))


if __name__ == "__main__":
    main()
