"""What a program takes from itself: seccomp(2) and landlock(7)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick
from hostabi.syscalls.descriptions.memory import Null, out, raw, struct
from hostabi.syscalls.descriptions.model import Description, Kind, describe
from hostabi.syscalls.descriptions.values import Program
from hostabi.syscalls.table import C, number

_LOAD, _JUMP, _RETURN = 0x20, 0x15, 0x06
"""BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K of linux/bpf_common.h."""


def _one(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return packing.pack("<HBBI", code, true, false, value)


def _refusing(call: str, action: int) -> bytes:
    """A filter with another action for one call."""
    return b"".join(
        (
            _one(_LOAD, 0),
            _one(_JUMP, number(call), 0, 1),
            _one(_RETURN, action),
            _one(_RETURN, C.SECCOMP_RET_ALLOW),
        )
    )


_FILTERS = (
    _one(_RETURN, C.SECCOMP_RET_ALLOW),
    _refusing("getppid", C.SECCOMP_RET_ERRNO | 38),
    _refusing("mkdirat", C.SECCOMP_RET_ERRNO | 1),
    _refusing("openat", C.SECCOMP_RET_LOG),
    _refusing("dup", C.SECCOMP_RET_TRAP),
)
_ACTION = tuple(
    value.to_bytes(4, "little")
    for value in (
        C.SECCOMP_RET_ALLOW, C.SECCOMP_RET_ERRNO, C.SECCOMP_RET_USER_NOTIF, C.SECCOMP_RET_LOG, 5,
    )
)  # fmt: skip
_FS = (C.LANDLOCK_ACCESS_FS_WRITE_FILE, C.LANDLOCK_ACCESS_FS_EXECUTE, C.LANDLOCK_ACCESS_FS_MAKE_DIR)
_BENEATH = pick("rule_type", C.LANDLOCK_RULE_PATH_BENEATH, odd=(0, 99))

DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "seccomp.filter",
        just("op", C.SECCOMP_SET_MODE_FILTER),
        flags("flags", usual=(0, C.SECCOMP_FILTER_FLAG_LOG, C.SECCOMP_FILTER_FLAG_TSYNC)),
        Program("uargs", _FILTERS),
    ),
    describe(
        "seccomp.listener",
        just("op", C.SECCOMP_SET_MODE_FILTER),
        flags("flags", usual=(C.SECCOMP_FILTER_FLAG_NEW_LISTENER,)),
        Program("uargs", _FILTERS[:1]),
        makes=Kind.LISTENER,
    ),
    describe(
        "seccomp.action",
        just("op", C.SECCOMP_GET_ACTION_AVAIL),
        flags("flags"),
        raw("uargs", *_ACTION),
    ),
    describe(
        "seccomp.sizes",
        just("op", C.SECCOMP_GET_NOTIF_SIZES),
        flags("flags"),
        out("uargs", "struct seccomp_notif_sizes"),
    ),
    describe(
        "landlock_create_ruleset",
        struct(
            "attr",
            "struct landlock_ruleset_attr",
            sized="size",
            extensible=True,
            handled_access_fs=flags(
                "handled_access_fs", "LANDLOCK_ACCESS_FS_", usual=_FS, width=64
            ),
        ),
        flags("flags"),
        makes=Kind.RULESET,
    ),
    describe(
        "landlock_create_ruleset.version",
        Null("attr"),
        just("size", 0),
        flags("flags", usual=(C.LANDLOCK_CREATE_RULESET_VERSION,)),
    ),
    describe(
        "landlock_add_rule",
        fd("ruleset_fd", Kind.RULESET),
        _BENEATH,
        struct(
            "rule_attr",
            "struct landlock_path_beneath_attr",
            allowed_access=flags("allowed_access", "LANDLOCK_ACCESS_FS_", usual=_FS, width=64),
            parent_fd=fd("parent_fd", Kind.FOLDER, Kind.PATH, Kind.FILE),
        ),
        flags("flags"),
    ),
    describe("landlock_restrict_self", fd("ruleset_fd", Kind.RULESET), flags("flags")),
)
