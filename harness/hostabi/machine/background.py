"""One thread, with an event loop, that outlives every machine of this process.

Monitors are served from it, and QEMU is started from it: the kernel sends a
parent-death signal when the *thread* that made the child ends (prctl(2),
PR_SET_PDEATHSIG), so a short-lived worker thread must not start machines.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def loop() -> asyncio.AbstractEventLoop:
    """The loop of this process, started on first use (and anew after a fork)."""
    with _lock:
        found = _loops.get(os.getpid())
        if found is None:
            found = asyncio.new_event_loop()
            threading.Thread(target=found.run_forever, name="hostabi-machines", daemon=True).start()
            _loops[os.getpid()] = found
        return found


def wait(coroutine: Coroutine[Any, Any, T], deadline: float) -> T:
    """Run ``coroutine`` there and wait at most ``deadline`` seconds; TimeoutError after that."""
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, deadline), loop())
    try:
        return future.result(deadline + 5)
    except concurrent.futures.TimeoutError:
        future.cancel()
        raise TimeoutError from None


def call(function: Callable[[], T]) -> T:
    """Run a short ``function`` in the thread and return its result."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    loop().call_soon_threadsafe(functools.partial(_settle, future, function))
    return future.result()


def every(seconds: float, function: Callable[[], None]) -> Callable[[], None]:
    """Call a short ``function`` in the thread every so many seconds, until the result is called.

    Once that has returned, ``function`` does not run and will not.
    """
    pending: list[asyncio.TimerHandle] = []

    def arm() -> None:
        pending[:] = [asyncio.get_running_loop().call_later(seconds, tick)]

    def tick() -> None:
        arm()
        function()

    def stop() -> None:
        pending.pop().cancel()

    call(arm)
    return functools.partial(call, stop)


def _settle(future: concurrent.futures.Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # handed to the caller
        future.set_exception(error)
