"""The process that forks function processes: small, without Twisted, without threads.

The node daemon starts it and holds the other end of its control socket (descriptor 3). Over it come a
frame with the set-up, and then for each call eight bytes, its number, with the descriptor of the
call's own socket. Back go lines: `ready`, `broken TEXT`, `started N PID`, `failed N TEXT`, `ended N
STATUS`. When the daemon goes, however it goes, the socket ends: everything forked is ended, too.

Forking from here is cheap (no reactor, no TLS, a frozen heap) and safe (no threads, no locks held).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections import deque

import msgspec

from ganeti.model.calls.system import Version
from ganeti.node.backend import execution
from ganeti.node.backend.registry import NodeWorld, functions, load_all

CONTROL_FD = 3
CALL = struct.Struct("!Q")
"""Number of a call."""

_PR_SET_NAME = 15
_MERCY_S = 30.0
"""How long functions may clean up after the daemon is gone."""


class ZygoteSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What the zygote has to know."""

    root: str = ""
    """Root directory of the node, empty for an ordinary host."""
    node_name: str = ""
    modules: tuple[str, ...] = ()
    """Further modules with node functions."""


class _Control:
    """The daemon's end of the control socket: bytes in order, descriptors in order."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = bytearray()
        self._descriptors: deque[int] = deque()

    def receive(self) -> bool:
        """Take what is there; False at the end."""
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self.connection, 65536, 16)
        except (BlockingIOError, InterruptedError):
            return True
        except ConnectionError:
            return False
        self._data += data
        self._descriptors.extend(descriptors)
        return bool(data)

    def take(self, count: int) -> bytes | None:
        """The next bytes, if all of them are there."""
        if len(self._data) < count:
            return None
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    def take_descriptor(self) -> int:
        """The next descriptor; it always comes before the bytes it belongs to."""
        return self._descriptors.popleft()

    def say(self, line: str) -> None:
        """Send a line; nobody there is no error, the next read finds out."""
        with contextlib.suppress(OSError):
            self.connection.sendall(line.replace("\n", " ").encode() + b"\n")

    def close(self) -> None:
        """Let go, with whatever descriptors were not taken."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.connection.close()


class Zygote:
    """Forks one process for each call and reports what became of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._control = _Control(connection)
        self._children: dict[int, int] = {}
        """Process id to number of the call."""
        self._wake_reader, self._wake_writer = socket.socketpair()

    def run(self) -> None:
        """Serve until the daemon is gone, then end what is left."""
        setup = self._read_setup()
        try:
            world = build_world(setup)
        except Exception as error:
            traceback.print_exc()
            self._control.say(f"broken {type(error).__name__}: {error}")
            return
        self._prepare_signals()
        gc.collect()
        gc.freeze()
        self._control.say("ready")
        # Calls that came right behind the set-up have been read with it: polling would not see them.
        self._fork_all(world)
        poll = select.poll()
        poll.register(self._control.connection, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        is_open = True
        while is_open:
            ready = {descriptor for descriptor, _event in poll.poll()}
            if self._wake_reader.fileno() in ready:
                self._wake_reader.recv(4096)
                self._reap()
            if self._control.connection.fileno() in ready:
                is_open = self._control.receive()
                self._fork_all(world)
        self._end_children()

    def _read_setup(self) -> ZygoteSetup:
        length = self._take_blocking(execution.FRAME.size)
        return msgspec.json.decode(self._take_blocking(execution.FRAME.unpack(length)[0]), type=ZygoteSetup)

    def _take_blocking(self, count: int) -> bytes:
        while (taken := self._control.take(count)) is None:
            if not self._control.receive():
                raise SystemExit(0)
        return taken

    def _prepare_signals(self) -> None:
        # What ends the daemon must not end the zygote first: it goes when the socket does.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)

    def _fork_all(self, world: NodeWorld) -> None:
        while (number := self._control.take(CALL.size)) is not None:
            self._fork(CALL.unpack(number)[0], self._control.take_descriptor(), world)

    def _fork(self, call: int, descriptor: int, world: NodeWorld) -> None:
        own_pid = os.getpid()
        # The child unblocks it once it has a handler, so that an early abort is not lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            child = os.fork()
        except OSError as error:
            os.close(descriptor)
            self._control.say(f"failed {call} {error.strerror}")
            return
        if child == 0:
            signal.set_wakeup_fd(-1)
            self._control.close()
            self._wake_reader.close()
            self._wake_writer.close()
            os.dup2(2, 1)
            execution.serve(socket.socket(fileno=descriptor), world, own_pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(descriptor)
        self._children[child] = call
        self._control.say(f"started {call} {child}")

    def _reap(self) -> None:
        while self._children:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if child == 0:
                return
            call = self._children.pop(child, None)
            if call is not None:
                self._control.say(f"ended {call} {os.waitstatus_to_exitcode(status)}")

    def _end_children(self) -> None:
        for number, patience_s in ((signal.SIGTERM, _MERCY_S), (signal.SIGKILL, 5.0)):
            for child in list(self._children):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, number)
                    continue
                # Not yet a group of its own: it was forked this very moment.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
            ends_at = time.monotonic() + patience_s
            while self._children and time.monotonic() < ends_at:
                self._reap()
                time.sleep(0.02)


def build_world(setup: ZygoteSetup) -> NodeWorld:
    """Import all functions and plugins, and make the world they work on."""
    from ganeti.model.paths import Paths
    from ganeti.node.backend.host import Host
    from ganeti.plugin_registry import discover

    load_all()
    for module in setup.modules:
        importlib.import_module(module)
    world = NodeWorld(host=Host(Paths(setup.root), setup.node_name), plugins=discover())
    _warm_up(world)
    return world


def _warm_up(world: NodeWorld) -> None:
    """Do here, once, what each function process would do first: work out how calls are decoded."""
    for registered in functions().values():
        msgspec.json.Decoder(registered.call)
        msgspec.json.Decoder(registered.call.result_type())
    version = execution.FunctionRequest(
        name=Version.function(), args=msgspec.Raw(msgspec.json.encode(Version()))
    )
    execution.answer_to(msgspec.json.encode(version), world)


def main() -> None:
    """Run as the zygote: descriptor 3 is the control socket."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ganeti-zygote", 0, 0, 0)
    connection = socket.socket(fileno=CONTROL_FD)
    connection.setblocking(True)
    Zygote(connection).run()
    sys.stderr.flush()
    os._exit(0)
