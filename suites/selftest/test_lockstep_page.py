"""The page of lockstep: what is explained, what is open, and for how long was looked."""

from __future__ import annotations

import msgspec
import pytest

from hostabi.results import lockstep
from hostabi.runs.fuzz import journal, teeth
from hostabi.runs.fuzz.causes import VALUE, Difference, Known
from hostabi.runs.fuzz.examples import keep
from hostabi.runs.fuzz.journal import Began, Broke, Found, Records, Went
from hostabi.runs.fuzz.teeth import Tooth
from hostabi.syscalls.builder import Builder

BUILDS = {"6.1": "6.1.192-2", "6.12": "6.12.118-1"}
KNOWN = Known(
    Difference("dup", VALUE, {"6.1": "EBADF", "6.12": "ok"}),
    "descriptors are found again",
    'commit 0123456789ab ("fd: find descriptors")',
)


def began(**rest) -> Began:
    plain = Began(1, "2026-01-01", BUILDS, "0123", ("root",))
    return msgspec.structs.replace(plain, **rest)


def find(name: str, call: str, **rest) -> Found:
    b = Builder()
    b.call(call, 0)
    plain = Found(
        name=name,
        kernels=tuple(BUILDS),
        seed=1,
        batch=0,
        index=0,
        sandbox="root",
        kind=VALUE,
        syscall=call,
        outcomes={"6.1": "EBADF", "6.12": "ok"},
        calls=1,
        example=keep(b.build()),
    )
    return msgspec.structs.replace(plain, **rest)


@pytest.fixture
def page(tmp_path):
    def made(*records, tried=()) -> str:
        folder = tmp_path / lockstep.FOLDER
        with Records(folder / journal.FILE) as kept:
            for record in records:
                kept.add(record)
        (folder / teeth.FILE).write_bytes(b"".join(msgspec.json.encode(t) + b"\n" for t in tried))
        written = lockstep.write(tmp_path, [KNOWN])
        return written.read_text() if written else ""

    return made


def rows(page: str, title: str) -> list[list[str]]:
    """The rows of the table below a title, without its head."""
    part = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_finds_are_open_until_a_cause_is_known(page):
    met = {f"dup value {KNOWN.reason}": 4, "dup-1": 2}
    text = page(
        began(),
        find("dup-1", "dup"),
        find("close-1", "close"),
        Went(1, 2, 300, 3000, 50.0, met),
        Went(1, 3, 384, 4000, 60.0),
        find("close-1", "close", tried=3, confirmed=2, exits={"6.1": 0, "6.12": 1}),
    )
    assert rows(text, "Explained") == [[KNOWN.reason, KNOWN.citation, "dup-1", "7"]]
    ((name, what, told, *_, again, ends),) = rows(text, "Open")
    assert (name, what, told) == ("close-1", VALUE, "6.1: EBADF; 6.12: ok")
    assert (again, ends) == ("2 of 3", "6.1: 0, 6.12: 1")


def test_what_fresh_guests_did_not_show_stands_apart(page):
    text = page(
        began(), find("close-1", "close", tried=3), find("umask-1", "umask", tried=3, confirmed=1)
    )
    assert [row[0] for row in rows(text, "Open")] == ["umask-1"]
    assert [row[0] for row in rows(text, "Not seen again")] == ["close-1"]


def test_words_of_others_do_not_break_the_table(page):
    odd = find(
        "close-1", "close", note="no C\nprogram: a | b", outcomes={"6.1": "a|b", "6.12": "c"}
    )
    ((_, _, told, *_, note),) = rows(page(began(), odd).replace("\\|", "/"), "Open")
    assert (told, note) == ("6.1: a/b; 6.12: c", "no C program: a / b")


def test_a_cause_names_a_few_programs_and_links_them(page, tmp_path):
    folder = tmp_path / lockstep.FOLDER / "findings"
    folder.mkdir(parents=True)
    (folder / "dup-4.c").write_text("int main;")
    text = page(began(), *(find(f"dup-{n}", "dup") for n in range(5)))
    ((_, _, programs, met),) = rows(text, "Explained")
    assert programs == "[dup-4](findings/dup-4.c), dup-0, dup-1 and 2 more"
    assert met == "5"


def test_lines_are_those_of_the_finds_own_sitting(page):
    named = find("dup-1", "dup", outcomes={"old": "EBADF", "new": "ok"})
    builds = {"old": "a.deb", "new": "b.deb"}
    text = page(
        began(builds=builds, lines={"old": "6.1", "new": "6.12"}), named, began(builds=builds)
    )
    assert rows(text, "Explained")


def test_what_was_run_is_added_up_over_sittings(page):
    went = Went(1, 3, 300, 3000, 60.0)
    more = msgspec.structs.replace(went, programs=600, calls=6000, seconds=120.0)
    text = page(began(), went, more, began(), went, began(seed=2), went)
    table = [line for line in text.splitlines() if line.startswith("| 6.1.192-2")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [row[3:] for row in cells] == [
        ["1", "2", "3 min", "900", "9000", "5.0"],
        ["2", "1", "1 min", "300", "3000", "5.0"],
    ]


def test_a_build_against_itself_is_told_apart(page):
    names = {"6.1": "6.1.192-2", "6.1 again": "6.1.192-2"}
    odd = find("dup-2", "dup", kernels=tuple(names), outcomes={"6.1": "1", "6.1 again": "2"})
    alone = began(builds=names)
    assert "Nothing." in page(alone, Went(1, 1, 9, 9, 9.0)).partition("of one build")[2]
    text = page(alone, odd)
    assert not rows(text, "Open")
    assert rows(text, "What differs between guests of one build")[0][0] == "dup-2"


def test_failures_and_teeth_are_told(page):
    text = page(
        began(),
        Broke("guest-1", "6.1", 1, 4, "root", "PanicError: it panicked", text="dup(0)"),
        tried=[
            Tooth(1, 0, "dup: returns 1 more", found=True, calls=2, seconds=9.0),
            Tooth(1, 1, "open: EIO is told as EPERM", found=False),
        ],
    )
    assert "guest-1: 6.1, root, batch 4 of seed 1: PanicError: it panicked" in text
    assert "2 alterations" in text
    assert "1 were" in text
    assert "- open: EIO is told as EPERM" in text


def test_nothing_was_run(page):
    assert not page()
