"""The syscall table: which calls exist, and which types their arguments have.

Three witnesses: entry points that the image has, entry points named by kallsyms,
and the answer to every number itself. The probe decides; where an entry point
exists and its number answers ENOSYS, the fact says that its witnesses disagree.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hostabi.agent.client import Agent
from hostabi.agent.program import Abi, Call, End, Pointer, Program, Ran, Store
from hostabi.diff import keys
from hostabi.errors import CallError, HostabiError
from hostabi.model import Certainty, Fact, Kind, Variant
from hostabi.surfaces.probing import HOST, Questions, probe_reproducer
from hostabi.surfaces.reproducers import Reproducer
from hostabi.surfaces.source import Source
from hostabi.surfaces.witnesses import image_names, kallsyms_names
from hostabi.syscalls import table

LAST = 700
"""The highest number probed. The table ends below 480 today; x32 has 512 to 547."""

_TRACE = "/sys/kernel/tracing/events/syscalls"
_FORMATS = 4 << 20
"""Bytes that all their formats together may have; a kernel's have some 300 KB."""
_NAME = re.compile(r"^name: ", re.MULTILINE)
"""Begins an event's format."""
_TOGETHER = 12
"""Numbers that one child asks for."""

MICROSECONDS = 100_000
"""How long a call that waits for a signal waits for it."""

_ENTRIES = {
    "fstat": "newfstat",
    "lstat": "newlstat",
    "sendfile": "sendfile64",
    "stat": "newstat",
    "umount2": "umount",
    "uname": "newuname",
}
"""Calls whose entry point has another name (arch/x86/entry/syscalls/syscall_64.tbl)."""

ARGUMENTS = {
    # kernel/futex: an operation it does not know is ENOSYS; 1 is FUTEX_WAKE, of nobody
    "futex": (0, 1, 0, 0, 0, 0),
    "futex_time64": (0, 1, 0, 0, 0, 0),
    # arch/x86/kernel/ldt.c: a function it does not know is ENOSYS; 0 reads nothing
    "modify_ldt": (0, 0, 0),
    # kernel/signal.c: waits for a signal that the third argument does not block
    "sigsuspend": (0, 0, 0),
}
"""Calls that need other arguments than the harmless nonsense which all others are given."""

NONSENSE = (-1,) * 6

WAITS = frozenset({"pause", "sigsuspend"})
"""Calls that take no argument and wait for a signal: they get one, setitimer(2)."""


class Syscalls:
    """Facts: ``NAME`` is ``ok`` or ``ENOSYS``; ``NAME#arguments`` the types of its arguments."""

    name = "syscalls"
    variants: tuple[Variant, ...] = ()

    def possible(self, source: Source) -> bool:
        """An image or a kernel that runs, either will do."""
        return source.agent is not None or source.static is not None

    def capture(self, source: Source) -> list[Fact]:
        """Ask all witnesses there are."""
        entries: dict[str, list[str]] = {}
        if source.static is not None:
            known = [entry_name(name) for name in table.tables().syscalls]
            how, names = image_names(source.static, known)
            entries = {entry: [how] for entry in names}
        if source.agent is None:
            return _from_entries(entries)
        for entry in kallsyms_names(_symbols(source.live)):
            entries.setdefault(entry, []).append("kallsyms")
        answers = probe(source.live)
        facts = _from_answers(answers, entries)
        present = [fact.key for fact in facts if fact.value == keys.OK]
        facts += _arguments(source.live, present)
        return sorted(facts, key=lambda fact: fact.key)

    def reproducer(self, fact: Fact, agent: Agent | None = None) -> Reproducer | None:
        """A C program that makes the call; None for what tracefs says of its arguments."""
        if keys.aspect(fact.key):
            return None
        return numbered(Abi.NATIVE, fact.key, fact, agent)


SURFACE = Syscalls()


def probe(agent: Agent) -> dict[int, bool]:
    """Whether each number up to :data:`LAST` is implemented.

    Each is called with arguments that no call accepts for anything it could do:
    descriptors, addresses and flags of -1. A call that blocks, kills or ends its
    process is implemented. Several share a child, as a process costs more than a
    call; where it does not come to the last of them, each is asked alone.
    """
    native = table.tables().syscalls
    alone = sorted(native[name] for name in {*ARGUMENTS, *WAITS} & native.keys())
    rest = [number for number in range(LAST + 1) if number not in alone]
    groups = [rest[start : start + _TOGETHER] for start in range(0, len(rest), _TOGETHER)]
    programs = [Program(tuple(Call(number, NONSENSE) for number in group)) for group in groups]
    answers: dict[int, bool] = {}
    for group, ran in zip(groups, agent.run(programs), strict=True):
        if ran.end is End.EXITED and len(ran.values) == len(group):
            answers |= {
                n: value != -errno.ENOSYS for n, value in zip(group, ran.values, strict=True)
            }
        else:
            alone += group
    for number, ran in zip(alone, agent.run([_program(n) for n in alone]), strict=True):
        answers[number] = _implemented(number, ran)
    return dict(sorted(answers.items()))


