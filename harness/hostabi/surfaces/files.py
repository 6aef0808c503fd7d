"""What can be done with files, on each file system that containers live on.

``FS.OPERATION`` for tmpfs, ext4 and overlayfs (upper layer on tmpfs); what all
have in common, and file systems of the kernel's own, have keys without.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Scratch
from hostabi.diff import keys
from hostabi.surfaces.answers import field_has, field_hex, returned
from hostabi.surfaces.files_common import common
from hostabi.surfaces.files_overlay import overlay
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C, constants

_FALLOCATE = (
    "KEEP_SIZE",
    "PUNCH_HOLE",
    "COLLAPSE_RANGE",
    "ZERO_RANGE",
    "INSERT_RANGE",
    "UNSHARE_RANGE",
    "WRITE_ZEROES",
)
_FLAGS = (
    "SYNC",
    "IMMUTABLE",
    "APPEND",
    "NODUMP",
    "NOATIME",
    "COMPR",
    "NOCOW",
    "DAX",
    "PROJINHERIT",
    "CASEFOLD",
)
"""Flags of ioctl_iflags(2), FS_*_FL."""
_RWF = ("HIPRI", "DSYNC", "SYNC", "NOWAIT", "APPEND", "NOAPPEND", "DONTCACHE", "NOSIGNAL")
"""Flags of pwritev2(2), RWF_*."""
_ATTRIBUTES = ("user.a", "trusted.a", "security.a", "user.overlay.opaque", "trusted.overlay.opaque")
_PAGE = 4096


def everywhere() -> Iterator[Probe]:
    """What is asked on each file system, and what is common to all."""
    for scratch in Scratch:
        for make in (_contents, _names, _attributes, _flags, _fields):
            yield from make(scratch)
    yield from common()


SURFACE = Joined(
    "files", (ProbeSurface("files", everywhere), ProbeSurface("files", overlay, (HOST,)))
)


def _file(q: Questions, name: str = "file", size: int = 4 * _PAGE) -> Ref:
    """Make a file with some content and leave it open; the descriptor."""
    fd = q.call("openat", C.AT_FDCWD, q.string(name), C.O_CREAT | C.O_RDWR, 0o644)
    q.call("write", fd, q.buffer(size), size)
    return fd


def _contents(scratch: Scratch) -> tuple[Probe, ...]:
    """fallocate(2), copies, clones, holes, locks, leases: by descriptor."""
    q = Questions(scratch=scratch)
    fd, other = _file(q), _file(q, "other")
    q.ask(f"{scratch}.fallocate", "fallocate", fd, 0, 0, 8 * _PAGE, needs=(fd,))
    for name in _FALLOCATE:
        mode = getattr(C, f"FALLOC_FL_{name}")
        mode |= C.FALLOC_FL_KEEP_SIZE if name == "PUNCH_HOLE" else 0
        q.ask(f"{scratch}.fallocate.{name}", "fallocate", fd, mode, _PAGE, _PAGE, needs=(fd,))
    q.call("ftruncate", fd, 0)
    q.call("pwrite64", fd, q.string("x"), 1, 1 << 20)
    for name, start in (("SEEK_DATA", 0), ("SEEK_HOLE", 1 << 20)):
        key = f"{scratch}.lseek.{name}"
        q.ask(key, "lseek", fd, start, getattr(C, name), needs=(fd,), read=returned)
    needs = (fd, other)
    key = f"{scratch}.copy_file_range"
    q.ask(key, "copy_file_range", other, 0, fd, 0, _PAGE, 0, needs=needs)
    q.ask(f"{scratch}.FICLONE", "ioctl", fd, C.FICLONE, other, needs=needs)
    same = q.struct("struct file_dedupe_range", src_length=_PAGE)
    q.ask(f"{scratch}.FIDEDUPERANGE", "ioctl", fd, C.FIDEDUPERANGE, same, needs=(fd,))
    extents = q.struct("struct fiemap", fm_length=(1 << 63) - 1)
    q.ask(f"{scratch}.FS_IOC_FIEMAP", "ioctl", fd, C.FS_IOC_FIEMAP, extents, needs=(fd,))
    for start, name in enumerate(("F_SETLK", "F_OFD_SETLK", "F_OFD_GETLK")):
        lock = q.struct("struct flock", l_type=C.F_WRLCK, l_start=start, l_len=1)
        q.ask(f"{scratch}.{name}", "fcntl", fd, getattr(C, name), lock, needs=(fd,))
    q.ask(f"{scratch}.flock", "flock", fd, C.LOCK_EX, needs=(fd,))
    _leases(q, scratch)
    vector = q.array("struct iovec", [{"iov_base": q.string("y"), "iov_len": 1}])
    for name in _RWF:
        key, flag = f"{scratch}.pwritev2.{name}", getattr(C, f"RWF_{name}")
        q.ask(key, "pwritev2", fd, vector, 1, 0, 0, flag, needs=(fd,))
    into = q.array("struct iovec", [{"iov_base": q.buffer(16), "iov_len": 1}])
    for name in ("HIPRI", "NOWAIT", "DONTCACHE"):
        key, flag = f"{scratch}.preadv2.{name}", getattr(C, f"RWF_{name}")
        q.ask(key, "preadv2", fd, into, 1, 0, 0, flag, needs=(fd,))
    q.ask(f"{scratch}.syncfs", "syncfs", fd, needs=(fd,))
    for bits in (40, 43, 45, 62):
        q.ask(f"{scratch}.ftruncate.2^{bits}", "ftruncate", fd, 1 << bits, needs=(fd,))
    return q.probes()


def _leases(q: Questions, scratch: Scratch) -> None:
    """F_SETLEASE and F_SETDELEG of fcntl(2); given back at once, or later opens would wait."""
    again = q.call("openat", C.AT_FDCWD, q.string("leased"), C.O_CREAT | C.O_RDONLY, 0o644)
    for name in ("RDLCK", "WRLCK"):
        kind = getattr(C, f"F_{name}")
        key = f"{scratch}.F_SETLEASE.{name}"
        q.ask(key, "fcntl", again, C.F_SETLEASE, kind, needs=(again,))
        q.call("fcntl", again, C.F_SETLEASE, C.F_UNLCK)
    folder = q.call("openat", C.AT_FDCWD, q.string("."), C.O_RDONLY | C.O_DIRECTORY)
    for name, fd in (("file", again), ("folder", folder)):
        wanted = q.struct("struct delegation", d_type=C.F_RDLCK)
        q.ask(f"{scratch}.F_SETDELEG.{name}", "fcntl", fd, C.F_SETDELEG, wanted, needs=(fd,))
        given = q.struct("struct delegation", d_type=C.F_UNLCK)
        q.call("fcntl", fd, C.F_SETDELEG, given)
    q.ask(f"{scratch}.F_NOTIFY", "fcntl", folder, C.F_NOTIFY, C.DN_CREATE, needs=(folder,))


def _names(scratch: Scratch) -> tuple[Probe, ...]:
    """Files without a name, renames, nodes, handles, modes of links: by path."""
    q = Questions(scratch=scratch)
    here, cwd = q.string("."), C.AT_FDCWD
    for flags, name in ((0, ""), (C.O_EXCL, ".EXCL")):
        key = f"{scratch}.O_TMPFILE{name}"
        fd = q.ask(key, "openat", cwd, here, C.O_TMPFILE | C.O_RDWR | flags, 0o600)
        where = q.string(f"linked{name}")
        way = (fd, q.string(""), cwd, where, C.AT_EMPTY_PATH)
        q.ask(f"{key}.linkat", "linkat", *way, needs=(fd,))
        if not flags:
            # the descriptor's number is that of a fresh process
            path = q.string("/proc/self/fd/3")
            by_path = (cwd, path, cwd, q.string("through-proc"), C.AT_SYMLINK_FOLLOW)
            q.ask(f"{key}.linkat.proc", "linkat", *by_path, needs=(fd,))
    _file(q), _file(q, "other")
    file, other, new = q.string("file"), q.string("other"), q.string("new")
    for name, to in (("NOREPLACE", new), ("EXCHANGE", other), ("WHITEOUT", new)):
        flag = getattr(C, f"RENAME_{name}")
        q.ask(f"{scratch}.renameat2.{name}", "renameat2", cwd, file, cwd, to, flag)
        q.call("rename", new, file)
    for name, kind, device in (
        ("fifo", C.S_IFIFO, 0),
        ("socket", C.S_IFSOCK, 0),
        ("whiteout", C.S_IFCHR, 0),
        ("null", C.S_IFCHR, 0x103),
        ("block", C.S_IFBLK, 0x700),
    ):
        q.ask(f"{scratch}.mknod.{name}", "mknod", q.string(name), kind | 0o600, device)
    _links(q, scratch)
    _handles(q, scratch)
    direct = q.ask(f"{scratch}.O_DIRECT", "openat", cwd, file, C.O_RDWR | C.O_DIRECT)
    q.call("close", direct)
    return q.probes()


def _links(q: Questions, scratch: Scratch) -> None:
    """The mode and the times of a symbolic link (symlink(7), fchmodat2(2))."""
    link, cwd = q.string("link"), C.AT_FDCWD
    q.call("symlink", q.string("file"), link)
    nofollow = C.AT_SYMLINK_NOFOLLOW
    q.ask(f"{scratch}.symlink.fchmodat2", "fchmodat2", cwd, link, 0o600, nofollow)
    q.ask(f"{scratch}.symlink.utimensat", "utimensat", cwd, link, 0, nofollow)
    q.ask(f"{scratch}.symlink.chown", "fchownat", cwd, link, -1, -1, nofollow)
    q.ask(f"{scratch}.symlink.hardlink", "link", link, q.string("second"))
    file = q.call("openat", cwd, q.string("file"), C.O_PATH)
    empty = q.string("")
    key = f"{scratch}.O_PATH.fchmodat2"
    q.ask(key, "fchmodat2", file, empty, 0o600, C.AT_EMPTY_PATH, needs=(file,))
    q.ask(f"{scratch}.O_PATH.fchmod", "fchmod", file, 0o600, needs=(file,))
    # dup3 gives it the number by which the path below knows it
    fd = q.call("openat", cwd, link, C.O_PATH | C.O_NOFOLLOW)
    at = q.call("dup3", fd, 100, 0)
    path = q.string("/proc/self/fd/100")
    q.ask(f"{scratch}.symlink.chmod.proc", "chmod", path, 0o600, needs=(fd, at))
    at = q.call("dup3", file, 100, 0)
    q.ask(f"{scratch}.O_PATH.chmod.proc", "chmod", path, 0o600, needs=(file, at))
    q.ask(f"{scratch}.O_PATH.reopen", "openat", cwd, path, C.O_RDWR, needs=(file, at))


def _handles(q: Questions, scratch: Scratch) -> None:
    """name_to_handle_at(2), open_by_handle_at(2)."""
    mount, file, cwd = q.buffer(8), q.string("file"), C.AT_FDCWD
    head = (128).to_bytes(8, "little")
    for name in ("FID", "MNT_ID_UNIQUE", "CONNECTABLE"):
        flag, handle = getattr(C, f"AT_HANDLE_{name}"), q.content(head + bytes(128))
        key = f"{scratch}.name_to_handle_at.{name}"
        q.ask(key, "name_to_handle_at", cwd, file, handle, mount, flag)
    handle = q.content(head + bytes(128))
    made = q.ask(f"{scratch}.name_to_handle_at", "name_to_handle_at", cwd, file, handle, mount, 0)
    needs = (made,)
    q.ask(f"{scratch}.open_by_handle_at", "open_by_handle_at", cwd, handle, C.O_RDONLY, needs=needs)


def _attributes(scratch: Scratch) -> tuple[Probe, ...]:
    """Extended attributes (xattr(7)), access control lists (acl(5)), file capabilities."""
    q = Questions(scratch=scratch)
    _file(q)
    q.call("symlink", q.string("file"), q.string("link"))
    q.call("mkdir", q.string("folder"), 0o755)
    file, one = q.string("file"), q.string("y")
    for name in _ATTRIBUTES:
        q.ask(f"{scratch}.xattr.{name}", "setxattr", file, q.string(name), one, 1, 0)
    for name in ("user.a", "trusted.a", "security.a"):
        key = f"{scratch}.xattr.symlink.{name}"
        q.ask(key, "lsetxattr", q.string("link"), q.string(name), one, 1, 0)
    # linux/posix_acl_xattr.h: version 2, then tag, permissions and number of each entry
    entries = ((1, 6, -1), (2, 6, 0), (4, 4, -1), (0x10, 6, -1), (0x20, 4, -1))
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little")
        + bits.to_bytes(2, "little")
        + (number & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, bits, number in entries
    )
    for path, name in (("file", "access"), ("folder", "default")):
        attribute, content = q.string(f"system.posix_acl_{name}"), q.content(acl)
        q.ask(f"{scratch}.acl.{name}", "setxattr", q.string(path), attribute, content, len(acl), 0)
    # linux/capability.h, struct vfs_cap_data of revision 2: CAP_NET_BIND_SERVICE
    content = q.content(
        (0x02000000).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + bytes(12)
    )
    capability = q.string("security.capability")
    q.ask(f"{scratch}.xattr.capability", "setxattr", file, capability, content, 20, 0)
    room = q.buffer(256)
    q.ask(f"{scratch}.listxattr", "listxattr", file, room, 256)
    return q.probes()


def _flags(scratch: Scratch) -> tuple[Probe, ...]:
    """ioctl_iflags(2) and its successors, and what else file systems may know of a file."""
    q = Questions(scratch=scratch)
    fd = _file(q)
    got = q.buffer(8)
    q.ask(f"{scratch}.FS_IOC_GETFLAGS", "ioctl", fd, C.FS_IOC_GETFLAGS, got, needs=(fd,))
    for name in _FLAGS:
        bit = getattr(C, f"FS_{name}_FL")
        value = q.content(bit.to_bytes(8, "little"))
        done = q.call("ioctl", fd, C.FS_IOC_SETFLAGS, value)
        key = f"{scratch}.FS_IOC_SETFLAGS.{name}"
        back = q.buffer(8)
        read = _has_bit(back, bit)
        q.ask(key, "ioctl", fd, C.FS_IOC_GETFLAGS, back, needs=(fd, done), read=read, out=[back])
        q.call("ioctl", fd, C.FS_IOC_SETFLAGS, q.buffer(8))
    extended = q.room("struct fsxattr")
    q.ask(f"{scratch}.FS_IOC_FSGETXATTR", "ioctl", fd, C.FS_IOC_FSGETXATTR, extended, needs=(fd,))
    q.ask(f"{scratch}.FS_IOC_FSSETXATTR", "ioctl", fd, C.FS_IOC_FSSETXATTR, extended, needs=(fd,))
    attributes = q.room("struct file_attr")
    for name in ("file_getattr", "file_setattr"):
        size = attributes.size
        q.ask(f"{scratch}.{name}", name, C.AT_FDCWD, q.string("file"), attributes, size, 0)
    room = q.buffer(512)
    for name in (
        "FS_IOC_GETVERSION",
        "FS_IOC_GETFSLABEL",
        "FS_IOC_GETFSUUID",
        "FS_IOC_GETFSSYSFSPATH",
        "FS_IOC_GETLBMD_CAP",
        "FS_IOC_GET_ENCRYPTION_POLICY_EX",
        "FIGETBSZ",
    ):
        q.ask(f"{scratch}.{name}", "ioctl", fd, getattr(C, name), room, needs=(fd,))
    q.ask(f"{scratch}.quotactl_fd.Q_GETINFO", "quotactl_fd", fd, C.Q_GETINFO << 8, 0, room)
    reader = q.call("openat", C.AT_FDCWD, q.string("file"), C.O_RDONLY)
    q.call("close", fd)
    verity = q.struct("struct fsverity_enable_arg", version=1, hash_algorithm=1, block_size=_PAGE)
    key = f"{scratch}.FS_IOC_ENABLE_VERITY"
    q.ask(key, "ioctl", reader, C.FS_IOC_ENABLE_VERITY, verity, needs=(reader,))
    key = f"{scratch}.FS_IOC_MEASURE_VERITY"
    q.ask(key, "ioctl", reader, C.FS_IOC_MEASURE_VERITY, q.buffer(128), needs=(reader,))
    return q.probes()


def _fields(scratch: Scratch) -> tuple[Probe, ...]:
    """What statx(2) and statfs(2) tell of a file."""
    q = Questions(scratch=scratch)
    _file(q)
    room, file = q.room("struct statx"), q.string("file")

    def ask(key: str, read: Read, mask: int) -> None:
        q.ask(key, "statx", C.AT_FDCWD, file, 0, mask, room, read=read, out=[room])

    for name, bit in sorted(constants("STATX_").items()):
        if name.startswith("STATX_ATTR_"):
            key = f"{scratch}.statx.attributes.{name.removeprefix('STATX_ATTR_')}"
            ask(key, field_has(room, "stx_attributes_mask", bit), C.STATX_BASIC_STATS)
        elif bit & (bit - 1) == 0 and bit != C.STATX__RESERVED:
            # one by one: MNT_ID_UNIQUE takes the place of MNT_ID
            key = f"{scratch}.statx.{name.removeprefix('STATX_')}"
            ask(key, field_has(room, "stx_mask", bit), bit)
    whole = q.room("struct statfs")
    kind = field_hex(whole, "f_type")
    q.ask(f"{scratch}.statfs#type", "statfs", q.string("."), whole, read=kind, out=[whole])
    return q.probes()


def _has_bit(room: Slot, bit: int) -> Read:
    return lambda trace, ref: keys.OK if trace.number(ref, room) & bit else "without effect"
