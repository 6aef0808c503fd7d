"""Options of overlayfs (kernel: filesystems/overlayfs.rst), one at a time and where they meet."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.mounting import Mounter, Parameter, Way
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C

OPTIONS: tuple[tuple[Parameter, ...], ...] = (
    (("userxattr", None),),
    (("metacopy", "on"),),
    (("metacopy", "off"),),
    (("redirect_dir", "on"),),
    (("redirect_dir", "off"),),
    (("redirect_dir", "follow"),),
    (("redirect_dir", "nofollow"),),
    (("index", "on"),),
    (("index", "off"),),
    (("xino", "on"),),
    (("xino", "off"),),
    (("xino", "auto"),),
    (("volatile", None),),
    (("fsync", "auto"),),
    (("fsync", "strict"),),
    (("nfs_export", "on"), ("index", "on")),
    (("nfs_export", "off"),),
    (("uuid", "on"),),
    (("uuid", "off"),),
    (("uuid", "null"),),
    (("uuid", "auto"),),
    (("verity", "off"),),
    (("verity", "on"), ("metacopy", "on")),
    (("verity", "require"), ("metacopy", "on")),
    (("default_permissions", None),),
    (("override_creds", None),),
    (("nooverride_creds", None),),
    (("userxattr", None), ("metacopy", "on")),
    (("userxattr", None), ("redirect_dir", "on")),
    (("metacopy", "on"), ("nfs_export", "on")),
    (("nosuch", None),),
)
"""What is added to a lower, an upper and a work folder."""
_MOST = 500
"""Lower layers, of one mount (fs/overlayfs, OVL_MAX_STACK)."""
_FOLDERS = ("lower", "other", "third")


def overlay() -> Iterator[Probe]:
    """All questions."""
    for way in Way:
        m = Mounter(Questions(namespaces=C.CLONE_NEWNS, timeout=5.0, arena=1 << 17), way)
        for name in _FOLDERS:
            m.q.need("mkdir", m.q.string(name), 0o755)
        _options(m)
        _layers(m)
        _names(m)
        if way is Way.FSMOUNT:
            _appended(m)
            _descriptors(m)
        yield from m.q.probes()


def _writable(q: Questions, name: str) -> list[Parameter]:
    """An upper folder and its work folder, for one mount: two would share them."""
    for part in ("upper", "work"):
        q.call("mkdir", q.string(f"{part}-{name}"), 0o755)
    return [("upperdir", f"upper-{name}"), ("workdir", f"work-{name}")]


def _options(m: Mounter) -> None:
    q = m.q
    m.ask("overlay", "overlay", [("lowerdir", "lower"), *_writable(q, "plain")])
    for number, options in enumerate(OPTIONS):
        text = ",".join(name if value is None else f"{name}={value}" for name, value in options)
        upper = _writable(q, str(number))
        m.ask(f"overlay.{text}", "overlay", [("lowerdir", "lower"), *upper, *options])


def _layers(m: Mounter) -> None:
    """Lower layers without an upper one, and how many."""
    q = m.q
    for key, lower in (
        ("two-layers", "lower:other"),
        ("one-layer", "lower"),
        ("data-layer", "lower::other"),
        ("same-layer-twice", "lower:lower"),
    ):
        options = [("metacopy", "on")] if key == "data-layer" else []
        m.ask(f"overlay.lowerdir.{key}", "overlay", [("lowerdir", lower), *options])
    m.ask("overlay.lowerdir.missing", "overlay", [("lowerdir", "nosuch:lower")])
    m.ask("overlay.lowerdir.none", "overlay", _writable(q, "alone"))
    for number in range(_MOST + 1):
        q.call("mkdir", q.string(f"{number:x}"), 0o755)
    for count in (32, _MOST, _MOST + 1):
        lower = ":".join(f"{number:x}" for number in range(count))
        m.ask(f"overlay.lowerdir.layers.{count}", "overlay", [("lowerdir", lower)])


def _names(m: Mounter) -> None:
    """Folders whose names have what divides options, written with backslashes."""
    q = m.q
    for name, sign in (("comma", ","), ("colon", ":"), ("backslash", "\\")):
        folder, escaped = f"a{sign}b", f"a\\{sign}b"
        q.call("mkdir", q.string(folder), 0o755)
        m.ask(f"overlay.lowerdir.escaped-{name}", "overlay", [("lowerdir", f"{escaped}:lower")])
        q.call("mkdir", q.string(f"work-{name}"), 0o755)
        upper = [("upperdir", escaped), ("workdir", f"work-{name}")]
        m.ask(f"overlay.upperdir.escaped-{name}", "overlay", [("lowerdir", "lower"), *upper])


def _appended(m: Mounter) -> None:
    """lowerdir+ and datadir+, which are given once for each layer."""
    q = m.q
    two = [("lowerdir+", "lower"), ("lowerdir+", "other")]
    m.ask("overlay.lowerdir+", "overlay", two)
    m.ask("overlay.lowerdir+.upper", "overlay", [*two, *_writable(q, "a")])
    m.ask("overlay.datadir+", "overlay", [*two, ("datadir+", "third"), ("metacopy", "on")])
    m.ask("overlay.datadir+.alone", "overlay", [*two, ("datadir+", "third")])
    m.ask("overlay.lowerdir+.colon", "overlay", [("lowerdir+", "lower:other")])
    m.ask("overlay.lowerdir+.mixed", "overlay", [("lowerdir", "lower"), ("lowerdir+", "other")])


def _descriptors(m: Mounter) -> None:
    """Layers given as descriptors, by FSCONFIG_SET_FD, opened for reading and by O_PATH."""
    q = m.q
    for name, flags in (("O_RDONLY", C.O_DIRECTORY), ("O_PATH", C.O_DIRECTORY | C.O_PATH)):

        def opened(folder: str, flags: int = flags) -> Ref:
            return q.call("openat", C.AT_FDCWD, q.string(folder), flags)

        lower, other = opened("lower"), opened("other")
        layers: list[Parameter] = [("lowerdir+", lower), ("lowerdir+", other)]
        m.ask(f"overlay.lowerdir+.fd.{name}", "overlay", layers)
        m.ask(f"overlay.lowerdir+.fd.lowerdir.{name}", "overlay", [("lowerdir", lower)])
        data: list[Parameter] = [*layers, ("datadir+", opened("third")), ("metacopy", "on")]
        m.ask(f"overlay.datadir+.fd.{name}", "overlay", data)
        _writable(q, name)
        upper = [("upperdir", opened(f"upper-{name}")), ("workdir", opened(f"work-{name}"))]
        m.ask(f"overlay.lowerdir+.fd.upperdir.{name}", "overlay", [*layers, *upper])
