"""Reading .deb and .rpm files, without dpkg, rpm or root."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    with _naming(path):
        unpack_one = unpack_rpm if _is_rpm(path) else unpack_deb
    unpack_one(path, into, members=members)


def unpack_deb(path: Path, into: Path, *, members: Callable[[str], bool] | None = None) -> None:
    """Unpack the files of a .deb (deb(5)) into the folder ``into``.

    ``members`` takes paths such as ``boot/vmlinuz-6.1.0-47-amd64``. Devices and
    owners are left out. Raises :class:`ArchiveError`.
    """
    folder = Folder(into, members)
    with _naming(path), _deb_member(path, "data.tar") as data:
        _untar(data, folder)
    folder.finish()


def unpack_rpm(path: Path, into: Path, *, members: Callable[[str], bool] | None = None) -> None:
    """Unpack the files of an .rpm into the folder ``into``; like :func:`unpack_deb`."""
    folder = Folder(into, members)
    with _naming(path), path.open("rb") as file:
        rpm.unpack(file, folder)
    folder.finish()


def read_control(path: Path) -> dict[str, str]:
    """The control fields of a .deb, or name, version and so on of an .rpm.

    Names are as in the package, values have no line folding. Raises :class:`ArchiveError`.
    """
    with _naming(path):
        if _is_rpm(path):
            with path.open("rb") as file:
                return rpm.read_control(file)
        with (
            _deb_member(path, "control.tar") as data,
            tarfile.open(fileobj=cast(BinaryIO, data), mode="r|") as archive,
        ):
            for member in archive:
                if member.name in {"control", "./control"} and member.isfile():
                    text = archive.extractfile(member)
                    return _fields(text.read().decode("utf-8", "replace") if text else "")
        raise ArchiveError("it has no control file")


def _is_rpm(path: Path) -> bool:
    """Which of the two forms ``path`` has; :class:`ArchiveError` when it has neither."""
    with path.open("rb") as file:
        magic = file.read(len(_AR_MAGIC))
    if not magic.startswith((_AR_MAGIC, rpm.MAGIC)):
        raise ArchiveError("it is neither a .deb nor an .rpm" if magic else "it is empty")
    return magic != _AR_MAGIC


def _fields(text: str) -> dict[str, str]:
    # stanzas() folds names to lower case; control files are read by the names in the manual
    lowered = next(stanzas(text), {})
    return {"-".join(map(str.capitalize, name.split("-"))): v for name, v in lowered.items()}


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file is at fault, and turn what damaged data raises into an ArchiveError."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(
            f"{path}: {error.message}", advice=error.advice or "fetch the file again"
        ) from error
    except (tarfile.TarError, *DAMAGE) as error:
        raise ArchiveError(f"{path} is damaged: {error}", advice="fetch the file again") from error


@contextmanager
def _deb_member(path: Path, wanted: str) -> Iterator[Bounded]:
    """The unpacked content of the ar member called ``wanted`` plus a suffix."""
    with path.open("rb") as file:
        size = path.stat().st_size
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
                raise ArchiveError(f"it is truncated inside {name}")
            if name.startswith(wanted):
                limit = _CONTROL if wanted.startswith("control") else BYTES
                yield decompressed(cast(BinaryIO, Slice(file, length)), limit, name=name)
                return
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
