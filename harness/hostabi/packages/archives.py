"""Reading .deb, .rpm and tar files, without dpkg, rpm or root."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, cast

from hostabi.errors import ArchiveError
from hostabi.packages import rpm
from hostabi.packages.sources import stanzas
from hostabi.packages.streams import DAMAGE, Bounded, Slice, decompressed
from hostabi.packages.unpack import BYTES, Folder

_AR_MAGIC = b"!<arch>\n"
_AR_MEMBERS = 16
_CONTROL = 64 << 20


def unpack(path: Path, into: Path, *, members: Callable[[str], bool] | None = None) -> None:
    """Unpack a .deb or an .rpm, told apart by content. See :func:`unpack_deb`."""
    with _reading(path) as file:
        unpack_one = unpack_rpm if _is_rpm(file) else unpack_deb
    unpack_one(path, into, members=members)


def unpack_deb(path: Path, into: Path, *, members: Callable[[str], bool] | None = None) -> None:
    """Unpack the files of a .deb (deb(5)) into the folder ``into``.

    ``members`` takes paths such as ``boot/vmlinuz-6.1.0-47-amd64``. Devices and
    owners are left out. Raises :class:`ArchiveError`.
    """
    folder = Folder(into, members)
    with _reading(path) as file:
        _untar(_deb_member(file, "data.tar"), folder)
        folder.finish()


def unpack_rpm(path: Path, into: Path, *, members: Callable[[str], bool] | None = None) -> None:
    """Unpack the files of an .rpm into the folder ``into``; like :func:`unpack_deb`."""
    folder = Folder(into, members)
    with _reading(path) as file:
        rpm.unpack(file, folder)
        folder.finish()


def unpack_tar(path: Path, into: Path, *, members: Callable[[str], bool] | None = None) -> None:
    """Unpack a tar, packed or not, into the folder ``into``; like :func:`unpack_deb`."""
    folder = Folder(into, members)
    with _reading(path) as file:
        _untar(decompressed(file, BYTES, name=repr(path.name)), folder)
        folder.finish()


def read_control(path: Path) -> dict[str, str]:
    """The control fields of a .deb, or name, version and so on of an .rpm.

    Names are as in the package, values have no line folding. Raises :class:`ArchiveError`.
    """
    with _reading(path) as file:
        if _is_rpm(file):
            return rpm.read_control(file)
        data = cast(BinaryIO, _deb_member(file, "control.tar"))
        with tarfile.open(fileobj=data, mode="r|") as archive:
            for member in archive:
                if member.name in {"control", "./control"} and member.isfile():
                    text = archive.extractfile(member)
                    return _fields(text.read().decode("utf-8", "replace") if text else "")
        raise ArchiveError("it has no control file")


def _is_rpm(file: BinaryIO) -> bool:
    """Which of the two forms ``file`` has; :class:`ArchiveError` when it has neither."""
    magic = file.read(len(_AR_MAGIC))
    if not magic.startswith((_AR_MAGIC, rpm.MAGIC)):
        raise ArchiveError("it is neither a .deb nor an .rpm" if magic else "it is empty")
    file.seek(0)
    return magic != _AR_MAGIC


def _fields(text: str) -> dict[str, str]:
    # stanzas() folds names to lower case; control files are read by the names in the manual
    lowered = next(stanzas(text), {})
    return {"-".join(map(str.capitalize, name.split("-"))): v for name, v in lowered.items()}


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """``path`` open; what damaged data raises says which file, and how far it was read."""
    with path.open("rb") as file:
        try:
            yield file
        except ArchiveError as error:
            raise ArchiveError(
                f"{path}: {error.message} (read up to byte {file.tell()})",
                advice=error.advice or "fetch the file again",
            ) from error
        except (tarfile.TarError, *DAMAGE) as error:
            raise ArchiveError(
                f"{path} is damaged: {error} (read up to byte {file.tell()})",
                advice="fetch the file again",
            ) from error


def _deb_member(file: BinaryIO, wanted: str) -> Bounded:
    """The unpacked content of the ar member called ``wanted`` plus a suffix."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    if file.read(8) != _AR_MAGIC:
        raise ArchiveError("it is not a .deb: no ar magic")
    for _ in range(_AR_MEMBERS):
        head = file.read(60)
        if len(head) < 60:
            break
        name, digits = head[:16].decode("latin-1").strip().rstrip("/"), head[48:58].strip()
        if head[58:] != b"`\n" or not digits.isdigit():
            raise ArchiveError("an ar header is damaged")
        length, start = int(digits), file.tell()
        if start + length > size:
            raise ArchiveError(f"it is truncated inside {name!r}")
        if name.startswith(wanted):
            limit = _CONTROL if wanted.startswith("control") else BYTES
            return decompressed(cast(BinaryIO, Slice(file, length)), limit, name=repr(name))
        file.seek(start + length + length % 2)
    raise ArchiveError(f"it has no {wanted} member")


def _untar(data: Bounded, folder: Folder) -> None:
    with tarfile.open(fileobj=cast(BinaryIO, data), mode="r|", bufsize=1 << 20) as archive:
        for member in archive:
            name = folder.accept(member.name, member.size if member.isfile() else 0)
            if name is None:
                continue
            if member.isdir():
                folder.folder(name, member.mode)
            elif member.issym():
                folder.symlink(name, member.linkname)
            elif member.islnk():
                folder.hardlink(name, member.linkname)
            elif member.isfile():
                content = archive.extractfile(member)
                if content is None:
                    raise ArchiveError(f"{name!r} has no content")
                folder.regular(name, member.mode, member.size, content, member.mtime)
    data.drain()
