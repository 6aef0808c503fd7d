"""What contracts on identities and capabilities share."""

from __future__ import annotations

import errno

from families import Family

from hostabi.syscalls.builder import Ref, Slot
from hostabi.syscalls.table import C

ALL = (1 << C.CAP_LAST_CAP + 1) - 1
"""Every capability; a kernel that knows fewer masks the others off."""
EPERM = -errno.EPERM
VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, linux/capability.h
SAMPLE = (
    C.CAP_CHOWN,
    C.CAP_KILL,
    C.CAP_SETUID,
    C.CAP_SETPCAP,
    C.CAP_NET_RAW,
    C.CAP_SYS_NICE,
    C.CAP_SYSLOG,
)
"""Few capabilities, of both words, so that sets overlap."""


def bits(*capabilities: int) -> int:
    """The set as a number."""
    return sum(1 << capability for capability in set(capabilities))


def needs_reset(new: tuple[int, ...], old: tuple[int, ...], file: int) -> bool:
    """Whether setresuid changes no id of the three, and must reset the file system id still."""
    same = all(value in (-1, was) for value, was in zip(new, old, strict=True))
    return same and new[1] == -1 and file != old[1]


class Credentials(Family):
    """A family that sets and reads its identities and capabilities."""

    powerful = True

    def header(self) -> Slot:
        """Of capset(2) and capget(2): the third version, for the caller."""
        return self.struct("struct __user_cap_header_struct", version=VERSION_3)

    def sets(self, effective: int, permitted: int, inheritable: int) -> Slot:
        """Two words of each set."""
        rows = [
            {
                "effective": effective >> shift & 0xFFFFFFFF,
                "permitted": permitted >> shift & 0xFFFFFFFF,
                "inheritable": inheritable >> shift & 0xFFFFFFFF,
            }
            for shift in (0, 32)
        ]
        return self.array("struct __user_cap_data_struct", rows)

    def capset(self, result: int, effective: int, permitted: int, inheritable: int) -> Ref:
        """Set the three."""
        return self.returns(
            result, "capset", self.header(), self.sets(effective, permitted, inheritable)
        )

    def capget(self, effective: int, permitted: int, inheritable: int, mask: int = ALL) -> None:
        """The three must be these, among the capabilities of ``mask``."""
        room = self.buffer(24)
        ref = self.returns(0, "capget", self.header(), room, out=[room])

        def check(trace) -> None:
            words = [
                int.from_bytes(trace.bytes(ref, room)[at : at + 4], "little")
                for at in range(0, 24, 4)
            ]
            found = tuple((words[index] | words[index + 3] << 32) & mask for index in range(3))
            want = tuple(value & mask for value in (effective, permitted, inheritable))
            assert found == want, (
                f"effective, permitted, inheritable are {tuple(map(hex, found))}, "
                f"must be {tuple(map(hex, want))}"
            )

        self.ensure(check)

    def drop_bounding(self, kept: int, among: tuple[int, ...] = SAMPLE) -> None:
        """Take those of ``among`` that are not kept off the bounding set."""
        for capability in among:
            if not kept >> capability & 1:
                self.returns(0, "prctl", C.PR_CAPBSET_DROP, capability)

    def ambient(self, capability: int, want: bool) -> None:
        """Whether a capability is ambient."""
        self.returns(
            int(want), "prctl", C.PR_CAP_AMBIENT, C.PR_CAP_AMBIENT_IS_SET, capability, 0, 0
        )

    def raise_ambient(self, capability: int, result: int = 0) -> None:
        """Make it ambient."""
        self.returns(result, "prctl", C.PR_CAP_AMBIENT, C.PR_CAP_AMBIENT_RAISE, capability, 0, 0)

    def give(self, path: str, permitted: int, inheritable: int, effective: bool) -> None:
        """File capabilities: struct vfs_cap_data of the second revision, linux/capability.h."""
        words = [0x02000000 | int(effective)]
        for shift in (0, 32):
            words += [permitted >> shift & 0xFFFFFFFF, inheritable >> shift & 0xFFFFFFFF]
        value = self.content(b"".join(word.to_bytes(4, "little") for word in words))
        names = self.string(path), self.string("security.capability")
        self.returns(0, "setxattr", *names, value, value.size, 0)

    def ids(self, kind: str, real: int, effective: int, saved: int) -> None:
        """getresuid or getresgid must tell these three."""
        room = self.buffer(12)
        slots = [room.at(at, 4) for at in (0, 4, 8)]
        ref = self.returns(0, f"getres{kind}id", *slots, out=[room])
        want = b"".join(value.to_bytes(4, "little") for value in (real, effective, saved))
        self.holds(ref, room, want)

    def set_groups(self, result: int, groups: list[int]) -> None:
        """The supplementary groups."""
        room = self.content(b"".join(group.to_bytes(4, "little") for group in groups))
        self.returns(result, "setgroups", len(groups), room)

    def groups(self, groups: list[int]) -> None:
        """The supplementary groups must be these; the kernel keeps them sorted."""
        room = self.buffer(4 * max(len(groups), 1))
        ref = self.returns(len(groups), "getgroups", len(groups), room, out=[room])
        want = b"".join(group.to_bytes(4, "little") for group in sorted(groups))
        self.holds(ref, room, want.ljust(room.size, b"\0"))
