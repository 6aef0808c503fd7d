"""io_uring: how rings can be set up, what they do, and who may have one.

``setup.FLAG``, ``feature.FLAG``, ``enter.FLAG`` and ``register.OPCODE`` are what
io_uring_setup(2), io_uring_enter(2) and io_uring_register(2) take and tell;
``op.NAME`` is an operation that was done, ``op.NAME#announced`` what the kernel
says about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hostabi.model import Fact
from hostabi.surfaces.io_uring_operations import operations
from hostabi.surfaces.io_uring_registers import registers
from hostabi.surfaces.io_uring_rings import CQ_USER_ADDRESS, PARAMETERS, SQ_USER_ADDRESS
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions, Read
from hostabi.surfaces.slots import Patch, patched, words
from hostabi.surfaces.source import Source
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C, constants
from hostabi.syscalls.trace import Trace

_CQ_ENTRIES, _FLAGS, _FEATURES, _WQ_FD = 4, 8, 20, 24
"""Where struct io_uring_params has them."""
_OPERATIONS = 256
_PROBE_HEAD, _PROBE_ENTRY = 16, 8
_WITH: dict[str, tuple[str, ...]] = {
    "SQ_AFF": ("SQPOLL",),
    "TASKRUN_FLAG": ("COOP_TASKRUN",),
    "DEFER_TASKRUN": ("SINGLE_ISSUER",),
    "HYBRID_IOPOLL": ("IOPOLL",),
    "REGISTERED_FD_ONLY": ("NO_MMAP",),
    "SQ_REWIND": ("NO_SQARRAY",),
}
"""Flags of a ring that others are a condition for."""
_SWITCH = "/proc/sys/kernel/io_uring_disabled"
_USER = 1000


def _everybody() -> Iterator[Probe]:
    yield from _setups()
    yield from _features()
    yield from _announced()
    yield from _enters()
    yield from registers()
    for probe in operations():
        yield dataclasses.replace(probe, key=f"op.{probe.key}")


def _setups() -> tuple[Probe, ...]:
    """Flags of a ring, each with what it needs; a ring is gone when it is closed."""
    q = Questions(arena=1 << 17, timeout=5.0)
    q.ask("setup", "io_uring_setup", 1, q.buffer(PARAMETERS), opaque=True)
    pages = q.buffer(8192), q.buffer(8192)
    other = q.call("io_uring_setup", 1, q.buffer(PARAMETERS), opaque=True)
    for name, own in sorted(constants("IORING_SETUP_").items(), key=lambda item: item[1]):
        short = name.removeprefix("IORING_SETUP_")
        with_it = [getattr(C, f"IORING_SETUP_{each}") for each in _WITH.get(short, ())]
        flag = sum(with_it, own)
        patches: list[Patch] = [(_FLAGS, 4, flag)]
        patches += [(_CQ_ENTRIES, 4, 8)] if short == "CQSIZE" else []
        patches += [(_WQ_FD, 4, other)] if short == "ATTACH_WQ" else []
        if flag & C.IORING_SETUP_NO_MMAP:
            first, second = (_page(each) for each in pages)
            patches += [(CQ_USER_ADDRESS, 8, first), (SQ_USER_ADDRESS, 8, second)]
        parameters = patched(q.buffer(PARAMETERS), *patches)
        ring = q.ask(f"setup.{name}", "io_uring_setup", 4, parameters, opaque=True)
        if short != "REGISTERED_FD_ONLY":
            q.call("close", ring)
    entries: tuple[int, ...] = (0, 32768, 32769)
    for count in entries:
        ring = q.ask(f"setup.entries.{count}", "io_uring_setup", count, q.buffer(120), opaque=True)
        q.call("close", ring)
    return q.probes()


def _page(slot: Slot) -> Slot:
    """The first whole page in a slot."""
    return slot.at(-slot.offset % 4096, 4096)


def _features() -> tuple[Probe, ...]:
    """What the kernel says that its rings can do."""
    q = Questions()
    room = q.buffer(PARAMETERS)
    q.ask("feature", "io_uring_setup", 1, room, opaque=True, out=[room])
    (asked,) = q.probes()
    return tuple(
        dataclasses.replace(asked, key=f"feature.{name}", read=_bit(room, _FEATURES, bit))
        for name, bit in constants("IORING_FEAT_").items()
    )


def _announced() -> tuple[Probe, ...]:
    """IORING_REGISTER_PROBE: which operations there are."""
    q = Questions()
    ring = q.need("io_uring_setup", 1, q.buffer(PARAMETERS), opaque=True)
    room = q.buffer(_PROBE_HEAD + _OPERATIONS * _PROBE_ENTRY)
    where = (ring, C.IORING_REGISTER_PROBE, room, _OPERATIONS)
    q.ask("register.IORING_REGISTER_PROBE", "io_uring_register", *where, out=[room])
    (asked,) = q.probes()
    told = [asked]
    for name, number in constants("IORING_OP_").items():
        if name != "IORING_OP_LAST":
            at = _PROBE_HEAD + number * _PROBE_ENTRY + 2
            read = _bit(room, at, C.IO_URING_OP_SUPPORTED)
            key = f"op.{name.removeprefix('IORING_OP_')}#announced"
            told.append(dataclasses.replace(asked, key=key, read=read))
    return tuple(told)


def _bit(room: Slot, at: int, bit: int) -> Read:
    """Whether a bit is set in the number at an offset."""

    def read(trace: Trace, ref: Ref) -> bool:
        return bool(int.from_bytes(trace.bytes(ref, room)[at : at + 4], "little") & bit)

    return read


def _enters() -> tuple[Probe, ...]:
    """Flags of io_uring_enter(2), with nothing to submit and nothing to wait for."""
    q = Questions()
    ring = q.need("io_uring_setup", 1, q.buffer(PARAMETERS), opaque=True)
    wait = q.content(bytes(24))
    plain: tuple[Value, ...] = (0, 0)
    for name, flag in sorted(constants("IORING_ENTER_").items(), key=lambda item: item[1]):
        if name in ("IORING_ENTER_REGISTERED_RING", "IORING_ENTER_EXT_ARG_REG"):
            continue
        more = (wait, 24) if name == "IORING_ENTER_EXT_ARG" else plain
        q.ask(f"enter.{name}", "io_uring_enter", ring, 0, 0, flag, *more)
    return q.probes()


def _switched() -> tuple[Probe, ...]:
    """kernel.io_uring_disabled: 1 is for those without privileges, 2 for all. It is put back.

    The group of kernel.io_uring_group is left as it is: none.
    """
    q = Questions(timeout=5.0)
    fd = q.need("openat", C.AT_FDCWD, q.string(_SWITCH), C.O_RDWR)
    before = q.buffer(16)
    size = q.need("pread64", fd, before, 16, 0)
    parameters = q.buffer(PARAMETERS)
    for value in ("0", "1", "2"):
        q.call("pwrite64", fd, q.string(value), 1, 0)
        q.ask(f"io_uring_disabled.{value}", "io_uring_setup", 1, parameters, opaque=True)
        q.call("setresuid", -1, _USER, -1)
        key = f"io_uring_disabled.{value}.unprivileged"
        q.ask(key, "io_uring_setup", 1, parameters, opaque=True)
        q.call("setresuid", -1, 0, -1)
    q.call("pwrite64", fd, before, size, 0)
    return q.probes()


def _restricted() -> Iterator[Probe]:
    """IORING_REGISTER_RESTRICTIONS: what a ring that is given away may still do."""
    q = Questions()
    for name, kind in sorted(constants("IORING_RESTRICTION_").items(), key=lambda item: item[1]):
        if name == "IORING_RESTRICTION_LAST":
            continue
        parameters = patched(q.buffer(PARAMETERS), (_FLAGS, 4, C.IORING_SETUP_R_DISABLED))
        ring = q.call("io_uring_setup", 1, parameters, opaque=True)
        one = q.content(words(kind, size=2) + bytes(14))
        where = (ring, C.IORING_REGISTER_RESTRICTIONS, one, 1)
        done = q.ask(f"restriction.{name}", "io_uring_register", *where, needs=(ring,))
        enable = (ring, C.IORING_REGISTER_ENABLE_RINGS, 0, 0)
        key = f"restriction.{name}.enabled"
        enabled = q.ask(key, "io_uring_register", *enable, needs=(ring, done))
        eventfd = q.call("eventfd2", 0, 0)
        event = (ring, C.IORING_REGISTER_EVENTFD, patched(q.content(bytes(4)), (0, 4, eventfd)), 1)
        key = f"restriction.{name}.refuses-registering"
        q.ask(key, "io_uring_register", *event, needs=(ring, done, enabled, eventfd))
        q.call("close", ring)
        q.call("close", eventfd)
    yield from q.probes()


def _machine() -> Iterator[Probe]:
    yield from _restricted()
    yield from _switched()


class Rings(Joined):
    """What a switch does is told where there is one."""

    def capture(self, source: Source) -> list[Fact]:
        """Ask all probes."""
        facts = super().capture(source)
        return [fact for fact in facts if not (is_switched(fact) and fact.value == "ENOENT")]


def is_switched(fact: Fact) -> bool:
    """Whether the fact is about what kernel.io_uring_disabled does."""
    return fact.key.startswith("io_uring_disabled.")


SURFACE = Rings(
    "io_uring",
    (
        ProbeSurface("io_uring", _everybody),
        ProbeSurface("io_uring", _machine, (HOST,)),
    ),
)
