"""Files: every question is asked once, of every file system, and answers are read right."""

from __future__ import annotations

from hostabi.agent.program import End, Ran, Scratch
from hostabi.diff import keys
from hostabi.model import Value
from hostabi.surfaces import files
from hostabi.surfaces.probing import Probe, outcome
from hostabi.syscalls.table import C

EVERYWHERE, LAYERS = (part.probes for part in files.SURFACE.parts)


def answer(probe: Probe, returned: int, written: bytes = b"") -> Value:
    """What the probe says when all its calls return a number and leave these bytes."""
    program = probe.built.program
    outputs = tuple(written.ljust(output.length, b"\0") for output in program.outputs)
    values = [3] * len(program.calls)
    values[probe.ref.call] = returned
    return outcome(probe, Ran(End.EXITED, 0, tuple(values), outputs))[0]


def test_each_file_system_is_asked_the_same() -> None:
    asked = {
        scratch: {
            key.removeprefix(f"{scratch}.") for key in EVERYWHERE if key.startswith(f"{scratch}.")
        }
        for scratch in Scratch
    }
    assert asked[Scratch.TMPFS] == asked[Scratch.EXT4] == asked[Scratch.OVERLAY]
    assert len(asked[Scratch.TMPFS]) > 100
    assert not EVERYWHERE.keys() & LAYERS.keys()


def test_numbers_of_inodes_are_left_out() -> None:
    assert answer(EVERYWHERE["ns.mnt"], 16, b"mnt:[4026531841]") == "mnt:[#]"
    assert answer(EVERYWHERE["fd.pidfd"], 18, b"anon_inode:[pidfd]") == "anon_inode:[pidfd]"


def test_types_of_file_systems_read_like_their_headers() -> None:
    magic = (0x50494446).to_bytes(8, "little")
    assert answer(EVERYWHERE["fd.pidfd#f_type"], 0, magic) == "0x50494446"
    assert answer(EVERYWHERE["fd.pidfd#f_type"], -9) == "EBADF"


def test_a_flag_must_take_effect() -> None:
    probe = EVERYWHERE["tmpfs.FS_IOC_SETFLAGS.NODUMP"]
    assert answer(probe, 0, C.FS_NODUMP_FL.to_bytes(8, "little")) == keys.OK
    assert answer(probe, 0) == "without effect"


def test_a_program_that_is_none_was_taken_all_the_same() -> None:
    assert answer(EVERYWHERE["execve.of-written"], -8) == keys.OK
    assert answer(EVERYWHERE["execve.of-written"], -26) == "ETXTBSY"
