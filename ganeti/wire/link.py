"""One AMP connection, whatever carries it: bounded boxes, signs of life, errors of ours.

A `Link` knows nothing of TLS, sockets or what the commands mean; tests join two of them in memory.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime, ITCPTransport, ITransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ganeti.errors import GanetiError
from ganeti.wire.arguments import MAX_VALUE_BYTES
from ganeti.wire.errors import ERROR_CODE, WireError
from ganeti.wire.keepalive import PING_EVERY_S, SILENCE_S, KeepAlive
from ganeti.wire.node_commands import Ping

MAX_BOX_BYTES = MAX_VALUE_BYTES + 2**20
"""Most bytes of a box that is kept while it arrives."""

_KEY_BYTES = 128
"""What a key costs in memory, however short its value."""

_HARMLESS = frozenset({amp.ASK, amp.ANSWER, amp.COMMAND, amp.ERROR, amp.ERROR_CODE, amp.ERROR_DESCRIPTION})


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
        self._box_bytes = 0
        self._when_lost: list[Deferred[None]] = []
        self._keepalive: KeepAlive | None = None
        if has_keepalive:
            self._keepalive = KeepAlive(
                clock, self._ping, self._give_up, ping_every_s=ping_every_s, silence_s=silence_s
            )

    async def ask(
        self, command: type[amp.Command], *, timeout_s: float | None = None, **arguments: Any
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
        answer: Deferred[dict[str, Any]] = self.callRemote(command, **arguments)  # type: ignore[no-untyped-call]
        if timeout_s is not None:
            answer.addTimeout(timeout_s, self.clock)
        try:
            return await answer
        except WireError as error:
            raise error.unpack() from None
        except TimeoutError:
            raise LinkSilent(f"no answer within {timeout_s:g} s") from None
        except amp.UnhandledCommand:
            raise GanetiError(f"the other side does not know {command.__name__}") from None
        except amp.UnknownRemoteError as error:
            raise GanetiError(f"the other side failed: {error}") from None
        except CancelledError:
            raise
        except Exception:
            if self.lost_because is None:
                raise
            raise LinkLost(self.loss()) from None

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
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
        waiting, self._when_lost = self._when_lost, []
        for waiter in waiting:
            waiter.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Take what arrived."""
        if self._keepalive is not None:
            self._keepalive.heard()
        amp.AMP.dataReceived(self, data)

    def proto_init(self, string: bytes) -> str:
        """A box begins."""
        self._box_bytes = 0
        return str(amp.AMP.proto_init(self, string))

    def proto_key(self, string: bytes) -> str:
        """The next key, or the end of the box."""
        if not string and self._box_bytes > self._max_box_bytes and self._currentBox is not None:
            self._currentBox = self._refused(self._currentBox)
        return str(amp.AMP.proto_key(self, string))

    def proto_value(self, string: bytes) -> str:
        """The value of a key; kept only as long as the box is not too long."""
        self._box_bytes += len(string) + _KEY_BYTES
        if self._box_bytes > self._max_box_bytes and self._currentKey not in _HARMLESS:
            if self._box_bytes > 4 * self._max_box_bytes:
                self.log.warn("a message without end; closing the connection")
                self.abort()
            string = b""
            self._currentKey = b"_dropped"
        return str(amp.AMP.proto_value(self, string))

    def _refused(self, box: amp.AmpBox) -> amp.AmpBox:
        """What stands for a box that was too long: an answer to it, or an error in its place."""
        problem = GanetiError(
            f"message of more than {self._max_box_bytes} bytes refused; ask for less at a time"
        )
        description = str(WireError.pack(problem)).encode()
        if amp.ASK in box and self.transport is not None:
            self.sendBox(  # type: ignore[no-untyped-call]
                amp.AmpBox(
                    {amp.ERROR: box[amp.ASK], amp.ERROR_CODE: ERROR_CODE, amp.ERROR_DESCRIPTION: description}
                )
            )
        if amp.ANSWER in box:
            return amp.AmpBox(
                {amp.ERROR: box[amp.ANSWER], amp.ERROR_CODE: ERROR_CODE, amp.ERROR_DESCRIPTION: description}
            )
        # Nothing is left to be done for it: a ping, which wants no answer, does nothing.
        return amp.AmpBox({amp.COMMAND: Ping.commandName})

    def _ping(self) -> None:
        if self.transport is not None:
            self.callRemote(Ping)  # type: ignore[no-untyped-call]

    def _give_up(self) -> None:
        self.log.warn("nothing heard for too long; closing the connection")
        self.abort()
