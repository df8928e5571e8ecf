"""One AMP connection, whatever carries it: bounded boxes, signs of life, errors of ours.

A `Link` knows nothing of TLS, sockets or what the commands mean; tests join two of them in memory.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport, ITransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ganeti.errors import GanetiError
from ganeti.wire.arguments import MAX_VALUE_BYTES
from ganeti.wire.deadlines import Deadlines
from ganeti.wire.errors import ERROR_CODE, Box, GanetiCommand, WireError
from ganeti.wire.keepalive import PING_EVERY_S, SILENCE_S, KeepAlive
from ganeti.wire.node_commands import Ping

MAX_BOX_BYTES = MAX_VALUE_BYTES + 2**20
"""Most bytes of a box that is kept while it arrives."""

_KEY_BYTES = 128
"""What a key costs in memory, however short its value."""

_MAX_KEY = 255

_OUTLINE = frozenset({amp.ASK, amp.ANSWER, amp.COMMAND, amp.ERROR, amp.ERROR_CODE, amp.ERROR_DESCRIPTION})


class LinkLost(Exception):
    """The connection broke before the answer came; the text says why."""


class LinkSilent(Exception):
    """No answer in time, and no word that the connection is broken."""


class Link(amp.AMP):
    """An AMP connection.

    Args:
        clock: time.
        locator: responders for the other end, a `GuardedLocator`.
        max_box_bytes: what a box may cost while it arrives. A longer one is not kept, and its sender
            is told; one four times as long ends the connection.
        has_keepalive: send pings, and end the connection when nothing is heard.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        locator: amp.CommandLocator,
        *,
        max_box_bytes: int = MAX_BOX_BYTES,
        has_keepalive: bool = True,
        ping_every_s: float = PING_EVERY_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        amp.AMP.__init__(self, locator=locator)
        self.clock = clock
        self.lost_because: Failure | None = None
        """Why the connection ended; None while it lives."""
        self._max_box_bytes = max_box_bytes
        self._unread = b""
        self._position = 0
        self._key: bytes | None = None
        """Whose value comes next."""
        self._box = Box()
        self._box_bytes = 0
        self._is_aborted = False
        self._when_lost: list[Deferred[None]] = []
        self._deadlines = Deadlines(clock)
        self._keepalive: KeepAlive | None = None
        if has_keepalive:
            self._keepalive = KeepAlive(
                clock, self._ping, self._give_up, ping_every_s=ping_every_s, silence_s=silence_s
            )

    async def ask(
        self, command: type[GanetiCommand], *, timeout_s: float | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Args:
            command: what.
            timeout_s: longest wait; None: as long as the connection lives.
            arguments: of the command.

        Raises:
            GanetiError: what the other end raised, or that it does not know the command.
            LinkLost: the connection ended first.
            LinkSilent: no answer in time.
        """
        if self.lost_because is not None:
            raise LinkLost(self.loss())
        # What `callRemote` does, without its detours: this is the way of every call to every node.
        box = command.makeArguments(arguments, self)
        answer: Deferred[amp.AmpBox] = self._sendBoxCommand(command.commandName, box)  # type: ignore[no-untyped-call]
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            answer.cancel()

        wait = None if timeout_s is None else self._deadlines.add(timeout_s, give_up)
        try:
            return command.parseResponse(await answer, self)
        except CancelledError:
            if is_late:
                raise LinkSilent(f"no answer within {timeout_s:g} s") from None
            raise
        except amp.UnhandledCommand:
            raise GanetiError(f"the other side does not know {command.__name__}") from None
        except amp.RemoteAmpError as error:
            if error.errorCode == ERROR_CODE:
                raise WireError(error.description).unpack() from None
            raise GanetiError(f"the other side failed: {error.description}") from None
        except GanetiError:
            raise
        except Exception:
            if self.lost_because is None:
                raise
            raise LinkLost(self.loss()) from None
        finally:
            if wait is not None:
                self._deadlines.over(wait)

    def secret(self) -> bytes | None:
        """What both ends of this connection know, and nobody else; None where nothing is encrypted."""
        return None

    def limit(self, max_box_bytes: int) -> None:
        """Take only shorter messages from now on."""
        self._max_box_bytes = max_box_bytes

    def loss(self) -> str:
        """Why the connection ended, for the operator; empty while it lives."""
        if self.lost_because is None:
            return ""
        return self.lost_because.getErrorMessage() or "connection lost"

    def when_lost(self) -> Deferred[None]:
        """Fires when the connection ends, however; for everyone who asks a new one."""
        waiter: Deferred[None] = Deferred(lambda gone: self._when_lost.remove(gone))
        if self.lost_because is not None:
            waiter.callback(None)
        else:
            self._when_lost.append(waiter)
        return waiter

    def close(self) -> None:
        """End the connection after what is being sent."""
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """End the connection at once."""
        self._is_aborted = True
        if self.transport is not None:
            cast("ITCPTransport", self.transport).abortConnection()

    def makeConnection(self, transport: ITransport) -> None:
        """Begin; without AMP's own log lines, of which a busy daemon would write thousands."""
        # Boxes are small and answers are waited for: never hold one back for the next.
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        amp.BinaryBoxProtocol.makeConnection(self, transport)
        if self._keepalive is not None:
            self._keepalive.start()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End: fail what is under way, tell who asked."""
        self.lost_because = reason
        if self._keepalive is not None:
            self._keepalive.stop()
        self._deadlines.stop()
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
        waiting, self._when_lost = self._when_lost, []
        for waiter in waiting:
            waiter.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Take what arrived.

        Reads boxes by itself: AMP's own way calls three methods for each key and value, and keeps
        whatever arrives, however much it is.
        """
        if self._keepalive is not None:
            self._keepalive.heard()
        rest = self._unread[self._position :]
        self._unread, self._position = (rest + data if rest else data), 0
        self._read()

    def _read(self) -> None:
        data, position, end = self._unread, self._position, len(self._unread)
        while position + 2 <= end and not self._is_aborted:
            size = (data[position] << 8) + data[position + 1]
            start = position + 2
            if self._key is not None:
                if start + size > end:
                    break
                position = start + size
                self._keep(self._key, data[start:position])
                self._key = None
            elif size:
                if size > _MAX_KEY:
                    self.log.warn("this is not AMP; closing the connection")
                    self.abort()
                    return
                if start + size > end:
                    break
                position = start + size
                self._key = data[start:position]
            else:
                self._position = start
                self._box_is_complete()
                data, position, end = self._unread, self._position, len(self._unread)
        self._unread, self._position = data[position:], 0

    def _keep(self, key: bytes, value: bytes) -> None:
        """Put a value into the box; only its outline once the box is too long."""
        self._box_bytes += len(value) + _KEY_BYTES
        if self._box_bytes <= self._max_box_bytes or key in _OUTLINE:
            self._box[key] = value
        elif self._box_bytes > 4 * self._max_box_bytes and not self._is_aborted:
            self.log.warn("a message without end; closing the connection")
            self.abort()

    def _box_is_complete(self) -> None:
        box: amp.AmpBox = self._box
        self._box = Box()
        size, self._box_bytes = self._box_bytes, 0
        if size > self._max_box_bytes:
            box = self._refused(box)
        self.boxReceiver.ampBoxReceived(box)

    def _refused(self, box: amp.AmpBox) -> amp.AmpBox:
        """What stands for a box that was too long: an answer to it, or an error in its place."""
        problem = GanetiError(
            f"message of more than {self._max_box_bytes} bytes refused; ask for less at a time"
        )
        description = str(WireError.pack(problem)).encode()
        if amp.ASK in box and self.transport is not None:
            self.sendBox(  # type: ignore[no-untyped-call]
                Box({amp.ERROR: box[amp.ASK], amp.ERROR_CODE: ERROR_CODE, amp.ERROR_DESCRIPTION: description})
            )
        if amp.ANSWER in box:
            return Box(
                {amp.ERROR: box[amp.ANSWER], amp.ERROR_CODE: ERROR_CODE, amp.ERROR_DESCRIPTION: description}
            )
        # Nothing is left to be done for it: a ping, which wants no answer, does nothing.
        return Box({amp.COMMAND: Ping.commandName})

    def _ping(self) -> None:
        if self.transport is not None:
            self.callRemote(Ping)  # type: ignore[no-untyped-call]

    def _give_up(self) -> None:
        self.log.warn("nothing heard for too long; closing the connection")
        self.abort()
