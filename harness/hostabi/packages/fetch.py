"""Downloads over HTTP: bounded, resumed, retried, and verified before they are visible."""

from __future__ import annotations

import functools
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx

from hostabi.errors import PackageError, VerificationError
from hostabi.packages.cache import Cache, storage_errors
from hostabi.progress import SILENT, Progress, Task

ATTEMPTS = 5
BACKOFF = 0.5
"""Seconds before the second attempt; doubled for each further one."""

SLOWEST = 16 * 1024
"""Bytes a second below which a download is given up, after a minute's grace."""

DOWN = 60.0
"""Seconds for which a host that could not be reached is not tried again."""

_T = TypeVar("_T")
_ADVICE = "check the network, or name another mirror with HOSTABI_MIRROR"


class PackageGoneError(PackageError):
    """The mirror lists a file that it no longer has (404 or 410)."""


class UnreachableError(PackageError):
    """The mirror could not be reached, or failed on its side, several times in a row."""


class _Meter:
    """Tells a step how far a download is, once for each byte however often it is sent."""

    def __init__(self, task: Task) -> None:
        self._task, self._told = task, 0

    def at(self, position: int) -> None:
        if position > self._told:
            self._task.advance(position - self._told)
            self._told = position


class _TransientError(Exception):
    """Worth another try. ``down``: the host could not be reached at all."""

    def __init__(self, reason: str, *, down: bool = False) -> None:
        super().__init__(reason)
        self.down = down


@dataclass(frozen=True)
class Wanted:
    """One file to fetch, with the size (bytes) and SHA-256 that signed data promise."""

    url: str
    sha256: str
    size: int
    label: str = ""


@dataclass(frozen=True)
class Fetcher:
    """Downloads into ``cache``. Safe for several threads."""

    cache: Cache
    progress: Progress = SILENT
    attempts: int = ATTEMPTS
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _down: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False, compare=False)
    """Hosts that could not be reached, since when, and why."""

    @functools.cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(30.0, connect=10.0),
            # Bytes are compared with a checksum, so they must come as they are.
            headers={"Accept-Encoding": "identity", "User-Agent": "hostabi"},
            limits=httpx.Limits(max_connections=8),
        )

    def small(self, url: str, limit: int) -> bytes:
        """The body at ``url``, at most ``limit`` bytes.

        Raises :class:`PackageGoneError`, :class:`UnreachableError`,
        :class:`PackageError` and, for a body that is larger, :class:`VerificationError`.
        """

        def attempt() -> bytes:
            body = bytearray()
            with self._open(url, {}) as response:
                for chunk in _chunks(response, url, _deadline(limit)):
                    body += chunk
                    if len(body) > limit:
                        raise VerificationError(f"{url} is larger than {limit} bytes")
                declared = response.headers.get("content-length", "")
                if declared.isdecimal() and int(declared) != len(body):
                    raise _TransientError("it ended early")
            return bytes(body)

        return self._retrying(url, attempt)

    def fetch(self, wanted: Wanted, task: Task | None = None) -> Path:
        """The verified file in the cache, downloaded unless it is there.

        Told as a step of its own, or as ``wanted.size`` bytes of ``task``.

        Raises :class:`PackageGoneError`, :class:`UnreachableError`, :class:`PackageError`,
        :class:`VerificationError` and :class:`StorageError`.
        """
        found = self._cached(wanted)
        if found:
            if task:
                task.advance(wanted.size)
            return found
        with self.cache.lock(wanted.sha256, label=wanted.label):
            found = self._cached(wanted)
            if found:
                if task:
                    task.advance(wanted.size)
                return found
            place = self.cache.blob_path(wanted.sha256)
            part = place.with_name(place.name + ".part")
            with storage_errors(self.cache.root):
                part.parent.mkdir(parents=True, exist_ok=True)
                with self._step(wanted, task) as step:
                    self._verified(wanted, part, _Meter(step))
                return self.cache.store(wanted.sha256, part)

    def _step(self, wanted: Wanted, task: Task | None) -> AbstractContextManager[Task]:
        if task:
            return nullcontext(task)
        label = wanted.label or wanted.url.rpartition("/")[2]
        return self.progress.task(f"fetch {label}", wanted.size, "B")

    def _cached(self, wanted: Wanted) -> Path | None:
        """The file in the cache, read once more: a damaged one is fetched anew."""
        found = self.cache.blob(wanted.sha256)
        if found is None or found.stat().st_size != wanted.size:
            return None
        return found if _sha256(found) == wanted.sha256 else None

    def _verified(self, wanted: Wanted, part: Path, meter: _Meter) -> None:
        # A wrong checksum may come from an old .part or a proxy's stale copy,
        # so the file is fetched once more from its start before it is refused.
        tries: tuple[dict[str, str], ...] = ({}, {"Cache-Control": "no-cache"})
        for headers in tries:
            attempt = functools.partial(self._receive, wanted, part, headers, meter)
            self._retrying(wanted.url, attempt)
            digest = _sha256(part)
            if digest == wanted.sha256:
                return
            part.unlink()
        raise VerificationError(
            f"{wanted.url} has SHA-256 {digest}, the signed index promises {wanted.sha256}",
            advice="the mirror may be in the middle of an update: try again later, or name another",
        )

    def _receive(self, wanted: Wanted, part: Path, headers: dict[str, str], meter: _Meter) -> None:
        """Append to ``part`` what it lacks; it holds exactly the wanted size afterwards."""
        start = part.stat().st_size if part.exists() else 0
        if start > wanted.size:
            part.unlink()
            start = 0
        if start == wanted.size:
            return
        if start:
            headers = {**headers, "Range": f"bytes={start}-"}
        with self._open(wanted.url, headers) as response:
            if response.status_code == 416:
                part.unlink()  # longer than what the server has: begin anew
                raise _TransientError("HTTP 416")
            if start and not _continues(response, start):
                start = 0  # the server sends all of it again
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                _copy(response, wanted, file, start, meter)

    @contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        with self._lock:
            client = self._client
        try:
            with client.stream("GET", url, headers=headers) as response:
                _check_status(response, url)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = str(error) or type(error).__name__
            raise _TransientError(why, down=True) from error
        except httpx.TransportError as error:
            raise _TransientError(str(error) or type(error).__name__) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PackageError(f"cannot fetch {url}: {error}", advice=_ADVICE) from error

    def _retrying(self, url: str, attempt: Callable[[], _T]) -> _T:
        self._check_reachable(url)
        for number in range(self.attempts):
            try:
                return attempt()
            except _TransientError as error:
                last = error
            if number + 1 < self.attempts:
                # Two runs that failed together should not come back together.
                time.sleep(min(8.0, BACKOFF * 2**number) * random.uniform(0.8, 1.2))  # noqa: S311
        if last.down:
            self._down[httpx.URL(url).netloc.decode()] = (time.monotonic(), str(last))
        raise UnreachableError(
            f"gave up on {url} after {self.attempts} attempts: {last}", advice=_ADVICE
        ) from last

    def _check_reachable(self, url: str) -> None:
        """Raise :class:`UnreachableError` at once when the host was found to be down just now.

        Many suites lie on one mirror: without this, each would wait in vain in turn.
        """
        try:
            host = httpx.URL(url).netloc.decode()
        except httpx.InvalidURL:
            return  # said when it is opened
        since, why = self._down.get(host, (-DOWN, ""))
        if why and time.monotonic() - since < DOWN:
            raise UnreachableError(f"{host} cannot be reached: {why}", advice=_ADVICE)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _deadline(size: int) -> float:
    return time.monotonic() + 60.0 + size / SLOWEST


