"""Programs that talk over sockets: what tests of them share."""

from __future__ import annotations

from dataclasses import replace

from hostabi.agent.program import Result, Store
from hostabi.syscalls.builder import Number, Ref, Slot, Value
from hostabi.syscalls.cases import Script
from hostabi.syscalls.table import C

SHUT_RD, SHUT_WR, SHUT_RDWR = range(3)
"""shutdown(2); the C library's numbers."""
NOW = C.MSG_DONTWAIT | C.MSG_NOSIGNAL
LOOPBACK = {C.AF_INET: bytes([127, 0, 0, 1]), C.AF_INET6: bytes(15) + b"\1"}


def address(family: int, host: bytes, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6: ip(7), ipv6(7)."""
    head = family.to_bytes(2, "little") + port.to_bytes(2, "big")
    if family == C.AF_INET:
        return head + host + bytes(8)
    return head + bytes(4) + host + bytes(4)


class Talk(Script):
    """Sends and receives messages."""

    def pair(self, kind: int) -> tuple[Number, Number]:
        ends = self.buffer(8)
        self.returns(0, "socketpair", C.AF_UNIX, kind, 0, ends)
        return ends.word(0), ends.word(1)

    def message(self, parts: list[Slot], control: Slot | None = None, length: int = -1) -> Slot:
        """struct msghdr over some buffers and ``length`` bytes of control messages."""
        rows = [{"iov_base": part, "iov_len": part.size} for part in parts]
        vector = self.array("struct iovec", rows)
        fields: dict[str, Value] = {"msg_iov": vector, "msg_iovlen": len(rows)}
        stores = vector.stores
        if control is not None:
            fields |= {
                "msg_control": control,
                "msg_controllen": control.size if length < 0 else length,
            }
            stores += control.stores
        header = self.struct("struct msghdr", **fields)
        return replace(header, stores=header.stores + stores)

    def control(self, kind: int, payload: bytes, level: int = C.SOL_SOCKET) -> Slot:
        """One control message: cmsg(3)."""
        head = (16 + len(payload)).to_bytes(8, "little")
        head += level.to_bytes(4, "little") + kind.to_bytes(4, "little")
        return self.content(head + payload)

    def with_result(self, slot: Slot, at: int, ref: Ref) -> Slot:
        """``slot`` with what a call returned at this offset."""
        store = Store(slot.offset + at, Result(ref.call), 4)
        return replace(slot, stores=(*slot.stores, store))

    def loopback_up(self) -> None:
        """In a new network namespace it is down: netdevice(7)."""
        fd = self.works("socket", C.AF_INET, C.SOCK_DGRAM, 0)
        raw = b"lo".ljust(16, b"\0") + C.IFF_UP.to_bytes(2, "little") + bytes(22)
        self.returns(0, "ioctl", fd, C.SIOCSIFFLAGS, self.content(raw))
        self.returns(0, "close", fd)

    def option(self, fd: Value, level: int, name: int, value: int) -> None:
        self.returns(0, "setsockopt", fd, level, name, self.content(value.to_bytes(4, "little")), 4)
