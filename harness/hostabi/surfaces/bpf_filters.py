"""Classic BPF: filters of sockets (kernel: networking/filter.rst)."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.bpf_calls import program
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.seccomp_filters import loaded
from hostabi.surfaces.slots import patched, words
from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.filters import statement
from hostabi.syscalls.table import C, constants

_ALL = 0xFFFF
_NOT_LOADED = ("SKF_AD_OFF", "SKF_AD_MAX")
_ABSOLUTE = C.BPF_LD | C.BPF_W | C.BPF_ABS


def filters() -> Iterator[Probe]:
    """All questions, about sockets that nobody else knows."""
    q = Questions(arena=1 << 17, timeout=5.0)
    pair = q.buffer(8)
    q.need("socketpair", C.AF_UNIX, C.SOCK_DGRAM | C.SOCK_NONBLOCK, 0, pair)
    fd = q.need("socket", C.AF_INET, C.SOCK_DGRAM, 0, opaque=True)
    _extensions(q, fd)
    everything, nothing = (loaded(q, [_answer(size)]) for size in (_ALL, 0))
    load = statement(_ABSOLUTE, 0)
    long = loaded(q, [load] * C.BPF_MAXINSNS + [_answer(_ALL)])
    _set(q, f"filter.statements.{C.BPF_MAXINSNS + 1}", fd, "SO_ATTACH_FILTER", long)
    endless = loaded(q, [statement(_ABSOLUTE, 0)])
    _set(q, "filter.without-return", fd, "SO_ATTACH_FILTER", endless)
    one, other = pair.word(0), pair.word(1)
    where = (other, C.SOL_SOCKET, C.SO_ATTACH_FILTER, nothing, nothing.size)
    attached = q.call("setsockopt", *where)
    text, room = q.string("a"), q.buffer(64)
    q.ask("filter.drops", "sendto", one, text, 1, 0, 0, 0, needs=(attached,))
    q.ask("filter.drops.received", "recvfrom", other, room, 64, 0, 0, 0, needs=(attached,))
    q.call("setsockopt", fd, C.SOL_SOCKET, C.SO_LOCK_FILTER, q.content(words(1)), 4)
    _set(q, "filter.locked", fd, "SO_ATTACH_FILTER", everything)
    yield from q.probes()


def programs(q: Questions) -> None:
    """Sockets that take a program of bpf(2) for a filter."""
    prog = q.call(*program(q, "SOCKET_FILTER"), opaque=True)
    for name in ("SO_ATTACH_BPF", "SO_ATTACH_REUSEPORT_EBPF"):
        fd = q.call("socket", C.AF_INET, C.SOCK_DGRAM, 0)
        q.call("setsockopt", fd, C.SOL_SOCKET, C.SO_REUSEPORT, q.content(words(1)), 4)
        q.call("bind", fd, q.content(words(C.AF_INET, 0, size=2) + bytes(12)), 16)
        given = patched(q.content(bytes(4)), (0, 4, prog))
        where = (fd, C.SOL_SOCKET, getattr(C, name), given, 4)
        q.ask(f"filter.{name}", "setsockopt", *where, needs=(fd, prog))


def _extensions(q: Questions, fd: Ref) -> None:
    """What a filter can load that is no part of the packet."""
    for name, offset in sorted(constants("SKF_AD_").items(), key=lambda item: item[1]):
        if name not in _NOT_LOADED:
            load = statement(_ABSOLUTE, (C.SKF_AD_OFF + offset) & 0xFFFFFFFF)
            code = loaded(q, [load, _answer(_ALL)])
            _set(q, f"filter.{name}", fd, "SO_ATTACH_FILTER", code)
    for name in ("SKF_NET_OFF", "SKF_LL_OFF"):
        load = statement(_ABSOLUTE, getattr(C, name) & 0xFFFFFFFF)
        code = loaded(q, [load, _answer(_ALL)])
        _set(q, f"filter.{name}", fd, "SO_ATTACH_FILTER", code)
    beyond = statement(_ABSOLUTE, (C.SKF_AD_OFF + C.SKF_AD_MAX) & 0xFFFFFFFF)
    code = loaded(q, [beyond, _answer(_ALL)])
    _set(q, "filter.SKF_AD_MAX", fd, "SO_ATTACH_FILTER", code)


def _set(q: Questions, key: str, fd: Ref, name: str, given: Slot) -> None:
    q.ask(key, "setsockopt", fd, C.SOL_SOCKET, getattr(C, name), given, given.size)


def _answer(size: int) -> bytes:
    return statement(C.BPF_RET | C.BPF_K, size)
