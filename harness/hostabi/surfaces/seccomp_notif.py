"""seccomp_unotify(2): a child's calls are answered through a listener."""

from __future__ import annotations

from hostabi.agent.program import Children
from hostabi.surfaces import seccomp_filters as filters
from hostabi.surfaces.probing import Probe, Questions
from hostabi.syscalls import table
from hostabi.syscalls.builder import Ref, Slot, Value
from hostabi.syscalls.table import C

_FREE = 60
"""A number that no descriptor of the child has."""


def notifications() -> tuple[Probe, ...]:
    """All questions. The child calls pause(2) again and again; each call is a notification."""
    q = Questions(children=Children.PAUSE)
    code = filters.on_call(table.number("pause"), C.SECCOMP_RET_USER_NOTIF)
    load = (C.SECCOMP_SET_MODE_FILTER, C.SECCOMP_FILTER_FLAG_NEW_LISTENER, filters.loaded(q, code))
    listener = q.need("seccomp", *load)
    wake = (listener, C.SECCOMP_IOCTL_NOTIF_SET_FLAGS, C.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    q.ask("SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP", "ioctl", *wake)
    q.need("fork", opaque=True)
    first, about = _receive(q, listener, "SECCOMP_IOCTL_NOTIF_RECV")
    valid = (listener, C.SECCOMP_IOCTL_NOTIF_ID_VALID, about)
    q.ask("SECCOMP_IOCTL_NOTIF_ID_VALID", "ioctl", *valid, needs=(first,))
    refusal = _answer(q, listener, about, error=-C.EPERM)
    q.ask("SECCOMP_IOCTL_NOTIF_SEND", "ioctl", *refusal, needs=(first,))
    _descriptors(q, listener)
    third, about = _receive(q, listener, "SECCOMP_IOCTL_NOTIF_RECV.again")
    go = _answer(q, listener, about, flags=C.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
    q.ask("SECCOMP_USER_NOTIF_FLAG_CONTINUE", "ioctl", *go, needs=(third,))
    return q.probes()


def _descriptors(q: Questions, listener: Ref) -> None:
    """SECCOMP_IOCTL_NOTIF_ADDFD, with each of its flags."""
    got, about = _receive(q, listener, "")
    name = "SECCOMP_IOCTL_NOTIF_ADDFD"
    ways: tuple[tuple[str, dict[str, int]], ...] = (
        ("", {}),
        (".O_CLOEXEC", {"newfd_flags": C.O_CLOEXEC}),
        (".SETFD", {"flags": C.SECCOMP_ADDFD_FLAG_SETFD, "newfd": _FREE}),
        (".SEND", {"flags": C.SECCOMP_ADDFD_FLAG_SEND}),
    )
    for suffix, more in ways:
        about_it: dict[str, Value] = {"id": about.word(0, 8), "srcfd": listener, **more}
        request = q.struct("struct seccomp_notif_addfd", **about_it)
        add = (listener, C.SECCOMP_IOCTL_NOTIF_ADDFD, request)
        q.ask(name + suffix, "ioctl", *add, needs=(got,))
    # where a descriptor cannot be the answer itself, the child still waits for one
    q.call("ioctl", *_answer(q, listener, about, error=-C.EPERM))


def _receive(q: Questions, listener: Ref, key: str) -> tuple[Ref, Slot]:
    room = q.room("struct seccomp_notif")
    take = (listener, C.SECCOMP_IOCTL_NOTIF_RECV, room)
    if key:
        return q.ask(key, "ioctl", *take), room
    return q.call("ioctl", *take), room


def _answer(q: Questions, listener: Ref, about: Slot, **more: int) -> tuple[Ref, int, Slot]:
    answer = q.struct("struct seccomp_notif_resp", id=about.word(0, 8), **more)
    return listener, C.SECCOMP_IOCTL_NOTIF_SEND, answer
