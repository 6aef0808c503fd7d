"""An image as an OCI layout: image-layout.md of the OCI image specification.

One layer, one configuration, one manifest and the index, each found by the
SHA-256 of its bytes. The same files give the same image.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from hostabi.guest.disk import Entry

REFERENCE = "hostabi.invalid/probe:1"
"""The image's name; .invalid so that nobody looks it up (RFC 2606)."""

_EPOCH = "1970-01-01T00:00:00Z"
_TYPE = "application/vnd.oci.image"
_FILE = stat.S_IFREG | 0o644
_FOLDER = stat.S_IFDIR | 0o755


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[_Descriptor, ...]


def layout_entries(rootfs: Iterable[Entry], *, command: tuple[str, ...]) -> Iterator[Entry]:
    """The files of a layout whose one image has these files, and runs ``command``.

    The index names it twice: by org.opencontainers.image.ref.name (annotations.md), and by
    what containerd looks for when it imports one.
    """
    layer = _layer(rootfs)
    config = msgspec.json.encode(
        {
            "created": _EPOCH,
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Cmd": command,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
            },
            # A layer that is not compressed is its own diff_id (config.md).
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created": _EPOCH, "created_by": "hostabi"}],
        }
    )
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": f"{_TYPE}.manifest.v1+json",
            "config": _descriptor(config, "config.v1+json"),
            "layers": [_descriptor(layer, "layer.v1.tar")],
        }
    )
    named = {
        "org.opencontainers.image.ref.name": REFERENCE,
        "io.containerd.image.name": REFERENCE,
    }
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.index.v1+json",
        "manifests": [_descriptor(manifest, "manifest.v1+json") | {"annotations": named}],
    }
    yield Entry("blobs", _FOLDER)
    yield Entry("blobs/sha256", _FOLDER)
    for blob in sorted((layer, config, manifest), key=_digest):
        yield Entry(f"blobs/{_digest(blob).replace(':', '/')}", _FILE, blob)
    yield Entry("index.json", _FILE, msgspec.json.encode(index))
    yield Entry("oci-layout", _FILE, b'{"imageLayoutVersion": "1.0.0"}')


def manifest_digest(index: bytes) -> str:
    """The digest of the one manifest that an index.json names."""
    [manifest] = msgspec.json.decode(index, type=_Index).manifests
    return manifest.digest


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(blob: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": f"{_TYPE}.{kind}", "digest": _digest(blob), "size": len(blob)}


def _layer(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mode = stat.S_IMODE(entry.mode)
            content = entry.source.read_bytes() if isinstance(entry.source, Path) else entry.source
            if stat.S_ISDIR(entry.mode):
                info.type, content = tarfile.DIRTYPE, b""
            elif stat.S_ISLNK(entry.mode):
                info.type, info.linkname, content = tarfile.SYMTYPE, content.decode(), b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
