"""Programs, maps, types and links as things: what is told of them, and where they are kept."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.surfaces.bpf_btf import INT, btf, loaded
from hostabi.surfaces.bpf_calls import (
    Asked,
    Fields,
    ask_within,
    command,
    number,
    part,
    place,
    program,
    questions,
    table,
)
from hostabi.surfaces.bpf_filters import programs
from hostabi.surfaces.bpf_instructions import leave
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

_INFO = 1024
"""Bytes of room for what is told of a thing."""
_TRACEPOINT = "task_newtask"
_MNT_DETACH = 2
_PACKET = 64


def commands() -> Iterator[Probe]:
    """Commands that everybody can try, each with what it needs."""
    q = questions()
    asked: tuple[tuple[str, Asked], ...] = (
        ("BPF_MAP_CREATE", table(q, "ARRAY")),
        ("BPF_PROG_LOAD", program(q, "SOCKET_FILTER")),
        ("BPF_BTF_LOAD", loaded(q, btf(INT))),
        ("BPF_ENABLE_STATS", command(q, "BPF_ENABLE_STATS", {})),
    )
    for name, call in asked:
        q.ask(f"command.{name}", *call, opaque=True)
    for kind in ("PROG", "MAP", "BTF", "LINK"):
        following = command(q, f"BPF_{kind}_GET_NEXT_ID", {})
        # there need not be any
        q.ask(f"command.BPF_{kind}_GET_NEXT_ID", *following, fine=("ENOENT",))
        wanted = command(q, f"BPF_{kind}_GET_FD_BY_ID", {"start_id": 0x7FFFFFFF})
        q.ask(f"command.BPF_{kind}_GET_FD_BY_ID", *wanted, fine=("ENOENT",), opaque=True)
    nowhere = command(q, "BPF_OBJ_GET", {"pathname": q.string("nowhere")})
    q.ask("command.BPF_OBJ_GET", *nowhere, fine=("ENOENT",), opaque=True)
    yield from q.probes()


def tokens() -> Iterator[Probe]:
    """BPF_TOKEN_CREATE on a file system that delegates nothing."""
    q = questions(namespaces=C.CLONE_NEWNS)
    kind, here = q.string("bpf"), q.string("bpf")
    q.call("mkdir", here, 0o755)
    q.need("mount", kind, here, kind, 0, 0)
    fd = q.need("openat", C.AT_FDCWD, here, C.O_RDONLY | C.O_DIRECTORY, opaque=True)
    made = command(q, "BPF_TOKEN_CREATE", {"token_create.bpffs_fd": fd})
    # known, and of no use to who needs no token
    q.ask("command.BPF_TOKEN_CREATE", *made, fine=("EOPNOTSUPP",), opaque=True)
    yield from q.probes()


def objects() -> Iterator[Probe]:
    """Questions about things that were made."""
    yield from _told()
    yield from _pinned()
    yield from _within()


def _made(q: Questions) -> dict[str, Ref]:
    """One thing of each kind."""
    things = {
        "prog": q.call(*program(q, "SOCKET_FILTER"), opaque=True),
        "map": q.call(*table(q, "ARRAY"), opaque=True),
        "btf": q.call(*loaded(q, btf(INT)), opaque=True),
    }
    traced = q.call(*program(q, "RAW_TRACEPOINT"), opaque=True)
    things["link"] = q.call(*_opened(q, traced), opaque=True)
    return things


def _opened(q: Questions, prog: Ref) -> Asked:
    name = q.string(_TRACEPOINT)
    fields: Fields = {"raw_tracepoint.name": name, "raw_tracepoint.prog_fd": prog}
    return command(q, "BPF_RAW_TRACEPOINT_OPEN", fields)


def _told() -> tuple[Probe, ...]:
    """What is told of each kind of thing, by descriptor and by number."""
    q = questions()
    things = _made(q)
    for kind, fd in things.items():
        told = _info(q, fd, _INFO)
        length = part(told, "info.info_len")
        q.ask(f"info.{kind}", *_info(q, fd, _INFO), needs=(fd,))
        q.ask(f"info.{kind}#{keys.SIZE}", *told, needs=(fd,), read=number(length), out=[length])
    for kind, fd in things.items():
        following = command(q, f"BPF_{kind.upper()}_GET_NEXT_ID", {})
        key = f"id.{kind}"
        found = q.ask(f"{key}.next", *following, needs=(fd,))
        last = part(following, "next_id").word()
        wanted = command(q, f"BPF_{kind.upper()}_GET_FD_BY_ID", {"start_id": last})
        q.ask(f"{key}.open", *wanted, needs=(fd, found), opaque=True)
    fields: dict[str, Value] = {"task_fd_query.fd": things["link"]}
    fields["task_fd_query.pid"] = q.call("getpid", opaque=True)
    text = q.buffer(64)
    fields |= {"task_fd_query.buf": text, "task_fd_query.buf_len": text.size}
    asked = command(q, "BPF_TASK_FD_QUERY", fields)
    q.ask("command.BPF_TASK_FD_QUERY", *asked, needs=(things["link"],))
    bound: Fields = {"prog_bind_map.prog_fd": things["prog"], "prog_bind_map.map_fd": things["map"]}
    q.ask("command.BPF_PROG_BIND_MAP", *command(q, "BPF_PROG_BIND_MAP", bound))
    stream: Fields = {
        "prog_stream_read.prog_fd": things["prog"],
        "prog_stream_read.stream_buf": text,
        "prog_stream_read.stream_buf_len": text.size,
        "prog_stream_read.stream_id": C.BPF_STREAM_STDOUT,
    }
    q.ask("command.BPF_PROG_STREAM_READ_BY_FD", *command(q, "BPF_PROG_STREAM_READ_BY_FD", stream))
    programs(q)
    return q.probes()


def _info(q: Questions, fd: Ref, size: int) -> Asked:
    fields: Fields = {"info.bpf_fd": fd, "info.info_len": size, "info.info": q.buffer(size)}
    return command(q, "BPF_OBJ_GET_INFO_BY_FD", fields)


def _pinned() -> tuple[Probe, ...]:
    """Things that are kept in a file system of their own, and gone with it."""
    q = questions(namespaces=C.CLONE_NEWNS)
    type_, here = q.string("bpf"), q.string("bpf")
    q.call("mkdir", here, 0o755)
    things = _made(q)
    outside = _pin(q, things["map"], "outside")
    q.ask("pin.outside", *outside, needs=(things["map"],))
    q.need("mount", type_, here, type_, 0, 0)
    for kind, fd in things.items():
        key, path = f"pin.{kind}", f"bpf/{kind}"
        pinned = q.ask(key, *_pin(q, fd, path), needs=(fd,))
        got = command(q, "BPF_OBJ_GET", {"pathname": q.string(path)})
        q.ask(f"{key}.get", *got, needs=(fd, pinned), opaque=True)
    again = _pin(q, things["map"], "bpf/map")
    q.ask("pin.map.again", *again, needs=(things["map"],))
    q.ask("pin.name.dot", *_pin(q, things["map"], "bpf/a.b"), needs=(things["map"],))
    for flag in ("BPF_F_RDONLY", "BPF_F_WRONLY"):
        fields: Fields = {"pathname": q.string("bpf/map"), "file_flags": getattr(C, flag)}
        got = command(q, "BPF_OBJ_GET", fields)
        q.ask(f"pin.map.get.{flag}", *got, needs=(things["map"],), opaque=True)
    folder = q.call("openat", C.AT_FDCWD, here, C.O_PATH, opaque=True)
    fields = {"pathname": q.string("map"), "file_flags": C.BPF_F_PATH_FD, "path_fd": folder}
    q.ask("pin.map.get.BPF_F_PATH_FD", *command(q, "BPF_OBJ_GET", fields), opaque=True)
    q.ask("bpffs.mkdir", "mkdir", q.string("bpf/folder"), 0o755)
    q.ask("bpffs.symlink", "symlink", q.string("map"), q.string("bpf/link2"))
    q.ask("bpffs.link", "link", q.string("bpf/map"), q.string("bpf/map2"))
    q.ask("bpffs.rename", "rename", q.string("bpf/map"), q.string("bpf/map3"))
    q.ask("bpffs.unlink", "unlink", q.string("bpf/map3"))
    q.call("umount2", here, _MNT_DETACH)
    return q.probes()


def _pin(q: Questions, fd: Ref, path: str) -> Asked:
    return command(q, "BPF_OBJ_PIN", {"pathname": q.string(path), "bpf_fd": fd})


def _within() -> tuple[Probe, ...]:
    """Commands that write into what they are given leave alone what comes after it.

    Each is given no more than the oldest of its fields that it writes.
    """
    q = questions()
    things = _made(q)
    packet = q.content(bytes(_PACKET))
    run: Fields = {
        "test.prog_fd": things["prog"],
        "test.data_in": packet,
        "test.data_size_in": packet.size,
    }
    for name, asked, last in (
        ("BPF_PROG_LOAD", program(q, "SOCKET_FILTER", leave(1)), "expected_attach_type"),
        ("BPF_BTF_LOAD", loaded(q, btf(INT)), "btf_log_level"),
        ("BPF_PROG_TEST_RUN", command(q, "BPF_PROG_TEST_RUN", run), "test.duration"),
        ("BPF_OBJ_GET_INFO_BY_FD", _info(q, things["map"], 16), "info.info"),
        ("BPF_MAP_GET_NEXT_ID", command(q, "BPF_MAP_GET_NEXT_ID", {}), "next_id"),
    ):
        at, size = place(last)
        ask_within(q, f"within.{name}", asked, at + size)
    return q.probes()
