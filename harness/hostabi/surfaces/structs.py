"""Structs that grow: which sizes of them a call takes (openat2(2), "Extensibility").

``CALL.N`` gives N bytes, of which what the smallest version does not have is zero.
``CALL.N.last`` has a last byte that is not zero: E2BIG where the kernel's struct is
smaller, ok where it looks at the value, whatever it says of that. N are the sizes that
headers name, a smaller one, larger ones, a page and more than a page.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from hostabi.diff import keys
from hostabi.model import Fact
from hostabi.model import Value as FactValue
from hostabi.surfaces.answers import returned
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions
from hostabi.surfaces.source import Source
from hostabi.syscalls import table, types
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C, constants
from hostabi.syscalls.trace import Trace

_PAGE = 4096
_STEP = 8
"""Bytes by which structs grow at least."""
_SIGCHLD = 17
_CAPABILITIES = {"1": 0x19980330, "2": 0x20071026, "3": 0x20080522, "unknown": 0x20260101}
"""Versions of capget(2); the headers' constants are no plain numbers."""
_PERF_TYPE_SOFTWARE = 1
_ALL = (1 << 64) - 1
_LOOKED_AT = table.errno_names() - {"E2BIG", "ENOSYS"}
"""What a kernel says about a value, and not about the size."""
_NUMBER = re.compile(r"\.\d+(?=\.|$)")

Call = Callable[[Questions, Slot, int], tuple[Value, ...]]
"""The arguments that follow the call's name, for a struct in a slot and its size."""


@dataclasses.dataclass(frozen=True)
class Sized:
    """A call that is given a struct and its size.

    ``words`` are numbers of eight bytes by offset that make it do something
    harmless; ``stated`` is where the struct itself tells its size, in ``width`` bytes.
    """

    call: str
    type: str
    first: int
    """Bytes of the smallest version."""
    arguments: Call
    words: tuple[tuple[int, int], ...] = ()
    stated: int | None = None
    width: int = 4
    between: tuple[int, ...] = ()
    """Bytes of versions that have no names."""
    versions: str = ""
    """What the constants of its versions start with, if they have names."""

    def sizes(self) -> list[int]:
        """Sizes to be tried."""
        newest = types.size(self.type)
        named = {value for name, value in constants(self.versions).items() if "_VER" in name}
        known = {self.first, newest, *self.between} | (named if self.versions else set())
        return sorted(known | {self.first - _STEP, newest + _STEP, _PAGE, _PAGE + _STEP})

    def content(self, size: int, *, last: bool = False) -> bytes:
        """The struct's bytes."""
        room = bytearray(max(size, self.first))
        for offset, value in self.words:
            room[offset : offset + 8] = value.to_bytes(8, "little")
        if self.stated is not None:
            room[self.stated : self.stated + self.width] = size.to_bytes(self.width, "little")
        if last:
            room[size - 1] = 0x80
        return bytes(room)


def _sized(*before: Value) -> Call:
    """Arguments, the struct, its size."""
    return lambda q, slot, size: (*before, slot, size)


def _path(*between: Value) -> Call:
    """A folder and its path, what comes between, the struct, its size."""
    return lambda q, slot, size: (C.AT_FDCWD, q.string("."), *between, slot, size)


