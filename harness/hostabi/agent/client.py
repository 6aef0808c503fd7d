"""An agent as an object: each method is one request and its answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hostabi.agent import messages
from hostabi.agent.channel import Channel, ChannelClosedError, ChannelTimeoutError
from hostabi.agent.program import AS_IT_IS, Alteration, End, Program, Ran, Sandbox
from hostabi.agent.records import Completed, Entry, Hello
from hostabi.agent.wire import FRAME, LIMIT, Reader, constants, ffi, pack
from hostabi.closing import Closing
from hostabi.errors import (
    AgentLostError,
    CallError,
    GuestHangError,
    HostabiError,
    InputError,
    ProtocolError,
)

DEFAULT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C",
}
_GRACE = 10.0
"""Seconds that an answer may take beyond what the request itself allows."""
_PER_PROGRAM = 0.25
"""Seconds more for each program: its sandbox is made and its leftovers are removed."""
_MESSAGE = 30.0
"""Seconds that the programs of one message may take, so that a guest that hangs is noticed soon."""
_BLOCK = 8 << 20
"""Bytes read or written in one request; also about how many bytes of programs go in one."""
_WALK = 60.0
"""Seconds a walk may take."""

_T = TypeVar("_T")
Diagnose = Callable[[Exception], HostabiError]


def diagnose(error: Exception) -> HostabiError:
    """What a channel's failure means when nothing else is known about the other end."""
    if isinstance(error, ChannelTimeoutError):
        return GuestHangError(
            f"the agent does not answer: {error}",
            advice="raise the time-out, or look whether the machine still runs",
        )
    if isinstance(error, ProtocolError):
        return error
    return AgentLostError(f"lost the agent: {error}", advice="start a fresh machine")


@dataclass(frozen=True, slots=True)
class Pending:
    """Programs that were sent and whose records have not been collected."""

    id: int
    programs: tuple[Program, ...]
    deadline: float


