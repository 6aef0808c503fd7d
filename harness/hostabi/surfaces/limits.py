"""Limits that the kernel sets to processes: how many, how long, how deep.

``NAME.N`` is asked on both sides of a limit: the largest that works and the
first that does not, as the manual pages name them. Values that sysctls set are
those of the surface ``sysctls``.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostabi.diff import keys
from hostabi.model import Kind
from hostabi.model import Value as FactValue
from hostabi.surfaces.answers import field, field_text, returned
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.limits_nested import nested
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions, Read
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C
from hostabi.syscalls.trace import Trace

AUXV = (
    "AT_EXECFD",
    "AT_PHDR",
    "AT_PHENT",
    "AT_PHNUM",
    "AT_PAGESZ",
    "AT_BASE",
    "AT_FLAGS",
    "AT_ENTRY",
    "AT_NOTELF",
    "AT_UID",
    "AT_EUID",
    "AT_GID",
    "AT_EGID",
    "AT_PLATFORM",
    "AT_HWCAP",
    "AT_CLKTCK",
    "AT_SECURE",
    "AT_BASE_PLATFORM",
    "AT_RANDOM",
    "AT_HWCAP2",
    "AT_RSEQ_FEATURE_SIZE",
    "AT_RSEQ_ALIGN",
    "AT_HWCAP3",
    "AT_HWCAP4",
    "AT_EXECFN",
    "AT_SYSINFO_EHDR",
    "AT_MINSIGSTKSZ",
)
"""Types of entries in the auxiliary vector, getauxval(3); linux/auxvec.h, asm/auxvec.h."""
_CHOSEN = ("AT_PAGESZ", "AT_FLAGS", "AT_CLKTCK")
"""Entries whose value is the kernel's choice."""
_SIZES = ("AT_RSEQ_FEATURE_SIZE",)
"""Entries that say how many bytes of a structure the kernel fills in. Fields are only ever added
at its end, so more is an addition (kernel commit ee3e3ac05c26, "rseq: Introduce extensible rseq
ABI")."""
_ADVISED = ("AT_RSEQ_ALIGN",)
"""Entries that programs are to follow: the alignment grows with the structure, and an area of
the first size is still taken with the first alignment (rseq(2) in kernel/rseq.c)."""
_HARDWARE = ("AT_HWCAP", "AT_HWCAP2", "AT_HWCAP3", "AT_HWCAP4", "AT_MINSIGSTKSZ")
"""Entries whose value is the processor's. AT_MINSIGSTKSZ is no measure: it is what programs have
to give, so that more of it is nothing gained."""

RESOURCES = (
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
)
"""Resources of getrlimit(2)."""
_OF_MEMORY = ("NPROC", "SIGPENDING")
"""Resources whose default the kernel derives from the RAM (kernel/fork.c, fork_init)."""

_KEY_SPEC_PROCESS_KEYRING = -2
"""keyctl(2); the headers' number is no plain one."""
_SPLICE_F_NONBLOCK = 2
"""splice(2); in no header of the UAPI."""
_BIG = 1 << 19
_AUXV_BYTES = 1024


def for_everybody() -> Iterator[Probe]:
    """What an ordinary user, or a container, may be told otherwise than root."""
    for make in (_auxv, _rlimits, _rlimits_raised, _paths, _links, _descriptors, _messages, _names):
        yield from make()
    yield from _arguments()
    yield from _scripts()
    yield from nested()


def for_root() -> Iterator[Probe]:
    """What takes long, and depends on nobody's privileges or cannot be asked without."""
    yield from _arguments(unlimited=True)
    yield from _privileged()
    yield from _first_rlimits()


SURFACE = Joined(
    "limits", (ProbeSurface("limits", for_everybody), ProbeSurface("limits", for_root, (HOST,)))
)