STRUCTS = (
    Sized(
        "clone3",
        "struct clone_args",
        C.CLONE_ARGS_SIZE_VER0,
        _sized(),
        words=((32, _SIGCHLD),),
        versions="CLONE_ARGS_SIZE_",
    ),
    Sized("openat2", "struct open_how", 24, _path()),
    Sized("mount_setattr", "struct mount_attr", C.MOUNT_ATTR_SIZE_VER0, _path(0)),
    Sized("open_tree_attr", "struct mount_attr", C.MOUNT_ATTR_SIZE_VER0, _path(0)),
    Sized("file_getattr", "struct file_attr", 24, lambda q, s, n: (*_path()(q, s, n), 0)),
    Sized("file_setattr", "struct file_attr", 24, lambda q, s, n: (*_path()(q, s, n), 0)),
    Sized(
        "setxattrat",
        "struct xattr_args",
        16,
        lambda q, s, n: (C.AT_FDCWD, q.string("."), 0, q.string("trusted.a"), s, n),
    ),
    Sized(
        "sched_setattr",
        "struct sched_attr",
        C.SCHED_ATTR_SIZE_VER0,
        lambda q, s, n: (0, s, 0),
        stated=0,
        versions="SCHED_ATTR_SIZE_",
    ),
    Sized(
        "sched_getattr",
        "struct sched_attr",
        C.SCHED_ATTR_SIZE_VER0,
        lambda q, s, n: (0, s, n, 0),
        versions="SCHED_ATTR_SIZE_",
    ),
    Sized(
        "perf_event_open",
        "struct perf_event_attr",
        C.PERF_ATTR_SIZE_VER0,
        lambda q, s, n: (s, 0, -1, -1, 0),
        words=((0, _PERF_TYPE_SOFTWARE),),
        stated=4,
        versions="PERF_ATTR_SIZE_",
    ),
    Sized(
        "landlock_create_ruleset",
        "struct landlock_ruleset_attr",
        8,
        lambda q, s, n: (s, n, 0),
        words=((0, C.LANDLOCK_ACCESS_FS_EXECUTE),),
        between=(16, 24),
    ),
    Sized(
        "listmount",
        "struct mnt_id_req",
        C.MNT_ID_REQ_SIZE_VER0,
        lambda q, s, n: (s, q.buffer(8), 1, 0),
        words=((8, _ALL),),
        stated=0,
        versions="MNT_ID_REQ_SIZE_",
    ),
    Sized(
        "listns",
        "struct ns_id_req",
        C.NS_ID_REQ_SIZE_VER0,
        lambda q, s, n: (s, q.buffer(8), 1, 0),
        stated=0,
    ),
    Sized(
        "bpf.BPF_MAP_CREATE",
        "union bpf_attr",
        48,
        lambda q, s, n: (C.BPF_MAP_CREATE, s, n),
        words=((0, C.BPF_MAP_TYPE_ARRAY | 4 << 32), (8, 8 | 1 << 32)),
    ),
)


def probes() -> Iterator[Probe]:
    """All questions."""
    for struct in STRUCTS:
        yield from _of(struct)
    yield from _by_request()
    yield from _others()


class Structs(ProbeSurface):
    """Sizes, of calls that are there."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        return determined(super().capture(source))


def determined(facts: Sequence[Fact]) -> list[Fact]:
    """A call of which no size works says nothing about any."""
    works = {_call(fact) for fact in facts if fact.value == keys.OK}

    def told(fact: Fact) -> Fact:
        if _call(fact) in works:
            return fact
        # that it is not there is told once, by the first size that could be right
        sizes = sorted((each for each in facts if _call(each) == _call(fact)), key=_size)
        first = sizes[min(1, len(sizes) - 1)]
        return fact if fact is first else msgspec.structs.replace(fact, value=None)

    return [told(fact) for fact in facts]


def _call(fact: Fact) -> str:
    return _NUMBER.split(keys.subject(fact.key), maxsplit=1)[0]


def _size(fact: Fact) -> int:
    found = _NUMBER.search(fact.key)
    return int(found[0].strip(".")) if found else 0


SURFACE = Structs("structs", probes, (HOST,))


def _of(struct: Sized) -> tuple[Probe, ...]:
    q = Questions(namespaces=C.CLONE_NEWNS, arena=1 << 17)
    name = struct.call.partition(".")[0]
    for size in struct.sizes():
        for last in (False, True):
            if last and size <= struct.first:
                continue
            slot = q.content(struct.content(size, last=last))
            key = f"{struct.call}.{size}" + (".last" if last else "")
            fine = _LOOKED_AT if last else ()
            made = q.ask(key, name, *struct.arguments(q, slot, size), opaque=True, fine=fine)
            if name in ("openat2", "perf_event_open", "bpf", "landlock_create_ruleset"):
                q.call("close", made)
    return q.probes()


def _request(number: int, size: int) -> int:
    """An ioctl's number for a struct of another size (asm-generic/ioctl.h)."""
    return number & ~(0x3FFF << 16) | size << 16


