"""BPF maps: their types and flags, what is done to their elements, and whose memory they count."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.bpf_btf import INT, LONG, btf, loaded
from hostabi.surfaces.bpf_calls import Asked, Fields, command, questions, table, within
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import words
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C, constants

TYPES: dict[str, int] = {
    name.removeprefix("BPF_MAP_TYPE_"): number
    for name, number in constants("BPF_MAP_TYPE_").items()
    if number and not name.endswith("DEPRECATED")
}
"""All map types by the rest of their name."""
_PAGE = 4096
_SHAPES: dict[str, tuple[int, int, int]] = {
    "PROG_ARRAY": (4, 4, 4),
    "PERF_EVENT_ARRAY": (4, 4, 4),
    "CGROUP_ARRAY": (4, 4, 4),
    "ARRAY_OF_MAPS": (4, 4, 4),
    "HASH_OF_MAPS": (4, 4, 4),
    "DEVMAP": (4, 4, 4),
    "DEVMAP_HASH": (4, 4, 4),
    "CPUMAP": (4, 4, 4),
    "XSKMAP": (4, 4, 4),
    "SOCKMAP": (4, 4, 4),
    "SOCKHASH": (4, 4, 4),
    "REUSEPORT_SOCKARRAY": (4, 4, 4),
    "LPM_TRIE": (8, 8, 4),
    "CGROUP_STORAGE": (16, 8, 0),
    "PERCPU_CGROUP_STORAGE": (16, 8, 0),
    "SK_STORAGE": (4, 8, 0),
    "INODE_STORAGE": (4, 8, 0),
    "TASK_STORAGE": (4, 8, 0),
    "CGRP_STORAGE": (4, 8, 0),
    "QUEUE": (0, 8, 4),
    "STACK": (0, 8, 4),
    "BLOOM_FILTER": (0, 8, 4),
    "RINGBUF": (0, 0, _PAGE),
    "USER_RINGBUF": (0, 0, _PAGE),
    "ARENA": (0, 0, 1),
    "INSN_ARRAY": (4, 16, 1),
    "STACK_TRACE": (4, 32, 4),
}
"""Bytes of a key and of a value, and entries, where they are not 4, 8 and 4."""
_NEED = {
    "LPM_TRIE": "NO_PREALLOC",
    "ARENA": "MMAPABLE",
    "RHASH": "NO_PREALLOC",
    **{f"{name}_STORAGE": "NO_PREALLOC" for name in ("SK", "INODE", "TASK", "CGRP")},
}
"""Flags without which no map of the type is made."""
_FLAGS = {
    "NO_PREALLOC": "HASH",
    "NO_COMMON_LRU": "LRU_HASH",
    "NUMA_NODE": "HASH",
    "RDONLY": "HASH",
    "WRONLY": "HASH",
    "STACK_BUILD_ID": "STACK_TRACE",
    "ZERO_SEED": "HASH",
    "RDONLY_PROG": "ARRAY",
    "WRONLY_PROG": "ARRAY",
    "CLONE": "SK_STORAGE",
    "MMAPABLE": "ARRAY",
    "PRESERVE_ELEMS": "PERF_EVENT_ARRAY",
    "INNER_MAP": "ARRAY",
    "SEGV_ON_FAULT": "ARENA",
    "NO_USER_CONV": "ARENA",
    "RB_OVERWRITE": "RINGBUF",
}
"""Flags of a map, BPF_F_*, and a type that can have it."""
_FILLED = (
    "HASH",
    "ARRAY",
    "PERCPU_HASH",
    "PERCPU_ARRAY",
    "LRU_HASH",
    "LPM_TRIE",
    "QUEUE",
    "STACK",
    "BLOOM_FILTER",
    "RHASH",
)
"""Types of which all is done that can be done to elements."""


def maps() -> Iterator[Probe]:
    """All questions."""
    yield from _made()
    for kind in _FILLED:
        yield from _elements(kind)
    yield from _access()
    yield from _locked()


def made(q: Questions, kind: str, flags: int = 0, more: Fields | None = None) -> Ref:
    """A map of the type, with what it needs."""
    return q.call(*shaped(q, kind, flags, more), opaque=True)


def shaped(q: Questions, kind: str, flags: int = 0, more: Fields | None = None) -> Asked:
    """Makes a map of the type, with what it needs and further fields of union bpf_attr."""
    fields: dict[str, Value] = {"map_flags": flags}
    if kind in _NEED:
        fields["map_flags"] = flags | getattr(C, f"BPF_F_{_NEED[kind]}")
    if kind.endswith("_OF_MAPS"):
        fields["inner_map_fd"] = q.call(*table(q, "ARRAY"), opaque=True)
    if _SHAPES.get(kind, (4, 8, 4))[2] == 0 and not kind.endswith("CGROUP_STORAGE"):
        described = q.call(*loaded(q, btf(INT, LONG)), opaque=True)
        fields |= {"btf_fd": described, "btf_key_type_id": 1, "btf_value_type_id": 2}
    key, value, entries = _SHAPES.get(kind, (4, 8, 4))
    fields |= {"key_size": key, "value_size": value, "max_entries": entries}
    return table(q, kind, fields | dict(more or {}))


def _made() -> tuple[Probe, ...]:
    """A map of each type, and each flag."""
    q = questions()
    for kind in TYPES:
        q.ask(f"map.{kind}", *shaped(q, kind), opaque=True)
    for flag, kind in _FLAGS.items():
        q.ask(f"map.flag.BPF_F_{flag}", *shaped(q, kind, getattr(C, f"BPF_F_{flag}")), opaque=True)
    for key, name in (("dot", b"a.b_c"), ("space", b"a b")):
        named = table(q, "ARRAY", {"map_name": int.from_bytes(name, "little")})
        q.ask(f"map.name.{key}", *named, opaque=True)
    return q.probes()


def _elements(kind: str) -> tuple[Probe, ...]:
    """Elements one by one and many at a time; what undoes something comes last."""
    q = questions()
    fd = q.need(*shaped(q, kind), opaque=True)
    keyed = _SHAPES.get(kind, (4, 8, 4))[0]
    # the key of a trie begins with how many of its bits count
    key = q.content(words(32 if kind == "LPM_TRIE" else 1, 0))
    room, other = q.buffer(_PAGE), q.buffer(64)
    element: dict[str, Value] = {"map_fd": fd, "key": key if keyed else 0, "value": room}
    only = {"map_fd": fd, "key": element["key"]}
    following: dict[str, Value] = {"map_fd": fd, "key": 0, "next_key": other}
    again = ("BPF_MAP_UPDATE_ELEM", element)
    for name, fields in (
        ("BPF_MAP_UPDATE_ELEM", element),
        ("BPF_MAP_LOOKUP_ELEM", element),
        ("BPF_MAP_GET_NEXT_KEY", following),
        ("BPF_MAP_LOOKUP_AND_DELETE_ELEM", element),
    ):
        q.ask(f"map.{kind}.{name}", *command(q, name, fields))
    q.call(*command(q, *again))
    percpu = ("BPF_F_CPU", "BPF_F_ALL_CPUS") if kind.startswith("PERCPU") else ()
    for flag in ("BPF_NOEXIST", "BPF_EXIST", *percpu):
        update = command(q, again[0], element | {"flags": getattr(C, flag)})
        q.ask(f"map.{kind}.{again[0]}.{flag}", *update)
    q.ask(f"map.{kind}.BPF_MAP_DELETE_ELEM", *command(q, "BPF_MAP_DELETE_ELEM", only))
    q.call(*command(q, *again))
    keys = q.buffer(64)
    batch: dict[str, Value] = {"map_fd": fd, "keys": keys, "values": room, "out_batch": other}
    for verb in ("UPDATE", "LOOKUP", "LOOKUP_AND_DELETE", "DELETE"):
        count = 1 if verb in ("UPDATE", "DELETE") else 4
        asked = command(q, f"BPF_MAP_{verb}_BATCH", within("batch", batch | {"count": count}))
        # it found less than there is room for
        q.ask(f"map.{kind}.BPF_MAP_{verb}_BATCH", *asked, fine=("ENOENT",))
    return q.probes()


def _access() -> tuple[Probe, ...]:
    """Maps that are frozen, mapped, or open for one thing only."""
    q = questions()
    key, room = q.content(words(1)), q.buffer(64)
    update = "BPF_MAP_UPDATE_ELEM"
    shared = (C.PROT_READ | C.PROT_WRITE, C.MAP_SHARED)
    mapped = made(q, "ARRAY", C.BPF_F_MMAPABLE)
    q.ask("map.mmap", "mmap", 0, _PAGE, *shared, mapped, 0, needs=(mapped,), opaque=True)
    plain = made(q, "ARRAY")
    q.ask("map.mmap.not-mmapable", "mmap", 0, _PAGE, *shared, plain, 0, needs=(plain,), opaque=True)
    frozen = q.ask("map.freeze", *command(q, "BPF_MAP_FREEZE", {"map_fd": plain}), needs=(plain,))
    asked = command(q, update, {"map_fd": plain, "key": key, "value": room})
    q.ask("map.freeze.update", *asked, needs=(frozen,))
    busy = command(q, "BPF_MAP_FREEZE", {"map_fd": mapped})
    q.ask("map.freeze.mapped", *busy, needs=(mapped,))
    still = made(q, "ARRAY", C.BPF_F_MMAPABLE)
    stopped = q.call(*command(q, "BPF_MAP_FREEZE", {"map_fd": still}))
    for name, access in (("read", C.PROT_READ), ("write", shared[0])):
        where = (0, _PAGE, access, C.MAP_SHARED, still, 0)
        q.ask(f"map.freeze.mmap.{name}", "mmap", *where, needs=(still, stopped), opaque=True)
    for flag, verb in (("BPF_F_RDONLY", update), ("BPF_F_WRONLY", "BPF_MAP_LOOKUP_ELEM")):
        half = made(q, "ARRAY", getattr(C, flag))
        asked = command(q, verb, {"map_fd": half, "key": key, "value": room})
        q.ask(f"map.{flag}.{verb}", *asked, needs=(half,))
    rings = made(q, "RINGBUF")
    for name, access, at in (("consumer", shared[0], 0), ("producer", C.PROT_READ, _PAGE)):
        where = (0, _PAGE, access, C.MAP_SHARED, rings, at)
        q.ask(f"map.RINGBUF.mmap.{name}", "mmap", *where, needs=(rings,), opaque=True)
    full = made(q, "HASH", 0, {"max_entries": 1})
    for number in (1, 2):
        one: dict[str, Value] = {"map_fd": full, "key": q.content(words(number)), "value": room}
        q.ask(f"map.HASH.full.{number}", *command(q, update, one), needs=(full,))
    beyond: dict[str, Value] = {"map_fd": plain, "key": q.content(words(4)), "value": room}
    q.ask("map.ARRAY.beyond", *command(q, "BPF_MAP_LOOKUP_ELEM", beyond), needs=(plain,))
    return q.probes()


def _locked() -> tuple[Probe, ...]:
    """A map by somebody who may lock no memory (RLIMIT_MEMLOCK)."""
    q = questions(memory=0)
    q.ask("map.without-locked-memory", *table(q, "ARRAY"), opaque=True)
    return q.probes()
