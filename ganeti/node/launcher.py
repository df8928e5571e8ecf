"""The node daemon's side of the zygote: starts it, hands it calls, hears what became of them.

The zygote is started again when it dies; calls whose processes died with it are told so, those whose
processes live on (they do not, as a rule: the kernel ends them) are waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorSocket,
    IReactorTime,
    IUNIXTransport,
)
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from ganeti.errors import GanetiError
from ganeti.node.backend.execution import FRAME, MAX_FRAME_BYTES
from ganeti.node.zygote import CALL, CONTROL_FD, ZygoteSetup

_RESPAWN_S = 1.0
_STOP_S = 35.0
_LINGER_S = 1.0
"""How long the rest of an answer may take after its process has ended."""


class ILauncherReactor(IReactorProcess, IReactorSocket, IReactorTime):
    """What is needed of the reactor."""


class Watcher(Protocol):
    """Hears what becomes of one function process; each at most once, `ended` last."""

    def started(self, pid: int) -> None:
        """The process exists."""

    def answered(self, answer: bytes) -> None:
        """Its whole answer has arrived."""

    def ended(self, how: str) -> None:
        """It is gone; `how` in words. Also when it could not be started."""


class Launcher(Service):
    """Starts function processes through the zygote.

    Args:
        reactor: processes, sockets, time.
        setup: of the zygote.
    """

    log = Logger()

    def __init__(self, reactor: ILauncherReactor, setup: ZygoteSetup) -> None:
        self._reactor = reactor
        self._setup = setup
        self._control: _Control | None = None
        self._process: IProcessTransport | None = None
        self._launched: dict[int, _Launched] = {}
        self._waiting: list[tuple[bytes, Watcher]] = []
        """Calls that came while there was no zygote."""
        self._last_number = 0
        self._ready: Deferred[None] | None = None
        self._gone: Deferred[None] | None = None
        self._respawn: IDelayedCall | None = None
        self._problem = ""
        self._was_ready = False

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the zygote; None while there is none."""
        return self._process.pid if self._process is not None else None

    def startService(self) -> Deferred[None]:
        """Start the zygote.

        Returns:
            Fires when calls can be taken; fails with GanetiError if the functions cannot be loaded.
        """
        Service.startService(self)
        ready: Deferred[None] = Deferred()
        self._ready = ready
        self._spawn()
        return ready

    def stopService(self) -> Deferred[None]:
        """End the zygote and wait for it; it ends whatever processes are left."""
        Service.stopService(self)
        if self._respawn is not None and self._respawn.active():
            self._respawn.cancel()
        self._refuse_waiting("the node daemon is stopping")
        gone: Deferred[None] = Deferred()
        if self._process is None:
            gone.callback(None)
            return gone
        self._gone = gone
        if self._control is not None and self._control.transport is not None:
            self._control.transport.loseConnection()
        killing = self._reactor.callLater(_STOP_S, self._kill_zygote)

        def done(result: None) -> None:
            if killing.active():
                killing.cancel()

        return gone.addCallback(done)

    def launch(self, request: bytes, watcher: Watcher) -> None:
        """Start a process for a request; `watcher` hears the rest."""
        if self._control is None or self._control.transport is None:
            self._waiting.append((request, watcher))
            if not self.running:
                self._refuse_waiting("the node daemon is stopping")
            return
        self._last_number += 1
        ours, theirs = socket.socketpair()
        launched = _Launched(self, self._control, self._last_number, request, watcher, theirs)
        self._launched[launched.number] = launched
        with ours:
            ours.setblocking(False)
            self._adopt(ours, launched.channel)
        transport = cast(IUNIXTransport, self._control.transport)
        transport.sendFileDescriptor(theirs.fileno())
        transport.write(CALL.pack(launched.number))

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a function process and what shares its group; KILL to its whole session."""
        if number == signal.SIGKILL:
            for member in session_members(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    # --- what the zygote says ----------------------------------------------------------------

    def said(self, line: str) -> None:
        """A line of the zygote."""
        word, _, rest = line.partition(" ")
        if word == "ready":
            self._is_ready()
        elif word == "broken":
            self._problem = rest
            self.log.error("function processes cannot be started: {problem}", problem=rest)
        else:
            number, _, text = rest.partition(" ")
            launched = self._launched.get(int(number))
            if launched is not None:
                launched.reported(word, text)

    def call_later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """A timer on the clock of this launcher."""
        return self._reactor.callLater(seconds, call)

    def forget(self, number: int) -> None:
        """A call is over."""
        self._launched.pop(number, None)

    def control_lost(self, control: _Control) -> None:
        """A zygote closed its end: what it knows, nobody will be told any more."""
        if self._control is control:
            # The end of the process may be noticed first, and then there is a new one already.
            self._control = None
        for launched in list(self._launched.values()):
            if launched.control is control:
                launched.zygote_gone()

    def zygote_ended(self, how: str) -> None:
        """The process of the zygote is gone."""
        self._process = None
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone.callback(None)
            return
        self.log.error("the process that starts functions ended ({how}); starting it again", how=how)
        if self._ready is not None:
            ready, self._ready = self._ready, None
            self._refuse_waiting(self._problem or how)
            ready.errback(
                GanetiError(
                    f"node functions cannot be loaded: {self._problem or how}; the log has the details"
                )
            )
            return
        if self.running:
            self._respawn = self._reactor.callLater(0 if self._was_ready else _RESPAWN_S, self._spawn)

    def _is_ready(self) -> None:
        self._problem = ""
        self._was_ready = True
        if self._ready is not None:
            ready, self._ready = self._ready, None
            ready.callback(None)

    def _spawn(self) -> None:
        if not self.running:
            return
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.devnull, "rb") as nothing:
            ours.setblocking(False)
            self._control = _Control(self)
            self._adopt(ours, self._control)
            self._process = self._reactor.spawnProcess(
                _ZygoteProcess(self),
                sys.executable,
                zygote_command(),
                env=os.environ.copy(),
                # Twisted's signature is in terms of int and str; "r" is a pipe to read from.
                childFDs={0: nothing.fileno(), 1: "r", 2: "r", CONTROL_FD: theirs.fileno()},
            )
        setup = msgspec.json.encode(self._setup)
        assert self._control.transport is not None
        self._control.transport.write(FRAME.pack(len(setup)) + setup)
        self._was_ready = False
        waiting, self._waiting = self._waiting, []
        for request, watcher in waiting:
            self.launch(request, watcher)

    def _refuse_waiting(self, problem: str) -> None:
        waiting, self._waiting = self._waiting, []
        for _request, watcher in waiting:
            self._reactor.callLater(0, watcher.ended, f"it could not be started: {problem}")

    def _adopt(self, connection: socket.socket, protocol: TwistedProtocol) -> None:
        # The reactor works on a copy of the descriptor.
        factory: Any = _Once(protocol)
        self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)

    def _kill_zygote(self) -> None:
        if self._process is not None:
            self._process.signalProcess("KILL")


def zygote_command() -> list[str]:
    """How the zygote is started: isolated from the environment, but with our module path."""
    code = "import sys; sys.path[:] = sys.argv[1:]; from ganeti.node.zygote import main; main()"
    return [sys.executable, "-I", "-c", code, *(os.path.abspath(entry) for entry in sys.path)]


def session_members(session: int) -> list[int]:
    """Processes of a session: a function process and every program it started and did not detach."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry)) == session:
                    found.append(int(entry))
    return found