def _by_request() -> tuple[Probe, ...]:
    """Structs of ioctls, whose size is a part of the number or of the struct."""
    q = Questions()
    itself = q.need("pidfd_open", q.call("getpid", opaque=True), 0)
    sizes = {value for name, value in constants("PIDFD_INFO_SIZE_").items() if "VER" in name}
    newest = max(sizes)
    for size in sorted(sizes | {min(sizes) - _STEP, newest + _STEP, 1024}):
        room = q.content((1).to_bytes(8, "little") + bytes(size))
        q.ask(f"PIDFD_GET_INFO.{size}", "ioctl", itself, _request(C.PIDFD_GET_INFO, size), room)
    maps = q.call("openat", C.AT_FDCWD, q.string("/proc/self/maps"), C.O_RDONLY)
    pages = q.call("openat", C.AT_FDCWD, q.string("/proc/self/pagemap"), C.O_RDONLY)
    flags = C.PROCMAP_QUERY_COVERING_OR_NEXT_VMA
    for name, fd, kind, second in (
        ("PROCMAP_QUERY", maps, "struct procmap_query", flags),
        ("PAGEMAP_SCAN", pages, "struct pm_scan_arg", 0),
    ):
        newest = types.size(kind)
        for size in (newest - _STEP, newest, newest + _STEP, _PAGE + _STEP):
            head = size.to_bytes(8, "little") + second.to_bytes(8, "little")
            room = q.content(head.ljust(size, b"\0"))
            q.ask(f"{name}.{size}", "ioctl", fd, getattr(C, name), room, needs=(fd,))
    return q.probes()


def _others() -> tuple[Probe, ...]:
    """Sizes and versions that are not extended by zeros."""
    q = Questions()
    room = q.buffer(4096)
    for version, number in _CAPABILITIES.items():
        head = q.content(number.to_bytes(4, "little") + bytes(4))
        q.ask(f"capget.version.{version}", "capget", head, room)
    for size in (16, 24, 32):
        q.ask(f"set_robust_list.{size}", "set_robust_list", q.buffer(32), size)
    area = q.buffer(512)
    area = area.at(-area.offset % 256, 256)
    for size in (24, 32, 33, 40, 64):
        done = q.ask(f"rseq.{size}", "rseq", area, size, 0, 0x53053053)
        gone = (area, size, C.RSEQ_FLAG_UNREGISTER, 0x53053053)
        q.ask(f"rseq.{size}.unregister", "rseq", *gone, needs=(done,))
    for size in (0, 4, 8, 16, 128, 129):
        handle = q.content(size.to_bytes(8, "little") + bytes(136))
        way = (C.AT_FDCWD, q.string("."), handle, q.buffer(8), 0)
        q.ask(f"name_to_handle_at.{size}", "name_to_handle_at", *way)
    for size in (1, 4, 8, 128):
        q.ask(f"sched_getaffinity.{size}", "sched_getaffinity", 0, size, room, read=_worked)
        mask = q.content(b"\xff" * size)
        q.ask(f"sched_setaffinity.{size}", "sched_setaffinity", 0, size, mask)
    return q.probes()


def _worked(trace: Trace, ref: Ref) -> FactValue:
    """Whatever it returned, for that is a number of bytes that follows the hardware."""
    return keys.OK if int(str(returned(trace, ref))) > 0 else "nothing"
