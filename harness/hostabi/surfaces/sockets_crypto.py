"""Algorithms of the kernel by socket: kernel document crypto/userspace-if.rst."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.table import C

_ALGORITHMS = (
    ("hash", "sha1 sha256 sha512 crc32c hmac(sha256) md5 blake2b-256"),
    ("skcipher", "cbc(aes) ctr(aes) xts(aes) ecb(aes) chacha20"),
    ("aead", "gcm(aes) ccm(aes) rfc7539(chacha20,poly1305)"),
    ("rng", "stdrng"),
    ("akcipher", "rsa"),
)
"""What cryptsetup, iwd, strongSwan, libkcapi and systemd ask for."""


def crypto() -> Iterator[Probe]:
    """One fact for each algorithm that can be bound; what has a module brings it along."""
    q = Questions(timeout=20.0)
    for kind, names in _ALGORITHMS:
        for name in names.split():
            fd = q.call("socket", C.AF_ALG, C.SOCK_SEQPACKET, 0, opaque=True)
            raw = words(C.AF_ALG, size=2) + kind.encode().ljust(14, b"\0") + bytes(8)
            address = q.content(raw + name.encode().ljust(64, b"\0"))
            q.ask(f"alg.{kind}.{name}", "bind", fd, address, 88, needs=(fd,))
            q.call("close", fd)
    yield from q.probes()
