"""What can be registered with a ring: io_uring_register(2), each with arguments that fit."""

from __future__ import annotations

from hostabi.surfaces.io_uring_rings import PARAMETERS
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import patched, together, words
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C

_PAGE = 4096
_SPARSE = C.IORING_RSRC_REGISTER_SPARSE

_Asked = tuple[tuple[str, Value, Value], ...]
"""Opcode, what it is given, and how many of it or how large it is."""


def registers() -> tuple[Probe, ...]:
    """Each opcode; those that undo another one come after it."""
    q = Questions(arena=1 << 17, timeout=5.0)
    ring = q.need("io_uring_setup", 8, q.buffer(PARAMETERS), opaque=True)
    asked = (*_rings(q, ring), *_memory(q), *_files(q), *_events(q), *_workers(q))
    for name, argument, count in asked:
        _ask(q, ring, name, argument, count)
    _resized(q)
    _cloned(q)
    q.ask("register.no-such-opcode", "io_uring_register", ring, 200, 0, 0)
    return q.probes()


def _ask(q: Questions, ring: Ref, name: str, argument: Value, count: Value) -> None:
    key, where = f"register.IORING_{name}", (ring, getattr(C, f"IORING_{name}"), argument, count)
    # there is nothing to cancel
    fine = ("ENOENT",) if name == "REGISTER_SYNC_CANCEL" else ()
    q.ask(key, "io_uring_register", *where, fine=fine, opaque=True)


def _resized(q: Questions) -> None:
    """Rings that change their size have to be of one thread, which does its own work."""
    flags = C.IORING_SETUP_DEFER_TASKRUN | C.IORING_SETUP_SINGLE_ISSUER
    ring = q.call("io_uring_setup", 8, patched(q.buffer(PARAMETERS), (8, 4, flags)), opaque=True)
    larger = patched(q.buffer(PARAMETERS), (0, 4, 16), (4, 4, 32))
    where = (ring, C.IORING_REGISTER_RESIZE_RINGS, larger, 1)
    q.ask("register.IORING_REGISTER_RESIZE_RINGS", "io_uring_register", *where, needs=(ring,))


def _memory(q: Questions) -> _Asked:
    room = q.buffer(2 * _PAGE)
    page = room.at(-room.offset % _PAGE, _PAGE)
    vector = q.array("struct iovec", [{"iov_base": page, "iov_len": _PAGE}])
    sparse = q.struct("struct io_uring_rsrc_register", nr=2, flags=_SPARSE)
    tags = q.content(bytes(8))
    update = q.struct("struct io_uring_rsrc_update2", data=vector, tags=tags, nr=1)
    group = q.struct("struct io_uring_buf_reg", ring_addr=page, ring_entries=8, bgid=3)
    status = q.struct("struct io_uring_buf_status", buf_group=3)
    gone = q.struct("struct io_uring_buf_reg", bgid=3)
    kind = C.IORING_MEM_REGION_TYPE_USER
    region = q.struct("struct io_uring_region_desc", user_addr=page, size=_PAGE, flags=kind)
    memory = q.struct("struct io_uring_mem_region_reg", region_uptr=region)
    return (
        ("REGISTER_BUFFERS", vector, 1),
        ("UNREGISTER_BUFFERS", 0, 0),
        ("REGISTER_BUFFERS2", sparse, sparse.size),
        ("REGISTER_BUFFERS_UPDATE", together(update, vector), update.size),
        ("REGISTER_PBUF_RING", group, 1),
        ("REGISTER_PBUF_STATUS", status, 1),
        ("UNREGISTER_PBUF_RING", gone, 1),
        ("REGISTER_MEM_REGION", together(memory, region), 1),
    )


def _files(q: Questions) -> _Asked:
    fds = q.content(words(0, -1))
    update = q.struct("struct io_uring_files_update", fds=fds)
    sparse = q.struct("struct io_uring_rsrc_register", nr=4, flags=_SPARSE)
    again = q.struct("struct io_uring_rsrc_update2", data=fds, nr=1)
    return (
        ("REGISTER_FILES", fds, 2),
        ("REGISTER_FILES_UPDATE", update, 1),
        ("UNREGISTER_FILES", 0, 0),
        ("REGISTER_FILES2", sparse, sparse.size),
        ("REGISTER_FILES_UPDATE2", again, again.size),
        ("REGISTER_FILE_ALLOC_RANGE", q.struct("struct io_uring_file_index_range", len=2), 0),
    )


def _events(q: Questions) -> _Asked:
    fd = q.call("eventfd2", 0, 0)
    event = patched(q.content(bytes(4)), (0, 4, fd))
    cancel = q.struct("struct io_uring_sync_cancel_reg", addr=99, fd=-1)
    never = patched(cancel, (16, 8, -1), (24, 8, -1))
    return (
        ("REGISTER_EVENTFD", event, 1),
        ("UNREGISTER_EVENTFD", 0, 0),
        ("REGISTER_EVENTFD_ASYNC", event, 1),
        ("REGISTER_PERSONALITY", 0, 0),
        ("UNREGISTER_PERSONALITY", 0, 1),
        ("REGISTER_SYNC_CANCEL", never, 1),
        ("REGISTER_CLOCK", q.struct("struct io_uring_clock_register", clockid=1), 0),
    )


def _workers(q: Questions) -> _Asked:
    napi = q.struct("struct io_uring_napi", busy_poll_to=1)
    return (
        ("REGISTER_IOWQ_AFF", q.content(words(1, size=8)), 8),
        ("UNREGISTER_IOWQ_AFF", 0, 0),
        ("REGISTER_IOWQ_MAX_WORKERS", q.content(bytes(8)), 2),
        ("REGISTER_NAPI", napi, 1),
        ("UNREGISTER_NAPI", napi, 1),
    )


def _rings(q: Questions, ring: Ref) -> _Asked:
    own = q.struct("struct io_uring_rsrc_update", offset=-1 & 0xFFFFFFFF, data=ring)
    given = q.struct("struct io_uring_rsrc_update", offset=0)
    return (
        ("REGISTER_RING_FDS", own, 1),
        ("UNREGISTER_RING_FDS", given, 1),
        ("REGISTER_QUERY", _query(q), 0),
        ("REGISTER_ENABLE_RINGS", 0, 0),
        ("REGISTER_ZCRX_IFQ", 0, 0),
        ("REGISTER_ZCRX_CTRL", 0, 0),
        ("REGISTER_BPF_FILTER", 0, 0),
    )


def _cloned(q: Questions) -> None:
    """Buffers of another ring."""
    ring, other = (q.call("io_uring_setup", 8, q.buffer(PARAMETERS), opaque=True) for _ in range(2))
    lent = q.array("struct iovec", [{"iov_base": q.buffer(64), "iov_len": 64}])
    q.call("io_uring_register", other, C.IORING_REGISTER_BUFFERS, lent, 1)
    clone = q.struct("struct io_uring_clone_buffers", src_fd=other)
    where = (ring, C.IORING_REGISTER_CLONE_BUFFERS, clone, 1)
    key = "register.IORING_REGISTER_CLONE_BUFFERS"
    q.ask(key, "io_uring_register", *where, needs=(ring, other))


def _query(q: Questions) -> Slot:
    """How many opcodes there are, struct io_uring_query_opcode."""
    data = q.buffer(64)
    return q.struct("struct io_uring_query_hdr", query_data=data, query_op=0, size=64)
