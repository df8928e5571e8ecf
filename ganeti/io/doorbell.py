"""Sockets whose first visitor ends a wait: so clients interrupt what a job waits for."""

from __future__ import annotations

import os
import secrets
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from ganeti.interfaces import IDoorbell
from ganeti.io.unix_address import UnixAddress

SOCKET_MODE = 0o660


class _Visitor(Protocol):
    """Whoever connects; that alone is the message."""

    def __init__(self, ring: Any) -> None:
        self._ring = ring

    def connectionMade(self) -> None:
        """Hang up again."""
        assert self.transport is not None
        self.transport.loseConnection()
        self._ring()


class _Porch(Factory):
    noisy = False

    def __init__(self, ring: Any) -> None:
        self._ring = ring

    def buildProtocol(self, addr: object) -> Protocol:
        return _Visitor(self._ring)


@implementer(IDoorbell)
class SocketDoorbell:
    """A socket that is there inside `async with`.

    Args:
        reactor: sockets and time.
        directory: where it lies.
    """

    def __init__(self, reactor: Any, directory: str) -> None:
        self._reactor = reactor
        self.path = os.path.join(directory, f"delay-{secrets.token_hex(6)}")
        self._ring: Deferred[bool] = Deferred()

    async def __aenter__(self) -> SocketDoorbell:
        self._address = UnixAddress(self.path)
        self._port = self._reactor.listenUNIX(self._address.text, _Porch(self._visited), mode=SOCKET_MODE)
        return self

    async def __aexit__(self, *_: object) -> None:
        # That removes the socket, too.
        stopped = self._port.stopListening()
        try:
            await stopped
        finally:
            self._address.close()

    async def rung(self, *, within_s: float) -> bool:
        """Whether somebody came in time; see `IDoorbell`."""
        timer = self._reactor.callLater(within_s, self._settle, False)
        try:
            return await self._ring
        finally:
            if timer.active():
                timer.cancel()

    def _visited(self) -> None:
        self._settle(True)

    def _settle(self, is_rung: bool) -> None:
        if not self._ring.called:
            self._ring.callback(is_rung)