class _Launched:
    """One function process, from its request to its end."""

    def __init__(
        self,
        launcher: Launcher,
        control: _Control,
        number: int,
        request: bytes,
        watcher: Watcher,
        theirs: socket.socket,
    ) -> None:
        self.control = control
        """Of the zygote that forks it."""
        self.number = number
        self.channel = _Channel(request, self)
        self._launcher = launcher
        self._watcher = watcher
        self._theirs: socket.socket | None = theirs
        self._how: str | None = None
        self._is_closed = False
        self._is_over = False
        self._linger: IDelayedCall | None = None

    def reported(self, word: str, text: str) -> None:
        """The zygote says something about it."""
        self._close_theirs()
        if word == "started":
            self._watcher.started(int(text))
        elif word == "failed":
            self._how = f"it could not be started: {text}"
            self.channel.close()
            self._finish()
        elif word == "ended":
            self._how = _how(int(text))
            if self._is_closed:
                self._finish()
            else:
                # Its last bytes may still be on their way; a forked grandchild may keep the socket.
                self._linger = self._launcher.call_later(_LINGER_S, self._finish)

    def zygote_gone(self) -> None:
        """Nobody will report the end of the process; its socket shows it."""
        self._close_theirs()
        self._how = self._how or "the process that starts functions ended, and it with it"
        if self._is_closed:
            self._finish()

    def answered(self, answer: bytes) -> None:
        """The whole answer is there."""
        if not self._is_over:
            self._watcher.answered(answer)

    def closed(self) -> None:
        """The process let go of its socket."""
        self._is_closed = True
        if self._how is not None:
            self._finish()

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._launcher.forget(self.number)
        self.channel.close()
        self._watcher.ended(self._how or "it ended")

    def _close_theirs(self) -> None:
        # Our copy must go, or the end of the process would not be the end of the socket.
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None


