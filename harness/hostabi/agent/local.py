"""The agent as a process on the kernel we are on, never with privileges.

Programs can kill, mount and write settings, so here they run as an ordinary
user with no_new_privs: as nobody when root calls, else as the caller.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostabi import resources
from hostabi.agent.build import FileCache, binary
from hostabi.agent.channel import SocketChannel
from hostabi.agent.client import Agent
from hostabi.packages.cache import Cache

NOBODY = 65534
_SPARE_TASKS = 512
"""How many processes and threads the agent's user may have beyond those it has now."""
_GOODBYE = 10.0
"""Seconds the agent may take to clean up once its channel is closed."""


def _tasks_of(uid: int) -> int:
    """Threads of all processes of a user, which is what RLIMIT_NPROC counts (getrlimit(2))."""
    count = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if process.stat().st_uid == uid:
                count += sum(1 for _ in (process / "task").iterdir())
        except OSError:
            continue  # it ended meanwhile
    return count


@contextmanager
def _folder(uid: int) -> Iterator[Path]:
    shared = Path("/dev/shm")  # noqa: S108 - a tmpfs, as in guests
    usable = shared.is_dir() and os.access(shared, os.W_OK | os.X_OK)
    folder = Path(tempfile.mkdtemp(prefix="hostabi-", dir=shared if usable else None))
    try:
        if uid != os.geteuid():
            os.chown(folder, uid, uid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _spawn(program: Path, channel: int, folder: Path, uid: int) -> subprocess.Popen[bytes]:
    # From memory, for the user it becomes may not be able to reach the cache's folder.
    image = os.memfd_create("agent")
    try:
        with os.fdopen(os.dup(image), "wb") as file:
            file.write(program.read_bytes())
        drop = os.geteuid() == 0
        tasks = str(_tasks_of(uid) + _SPARE_TASKS)
        argv = ["agent", "--channel", str(channel), "--scratch", str(folder), "--tasks", tasks]
        return subprocess.Popen(
            argv,
            executable=f"/proc/self/fd/{image}",
            pass_fds=(channel, image),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
            user=uid if drop else None,
            group=uid if drop else None,
            extra_groups=[] if drop else None,
        )
    finally:
        os.close(image)


@contextmanager
def local_agent(
    program: Path | None = None, *, cache: FileCache | None = None, timeout_scale: float = 1.0
) -> Iterator[Agent]:
    """An agent on the running kernel; gone with all its processes and files after the block.

    ``program`` is the agent's binary, built into ``cache`` when not given.
    """
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    path = program or binary("agent", cache or Cache(resources.cache()))
    ours, its = socket.socketpair()
    with _folder(uid) as folder:
        try:
            process = _spawn(path, its.fileno(), folder, uid)
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        try:
            with Agent(SocketChannel(ours), timeout_scale=timeout_scale) as agent:
                yield agent
        finally:
            ours.close()
            try:
                process.wait(_GOODBYE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
