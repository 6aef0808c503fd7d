"""Lockstep run on and on: programs of a seed on all kernels, and what becomes of differences.

A difference is tried again, made smaller, and named by its cause. One that the ledger
or an earlier find explains is counted; another is written down at once, and confirmed
in fresh guests when the time is up.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from hostabi.agent.program import Call, End, Program, Ran, Sandbox
from hostabi.errors import MachineError
from hostabi.progress import SILENT, Progress, Task
from hostabi.runs.fuzz import causes, drawing
from hostabi.runs.fuzz.causes import Spot, spot
from hostabi.runs.fuzz.confirmation import confirm
from hostabi.runs.fuzz.examples import keep, restored
from hostabi.runs.fuzz.journal import FINDINGS, Broke, Found, Records, Went
from hostabi.runs.fuzz.plan import Count, Plan
from hostabi.runs.fuzz.shrinker import SMALL, Shrinker, refused
from hostabi.runs.lockstep import Lockstep, Sent
from hostabi.syscalls import printers
from hostabi.syscalls.builder import Built
from hostabi.syscalls.cases import Case
from hostabi.syscalls.table import number
from hostabi.syscalls.trace import Trace

if TYPE_CHECKING:
    from hostabi.packages.cache import Cache
    from hostabi.runs.fuzz.team import Team

MESSAGE = 32
"""Programs of one message: it costs a guest little, and is soon tried again one by one."""
_RESET = 64
"""Messages after which guests drop what programs left running."""
_WHOLE = 64
"""Chunks after which the journal is told how often known differences were met."""
_TRIES = 8
"""Programs that are tried for one find which is not small."""
_PATIENCE = 6
"""How much longer a program may take that was too slow on some kernel."""


@dataclass(frozen=True)
class _Sent:
    chunk: drawing.Chunk
    first: int
    cases: Sequence[Case]
    sandbox: Sandbox
    sent: Sent
    on: Sequence[frozenset[str]]


class Fuzz:
    """One sitting over a team of guests."""

    def __init__(
        self,
        team: Team,
        plan: Plan,
        records: Records,
        cache: Cache,
        progress: Progress = SILENT,
    ) -> None:
        self.plan = plan
        self.count = Count()
        self.lockstep = Lockstep(team.agents)
        self.found: dict[str, tuple[Found, Built, Spot]] = {}
        """What is new in this sitting or was not confirmed in an earlier one, by name."""
        self._replayed: list[Found] = []
        """The earlier finds whose programs are run just now."""
        self._messages = 0
        self._next = plan.start
        self._tries: Counter[str] = Counter()
        self._team = team
        self._records = records
        self._cache = cache
        self._progress = progress
        self._seen: dict[str, causes.Difference] = {
            each.name: each.difference for each in plan.before
        }
        self.lacking: dict[str, frozenset[str]] = {}
        """Kernels that do not have a call: they sit its programs out."""
        for difference in [*self._seen.values(), *(each.difference for each in plan.known)]:
            self._learn(difference)
        if plan.times:
            self._take_over()

    def _take_over(self) -> None:
        """Have confirmed what a sitting that was cut off left unconfirmed."""
        for each in self.plan.before:
            if each.tried or each.sandbox not in self.plan.sandboxes:
                continue
            shown = each.shown()
            if shown and causes.cause(self.plan.known, *shown, self.plan.lines) is None:
                self.found[each.name] = each, *shown

    def run(self, seconds: float, enough: Callable[[Fuzz], bool] = lambda _: False) -> Count:
        """Explore for about so long, or until it is ``enough``, then confirm what was found."""
        self.count.began = time.monotonic()
        until = self.count.began + seconds
        with (
            self._progress.task("lockstep") as task,
            drawing.chunks(self.plan.strategies, self.plan.seed, self.plan.start) as chunks,
        ):
            try:
                self._explore(chain(self._earlier(), chunks), until, enough, task)
            finally:
                self._tell(whole=True)
            self._confirm_all(task)
        return self.count

    def _explore(
        self,
        chunks: Iterable[drawing.Chunk],
        until: float,
        enough: Callable[[Fuzz], bool],
        task: Task,
    ) -> None:
        waiting: _Sent | None = None
        for chunk in chunks:
            for first, cases in drawing.messages(chunk.cases, MESSAGE):
                waiting = self._turn(waiting, chunk, first, cases)
                task.note(str(self.count))
                if enough(self):
                    break
            if waiting and chunk.number == drawing.EARLIER:
                waiting = self._take(waiting)
            if time.monotonic() > until or enough(self):
                break
        if waiting:
            self._take(waiting)

    def _turn(
        self, waiting: _Sent | None, chunk: drawing.Chunk, first: int, cases: Sequence[Case]
    ) -> _Sent | None:
        """Send a message behind the one that guests are at, then see to that one."""
        self._messages += 1
        if self._messages % _RESET == 0:
            if waiting:
                self._take(waiting)
                waiting = None
            self._reset()
        sent = self._send(chunk, first, cases)
        return self._take(waiting, sent) if waiting else sent

    def _take(self, waiting: _Sent, behind: _Sent | None = None) -> _Sent | None:
        """See what came of a message, and of the one behind it if guests are needed for that.

        Returns the one behind it where it has not been heard.
        """
        answers, broken = self._hear(waiting)
        suspects = self._suspects(waiting, answers)
        refusing = _refusing(answers)
        if not (suspects or refusing or broken):
            self._went(waiting)
            return behind
        turns = [(waiting, suspects, broken)]
        again = False
        if behind:
            # its work has the guests, so this comes before anything else is asked of them
            answers, after = self._hear(behind)
            refusing |= _refusing(answers)
            again = not broken.keys().isdisjoint(after)
            if not again:
                turns.append((behind, self._suspects(behind, answers), after))
        for sent, _, failed in turns:
            for name, error in failed.items():
                self._broken(sent, name, error)
        for sent, differing, _ in turns:
            self._look_into(sent, differing)
        self._renew(refusing)
        for sent, _, _ in turns:
            self._went(sent)
        # a guest that had failed before has run none of it
        return self._send(behind.chunk, behind.first, behind.cases) if behind and again else None

    def _earlier(self) -> Iterator[drawing.Chunk]:
        """The programs that earlier finds are shown by, those of a sandbox together."""
        for name, sandbox in self.plan.sandboxes.items():
            finds = [each for each in self.plan.examples if each.sandbox == name]
            shown = [(each, restored(each.example)) for each in finds if each.example is not None]
            if shown:
                self._replayed = [each for each, _ in shown]
                cases = tuple(Case(built, sandbox=sandbox) for _, built in shown)
                yield drawing.Chunk(drawing.EARLIER, name, cases)

    def _fade(self, waiting: _Sent, answers: Sequence[Mapping[str, Ran]]) -> None:
        """Record the earlier finds that their programs do not show any more."""
        finds = self._replayed[waiting.first :]
        for find, case, rans in zip(finds, waiting.cases, answers, strict=False):
            everywhere = find.outcomes.keys() <= rans.keys() and not refused(rans.values())
            if find.stands and everywhere and spot(case.built, rans) is None:
                gone = msgspec.structs.replace(find, confirmed=0, tried=max(1, find.tried))
                self._records.add(msgspec.structs.replace(gone, note="its program agrees now"))
                self._seen.pop(find.name, None)
                self.found.pop(find.name, None)

    def _send(self, chunk: drawing.Chunk, first: int, cases: Sequence[Case]) -> _Sent:
        sandbox = self.plan.sandboxes[chunk.sandbox]
        every = frozenset(self.lockstep.agents)
        on = [self._able(case, every) for case in cases]
        programs = [drawing.reporting(case.built).program for case in cases]
        sent = self.lockstep.submit(programs, sandbox, on)
        return _Sent(chunk, first, cases, sandbox, sent, on)

    def _reset(self) -> None:
        for name, agent in list(self.lockstep.agents.items()):
            try:
                agent.reset()
            except MachineError as error:
                self._progress.say(f"{name}: a fresh guest, as one failed: {error.message}")
                self.count.broken += 1
                self._replace(name)

    def _able(self, case: Case, every: frozenset[str]) -> frozenset[str]:
        """The kernels that have all calls of a program, as far as is known."""
        names = self.lockstep.able(case) if case.needs else every
        for step in case.built.steps:
            names -= self.lacking.get(step.name, frozenset())
        return names

    def _hear(self, waiting: _Sent) -> tuple[list[dict[str, Ran]], dict[str, MachineError]]:
        """What each kernel did, and the guests that failed."""
        broken: dict[str, MachineError] = {}
        return self.lockstep.collect(waiting.sent, broken), broken

    def _suspects(
        self, waiting: _Sent, answers: Sequence[Mapping[str, Ran]]
    ) -> list[tuple[int, Spot]]:
        """The programs of a message that differ in a way nobody explains yet."""
        if waiting.chunk.number == drawing.EARLIER:
            self._fade(waiting, answers)
        found = []
        for index, rans in enumerate(answers):
            first = next(iter(rans.values()), None)
            if first is None or all(ran == first for ran in rans.values()):
                continue
            if refused(rans.values()):
                continue
            built = waiting.cases[index].built
            place = spot(built, rans)
            if place is not None and not self._explained(built, place):
                found.append((index, place))
        return found

    def _explained(self, built: Built, place: Spot) -> bool:
        known = causes.cause(self.plan.known, built, place, self.plan.lines)
        if known:
            self.count.known[f"{place.syscall} {place.kind} {known.reason}"] += 1
            return True
        title = self._met(built, place)
        if title and not self._worth_another_try(title):
            self.count.known[title] += 1
            return True
        return False

    def _met(self, built: Built, place: Spot) -> str:
        """The name of an earlier find that this is, or nothing."""
        names = {name: name for name in place.outcomes}
        seen = self._seen.items()
        return next((t for t, each in seen if each.explains(built, place, names)), "")

    def _worth_another_try(self, title: str) -> bool:
        """Whether a find of this sitting may be shown by a smaller program than it has."""
        if title not in self.found or self._tries[title] >= _TRIES:
            return False
        return self.found[title][0].calls > SMALL

    def _look_into(self, waiting: _Sent, suspects: Sequence[tuple[int, Spot]]) -> None:
        if not self.plan.curious:
            self.count.known["not looked into"] += len(suspects)
            return
        for index, place in suspects:
            built = drawing.reporting(waiting.cases[index].built)
            if self._explained(built, place):
                continue
            try:
                self._one(waiting, index, built, place)
            except MachineError as error:
                self._restore(error)

    def _one(self, waiting: _Sent, index: int, built: Built, place: Spot) -> None:
        """Try a difference again, make it smaller, and write it down if it is new."""
        names = frozenset(place.outcomes)
        again = self._again(built, waiting.sandbox, names)
        if again is None or not again.same_as(place):
            self.count.unsteady += 1
            return
        shrinker = Shrinker(self.lockstep, waiting.sandbox)
        small, _ = shrinker.shrink(built, place)
        whole = self._again(small, waiting.sandbox, names)
        if whole is None:
            small, whole = built, place
        if title := self._met(small, whole):
            self._tries[title] += 1
            self.count.known[title] += 1
            if title in self.found and len(small.steps) < self.found[title][0].calls:
                self._keep(waiting, index, small, whole, name=title)
            return
        if self._explained(small, whole):
            return
        self._keep(waiting, index, small, whole)

    def _keep(
        self, waiting: _Sent, index: int, small: Built, whole: Spot, *, name: str = ""
    ) -> None:
        """Write a find down, or a smaller program for the one of that name."""
        found = self._record(waiting, index, small, whole)
        if name:
            found = msgspec.structs.replace(found, name=name)
        self._seen.setdefault(found.name, found.difference)
        if self._absent(found, waiting.sandbox):
            self._learn(self._seen[found.name])
        self.found[found.name] = found, small, whole
        self.count.fresh += not name
        self._records.add(found)
        self._write(found, small, waiting.sandbox, frozenset(whole.outcomes))
        self._progress.say(f"{found.name}: {found.what}: {found.sides}")

    def _absent(self, found: Found, sandbox: Sandbox) -> bool:
        """Whether a kernel that says ENOSYS does so whatever the call is given."""
        names = frozenset(n for n, seen in found.outcomes.items() if seen == causes.LACKING)
        if not names:
            return False
        program = Program(calls=(Call(number(found.syscall), (-1,) * 6),))
        (rans,) = self.lockstep.run([program], sandbox, [names])
        return all(ran.values == (-errno.ENOSYS,) for ran in rans.values())

    def _learn(self, difference: causes.Difference) -> None:
        lacking = frozenset(
            name
            for name, line in self.plan.lines.items()
            if difference.expected(name if name in difference.outcomes else line) == causes.LACKING
        )
        if lacking:
            self.lacking |= dict.fromkeys(difference.calls, lacking)

    def _again(self, built: Built, sandbox: Sandbox, names: frozenset[str]) -> Spot | None:
        (rans,) = self.lockstep.run([built.program], sandbox, [names])
        if any(ran.end is End.TIMED_OUT for ran in rans.values()):
            # A machine that has much to do is slow, which tells nothing about a kernel.
            patient = replace(sandbox, timeout=sandbox.timeout * _PATIENCE)
            (rans,) = self.lockstep.run([built.program], patient, [names])
        return None if refused(rans.values()) else spot(built, rans)

    def _record(self, waiting: _Sent, index: int, built: Built, place: Spot) -> Found:
        lacking = causes.LACKING in place.outcomes.values()
        argument = "" if lacking else causes.arguments(built, place.call)
        parts = (place.kind, place.syscall, place.item, argument, sorted(place.outcomes.items()))
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
        return Found(
            name=f"{place.syscall or 'nothing'}-{digest}",
            kernels=tuple(self.lockstep.agents),
            seed=self.plan.seed,
            batch=waiting.chunk.number,
            index=waiting.first + index,
            sandbox=waiting.chunk.sandbox,
            kind=place.kind,
            syscall=place.syscall,
            outcomes=dict(place.outcomes),
            argument=argument,
            item=place.item,
            calls=len(built.steps),
            call=-1 if place.call is None else place.call,
            example=keep(built),
        )

    def _write(self, found: Found, built: Built, sandbox: Sandbox, names: frozenset[str]) -> None:
        (rans,) = self.lockstep.run([built.program], sandbox, [names])
        parts = [found.name, f"  {found.what}: {found.sides}", f"  sandbox {found.sandbox}", ""]
        for name, ran in rans.items():
            parts += [f"{name}:", *(f"  {line}" for line in Trace(built, ran).lines())]
        folder = self.plan.folder / FINDINGS
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join([*parts, "", printers.to_python(built.program)])
        (folder / f"{found.name}.txt").write_text(text)

    def _confirm_all(self, task: Task) -> None:
        for turn, (found, built, place) in enumerate(list(self.found.values()), 1):
            if found.tried or not self.plan.times:
                continue
            task.note(f"confirming {turn} of {len(self.found)}: {found.name}")
            sandbox = self.plan.sandboxes[found.sandbox]
            done = confirm(self._team, self._cache, built, sandbox, place, times=self.plan.times)
            if done.text:
                headers = printers.shared_files()
                program = printers.including(done.text, headers)
                for name, text in {**headers, f"{found.name}.c": program}.items():
                    (self.plan.folder / FINDINGS / name).write_text(text)
            told = msgspec.structs.replace(
                found,
                confirmed=done.times,
                tried=done.tried,
                exits=dict(done.exits),
                note=done.note,
            )
            self.found[found.name] = told, built, place
            self._records.add(told)

    def _went(self, sent: _Sent) -> None:
        """Count a message that is done with, and note how far the seed got after a chunk's last."""
        self.count.programs += len(sent.cases)
        self.count.calls += sum(len(case.built.steps) for case in sent.cases)
        chunk = sent.chunk
        last = sent.first + len(sent.cases) == len(chunk.cases)
        if chunk.number == drawing.EARLIER or not last:
            return
        self._next = chunk.number + 1
        self._tell(whole=self._next % _WHOLE == 0)

    def _tell(self, *, whole: bool) -> None:
        """Record how far the sitting got; the whole of it has what known differences were met."""
        self._records.add(
            Went(
                seed=self.plan.seed,
                next=self._next,
                programs=self.count.programs,
                calls=self.count.calls,
                seconds=self.count.seconds,
                known=dict(self.count.known) if whole else {},
            )
        )

    def _broken(self, waiting: _Sent, name: str, error: MachineError) -> None:
        """A guest failed: find the program that does it, write it down, go on with a fresh one."""
        self.count.broken += 1
        self._replace(name)
        text, last = "", error
        for case, on in zip(waiting.cases, waiting.on, strict=True):
            if name not in on:
                continue
            try:
                self.lockstep.agents[name].run([case.built.program], waiting.sandbox)
            except MachineError as again:
                text, last = f"{case.built}\n\n{printers.to_python(case.built.program)}", again
                self._replace(name)
                break
        digest = hashlib.sha256(f"{name} {text} {waiting.chunk.number}".encode()).hexdigest()[:8]
        self._records.add(
            Broke(
                name=f"guest-{digest}",
                kernel=name,
                seed=self.plan.seed,
                batch=waiting.chunk.number,
                sandbox=waiting.chunk.sandbox,
                error=f"{type(last).__name__}: {last.message}",
                text=text,
                console=last.console[-4000:],
            )
        )
        self._progress.say(f"{name}: a guest failed: {last.message}")

    def _renew(self, names: frozenset[str]) -> None:
        """Fresh guests where there was no sandbox: a program has spoilt it for those after it."""
        self.count.spoilt += len(names)
        for name in names:
            self._replace(name)

    def _restore(self, error: MachineError) -> None:
        """After a guest failed while a difference was looked into: which one, nobody knows."""
        self._progress.say(f"a guest failed while a difference was looked into: {error.message}")
        for name in list(self.lockstep.agents):
            self._replace(name)

    def _replace(self, name: str) -> None:
        self._team.replace(name)
        self.lockstep.replace(name, self._team.agents[name])


def _refusing(answers: Sequence[Mapping[str, Ran]]) -> frozenset[str]:
    return frozenset(
        name for rans in answers for name, ran in rans.items() if ran.end is End.REFUSED
    )
