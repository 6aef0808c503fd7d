"""Where the mirrors are: the command line, the environment, or the machine's apt sources.

Both forms of sources.list(5) are read: one line an entry, and deb822 stanzas.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from hostabi.errors import InputError
from hostabi.packages import trust

APT = Path("/etc/apt")
VARIABLE = "HOSTABI_MIRROR"

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<rest>\S.*)")


@dataclass(frozen=True)
class Source:
    """One enabled source of binary packages."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    signed_by: str = ""


def parse_one_line(text: str) -> list[Source]:
    """The ``deb`` lines of a sources.list file."""
    sources = []
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if not match:
            continue
        options = dict(
            option.split("=", 1) for option in (match["options"] or "").split() if "=" in option
        )
        suite, *components = match["rest"].split()
        sources.append(
            Source(
                (match["uri"],),
                (suite.rstrip("/"),),
                tuple(components),
                tuple(filter(None, options.get("arch", "").split(","))),
                options.get("signed-by", ""),
            )
        )
    return sources


def parse_deb822(text: str) -> list[Source]:
    """The enabled stanzas of type ``deb`` of a .sources file."""
    sources = []
    for stanza in stanzas(text):
        if "deb" not in stanza.get("types", "").split():
            continue
        if stanza.get("enabled", "yes").strip().lower() in {"no", "false", "without", "off", "0"}:
            continue
        sources.append(
            Source(
                tuple(stanza.get("uris", "").split()),
                tuple(suite.rstrip("/") for suite in stanza.get("suites", "").split()),
                tuple(stanza.get("components", "").split()),
                tuple(stanza.get("architectures", "").split()),
                stanza.get("signed-by", ""),
            )
        )
    return sources


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Stanzas of deb822(5): field names in lower case, comments gone, folded lines joined."""
    stanza: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, name = {}, ""
        elif line[0] in " \t":
            if name:
                stanza[name] += "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            stanza[name] = value.strip()
    if stanza:
        yield stanza


def read_sources(apt: Path = APT) -> list[Source]:
    """All enabled sources below ``apt``; files that cannot be read are passed over."""
    sources: list[Source] = []
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        parse = {".list": parse_one_line, ".sources": parse_deb822}.get(path.suffix)
        try:
            sources += parse(path.read_text(errors="replace")) if parse else []
        except OSError:
            continue
    return sources


def checks_valid_until() -> bool:
    """What apt's Acquire::Check-Valid-Until says here; true where there is no apt."""
    try:
        done = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    said = re.findall(r'(?mi)^Acquire::Check-Valid-Until "([^"]*)"', done.stdout)
    return not said or said[-1].lower() not in {"no", "false", "without", "off", "disable", "0"}


@dataclass(frozen=True)
class Mirror:
    """The base addresses of archives, looked up when first needed.

    ``explicit`` is what ``--mirror`` was given: an address of Debian's archive,
    or ``name=address``, several separated by commas or blanks.
    """

    explicit: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    apt: Path = APT
    trusted: trust.Trust = field(default_factory=trust.load, repr=False)

    @property
    def main(self) -> str:
        """Base address of Debian's archive, without a slash at the end."""
        return self.base("debian")

    @property
    def security(self) -> str:
        """Base address of Debian's security archive; see :attr:`security_guessed`."""
        return self.base("debian-security")

    @property
    def security_guessed(self) -> bool:
        """Whether nobody named the security archive, so that main's sibling path is used."""
        return "debian-security" not in self._named

    def base(self, archive: str) -> str:
        """Base address of ``archive``. :class:`InputError` when no address is known."""
        known = self.trusted.archive(archive)
        if archive in self._named:
            return self._named[archive]
        if known.sibling and known.sibling in self._named:
            # .../debian -> .../debian-security, the layout that Debian recommends to mirrors
            head, _, _ = self._named[known.sibling].rpartition("/")
            return f"{head}/{archive}"
        wanted = known.sibling or archive
        option = "--mirror" if wanted == "debian" else f"--mirror {wanted}=ADDRESS"
        raise InputError(
            f"no mirror of the {archive} archive is known: this machine's apt sources name none",
            advice=f"set {variable(wanted)} or {option} to the base address of a mirror, "
            "the one that ends just before /dists",
        )

    @cached_property
    def _named(self) -> dict[str, str]:
        """Addresses that somebody named: the command line first, then environment, then apt."""
        named: dict[str, str] = {}
        for word in (self.explicit or "").replace(",", " ").split():
            name, equals, address = word.partition("=")
            if not equals or "/" in name:
                name, address = "debian", word
            self.trusted.archive(name)
            named.setdefault(name, _checked(address, "--mirror"))
        # A mirror that was named by hand stands for its siblings too, so apt's are not mixed in.
        for name in self.trusted.archives:
            address = self.environ.get(variable(name), "")
            if address and not self._covered(name, named):
                named[name] = _checked(address, variable(name))
        sources = [] if "debian" in named else read_sources(self.apt)
        if "debian" in named:
            sources = [s for s in read_sources(self.apt) if not self._is_debian(s)]
        for name in self.trusted.archives:
            found = _from_sources(name, self.trusted.archives[name], sources)
            if found:
                named.setdefault(name, found)
        return named

    def _covered(self, name: str, named: Mapping[str, str]) -> bool:
        return name in named or self.trusted.archives[name].sibling in named

    def _is_debian(self, source: Source) -> bool:
        return any(
            suite in self.trusted.archives[name].suites
            for name in ("debian", "debian-security")
            if name in self.trusted.archives
            for suite in source.suites
        )


def mirror(explicit: str | None = None) -> Mirror:
    """The mirror to use. :class:`InputError`, saying what to set, when none is known."""
    found = Mirror(explicit)
    _ = found.main
    return found


def variable(archive: str) -> str:
    """The environment variable that names a mirror of ``archive``."""
    if archive == "debian":
        return VARIABLE
    return f"{VARIABLE}_{archive.upper().replace('-', '_')}"


def _checked(address: str, where: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InputError(
            f"{where} names {address!r}, which is not an http or https address",
            advice="give the base address of a mirror, the one that ends just before /dists",
        )
    return address.rstrip("/")


def _from_sources(name: str, archive: trust.Archive, sources: list[Source]) -> str:
    """The best address of ``archive`` among apt's sources, or ""."""
    best, address = 0, ""
    for source in sources:
        if source.architectures and "amd64" not in source.architectures:
            continue
        if not any(suite in archive.suites for suite in source.suites):
            continue
        if not set(source.components) & set(archive.components):
            continue  # a vendor's repository that borrows the suite's name
        for uri in filter(None, map(_plain, source.uris)):
            # Vendors borrow the name of the component too: the usual last part
            # of the path and the distribution's own keyring speak against them.
            score = 1 + 2 * uri.endswith(f"/{name}") + ("archive" in source.signed_by)
            if score > best:
                best, address = score, uri
    return address


def _plain(uri: str) -> str:
    """An http or https address without its slash at the end, or "" for other methods."""
    if uri.startswith("mirror+file:"):
        # Debian's cloud images name a file of addresses, apt-transport-mirror(1).
        try:
            lines = Path(uri.removeprefix("mirror+file:")).read_text().split("\n")
        except OSError:
            return ""
        uri = next((line.split()[0] for line in lines if line.startswith("http")), "")
    return uri.rstrip("/") if urlsplit(uri).scheme in {"http", "https"} else ""