class Agent(Closing):
    """One agent. A context manager that owns its channel; for one thread at a time.

    ``timeout_scale`` multiplies every deadline and time-out, here and in the
    guest, for machines that are emulated. Methods raise CallError when the
    guest's kernel refuses, ProtocolError for an answer that is none, and what
    ``diagnose`` makes of that, or of a channel that closed or went silent. After
    the last two the agent is of no use any more. ``inspect`` tells whether the
    kernel broke without a panic; it is asked where a program or a command was
    killed and at each reset, and what it gives is raised.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        diagnose: Diagnose = diagnose,
        inspect: Callable[[], HostabiError | None] = lambda: None,
        timeout_scale: float = 1.0,
        hello_timeout: float = _GRACE,
    ) -> None:
        self.timeout_scale = timeout_scale
        self.diagnose = diagnose
        self.inspect = inspect
        self._channel = channel
        self._id = 0
        self._broken: HostabiError | None = None
        with_hello = self._request(constants.WIRE_HELLO, b"", timeout=hello_timeout - _GRACE)
        self.hello: Hello = self._decode(messages.decode_hello, with_hello)

    @property
    def requests(self) -> int:
        """How many requests were sent so far, hello among them."""
        return self._id

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    # The exchange of frames.

    def _fail(self, error: Exception) -> HostabiError:
        failure = self.diagnose(error)
        self._broken = failure
        return failure

    def _look(self) -> None:
        """Raise what broke the kernel, if anything did since we looked last."""
        broken = self.inspect()
        if broken is not None:
            self._broken = broken
            raise broken

    def _send(self, kind: int, payload: bytes, timeout: float) -> tuple[int, float]:
        """Send a request; its id and the deadline for its answer."""
        if self._broken is not None:
            raise self._broken
        if len(payload) > LIMIT:
            raise InputError(
                f"a request of {len(payload)} bytes is longer than {LIMIT}",
                advice="send it in parts",
            )
        deadline = time.monotonic() + (timeout + _GRACE) * self.timeout_scale
        self._id = (self._id + 1) & 0xFFFF_FFFF
        frame = pack(
            "wire_frame",
            magic=constants.WIRE_MAGIC,
            type=kind,
            id=self._id,
            length=len(payload),
        )
        try:
            self._channel.send(frame + payload, deadline)
        except (ChannelClosedError, ChannelTimeoutError) as error:
            raise self._fail(error) from error
        return self._id, deadline

    def _receive(self, kind: int, request: int, deadline: float) -> bytes:
        """The payload of the answer to a request. Raises CallError for an errno."""
        if self._broken is not None:
            raise self._broken
        try:
            # A struct taken out of a buffer does not keep the buffer's memory; `frames` does.
            frames = ffi.from_buffer("struct wire_frame[]", self._channel.receive(FRAME, deadline))
            frame = frames[0]
            if frame.magic != constants.WIRE_MAGIC:
                raise ProtocolError(f"the agent sent garbage: magic {frame.magic:#010x}")
            if frame.length > LIMIT:
                raise ProtocolError(f"the agent announced a frame of {frame.length} bytes")
            if (frame.type, frame.id) != (kind, request):
                raise ProtocolError(
                    f"the agent answered request {frame.id} of type {frame.type}, "
                    f"not {request} of type {kind}"
                )
            if not 0 <= frame.status < 4096:
                raise ProtocolError(f"the agent answered with the status {frame.status}")
            payload = self._channel.receive(frame.length, deadline) if frame.length else b""
        except (ChannelClosedError, ChannelTimeoutError, ProtocolError) as error:
            raise self._fail(error) from error
        if frame.status:
            what = payload[:200].decode(errors="replace")
            raise CallError(f"{what}: {os.strerror(frame.status)}", errno=frame.status)
        return payload

    def _request(self, kind: int, payload: bytes, timeout: float = 0.0) -> bytes:
        request, deadline = self._send(kind, payload, timeout)
        return self._receive(kind, request, deadline)

    # What an agent can do.

    def ping(self) -> float:
        """Seconds for one empty request and its answer."""
        start = time.perf_counter()
        self._request(constants.WIRE_PING, b"")
        return time.perf_counter() - start

    def submit(
        self,
        programs: Sequence[Program],
        sandbox: Sandbox = Sandbox(),
        *,
        payload: bytes | None = None,
    ) -> Pending:
        """Send programs in one message without waiting; :meth:`collect` must come next.

        ``payload`` is the message when the caller has it already, as it is the
        same for each agent with this ``timeout_scale``.
        """
        if payload is None:
            payload = messages.encode_run(programs, sandbox, self.timeout_scale)
        timeout = len(programs) * (sandbox.timeout + _PER_PROGRAM)
        request, deadline = self._send(constants.WIRE_RUN, payload, timeout)
        return Pending(request, tuple(programs), deadline)

    def collect(self, pending: Pending) -> list[Ran]:
        """The records of programs that were submitted, in their order."""
        payload = self._receive(constants.WIRE_RUN, pending.id, pending.deadline)
        reader = Reader(payload)
        try:
            records = [messages.decode_ran(reader, program) for program in pending.programs]
            if reader.left:
                raise ProtocolError(f"{reader.left} bytes too many in an answer")
        except ProtocolError as error:
            raise self._fail(error) from error
        if any(each.end is End.SIGNALLED and each.code == signal.SIGKILL for each in records):
            self._look()
        return records

    def run(self, programs: Sequence[Program], sandbox: Sandbox = Sandbox()) -> list[Ran]:
        """Run programs one after another, each in a fresh child in ``sandbox``."""
        records: list[Ran] = []
        batch: list[Program] = []
        room = _BLOCK
        most = max(1, int(_MESSAGE / (sandbox.timeout + _PER_PROGRAM)))
        for program in programs:
            # An upper bound both of what is sent and of what comes back.
            size = 256 * (1 + len(program.calls)) + len(program.data)
            size += sum(output.length + 64 for output in program.outputs)
            if batch and (size > room or len(batch) == most):
                records += self.collect(self.submit(batch, sandbox))
                batch, room = [], _BLOCK
            batch.append(program)
            room -= size
        if batch:
            records += self.collect(self.submit(batch, sandbox))
        return records

    def command(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 30,
        root: str = "",
        cwd: str = "/",
        limit: int = 4 << 20,
    ) -> Completed:
        """Run a command and wait for it; processes that it leaves behind live on until reset.

        ``root`` is a folder to make its root by a mount namespace and
        pivot_root, with /proc, /sys, /dev, /run, /tmp and /work of the machine.
        At most ``limit`` bytes are kept of each stream. After ``timeout``
        seconds it and everything it started is killed. Raises CallError when
        it could not be started.
        """
        payload = messages.encode_command(
            argv,
            env=DEFAULT_ENVIRONMENT if env is None else env,
            stdin=stdin,
            timeout=timeout * self.timeout_scale,
            root=root,
            cwd=cwd,
            limit=limit,
        )
        try:
            answer = self._request(constants.WIRE_COMMAND, payload, timeout=timeout)
        except CallError as error:
            raise CallError(f"{argv[0]}: {error.message}", errno=error.errno) from error
        completed = self._decode(messages.decode_completed, answer)
        if completed.signal == signal.SIGKILL and not completed.timed_out:
            self._look()
        return completed

    def _decode(self, decode: Callable[[bytes], _T], payload: bytes) -> _T:
        try:
            return decode(payload)
        except ProtocolError as error:
            raise self._fail(error) from error

    def read(self, path: str, limit: int = 64 << 20) -> bytes:
        """At most ``limit`` bytes of a file.

        Raises CallError; a file that blocks gives EAGAIN or EINTR.
        """
        raw = messages.path_bytes(path)
        parts: list[bytes] = []
        got = 0
        while got < limit:
            block = min(_BLOCK, limit - got)
            head = pack("wire_read", offset=got, limit=block, path=len(raw))
            part = self._named(path, constants.WIRE_READ, head + raw)
            if len(part) > block:
                raise self._fail(ProtocolError("the agent answered more than was asked for"))
            parts.append(part)
            got += len(part)
            if len(part) < block:
                break
        return b"".join(parts)

    def write(self, path: str, data: bytes, *, mode: int = 0o644, create: bool = True) -> None:
        """Replace a file's content, or tell a file of the kernel something. Raises CallError."""
        raw = messages.path_bytes(path)
        first = constants.WIRE_TRUNCATE | (constants.WIRE_CREATE if create else 0)
        for offset in range(0, max(1, len(data)), _BLOCK):
            part = data[offset : offset + _BLOCK]
            head = pack(
                "wire_write",
                offset=offset,
                mode=mode,
                flags=0 if offset else first,
                path=len(raw),
                length=len(part),
            )
            self._named(path, constants.WIRE_WRITE, head + raw + part)

    def _named(self, path: str, kind: int, payload: bytes, timeout: float = 5.0) -> bytes:
        try:
            return self._request(kind, payload, timeout=timeout)
        except CallError as error:
            raise CallError(f"{path}: {error.message}", errno=error.errno) from error

    def walk(
        self,
        path: str,
        *,
        contents: int = 0,
        sandbox: Sandbox | None = None,
        follow_mounts: bool = False,
        skip_numbers: bool = False,
        depth: int = 0,
        limit: int = 200_000,
    ) -> list[Entry]:
        """All entries of the tree at ``path``, itself first, in the order of their names.

        With ``depth`` > 0 only so many levels below it; ``skip_numbers`` passes
        over names of digits only, such as the processes in /proc.

        With ``contents`` > 0 regular files are read up to so many bytes each
        and tried for writing. Links are never followed and devices never
        opened. Raises CallError: EOVERFLOW for more than ``limit`` entries or
        than fits an answer (32 MiB).
        """
        box = sandbox or Sandbox(timeout=_WALK)
        payload = messages.encode_walk(
            path,
            contents,
            limit,
            sandbox=box,
            scale=self.timeout_scale,
            follow_mounts=follow_mounts,
            skip_numbers=skip_numbers,
            depth=depth,
        )
        answer = self._named(path, constants.WIRE_WALK, payload, timeout=box.timeout)
        entries, truncated = self._decode(messages.decode_walked, answer)
        if truncated:
            raise CallError(
                f"{path}: more than {len(entries)} entries or 32 MiB",
                errno=75,
                advice="walk a smaller tree or keep less of each file",
            )
        return entries

    def reset(self) -> None:
        """Kill what programs and commands left running and empty the scratch folders."""
        self._request(constants.WIRE_RESET, b"", timeout=10)
        self._look()

    def set_clock_and_entropy(self, now: float, entropy: bytes) -> None:
        """Set the guest's time, and stir in ``entropy`` of at most 512 bytes.

        ``now`` in seconds since 1970. For a machine brought back from a saved
        state: its clock stands still and its random numbers repeat.
        """
        head = pack(
            "wire_clock",
            seconds=int(now),
            nanoseconds=int(now % 1 * 1_000_000_000),
            entropy=len(entropy),
        )
        self._request(constants.WIRE_CLOCK, head + entropy)

    def alter(self, alteration: Alteration = AS_IT_IS) -> None:
        """Have programs find one call differ from here on; nothing differs without an argument.

        Raises CallError, ENOSYS, for an agent that is no build for tests.
        """
        self._request(constants.WIRE_ALTER, messages.encode_alteration(alteration))

    def shell(self) -> None:
        """Start an interactive shell on the guest's second serial line, /dev/ttyS1.

        When the shell ends, the guest switches itself off, which closes that line.
        """
        self._request(constants.WIRE_SHELL, b"")

    def power_off(self) -> None:
        """Have the guest sync, unmount and switch off. Returns when it has agreed to."""
        self._request(constants.WIRE_POWER_OFF, b"")
