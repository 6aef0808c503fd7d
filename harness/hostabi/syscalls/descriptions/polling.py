"""Waiting for events, without waiting: poll(2), epoll(7), inotify(7), fanotify(7)."""

from __future__ import annotations

import struct as packing

from hostabi.syscalls.descriptions.arguments import fd, flags, just, path, pick, takes
from hostabi.syscalls.descriptions.memory import Maybe, Null, Room, out, raw, rows, struct
from hostabi.syscalls.descriptions.model import Description, Kind, Makes, describe
from hostabi.syscalls.table import C

_TIMEOUT = pick("timeout", 0, 1, odd=())
_NO_WAIT = raw("tsp", bytes(16), packing.pack("<2Q", 0, 1000))
_MASK = Maybe(raw("sigmask", (1 << C.SIGUSR1 - 1).to_bytes(8, "little"), bytes(8)))
_SIZE = pick("sigsetsize", 8, odd=(4,))
_EVENTS = pick("events", C.POLLIN, C.POLLIN | C.POLLOUT, 0, odd=(0x7FFF, -1))
_POLLED = rows("ufds", "nfds", "struct pollfd", kept=True, fd=fd("fd"), events=_EVENTS)
_WATCHED = (
    Kind.READER, Kind.EVENT, Kind.WRITER, Kind.PAIRED, Kind.TIMER, Kind.SIGNALS,
    Kind.INOTIFY, Kind.DATAGRAM, Kind.PROCESS,
)  # fmt: skip
_ONE = (
    C.EPOLLIN,
    C.EPOLLIN | C.EPOLLOUT,
    C.EPOLLIN | C.EPOLLET,
    C.EPOLLIN | C.EPOLLONESHOT,
    C.EPOLLIN | C.EPOLLEXCLUSIVE,
)
_EVENT = struct("event", "struct epoll_event", events=flags("events", "EPOLL", usual=_ONE), data=7)
_EVENTS_OUT = out("events", "struct epoll_event", 8)
_SOME = pick("maxevents", 8, 1, odd=(0, -1))
_WATCH = (
    C.IN_MODIFY,
    C.IN_OPEN | C.IN_CLOSE,
    C.IN_CREATE | C.IN_DELETE,
    C.IN_ATTRIB | C.IN_ONESHOT,
)
_NAMES = (Kind.FILE_NAME, Kind.FOLDER_NAME)
_SETS = tuple((1 << bit).to_bytes(8, "little") + bytes(120) for bit in (0, 3, 4))
_FAN = (C.FAN_CLASS_NOTIF | C.FAN_NONBLOCK, C.FAN_CLASS_NOTIF | C.FAN_NONBLOCK | C.FAN_REPORT_FID)
_FAN_EVENTS = flags("mask", "FAN_", usual=(C.FAN_MODIFY, C.FAN_OPEN | C.FAN_CLOSE_WRITE), width=64)


DESCRIPTIONS: tuple[Description, ...] = (
    describe("poll", _POLLED, _TIMEOUT),
    describe("ppoll", _POLLED, _NO_WAIT, _MASK, _SIZE),
    describe(
        "select",
        pick("n", 8, 1, 0, odd=(-1,)),
        Maybe(raw("inp", *_SETS, kept=True)),
        Maybe(raw("outp", *_SETS, kept=True)),
        Null("exp"),
        raw("tvp", bytes(16)),
    ),
    describe(
        "pselect6",
        pick("n", 8, 1, 0, odd=(-1,)),
        Maybe(raw("inp", *_SETS, kept=True)),
        Maybe(raw("outp", *_SETS, kept=True)),
        Null("exp"),
        _NO_WAIT,
        Null("sig"),
    ),
    describe(
        "epoll_create1",
        flags("flags", "EPOLL_CLOEXEC", usual=(0, C.EPOLL_CLOEXEC)),
        makes=Kind.EPOLL,
    ),
    describe("epoll_create", pick("size", 1, 100, odd=(0, -1)), makes=Kind.EPOLL),
    describe(
        "epoll_ctl",
        fd("epfd", Kind.EPOLL),
        pick("op", C.EPOLL_CTL_ADD, C.EPOLL_CTL_MOD, C.EPOLL_CTL_DEL, odd=(0, 4)),
        fd("fd", *_WATCHED),
        _EVENT,
    ),
    describe("epoll_wait", fd("epfd", Kind.EPOLL), _EVENTS_OUT, _SOME, _TIMEOUT),
    describe("epoll_pwait", fd("epfd", Kind.EPOLL), _EVENTS_OUT, _SOME, _TIMEOUT, _MASK, _SIZE),
    describe(
        "epoll_pwait2",
        fd("epfd", Kind.EPOLL),
        _EVENTS_OUT,
        _SOME,
        raw("timeout", bytes(16)),
        _MASK,
        _SIZE,
    ),
    describe("inotify_init", makes=()),
    describe(
        "inotify_init1",
        flags("flags", "IN_CLOEXEC", usual=(C.IN_NONBLOCK, C.IN_NONBLOCK | C.IN_CLOEXEC)),
        makes=Kind.INOTIFY,
    ),
    describe(
        "inotify_add_watch",
        fd("fd", Kind.INOTIFY),
        path("pathname", *_NAMES),
        flags("mask", "IN_", usual=_WATCH, ignored=True),
        makes=Kind.WATCH,
    ),
    describe(
        "inotify_rm_watch",
        fd("fd", Kind.INOTIFY),
        takes("wd", Kind.WATCH, ends=True),
        makes=(Makes(Kind.EVENTFUL, of="fd", besides=True),),  # IN_IGNORED, inotify(7)
    ),
    describe(
        "read.events",
        fd("fd", Kind.EVENTFUL, Kind.INOTIFY, Kind.SIGNALS, Kind.FANOTIFY),
        # what is read has numbers of the machine's: pids, cookies, descriptors
        Room("buf", "count", (4096, 1, 0), kept=False),
    ),
    describe(
        "fanotify_init",
        flags("flags", "FAN_", usual=_FAN),
        flags("event_f_flags", "O_", usual=(C.O_RDONLY, C.O_RDWR | C.O_CLOEXEC)),
        makes=Kind.FANOTIFY,
        privilege="CAP_SYS_ADMIN",
    ),
    describe(
        "fanotify_mark",
        fd("fanotify_fd", Kind.FANOTIFY),
        flags("flags", "FAN_MARK_", usual=(C.FAN_MARK_ADD, C.FAN_MARK_REMOVE, C.FAN_MARK_FLUSH)),
        _FAN_EVENTS,
        just("dfd", C.AT_FDCWD),
        path("pathname", *_NAMES),
    ),
)
