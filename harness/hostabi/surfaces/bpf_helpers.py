"""Helpers that BPF programs of a type can call (bpf-helpers(7))."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hostabi.model import Kind
from hostabi.surfaces.bpf_calls import program, questions
from hostabi.surfaces.bpf_instructions import R1, call, leave, put
from hostabi.surfaces.bpf_types import sleeps
from hostabi.surfaces.probing import Probe, Read
from hostabi.surfaces.slots import Patch, patched
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.table import C, constants
from hostabi.syscalls.trace import Trace

HELPERS: dict[str, int] = {
    name.removeprefix("BPF_FUNC_"): number
    for name, number in sorted(constants("BPF_FUNC_").items(), key=lambda item: item[1])
    if number
}
"""Their numbers by name, enum bpf_func_id of linux/bpf.h."""
TYPES = {
    "SOCKET_FILTER": "",
    "SCHED_CLS": "",
    "XDP": "",
    "CGROUP_SKB": "BPF_CGROUP_INET_EGRESS",
    "CGROUP_SOCK_ADDR": "BPF_CGROUP_INET4_CONNECT",
    "CGROUP_DEVICE": "BPF_CGROUP_DEVICE",
    "KPROBE": "",
}
"""Types of which all helpers are tried, and where their programs are meant for."""
_DESCRIPTORS = range(1 << 16)
_PRINTED = "/sys/kernel/tracing/events/bpf_trace/bpf_trace_printk/enable"
"""A switch that the verifier itself turns on for whoever calls trace_printk; it is put back."""


def helpers() -> Iterator[Probe]:
    """All questions."""
    for kind in TYPES:
        yield one(kind, HELPERS)


def one(kind: str, names: Collection[str]) -> Probe:
    """Which of the helpers ``names`` programs of a type can call.

    The verifier looks for the helper before it looks at what that is given, here a
    number and nothing else: EINVAL says that there is none, EACCES that the number is wrong.
    """
    q = questions(arena=1 << 18, timeout=20.0)
    place = getattr(C, TYPES[kind]) if TYPES[kind] else 0
    q.need(*program(q, kind, attach=place, flags=sleeps(kind)), opaque=True)
    event, before = q.string(_PRINTED), q.buffer(8)
    switch = q.call("openat", C.AT_FDCWD, event, C.O_RDWR, opaque=True)
    q.call("pread64", switch, before, 1, 0)
    tried: dict[str, Ref] = {}
    for name in names:
        code = [put(R1, 0), call(HELPERS[name]), *leave(1)]
        tried[name] = q.call(*program(q, kind, code, place, flags=sleeps(kind)))
        q.call("close", tried[name])
    q.call("pwrite64", switch, before, 1, 0)
    # what all of them said is what this call finds in its memory
    late: list[Patch] = [(8 * at, 8, ref) for at, ref in enumerate(tried.values())]
    seen = patched(q.buffer(8 * len(tried)), *late)
    read = _known(tried)
    q.ask(f"helpers.{kind}", "uname", q.buffer(512), seen, read=read, kind=Kind.MEMBERS, out=[seen])
    (asked,) = q.probes()
    return asked


def _known(tried: dict[str, Ref]) -> Read:
    def read(trace: Trace, ref: Ref) -> list[str]:
        said = {name: trace[each] for name, each in tried.items()}
        return sorted(n for n, value in said.items() if value == -C.EACCES or value in _DESCRIPTORS)

    return read
