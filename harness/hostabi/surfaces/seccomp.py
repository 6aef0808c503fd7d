"""seccomp(2): operations, what each action does to a call, flags, notifications, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostabi.surfaces.answers import field_text, returned
from hostabi.surfaces.joined import Joined
from hostabi.surfaces.probing import HOST, Probe, ProbeSurface, Questions
from hostabi.surfaces.seccomp_filters import allow, loaded, on_call
from hostabi.surfaces.seccomp_notif import notifications
from hostabi.syscalls import table
from hostabi.syscalls.builder import Ref
from hostabi.syscalls.filters import statement
from hostabi.syscalls.table import C

ACTIONS = (
    "KILL_PROCESS",
    "KILL_THREAD",
    "TRAP",
    "ERRNO",
    "USER_NOTIF",
    "TRACE",
    "LOG",
    "ALLOW",
)
_FLAGS = ("TSYNC", "LOG", "SPEC_ALLOW", "TSYNC_ESRCH")
"""Flags that work without a listener; TSYNC_ESRCH changes only what TSYNC returns."""
_ORDINARY = 1000
_MOST = 4096
"""BPF_MAXINSNS: instructions of one filter."""
_LATE = ("uretprobe", "uprobe")
"""Calls that the kernel itself has a process make, and that filters therefore have to let pass."""


def everybody() -> Iterator[Probe]:
    """Questions that all views ask."""
    yield from _operations()
    yield from _listeners()
    yield from notifications()


def root() -> Iterator[Probe]:
    """What a filter does once it is loaded does not depend on who loaded it."""
    for action in ACTIONS:
        yield from _action(action)
    for name in _LATE:
        yield from _passes(name)
    yield from _privileges()
    yield from _limits()
    yield from _strict()


SURFACE = Joined(
    "seccomp", (ProbeSurface("seccomp", everybody), ProbeSurface("seccomp", root, (HOST,)))
)


def _operations() -> tuple[Probe, ...]:
    """Operations and flags, of which one process can try all."""
    q = Questions()
    for action in ACTIONS:
        value = q.content(getattr(C, f"SECCOMP_RET_{action}").to_bytes(4, "little"))
        q.ask(f"SECCOMP_RET_{action}", "seccomp", C.SECCOMP_GET_ACTION_AVAIL, 0, value)
    sizes = q.room("struct seccomp_notif_sizes")
    q.ask("SECCOMP_GET_NOTIF_SIZES", "seccomp", C.SECCOMP_GET_NOTIF_SIZES, 0, sizes)
    for name in ("seccomp_notif", "seccomp_notif_resp", "seccomp_data"):
        key, read = f"SECCOMP_GET_NOTIF_SIZES#{name}", field_text(sizes, name)
        get = (C.SECCOMP_GET_NOTIF_SIZES, 0, sizes)
        q.ask(key, "seccomp", *get, out=[sizes], read=read)
    everything = loaded(q, allow())
    q.ask("SECCOMP_SET_MODE_FILTER", "seccomp", C.SECCOMP_SET_MODE_FILTER, 0, everything)
    old = (C.PR_SET_SECCOMP, C.SECCOMP_MODE_FILTER, everything)
    q.ask("PR_SET_SECCOMP.filter", "prctl", *old)
    q.ask("PR_GET_SECCOMP", "prctl", C.PR_GET_SECCOMP, read=returned)
    for name in _FLAGS:
        flag = getattr(C, f"SECCOMP_FILTER_FLAG_{name}")
        flag |= C.SECCOMP_FILTER_FLAG_TSYNC if name == "TSYNC_ESRCH" else 0
        load = (C.SECCOMP_SET_MODE_FILTER, flag, everything)
        q.ask(f"SECCOMP_FILTER_FLAG_{name}", "seccomp", *load)
    endless = loaded(q, [statement(C.BPF_LD | C.BPF_W | C.BPF_ABS, 0)])
    q.ask("filter.without-return", "seccomp", C.SECCOMP_SET_MODE_FILTER, 0, endless)
    for name, offset in (("nr", 0), ("arch", 4), ("args[5]", 56), ("outside", 64), ("odd", 1)):
        code = [statement(C.BPF_LD | C.BPF_W | C.BPF_ABS, offset), *allow()]
        q.ask(f"filter.load.{name}", "seccomp", C.SECCOMP_SET_MODE_FILTER, 0, loaded(q, code))
    return q.probes()


def _listeners() -> Iterator[Probe]:
    """Flags with which a filter has a listener; a process has at most one."""
    new = C.SECCOMP_FILTER_FLAG_NEW_LISTENER
    for name, flags in (
        ("NEW_LISTENER", new),
        ("WAIT_KILLABLE_RECV", new | C.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
        ("NEW_LISTENER.TSYNC", new | C.SECCOMP_FILTER_FLAG_TSYNC),
        (
            "NEW_LISTENER.TSYNC_ESRCH",
            new | C.SECCOMP_FILTER_FLAG_TSYNC | C.SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
        ),
    ):
        q = Questions()
        load = (C.SECCOMP_SET_MODE_FILTER, flags, loaded(q, allow()))
        first = q.ask(f"SECCOMP_FILTER_FLAG_{name}", "seccomp", *load)
        if name == "NEW_LISTENER":
            q.ask("NEW_LISTENER.second", "seccomp", *load, needs=(first,))
        yield from q.probes()


def _action(name: str) -> tuple[Probe, ...]:
    """What a call gets for which a filter returns the action, without a listener or a tracer."""
    q = Questions()
    value = getattr(C, f"SECCOMP_RET_{name}") | (C.EUCLEAN if name == "ERRNO" else 0)
    _filtered(q, on_call(table.number("getppid"), value))
    q.ask(f"action.{name}", "getppid", opaque=True)
    return q.probes()


def _passes(name: str) -> tuple[Probe, ...]:
    """What a call gets that a filter refuses with EUCLEAN."""
    q = Questions()
    _filtered(q, on_call(table.number(name), C.SECCOMP_RET_ERRNO | C.EUCLEAN))
    q.ask(f"refused.{name}", name)
    return q.probes()


def _filtered(q: Questions, statements: Sequence[bytes]) -> Ref:
    return q.need("seccomp", C.SECCOMP_SET_MODE_FILTER, 0, loaded(q, statements))


def _privileges() -> tuple[Probe, ...]:
    """Who has no CAP_SYS_ADMIN has to give up that programs raise privileges."""
    q = Questions()
    everything = loaded(q, allow())
    q.need("setresuid", _ORDINARY, _ORDINARY, _ORDINARY)
    load = (C.SECCOMP_SET_MODE_FILTER, 0, everything)
    q.ask("filter.without-privileges", "seccomp", *load)
    q.call("prctl", C.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    q.ask("filter.no_new_privs", "seccomp", *load)
    return q.probes()


def _limits() -> Iterator[Probe]:
    """Statements of one filter, and of all that a process has (MAX_INSNS_PER_PATH)."""
    q = Questions(arena=1 << 17, timeout=10.0)
    most = loaded(q, allow(_MOST + 1))
    q.ask(f"filter.statements.{_MOST + 1}", "seccomp", C.SECCOMP_SET_MODE_FILTER, 0, most)
    large = loaded(q, allow(_MOST))
    for count in range(1, 10):
        key = f"filter.statements.{_MOST}" + (f".times.{count}" if count > 1 else "")
        load = (C.SECCOMP_SET_MODE_FILTER, 0, large)
        if count in (1, 7, 8, 9):
            q.ask(key, "seccomp", *load)
        else:
            q.call("seccomp", *load)
    yield from q.probes()


def _strict() -> tuple[Probe, ...]:
    """Strict mode, and a call that it does not know."""
    q = Questions()
    q.ask("SECCOMP_SET_MODE_STRICT", "seccomp", C.SECCOMP_SET_MODE_STRICT, 0, 0)
    q.ask("strict.getppid", "getppid", opaque=True)
    return q.probes()
