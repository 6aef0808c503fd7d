"""Notifications: each file system is asked, and nobody is left waiting."""

from __future__ import annotations

from hostabi.agent.program import Scratch
from hostabi.surfaces import notify
from hostabi.syscalls.table import C, number

EVERYBODY, ROOT = (part.probes for part in notify.SURFACE.parts)


def test_each_file_system_is_asked_for_handles() -> None:
    for scratch in Scratch:
        key = f"fanotify.{scratch}.FAN_REPORT_DFID_NAME.FAN_MARK_INODE.FAN_CREATE"
        assert EVERYBODY[key].plain.scratch is scratch


def test_no_question_is_in_two_tables() -> None:
    assert not EVERYBODY.keys() & ROOT.keys()


def test_what_is_watched_for_permission_is_never_opened() -> None:
    """The kernel would wait for an answer that nobody gives: fanotify(7)."""
    asking = C.FAN_OPEN_PERM | C.FAN_OPEN_EXEC_PERM | C.FAN_ACCESS_PERM | C.FAN_PRE_ACCESS
    mark, opening = number("fanotify_mark"), {number("openat"), number("open"), number("execve")}
    for probe in EVERYBODY.values():
        calls = probe.built.program.calls
        marked = [
            index
            for index, call in enumerate(calls)
            if call.number == mark and isinstance(call.arguments[2], int)
            if call.arguments[2] & asking
        ]
        later = calls[marked[0] :] if marked else ()
        assert not any(call.number in opening for call in later), probe.key


def test_every_watch_reads_what_came_of_it() -> None:
    probe = EVERYBODY["inotify.IN_MOVED_TO"]
    assert probe.built.steps[probe.ref.call].name == "read"
    assert [probe.built.steps[need.call].name for need in probe.needs] == [
        "inotify_init1",
        "inotify_add_watch",
    ]
