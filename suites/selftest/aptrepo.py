"""A small signed apt repository made in a folder, and a loopback server that can misbehave."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pysequoia
import zstandard

from hostabi.packages import trust
from hostabi.packages.cache import Cache
from hostabi.packages.context import Packages
from hostabi.packages.sources import Mirror

TarEntry = tuple[str, bytes | None] | tarfile.TarInfo


def tar(entries: list[TarEntry]) -> bytes:
    """A tar of (name, content) files and ready-made members; content None is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A link as a tar member."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def deb(control: str, entries: list[TarEntry], *, zstd: bool = False) -> bytes:
    """A .deb with members packed by xz, or by zstd."""
    pack = zstandard.ZstdCompressor().compress if zstd else lzma.compress
    suffix = ".zst" if zstd else ".xz"
    members = [
        ("debian-binary", b"2.0\n"),
        (f"control.tar{suffix}", pack(tar([("./control", control.encode())]))),
        (f"data.tar{suffix}", pack(tar(entries))),
    ]
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out


def rpm(
    entries: list[tuple[str, int, bytes]],
    *,
    zstd: bool = False,
    plain: bool = False,
    machine: str = "x86_64",
) -> bytes:
    """An .rpm with a header of few fields and a cpio archive packed by xz, by zstd, or not."""

    def header(strings: dict[int, str]) -> bytes:
        store, index = b"", b""
        for tag, text in strings.items():
            index += b"".join(n.to_bytes(4, "big") for n in (tag, 6, len(store), 1))
            store += text.encode() + b"\0"
        sizes = len(strings).to_bytes(4, "big") + len(store).to_bytes(4, "big")
        return b"\x8e\xad\xe8\x01" + bytes(4) + sizes + index + store

    cpio = b""
    for name, mode, data in [*entries, ("TRAILER!!!", 0, b"")]:
        raw = name.encode() + b"\0"
        numbers = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        cpio += b"070701" + b"".join(f"{number:08x}".encode() for number in numbers) + raw
        cpio += bytes(-len(cpio) % 4) + data + bytes(-len(data) % 4)
    signature = header({1000: "x"})
    signature += bytes(-(96 + len(signature)) % 8)
    lead = b"\xed\xab\xee\xdb" + bytes(92)
    main = header({1000: "kernel-core", 1001: "6.6.1", 1002: "2", 1022: machine})
    pack = zstandard.ZstdCompressor().compress if zstd else lzma.compress
    return lead + signature + main + (cpio if plain else pack(cpio))


@dataclass
class Repo:
    """What the server serves: bodies by path. Change them to break things."""

    key: pysequoia.Tsk
    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Paths asked for and their Range header."""
    base: str = ""
    archive: str = "debian"
    _stanzas: list[str] = field(default_factory=list)
    _sources: list[str] = field(default_factory=list)

    def add(
        self, name: str, version: str, content: bytes, *, fields: str = "", listed: bool = True
    ) -> str:
        """Put a package in the pool and in the index; returns its path."""
        path = f"pool/{name}_{version}_amd64.deb"
        self.files[path] = content
        if listed:
            self._stanzas.append(
                f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}"
                f"Filename: {path}\nSize: {len(content)}\n"
                f"SHA256: {hashlib.sha256(content).hexdigest()}\nDescription: words\n more\n"
            )
        return path

    def add_source(self, name: str, version: str, **files: bytes) -> None:
        """Put the files of a source package in the pool and in the index of sources.

        They are called NAME_VERSION and what each is given as, with dots for underscores.
        """
        lines = ""
        for ending, content in files.items():
            file = f"{name}_{version}.{ending.replace('_', '.')}"
            self.files[f"pool/{name}/{file}"] = content
            lines += f" {hashlib.sha256(content).hexdigest()} {len(content)} {file}\n"
        self._sources.append(
            f"Package: {name}\nVersion: {version}\nFiles:\n 0 0 {name}.dsc\n"
            f"Checksums-Sha256:\n{lines}Directory: pool/{name}\n"
        )

    def release(
        self, *, suite: str = "test", codename: str = "test", extra: str = "", at: str = "test"
    ) -> str:
        """The text of a Release file over the index as it is, below dists/``at``."""
        text = "\n".join(self._stanzas).encode()
        packed = lzma.compress(text)
        above = "main/binary-amd64"
        digest = hashlib.sha256(packed).hexdigest()
        self.files[f"dists/{at}/{above}/Packages.xz"] = packed
        self.files[f"dists/{at}/{above}/by-hash/SHA256/{digest}"] = packed
        of_sources = "\n".join(self._sources).encode()
        self.files[f"dists/{at}/main/source/Sources"] = of_sources
        return (
            f"Origin: Test\nSuite: {suite}\nCodename: {codename}\n"
            f"Date: Sat, 21 Nov 2026 00:53:02 UTC\n{extra}Acquire-By-Hash: yes\n"
            f"Architectures: amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(text).hexdigest()} {len(text)} {above}/Packages\n"
            f" {digest} {len(packed)} {above}/Packages.xz\n"
            f" {hashlib.sha256(of_sources).hexdigest()} {len(of_sources)} main/source/Sources\n"
        )

    def publish(self, key: pysequoia.Tsk | None = None, *, at: str = "test", **fields: str) -> None:
        """Write the index of the suite ``at`` and sign its Release file."""
        self.files[f"dists/{at}/InRelease"] = sign(key or self.key, self.release(at=at, **fields))

    def empty(self) -> None:
        """Forget what the index lists, to write that of another suite."""
        self._stanzas.clear()

    def packages(self, cache: Path, **options: Any) -> Packages:
        """A client that knows this repository as its ``archive``."""
        mirror = Mirror(
            f"{self.archive}={self.base}",
            {},
            self.folder / "apt",
            trust.load(self.folder / trust.FILE),
        )
        return Packages(Cache(cache), mirror, **options)


def sign(key: pysequoia.Tsk, text: str) -> bytes:
    """``text`` clearsigned."""
    return bytes(pysequoia.sign(key.signer(), text.encode(), mode=pysequoia.SignatureMode.CLEAR))


def new_key() -> pysequoia.Tsk:
    """A fresh key."""
    return pysequoia.Tsk.generate("Archive <archive@example.org>")


@contextmanager
def serve(
    folder: Path, archive: str = "debian", suites: dict[str, str] | None = None
) -> Iterator[Repo]:
    """An empty repository served on loopback, with its trust file below ``folder``.

    ``suites`` maps their names to their codenames.
    """
    repo = Repo(new_key(), folder, archive=archive)
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "test.gpg").write_bytes(bytes(repo.key.extract_certificate()))
    (folder / trust.FILE).write_text(
        f'[{archive}]\nkeys = ["test.gpg"]\n[{archive}.suites]\n'
        + "".join(f'{name} = "{code}"\n' for name, code in (suites or {"test": "test"}).items()),
        encoding="utf-8",
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            wanted = self.headers.get("Range", "")
            repo.asked.append((path, wanted))
            body = repo.files.get(path)
            if body is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path in repo.faults:
                repo.faults[path](self, body)
            else:
                answer(self, body, wanted)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    repo.base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield repo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, body: bytes, wanted: str = "") -> None:
    """Send ``body``, or the part that a Range header wants."""
    start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
    handler.send_response(206 if wanted else 200)
    handler.send_header("Content-Length", str(len(body) - start))
    if wanted:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.end_headers()
    handler.wfile.write(body[start:])