def _program(number: int) -> Program:
    name = table.name(number)
    call = Call(number, ARGUMENTS.get(name, NONSENSE))
    if name not in WAITS:
        return Program((call,))
    # it_value.tv_usec of struct itimerval is at byte 24
    alarm = Call(table.number("setitimer"), (0, Pointer(0), 0), stores=(Store(24, MICROSECONDS),))
    return Program((alarm, call))


def numbered(abi: Abi, name: str, fact: Fact, agent: Agent | None) -> Reproducer | None:
    """A C program that makes one call by its number; None for one that waits, or has no number."""
    number = table.numbers(abi).get(name)
    if number is None or name in WAITS:
        return None
    questions = Questions()
    fine = table.errno_names() - {"ENOSYS"}
    questions.ask(fact.key, number, *ARGUMENTS.get(name, NONSENSE), fine=fine, abi=abi)
    return probe_reproducer(questions.probes()[0], HOST, fact, agent)


def _symbols(agent: Agent) -> str:
    """The kernel's symbols; none where it was built without CONFIG_KALLSYMS."""
    try:
        return agent.read("/proc/kallsyms").decode(errors="replace")
    except CallError:
        return ""


def _implemented(number: int, ran: Ran) -> bool:
    if ran.end is End.REFUSED:
        raise HostabiError(
            f"syscall {number} could not be probed: {ran.detail or errno.errorcode.get(ran.code)}",
            advice="see the agent's message above; the kernel was not asked",
        )
    returned = len(ran.values) == len(_program(number).calls)
    return not returned or ran.values[-1] != -errno.ENOSYS


def _from_entries(entries: Mapping[str, Sequence[str]]) -> list[Fact]:
    """Without a kernel that runs: a call exists when its entry point does."""
    return [
        Fact(name, keys.OK, how="+".join(entries[entry_name(name)]), certainty=Certainty.DERIVED)
        for name in sorted(table.tables().syscalls)
        if entry_name(name) in entries
    ]


def _from_answers(answers: Mapping[int, bool], entries: Mapping[str, Sequence[str]]) -> list[Fact]:
    facts = []
    named = set(table.tables().syscalls.values())
    for number, implemented in answers.items():
        name = table.name(number)
        seen = "+".join(entries.get(entry_name(name), ()))
        how = f"probe+{seen}" if seen else "probe"
        detail = f"number {number}"
        if implemented:
            sure = Certainty.PROBED
            if entries and not seen and number in named:
                sure = Certainty.CONTRADICTED
                detail += ": answers, although no entry point has this name"
            facts.append(Fact(name, keys.OK, how=how, certainty=sure, detail=detail))
        elif seen:
            detail += f": answers ENOSYS, although {seen} names an entry point"
            facts.append(
                Fact(name, "ENOSYS", how=how, certainty=Certainty.CONTRADICTED, detail=detail)
            )
    return facts


def entry_name(name: str) -> str:
    """How the kernel calls the entry point of a syscall: ``newuname`` for ``uname``."""
    return _ENTRIES.get(name, name)


def _arguments(agent: Agent, names: Iterable[str]) -> list[Fact]:
    """Argument types from tracefs, for the calls that it describes; none without tracefs."""
    events = {f"sys_enter_{entry_name(name)}": name for name in names}
    facts = []
    for event, text in _formats(agent, list(events)):
        if event in events:
            types = argument_types(text)
            key = f"{events[event]}#{keys.SIGNATURE}"
            facts.append(Fact(key, ", ".join(types) or "none", Kind.VALUE, how="tracefs"))
    return facts


def _formats(agent: Agent, events: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What tracefs says of events, each with its name: hundreds of files, read by one command.

    Which calls are traced differs; those that are not have no file, and cat goes on.
    """
    if agent.hello.euid != 0:
        return
    try:
        files = [f"{_TRACE}/{event}/format" for event in events]
        said = agent.command(["/bin/busybox", "cat", *files], limit=_FORMATS)
    except CallError:
        return
    for part in _NAME.split(said.stdout.decode(errors="replace"))[1:]:
        event, _, text = part.partition("\n")
        yield event, text


def argument_types(format_text: str) -> list[str]:
    """The types of a call's arguments from its event's format (kernel: trace/events.rst).

    Newer kernels append what strings point to as ``__data_loc`` fields; those are no arguments.
    """
    fields = re.findall(r"^\tfield:(.*?);", format_text, re.MULTILINE)
    start = next((i for i, field in enumerate(fields) if field.endswith("__syscall_nr")), None)
    if start is None:
        return []
    arguments = [field for field in fields[start + 1 :] if not field.startswith("__data_loc")]
    return [" ".join(field.rpartition(" ")[0].split()).replace(" *", "*") for field in arguments]
