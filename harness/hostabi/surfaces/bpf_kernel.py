"""BPF programs of the kernel's own functions, which its types name (kernel: bpf/btf.rst).

The numbers of types differ from build to build, so that a program for one kernel shows
nothing on another: there are no reproducers of these.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind
from hostabi.surfaces.bpf_calls import Asked, Fields, command, link, program, questions, run
from hostabi.surfaces.bpf_instructions import call, leave
from hostabi.surfaces.bpf_maps import made
from hostabi.surfaces.cgroup2_probes import TOP
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import patched, words
from hostabi.syscalls.builder import Value
from hostabi.syscalls.table import C

_FUNCTION = "__x64_sys_getsid"
_TRACEPOINT = "btf_trace_task_newtask"
_HOOK = "bpf_lsm_file_open"
_ITERATORS = (
    "task",
    "task_file",
    "task_vma",
    "bpf_map",
    "bpf_map_elem",
    "bpf_prog",
    "bpf_link",
    "bpf_sk_storage_map",
    "cgroup",
    "dmabuf",
    "ipv6_route",
    "kmem_cache",
    "ksym",
    "netlink",
    "sockmap",
    "tcp",
    "udp",
    "unix",
)
"""Things that can be gone through; that of ``NAME`` is the function ``bpf_iter_NAME``."""
_OF_MAPS = {"bpf_map_elem": "HASH", "bpf_sk_storage_map": "SK_STORAGE", "sockmap": "SOCKMAP"}
"""Those that go through one map, and its type."""
_CALLS = (
    ("bpf_rcu_read_lock", "bpf_rcu_read_unlock"),
    ("bpf_preempt_disable", "bpf_preempt_enable"),
    ("bpf_cast_to_kern_ctx",),
)
"""Functions that a program calls one after another, with its context or nothing."""
_PACKET = 64


def of_functions(types: Btf) -> Iterator[Probe]:
    """All questions about functions and hooks that ``types`` names."""
    yield from _traced(types)
    yield from _iterators(types)
    yield from _called(types)


def _traced(types: Btf) -> tuple[Probe, ...]:
    """Programs that are attached to a function, a tracepoint and a hook, and do nothing."""
    q = questions()
    for kind, name, what in (
        ("TRACING", "BPF_TRACE_FENTRY", _FUNCTION),
        ("TRACING", "BPF_TRACE_FEXIT", _FUNCTION),
        ("TRACING", "BPF_MODIFY_RETURN", _FUNCTION),
        ("TRACING", "BPF_TRACE_FSESSION", _FUNCTION),
        ("TRACING", "BPF_TRACE_RAW_TP", _TRACEPOINT),
        ("LSM", "BPF_LSM_MAC", _HOOK),
    ):
        numbers = types.named(Kind.TYPEDEF if what == _TRACEPOINT else Kind.FUNCTION, what)
        if numbers:
            key = f"kernel.{name}"
            prog = q.ask(key, *_of(q, kind, name, numbers[0]), opaque=True)
            opened = command(q, "BPF_RAW_TRACEPOINT_OPEN", {"raw_tracepoint.prog_fd": prog})
            done = q.ask(f"{key}.attach", *opened, needs=(prog,), opaque=True)
            q.call("close", done)
            q.call("close", prog)
    return q.probes()


def _of(q: Questions, kind: str, name: str, number: int) -> Asked:
    return program(q, kind, leave(0), getattr(C, name), more={"attach_btf_id": number})


def _iterators(types: Btf) -> tuple[Probe, ...]:
    """What can be gone through, and read as a file (kernel: bpf/bpf_iterators.rst)."""
    q = questions()
    for name in _ITERATORS:
        numbers = types.named(Kind.FUNCTION, f"bpf_iter_{name}")
        if not numbers:
            continue
        prog = q.call(*_of(q, "TRACING", "BPF_TRACE_ITER", numbers[0]), opaque=True)
        linked = q.call(*link(q, 0, prog, C.BPF_TRACE_ITER, _what(q, name)), opaque=True)
        asked = command(q, "BPF_ITER_CREATE", {"iter_create.link_fd": linked})
        q.ask(f"iterator.{name}", *asked, needs=(prog, linked), opaque=True)
    return q.probes()


def _what(q: Questions, name: str) -> Fields:
    """What is gone through, union bpf_iter_link_info, where it is one of several."""
    if name == "cgroup":
        fd = q.call("openat", C.AT_FDCWD, q.string(TOP), C.O_RDONLY | C.O_DIRECTORY, opaque=True)
        info = patched(q.content(words(C.BPF_CGROUP_ITER_SELF_ONLY, 0, 0, 0)), (4, 4, fd))
    elif name in _OF_MAPS:
        info = patched(q.content(bytes(4)), (0, 4, made(q, _OF_MAPS[name])))
    else:
        return {}
    return {"iter_info": info, "iter_info_len": info.size}


def _called(types: Btf) -> tuple[Probe, ...]:
    """Functions of the kernel that a program calls."""
    q = questions()
    packet = q.content(bytes(_PACKET))
    data: dict[str, Value] = {"data_in": packet, "data_size_in": packet.size}
    for names in _CALLS:
        numbers = [number for name in names for number in types.named(Kind.FUNCTION, name)[:1]]
        if len(numbers) == len(names):
            code = [call(number, C.BPF_PSEUDO_KFUNC_CALL) for number in numbers]
            prog = q.call(*program(q, "SCHED_CLS", [*code, *leave(3)]), opaque=True)
            run(q, f"kfunc.{names[0]}", prog, 3, data)
    return q.probes()
