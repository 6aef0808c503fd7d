"""Stand-ins for what is on the other side of a wire: an agent in Python, as wrong as one likes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hostabi.agent.channel import SocketChannel
from hostabi.agent.client import Agent
from hostabi.agent.wire import FRAME, VERSION, constants, ffi, layout, pack


@dataclass(frozen=True)
class Request:
    """One frame from the host."""

    type: int
    id: int
    payload: bytes


Answer = bytes | None
"""Raw bytes to send back, or None to close the channel."""


def frame(request: Request, payload: bytes = b"", **changes: int) -> bytes:
    """A correct answer to a request, or one with fields of the frame changed."""
    fields = {
        "magic": constants.WIRE_MAGIC,
        "type": request.type,
        "id": request.id,
        "length": len(payload),
        **changes,
    }
    return pack("wire_frame", **fields) + payload


def hello_payload(
    *,
    version: int = VERSION,
    rows: dict[str, tuple[int, int]] | None = None,
    lost: bytes = b"",
    broken: bytes = b"",
    **changes: object,
) -> bytes:
    """What an agent of the same build says.

    ``rows`` is the layout it claims, ``lost`` and ``broken`` the texts of what
    is missing and of what failed, each with its NUL.
    """
    rows = layout() if rows is None else rows
    fields: dict[str, object] = {
        "version": version,
        "pid1": 1,
        "cpus": 1,
        "memory": 512 << 20,
        "layouts": len(rows),
        "missing": len(lost),
        "failed": len(broken),
        "release": b"6.1.0-fake",
        "machine": b"x86_64",
        **changes,
    }
    table = b"".join(
        pack("wire_layout", name=name.encode(), offset=offset, size=size)
        for name, (offset, size) in rows.items()
    )
    return pack("wire_hello", **fields) + table + lost + broken


@dataclass
class FakeAgent:
    """Answers requests by type; a type that nothing is set for gets an empty, correct answer."""

    answers: dict[int, Callable[[Request], Answer]] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> Answer:
        """The bytes to send for a request."""
        self.seen.append(request)
        if request.type in self.answers:
            return self.answers[request.type](request)
        payload = hello_payload() if request.type == constants.WIRE_HELLO else b""
        return frame(request, payload)

    def serve(self, end: socket.socket) -> None:
        """Serve until either side closes."""
        channel = SocketChannel(end)
        with end, suppress(Exception):
            while True:
                head: Any = ffi.from_buffer("struct wire_frame[]", _read(channel, FRAME))
                request = Request(head[0].type, head[0].id, _read(channel, head[0].length))
                answer = self.answer(request)
                if answer is None:
                    return
                end.settimeout(None)
                end.sendall(answer)


def _read(channel: SocketChannel, size: int) -> bytes:
    return channel.receive(size, time.monotonic() + 60) if size else b""


@contextmanager
def fake_agent(fake: FakeAgent | None = None, *, timeout: float = 0.5) -> Iterator[Agent]:
    """An Agent whose other end is ``fake``; ``timeout`` is about how long a wait may last (s)."""
    fake = fake or FakeAgent()
    ours, its = socket.socketpair()
    thread = threading.Thread(target=fake.serve, args=(its,), daemon=True)
    thread.start()
    try:
        # The client allows an answer ten seconds beyond its own time; scaled down here.
        yield Agent(SocketChannel(ours), timeout_scale=timeout / 10)
    finally:
        ours.close()
        thread.join(5)
