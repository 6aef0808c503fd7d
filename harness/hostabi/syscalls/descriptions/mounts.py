"""Mounts, by the old and the new calls. All of them in a mount namespace of the program's own."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import at, fd, flags, just, path, pick
from hostabi.syscalls.descriptions.memory import Bytes, Maybe, Null, Struct, out, struct, text
from hostabi.syscalls.descriptions.model import (
    Argument,
    Description,
    Kind,
    Makes,
    describe,
)
from hostabi.syscalls.table import C

_OWN = C.CLONE_NEWNS
_MNT_DETACH, _MNT_EXPIRE, _UMOUNT_NOFOLLOW = 2, 4, 8
"""Of include/linux/fs.h of the kernel."""
_ADMIN = "CAP_SYS_ADMIN"
_ATTRIBUTES = (C.MOUNT_ATTR_RDONLY, 0, C.MOUNT_ATTR_NOSUID | C.MOUNT_ATTR_NODEV)
_MOUNTED = (Makes(Kind.MOUNTED, of="dir_name"),)
_ALL = (1 << 64) - 1
_LSMT_ROOT = _ALL
_EMPTY = text("from_pathname", "", odd=("x",))


def _attr(field: str, value: Argument) -> Argument:
    return Struct("uattr", "struct mount_attr", ((field, value),), "usize", extensible=True)


_SET = _attr("attr_set", flags("attr_set", "MOUNT_ATTR_", usual=_ATTRIBUTES, width=64))
_SPREAD = _attr(
    "propagation",
    pick("propagation", C.MS_PRIVATE, C.MS_SHARED, C.MS_SLAVE, C.MS_UNBINDABLE, odd=(1, 3)),
)


def _config(command: str, key: Argument, value: Argument, aux: Argument) -> Description:
    """One command of fsconfig(2)."""
    number: int = getattr(C, f"FSCONFIG_{command}")
    context = fd("fs_fd", Kind.CONTEXT)
    makes = (Makes(Kind.CONFIGURED, of="fs_fd"),) if command == "CMD_CREATE" else ()
    return describe(
        f"fsconfig.{command}", context, just("cmd", number), key, value, aux, makes=makes,
        fresh=_OWN, privilege=_ADMIN,
    )  # fmt: skip


DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "mount.tmpfs",
        text("dev_name", "none", "tmpfs"),
        path("dir_name", Kind.FOLDER_NAME),
        text("type", "tmpfs", "ramfs", odd=("nothing", "proc")),
        flags("flags", "MS_", usual=(0, C.MS_NOSUID | C.MS_NODEV, C.MS_RDONLY), ignored=True),
        Maybe(text("data", "size=64k", "mode=0700", "nr_inodes=10", odd=("none=1", "size=x"))),
        makes=_MOUNTED,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount.bind",
        path("dev_name", Kind.FOLDER_NAME),
        path("dir_name", Kind.FOLDER_NAME),
        Null("type"),
        flags("flags", usual=(C.MS_BIND, C.MS_BIND | C.MS_REC), ignored=True),
        Null("data"),
        makes=_MOUNTED,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount.remount",
        Null("dev_name"),
        path("dir_name", Kind.MOUNTED),
        Null("type"),
        flags(
            "flags",
            "MS_",
            usual=(C.MS_REMOUNT | C.MS_BIND | C.MS_RDONLY, C.MS_REMOUNT, C.MS_REMOUNT | C.MS_BIND),
            ignored=True,
        ),
        Null("data"),
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount.propagation",
        Null("dev_name"),
        path("dir_name", Kind.MOUNTED),
        Null("type"),
        flags(
            "flags",
            usual=(C.MS_SHARED, C.MS_PRIVATE, C.MS_SLAVE, C.MS_UNBINDABLE, C.MS_REC | C.MS_SHARED),
            ignored=True,
        ),
        Null("data"),
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount.move",
        path("dev_name", Kind.MOUNTED, ends=True),
        path("dir_name", Kind.FOLDER_NAME),
        Null("type"),
        just("flags", C.MS_MOVE),
        Null("data"),
        makes=_MOUNTED,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "umount2",
        path("name", Kind.MOUNTED, ends=True),
        flags("flags", usual=(_MNT_DETACH, 0, _UMOUNT_NOFOLLOW, _MNT_EXPIRE)),
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "pivot_root",
        path("new_root", Kind.MOUNTED),
        path("put_old", Kind.MOUNTED),
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "fsopen",
        text("fs_name", "tmpfs", "ramfs", odd=("nothing", "")),
        flags("flags", "FSOPEN_", usual=(0, C.FSOPEN_CLOEXEC)),
        makes=Kind.CONTEXT,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    _config(
        "SET_STRING",
        text("key", "source", "size", "mode", odd=("none", "")),
        text("value", "64k", "0700", "x"),
        just("aux", 0),
    ),
    _config(
        "SET_FLAG", text("key", "ro", "rw", "sync", odd=("none",)), Null("value"), just("aux", 0)
    ),
    _config("CMD_CREATE", Null("key"), Null("value"), just("aux", 0)),
    describe(
        "fsmount",
        fd("fs_fd", Kind.CONFIGURED),
        flags("flags", "FSMOUNT_CLOEXEC", usual=(0, C.FSMOUNT_CLOEXEC)),
        flags("attr_flags", "MOUNT_ATTR_", usual=_ATTRIBUTES),
        makes=Kind.TREE,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "fspick",
        at(Kind.MOUNTED, path="path"),
        flags("flags", "FSPICK_", usual=(0, C.FSPICK_CLOEXEC)),
        makes=Kind.CONTEXT,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "open_tree",
        at(Kind.FOLDER_NAME, Kind.MOUNTED),
        flags(
            "flags",
            "OPEN_TREE_",
            "AT_RECURSIVE",
            usual=(C.OPEN_TREE_CLONE, C.OPEN_TREE_CLONE | C.OPEN_TREE_CLOEXEC | C.AT_RECURSIVE),
        ),
        makes=Kind.TREE,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "open_tree_attr",
        at(Kind.FOLDER_NAME, Kind.MOUNTED),
        flags("flags", "OPEN_TREE_", usual=(C.OPEN_TREE_CLONE,)),
        _SET,
        makes=Kind.TREE,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "move_mount",
        fd("from_dfd", Kind.TREE),
        _EMPTY,
        at(Kind.FOLDER_NAME, folder="to_dfd", path="dir_name"),
        flags("flags", "MOVE_MOUNT_", usual=(C.MOVE_MOUNT_F_EMPTY_PATH,)),
        makes=_MOUNTED,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount_setattr",
        at(Kind.MOUNTED, path="path"),
        flags("flags", "AT_", usual=(0, C.AT_RECURSIVE)),
        _SET,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount_setattr.propagation",
        at(Kind.MOUNTED, path="path"),
        flags("flags", "AT_", usual=(0, C.AT_RECURSIVE)),
        _SPREAD,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "mount_setattr.tree",
        fd("dfd", Kind.TREE),
        text("path", ""),
        flags("flags", usual=(C.AT_EMPTY_PATH, C.AT_EMPTY_PATH | C.AT_RECURSIVE)),
        _SET,
        fresh=_OWN,
        privilege=_ADMIN,
    ),
    describe(
        "listmount",
        struct("req", "struct mnt_id_req", size=C.MNT_ID_REQ_SIZE_VER0, mnt_id=_LSMT_ROOT),
        out("mnt_ids", "uint64_t", 64, kept=False),
        just("nr_mnt_ids", 64),
        flags("flags", "LISTMOUNT_", usual=(0, 1)),
        opaque=True,
        fresh=_OWN,
    ),
    describe(
        "statmount",
        struct(
            "req",
            "struct mnt_id_req",
            size=C.MNT_ID_REQ_SIZE_VER0,
            mnt_id=_LSMT_ROOT,
            param=flags("mask", "STATMOUNT_", usual=(C.STATMOUNT_SB_BASIC,), width=64),
        ),
        out("buf", "struct statmount", kept=False, size="bufsize"),
        flags("flags"),
        fresh=_OWN,
        unsuccessful="identifiers of mounts are the machine's: the one asked for is nobody's",
    ),
    describe(
        "open_by_handle_at",
        fd("mountdirfd", Kind.FOLDER),
        Bytes("handle", ((8).to_bytes(4, "little") + bytes(132),)),
        flags("flags", "O_", usual=(C.O_RDONLY, C.O_PATH), width=23),
        privilege="CAP_DAC_READ_SEARCH",
        unsuccessful="a handle holds the machine's own numbers, and is none here",
    ),
)
