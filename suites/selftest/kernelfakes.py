"""Small kernels made by hand: an ELF, BTF, a bzImage, a module."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import lz4.block
import zstandard

from hostabi.errors import PackageError
from hostabi.packages.cache import Cache
from hostabi.packages.fetch import PackageGoneError
from hostabi.packages.repository import Package
from hostabi.progress import SILENT

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")


def make_elf(sections: dict[str, bytes], machine: int = 62) -> bytes:
    """A little-endian ELF64 file with these sections and nothing else."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    contents = [*sections.values(), names]
    body, headers, at = b"", SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), HEADER.size
    for name, content in zip((*sections, ".shstrtab"), contents, strict=True):
        kind = 3 if name == ".shstrtab" else 1
        place = names.index(b"\0" + name.encode() + b"\0") + 1
        headers += SECTION.pack(place, kind, 0, 0, at, len(content), 0, 0, 1, 0)
        body += content
        at += len(content)
    count = len(contents) + 1
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = HEADER.pack(ident, 2, machine, 1, 0, 0, at, 0, 64, 0, 0, SECTION.size, count, count - 1)
    return head + body + headers


class BtfWriter:
    """Writes BTF: types get ids from 1 on, in the order they are added."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types = b""
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        found = self.strings.find(b"\0" + text.encode() + b"\0")
        if found >= 0:
            return found + 1
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self, kind: int, name: str, size: int, *words: int, parts: int = 0, flag: bool = False
    ) -> int:
        info = kind << 24 | parts | flag << 31
        packed = [self.name(name), info, size, *words]
        self.types += struct.pack(f"<{len(packed)}I", *packed)
        self.count += 1
        return self.count

    def bytes(self) -> bytes:
        head = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)
        )
        return head + self.types + self.strings


def sample_btf() -> bytes:
    """A few types of each kind, two syscalls (one typed) and the entry of none."""
    w = BtfWriter()
    integer = w.add(1, "int", 4, 1 << 24 | 32)
    char = w.add(1, "char", 1, 8)
    const = w.add(10, "", char)
    text = w.add(2, "", const)
    array = w.add(3, "", 0, integer, integer, 4)
    alias = w.add(8, "umode_t", integer)
    how = w.add(
        4, "open_how", 24,
        w.name("flags"), integer, 0, w.name("mode"), alias, 32, w.name("resolve"), array, 64,
        parts=3,
    )  # fmt: skip
    pointer = w.add(2, "", how)
    prototype = w.add(
        13, "", integer, w.name("dfd"), integer, w.name("filename"), text, w.name("how"), pointer,
        parts=3,
    )  # fmt: skip
    regs = w.add(13, "", integer, w.name("regs"), 0, parts=1)
    w.add(12, "__do_sys_openat2", prototype)
    none = w.add(13, "", integer)
    w.add(12, "__do_sys_fork", none)
    w.add(12, "__x64_sys_openat2", regs)
    w.add(12, "__x64_sys_newuname", regs)
    w.add(12, "__x64_sys_ni_syscall", regs)
    w.add(6, "state", 4, w.name("GOOD"), 1, w.name("BAD"), 0xFFFFFFFF, parts=2, flag=True)
    w.add(19, "wide", 8, w.name("FAR"), 1, 1, parts=1)
    w.add(4, "bits", 4, w.name("low"), integer, 3 << 24, w.name("high"), integer, 5 << 24 | 3,
          parts=2, flag=True)  # fmt: skip
    w.add(2, "", prototype)
    w.add(7, "later", 0)
    w.add(14, "variable", integer, 1)
    w.add(15, ".data", 4, w.count, 0, 4, parts=1)
    w.add(16, "double", 8)
    w.add(17, "tag", how, 0)
    w.add(18, "user", how)
    w.add(9, "", integer)
    w.add(11, "", text)
    return w.bytes()


def lz4_legacy(data: bytes) -> bytes:
    packed = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[at : at + (8 << 20)], store_size=False)
        packed += struct.pack("<I", len(block)) + block
    return packed


PACKERS = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "zstd": zstandard.ZstdCompressor(write_content_size=False).compress,
    "lz4": lz4_legacy,
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}
"""By name; those whose streams state no length get it appended by the kernel's build."""


def make_bzimage(
    elf: bytes,
    packer: str = "gzip",
    *,
    release: str = "6.1.0-99-test-amd64",
    protocol: int = 0x20F,
    declared: int | None = None,
    payload_length: int | None = None,
) -> bytes:
    """A bzImage of one setup sector whose payload is ``elf``, packed."""
    payload = PACKERS[packer](elf)
    if packer != "gzip" or declared is not None:
        if packer == "gzip":
            payload = payload[:-4]
        payload += struct.pack("<I", len(elf) if declared is None else declared)
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<H", setup, 0x20E, 0x300 - 0x200)
    text = f"{release} (builder@host) #1 SMP\0".encode()
    setup[0x300 : 0x300 + len(text)] = text
    offset = 64
    length = len(payload) if payload_length is None else payload_length
    struct.pack_into("<II", setup, 0x248, offset, length)
    return bytes(setup) + bytes(offset) + payload + bytes(32)


