"""Asynchronous input and output: io_uring(7) and io_submit(2)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, pick, takes
from hostabi.syscalls.descriptions.memory import Null, out, raw, struct
from hostabi.syscalls.descriptions.model import Argument, Description, Kind, Makes, describe
from hostabi.syscalls.descriptions.values import Control
from hostabi.syscalls.table import C

_RING = fd("fd", Kind.RING, Kind.LOADED, Kind.NOTIFYING)
_SETUP = flags(
    "flags",
    "IORING_SETUP_CLAMP",
    "IORING_SETUP_R_DISABLED",
    "IORING_SETUP_SUBMIT_ALL",
    "IORING_SETUP_SINGLE_ISSUER",
    usual=(0, C.IORING_SETUP_CLAMP, C.IORING_SETUP_R_DISABLED),
)
_CONTEXT = takes("ctx_id", Kind.CONTEXT_AIO, odd=(1, -1))


def _register(
    name: str,
    argument: Argument,
    count: Argument,
    ring: Argument = _RING,
    makes: Kind | None = None,
) -> Description:
    """One operation of io_uring_register(2), named by its constant."""
    number: int = getattr(C, f"IORING_{name}")
    left = (Makes(makes, of="fd"),) if makes else ()
    return describe(
        f"io_uring_register.{name}", ring, just("opcode", number), argument, count, makes=left
    )


DESCRIPTIONS: tuple[Description, ...] = (
    describe(
        "io_uring_setup",
        pick("entries", 4, 1, 32, odd=(0, 1 << 20)),
        struct("p", "struct io_uring_params", flags=_SETUP, written=True),
        makes=Kind.RING,
    ),
    describe(
        "io_uring_enter",
        _RING,
        pick("to_submit", 0, 1),
        just("min_complete", 0),
        flags("flags", "IORING_ENTER_SQ_WAIT", usual=(0, C.IORING_ENTER_GETEVENTS)),
        Null("argp"),
        just("argsz", 0),
    ),
    _register("REGISTER_PROBE", raw("arg", bytes(16 + 8 * 64), written=True), just("nr_args", 64)),
    _register(
        "REGISTER_EVENTFD",
        struct("arg", "struct iovec", iov_base=fd("eventfd", Kind.EVENT)),
        just("nr_args", 1),
        makes=Kind.NOTIFYING,
    ),
    _register("UNREGISTER_EVENTFD", Null("arg"), just("nr_args", 0), fd("fd", Kind.NOTIFYING)),
    _register(
        "REGISTER_FILES",
        struct("arg", "struct iovec", iov_base=fd("file", Kind.FILE)),
        just("nr_args", 1),
        makes=Kind.LOADED,
    ),
    _register("UNREGISTER_FILES", Null("arg"), just("nr_args", 0), fd("fd", Kind.LOADED)),
    _register("REGISTER_PERSONALITY", Null("arg"), just("nr_args", 0)),
    _register("REGISTER_ENABLE_RINGS", Null("arg"), just("nr_args", 0)),
    describe(
        "io_setup",
        pick("nr_events", 4, 1, odd=(0,)),
        raw("ctxp", bytes(8), written=True),
        makes=(Makes(Kind.CONTEXT_AIO, out="ctxp", width=8),),
    ),
    describe("io_destroy", takes("ctx", Kind.CONTEXT_AIO, ends=True, odd=(1,))),
    describe("io_submit", _CONTEXT, pick("nr", 1, 0), Control("iocbpp")),
    describe(
        "io_getevents",
        _CONTEXT,
        just("min_nr", 0),
        pick("nr", 4, 0),
        out("events", "struct io_event", 4, kept=False),
        raw("timeout", bytes(16)),
    ),
    describe(
        "io_pgetevents",
        _CONTEXT,
        just("min_nr", 0),
        pick("nr", 4, 0),
        out("events", "struct io_event", 4, kept=False),
        raw("timeout", bytes(16)),
        Null("usig"),
    ),
    describe(
        "io_cancel",
        _CONTEXT,
        raw("iocb", packing.pack("<QII", 0, 0, 0).ljust(64, b"\0")),
        out("result", "struct io_event", kept=False),
        unsuccessful="what a program submits has ended before it could be cancelled",
    ),
)
