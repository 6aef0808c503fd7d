"""Where BPF programs are attached besides control groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hostabi.surfaces.bpf_btf import INT, MAIN, Described, btf, loaded
from hostabi.surfaces.bpf_calls import Asked, attach, command, link, program, questions, table
from hostabi.surfaces.bpf_instructions import leave
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import patched, words
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

_LOOPBACK = 1
"""The first device of a network namespace."""
_SKB_MODE = 2
"""XDP_FLAGS_SKB_MODE of linux/if_link.h."""
_LOCAL_IN = 1
"""NF_INET_LOCAL_IN of linux/netfilter.h."""
_SYMBOL = "__x64_sys_getppid"
_PAGE = 4096


def links() -> Iterator[Probe]:
    """All questions."""
    yield from _network()
    yield from _sockets()
    yield from _tracing()
    yield from _programs()


def _network() -> tuple[Probe, ...]:
    """Devices and a network namespace, of the program's own."""
    q = questions(namespaces=C.CLONE_NEWNET)
    own = q.need("openat", C.AT_FDCWD, q.string("/proc/self/ns/net"), C.O_RDONLY, opaque=True)
    for kind, name, target, more in (
        ("XDP", "BPF_XDP", _LOOPBACK, {"flags": _SKB_MODE}),
        ("SCHED_CLS", "BPF_TCX_INGRESS", _LOOPBACK, {}),
        ("SCHED_CLS", "BPF_TCX_EGRESS", _LOOPBACK, {}),
        ("FLOW_DISSECTOR", "BPF_FLOW_DISSECTOR", own, {}),
        ("SK_LOOKUP", "BPF_SK_LOOKUP", own, {}),
        ("NETFILTER", "BPF_NETFILTER", 0, _HOOK),
    ):
        number = getattr(C, name)
        # a dissector says nothing of where it goes
        place = 0 if kind == "FLOW_DISSECTOR" else number
        prog = q.call(*program(q, kind, leave(1), place), opaque=True)
        made = link(q, target, prog, number, more)
        done = q.ask(f"link.{name}", *made, needs=(prog,), opaque=True)
        q.call("close", done)
        if kind in ("SCHED_CLS", "FLOW_DISSECTOR"):
            fd = target if kind == "SCHED_CLS" else 0
            q.ask(f"attach.{name}", *attach(q, fd, prog, number), needs=(prog,))
    return q.probes()


_HOOK = {
    "netfilter.pf": C.AF_INET,
    "netfilter.hooknum": _LOCAL_IN,
    "netfilter.priority": -5,
}


def _sockets() -> tuple[Probe, ...]:
    """Programs of maps that hold sockets."""
    q = questions()
    for kind, name in (
        ("SK_SKB", "BPF_SK_SKB_STREAM_PARSER"),
        ("SK_SKB", "BPF_SK_SKB_STREAM_VERDICT"),
        ("SK_SKB", "BPF_SK_SKB_VERDICT"),
        ("SK_MSG", "BPF_SK_MSG_VERDICT"),
    ):
        number = getattr(C, name)
        fd, other = (q.call(*table(q, "SOCKMAP", {"value_size": 4}), opaque=True) for _ in range(2))
        prog = q.call(*program(q, kind, leave(1), number), opaque=True)
        q.ask(f"attach.{name}", *attach(q, fd, prog, number), needs=(fd, prog))
        q.ask(f"link.{name}", *link(q, other, prog, number), needs=(other, prog), opaque=True)
    return q.probes()