def make_module(**fields: str) -> bytes:
    """A module whose .modinfo holds ``fields``; ``depends_`` stands for ``depends``."""
    text = b"".join(f"{key.rstrip('_')}={value}\0".encode() for key, value in fields.items())
    return make_elf({".text": b"\x90" * 16, ".modinfo": text})


def make_deb(files: dict[str, bytes], **control: str) -> bytes:
    """A .deb with these files."""

    def tar(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    control = {"Architecture": "amd64", **control}
    text = "".join(f"{key}: {value}\n" for key, value in control.items())
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar({"control": text.encode()}),
        "data.tar.gz": tar(files),
    }
    packed = b"!<arch>\n"
    for name, content in parts.items():
        packed += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        packed += content + b"\n" * (len(content) % 2)
    return packed


class FakeArchive:
    """Stands in for Packages: suites with kernels, of which some files are gone."""

    def __init__(self, root: Path) -> None:
        self.cache = Cache(root / "cache")
        self.root = root
        self.progress = self
        self.mirror = SimpleNamespace(
            trusted=SimpleNamespace(of_suite=lambda suite: SimpleNamespace(name="debian")),
            base=lambda name: "http://archive.invalid/debian",
        )
        self.suites: dict[str, list[Package]] = {}
        self.unreadable: set[str] = set()
        self.gone: set[str] = set()
        self.fetched: list[str] = []
        self.said: list[str] = []
        self.asked: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def suite(self, name: str) -> SimpleNamespace:
        self.asked.append(name)
        if name in self.unreadable:
            raise PackageError(f"{name} is not there")
        return SimpleNamespace(
            matching=lambda pattern: [
                one for one in self.suites.get(name, []) if pattern.fullmatch(one.name)
            ]
        )

    def task(self, label: str, total: int | None = None, unit: str = "") -> object:
        return SILENT.task(label, total, unit)

    def fetch(self, package: Package, task: object = None) -> Path:
        if package.filename in self.gone:
            raise PackageGoneError(f"{package.filename} is gone")
        self.fetched.append(package.name)
        return self.root / package.sha256

    def add(
        self, suite: str, name: str, version: str, files: dict[str, bytes], depends: str = ""
    ) -> Package:
        data = make_deb(files, Package=name, Version=version)
        digest = hashlib.sha256(data).hexdigest()
        (self.root / digest).write_bytes(data)
        package = Package(
            name=name,
            version=version,
            architecture="amd64",
            filename=f"pool/{name}_{version}_amd64.deb",
            size=len(data),
            sha256=digest,
            depends=depends,
            pre_depends="",
            provides="",
            source="",
            suite=suite,
            base="http://archive.invalid/debian",
        )
        self.suites.setdefault(suite, []).append(package)
        return package

    def add_kernel(
        self, suite: str, abi: str, version: str, flavour: str = "cloud-amd64"
    ) -> Package:
        """A kernel whose image package holds everything, as up to 6.18."""
        release = f"{abi}-{flavour}"
        return self.add(suite, f"linux-image-{release}", version, kernel_files(release))

    def add_split(
        self, suite: str, abi: str, version: str, flavour: str = "cloud-amd64", *, without: str = ""
    ) -> None:
        """A kernel split into binary, modules and base, as from 7.x on."""
        release = f"{abi}-{flavour}"
        files = kernel_files(release, under="usr/lib/modules")
        names = {
            "binary": [name for name in files if "vmlinuz" in name],
            "modules": [name for name in files if name.endswith(".ko")],
            "base": [name for name in files if name.endswith("config")],
        }
        depends = [f"linux-{part}-{release} (= {version})" for part in names]
        self.add(suite, f"linux-image-{release}", version, {}, f"kmod, {', '.join(depends)}")
        for part, members in names.items():
            if part != without:
                self.add(
                    suite,
                    f"linux-{part}-{release}",
                    version,
                    {name: files[name] for name in members},
                )


def kernel_files(release: str, under: str = "") -> dict[str, bytes]:
    """The files of a kernel package: whole, or all below ``under``/RELEASE."""
    image = make_bzimage(make_elf({".BTF": sample_btf()}), release=release)
    module = make_module(license="GPL", depends_="fat,nls-base", alias="fs-demo")
    base = f"{under or 'lib/modules'}/{release}"
    return {
        f"{base}/vmlinuz" if under else f"boot/vmlinuz-{release}": image,
        f"{base}/config" if under else f"boot/config-{release}": b"CONFIG_NET=y\n",
        f"{base}/kernel/fs/demo.ko": module,
        "usr/share/doc/changelog": b"not wanted",
    }