def _chunks(response: httpx.Response, url: str, deadline: float) -> Iterator[bytes]:
    # As it arrives, not in pieces of one size: what came before a cut is kept.
    for chunk in response.iter_raw():
        yield chunk
        if time.monotonic() > deadline:
            raise _TransientError(f"it comes at less than {SLOWEST} bytes a second")


def _check_status(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in {200, 206, 416}:
        return
    if status in {404, 410}:
        raise PackageGoneError(
            f"{url} is gone (HTTP {status})",
            advice="a newer build may have replaced it: see hostabi kernels list, or refresh a "
            "lock file with hostabi kernels lock",
        )
    if status in {408, 425, 429} or status >= 500:
        raise _TransientError(f"HTTP {status}")
    raise PackageError(f"{url} was refused with HTTP {status}", advice=_ADVICE)


def _continues(response: httpx.Response, start: int) -> bool:
    span = response.headers.get("content-range", "")
    return response.status_code == 206 and span.startswith(f"bytes {start}-")


def _copy(
    response: httpx.Response, wanted: Wanted, file: BinaryIO, start: int, meter: _Meter
) -> None:
    """Write the body to ``file``, which holds ``start`` bytes, up to the wanted size."""
    done = start
    meter.at(start)
    file.truncate(start)
    for chunk in _chunks(response, wanted.url, _deadline(wanted.size)):
        done += len(chunk)
        if done > wanted.size:
            file.truncate(0)
            raise VerificationError(
                f"{wanted.url} sends more than the {wanted.size} bytes that the index promises",
                advice=_ADVICE,
            )
        file.write(chunk)
        meter.at(done)
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and start + int(declared) == done < wanted.size:
        file.truncate(0)
        raise VerificationError(
            f"{wanted.url} has {done} bytes, the index promises {wanted.size}", advice=_ADVICE
        )
    if done < wanted.size:
        raise _TransientError(f"it ended after {done} of {wanted.size} bytes")
