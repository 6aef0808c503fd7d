"""The cache on disk: things made at most once, and never seen half made.

Layout: ``blobs/ab/<sha256>`` for verified files by content, and ``<kind>/<key>``
for folders and files derived from them. A thing is made under a temporary name
beside its place and renamed; a file lock per thing keeps two processes from
making it twice. The lock is the kernel's (flock), so a killed process leaves
none behind.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from hostabi.errors import StorageError
from hostabi.progress import SILENT, Progress

LOCK_WAIT = 1800.0
"""Seconds to wait for another process that makes the same thing."""

_PATIENCE = 2.0
"""Seconds of waiting before it is worth a line."""

_held_here: set[Path] = set()
"""Locks that threads of this process hold: what is made here is told by who makes it."""
_held_mutex = threading.Lock()

_TEMPORARY = ".making-"
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageError(
                f"no space left while writing below {path}",
                advice="hostabi cache prune, or set HOSTABI_CACHE to a folder on a larger disk",
            ) from error
        if error.errno in _NOT_WRITABLE and _concerns(error, path):
            raise StorageError(
                f"cannot read or write below {path}: {error.strerror}",
                advice="set HOSTABI_CACHE to a folder that you can write",
            ) from error
        raise


def _concerns(error: OSError, path: Path) -> bool:
    """Whether ``error`` is about a file below ``path``, or a folder that ``path`` needs."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(path)
    return Path(name).is_relative_to(path) or path.is_relative_to(name)


