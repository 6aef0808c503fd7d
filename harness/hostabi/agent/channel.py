"""The byte stream between host and agent, with a deadline on every wait."""

from __future__ import annotations

import socket
import time
from typing import Protocol

from hostabi.errors import HostabiError


class ChannelClosedError(HostabiError):
    """The other end is gone."""


class ChannelTimeoutError(HostabiError):
    """The other end was silent, or took nothing, until the deadline."""


class Channel(Protocol):
    """Bytes in both directions. Deadlines are of :func:`time.monotonic`."""

    def send(self, data: bytes, deadline: float | None = None) -> None:
        """Send all. Raises ChannelClosedError or ChannelTimeoutError."""

    def receive(self, n: int, deadline: float) -> bytes:
        """Exactly ``n`` bytes. Raises ChannelClosedError or ChannelTimeoutError."""

    def close(self) -> None:
        """Close; more than once is fine."""


_CHUNK = 65536


class SocketChannel:
    """A :class:`Channel` over a connected stream socket, which it owns."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._rest = bytearray()
        """Received, but not asked for yet."""

    def _arm(self, deadline: float | None) -> None:
        if deadline is None:
            self._socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise ChannelTimeoutError("the deadline has passed")
        self._socket.settimeout(left)

    def send(self, data: bytes, deadline: float | None = None) -> None:
        try:
            self._arm(deadline)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise ChannelTimeoutError("nobody takes what is sent") from error
        except OSError as error:
            raise ChannelClosedError(f"the channel is closed: {error.strerror}") from error

    def receive(self, n: int, deadline: float) -> bytes:
        while len(self._rest) < n:
            try:
                self._arm(deadline)
                got = self._socket.recv(max(_CHUNK, min(n - len(self._rest), 1 << 20)))
            except TimeoutError as error:
                raise ChannelTimeoutError(
                    f"{len(self._rest)} of {n} bytes came before the deadline"
                ) from error
            except OSError as error:
                raise ChannelClosedError(f"the channel is closed: {error.strerror}") from error
            if not got:
                raise ChannelClosedError("the other end closed the channel")
            self._rest += got
        wanted = bytes(self._rest[:n])
        del self._rest[:n]
        return wanted

    def close(self) -> None:
        self._socket.close()
