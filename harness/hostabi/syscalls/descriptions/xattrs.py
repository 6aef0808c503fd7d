"""Extended attributes: xattr(7)."""

from __future__ import annotations

from hostabi.syscalls.descriptions.arguments import at, fd, flags, path
from hostabi.syscalls.descriptions.memory import Room, raw, struct, text
from hostabi.syscalls.descriptions.model import Description, Kind, Makes, describe
from hostabi.syscalls.descriptions.values import address
from hostabi.syscalls.table import C

_NAME = text(
    "name",
    "trusted.a",
    "user.a",
    "trusted.a",
    "user.a",
    "security.a",
    "user.b",
    odd=(
        "",
        "user.",
        "nobody.a",
        "system.posix_acl_access",
        "user." + "x" * 250,
        "security.capability",
    ),
)
_VALUE = raw("value", b"one", b"", b"x" * 300, b"y" * 5000, size="size")
_FLAGS = flags("flags", "XATTR_CREATE", "XATTR_REPLACE", usual=(0, C.XATTR_CREATE))
_FLAT = flags("at_flags", "AT_", usual=(0, C.AT_SYMLINK_NOFOLLOW))
_ROOM = Room("value", "size", (100, 0, 1, 5000))
_LIST = Room("list", "size", (200, 0, 1))
_FILE = (Kind.FILE_NAME, Kind.FOLDER_NAME)
_HAS = (Kind.LABELLED,)
_LABELS = (Makes(Kind.LABELLED, of="pathname"),)

DESCRIPTIONS: tuple[Description, ...] = (
    describe("setxattr", path("pathname", *_FILE), _NAME, _VALUE, _FLAGS, makes=_LABELS),
    describe("lsetxattr", path("pathname", *_FILE), _NAME, _VALUE, _FLAGS, makes=_LABELS),
    describe(
        "fsetxattr",
        fd("fd", Kind.FILE, Kind.FOLDER),
        _NAME,
        _VALUE,
        _FLAGS,
        makes=(Makes(Kind.TAGGED, of="fd", besides=True),),
    ),
    describe("getxattr", path("pathname", *_HAS), _NAME, _ROOM),
    describe("lgetxattr", path("pathname", *_HAS, Kind.LINK_NAME), _NAME, _ROOM),
    describe("fgetxattr", fd("fd", Kind.TAGGED, Kind.FILE, Kind.FOLDER), _NAME, _ROOM),
    describe("listxattr", path("pathname", *_HAS), _LIST),
    describe("llistxattr", path("pathname", *_HAS, Kind.LINK_NAME), _LIST),
    describe("flistxattr", fd("fd", Kind.TAGGED, Kind.FILE, Kind.FOLDER), _LIST),
    describe("removexattr", path("pathname", *_HAS), _NAME),
    describe("lremovexattr", path("pathname", *_HAS), _NAME),
    describe("fremovexattr", fd("fd", Kind.TAGGED, Kind.FILE, Kind.FOLDER), _NAME),
    describe(
        "setxattrat",
        at(*_FILE, path="pathname"),
        _FLAT,
        _NAME,
        struct(
            "uargs",
            "struct xattr_args",
            sized="usize",
            extensible=True,
            value=address(b"value"),
            size=5,
            flags=flags("flags", "XATTR_CREATE", "XATTR_REPLACE", usual=(0, C.XATTR_CREATE)),
        ),
        makes=_LABELS,
    ),
    describe(
        "getxattrat",
        at(*_HAS, path="pathname"),
        _FLAT,
        _NAME,
        struct(
            "uargs",
            "struct xattr_args",
            sized="usize",
            extensible=True,
            value=address(bytes(64)),
            size=64,
        ),
    ),
    describe("listxattrat", at(*_HAS, path="pathname"), _FLAT, _LIST),
    describe("removexattrat", at(*_HAS, path="pathname"), _FLAT, _NAME),
)