def _auxv() -> tuple[Probe, ...]:
    q = Questions()
    fd = q.need("openat", C.AT_FDCWD, q.string("/proc/self/auxv"), C.O_RDONLY)
    room = q.buffer(_AUXV_BYTES)

    def ask(key: str, read: Read, kind: Kind = Kind.VALUE) -> None:
        q.ask(key, "pread64", fd, room, _AUXV_BYTES, 0, read=read, kind=kind, out=[room])

    numbers = frozenset(getattr(C, name) for name in AUXV)
    for name in AUXV:
        ask(f"auxv.{name}", _has_entry(room, getattr(C, name)))
    for name in _CHOSEN:
        ask(f"auxv.{name}#value", _entry(room, getattr(C, name)))
    for name in _SIZES:
        ask(f"auxv.{name}#{keys.SIZE}", _entry(room, getattr(C, name)))
    for name in _ADVISED:
        ask(f"auxv.{name}#value", _entry(room, getattr(C, name)), Kind.DEFAULT)
    for name in _HARDWARE:
        ask(f"auxv.{name}#value", _entry(room, getattr(C, name)), Kind.HARDWARE)

    def others(trace: Trace, ref: Ref) -> FactValue:
        return sorted(str(each) for each in _vector(trace, ref, room) if each not in numbers)

    ask("auxv.others", others, Kind.MEMBERS)
    return q.probes()


def _vector(trace: Trace, ref: Ref, room: Slot) -> dict[int, int]:
    """The entries by type, up to AT_NULL."""
    raw = trace.bytes(ref, room)[: trace[ref]]
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw) - 7, 8)]
    pairs = zip(words[::2], words[1::2], strict=False)
    found = {}
    for number, value in pairs:
        if number == C.AT_NULL:
            break
        found[number] = value
    return found


def _has_entry(room: Slot, number: int) -> Read:
    return lambda trace, ref: keys.OK if number in _vector(trace, ref, room) else "ENOENT"


def _entry(room: Slot, number: int) -> Read:
    return lambda trace, ref: _vector(trace, ref, room).get(number)


def _rlimits() -> tuple[Probe, ...]:
    """Which resources there are."""
    q = Questions()
    room = q.room("struct rlimit64")
    for name in RESOURCES:
        q.ask(f"rlimit.{name}", "prlimit64", 0, getattr(C, f"RLIMIT_{name}"), 0, room)
    for number in (C.RLIM_NLIMITS, C.RLIM_NLIMITS + 1):
        q.ask(f"rlimit.{number}", "prlimit64", 0, number, 0, room)
    return q.probes()


def _first_rlimits() -> tuple[Probe, ...]:
    """What the first process starts with."""
    q = Questions()
    room = q.room("struct rlimit64")
    for name in RESOURCES:
        number = getattr(C, f"RLIMIT_{name}")
        kind = Kind.HARDWARE if name in _OF_MEMORY else Kind.DEFAULT
        for side, limit in (("soft", "rlim_cur"), ("hard", "rlim_max")):
            key, read = f"rlimit.{name}#{side}", _limit(room, limit)
            q.ask(key, "prlimit64", 1, number, 0, room, read=read, kind=kind, out=[room])
    return q.probes()


def _rlimits_raised() -> tuple[Probe, ...]:
    """Who may raise a hard limit above all bounds (getrlimit(2), CAP_SYS_RESOURCE)."""
    q = Questions()
    none = q.struct("struct rlimit64", rlim_cur=C.RLIM64_INFINITY, rlim_max=C.RLIM64_INFINITY)
    zero = q.struct("struct rlimit64")
    for name in ("CORE", "NPROC", "NOFILE", "MEMLOCK", "NICE", "RTPRIO"):
        number = getattr(C, f"RLIMIT_{name}")
        lowered = q.call("prlimit64", 0, number, zero, 0)
        q.ask(f"rlimit.{name}#raise", "prlimit64", 0, number, none, 0, needs=(lowered,))
    return q.probes()


def _limit(room: Slot, name: str) -> Read:
    def read(trace: Trace, ref: Ref) -> FactValue:
        value = field(trace, ref, room, name)
        return "unlimited" if value == C.RLIM64_INFINITY else str(value)

    return read


