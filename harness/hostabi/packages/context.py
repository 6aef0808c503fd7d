"""The one small thing that everything which needs packages is handed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hostabi import resources
from hostabi.packages.cache import Cache
from hostabi.packages.fetch import Fetcher, Wanted
from hostabi.packages.repository import Opener, Package, Repository
from hostabi.packages.sources import Mirror
from hostabi.packages.tree import Tree, tree
from hostabi.progress import SILENT, Progress, Task


@dataclass(frozen=True)
class Packages:
    """Suites, package files and trees, through one cache and one mirror. Thread-safe."""

    cache: Cache
    mirror: Mirror
    progress: Progress = SILENT
    refresh: bool = False
    """Ask the mirror for Release files even when they were checked a moment ago."""
    _suites: dict[str, Repository] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @classmethod
    def open(
        cls, mirror: str | None = None, progress: Progress = SILENT, *, refresh: bool = False
    ) -> Packages:
        """With the user's cache; ``mirror`` is what ``--mirror`` was given.

        A mirror is looked up when something has to be fetched, not here.
        """
        return cls(Cache(resources.cache(), progress), Mirror(mirror), progress, refresh)

    def suite(self, name: str) -> Repository:
        """The suite ``name``; see :meth:`Opener.open` for what it raises."""
        with self._lock:
            if name not in self._suites:
                self._suites[name] = self._opener.open(name)
            return self._suites[name]

    def sources(self, name: str) -> Repository:
        """The source packages of the suite ``name``; see :meth:`Opener.sources`."""
        return self._opener.sources(self.suite(name))

    def fetch(self, package: Package, task: Task | None = None) -> Path:
        """The package file, verified, in the cache; see :meth:`Fetcher.fetch`."""
        wanted = Wanted(package.url, package.sha256, package.size, package.file)
        return self._fetcher.fetch(wanted, task)

    def tree(
        self,
        names: Sequence[str],
        suite: str,
        *,
        exclude: Sequence[str] = (),
        members: Callable[[str], bool] | None = None,
    ) -> Tree:
        """``names`` and what they depend on, unpacked; see :func:`hostabi.packages.tree.tree`."""
        return tree(names, suite, self, exclude=exclude, members=members)

    @property
    def _opener(self) -> Opener:
        return Opener(self.cache, self._fetcher, self.mirror, refresh=self.refresh)

    @cached_property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self.cache, self.progress)
