"""landlock(7): its version, and each right: taken into a ruleset, and kept from who has it not."""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.agent.program import Children
from hostabi.surfaces.probing import Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C, constants

_SIZES = (0, 7, 8, 16, 24, 32, 40, 48, 64)
"""Sizes of struct landlock_ruleset_attr, in bytes."""
_LAYERS = 16
"""LANDLOCK_MAX_NUM_LAYERS: rulesets that one process can be under."""
_VERSIONS = 16
"""Versions of the interface that are asked about; each has all that those before it have."""
_ERRATA = 8
"""Errata that are asked about; they are counted from 1."""
_PORT = 4711
_NULL = 1 << 8 | 3
"""/dev/null, as mknod(2) is told."""
_CREATE, _ADD, _RESTRICT = "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"


def probes() -> Iterator[Probe]:
    """All questions."""
    yield from _taken()
    yield from _layers()
    yield from _files_denied()
    yield from _others_denied()


SURFACE = ProbeSurface("landlock", probes)


def _ruleset(q: Questions, **fields: int) -> Ref:
    # an older kernel takes a longer struct whose end is zero
    attribute = q.struct("struct landlock_ruleset_attr", **fields)
    return q.call(_CREATE, attribute, attribute.size, 0)


def _taken() -> tuple[Probe, ...]:
    """What the three calls take."""
    q = Questions()
    version = (0, 0, C.LANDLOCK_CREATE_RULESET_VERSION)
    for number in range(1, _VERSIONS + 1):
        q.ask(f"version.{number}", _CREATE, *version, read=_at_least(number))
    errata = (0, 0, C.LANDLOCK_CREATE_RULESET_ERRATA)
    for number in range(1, _ERRATA + 1):
        q.ask(f"errata.{number}", _CREATE, *errata, read=_repaired(number))
    for size in _SIZES:
        room = q.content((1).to_bytes(8, "little") + bytes(64))
        q.ask(f"landlock_ruleset_attr.{size}", _CREATE, room, size, 0)
    for field, prefix in (
        ("handled_access_fs", "LANDLOCK_ACCESS_FS_"),
        ("handled_access_net", "LANDLOCK_ACCESS_NET_"),
        ("scoped", "LANDLOCK_SCOPE_"),
    ):
        for name, bit in constants(prefix).items():
            attribute = q.struct("struct landlock_ruleset_attr", **{field: bit})
            q.ask(name.removeprefix("LANDLOCK_"), _CREATE, attribute, attribute.size, 0)
    for name, handled in (
        ("quiet_access_fs", "handled_access_fs"),
        ("quiet_access_net", "handled_access_net"),
        ("quiet_scoped", "scoped"),
    ):
        attribute = q.struct("struct landlock_ruleset_attr", **{handled: 1, name: 1})
        q.ask(name, _CREATE, attribute, attribute.size, 0)
    _rules(q)
    q.call("prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    rules = _ruleset(q, handled_access_fs=C.LANDLOCK_ACCESS_FS_MAKE_SYM)
    for name, flag in constants("LANDLOCK_RESTRICT_SELF_").items():
        q.ask(name.removeprefix("LANDLOCK_"), _RESTRICT, rules, flag, needs=(rules,))
    return q.probes()


def _at_least(number: int) -> Read:
    return lambda trace, ref: trace[ref] >= number


def _repaired(number: int) -> Read:
    return lambda trace, ref: bool(trace[ref] & 1 << number - 1)


def _rules(q: Questions) -> None:
    read = C.LANDLOCK_ACCESS_FS_READ_FILE
    here = q.call("openat", C.AT_FDCWD, q.string("."), C.O_PATH)
    below = q.struct("struct landlock_path_beneath_attr", allowed_access=read, parent_fd=here)
    files = _ruleset(q, handled_access_fs=read)
    beneath = (C.LANDLOCK_RULE_PATH_BENEATH, below)
    q.ask("RULE_PATH_BENEATH", _ADD, files, *beneath, 0, needs=(here, files))
    quiet = _ruleset(q, handled_access_fs=read, quiet_access_fs=read)
    also = (quiet, *beneath, C.LANDLOCK_ADD_RULE_QUIET)
    q.ask("ADD_RULE_QUIET", _ADD, *also, needs=(here, quiet))
    bind = C.LANDLOCK_ACCESS_NET_BIND_TCP
    ports = _ruleset(q, handled_access_net=bind)
    port = q.struct("struct landlock_net_port_attr", allowed_access=bind, port=_PORT)
    q.ask("RULE_NET_PORT", _ADD, ports, C.LANDLOCK_RULE_NET_PORT, port, 0, needs=(ports,))


def _layers() -> tuple[Probe, ...]:
    """Rulesets one on the other; and none for who may raise privileges, unless root."""
    q = Questions()
    rules = _ruleset(q, handled_access_fs=C.LANDLOCK_ACCESS_FS_MAKE_SYM)
    needs = (rules,)
    q.ask("restrict_self", _RESTRICT, rules, 0, needs=needs)
    q.call("prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for _ in range(_LAYERS - 2):
        q.call(_RESTRICT, rules, 0)
    for layer in (_LAYERS, _LAYERS + 1):
        q.ask(f"layers.{layer}", _RESTRICT, rules, 0, needs=needs)
    return q.probes()


def _denied(q: Questions, field: str, name: str, call: str, *arguments: Value) -> None:
    """What a call gets that needs a right which nobody has.

    Where the kernel does not know the right there is no ruleset, and nothing to be tried.
    """
    rules = _ruleset(q, **{field: getattr(C, f"LANDLOCK_{name}")})
    enclosed = q.call(_RESTRICT, rules, 0)
    q.ask(f"{name}.denied", call, *arguments, given=(rules,), needs=(enclosed,))


def _files_denied() -> tuple[Probe, ...]:
    """Rights to files and folders; each call needs one of them, and none that went before."""
    q = Questions()
    file, folder, new, cwd = q.string("file"), q.string("folder"), q.string("new"), C.AT_FDCWD
    q.need("mknodat", cwd, file, C.S_IFREG | 0o700, 0)
    q.need("mkdir", folder, 0o700)
    q.need("prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    nodes = {
        "REG": (C.S_IFREG, 0),
        "SOCK": (C.S_IFSOCK, 0),
        "FIFO": (C.S_IFIFO, 0),
        "CHAR": (C.S_IFCHR, _NULL),
        "BLOCK": (C.S_IFBLK, _NULL),
    }
    calls: list[tuple[str, str, tuple[Value, ...]]] = [
        ("REFER", "rename", (file, q.string("folder/file"))),
        ("TRUNCATE", "truncate", (file, 0)),
        ("EXECUTE", "execve", (file, 0, 0)),
        ("READ_FILE", "openat", (cwd, file, C.O_RDONLY)),
        ("WRITE_FILE", "openat", (cwd, file, C.O_WRONLY)),
        ("READ_DIR", "openat", (cwd, q.string("."), C.O_RDONLY | C.O_DIRECTORY)),
        ("REMOVE_DIR", "rmdir", (folder,)),
        ("REMOVE_FILE", "unlink", (file,)),
        ("MAKE_DIR", "mkdir", (new, 0o700)),
        ("MAKE_SYM", "symlink", (file, new)),
    ]
    for name, (kind, device) in nodes.items():
        calls.append((f"MAKE_{name}", "mknodat", (cwd, new, kind | 0o600, device)))
    for name, call, arguments in calls:
        _denied(q, "handled_access_fs", f"ACCESS_FS_{name}", call, *arguments)
    return q.probes()


def _others_denied() -> tuple[Probe, ...]:
    """Rights to devices, ports and sockets, and what is outside of where a ruleset holds."""
    q = Questions(namespaces=C.CLONE_NEWNET, children=Children.PAUSE)
    child = q.need("fork", opaque=True)
    path = _listening(q, b"socket")
    abstract = _listening(q, b"\0socket")
    q.need("prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    local = [q.call("socket", C.AF_UNIX, C.SOCK_STREAM, 0) for _ in range(2)]
    files = "handled_access_fs"
    _denied(q, "scoped", "SCOPE_SIGNAL", "kill", child, 0)
    name = "SCOPE_ABSTRACT_UNIX_SOCKET"
    _denied(q, "scoped", name, "connect", local[0], abstract, abstract.size)
    _denied(q, files, "ACCESS_FS_RESOLVE_UNIX", "connect", local[1], path, path.size)
    port = _PORT.to_bytes(2, "big")
    home = q.content(C.AF_INET.to_bytes(2, "little") + port + b"\x7f\0\0\1" + bytes(8))
    for kind, calls in (
        ("TCP", {"BIND_TCP": "bind", "CONNECT_TCP": "connect"}),
        ("UDP", {"BIND_UDP": "bind", "CONNECT_SEND_UDP": "connect"}),
    ):
        fd = q.call("socket", C.AF_INET, C.SOCK_STREAM if kind == "TCP" else C.SOCK_DGRAM, 0)
        for name, call in calls.items():
            _denied(q, "handled_access_net", f"ACCESS_NET_{name}", call, fd, home, home.size)
    # of a device, what is allowed is settled when it is opened
    name = "ACCESS_FS_IOCTL_DEV"
    rules = _ruleset(q, handled_access_fs=C.LANDLOCK_ACCESS_FS_IOCTL_DEV)
    enclosed = q.call(_RESTRICT, rules, 0)
    device = q.call("openat", C.AT_FDCWD, q.string("/dev/null"), C.O_RDWR)
    terminal = (device, C.TCGETS, q.buffer(64))
    q.ask(f"{name}.denied", "ioctl", *terminal, given=(rules,), needs=(enclosed, device))
    return q.probes()


def _listening(q: Questions, name: bytes) -> Slot:
    """The address of a socket that takes connections."""
    address = q.content(C.AF_UNIX.to_bytes(2, "little") + name)
    fd = q.need("socket", C.AF_UNIX, C.SOCK_STREAM, 0)
    q.need("bind", fd, address, address.size)
    q.need("listen", fd, 4)
    return address
