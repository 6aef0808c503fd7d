"""Damaged files of every kind that is read: an error that names the file and the place, no more.

Each mutated input must be read, or refused with an error of ours that says
which file and where in it; nothing may be written beside the folder that an archive is unpacked
into, and nothing may take longer than its bytes are worth.
"""

from __future__ import annotations

import gzip
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aptrepo
import kernelfakes
import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from hostabi.diff import captures
from hostabi.errors import HostabiError
from hostabi.kernels import image, vdso
from hostabi.kernels.btf import Btf, btf_section
from hostabi.kernels.btf_types import Kind as TypeKind
from hostabi.kernels.config import config_text, embedded_config, parse_config
from hostabi.kernels.modinfo import read_module
from hostabi.model import SCHEMA, Capture, Fact, Kind, Provenance, Variant
from hostabi.packages import archives

INPUTS = 1200
"""Mutated inputs of each kind; there are more than ten kinds."""
SECONDS = 5.0
"""That one small input may take; a loop without end takes longer."""

_PLACE = re.compile(r"\bbyte \d+|\b\d+ bytes|\$[.\[]|surface \w+: fact")


@dataclass(frozen=True)
class Format:
    """A kind of file: a sound sample, and what reads it. ``name`` is what errors must say."""

    name: str
    sample: Callable[[], bytes]
    read: Callable[[Path], object]


def read_btf(path: Path) -> None:
    """Everything BTF is asked for anywhere."""
    btf = Btf.parse(path.read_bytes(), name=str(path))
    btf.syscalls()
    for number in btf.ids(*TypeKind):
        btf.type(number)
        btf.spell(number)
        btf.size_of(number)
        btf.strip(number)


def read_elf(path: Path) -> None:
    elf = image.vmlinux(path)
    Btf.parse(btf_section(elf, str(path)), name=str(path))
    embedded_config(elf, str(path))


def read_deb(path: Path) -> None:
    archives.read_control(path)
    archives.unpack(path, path.parent / "unpacked")


def capture_file() -> bytes:
    facts = [
        Fact("one", "ok", how="probe"),
        Fact("two", ["a", "b"], Kind.MEMBERS),
        Fact("three#mode", "0644"),
        Fact("four", 42, Kind.HARDWARE, detail="of the memory"),
    ]
    capture = Capture(
        "6.1.1-1", "6.1", "6.1.0", Variant(), Provenance("test"), {"sysctls": facts}, schema=SCHEMA
    )
    return msgspec.json.encode(capture)


CONFIG = b'# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D="text"\nCONFIG_E=0x10\n' * 20
CONTROL = "Package: linux-image\nVersion: 6.1.1-1\nArchitecture: amd64\n"

FORMATS = (
    Format("btf", kernelfakes.sample_btf, read_btf),
    Format(
        "elf",
        lambda: kernelfakes.make_elf({".text": bytes(64), ".BTF": kernelfakes.sample_btf()}),
        read_elf,
    ),
    Format(
        "module",
        lambda: kernelfakes.make_module(name="overlay", alias="fs-overlay", depends_="a,b"),
        lambda path: read_module(path, path.name),
    ),
    Format("config", lambda: CONFIG, lambda path: parse_config(config_text(path))),
    Format(
        "config.gz", lambda: gzip.compress(CONFIG, mtime=0), config_text
    ),
    Format(
        "deb",
        lambda: aptrepo.deb(
            CONTROL,
            [
                ("./boot/vmlinuz", b"kernel" * 50),
                aptrepo.link("./boot/link", "vmlinuz"),
                ("./etc/file", b"text"),
            ],
            zstd=True,
        ),
        read_deb,
    ),
    Format(
        "rpm",
        lambda: aptrepo.rpm(
            [("./boot/vmlinuz", 0o100644, b"kernel" * 50), ("./lib", 0o040755, b"")], zstd=True
        ),
        read_deb,
    ),
    Format(
        "cpio",
        lambda: aptrepo.rpm(
            [("./boot/vmlinuz", 0o100644, b"kernel"), ("./boot/link", 0o120777, b"vmlinuz")],
            plain=True,
        ),
        read_deb,
    ),
    Format("capture.json", capture_file, captures.load),
    Format(
        "capture.json.zst",
        lambda: zstandard.ZstdCompressor().compress(capture_file()),
        captures.load,
    ),
    Format("vdso", lambda: kernelfakes.make_elf({".dynsym": bytes(48), ".dynstr": b"\0vdso\0"}),
           lambda path: vdso.parse(path.read_bytes(), str(path))),
)  # fmt: skip


def mutated(sample: bytes, random_: random.Random) -> bytes:
    """``sample`` with a few bytes changed, cut, doubled or made extreme."""
    data = bytearray(sample)
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        at = random_.randrange(len(data) + 1)
        width = random_.choice((1, 2, 4, 8))
        extreme = random_.choice((0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63))
        match random_.randrange(6):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << random_.randrange(8)
            case 1:
                data[at : at + width] = (extreme & ((1 << 8 * width) - 1)).to_bytes(width, "little")
            case 2:
                del data[at:]
            case 3:
                del data[at : at + random_.randrange(1, 40)]
            case 4:
                data[at:at] = data[at : at + random_.randrange(1, 200)]
            case _:
                data[at:at] = random_.randbytes(random_.randrange(1, 16))
    return bytes(data)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def read_or_refuse(form: Format, path: Path, data: bytes) -> str:
    """What the reader said; empty when it read the file."""
    path.write_bytes(data)
    began = time.monotonic()
    said = ""
    try:
        form.read(path)
    except HostabiError as error:
        said = error.message
    assert time.monotonic() - began < SECONDS
    assert not said or str(path) in said, f"does not name the file: {said}"
    return said


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_mutated_files_are_read_or_refused(form: Format, tmp_path: Path) -> None:
    """Thousands of damaged files: no traceback, no hang, nothing outside of the folder."""
    folder = tmp_path / "inside"
    folder.mkdir()
    path = folder / form.name
    sample = form.sample()
    assert read_or_refuse(form, path, sample) == "" or form.name == "vdso"
    dice = random.Random(form.name)
    said = [read_or_refuse(form, path, mutated(sample, dice)) for _ in range(INPUTS)]
    assert any(said)
    unplaced = sorted({text for text in said if text and not _PLACE.search(text)})
    assert not unplaced, "errors without a place in the file:\n" + "\n".join(unplaced[:20])
    assert tree(tmp_path) <= {"inside", *(f"inside/{name}" for name in tree(folder))}
    assert {name.split("/")[0] for name in tree(folder)} <= {form.name, "unpacked"}


def sources() -> Iterator[tuple[Format, bytes]]:
    for form in FORMATS:
        yield form, form.sample()


@given(st.sampled_from(list(sources())), st.randoms(use_true_random=False), st.binary(max_size=64))
@settings(max_examples=300, deadline=None)
def test_any_bytes_after_a_sound_beginning(
    tmp_path_factory: pytest.TempPathFactory,
    source: tuple[Format, bytes],
    dice: random.Random,
    tail: bytes,
) -> None:
    """hypothesis looks for the short ones: a beginning of a sound file, then anything."""
    form, sample = source
    folder = tmp_path_factory.mktemp("fuzz")
    read_or_refuse(form, folder / form.name, sample[: dice.randrange(len(sample))] + tail)