def _paths() -> tuple[Probe, ...]:
    """path_resolution(7): NAME_MAX and PATH_MAX; a path may have its NUL within PATH_MAX."""
    q = Questions()
    for length in (255, 256):
        q.ask(f"name.{length}", "mkdir", q.string("n" * length), 0o700)
    for length in (4095, 4096):
        q.ask(f"path.{length}", "access", q.string("./" * (length // 2) + "." * (length % 2)), 0)
    for length in (4095, 4096):
        target = q.string("t" * length)
        q.ask(f"symlink.target.{length}", "symlink", target, q.string(f"to-{length}"))
    return q.probes()


def _links() -> tuple[Probe, ...]:
    """path_resolution(7): at most 40 symbolic links on the way.

    A walk that has to begin anew, because a mount changed meanwhile, goes on counting
    (fs/namei.c), so that between 20 and 40 links are now and then too many.
    """
    q = Questions()
    for depth in range(1, 43):
        target = "." if depth == 1 else f"link-{depth - 1}"
        q.call("symlink", q.string(target), q.string(f"link-{depth}"))
    for depth in (8, 19, 41):
        q.ask(f"symlink.depth.{depth}", "access", q.string(f"link-{depth}"), 0)
    return q.probes()


def _descriptors() -> tuple[Probe, ...]:
    """Pipes, vectors and polled descriptors."""
    q = Questions(arena=_BIG)
    pair = q.room("struct iovec")
    q.need("pipe2", pair, C.O_NONBLOCK)
    reads, writes = pair.word(0), pair.word(1)
    size = q.ask("pipe.size", "fcntl", writes, C.F_GETPIPE_SZ, 0)
    q.ask(
        f"pipe.size#{keys.SIZE}", "fcntl", writes, C.F_GETPIPE_SZ, 0, needs=(size,), read=returned
    )
    for pages in (1, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 31) + 1):
        q.ask(f"pipe.size.{pages}", "fcntl", writes, C.F_SETPIPE_SZ, pages, opaque=True)
    rows: list[dict[str, Value]] = [{"iov_base": 0, "iov_len": 0}] * (C.UIO_MAXIOV + 1)
    vector = q.array("struct iovec", rows)
    for count in (C.UIO_MAXIOV, C.UIO_MAXIOV + 1):
        q.ask(f"iov.{count}", "writev", writes, vector, count)
    nothing = q.buffer(8 * 1100)
    q.ask("poll.1024", "poll", nothing, 1024, 0)
    q.ask("poll.1025", "poll", nothing, 1025, 0)
    q.ask("splice.of-pipe", "splice", reads, 0, writes, 0, 1, _SPLICE_F_NONBLOCK)
    q.ask("dup.last", "dup3", reads, 1023, 0)
    q.ask("dup.beyond", "dup3", reads, 1024, 0)
    return q.probes()


def _messages() -> tuple[Probe, ...]:
    """Descriptors in one message (unix(7), SCM_RIGHTS) and addresses of sockets."""
    q = Questions()
    pair = q.buffer(8)
    q.need("socketpair", C.AF_UNIX, C.SOCK_DGRAM, 0, pair)
    byte = q.content(b"x")
    vector = q.array("struct iovec", [{"iov_base": byte, "iov_len": 1}])
    for count in (253, 254):
        length = 16 + 4 * count
        head = length.to_bytes(8, "little") + C.SOL_SOCKET.to_bytes(4, "little")
        control = q.content(head + C.SCM_RIGHTS.to_bytes(4, "little") + bytes(4 * count + 8))
        message = q.struct(
            "struct msghdr",
            msg_iov=vector,
            msg_iovlen=1,
            msg_control=control,
            msg_controllen=length,
        )
        # the vector stands there so that it is filled in, sendmsg(2) takes three arguments
        key = f"SCM_RIGHTS.{count}"
        q.ask(key, "sendmsg", pair.word(0), message, C.MSG_DONTWAIT, vector)
    family = C.AF_UNIX.to_bytes(2, "little")
    for length in (108, 109):
        address = q.content(family + b"s" * length)
        made = q.call("socket", C.AF_UNIX, C.SOCK_STREAM, 0)
        q.ask(f"sun_path.{length}", "bind", made, address, 2 + length, needs=(made,))
    return q.probes()


def _names() -> tuple[Probe, ...]:
    """Lengths of names, sizes of stacks, steps of clocks."""
    q = Questions(namespaces=C.CLONE_NEWUTS)
    text = q.content(b"n" * 400)
    for length in (64, 65):
        q.ask(f"hostname.{length}", "sethostname", text, length)
        q.ask(f"domainname.{length}", "setdomainname", text, length)
    for length in (249, 250):
        q.ask(f"memfd.name.{length}", "memfd_create", q.string("m" * length), 0)
    stack = q.buffer(4096)
    for size in (2047, 2048):
        alternate = q.struct("struct sigaltstack", ss_sp=stack, ss_size=size)
        q.ask(f"sigaltstack.{size}", "sigaltstack", alternate, 0, kind=Kind.HARDWARE)
    resolution = q.room("struct __kernel_timespec")
    for clock in ("MONOTONIC", "MONOTONIC_COARSE", "BOOTTIME"):
        number = getattr(C, f"CLOCK_{clock}")
        read = field_text(resolution, "tv_nsec")
        key = f"clock_getres.{clock}"
        # a coarse clock's step is the build's timer interrupt, time(7)
        kind = Kind.DEFAULT if clock.endswith("COARSE") else Kind.VALUE
        q.ask(key, "clock_getres", number, resolution, read=read, out=[resolution], kind=kind)
    return q.probes()


def _privileged() -> tuple[Probe, ...]:
    """Groups, attributes, and keys: those of root, for others share a quota that frees late."""
    q = Questions(arena=_BIG)
    groups = q.buffer(4 * (C.NGROUPS_MAX + 1))
    for count in (C.NGROUPS_MAX, C.NGROUPS_MAX + 1):
        q.ask(f"groups.{count}", "setgroups", count, groups)
    value, file = q.buffer(65537), q.string("file")
    q.need("mknod", file, C.S_IFREG | 0o600, 0)
    for size in (65536, 65537):
        q.ask(f"xattr.value.{size}", "setxattr", file, q.string("trusted.a"), value, size, 0)
    for length in (255, 256):
        name = q.string("trusted.".ljust(length, "n"))
        q.ask(f"xattr.name.{length}", "setxattr", file, name, value, 1, 0)
    kind, ring = q.string("user"), _KEY_SPEC_PROCESS_KEYRING
    for size in (32767, 32768):
        q.ask(f"key.payload.{size}", "add_key", kind, q.string("k"), value, size, ring, opaque=True)
    for length in (4095, 4096):
        name = q.string("k" * length)
        q.ask(f"key.description.{length}", "add_key", kind, name, value, 1, ring, opaque=True)
    return q.probes()


def _arguments(*, unlimited: bool = False) -> tuple[Probe, ...]:
    """execve(2), "Limits on size of arguments": 128 KiB a string, a quarter of the stack in all.

    With an ``unlimited`` stack, 6 MiB in all. What is executed is no program, which
    is found out only after its arguments were taken (ENOEXEC).
    """
    string = 131071
    q = Questions(arena=_BIG, timeout=10.0)
    file, text = _script(q, "file", "nonsense"), q.string("a" * (string + 1))
    if unlimited:
        none = q.struct("struct rlimit64", rlim_cur=C.RLIM64_INFINITY, rlim_max=C.RLIM64_INFINITY)
        q.need("prlimit64", 0, C.RLIMIT_STACK, none, 0)
    else:
        for length in (string, string + 1):
            one = _pointers(q, [text.at(string + 1 - length, length)])
            q.ask(f"execve.string.{length}", "execve", file, one, 0, fine=("ENOEXEC",))
    for count in (47, 48) if unlimited else (15, 16):
        many = _pointers(q, [text.at(1, string)] * count)
        key = f"execve.strings.{count}" + (".unlimited" if unlimited else "")
        q.ask(key, "execve", file, many, 0, fine=("ENOEXEC",))
    return q.probes()


def _pointers(q: Questions, slots: list[Slot]) -> Slot:
    """Pointers one after another, with NULL at the end; two fit an iovec."""
    ends: list[Slot | int] = [*slots, 0, 0]
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return q.array("struct iovec", [{"iov_base": a, "iov_len": b} for a, b in pairs])


def _scripts() -> tuple[Probe, ...]:
    """execve(2), "Interpreter scripts": 255 bytes of a first line, and how many in a row."""
    q = Questions()
    for length in (255, 256, 257):
        line = "#!/nowhere/".ljust(length, "n")
        file = _script(q, f"line-{length}", line + "\n")
        q.ask(f"execve.interpreter.{length}", "execve", file, 0, 0, fine=("ENOENT",))
    _script(q, "script-0", "nonsense")
    for depth in range(1, 8):
        file = _script(q, f"script-{depth}", f"#!script-{depth - 1}\n")
        if depth > 3:
            q.ask(f"execve.interpreters.{depth}", "execve", file, 0, 0, fine=("ENOEXEC",))
    return q.probes()


def _script(q: Questions, name: str, text: str) -> Slot:
    """An executable file with ``text``; its name."""
    path = q.string(name)
    fd = q.call("openat", C.AT_FDCWD, path, C.O_CREAT | C.O_WRONLY, 0o755)
    q.call("write", fd, q.string(text), len(text))
    q.call("close", fd)
    return path
