"""The remote interface's connection to masterd, made when it is first needed and again when it broke."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from ganeti.wire.link import Link, LinkLost, LinkSilent
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.master_commands import MasterCommand

ANSWER_TIMEOUT_S = 60.0


class MasterAway(Exception):
    """Masterd does not run or went away; the text says what happened."""


class MasterSlow(Exception):
    """Masterd did not answer in time."""


class MasterLink(Service):
    """Asks masterd.

    Args:
        reactor: time.
        endpoint: of masterd's client socket.
    """

    def __init__(self, reactor: IReactorTime, endpoint: IStreamClientEndpoint) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._link: Link | None = None
        self._connecting = DeferredLock()

    async def ask(self, command: type[MasterCommand], *args: Any) -> Any:
        """The result of a command.

        Args:
            command: which.
            args: its positional arguments.

        Raises:
            MasterAway: no connection, or it broke before the answer came.
            MasterSlow: no answer in time.
            GanetiError: what masterd raised.
        """
        link = await self._connected()
        try:
            answer = await link.ask(command, timeout_s=ANSWER_TIMEOUT_S, args=list(args))
        except LinkLost as error:
            raise MasterAway(f"the connection to the master daemon broke: {error}") from error
        except LinkSilent as error:
            raise MasterSlow(f"the master daemon does not answer: {error}") from error
        return answer["result"]

    def stopService(self) -> None:
        """Hang up."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._link is not None:
            self._link.close()

    async def _connected(self) -> Link:
        # Requests that come while the connection is being made wait for the same one.
        async with self._connecting:
            if self._link is None or self._link.lost_because is not None:
                self._link = await self._connect()
            return self._link

    async def _connect(self) -> Link:
        try:
            connected = await self._endpoint.connect(_LinkFactory(self._reactor))
        except CancelledError:
            raise
        except (ConnectError, OSError) as error:
            raise MasterAway(
                f"the master daemon cannot be reached ({_why(error)}); is ganeti-masterd running?"
            ) from error
        assert isinstance(connected, Link)
        return connected


def _why(error: Exception) -> str:
    number = getattr(error, "osError", None)
    return os.strerror(number) if isinstance(number, int) else str(error)


class _LinkFactory(Factory):
    """Makes the one connection."""

    noisy = False

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> Link:
        """The connection; masterd sends nothing by itself to those who watch no job."""
        return Link(self._reactor, GuardedLocator(), has_keepalive=False)