class _Channel(TwistedProtocol):
    """The socket of one function process: its request goes out, its answer comes in."""

    def __init__(self, request: bytes, launched: _Launched) -> None:
        self._request = request
        self._launched = launched
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted: int | None = None

    def connectionMade(self) -> None:
        """Send the request."""
        assert self.transport is not None
        self.transport.writeSequence([FRAME.pack(len(self._request)), self._request])
        self._request = b""

    def dataReceived(self, data: bytes) -> None:
        """Collect the answer."""
        self._pieces.append(data)
        self._size += len(data)
        if self._wanted is None and self._size >= FRAME.size:
            self._pieces = [b"".join(self._pieces)]
            self._wanted = FRAME.size + int(FRAME.unpack_from(self._pieces[0])[0])
        if self._wanted is None:
            return
        if self._wanted > MAX_FRAME_BYTES + FRAME.size:
            self.close()
        elif self._size >= self._wanted:
            answer = b"".join(self._pieces)[FRAME.size : self._wanted]
            self._pieces = []
            self._wanted = sys.maxsize
            self._launched.answered(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The process is gone or as good as gone."""
        self._launched.closed()

    def close(self) -> None:
        """Take nothing more."""
        if self.transport is not None and self.transport.connected:  # type: ignore[attr-defined]
            self.transport.loseConnection()


class _Control(LineOnlyReceiver):
    """The control socket of the zygote."""

    delimiter = b"\n"

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def lineReceived(self, line: bytes) -> None:
        """A report."""
        self._launcher.said(line.decode("utf-8", "replace"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The zygote is going."""
        self._launcher.control_lost(self)


class _ZygoteProcess(ProcessProtocol):
    """Output and end of the zygote; function processes write to the same pipe."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._rest = b""

    def outReceived(self, data: bytes) -> None:
        """Lines for the log."""
        self.errReceived(data)

    def errReceived(self, data: bytes) -> None:
        """Lines for the log."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._launcher.log.info("function process: {line}", line=line.decode("utf-8", "replace"))

    def processExited(self, reason: Failure) -> None:
        """The zygote is gone. Not `processEnded`: what a function left running may hold the pipes."""
        code = getattr(reason.value, "exitCode", None)
        number = getattr(reason.value, "signal", None)
        self._launcher.zygote_ended(_how(-number if number else code or 0))


class _Once(Factory):
    """Builds a protocol that exists already."""

    noisy = False

    def __init__(self, protocol: TwistedProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        """The protocol."""
        return self._protocol


def _how(status: int) -> str:
    if status >= 0:
        return f"it ended with exit code {status}"
    with contextlib.suppress(ValueError):
        return f"it was ended by signal {signal.Signals(-status).name}"
    return f"it was ended by signal {-status}"