def _tracing() -> tuple[Probe, ...]:
    """Tracepoints, functions of the kernel and of programs, and counters."""
    q = questions()
    traced = q.call(*program(q, "RAW_TRACEPOINT"), opaque=True)
    for name in ("task_newtask", "sched_process_exec", "nosuch"):
        q.ask(f"raw_tracepoint.{name}", *_opened(q, traced, name), needs=(traced,), opaque=True)
    clock = {"type": C.PERF_TYPE_SOFTWARE, "size": 112, "config": C.PERF_COUNT_SW_CPU_CLOCK}
    counter = q.array("struct perf_event_attr", [clock])
    event = q.call("perf_event_open", counter, 0, -1, -1, 0, opaque=True)
    prog = q.call(*program(q, "PERF_EVENT"), opaque=True)
    set_ = (event, C.PERF_EVENT_IOC_SET_BPF, prog)
    q.ask("perf_event.PERF_EVENT_IOC_SET_BPF", "ioctl", *set_, needs=(event, prog))
    other = q.call("perf_event_open", counter, 0, -1, -1, 0, opaque=True)
    made = link(q, other, prog, C.BPF_PERF_EVENT)
    q.ask("link.BPF_PERF_EVENT", *made, needs=(other, prog), opaque=True)
    symbols = patched(q.buffer(8), (0, 8, q.string(_SYMBOL)))
    for name in ("BPF_TRACE_KPROBE_MULTI", "BPF_TRACE_KPROBE_SESSION"):
        fields: dict[str, Value] = {"kprobe_multi.cnt": 1, "kprobe_multi.syms": symbols}
        _linked(q, name, fields)
    # a file that nobody runs
    path = q.string("file")
    file = q.call("openat", C.AT_FDCWD, path, C.O_CREAT | C.O_RDWR, 0o755, opaque=True)
    q.call("write", file, q.content(b"\x90" * _PAGE), _PAGE)
    offsets = q.content(bytes(8))
    for name in ("BPF_TRACE_UPROBE_MULTI", "BPF_TRACE_UPROBE_SESSION"):
        fields = {"uprobe_multi.cnt": 1, "uprobe_multi.path": path, "uprobe_multi.offsets": offsets}
        _linked(q, name, fields)
    return q.probes()


def _linked(q: Questions, name: str, fields: dict[str, Value]) -> None:
    number = getattr(C, name)
    prog = q.call(*program(q, "KPROBE", leave(0), number), opaque=True)
    q.ask(f"link.{name}", *link(q, 0, prog, number, fields), needs=(prog,), opaque=True)


def _opened(q: Questions, prog: Ref, name: str) -> Asked:
    point = {"raw_tracepoint.prog_fd": prog}
    named = point | {"raw_tracepoint.name": q.string(name)} if name else point
    return command(q, "BPF_RAW_TRACEPOINT_OPEN", named)


def _programs() -> tuple[Probe, ...]:
    """Programs that trace another program, or take the place of a function of it."""
    q = questions()
    context = Described("STRUCT", "__sk_buff")
    takes_it = Described("FUNC_PROTO", "", 1, 1, rest=("context", 3))
    own = (INT, context, Described("PTR", size=2), takes_it, replace(MAIN, size=4))
    number = len(own)
    types: dict[str, Value] = {
        "prog_btf_fd": q.call(*loaded(q, btf(*own)), opaque=True),
        "func_info": q.content(words(0, number)),
        "func_info_cnt": 1,
        "func_info_rec_size": 8,
    }
    for kind, name in (
        ("TRACING", "BPF_TRACE_FENTRY"),
        ("TRACING", "BPF_TRACE_FEXIT"),
        ("EXT", ""),
    ):
        place = getattr(C, name) if name else 0
        key = f"program.{kind}.{name}" if name else f"program.{kind}"
        target = q.call(*program(q, "SCHED_CLS", leave(1), more=types), opaque=True)
        aim: dict[str, Value] = {"attach_prog_fd": target, "attach_btf_id": number}
        asked = program(q, kind, leave(0), place, more=types | aim)
        prog = q.ask(key, *asked, needs=(target,), opaque=True)
        done = q.ask(f"{key}.attach", *_opened(q, prog, ""), needs=(prog,), opaque=True)
        q.call("close", done)
        # one that was attached has forgotten what it was made for
        other = q.call(*asked, opaque=True)
        made = link(q, 0, other, place)
        q.ask(f"{key}.link", *made, needs=(other,), opaque=True)
    return q.probes()
