"""What a user without privileges may do, where kernel.unprivileged_bpf_disabled lets them."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.bpf_btf import INT, btf, loaded
from hostabi.surfaces.bpf_calls import program, questions
from hostabi.surfaces.bpf_instructions import FP, R0, copy, instruction, jump, leave, put, reckon
from hostabi.surfaces.bpf_maps import shaped
from hostabi.surfaces.probing import Probe
from hostabi.syscalls.table import C

_SWITCH = "/proc/sys/kernel/unprivileged_bpf_disabled"
_USER = 1000
_MAPS = ("ARRAY", "HASH", "LPM_TRIE", "LRU_HASH", "PERCPU_HASH", "RINGBUF", "STACK_TRACE", "CPUMAP")
_PROGRAMS = ("SOCKET_FILTER", "CGROUP_SKB", "CGROUP_DEVICE", "XDP", "KPROBE")


def unprivileged() -> Iterator[Probe]:
    """All questions. The switch is put back; where it is 1 it can be moved by nobody."""
    q = questions()
    fd = q.need("openat", C.AT_FDCWD, q.string(_SWITCH), C.O_RDWR)
    before = q.buffer(16)
    size = q.need("pread64", fd, before, 16, 0)
    allowed = q.call("pwrite64", fd, q.string("0"), 1, 0)
    q.call("setresuid", -1, _USER, -1)
    needs = (allowed,)
    for kind in _PROGRAMS:
        attach = C.BPF_CGROUP_INET_EGRESS if kind == "CGROUP_SKB" else 0
        q.ask(f"user.prog.{kind}", *program(q, kind, attach=attach), needs=needs, opaque=True)
    for kind in _MAPS:
        q.ask(f"user.map.{kind}", *shaped(q, kind), needs=needs, opaque=True)
    q.ask("user.btf", *loaded(q, btf(INT)), needs=needs, opaque=True)
    again = jump(C.BPF_JLT, R0, 10, -2)
    for name, code in (
        ("loop", [put(R0, 0), reckon(C.BPF_ADD, R0, 1), again, *leave()]),
        ("function", [instruction(C.BPF_JMP | C.BPF_CALL, by=1, number=1), *leave(), *leave(5)]),
        ("pointer.returned", [copy(R0, FP), *leave()]),
        ("instructions.4096", [put(R0, 0)] * 4095 + leave()),
        ("instructions.4097", [put(R0, 0)] * 4096 + leave()),
    ):
        asked = program(q, "SOCKET_FILTER", code)
        q.ask(f"user.verifier.{name}", *asked, needs=needs, opaque=True)
    q.call("setresuid", -1, 0, -1)
    denied = q.call("pwrite64", fd, q.string("2"), 1, 0)
    q.call("setresuid", -1, _USER, -1)
    refused = program(q, "SOCKET_FILTER")
    q.ask("user.disabled.prog.SOCKET_FILTER", *refused, needs=(denied,), opaque=True)
    q.call("setresuid", -1, 0, -1)
    q.call("pwrite64", fd, before, size, 0)
    yield from q.probes()
