"""From a kernel image to the ELF inside it, without booting.

An x86 bzImage says in its setup header where its payload lies
(``payload_offset`` and ``payload_length``, boot protocol 2.08;
Documentation/arch/x86/boot.rst). The payload is a compressed vmlinux whose
unpacked length is kept in its last four bytes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

from hostabi.errors import ImageError
from hostabi.kernels import compression

LIMIT = 512 << 20
"""Bytes a kernel may unpack to; the largest distribution kernel has about a quarter of it."""

_FILE_LIMIT = 1 << 30
_TRIES = 64
_ELF = b"\x7fELF"
_MACHINES = {3: "i386", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "arm64",
             243: "riscv", 258: "loongarch"}  # fmt: skip


def vmlinux(path: Path) -> bytes:
    """The ELF of the kernel in ``path``: a bzImage, a packed vmlinux, or a plain one.

    The last two are kept in memory: what is asked of an image is asked at once, and two
    are compared.
    Raises ImageError when the file is missing, truncated, corrupt, no kernel,
    or a kernel for another machine than x86-64.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _unpacked(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2)
def _unpacked(path: Path, size: int, changed: int) -> bytes:
    data = memoryview(_read(path))
    name = str(path)
    _refuse_other_machines(data, name)
    if data[:4] == _ELF:
        return _checked(bytes(data), name)
    if bytes(data[0x202:0x206]) == b"HdrS":
        return _checked(_from_bzimage(data, name), name)
    if form := compression.recognise(data):
        return _checked(compression.unpack(form, data, LIMIT, name), name)
    return _checked(_scan(data, name), name)


def release_of(path: Path) -> str:
    """The release (``uname -r``) that a bzImage names in its setup header.

    Raises ImageError when the file is no bzImage or names none.
    """
    data = memoryview(_read(path))
    name = str(path)
    _refuse_other_machines(data, name)
    if bytes(data[0x202:0x206]) != b"HdrS" or len(data) < 0x250:
        raise ImageError(
            f"{name}: not a bzImage", advice="name the bzImage (vmlinuz), not the vmlinux"
        )
    (pointer,) = struct.unpack_from("<H", data, 0x20E)
    text = bytes(data[pointer + 0x200 : pointer + 0x200 + 256]) if pointer else b""
    release = text.split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    if not release or not release[0].isdigit() or "/" in release or not release.isprintable():
        raise ImageError(f"{name}: its setup header names no release")
    return release


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _FILE_LIMIT:
            raise ImageError(f"{path}: {size} bytes are too many for a kernel image")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(
        f"{path}: cannot be read: {error.strerror}", advice="check the file's name and mode"
    )


def _from_bzimage(data: memoryview, name: str) -> bytes:
    if len(data) < 0x250:
        raise ImageError(f"{name}: truncated within its setup header")
    (version,) = struct.unpack_from("<H", data, 0x206)
    if version < 0x208:
        return _scan(data, name)
    offset, length = struct.unpack_from("<II", data, 0x248)
    # Zero means four, for historical reasons (boot.rst, field setup_sects).
    start = ((data[0x1F1] or 4) + 1) * 512 + offset
    if length < 16 or start + length > len(data):
        raise ImageError(
            f"{name}: truncated or corrupt: the payload should take {length} bytes"
            f" from {start} on, the file has {len(data)}",
            advice="fetch or build the file again",
        )
    payload = data[start : start + length]
    if payload[:4] == _ELF:
        return bytes(payload)
    form = compression.recognise(payload)
    if form is None:
        raise ImageError(
            f"{name}: payload in an unknown compression (starts {bytes(payload[:4]).hex()})",
            advice="gzip, xz, zstd, lz4, bzip2 and lzma are known",
        )
    unpacked = compression.unpack(form, payload, LIMIT, name)
    (declared,) = struct.unpack_from("<I", payload, length - 4)
    if declared != len(unpacked):
        raise ImageError(
            f"{name}: corrupt: the payload unpacks to {len(unpacked)} bytes, not {declared}",
            advice="fetch or build the file again",
        )
    return unpacked


def _scan(data: memoryview, name: str) -> bytes:
    """Look for a compressed ELF anywhere, for images whose header tells nothing."""
    whole = bytes(data)
    tries = 0
    for form in compression.FORMATS:
        at = whole.find(form.magic)
        while at >= 0 and tries < _TRIES:
            tries += 1
            if compression.head(form, data[at:], 4) == _ELF:
                return compression.unpack(form, data[at:], LIMIT, name)
            at = whole.find(form.magic, at + 1)
    raise ImageError(
        f"{name}: no kernel found in its {len(data)} bytes", advice="name a bzImage or a vmlinux"
    )


def _refuse_other_machines(data: memoryview, name: str) -> None:
    """Tell foreign kernels by their headers (arm64/booting.rst, riscv/boot-image-header.rst)."""
    other = ""
    if bytes(data[0x38:0x3C]) == b"ARM\x64":
        other = "arm64"
    elif bytes(data[0x38:0x3C]) == b"RSC\x05":
        other = "riscv"
    elif bytes(data[4:8]) == b"zimg":
        other = "another machine (an EFI zboot image)"
    if other:
        raise ImageError(
            f"{name}: a kernel for {other}, by its first bytes; only x86-64 is supported",
            advice="name a kernel for amd64",
        )


def _checked(elf: bytes, name: str) -> bytes:
    if elf[:4] != _ELF or len(elf) < 64:
        raise ImageError(f"{name}: what it unpacks to, {len(elf)} bytes, is no ELF file")
    (machine,) = struct.unpack_from("<H" if elf[5] == 1 else ">H", elf, 18)
    if (elf[4], elf[5], machine) != (2, 1, 62):
        found = _MACHINES.get(machine, f"ELF machine {machine}")
        raise ImageError(
            f"{name}: a kernel for {found} (byte 18 of its ELF header); only x86-64 is supported",
            advice="name a kernel for amd64",
        )
    return elf