@dataclass(frozen=True)
class Cache:
    """The cache below ``root``. Safe for several threads and processes at once."""

    root: Path
    progress: Progress = field(default=SILENT, repr=False, compare=False)
    """Where the making of things, and the waiting for them, is told."""

    def blob(self, sha256: str) -> Path | None:
        """The verified file with this SHA-256, or None when it is not here.

        Raises :class:`StorageError` when the cache cannot be read.
        """
        path = self.blob_path(sha256)
        if not self._has(path):
            return None
        _touch(path)
        return path

    def blob_path(self, sha256: str) -> Path:
        """Where the file with this SHA-256 lies or will lie."""
        return self.root / "blobs" / sha256[:2] / sha256

    def store(self, sha256: str, part: Path) -> Path:
        """Move ``part``, whose content the caller has verified, to its place.

        Raises :class:`StorageError`.
        """
        path = self.blob_path(sha256)
        with storage_errors(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        return path

    def folder(
        self, kind: str, key: str, build: Callable[[Path], None], *, label: str = ""
    ) -> Path:
        """The folder ``kind/key``; ``build`` fills an empty one the first time.

        Whatever ``build`` raises comes through, and nothing of it stays behind.
        """
        return self._made(kind, key, build, label=label, is_folder=True)

    def file(self, kind: str, key: str, build: Callable[[Path], None], *, label: str = "") -> Path:
        """The file ``kind/key``; ``build`` writes it to the path it is given the first time."""
        return self._made(kind, key, build, label=label, is_folder=False)

    def forget(self, kind: str, key: str) -> None:
        """Remove ``kind/key``, for example because it proved to be damaged."""
        with self.lock(f"{kind}-{key}"):
            _remove(self.root / kind / key)

    @contextmanager
    def lock(self, name: str, *, label: str = "", wait: float = LOCK_WAIT) -> Iterator[None]:
        """Hold the lock called ``name``. Raises :class:`StorageError` after ``wait`` seconds."""
        folder = self.root / "locks"
        with storage_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{_safe(name)}.lock"
            held = filelock.FileLock(path)
            try:
                self._acquire(held, path, label or name, wait)
            except filelock.Timeout as error:
                raise StorageError(
                    f"another process has been making {label or name} for {wait:.0f} s",
                    advice=f"see who holds {held.lock_file}",
                ) from error
        with _held_mutex:
            _held_here.add(path)
        try:
            yield
        finally:
            with _held_mutex:
                _held_here.discard(path)
            held.release()

    def _acquire(self, lock: filelock.BaseFileLock, path: Path, what: str, wait: float) -> None:
        """Take the lock; say so when another process keeps us waiting for it."""
        first = min(wait, _PATIENCE)
        try:
            lock.acquire(timeout=first)
        except filelock.Timeout:
            if wait <= first:
                raise
            with _held_mutex:
                ours = path in _held_here
            if ours:
                lock.acquire(timeout=wait - first)
                return
            self.progress.say(f"waiting for another hostabi that is at work on {what}")
            with self.progress.task(f"another hostabi is at work on {what}"):
                lock.acquire(timeout=wait - first)

    def _made(
        self, kind: str, key: str, build: Callable[[Path], None], *, label: str, is_folder: bool
    ) -> Path:
        place = self.root / kind / _safe(key)
        if self._has(place):
            _touch(place)
            return place
        with self.lock(f"{kind}-{key}", label=label):
            if place.exists():
                return place
            with storage_errors(self.root):
                place.parent.mkdir(parents=True, exist_ok=True)
                for stale in place.parent.glob(f"{_TEMPORARY}{place.name}.*"):
                    _remove(stale)  # its maker is dead: we hold the lock
                above = Path(
                    tempfile.mkdtemp(prefix=f"{_TEMPORARY}{place.name}.", dir=place.parent)
                )
                making = above / place.name
                try:
                    if is_folder:
                        making.mkdir()
                    build(making)
                    making.replace(place)
                finally:
                    _remove(above)
        return place

    def _has(self, path: Path) -> bool:
        # A folder that may not be searched is not an empty one.
        with storage_errors(self.root):
            return path.exists()

    def sizes(self) -> dict[str, int]:
        """Bytes in use by kind of content. Raises :class:`StorageError`."""
        with storage_errors(self.root):
            if not self.root.is_dir():
                return {}
            return {
                entry.name: _size(Path(entry.path))
                for entry in sorted(os.scandir(self.root), key=lambda entry: entry.name)
                if entry.is_dir(follow_symlinks=False)
            }

    def size(self) -> int:
        """Bytes in use."""
        return sum(self.sizes().values())

    def prune(self, unused_for: float = 0.0) -> int:
        """Remove what nobody used for ``unused_for`` seconds; what is being made stays.

        Returns the number of bytes freed. Raises :class:`StorageError`.
        """
        before, limit = self.size(), time.time() - unused_for
        if not self.root.is_dir():
            return 0
        with storage_errors(self.root):
            for kind in self.root.iterdir():
                if kind.name == "blobs":
                    for path in kind.glob("*/*"):
                        self._prune(path, path.name.removesuffix(".part"), limit)
                elif kind.is_dir() and kind.name != "locks":
                    for path in kind.iterdir():
                        self._prune(path, f"{kind.name}-{_made_for(path.name)}", limit)
        return before - self.size()

    def keep(self, kind: str, count: int) -> None:
        """Remove what was not used for longest, beyond ``count`` of ``kind``.

        What another process makes stays, and so does what cannot be removed:
        this is housekeeping. What is open somewhere can be read on (unlink(2)).
        """
        used: list[tuple[int, Path]] = []
        with suppress(OSError):
            for path in (self.root / kind).iterdir():
                if not path.name.startswith(_TEMPORARY):
                    with suppress(FileNotFoundError):
                        used.append((path.lstat().st_mtime_ns, path))
        for _, path in sorted(used, reverse=True)[count:]:
            with suppress(OSError):
                self._prune(path, f"{kind}-{path.name}", math.inf)

    def _prune(self, path: Path, lock: str, limit: float) -> None:
        with suppress(StorageError, FileNotFoundError):
            if path.lstat().st_mtime <= limit:
                with self.lock(lock, wait=0):
                    _remove(path)


def _safe(name: str) -> str:
    """``name`` as one path component: suites and versions may hold a slash or a colon."""
    return "".join(char if char.isalnum() or char in "._+-~=" else "_" for char in name)


def _made_for(name: str) -> str:
    """The key that a folder of a thing, made or in the making, belongs to."""
    if name.startswith(_TEMPORARY):
        return name.removeprefix(_TEMPORARY).rpartition(".")[0]
    return name


def _touch(path: Path) -> None:
    """Remember that ``path`` was used, for :meth:`Cache.prune`."""
    with suppress(OSError):
        os.utime(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _size(folder: Path) -> int:
    total, waiting = 0, [folder]
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
