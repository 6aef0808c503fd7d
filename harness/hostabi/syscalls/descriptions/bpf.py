"""bpf(2): maps, and small programs; and what else looks into the kernel."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick
from hostabi.syscalls.descriptions.memory import Struct, raw, struct
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, Makes, describe
from hostabi.syscalls.descriptions.values import Space, address
from hostabi.syscalls.table import C

_ADMIN = "CAP_BPF"
_RETURN_ZERO = packing.pack("<BBhi", 0xB7, 0, 0, 0) + packing.pack("<BBhi", 0x95, 0, 0, 0)
"""BPF_MOV64_IMM(BPF_REG_0, 0), BPF_EXIT_INSN()."""
_MAPS = pick(
    "map_type", C.BPF_MAP_TYPE_HASH, C.BPF_MAP_TYPE_ARRAY, C.BPF_MAP_TYPE_LRU_HASH, odd=(0, 999)
)
_KEY = address(bytes(4), (1).to_bytes(4, "little"), (9).to_bytes(4, "little"))
_AFTER = address((9).to_bytes(4, "little"), bytes(4), (1).to_bytes(4, "little"))
"""The first key comes after one that is not there: bpf(2)."""
_UPDATE = flags("flags", usual=(C.BPF_ANY, C.BPF_NOEXIST, C.BPF_EXIST), width=64)
_PROGRAMS = pick(
    "prog_type", C.BPF_PROG_TYPE_SOCKET_FILTER, C.BPF_PROG_TYPE_CGROUP_SKB, odd=(0, 999)
)
_MAP = fd("map_fd", Kind.MAP, Kind.ELEMENT)
_FULL = fd("map_fd", Kind.ELEMENT, Kind.MAP)


def _bpf(
    command: str, makes: Kind | tuple[Makes, ...] = (), **fields: Argument | int
) -> Description:
    """One command of bpf(2), named by its constant."""
    number: int = getattr(C, f"BPF_{command}")
    return describe(
        f"bpf.{command}",
        just("cmd", number),
        Struct(
            "uattr", "union bpf_attr", tuple(fields.items()), "size", extensible=True, partial=True
        ),
        makes=makes,
        privilege=_ADMIN,
    )


DESCRIPTIONS: tuple[Description, ...] = (
    _bpf(
        "MAP_CREATE",
        Kind.MAP,
        map_type=_MAPS,
        key_size=pick("key_size", 4, odd=(0, 1 << 30)),
        value_size=pick("value_size", 4, 8, odd=(0,)),
        max_entries=pick("max_entries", 4, 1, odd=(0,)),
        map_flags=flags(
            "map_flags", "BPF_F_NO_PREALLOC", "BPF_F_RDONLY", "BPF_F_WRONLY", usual=(0,)
        ),
    ),
    _bpf("MAP_LOOKUP_ELEM", map_fd=_FULL, key=_KEY, value=Space(8, "value", kept=True)),
    _bpf(
        "MAP_UPDATE_ELEM",
        (Makes(Kind.ELEMENT, of="map_fd"),),
        map_fd=_MAP,
        key=_KEY,
        value=address(b"abcd1234"),
        flags=_UPDATE,
    ),
    _bpf("MAP_DELETE_ELEM", map_fd=_FULL, key=_KEY),
    _bpf("MAP_GET_NEXT_KEY", map_fd=_FULL, key=_AFTER, next_key=Space(8, "next_key", kept=True)),
    _bpf("MAP_LOOKUP_AND_DELETE_ELEM", map_fd=_FULL, key=_KEY, value=Space(8, "value", kept=True)),
    _bpf("MAP_FREEZE", map_fd=_MAP),
    _bpf(
        "PROG_LOAD",
        Kind.FILTER,
        prog_type=_PROGRAMS,
        insn_cnt=2,
        insns=address(_RETURN_ZERO),
        license=address(b"GPL\0"),
    ),
    # in place of the union's member "info", whose fields have no names of their own here
    _bpf(
        "OBJ_GET_INFO_BY_FD",
        map_fd=fd("bpf_fd", Kind.MAP, Kind.FILTER),
        key_size=64,
        key=Space(256, "info"),
    ),
    describe(
        "perf_event_open",
        struct(
            "attr_uptr",
            "struct perf_event_attr",
            type=1,
            size=112,
            config=pick("config", 0, 1, 9, odd=(99,)),
        ),
        just("pid", 0),
        just("cpu", -1),
        just("group_fd", -1),
        flags("flags", "PERF_FLAG_", usual=(0, C.PERF_FLAG_FD_CLOEXEC)),
        makes=Kind.COUNTER,
    ),
    describe(
        "syslog", pick("type", 10, 9, odd=(99,)), raw("buf", bytes(8)), just("len", 8), opaque=True
    ),
)
