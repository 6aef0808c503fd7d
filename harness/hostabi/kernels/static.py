"""What a build tells without booting it: BTF, syscall entry points, configuration."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hostabi.errors import ImageError, PackageError
from hostabi.kernels import image, vdso
from hostabi.kernels.btf import Btf, btf_section
from hostabi.kernels.btf_types import Syscall
from hostabi.kernels.build import Build
from hostabi.kernels.config import config_text, embedded_config, parse_config
from hostabi.kernels.modinfo import ModuleInfo, modules_of
from hostabi.kernels.uapi import Uapi, uapi_of
from hostabi.kernels.vdso import Vdso

if TYPE_CHECKING:
    from hostabi.packages.cache import Cache
    from hostabi.packages.context import Packages

_BTF_LIMIT = 64 << 20


class Static:
    """A build read without booting. Each part is read when first asked for, then kept.

    Parts raise ImageError when the image does not have them or is corrupt. Without
    ``packages`` nothing is fetched: the build's headers are not known then.
    """

    def __init__(self, build: Build, cache: Cache, packages: Packages | None = None) -> None:
        self.build = build
        self._cache = cache
        self._packages = packages

    @cached_property
    def btf(self) -> Btf:
        """The kernel's BTF; its section is kept in the cache by the image's digest."""
        if self.build.btf is not None:
            return Btf.parse(_read(self.build.btf), name=str(self.build.btf))
        if self.build.image is None:
            raise ImageError(
                f"{self.build.name}: neither BTF nor an image to read it from",
                advice="a running kernel shows it in /sys/kernel/btf/vmlinux when it has"
                " CONFIG_DEBUG_INFO_BTF=y",
            )
        path = self._cache.file("btf", self.build.image_digest, self._write_btf)
        return Btf.parse(_read(path), name=str(self.build.image))

    @cached_property
    def syscalls(self) -> dict[str, Syscall]:
        """Syscall entry points that BTF names, by the kernel's name. Absence proves nothing."""
        return self.btf.syscalls()

    @property
    def syscall_names(self) -> frozenset[str]:
        """The names alone (``newuname``, not ``uname``)."""
        return frozenset(self.syscalls)

    @cached_property
    def config_text(self) -> str:
        """The build configuration, from its file or else from the image (CONFIG_IKCONFIG)."""
        if self.build.config is not None:
            return config_text(self.build.config)
        text = ""
        if self.build.image is not None:
            text = embedded_config(image.vmlinux(self.build.image), str(self.build.image))
        if not text:
            raise ImageError(
                f"{self.build.name}: its configuration is not known",
                advice="name the file with --config",
            )
        return text

    @cached_property
    def config(self) -> dict[str, str]:
        """The settings of the configuration that are not off, by name."""
        return parse_config(self.config_text)

    @cached_property
    def modules(self) -> dict[str, ModuleInfo]:
        """All modules by name, built-in ones included; empty when the build has no folder."""
        return modules_of(self.build, self._cache)

    @cached_property
    def uapi(self) -> Uapi:
        """What the headers of the build's own version declare.

        Raises PackageError when they cannot be had, and what fetching them raises.
        """
        if self._packages is None:
            raise PackageError(
                f"{self.build.name}: its headers were not asked for", advice="fetch them"
            )
        return uapi_of(self.build, self._packages)

    @cached_property
    def vdsos(self) -> dict[str, Vdso]:
        """The vDSOs in the image by ABI (``x86-64``, ``ia32``, ``x32``)."""
        if self.build.image is None:
            raise ImageError(
                f"{self.build.name}: no image to read the vDSO from", advice="name the bzImage"
            )
        return vdso.find(image.vmlinux(self.build.image), str(self.build.image))

    def _write_btf(self, path: Path) -> None:
        assert self.build.image is not None
        elf = image.vmlinux(self.build.image)
        section = btf_section(elf, str(self.build.image))
        Btf.parse(section, name=str(self.build.image))  # a corrupt one must not be kept
        path.write_bytes(section)


def _read(path: Path) -> bytes:
    try:
        # sysfs states the size, but reading to a bound needs no trust in it.
        with path.open("rb") as file:
            return file.read(_BTF_LIMIT)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
