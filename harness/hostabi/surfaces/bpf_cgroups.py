"""BPF programs of control groups: where they are attached, how they stand together, what they stop.

Each program of calls makes groups of its own below :data:`TOP` and removes them again.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.surfaces.bpf_calls import (
    MARK,
    Asked,
    Fields,
    ask_within,
    attach,
    command,
    detach,
    link,
    number,
    part,
    place,
    program,
    questions,
    untouched,
)
from hostabi.surfaces.bpf_instructions import leave
from hostabi.surfaces.bpf_types import CGROUP
from hostabi.surfaces.cgroup2_probes import TOP
from hostabi.surfaces.cgroup_writes import tell
from hostabi.surfaces.probing import Probe, Questions
from hostabi.surfaces.slots import inout, patched, words
from hostabi.syscalls.builder import Ref, Value
from hostabi.syscalls.table import C

_GROUP = f"{TOP}/hostabi-bpf"
_PORT = 4711
_ALWAYS = ("RECVMSG", "PEERNAME", "SOCKNAME", "RELEASE", "SOCK_OPS")
"""Where a program may not say no, or nobody would hear it."""
_DEVICE, _INGRESS = "BPF_CGROUP_DEVICE", "BPF_CGROUP_INET_INGRESS"


def cgroups() -> Iterator[Probe]:
    """All questions."""
    yield from _attached()
    yield from _denied()
    yield from _flags()
    yield from _together()
    yield from _queried()


def _group(q: Questions, name: str) -> Ref:
    """A group with this process in it; a descriptor of its folder."""
    path = f"{_GROUP}-{name}"
    q.need("mkdir", q.string(path), 0o755)
    fd = q.need("openat", C.AT_FDCWD, q.string(path), C.O_RDONLY | C.O_DIRECTORY, opaque=True)
    tell(q, f"{path}/cgroup.procs", "0")
    return fd


def _remove(q: Questions, *names: str) -> None:
    tell(q, f"{TOP}/cgroup.procs", "0")
    for name in names:
        q.call("rmdir", q.string(f"{_GROUP}-{name}"))


def _made(q: Questions, name: str, answer: int = 1) -> Ref:
    """A program for an attach type that says yes (1) or no (0)."""
    asked = program(q, CGROUP[name], leave(answer), getattr(C, name))
    return q.call(*asked, opaque=True)


def _attached() -> tuple[Probe, ...]:
    """Each attach type, by command and by link."""
    q = questions()
    fd = _group(q, "attached")
    for name in CGROUP:
        kind, prog = getattr(C, name), _made(q, name)
        done = q.ask(f"cgroup.{name}", *attach(q, fd, prog, kind), needs=(prog,))
        key = f"cgroup.{name}.detach"
        q.ask(key, *detach(q, fd, prog, kind), needs=(prog, done))
        made = q.ask(f"cgroup.{name}.link", *link(q, fd, prog, kind), needs=(prog,), opaque=True)
        q.call("close", made)
        q.call("close", prog)
    _remove(q, "attached")
    return q.probes()


def _denied() -> tuple[Probe, ...]:
    """What a program that says no keeps processes of its group from."""
    q = questions(namespaces=C.CLONE_NEWNET)
    fd = _group(q, "denied")
    ways, sent = _ways(q)
    for name, (call, *arguments) in ways.items():
        kind, prog = getattr(C, name), _made(q, name, 0)
        done = q.call(*attach(q, fd, prog, kind))
        if name == _INGRESS:
            # what is not let in is lost without a word
            q.call("sendto", *sent)
        key = f"cgroup.{name}.denied"
        q.ask(key, call, *arguments, needs=(prog, done), opaque=True)
        q.call(*detach(q, fd, prog, kind))
    _remove(q, "denied")
    return q.probes()


_Way = tuple[str, *tuple[Value, ...]]


def _ways(q: Questions) -> tuple[dict[str, _Way], tuple[Value, ...]]:
    """A call that each attach type is about; and how the socket that hears is sent to."""
    loopback = b"lo".ljust(16, b"\0") + words(C.IFF_UP, size=2) + bytes(22)
    port = _PORT.to_bytes(2, "big")
    four = q.content(words(C.AF_INET, size=2) + port + bytes((127, 0, 0, 1)) + bytes(8))
    six = q.content(words(C.AF_INET6, size=2) + port + bytes(19) + b"\1" + bytes(4))
    path = q.content(words(C.AF_UNIX, size=2) + b"\0hostabi-bpf")
    sockets = {
        family: [q.call("socket", getattr(C, family), C.SOCK_DGRAM, 0) for _ in range(2)]
        for family in ("AF_INET", "AF_INET6", "AF_UNIX")
    }
    q.call("ioctl", sockets["AF_INET"][0], C.SIOCSIFFLAGS, q.content(loopback))
    heard = q.call("socket", C.AF_INET, C.SOCK_DGRAM | C.SOCK_NONBLOCK, 0)
    q.call("bind", heard, four, four.size)
    listened = q.call("socket", C.AF_UNIX, C.SOCK_DGRAM, 0)
    q.call("bind", listened, path, path.size)
    text, enabled, room = q.string("a"), q.content(words(1)), q.buffer(64)
    sent: tuple[Value, ...] = (heard, text, 1, 0, four, four.size)
    sysctl = q.call("openat", C.AT_FDCWD, q.string("/proc/sys/kernel/ostype"), C.O_RDONLY)
    option = (C.SOL_SOCKET, C.SO_KEEPALIVE)
    ways: dict[str, _Way] = {
        _DEVICE: ("openat", C.AT_FDCWD, q.string("/dev/null"), C.O_RDONLY),
        "BPF_CGROUP_SYSCTL": ("read", sysctl, room, 64),
        "BPF_CGROUP_INET_SOCK_CREATE": ("socket", C.AF_INET, C.SOCK_DGRAM, 0),
        "BPF_CGROUP_SETSOCKOPT": ("setsockopt", heard, *option, enabled, 4),
        "BPF_CGROUP_GETSOCKOPT": ("getsockopt", heard, *option, room, inout(q, 4)),
    }
    for version, family, address in (("4", "AF_INET", four), ("6", "AF_INET6", six)):
        one, other = sockets[family]
        to = (address, address.size)
        own = q.content(words(getattr(C, family), 0, size=2) + bytes(24))
        at = (own, address.size)
        ways |= {
            f"BPF_CGROUP_UDP{version}_SENDMSG": ("sendto", one, text, 1, 0, *to),
            f"BPF_CGROUP_INET{version}_BIND": ("bind", other, *at),
            f"BPF_CGROUP_INET{version}_POST_BIND": ("bind", other, *at),
            f"BPF_CGROUP_INET{version}_CONNECT": ("connect", one, *to),
        }
    one, other = sockets["AF_UNIX"]
    to = (path, path.size)
    ways |= {
        "BPF_CGROUP_UNIX_SENDMSG": ("sendto", one, text, 1, 0, *to),
        "BPF_CGROUP_UNIX_CONNECT": ("connect", one, *to),
        "BPF_CGROUP_INET_EGRESS": ("sendto", *sent),
        _INGRESS: ("recvfrom", heard, room, 1, 0, 0, 0),
    }
    return ways, sent


def _device(q: Questions, answer: int) -> Ref:
    return _made(q, _DEVICE, answer)


def _flags() -> tuple[Probe, ...]:
    """BPF_F_* of BPF_PROG_ATTACH, and what can be done with a link."""
    q = questions()
    fd, kind = _group(q, "flags"), C.BPF_CGROUP_DEVICE
    one, other = (_device(q, 1) for _ in range(2))
    override, multi = C.BPF_F_ALLOW_OVERRIDE, C.BPF_F_ALLOW_MULTI
    for key, flags in (
        ("BPF_F_ALLOW_OVERRIDE", override),
        ("BPF_F_ALLOW_MULTI", multi),
        ("both", override | multi),
        ("BPF_F_PREORDER", multi | C.BPF_F_PREORDER),
    ):
        done = attach(q, fd, one, kind, {"attach_flags": flags})
        q.ask(f"cgroup.flag.{key}", *done, needs=(one,))
        q.call(*detach(q, fd, one, kind))
    for key, fields in (
        ("twice", {}),
        ("BPF_F_REPLACE", {"replace_bpf_fd": one}),
        ("BPF_F_BEFORE", {"relative_fd": one}),
        ("BPF_F_AFTER", {"relative_fd": one}),
    ):
        first = q.call(*attach(q, fd, one, kind, {"attach_flags": multi}))
        flags = multi | (getattr(C, key) if fields else 0)
        prog = other if fields else one
        second = attach(q, fd, prog, kind, {"attach_flags": flags, **fields})
        q.ask(f"cgroup.flag.{key}", *second, needs=(one, other, first))
        for each in (one, other):
            q.call(*detach(q, fd, each, kind))
    made = q.call(*link(q, fd, one, kind), opaque=True)
    new: Fields = {"link_update.link_fd": made, "link_update.new_prog_fd": other}
    q.ask("cgroup.link.update", *command(q, "BPF_LINK_UPDATE", new), needs=(made, other))
    flags = C.BPF_F_REPLACE
    wrong = {**new, "link_update.flags": flags, "link_update.old_prog_fd": one}
    q.ask("cgroup.link.update.wrong", *command(q, "BPF_LINK_UPDATE", wrong), needs=(made, other))
    gone = command(q, "BPF_LINK_DETACH", {"link_detach.link_fd": made})
    q.ask("cgroup.link.detach", *gone, needs=(made,))
    _remove(q, "flags")
    return q.probes()


def _together() -> Iterator[Probe]:
    """Whose word counts: may a process of an inner group open a device?"""
    override = {"attach_flags": C.BPF_F_ALLOW_OVERRIDE}
    multi = {"attach_flags": C.BPF_F_ALLOW_MULTI}
    no, yes = 0, 1
    outer, inner = "rules", "rules/inner"
    for key, rules in (
        ("inherited", ((outer, no, {}),)),
        ("overridden", ((outer, no, override), (inner, yes, {}))),
        ("multi", ((outer, no, multi), (inner, yes, multi))),
        ("multi.inner", ((outer, yes, multi), (inner, no, multi))),
        ("multi.same", ((inner, no, multi), (inner, yes, multi))),
        ("exclusive", ((outer, no, {}), (inner, yes, {}))),
    ):
        q = questions()
        fds = {name: _group(q, name) for name in (outer, inner)}
        needs = [_apply(q, fds[name], answer, fields) for name, answer, fields in rules]
        asked = ("openat", C.AT_FDCWD, q.string("/dev/null"), C.O_RDONLY)
        q.ask(f"cgroup.rules.{key}", *asked, needs=needs, opaque=True)
        _remove(q, inner, outer)
        yield from q.probes()


def _apply(q: Questions, fd: Ref, answer: int, fields: Fields) -> Ref:
    return q.call(*attach(q, fd, _device(q, answer), C.BPF_CGROUP_DEVICE, fields))


def _queried() -> tuple[Probe, ...]:
    """BPF_PROG_QUERY of two programs, as runtimes ask it; and that it writes where it may only."""
    q = questions()
    fd = _group(q, "queried")
    for answer in (1, 1):
        q.need(*_attach_multi(q, fd, answer))
    ids = q.buffer(64)
    asked: dict[str, Value] = {
        "query.target_fd": fd,
        "query.attach_type": C.BPF_CGROUP_DEVICE,
        "query.prog_ids": ids,
        "query.prog_cnt": 8,
    }
    query = "BPF_PROG_QUERY"
    whole = command(q, query, asked)
    for name in ("prog_cnt", "attach_flags"):
        whole = command(q, query, asked)
        told = part(whole, f"query.{name}")
        q.ask(f"cgroup.query#{name}", *whole, read=number(told), out=[told])
    effective = {"query.query_flags": C.BPF_F_QUERY_EFFECTIVE}
    q.ask("cgroup.query.BPF_F_QUERY_EFFECTIVE", *command(q, query, asked | effective))
    each = {"query.prog_attach_flags": q.buffer(64)}
    q.ask("cgroup.query.prog_attach_flags", *command(q, query, asked | each))
    short = {"query.prog_cnt": 1}
    q.ask("cgroup.query.short", *command(q, query, asked | short))
    little = patched(q.buffer(16), *((at, 4, MARK) for at in range(0, 16, 4)))
    q.call(*command(q, query, asked | short | {"query.prog_ids": little}))
    behind = little.at(4, 12)
    q.ask("cgroup.query.short.ids", "getpid", read=untouched(behind), out=[behind], opaque=True)
    for name in ("prog_cnt", "prog_attach_flags", "link_attach_flags", "revision"):
        at, size = place(f"query.{name}")
        ask_within(q, f"cgroup.query.until.{name}", command(q, query, asked), at + size)
    _remove(q, "queried")
    return q.probes()


def _attach_multi(q: Questions, fd: Ref, answer: int) -> Asked:
    fields = {"attach_flags": C.BPF_F_ALLOW_MULTI}
    return attach(q, fd, _device(q, answer), C.BPF_CGROUP_DEVICE, fields)
