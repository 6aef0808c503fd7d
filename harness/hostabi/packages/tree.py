"""Packages with what they depend on, unpacked into one cached folder.

Such a tree is no Debian system: no maintainer script has run. It is enough to
start a program of it (:func:`tool`), or to be a guest's view of a runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from hostabi.errors import InputError, PackageError
from hostabi.packages.archives import unpack_deb
from hostabi.packages.cache import Cache
from hostabi.packages.repository import Package, Repository
from hostabi.packages.unpack import resolve
from hostabi.progress import Progress, Task

FORM = "tree-1"
"""Changes when the way a tree is laid out changes."""

MOST = 500
"""Packages in one tree."""

LARGEST = 4 << 30
"""Bytes of package files in one tree."""

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FETCHES = 4


class Source(Protocol):
    """What a tree is made from; :class:`hostabi.packages.context.Packages` is one."""

    @property
    def cache(self) -> Cache:
        """Where trees are kept."""

    @property
    def progress(self) -> Progress:
        """Where the work is told."""

    def suite(self, name: str) -> Repository:
        """A suite's packages."""

    def fetch(self, package: Package, task: Task | None = None) -> Path:
        """A package's file, told as part of ``task``."""


@dataclass(frozen=True)
class Tree:
    """An unpacked tree. ``key`` names its content."""

    root: Path
    packages: tuple[Package, ...]
    key: str


def tree(
    names: Sequence[str],
    suite: str,
    source: Source,
    *,
    exclude: Iterable[str] = (),
    members: Callable[[str], bool] | None = None,
) -> Tree:
    """``names`` and their dependencies from ``suite``, less ``exclude``, in one folder.

    ``members`` leaves files out; two different ones must have different
    qualified names, for the name is part of the tree's key. Raises
    :class:`InputError` for a name that the suite lacks, :class:`PackageError`,
    :class:`ArchiveError` and what fetching raises.
    """
    packages = closure(names, source.suite(suite), exclude=frozenset(exclude))
    digests = "\n".join(sorted(package.sha256 for package in packages))
    kept = f"{members.__module__}.{members.__qualname__}" if members else ""
    key = hashlib.sha256(f"{FORM}\n{digests}\n{kept}".encode()).hexdigest()[:24]
    label = f"tree of {', '.join(names)}"

    def build(root: Path) -> None:
        files = fetch_all(packages, source, label)
        for name in _MERGED:
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        with source.progress.task(f"unpack {label}", len(files), "packages") as task:
            for file in files:
                unpack_deb(file, root, members=members)
                task.advance()

    root = source.cache.folder("trees", key, build, label=label)
    return Tree(root, packages, key)


def fetch_all(packages: Sequence[Package], source: Source, label: str) -> list[Path]:
    """The files of ``packages``, told as one step; raises what fetching raises.

    The first failure is raised, and what had not begun by then is not fetched.
    """
    count = f", {len(packages)} packages" if len(packages) > 1 else ""
    total = sum(package.size for package in packages)
    with (
        source.progress.task(f"fetch {label}{count}", total, "B") as task,
        ThreadPoolExecutor(_FETCHES, "fetch") as pool,
    ):
        waiting = [pool.submit(source.fetch, package, task) for package in packages]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def closure(
    names: Sequence[str], repository: Repository, *, exclude: frozenset[str] = frozenset()
) -> tuple[Package, ...]:
    """The newest packages called ``names`` and, in turn, all that they depend on.

    Of alternatives the first that is already in, else the first that exists, is taken.
    """
    chosen: dict[str, Package] = {}
    provided: set[str] = set()
    waiting = [*reversed(names)]
    while waiting:
        name = waiting.pop()
        if name in chosen:
            continue
        package = repository.newest(name)
        if package is None:
            raise InputError(f"suite {repository.suite} has no package {name!r}")
        chosen[name] = package
        provided.update(virtual for [virtual] in dependencies(package.provides))
        if len(chosen) > MOST or sum(each.size for each in chosen.values()) > LARGEST:
            raise PackageError(
                f"{', '.join(names)} need more than {MOST} packages or {LARGEST >> 30} GiB",
                advice="exclude what is not needed to run them",
            )
        wanted = [*dependencies(package.pre_depends), *dependencies(package.depends)]
        for alternatives in reversed(wanted):
            if not any(each in chosen or each in provided for each in alternatives):
                waiting += _pick(alternatives, package, repository, exclude)
    return tuple(chosen[name] for name in sorted(chosen))


def _pick(
    alternatives: list[str], package: Package, repository: Repository, exclude: frozenset[str]
) -> list[str]:
    """The package that satisfies a dependency; none when an excluded one would."""
    for name in alternatives:
        if name in exclude:
            return []
        if repository.newest(name):
            return [name]
        providers = repository.providers(name)
        if any(provider in exclude for provider in providers):
            return []
        if providers:
            return [min(providers)]
    raise PackageError(
        f"{package.name} {package.version} depends on {' | '.join(alternatives)}, "
        f"which {repository.suite} does not have"
    )


def dependencies(text: str) -> Iterator[list[str]]:
    """The names in a dependency field: per relation its alternatives, versions left out.

    One suite is consistent in itself, so the versions say nothing new.
    """
    for relation in text.split(","):
        names = [
            alternative.partition("(")[0].partition("[")[0].partition(":")[0].strip()
            for alternative in relation.split("|")
        ]
        if any(names):
            yield [name for name in names if name]


def tool(tree: Tree, program: str) -> list[str]:
    """What to execute to run ``program`` (``usr/bin/qemu-img``) of ``tree`` on this host.

    A dynamic program is started through the tree's own loader and libraries,
    ld.so(8), so that it needs nothing of the host. Raises :class:`PackageError`.
    """
    path = Path(resolve(tree.root, program))
    try:
        with path.open("rb") as file:
            interpreter = next(
                (
                    segment.get_interp_name()
                    for segment in ELFFile(file).iter_segments()
                    if isinstance(segment, InterpSegment)
                ),
                "",
            )
    except (OSError, ELFError) as error:
        raise PackageError(f"{program} of the tree {tree.root} cannot be run: {error}") from error
    if not interpreter:
        return [str(path)]
    loader = Path(resolve(tree.root, interpreter))
    if not loader.is_file():
        raise PackageError(f"the tree {tree.root} has no {interpreter}, which {program} needs")
    # Without --inhibit-cache the loader would take a missing library from the host.
    libraries = ":".join(map(str, library_folders(tree.root)))
    return [str(loader), "--inhibit-cache", "--library-path", libraries, str(path)]


def library_folders(root: Path) -> list[Path]:
    """Folders of ``root`` that hold shared libraries, private ones (pulseaudio/) included."""
    found = []
    for top in ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"):
        folder = root / top
        if folder.is_dir():
            found.append(folder)
            found += sorted(
                each
                for each in folder.iterdir()
                if each.is_dir() and not each.is_symlink() and next(each.glob("lib*.so.*"), None)
            )
    return list(dict.fromkeys(found))
