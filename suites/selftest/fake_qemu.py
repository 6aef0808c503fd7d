"""A program that acts out QEMU, as badly as HOSTABI_FAKE says; see ``MODES``."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable

MODES = """
exit     complains and leaves at once
mute     never greets
serve    greets, and an agent answers
hang     greets; the agent is silent
panic    the kernel panics when it is first spoken to
reset    the guest resets itself when first spoken to
close    the agent closes its port when first spoken to
garbage  the agent answers with garbage
die      leaves when the agent is first spoken to
cut      serves, but reports a failed restore
small    the agent says that its initramfs was cut off
oops     the kernel oopses and kills the command that did it, and goes on
lacking  the agent says that a disk did not come

"kvm-MODE" is that mode under KVM, and "serve" otherwise.
"""


class Fake:
    """One run."""

    def __init__(self, arguments: list[str], mode: str) -> None:
        self.mode = mode
        line = " ".join(arguments)
        self.monitor = self._socket(line, "monitor")
        self.agent = self._socket(line, "agent")
        console = re.search(r"id=console,\S*path=(\S+)", line)
        assert console is not None
        self.console = open(console[1], "ab", buffering=0)  # noqa: PTH123, SIM115
        self.descriptors: dict[str, int] = {}
        self.received: list[int] = []
        self.running = threading.Event()
        if "-S" not in arguments:
            self.running.set()

    def _socket(self, line: str, name: str) -> socket.socket:
        found = re.search(rf"socket,id={name},fd=(\d+)", line)
        assert found is not None
        return socket.socket(fileno=int(found[1]))

    def say(self, message: dict[str, object]) -> None:
        self.monitor.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: object) -> None:
        now = {"seconds": int(time.time()), "microseconds": 0}
        self.say({"event": name, "data": data, "timestamp": now})

    def run(self) -> None:
        if self.mode == "mute":
            threading.Event().wait()
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"}
        self.say({"QMP": {"version": version, "capabilities": ["oob"]}})
        threading.Thread(target=self.guest, daemon=True).start()
        rest = ""
        while True:
            data, descriptors, _, _ = socket.recv_fds(self.monitor, 65536, 1)
            self.received += descriptors
            if not data:
                return
            rest = (rest + data.decode()).lstrip()
            while rest:  # requests come without anything between them
                try:
                    request, end = json.JSONDecoder().raw_decode(rest)
                except json.JSONDecodeError:
                    break
                rest = rest[end:].lstrip()
                self.obey(request)

    def obey(self, request: dict[str, object]) -> None:
        name = request.get("execute") or request.get("exec-oob")
        arguments = request.get("arguments") or {}
        assert isinstance(arguments, dict)
        answer: object = {}
        if name == "getfd":
            self.descriptors[str(arguments["fdname"])] = self.received.pop(0)
        elif name == "query-status":
            answer = {"status": "running", "running": True, "singlestep": False}
        elif name == "cont":
            self.running.set()
        self.say({"return": answer, "id": request.get("id")})
        if name == "migrate":
            os.write(self.descriptors["state"], b"a machine's state " * 1000)
            os.close(self.descriptors["state"])
            self.event("MIGRATION", status="completed")
        elif name == "migrate-incoming":
            with open(int(str(arguments["uri"]).removeprefix("fd:")), "rb") as file:  # noqa: PTH123
                whole = len(file.read()) == 18000
            good = whole and self.mode != "cut"
            self.event("MIGRATION", status="completed" if good else "failed")

    def guest(self) -> None:
        self.running.wait()
        self.console.write(b"[    0.0] a kernel begins\r\n")
        if self.mode in ("serve", "cut", "small", "lacking", "oops"):
            self.serve()
            return
        self.agent.recv(1)
        acts: dict[str, Callable[[], None]] = {
            "hang": threading.Event().wait,
            "panic": self.panic,
            "reset": self.reset,
            "close": self.close,
            "garbage": lambda: self.agent.sendall(b"garbage " * 100),
            "die": lambda: os._exit(3),
        }
        acts[self.mode]()
        threading.Event().wait()

    def serve(self) -> None:
        from fakes import FakeAgent, Request, frame, hello_payload

        from hostabi.agent.wire import constants, pack

        hello = hello_payload(
            lost=b"/hostabi/boot\0" if self.mode == "small" else b"",
            broken=b"disk modules at /lib/modules: gone\0" if self.mode == "lacking" else b"",
        )

        def command(request: Request) -> bytes:
            if self.mode == "oops":
                self.console.write(b"[    0.2] Oops: int3: 0000 [#1] acted out\r\n[    0.2] CPU")
            return frame(request, pack("wire_completed", status=-1, signal=9))

        answers = {
            constants.WIRE_HELLO: lambda request: frame(request, hello),
            constants.WIRE_COMMAND: command,
        }
        FakeAgent(answers).serve(self.agent)

    def panic(self) -> None:
        self.event("GUEST_PANICKED", action="run")
        self.console.write(b"[    0.1] Kernel panic - not syncing: acted out\r\n")
        self.event("SHUTDOWN", guest=True, reason="guest-reset")
        os._exit(0)

    def reset(self) -> None:
        self.event("SHUTDOWN", guest=True, reason="guest-reset")
        os._exit(0)

    def close(self) -> None:
        self.event("VSERPORT_CHANGE", id="agent-port", open=False)


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("QEMU emulator version 7.2.0 (fake)")  # noqa: T201
        sys.exit(0)
    chosen = os.environ["HOSTABI_FAKE"]
    if chosen.startswith("kvm-"):
        chosen = chosen.removeprefix("kvm-") if "kvm" in sys.argv else "serve"
    if chosen == "exit":
        sys.exit("fake: I will not start")
    Fake(sys.argv[1:], chosen).run()
