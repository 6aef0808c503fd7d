"""What an overlay does with files of its lower layer (kernel: filesystems/overlayfs.rst)."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.model import Value as FactValue
from hostabi.surfaces.answers import field, field_octal
from hostabi.surfaces.probing import Probe, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

_LAYERS = "lowerdir=lower,upperdir=upper,workdir=work"


def overlay() -> Iterator[Probe]:
    """All questions."""
    for make in (_copied_up, _removed):
        yield from make()


def _mount(q: Questions, options: str = "") -> None:
    """Layers on a tmpfs, with a file and a folder in the lower one, mounted at ``merged``."""
    for name in ("lower", "upper", "work", "merged", "lower/folder", "lower/gone"):
        q.need("mkdir", q.string(name), 0o755)
    for path in ("lower/file", "lower/first"):
        fd = q.call("openat", C.AT_FDCWD, q.string(path), C.O_CREAT | C.O_WRONLY, 0o644)
        q.call("write", fd, q.string("old"), 3)
        q.call("close", fd)
    q.call("link", q.string("lower/first"), q.string("lower/second"))
    kind, text = q.string("overlay"), q.string(_LAYERS + options)
    q.need("mount", kind, q.string("merged"), kind, 0, text)


def _copied_up() -> tuple[Probe, ...]:
    """What becomes of a file of the lower layer that is written."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    _mount(q)
    file = q.string("merged/file")
    before, after = q.room("struct stat"), q.room("struct stat")
    first = q.call("stat", file, before, out=[before])
    reader = q.call("openat", C.AT_FDCWD, file, C.O_RDONLY)
    q.ask("layers.lower.chmod", "chmod", file, 0o600)
    writer = q.ask("layers.lower.write", "openat", C.AT_FDCWD, file, C.O_WRONLY)
    q.call("write", writer, q.string("new"), 3)
    same = _same_inode(first, before, after)
    q.ask("layers.lower.inode-stays", "stat", file, after, needs=(first,), read=same, out=[after])
    room = q.buffer(3)
    seen = _content(room)
    key = "layers.lower.reader-sees-write"
    q.ask(key, "pread64", reader, room, 3, 0, needs=(reader, writer), read=seen, out=[room])
    q.call("chmod", q.string("merged/first"), 0o600)
    for name in ("first", "second"):
        path, mode = q.string(f"merged/{name}"), field_octal(after, "st_mode")
        q.ask(f"layers.lower.linked.{name}", "stat", path, after, read=mode, out=[after])
    q.ask("layers.lower.rename-folder", "rename", q.string("merged/folder"), q.string("merged/f"))
    q.ask("layers.lower.rename-file", "rename", q.string("merged/second"), q.string("merged/s"))
    way = (C.AT_FDCWD, q.string("merged/s"), C.AT_FDCWD, q.string("merged/t"), C.RENAME_WHITEOUT)
    q.ask("layers.lower.rename-whiteout", "renameat2", *way)
    kind = q.string("overlay")
    again = q.string("lowerdir=lower,upperdir=upper,workdir=work")
    q.call("mkdir", q.string("twice"), 0o755)
    q.ask("layers.upper.used-twice", "mount", kind, q.string("twice"), kind, 0, again)
    return q.probes()


def _removed() -> tuple[Probe, ...]:
    """What the upper layer holds of something removed: whiteouts and opaque folders."""
    q = Questions(namespaces=C.CLONE_NEWNS)
    _mount(q)
    file, folder = q.string("merged/file"), q.string("merged/gone")
    gone = q.ask("layers.lower.unlink", "unlink", file)
    room = q.room("struct stat")
    node = _is_whiteout(room)
    upper = q.string("upper/file")
    q.ask("layers.whiteout.device", "lstat", upper, room, needs=(gone,), read=node, out=[room])
    q.ask("layers.lower.rmdir", "rmdir", folder)
    q.ask("layers.lower.mkdir-again", "mkdir", folder, 0o755)
    value, name = q.buffer(16), q.string("trusted.overlay.opaque")
    told = _content(value)
    way = (q.string("upper/gone"), name, value, 16)
    q.ask("layers.opaque", "lgetxattr", *way, read=told, out=[value])
    q.ask("layers.opaque.hidden", "lgetxattr", folder, name, value, 16)
    q.ask("layers.create-whiteout", "mknod", q.string("merged/white"), C.S_IFCHR | 0o600, 0)
    fd = q.ask("layers.ioctl.open", "openat", C.AT_FDCWD, q.string("merged"), C.O_RDONLY)
    q.ask("layers.syncfs", "syncfs", fd, needs=(fd,))
    q.ask(
        "layers.volatile.remount", "mount", 0, q.string("merged"), 0, C.MS_REMOUNT | C.MS_RDONLY, 0
    )
    return q.probes()


def _same_inode(first: Ref, before: Slot, after: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> FactValue:
        return all(
            field(trace, first, before, name) == field(trace, ref, after, name)
            for name in ("st_dev", "st_ino")
        )

    return read


def _content(room: Slot) -> Read:
    return lambda trace, ref: trace.bytes(ref, room)[: trace[ref]].decode(errors="backslashreplace")


def _is_whiteout(room: Slot) -> Read:
    def read(trace: Trace, ref: Ref) -> FactValue:
        kind = field(trace, ref, room, "st_mode") & C.S_IFMT
        whiteout = kind == C.S_IFCHR and field(trace, ref, room, "st_rdev") == 0
        return keys.OK if whiteout else "something else"

    return read
