"""Writing what an archive holds into a folder, and never outside of it.

Nothing is written through a link that leads out: the parent of each member is
resolved inside the folder, component by component. Absolute links, which
packages are full of, mean the root of the tree they end up in; they are
rewritten as relative ones, so that they stay inside wherever the tree lies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hostabi.errors import ArchiveError

BYTES = 8 << 30
"""What one archive may unpack to."""

MEMBERS = 500_000

_HOPS = 40  # as many links as the kernel follows, path_resolution(7)
_CHUNK = 1 << 20


class Reader(Protocol):
    """Where a member's bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; nothing at the end."""


@dataclass
class Folder:
    """The folder that an archive is unpacked into."""

    root: Path
    wanted: Callable[[str], bool] | None = None
    """Takes a member's path such as ``usr/bin/runc``; None wants all."""
    _bytes: int = 0
    _count: int = 0
    _parents: dict[str, str] = field(default_factory=dict)
    _links: list[str] = field(default_factory=list)

    def accept(self, name: str, size: int = 0) -> str | None:
        """The member's clean path, or None when it is not wanted.

        Raises :class:`ArchiveError` for a path that is absolute or has ``..``
        in it, and for an archive that grows past its bounds.
        """
        self._count += 1
        if self._count > MEMBERS:
            raise ArchiveError(f"archive has more than {MEMBERS} members")
        if name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise ArchiveError(f"archive member {name!r} reaches outside its folder")
        clean = "/".join(part for part in name.split("/") if part not in {"", "."})
        if not clean or (self.wanted and not self.wanted(clean)):
            return None
        self._bytes += size
        if size < 0 or self._bytes > BYTES:
            raise ArchiveError(f"archive unpacks to more than {BYTES} bytes")
        return clean

    def folder(self, name: str, mode: int) -> None:
        """Make the folder ``name``; one that is there, or a link to one, stays."""
        path = os.path.join(self._parent(name), os.path.basename(name))  # noqa: PTH118, PTH119
        if os.path.islink(path):  # noqa: PTH114
            self._inside(path)
            return
        with suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102
        if not os.path.isdir(path):  # noqa: PTH112
            raise ArchiveError(f"archive holds {name!r} as a folder and as something else")
        os.chmod(path, mode & 0o755 | 0o700)  # noqa: PTH101

    def regular(self, name: str, mode: int, size: int, reader: Reader, mtime: float = 0) -> None:
        """Write the file ``name``. :class:`ArchiveError` when ``reader`` ends early."""
        path = self._free(name)
        with open(path, "xb") as file:  # noqa: PTH123
            left = size
            while left:
                data = reader.read(min(left, _CHUNK))
                if not data:
                    raise ArchiveError(f"archive ends inside {name!r}")
                file.write(data)
                left -= len(data)
        # No setuid: what it means depends on who unpacks. Trees are for reading.
        os.chmod(path, mode & 0o755 | 0o400)  # noqa: PTH101
        os.utime(path, (mtime, mtime))

    def symlink(self, name: str, target: str) -> None:
        """Make the link ``name``. An absolute ``target`` is taken from the folder's root."""
        parent = self._parent(name)
        path = os.path.join(parent, os.path.basename(name))  # noqa: PTH118, PTH119
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            return  # a folder stays, as dpkg has it
        if target.startswith("/"):
            inner = "/".join(part for part in target.split("/") if part not in {"", "."})
            target = os.path.relpath(os.path.join(self.root, inner), parent)  # noqa: PTH118
            if ".." in inner.split("/"):
                raise ArchiveError(f"link {name!r} leads to {inner!r}")
        if not target or "\0" in target:
            raise ArchiveError(f"link {name!r} has no target")
        self._remove(path)
        os.symlink(target, path)  # noqa: PTH211
        self._parents.clear()
        self._links.append(path)
        self._inside(path)

    def hardlink(self, name: str, target: str) -> None:
        """Make ``name`` another name of ``target``, an earlier member."""
        if target.startswith("/") or ".." in target.split("/"):
            raise ArchiveError(f"link {name!r} leads outside, to {target!r}")
        clean = "/".join(part for part in target.split("/") if part not in {"", "."})
        source = os.path.join(self._parent(clean), os.path.basename(clean))  # noqa: PTH118, PTH119
        if os.path.islink(source) or not os.path.isfile(source):  # noqa: PTH113, PTH114
            if self.wanted and not self.wanted(clean):
                return  # its target was left out
            raise ArchiveError(f"link {name!r} leads to {target!r}, which is no file before it")
        path = self._free(name)
        try:
            os.link(source, path)
        except OSError:
            shutil.copy2(source, path)

    def finish(self) -> None:
        """Check all links once more, for a later member can change what a link passes through."""
        for path in self._links:
            if os.path.islink(path):  # noqa: PTH114
                self._inside(path)

    def _free(self, name: str) -> str:
        """Where ``name`` goes, with nothing there."""
        path = os.path.join(self._parent(name), os.path.basename(name))  # noqa: PTH118, PTH119
        self._remove(path)
        return path

    def _remove(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            raise ArchiveError(f"archive holds {path!r} as a folder and as something else")
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108

    def _parent(self, name: str) -> str:
        """The real folder that ``name`` goes into, made when missing."""
        above = name.rpartition("/")[0]
        known = self._parents.get(above)
        if known is None:
            known = resolve(self.root, above)
            os.makedirs(known, mode=0o755, exist_ok=True)  # noqa: PTH103
            self._parents[above] = known
        return known

    def _inside(self, link: str) -> None:
        resolve(self.root, os.path.relpath(link, self.root))


def resolve(root: Path, path: str) -> str:
    """The place below ``root`` that ``path`` means, following links inside the tree.

    What does not exist resolves to where it would be. Raises
    :class:`ArchiveError` when a link leads out of ``root``.
    """
    top = str(root)
    waiting = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    here: list[str] = []
    hops = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            if not here:
                raise ArchiveError(f"{path!r} leads outside its folder")
            here.pop()
            continue
        here.append(part)
        try:
            target = os.readlink(f"{top}/{'/'.join(here)}")  # noqa: PTH115
        except OSError:
            continue  # no link, or nothing there yet
        here.pop()
        hops += 1
        if hops > _HOPS or target.startswith("/"):
            raise ArchiveError(f"{path!r} leads outside its folder or in a circle")
        waiting += [step for step in reversed(target.split("/")) if step not in {"", "."}]
    return f"{top}/{'/'.join(here)}" if here else top
