"""A kernel's build configuration, from its file or from the image itself."""

from __future__ import annotations

from pathlib import Path

from hostabi.errors import ImageError
from hostabi.kernels import compression

LIMIT = 16 << 20
"""Bytes a configuration may have; today's have about 250 KB."""

_BEGIN, _END = b"IKCFG_ST", b"IKCFG_ED"


def parse_config(text: str) -> dict[str, str]:
    """``CONFIG_X`` to ``y``, ``m``, a number or a string without its quotes.

    Symbols that are not set are absent, as in the kernel's own reading of the
    file (scripts/kconfig/confdata.c). Lines that are no setting are passed over.
    """
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.startswith("CONFIG_") and value != "n":
            quoted = len(value) > 1 and value[0] == value[-1] == '"'
            found[name] = value[1:-1].replace('\\"', '"') if quoted else value
    return found


def config_text(path: Path) -> str:
    """The text in ``path``, which may be packed; see :func:`unpacked_text`."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    return unpacked_text(data, str(path))


def unpacked_text(data: bytes, name: str) -> str:
    """The text of a configuration, packed or not, as in ``/proc/config.gz``.

    Raises ImageError, with ``name``, when it is damaged or holds no setting at all.
    """
    if form := compression.recognise(data):
        data = compression.unpack(form, memoryview(data), LIMIT, name)
    text = data.decode("utf-8", "replace")
    if not parse_config(text):
        raise ImageError(
            f"{name}: no CONFIG_ setting in its {len(text)} bytes",
            advice="name the .config the kernel was built with",
        )
    return text


def embedded_config(elf: bytes, name: str = "the image") -> str:
    """The configuration that CONFIG_IKCONFIG=y keeps in the image, or an empty string.

    The markers are those of kernel/configs.c (``scripts/extract-ikconfig``).
    """
    begin = elf.find(_BEGIN + b"\x1f\x8b\x08")
    end = elf.find(_END, begin)
    if begin < 0 or end < 0:
        return ""
    form = compression.recognise(elf[begin + 8 : begin + 16])
    if form is None:
        return ""
    data = memoryview(elf)[begin + len(_BEGIN) : end]
    return compression.unpack(form, data, LIMIT, name).decode("utf-8", "replace")
