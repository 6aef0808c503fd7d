"""Building the C programs with the compiler of the ziglang wheel: static, no system compiler."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol

from hostabi import resources
from hostabi.agent import wire
from hostabi.compiler import run_compiler
from hostabi.errors import HostabiError, InputError
from hostabi.progress import Progress

Kind = Literal["agent", "probe"]

_TARGETS = {"x86_64": "x86_64-linux-musl"}
_FLAGS = (
    "-static",
    "-Os",
    "-s",
    "-std=gnu17",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    # Programs of system calls may damage what these two rely on.
    "-fno-stack-protector",
    "-fno-sanitize=all",
)


class FileCache(Protocol):
    """The part of a cache that is needed here: make a file at most once."""

    @property
    def progress(self) -> Progress:
        """Where the work is told."""

    def file(self, kind: str, key: str, build: Callable[[Path], None], *, label: str = "") -> Path:
        """Return the file for ``key``, calling ``build`` with a path to write if there is none."""


def sources(kind: Kind) -> list[Path]:
    """The C files of a program: ``probe*.c`` are the probe's, all others the agent's."""
    files = sorted(resources.agent_sources().glob("*.c"))
    return [file for file in files if file.name.startswith("probe") == (kind == "probe")]


def _key(kind: Kind, files: list[Path], arch: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((kind, arch, flags, version("ziglang"))).encode())
    for file in [*files, *sorted(resources.agent_sources().glob("*.h"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(wire.layout_rows().encode())
    return digest.hexdigest()


def _compile(files: list[Path], arch: str, flags: tuple[str, ...], output: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hostabi-build-") as name:
        folder = Path(name)
        (folder / "layouts.h").write_text(wire.layout_rows())
        built = folder / "built"
        argv = ["-target", _TARGETS[arch], *flags, f"-I{folder}", "-o", str(built)]
        done = run_compiler([*argv, *(str(file.absolute()) for file in files)], folder=folder)
        if done.returncode or not built.exists():
            raise HostabiError(
                f"the C compiler failed:\n{done.stderr.strip()[-4000:]}",
                advice="`python -m ziglang version` should work; the cache of zig needs free space",
            )
        output.write_bytes(built.read_bytes())
        output.chmod(0o755)


def binary(kind: Kind, cache: FileCache, arch: str = "x86_64", *, alterable: bool = False) -> Path:
    """The static program, built on first use and kept by its sources, flags and compiler.

    ``alterable`` is the agent's build for tests, which can be told to differ from
    its kernel (harness/agent/alter.c). Raises InputError for an unknown
    architecture or when there is nothing to build, HostabiError when the compiler fails.
    """
    if arch not in _TARGETS:
        raise InputError(
            f"the agent is not built for {arch}", advice=f"known: {', '.join(_TARGETS)}"
        )
    files = sources(kind)
    if not files:
        raise InputError(
            f"no sources of the {kind} in {resources.agent_sources()}",
            advice="this installation of hostabi is incomplete; install it again",
        )
    label = f"compile the {kind} for guests (once)"

    def build(path: Path) -> None:
        with cache.progress.task(label):
            _compile(files, arch, flags, path)
        if _key(kind, files, arch, flags) != key:
            raise HostabiError(
                f"the sources of the {kind} changed while they were compiled", advice="try again"
            )

    flags = (*_FLAGS, "-DHOSTABI_ALTER") if alterable else _FLAGS
    key = _key(kind, files, arch, flags)
    return cache.file("binaries", key, build, label=f"the {kind}'s program")
