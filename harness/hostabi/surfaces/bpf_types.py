"""Types of BPF programs, and what can be done with a program of each."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.bpf_calls import Fields, program, questions, run
from hostabi.surfaces.bpf_instructions import leave
from hostabi.surfaces.probing import Probe
from hostabi.syscalls.builder import Slot, Value
from hostabi.syscalls.table import C, constants

TYPES: dict[str, int] = {
    name.removeprefix("BPF_PROG_TYPE_"): number
    for name, number in constants("BPF_PROG_TYPE_").items()
    if number
}
"""All program types by the rest of their name."""
CGROUP: dict[str, str] = {
    "BPF_CGROUP_INET_INGRESS": "CGROUP_SKB",
    "BPF_CGROUP_INET_EGRESS": "CGROUP_SKB",
    "BPF_CGROUP_INET_SOCK_CREATE": "CGROUP_SOCK",
    "BPF_CGROUP_INET_SOCK_RELEASE": "CGROUP_SOCK",
    "BPF_CGROUP_INET4_POST_BIND": "CGROUP_SOCK",
    "BPF_CGROUP_INET6_POST_BIND": "CGROUP_SOCK",
    "BPF_CGROUP_SOCK_OPS": "SOCK_OPS",
    "BPF_CGROUP_DEVICE": "CGROUP_DEVICE",
    "BPF_CGROUP_SYSCTL": "CGROUP_SYSCTL",
    "BPF_CGROUP_GETSOCKOPT": "CGROUP_SOCKOPT",
    "BPF_CGROUP_SETSOCKOPT": "CGROUP_SOCKOPT",
} | {
    name: "CGROUP_SOCK_ADDR"
    for name in constants("BPF_CGROUP_")
    if name.endswith(("_BIND", "_CONNECT", "MSG", "NAME")) and "POST" not in name
}
"""Attach types of control groups, and the type of the programs that go there."""
_OTHERS = {
    "BPF_SK_REUSEPORT_SELECT": "SK_REUSEPORT",
    "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE": "SK_REUSEPORT",
}
"""Other places that a program has to be meant for; most are looked at only when it is attached."""
_ATTACHED = {"SK_LOOKUP": "BPF_SK_LOOKUP", "NETFILTER": "BPF_NETFILTER"}
"""The one place where programs of a type go, where the type alone does not tell."""
_FLAGS = {
    "BPF_F_STRICT_ALIGNMENT": "SOCKET_FILTER",
    "BPF_F_ANY_ALIGNMENT": "SOCKET_FILTER",
    "BPF_F_TEST_RND_HI32": "SOCKET_FILTER",
    "BPF_F_TEST_STATE_FREQ": "SOCKET_FILTER",
    "BPF_F_TEST_REG_INVARIANTS": "SOCKET_FILTER",
    "BPF_F_SLEEPABLE": "KPROBE",
    "BPF_F_XDP_HAS_FRAGS": "XDP",
}
"""Flags of a program, and a type that can have it."""
_PACKET = 64
_RUNS: dict[str, int | None] = {
    "SOCKET_FILTER": 1,
    "SCHED_CLS": 1,
    "SCHED_ACT": 1,
    "XDP": 1,
    "CGROUP_SKB": 1,
    "LWT_IN": 1,
    "SK_LOOKUP": None,
    "SYSCALL": 1,
    "NETFILTER": 1,
    "RAW_TRACEPOINT": None,
    "FLOW_DISSECTOR": 1,
}
"""Types that can be tried out, and what a program that returns 1 is seen to return."""


def types() -> Iterator[Probe]:
    """All questions."""
    yield from _loads()
    yield from _details()
    yield from _runs()


def sleeps(kind: str) -> int:
    """Flags without which no program of the type is loaded."""
    return C.BPF_F_SLEEPABLE if kind == "SYSCALL" else 0


def _loads() -> tuple[Probe, ...]:
    """A program of each type, with each place it can be meant for."""
    q = questions()
    for kind in TYPES:
        place = _ATTACHED.get(kind) or next((p for p, k in CGROUP.items() if k == kind), None)
        number = getattr(C, place) if place else 0
        asked = program(q, kind, attach=number, flags=sleeps(kind))
        q.ask(f"prog.{kind}", *asked, opaque=True)
    for place, kind in (CGROUP | _OTHERS).items():
        q.ask(f"prog.{kind}.{place}", *program(q, kind, attach=getattr(C, place)), opaque=True)
    return q.probes()


def _details() -> tuple[Probe, ...]:
    """Flags, the levels of the verifier's log, names and licenses."""
    q = questions()
    for flag, kind in _FLAGS.items():
        q.ask(f"prog.flag.{flag}", *program(q, kind, flags=getattr(C, flag)), opaque=True)
    log = q.buffer(4096)
    for level in (1, 2, 4, 8, 16):
        asked = program(q, "SOCKET_FILTER", more=_log(level, log, log.size))
        q.ask(f"prog.log_level.{level}", *asked, opaque=True)
    short = program(q, "SOCKET_FILTER", more=_log(1, log, 8))
    q.ask("prog.log_size.8", *short, opaque=True)
    own = program(q, "SOCKET_FILTER", more={"license": q.string("Proprietary")})
    q.ask("prog.license.proprietary", *own, opaque=True)
    q.ask("prog.insn_cnt.0", *program(q, "SOCKET_FILTER", more={"insn_cnt": 0}), opaque=True)
    version = program(q, "KPROBE", more={"kern_version": 0x01020304})
    q.ask("prog.kern_version.another", *version, opaque=True)
    return q.probes()


def _log(level: int, room: Slot, size: int) -> Fields:
    return {"log_level": level, "log_buf": room, "log_size": size}


def _runs() -> tuple[Probe, ...]:
    """BPF_PROG_TEST_RUN, with a packet or a context."""
    q = questions()
    # an IPv4 packet of UDP within Ethernet
    packet = q.content(bytes((*bytes(12), 8, 0, 0x45, *bytes(8), 17)).ljust(_PACKET, b"\0"))
    for kind, wanted in _RUNS.items():
        attach = getattr(C, _ATTACHED[kind]) if kind in _ATTACHED else 0
        prog = q.call(*program(q, kind, leave(1), attach, flags=sleeps(kind)), opaque=True)
        data: dict[str, Value] = {"data_in": packet, "data_size_in": packet.size}
        if kind in ("SYSCALL", "RAW_TRACEPOINT"):
            data = {}
        if kind == "SK_LOOKUP":
            lookup = q.struct("struct bpf_sk_lookup", family=C.AF_INET, protocol=6)
            data = {"ctx_in": lookup, "ctx_size_in": lookup.size}
        run(q, f"run.{kind}", prog, wanted, data)
    for flag, kind in (
        ("BPF_F_TEST_RUN_ON_CPU", "RAW_TRACEPOINT"),
        ("BPF_F_TEST_XDP_LIVE_FRAMES", "XDP"),
        ("BPF_F_TEST_SKB_CHECKSUM_COMPLETE", "SCHED_CLS"),
    ):
        prog = q.call(*program(q, kind), opaque=True)
        data = {} if kind == "RAW_TRACEPOINT" else {"data_in": packet, "data_size_in": 64}
        run(q, f"run.flag.{flag}", prog, None, data | {"flags": getattr(C, flag)})
    return q.probes()
